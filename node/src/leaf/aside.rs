//! Divergence files as aggregators ask for them: which there are, what is in them, and away with them.

use std::path::{Path, PathBuf};

use aggregator::protocol::{DivergenceAbout, DivergenceFile, ExchangeId, Fate, LeafAnswer, LeafRefusal, SetAside};
use storage::divergence::{DivergenceError, DivergenceReader, Entry, Listed, Reason, Stage, list};
use types::{DatabaseId, Lineage, Lsn, Timestamp};

use super::peers::Partitions;

/// Bytes of rows that one answer holds, about.
const CHUNK_BYTES: usize = 1 << 20;

/// The files of one leaf.
#[derive(Clone)]
pub struct Asides {
    /// Where they are.
    pub dir: PathBuf,
    /// Replicas whose logs tell what is alive again.
    pub partitions: Partitions,
}

/// Reads one file's entries.
pub struct Entries {
    reader: DivergenceReader,
    log: Option<(Lineage, Lsn)>,
}

impl Asides {
    /// Which files there are. Blocks.
    pub fn files(&self) -> Result<LeafAnswer, LeafRefusal> {
        let (mut files, mut damaged) = (Vec::new(), Vec::new());
        for listed in list(&self.dir).map_err(refused)? {
            match file(listed) {
                Ok(file) => files.push(file),
                Err(error) => damaged.push(error.to_string()),
            }
        }
        Ok(LeafAnswer::Divergences(files, damaged))
    }

    /// Opens a file of this name. Blocks.
    pub fn open(&self, name: &str) -> Result<Entries, LeafRefusal> {
        let path =
            self.path(name)?.ok_or_else(|| LeafRefusal::Invalid(format!("there is no divergence file {name}")))?;
        let reader = DivergenceReader::open(&path).map_err(refused)?;
        let handle = self.partitions.read().get(&reader.header().partition).cloned();
        let log = handle.map(|handle| {
            let status = handle.status.borrow().clone();
            (status.lineage.clone(), status.appended)
        });
        Ok(Entries { reader, log })
    }

    /// The path of a file that is there: a name is looked for among them, and never made into a path.
    fn path(&self, name: &str) -> Result<Option<PathBuf>, LeafRefusal> {
        let is_it = |path: &Path| path.file_name().is_some_and(|found| found == name);
        Ok(list(&self.dir).map_err(refused)?.into_iter().map(|listed| listed.path).find(|path| is_it(path)))
    }

    /// Removes files. Blocks.
    pub fn discard(&self, id: ExchangeId, database: DatabaseId) -> Result<LeafAnswer, LeafRefusal> {
        let mut removed = 0;
        for listed in list(&self.dir).map_err(refused)? {
            let Ok((header, _)) = &listed.content else { continue };
            if header.id.0 == id.0 && header.partition.database == database {
                let failed = |error| LeafRefusal::Damaged(format!("{} stays: {error}", listed.path.display()));
                std::fs::remove_file(&listed.path).map_err(failed)?;
                removed += 1;
            }
        }
        Ok(LeafAnswer::Discarded(removed))
    }
}

impl Entries {
    /// The next ones; none after the last. Blocks.
    pub fn next(&mut self) -> Result<Vec<SetAside>, LeafRefusal> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES {
            let Some(entry) = self.reader.next().transpose().map_err(refused)? else { break };
            bytes += entry.key.len() + entry.old.as_ref().map_or(0, |row| row.len());
            bytes += entry.new.as_ref().map_or(0, |row| row.len()) + 64;
            entries.push(self.set_aside(entry));
        }
        Ok(entries)
    }

    fn set_aside(&self, entry: Entry) -> SetAside {
        let alive = self.log.as_ref().is_some_and(|(lineage, end)| entry.is_alive(lineage, *end));
        let fate = match entry.stage {
            Stage::Aborted => Fate::Aborted,
            _ if alive => Fate::Alive,
            Stage::Commit => Fate::Dropped,
            Stage::Prepared => Fate::Prepared,
        };
        SetAside { fate, txn: entry.txn, ts: entry.ts, key: entry.key, old: entry.old, new: entry.new }
    }
}

fn file(listed: Listed) -> Result<DivergenceFile, DivergenceError> {
    let (header, summary) = listed.content?;
    let about = DivergenceAbout {
        id: ExchangeId(header.id.0),
        partition: header.partition,
        promotion: header.reason == Reason::Promotion,
        parted_from: header.parted_from,
        end: header.end,
        end_epoch: header.end_epoch,
        created: header.created,
        transactions: summary.transactions,
        records: summary.records,
        times: (Timestamp(summary.from_time), Timestamp(summary.to_time)),
    };
    let name = listed.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(DivergenceFile { name, bytes: listed.bytes, about })
}

fn refused(error: DivergenceError) -> LeafRefusal {
    LeafRefusal::Damaged(error.to_string())
}
