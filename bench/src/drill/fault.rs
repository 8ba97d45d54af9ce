//! What can happen to a cluster, drawn from a seed.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// SIGKILL of a leaf.
    KillLeaf,
    /// SIGKILL of any aggregator.
    KillAggregator,
    /// SIGKILL of the master.
    KillMaster,
    /// A leaf or an aggregator is stopped in good order.
    Stop,
    /// A leaf stands still, and goes on.
    SuspendLeaf,
    /// An aggregator stands still, and goes on.
    SuspendAggregator,
    /// A leaf stands still again and again, for a moment each time.
    Stutter,
    /// The link of a leaf carries nothing.
    CutLeaf,
    /// The link of an aggregator carries nothing.
    CutAggregator,
    /// Two nodes do not reach each other.
    CutPair,
    /// One node does not reach another, which reaches it.
    CutWay,
    /// The link of a node carries little, and late.
    SlowLink,
    /// What a node sends and what is sent to it arrives late.
    LateLink,
    /// The link of a node loses a part of what it carries.
    LossyLink,
    /// Somebody else keeps the disk of all nodes busy.
    SlowDisk,
    /// The disk of a leaf has less room than it keeps for itself.
    FullDisk,
    /// The disk of a leaf has no room at all.
    NoRoom,
    /// SIGKILL of every process at once.
    KillAll,
    /// A leaf loses its disk with all that is on it, and a person replaces it.
    LoseDisk,
}

impl Fault {
    /// All of them, each as often as it is drawn.
    const WEIGHTS: [(Fault, u32); 19] = [
        (Fault::KillLeaf, 16),
        (Fault::KillAggregator, 6),
        (Fault::KillMaster, 8),
        (Fault::Stop, 5),
        (Fault::SuspendLeaf, 12),
        (Fault::SuspendAggregator, 5),
        (Fault::Stutter, 4),
        (Fault::CutLeaf, 12),
        (Fault::CutAggregator, 5),
        (Fault::CutPair, 7),
        (Fault::CutWay, 7),
        (Fault::SlowLink, 4),
        (Fault::LateLink, 4),
        (Fault::LossyLink, 4),
        (Fault::SlowDisk, 3),
        (Fault::FullDisk, 3),
        (Fault::NoRoom, 2),
        (Fault::KillAll, 3),
        (Fault::LoseDisk, 3),
    ];

    /// As it is called on the command line.
    pub fn name(self) -> String {
        use clap::ValueEnum;
        self.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
    }

    /// Whether it needs links that can be cut, or a disk of the test's own.
    pub fn needs_namespaces(self) -> bool {
        use Fault::{CutAggregator, CutLeaf, CutPair, CutWay, FullDisk, LateLink, LossyLink, NoRoom, SlowLink};
        let cuts = matches!(self, CutLeaf | CutAggregator | CutPair | CutWay);
        cuts || matches!(self, SlowLink | LateLink | LossyLink | FullDisk | NoRoom)
    }

    /// Whether everything else must be over when it happens.
    pub fn is_alone(self) -> bool {
        self == Fault::KillAll || self.takes_copies()
    }

    /// Whether every partition must have all its copies before it: it takes one of them away for good.
    pub fn takes_copies(self) -> bool {
        self == Fault::LoseDisk
    }
}

/// A fault that was drawn. Whom it meets is drawn when it happens, for only then it is known who is the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// What.
    pub fault: Fault,
    /// How long after the one before it began, in milliseconds.
    pub after: u64,
    /// How long it lasts, in milliseconds.
    pub lasts: u64,
    /// Whether everything must be whole again before the next one.
    pub then_whole: bool,
}

/// Draws the next fault, of these.
pub fn draw(random: &mut ChaCha8Rng, among: &[Fault]) -> Drawn {
    let among: Vec<(Fault, u32)> = Fault::WEIGHTS.into_iter().filter(|(fault, _)| among.contains(fault)).collect();
    let (fault, _) = *among.choose_weighted(random, |(_, weight)| *weight).expect("some fault is permitted");
    let lasts = match random.random_range(0..10) {
        0..3 => random.random_range(50..800),
        3..8 => random.random_range(800..4_000),
        _ => random.random_range(4_000..12_000),
    };
    Drawn { fault, after: random.random_range(500..5_000), lasts, then_whole: random.random_ratio(2, 3) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_fault_is_drawn_and_a_seed_is_a_script() {
        let script = |seed: u64| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            (0..1000).map(|_| draw(&mut random, Fault::value_variants())).collect::<Vec<Drawn>>()
        };
        let faults: BTreeSet<Fault> = script(1).iter().map(|drawn| drawn.fault).collect();
        assert_eq!(faults.len(), Fault::value_variants().len());
        assert_eq!(script(1), script(1));
        assert_ne!(script(1), script(2));
        let mut random = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(draw(&mut random, &[Fault::NoRoom]).fault, Fault::NoRoom);
    }
}
