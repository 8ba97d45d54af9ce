//! What a master keeps of a leaf is what that was, whatever of their messages is lost, late, or was meant for another master.

use std::collections::{BTreeMap, BTreeSet};

use perennial_catalog::heartbeat::{Orders, ReplicaReport, Report, Said, Teller};
use proptest::prelude::*;
use types::{DatabaseId, Incarnation, Lsn, Member, NodeId, Ordinal, PartitionId, Reign, Timestamp};

const ME: Member = Member { node: NodeId(1), incarnation: Incarnation(1) };

#[derive(Clone, Debug)]
enum Step {
    /// A replica is opened, or its log grows.
    Grow(i32),
    /// A replica is found damaged, or is whole again.
    Damage(i32),
    Close(i32),
    Gone(u64),
    Beat(Fate),
    /// A report that had no answer arrives after all, at the present master.
    Late(usize),
    /// Another master is elected, or this one once more.
    Elect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    AnswerLost,
    /// It is lost, or under way for long.
    Lost,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![6 => Just(Fate::Answered), 1 => Just(Fate::AnswerLost), 1 => Just(Fate::Lost)];
    prop_oneof![
        4 => (0..6).prop_map(Step::Grow),
        2 => (0..6).prop_map(Step::Damage),
        2 => (0..6).prop_map(Step::Close),
        1 => (2..6u64).prop_map(Step::Gone),
        8 => fate.prop_map(Step::Beat),
        1 => any::<usize>().prop_map(Step::Late),
        1 => Just(Step::Elect),
    ]
}

fn replica(partition: PartitionId) -> ReplicaReport {
    ReplicaReport {
        partition,
        reign: Reign(1),
        epoch: None,
        appended: Lsn(0),
        durable: Lsn(0),
        applied: Lsn(0),
        bytes: 0,
        rows: 0,
        log_bytes: 1 << 20,
        repairing: false,
        damaged: false,
        received: Timestamp::ZERO,
        leading: None,
        upstream: vec![],
        downstream: vec![],
    }
}

type Replicas = BTreeMap<PartitionId, ReplicaReport>;

/// One leaf and its present master.
#[derive(Default)]
struct World {
    clock: u64,
    replicas: Replicas,
    gone: BTreeSet<Member>,
    teller: Teller,
    /// What the leaf was when each report was sent.
    history: BTreeMap<u64, (Replicas, BTreeSet<Member>)>,
    unanswered: Vec<Report>,
    said: Option<Said>,
    heard_gone: BTreeSet<Member>,
}

impl World {
    fn step(&mut self, step: Step) {
        let id = |ordinal| PartitionId { database: DatabaseId(1), ordinal: Ordinal(ordinal) };
        match step {
            Step::Grow(at) => self.replicas.entry(id(at)).or_insert_with(|| replica(id(at))).appended.0 += 1,
            Step::Damage(at) => {
                if let Some(replica) = self.replicas.get_mut(&id(at)) {
                    replica.damaged = !replica.damaged;
                }
            }
            Step::Close(at) => drop(self.replicas.remove(&id(at))),
            Step::Gone(node) => drop(self.gone.insert(Member { node: NodeId(node), incarnation: Incarnation(1) })),
            Step::Beat(fate) => self.beat(fate),
            Step::Late(which) if !self.unanswered.is_empty() => {
                let report = self.unanswered.swap_remove(which % self.unanswered.len());
                self.hear(&report);
            }
            Step::Late(_) => {}
            Step::Elect => (self.said, self.heard_gone) = (None, BTreeSet::new()),
        }
    }

    fn beat(&mut self, fate: Fate) {
        self.clock += 1;
        let mut report = Report { member: ME, sent: self.clock, ..Report::default() };
        self.teller.tell(&mut report, self.replicas.clone(), self.gone.clone());
        self.history.insert(self.clock, (self.replicas.clone(), self.gone.clone()));
        if fate == Fate::Lost {
            self.unanswered.push(report);
            return;
        }
        let tell_all = self.hear(&report);
        if fate == Fate::Answered {
            self.teller.answered(&Orders { sent: report.sent, tell_all, ..Orders::default() });
        } else {
            self.unanswered.push(report);
        }
    }

    /// As the master does. Whether it asks for all.
    fn hear(&mut self, report: &Report) -> bool {
        self.heard_gone.extend(&report.gone);
        self.said = Said::take(self.said.take(), report);
        let Some(said) = &self.said else { return true };
        let (replicas, gone) = &self.history[&said.sent];
        assert!(said.sent >= report.sent, "what is kept is older than what has come");
        assert_eq!(&said.replicas, replicas, "what is kept of the report of {}", said.sent);
        assert!(self.heard_gone.is_superset(gone), "{gone:?} are gone, {:?} was heard", self.heard_gone);
        false
    }
}

proptest! {
    #[test]
    fn what_is_kept_is_what_there_was(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        // Two heartbeats that arrive, and everything is known.
        world.step(Step::Beat(Fate::Answered));
        world.step(Step::Beat(Fate::Answered));
        let said = world.said.expect("the second one tells all, if the first does not do");
        prop_assert_eq!(said.replicas, world.replicas);
        prop_assert_eq!(said.sent, world.clock);
        // The next one says nothing.
        let mut report = Report { member: ME, sent: world.clock + 1, ..Report::default() };
        world.teller.tell(&mut report, world.history[&world.clock].0.clone(), world.gone);
        prop_assert!(report.replicas.is_empty() && report.closed.is_empty() && report.gone.is_empty());
    }
}
