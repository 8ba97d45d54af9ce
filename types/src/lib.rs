//! The words of the system as types: positions, epochs, lineages. Pure data, no input or output.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod lineage;
pub mod position;

pub use lineage::{Lineage, LineageEntry, StartKind};
pub use position::{ClusterId, Epoch, Lsn, PromotionId, Timestamp};
