//! What a copy of another history replaces is set aside, whatever the log has been trimmed of and the state has applied.

use std::path::Path;

use perennial_storage::divergence::{DivergenceId, DivergenceReader, Stage};
use perennial_storage::rewind::{Aside, LogFailure, RecordSource, Replaced, set_aside_replaced};
use proptest::prelude::*;
use types::{
    Body, ClusterId, DatabaseId, Epoch, Lineage, LineageEntry, Lsn, PartitionId, PromotionId, Record, StartKind,
    Timestamp,
};

use crate::history::{HERE, Writer, step};
use crate::rewind::{Row, expected};
use crate::setup::{assert_is, end, env, lineage, open, replay};

/// A log that has been trimmed.
struct Trimmed<'a>(&'a [Record], usize);

impl RecordSource for Trimmed<'_> {
    fn record(&self, lsn: Lsn) -> Result<Record, LogFailure> {
        assert!(lsn.0 as usize > self.1, "{lsn} is asked for, and is gone");
        Ok(self.0[lsn.0 as usize - 1].clone())
    }
}

fn in_file(path: &Path) -> Vec<Row> {
    let bytes = |value: Option<bytes::Bytes>| value.map(|value| value.to_vec());
    let entries = DivergenceReader::open(path).expect("open").map(|entry| entry.expect("entry"));
    entries.map(|entry| (entry.stage, entry.lsn, entry.key.to_vec(), bytes(entry.old), bytes(entry.new))).collect()
}

/// What the copy lacks, as it is known without the records at and below `told`: of these, living commits, and what is
/// prepared to this day.
fn lacking(log: &[Record], common: usize, other: &Lineage, told: usize) -> Vec<Row> {
    let lineage = lineage(log);
    let promotes = |entry: &LineageEntry| matches!(entry.kind, StartKind::Promotion { .. });
    let promoted = other.entries().iter().any(|entry| entry.start_lsn.0 as usize > common && promotes(entry));
    let promoted_above =
        |lsn: Lsn| log[lsn.0 as usize..].iter().filter_map(Record::lineage_entry).any(|entry| promotes(&entry));
    let time = |lsn: Lsn| match &log[lsn.0 as usize - 1].body {
        Body::Commit { ts, .. } | Body::Outcome { decision: Some(ts), .. } => *ts,
        body => panic!("{body:?} commits nothing"),
    };
    let dead = |lineage: &Lineage, lsn: Lsn| lineage.is_dead(time(lsn), lsn);
    let is_lacking = |(stage, lsn, ..): &Row| match stage {
        _ if lsn.0 as usize > common => true,
        Stage::Commit => dead(other, *lsn) && !dead(&lineage, *lsn),
        Stage::Prepared => promoted,
        Stage::Aborted => false,
    };
    let rows = expected(log, 0).into_iter().filter(is_lacking);
    let (below, above): (Vec<Row>, Vec<Row>) = rows.partition(|(_, lsn, ..)| lsn.0 as usize <= told);
    let (mut commits, mut open) = (vec![], vec![]);
    for row in below {
        match row.0 {
            Stage::Commit if !dead(&lineage, row.1) => commits.push(row),
            Stage::Prepared if !promoted_above(row.1) => open.push(row),
            _ => {}
        }
    }
    commits.sort_by(|a, b| (a.1, &a.2).cmp(&(b.1, &b.2)));
    commits.into_iter().chain(open).chain(above).collect()
}

/// The history of a copy that has parted from this log behind `common`: by a failover, or by a promotion at `cut`.
fn parted(log: &[Record], common: usize, cut: Option<Timestamp>) -> Lineage {
    let mut other = lineage(&log[..common]);
    let kind = match cut {
        Some(cut) => StartKind::Promotion { id: PromotionId(7), cut },
        None => StartKind::Failover,
    };
    let epoch = Epoch { number: 1 << 20, cluster: ClusterId(2), nonce: 1 };
    other.push(LineageEntry { epoch, start_lsn: Lsn(common as u64 + 1), start_ts: Timestamp(1 << 40), kind });
    other
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_copy_replaces_is_set_aside(
        steps in prop::collection::vec(step(), 10..40),
        common in any::<prop::sample::Index>(),
        applied in any::<prop::sample::Index>(),
        trimmed in any::<prop::sample::Index>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let log = Writer::write(&steps);
        let promotes = |record: &Record| matches!(record.body, Body::EpochStart { kind: StartKind::Promotion { .. }, .. });
        let promoted = log.iter().rposition(promotes).map_or(0, |at| at + 1);
        let (common, applied) = (common.index(log.len() + 1), applied.index(log.len() + 1).max(promoted));
        let trimmed = trimmed.index(applied + 1);
        let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
        let state = open(&env, &dir.path().join("state"), &log);
        replay(&state, &log[..applied]);
        let partition = PartitionId { database: DatabaseId(3), ordinal: HERE };
        let aside = Aside { dir: &dir.path().join("aside"), database: "shop", partition, id: DivergenceId(9), created: 1 };
        let history = lineage(&log);
        let mut times: Vec<Timestamp> = log.iter().filter_map(|record| record.body.timestamp()).collect();
        times.push(Timestamp(1));
        let other = parted(&log, common, cut.map(|cut| times[cut.index(times.len())]));
        let replaced = Replaced {
            state: &state,
            lineage: &history,
            trimmed: Lsn(trimmed as u64),
            end: end(&log),
            other: &other,
            common: Lsn(common as u64),
        };
        let source = Trimmed(&log, trimmed);
        let done = set_aside_replaced(&replaced, &source, &aside).unwrap();
        let wanted = lacking(&log, common, &other, common.min(applied).max(trimmed));
        prop_assert_eq!(done.summary.records as usize, wanted.len());
        prop_assert_eq!(done.file.as_deref().map(in_file).unwrap_or_default(), wanted);
        // It may be done again, and has changed nothing.
        let again = set_aside_replaced(&replaced, &source, &aside).unwrap();
        prop_assert_eq!(done, again);
        assert_is(&state, &log[..applied]);
    }
}
