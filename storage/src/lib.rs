//! Perennial: crate `storage`.

#[cfg(feature = "state")]
pub mod divergence;
#[cfg(feature = "state")]
pub mod rewind;
#[cfg(feature = "state")]
pub mod snapshot;
#[cfg(feature = "state")]
pub mod state;
