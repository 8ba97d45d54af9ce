//! What happened to the cluster, for people: a bounded list, the oldest are forgotten.

use serde::{Deserialize, Serialize};
use types::{DatabaseId, NodeId, Ordinal, Revision};

/// Milliseconds since 1970, as the proposer of a command saw them. For people; nothing is decided by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixMillis(pub u64);

/// How much a person should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// As ordered.
    Info,
    /// The cluster helped itself.
    Warning,
    /// Something was lost, or somebody must act.
    Error,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The command that caused it.
    pub revision: Revision,
    /// When, as its proposer saw it.
    pub at: UnixMillis,
    /// How much a person should care.
    pub severity: Severity,
    /// What kind, in one or two words: `failover`, `fence`, `promotion`.
    pub kind: String,
    /// Which node, where one is meant.
    pub node: Option<NodeId>,
    /// Which database, where one is meant.
    pub database: Option<DatabaseId>,
    /// Which partition of it, where one is meant.
    pub partition: Option<Ordinal>,
    /// One sentence.
    pub text: String,
}

/// The kind of the event of a DROP DATABASE.
pub const DROP: &str = "drop";

impl Event {
    /// What the event of a dropped database says.
    pub(crate) fn dropped(name: &str) -> String {
        format!("database `{name}` was dropped")
    }

    /// The name that a database had which this event says was dropped: the catalog keeps no other word of it. It is forgotten
    /// no earlier than the database's other events.
    pub fn dropped_name(&self) -> Option<&str> {
        let text = Some(&*self.text).filter(|_| self.kind == DROP)?;
        text.strip_prefix("database `")?.strip_suffix("` was dropped")
    }
}
