//! Reading records back: from the segments where they are, from memory where no segment shows them yet.

use std::sync::Arc;

use bytes::Bytes;
use types::segment::batch::BATCH_HEADER;
use types::segment::{BLOCK, BatchFlags, BatchHeader, Entries, EntryHeader, Fault, Identity, Run};
use types::{Body, Epoch, Lsn, PartitionId, Record};

use super::segment_file::SegmentFile;
use super::segments::{At, Place, find};
use super::shared::Shared;
use super::{LogError, Planted, ReadError};

/// Bytes read at once.
const CHUNK: u64 = 128 << 10;

/// What to do for the next record.
enum Step {
    Done,
    Memory(Vec<(EntryHeader, Bytes)>),
    /// Records of this epoch up to here are alive.
    Disk(Epoch, Lsn, Place),
}

/// Records of a partition in order, from `from` on: at least one if there is one, and no more once they take
/// `bytes_max`.
pub(crate) fn read(
    shared: &Shared,
    partition: PartitionId,
    from: Lsn,
    bytes_max: usize,
) -> Result<Vec<Record>, ReadError> {
    let mut reader = Reader { shared, partition, out: vec![], next: from, left: bytes_max as i64 };
    while reader.left > 0 {
        match reader.step()? {
            Step::Done => break,
            Step::Memory(found) => {
                for (header, payload) in found {
                    reader.take(&header, payload)?;
                }
            }
            Step::Disk(epoch, to, place) => reader.disk(epoch, to, &place)?,
        }
    }
    Ok(reader.out)
}

struct Reader<'a> {
    shared: &'a Shared,
    partition: PartitionId,
    out: Vec<Record>,
    next: Lsn,
    left: i64,
}

impl Reader<'_> {
    fn step(&self) -> Result<Step, ReadError> {
        let (partition, next) = (self.partition, self.next);
        let inner = self.shared.inner.lock();
        let known = inner.partitions.get(&partition).ok_or(ReadError::Unknown(partition))?;
        if known.summary.damaged {
            return Err(ReadError::Damaged(partition));
        }
        if next > known.summary.end {
            return Ok(Step::Done);
        }
        if next < known.summary.first {
            // What was trimmed while it was read ends the reading.
            let first = known.summary.first;
            return if self.out.is_empty() { Err(ReadError::Trimmed { partition, first }) } else { Ok(Step::Done) };
        }
        let epoch = known.summary.lineage.epoch_at(next);
        let epoch = epoch.unwrap_or_else(|| panic!("record {next} of {partition} in no epoch of its lineage"));
        if self.shared.options.planted == Some(Planted::PlaceDecides)
            && let Some(epoch) = inner.segments.last_epoch(partition, next)
        {
            let place = inner.segments.place(partition, epoch, next).expect("it is in a segment");
            return Ok(Step::Disk(epoch, next, place));
        }
        if let Some(place) = inner.segments.place(partition, epoch, next) {
            let live = known.summary.live_part(epoch, next, known.summary.end);
            let (_, to) = live.unwrap_or_else(|| panic!("record {next} of {partition} is live and is not"));
            return Ok(Step::Disk(epoch, to, place));
        }
        let (mut wanted, mut bytes, mut found) = (next, 0, vec![]);
        for (header, payload) in &known.unwritten {
            let live = known.summary.is_live(header.epoch, header.lsn);
            if live && header.lsn == wanted && bytes < self.left {
                (wanted, bytes) = (wanted.next(), bytes + payload.len() as i64);
                found.push((*header, payload.clone()));
            }
        }
        drop(inner);
        match found.is_empty() {
            true => Err(self.damaged()),
            false => Ok(Step::Memory(found)),
        }
    }

    /// Takes what a segment has from `next` on in one run.
    fn disk(&mut self, epoch: Epoch, to: Lsn, place: &Place) -> Result<(), ReadError> {
        let Some(run) = self.run(epoch, place)? else { return Err(self.damaged()) };
        let mut batches = Batches::new(&place.file, place.identity, run.offset);
        let to = to.min(run.to());
        while self.left > 0 && self.next <= to {
            let Some((_, entries)) = batches.next()? else { return Err(self.damaged()) };
            for entry in entries {
                let wanted = |header: &EntryHeader| {
                    (header.partition, header.epoch, header.lsn) == (self.partition, epoch, self.next)
                };
                if self.left <= 0 || self.next > to {
                    break;
                }
                match entry {
                    Ok((header, payload)) if wanted(&header) => self.take(&header, payload)?,
                    Ok(_) => {}
                    Err(Fault::Payload(header)) if !wanted(&header) => {}
                    Err(_) => return Err(self.damaged()),
                }
            }
        }
        Ok(())
    }

    fn run(&self, epoch: Epoch, place: &Place) -> Result<Option<Run>, ReadError> {
        let (first_sequence, trailer, index) = match &place.at {
            At::Run(run) => return Ok(Some(*run)),
            At::Sealed { first_sequence, trailer, index } => (*first_sequence, trailer, index),
        };
        if let Some(index) = index {
            return Ok(find(index, self.partition, epoch, self.next));
        }
        let bytes = place.file.read(trailer.offset, place.file.size - trailer.offset)?;
        let Some(index) = trailer.index(&bytes) else { return Ok(None) };
        let index = Arc::new(index);
        self.shared.inner.lock().segments.keep(first_sequence, index.clone());
        Ok(find(&index, self.partition, epoch, self.next))
    }

    fn take(&mut self, header: &EntryHeader, payload: Bytes) -> Result<(), ReadError> {
        let length = payload.len();
        // The chunk that was read must not be kept alive by a small record in it.
        let payload = if length * 4 < CHUNK as usize { Bytes::copy_from_slice(&payload) } else { payload };
        match Body::decode(header.kind, payload) {
            Ok(body) => self.out.push(Record { epoch: header.epoch, lsn: header.lsn, body }),
            Err(error) => {
                tracing::error!(partition = %self.partition, lsn = %header.lsn, %error, "record cannot be decoded");
                return Err(self.damaged());
            }
        }
        self.next = header.lsn.next();
        self.left -= length as i64 + 64;
        Ok(())
    }

    fn damaged(&self) -> ReadError {
        tracing::error!(partition = %self.partition, lsn = %self.next, "a record of the node log cannot be read");
        self.shared.poison(self.partition);
        ReadError::Damaged(self.partition)
    }
}

/// The batches of a segment in order, read in chunks.
pub(crate) struct Batches<'a> {
    file: &'a SegmentFile,
    identity: Identity,
    offset: u64,
    chunk: Bytes,
    chunk_offset: u64,
}

impl<'a> Batches<'a> {
    pub fn new(file: &'a SegmentFile, identity: Identity, offset: u64) -> Batches<'a> {
        Batches { file, identity, offset, chunk: Bytes::new(), chunk_offset: offset }
    }

    /// The next batch that holds entries; `None` where no batch can be read.
    pub fn next(&mut self) -> Result<Option<(BatchHeader, Entries)>, LogError> {
        if self.offset >= self.file.size {
            return Ok(None);
        }
        let head = self.bytes(BATCH_HEADER as u64)?;
        let Some(header) = BatchHeader::decode(&head, &self.identity) else { return Ok(None) };
        if header.flags == BatchFlags::Index {
            return Ok(None);
        }
        let batch = self.bytes(u64::from(header.length))?;
        if (batch.len() as u64) < u64::from(header.length) {
            return Ok(None);
        }
        self.offset += header.span();
        Ok(Some((header, Entries::new(batch, &header, &self.identity))))
    }

    fn bytes(&mut self, length: u64) -> Result<Bytes, LogError> {
        let skip = self.offset - self.chunk_offset;
        if skip + length > self.chunk.len() as u64 {
            self.chunk = self.file.read(self.offset, length.next_multiple_of(BLOCK).max(CHUNK))?;
            self.chunk_offset = self.offset;
        }
        let skip = (self.offset - self.chunk_offset) as usize;
        Ok(self.chunk.slice(skip.min(self.chunk.len())..(skip + length as usize).min(self.chunk.len())))
    }
}
