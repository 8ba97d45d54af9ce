//! Whether what clients saw of one register can have happened one after the other.
//!
//! The search of Wing and Gong with the memory of Lowe: operations are laid in an order, one by one, such that none stands
//! behind one that began after it was answered, and every read gives what was written last. Where no operation can be
//! next the last choice is taken back; a set of placed operations with its value is never tried twice. An operation
//! without an answer may have happened at any time after it was sent, or never.

use std::collections::{BTreeSet, HashSet};

/// What an operation did, as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It gave this; nothing, if the register has never been written.
    Read(Option<i64>),
    /// Every value is written once.
    Write(i64),
}

/// One operation on one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// What it did.
    pub kind: Kind,
    /// When it was sent, in nanoseconds.
    pub sent: u64,
    /// When it was answered; `None`: nobody knows whether it happened.
    pub answered: Option<u64>,
}

/// What the search says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Holds,
    /// There is none. The most that could be laid ends before this operation.
    Broken(Operation),
    /// More was tried than is reasonable.
    Undecided,
}

/// Sets of placed operations that are remembered at the most.
const TRIED_MAX: usize = 2_000_000;

/// The list's end, and what stands before its first entry.
const END: usize = usize::MAX;

/// Calls and answers in the order of their times, as a list from which an operation can be taken and put back.
struct Entries {
    /// Which operation, and whether it is the answer.
    entries: Vec<(usize, bool)>,
    next: Vec<usize>,
    before: Vec<usize>,
    first: usize,
    /// Of each operation: its call, and its answer if there is one.
    places: Vec<(usize, Option<usize>)>,
}

impl Entries {
    fn of(operations: &[Operation]) -> Entries {
        let mut timed: Vec<(u64, bool, usize)> = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            timed.push((operation.sent, false, index));
            timed.extend(operation.answered.map(|answered| (answered, true, index)));
        }
        // At the same time a call comes first: the two may have overlapped.
        timed.sort_unstable();
        let entries: Vec<(usize, bool)> = timed.into_iter().map(|(_, answer, index)| (index, answer)).collect();
        let mut places = vec![(END, None); operations.len()];
        for (place, (index, answer)) in entries.iter().enumerate() {
            match answer {
                false => places[*index].0 = place,
                true => places[*index].1 = Some(place),
            }
        }
        let count = entries.len();
        let next = (1..=count).map(|place| if place == count { END } else { place }).collect();
        let before = (0..count).map(|place| if place == 0 { END } else { place - 1 }).collect();
        Entries { entries, next, before, first: if count == 0 { END } else { 0 }, places }
    }

    fn take(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        match before {
            END => self.first = next,
            before => self.next[before] = next,
        }
        if next != END {
            self.before[next] = before;
        }
    }

    fn put_back(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        match before {
            END => self.first = place,
            before => self.next[before] = place,
        }
        if next != END {
            self.before[next] = place;
        }
    }

    fn take_operation(&mut self, index: usize) {
        let (call, answer) = self.places[index];
        self.take(call);
        if let Some(answer) = answer {
            self.take(answer);
        }
    }

    /// In the reverse order, or the links would not fit.
    fn put_operation_back(&mut self, index: usize) {
        let (call, answer) = self.places[index];
        if let Some(answer) = answer {
            self.put_back(answer);
        }
        self.put_back(call);
    }
}

/// Looks for an order.
pub fn check(operations: &[Operation]) -> Verdict {
    let operations = seen(operations);
    let mut entries = Entries::of(&operations);
    let mut waiting = operations.iter().filter(|operation| operation.answered.is_some()).count();
    let mut placed = vec![0u64; operations.len().div_ceil(64)];
    let mut tried: HashSet<(Vec<u64>, Option<i64>)> = HashSet::new();
    let mut choices: Vec<(usize, Option<i64>)> = Vec::new();
    let (mut value, mut at) = (None, entries.first);
    let mut deepest: Option<(usize, Operation)> = None;
    while waiting > 0 {
        if at != END && !entries.entries[at].1 {
            let index = entries.entries[at].0;
            let operation = operations[index];
            if let Some(after) = step(value, operation.kind) {
                flip(&mut placed, index);
                if tried.insert((placed.clone(), after)) {
                    choices.push((index, value));
                    value = after;
                    waiting -= usize::from(operation.answered.is_some());
                    entries.take_operation(index);
                    at = entries.first;
                    continue;
                }
                flip(&mut placed, index);
            }
            at = entries.next[at];
            continue;
        }
        if tried.len() > TRIED_MAX {
            return Verdict::Undecided;
        }
        // An answer, and its operation has no place before it.
        let stuck = entries.entries.get(at).map(|(index, _)| operations[*index]);
        if let Some(stuck) = stuck.filter(|_| deepest.is_none_or(|(depth, _)| choices.len() >= depth)) {
            deepest = Some((choices.len(), stuck));
        }
        let Some((index, old)) = choices.pop() else {
            return Verdict::Broken(deepest.map_or(operations[0], |(_, operation)| operation));
        };
        entries.put_operation_back(index);
        flip(&mut placed, index);
        waiting += usize::from(operations[index].answered.is_some());
        value = old;
        at = entries.next[entries.places[index].0];
    }
    Verdict::Holds
}

/// Without writes that nobody knows of and nobody has read, and reads without an answer: they explain nothing.
fn seen(operations: &[Operation]) -> Vec<Operation> {
    let read: BTreeSet<i64> = operations
        .iter()
        .filter_map(|operation| match operation.kind {
            Kind::Read(value) => value,
            Kind::Write(_) => None,
        })
        .collect();
    let counts = |operation: &&Operation| match operation.kind {
        Kind::Write(value) => operation.answered.is_some() || read.contains(&value),
        Kind::Read(_) => operation.answered.is_some(),
    };
    operations.iter().filter(counts).copied().collect()
}

/// The register's value afterwards, if this may happen now.
fn step(value: Option<i64>, kind: Kind) -> Option<Option<i64>> {
    match kind {
        Kind::Write(written) => Some(Some(written)),
        Kind::Read(read) => (read == value).then_some(value),
    }
}

fn flip(placed: &mut [u64], index: usize) {
    placed[index / 64] ^= 1 << (index % 64);
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn read(value: i64, sent: u64, answered: u64) -> Operation {
        let value = (value != 0).then_some(value);
        Operation { kind: Kind::Read(value), sent, answered: Some(answered) }
    }

    fn write(value: i64, sent: u64, answered: u64) -> Operation {
        Operation { kind: Kind::Write(value), sent, answered: Some(answered) }
    }

    fn unknown(value: i64, sent: u64) -> Operation {
        Operation { kind: Kind::Write(value), sent, answered: None }
    }

    #[test]
    fn what_can_have_happened_holds() {
        for history in [
            vec![],
            vec![read(0, 0, 1)],
            vec![write(1, 0, 1), read(1, 2, 3)],
            // While it is written, either value may be read, and in the end the new one.
            vec![write(1, 0, 1), write(2, 2, 9), read(1, 3, 4), read(2, 5, 6), read(2, 10, 11)],
            // Two at once in either order.
            vec![write(1, 0, 9), write(2, 0, 9), read(1, 10, 11)],
            vec![write(1, 0, 9), write(2, 0, 9), read(2, 10, 11)],
            // What nobody knows of happened, late.
            vec![write(1, 0, 1), unknown(2, 2), read(1, 5, 6), read(2, 20, 21), write(3, 22, 23), read(3, 24, 25)],
            // Or never.
            vec![write(1, 0, 1), unknown(2, 2), read(1, 5, 6)],
            vec![unknown(1, 0), unknown(2, 0)],
        ] {
            assert_eq!(check(&history), Verdict::Holds, "{history:?}");
        }
    }

    #[test]
    fn what_cannot_have_happened_is_found() {
        for history in [
            // A write that was acknowledged is not there.
            vec![write(1, 0, 1), read(0, 2, 3)],
            // A stale read.
            vec![write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
            // New and then old again.
            vec![write(1, 0, 1), write(2, 2, 20), read(2, 3, 4), read(1, 5, 6)],
            // What was never written.
            vec![write(1, 0, 1), read(7, 2, 3)],
            // What was read before it was sent.
            vec![read(1, 0, 1), write(1, 2, 3)],
            // What nobody knows of happened, and then had not.
            vec![write(1, 0, 1), unknown(2, 2), read(2, 5, 6), read(1, 7, 8)],
        ] {
            assert!(matches!(check(&history), Verdict::Broken(_)), "{history:?}");
        }
    }

    #[test]
    fn the_operation_that_does_not_fit_is_named() {
        let stale = read(1, 4, 5);
        let history = [write(1, 0, 1), write(2, 2, 3), stale, read(2, 6, 7)];
        assert_eq!(check(&history), Verdict::Broken(stale));
    }

    /// Clients of a register that is one: each operation takes effect at some moment between its two ends.
    fn history(random: &mut ChaCha8Rng, clients: u64, operations: usize) -> Vec<Operation> {
        let mut moments: Vec<(u64, u64, u64, bool, bool)> = Vec::new();
        for client in 0..clients {
            let mut now = random.random_range(0..50);
            for _ in 0..operations {
                let (wait, time) = (random.random_range(1..30), random.random_range(1..60));
                let unknown = random.random_ratio(1, 20);
                let effect = now + wait + random.random_range(0..=if unknown { time * 5 } else { time });
                moments.push((effect * clients + client, now + wait, now + wait + time, random.random(), unknown));
                now += wait + time;
            }
        }
        moments.sort_unstable();
        let (mut value, mut last) = (None, 0);
        let mut history = Vec::new();
        for (_, sent, answered, is_read, is_unknown) in moments {
            let kind = if is_read {
                Kind::Read(value)
            } else {
                last += 1;
                value = Some(last);
                Kind::Write(last)
            };
            history.push(Operation { kind, sent, answered: (!is_unknown).then_some(answered) });
        }
        history
    }

    #[test]
    fn registers_hold_and_planted_faults_are_found() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (mut planted, mut found) = (0, 0);
        for _ in 0..60 {
            let mut history = history(&mut random, 5, 40);
            assert_eq!(check(&history), Verdict::Holds);
            // A read is made stale: it gives what was overwritten, and read, long before it was sent.
            let stale = history.iter().position(|operation| {
                matches!(operation.kind, Kind::Read(Some(value)) if value > 40) && operation.answered.is_some()
            });
            if let Some(place) = stale {
                history[place].kind = Kind::Read(Some(3));
                planted += 1;
                found += usize::from(matches!(check(&history), Verdict::Broken(_)));
            }
        }
        assert!(planted > 50, "{planted}");
        assert_eq!(found, planted);
    }
}
