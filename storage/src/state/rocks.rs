//! The storage engine: one RocksDB instance per partition replica. Only this file and `verify` name it.
//!
//! - No write-ahead log: the node log is it.
//! - RocksDB never flushes a memtable by itself: the buffer size is beyond reach, closing does not flush, and a
//!   checkpoint does not. A flush that it did not order would put records into files that the log may lose. One way
//!   is left: when a full disk gets room again, RocksDB flushes to recover. Records that a power failure then takes
//!   from an ASYNC DURABILITY log leave a state above its log, which `open` refuses.
//! - All instances share one block cache, one rate limiter, the threads of the process and a budget for memtables.
//!   The budget is counted here and enforced by those who flush (`StateEnv::over_budget`).
//!
//! Unsafe code: two changes of a lifetime, so that a snapshot and an iterator can own the database they read from
//! instead of borrowing it. Each says why it holds.
#![allow(unsafe_code)]

use std::cmp::Ordering as Order;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIteratorWithThreadMode, Env, ErrorKind, FlushOptions,
    Options, ReadOptions, SliceTransform, SnapshotWithThreadMode, WriteBatch, WriteOptions, properties,
};
use types::state::Space;

use super::{StateError, verify};

/// Beyond every budget, and the most that RocksDB accepts: it never flushes by itself.
const NEVER_FULL: usize = 64 << 30;
/// How long to wait before looking again whether a flush has ended.
const FLUSH_POLL: Duration = Duration::from_micros(500);
/// Options that have no setter. `avoid_flush_during_shutdown`: closing must not order a flush.
const UNNAMED_OPTIONS: &str = "avoid_flush_during_shutdown=true;avoid_flush_during_recovery=true;\
                               max_bgerror_resume_count=0;manifest_preallocation_size=65536";

/// What the partitions of a process share.
#[derive(Clone, Debug)]
pub struct StateConfig {
    /// Block cache in bytes.
    pub cache_bytes: usize,
    /// Memtables of all partitions together, in bytes: above it, partitions ask to be flushed.
    pub memtable_bytes: u64,
    /// Threads for flushing and, as many again, for compaction.
    pub background_threads: u16,
    /// Limit of flush and compaction writes in bytes per second.
    pub write_rate: Option<u64>,
}

impl Default for StateConfig {
    fn default() -> StateConfig {
        StateConfig { cache_bytes: 256 << 20, memtable_bytes: 256 << 20, background_threads: 2, write_rate: None }
    }
}

/// In the words of an error: a file is missing.
const NOT_THERE: &str = "No such file";
/// Inside an instance's directory: links to its files while they are read from the disk.
const VERIFIED: &str = "verify";

/// The shared parts of all partition states of a process.
pub struct StateEnv {
    options: Options,
    memtable_limit: u64,
    memtable_bytes: AtomicI64,
    open: AtomicU64,
}

impl StateEnv {
    /// Makes the shared parts.
    pub fn new(config: &StateConfig) -> Result<Arc<StateEnv>, StateError> {
        let failed = |error: rocksdb::Error| engine_error(Path::new(""), "setting up", error);
        let mut threads = Env::new().map_err(failed)?;
        threads.set_background_threads(config.background_threads.into());
        threads.set_high_priority_background_threads(config.background_threads.into());

        let mut options = Options::default().get_options_from_string(UNNAMED_OPTIONS).map_err(failed)?;
        options.create_if_missing(true);
        options.set_env(&threads);
        options.set_max_background_jobs(i32::from(config.background_threads) * 2);
        if let Some(rate) = config.write_rate {
            options.set_ratelimiter(rate.min(i64::MAX as u64) as i64, 100_000, 10);
        }
        // Memtables grow until we flush. The arena's block is set because its default follows the buffer's size.
        options.set_write_buffer_size(NEVER_FULL);
        options.set_arena_block_size(128 << 10);
        options.set_max_write_buffer_number(4);
        options.set_max_total_wal_size(1 << 20);
        options.set_allow_concurrent_memtable_write(false);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        options.set_prefix_extractor(SliceTransform::create("perennial.row", row_of, Some(has_row)));
        options.set_block_based_table_factory(&table_options(config));
        // Thousands of instances in a process: few open files, no statistics, small logs each.
        options.set_max_open_files(512);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        Ok(Arc::new(StateEnv {
            options,
            memtable_limit: config.memtable_bytes,
            memtable_bytes: AtomicI64::new(0),
            open: AtomicU64::new(0),
        }))
    }

    /// Memory of all memtables, flushed ones that are still read not included.
    pub fn memtable_bytes(&self) -> u64 {
        self.memtable_bytes.load(Ordering::Relaxed).max(0) as u64
    }

    /// Whether a partition with `mine` bytes of memtables should be flushed: all together are over the budget, and
    /// it holds at least its share. Over the budget at least one partition does.
    pub fn over_budget(&self, mine: u64) -> bool {
        let (all, open) = (self.memtable_bytes(), self.open.load(Ordering::Relaxed).max(1));
        all > self.memtable_limit && mine.saturating_mul(open) >= all
    }
}

/// A file that is not there was there when the manifest named it, so that is damage as well.
fn engine_error(dir: &Path, action: &'static str, error: rocksdb::Error) -> StateError {
    let kind = error.kind();
    let message = error.into_string();
    let missing = kind == ErrorKind::IOError && message.contains(NOT_THERE);
    let corrupt = missing || matches!(kind, ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::InvalidArgument);
    StateError::Engine { dir: dir.into(), action, message, corrupt }
}

fn table_options(config: &StateConfig) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(config.cache_bytes));
    table.set_block_size(16 << 10);
    // Footers have checksums as well.
    table.set_format_version(6);
    // Filters know rows, not versions: a look-up of a row that is not there reads no file.
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    // In the cache, so that memory stays within its bound however many files there are.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}

/// The prefix of a version's key that names the row: all but the timestamp.
fn row_of(key: &[u8]) -> &[u8] {
    &key[..key.len() - 8]
}

fn has_row(key: &[u8]) -> bool {
    key.len() >= 9 && key[0] == Space::Version as u8
}

/// An open instance, shared by all who read it. Fields drop in order: it is closed before its directory may go.
struct Instance {
    db: DB,
    home: Home,
}

impl Deref for Instance {
    type Target = DB;

    fn deref(&self) -> &DB {
        &self.db
    }
}

/// Where an instance is.
struct Home {
    dir: PathBuf,
    /// It is deleted when nobody reads it any more.
    doomed: AtomicBool,
}

impl Drop for Home {
    fn drop(&mut self) {
        if *self.doomed.get_mut()
            && let Err(error) = std::fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "a state that is not needed any more is left behind");
        }
    }
}

/// One partition's instance.
pub(super) struct Store {
    db: Arc<Instance>,
    dir: PathBuf,
    env: Arc<StateEnv>,
    counted: Mutex<u64>,
}

impl Store {
    /// Opens or creates the instance in `dir`.
    pub(super) fn open(env: Arc<StateEnv>, dir: &Path) -> Result<Store, StateError> {
        let failed = |error: std::io::Error| {
            let message = error.to_string();
            StateError::Engine { dir: dir.into(), action: "opening", message, corrupt: false }
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let db = DB::open(&env.options, dir).map_err(|error| engine_error(dir, "opening", error))?;
        env.open.fetch_add(1, Ordering::Relaxed);
        let home = Home { dir: dir.into(), doomed: AtomicBool::new(false) };
        let db = Arc::new(Instance { db, home });
        let store = Store { db, dir: dir.into(), env, counted: Mutex::new(0) };
        store.count_memory();
        Ok(store)
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it shares with others.
    pub(super) fn env(&self) -> &Arc<StateEnv> {
        &self.env
    }

    /// Deletes the directory once nobody reads it any more.
    pub(super) fn doom(&self) {
        self.db.home.doomed.store(true, Ordering::Release);
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(rocksdb::Error) -> StateError {
        let dir = self.dir.clone();
        move |error| engine_error(&dir, action, error)
    }

    /// The value at `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let value = self.db.get(key).map_err(self.failed("reading"))?;
        Ok(value.map(Bytes::from))
    }

    /// Makes the batch visible as a whole; in memory only.
    pub(super) fn write(&self, batch: Batch) -> Result<(), StateError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch.0, &options).map_err(self.failed("writing"))?;
        self.count_memory();
        Ok(())
    }

    /// Memory of the memtables that are not in files.
    pub(super) fn memtable_bytes(&self) -> u64 {
        self.db.property_int_value(properties::CUR_SIZE_ALL_MEM_TABLES).ok().flatten().unwrap_or(0)
    }

    fn count_memory(&self) {
        let mut counted = self.counted.lock();
        let now = self.memtable_bytes();
        self.env.memtable_bytes.fetch_add(now as i64 - *counted as i64, Ordering::Relaxed);
        *counted = now;
    }

    /// Closes the memtable: what was written so far goes to files, what is written from now on does not.
    pub(super) fn start_flush(&self) -> Result<Flush, StateError> {
        let flush = Flush { errors: self.number(properties::BACKGROUND_ERRORS)? };
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.db.flush_opt(&options).map_err(self.failed("flushing"))?;
        Ok(flush)
    }

    /// Waits until the memtables that were closed are in files, synced.
    pub(super) fn finish_flush(&self, flush: Flush) -> Result<(), StateError> {
        while self.number(properties::NUM_IMMUTABLE_MEM_TABLE)? > 0 {
            if self.number(properties::BACKGROUND_ERRORS)? > flush.errors {
                // A stopped instance answers any write with the error that stopped it.
                self.write(Batch::default())?;
                let message = "an error in the background, see the file LOG".into();
                return Err(StateError::Engine { dir: self.dir.clone(), action: "flushing", message, corrupt: false });
            }
            std::thread::sleep(FLUSH_POLL);
        }
        self.count_memory();
        Ok(())
    }

    fn number(&self, name: &'static properties::PropName) -> Result<u64, StateError> {
        Ok(self.db.property_int_value(name).map_err(self.failed("asking"))?.unwrap_or(0))
    }

    /// Hard links to the files as they are; memtables are left out.
    pub(super) fn checkpoint(&self, to: &Path) -> Result<(), StateError> {
        let checkpoint = Checkpoint::new(&self.db.db).map_err(self.failed("exporting"))?;
        checkpoint.create_checkpoint_with_log_size(to, u64::MAX).map_err(self.failed("exporting"))
    }

    /// Reads all files from the disk, whatever is in memory of them, at most `rate` bytes a second. One at a time.
    pub(super) fn verify(&self, rate: Option<u64>) -> Result<(), StateError> {
        let links = self.dir.join(VERIFIED);
        let failed = |message: String| {
            let corrupt = message.starts_with("Corruption") || message.contains(NOT_THERE);
            StateError::Engine { dir: self.dir.clone(), action: "reading all of", message, corrupt }
        };
        let clear = || match std::fs::remove_dir_all(&links) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StateError::Engine {
                dir: links.clone(),
                action: "removing",
                message: error.to_string(),
                corrupt: false,
            }),
            _ => Ok(()),
        };
        // What a killed process left.
        clear()?;
        self.checkpoint(&links)?;
        let read = verify::read_all(&links, rate).map_err(failed);
        clear()?;
        read
    }

    /// Everything as it is now, for as long as it is held.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        let snapshot = self.db.snapshot();
        // SAFETY: only the lifetime changes. `Snapshot` keeps the database alive and drops it last.
        let inner = unsafe {
            std::mem::transmute::<SnapshotWithThreadMode<'_, DB>, SnapshotWithThreadMode<'static, DB>>(snapshot)
        };
        Arc::new(Snapshot { inner, dir: self.dir.clone(), _db: self.db.clone() })
    }

    /// How many keys there are, about.
    pub(super) fn entries(&self) -> u64 {
        self.db.property_int_value(properties::ESTIMATE_NUM_KEYS).ok().flatten().unwrap_or(0)
    }

    /// Bytes of the live files and of the rows in memory, about.
    pub(super) fn size(&self) -> u64 {
        let number = |name| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        number(properties::LIVE_SST_FILES_SIZE) + self.memtable_bytes()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.env.open.fetch_sub(1, Ordering::Relaxed);
        self.env.memtable_bytes.fetch_sub(*self.counted.lock() as i64, Ordering::Relaxed);
    }
}

/// A flush on its way.
pub(super) struct Flush {
    /// How many errors there had been in the background when it began.
    errors: u64,
}

/// Changes that become visible together.
#[derive(Default)]
pub(super) struct Batch(WriteBatch);

impl Batch {
    /// Sets a key.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.put(key, value);
    }

    /// Removes a key.
    pub(super) fn delete(&mut self, key: &[u8]) {
        self.0.delete(key);
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> usize {
        self.0.size_in_bytes()
    }

    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The instance at one moment. Fields drop in order: the database last.
pub(super) struct Snapshot {
    inner: SnapshotWithThreadMode<'static, DB>,
    dir: PathBuf,
    _db: Arc<Instance>,
}

/// How an iterator finds its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// Within the versions of one row; the filters may answer that there are none.
    Row,
    /// Over everything from the first key on.
    Range,
    /// The same, from the disk: the checksum of each block that is not in the cache is looked at, and the cache is left
    /// to those who serve.
    Scrub,
}

impl Snapshot {
    /// The instance's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The value at `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let value = self.inner.get(key).map_err(|error| engine_error(&self.dir, "reading", error))?;
        Ok(value.map(Bytes::from))
    }

    /// An iterator that stands nowhere yet and ends before `end`.
    pub(super) fn walk(self: &Arc<Snapshot>, walk: Walk, end: &[u8]) -> Walker {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        match walk {
            Walk::Row => options.set_prefix_same_as_start(true),
            Walk::Range => options.set_total_order_seek(true),
            Walk::Scrub => {
                options.set_total_order_seek(true);
                options.fill_cache(false);
            }
        }
        // SAFETY: only the lifetime changes. `Walker` keeps the snapshot, hence the database, and drops it last.
        let inner = unsafe {
            std::mem::transmute::<DBRawIteratorWithThreadMode<'_, DB>, DBRawIteratorWithThreadMode<'static, DB>>(
                self.inner.raw_iterator_opt(options),
            )
        };
        Walker { inner, snapshot: self.clone() }
    }
}

/// Key and value.
pub(super) type Item<'a> = (&'a [u8], &'a [u8]);

/// Walks over keys in order. Fields drop in order: the snapshot last.
pub(super) struct Walker {
    inner: DBRawIteratorWithThreadMode<'static, DB>,
    snapshot: Arc<Snapshot>,
}

impl Walker {
    /// How many steps are tried before a seek: neighbours are mostly near.
    const STEPS: usize = 8;

    /// Goes to the first key at or above `key`.
    pub(super) fn seek(&mut self, key: &[u8]) {
        self.inner.seek(key);
    }

    /// Goes to the last key.
    pub(super) fn seek_to_last(&mut self) {
        self.inner.seek_to_last();
    }

    /// Goes to the next key.
    pub(super) fn next(&mut self) {
        self.inner.next();
    }

    /// Goes on to the first key at or above `key`, which lies ahead: by steps if it is near, by a seek if not.
    pub(super) fn advance_to(&mut self, key: &[u8]) {
        for _ in 0..Walker::STEPS {
            match self.inner.key().map(|here| here.cmp(key)) {
                Some(Order::Less) => self.inner.next(),
                Some(_) | None => return,
            }
        }
        if self.inner.key().is_some_and(|here| here < key) {
            self.inner.seek(key);
        }
    }

    /// Key and value where it stands, `None` at the end. Fails if the end is not an end but an error.
    pub(super) fn item(&self) -> Result<Option<Item<'_>>, StateError> {
        match self.inner.item() {
            Some(item) => Ok(Some(item)),
            None => match self.inner.status() {
                Ok(()) => Ok(None),
                Err(error) => Err(engine_error(&self.snapshot.dir, "reading", error)),
            },
        }
    }

    /// The instance's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.snapshot.dir
    }
}
