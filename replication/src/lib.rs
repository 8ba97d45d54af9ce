//! Perennial: crate `replication`.
