//! The state of a partition on disk, against the plain model of what a log means. One binary: it links RocksDB.

extern crate types;

#[path = "../../../types/tests/history/mod.rs"]
#[allow(dead_code)]
mod history;

mod collect;
mod divergence;
mod kill;
mod reads;
mod replaced;
mod rewind;
mod setup;
mod snapshot;
mod writes;
