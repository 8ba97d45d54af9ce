//! The words of the system as types: positions, epochs, lineages, records and their bytes. Pure data, no input or
//! output.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod entry;
pub mod ids;
pub mod key;
pub mod lineage;
pub mod position;
pub mod promotion;
pub mod record;
pub mod row;
pub mod segment;
pub mod state;
pub mod txn;
pub mod value;
pub mod view;

pub use ids::{
    DatabaseId, Incarnation, LinkId, Member, NodeId, Ordinal, PartitionId, Reign, Revision, SchemaVersion, SetVersion,
    TableId, TxnId,
};
pub use lineage::{Lineage, LineageEntry, StartKind};
pub use position::{ClusterId, Epoch, Lsn, PromotionId, Timestamp};
pub use promotion::{Mark, Promotion, is_named, parting_cut};
pub use record::{Body, DecodeError, Record, Write};
pub use row::ColumnId;
pub use value::{ColumnType, Datum, Decimal};
pub use view::{Fence, LogEnd, Mode, Role, View};
