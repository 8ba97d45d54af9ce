//! Many seeds, on all cores.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use crate::checks::Violation;
use crate::options::{Options, Planted, Scale};
use crate::world::World;

/// What became of one seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which seed.
    pub seed: u64,
    /// Events processed.
    pub steps: u64,
    /// Transactions acknowledged.
    pub acknowledged: u64,
    /// Reads finished.
    pub read: u64,
    /// Writes lost with an announcement.
    pub lost: u64,
    /// The rule that was broken.
    pub violation: Option<Violation>,
    /// The history's lines, if they were wanted.
    pub trace: Vec<String>,
}

/// The name of a violation that the code's own assertions found.
pub const ASSERTION: &str = "assertion";

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Panics of a simulated history are told as violations, not on the terminal.
fn quieten() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
}

/// Runs one seed.
pub fn run_seed(seed: u64, scale: Scale, planted: Option<Planted>, trace: bool) -> Report {
    judge(seed, || World::of_seed(seed, scale, planted, trace), World::run)
}

/// Runs a world; what its code asserts in vain is a violation.
pub fn judge(seed: u64, make: impl FnOnce() -> World, run: impl FnOnce(&mut World)) -> Report {
    quieten();
    QUIET.set(true);
    let made = catch_unwind(AssertUnwindSafe(make));
    let mut world = match made {
        Ok(world) => world,
        Err(panic) => {
            QUIET.set(false);
            std::panic::resume_unwind(panic);
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut world)));
    QUIET.set(false);
    if let Err(panic) = result {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without words".into());
        world.fail(ASSERTION, text);
    }
    Report {
        seed,
        steps: world.steps,
        acknowledged: world.checks.acknowledged,
        read: world.checks.read,
        lost: world.checks.lost,
        violation: world.violation.clone(),
        trace: world.trace.take().unwrap_or_default(),
    }
}

/// The lowest of these seeds in which one of `checks` notices that a rule is left out, on all cores. A missing rule may
/// break other things first in other seeds: those count for nothing. Which core is quicker makes no difference.
pub fn first_caught(
    seeds: std::ops::Range<u64>,
    scale: Scale,
    planted: Planted,
    checks: &[&str],
    focus: impl Fn(&mut Options) + Sync,
) -> Option<Report> {
    let next = AtomicU64::new(seeds.start);
    let caught: Mutex<Option<Report>> = Mutex::new(None);
    let below = |seed: u64| caught.lock().expect("no run panics").as_ref().is_none_or(|report| seed < report.seed);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || !below(seed) {
                        return;
                    }
                    let report = judge(seed, || World::focused(seed, scale, Some(planted), false, &focus), World::run);
                    let wanted = report.violation.as_ref().is_some_and(|violation| checks.contains(&violation.check));
                    if wanted && below(seed) {
                        *caught.lock().expect("no run panics") = Some(report);
                    }
                }
            });
        }
    });
    caught.into_inner().expect("no run panics")
}

/// Which of the two scales a seed has, if nobody chooses.
pub fn scale_of(seed: u64) -> Scale {
    if seed.is_multiple_of(2) { Scale::Region } else { Scale::Regions }
}

/// Runs seeds on all cores until so many have failed; the reports of those that failed, and totals.
pub fn run_seeds(
    seeds: std::ops::Range<u64>,
    scale: impl Fn(u64) -> Scale + Sync,
    planted: Option<Planted>,
    failures_max: usize,
) -> Totals {
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new(Totals::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let full = totals.lock().expect("no run panics").failed.len() >= failures_max;
                    if seed >= seeds.end || full {
                        return;
                    }
                    let report = run_seed(seed, scale(seed), planted, false);
                    totals.lock().expect("no run panics").add(report);
                }
            });
        }
    });
    let mut totals = totals.into_inner().expect("no run panics");
    totals.failed.sort_by_key(|report| report.seed);
    totals
}

/// What became of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Seeds run.
    pub seeds: u64,
    /// Events processed.
    pub steps: u64,
    /// Transactions acknowledged.
    pub acknowledged: u64,
    /// Reads finished.
    pub read: u64,
    /// Writes lost with an announcement.
    pub lost: u64,
    /// Those that broke a rule.
    pub failed: Vec<Report>,
}

impl Totals {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.steps += report.steps;
        self.acknowledged += report.acknowledged;
        self.read += report.read;
        self.lost += report.lost;
        if report.violation.is_some() {
            self.failed.push(report);
        }
    }
}
