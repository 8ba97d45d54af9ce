//! Rows of a table that was dropped or emptied.
//!
//! DROP and TRUNCATE change definitions alone: rows are found by their table's id, which is nobody's any more. The old
//! definition stays under another key until the rows are taken out, by writes like any others: replicas and regions
//! that follow do the same, and whoever is promoted in the middle goes on.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use types::key::table_range;
use types::{Ordinal, TableId};

use super::Target;
use super::change::keys_of;
use crate::cluster::{Cluster, RowWrite, Scan, WriteBatch};
use crate::error::Result;
use crate::layout::Layout;
use crate::schema::{DROPPED, Table, decode_table, dropped_key, sequence_key};

/// Rows of a piece: one transaction, which holds up nobody for long.
const PIECE: u64 = 1000;

/// One table that was dropped.
pub struct Sweep {
    database: String,
    table: Arc<Table>,
}

impl Sweep {
    /// By the value that its database's meta partition holds for it.
    pub fn of(database: &str, definition: Bytes) -> Result<Sweep> {
        Ok(Sweep { database: database.into(), table: Arc::new(decode_table(definition)?) })
    }

    /// Its id, which no other table of the database ever has.
    pub fn id(&self) -> TableId {
        self.table.id
    }

    /// Takes rows out of one partition, from a key on, or from the first. Returns how many, and where the next piece
    /// begins; `None`: there is none.
    pub async fn piece(
        &self,
        ordinal: Ordinal,
        from: Option<Bytes>,
        cluster: &Arc<dyn Cluster>,
    ) -> Result<(u64, Option<Bytes>)> {
        let database = cluster.database(&self.database).await?;
        let (layout, table) = (Layout::of(&self.table), self.table.clone());
        let target = Target { database, table, layout, zone: Default::default(), strict: false };
        let (start, end) = table_range(self.table.id);
        let scan = Scan {
            layout: target.layout.clone(),
            zone: target.zone,
            projection: target.layout.key_places(),
            filter: None,
            limit: Some(PIECE),
            start: from.unwrap_or(start),
            end,
        };
        cluster.scans_once();
        let keys = keys_of(&target, ordinal, scan, cluster).await?;
        let next = keys.last().filter(|_| keys.len() as u64 == PIECE).map(|(_, key)| above(key));
        let count = keys.len() as u64;
        if count > 0 {
            let writes = keys.into_iter().map(|(ordinal, key)| (ordinal, RowWrite::Delete(key))).collect();
            target.send(cluster, None, writes).await?;
        }
        Ok((count, next))
    }

    /// It has no rows left: nothing of it is kept.
    pub async fn forget(&self, cluster: &Arc<dyn Cluster>) -> Result<()> {
        let layout = Layout { table: DROPPED, name: "dropped".into(), fields: vec![], shard: vec![] };
        let writes = vec![RowWrite::Delete(sequence_key(self.id())), RowWrite::Delete(dropped_key(self.id()))];
        let batch = WriteBatch { layout, zone: Default::default(), strict: true, program: None, writes };
        cluster.write(&self.database, Ordinal::META, batch).await.map(drop)
    }
}

/// The smallest key above one.
fn above(key: &Bytes) -> Bytes {
    let mut next = BytesMut::from(&key[..]);
    next.extend_from_slice(&[0]);
    next.freeze()
}
