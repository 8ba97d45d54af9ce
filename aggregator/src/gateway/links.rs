//! SHOW REPLICATION STATUS: one row per link on either side, or one per partition.

use std::time::{Duration, Instant};

use catalog::State;
use catalog::database::Holder;
use catalog::link::{LinkMode, SinkLink, SourceLink};
use sql::cluster::Sheet;
use types::{Datum, LinkId, PartitionId, Timestamp};

use super::replication::{tier, time};
use super::shows::{count, sheet, text, with_times};
use crate::dr::{LinkState, Source};
use crate::region::Region;
use crate::writable::{self, Reason};

/// A sink whose cut is behind its source by less than this has caught up.
const CAUGHT_UP: Duration = Duration::from_millis(1000);

/// Names; true for numbers.
const COLUMNS: [(&str, bool); 24] = [
    ("database", false),
    ("role", false),
    ("peer", false),
    ("peer_cluster", false),
    ("state", false),
    ("mode", false),
    ("tier", false),
    ("reason", false),
    ("lag_ms", true),
    ("lag_bytes", true),
    ("lag_records", true),
    ("cut", false),
    ("progress", true),
    ("eta_s", true),
    ("shipped_bytes", true),
    ("shipped_records", true),
    ("full_copy_bytes", true),
    ("set_aside_records", true),
    ("divergence", false),
    ("since", false),
    ("reconnects", true),
    ("last_error", false),
    ("advice", false),
    ("fingerprint", false),
];

/// The same of one row per partition.
const PARTITION_COLUMNS: [(&str, bool); 10] = [
    ("database", false),
    ("role", false),
    ("partition", true),
    ("source_leaf", false),
    ("sink_leaf", false),
    ("epoch", false),
    ("source_lsn", true),
    ("shipped_lsn", true),
    ("durable_lsn", true),
    ("applied_lsn", true),
];

/// One row per link.
pub fn status(region: &Region, state: &State, database: Option<&str>) -> Sheet {
    let named = |id| state.databases.get(&id).map(|known| known.name.clone());
    let wanted = |name: &String| database.is_none_or(|wanted| wanted == name);
    let mut rows = Vec::new();
    for (id, sink) in &state.sinks {
        if let Some(name) = named(sink.database).filter(wanted) {
            rows.push(sink_row(region, state, name, *id, sink));
        }
    }
    for (id, source) in &state.sources {
        if let Some(name) = named(source.database).filter(wanted) {
            rows.push(source_row(region, state, name, *id, source));
        }
    }
    with_times(sheet(&COLUMNS, rows), &["cut", "since"])
}

/// How far a sink is.
struct Lag {
    applied: u64,
    end: u64,
    millis: Option<u64>,
}

impl Lag {
    fn of(region: &Region, state: &State, sink: &SinkLink, source: Option<&Source>, cut: Timestamp) -> Lag {
        let (mut applied, mut end) = (0, 0);
        for (id, _) in state.partitions_of(sink.database) {
            let here = region.detector.primary(state, id).map_or(0, |replica| replica.applied.0);
            let there = source.and_then(|source| source.safe.iter().find(|(ordinal, _)| *ordinal == id.ordinal));
            applied += here;
            end += there.map_or(here, |(_, lsn)| lsn.0.max(here));
        }
        let position = source.map(|source| source.end.unwrap_or(source.position));
        let millis = position.filter(|_| cut > Timestamp::ZERO).map(|p| p.millis().saturating_sub(cut.millis()));
        Lag { applied, end, millis }
    }

    fn records(&self) -> u64 {
        self.end - self.applied
    }

    fn caught_up(&self) -> bool {
        self.millis.is_some_and(|millis| millis <= CAUGHT_UP.as_millis() as u64)
    }
}

fn sink_state(
    region: &Region,
    state: &State,
    id: LinkId,
    sink: &SinkLink,
    seen: &LinkState,
    lag: &Lag,
) -> &'static str {
    let repairing = |(id, _)| region.detector.primary(state, id).is_some_and(|replica| replica.repairing);
    if sink.broken.is_some() {
        "broken"
    } else if sink.paused {
        "paused"
    } else if !seen.connected {
        "connecting"
    } else if state.partitions_of(sink.database).any(|(_, partition)| partition.incomplete) {
        "copying"
    } else if state.partitions_of(sink.database).any(repairing) {
        "rewinding"
    } else if !region.detector.streams(state, sink.database, id) {
        "comparing"
    } else if lag.caught_up() {
        "caught up"
    } else {
        "streaming"
    }
}

fn sink_row(region: &Region, state: &State, name: String, id: LinkId, sink: &SinkLink) -> Vec<Datum> {
    let seen = region.links.state(id);
    let cut = region.detector.served(state, sink.database);
    let lag = Lag::of(region, state, sink, seen.source.as_ref(), cut);
    let word = sink_state(region, state, id, sink, &seen, &lag);
    let shipped = region.links.received(id);
    let behind = word == "streaming" || word == "comparing" || word == "rewinding" || word == "copying";
    let (progress, eta) = if behind { progress(&seen, &lag) } else { (Datum::Null, Datum::Null) };
    let live = seen.source.as_ref().map(|source| source.live_bytes);
    let copy = state.databases[&sink.database].full_copy;
    let full = copy.zip(live).map_or(Datum::Null, |(copy, live)| count(copy.scaled(live)));
    let (set_aside, divergence) =
        seen.set_aside.clone().map_or((count(0), Datum::Null), |(records, id)| (count(records), text(id)));
    let advice = match (word, &sink.broken) {
        ("broken", Some(reason)) => text(format!(
            "{reason}: STOP REPLICATING {name} keeps what is here, as another history; REPLICATE DATABASE {name} WITH FORCE \
             DIFFERENTIAL FROM {}@{}/{} sets aside what the source lacks",
            sink.source.user, sink.source.address, sink.source.database
        )),
        ("paused", _) => text(format!("CONTINUE REPLICATING {name}")),
        ("connecting", _) => {
            text(format!("is {} up? If its region is lost: STOP REPLICATING {name}", sink.source.address))
        }
        _ => Datum::Null,
    };
    let bytes_each = shipped.bytes.checked_div(shipped.records);
    vec![
        text(name),
        text("sink"),
        text(format!("{}/{}", sink.source.address, sink.source.database)),
        text(sink.source_cluster.0.to_string()),
        text(word),
        text("async"),
        text(tier(sink.tier)),
        text(sink.reason.clone()),
        lag.millis.map_or(Datum::Null, count),
        bytes_each.map_or(Datum::Null, |bytes| count(bytes * lag.records())),
        count(lag.records()),
        time(cut),
        progress,
        eta,
        count(shipped.bytes),
        count(shipped.records),
        full,
        set_aside,
        divergence,
        time(Timestamp::from_millis(sink.since.0)),
        count(seen.reconnects),
        seen.last_error.map_or(Datum::Null, text),
        advice,
        text(transport::tls::Fingerprint(sink.credentials.fingerprint).to_string()),
    ]
}

/// Progress of the present catch-up from 0 to 100, and the seconds that are left at its pace so far.
fn progress(seen: &LinkState, lag: &Lag) -> (Datum, Datum) {
    let (Some(start), Some(began)) = (seen.applied_at_start, seen.began) else { return (Datum::Null, Datum::Null) };
    let (done, all) = (lag.applied.saturating_sub(start), lag.end.saturating_sub(start));
    if all == 0 {
        return (count(0), Datum::Null);
    }
    let eta = (done > 0).then(|| began.elapsed().as_secs() * (all - done) / done);
    (count(done * 100 / all), eta.map_or(Datum::Null, count))
}

fn source_row(region: &Region, state: &State, name: String, id: LinkId, source: &SourceLink) -> Vec<Datum> {
    let seen = region.links.state(id);
    let shipped = region.links.sent(id);
    let heard = |within: Duration| seen.heard.is_some_and(|at: Instant| at.elapsed() < within);
    // Where a stream has not begun since this region started nobody can tell how far the sink is.
    let mut behind = Some(0);
    for (partition, _) in state.partitions_of(source.database) {
        let safe = region.detector.primary(state, partition).and_then(|replica| replica.leading).map(|led| led.safe.0);
        let durable = region.links.sent_of(id, partition).map(|report| report.durable.0);
        behind = behind.zip(safe.zip(durable)).map(|(sum, (safe, durable))| sum + safe.saturating_sub(durable));
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let lag =
        (seen.sink_cut > Timestamp::ZERO).then(|| (now.as_millis() as u64).saturating_sub(seen.sink_cut.millis()));
    let caught_up = lag.is_some_and(|lag| lag <= CAUGHT_UP.as_millis() as u64);
    let fork = fork(state, source);
    let (word, advice) = match (source.ended, &fork) {
        (_, Some(fork)) => ("broken", text(fork.advice.clone())),
        (Some(_), None) => ("broken", text("it follows no longer: it was promoted, dropped or follows another source")),
        (None, None) if !heard(Duration::from_secs(3)) => {
            ("connecting", text("the sink does not report: is its region up?"))
        }
        (None, None) if caught_up => ("caught up", Datum::Null),
        (None, None) => ("streaming", Datum::Null),
    };
    let mode = match source.mode {
        LinkMode::Async => "async",
        LinkMode::Sync => "sync",
        LinkMode::Degraded { .. } => "sync degraded",
    };
    let live = region.detector.live_bytes(state, source.database);
    let full = state.databases[&source.database].full_copy.map_or(Datum::Null, |copy| count(copy.scaled(live)));
    let address = source.peer_address.clone().unwrap_or_default();
    let bytes_each = shipped.bytes.checked_div(shipped.records);
    vec![
        text(name),
        text("source"),
        text(format!("{address}/{}", source.peer_database)),
        text(source.peer_cluster.0.to_string()),
        text(word),
        text(mode),
        Datum::Null,
        fork.map_or(Datum::Null, |fork| text(fork.cause)),
        lag.map_or(Datum::Null, count),
        bytes_each.zip(behind).map_or(Datum::Null, |(bytes, behind)| count(bytes * behind)),
        behind.map_or(Datum::Null, count),
        time(seen.sink_cut),
        Datum::Null,
        Datum::Null,
        count(shipped.bytes),
        count(shipped.records),
        full,
        count(0),
        Datum::Null,
        time(Timestamp::from_millis(source.since.0)),
        count(seen.reconnects),
        seen.last_error.map_or(Datum::Null, text),
        advice,
        source.peer_fingerprint.map_or(Datum::Null, |bytes| text(transport::tls::Fingerprint(bytes).to_string())),
    ]
}

/// Who has claimed a database that a sink followed, and when, and what to type.
fn fork(state: &State, source: &SourceLink) -> Option<Reason> {
    let database = state.databases.get(&source.database)?;
    // A claim is known before its sink's link is over. Another sink's stream goes on meanwhile.
    database.superseding().find(|claim| source.ended.is_some() || claim.cluster == source.peer_cluster)?;
    Some(writable::reason(state, database, Holder::Guard))
}

/// One row per partition of each link.
pub fn partitions(region: &Region, state: &State, database: Option<&str>) -> Sheet {
    let mut rows = Vec::new();
    let named = |id| state.databases.get(&id).map(|known: &catalog::database::Database| known.name.clone());
    let wanted = |name: &String| database.is_none_or(|wanted| wanted == name);
    for (link, sink) in &state.sinks {
        let Some(name) = named(sink.database).filter(wanted) else { continue };
        let source = region.links.state(*link).source;
        for (id, _) in state.partitions_of(sink.database) {
            rows.push(sink_partition(region, state, &name, source.as_ref(), id));
        }
    }
    for (link, source) in &state.sources {
        let Some(name) = named(source.database).filter(wanted) else { continue };
        for (id, partition) in state.partitions_of(source.database) {
            let replica = region.detector.primary(state, id);
            let sent = region.links.sent_of(*link, id);
            let leaf = state.nodes.get(&partition.primary.node).map(|node| node.addresses.rpc.clone());
            rows.push(vec![
                text(name.clone()),
                text("source"),
                Datum::Int(i64::from(id.ordinal.0)),
                leaf.map_or(Datum::Null, text),
                Datum::Null,
                replica.as_ref().and_then(|r| r.epoch).map_or(Datum::Null, |epoch| text(epoch.to_string())),
                replica.and_then(|r| r.leading).map_or(Datum::Null, |leading| count(leading.safe.0)),
                sent.map_or(Datum::Null, |report| count(report.shipped.0)),
                sent.map_or(Datum::Null, |report| count(report.durable.0)),
                Datum::Null,
            ]);
        }
    }
    sheet(&PARTITION_COLUMNS, rows)
}

fn sink_partition(region: &Region, state: &State, name: &str, source: Option<&Source>, id: PartitionId) -> Vec<Datum> {
    let replica = region.detector.primary(state, id);
    let node = state.partitions.get(&id).and_then(|partition| state.nodes.get(&partition.primary.node));
    let find =
        |list: &[(types::Ordinal, types::Lsn)]| list.iter().find(|(o, _)| *o == id.ordinal).map(|(_, lsn)| lsn.0);
    let route = source.and_then(|source| source.route.iter().find(|(ordinal, _)| *ordinal == id.ordinal));
    let number =
        |of: fn(&crate::protocol::ReplicaReport) -> u64| replica.as_ref().map_or(Datum::Null, |r| count(of(r)));
    vec![
        text(name),
        text("sink"),
        Datum::Int(i64::from(id.ordinal.0)),
        route.map_or(Datum::Null, |(_, address)| text(address.clone())),
        node.map_or(Datum::Null, |node| text(node.addresses.rpc.clone())),
        replica.as_ref().and_then(|r| r.epoch).map_or(Datum::Null, |epoch| text(epoch.to_string())),
        source.and_then(|source| find(&source.safe)).map_or(Datum::Null, count),
        number(|r| r.appended.0),
        number(|r| r.leading.as_ref().map_or(0, |leading| leading.safe.0)),
        number(|r| r.applied.0),
    ]
}
