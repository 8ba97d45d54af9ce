//! Applying and undoing records: the state is a function of the log prefix, and means what the plain model says.

extern crate perennial_types as types;

#[allow(dead_code)]
mod history;

use std::collections::BTreeMap;

use bytes::Bytes;
use history::{HERE, Naive, Step, Writer, step};
use proptest::prelude::*;
use types::state::{self, Get, Mutation, Outcome, Prepared, Space, Version};
use types::{Body, Lineage, Lsn, Ordinal, Record, StartKind, Timestamp, TxnId, Write};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Map(BTreeMap<Bytes, Bytes>);

impl Get for Map {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.0.get(key).cloned()
    }
}

impl Map {
    fn change(&mut self, changes: Vec<Mutation>) {
        for Mutation { key, value } in changes {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }

    fn of(log: &[Record]) -> Map {
        let mut map = Map::default();
        log.iter().for_each(|record| {
            let changes = state::apply(record, &map);
            map.change(changes);
        });
        map
    }

    fn space(&self, space: Space) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.0.iter().filter(move |(key, _)| key[0] == space as u8)
    }

    fn rows(&self, view: Timestamp, lineage: &Lineage) -> BTreeMap<Bytes, Bytes> {
        let (mut rows, mut done) = (BTreeMap::new(), None);
        for (key, value) in self.space(Space::Version) {
            let (row, ts) = state::split_version_key(key).expect("a version's key");
            let version = Version::decode(value.clone()).expect("a version");
            if ts <= view && !lineage.is_dead(ts, version.lsn) && done.as_deref() != Some(row) {
                done = Some(row.to_vec());
                version.value.map(|value| rows.insert(Bytes::copy_from_slice(row), value));
            }
        }
        rows
    }

    fn open(&self, lineage: &Lineage) -> BTreeMap<TxnId, Vec<Write>> {
        let prepared = self.space(Space::Prepared).map(|(key, value)| {
            Prepared::decode(TxnId(u128::from_be_bytes(key[1..].try_into().unwrap())), value.clone()).unwrap()
        });
        let promoted = |lsn: Lsn| {
            lineage.entries().iter().any(|e| e.start_lsn > lsn && matches!(e.kind, StartKind::Promotion { .. }))
        };
        let open = prepared.filter(|p| state::outcome(self, p.txn).is_none() && !promoted(p.lsn));
        open.map(|prepared| (prepared.txn, prepared.writes)).collect()
    }

    fn decisions(&self, lineage: &Lineage) -> BTreeMap<TxnId, Option<Timestamp>> {
        let outcomes = self.space(Space::Outcome).map(|(key, value)| {
            Outcome::decode(TxnId(u128::from_be_bytes(key[1..].try_into().unwrap())), value.clone()).unwrap()
        });
        outcomes
            .filter(|outcome| outcome.first == HERE)
            .filter(|outcome| self.get(&state::txn_key(Space::Forgotten, outcome.txn)).is_none())
            .map(|outcome| (outcome.txn, outcome.decision.filter(|ts| !lineage.is_dead(*ts, outcome.lsn))))
            .collect()
    }
}

fn times(log: &[Record]) -> Vec<Timestamp> {
    let mut times: Vec<_> = log.iter().filter_map(|record| record.body.timestamp()).collect();
    times.push(Timestamp::MAX);
    times
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn undoing_back_to_any_point_gives_the_state_of_that_prefix(steps in prop::collection::vec(step(), 0..60)) {
        let log = Writer::write(&steps);
        let mut map = Map::of(&log);
        for end in (0..log.len()).rev() {
            let changes = state::undo(&log[end], &map);
            map.change(changes);
            prop_assert_eq!(&map, &Map::of(&log[..end]), "after undoing {:?}", log[end]);
        }
    }

    #[test]
    fn records_applied_again_after_an_undo_give_the_same_state(
        steps in prop::collection::vec(step(), 1..60),
        back in any::<prop::sample::Index>(),
    ) {
        let log = Writer::write(&steps);
        let whole = Map::of(&log);
        let mut map = whole.clone();
        let end = back.index(log.len());
        log[end..].iter().rev().for_each(|record| map.change(state::undo(record, &map)));
        log[end..].iter().for_each(|record| map.change(state::apply(record, &map)));
        prop_assert_eq!(map, whole);
    }

    #[test]
    fn a_record_applied_twice_changes_nothing(steps in prop::collection::vec(step(), 1..40)) {
        let log = Writer::write(&steps);
        let mut map = Map::default();
        for record in &log {
            map.change(state::apply(record, &map));
            let once = map.clone();
            map.change(state::apply(record, &map));
            prop_assert_eq!(&map, &once);
        }
    }

    #[test]
    fn the_state_means_what_the_plain_model_says(steps in prop::collection::vec(step(), 0..60)) {
        let log = Writer::write(&steps);
        for end in (0..=log.len()).rev().step_by(7) {
            let (map, naive) = (Map::of(&log[..end]), Naive::of(&log[..end]));
            for view in times(&log[..end]) {
                prop_assert_eq!(map.rows(view, &naive.lineage), naive.rows(view), "at {}", view);
            }
            prop_assert_eq!(map.open(&naive.lineage), naive.prepared.clone());
            let decisions: BTreeMap<_, _> =
                naive.decided.keys().map(|txn| (*txn, naive.decision(*txn).unwrap())).collect();
            prop_assert_eq!(map.decisions(&naive.lineage), decisions);
        }
    }

    #[test]
    fn every_entry_names_the_record_that_made_it(steps in prop::collection::vec(step(), 0..60)) {
        let log = Writer::write(&steps);
        let mut map = Map::default();
        for record in &log {
            for Mutation { key, value } in state::apply(record, &map) {
                prop_assert!(map.get(&key).is_none(), "{:?} replaces an entry", record);
                let lsn = match state::split_commit_key(&key) {
                    Some((_, lsn)) => lsn,
                    None => Lsn(u64::from_be_bytes(value.as_ref().unwrap()[..8].try_into().unwrap())),
                };
                prop_assert_eq!(lsn, record.lsn);
                map.change(vec![Mutation { key, value }]);
            }
        }
    }

    #[test]
    fn newer_versions_of_a_row_sort_first(
        row in prop::collection::vec(any::<u8>(), 0..9),
        a in any::<u64>(),
        b in any::<u64>(),
    ) {
        let (a, b) = (Timestamp(a), Timestamp(b));
        prop_assert_eq!(state::version_key(&row, a).cmp(&state::version_key(&row, b)), b.cmp(&a));
        let key = state::version_key(&row, a);
        prop_assert_eq!(state::split_version_key(&key), Some((&row[..], a)));
    }
}

/// p0 has `Commit Y ts=101` and then `Commit X ts=99`; a promotion at 100 lets X live and Y not.
#[test]
fn a_promotion_kills_by_time_and_not_by_position() {
    let mut writer = Writer::default();
    writer.step(&Step::Failover);
    writer.step(&Step::Reserve);
    writer.step(&Step::Commit(vec![(1, Some(4))], false));
    writer.step(&Step::Commit(vec![(2, Some(4))], true));
    writer.step(&Step::Promotion(1));
    let naive = Naive::of(&writer.log);
    let rows = Map::of(&writer.log).rows(Timestamp::MAX, &naive.lineage);
    assert_eq!(rows.keys().collect::<Vec<_>>(), [&history::row(2)]);
}

#[test]
#[should_panic(expected = "without its Prepare")]
fn a_commit_decision_without_its_prepare_is_refused() {
    let mut writer = Writer::default();
    writer.step(&Step::Failover);
    let mut record = writer.log[0].clone();
    record.body = Body::Outcome { txn: TxnId(1), first: Ordinal(1), decision: Some(Timestamp(9)) };
    state::apply(&record, &Map::default());
}
