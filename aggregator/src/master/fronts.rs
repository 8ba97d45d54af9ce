//! The aggregators as the master hears them: their clients' open transactions, and who may change definitions.
//!
//! - *Lease*: an aggregator that was answered may begin and commit writes for [`LEASE`], counted from when it asked. One
//!   that is silent for longer has no transactions and holds no definitions any more, whatever it thinks; a new master
//!   counts from its election. So a fence or a change of definitions waits for a lost aggregator for that time and no
//!   longer; and not at all for one whose host refuses connections, for its process is gone.
//! - *Locks*: who changes a database's definitions has all other aggregators stop using them first. The owners say with
//!   every heartbeat what they want, so a new master knows the locks again once it has heard everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ::catalog::State;
use parking_lot::Mutex;
use types::{DatabaseId, NodeId, Revision};

use crate::protocol::{FrontOrders, FrontReport, LockId, Want, WantedLock};

/// How long an aggregator may write after it asked. Above the time of an election, so that the loss of a master aborts
/// nothing.
pub const LEASE: Duration = Duration::from_secs(3);
/// By how much two clocks may differ over a lease.
const DRIFT: Duration = Duration::from_millis(300);

/// One aggregator.
#[derive(Clone, Debug)]
pub struct Front {
    /// What it said last.
    pub report: FrontReport,
    /// When.
    pub at: Instant,
}

#[derive(Debug)]
struct Heard {
    since: Instant,
    fronts: BTreeMap<NodeId, Front>,
    /// The lock of each database that is in force.
    locks: BTreeMap<DatabaseId, WantedLock>,
    cancelled: BTreeSet<DatabaseId>,
    /// When an attempt to reach it began that its host refused.
    refused: BTreeMap<NodeId, Instant>,
}

/// All aggregators.
#[derive(Debug)]
pub struct Fronts {
    heard: Mutex<Heard>,
}

impl Default for Fronts {
    fn default() -> Fronts {
        Fronts { heard: Mutex::new(Heard::new()) }
    }
}

impl Heard {
    fn new() -> Heard {
        let (fronts, locks, cancelled) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Heard { since: Instant::now(), fronts, locks, cancelled, refused: BTreeMap::new() }
    }

    /// Whether no process of a node lives that did at this time.
    fn is_gone(&self, node: &NodeId, at: Instant) -> bool {
        self.refused.get(node).is_some_and(|began| *began > at)
    }

    /// Whether an aggregator may act on what it was told last.
    fn is_bound(&self, node: &NodeId) -> bool {
        self.fronts.get(node).is_some_and(|front| front.at.elapsed() < LEASE + DRIFT && !self.is_gone(node, front.at))
    }

    fn bound(&self) -> impl Iterator<Item = (&NodeId, &Front)> {
        self.fronts.iter().filter(|(node, _)| self.is_bound(node))
    }

    /// Whether an aggregator of the group was not heard in this office, and may still act on the word of the last master.
    fn is_unknown(&self, node: &NodeId) -> bool {
        let over = self.since.elapsed() >= LEASE + DRIFT || self.is_gone(node, self.since);
        !self.fronts.contains_key(node) && !over
    }

    fn is_complete(&self, state: &State) -> bool {
        !state.group().any(|(id, _)| self.is_unknown(&id))
    }

    /// Ends locks that nobody wants, or whose owner is lost, and lets the next ones in. One that was granted goes first.
    fn settle(&mut self) {
        let wants = |owner: &NodeId, id: LockId| {
            let front = self.fronts.get(owner).filter(|_| self.is_bound(owner));
            front.is_some_and(|front| front.report.wants.iter().any(|want| want.id == id))
        };
        let mut locks = self.locks.clone();
        locks.retain(|_, lock| wants(&lock.owner, lock.id));
        let mut waiting: Vec<(NodeId, Want)> =
            self.bound().flat_map(|(node, front)| front.report.wants.iter().map(|want| (*node, *want))).collect();
        waiting.sort_by_key(|(_, want)| (!want.granted, want.id));
        for (owner, Want { id, database, .. }) in waiting {
            locks.entry(database).or_insert(WantedLock { id, database, owner });
        }
        self.locks = locks;
    }

    fn is_granted(&self, lock: &WantedLock) -> bool {
        let others = self.bound().filter(|(node, _)| **node != lock.owner);
        others.map(|(_, front)| &front.report.holds).all(|holds| holds.contains(&lock.id))
    }
}

impl Fronts {
    /// A new office: nobody was heard.
    pub fn clear(&self) {
        *self.heard.lock() = Heard::new();
    }

    /// Takes a heartbeat and answers it. `refused`: whose host refused an attempt that began then.
    pub fn hear(&self, state: &State, report: FrontReport, refused: BTreeMap<NodeId, Instant>) -> FrontOrders {
        let mut heard = self.heard.lock();
        heard.refused = refused;
        let node = report.member.node;
        let newer = |known: &Front| known.report.member.incarnation > report.member.incarnation;
        if heard.fronts.get(&node).is_some_and(newer) {
            return FrontOrders::default();
        }
        heard.fronts.insert(node, Front { report, at: Instant::now() });
        let cancel = heard.cancelled.iter().copied().collect();
        if !heard.is_complete(state) {
            return FrontOrders { locks: None, granted: vec![], cancel, revision: state.revision };
        }
        heard.settle();
        let own = heard.locks.values().filter(|lock| lock.owner == node && heard.is_granted(lock));
        let granted = own.map(|lock| lock.id).collect();
        let locks = Some(heard.locks.values().copied().collect());
        FrontOrders { locks, granted, cancel, revision: state.revision }
    }

    /// How many transactions may still write to a database that drains since a revision. `None`: an aggregator has not
    /// said yet.
    pub fn open(&self, state: &State, database: DatabaseId, draining: Revision) -> Option<u64> {
        let heard = self.heard.lock();
        let mut sum = 0;
        if !heard.is_complete(state) {
            return None;
        }
        for (_, front) in heard.bound() {
            if front.report.revision < draining {
                return None;
            }
            sum += front.report.open.get(&database).copied().unwrap_or(0);
        }
        Some(sum)
    }

    /// How many write to a database at other aggregators than this one, as far as is known.
    pub fn running(&self, database: DatabaseId, except: NodeId) -> u64 {
        let heard = self.heard.lock();
        let bound = heard.bound().filter(|(node, _)| **node != except);
        bound.map(|(_, front)| front.report.open.get(&database).copied().unwrap_or(0)).sum()
    }

    /// Everybody rolls back what is undecided in these databases, and only in these.
    pub fn cancel(&self, databases: BTreeSet<DatabaseId>) {
        self.heard.lock().cancelled = databases;
    }

    /// What each said last.
    pub fn all(&self) -> BTreeMap<NodeId, Front> {
        self.heard.lock().fronts.clone()
    }
}

#[cfg(test)]
mod tests {
    use ::catalog::Command;
    use ::catalog::event::UnixMillis;
    use ::catalog::node::{Addresses, Roles};
    use types::{ClusterId, Incarnation, Member};

    use super::*;

    const DATABASE: DatabaseId = DatabaseId(7);

    fn state(aggregators: u64) -> State {
        let mut state = State::new(ClusterId(1));
        for number in 1..=aggregators {
            let addresses = Addresses { rpc: format!("host:{number}"), sql: None, http: None };
            let (identity, node) = (u128::from(number), NodeId(number));
            let roles = Roles { aggregator: true, leaf: false };
            let register = Command::RegisterNode { number: Some(node), identity, addresses, roles, group: None };
            for command in [register, Command::AddAggregator { node }] {
                state.apply(UnixMillis(1), &command).expect("it is new");
            }
        }
        state
    }

    fn report(node: u64, wants: &[u128], holds: &[u128]) -> FrontReport {
        FrontReport {
            member: Member { node: NodeId(node), incarnation: Incarnation(1) },
            applied: 1,
            revision: Revision(5),
            open: BTreeMap::new(),
            connections: 0,
            version: "0".into(),
            wants: wants.iter().map(|id| Want { id: *id, database: DATABASE, granted: false }).collect(),
            holds: holds.to_vec(),
        }
    }

    fn hear(fronts: &Fronts, state: &State, report: FrontReport) -> FrontOrders {
        fronts.hear(state, report, BTreeMap::new())
    }

    #[test]
    fn nobody_waits_for_an_aggregator_that_is_proved_gone() {
        let (state, fronts) = (state(2), Fronts::default());
        hear(&fronts, &state, FrontReport { open: [(DATABASE, 3)].into(), ..report(2, &[], &[]) });
        let gone = [(NodeId(2), Instant::now())].into();
        assert_eq!(fronts.hear(&state, report(1, &[9], &[]), gone).granted, [9]);
        assert_eq!(fronts.open(&state, DATABASE, Revision(5)), Some(0));
    }

    #[test]
    fn a_lock_is_granted_when_all_others_hold_it_and_ends_with_its_want() {
        let (state, fronts) = (state(2), Fronts::default());
        assert_eq!(hear(&fronts, &state, report(1, &[9], &[])).granted, [], "node 2 was not heard");
        let locks = hear(&fronts, &state, report(2, &[], &[])).locks.expect("all were heard");
        assert_eq!(locks, [WantedLock { id: 9, database: DATABASE, owner: NodeId(1) }]);
        assert_eq!(hear(&fronts, &state, report(1, &[9], &[])).granted, []);
        hear(&fronts, &state, report(2, &[4], &[9]));
        assert_eq!(hear(&fronts, &state, report(1, &[9], &[])).granted, [9]);
        assert_eq!(hear(&fronts, &state, report(2, &[4], &[9])).granted, [], "one at a time");
        hear(&fronts, &state, report(1, &[], &[4]));
        assert_eq!(hear(&fronts, &state, report(2, &[4], &[])).granted, [4]);
    }

    #[test]
    fn after_an_election_the_lock_that_was_granted_goes_first() {
        let (state, fronts) = (state(2), Fronts::default());
        hear(&fronts, &state, report(2, &[4], &[9]));
        let mut owner = report(1, &[9], &[]);
        owner.wants[0].granted = true;
        assert_eq!(hear(&fronts, &state, owner).granted, [9]);
    }

    #[test]
    fn a_drain_waits_for_the_word_of_all_after_it_began() {
        let (state, fronts) = (state(2), Fronts::default());
        hear(&fronts, &state, report(1, &[], &[]));
        assert_eq!(fronts.open(&state, DATABASE, Revision(5)), None, "node 2 was not heard");
        hear(&fronts, &state, FrontReport { open: [(DATABASE, 3)].into(), ..report(2, &[], &[]) });
        assert_eq!(fronts.open(&state, DATABASE, Revision(5)), Some(3));
        assert_eq!(fronts.open(&state, DATABASE, Revision(6)), None, "they have not seen it drain");
    }
}
