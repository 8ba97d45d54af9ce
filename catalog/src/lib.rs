//! Perennial: crate `catalog`.
