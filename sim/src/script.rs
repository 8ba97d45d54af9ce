//! The script of a history: which faults strike, when and whom. It is drawn before the world starts and independent of
//! what happens in it, so that a failing history can be played again with some of its faults alone.
//!
//! A strike in words is `millisecond:kind:node:dice`, a script its strikes with commas between them.

use std::fmt;
use std::str::FromStr;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::options::{FAULTS, Fault, Options};

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// Milliseconds since the beginning.
    pub at: u64,
    /// What kind.
    pub fault: Fault,
    /// Where, by index over all regions.
    pub node: usize,
    /// Everything else about it is drawn from this.
    pub dice: u64,
}

/// The faults of a world of so many nodes.
pub fn draw(options: &Options, nodes: usize) -> Vec<Strike> {
    // Not the generator of the world: what it draws must not depend on the script.
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed ^ 0x5c21_b7d5);
    let most = options.fault_gap;
    let mut strikes = vec![];
    let mut at = 50;
    while at < options.duration {
        let Ok((fault, _)) = options.faults.choose_weighted(&mut rng, |(_, weight)| *weight).copied() else { break };
        strikes.push(Strike { at, fault, node: rng.random_range(0..nodes), dice: rng.random() });
        at += *[10, most / 6 + 1, most / 3 + 1, most].choose(&mut rng).expect("not empty");
    }
    strikes
}

/// A script in words.
pub fn in_words(strikes: &[Strike]) -> String {
    strikes.iter().map(Strike::to_string).collect::<Vec<_>>().join(",")
}

/// A script from words.
pub fn from_words(words: &str) -> Result<Vec<Strike>, String> {
    words.split(',').filter(|word| !word.is_empty()).map(str::parse).collect()
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}:{}:{:x}", self.at, self.fault, self.node, self.dice)
    }
}

impl FromStr for Strike {
    type Err = String;

    fn from_str(word: &str) -> Result<Strike, String> {
        let wrong = || format!("{word} is not a fault: millisecond:kind:node:dice");
        let [at, kind, node, dice] = word.split(':').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let fault = FAULTS.into_iter().find(|fault| format!("{fault:?}") == kind).ok_or_else(wrong)?;
        Ok(Strike {
            at: at.parse().map_err(|_| wrong())?,
            fault,
            node: node.parse().map_err(|_| wrong())?,
            dice: u64::from_str_radix(dice, 16).map_err(|_| wrong())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_script() {
        let strikes: Vec<Strike> = FAULTS
            .iter()
            .zip(1..)
            .map(|(fault, at)| Strike { at, fault: *fault, node: 3, dice: 1 << (at % 64) })
            .collect();
        assert_eq!(from_words(&in_words(&strikes)), Ok(strikes));
        assert_eq!(from_words(""), Ok(vec![]));
        assert!(from_words("12:Kill:1").is_err() && from_words("12:Joy:1:0").is_err());
    }
}
