//! Perennial: crate `types`.
