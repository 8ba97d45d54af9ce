//! What this repository promises about itself, checked on every run of the tests.
//!
//! - `edges` which crate may see which, and what no pure crate may reach
//! - `purity` clocks, randomness, files and hash order in the pure crates
//! - `size` of files and functions
//! - `unfinished` marks of unfinished work
//! - `documents` links, paths, and the list of crates
//! - `configs` every topology loads
//! - `committed` nothing of the machine it was written on

mod committed;
mod configs;
mod documents;
mod edges;
mod purity;
mod size;
mod unfinished;
