//! Times and sizes of the protocol, and the rules between them.

use std::time::Duration;

use thiserror::Error;

/// Settings of a leaf's replicas. All nodes of a cluster must have the same lease times.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaOptions {
    /// How long a grant holds for the one who gave it, counted from its answer.
    pub lease: Duration,
    /// Between two heartbeats of a node pair; also the protocol's tick.
    pub renew: Duration,
    /// Share of a grant that its receiver counts, in percent: covers clocks that drift apart by the rest.
    pub counted_percent: u32,
    /// Silence of this length is a failure.
    pub failure_timeout: Duration,
    /// A member that answers, and does not get onto its disk what it was sent for this long, is taken out of the set.
    pub slow_timeout: Duration,
    /// A frame that brought no acknowledgement for this long is sent again.
    pub resend_after: Duration,
    /// The same between regions, where a stream keeps what it was given until it ends: a slow sink is not a lost frame.
    pub sink_resend_after: Duration,
    /// Most bytes of records in one frame (one record may be larger).
    pub frame_bytes_max: usize,
    /// Most bytes of records sent to one follower and not acknowledged.
    pub window_bytes_max: usize,
    /// Bytes of the log's end kept in memory for followers that are close.
    pub tail_bytes_max: usize,
    /// A follower with fewer records to go may become a candidate.
    pub join_records_max: u64,
    /// A follower with an empty log is fed a log of up to this many records; a longer one is copied as state.
    pub copy_records_min: u64,
    /// ASYNC DURABILITY: time between two marks of a primary that feeds no sink.
    pub mark_every: Duration,
    /// A planted bug, for tests of the tests alone.
    pub planted: Option<Planted>,
}

/// A rule left out on purpose: the simulator must notice. Each names the rule of `docs/protocol.md` that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Planted {
    /// Writes do not wait for the candidate while its addition is in flight.
    CandidateNotWaited,
    /// A removed member is no longer waited for from the proposal on.
    EarlyRemoval,
    /// The primary counts a lease from receiving the answer.
    LeaseFromReceipt,
    /// The catalog's order starts a reign, nobody waits for its own grant.
    OrderAlone,
    /// A closed connection is taken for a proof that the process is gone.
    ClosedIsDeath,
    /// A new primary answers reads before its EpochStart is committed.
    ServeBeforeStart,
    /// SYNC DURABILITY: a secondary acknowledges before its log is synced.
    AckBeforeSync,
    /// The memtable is flushed before the log is synced past it.
    FlushBeforeSync,
    /// A heartbeat ends the grants for older reigns, whatever its sender has obeyed.
    HeartbeatVoids,
    /// A member whose disk hangs stays in the set, and holds up all writes, for as long as it answers.
    SlowStays,
    /// A restarted node does not wait for the grants of the process before.
    RestartForgets,
    /// Frames of an older reign are accepted.
    OldFrames,
    /// What is committed is shipped before it is safe.
    ShipCommitted,
    /// The highest reign answered is forgotten in a restart.
    PromiseVolatile,
    /// Reads need the leases of members, not of the candidate whose addition is in flight.
    CandidateNoLease,
    /// ASYNC REPLICATION: a primary alone in its set needs no lease.
    AloneNoLease,
    /// ASYNC DURABILITY: a candidate at committed is proposed although it is not durable at safe.
    CandidateNotDurable,
    /// A candidate need not have on disk what has left the region in an earlier reign.
    ReignForgets,
    /// An addition that the catalog does not show yet is taken to have failed.
    OutcomeByRead,
    /// ASYNC REPLICATION and DURABILITY: a secondary named by the standing order starts before its log is synced.
    NamedUnsynced,
    /// A refusal proves that incarnation gone which is known when it arrives, not when the attempt began.
    RefusedLate,
    /// The heartbeat of a node pair goes on granting after a new reign is known.
    GrantsRenewed,
    /// The lease is looked at before the value is read, not after.
    LeaseBeforeRead,
    /// An inquiry about an undecided transaction answers abort without logging it first.
    PresumedAbort,
    /// A resolved timestamp is not held below prepared transactions.
    MarkIgnoresPrepared,
    /// A resolved timestamp is not held below registered transactions.
    MarkIgnoresRegistered,
    /// EpochStart of a failover aborts prepared transactions, as a promotion's does.
    FailoverAborts,
    /// A sink rewinds what it has served when its source has lost it, and asks nobody.
    LossUnasked,
    /// A sink keeps its marks when it learns of a promotion below them.
    MarksSurvive,
    /// A sink accepts a mark that was published before the promotion it follows now, and a source that has not heard of it.
    LateMarks,
    /// A secondary takes a lower mark if it is of another list of promotions, also under a reign that has ended.
    LateFrames,
    /// A replica that has joined a promoted region has no mark of the promotion that is in its log.
    CutForgotten,
    /// A sink serves its mark, although its log has carried out a promotion of another history below it.
    DeadServed,
    /// A sink serves a cut that it would forget in a crash.
    ServeVolatile,
    /// ASYNC DURABILITY: a mark leaves the region before every member has it on disk.
    MarkBeforeHeld,
    /// ASYNC DURABILITY: a partition that is not written makes no marks.
    IdleMarks,
    /// A sealed source goes on publishing marks above the final timestamp.
    MarksAfterSeal,
    /// A primary tells a sink what the history is without the leases of its members.
    HistoryUnleased,
    /// A sink passes on a partition that it has not yet reconciled with its own source.
    RelayBeforeJoined,
    /// Acknowledgements of the history before a rewind are counted after it.
    StaleTurn,
    /// A secondary of a sink takes what lies in its log above its primary's end for the primary's.
    SinkEndUnasked,
    /// Rows are taken whatever definitions they were made with.
    SchemaUnchecked,
    /// A member that needs a copy stays in its set.
    MemberAwaitsCopy,
    /// A member has a copy, and is whole as soon as it has that.
    MemberByCopy,
    /// What a replica said before it was opened anew counts after it, and who asks for a copy is not asked what it has.
    OldLives,
    /// A comparison may be the first that is obeyed of a stream, before an Append has told what was announced.
    ResumeOpens,
    /// A primary goes on waiting for a copy when its database has become writable.
    CopyForPromoted,
    /// A copy of a source is taken whatever history it is of.
    CopyUncompared,
    /// A process that finds its state incomplete, and is named primary of a sink, takes a copy of the source.
    CopyByDamaged,
    /// A copy is given to a replica that is waited for.
    CopyForWaited,
    /// A reader at a view does not wait for registered transactions.
    ViewIgnoresRegistered,
    /// A reader does not wait for prepared transactions.
    ReaderIgnoresPrepared,
    /// A step is taken whatever epoch and count of writes it names.
    TouchUnchecked,
    /// The start of a promoted partition is not above the timestamps that were received.
    StartLocal,
    /// A log that has carried out none of several promotions carries out the last one, and knows nothing of the others.
    LastCutAlone,
    /// Each partition carries a promotion out at its own mark.
    CutPerPartition,
    /// New definitions are required at once, whatever is still committing with older ones.
    RequiredAtOnce,
    /// A primary alone counts on the catalog's answers by the longest terms that it has ever heard of.
    TermsKept,
    /// An inquiry is answered by a history that may have given up the decision.
    InquiredAcross,
    /// Definitions of another history may be required.
    AnyHistory,
    /// ASYNC REPLICATION: a primary without the catalog's lease logs commits, and only answers later.
    CommitUnleased,
    /// Decisions are forgotten under a seal.
    ForgetUnderSeal,
    /// What was read from the log for a sink is shipped without another look at the lease.
    ReadShippedLate,
    /// What a primary said before its reign could be accepted is forgotten.
    EarlyWordForgotten,
    /// A commit that was taken back keeps its place among those that get timestamps.
    WithdrawnCommits,
}

/// Settings that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// Leases would lapse between two renewals.
    #[error("lease {lease:?} must be at least twice renew {renew:?}: raise the lease or renew more often")]
    LeaseTooShort {
        /// The lease.
        lease: Duration,
        /// The renewal.
        renew: Duration,
    },
    /// Drift must be covered, and something must be left.
    #[error("counted_percent is {0}, must be 50 to 99")]
    Counted(u32),
    /// A live node would be taken for failed while its lease holds.
    #[error("failure_timeout {failure:?} must be above lease {lease:?}")]
    FailureTooShort {
        /// The failure timeout.
        failure: Duration,
        /// The lease.
        lease: Duration,
    },
}

impl Default for ReplicaOptions {
    fn default() -> ReplicaOptions {
        ReplicaOptions {
            lease: Duration::from_millis(250),
            renew: Duration::from_millis(100),
            counted_percent: 90,
            failure_timeout: Duration::from_millis(1500),
            slow_timeout: Duration::from_secs(5),
            resend_after: Duration::from_millis(300),
            sink_resend_after: Duration::from_secs(10),
            frame_bytes_max: 1 << 20,
            window_bytes_max: 8 << 20,
            tail_bytes_max: 4 << 20,
            join_records_max: 1000,
            copy_records_min: 100_000,
            mark_every: Duration::from_millis(400),
            planted: None,
        }
    }
}

impl ReplicaOptions {
    /// Checks the rules between the settings.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if self.lease < self.renew * 2 {
            return Err(OptionsError::LeaseTooShort { lease: self.lease, renew: self.renew });
        }
        if !(50..100).contains(&self.counted_percent) {
            return Err(OptionsError::Counted(self.counted_percent));
        }
        if self.failure_timeout <= self.lease {
            return Err(OptionsError::FailureTooShort { failure: self.failure_timeout, lease: self.lease });
        }
        Ok(())
    }

    /// The part of a duration granted elsewhere that its receiver may count on.
    pub fn counted(&self, granted: Duration) -> Duration {
        granted * self.counted_percent / 100
    }

    pub(crate) fn has(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }
}
