//! The segments in use, oldest first, and where in them each record is.
//!
//! For the open segment the sparse index is in memory; for a sealed one only the ranges of records, while its index
//! is read from its end when needed and kept for a few segments. So memory grows with segments times partitions,
//! not with records.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use types::segment::{Identity, Index, Run, Trailer};
use types::{Epoch, Lsn, PartitionId};

use super::segment_file::SegmentFile;

/// Indexes of sealed segments that are kept in memory.
const LOADED_MAX: usize = 8;

/// A dense row of records in a segment, wherever in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub epoch: Epoch,
    pub from: Lsn,
    pub to: Lsn,
}

/// The ranges of each partition.
pub(crate) type Ranges = BTreeMap<PartitionId, Vec<Range>>;

/// A segment in use.
#[derive(Debug)]
pub(crate) struct Segment {
    pub file: Arc<SegmentFile>,
    pub identity: Identity,
    pub first_sequence: u64,
    places: Places,
    /// Nothing more is written to it, although its index cannot be read and is kept in memory.
    closed: bool,
}

#[derive(Debug)]
enum Places {
    Open(Index),
    Sealed { trailer: Trailer, ranges: Ranges, index: Option<Arc<Index>> },
}

/// Where a record is, as far as memory knows.
#[derive(Debug)]
pub(crate) struct Place {
    pub file: Arc<SegmentFile>,
    pub identity: Identity,
    pub at: At,
}

#[derive(Debug)]
pub(crate) enum At {
    /// In this run.
    Run(Run),
    /// In this sealed segment; look it up in its index.
    Sealed { first_sequence: u64, trailer: Trailer, index: Option<Arc<Index>> },
}

impl Segment {
    pub fn open(file: Arc<SegmentFile>, identity: Identity, first_sequence: u64, index: Index) -> Segment {
        Segment { file, identity, first_sequence, places: Places::Open(index), closed: false }
    }

    pub fn sealed(file: Arc<SegmentFile>, identity: Identity, trailer: Trailer, index: &Index) -> Segment {
        let places = Places::Sealed { trailer, ranges: ranges(index), index: None };
        Segment { file, identity, first_sequence: trailer.first_sequence, places, closed: true }
    }

    pub fn is_sealed(&self) -> bool {
        self.closed
    }

    /// Nothing more is written to it, although it has no index on disk.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Notes a record of the open segment.
    pub fn add(&mut self, partition: PartitionId, epoch: Epoch, lsn: Lsn, offset: u64) {
        match &mut self.places {
            Places::Open(index) => index.add(partition, epoch, lsn, offset),
            Places::Sealed { .. } => panic!("record {lsn} of {partition} after segment {} was sealed", self.file.id),
        }
    }

    /// The segment was sealed.
    pub fn seal(&mut self, trailer: Trailer) {
        if let Places::Open(index) = &self.places {
            self.places = Places::Sealed { trailer, ranges: ranges(index), index: None };
            self.closed = true;
        }
    }

    /// Each partition's ranges.
    pub fn ranges(&self) -> Cow<'_, Ranges> {
        match &self.places {
            Places::Open(index) => Cow::Owned(ranges(index)),
            Places::Sealed { ranges, .. } => Cow::Borrowed(ranges),
        }
    }

    /// If the segment has the record: the last one of the dense row it is in.
    fn holds(&self, partition: PartitionId, epoch: Epoch, lsn: Lsn) -> Option<Lsn> {
        match &self.places {
            Places::Open(index) => find(index, partition, epoch, lsn).map(|run| run.to()),
            Places::Sealed { ranges, .. } => {
                let holds = |range: &&Range| range.epoch == epoch && range.from <= lsn && lsn <= range.to;
                ranges.get(&partition)?.iter().find(holds).map(|range| range.to)
            }
        }
    }

    fn place(&self, partition: PartitionId, epoch: Epoch, lsn: Lsn) -> Place {
        let at = match &self.places {
            Places::Open(index) => At::Run(find(index, partition, epoch, lsn).expect("looked up by `holds`")),
            Places::Sealed { trailer, index, .. } => {
                At::Sealed { first_sequence: self.first_sequence, trailer: *trailer, index: index.clone() }
            }
        };
        Place { file: self.file.clone(), identity: self.identity, at }
    }
}

/// The run that holds a record.
pub(crate) fn find(index: &Index, partition: PartitionId, epoch: Epoch, lsn: Lsn) -> Option<Run> {
    index.runs(partition).iter().rev().find(|run| run.holds(epoch, lsn)).copied()
}

fn ranges(index: &Index) -> Ranges {
    index.partitions().map(|(partition, runs)| (partition, merge(runs))).collect()
}

fn merge(runs: &[Run]) -> Vec<Range> {
    let mut ranges: Vec<Range> = vec![];
    for run in runs {
        match ranges.last_mut() {
            Some(last) if last.epoch == run.epoch && last.to.next() == run.from => last.to = run.to(),
            _ => ranges.push(Range { epoch: run.epoch, from: run.from, to: run.to() }),
        }
    }
    ranges
}

/// All segments in use. Invariant: in the order of their first sequences, all but the last sealed or about to be.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    list: VecDeque<Segment>,
    /// First sequences of the sealed segments whose index is in memory, least recently loaded first.
    loaded: VecDeque<u64>,
}

impl Segments {
    pub fn push(&mut self, segment: Segment) {
        let last = self.list.back().map_or(0, |last| last.first_sequence);
        assert!(last < segment.first_sequence, "segment from {} after one from {last}", segment.first_sequence);
        self.list.push_back(segment);
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn get(&self, index: usize) -> Option<&Segment> {
        self.list.get(index)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.list.iter()
    }

    pub fn pop_oldest(&mut self) -> Option<Segment> {
        let oldest = self.list.pop_front()?;
        self.loaded.retain(|first| *first != oldest.first_sequence);
        Some(oldest)
    }

    /// The segment that starts with this sequence.
    pub fn by_first(&mut self, first_sequence: u64) -> Option<&mut Segment> {
        self.list.iter_mut().rev().find(|segment| segment.first_sequence == first_sequence)
    }

    /// Where a record is; the newest copy, for it stays longest.
    pub fn place(&self, partition: PartitionId, epoch: Epoch, lsn: Lsn) -> Option<Place> {
        let segment = self.list.iter().rev().find(|segment| segment.holds(partition, epoch, lsn).is_some())?;
        Some(segment.place(partition, epoch, lsn))
    }

    /// The epoch of the last record written under an LSN, which no rule asks for (`Planted::PlaceDecides`).
    pub fn last_epoch(&self, partition: PartitionId, lsn: Lsn) -> Option<Epoch> {
        let holds = |range: &&Range| range.from <= lsn && lsn <= range.to;
        let last = |segment: &Segment| Some(segment.ranges().get(&partition)?.iter().rev().find(holds)?.epoch);
        self.list.iter().rev().find_map(last)
    }

    /// If any segment has the record: the last one of the dense row it is in there.
    pub fn dense_to(&self, partition: PartitionId, epoch: Epoch, lsn: Lsn) -> Option<Lsn> {
        self.list.iter().find_map(|segment| segment.holds(partition, epoch, lsn))
    }

    /// If a segment other than the oldest has the record: the last one of the dense row it is in there.
    pub fn newer_to(&self, partition: PartitionId, epoch: Epoch, lsn: Lsn) -> Option<Lsn> {
        self.list.iter().skip(1).find_map(|segment| segment.holds(partition, epoch, lsn))
    }

    /// Keeps an index that was read.
    pub fn keep(&mut self, first_sequence: u64, read: Arc<Index>) {
        let Some(segment) = self.by_first(first_sequence) else { return };
        let Places::Sealed { index, .. } = &mut segment.places else { return };
        *index = Some(read);
        self.loaded.retain(|first| *first != first_sequence);
        self.loaded.push_back(first_sequence);
        if self.loaded.len() > LOADED_MAX {
            let oldest = self.loaded.pop_front().expect("more than none");
            if let Some(Segment { places: Places::Sealed { index, .. }, .. }) = self.by_first(oldest) {
                *index = None;
            }
        }
    }
}
