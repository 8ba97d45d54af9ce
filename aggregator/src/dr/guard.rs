//! The guard against two primaries: before its first write a region asks those who followed it whether they have claimed
//! its databases meanwhile.
//!
//! Writes of a database wait until its sinks have answered, at most `guard_timeout` from the start of the process; then
//! it serves, for it may be the only one left, unless its option says `strict`. A claim that is learnt fences the
//! database in the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::claim::Claim;
use catalog::link::SourceLink;
use catalog::{Command, State};
use parking_lot::Mutex;
use sql::{Error, Result};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use transport::tls::{Fingerprint, Trust};
use types::{DatabaseId, LinkId};

use super::protocol::{LinkAnswer, LinkRequest};
use super::token_hash;
use crate::master::Catalog;
use crate::region::Region;

/// How long a database waits for the answer of its sinks.
const GUARD_TIME: Duration = Duration::from_secs(3);
/// How long one attempt may take, and the wait before the next.
const ASK_TIME: Duration = Duration::from_secs(2);
const RETRY_TIME: Duration = Duration::from_millis(500);

/// Which databases still wait for the word of their sinks. Every aggregator asks for itself when it starts: it does not
/// know whether the others were there all the time.
#[derive(Debug, Default)]
pub struct Guard {
    /// `None`: this aggregator does not know yet what is decided.
    waiting: Mutex<Option<Waiting>>,
    answered: Notify,
}

#[derive(Debug)]
struct Waiting {
    unanswered: BTreeMap<DatabaseId, BTreeSet<LinkId>>,
    until: Instant,
}

impl Guard {
    /// What is decided is known now.
    fn begin(&self, state: &State) {
        let mut unanswered: BTreeMap<DatabaseId, BTreeSet<LinkId>> = BTreeMap::new();
        for (id, link) in asked(state) {
            unanswered.entry(link.database).or_default().insert(id);
        }
        *self.waiting.lock() = Some(Waiting { unanswered, until: Instant::now() + GUARD_TIME });
        self.answered.notify_waiters();
    }

    /// Until when a database waits; `None`: no longer.
    fn waits(&self, database: DatabaseId) -> Option<Instant> {
        match &*self.waiting.lock() {
            Some(waiting) => waiting.unanswered.contains_key(&database).then_some(waiting.until),
            None => Some(Instant::now() + GUARD_TIME),
        }
    }

    fn answered(&self, database: DatabaseId, link: LinkId) {
        let mut waiting = self.waiting.lock();
        let Some(Waiting { unanswered, .. }) = &mut *waiting else { return };
        if let Some(links) = unanswered.get_mut(&database) {
            links.remove(&link);
            if links.is_empty() {
                unanswered.remove(&database);
                self.answered.notify_waiters();
            }
        }
    }

    /// Waits until a database may be written to, as far as its sinks are concerned.
    pub async fn admit(&self, catalog: &Catalog, database: DatabaseId) -> Result<()> {
        loop {
            let answered = self.answered.notified();
            let Some(until) = self.waits(database) else { return Ok(()) };
            if timeout_at(until, answered).await.is_err() {
                break;
            }
        }
        let state = catalog.state();
        let Some(known) = state.databases.get(&database).filter(|known| known.options.strict_guard) else {
            return Ok(());
        };
        let text = format!(
            "The database '{}' is read only (guard = 'strict'): no region that follows it has answered since the start, \
             one may have claimed it; wait for one, or ALTER DATABASE … SET OPTIONS (guard = 'lenient')",
            known.name
        );
        Err(Error::new(1290, text))
    }
}

/// Links of sinks that can be asked.
fn asked(state: &State) -> impl Iterator<Item = (LinkId, &SourceLink)> {
    let asked = |link: &SourceLink| {
        let writable = state.databases.get(&link.database).is_some_and(|database| !database.is_sink());
        writable && link.ended.is_none() && link.peer_address.is_some() && link.token_hash.is_some()
    };
    state.sources.iter().filter(move |(_, link)| asked(link)).map(|(id, link)| (*id, link))
}

/// Asks every sink, each until it has answered, as soon as this aggregator knows what is decided.
pub async fn ask_all(region: Arc<Region>) {
    while let Err(error) = region.catalog.catch_up().await {
        tracing::debug!(%error, "it is not known yet who may have claimed a database");
        // Who was removed from the region is told so at once.
        sleep(RETRY_TIME).await;
    }
    let state = region.catalog.state();
    region.guard.begin(&state);
    for (id, _) in asked(&state) {
        tokio::spawn(ask(region.clone(), id));
    }
}

async fn ask(region: Arc<Region>, link: LinkId) {
    loop {
        let state = region.catalog.state();
        let Some((_, known)) = asked(&state).find(|(id, _)| *id == link) else { return };
        let database = known.database;
        match ask_once(&region, link, known).await {
            Ok(claims) => match learn(&region, database, claims).await {
                Ok(()) => return region.guard.answered(database, link),
                Err(reason) => tracing::warn!(%link, reason, "what a sink has claimed cannot be kept yet"),
            },
            Err(reason) => tracing::debug!(%link, reason, "a sink does not say what it has claimed"),
        }
        sleep(RETRY_TIME).await;
    }
}

async fn ask_once(region: &Region, link: LinkId, known: &SourceLink) -> Result<Vec<Claim>, String> {
    let proof = known.token_hash.ok_or("its token was taken away")?;
    let trust = known.peer_fingerprint.map_or(Trust::FirstUse, |bytes| Trust::Pinned(Fingerprint(bytes)));
    let addresses = known.peer_address.iter().chain(&known.peer_others);
    let peer = region.peering.dial_any(addresses, &trust, Some(known.peer_cluster), ASK_TIME).await?;
    match peer.call(&LinkRequest::Ask { link, proof }, ASK_TIME).await? {
        LinkAnswer::Claims { token, claims } if token_hash(&token) == proof => Ok(claims),
        LinkAnswer::Claims { .. } => Err("who answers does not hold the link's token".into()),
        // It follows no longer, and has claimed nothing.
        LinkAnswer::Refused(super::LinkRefusal::Token) => Ok(vec![]),
        other => Err(format!("it answers {other:?}")),
    }
}

/// Commits claims that are not known here yet.
pub(super) async fn learn(region: &Region, database: DatabaseId, claims: Vec<Claim>) -> Result<(), String> {
    for claim in claims {
        let state = region.catalog.state();
        let Some(known) = state.databases.get(&database) else { return Ok(()) };
        if known.claims.contains_key(&claim.promotion.id) {
            continue;
        }
        let learnt = region.catalog.propose(Command::LearnClaim { database, claim }).await;
        learnt.map_err(|error| error.to_string())?.map_err(|refusal| refusal.to_string())?;
    }
    Ok(())
}
