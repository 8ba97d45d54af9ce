//! What may be believed of a log's last segments after a crash: clean, torn tail or damage.
//!
//! Let *S* be the highest sequence that anything readable states as synced: batch headers, trailers, and the mark
//! that is kept in a second place. A batch that is missing or wrong is
//!
//! - *damage* if its sequence is S or lower: it was on disk and is not any more. Where the entry's header can be
//!   read, its partition alone is hit; where it cannot, every partition that may have entries in the range is.
//! - the *torn tail* if it is above S: the crash came before its sync. It and everything after it is cut, valid or
//!   not: a later batch may have reached the disk before an earlier one.
//!
//! Nothing at all after the last good batch is a clean end.

use bytes::Bytes;

use super::batch::BATCH_HEADER;
use super::{BLOCK, BatchFlags, BatchHeader, Entries, EntryHeader, Fault, SegmentHeader, Trailer};

/// A segment as it was found.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its header, or what was found in its place.
    pub header: SegmentHeader,
    /// All its bytes, header block included.
    pub bytes: Bytes,
}

/// A batch of which every header can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// In which piece.
    pub piece: usize,
    /// At which offset of it.
    pub offset: u64,
    /// Its header.
    pub header: BatchHeader,
}

/// What was on disk once and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which piece.
    pub piece: usize,
    /// Offsets in it: start of the first batch that is hit, start of the first one after that is not.
    pub range: (u64, u64),
    /// Sequence of the first batch that is hit.
    pub sequence: u64,
    /// Who is hit.
    pub whom: Whom,
}

/// Who is hit by damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The entry whose header this is; its payload is wrong.
    Entry(Box<EntryHeader>),
    /// Every partition that may have entries in the range.
    Anyone,
}

/// The scan in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that was written is there.
    Clean,
    /// A tail that was never synced is cut.
    Torn,
    /// Something that was synced is not there.
    Damage,
}

/// What a scan found.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The batches that count, in order; entries hit by damage are among them.
    pub batches: Vec<Found>,
    /// What is missing or wrong though it was synced.
    pub damage: Vec<Damage>,
    /// Whether a tail was cut.
    pub torn: bool,
    /// The piece and offset at which the log ends; everything behind is to be erased if a tail was cut.
    pub end: (usize, u64),
    /// Whether the last piece that counts is sealed.
    pub sealed: bool,
    /// The number of the next batch.
    pub next_sequence: u64,
    /// S, above.
    pub synced: u64,
}

impl Scan {
    /// In one word.
    pub fn verdict(&self) -> Verdict {
        match (self.damage.is_empty(), self.torn) {
            (false, _) => Verdict::Damage,
            (true, true) => Verdict::Torn,
            (true, false) => Verdict::Clean,
        }
    }
}

impl Piece {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The trailer, if the segment is sealed.
    pub fn trailer(&self) -> Option<Trailer> {
        Trailer::decode(&self.bytes, &self.header.identity, self.size())
    }

    /// Every batch header that can be read, by offset. Where none can, the next block is tried.
    pub fn headers(&self) -> Vec<(u64, BatchHeader)> {
        let (mut found, mut offset) = (vec![], BLOCK);
        while offset + BATCH_HEADER as u64 <= self.size() {
            match BatchHeader::decode(&self.bytes[offset as usize..], &self.header.identity) {
                Some(header) if offset + header.span() <= self.size() => {
                    found.push((offset, header));
                    offset += header.span();
                }
                _ => offset += BLOCK,
            }
        }
        found
    }

    /// The entries of a batch at `offset`.
    pub fn entries(&self, offset: u64, header: &BatchHeader) -> Entries {
        Entries::new(self.bytes.slice(offset as usize..), header, &self.header.identity)
    }
}

/// Scans the last pieces of a log, oldest first, from the first batch of the first piece on. `mark` is the highest
/// sequence known synced from elsewhere.
pub fn scan(pieces: &[Piece], mark: u64) -> Scan {
    let headers: Vec<_> = pieces.iter().map(Piece::headers).collect();
    let stated = headers.iter().flatten().map(|(_, header)| header.synced);
    let trailers = pieces.iter().filter_map(Piece::trailer).map(|trailer| trailer.synced);
    let synced = stated.chain(trailers).max().unwrap_or_default().max(mark);
    let next_sequence = pieces.first().map_or(synced + 1, |piece| piece.header.first_sequence);
    let mut walk = Walk {
        scan: Scan {
            batches: vec![],
            damage: vec![],
            torn: false,
            end: (0, BLOCK),
            sealed: false,
            next_sequence,
            synced,
        },
    };
    for (index, piece) in pieces.iter().enumerate() {
        // The batches between two pieces would have been at the end of the first.
        if !walk.reaches(piece.header.first_sequence, pieces.get(index.wrapping_sub(1)).map_or(BLOCK, Piece::size)) {
            return walk.scan;
        }
        walk.scan.end = (index, BLOCK);
        walk.scan.sealed = false;
        if !walk.piece(piece, &headers[index]) {
            return walk.scan;
        }
    }
    walk.finish(pieces)
}

struct Walk {
    scan: Scan,
}

impl Walk {
    /// Goes on to the batch `sequence` at `offset` of the current piece; false if a torn tail lies before it.
    fn reaches(&mut self, sequence: u64, offset: u64) -> bool {
        let Scan { next_sequence, synced, end, .. } = self.scan;
        if sequence <= next_sequence {
            return true;
        }
        if next_sequence > synced {
            self.scan.torn = true;
            return false;
        }
        let damage = Damage { piece: end.0, range: (end.1, offset), sequence: next_sequence, whom: Whom::Anyone };
        self.scan.damage.push(damage);
        self.scan.next_sequence = sequence;
        true
    }

    /// Walks a piece's batches; false if the log ends in it with a torn tail.
    fn piece(&mut self, piece: &Piece, headers: &[(u64, BatchHeader)]) -> bool {
        for (offset, header) in headers {
            if header.sequence < self.scan.next_sequence {
                continue;
            }
            if !self.reaches(header.sequence, *offset) || !self.batch(piece, *offset, header) {
                return false;
            }
            self.scan.next_sequence = header.sequence + 1;
            self.scan.end.1 = offset + header.span();
            self.scan.sealed |= header.flags == BatchFlags::Index;
        }
        true
    }

    /// Looks into a batch; false if it is the beginning of a torn tail.
    fn batch(&mut self, piece: &Piece, offset: u64, header: &BatchHeader) -> bool {
        let index = self.scan.end.0;
        let faults: Vec<_> = match header.flags {
            // An index that cannot be read is made again from the batches.
            BatchFlags::Index => {
                let whole = piece.trailer().is_some_and(|trailer| {
                    trailer.offset == offset && trailer.index(&piece.bytes.slice(offset as usize..)).is_some()
                });
                if !whole && header.sequence > self.scan.synced {
                    self.scan.torn = true;
                }
                return !self.scan.torn;
            }
            _ => piece.entries(offset, header).filter_map(Result::err).collect(),
        };
        if !faults.is_empty() && header.sequence > self.scan.synced {
            self.scan.torn = true;
            return false;
        }
        for fault in faults {
            let whom = match fault {
                Fault::Header => Whom::Anyone,
                Fault::Payload(entry) => Whom::Entry(entry),
            };
            let range = (offset, offset + header.span());
            self.scan.damage.push(Damage { piece: index, range, sequence: header.sequence, whom });
        }
        self.scan.batches.push(Found { piece: index, offset, header: *header });
        true
    }

    /// The end of the last piece: clean, begun and not written, or synced and lost.
    fn finish(mut self, pieces: &[Piece]) -> Scan {
        let Scan { end: (index, offset), sealed, synced, .. } = self.scan;
        let Some(piece) = pieces.get(index) else { return self.scan };
        if self.reaches(synced + 1, piece.size()) && !sealed && offset < piece.size() {
            let next = &piece.bytes[offset as usize..];
            self.scan.torn = BatchHeader::is_begun(next, &piece.header.identity);
        }
        self.scan
    }
}
