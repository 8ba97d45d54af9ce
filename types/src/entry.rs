//! What a node log holds: for each partition a sequence of entries, of which most are records.
//!
//! `Summary` is what a partition's entries amount to; it is a function of them in their order and of nothing else.
//! Payloads (integers little-endian), version 1 of `docs/formats.md`. Kinds below 32 are the record kinds:
//!
//! | kind | payload |
//! |---|---|
//! | 32 Cut | to u64 |
//! | 33 Trim | below u64 |
//! | 34 Mark | mark |
//! | 35 Promise | reign u64 |
//! | 36 Intent | to u64, lineage |
//! | 37 IntentCleared | empty |
//! | 38 Installed | trimmed u64, lineage |
//! | 39 Drop | empty |
//! | 40 Damaged | empty |
//! | 41 Summary | first u64, end u64, flags u8, promise u64 (flag 1), mark (flag 2), intent: to u64, lineage (flag 4), lineage; flag 8: damaged |
//!
//! `lineage` = count u32, then per entry: number, cluster, nonce, start_lsn, start_ts u64 each, kind u8 (0 failover,
//! 1 promotion), promotion: id u128, cut u64. `mark` = ts u64, lsn u64, count u32, then per promotion: id u128, cut u64.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::record::Reader;
use crate::{
    Body, ClusterId, DecodeError, Epoch, Lineage, LineageEntry, Lsn, Mark, Promotion, PromotionId, Record, Reign,
    StartKind, Timestamp,
};

/// One thing a node log holds for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record of the partition's log.
    Record(Record),
    /// Every record above `to` is gone: it belongs to another history.
    Cut {
        /// The last record that stays.
        to: Lsn,
    },
    /// Records below `below` are not needed any more; `below` itself is.
    Trim {
        /// The first record that stays.
        below: Lsn,
    },
    /// A sink's resolved-timestamp mark; the last one counts.
    Mark(Mark),
    /// The highest reign that was answered: durable before the answer leaves.
    Promise {
        /// Which reign.
        reign: Reign,
    },
    /// A rewind has begun.
    Intent(Intent),
    /// The rewind is complete.
    IntentCleared,
    /// The replica starts from a snapshot: records at or below `trimmed` are in the state, none is in the log. Heals
    /// damage. The mark stays if the snapshot has the records that it counts on: a replica that ends before it takes note of its
    /// snapshot knows after its restart what was read of it.
    Installed {
        /// The snapshot's position.
        trimmed: Lsn,
        /// The lineage it came with.
        lineage: Lineage,
    },
    /// The partition was removed from this node, promise and all.
    Drop,
    /// The log itself: something of this partition could not be read. It stays so until `Installed` or `Drop`.
    Damaged,
    /// The log itself: everything that was known of the partition when a segment began.
    Summary(Summary),
}

/// A rewind that has begun and is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Every record above this is to be undone.
    pub to: Lsn,
    /// The other side's lineage.
    pub lineage: Lineage,
}

/// What a partition's entries amount to.
///
/// Invariant: `first <= end + 1`, and the lineage has no epoch that starts above `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The epochs of the log, whole although the log is trimmed.
    pub lineage: Lineage,
    /// The first record that is kept: 1 for a log that was never trimmed.
    pub first: Lsn,
    /// The last record; `first.prev()` if there is none.
    pub end: Lsn,
    /// The last mark.
    pub mark: Option<Mark>,
    /// The highest reign answered.
    pub promise: Option<Reign>,
    /// The rewind in progress.
    pub intent: Option<Intent>,
    /// Something could not be read: repair from another replica.
    pub damaged: bool,
}

/// An entry that does not continue its partition's log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// Records are dense.
    #[error("record {lsn} does not follow {end}")]
    Gap {
        /// The record.
        lsn: Lsn,
        /// The last one.
        end: Lsn,
    },
    /// Only an `EpochStart` changes the epoch, and numbers rise.
    #[error("record {lsn} of epoch {epoch} in epoch {current:?}")]
    Epoch {
        /// The record.
        lsn: Lsn,
        /// Its epoch.
        epoch: Epoch,
        /// The epoch that is written.
        current: Option<Epoch>,
    },
    /// A cut or trim outside the log.
    #[error("{what} at {at} in a log of {first} to {end}")]
    Outside {
        /// Cut or trim.
        what: &'static str,
        /// Where.
        at: Lsn,
        /// First record kept.
        first: Lsn,
        /// Last record.
        end: Lsn,
    },
}

impl Default for Summary {
    fn default() -> Summary {
        Summary {
            lineage: Lineage::new(),
            first: Lsn(1),
            end: Lsn::ZERO,
            mark: None,
            promise: None,
            intent: None,
            damaged: false,
        }
    }
}

impl Summary {
    /// Takes a record in: `start` is what an `EpochStart` adds to the lineage.
    pub fn record(&mut self, epoch: Epoch, lsn: Lsn, start: Option<LineageEntry>) -> Result<(), EntryError> {
        if lsn != self.end.next() {
            return Err(EntryError::Gap { lsn, end: self.end });
        }
        let current = self.lineage.last().copied();
        match start {
            Some(entry) => {
                let rises = current
                    .is_none_or(|last| entry.epoch.number > last.epoch.number && entry.start_lsn > last.start_lsn);
                if !rises {
                    return Err(EntryError::Epoch { lsn, epoch, current: current.map(|last| last.epoch) });
                }
                self.lineage.push(entry);
            }
            None if self.lineage.epoch_at(lsn) != Some(epoch) => {
                return Err(EntryError::Epoch { lsn, epoch, current: current.map(|last| last.epoch) });
            }
            None => {}
        }
        self.end = lsn;
        Ok(())
    }

    /// Takes any entry in. `Drop` leaves the summary of nothing: whoever holds it removes it.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), EntryError> {
        let outside = |what, at| EntryError::Outside { what, at, first: self.first, end: self.end };
        match entry {
            Entry::Record(record) => return self.record(record.epoch, record.lsn, record.lineage_entry()),
            Entry::Cut { to } if *to > self.end || to.next() < self.first => return Err(outside("cut", *to)),
            Entry::Cut { to } => {
                self.end = *to;
                self.lineage.cut(*to);
            }
            Entry::Trim { below } if *below > self.end.next() => return Err(outside("trim", *below)),
            Entry::Trim { below } => self.first = self.first.max(*below),
            Entry::Mark(mark) => self.mark = Some(mark.clone()),
            Entry::Promise { reign } => self.promise = self.promise.max(Some(*reign)),
            Entry::Intent(intent) => self.intent = Some(intent.clone()),
            Entry::IntentCleared => self.intent = None,
            Entry::Installed { trimmed, lineage } => {
                let (promise, intent, mark) = (self.promise, self.intent.take(), self.mark.take());
                let (first, mut lineage) = (trimmed.next(), lineage.clone());
                lineage.cut(*trimmed);
                let common = self.lineage.common_point(self.end, &lineage, *trimmed);
                let mark = mark.filter(|mark| mark.lsn <= common && !self.damaged);
                *self = Summary { lineage, first, end: *trimmed, promise, intent, mark, damaged: false };
            }
            Entry::Drop => *self = Summary::default(),
            Entry::Damaged => self.damaged = true,
            Entry::Summary(summary) => *self = summary.clone(),
        }
        Ok(())
    }

    /// Whether a record that was found under this name is part of the log. Where it was found decides nothing.
    pub fn is_live(&self, epoch: Epoch, lsn: Lsn) -> bool {
        self.first <= lsn && lsn <= self.end && self.lineage.epoch_at(lsn) == Some(epoch)
    }

    /// The part of the records `from..=to` of one epoch that is live.
    pub fn live_part(&self, epoch: Epoch, from: Lsn, to: Lsn) -> Option<(Lsn, Lsn)> {
        let entries = self.lineage.entries();
        let at = entries.iter().position(|entry| entry.epoch == epoch)?;
        let last = entries.get(at + 1).map_or(Lsn(u64::MAX), |next| next.start_lsn.prev());
        let from = from.max(self.first).max(entries[at].start_lsn);
        let to = to.min(self.end).min(last);
        (from <= to).then_some((from, to))
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.first.0);
        out.put_u64_le(self.end.0);
        let flags = [self.promise.is_some(), self.mark.is_some(), self.intent.is_some(), self.damaged];
        out.put_u8(flags.iter().enumerate().map(|(bit, set)| u8::from(*set) << bit).sum());
        if let Some(reign) = self.promise {
            out.put_u64_le(reign.0);
        }
        if let Some(mark) = &self.mark {
            encode_mark(mark, out);
        }
        if let Some(intent) = &self.intent {
            out.put_u64_le(intent.to.0);
            encode_lineage(&intent.lineage, out);
        }
        encode_lineage(&self.lineage, out);
    }

    fn decode(input: &mut Reader) -> Result<Summary, DecodeError> {
        let (first, end, flags) = (Lsn(input.u64()?), Lsn(input.u64()?), input.u8()?);
        if flags > 15 {
            return Err(DecodeError::Tag { what: "summary flags", tag: flags });
        }
        let promise = if flags & 1 > 0 { Some(Reign(input.u64()?)) } else { None };
        let mark = if flags & 2 > 0 { Some(decode_mark(input)?) } else { None };
        let intent = if flags & 4 > 0 { Some(decode_intent(input)?) } else { None };
        Ok(Summary { lineage: decode_lineage(input)?, first, end, mark, promise, intent, damaged: flags & 8 > 0 })
    }
}

impl Entry {
    /// The kind's byte in an entry header.
    pub fn kind(&self) -> u8 {
        match self {
            Entry::Record(record) => record.body.kind(),
            Entry::Cut { .. } => 32,
            Entry::Trim { .. } => 33,
            Entry::Mark(_) => 34,
            Entry::Promise { .. } => 35,
            Entry::Intent(_) => 36,
            Entry::IntentCleared => 37,
            Entry::Installed { .. } => 38,
            Entry::Drop => 39,
            Entry::Damaged => 40,
            Entry::Summary(_) => 41,
        }
    }

    /// Whether the kind is a record's.
    pub fn is_record_kind(kind: u8) -> bool {
        kind < 32
    }

    /// Appends the payload's bytes; a record's epoch and LSN are in the entry header.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Entry::Record(record) => record.body.encode(out),
            Entry::Cut { to: Lsn(at) } | Entry::Trim { below: Lsn(at) } | Entry::Promise { reign: Reign(at) } => {
                out.put_u64_le(*at);
            }
            Entry::Mark(mark) => encode_mark(mark, out),
            Entry::Intent(Intent { to: Lsn(at), lineage }) | Entry::Installed { trimmed: Lsn(at), lineage } => {
                out.put_u64_le(*at);
                encode_lineage(lineage, out);
            }
            Entry::IntentCleared | Entry::Drop | Entry::Damaged => {}
            Entry::Summary(summary) => summary.encode(out),
        }
    }

    /// Reads a payload back; `epoch` and `lsn` are the entry header's and matter for records only.
    pub fn decode(kind: u8, epoch: Epoch, lsn: Lsn, payload: Bytes) -> Result<Entry, DecodeError> {
        if Entry::is_record_kind(kind) {
            return Ok(Entry::Record(Record { epoch, lsn, body: Body::decode(kind, payload)? }));
        }
        let mut input = Reader::new(payload);
        let entry = match kind {
            32 => Entry::Cut { to: Lsn(input.u64()?) },
            33 => Entry::Trim { below: Lsn(input.u64()?) },
            34 => Entry::Mark(decode_mark(&mut input)?),
            35 => Entry::Promise { reign: Reign(input.u64()?) },
            36 => Entry::Intent(decode_intent(&mut input)?),
            37 => Entry::IntentCleared,
            38 => Entry::Installed { trimmed: Lsn(input.u64()?), lineage: decode_lineage(&mut input)? },
            39 => Entry::Drop,
            40 => Entry::Damaged,
            41 => Entry::Summary(Summary::decode(&mut input)?),
            tag => return Err(DecodeError::Tag { what: "entry kind", tag }),
        };
        match input.remaining() {
            0 => Ok(entry),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

/// Appends a lineage's bytes.
pub fn encode_lineage(lineage: &Lineage, out: &mut BytesMut) {
    out.put_u32_le(lineage.entries().len() as u32);
    for LineageEntry { epoch, start_lsn, start_ts, kind } in lineage.entries() {
        for part in [epoch.number, epoch.cluster.0, epoch.nonce, start_lsn.0, start_ts.0] {
            out.put_u64_le(part);
        }
        match kind {
            StartKind::Failover => out.put_u8(0),
            StartKind::Promotion { id, cut } => {
                out.put_u8(1);
                out.put_u128_le(id.0);
                out.put_u64_le(cut.0);
            }
        }
    }
}

/// Reads a lineage back; one whose entries do not rise is refused.
pub fn decode_lineage(input: &mut Reader) -> Result<Lineage, DecodeError> {
    let mut lineage = Lineage::new();
    for _ in 0..input.u32()? {
        let epoch = Epoch { number: input.u64()?, cluster: ClusterId(input.u64()?), nonce: input.u64()? };
        let (start_lsn, start_ts) = (Lsn(input.u64()?), Timestamp(input.u64()?));
        let kind = match input.u8()? {
            0 => StartKind::Failover,
            1 => StartKind::Promotion { id: PromotionId(input.u128()?), cut: Timestamp(input.u64()?) },
            tag => return Err(DecodeError::Tag { what: "start kind", tag }),
        };
        let rises = |last: &LineageEntry| epoch.number > last.epoch.number && start_lsn > last.start_lsn;
        if !lineage.last().is_none_or(rises) {
            return Err(DecodeError::Order("lineage"));
        }
        lineage.push(LineageEntry { epoch, start_lsn, start_ts, kind });
    }
    Ok(lineage)
}

fn encode_mark(mark: &Mark, out: &mut BytesMut) {
    out.put_u64_le(mark.ts.0);
    out.put_u64_le(mark.lsn.0);
    out.put_u32_le(mark.promotions.len() as u32);
    for promotion in &mark.promotions {
        out.put_u128_le(promotion.id.0);
        out.put_u64_le(promotion.cut.0);
    }
}

fn decode_mark(input: &mut Reader) -> Result<Mark, DecodeError> {
    let (ts, lsn, count) = (Timestamp(input.u64()?), Lsn(input.u64()?), input.u32()?);
    let promotions = (0..count)
        .map(|_| Ok(Promotion { id: PromotionId(input.u128()?), cut: Timestamp(input.u64()?) }))
        .collect::<Result<Vec<_>, DecodeError>>()?;
    Ok(Mark { promotions, ts, lsn })
}

fn decode_intent(input: &mut Reader) -> Result<Intent, DecodeError> {
    Ok(Intent { to: Lsn(input.u64()?), lineage: decode_lineage(input)? })
}
