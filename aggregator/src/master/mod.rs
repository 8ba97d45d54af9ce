//! What the master aggregator does: it decides, by the catalog over raft, hands out timestamps, and watches the leaves.

mod catalog;
mod detector;
mod driver;
mod fences;
mod served;
mod service;
mod store;
mod timestamps;

pub use self::catalog::{Catalog, CatalogError};
pub use self::detector::{Detector, DetectorOptions, LeafState};
pub use self::fences::{Fences, TIMEOUT as FENCE_TIMEOUT};
pub use self::service::MasterService;
pub use self::store::StoreError;
pub use self::timestamps::{Timestamps, TimestampsError};

#[cfg(test)]
mod tests;
