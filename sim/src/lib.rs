//! Perennial: crate `sim`.
