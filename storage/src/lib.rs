//! Perennial: crate `storage`.
