//! The log as its owner sees it: append, reports, reading, trimming, limits, restart.

mod log_common;

use std::task::{Context, Waker};

use log_common::*;
use perennial_storage::log::{AppendError, Flush, LogError, LogOptions, NodeLog, ReadError};
use types::entry::{Entry, Intent};
use types::segment::Verdict;
use types::{Lineage, Lsn, Mark, Reign, Timestamp};

fn both() -> [LogOptions; 2] {
    [small(), LogOptions { uring: false, ..small() }]
}

#[test]
fn what_is_appended_is_reported_and_read_and_comes_back() {
    for options in both() {
        let dir = tempfile::tempdir().unwrap();
        let (log, recovered, reports) = open(dir.path(), options.clone());
        assert!(recovered.partitions.is_empty());
        assert_eq!(log.status().disk == "io_uring", options.uring && log.status().fallback.is_none());
        fill(&log, 0, 1, 50, 300);
        fill(&log, 1, 1, 20, 5_000);
        let mark = Mark { ts: Timestamp(20), lsn: Lsn(20), ..Mark::default() };
        let notes = [Entry::Mark(mark.clone()), Entry::Promise { reign: Reign(4) }, Entry::Trim { below: Lsn(5) }];
        append(&log, &notes.map(|note| (partition(1), note)));
        let report = reports.wait(|seen| {
            seen.durable.get(&partition(1)).filter(|report| (report.notes, report.others) == (2, 1)).copied()
        });
        assert_eq!(report.end, Lsn(20));
        reports.wait_end(0, 50);
        assert_eq!(read_all(&log, 0, 1), (1..=50).map(|lsn| record(0, lsn, 300)).collect::<Vec<_>>());
        assert!(matches!(log.read(partition(1), Lsn(4), 1), Err(ReadError::Trimmed { first: Lsn(5), .. })));
        assert_eq!(log.read(partition(1), Lsn(5), 1).unwrap(), [record(1, 5, 5_000)]);
        assert_eq!(log.read(partition(1), Lsn(21), 1).unwrap(), []);
        assert!(matches!(log.read(partition(2), Lsn(1), 1), Err(ReadError::Unknown(_))));
        let before = log.summary(partition(1)).unwrap();
        log.close().unwrap();
        let (log, recovered, _) = open(dir.path(), options);
        assert_eq!(recovered.verdict, Verdict::Clean);
        assert_eq!(recovered.partitions[&partition(1)], before);
        assert_eq!(
            (before.first, before.end, before.mark, before.promise),
            (Lsn(5), Lsn(20), Some(mark), Some(Reign(4)))
        );
        assert_eq!(read_all(&log, 1, 5), (5..=20).map(|lsn| record(1, lsn, 5_000)).collect::<Vec<_>>());
        fill(&log, 0, 51, 60, 10);
        assert_eq!(read_all(&log, 0, 45).len(), 16);
    }
}

#[test]
fn records_are_read_before_they_are_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, _) = open(dir.path(), small());
    for lsn in 1..=200 {
        append_records(&log, 0, [record(0, lsn, 40)]);
        let last = log.read(partition(0), Lsn(lsn), 1_000).unwrap();
        assert_eq!(last, [record(0, lsn, 40)]);
        assert_eq!(
            log.read(partition(0), Lsn(lsn.max(4) - 3), 1_000_000).unwrap().len() as u64,
            lsn - (lsn.max(4) - 4)
        );
    }
}

#[test]
fn entries_that_may_wait_are_written_at_once_and_synced_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, reports) = open(dir.path(), small());
    log.append(&[(partition(0), Entry::Record(record(0, 1, 0)))], Flush::Soon).unwrap();
    reports.wait(|seen| seen.written.get(&partition(0)).copied());
    reports.wait_end(0, 1);
    log.append(&[(partition(0), Entry::Record(record(0, 2, 0)))], Flush::Soon).unwrap();
    log.sync();
    reports.wait_end(0, 2);
    log.append(&[(partition(0), Entry::Record(record(0, 3, 0)))], Flush::Soon).unwrap();
    log.wait_durable().unwrap();
    assert_eq!(log.status().counts.durable, 3);
}

#[test]
fn a_cut_and_a_new_history_replace_what_was_above() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, reports) = open(dir.path(), small());
    fill(&log, 0, 1, 100, 2_000);
    let intent = Entry::Intent(Intent { to: Lsn(60), lineage: Lineage::new() });
    append(
        &log,
        &[(partition(0), intent), (partition(0), Entry::Cut { to: Lsn(60) }), (partition(0), Entry::IntentCleared)],
    );
    assert_eq!(read_all(&log, 0, 50).len(), 11);
    append_records(&log, 0, [start(2, 61), commit(0, 2, 62, 2_000), commit(0, 2, 63, 2_000)]);
    reports.wait_end(0, 63);
    let check = |log: &NodeLog| {
        let records = read_all(log, 0, 59);
        let expected = [
            record(0, 59, 2_000),
            record(0, 60, 2_000),
            start(2, 61),
            commit(0, 2, 62, 2_000),
            commit(0, 2, 63, 2_000),
        ];
        assert_eq!(records, expected);
    };
    check(&log);
    log.close().unwrap();
    let (log, recovered, _) = open(dir.path(), small());
    let summary = &recovered.partitions[&partition(0)];
    assert_eq!((summary.end, summary.lineage.entries().len(), &summary.intent), (Lsn(63), 2, &None));
    check(&log);
}

#[test]
fn trimmed_segments_are_used_again_and_cold_records_move_on() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, _) = open(dir.path(), small());
    fill(&log, 7, 1, 5, 3_000);
    let mut below = 1;
    for round in 1..=40u64 {
        fill(&log, 0, (round - 1) * 10 + 1, round * 10, 4_000);
        below = below.max((round * 10).saturating_sub(15));
        log.trim(partition(0), Lsn(below)).unwrap();
        log.tidy();
    }
    let status = log.status();
    assert!(status.counts.freed > 5, "{status:?}");
    assert!(status.counts.moved >= 5, "{status:?}");
    assert!(status.segments <= 4, "{status:?}");
    let check = |log: &NodeLog| {
        assert_eq!(read_all(log, 7, 1), (1..=5).map(|lsn| record(7, lsn, 3_000)).collect::<Vec<_>>());
        assert_eq!(read_all(log, 0, below), (below..=400).map(|lsn| record(0, lsn, 4_000)).collect::<Vec<_>>());
    };
    check(&log);
    log.close().unwrap();
    for verify in [false, true] {
        let (log, recovered, _) = open(dir.path(), LogOptions { verify, ..small() });
        assert_eq!((recovered.verdict, recovered.findings.len()), (Verdict::Clean, 0), "{:?}", recovered.findings);
        check(&log);
    }
}

#[test]
fn what_a_partition_takes_of_the_log_falls_when_it_is_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, reports) = open(dir.path(), small());
    fill(&log, 0, 1, 50, 3_000);
    fill(&log, 1, 1, 10, 3_000);
    reports.wait_end(1, 10);
    let bytes = log.bytes_by_partition();
    let (large, little) = (bytes[&partition(0)], bytes[&partition(1)]);
    assert!((150_000..250_000).contains(&large) && (30_000..60_000).contains(&little), "{large}, {little}");
    append(&log, &[(partition(0), Entry::Trim { below: Lsn(41) })]);
    let trimmed = log.bytes_by_partition()[&partition(0)];
    assert!((30_000..60_000).contains(&trimmed), "{trimmed}");
}

#[test]
fn a_dropped_partition_is_gone_and_may_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, reports) = open(dir.path(), small());
    fill(&log, 0, 1, 30, 100);
    append(&log, &[(partition(0), Entry::Promise { reign: Reign(9) }), (partition(0), Entry::Drop)]);
    log.wait_durable().unwrap();
    assert!(log.summary(partition(0)).is_none());
    assert_eq!(log.status().directory_bytes, 0);
    append_records(&log, 0, [start(3, 1), commit(0, 3, 2, 10)]);
    reports.wait_end(0, 2);
    drop(log);
    let (log, recovered, _) = open(dir.path(), small());
    assert_eq!(recovered.partitions[&partition(0)].promise, None);
    assert_eq!(read_all(&log, 0, 1), [start(3, 1), commit(0, 3, 2, 10)]);
}

#[test]
fn an_installation_starts_the_log_anew_behind_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, _) = open(dir.path(), small());
    fill(&log, 0, 1, 30, 100);
    let lineage = log.summary(partition(0)).unwrap().lineage;
    append(&log, &[(partition(0), Entry::Installed { trimmed: Lsn(1_000), lineage })]);
    fill(&log, 0, 1_001, 1_010, 100);
    log.close().unwrap();
    let (log, recovered, _) = open(dir.path(), small());
    let summary = &recovered.partitions[&partition(0)];
    assert_eq!((summary.first, summary.end, summary.damaged), (Lsn(1_001), Lsn(1_010), false));
    assert!(matches!(log.read(partition(0), Lsn(30), 1), Err(ReadError::Trimmed { first: Lsn(1_001), .. })));
    assert_eq!(read_all(&log, 0, 1_001).len(), 10);
}

#[test]
fn bytes_in_flight_are_bounded_and_room_is_announced() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, _) = open(dir.path(), LogOptions { in_flight_bytes_max: 20_000, ..small() });
    log.tidy();
    let (mut lsn, mut busy) = (1, 0);
    while busy < 3 {
        match log.append(&[(partition(0), Entry::Record(record(0, lsn, 6_000)))], Flush::Now) {
            Ok(()) => lsn += 1,
            Err(AppendError::Busy { in_flight, limit }) => {
                assert!(in_flight <= limit, "{in_flight} of {limit}");
                busy += 1;
                let mut room = Box::pin(log.room());
                while room.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                    std::thread::yield_now();
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(log.status().in_flight_bytes <= 20_000);
    }
    log.wait_durable().unwrap();
    assert_eq!(read_all(&log, 0, 1).len() as u64, lsn - 1);
}

#[test]
fn a_full_log_refuses_data_takes_trims_and_goes_on_when_it_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { bytes_max: Some(4 * LogOptions::SEGMENT_BYTES_MIN), ..small() };
    let (log, _, _) = open(dir.path(), options.clone());
    let mut lsn = 0;
    for _ in 0..3 {
        let error = loop {
            match log.append(&[(partition(0), Entry::Record(record(0, lsn + 1, 4_000)))], Flush::Now) {
                Ok(()) => lsn += 1,
                Err(AppendError::Busy { .. }) => log.wait_room(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, AppendError::Full { .. }), "{error}");
        assert!(log.status().bytes <= options.bytes_max.unwrap());
        let mark = Entry::Mark(Mark::default());
        assert!(matches!(log.append(&[(partition(0), mark)], Flush::Now), Err(AppendError::Full { .. })));
        let promise = Entry::Promise { reign: Reign(lsn) };
        append(&log, &[(partition(0), promise)]);
        log.wait_durable().unwrap();
        assert_eq!(read_all(&log, 0, log.summary(partition(0)).unwrap().first.0).last(), Some(&record(0, lsn, 4_000)));
        log.trim(partition(0), Lsn(lsn - 3)).unwrap();
        log.tidy();
        log.tidy();
        assert_eq!(log.status().full, None);
    }
    drop(log);
    let (log, recovered, _) = open(dir.path(), options);
    assert_eq!(recovered.partitions[&partition(0)].end, Lsn(lsn));
    assert_eq!(read_all(&log, 0, lsn - 3).len(), 4);
}

#[test]
fn a_disk_that_takes_no_further_segment_is_a_full_log_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, _) = open(dir.path(), small());
    log.tidy();
    // Where the next segment would be made there is something else.
    let next = std::fs::read_dir(dir.path())
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "seg"));
    let obstacle = dir.path().join(format!("{:08}.new", next.count() + 1));
    std::fs::create_dir(&obstacle).unwrap();
    let mut lsn = 0;
    let error = loop {
        match log.append(&[(partition(0), Entry::Record(record(0, lsn + 1, 4_000)))], Flush::Now) {
            Ok(()) => lsn += 1,
            Err(AppendError::Busy { .. }) => log.wait_room(),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("cannot make segment"), "{error}");
    log.wait_durable().unwrap();
    assert_eq!(read_all(&log, 0, 1).len() as u64, lsn);
    std::fs::remove_dir(&obstacle).unwrap();
    log.tidy();
    fill(&log, 0, lsn + 1, lsn + 60, 4_000);
    assert_eq!(read_all(&log, 0, 1).len() as u64, lsn + 60);
}

#[test]
fn a_log_has_one_writer_and_options_that_cannot_work_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, _) = open(dir.path(), small());
    assert!(matches!(NodeLog::open(dir.path(), small(), |_| ()), Err(LogError::InUse { .. })));
    drop(log);
    for options in [
        LogOptions { segment_bytes: 100_000, ..small() },
        LogOptions { spares: 1, ..small() },
        LogOptions { bytes_max: Some(1), ..small() },
    ] {
        assert!(matches!(NodeLog::open(dir.path(), options, |_| ()), Err(LogError::Options(_))));
    }
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_the_largest_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, _) = open(dir.path(), small());
    let limit = small().entry_bytes_max();
    append_records(&log, 0, [record(0, 1, 0)]);
    let too_large = Entry::Record(record(0, 2, limit));
    assert!(matches!(log.append(&[(partition(0), too_large)], Flush::Now), Err(AppendError::TooLarge { .. })));
    for lsn in 2..8 {
        append_records(&log, 0, [record(0, lsn, limit - 100)]);
    }
    assert_eq!(read_all(&log, 0, 2).len(), 6);
}

#[test]
fn segments_of_another_size_are_read_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, _) = open(dir.path(), small());
    fill(&log, 0, 1, 60, 4_000);
    drop(log);
    let larger = LogOptions { segment_bytes: 2 * LogOptions::SEGMENT_BYTES_MIN, ..small() };
    let (log, _, _) = open(dir.path(), larger);
    fill(&log, 0, 61, 140, 4_000);
    assert_eq!(read_all(&log, 0, 1).len(), 140);
    log.trim(partition(0), Lsn(139)).unwrap();
    log.tidy();
    assert_eq!(read_all(&log, 0, 139).len(), 2);
}
