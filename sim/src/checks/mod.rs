//! What is checked. One property a file; each file's top says which rule it belongs to.
//!
//! | file | property | when |
//! |---|---|---|
//! | `cursor_order` | the cursors of a replica and its disk are in order | every step of a replica |
//! | `record_identity` | `(epoch, LSN)` names one record, and one prefix | every append |
//! | `one_acker_per_epoch` | one process acknowledges in an epoch | every acknowledgement |
//! | `promises_kept` | a replica acknowledges no reign below one that it has acknowledged | every acknowledgement in a region |
//! | `commit_is_in_sync_min` | what is committed is held by every member that may be named | every advance of a commit point |
//! | `acked_write_survives` | a started reign's log holds everything shown, announced losses aside | every start of a reign |
//! | `no_fork` | who was replaced shows nothing that the new reign's log lacks, and tells no sink its history | every acknowledgement, read, shipment, comparison |
//! | `reads_are_fresh` | reads are linearizable, key by key | every read |
//! | `views` | reads at a view are complete: nothing commits in their view later | at the end |
//! | `withdrawn` | what was taken back is never seen | every read |
//! | `definitions` | what commits was planned with the definitions that hold at its time | every commit, every read |
//! | `longest_log` | after a loss the log that keeps most goes on | every naming with a loss |
//! | `compare_and_set` | a set changes only from the version that the proposer knew (in `region`) | every proposal |
//! | `state_is_function_of_prefix` | state kept by apply and undo = state made anew from the records | starts, rewinds, at the end, now and then |
//! | `whole_after_loss` | nothing is given up that a machine with power has; a cut is above what sinks served; whole transactions | every naming with a loss, the end |
//! | `hand_over_quiet` | a planned hand-over breaks off nothing that was under way | every naming by a hand-over |
//! | `whole_is_named` | who is known to be damaged is not named | every naming |
//! | `resolved_mark` | nothing commits at or below a published mark after it | every record minted |
//! | `cut_is_consistent` | rows at a served cut are the history's, and stay; a cut is never lost | reads of a sink, promotions, rewinds, the end |
//! | `promotion_rows` | after a promotion the rows are the history's at its cut | every start of a promotion |
//! | `set_aside_complete` | what was acknowledged is visible, or set aside everywhere | at the end |
//! | `sync_link` | a promotion loses nothing that was acknowledged while SYNC | every promotion |
//! | `fence` | no data above a final position; a hand-over loses nothing | every record minted, every hand-over |
//! | `single_writer` | at most one side may write | every step of a catalog |
//! | `between` | what happens between regions, and which of these look at it | |
//! | `history` | the tree of terms that those compare with | |
//! | `convergence` | healed, a write is acknowledged and all logs and states become equal | at the end |

pub mod acked_write_survives;
pub mod between;
pub mod commit_is_in_sync_min;
pub mod convergence;
pub mod cursor_order;
pub mod cut_is_consistent;
pub mod definitions;
pub mod fence;
pub mod hand_over_quiet;
pub mod history;
pub mod longest_log;
pub mod no_fork;
pub mod one_acker_per_epoch;
pub mod promises_kept;
pub mod promotion_rows;
pub mod reads_are_fresh;
pub mod record_identity;
pub mod resolved_mark;
pub mod set_aside_complete;
pub mod single_writer;
pub mod state_is_function_of_prefix;
pub mod sync_link;
pub mod views;
pub mod whole_after_loss;
pub mod whole_is_named;
pub mod withdrawn;

use std::collections::BTreeMap;

use catalog::command::Loss;
use types::{Body, Lsn, Ordinal, PartitionId, Record, Reign};

use crate::copy::Copying;
use crate::options::Options;
use crate::say;
use crate::world::World;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// By the judgement of which check.
    pub check: &'static str,
    /// How.
    pub text: String,
}

/// What the checks remember.
#[derive(Debug, Default)]
pub struct Checks {
    /// Every record ever appended.
    pub names: record_identity::Names,
    /// Who acknowledges in which epoch.
    pub ackers: one_acker_per_epoch::Ackers,
    /// What replicas have promised.
    pub promises: promises_kept::Promises,
    /// Per region and partition: the log of the last reign, and what was shown.
    pub heads: BTreeMap<(usize, Ordinal), acked_write_survives::Head>,
    /// What a reign gave up, if it did.
    pub announced: BTreeMap<(usize, Ordinal, Reign), Loss>,
    /// Reads that are under way.
    pub reads: reads_are_fresh::Reads,
    /// Reads at views that were answered.
    pub views: views::Views,
    /// Definitions of tables.
    pub definitions: definitions::Versions,
    /// What commits, and where it belongs.
    pub history: history::History,
    /// What the checks between regions remember.
    pub between: between::Between,
    /// By node: since when a primary has had transactions under way without a break.
    pub busy: BTreeMap<(usize, PartitionId), u64>,
    /// Promotions so far.
    pub promotions: u64,
    /// Acknowledged transactions so far.
    pub acknowledged: u64,
    /// Finished reads so far.
    pub read: u64,
    /// Writes that were lost, with an announcement.
    pub lost: u64,
    /// What recoveries have given up.
    pub recoveries: whole_after_loss::Recoveries,
}

impl Checks {
    /// Nothing has happened.
    pub fn new(_: &Options) -> Checks {
        Checks::default()
    }

    /// Whether anything was given up between two reigns.
    pub fn losses(&self, region: usize, ordinal: Ordinal, after: Reign, to: Reign) -> Vec<Loss> {
        let range = (region, ordinal, Reign(after.0 + 1))..(region, ordinal, Reign(to.0.max(after.0) + 1));
        self.announced.range(range).map(|(_, loss)| *loss).filter(|loss| loss.gives_up()).collect()
    }
}

impl World {
    /// A replica has taken a step.
    pub(crate) fn check_replica(&mut self, index: usize, id: PartitionId) {
        self.note_busy(index, id);
        let node = &self.nodes[index];
        let (Some(hosted), Some(disk)) = (node.hosted(id), node.disks.get(&id)) else { return };
        if disk.rotten || hosted.copying.as_ref().is_some_and(Copying::is_taken) {
            return;
        }
        let result = cursor_order::check(hosted, disk);
        self.judge(cursor_order::NAME, result);
        if self.steps.is_multiple_of(97) {
            self.check_state(index, id);
        }
    }

    /// A record was appended to a log that ended with a record of epoch `prev`.
    pub(crate) fn check_record(
        &mut self,
        index: usize,
        id: PartitionId,
        prev: Option<types::Epoch>,
        record: &Record,
        minted: bool,
    ) {
        if minted {
            say!(self, "{} {id} mints {} {} {:?}", self.label(index), record.lsn, record.epoch, record.body);
        }
        let result = self.checks.names.check(id.ordinal, prev, record, minted);
        self.judge(record_identity::NAME, result);
        if minted {
            self.check_minted(index, id, record);
        }
        if minted && matches!(record.body, Body::EpochStart { .. }) {
            self.check_start(index, id);
        }
    }

    /// A replica sends a frame inside its region.
    pub(crate) fn check_frame(&mut self, index: usize, id: PartitionId, frame: &replication::Frame) {
        if let replication::Message::Ack(ack) = &frame.message {
            let region = self.nodes[index].region;
            let log = self.nodes[index].hosted(id).map(|hosted| &hosted.log.summary.lineage);
            let name = |lsn| Some((log?.epoch_at(lsn)?, lsn));
            let (held, synced) = (name(ack.position), name(ack.durable));
            let head = self.checks.heads.entry((region, id.ordinal)).or_default();
            held.into_iter().for_each(|name| head.acknowledge(name));
            synced.into_iter().for_each(|name| head.sync(name));
            let result = self.checks.promises.check(index, id, frame.stream.reign);
            self.judge(promises_kept::NAME, result);
        }
    }

    /// The state of a replica against its log.
    pub(crate) fn check_state(&mut self, index: usize, id: PartitionId) {
        let Some(hosted) = self.nodes[index].hosted(id) else { return };
        let result = state_is_function_of_prefix::check(hosted, &self.checks.names);
        self.judge(state_is_function_of_prefix::NAME, result);
    }

    /// A record entered the state.
    pub(crate) fn on_applied_record(&mut self, index: usize, id: PartitionId, record: &Record) {
        if matches!(record.body, Body::EpochStart { .. }) {
            self.check_promotion_rows(index, id, record);
        }
    }

    /// A commit point has advanced.
    pub(crate) fn on_commit_advanced(&mut self, index: usize, id: PartitionId, from: Lsn, to: Lsn) {
        let result = commit_is_in_sync_min::check(self, index, id, to);
        self.judge(commit_is_in_sync_min::NAME, result);
        let Some(hosted) = self.nodes[index].hosted(id).filter(|hosted| hosted.replica.mints().is_some()) else {
            return;
        };
        let records: Vec<Record> = (from.0 + 1..=to.0).filter_map(|lsn| hosted.log.record(Lsn(lsn)).cloned()).collect();
        records.iter().for_each(|record| self.record_commit(index, id, record));
    }
}
