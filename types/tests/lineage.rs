//! `common_point` says what a naive comparison of the records says; `promoted` what a promotion in the log is worth.

use perennial_types::{
    ClusterId, Epoch, Lineage, LineageEntry, Lsn, Mark, Promotion, PromotionId, StartKind, Timestamp,
};
use proptest::prelude::*;

/// Builds a log: a shared prefix of epochs, then epochs of its own cluster. Returns lineage, records, end.
fn log(shared: &[u64], cut: u64, own: &[u64], cluster: u64) -> (Lineage, Vec<Epoch>) {
    let (mut lineage, mut records) = (Lineage::new(), Vec::new());
    let mut add = |number: u64, cluster: u64, length: u64, limit: u64| {
        let epoch = Epoch { number, cluster: ClusterId(cluster), nonce: cluster };
        let start = records.len() as u64;
        if start < limit {
            let start_lsn = Lsn(start + 1);
            lineage.push(LineageEntry { epoch, start_lsn, start_ts: Timestamp(number), kind: StartKind::Failover });
            records.extend((start..limit.min(start + length)).map(|_| epoch));
        }
    };
    for (number, length) in shared.iter().enumerate() {
        add(number as u64 + 1, 0, *length, cut);
    }
    for (number, length) in own.iter().enumerate() {
        add(100 + number as u64, cluster, *length, u64::MAX);
    }
    (lineage, records)
}

proptest! {
    #[test]
    fn common_point_equals_the_naive_comparison(
        shared in prop::collection::vec(1u64..6, 0..5),
        cuts in (0u64..25, 0u64..25),
        own in (prop::collection::vec(1u64..6, 0..3), prop::collection::vec(1u64..6, 0..3)),
    ) {
        let (mine, my_records) = log(&shared, cuts.0, &own.0, 1);
        let (theirs, their_records) = log(&shared, cuts.1, &own.1, 2);
        let naive = my_records.iter().zip(&their_records).take_while(|(a, b)| a == b).count() as u64;
        let point = mine.common_point(Lsn(my_records.len() as u64), &theirs, Lsn(their_records.len() as u64));
        prop_assert_eq!(point, Lsn(naive));
        for (index, epoch) in my_records.iter().enumerate() {
            prop_assert_eq!(mine.epoch_at(Lsn(index as u64 + 1)), Some(*epoch));
        }
    }
}

/// Promotions as the list of a history, and a log that has carried out those at `done`.
fn promoted(cuts: &[u64], done: &[usize]) -> Option<Mark> {
    promoted_in(cuts, cuts.len(), done)
}

/// The same where only the first promotions are of the history.
fn promoted_in(cuts: &[u64], length: usize, done: &[usize]) -> Option<Mark> {
    let (list, lineage) = history(cuts, length, done);
    let mark = lineage.promoted(&list);
    assert!(mark.iter().all(|mark| mark.promotions == list));
    mark
}

fn history(cuts: &[u64], length: usize, done: &[usize]) -> (Vec<Promotion>, Lineage) {
    let mut list: Vec<Promotion> =
        cuts.iter().zip(1..).map(|(cut, id)| Promotion { id: PromotionId(id), cut: Timestamp(*cut) }).collect();
    let mut lineage = Lineage::new();
    for (number, index) in done.iter().enumerate() {
        let Promotion { id, cut } = list[*index];
        lineage.push(LineageEntry {
            epoch: Epoch { number: number as u64 + 1, cluster: ClusterId(0), nonce: 0 },
            start_lsn: Lsn(10 * (number as u64 + 1)),
            start_ts: Timestamp(1000 + number as u64),
            kind: StartKind::Promotion { id, cut },
        });
    }
    list.truncate(length);
    (list, lineage)
}

#[test]
fn a_promotion_that_was_carried_out_is_a_mark() {
    let worth = |mark: Option<Mark>| mark.map(|mark| (mark.ts.0, mark.lsn.0));
    assert_eq!(worth(promoted(&[100], &[])), None);
    assert_eq!(worth(promoted(&[100, 200], &[0, 1])), Some((200, 19)));
    // What came after it, and is not carried out here, may lie below.
    assert_eq!(worth(promoted(&[100, 90], &[0])), Some((90, 9)));
    assert_eq!(worth(promoted(&[100, 200], &[0])), Some((100, 9)));
    // A promotion of another history, which this log has not dropped yet, has declared dead what lies above its cut.
    assert_eq!(worth(promoted_in(&[100, 40], 1, &[0, 1])), Some((40, 9)));
    assert_eq!(worth(promoted_in(&[100, 400], 1, &[0, 1])), Some((100, 9)));
}

#[test]
fn only_what_comes_after_the_historys_last_promotion_parts_a_log_from_it() {
    let parted_at = |cuts: &[u64], length, done: &[usize]| {
        let (list, lineage) = history(cuts, length, done);
        lineage.parted_at(&list).map(|cut| cut.0)
    };
    assert_eq!(parted_at(&[100], 1, &[0]), None);
    assert_eq!(parted_at(&[100], 0, &[0]), Some(100));
    assert_eq!(parted_at(&[100, 400, 40], 1, &[0, 1, 2]), Some(40));
    // A later promotion of the history is at or below the cut of what it has found in the log.
    assert_eq!(parted_at(&[30, 40], 1, &[1, 0]), None);
}

/// A log of cluster 0 that ends at 10 and goes on with these epochs: their starts, and the promotions that begin them.
fn going_on(starts: &[(u64, Option<Promotion>)]) -> Lineage {
    let mut lineage = Lineage::new();
    for (number, (start, promotion)) in [(1, None)].iter().chain(starts).enumerate() {
        lineage.push(LineageEntry {
            epoch: Epoch { number: number as u64 + 1, cluster: ClusterId(starts.len() as u64), nonce: *start },
            start_lsn: Lsn(*start),
            start_ts: Timestamp(1000 + number as u64),
            kind: promotion.map_or(StartKind::Failover, |Promotion { id, cut }| StartKind::Promotion { id, cut }),
        });
    }
    lineage
}

#[test]
fn logs_part_at_a_promotion_where_it_is_the_first_that_only_one_has() {
    let promotion = |id, cut| Some(Promotion { id: PromotionId(id), cut: Timestamp(cut) });
    let parts = |mine: &[_], theirs: &[_], mark| going_on(mine).parts_at(Lsn(10), &going_on(theirs), Timestamp(mark));
    // Either side was promoted where it ended: what the mark counts on both have.
    assert!(parts(&[], &[(11, promotion(1, 100))], 100));
    assert!(parts(&[(11, promotion(1, 100))], &[(14, None)], 90));
    assert!(!parts(&[], &[(11, promotion(1, 100))], 101), "the mark is above the cut");
    // A log went on from where it ended, and another one had more.
    assert!(!parts(&[], &[(11, None)], 50));
    assert!(!parts(&[], &[(11, None), (12, promotion(1, 100))], 50));
    assert!(!parts(&[(12, promotion(1, 100))], &[(11, None)], 50));
    // A promotion was carried out, and again by a log that lacks where it was.
    assert!(!parts(&[(12, promotion(1, 100))], &[(11, promotion(1, 100))], 100));
}
