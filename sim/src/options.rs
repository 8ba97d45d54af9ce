//! What a seed makes of the world: its size, its modes, which faults happen and how often. Printed first.

use std::fmt;
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use replication::{Planted as Rule, ReplicaOptions};
use types::Mode;

use crate::script::Strike;

/// Nanoseconds of a millisecond.
pub const MILLI: u64 = 1_000_000;

/// How much of the system a world holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// One region, leaves that fail in every way, all modes.
    Region,
    /// Two or three regions, databases that follow each other, fewer failures inside a region.
    Regions,
}

/// How much of its log a replica keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it.
    All,
    /// What followers and other regions may ask for.
    Needed,
    /// What is not in the state's files.
    Little,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed and started again.
    Kill,
    /// A machine loses power.
    Power,
    /// All machines of a region lose power at once.
    PowerAll,
    /// The next primary of a region that starts a reign loses power soon after.
    Fresh,
    /// A process stands still for a while.
    Pause,
    /// A link inside a region carries nothing.
    Block,
    /// A node is cut off from all others and the catalog.
    Isolate,
    /// The catalog is out of reach.
    Catalog,
    /// The catalog changes its leader.
    Leader,
    /// A connection closes while both ends live.
    Close,
    /// A primary loses the catalog, and its peers about when it is replaced.
    Deaf,
    /// A primary that was replaced and does not know it, and a peer that sees nobody else and forgets what it can.
    Stale,
    /// The link between two regions carries nothing.
    Sever,
    /// The next sync of a node's log ends in an error.
    SyncFails,
    /// A disk is nearly full, or full.
    Full,
    /// A stored record rots.
    Rot,
    /// The clock by which a region's timestamps run jumps.
    Jump,
    /// A person changes whether a database waits for its secondaries, and after what silence another primary is named.
    Alter,
}

/// All of them.
pub const FAULTS: [Fault; 18] = [
    Fault::Kill,
    Fault::Power,
    Fault::PowerAll,
    Fault::Fresh,
    Fault::Pause,
    Fault::Block,
    Fault::Isolate,
    Fault::Catalog,
    Fault::Leader,
    Fault::Close,
    Fault::Deaf,
    Fault::Stale,
    Fault::Sever,
    Fault::SyncFails,
    Fault::Full,
    Fault::Rot,
    Fault::Jump,
    Fault::Alter,
];
/// So many of them were there from the beginning.
const FIRST_FAULTS: usize = 13;
/// And so many before the last ones came.
const EARLY_FAULTS: usize = 17;

/// A rule of the simulated host, catalog or protocol that is left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// One in the replica.
    Replica(replication::Planted),
    /// A change of a set is applied whatever version it names.
    NoCas,
    /// The longest log is the one with the highest LSN.
    LongestByLsn,
    /// The catalog forgets which epochs were given up.
    GivenUpForgotten,
    /// What an order gives up is given up, although the process that it named was told nothing.
    OrdersStand,
    /// ASYNC DURABILITY: a restarted process is still a member.
    RestartedMember,
    /// Members are named by node only.
    NoIncarnation,
    /// Set-aside files leave out the writes of prepared transactions.
    AsideCommitsOnly,
    /// A promotion commits a T whose records are not durable on every partition.
    PromoteVolatile,
    /// A sink follows a promotion below its served cut if no record needs to be undone.
    ServedByLsn,
    /// SYNC acknowledges when the records are durable at the sink, not its cut.
    SyncOnArrival,
    /// The final positions and timestamp are read at the start of the drain, before the seal.
    EarlyFinal,
    /// A source lifts its seal because the other side is unreachable.
    TakeBack,
    /// A rewind reports its end before its cut is synced.
    RewindUnsynced,
    /// A new leader of the catalog takes whom it has not heard yet for silent since ever.
    ElectionIgnored,
    /// Epochs are named by the number above the log's last, without a nonce.
    EpochReused,
    /// Undoing a record leaves what it made in the state.
    UndoLeaks,
    /// A sync that has failed is repeated, and believed.
    SyncRetried,
    /// After a crash a batch of the log that lies behind a torn one is taken for part of the log.
    TornTailKept,
    /// A damaged replica is not reported.
    DamageUntold,
    /// A damaged primary is waited for as long as its process lives, also where another log has everything.
    DamagedAwaited,
    /// A process that was killed is taken for a machine that lost power.
    KillIsPowerLoss,
    /// A machine that lost power is taken for a process that was killed.
    PowerUnnoticed,
    /// After a loss each partition goes on from the end of its own log, marks or not.
    UncutRecovery,
    /// A partition changes hands although transactions are under way at its primary.
    HandOverBusy,
    /// ASYNC REPLICATION: it changes hands although its primary may hold more.
    HandOverUnsealed,
    /// A coordinator decides when its first participant has prepared, whatever the others say.
    DecidedEarly,
    /// A coordinator decides although its participants serve different histories.
    HistoriesMixed,
    /// A promotion keeps of a log what comes before the first commit above its cut.
    PrefixCut,
    /// A rewind stops when its source is out of sight, and nobody takes it up again.
    RewindNeedsSource,
    /// The pin of a link is the newest time that one of its streams has reported, not the one that all have.
    PinAhead,
    /// A sink's primary tells the catalog once whether its state is complete, whatever happens to its set afterwards.
    WordOnce,
    /// The catalog answers a primary although a command that names another one is under way.
    ReplacedAnswered,
    /// Shorter terms of the standing order count before the primary has heard of them.
    OrderUnheard,
}

/// Of the replicas: the ones that the simulator can meet.
const RULES: [Rule; 65] = [
    Rule::CandidateNotWaited,
    Rule::EarlyRemoval,
    Rule::LeaseFromReceipt,
    Rule::OrderAlone,
    Rule::ClosedIsDeath,
    Rule::ServeBeforeStart,
    Rule::AckBeforeSync,
    Rule::FlushBeforeSync,
    Rule::RestartForgets,
    Rule::OldFrames,
    Rule::ShipCommitted,
    Rule::PromiseVolatile,
    Rule::CandidateNoLease,
    Rule::AloneNoLease,
    Rule::CandidateNotDurable,
    Rule::ReignForgets,
    Rule::OutcomeByRead,
    Rule::NamedUnsynced,
    Rule::RefusedLate,
    Rule::GrantsRenewed,
    Rule::HeartbeatVoids,
    Rule::SlowStays,
    Rule::LeaseBeforeRead,
    Rule::PresumedAbort,
    Rule::MarkIgnoresPrepared,
    Rule::MarkIgnoresRegistered,
    Rule::FailoverAborts,
    Rule::LossUnasked,
    Rule::MarksSurvive,
    Rule::LateMarks,
    Rule::LateFrames,
    Rule::CutForgotten,
    Rule::DeadServed,
    Rule::ServeVolatile,
    Rule::MarkBeforeHeld,
    Rule::IdleMarks,
    Rule::MarksAfterSeal,
    Rule::HistoryUnleased,
    Rule::RelayBeforeJoined,
    Rule::StaleTurn,
    Rule::SinkEndUnasked,
    Rule::MemberAwaitsCopy,
    Rule::MemberByCopy,
    Rule::OldLives,
    Rule::ResumeOpens,
    Rule::CopyForPromoted,
    Rule::CopyUncompared,
    Rule::CopyByDamaged,
    Rule::CopyForWaited,
    Rule::SchemaUnchecked,
    Rule::ViewIgnoresRegistered,
    Rule::ReaderIgnoresPrepared,
    Rule::TouchUnchecked,
    Rule::StartLocal,
    Rule::CutPerPartition,
    Rule::RequiredAtOnce,
    Rule::TermsKept,
    Rule::InquiredAcross,
    Rule::AnyHistory,
    Rule::CommitUnleased,
    Rule::LastCutAlone,
    Rule::ForgetUnderSeal,
    Rule::ReadShippedLate,
    Rule::EarlyWordForgotten,
    Rule::WithdrawnCommits,
];

impl Planted {
    /// All of them.
    pub fn all() -> Vec<Planted> {
        let own = [
            Planted::NoCas,
            Planted::LongestByLsn,
            Planted::GivenUpForgotten,
            Planted::OrdersStand,
            Planted::RestartedMember,
            Planted::NoIncarnation,
            Planted::AsideCommitsOnly,
            Planted::PromoteVolatile,
            Planted::ServedByLsn,
            Planted::SyncOnArrival,
            Planted::EarlyFinal,
            Planted::TakeBack,
            Planted::RewindUnsynced,
            Planted::ElectionIgnored,
            Planted::EpochReused,
            Planted::UndoLeaks,
            Planted::SyncRetried,
            Planted::TornTailKept,
            Planted::DamageUntold,
            Planted::DamagedAwaited,
            Planted::KillIsPowerLoss,
            Planted::PowerUnnoticed,
            Planted::UncutRecovery,
            Planted::HandOverBusy,
            Planted::HandOverUnsealed,
            Planted::DecidedEarly,
            Planted::HistoriesMixed,
            Planted::PrefixCut,
            Planted::RewindNeedsSource,
            Planted::PinAhead,
            Planted::WordOnce,
            Planted::ReplacedAnswered,
            Planted::OrderUnheard,
        ];
        RULES.into_iter().map(Planted::Replica).chain(own).collect()
    }

    /// Its name, as it is typed.
    pub fn name(&self) -> String {
        match self {
            Planted::Replica(rule) => format!("{rule:?}"),
            own => format!("{own:?}"),
        }
    }
}

/// What a seed makes of the world.
#[derive(Clone, Debug)]
pub struct Options {
    /// All else follows from it.
    pub seed: u64,
    /// One region or several.
    pub scale: Scale,
    /// Leaves of each region.
    pub leaves: Vec<usize>,
    /// Partitions that hold rows; the meta partition comes on top.
    pub partitions: u32,
    /// Durability and replication inside a region.
    pub mode: Mode,
    /// Of a thousand frames, so many are lost, and so many doubled.
    pub lossy: u32,
    /// Of a thousand frames, so many take long.
    pub slow: u32,
    /// How often each fault is chosen, relative to the others; absent ones never.
    pub faults: Vec<(Fault, u32)>,
    /// Milliseconds between two faults, at most.
    pub fault_gap: u64,
    /// These faults and no others, instead of those that the seed would draw.
    pub script: Option<Vec<Strike>>,
    /// Milliseconds between two steps of DR control, at most.
    pub control_gap: u64,
    /// Milliseconds of faults; then everything heals.
    pub duration: u64,
    /// Milliseconds within which a healed world must be whole.
    pub bound: u64,
    /// Milliseconds that one sync of a log takes at most.
    pub sync_max: u64,
    /// Of a hundred transactions, so many touch several partitions.
    pub wide: u32,
    /// How much of its log a replica keeps.
    pub keep: Keep,
    /// A follower with an empty log is fed a log of up to this many records.
    pub copy_records_min: u64,
    /// Transactions are planned with definitions, and these change.
    pub definitions: bool,
    /// Partitions have two copies, and move; leaves come and go.
    pub moves: bool,
    /// Milliseconds that pass at most until what the catalog's leader proposes after a failure is decided; 0: it is at once.
    pub decision_max: u64,
    /// Coordinators that do not wait any more for a commit take it back.
    pub withdraws: bool,
    /// Regions tell each other who has claimed the database.
    pub guard: bool,
    /// Persons give orders at random: promotions, other sources, fences.
    pub orders: bool,
    /// A rule to leave out.
    pub planted: Option<Planted>,
    /// Checks that would end the history of a planted bug before what comes of it is seen.
    pub passed_over: &'static [&'static str],
}

impl Options {
    /// The options of a seed.
    pub fn draw(seed: u64, scale: Scale, planted: Option<Planted>, rng: &mut ChaCha8Rng) -> Options {
        let regions = match scale {
            Scale::Region => 1,
            Scale::Regions => *[2, 2, 3].choose(rng).expect("not empty"),
        };
        let mode = match scale {
            Scale::Region => Mode { sync_replication: rng.random_bool(0.75), sync_durability: rng.random_bool(0.5) },
            Scale::Regions => Mode { sync_replication: seed.is_multiple_of(2), sync_durability: seed % 4 < 2 },
        };
        let leaf_counts: &[usize] = if scale == Scale::Region { &[2, 3, 3, 4] } else { &[1, 2, 2, 3] };
        let partitions = if scale == Scale::Region { &[1, 1, 1, 2, 3][..] } else { &[2, 2, 3][..] };
        let mut faults: Vec<Fault> = FAULTS[..FIRST_FAULTS].iter().filter(|_| rng.random_bool(0.7)).copied().collect();
        let weight = |fault: &Fault| match (scale, fault) {
            (Scale::Region, Fault::Sever) => 0,
            (Scale::Region, Fault::Kill | Fault::Pause | Fault::Block | Fault::Close | Fault::Deaf) => 2,
            (Scale::Region, _) => 1,
            (Scale::Regions, Fault::Sever) => 4,
            (Scale::Regions, Fault::Kill | Fault::Power) => 2,
            (Scale::Regions, _) => 1,
        };
        // What was added later is drawn apart, so that it changes nothing that a seed made before.
        let mut more = ChaCha8Rng::seed_from_u64(seed ^ 0x7a3d_90e1);
        faults.extend(FAULTS[FIRST_FAULTS..EARLY_FAULTS].iter().filter(|_| more.random_bool(0.4)));
        let mut latest = ChaCha8Rng::seed_from_u64(seed ^ 0x33c9_51ab);
        let mut last = ChaCha8Rng::seed_from_u64(seed ^ 0x51e8_04d7);
        faults.extend(FAULTS[EARLY_FAULTS..].iter().filter(|_| last.random_bool(0.3)));
        Options {
            seed,
            scale,
            leaves: (0..regions).map(|_| *leaf_counts.choose(rng).expect("not empty")).collect(),
            partitions: *partitions.choose(rng).expect("not empty"),
            mode,
            lossy: *[0, 20, 100].choose(rng).expect("not empty"),
            slow: *[0, 60, 60].choose(rng).expect("not empty"),
            faults: faults.iter().map(|fault| (*fault, weight(fault))).filter(|(_, weight)| *weight > 0).collect(),
            fault_gap: *[100, 300, 300, 1000].choose(rng).expect("not empty"),
            script: None,
            control_gap: *[60, 150, 400].choose(rng).expect("not empty"),
            duration: 3000,
            bound: if scale == Scale::Region { 6000 } else { 20_000 },
            sync_max: if mode.sync_durability { 40 } else { 150 },
            wide: if scale == Scale::Region { 20 } else { 50 },
            keep: *[Keep::All, Keep::Needed, Keep::Little].choose(&mut more).expect("not empty"),
            copy_records_min: *[u64::MAX, u64::MAX, 40].choose(&mut more).expect("not empty"),
            definitions: more.random_bool(0.4),
            guard: more.random_bool(0.5),
            moves: scale == Scale::Region && latest.random_bool(0.4),
            decision_max: *[0, 0, 5, 60].choose(&mut latest).expect("not empty"),
            withdraws: latest.random_bool(0.5),
            orders: true,
            planted,
            passed_over: &[],
        }
    }

    /// Whether databases may be altered: what holds of the mode that they were made with may not hold later.
    pub fn alters(&self) -> bool {
        let drawn = self.faults.iter().any(|(fault, _)| *fault == Fault::Alter);
        drawn || self.script.iter().flatten().any(|strike| strike.fault == Fault::Alter)
    }

    /// The protocol's times, scaled down about five times.
    pub fn replica(&self) -> ReplicaOptions {
        let planted = match self.planted {
            Some(Planted::Replica(planted)) => Some(planted),
            _ => None,
        };
        ReplicaOptions {
            lease: Duration::from_millis(120),
            renew: Duration::from_millis(RENEW),
            counted_percent: 90,
            failure_timeout: Duration::from_millis(FAILURE),
            slow_timeout: Duration::from_secs(1),
            resend_after: Duration::from_millis(60),
            sink_resend_after: Duration::from_millis(60),
            frame_bytes_max: 700,
            window_bytes_max: 4000,
            tail_bytes_max: 1500,
            join_records_max: 50,
            copy_records_min: self.copy_records_min,
            mark_every: Duration::from_millis(60),
            planted,
        }
    }

    /// Whether this rule is left out.
    pub fn has(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    /// Whether this rule of the replica is left out.
    pub fn has_replica(&self, planted: replication::Planted) -> bool {
        self.has(Planted::Replica(planted))
    }
}

/// Milliseconds between two heartbeats.
pub const RENEW: u64 = 15;
/// Milliseconds of silence that are a failure.
pub const FAILURE: u64 = 200;
/// Milliseconds after its last answer to a primary after which the catalog may name another (ASYNC REPLICATION).
pub const ASYNC_AFTER: u64 = 400;

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sync = |sync: bool| if sync { "SYNC" } else { "ASYNC" };
        write!(
            f,
            "seed {} {:?} leaves {:?} partitions {} {} REPLICATION {} DURABILITY lossy {}/1000 slow {}/1000 faults {:?} \
             every {} ms control every {} ms wide {}% keep {:?} copies above {} definitions {} guard {} moves {} decided within {} ms withdraws {} planted {:?}",
            self.seed,
            self.scale,
            self.leaves,
            self.partitions,
            sync(self.mode.sync_replication),
            sync(self.mode.sync_durability),
            self.lossy,
            self.slow,
            self.faults,
            self.fault_gap,
            self.control_gap,
            self.wide,
            self.keep,
            self.copy_records_min,
            self.definitions,
            self.guard,
            self.moves,
            self.decision_max,
            self.withdraws,
            self.planted
        )
    }
}
