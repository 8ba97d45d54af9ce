//! Bytes that change, tails that tear and files that vanish: what was lost is said, and never served.

mod log_common;

use std::fs;
use std::path::{Path, PathBuf};

use log_common::*;
use perennial_storage::log::{AppendError, Flush, LogOptions, NodeLog, ReadError, Recovered};
use types::entry::Entry;
use types::segment::{BLOCK, Identity, Piece, SegmentHeader, Verdict};
use types::{Lsn, Reign};

/// Two partitions over several segments; gives the segments in the order of the log.
fn write(dir: &Path, records: u64) -> Vec<PathBuf> {
    let (log, _, _) = open(dir, small());
    for lsn in 1..=records {
        fill(&log, 0, lsn, lsn, 3_000);
        fill(&log, 1, lsn, lsn, 1_000);
        // One batch each, so that there are many.
        log.wait_durable().unwrap();
    }
    log.close().unwrap();
    let mut segments: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| Some((first(&path)?, path)))
        .collect();
    segments.sort();
    segments.into_iter().map(|(_, path)| path).collect()
}

fn first(path: &Path) -> Option<u64> {
    let header = SegmentHeader::decode(&fs::read(path).ok()?).ok()?;
    (header.first_sequence > 0).then_some(header.first_sequence)
}

fn piece(path: &Path) -> Piece {
    let bytes = fs::read(path).unwrap();
    Piece { header: SegmentHeader::decode(&bytes).unwrap(), bytes: bytes.into() }
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset as usize] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

/// Where the payload of a record of partition 0 is in the last batches of a segment, and where its batch starts.
fn payload(path: &Path, from_end: usize) -> (u64, u64) {
    let piece = piece(path);
    let batches: Vec<_> = piece.headers().into_iter().filter(|(_, header)| header.count > 0).collect();
    let with: Vec<_> = batches
        .into_iter()
        .filter(|(offset, header)| {
            let first = piece.entries(*offset, header).next();
            first.is_some_and(|entry| entry.is_ok_and(|(entry, _)| entry.partition == partition(0) && entry.kind == 2))
        })
        .collect();
    let (offset, _) = with[with.len() - from_end];
    (offset + 64 + 72 + 500, offset)
}

fn reopen(dir: &Path, options: LogOptions) -> (NodeLog, Recovered) {
    let (log, recovered, _) = open(dir, options);
    (log, recovered)
}

fn assert_damaged(log: &NodeLog, ordinal: i32) {
    assert!(matches!(log.read(partition(ordinal), Lsn(1), 1), Err(ReadError::Damaged(_))));
    let end = log.summary(partition(ordinal)).unwrap().end;
    let next = Entry::Record(record(ordinal, end.0 + 1, 10));
    assert!(matches!(log.append(&[(partition(ordinal), next)], Flush::Now), Err(AppendError::Damaged(_))));
}

#[test]
fn a_wrong_payload_poisons_its_partition_until_it_is_installed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let segments = write(dir.path(), 64);
    let (at, _) = payload(segments.last().unwrap(), 3);
    flip(segments.last().unwrap(), at);
    for _ in 0..2 {
        let (log, recovered) = reopen(dir.path(), small());
        assert!(recovered.partitions[&partition(0)].damaged && !recovered.partitions[&partition(1)].damaged);
        assert_damaged(&log, 0);
        assert_eq!(read_all(&log, 1, 1).len(), 64);
        // The promise of a damaged partition can still be kept.
        append(&log, &[(partition(0), Entry::Promise { reign: Reign(3) })]);
    }
    let (log, recovered) = reopen(dir.path(), small());
    let lineage = recovered.partitions[&partition(0)].lineage.clone();
    append(&log, &[(partition(0), Entry::Installed { trimmed: Lsn(64), lineage })]);
    fill(&log, 0, 65, 69, 10);
    log.close().unwrap();
    let (log, recovered) = reopen(dir.path(), small());
    let summary = &recovered.partitions[&partition(0)];
    assert_eq!((summary.damaged, summary.promise), (false, Some(Reign(3))));
    assert_eq!(read_all(&log, 0, 65).len(), 5);
}

#[test]
fn a_wrong_header_poisons_everybody_who_may_be_in_its_range() {
    for byte in [8, 64 + 20] {
        let dir = tempfile::tempdir().unwrap();
        let segments = write(dir.path(), 64);
        let (_, batch) = payload(segments.last().unwrap(), 3);
        flip(segments.last().unwrap(), batch + byte);
        let (log, recovered) = reopen(dir.path(), small());
        assert_eq!((recovered.verdict, recovered.unknown), (Verdict::Damage, true), "byte {byte}");
        assert_damaged(&log, 0);
        assert_damaged(&log, 1);
    }
}

#[test]
fn damage_in_a_sealed_segment_is_found_where_it_is_read_or_when_asked_for() {
    for verify in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let segments = write(dir.path(), 120);
        let (at, _) = payload(&segments[0], 4);
        flip(&segments[0], at);
        let (log, recovered) = reopen(dir.path(), LogOptions { verify, ..small() });
        assert_eq!(recovered.partitions[&partition(0)].damaged, verify, "{:?}", recovered.findings);
        assert_eq!(read_all(&log, 1, 1).len(), 120);
        if !verify {
            let mut next = Lsn(1);
            let error = loop {
                match log.read(partition(0), next, 1) {
                    Ok(records) => next = records[0].lsn.next(),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, ReadError::Damaged(_)), "{error}");
        }
        assert_damaged(&log, 0);
        log.close().unwrap();
        let (_, recovered) = reopen(dir.path(), small());
        assert!(recovered.partitions[&partition(0)].damaged, "it stays so");
    }
}

#[test]
fn a_tail_that_nobody_stated_as_synced_is_cut_and_written_anew() {
    for garble in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let segments = write(dir.path(), 20);
        let last = segments.last().unwrap();
        // Without the mark in the second place, the last batch is not known synced.
        fs::remove_file(dir.path().join("synced")).unwrap();
        let (offset, header) = *piece(last).headers().last().unwrap();
        match garble {
            true => flip(last, offset + 64 + 72 + 5),
            false => {
                let mut bytes = fs::read(last).unwrap();
                bytes[offset as usize..][..header.span() as usize].fill(0);
                fs::write(last, bytes).unwrap();
            }
        }
        let (log, recovered) = reopen(dir.path(), small());
        assert_eq!(recovered.verdict, if garble { Verdict::Torn } else { Verdict::Clean });
        assert_eq!(recovered.partitions[&partition(1)].end, Lsn(19));
        fill(&log, 1, 20, 30, 500);
        log.close().unwrap();
        let (log, recovered) = reopen(dir.path(), small());
        assert_eq!(recovered.verdict, Verdict::Clean);
        assert_eq!(read_all(&log, 1, 1).len(), 30);
    }
}

#[test]
fn the_second_place_tells_that_a_lost_last_batch_had_been_synced() {
    let dir = tempfile::tempdir().unwrap();
    let segments = write(dir.path(), 20);
    let last = segments.last().unwrap();
    let (offset, _) = *piece(last).headers().last().unwrap();
    flip(last, offset);
    let (log, recovered) = reopen(dir.path(), small());
    assert_eq!((recovered.verdict, recovered.unknown), (Verdict::Damage, true));
    assert_damaged(&log, 0);
    append(&log, &[(partition(2), Entry::Record(record(2, 1, 0)))]);
    log.close().unwrap();
    let (log, recovered) = reopen(dir.path(), small());
    assert!(recovered.partitions[&partition(1)].damaged);
    assert_eq!(read_all(&log, 2, 1).len(), 1);
}

#[test]
fn a_segment_that_is_gone_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let segments = write(dir.path(), 150);
    assert!(segments.len() > 4, "{segments:?}");
    fs::remove_file(&segments[1]).unwrap();
    let (log, recovered) = reopen(dir.path(), small());
    assert!(recovered.partitions[&partition(0)].damaged && recovered.partitions[&partition(1)].damaged);
    assert!(recovered.findings.iter().any(|finding| finding.contains("in no segment")), "{:?}", recovered.findings);
    assert_damaged(&log, 1);
}

#[test]
fn segments_whose_header_or_index_cannot_be_read_are_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let segments = write(dir.path(), 120);
    flip(&segments[0], 30);
    flip(segments.last().unwrap(), 30);
    let size = fs::metadata(&segments[1]).unwrap().len();
    flip(&segments[1], size - 20);
    let (log, recovered) = reopen(dir.path(), small());
    assert_eq!(recovered.verdict, Verdict::Clean);
    for ordinal in 0..2 {
        assert_eq!(read_all(&log, ordinal, 1).len(), 120);
        log.trim(partition(ordinal), Lsn(119)).unwrap();
    }
    log.tidy();
    assert!(log.status().segments <= 2, "{:?}", log.status());
}

#[test]
fn files_full_of_anything_end_in_a_defined_state() {
    for seed in 1..20u64 {
        let dir = tempfile::tempdir().unwrap();
        let segments = write(dir.path(), 40);
        let mut dice = log_common::crash_disk::Dice(seed);
        for path in &segments {
            let mut bytes = fs::read(path).unwrap();
            for _ in 0..dice.roll(40) {
                let (from, length) = (dice.roll(bytes.len() as u64) as usize, dice.roll(3 * BLOCK) as usize);
                let to = (from + length).min(bytes.len());
                bytes[from..to].iter_mut().for_each(|byte| *byte = dice.roll(256) as u8);
            }
            fs::write(path, bytes).unwrap();
        }
        let (log, recovered) = reopen(dir.path(), LogOptions { verify: seed % 2 == 0, ..small() });
        // Whatever is read is what was written.
        for (id, summary) in &recovered.partitions {
            let ordinal = id.ordinal.0;
            for lsn in summary.first.0..=summary.end.0 {
                if let Ok(records) = log.read(*id, Lsn(lsn), 1) {
                    assert_eq!(records, [record(ordinal, lsn, if ordinal == 0 { 3_000 } else { 1_000 })]);
                }
            }
        }
        append(&log, &[(partition(5), Entry::Record(record(5, 1, 0)))]);
        log.close().unwrap();
        let (log, _) = reopen(dir.path(), small());
        assert_eq!(read_all(&log, 5, 1).len(), 1);
    }
}

#[test]
fn a_newer_format_is_refused_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let segments = write(dir.path(), 3);
    let mut bytes = fs::read(&segments[0]).unwrap();
    let identity: Identity = piece(&segments[0]).header.identity;
    assert_eq!(identity.uses, 1);
    bytes[12] = 2;
    let crc = crc32c::crc32c(&bytes[12..64]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    fs::write(&segments[0], bytes).unwrap();
    let error = NodeLog::open(dir.path(), small(), |_| ()).map(drop).unwrap_err().to_string();
    assert!(error.contains("segment format 2"), "{error}");
}
