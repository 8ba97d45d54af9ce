//! One process: reads its directory, listens, and runs what its roles ask for, until it is told to stop.
//!
//! The order of start: certificates, data directory (one process at a time), listener, catalog, leaf, MySQL. A process
//! listens before it announces itself and holds its listener for its whole life, so that a refused connection proves
//! that it is gone. The order of stop: MySQL clients first, then sessions, then the log.

use std::sync::Arc;
use std::time::Duration;

use aggregator::bond::Bond;
use aggregator::calls::MasterCalls;
use aggregator::dr::{LinkService, Peering};
use aggregator::leaves::Leaves;
use aggregator::master::{
    Aggregators, Catalog, CatalogOptions, Detector, DetectorOptions, Inputs, MOVES_AT_ONCE, MasterService, Timestamps,
};
use aggregator::region::{Region, RegionOptions};
use anyhow::{Context, Result, bail};
use catalog::State;
use catalog::node::{Addresses, Roles};
use storage::log::LogOptions;
use storage::state::StateConfig;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use transport::identity::{Admit, Local, Role as SessionRole};
use transport::limits::Limits;
use transport::quic::{QuicDialler, QuicListener};
use transport::session::Session;
use transport::tcp::{TcpDialler, TcpListener};
use transport::tls::Credentials;
use types::{ClusterId, Member, NodeId};

use crate::config::{Config, Role};
use crate::data_dir::DataDir;
use crate::join::{self, Announcement};
use crate::leaf::{Leaf, LeafOptions, UpkeepOptions};

/// What a running process consists of.
pub struct Process {
    dir: DataDir,
    member: Member,
    addresses: Addresses,
    credentials: Credentials,
    dialler: TcpDialler,
    link_dialler: QuicDialler,
    limits: Limits,
}

/// Runs the process until `stop` completes or something fatal happens.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<()> {
    let cluster = ClusterId(config.cluster.id);
    let credentials = Credentials::load(&config.cluster.certificates, cluster)
        .context("certificates: make them with `perennial cert`")?;
    let mut dir = DataDir::open(&config.data_dir)?;
    let node = NodeId(config.cluster.node);
    if dir.registered.is_some_and(|known| known != (node, cluster)) {
        bail!(
            "data directory {} belongs to another node: check cluster.id and cluster.node",
            config.data_dir.display()
        );
    }
    let first_start = dir.registered.is_none();
    dir.register(node, cluster)?;
    let member = Member { node, incarnation: dir.incarnation };
    let local = Local::new(cluster, member.node, member.incarnation);
    let limits = Limits::default();
    let mut listener =
        TcpListener::bind(config.listen.rpc, local, &credentials, limits.clone(), Arc::new(|_| Ok(()))).await?;
    let dialler = TcpDialler::new(local, &credentials, limits.clone())?;
    let addresses = Addresses {
        rpc: config.listen.rpc.to_string(),
        sql: config.listen.sql.map(|address| address.to_string()),
        http: Some(config.listen.http.to_string()),
    };
    let link_dialler = QuicDialler::new(local, limits.clone());
    let process = Process { dir, member, addresses, credentials, dialler, link_dialler, limits };
    let (fatal, mut failed) = mpsc::unbounded_channel();
    let (region, group) = match config.is(Role::Aggregator) {
        true => start_aggregator(&config, &process).await.map(|(region, group)| (Some(region), Some(group)))?,
        false => (None, None),
    };
    let leaf = match config.is(Role::Leaf) {
        true => Some(start_leaf(&config, &process, first_start, fatal)?),
        false => None,
    };
    let _front = match &region {
        Some(region) => Some(crate::front::start(&config, &process.credentials, region.clone()).await?),
        None => None,
    };
    let _http = crate::http::start(&config, region.clone(), leaf.clone()).await?;
    let _links = listen_for_links(&config, &process, local, region.clone(), leaf.clone()).await?;
    let service = region.clone().zip(group);
    let service = service.map(|(region, group)| (Arc::new(MasterService::new(region)), group));
    tracing::info!(name = config.name, %member, rpc = %config.listen.rpc, "started");
    tokio::pin!(stop);
    loop {
        tokio::select! {
            session = listener.accept() => dispatch(session, service.as_ref(), leaf.as_ref()),
            () = &mut stop => break,
            Some(reason) = failed.recv(), if leaf.is_some() => {
                if let Some(leaf) = &leaf {
                    leaf.last_words(&reason).await;
                }
                bail!("the leaf gives up: {reason}");
            }
        }
    }
    tracing::info!(name = config.name, "stopping");
    if let Some(leaf) = &leaf {
        leaf.stop().await;
    }
    Ok(())
}

/// Accepts sessions of other regions: at the SQL port's number those of aggregators, at the RPC port's those of leaves.
async fn listen_for_links(
    config: &Config,
    process: &Process,
    local: Local,
    region: Option<Arc<Region>>,
    leaf: Option<Leaf>,
) -> Result<Vec<AbortOnDropHandle<()>>> {
    let admit: Admit = Arc::new(|peer| match peer.role {
        SessionRole::Link => Ok(()),
        role => Err(format!("this port is for links between regions, not for {role} sessions")),
    });
    let bind =
        |address| QuicListener::bind(address, local, &process.credentials.node, process.limits.clone(), admit.clone());
    let mut listening = Vec::new();
    if let (Some(region), Some(sql)) = (region, config.listen.sql) {
        let (mut listener, service) = (bind(sql).await?, LinkService::new(region));
        listening.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let (session, service) = (listener.accept().await, service.clone());
                tokio::spawn(async move { service.serve(session).await });
            }
        })));
    }
    if let Some(leaf) = leaf {
        let mut listener = bind(config.listen.rpc).await?;
        listening.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let (session, leaf) = (listener.accept().await, leaf.clone());
                tokio::spawn(async move { leaf.serve_link(session).await });
            }
        })));
    }
    Ok(listening)
}

/// Hands a session to the part that it is for.
fn dispatch(session: Session, service: Option<&(Arc<MasterService>, Aggregators)>, leaf: Option<&Leaf>) {
    match (session.peer().role, service, leaf) {
        (SessionRole::Raft, Some((_, group)), _) => {
            let group = group.clone();
            tokio::spawn(async move { group.serve(session).await });
        }
        (SessionRole::Catalog, Some((service, _)), _) => {
            let service = service.clone();
            tokio::spawn(async move {
                let (_control, incoming, ..) = session.split();
                transport::rpc::serve(incoming, service).await;
            });
        }
        (SessionRole::Calls, _, Some(leaf)) => {
            let leaf = leaf.clone();
            tokio::spawn(async move { leaf.serve_calls(session).await });
        }
        (SessionRole::Replication, _, Some(leaf)) => leaf.accept_peer(session),
        (role, ..) => session.close(&format!("this node has no role for {role} sessions")),
    }
}

async fn start_aggregator(config: &Config, process: &Process) -> Result<(Arc<Region>, Aggregators)> {
    let dir = process.dir.join("catalog");
    std::fs::create_dir_all(&dir).with_context(|| format!("directory {}", dir.display()))?;
    let listed: Vec<String> = config.cluster.aggregators.iter().map(ToString::to_string).collect();
    let (own, node) = (process.addresses.rpc.clone(), process.member.node);
    let member = Catalog::exists(&dir)?;
    let found = !member && join::founds(&process.dialler, &own, &listed).await;
    let others = listed.iter().filter(|address| **address != own).cloned().collect();
    let (calls, inputs) = (MasterCalls::new(process.dialler.clone(), others), Inputs::new());
    let (dialler, limits) = (process.dialler.clone(), process.limits.clone());
    let group = Aggregators::new(node, dialler, limits, inputs.sender(), calls, member || found);
    let empty = State::new(ClusterId(config.cluster.id));
    let wait = config.mysql.partition_wait.0;
    let options = CatalogOptions { dir: &dir, node, empty, found, wait };
    let catalog = Catalog::open(options, inputs, Box::new(group.clone()), Some(Arc::new(group.clone())))?;
    tokio::spawn(group.clone().follow(catalog.changes()));
    let timestamps = Arc::new(Timestamps::new(catalog.clone()));
    let failure_timeout = config.replication.failure_timeout.0;
    let moves_at_once = config.cluster.moves_at_once.unwrap_or(MOVES_AT_ONCE).max(1);
    let options = DetectorOptions { failure_timeout, moves_at_once };
    let detector = Detector::new(catalog.clone(), options);
    tokio::spawn(detector.clone().run());
    let leaves = Leaves::new(catalog.clone(), process.dialler.clone(), wait);
    let options = RegionOptions {
        name: config.cluster.region.clone(),
        lock_wait: config.mysql.lock_wait_timeout.0,
        partition_wait: wait,
        partitions: config.cluster.partitions,
        redundancy: config.cluster.redundancy,
        founders: listed,
        clock: || Duration::from_nanos(crate::clock::now().0),
    };
    let peering = Peering {
        dialler: process.link_dialler.clone(),
        address: process.addresses.sql.clone().context("listen.sql is missing")?,
        fingerprint: process.credentials.node.fingerprint()?.0,
    };
    let region = Region::new(catalog, timestamps, detector, leaves, peering, process.member, options);
    tokio::spawn(region.fences.clone().run());
    tokio::spawn(Bond::run(region.clone()));
    announce(config, process, &region, &group).await?;
    tokio::spawn(aggregator::dr::run(region.clone()));
    tokio::spawn(aggregator::sweeper::run(region.clone()));
    tokio::spawn(aggregator::dr::ask_all(region.clone()));
    Ok((region, group))
}

/// One that leads at once, alone, says so before it serves; another one serves what it can while no master answers.
async fn announce(config: &Config, process: &Process, region: &Arc<Region>, group: &Aggregators) -> Result<()> {
    let announcement = Announcement {
        member: process.member,
        identity: process.dir.identity,
        addresses: process.addresses.clone(),
        roles: Roles { aggregator: true, leaf: config.is(Role::Leaf) },
        root_password_file: config.cluster.root_password_file.clone(),
        group: group.clone(),
    };
    if region.catalog.status().leads.is_some() {
        return announcement.make(region).await;
    }
    tokio::spawn(announcement.insist(region.clone()));
    Ok(())
}

fn start_leaf(
    config: &Config,
    process: &Process,
    first_start: bool,
    fatal: mpsc::UnboundedSender<String>,
) -> Result<Leaf> {
    let mut aggregators: Vec<String> = config.cluster.aggregators.iter().map(ToString::to_string).collect();
    if aggregators.is_empty() {
        aggregators.push(config.listen.rpc.to_string());
    }
    let log = LogOptions {
        segment_bytes: config.log.segment_size.0,
        flush_interval: config.log.flush_interval.0,
        uring: config.log.io_uring,
        ..LogOptions::default()
    };
    let state = StateConfig {
        cache_bytes: config.state.cache.0 as usize,
        memtable_bytes: config.state.write_buffer.0,
        ..StateConfig::default()
    };
    Ok(Leaf::start(
        LeafOptions {
            member: process.member,
            power: process.dir.power.clone(),
            first_start,
            addresses: process.addresses.clone(),
            aggregators,
            identity: process.dir.identity,
            data_dir: process.dir.join("leaf"),
            replica: config.replica_options(),
            log,
            state,
            copy_rate: config.state.copy_rate.0,
            upkeep: UpkeepOptions {
                checkpoint_interval: config.state.checkpoint_interval.0,
                checkpoint_bytes: config.state.checkpoint_size.0,
                views: config.state.view_retention.0,
                scrub_interval: config.state.scrub_interval.0,
                disk_reserve: config.state.disk_reserve.0,
            },
            dialler: process.dialler.clone(),
            link_dialler: process.link_dialler.clone(),
            limits: process.limits.clone(),
        },
        fatal,
    )?)
}
