//! Perennial: crate `transport`.
