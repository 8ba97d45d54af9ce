//! Entries come back from their bytes, stored samples stay readable, and a summary is what its entries amount to.

use bytes::{Bytes, BytesMut};
use perennial_types::entry::{Entry, EntryError, Intent, Summary};
use perennial_types::{
    Body, ClusterId, DecodeError, Epoch, Lineage, LineageEntry, Lsn, Mark, Ordinal, Promotion, PromotionId, Record,
    Reign, StartKind, Timestamp, TxnId, Write,
};
use proptest::prelude::*;

fn epoch(number: u64) -> Epoch {
    Epoch { number, cluster: ClusterId(7), nonce: number * 11 }
}

fn start_kind() -> impl Strategy<Value = StartKind> {
    prop_oneof![
        Just(StartKind::Failover),
        (any::<u128>(), any::<u64>())
            .prop_map(|(id, cut)| StartKind::Promotion { id: PromotionId(id), cut: Timestamp(cut) }),
    ]
}

fn lineage() -> impl Strategy<Value = Lineage> {
    prop::collection::vec((1u64..9, 1u64..9, any::<u64>(), start_kind()), 0..5).prop_map(|parts| {
        let (mut lineage, mut number, mut start) = (Lineage::new(), 0, 0);
        for (more, length, nonce, kind) in parts {
            (number, start) = (number + more, start + length);
            let epoch = Epoch { number, cluster: ClusterId(nonce % 3), nonce };
            lineage.push(LineageEntry { epoch, start_lsn: Lsn(start), start_ts: Timestamp(nonce), kind });
        }
        lineage
    })
}

fn mark() -> impl Strategy<Value = Mark> {
    (prop::collection::vec((any::<u128>(), any::<u64>()), 0..3), any::<u64>(), any::<u64>()).prop_map(
        |(list, ts, lsn)| Mark {
            promotions: list
                .into_iter()
                .map(|(id, cut)| Promotion { id: PromotionId(id), cut: Timestamp(cut) })
                .collect(),
            ts: Timestamp(ts),
            lsn: Lsn(lsn),
        },
    )
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let data = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    prop::collection::vec((data(), prop::option::of(data())), 0..4)
        .prop_map(|list| list.into_iter().map(|(key, value)| Write { key, value }).collect())
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (any::<u64>(), start_kind()).prop_map(|(ts, kind)| Body::EpochStart { start_ts: Timestamp(ts), kind }),
        (any::<u128>(), any::<u64>(), writes()).prop_map(|(txn, ts, writes)| Body::Commit {
            txn: TxnId(txn),
            ts: Timestamp(ts),
            writes
        }),
        (any::<u128>(), any::<u64>(), any::<i32>(), writes()).prop_map(|(txn, bound, first, writes)| Body::Prepare {
            txn: TxnId(txn),
            bound: Timestamp(bound),
            first: Ordinal(first),
            writes
        }),
        (any::<u128>(), any::<i32>(), prop::option::of(any::<u64>())).prop_map(|(txn, first, ts)| Body::Outcome {
            txn: TxnId(txn),
            first: Ordinal(first),
            decision: ts.map(Timestamp)
        }),
        prop::collection::vec(any::<u128>(), 0..4)
            .prop_map(|txns| Body::Forget { txns: txns.into_iter().map(TxnId).collect() }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let lsn = || any::<u64>().prop_map(Lsn);
    let intent = || (lsn(), lineage()).prop_map(|(to, lineage)| Intent { to, lineage });
    let summary = (
        (lineage(), lsn(), lsn(), any::<bool>()),
        (prop::option::of(mark()), prop::option::of(any::<u64>().prop_map(Reign)), prop::option::of(intent())),
    )
        .prop_map(|((lineage, first, end, damaged), (mark, promise, intent))| Summary {
            lineage,
            first,
            end,
            mark,
            promise,
            intent,
            damaged,
        });
    prop_oneof![
        (any::<u64>(), lsn(), body()).prop_map(|(n, lsn, body)| Entry::Record(Record {
            epoch: epoch(n % 100),
            lsn,
            body
        })),
        lsn().prop_map(|to| Entry::Cut { to }),
        lsn().prop_map(|below| Entry::Trim { below }),
        mark().prop_map(Entry::Mark),
        any::<u64>().prop_map(|reign| Entry::Promise { reign: Reign(reign) }),
        intent().prop_map(Entry::Intent),
        Just(Entry::IntentCleared),
        (lsn(), lineage()).prop_map(|(trimmed, lineage)| Entry::Installed { trimmed, lineage }),
        Just(Entry::Drop),
        Just(Entry::Damaged),
        summary.prop_map(Entry::Summary),
    ]
}

fn encode(entry: &Entry) -> Bytes {
    let mut out = BytesMut::new();
    entry.encode(&mut out);
    out.freeze()
}

fn decode(like: &Entry, payload: Bytes) -> Result<Entry, DecodeError> {
    let (epoch, lsn) = match like {
        Entry::Record(record) => (record.epoch, record.lsn),
        _ => (epoch(0), Lsn::ZERO),
    };
    Entry::decode(like.kind(), epoch, lsn, payload)
}

proptest! {
    #[test]
    fn entries_come_back(entry in entry()) {
        prop_assert_eq!(decode(&entry, encode(&entry)), Ok(entry));
    }

    #[test]
    fn bytes_that_end_early_or_late_are_refused(entry in entry(), at in any::<prop::sample::Index>()) {
        let payload = encode(&entry);
        if !payload.is_empty() {
            prop_assert!(decode(&entry, payload.slice(..at.index(payload.len()))).is_err());
        }
        let longer = [&payload[..], &[0]].concat();
        prop_assert!(decode(&entry, longer.into()).is_err());
    }

    #[test]
    fn any_bytes_end_in_an_entry_or_an_error(kind in 0u8..48, payload in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(entry) = Entry::decode(kind, epoch(1), Lsn(1), payload.clone().into()) {
            prop_assert_eq!(entry.kind(), kind);
        }
    }
}

fn sample_lineage() -> Lineage {
    let mut lineage = Lineage::new();
    lineage.push(LineageEntry {
        epoch: epoch(1),
        start_lsn: Lsn(1),
        start_ts: Timestamp(5),
        kind: StartKind::Failover,
    });
    let kind = StartKind::Promotion { id: PromotionId(0xabcd), cut: Timestamp(90) };
    lineage.push(LineageEntry { epoch: epoch(4), start_lsn: Lsn(12), start_ts: Timestamp(100), kind });
    lineage
}

fn sample_mark() -> Mark {
    let promotions = vec![Promotion { id: PromotionId(0xabcd), cut: Timestamp(90) }];
    Mark { promotions, ts: Timestamp(120), lsn: Lsn(14) }
}

fn samples() -> Vec<(Entry, &'static str)> {
    let intent = Intent { to: Lsn(11), lineage: sample_lineage() };
    let summary = Summary {
        lineage: sample_lineage(),
        first: Lsn(3),
        end: Lsn(14),
        mark: Some(sample_mark()),
        promise: Some(Reign(6)),
        intent: Some(Intent { to: Lsn(11), lineage: Lineage::new() }),
        damaged: true,
    };
    let write = |value: Option<&'static str>| Write { key: "k".into(), value: value.map(Bytes::from) };
    let commit = Body::Commit { txn: TxnId(9), ts: Timestamp(101), writes: vec![write(Some("v")), write(None)] };
    vec![
        (Entry::Record(Record { epoch: epoch(4), lsn: Lsn(13), body: commit }), SAMPLES[0]),
        (Entry::Cut { to: Lsn(11) }, SAMPLES[1]),
        (Entry::Trim { below: Lsn(3) }, SAMPLES[2]),
        (Entry::Mark(sample_mark()), SAMPLES[3]),
        (Entry::Promise { reign: Reign(6) }, SAMPLES[4]),
        (Entry::Intent(intent), SAMPLES[5]),
        (Entry::IntentCleared, ""),
        (Entry::Installed { trimmed: Lsn(14), lineage: sample_lineage() }, SAMPLES[6]),
        (Entry::Drop, ""),
        (Entry::Damaged, ""),
        (Entry::Summary(summary), SAMPLES[7]),
    ]
}

const SAMPLES: [&str; 8] = [
    "0900000000000000000000000000000065000000000000000200000001010000006b010000007600010000006b",
    "0b00000000000000",
    "0300000000000000",
    "78000000000000000e0000000000000001000000cdab00000000000000000000000000005a00000000000000",
    "0600000000000000",
    "0b0000000000000002000000010000000000000007000000000000000b000000000000000100000000000000050000000000000000040000000000000007000000000000002c000000000000000c00000000000000640000000000000001cdab00000000000000000000000000005a00000000000000",
    "0e0000000000000002000000010000000000000007000000000000000b000000000000000100000000000000050000000000000000040000000000000007000000000000002c000000000000000c00000000000000640000000000000001cdab00000000000000000000000000005a00000000000000",
    "03000000000000000e000000000000000f060000000000000078000000000000000e0000000000000001000000cdab00000000000000000000000000005a000000000000000b000000000000000000000002000000010000000000000007000000000000000b000000000000000100000000000000050000000000000000040000000000000007000000000000002c000000000000000c00000000000000640000000000000001cdab00000000000000000000000000005a00000000000000",
];

/// Bytes that a version-1 program wrote: a program that cannot read them cannot read a user's disk.
#[test]
fn stored_samples_are_read_and_written_alike() {
    for (entry, stored) in samples() {
        let written: String = encode(&entry).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, stored, "{entry:?}");
    }
}

fn start(number: u64, lsn: u64) -> Entry {
    let body = Body::EpochStart { start_ts: Timestamp(number), kind: StartKind::Failover };
    Entry::Record(Record { epoch: epoch(number), lsn: Lsn(lsn), body })
}

fn record(number: u64, lsn: u64) -> Entry {
    Entry::Record(Record { epoch: epoch(number), lsn: Lsn(lsn), body: Body::Forget { txns: vec![] } })
}

fn summary(entries: &[Entry]) -> Summary {
    let mut summary = Summary::default();
    for entry in entries {
        summary.apply(entry).unwrap_or_else(|error| panic!("{entry:?}: {error}"));
    }
    summary
}

#[test]
fn a_record_is_live_if_the_lineage_has_its_epoch_at_its_position() {
    let log = summary(&[start(1, 1), record(1, 2), record(1, 3), Entry::Cut { to: Lsn(1) }, start(2, 2), record(2, 3)]);
    assert!(log.is_live(epoch(1), Lsn(1)));
    assert!(!log.is_live(epoch(1), Lsn(2)), "cut and written again by another epoch");
    assert!(log.is_live(epoch(2), Lsn(3)));
    assert!(!log.is_live(epoch(2), Lsn(4)), "above the end");
    assert_eq!(log.live_part(epoch(1), Lsn(1), Lsn(3)), Some((Lsn(1), Lsn(1))));
    assert_eq!(log.live_part(epoch(2), Lsn(1), Lsn(9)), Some((Lsn(2), Lsn(3))));
    let trimmed = summary(&[start(1, 1), record(1, 2), record(1, 3), Entry::Trim { below: Lsn(3) }]);
    assert_eq!(trimmed.live_part(epoch(1), Lsn(1), Lsn(2)), None);
    assert!(trimmed.is_live(epoch(1), Lsn(3)));
}

#[test]
fn a_promise_never_falls_and_an_installation_keeps_it() {
    let installed = Entry::Installed { trimmed: Lsn(12), lineage: sample_lineage() };
    let log = summary(&[
        start(1, 1),
        Entry::Promise { reign: Reign(6) },
        Entry::Promise { reign: Reign(5) },
        Entry::Mark(sample_mark()),
        Entry::Damaged,
        installed,
        record(4, 13),
    ]);
    assert_eq!((log.promise, log.mark.clone(), log.damaged), (Some(Reign(6)), None, false));
    assert_eq!((log.first, log.end), (Lsn(13), Lsn(13)));
    let early = summary(&[Entry::Installed { trimmed: Lsn(11), lineage: sample_lineage() }]);
    assert_eq!(early.lineage.entries().len(), 1, "an epoch above the snapshot comes with its record");
}

/// A replica may end after its snapshot was installed, and before it has noted its mark again.
#[test]
fn an_installation_keeps_the_mark_whose_records_it_has() {
    let lineage = summary(&[start(1, 1), record(1, 2), start(2, 3), record(2, 4)]).lineage;
    let installed = |mark: u64, damaged: bool| {
        let mark = Mark { lsn: Lsn(mark), ..sample_mark() };
        let mut entries = vec![start(1, 1), record(1, 2), record(1, 3), Entry::Mark(mark)];
        entries.extend(damaged.then_some(Entry::Damaged));
        entries.push(Entry::Installed { trimmed: Lsn(12), lineage: lineage.clone() });
        summary(&entries).mark.map(|mark| mark.lsn)
    };
    assert_eq!(installed(2, false), Some(Lsn(2)), "both have what it counts on");
    assert_eq!(installed(3, false), None, "the snapshot has another record there");
    assert_eq!(installed(2, true), None, "nothing is known of a damaged log");
}

#[test]
fn entries_that_do_not_continue_the_log_are_refused() {
    let mut log = summary(&[start(1, 1), record(1, 2)]);
    let before = log.clone();
    assert_eq!(log.apply(&record(1, 4)), Err(EntryError::Gap { lsn: Lsn(4), end: Lsn(2) }));
    for entry in [record(2, 3), start(1, 3), Entry::Cut { to: Lsn(3) }, Entry::Trim { below: Lsn(4) }] {
        assert!(log.apply(&entry).is_err(), "{entry:?} was taken");
    }
    assert_eq!(log, before);
}
