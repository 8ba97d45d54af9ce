//! REPLICATE: log in at the source, have the catalog take the order, wait until what the source had is here.
//!
//! The order is durable before anything is waited for: a client that leaves, or an aggregator that fails, stops nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::command::{CreateDatabase, CreateSink, Follow, LinkTerms};
use catalog::database::{Database, Options, Side};
use catalog::decide::placement;
use catalog::link::{Credentials, LinkOptions, OnSilence, SinkLink, SourceAddress, Tier};
use catalog::{Command, Refusal, State};
use serde::{Deserialize, Serialize};
use sql::{Error, Result};
use tokio::time::sleep;
use types::{DatabaseId, LinkId, Lsn, Mode, PartitionId, Timestamp, parting_cut};

use super::peer::{Peer, first_trust};
use super::protocol::{LinkAnswer, LinkRequest, Open, Opened};
use crate::gateway::set_aside_since;
use crate::master::CatalogError;
use crate::protocol::ReplicaReport;
use crate::region::Region;

/// Between two looks at how far the sink is.
const LOOK: Duration = Duration::from_millis(20);
/// How long the primaries may take to apply what they hold.
const APPLY_TIME: Duration = Duration::from_secs(10);
/// How long the source's catalog may take.
const CALL_TIME: Duration = Duration::from_secs(10);

/// What a person orders.
#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    /// The database here.
    pub database: String,
    /// The source, the password apart.
    pub source: SourceAddress,
    /// The password at the source.
    pub password: String,
    /// Durability here; default: synchronous, or as it is.
    pub sync_durability: Option<bool>,
    /// FORCE DIFFERENTIAL.
    pub forced: bool,
    /// Of the link.
    pub options: LinkOptions,
    /// Return when the order is durable.
    pub no_wait: bool,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Order({} from {:?})", self.database, self.source)
    }
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replicated {
    /// How the sink came by the data.
    pub tier: Tier,
    /// Up to when the histories of both sides are one; `None` for a full copy.
    pub common_point: Option<Timestamp>,
    /// Records that were shipped for it.
    pub shipped_records: u64,
    /// Bytes that were shipped for it, after compression.
    pub shipped_bytes: u64,
    /// What a full copy would take, if that is known.
    pub full_copy_bytes: Option<u64>,
    /// Records that this side alone had, and where they are.
    pub set_aside: Option<(u64, String)>,
    /// How long it took.
    pub duration: Duration,
    /// Up to when the sink holds everything now.
    pub cut: Timestamp,
}

fn not_now(error: CatalogError) -> Error {
    Error::new(9005, error.to_string())
}

/// An error of a link, for clients.
pub fn link_error(text: impl std::fmt::Display) -> Error {
    Error::new(9010, text.to_string())
}

fn refused(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::NameNew { .. } => Error::new(1007, refusal.to_string()),
        Refusal::NameExisting { .. } => Error::new(1049, refusal.to_string()),
        _ => link_error(refusal),
    }
}

/// Carries the order out.
pub async fn replicate(region: &Arc<Region>, order: Order) -> Result<Replicated> {
    let begun = Instant::now();
    let term = region.detector.office().await.map_err(not_now)?;
    let existing = expect_possible(&region.catalog.state(), &order)?;
    let limit = Duration::from_millis(order.options.connect_timeout_millis);
    let trust = first_trust(&order.options).map_err(link_error)?;
    let address = &order.source.address;
    let unreachable = |reason: String| link_error(format!("The source {address} cannot be asked: {reason}"));
    let peer = region.peering.dial(address, &trust, None, limit).await.map_err(unreachable)?;
    let opened = log_in(region, &peer, &order).await?;
    let common_point = common_point(&region.catalog.state(), existing, &opened);
    if existing.is_none_or(|id| region.catalog.state().databases.get(&id).is_some_and(|known| !known.is_sink())) {
        region.links.begin(opened.link);
    }
    let ordered = give(region, term, &peer, &order, &opened, existing).await;
    let database = match ordered {
        Ok(database) => database,
        Err(error) => {
            // Nothing is left behind; but what the way back of an earlier link needs is kept.
            let (link, token) = (opened.link, opened.token.clone());
            let close = LinkRequest::Close { link, token, keep_pin: existing.is_some() };
            if let Err(reason) = peer.call(&close, CALL_TIME).await {
                tracing::warn!(reason, "the source does not know that the order has failed");
            }
            return Err(error);
        }
    };
    region.definitions.forget(database);
    region.links.note(opened.link, |known| {
        known.target.get_or_insert(opened.source.position);
        known.source.get_or_insert(opened.source.clone());
    });
    if !order.no_wait {
        wait(region, database, &opened, limit).await?;
        super::keeper::measure_copy(region, database, opened.link).await.map_err(link_error)?;
        applied(region, database).await;
    }
    if let Some(sink) = region.catalog.state().sinks.get(&opened.link) {
        let set_aside = set_aside_since(region, database, sink.since.0).await;
        region.links.note(opened.link, |known| known.set_aside = set_aside);
    }
    Ok(result(region, database, &opened, common_point, begun))
}

/// What can be refused before the source is asked. Returns the database, if it exists.
fn expect_possible(state: &State, order: &Order) -> Result<Option<DatabaseId>> {
    let Some((id, database)) = state.database_named(&order.database) else {
        return match order.forced {
            true => Err(Error::new(
                1049,
                format!(
                    "Unknown database '{}': leave out WITH FORCE DIFFERENTIAL to have it made as a copy",
                    order.database
                ),
            )),
            false => Ok(None),
        };
    };
    if order.forced {
        return Ok(Some(id));
    }
    let exists = |advice: String| Error::new(1007, format!("The database '{}' exists: {advice}", database.name));
    match database.side {
        Side::Writable => {
            Err(exists("add WITH FORCE DIFFERENTIAL to let it follow; what it alone has is set aside".into()))
        }
        Side::Sink { link } => {
            let source = &state.sinks[&link].source;
            if source.address == order.source.address && source.database == order.source.database {
                return Ok(Some(id));
            }
            Err(exists(format!(
                "it follows {}/{}; add WITH FORCE DIFFERENTIAL to follow another source",
                source.address, source.database
            )))
        }
    }
}

async fn log_in(region: &Region, peer: &Peer, order: &Order) -> Result<Opened> {
    let open = Open {
        user: order.source.user.clone(),
        password: order.password.clone(),
        database: order.source.database.clone(),
        peer_database: order.database.clone(),
        peer_address: region.peering.address.clone(),
        peer_fingerprint: region.peering.fingerprint,
        sync: order.options.sync,
        on_silence: order.options.on_silence,
    };
    let address = &order.source.address;
    match peer.call(&LinkRequest::Open(open), CALL_TIME).await {
        Ok(LinkAnswer::Opened(opened)) => Ok(*opened),
        Ok(LinkAnswer::Refused(refusal)) => Err(link_error(format!("The source {address} refuses: {refusal}"))),
        Ok(other) => Err(link_error(format!("The source {address} answers {other:?}"))),
        Err(reason) => Err(link_error(format!("The source {address} does not answer: {reason}"))),
    }
}

/// Where the histories part, as far as promotions tell.
fn common_point(state: &State, existing: Option<DatabaseId>, opened: &Opened) -> Option<Timestamp> {
    let database = state.databases.get(&existing?).filter(|known| known.identity == opened.identity)?;
    let parted = parting_cut(&database.promotions, &opened.source.promotions);
    parted.or(Some(opened.source.position).filter(|ts| *ts > Timestamp::ZERO))
}

/// Has the catalog take the order.
async fn give(
    region: &Region,
    term: u64,
    peer: &Peer,
    order: &Order,
    opened: &Opened,
    existing: Option<DatabaseId>,
) -> Result<DatabaseId> {
    let fingerprint = peer.fingerprint().ok_or_else(|| link_error("The source shows no certificate"))?;
    let terms = LinkTerms {
        link: opened.link,
        source: order.source.clone(),
        source_cluster: opened.cluster,
        credentials: Credentials { fingerprint, token: opened.token.clone() },
        options: order.options.clone(),
        promotions: opened.source.promotions.clone(),
        relay: opened.source.relay,
        upstream: opened.source.upstream.clone(),
    };
    let command = match existing {
        Some(database) => {
            let served = region.detector.served(&region.catalog.state(), database);
            let (identity, partitions, forced) = (opened.identity, opened.partitions, order.forced);
            Command::Follow(Follow { database, identity, partitions, terms, forced, served })
        }
        None => Command::CreateSink(CreateSink { create: new_database(region, order, opened)?, terms }),
    };
    let _still = existing.map(|database| region.detector.stand_still(database));
    let decided = region.catalog.decide(term, command).await.map_err(not_now)?;
    decided.map_err(|refusal| refused(&refusal))?;
    let state = region.catalog.state();
    let (id, database) =
        state.database_named(&order.database).ok_or_else(|| Error::unknown_database(&order.database))?;
    let durable = order.sync_durability.unwrap_or(database.mode.sync_durability);
    if durable != database.mode.sync_durability {
        let mode = Mode { sync_durability: durable, ..database.mode };
        let alter = Command::AlterDatabase { name: order.database.clone(), mode, options: database.options.clone() };
        crate::gateway::decide(region, alter).await?;
    }
    Ok(id)
}

fn new_database(region: &Region, order: &Order, opened: &Opened) -> Result<CreateDatabase> {
    let candidates = placement::candidates(&region.catalog.state());
    if candidates.is_empty() {
        return Err(Error::new(9005, "The cluster has no leaf yet: start one, then repeat REPLICATE"));
    }
    let groups: std::collections::BTreeSet<_> = candidates.iter().map(|candidate| candidate.group).collect();
    let options = Options { redundancy: groups.len().min(2) as u8, ..Options::default() };
    let placement = placement::assign(&candidates, opened.partitions, options.redundancy);
    Ok(CreateDatabase {
        name: order.database.clone(),
        identity: opened.identity,
        partitions: opened.partitions,
        mode: Mode { sync_durability: order.sync_durability.unwrap_or(true), sync_replication: true },
        options,
        placement: placement.map_err(|refusal| refused(&refusal))?,
        nonce: rand::random(),
    })
}

/// The sink's link, while it is the one of this order.
fn held(state: &State, database: DatabaseId, link: LinkId) -> Result<(&Database, &SinkLink)> {
    let known = state.databases.get(&database).ok_or_else(|| link_error("The database was dropped meanwhile"))?;
    match state.sinks.get(&link) {
        Some(sink) if known.side == (Side::Sink { link }) => Ok((known, sink)),
        _ => Err(link_error(format!("The database '{}' follows this source no longer", known.name))),
    }
}

/// Waits until the sink holds what the source had committed when the statement began.
async fn wait(region: &Region, database: DatabaseId, opened: &Opened, silence: Duration) -> Result<()> {
    let begun = Instant::now();
    loop {
        let state = region.catalog.state();
        let (known, sink) = held(&state, database, opened.link)?;
        if let Some(reason) = &sink.broken {
            return Err(link_error(format!("The link of '{}' is broken: {reason}", known.name)));
        }
        let seen = region.links.state(opened.link);
        let end = seen.source.as_ref().and_then(|source| source.end).unwrap_or(Timestamp::MAX);
        let cut = region.detector.served(&state, database);
        if cut > Timestamp::ZERO && cut >= opened.source.position.min(end) {
            return Ok(());
        }
        let quiet = seen.heard.map_or(begun.elapsed(), |at| at.elapsed()).min(begun.elapsed());
        if quiet > silence {
            let reason = seen.last_error.unwrap_or_else(|| "it does not answer".into());
            return Err(link_error(format!(
                "The source of '{}' is silent ({reason}); the order stands and goes on when it answers: \
                 see SHOW REPLICATION STATUS",
                known.name
            )));
        }
        sleep(LOOK).await;
    }
}

/// Waits until the primaries have applied what they hold now: what a promotion declares dead is set aside before its
/// record is applied, and only then counted.
async fn applied(region: &Region, database: DatabaseId) {
    let state = region.catalog.state();
    let ends = region.detector.primaries(&state, database).map(|replica| (replica.partition, replica.appended));
    let ends: BTreeMap<PartitionId, Lsn> = ends.collect();
    let begun = Instant::now();
    let behind = || {
        let state = region.catalog.state();
        let late = |replica: ReplicaReport| ends.get(&replica.partition).is_some_and(|end| replica.applied < *end);
        region.detector.primaries(&state, database).any(late)
    };
    while behind() && begun.elapsed() < APPLY_TIME {
        sleep(LOOK).await;
    }
}

fn result(
    region: &Region,
    database: DatabaseId,
    opened: &Opened,
    common_point: Option<Timestamp>,
    begun: Instant,
) -> Replicated {
    let state = region.catalog.state();
    let tier = state.sinks.get(&opened.link).map_or(Tier::Log, |sink| sink.tier);
    let shipped = region.links.received(opened.link);
    let seen = region.links.state(opened.link);
    let live = seen.source.as_ref().map_or(opened.source.live_bytes, |source| source.live_bytes);
    let copy = state.databases.get(&database).and_then(|known| known.full_copy);
    let full_copy_bytes = match tier {
        Tier::Full => Some(shipped.bytes),
        _ => copy.or(opened.source.full_copy).map(|copy| copy.scaled(live)),
    };
    Replicated {
        tier,
        common_point: common_point.filter(|_| tier != Tier::Full),
        shipped_records: shipped.records,
        shipped_bytes: shipped.bytes,
        full_copy_bytes,
        set_aside: seen.set_aside,
        duration: begun.elapsed(),
        cut: region.detector.served(&state, database),
    }
}

/// Options of a link as a person writes them.
pub fn link_options(given: &[(String, String)]) -> Result<LinkOptions> {
    let mut options = LinkOptions::default();
    for (name, value) in given {
        let wrong = || Error::new(1231, format!("Option '{name}' can't be set to the value of '{value}'"));
        let millis = || crate::gateway::duration_millis(value).ok_or_else(wrong);
        match name.as_str() {
            "connect_timeout" => options.connect_timeout_millis = millis()?,
            "silence_timeout" => options.silence_timeout_millis = millis()?,
            "on_silence" if value == "degrade" => options.on_silence = OnSilence::Degrade,
            "on_silence" if value == "block" => options.on_silence = OnSilence::Block,
            "compression" if value == "zstd" => options.compression = true,
            "ca" => options.ca = Some(value.clone()),
            "compression" | "bandwidth_limit" => {
                return Err(Error::unsupported(format!("REPLICATE … OPTIONS ({name} = '{value}')")));
            }
            "on_silence" => return Err(wrong()),
            _ => return Err(Error::new(1231, format!("There is no replication option '{name}'"))),
        }
    }
    Ok(options)
}
