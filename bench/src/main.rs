//! Perennial: benchmarks.
fn main() {}
