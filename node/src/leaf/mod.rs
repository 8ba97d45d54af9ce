//! A leaf: the replicas of one node, its log, its sessions with other leaves, its heartbeat to the master.
//!
//! - `partition` the task that owns one replica
//! - `history` log and state of a partition together: apply, flush, rewind; `state` which directory holds the state
//! - `copy` copies of state from and to other replicas
//! - `peers` frames and heartbeats between leaves
//! - `links` streams between regions
//! - `master` calls to the master; `control` the heartbeat and the orders that answer it
//! - `upkeep` checkpoints, trimming, garbage collection; `keep` how much history is kept
//! - `scrub` reading everything, to find damage; `heal` replicas whose files are damaged
//! - `rules` what the catalog says of databases, and what the disk allows
//! - `requests` what aggregators ask; `overlay` what their transactions have not committed; `aside` what was set aside

mod aside;
mod control;
mod copy;
mod events;
mod heal;
mod history;
mod hurry;
mod keep;
mod links;
mod master;
mod outcome;
mod overlay;
mod partition;
mod peers;
mod requests;
mod rules;
mod scrub;
mod stall;
mod state;
mod upkeep;
mod vital;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use catalog::node::Addresses;
use parking_lot::{Mutex, RwLock};
use replication::{Leases, Life, Recovered, Replica, ReplicaOptions};
use storage::log::{LogOptions, NodeLog, Report};
use storage::state::{StateConfig, StateEnv};
use thiserror::Error;
use tokio::sync::mpsc;
use transport::limits::Limits;
use transport::quic::QuicDialler;
use transport::session::Session;
use transport::tcp::TcpDialler;
use types::entry::{Entry, Summary};
use types::{Lsn, Member, PartitionId};

use self::aside::Asides;
use self::copy::{Copies, Room};
use self::events::Events;
use self::heal::Damages;
use self::hurry::Hurry;
use self::links::Links;
use self::master::MasterClient;
use self::overlay::AllOverlays;
use self::partition::{Event, PartitionHandle, PartitionTask, Shared};
use self::peers::{Partitions, Peers};
use self::requests::LeafCalls;
use self::rules::Rules;
use self::stall::Stall;
use self::state::{Found, StateDirs};
use self::upkeep::Done;
pub use self::upkeep::UpkeepOptions;
use crate::clock;
use crate::power::Power;

/// What a leaf is told when it starts.
pub struct LeafOptions {
    /// Its process.
    pub member: Member,
    /// Since when its machine has kept its power.
    pub power: Power,
    /// It never ran before, so it has granted nothing.
    pub first_start: bool,
    /// Where it is reached.
    pub addresses: Addresses,
    /// RPC addresses of aggregators.
    pub aggregators: Vec<String>,
    /// Its random bits.
    pub identity: u128,
    /// Everything that it keeps.
    pub data_dir: PathBuf,
    /// Timing.
    pub replica: ReplicaOptions,
    /// The node log.
    pub log: LogOptions,
    /// The state of partitions.
    pub state: StateConfig,
    /// Bytes of copies of state that it sends in a second; zero: as fast as it goes.
    pub copy_rate: u64,
    /// When it is flushed and collected.
    pub upkeep: UpkeepOptions,
    /// Reaches the other nodes.
    pub dialler: TcpDialler,
    /// Reaches leaves of other regions.
    pub link_dialler: QuicDialler,
    /// Bounds of sessions.
    pub limits: Limits,
}

/// A leaf cannot start.
#[derive(Debug, Error)]
pub enum LeafError {
    /// The node log.
    #[error("node log: {0}")]
    Log(#[from] storage::log::LogError),
    /// The state.
    #[error("state: {0}")]
    State(#[from] storage::state::StateError),
}

/// A running leaf. Cheap to clone.
#[derive(Clone)]
pub struct Leaf {
    options: Arc<LeafOptions>,
    shared: Shared,
    env: Arc<StateEnv>,
    partitions: Partitions,
    overlays: AllOverlays,
    rules: Arc<Rules>,
    done: Arc<Done>,
    /// Replicas whose files cannot be believed.
    damages: Arc<Damages>,
    /// The node log has lost entries, and nobody knows whose.
    log_lost: bool,
    /// The master is to tell everything again.
    views_forgotten: Arc<AtomicBool>,
}

impl Leaf {
    /// Recovers what is on disk and begins to report to the master. `fatal` receives the reason when the leaf must end.
    pub fn start(options: LeafOptions, fatal: mpsc::UnboundedSender<String>) -> Result<Leaf, LeafError> {
        let partitions: Partitions = Arc::new(RwLock::new(HashMap::new()));
        let (reporting, ending, power) = (partitions.clone(), fatal.clone(), options.power.clone());
        let (log, recovered) = NodeLog::open(&options.data_dir.join("log"), options.log.clone(), move |report| {
            if matches!(report, Report::Failed(_)) {
                power.forget();
            }
            tell(&reporting, &ending, report);
        })?;
        tracing::info!(verdict = ?recovered.verdict, partitions = recovered.partitions.len(), "the node log is open");
        let env = StateEnv::new(&options.state)?;
        let leases = Leases::new(options.member, options.replica.clone(), clock::now(), options.first_start);
        let leases = Arc::new(Mutex::new(leases));
        let hurry: Arc<Hurry> = Arc::default();
        let stall = Arc::new(Stall::new(options.replica.slow_timeout));
        let peers = Peers::new(
            options.dialler.clone(),
            options.limits.clone(),
            leases.clone(),
            partitions.clone(),
            hurry.clone(),
            stall.clone(),
        );
        let master = MasterClient::new(options.dialler.clone(), options.aggregators.clone());
        let (log, divergence_dir) = (Arc::new(log), options.data_dir.join("divergence"));
        let rules = Arc::new(Rules::new(options.addresses.rpc.clone(), options.upkeep.disk_reserve));
        let links = Links::new(options.link_dialler.clone(), partitions.clone(), rules.clone());
        let events = Events::new(master.clone(), options.member.node);
        let copies = Copies::new(
            &options.data_dir.join("copies"),
            env.clone(),
            log.clone(),
            peers.clone(),
            links.clone(),
            Room::new(rules.clone()),
            events.clone(),
            options.copy_rate,
        );
        let (heal, damaged) = mpsc::unbounded_channel();
        let shared =
            Shared { log, hurry, stall, leases, peers, master, events, links, copies, divergence_dir, heal, fatal };
        let options = Arc::new(options);
        let (overlays, done, damages) = (Arc::default(), Arc::default(), Arc::default());
        let (views_forgotten, log_lost) = (Arc::default(), recovered.unknown);
        let leaf = Leaf { options, shared, env, partitions, overlays, rules, done, damages, log_lost, views_forgotten };
        if log_lost {
            // Before the first report: nobody counts on what may have been lost.
            for id in state::all_in(&leaf.options.data_dir.join("partitions"))? {
                leaf.open(id)?;
            }
        }
        let fatal = &leaf.shared.fatal;
        vital::spawn(fatal, "the task that replaces damaged replicas".into(), heal::run(leaf.clone(), damaged));
        vital::spawn(fatal, "the task that obeys the master".into(), control::run(leaf.clone()));
        vital::spawn(fatal, "the task that frees space".into(), upkeep::run(leaf.clone()));
        vital::spawn(fatal, "the task that reads files over".into(), scrub::run(leaf.clone()));
        Ok(leaf)
    }

    /// Serves the calls of an aggregator or another leaf until the session ends.
    pub async fn serve_calls(&self, session: Session) {
        let asides = Asides { dir: self.shared.divergence_dir.clone(), partitions: self.partitions.clone() };
        let (partitions, overlays, rules) = (self.partitions.clone(), self.overlays.clone(), self.rules.clone());
        let (damages, log) = (self.damages.clone(), self.shared.log.clone());
        let calls = Arc::new(LeafCalls::new(partitions, overlays, rules, asides, damages, log));
        let (_control, incoming, ..) = session.split();
        transport::rpc::serve(incoming, calls.clone()).await;
        calls.roll_back().await;
    }

    /// Tells the cluster why the leaf ends.
    pub async fn last_words(&self, reason: &str) {
        heal::last_words(self, reason).await;
    }

    /// What the leaf holds and does.
    pub fn metrics(&self) -> Vec<crate::http::Metric> {
        let status = self.shared.log.status();
        let replicas = self.partitions.read().len();
        let (sent, taken) = self.shared.copies.bytes();
        let done = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        vec![
            ("perennial_replicas", "Replicas on this leaf", replicas as u64),
            (
                "perennial_replicas_damaged",
                "Replicas whose files are not what was written",
                self.damages.count() as u64,
            ),
            ("perennial_replicas_read", "Replicas that were read from end to end", done(&self.done.scrubs)),
            (
                "perennial_disk_full",
                "1 while the disk has so little room that no writes are taken",
                u64::from(self.rules.is_full()),
            ),
            (
                "perennial_log_fallback",
                "1 if the node log works without io_uring",
                u64::from(status.fallback.is_some()),
            ),
            (
                "perennial_retention_left_seconds",
                "For so long the oldest record of some log is still kept for followers and regions that may need it",
                done(&self.done.retention_left),
            ),
            ("perennial_log_bytes", "Bytes of the node log's files", status.bytes),
            ("perennial_log_freed_segments", "Segments of the node log that were freed", status.counts.freed),
            ("perennial_log_moved_records", "Records of the node log that were moved forward", status.counts.moved),
            (
                "perennial_log_sync_p99_us",
                "99 of the last hundred syncs of the node log took no longer, in microseconds",
                status.sync_p99.map_or(0, |p99| p99.as_micros() as u64),
            ),
            ("perennial_collected_entries", "Entries of states that nobody could see", done(&self.done.collected)),
            ("perennial_log_in_flight_bytes", "Bytes of entries that wait for the disk", status.in_flight_bytes as u64),
            ("perennial_copy_sent_bytes", "Bytes of state that were copied from this leaf", sent),
            ("perennial_copy_taken_bytes", "Bytes of state that were copied to this leaf", taken),
            ("perennial_state_memtable_bytes", "Bytes of state that are not in files yet", self.env.memtable_bytes()),
        ]
    }

    /// Ends the tasks of all replicas: nothing is appended after this.
    pub async fn stop(&self) {
        let handles: Vec<PartitionHandle> = self.partitions.write().drain().map(|(_, handle)| handle).collect();
        for handle in handles {
            let (done, stopped) = tokio::sync::oneshot::channel();
            if handle.events.send(Event::Stop(done)).await.is_ok() {
                // An error: its task has ended already.
                let _ = stopped.await;
            }
        }
        self.shared.log.sync();
    }

    /// Takes a session of another leaf.
    pub fn accept_peer(&self, session: Session) {
        self.shared.peers.accept(session, self.shared.copies.clone());
    }

    /// Serves a session of another region's leaf until it ends.
    pub async fn serve_link(&self, session: Session) {
        self.shared.links.serve(session, &self.shared.copies).await;
    }

    /// The replica of a partition, made from what is on disk if its task does not run yet.
    fn open(&self, id: PartitionId) -> Result<PartitionHandle, LeafError> {
        if let Some(handle) = self.partitions.read().get(&id) {
            return Ok(handle.clone());
        }
        let (summary, dirs) = (self.shared.log.summary(id), self.state_dirs(id));
        let Found { state, whole, damage } = dirs.open(&self.env, summary.as_ref(), self.log_lost)?;
        if let Some(reason) = damage {
            heal::note(self, id, reason);
        }
        // Later than at every opening before: a process opens a replica again only when the one before has ended.
        let life = Life(crate::clock::now().0);
        let found = recovered(summary, state.applied(), whole, life);
        let mut effects = Vec::new();
        let options = self.options.replica.clone();
        let replica = Replica::new(id, self.options.member, options, found, &mut effects);
        let handle = PartitionTask::spawn(id, replica, (state, dirs), self.shared.clone(), effects);
        self.partitions.write().insert(id, handle.clone());
        Ok(handle)
    }

    /// Has the master tell everything again: a replica was opened anew.
    fn forget_views(&self) {
        self.views_forgotten.store(true, Ordering::Release);
    }

    fn state_dirs(&self, id: PartitionId) -> StateDirs {
        StateDirs::new(&self.options.data_dir.join("partitions"), id)
    }

    /// Deletes a copy, as ordered. True when nothing of it is left.
    async fn remove(&self, id: PartitionId) -> bool {
        let handle = self.partitions.write().remove(&id);
        if let Some(handle) = handle {
            let (done, stopped) = tokio::sync::oneshot::channel();
            if handle.events.send(Event::Stop(done)).await.is_ok() {
                // An error: its task has ended already.
                let _ = stopped.await;
            }
        }
        self.damages.healed(id);
        self.overlays.lock().remove(&id);
        let dropped = match self.shared.log.summary(id) {
            Some(_) => self.shared.log.append(&[(id, Entry::Drop)], storage::log::Flush::Now).is_ok(),
            None => true,
        };
        let (dirs, copies) = (self.state_dirs(id), self.shared.copies.clone());
        let deleted = tokio::task::spawn_blocking(move || {
            copies.forget(id);
            dirs.remove()
        });
        dropped && deleted.await.unwrap_or(false)
    }
}

fn recovered(summary: Option<Summary>, applied: Lsn, whole: bool, life: Life) -> Recovered {
    let Some(summary) = summary else {
        return Recovered { applied, life, incomplete: !whole, ..Recovered::default() };
    };
    Recovered {
        life,
        end: summary.end,
        trimmed: summary.first.prev(),
        lineage: summary.lineage,
        applied,
        promised: summary.promise.unwrap_or_default(),
        mark: summary.mark.unwrap_or_default(),
        // A copy takes the place of what there was to rewind.
        intent: summary.intent.filter(|_| whole).map(|intent| (intent.to, intent.lineage)),
        incomplete: !whole,
    }
}

/// Passes the log's word on. Called by the log's writer thread, which must not wait.
fn tell(partitions: &Partitions, fatal: &mpsc::UnboundedSender<String>, report: Report) {
    use replication::Input;
    let post = |id: PartitionId, input: Input| {
        if let Some(handle) = partitions.read().get(&id) {
            // The task has ended: nobody wants to know.
            let _ = handle.reports.send(input);
        }
    };
    match report {
        Report::Written(reports) => reports.iter().for_each(|r| post(r.partition, Input::Written { end: r.end })),
        Report::Durable(reports) => {
            reports.iter().for_each(|r| post(r.partition, Input::Durable { end: r.end, notes: r.notes }));
        }
        Report::Failed(error) => drop(fatal.send(format!("node log: {error}"))),
    }
}
