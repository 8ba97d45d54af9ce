//! INSERT, REPLACE, UPDATE, DELETE and LOAD DATA.
//!
//! Rows are made here: values converted to their columns' types, defaults and counters filled in, key, value and
//! partition computed. What depends on the row as it is (is the key there? what is `n + 1`?) is done at the partition,
//! under the row's lock, by `leaf::apply`; this side only sends it there. A batch goes to all its partitions at once.

mod change;
mod insert;
mod load;
mod rows;
mod sweep;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use types::Ordinal;

use crate::cluster::{Cluster, Database, Program, RowWrite, WriteBatch, Written};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::scalar::SessionZone;
use crate::schema::Table;
use crate::session::Session;

pub(crate) use change::{TableNames, delete, single_table, update};
pub(crate) use insert::insert;
pub use load::Loader;
pub use sweep::Sweep;

/// The table that a statement writes.
pub(crate) struct Target {
    pub(crate) database: Database,
    pub(crate) table: Arc<Table>,
    pub(crate) layout: Layout,
    pub(crate) zone: SessionZone,
    pub(crate) strict: bool,
}

impl Target {
    pub(crate) async fn find(
        cluster: &Arc<dyn Cluster>,
        session: &Session,
        database: Option<&str>,
        name: &str,
    ) -> Result<Target> {
        let database = database.or(session.database.as_deref()).ok_or_else(Error::no_database)?;
        if database.eq_ignore_ascii_case(crate::info::INFORMATION_SCHEMA) {
            return Err(Error::new(
                1044,
                format!("Access denied for user '{}'@'{}' to database '{database}'", session.user, session.host),
            ));
        }
        let found = cluster.database(database).await?;
        let table = found.schema.table(name).cloned().ok_or_else(|| Error::unknown_table(database, name))?;
        let layout = Layout::of(&table);
        Ok(Target { database: found, table, layout, zone: session.zone(), strict: session.strict() })
    }

    /// Sends writes to their partitions, all partitions at once. The answers are in the order of the writes.
    pub(crate) async fn send(
        &self,
        cluster: &Arc<dyn Cluster>,
        program: Option<Program>,
        writes: Vec<(Ordinal, RowWrite)>,
    ) -> Result<Vec<Written>> {
        let count = writes.len();
        let mut batches: BTreeMap<Ordinal, (Vec<usize>, Vec<RowWrite>)> = BTreeMap::new();
        for (at, (ordinal, write)) in writes.into_iter().enumerate() {
            let (places, batch) = batches.entry(ordinal).or_default();
            places.push(at);
            batch.push(write);
        }
        let sent = batches.into_iter().map(|(ordinal, (places, writes))| {
            let batch = WriteBatch {
                layout: self.layout.clone(),
                zone: self.zone,
                strict: self.strict,
                program: program.clone(),
                writes,
            };
            let name = &self.database.name;
            async move { Ok::<_, Error>((places, cluster.write(name, ordinal, batch).await?)) }
        });
        let mut answers = vec![Written::default(); count];
        for (places, written) in try_join_all(sent).await? {
            if places.len() != written.len() {
                return Err(Error::new(1105, "a partition answered for another number of rows than it was sent"));
            }
            places.into_iter().zip(written).for_each(|(at, written)| answers[at] = written);
        }
        Ok(answers)
    }
}
