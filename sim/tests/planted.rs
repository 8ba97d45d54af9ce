//! Each rule that is left out on purpose is noticed, by the check that is named here, within a bounded number of seeds;
//! and the seed that shows it passes with the rule.

use perennial_sim::options::Fault::{self, Catalog, Close, Deaf, Isolate, Kill, Pause, Power, PowerAll, Sever};
use perennial_sim::options::{Options, Planted, Scale};
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
    faults: &'static [Fault],
    slow: Option<u32>,
    control_gap: Option<u64>,
}

fn hunt(planted: Planted, scale: Scale, checks: &'static [&'static str]) -> Hunt {
    Hunt { planted, scale, checks, seeds: 1500, mode: None, leaves: None, faults: &[], slow: None, control_gap: None }
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
        if let Some(leaves) = self.leaves {
            options.leaves.iter_mut().for_each(|count| *count = leaves);
        }
        if !self.faults.is_empty() {
            options.faults = self.faults.iter().map(|fault| (*fault, 1)).collect();
        }
        options.slow = self.slow.unwrap_or(options.slow);
        options.control_gap = self.control_gap.unwrap_or(options.control_gap);
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

#[test]
fn in_sync_sets() {
    region(Rule::CandidateNotWaited, &["commit_is_in_sync_min"]).run();
    region(Rule::EarlyRemoval, &["commit_is_in_sync_min"]).run();
    region(Rule::OutcomeByRead, &["commit_is_in_sync_min"]).run();
    hunt(Planted::NoCas, Scale::Region, &["compare_and_set"]).run();
    region(Rule::OldFrames, &["commit_is_in_sync_min", "convergence", ASSERTION]).run();
    let restarted = hunt(Planted::RestartedMember, Scale::Region, &["acked_write_survives", "convergence"]);
    Hunt { mode: Some(ASYNC_DURABILITY), ..restarted }.run();
    hunt(Planted::NoIncarnation, Scale::Region, &["convergence", "acked_write_survives"]).run();
}

#[test]
fn durability() {
    Hunt { mode: Some(SYNC), ..region(Rule::AckBeforeSync, &["commit_is_in_sync_min"]) }.run();
    region(Rule::FlushBeforeSync, &["cursor_order"]).run();
    Hunt { mode: Some(ASYNC_DURABILITY), ..region(Rule::ShipCommitted, &["acked_write_survives"]) }.run();
    let candidate = region(Rule::CandidateNotDurable, &["acked_write_survives"]);
    Hunt { mode: Some(ASYNC_DURABILITY), faults: &[Kill, Power, PowerAll], ..candidate }.run();
    hunt(Planted::RewindUnsynced, Scale::Region, &["cursor_order"]).run();
}

#[test]
fn leases() {
    let stale = &["reads_are_fresh", "no_fork"];
    Hunt {
        leaves: Some(2),
        faults: &[Isolate, Pause],
        slow: Some(150),
        mode: Some(SYNC),
        ..region(Rule::LeaseFromReceipt, stale)
    }
    .run();
    Hunt { faults: &[Deaf, Catalog, Isolate], ..region(Rule::OrderAlone, stale) }.run();
    Hunt { seeds: 3000, ..region(Rule::CandidateNoLease, stale) }.run();
    Hunt { faults: &[Deaf, Isolate], ..region(Rule::GrantsRenewed, stale) }.run();
    region(Rule::LeaseBeforeRead, stale).run();
    Hunt { mode: Some(ASYNC_REPLICATION), ..region(Rule::AloneNoLease, stale) }.run();
    region(Rule::ServeBeforeStart, &["reads_are_fresh"]).run();
}

#[test]
fn failures() {
    let closed = region(Rule::ClosedIsDeath, &["convergence", "reads_are_fresh", "no_fork"]);
    Hunt { faults: &[Close, Kill], ..closed }.run();
    let refused = region(Rule::RefusedLate, &["convergence", "reads_are_fresh", "no_fork"]);
    Hunt { faults: &[Close, Kill], ..refused }.run();
}

#[test]
fn transactions() {
    region(Rule::PresumedAbort, &["reads_are_fresh"]).run();
    regions(Rule::FailoverAborts, &["cut_is_consistent", "reads_are_fresh", "promotion_rows"]).run();
    regions(Rule::MarkIgnoresPrepared, &["resolved_mark", "cut_is_consistent"]).run();
    regions(Rule::MarkIgnoresRegistered, &["resolved_mark", "cut_is_consistent"]).run();
}

#[test]
fn cuts_and_promotions() {
    regions(Rule::MarksSurvive, &["cut_is_consistent", "promotion_rows"]).run();
    regions(Rule::ServeVolatile, &["cut_is_consistent", "promotion_rows"]).run();
    regions(Rule::StaleTurn, &["commit_is_in_sync_min", "cut_is_consistent"]).run();
    let order = |planted, checks| hunt(planted, Scale::Regions, checks);
    order(Planted::PromoteVolatile, &["promotion_rows", "reads_are_fresh", "cut_is_consistent"]).run();
    order(Planted::ServedByLsn, &["cut_is_consistent"]).run();
    order(Planted::AsideCommitsOnly, &["set_aside_complete"]).run();
    let sync = order(Planted::SyncOnArrival, &["sync_link"]);
    Hunt { faults: &[Kill], control_gap: Some(30), ..sync }.run();
}

#[test]
fn names_and_states() {
    hunt(Planted::EpochReused, Scale::Region, &["record_identity", ASSERTION]).run();
    hunt(Planted::UndoLeaks, Scale::Regions, &["state_is_function_of_prefix"]).run();
}

#[test]
fn hand_over() {
    regions(Rule::MarksAfterSeal, &["cut_is_consistent", "fence"]).run();
    hunt(Planted::EarlyFinal, Scale::Regions, &["fence", "cut_is_consistent"]).run();
    Hunt { faults: &[Sever], ..hunt(Planted::TakeBack, Scale::Regions, &["single_writer"]) }.run();
}
