//! What a cluster says of itself, by SQL: who is there, who leads what.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::files::PASSWORD;
use super::{Cluster, Place, Role};
use crate::client::{Client, ClientError, Login, Table};

/// A question that takes longer has no answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A copy of a partition.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Of which partition; the meta partition has -1.
    pub ordinal: i64,
    /// Who holds it.
    pub leaf: Place,
    /// Of the primary: how many copies are in sync, itself included. Of others nothing.
    pub in_sync: Option<usize>,
    /// Where its log ends, if the leaf is heard.
    pub appended: Option<u64>,
}

/// A connection as root.
pub fn connect(address: SocketAddr, patience: Duration) -> Result<Client, ClientError> {
    let login = Login { user: "root".into(), password: PASSWORD.into() };
    Client::connect(address, &login, patience)
}

impl Cluster {
    /// Asks the first aggregator that answers.
    pub fn table(&self, sql: &str) -> Result<Table> {
        let mut last = anyhow!("there is no aggregator");
        for address in self.of(Role::Aggregator).filter(|node| node.runs()).map(|node| node.addresses.sql) {
            let answer = connect(address, PATIENCE).and_then(|mut client| client.table(sql));
            match answer {
                Ok(table) => return Ok(table),
                Err(error) => last = anyhow::Error::from(error).context(format!("{sql} at {address}")),
            }
        }
        Err(last)
    }

    /// How many nodes are online; `kind` is AGGREGATORS or LEAVES.
    pub fn online(&self, kind: &str) -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM information_schema.PERENNIAL_{kind} WHERE state = 'online'");
        let table = self.table(&sql)?;
        let count = table.rows.first().and_then(|row| row.first().cloned().flatten());
        count.and_then(|count| count.parse().ok()).with_context(|| format!("no number answers {sql}"))
    }

    /// Which aggregator is the master.
    pub fn master(&self) -> Result<Place> {
        let table =
            self.table("SELECT host, port FROM information_schema.PERENNIAL_AGGREGATORS WHERE role = 'master'")?;
        self.place_of(&table, 0, |node| node.addresses.sql)
    }

    /// All copies of all partitions.
    pub fn copies(&self) -> Result<Vec<Copy>> {
        let columns = "ordinal, host, port, role, in_sync, appended";
        let table = self.table(&format!("SELECT {columns} FROM information_schema.PERENNIAL_PARTITIONS"))?;
        let copy = |row: usize| {
            let set = table.get(row, "in_sync").map(|set| set.split(',').count());
            Ok(Copy {
                ordinal: table
                    .get(row, "ordinal")
                    .and_then(|text| text.parse().ok())
                    .context("a partition has no number")?,
                leaf: self.place_of(&table, row, |node| node.addresses.rpc)?,
                in_sync: set.filter(|_| table.get(row, "role") == Some("primary")),
                appended: table.number(row, "appended"),
            })
        };
        (0..table.rows.len()).map(copy).collect()
    }

    fn place_of(&self, table: &Table, row: usize, address: impl Fn(&super::Node) -> SocketAddr) -> Result<Place> {
        let (host, port) = (table.get(row, "host"), table.get(row, "port"));
        let text = format!("{}:{}", host.unwrap_or_default(), port.unwrap_or_default());
        let node = self.nodes.iter().find(|node| address(node).to_string() == text);
        node.map(|node| node.place).with_context(|| format!("no node listens at {text}"))
    }
}
