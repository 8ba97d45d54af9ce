//! Each rule that is left out on purpose is noticed, by the check that is named here, within a bounded number of seeds;
//! and the seed that shows it passes with the rule.

use perennial_sim::options::Fault::{
    self, Block, Catalog, Close, Deaf, Isolate, Kill, Pause, Power, PowerAll, Rot, Sever, Stale, SyncFails,
};
use perennial_sim::options::{Keep, Options, Planted, Scale};
use perennial_sim::run::{ASSERTION, first_caught, judge};
use perennial_sim::world::World;
use replication::Planted as Rule;
use types::Mode;

const SYNC: Mode = Mode { sync_replication: true, sync_durability: true };
const ASYNC_DURABILITY: Mode = Mode { sync_replication: true, sync_durability: false };
const ASYNC_REPLICATION: Mode = Mode { sync_replication: false, sync_durability: true };

/// Where a bug is looked for.
struct Hunt {
    planted: Planted,
    scale: Scale,
    /// One of these checks notices it.
    checks: &'static [&'static str],
    /// Seeds to search.
    seeds: u64,
    mode: Option<Mode>,
    leaves: Option<usize>,
    regions: Option<usize>,
    faults: &'static [Fault],
    slow: Option<u32>,
    control_gap: Option<u64>,
    keep: Option<Keep>,
    definitions: Option<bool>,
    moves: bool,
}

fn hunt(planted: Planted, scale: Scale, checks: &'static [&'static str]) -> Hunt {
    Hunt {
        planted,
        scale,
        checks,
        seeds: 1500,
        mode: None,
        leaves: None,
        regions: None,
        faults: &[],
        slow: None,
        control_gap: None,
        keep: None,
        definitions: None,
        moves: false,
    }
}

fn region(rule: Rule, checks: &'static [&'static str]) -> Hunt {
    hunt(Planted::Replica(rule), Scale::Region, checks)
}

fn regions(rule: Rule, checks: &'static [&'static str]) -> Hunt {
    hunt(Planted::Replica(rule), Scale::Regions, checks)
}

impl Hunt {
    fn focus(&self, options: &mut Options) {
        if let Some(mode) = self.mode {
            options.mode = mode;
            options.sync_max = if mode.sync_durability { 40 } else { 150 };
        }
        if let Some(regions) = self.regions {
            options.leaves.resize(regions, 2);
        }
        if let Some(leaves) = self.leaves {
            options.leaves.iter_mut().for_each(|count| *count = leaves);
        }
        if !self.faults.is_empty() {
            options.faults = self.faults.iter().map(|fault| (*fault, 1)).collect();
        }
        options.slow = self.slow.unwrap_or(options.slow);
        options.control_gap = self.control_gap.unwrap_or(options.control_gap);
        options.keep = self.keep.unwrap_or(options.keep);
        options.definitions = self.definitions.unwrap_or(options.definitions);
        options.moves = self.moves;
        options.decision_max = 0;
        options.withdraws = false;
    }

    fn run(&self) {
        let focus = |options: &mut Options| self.focus(options);
        let report = first_caught(0..self.seeds, self.scale, self.planted, self.checks, focus).unwrap_or_else(|| {
            panic!("{:?} is not noticed by any of {:?} in {} seeds", self.planted, self.checks, self.seeds)
        });
        let violation = report.violation.expect("it was caught");
        println!("{:?}: seed {}: {}", self.planted, report.seed, violation.check);
        let with_rule = judge(report.seed, || World::focused(report.seed, self.scale, None, false, focus), World::run);
        assert_eq!(with_rule.violation, None, "seed {} with the rule", report.seed);
    }
}

/// Hunts by what they are about.
mod hunts {
    use super::*;

    pub(super) fn in_sync_sets() -> Vec<Hunt> {
        let restarted = hunt(Planted::RestartedMember, Scale::Region, &["acked_write_survives", "convergence"]);
        vec![
            region(Rule::CandidateNotWaited, &["commit_is_in_sync_min"]),
            region(Rule::EarlyRemoval, &["commit_is_in_sync_min"]),
            region(Rule::OutcomeByRead, &["commit_is_in_sync_min"]),
            hunt(Planted::NoCas, Scale::Region, &["compare_and_set"]),
            region(Rule::OldFrames, &["commit_is_in_sync_min", "convergence", ASSERTION]),
            Hunt { mode: Some(ASYNC_DURABILITY), ..restarted },
            hunt(Planted::NoIncarnation, Scale::Region, &["convergence", "acked_write_survives"]),
        ]
    }

    pub(super) fn durability() -> Vec<Hunt> {
        let candidate = region(Rule::CandidateNotDurable, &["acked_write_survives"]);
        let promise = region(Rule::PromiseVolatile, &["promises_kept"]);
        vec![
            Hunt { mode: Some(SYNC), ..region(Rule::AckBeforeSync, &["commit_is_in_sync_min"]) },
            region(Rule::FlushBeforeSync, &["cursor_order"]),
            Hunt { mode: Some(ASYNC_DURABILITY), ..region(Rule::ShipCommitted, &["acked_write_survives"]) },
            Hunt { mode: Some(ASYNC_DURABILITY), faults: &[Kill, Power, PowerAll], ..candidate },
            hunt(Planted::RewindUnsynced, Scale::Region, &["cursor_order"]),
            Hunt { mode: Some(SYNC), leaves: Some(3), faults: &[Stale], ..promise },
        ]
    }

    pub(super) fn recoveries() -> Vec<Hunt> {
        let own = |planted, checks, faults| Hunt {
            mode: Some(ASYNC_DURABILITY),
            faults,
            ..hunt(planted, Scale::Region, checks)
        };
        vec![
            own(Planted::PowerUnnoticed, &["acked_write_survives"], &[PowerAll]),
            own(Planted::KillIsPowerLoss, &["whole_after_loss"], &[Kill]),
        ]
    }

    pub(super) fn leases() -> Vec<Hunt> {
        let stale = &["reads_are_fresh", "no_fork"];
        vec![
            Hunt {
                leaves: Some(2),
                faults: &[Isolate, Pause],
                slow: Some(150),
                mode: Some(SYNC),
                ..region(Rule::LeaseFromReceipt, stale)
            },
            Hunt { faults: &[Deaf, Catalog, Isolate], ..region(Rule::OrderAlone, stale) },
            Hunt { leaves: Some(3), faults: &[Deaf, Kill, Isolate], ..region(Rule::CandidateNoLease, stale) },
            Hunt { faults: &[Deaf, Isolate], ..region(Rule::GrantsRenewed, stale) },
            Hunt { faults: &[Deaf, Catalog, Isolate], seeds: 6000, ..region(Rule::HeartbeatVoids, stale) },
            Hunt { mode: Some(ASYNC_REPLICATION), ..region(Rule::AloneNoLease, stale) },
            region(Rule::ServeBeforeStart, &["reads_are_fresh"]),
        ]
    }

    pub(super) fn failures() -> Vec<Hunt> {
        let closed = region(Rule::ClosedIsDeath, &["convergence", "reads_are_fresh", "no_fork"]);
        let refused = region(Rule::RefusedLate, &["convergence", "reads_are_fresh", "no_fork"]);
        vec![Hunt { faults: &[Close, Kill], ..closed }, Hunt { faults: &[Close, Kill], ..refused }]
    }

    pub(super) fn transactions() -> Vec<Hunt> {
        let defined = |rule| Hunt { definitions: Some(true), ..region(rule, &["definitions"]) };
        vec![
            region(Rule::PresumedAbort, &["reads_are_fresh"]),
            regions(Rule::FailoverAborts, &["cut_is_consistent", "reads_are_fresh", "promotion_rows"]),
            defined(Rule::SchemaUnchecked),
            defined(Rule::RequiredAtOnce),
            regions(Rule::MarkIgnoresPrepared, &["resolved_mark", "cut_is_consistent"]),
            regions(Rule::MarkIgnoresRegistered, &["resolved_mark", "cut_is_consistent"]),
        ]
    }

    pub(super) fn cuts_and_promotions() -> Vec<Hunt> {
        let late = regions(Rule::LateMarks, &["cut_is_consistent", "promotion_rows"]);
        let relay = regions(Rule::RelayBeforeJoined, &["cut_is_consistent", "promotion_rows"]);
        let order = |planted, checks| hunt(planted, Scale::Regions, checks);
        let sync = order(Planted::SyncOnArrival, &["sync_link"]);
        vec![
            regions(Rule::MarksSurvive, &["cut_is_consistent", "promotion_rows"]),
            Hunt { regions: Some(3), faults: &[Block, Isolate, Kill], control_gap: Some(30), ..late },
            Hunt { regions: Some(3), faults: &[Sever], control_gap: Some(30), keep: Some(Keep::All), ..relay },
            regions(Rule::ServeVolatile, &["cut_is_consistent", "promotion_rows"]),
            regions(Rule::StaleTurn, &["commit_is_in_sync_min", "cut_is_consistent"]),
            order(Planted::PromoteVolatile, &["promotion_rows", "reads_are_fresh", "cut_is_consistent"]),
            order(Planted::ServedByLsn, &["cut_is_consistent"]),
            order(Planted::AsideCommitsOnly, &["set_aside_complete"]),
            Hunt { faults: &[Kill], control_gap: Some(30), ..sync },
        ]
    }

    pub(super) fn names_and_states() -> Vec<Hunt> {
        vec![
            hunt(Planted::EpochReused, Scale::Region, &["record_identity", ASSERTION]),
            hunt(Planted::UndoLeaks, Scale::Regions, &["state_is_function_of_prefix"]),
        ]
    }

    pub(super) fn disks() -> Vec<Hunt> {
        let own = |planted, checks| hunt(planted, Scale::Region, checks);
        let untold = own(Planted::DamageUntold, &["whole_is_named", "convergence"]);
        vec![
            Hunt { faults: &[SyncFails], ..own(Planted::SyncRetried, &["cursor_order"]) },
            Hunt { faults: &[Rot, Kill, Isolate, Pause], ..untold },
        ]
    }

    pub(super) fn copies() -> Vec<Hunt> {
        let missing = |rule| Hunt { keep: Some(Keep::Little), ..regions(rule, &["convergence"]) };
        vec![missing(Rule::MemberAwaitsCopy), missing(Rule::CopyForPromoted)]
    }

    pub(super) fn moves() -> Vec<Hunt> {
        let busy = hunt(Planted::HandOverBusy, Scale::Region, &["hand_over_quiet"]);
        let unsealed = hunt(Planted::HandOverUnsealed, Scale::Region, &["acked_write_survives", "no_fork"]);
        vec![
            Hunt { moves: true, faults: &[Kill, Pause], leaves: Some(3), mode: Some(SYNC), ..busy },
            Hunt { moves: true, faults: &[Kill, Block], leaves: Some(3), mode: Some(ASYNC_REPLICATION), ..unsealed },
        ]
    }

    pub(super) fn hand_over() -> Vec<Hunt> {
        vec![
            regions(Rule::MarksAfterSeal, &["cut_is_consistent", "fence"]),
            hunt(Planted::EarlyFinal, Scale::Regions, &["fence", "cut_is_consistent"]),
            Hunt { faults: &[Sever], ..hunt(Planted::TakeBack, Scale::Regions, &["single_writer"]) },
        ]
    }
}

macro_rules! groups {
    ($($group:ident)*) => {
        const GROUPS: &[fn() -> Vec<Hunt>] = &[$(hunts::$group),*];

        $(#[test]
        fn $group() {
            hunts::$group().iter().for_each(Hunt::run);
        })*
    };
}

groups! { in_sync_sets durability recoveries leases failures transactions cuts_and_promotions names_and_states disks copies hand_over moves }

/// A bug that nothing looks for would be a rule that nothing protects.
#[test]
fn every_planted_bug_is_hunted_or_has_a_scenario() {
    let hunted = GROUPS.iter().flat_map(|group| group()).map(|hunt| hunt.planted);
    let staged = perennial_sim::scenarios::all().into_iter().filter_map(|scenario| Some(scenario.rule?.0));
    let looked_for: Vec<Planted> = hunted.chain(staged).collect();
    let missed: Vec<Planted> = Planted::all().into_iter().filter(|planted| !looked_for.contains(planted)).collect();
    assert_eq!(missed, []);
}

/// What the source lists is what is listed here.
#[test]
fn all_planted_bugs_are_all() {
    let listed: Vec<String> = Planted::all().iter().map(Planted::name).collect();
    for source in [include_str!("../../replication/src/options.rs"), include_str!("../src/options.rs")] {
        let variants = source.split_once("pub enum Planted {").expect("it is there").1;
        let variants = variants.split_once("\n}").expect("it ends").0;
        let names = variants.lines().map(str::trim).filter_map(|line| line.strip_suffix(','));
        for name in names.filter(|name| !name.contains('(')) {
            assert!(listed.contains(&name.to_owned()), "{name} is not listed in Planted::all()");
        }
    }
}
