//! A deterministic simulator: the real protocol, the real catalog, and a world that is out to break them.
//!
//! Virtual time, one queue of events, one seeded generator. Nodes with drifting clocks, disks that lose what was not
//! synced, processes that are killed and paused, networks that delay, lose, double and reorder; checks of every
//! invariant. A seed is a history: the same seed gives the same one, to the byte.
//!
//! - `options` what a seed makes of the world
//! - `world` the queue, the network, the only loop
//! - `node`, `process`, `disk`, `state`, `host` a node: life, disk, and the host of its replicas
//! - `keep`, `copy` logs that are trimmed, and copies of state where they do not reach back
//! - `damage` disks that fail
//! - `region` a region's catalog and timestamp service
//! - `clients` transactions and reads; `definitions` what they are planned with
//! - `sessions` streams between regions
//! - `control` what persons and leaders do to databases that follow each other
//! - `moves` partitions that move, leaves that come and go
//! - `script` which faults strike, when and whom
//! - `nemesis` what they do
//! - `checks` what must hold; one property a file
//! - `run` many seeds; `shrink` a failing one with as few faults as it needs
//! - `scenarios` histories that the rules exist for, each shown to fail without its rule
//! - `scale` the control plane of a large region, counted
//!
//! # What is not simulated
//!
//! The bytes of the node log, of frames and of files (storage and transport test those); garbage
//! collection of row versions; state diffs (tier 2).
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod checks;
pub mod clients;
pub mod control;
pub mod copy;
mod damage;
pub mod definitions;
pub mod disk;
mod host;
mod keep;
pub mod moves;
pub mod nemesis;
pub mod node;
pub mod options;
mod process;
pub mod region;
pub mod run;
pub mod scale;
pub mod scenarios;
pub mod script;
pub mod sessions;
pub mod shrink;
pub mod state;
pub mod world;
