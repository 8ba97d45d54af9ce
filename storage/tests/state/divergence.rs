//! Divergence files by themselves: what was written is read, and what was changed is noticed.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use perennial_storage::divergence::{
    DivergenceError, DivergenceId, DivergenceReader, DivergenceWriter, Entry, Header, Reason, Stage, discard, find,
    list,
};
use proptest::prelude::*;
use types::{ClusterId, DatabaseId, Epoch, Lsn, Ordinal, PartitionId, Timestamp, TxnId};

fn header(id: u128, ordinal: i32) -> Header {
    Header {
        id: DivergenceId(id),
        database: "Bücher \"und\" mehr".into(),
        partition: PartitionId { database: DatabaseId(u64::MAX), ordinal: Ordinal(ordinal) },
        reason: Reason::Rewind,
        parted_from: Lsn(17),
        parted_epoch: Some(epoch(u64::MAX)),
        end: Lsn(30),
        end_epoch: epoch(255),
        created: 1_795_000_000_000,
    }
}

fn epoch(nonce: u64) -> Epoch {
    Epoch { number: 3, cluster: ClusterId(1), nonce }
}

fn entry() -> impl Strategy<Value = Entry> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let stage = prop_oneof![Just(Stage::Commit), Just(Stage::Prepared), Just(Stage::Aborted)];
    let numbers = (any::<u128>(), any::<u64>(), any::<u64>(), any::<u64>(), prop::option::of(any::<i32>()));
    (stage, numbers, bytes(), prop::option::of(bytes()), prop::option::of(bytes())).prop_map(
        |(stage, (txn, ts, lsn, nonce, first), key, old, new)| Entry {
            stage,
            txn: TxnId(txn),
            ts: Timestamp(ts),
            lsn: Lsn(lsn),
            epoch: epoch(nonce),
            first: first.map(Ordinal),
            key,
            old,
            new,
        },
    )
}

fn write(dir: &Path, header: &Header, entries: &[Entry]) -> PathBuf {
    let mut writer = DivergenceWriter::create(dir, header).unwrap();
    entries.iter().for_each(|entry| writer.entry(entry).unwrap());
    writer.finish().unwrap().0
}

fn read(path: &Path) -> Result<Vec<Entry>, DivergenceError> {
    DivergenceReader::open(path)?.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entries_come_back_as_they_were(entries in prop::collection::vec(entry(), 0..20)) {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &header(1, -1), &entries);
        let mut reader = DivergenceReader::open(&path).unwrap();
        prop_assert_eq!(reader.header(), &header(1, -1));
        prop_assert_eq!(&reader.by_ref().collect::<Result<Vec<_>, _>>().unwrap(), &entries);
        let summary = reader.summary().unwrap();
        prop_assert_eq!(summary.records, entries.len() as u64);
        prop_assert_eq!(summary.from_time, entries.iter().map(|entry| entry.ts.0).min().unwrap_or(0));
        prop_assert_eq!(summary.to_time, entries.iter().map(|entry| entry.ts.0).max().unwrap_or(0));
        let listed = list(dir.path()).unwrap();
        prop_assert_eq!(listed[0].content.as_ref().unwrap(), &(header(1, -1), summary));
    }

    #[test]
    fn a_changed_byte_and_a_lost_or_moved_line_are_noticed(
        entries in prop::collection::vec(entry(), 1..6),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), &header(1, 0), &entries);
        let bytes = std::fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= 1 << bit;
        std::fs::write(&path, &changed).unwrap();
        prop_assert!(read(&path).is_err(), "{}", String::from_utf8_lossy(&changed));

        std::fs::write(&path, &bytes[..at.index(bytes.len())]).unwrap();
        prop_assert!(read(&path).is_err());

        let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let mut swapped = lines.clone();
        swapped.swap(2, lines.len() - 2);
        if swapped != lines {
            std::fs::write(&path, swapped.concat()).unwrap();
            prop_assert!(read(&path).is_err());
        }
        let mut lines = lines;
        lines.remove(at.index(lines.len()));
        std::fs::write(&path, lines.concat()).unwrap();
        prop_assert!(read(&path).is_err());
    }
}

fn one_entry() -> Entry {
    Entry {
        stage: Stage::Commit,
        txn: TxnId(0x1f),
        ts: Timestamp(5),
        lsn: Lsn(18),
        epoch: epoch(9),
        first: None,
        key: Bytes::from_static(&[1, 0xfe]),
        old: None,
        new: Some(Bytes::from_static(b"\x00a")),
    }
}

#[test]
fn a_person_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &header(0xab, 4), &[one_entry()]);
    let name = "000000000000000000000000000000ab.18446744073709551615.4.17-30-3-00000000000000ff.divergence";
    assert!(path.ends_with(name), "{path:?}");
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "perennial divergence 1");
    assert_eq!(
        &lines[2][9..],
        r#"{"write":{"stage":"commit","transaction":"0000000000000000000000000000001f","time":5,"lsn":18,"epoch":[3,1,9],"first":null,"key":"01fe","old":null,"new":"0061"}}"#
    );
    assert!(lines[3][9..].starts_with(r#"{"end":{"transactions":1,"records":1,"from_time":5,"to_time":5,"crc":"#));
}

#[test]
fn a_file_that_was_not_finished_is_none_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = DivergenceWriter::create(dir.path(), &header(1, 0)).unwrap();
    writer.entry(&one_entry()).unwrap();
    drop(writer);
    assert_eq!(list(dir.path()).unwrap().len(), 0);
    let path = write(dir.path(), &header(1, 0), &[one_entry()]);
    assert_eq!(read(&path).unwrap(), [one_entry()]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn damaged_files_are_listed_as_such_and_foreign_ones_not() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(list(&dir.path().join("none")).unwrap().len(), 0);
    let path = write(dir.path(), &header(1, 0), &[one_entry()]);
    write(dir.path(), &header(1, 1), &[one_entry()]);
    write(dir.path(), &header(2, 0), &[]);
    std::fs::write(dir.path().join("notes.txt"), "hello").unwrap();
    std::fs::write(&path, "perennial divergence 2\n").unwrap();
    let listed = list(dir.path()).unwrap();
    let good: Vec<_> = listed.iter().map(|file| file.content.is_ok()).collect();
    assert_eq!(good, [false, true, true]);
    assert!(matches!(listed[0].content, Err(DivergenceError::Unknown { .. })));
    assert_eq!(find(dir.path(), &header(9, 0)).unwrap().as_deref(), Some(&*path), "whatever the exchange");
    assert_eq!(find(dir.path(), &Header { end: Lsn(31), ..header(1, 0) }).unwrap(), None);
    assert_eq!(discard(dir.path(), DivergenceId(1)).unwrap(), 2);
    assert_eq!(list(dir.path()).unwrap().len(), 1);
}

#[test]
fn an_entry_lives_where_its_record_is_and_no_promotion_covers_it() {
    let mut steps = crate::history::Writer::default();
    steps.step(&crate::history::Step::Failover);
    steps.step(&crate::history::Step::Commit(vec![(1, Some(1))], false));
    let mut entry = one_entry();
    (entry.lsn, entry.epoch, entry.ts) = (Lsn(2), steps.log[1].epoch, steps.log[1].body.timestamp().unwrap());
    let lineage = crate::setup::lineage(&steps.log);
    assert!(entry.is_alive(&lineage, Lsn(2)));
    assert!(!entry.is_alive(&lineage, Lsn(1)), "the log does not reach it");
    steps.step(&crate::history::Step::Promotion(1));
    assert!(!entry.is_alive(&crate::setup::lineage(&steps.log), Lsn(3)), "dead");
    entry.epoch = epoch(9);
    assert!(!entry.is_alive(&lineage, Lsn(2)), "another record is there");
}
