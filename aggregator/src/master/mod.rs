//! What the master aggregator does: it decides, by the catalog over raft, hands out timestamps, and watches the leaves and
//! the other aggregators. Every aggregator has all of it; it does something at the one that leads.

mod catalog;
mod detector;
mod driver;
mod fences;
mod fronts;
mod log;
mod members;
mod moves;
mod network;
mod news;
mod served;
mod service;
mod store;
mod timestamps;

pub use self::catalog::{Catalog, CatalogError, CatalogOptions, Group, Inputs, Status};
pub use self::detector::{Detector, DetectorOptions, LeafState, MOVES_AT_ONCE};
pub use self::driver::Network;
pub(crate) use self::driver::wall_clock;
pub use self::fences::{Fences, TIMEOUT as FENCE_TIMEOUT};
pub use self::fronts::{Front, Fronts, LEASE};
pub use self::members::Members;
pub use self::network::Aggregators;
pub use self::service::MasterService;
pub use self::store::StoreError;
pub use self::timestamps::{Timestamps, TimestampsError};

#[cfg(test)]
mod tests;
