//! Many rows, made up and loaded.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cluster::connect;

/// Bytes of a row beside its key.
pub const ROW: usize = 1000;
/// Clients that load and write.
pub const CLIENTS: u64 = 2;
/// Rows of one LOAD DATA.
const ROWS: u64 = 16_000;
const PATIENCE: Duration = Duration::from_secs(300);

/// How many rows make so many gigabytes.
pub fn rows(gigabytes: f64) -> u64 {
    (gigabytes * 1e9 / ROW as f64).ceil() as u64
}

/// Makes a table, and loads rows from 0 on.
pub fn load(address: SocketAddr, table: &str, rows: u64) -> Result<()> {
    let create = format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, v VARCHAR({ROW}) NOT NULL)");
    connect(address, PATIENCE)?.run(&create)?;
    let next = AtomicU64::new(0);
    let one = |number: u64| -> Result<()> {
        let mut client = connect(address, PATIENCE)?;
        let mut random = ChaCha8Rng::seed_from_u64(number);
        loop {
            let first = next.fetch_add(ROWS, Ordering::Relaxed);
            if first >= rows {
                return Ok(());
            }
            let mut ids = first..rows.min(first + ROWS);
            let mut contents = |piece: &mut Vec<u8>| match ids.next() {
                Some(id) => {
                    piece.extend(format!("{id}\t0\t{}\n", text(&mut random)).bytes());
                    true
                }
                None => false,
            };
            client
                .load(&format!("LOAD DATA LOCAL INFILE 'rows' INTO TABLE {table}"), &mut contents)
                .with_context(|| format!("loading rows from {first} on"))?;
        }
    };
    together(CLIENTS, one)
}

/// What a row holds.
pub fn text(random: &mut ChaCha8Rng) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; ROW];
    random.fill_bytes(&mut bytes);
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 64)])).collect()
}

/// Runs one part for each of so many threads.
pub fn together(count: u64, part: impl Fn(u64) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn({
                    let part = &part;
                    move || part(number)
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a client has panicked"))?)
    })
}

/// What files take on the disk.
pub fn bytes_of(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |path: PathBuf| match path.symlink_metadata() {
        Ok(found) if found.is_dir() => bytes_of(&path),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(|entry| of(entry.path())).sum()
}
