//! The `perennial` command.
fn main() {}
