//! A replica's log as the protocol sees it: lineage, ends, and the last records in memory for followers that are
//! close.

use std::collections::VecDeque;

use types::{Body, Epoch, Lineage, Lsn, Record, Timestamp};

use crate::Effect;

/// Lineage, ends and tail. Invariant: the tail is contiguous and ends at `end`, or is empty.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub lineage: Lineage,
    pub end: Lsn,
    pub trimmed: Lsn,
    /// The highest timestamp of any record, as far as this process has seen them or was told.
    pub received: Timestamp,
    tail: VecDeque<Record>,
    tail_bytes: usize,
    tail_bytes_max: usize,
}

impl Log {
    pub fn new(lineage: Lineage, end: Lsn, trimmed: Lsn, tail_bytes_max: usize) -> Log {
        assert!(trimmed <= end, "log trimmed to {trimmed} ends at {end}");
        let received = lineage.last().map_or(Timestamp::ZERO, |entry| entry.start_ts);
        Log { lineage, end, trimmed, received, tail: VecDeque::new(), tail_bytes: 0, tail_bytes_max }
    }

    /// Appends a record that this process mints.
    pub fn mint(&mut self, epoch: Epoch, body: Body, effects: &mut Vec<Effect>) -> Lsn {
        let record = Record { epoch, lsn: self.end.next(), body };
        self.append(record, effects);
        self.end
    }

    /// Appends a record, own or received.
    pub fn append(&mut self, record: Record, effects: &mut Vec<Effect>) {
        assert_eq!(record.lsn, self.end.next(), "record {} after log end {}", record.lsn, self.end);
        self.end = record.lsn;
        self.received = self.received.max(record.body.timestamp().unwrap_or_default());
        match record.lineage_entry() {
            Some(entry) => self.lineage.push(entry),
            None => {
                let last = self.lineage.last().map(|entry| entry.epoch);
                assert_eq!(Some(record.epoch), last, "record {} of another epoch than the log's last", record.lsn);
            }
        }
        self.tail_bytes += record.size();
        self.tail.push_back(record.clone());
        while self.tail_bytes > self.tail_bytes_max && self.tail.len() > 1 {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |record| record.size());
        }
        match effects.last_mut() {
            Some(Effect::Append(records)) => records.push(record),
            _ => effects.push(Effect::Append(vec![record])),
        }
    }

    /// Everything above `to` was dropped.
    pub fn cut(&mut self, to: Lsn) {
        assert!(to >= self.trimmed, "log cut to {to} is trimmed to {}", self.trimmed);
        self.end = self.end.min(to);
        self.lineage.cut(to);
        while self.tail.back().is_some_and(|record| record.lsn > to) {
            self.tail_bytes -= self.tail.pop_back().map_or(0, |record| record.size());
        }
    }

    /// The records from `from` to `to`, about `bytes_max` of them, if all of these are in memory.
    pub fn recent(&self, from: Lsn, to: Lsn, bytes_max: usize) -> Option<Vec<Record>> {
        let first = self.tail.front()?.lsn;
        let skip = from.0.checked_sub(first.0)? as usize;
        let mut bytes = 0;
        let records = self.tail.iter().skip(skip).take_while(|record| {
            let fits = record.lsn <= to && (bytes == 0 || bytes + record.size() <= bytes_max);
            bytes += record.size();
            fits
        });
        Some(records.cloned().collect())
    }

    /// The epoch of the record at `lsn`, `None` at the start of the log.
    pub fn epoch_at(&self, lsn: Lsn) -> Option<Epoch> {
        if lsn == Lsn::ZERO { None } else { self.lineage.epoch_at(lsn) }
    }

    /// Whether records that were sent after `prev` may be taken: the log contains `prev` and those that it reaches, and the
    /// rest follow without a gap, each under the epoch that its last `EpochStart` began.
    pub fn fits(&self, prev: Lsn, prev_epoch: Option<Epoch>, records: &[Record]) -> bool {
        let mut before = (prev, prev_epoch);
        self.contains(prev, prev_epoch)
            && records.iter().all(|record| {
                let (lsn, epoch) = std::mem::replace(&mut before, (record.lsn, Some(record.epoch)));
                let starts = record.lineage_entry().is_some();
                let follows = if starts {
                    epoch.is_none_or(|epoch| epoch.number < record.epoch.number)
                } else {
                    epoch == Some(record.epoch)
                };
                record.lsn == lsn.next()
                    && follows
                    && (record.lsn > self.end || self.contains(record.lsn, Some(record.epoch)))
            })
    }

    /// Whether the log contains the record `lsn` under `epoch`.
    pub fn contains(&self, lsn: Lsn, epoch: Option<Epoch>) -> bool {
        lsn <= self.end && self.epoch_at(lsn) == epoch
    }

    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }
}
