//! What is believed of a segment after a crash: a table of cases, and bytes flipped and cut off at random.

use bytes::{Bytes, BytesMut};
use perennial_types::entry::Entry;
use perennial_types::segment::{
    BLOCK, BatchBuilder, BatchFlags, EntryHeader, Identity, Index, Piece, Scan, SegmentHeader, Verdict, Whom, scan,
};
use perennial_types::{ClusterId, DatabaseId, Epoch, Lsn, Ordinal, PartitionId, Timestamp};
use proptest::prelude::*;

const SIZE: u64 = 20 * BLOCK;

fn identity(segment: u64) -> Identity {
    Identity { log: 99, segment, uses: 3 }
}

fn partition(ordinal: i32) -> PartitionId {
    PartitionId { database: DatabaseId(1), ordinal: Ordinal(ordinal) }
}

fn epoch() -> Epoch {
    Epoch { number: 1, cluster: ClusterId(1), nonce: 5 }
}

/// A log as a writer makes it: segments of `SIZE`, each batch has two entries, one of partition 0, one of 1.
struct Log {
    pieces: Vec<(SegmentHeader, BytesMut)>,
    sequence: u64,
    /// Piece and range of each batch, by sequence, from 1 on.
    places: Vec<(usize, usize, usize)>,
}

impl Log {
    fn new() -> Log {
        let mut log = Log { pieces: vec![], sequence: 1, places: vec![] };
        log.segment(identity(1), 0);
        log
    }

    fn segment(&mut self, identity: Identity, synced: u64) {
        let header = SegmentHeader { identity, size: SIZE, first_sequence: self.sequence };
        let mut bytes = BytesMut::zeroed(SIZE as usize);
        bytes[..64].copy_from_slice(&header.encode());
        self.pieces.push((header, bytes));
        self.batch(BatchFlags::Directory, &[], synced);
    }

    fn at(&self) -> usize {
        match self.places.last() {
            Some((piece, _, end)) if *piece + 1 == self.pieces.len() => *end,
            _ => BLOCK as usize,
        }
    }

    fn batch(&mut self, flags: BatchFlags, payloads: &[&[u8]], synced: u64) -> usize {
        let (at, index) = (self.at(), self.pieces.len() - 1);
        let (header, bytes) = &mut self.pieces[index];
        let mut builder = BatchBuilder::new(BytesMut::new(), header.identity, flags, self.sequence, synced);
        for (ordinal, payload) in payloads.iter().enumerate() {
            builder.push(&entry(ordinal as i32, self.sequence, payload), payload);
        }
        let (batch, _) = builder.finish();
        bytes[at..at + batch.len()].copy_from_slice(&batch);
        self.places.push((index, at, at + batch.len()));
        self.sequence += 1;
        at
    }

    fn plain(&mut self, synced: u64) -> usize {
        self.batch(BatchFlags::Plain, &[b"one payload", &[7; 5000]], synced)
    }

    fn seal(&mut self, index: &Index, synced: u64) {
        let at = self.pieces.len() - 1;
        let (header, bytes) = &mut self.pieces[at];
        let (batch, trailer) = index.seal(header.identity, SIZE, header.first_sequence, self.sequence, synced);
        bytes[trailer.offset as usize..].copy_from_slice(&batch);
        self.places.push((at, trailer.offset as usize, SIZE as usize));
        self.sequence += 1;
    }

    fn scan(&self, mark: u64) -> Scan {
        scan(&self.pieces(), mark)
    }

    fn pieces(&self) -> Vec<Piece> {
        self.pieces
            .iter()
            .map(|(header, bytes)| Piece { header: *header, bytes: Bytes::copy_from_slice(bytes) })
            .collect()
    }

    fn flip(&mut self, sequence: u64, byte: usize) {
        let (piece, start, _) = self.places[sequence as usize - 1];
        self.pieces[piece].1[start + byte] ^= 0x40;
    }
}

fn entry(ordinal: i32, lsn: u64, payload: &[u8]) -> EntryHeader {
    EntryHeader {
        payload_crc: crc32c::crc32c(payload),
        length: payload.len() as u32,
        kind: 2,
        moved: false,
        partition: partition(ordinal),
        lsn: Lsn(lsn),
        epoch: epoch(),
        ts: Timestamp(9),
    }
}

/// Directory 1, then batches 2 to 5; each states that the one two before it is synced.
fn five() -> Log {
    let mut log = Log::new();
    for sequence in 2..=5 {
        log.plain(sequence - 2);
    }
    log
}

fn sequences(scan: &Scan) -> Vec<u64> {
    scan.batches.iter().map(|batch| batch.header.sequence).collect()
}

#[test]
fn a_log_that_was_written_whole_is_clean() {
    let log = five();
    let scan = log.scan(0);
    assert_eq!((scan.verdict(), scan.synced, scan.next_sequence), (Verdict::Clean, 3, 6));
    assert_eq!(sequences(&scan), [1, 2, 3, 4, 5]);
    assert_eq!(scan.end, (0, log.at() as u64));
    let batch = scan.batches[4];
    let entries: Vec<_> = log.pieces()[0].entries(batch.offset, &batch.header).map(Result::unwrap).collect();
    assert_eq!(entries[0], (entry(0, 5, b"one payload"), Bytes::from_static(b"one payload")));
    assert_eq!(entries[1].0.partition, partition(1));
}

#[test]
fn an_unsynced_batch_that_is_wrong_is_the_torn_tail() {
    for byte in [0, 9, 70, 64 + 72 + 3, 64 + 72 + 11 + 20, 4200] {
        let mut log = five();
        log.flip(5, byte);
        let scan = log.scan(0);
        assert_ne!(scan.verdict(), Verdict::Damage, "byte {byte}");
        assert_eq!((sequences(&scan), scan.next_sequence), (vec![1, 2, 3, 4], 5), "byte {byte}");
    }
}

#[test]
fn after_a_torn_batch_everything_is_cut_valid_or_not() {
    let mut log = five();
    log.flip(4, 0);
    let scan = log.scan(0);
    assert_eq!((scan.verdict(), sequences(&scan)), (Verdict::Torn, vec![1, 2, 3]));
    assert_eq!((scan.end, scan.next_sequence), ((0, log.places[3].1 as u64), 4));
}

#[test]
fn a_synced_payload_that_is_wrong_hits_its_partition_alone() {
    let mut log = five();
    log.flip(3, 64 + 72 + 11 + 72 + 100);
    let scan = log.scan(0);
    assert_eq!((scan.verdict(), sequences(&scan)), (Verdict::Damage, vec![1, 2, 3, 4, 5]));
    let Whom::Entry(hit) = &scan.damage[0].whom else { panic!("the header can be read: {:?}", scan.damage) };
    assert_eq!((hit.partition, hit.lsn, scan.damage.len()), (partition(1), Lsn(3), 1));
}

#[test]
fn a_synced_header_that_is_wrong_hits_anyone_in_its_range() {
    for byte in [5, 66, 64 + 72 + 11 + 4] {
        let mut log = five();
        log.flip(2, byte);
        let scan = log.scan(0);
        let (_, start, end) = log.places[1];
        assert_eq!(scan.verdict(), Verdict::Damage, "byte {byte}");
        assert_eq!((&scan.damage[0].whom, scan.damage[0].range), (&Whom::Anyone, (start as u64, end as u64)));
        assert_eq!(scan.next_sequence, 6, "the batches after it count");
    }
}

#[test]
fn the_mark_in_the_second_place_tells_a_lost_last_batch_from_one_never_written() {
    let mut log = five();
    let (_, start, end) = log.places[4];
    log.pieces[0].1[start..end].fill(0);
    assert_eq!(log.scan(4).verdict(), Verdict::Clean);
    let scan = log.scan(5);
    assert_eq!((scan.verdict(), scan.next_sequence), (Verdict::Damage, 6));
    assert_eq!((&scan.damage[0].whom, scan.damage[0].sequence), (&Whom::Anyone, 5));
}

#[test]
fn an_earlier_use_of_the_segment_is_not_read() {
    let mut old = five();
    let mut log = Log::new();
    log.plain(0);
    let (_, start, _) = log.places[1];
    // Valid batches of the use before, right behind the end.
    let mut again = Log { pieces: vec![], sequence: 1, places: vec![] };
    again.segment(Identity { uses: 2, ..identity(1) }, 0);
    for _ in 2..=5 {
        again.plain(0);
    }
    let end = log.at();
    log.pieces[0].1[end..].copy_from_slice(&again.pieces[0].1[end..]);
    let scan = log.scan(0);
    assert_eq!((scan.verdict(), sequences(&scan)), (Verdict::Clean, vec![1, 2]));
    assert_eq!(scan.end, (0, end as u64));
    // Another log's bytes under the same file number do not count either.
    old.pieces[0].0.identity.log = 98;
    assert_eq!(sequences(&old.scan(0)), [0u64; 0]);
    assert!(start < end);
}

fn sealed() -> Log {
    let mut log = Log::new();
    let mut index = Index::default();
    for sequence in 2..=3 {
        let at = log.plain(sequence - 2) as u64;
        for ordinal in 0..2 {
            index.add(partition(ordinal), epoch(), Lsn(sequence), at);
        }
    }
    log.seal(&index, 2);
    log.segment(identity(2), 3);
    log.plain(4);
    log
}

#[test]
fn a_sealed_segment_goes_on_in_the_next() {
    let log = sealed();
    let scan = log.scan(0);
    assert_eq!((scan.verdict(), sequences(&scan)), (Verdict::Clean, vec![1, 2, 3, 5, 6]));
    assert_eq!((scan.end, scan.next_sequence), ((1, log.at() as u64), 7));
    let piece = &log.pieces()[0];
    let trailer = piece.trailer().unwrap();
    let index = trailer.index(&piece.bytes.slice(trailer.offset as usize..)).unwrap();
    let run = index.runs(partition(1))[0];
    assert_eq!((run.from, run.count, run.offset), (Lsn(2), 2, log.places[1].1 as u64));
    assert_eq!(index.runs(partition(2)), []);
}

#[test]
fn a_torn_seal_cuts_the_next_segment() {
    let mut log = Log::new();
    log.plain(0);
    log.seal(&Index::default(), 0);
    log.segment(identity(2), 0);
    log.plain(0);
    log.flip(3, 70);
    let scan = log.scan(0);
    assert_eq!((scan.verdict(), sequences(&scan)), (Verdict::Torn, vec![1, 2]));
    assert_eq!(scan.end, (0, log.places[1].2 as u64));
}

#[test]
fn a_synced_index_that_is_wrong_is_no_loss() {
    let mut log = sealed();
    log.flip(4, 70);
    let scan = log.scan(0);
    assert_eq!((scan.verdict(), sequences(&scan)), (Verdict::Clean, vec![1, 2, 3, 5, 6]));
}

#[test]
fn a_missing_segment_is_damage_if_it_was_synced_and_else_a_tail() {
    let mut log = sealed();
    log.seal(&Index::default(), 6);
    log.segment(identity(3), 7);
    log.pieces.remove(1);
    let scan = log.scan(0);
    assert_eq!((scan.verdict(), scan.damage[0].sequence), (Verdict::Damage, 5));
    let mut log = sealed();
    log.seal(&Index::default(), 4);
    log.segment(identity(3), 4);
    log.pieces.remove(1);
    let scan = log.scan(0);
    assert_eq!((scan.verdict(), scan.next_sequence), (Verdict::Torn, 5));
}

proptest! {
    /// Whatever is flipped or cut off above the synced mark, the log is a prefix and never damage; at or below it,
    /// nothing that was hit is believed, and everything else is still there.
    #[test]
    fn flipped_and_truncated_bytes_are_never_believed(
        flips in prop::collection::vec((0..SIZE as usize, 1u8..), 0..4),
        cut in prop::option::of(0..SIZE as usize),
        mark in 0u64..6,
    ) {
        let mut log = five();
        let (whole, synced) = (log.pieces(), mark.max(3));
        let spoil = |at: usize, log: &mut Log, value: u8| log.pieces[0].1[at] ^= value;
        flips.iter().for_each(|(at, value)| spoil(BLOCK as usize + at % (SIZE as usize - BLOCK as usize), &mut log, *value));
        if let Some(cut) = cut {
            log.pieces[0].1[cut.max(BLOCK as usize)..].fill(0);
        }
        let intact = |place: &(usize, usize, usize)| {
            log.pieces[0].1[place.1..place.2] == whole[0].bytes[place.1..place.2]
        };
        let scan = log.scan(mark);
        let spoiled: Vec<u64> =
            (1..=5).filter(|sequence| !intact(&log.places[*sequence as usize - 1])).collect();
        // What marks say may itself be hit: the scan knows at most what was true.
        prop_assert!(scan.synced <= synced);
        let pieces = log.pieces();
        for batch in &scan.batches {
            let sound = pieces[0].entries(batch.offset, &batch.header).all(|entry| entry.is_ok());
            let hit = scan.damage.iter().any(|damage| damage.sequence == batch.header.sequence);
            prop_assert_eq!(!sound, hit);
            // Bytes between batches and reserved ones aside, what is believed is what was written.
            if sound {
                let before = whole[0].entries(batch.offset, &batch.header).map(Result::unwrap);
                let after = pieces[0].entries(batch.offset, &batch.header).map(Result::unwrap);
                prop_assert!(before.eq(after));
            }
        }
        match scan.verdict() {
            Verdict::Damage => prop_assert!(spoiled.iter().any(|sequence| *sequence <= synced)),
            _ => {
                let lost = 5 - scan.batches.len() as u64;
                let expected: Vec<u64> = (1..=5 - lost).collect();
                prop_assert_eq!(sequences(&scan), expected, "a prefix");
                prop_assert!(lost == 0 || spoiled.iter().any(|sequence| *sequence == 6 - lost));
                prop_assert!(scan.batches.len() as u64 >= scan.synced.min(5));
            }
        }
        // An intact batch at or below the mark is among those found.
        for sequence in (1..=scan.synced.min(5)).filter(|sequence| !spoiled.contains(sequence)) {
            prop_assert!(scan.batches.iter().any(|batch| batch.header.sequence == sequence));
        }
    }

    #[test]
    fn an_index_finds_each_record_at_any_stride(
        records in prop::collection::vec((0i32..3, 1u64..3, 0u64..3), 1..200), coarser in 0usize..4,
    ) {
        let (mut index, mut ends) = (Index::default(), [0u64; 3]);
        let mut places = vec![];
        for (at, (ordinal, number, gap)) in records.into_iter().enumerate() {
            let (epoch, offset) = (Epoch { number, ..epoch() }, (1 + at as u64 * 3) * BLOCK);
            let lsn = ends[ordinal as usize] + 1 + gap / 2;
            ends[ordinal as usize] = lsn;
            index.add(partition(ordinal), epoch, Lsn(lsn), offset);
            places.push((ordinal, epoch, Lsn(lsn), offset));
        }
        (0..coarser).for_each(|_| index.coarsen());
        let mut body = BytesMut::new();
        index.encode(&mut body);
        prop_assert_eq!(body.len() as u64, index.encoded_len());
        let index = Index::decode(body.freeze()).unwrap();
        for (ordinal, epoch, lsn, offset) in places {
            let run = index.runs(partition(ordinal)).iter().find(|run| run.holds(epoch, lsn)).unwrap();
            prop_assert!(run.offset <= offset && offset < run.offset + index.stride());
        }
    }

    #[test]
    fn any_bytes_make_a_segment_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..3 * 4096), mark in 0u64..3) {
        let header = SegmentHeader { identity: identity(1), size: bytes.len() as u64, first_sequence: 1 };
        let scan = scan(&[Piece { header, bytes: bytes.clone().into() }], mark);
        prop_assert!(scan.batches.is_empty());
        prop_assert!(SegmentHeader::decode(&bytes).is_err());
    }
}

/// A version-1 batch, byte for byte.
#[test]
fn a_stored_batch_and_segment_header_are_read_and_written_alike() {
    let mut builder = BatchBuilder::new(BytesMut::new(), identity(1), BatchFlags::Plain, 6, 5);
    builder.push(&entry(0, 4, b"payload"), b"payload");
    let (bytes, _) = builder.finish();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&bytes[..64]), STORED[0]);
    assert_eq!(hex(&bytes[64..64 + 72 + 7]), STORED[1]);
    let header = SegmentHeader { identity: identity(1), size: SIZE, first_sequence: 6 };
    assert_eq!(hex(&header.encode()), STORED[2]);
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    assert_eq!(Entry::Drop.kind(), 39);
}

const STORED: [&str; 3] = [
    "50424154bf6fd90e01000000010000008f0000000000000001000000000000000300000000000000060000000000000005000000000000000000000000000000",
    "5ee9283a7069e3f4070000000200000001000000000000000000000000000000040000000000000001000000000000000100000000000000050000000000000009000000000000007061796c6f6164",
    "5045524e4e4c4f47a1536d8401000000630000000000000001000000000000000300000000000000004001000000000006000000000000000000000000000000",
];
