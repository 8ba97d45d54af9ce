//! A failing history with as few of its faults as still make it fail.
//!
//! Faults are drawn before the world starts, so some of them can be left out. What remains of the history is another one,
//! since all chance is shared; it counts if the same check notices. Larger parts are tried first, then smaller ones, until
//! no single fault can be left out (delta debugging).

use crate::options::{Options, Planted, Scale};
use crate::run::{Report, judge};
use crate::script::Strike;
use crate::world::World;

/// Histories that are tried at most: one takes some hundredths of a second.
const TRIES_MAX: u32 = 400;

/// What a seed is played with.
#[derive(Clone, Copy)]
pub struct Play<'a> {
    /// The seed.
    pub seed: u64,
    /// One region or several.
    pub scale: Scale,
    /// A rule that is left out.
    pub planted: Option<Planted>,
    /// Options as one wants them.
    pub focus: &'a dyn Fn(&mut Options),
}

/// What is left of a history.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The faults.
    pub script: Vec<Strike>,
    /// How many there were.
    pub before: usize,
    /// Its end.
    pub report: Report,
    /// Histories that were tried.
    pub tries: u32,
}

impl Play<'_> {
    fn world(&self, script: Option<&[Strike]>, trace: bool) -> World {
        World::focused(self.seed, self.scale, self.planted, trace, |options| {
            (self.focus)(options);
            if let Some(script) = script {
                options.script = Some(script.to_vec());
            }
        })
    }

    /// Plays it with these faults, or with its own.
    pub fn run(&self, script: Option<&[Strike]>, trace: bool) -> Report {
        judge(self.seed, || self.world(script, trace), World::run)
    }

    /// The faults that make it fail. `None`: it does not fail.
    pub fn shrink(&self) -> Option<Shrunk> {
        let whole = self.world(None, false).nemesis.script.clone();
        let mut report = self.run(None, false);
        let check = report.violation.as_ref()?.check;
        let before = whole.len();
        let (mut script, mut parts, mut tries) = (whole, 1, 0);
        while !script.is_empty() && tries < TRIES_MAX {
            let size = script.len().div_ceil(parts);
            let shorter = (0..script.len()).step_by(size).find_map(|from| {
                let to = (from + size).min(script.len());
                let rest = [&script[..from], &script[to..]].concat();
                tries += 1;
                let tried = self.run(Some(&rest), false);
                let same = tried.violation.as_ref().is_some_and(|violation| violation.check == check);
                same.then_some((rest, tried))
            });
            match shorter {
                Some((rest, tried)) => {
                    (script, report) = (rest, tried);
                    parts = parts.saturating_sub(1).max(1);
                }
                None if size == 1 => break,
                None => parts = (parts * 2).min(script.len()),
            }
        }
        Some(Shrunk { script, before, report, tries })
    }
}
