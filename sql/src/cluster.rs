//! The seam: what the SQL layer asks of whoever holds the rows.
//!
//! An implementation is made for one statement of one session: it knows the transaction, and the read view of the
//! statement. Reads see what the transaction itself has written. If a statement fails, its caller undoes what the
//! statement wrote; nothing here keeps part of one.
//!
//! Rows are keys and values in partitions. A leaf does its part with the functions of `leaf`: it feeds `Scanner` with
//! the pairs of a range, and for a write it takes the row's lock, reads the row as it is now (the transaction's own
//! write, or the latest committed one), and does what `leaf::apply` says.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use types::{Datum, Ordinal, TableId};

use crate::error::Result;
use crate::layout::Layout;
use crate::scalar::{Scalar, SessionZone, Ty, Warning};
use crate::schema::{Schema, sequence_key};

/// A database, as far as statements need it.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// How many partitions hold its rows.
    pub partitions: u32,
    /// Its tables.
    pub schema: Arc<Schema>,
}

/// A read of a range of one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// Where columns lie.
    pub layout: Layout,
    /// The zone in which TIMESTAMPs are compared and returned.
    pub zone: SessionZone,
    /// Places of the columns to return, in this order.
    pub projection: Vec<usize>,
    /// Which rows, over the places of the layout.
    pub filter: Option<Scalar>,
    /// How many rows at most.
    pub limit: Option<u64>,
    /// First key.
    pub start: Bytes,
    /// Behind the last key.
    pub end: Bytes,
}

/// What an UPDATE computes at the row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Whether the row, as it is under its lock, is still meant.
    pub filter: Option<Scalar>,
    /// Place and new value, in order: later ones see earlier ones. The places of the row come first, then, for a row
    /// that was to be inserted, those of the new row.
    pub set: Vec<(usize, Scalar)>,
    /// Place and value of what is set as well if the row changes by that: times of ON UPDATE.
    pub touch: Vec<(usize, Scalar)>,
}

/// Writes of one table to one partition, done in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WriteBatch {
    /// Where columns lie.
    pub layout: Layout,
    /// The session's zone.
    pub zone: SessionZone,
    /// Whether a value that does not fit is an error.
    pub strict: bool,
    /// For `Update`, `Upsert` and `Delete`.
    pub program: Option<Program>,
    /// The rows.
    pub writes: Vec<RowWrite>,
}

/// One row's write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RowWrite {
    /// 1062 if the key is there.
    Insert(Row),
    /// Nothing if the key is there.
    InsertIgnore(Row),
    /// Instead of the row with the key.
    Replace(Row),
    /// Inserts, or runs the program on the row with the key.
    Upsert(Row),
    /// Runs the program on the row, if it is there and still meant.
    Update(#[serde(with = "octets")] Bytes),
    /// Removes the row, if it is there and still meant.
    Delete(#[serde(with = "octets")] Bytes),
    /// Removes the row, if it is there and still meant, and returns it.
    Take(#[serde(with = "octets")] Bytes),
    /// A counter: takes `count` values that are at least `at_least`.
    Advance {
        /// The counter's key.
        #[serde(with = "octets")]
        key: Bytes,
        /// How many.
        count: u64,
        /// Not below this.
        at_least: u64,
    },
}

impl WriteBatch {
    /// Takes values of a table's counter.
    pub fn advance(table: TableId, count: u64, at_least: u64) -> WriteBatch {
        let layout = Layout { table, name: "sequences".into(), fields: vec![], shard: vec![] };
        let writes = vec![RowWrite::Advance { key: sequence_key(table), count, at_least }];
        WriteBatch { layout, zone: Default::default(), strict: true, program: None, writes }
    }
}

/// A row as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its key.
    #[serde(with = "octets")]
    pub key: Bytes,
    /// Its value.
    #[serde(with = "octets")]
    pub value: Bytes,
}

impl RowWrite {
    /// The key that is locked.
    pub fn key(&self) -> &Bytes {
        match self {
            RowWrite::Insert(row) | RowWrite::InsertIgnore(row) | RowWrite::Replace(row) | RowWrite::Upsert(row) => {
                &row.key
            }
            RowWrite::Update(key) | RowWrite::Delete(key) | RowWrite::Take(key) | RowWrite::Advance { key, .. } => key,
        }
    }
}

/// What a write did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Whether a row was there and meant.
    pub matched: bool,
    /// MySQL's count: 1 for a new or changed row, 2 for a replaced one, 0 for none.
    pub affected: u64,
    /// The row that `Take` removed; the first value that `Advance` took, as a row of the counter.
    #[serde(with = "optional_octets")]
    pub old: Option<Bytes>,
    /// What there is to say.
    pub warnings: Vec<Warning>,
}

/// `Bytes` as a serde value.
mod octets {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(Bytes::from)
    }
}

/// `Option<Bytes>` as a serde value.
mod optional_octets {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| bytes.to_vec()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<Vec<u8>>::deserialize(deserializer)?.map(Bytes::from))
    }
}

/// A table that is made when it is asked for: what the cluster says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sheet {
    /// Names and types.
    pub columns: Vec<(String, Ty)>,
    /// Values in the order of the columns.
    pub rows: Vec<Vec<Datum>>,
}

/// Digits of a second that are shown of a sheet's times: a failover takes less than one.
pub const SECOND_DIGITS: u8 = 3;

/// Name and columns of a table of information_schema.
pub type SystemTable = (&'static str, Vec<(String, Ty)>);

/// Batches of a scan, as they come.
pub type Batches = BoxStream<'static, Result<RecordBatch>>;

/// Whoever holds the rows.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Names of the databases that the session may see, rising.
    async fn databases(&self) -> Result<Vec<String>>;

    /// A database, its tables as they were at some time before; 1049 if there is none. Rows that are read or written
    /// by definitions which have changed are refused (1412).
    async fn database(&self, name: &str) -> Result<Database>;

    /// A database, its tables as they are now, for who wants to know nothing else of it.
    async fn described(&self, name: &str) -> Result<Database> {
        self.database(name).await
    }

    /// The stored values of keys of one partition, in the order of the keys. Only for a statement that reads nothing else:
    /// it sees the latest values, which may be newer than the statement's view.
    async fn get(&self, database: &str, ordinal: Ordinal, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>>;

    /// The rows of a range of one partition, keys rising within a batch and over batches. The batches' columns are
    /// those of the projection, in the types of `arrow::column_type`.
    async fn scan(&self, database: &str, ordinal: Ordinal, scan: Scan) -> Result<Batches>;

    /// The statement scans one partition, once, and reads nothing else: the latest there is a view of its own. So it is said
    /// before the scan, which need not ask anybody for a timestamp then.
    fn scans_once(&self) {}

    /// Writes rows of one partition in order, as part of the session's transaction. An error means that the
    /// statement has failed. Partition -1 holds the schema.
    async fn write(&self, database: &str, ordinal: Ordinal, batch: WriteBatch) -> Result<Vec<Written>>;

    /// A table of information_schema that the cluster fills, by its name in capitals (`PERENNIAL_LEAVES`, …); `None`
    /// for names that it does not know, which is all that a cluster without such tables has to say.
    async fn sheet(&self, _name: &str) -> Result<Option<Sheet>> {
        Ok(None)
    }

    /// The tables of information_schema that the cluster fills and shows: names in capitals, and columns. Nobody is asked.
    fn system_tables(&self) -> Vec<SystemTable> {
        vec![]
    }

    /// Takes `count` values of a table's counter that are at least `at_least`, for good: they are not given back by
    /// a rollback. Returns the first. A `count` of 0 only
    /// raises the counter to `at_least`.
    async fn allocate(&self, database: &str, table: TableId, count: u64, at_least: u64) -> Result<u64>;
}
