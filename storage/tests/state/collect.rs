//! Garbage collection: nothing that may still be asked for goes, and what may not is refused.

use perennial_storage::state::{PartitionState, StateError};
use proptest::prelude::*;
use types::{Lsn, Record, Timestamp};

use crate::history::{Naive, Step, Writer, row, step};
use crate::setup::{assert_means, end, entries, env, open, replay, times};

fn collect_all(state: &PartitionState, horizon: Timestamp, floor: Lsn, keys: usize) -> usize {
    let mut removed = 0;
    loop {
        let step = state.collect(horizon, floor, keys).unwrap();
        assert!(step.looked <= keys);
        removed += step.removed;
        if step.finished {
            return removed;
        }
    }
}

/// Everything that views at or above `horizon` see, after a rewind to any position at or above `floor`.
fn assert_kept(state: &PartitionState, log: &[Record], horizon: Timestamp, floor: Lsn) {
    for at in (floor.0 as usize..=log.len()).rev() {
        if at < log.len() {
            state.undo(&log[at..=at]).unwrap();
        }
        let mut views: Vec<_> = times(&log[..at]).into_iter().filter(|view| *view >= horizon).collect();
        views.push(horizon);
        let naive = Naive::of(&log[..at]);
        assert_means(state, &naive, &views);
        for key in 0..6 {
            let latest = naive.latest(&row(key)).filter(|(ts, ..)| *ts > horizon);
            let found = state.latest(&row(key)).unwrap().filter(|latest| latest.ts > horizon);
            assert_eq!(found.map(|latest| (latest.ts, latest.lsn, latest.value)), latest);
        }
        let commits = state.commits_between(horizon, Timestamp::MAX).collect::<Result<_, _>>().unwrap();
        assert_eq!(naive.commits_between(horizon, Timestamp::MAX), commits);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn views_above_the_horizon_and_rewinds_above_the_floor_lose_nothing(
        steps in prop::collection::vec(step(), 5..80),
        horizon in 0u64..60,
        floor in any::<prop::sample::Index>(),
        keys in 1usize..40,
    ) {
        let log = Writer::write(&steps);
        let (horizon, floor) = (Timestamp(horizon), Lsn(floor.index(log.len() + 1) as u64));
        let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
        let state = open(&env, dir.path(), &log);
        replay(&state, &log);
        collect_all(&state, horizon, floor, keys);
        // Deletions whose row was cut by a step's end are left to the next pass.
        collect_all(&state, horizon, floor, 1000);
        prop_assert_eq!(collect_all(&state, horizon, floor, 1000), 0, "there is nothing left to find");
        state.flush(end(&log)).unwrap();
        drop(state);
        let state = open(&env, dir.path(), &log);
        prop_assert_eq!(state.collected().horizon, horizon);
        prop_assert_eq!(state.collected().floor, floor);
        assert_kept(&state, &log, horizon, floor);
    }

    #[test]
    fn a_pass_that_is_cut_short_shows_no_row_that_was_deleted(
        steps in prop::collection::vec(step(), 5..80),
        keys in 1usize..6,
        crash_after in 0usize..30,
    ) {
        let log = Writer::write(&steps);
        let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
        let state = open(&env, dir.path(), &log);
        replay(&state, &log);
        let now = *times(&log).iter().rev().nth(1).unwrap();
        for _ in 0..crash_after {
            if state.collect(now, end(&log), keys).unwrap().finished {
                break;
            }
        }
        assert_means(&state, &Naive::of(&log), &[now, Timestamp::MAX]);
        state.flush(end(&log)).unwrap();
        drop(state);
        assert_means(&open(&env, dir.path(), &log), &Naive::of(&log), &[now, Timestamp::MAX]);
    }
}

#[test]
fn everything_goes_that_nobody_can_ask_for() {
    let log = Writer::write(&[
        Step::Commit(vec![(1, Some(1)), (2, Some(1))], false),
        Step::Commit(vec![(1, Some(2))], false),
        Step::Prepare(vec![(3, Some(1))], true),
        Step::Outcome(0, Some(false)),
        Step::Prepare(vec![(3, Some(2))], false),
        Step::Outcome(0, Some(false)),
        Step::Prepare(vec![(4, Some(2))], false),
        Step::Commit(vec![(5, Some(2))], false),
        // Declares the last commit dead and aborts the open transaction.
        Step::Promotion(1),
        Step::Commit(vec![(2, None)], false),
        Step::Forget(0),
    ]);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), &log);
    replay(&state, &log);
    collect_all(&state, Timestamp::MAX, end(&log), 7);
    let left: Vec<_> = entries(&state).into_keys().collect();
    let rows = [row(1), row(3)];
    assert_eq!(left.len(), rows.len(), "{left:02x?}");
    for (key, row) in left.iter().zip(rows) {
        assert_eq!(types::state::split_version_key(key).unwrap().0, row);
    }
    assert_means(&state, &Naive::of(&log), &[Timestamp::MAX]);
}

#[test]
fn dead_versions_stay_while_a_rewind_can_revive_them() {
    let log = Writer::write(&[
        Step::Commit(vec![(1, Some(1))], false),
        Step::Commit(vec![(1, Some(2))], false),
        Step::Promotion(1),
    ]);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), &log);
    replay(&state, &log);
    assert_eq!(collect_all(&state, Timestamp(2), Lsn(3), 100), 1, "the entry of the first commit in the list");
    assert_kept(&state, &log, Timestamp(2), Lsn(3));
}

#[test]
fn what_is_gone_is_refused() {
    let log = Writer::write(&vec![Step::Commit(vec![(1, Some(1))], false); 9]);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), &log);
    replay(&state, &log);
    let old = state.view(Timestamp(3)).unwrap();
    collect_all(&state, Timestamp(6), Lsn(8), 100);
    let refused = state.view(Timestamp(5)).err().expect("refused");
    assert!(matches!(refused, StateError::BelowHorizon { view: Timestamp(5), horizon: Timestamp(6) }), "{refused}");
    assert_eq!(old.get(&row(1)).unwrap(), Naive::of(&log).rows(Timestamp(3)).remove(&row(1)), "an open view stays");
    let back: Vec<_> = log[7..].iter().rev().cloned().collect();
    let refused = state.undo(&back).unwrap_err();
    assert!(matches!(refused, StateError::BelowFloor { to: Lsn(7), floor: Lsn(8) }), "{refused}");
    assert_eq!(state.applied(), end(&log), "nothing of the group is undone");
    // Lower bounds than before change nothing.
    collect_all(&state, Timestamp(1), Lsn(1), 100);
    assert_eq!((state.collected().horizon, state.collected().floor), (Timestamp(6), Lsn(8)));
}
