//! What a log's folder says after a start: which entries count, what every partition's log amounts to, and what is
//! damaged.
//!
//! 1. The headers of all segments give their order. Where a header cannot be read, the first batch tells.
//! 2. The last segments are scanned (`types::segment::scan`): from the newest one on back to a readable directory
//!    before which everything is known synced. Older ones are sealed, and their indexes are trusted; what is wrong in
//!    them is found when it is read.
//! 3. The directory and every entry after it give each partition's summary.
//! 4. A torn tail is erased. What was never stated as synced is written once more and synced: from here on everything
//!    that was found is durable.
//! 5. A partition is damaged if damage hit it, if its entries do not follow each other, or if a live record is in no
//!    segment. `Installed` and `Drop` heal what lies before them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use types::entry::{Entry, Summary};
use types::segment::{
    BLOCK, BatchFlags, BatchHeader, Damage, EntryHeader, Fault, Index, Piece, Scan, SegmentHeader, Trailer, Verdict,
    Whom, scan,
};
use types::segment::{HeaderError, batch::BATCH_HEADER};
use types::{Lsn, PartitionId};

use super::mark_file::MarkFile;
use super::segment_file::{SegmentFile, sync_dir};
use super::segments::{Segment, Segments};
use super::shared::Inner;
use super::writer::{Open, Start};
use super::{LogError, LogOptions};

/// What a log held when it was opened.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// What the entries of each partition amount to; `damaged` ones are to be repaired from another replica.
    pub partitions: BTreeMap<PartitionId, Summary>,
    /// In one word.
    pub verdict: Verdict,
    /// Damage, at this start or an earlier one, that may have hit partitions of which nothing is left: what is not listed may
    /// have been here.
    pub unknown: bool,
    /// What is wrong, for people.
    pub findings: Vec<String>,
}

/// A recovered log, ready to go on.
pub(crate) struct Opened {
    pub recovered: Recovered,
    pub inner: Inner,
    pub start: Start,
    pub log: u64,
    pub mark: MarkFile,
    pub next_id: u64,
    /// Partitions to be noted as damaged.
    pub poisoned: Vec<PartitionId>,
}

/// A segment in use, before it is known whether it is open.
struct Used {
    file: Arc<SegmentFile>,
    header: SegmentHeader,
}

/// Reads the folder.
pub(crate) fn recover(dir: &Path, options: &LogOptions) -> Result<Opened, LogError> {
    let mark = MarkFile::open(dir)?;
    let (mut used, spares, next_id, log) = list(dir, options, &mark)?;
    let from = first_to_scan(&used, &mark)?;
    let scanned = used.split_off(from);
    let mut pieces = scanned.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let scan = scan(&pieces, mark.synced);
    let mut replay = Replay::new(&scan, pieces.as_slice());
    let mut segments = Segments::default();
    for used in &used {
        segments.push(replay.sealed(used, options.verify)?);
    }
    let trailers: Vec<_> = pieces.iter().map(Piece::trailer).collect();
    let indexes = replay.run(&scan, &pieces);
    pieces.clear();
    // Before anything is settled: the next start finds no damage any more.
    let lost = dir.join(LOST);
    if replay.unknown {
        keep_lost(&lost)?;
    }
    let open = settle(dir, &scan, scanned, &trailers, indexes, &mut segments)?;
    replay.cover(&segments);
    let Replay { states, hit, mut unknown, mut findings, .. } = replay;
    if segments.len() == 0 && mark.synced > 0 {
        unknown = true;
        findings.push(format!("no segment is left; {} batches had been synced", mark.synced));
        keep_lost(&lost)?;
    }
    let unknown = unknown || lost.exists();
    let summaries: BTreeMap<_, _> = states
        .into_iter()
        .map(|(id, state)| (id, state.summary))
        .filter(|(_, summary)| *summary != Summary::default())
        .collect();
    let mut partitions = summaries.clone();
    let poisoned: Vec<_> =
        hit.into_iter().filter(|id| !partitions.get(id).is_some_and(|found| found.damaged)).collect();
    for id in &poisoned {
        partitions.entry(*id).or_default().damaged = true;
    }
    let mut inner = Inner { segments, spares, synced: scan.next_sequence - 1, ..Inner::default() };
    inner.open_free = open.as_ref().map_or(0, |open| open.file.size - open.offset);
    for (id, summary) in &summaries {
        inner.partitions.entry(*id).or_default().summary = summary.clone();
    }
    for id in &poisoned {
        inner.partitions.entry(*id).or_default();
    }
    inner.count_directory();
    let start = Start { open, next_sequence: scan.next_sequence, synced: scan.next_sequence - 1, summaries };
    let recovered = Recovered { partitions, verdict: scan.verdict(), unknown, findings };
    Ok(Opened { recovered, inner, start, log, mark, next_id, poisoned })
}

/// There from the first start on that finds damage of which nobody knows whom it hit, for as long as the folder.
const LOST: &str = "lost";

fn keep_lost(path: &Path) -> Result<(), LogError> {
    let kept = std::fs::File::create(path).and_then(|file| file.sync_all());
    kept.and_then(|()| path.parent().map_or(Ok(()), sync_dir)).map_err(LogError::io("write", path))
}

type Listed = (Vec<Used>, VecDeque<Arc<SegmentFile>>, u64, u64);

/// Segments in use, oldest first; spares; the next free number; the log's id.
fn list(dir: &Path, options: &LogOptions, mark: &MarkFile) -> Result<Listed, LogError> {
    let (mut files, mut next_id) = (vec![], 1);
    for path in paths(dir)? {
        if path.extension().is_some_and(|extension| extension == "new") {
            std::fs::remove_file(&path).map_err(LogError::io("remove", &path))?;
        } else if let Some(id) = SegmentFile::id_of(&path) {
            next_id = next_id.max(id + 1);
            let file = SegmentFile::open(path, id)?;
            let header = read_header(&file)?;
            files.push((file, header));
        }
    }
    let log = files.iter().find_map(|(_, header)| *header).map(|header| header.identity.log).or(mark.log);
    let log = log.unwrap_or_else(random);
    let (mut used, mut spares) = (vec![], VecDeque::new());
    for (file, header) in files {
        let header = match header {
            Some(header) => Some(header),
            None => claimed_header(&file, log)?,
        };
        match header {
            // Nothing tells what it was: a spare whose header was being written, or a loss that the scan will notice.
            None => std::fs::remove_file(&file.path).map_err(LogError::io("remove", &file.path))?,
            Some(header) if header.first_sequence == 0 && file.size == options.segment_bytes => {
                file.set_uses(header.identity.uses);
                spares.push_back(Arc::new(file));
            }
            Some(header) if header.first_sequence == 0 => {
                std::fs::remove_file(&file.path).map_err(LogError::io("remove", &file.path))?;
            }
            Some(header) if file.size != header.size => {
                let text = format!("{} has {} bytes, its header says {}", file.path.display(), file.size, header.size);
                return Err(LogError::Options(text));
            }
            Some(header) => {
                file.set_uses(header.identity.uses);
                used.push(Used { file: Arc::new(file), header });
            }
        }
    }
    used.sort_by_key(|used| used.header.first_sequence);
    if used.is_empty() && spares.is_empty() {
        spares.push_back(Arc::new(SegmentFile::create(dir, log, next_id, options.segment_bytes)?));
        next_id += 1;
    }
    Ok((used, spares, next_id, log))
}

fn paths(dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    let read = || std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = read().map_err(LogError::io("list", dir))?;
    paths.sort();
    Ok(paths)
}

fn read_header(file: &SegmentFile) -> Result<Option<SegmentHeader>, LogError> {
    match SegmentHeader::decode(&file.read(0, BLOCK)?) {
        Ok(header) if header.identity.segment == file.id => Ok(Some(header)),
        Ok(_) | Err(HeaderError::Unreadable) => Ok(None),
        Err(source) => Err(LogError::Header { path: file.path.clone(), source }),
    }
}

fn claimed_header(file: &SegmentFile, log: u64) -> Result<Option<SegmentHeader>, LogError> {
    let head = file.read(BLOCK, BATCH_HEADER as u64)?;
    let claim = BatchHeader::claim(&head, log, file.id);
    Ok(claim.map(|(identity, header)| SegmentHeader { identity, size: file.size, first_sequence: header.sequence }))
}

/// A number for a new log: the randomness of a hash map's keys, which is the operating system's.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

fn load(used: &Used) -> Result<Piece, LogError> {
    Ok(Piece { header: used.header, bytes: used.file.read(0, used.file.size)? })
}

/// The newest segment that has a readable directory and before which everything is known synced.
fn first_to_scan(used: &[Used], mark: &MarkFile) -> Result<usize, LogError> {
    let mut synced = mark.synced;
    for (index, used) in used.iter().enumerate().rev() {
        let piece = load(used)?;
        let headers = piece.headers();
        let stated = headers.iter().map(|(_, header)| header.synced).max();
        synced = synced.max(stated.unwrap_or_default());
        let directory = headers.first().filter(|(offset, header)| {
            *offset == BLOCK
                && header.flags == BatchFlags::Directory
                && piece.entries(*offset, header).all(|entry| entry.is_ok())
        });
        if directory.is_some() && used.header.first_sequence <= synced + 1 {
            return Ok(index);
        }
    }
    Ok(0)
}

/// Erases a torn tail, secures the rest, and gives the segment in which the log goes on, if there is one.
fn settle(
    dir: &Path,
    scan: &Scan,
    scanned: Vec<Used>,
    trailers: &[Option<Trailer>],
    indexes: Vec<Index>,
    segments: &mut Segments,
) -> Result<Option<Open>, LogError> {
    let (last, end) = scan.end;
    // A segment of which not even the directory counts is none.
    let kept = if end == BLOCK { last } else { last + 1 };
    for used in scanned.iter().skip(kept) {
        std::fs::remove_file(&used.file.path).map_err(LogError::io("remove", &used.file.path))?;
    }
    if kept < scanned.len() {
        sync_dir(dir).map_err(LogError::io("sync", dir))?;
    }
    if scan.torn && kept > last {
        scanned[last].file.erase_from(end)?;
    }
    secure(scan, &scanned, kept)?;
    let mut open = None;
    for (at, (used, index)) in scanned.into_iter().zip(indexes).enumerate().take(kept) {
        let Used { file, header } = used;
        let sealed = (at < last || scan.sealed).then(|| trailers[at]).flatten();
        match sealed {
            Some(trailer) => segments.push(Segment::sealed(file, header.identity, trailer, &index)),
            None => {
                let SegmentHeader { identity, first_sequence, .. } = header;
                let mut segment = Segment::open(file.clone(), identity, first_sequence, index.clone());
                match at == last && !scan.sealed {
                    true => open = Some(Open { file, identity, first_sequence, offset: end, index }),
                    false => segment.close(),
                }
                segments.push(segment);
            }
        }
    }
    Ok(open)
}

/// Writes what nobody stated as synced once more, and syncs it.
fn secure(scan: &Scan, scanned: &[Used], kept: usize) -> Result<(), LogError> {
    for batch in scan.batches.iter().filter(|batch| batch.header.sequence > scan.synced && batch.piece < kept) {
        scanned[batch.piece].file.rewrite(batch.offset, batch.header.span())?;
    }
    // Headers and indexes are no batches of the scan.
    for used in scanned.iter().take(kept) {
        used.file.rewrite(0, BLOCK)?;
        let size = used.file.size;
        if let Some(trailer) = Trailer::decode(&used.file.read(size - BLOCK, BLOCK)?, &used.header.identity, size) {
            used.file.rewrite(trailer.offset, size - trailer.offset)?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct State {
    summary: Summary,
    /// Its entries did not follow each other since the last summary.
    broken: bool,
}

/// Applies entries in the order of the log.
struct Replay {
    states: BTreeMap<PartitionId, State>,
    hit: BTreeSet<PartitionId>,
    /// Damage of the scan that the replay has not passed yet, in order.
    damage: VecDeque<Damage>,
    unknown: bool,
    findings: Vec<String>,
    /// Findings in sealed segments.
    rotten: Vec<String>,
    /// For damage of which nobody knows whom it hit: who could be.
    candidates: Vec<Option<Index>>,
}

impl Replay {
    fn new(scan: &Scan, pieces: &[Piece]) -> Replay {
        let index = |piece: &Piece| {
            let trailer = piece.trailer()?;
            trailer.index(&piece.bytes.slice(trailer.offset as usize..))
        };
        Replay {
            states: BTreeMap::new(),
            hit: BTreeSet::new(),
            damage: scan.damage.iter().cloned().collect(),
            unknown: false,
            findings: vec![],
            rotten: vec![],
            candidates: pieces.iter().map(index).collect(),
        }
    }

    /// A segment that is not scanned: by its index, or else batch by batch.
    fn sealed(&mut self, used: &Used, verify: bool) -> Result<Segment, LogError> {
        let Used { file, header } = used;
        let end = file.read(file.size - BLOCK, BLOCK)?;
        let trailer = Trailer::decode(&end, &header.identity, file.size);
        let index = match trailer {
            Some(trailer) => trailer.index(&file.read(trailer.offset, file.size - trailer.offset)?),
            None => None,
        };
        if let (Some(trailer), Some(index), false) = (trailer, &index, verify) {
            return Ok(Segment::sealed(file.clone(), header.identity, trailer, index));
        }
        let piece = load(used)?;
        let found = scan(std::slice::from_ref(&piece), u64::MAX - 1);
        let mut rebuilt = Index::default();
        for batch in &found.batches {
            add_records(&mut rebuilt, &piece, batch.offset, &batch.header);
        }
        // Being sealed, it ends where its last batch does: that nothing follows is no damage. Notes in it are told
        // again by later directories; a record that is missed is found missing by `cover`.
        let damage = found.damage.iter().filter(|damage| damage.range.0 < found.end.1);
        self.rotten.extend(damage.map(|damage| finding(damage, &file.path)));
        let mut segment = Segment::open(file.clone(), header.identity, header.first_sequence, rebuilt);
        match trailer.filter(|_| index.is_some()) {
            Some(trailer) => segment.seal(trailer),
            None => segment.close(),
        }
        Ok(segment)
    }

    /// Replays the scanned pieces; gives an index for each.
    fn run(&mut self, scan: &Scan, pieces: &[Piece]) -> Vec<Index> {
        let mut indexes: Vec<_> = pieces.iter().map(|_| Index::default()).collect();
        for batch in &scan.batches {
            self.pass(batch.header.sequence);
            let piece = &pieces[batch.piece];
            add_records(&mut indexes[batch.piece], piece, batch.offset, &batch.header);
            for entry in piece.entries(batch.offset, &batch.header) {
                self.entry(entry);
            }
        }
        self.pass(u64::MAX);
        let broken = self.states.iter().filter(|(_, state)| state.broken).map(|(id, _)| *id);
        self.hit.extend(broken);
        indexes
    }

    fn entry(&mut self, entry: Result<(EntryHeader, Bytes), Fault>) {
        match entry {
            Ok((header, _)) if header.moved => {}
            Ok((header, payload)) => match Entry::decode(header.kind, header.epoch, header.lsn, payload) {
                Ok(entry) => self.apply(header.partition, &entry),
                Err(error) => {
                    self.findings.push(format!("an entry of partition {}: {error}", header.partition));
                    self.hit.insert(header.partition);
                }
            },
            // The record is known to be there, and is found missing by `cover` if it is needed.
            Err(Fault::Payload(header)) if Entry::is_record_kind(header.kind) && !header.moved => {
                let state = self.states.entry(header.partition).or_default();
                state.broken |= state.summary.record(header.epoch, header.lsn, None).is_err();
            }
            Err(_) => {}
        }
    }

    /// Takes in the damage before and in a batch.
    fn pass(&mut self, sequence: u64) {
        while let Some(damage) = self.damage.pop_front_if(|damage| damage.sequence <= sequence) {
            self.findings.push(finding(&damage, Path::new("a scanned segment")));
            match &damage.whom {
                Whom::Entry(entry) if Entry::is_record_kind(entry.kind) => {}
                Whom::Entry(entry) => drop(self.hit.insert(entry.partition)),
                Whom::Anyone => {
                    self.unknown = true;
                    self.hit_anyone(&damage);
                }
            }
        }
    }

    /// With an index, those with records in the range; and everybody who is known, for notes are in no index.
    fn hit_anyone(&mut self, damage: &Damage) {
        if let Some(Some(index)) = self.candidates.get(damage.piece) {
            let (from, to) = damage.range;
            let near = |runs: &[types::segment::Run]| {
                runs.iter().any(|run| run.offset < to && run.offset + index.stride() > from)
            };
            self.hit.extend(index.partitions().filter(|(_, runs)| near(runs)).map(|(id, _)| id));
        }
        self.hit.extend(self.states.keys());
    }

    fn apply(&mut self, id: PartitionId, entry: &Entry) {
        let state = self.states.entry(id).or_default();
        match state.summary.apply(entry) {
            Ok(()) => {}
            Err(error) => {
                self.findings.push(format!("partition {id}: {error}"));
                state.broken = true;
            }
        }
        match entry {
            Entry::Installed { .. } => {
                state.broken = false;
                self.hit.remove(&id);
            }
            Entry::Drop => {
                self.states.remove(&id);
                self.hit.remove(&id);
            }
            // Tells every note again; a record that is missed is found missing by `cover`.
            Entry::Summary(_) => {
                state.broken = false;
                self.hit.remove(&id);
            }
            _ => {}
        }
    }

    /// Every live record must be somewhere.
    fn cover(&mut self, segments: &Segments) {
        let before = self.hit.len();
        for (id, state) in &self.states {
            let Summary { first, end, lineage, .. } = &state.summary;
            let mut next = *first;
            while next <= *end {
                let epoch = lineage.epoch_at(next);
                let to = epoch.and_then(|epoch| segments.dense_to(*id, epoch, next));
                let Some(to) = to else {
                    if !state.summary.damaged && self.hit.insert(*id) {
                        self.findings.push(format!("partition {id}: record {next} is in no segment"));
                    }
                    break;
                };
                next = to.min(last_of_epoch(lineage, next)).next();
            }
        }
        // A segment that had been freed may hold the beginnings of its next use: what nobody misses is no finding.
        let missed = self.hit.len() > before;
        self.findings.extend(std::mem::take(&mut self.rotten).into_iter().filter(|_| missed));
    }
}

/// The last position of the epoch that has `lsn`.
fn last_of_epoch(lineage: &types::Lineage, lsn: Lsn) -> Lsn {
    let next = lineage.entries().iter().find(|entry| entry.start_lsn > lsn);
    next.map_or(Lsn(u64::MAX - 1), |next| next.start_lsn.prev())
}

fn add_records(index: &mut Index, piece: &Piece, offset: u64, header: &BatchHeader) {
    for (entry, _) in piece.entries(offset, header).flatten() {
        if Entry::is_record_kind(entry.kind) {
            index.add(entry.partition, entry.epoch, entry.lsn, offset);
        }
    }
}

fn finding(damage: &Damage, path: &Path) -> String {
    let (from, to) = damage.range;
    let whom = match &damage.whom {
        Whom::Entry(entry) => format!("partition {} record {}", entry.partition, entry.lsn),
        Whom::Anyone => "unknown entries".to_string(),
    };
    format!("{}: batch {} at bytes {from} to {to} was synced and is wrong: {whom}", path.display(), damage.sequence)
}
