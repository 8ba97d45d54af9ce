//! One number for all rows of a table, in whatever order they come.
//!
//! A row is hashed as its bytes on the wire: each value as text with its length in front, NULL apart from everything else.
//! The hashes (the first 128 bits of SHA-1) are added up, so the order of rows does not count and their number does. The
//! sums are computed here, from what a client is given: whatever the two sides believe of themselves has no part in it.

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use sha1::{Digest, Sha1};

use super::console::connect;

/// The sum over a table's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    /// How many rows.
    pub rows: u64,
    /// Of their hashes.
    pub sum: u128,
}

impl Checksum {
    /// Takes a row in.
    pub fn add(&mut self, row: &[u8]) {
        let hash = Sha1::digest(row);
        let mut first = [0; 16];
        first.copy_from_slice(&hash[..16]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(first));
    }
}

/// Reads tables whole and sums each up.
pub fn of_tables(address: SocketAddr, tables: &[&'static str]) -> Result<Vec<(&'static str, Checksum)>> {
    let mut client = connect(address)?;
    let mut sums = Vec::new();
    for table in tables {
        let mut sum = Checksum::default();
        client
            .each_row(&format!("SELECT * FROM {table}"), &mut |row| sum.add(row))
            .with_context(|| format!("reading {table} at {address}"))?;
        sums.push((*table, sum));
    }
    Ok(sums)
}

/// The same for two regions, side by side.
pub fn of_both(addresses: [SocketAddr; 2], tables: &[&'static str]) -> Result<[Vec<(&'static str, Checksum)>; 2]> {
    std::thread::scope(|scope| {
        let second = scope.spawn(|| of_tables(addresses[1], tables));
        let first = of_tables(addresses[0], tables)?;
        let second = second.join().map_err(|_| anyhow!("the thread that reads {} has panicked", addresses[1]))??;
        Ok([first, second])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[&[u8]]) -> Checksum {
        let mut sum = Checksum::default();
        rows.iter().for_each(|row| sum.add(row));
        sum
    }

    #[test]
    fn order_does_not_count_and_everything_else_does() {
        let rows: [&[u8]; 3] = [b"\x011\x01a", b"\x012\xfb", b"\x013\x00"];
        let all = sum(&rows);
        assert_eq!(all, sum(&[rows[2], rows[0], rows[1]]));
        assert_ne!(all, sum(&rows[..2]));
        assert_ne!(all, sum(&[rows[0], rows[1], rows[1]]));
        assert_ne!(sum(&[b"\x012\xfb"]), sum(&[b"\x012\x00"]), "NULL is no empty text");
        assert_ne!(sum(&[b"\x01a\x02bc"]), sum(&[b"\x02ab\x01c"]), "values keep their borders");
        assert_eq!(sum(&[]), Checksum { rows: 0, sum: 0 });
    }

    #[test]
    fn doubled_rows_do_not_cancel_out() {
        assert_ne!(sum(&[b"x", b"x"]).sum, 0);
        assert_ne!(sum(&[b"x", b"x", b"y"]), sum(&[b"y", b"y", b"x"]));
    }
}
