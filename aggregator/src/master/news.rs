//! What no command books, for people: that an aggregator has become the master, that a node is silent, that it is heard again.
//!
//! Whether it was told before is read in the catalog's own events, so that a new master says nothing twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::catalog::event::Severity;
use ::catalog::node::{Node, Standing};
use ::catalog::{Command, State};
use parking_lot::Mutex;
use types::NodeId;

use super::detector::Detector;

/// Between two looks at who is silent.
const LOOK: Duration = Duration::from_millis(250);
/// Kinds of events about a node: it is silent, it is heard again, another process of it began.
const SILENT: &str = "silent";
const HEARD: &str = "heard";
const RESTART: &str = "restart";

/// What this aggregator has told as the master.
#[derive(Debug, Default)]
pub(super) struct News {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// Its last office.
    term: u64,
    looked: Option<Instant>,
}

impl Detector {
    /// What is to be announced in this office.
    pub(super) fn news(&self, state: &State, term: u64) -> Vec<Command> {
        let mut told = self.news.told.lock();
        let mut news = Vec::new();
        let own = self.catalog.status().node;
        // Of a new region it leads before it has a name.
        if told.term != term && state.nodes.contains_key(&own) {
            told.term = term;
            let text = format!("aggregator {} is the master, in term {term}", address(state, own));
            news.push(announce(Severity::Info, "master", own, text));
        }
        if told.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return news;
        }
        told.looked = Some(Instant::now());
        let last = last_words(state);
        let others = state.nodes.iter().filter(|(id, node)| **id != own && is_expected(node));
        for (id, node) in others {
            let (up, silent) = (self.is_heard(*id, node), last.get(id) == Some(&SILENT));
            let (role, show) = if node.holds_replicas() { ("leaf", "LEAVES") } else { ("aggregator", "AGGREGATORS") };
            let name = format!("{role} {}", address(state, *id));
            match (up, silent) {
                (false, false) => {
                    let text = format!("{name} is silent: SHOW {show}");
                    news.push(announce(Severity::Warning, SILENT, *id, text));
                }
                (true, true) => news.push(announce(Severity::Info, HEARD, *id, format!("{name} is heard again"))),
                _ => {}
            }
        }
        news
    }

    fn is_heard(&self, id: NodeId, node: &Node) -> bool {
        let front = self.fronts().all().get(&id).map(|front| front.at.elapsed());
        let front = || front.unwrap_or_else(|| self.in_office()) <= self.failure_timeout();
        node.holds_replicas() && self.is_up(id) || node.in_group() && front()
    }
}

/// Whether its silence is news: it belongs to the region, and was not put aside by a person.
fn is_expected(node: &Node) -> bool {
    node.in_group() || node.holds_replicas() && !matches!(node.standing, Standing::Joining | Standing::Detached { .. })
}

/// The kind of the last event about each node that says whether it is silent.
fn last_words(state: &State) -> BTreeMap<NodeId, &str> {
    let mut last = BTreeMap::new();
    for event in &state.events {
        if let Some(node) = event.node
            && [SILENT, HEARD, RESTART].contains(&event.kind.as_str())
        {
            last.insert(node, event.kind.as_str());
        }
    }
    last
}

/// Where clients or other nodes reach it, as SHOW AGGREGATORS and SHOW LEAVES say.
fn address(state: &State, id: NodeId) -> String {
    state.nodes.get(&id).map_or_else(|| state.node_name(id), |node| node.addresses.known_by().to_string())
}

fn announce(severity: Severity, kind: &str, node: NodeId, text: String) -> Command {
    Command::Announce { severity, kind: kind.into(), node: Some(node), partition: None, text }
}

#[cfg(test)]
mod tests {
    use ::catalog::event::UnixMillis;
    use types::ClusterId;

    use super::*;

    #[test]
    fn the_last_event_of_a_node_says_whether_its_silence_was_told() {
        let mut state = State::new(ClusterId(1));
        let told = [(SILENT, 3), (SILENT, 4), ("leaf", 3), (HEARD, 4), (SILENT, 5), (RESTART, 5)];
        for (kind, node) in told {
            let announced = announce(Severity::Info, kind, NodeId(node), String::new());
            state.apply(UnixMillis(1), &announced).expect("anything may be announced");
        }
        let last = [(NodeId(3), SILENT), (NodeId(4), HEARD), (NodeId(5), RESTART)];
        assert_eq!(last_words(&state), last.into());
    }
}
