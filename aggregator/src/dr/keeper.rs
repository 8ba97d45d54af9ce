//! A task for every link that this region follows, or followed until it was promoted.
//!
//! - A sink's: polls the source's aggregator, tells it the durable cut, learns routes, promotions and claims; has the
//!   catalog know when every partition has joined; tells the source when the database is dropped here or follows another.
//! - One that ended with a promotion: tells the former source of the claim until it has been told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::database::FullCopy;
use catalog::link::{Credentials, SinkLink, SourceAddress, Tier};
use catalog::{Command, State};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch::{Receiver, error::RecvError};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use types::{ClusterId, DatabaseId, LinkId, Timestamp};

use super::guard;
use super::peer::{Peer, pinned};
use super::protocol::{LinkAnswer, LinkRefusal, LinkRequest, Poll};
use crate::gateway::set_aside_since;
use crate::master::Status;
use crate::region::Region;

/// Between two polls of a source.
const POLL: Duration = Duration::from_millis(100);
/// How long a call may take.
const CALL_TIME: Duration = Duration::from_secs(3);
/// Between two attempts to reach another region: the first, and the longest.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How often it is looked for new links, at least.
const LOOK: Duration = Duration::from_millis(500);
/// How often a source that cannot be reached is told that its link is over.
const CLOSE_TRIES: u32 = 30;

/// Keeps all links of a region while this aggregator is the master.
pub async fn run(region: Arc<Region>) {
    let mut tasks: BTreeMap<LinkId, AbortOnDropHandle<()>> = BTreeMap::new();
    let (mut changes, mut standing) = (region.catalog.changes(), region.catalog.standing());
    let mut office = None;
    loop {
        let state = region.catalog.state();
        let leads = standing.borrow_and_update().leads;
        if leads != office {
            // What an earlier office has begun, the next master begins again.
            tasks.clear();
            office = leads;
        }
        tasks.retain(|_, task| !task.is_finished());
        if leads.is_some() {
            begin(&region, &state, &mut tasks);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = moved(&mut standing, office) => if changed.is_err() { return },
            () = sleep(LOOK) => {}
        }
    }
}

/// Waits until this aggregator's office begins or ends.
async fn moved(standing: &mut Receiver<Arc<Status>>, office: Option<u64>) -> Result<(), RecvError> {
    standing.wait_for(|status| status.leads != office).await.map(drop)
}

fn begin(region: &Arc<Region>, state: &State, tasks: &mut BTreeMap<LinkId, AbortOnDropHandle<()>>) {
    let spawn = |task: BoxFuture<'static, ()>| AbortOnDropHandle::new(tokio::spawn(task));
    for id in state.sinks.keys() {
        tasks.entry(*id).or_insert_with(|| spawn(follow(region.clone(), *id).boxed()));
    }
    for id in state.parted.keys().filter(|id| !region.links.state(**id).told) {
        tasks.entry(*id).or_insert_with(|| spawn(claim(region.clone(), *id).boxed()));
    }
}

async fn follow(region: Arc<Region>, link: LinkId) {
    let mut peer: Option<Peer> = None;
    let (mut wait, mut sessions) = (RETRY_MIN, 0u64);
    let mut last: Option<SinkLink> = None;
    loop {
        let state = region.catalog.state();
        let Some(sink) = state.sinks.get(&link).cloned() else { break };
        last = Some(sink.clone());
        if sink.paused || sink.broken.is_some() {
            peer = None;
            region.links.note(link, |known| known.connected = false);
            sleep(POLL).await;
            continue;
        }
        let polled = match peer.take().filter(|peer| !peer.is_over()) {
            Some(open) => Ok(open),
            None => reach(&region, &sink.source, &sink.others, &sink.credentials, sink.source_cluster).await,
        };
        let polled = match polled {
            Ok(open) => poll(&region, &state, link, &sink, &open).await.map(|()| open),
            Err(reason) => Err(reason),
        };
        match polled {
            Ok(open) => {
                if !region.links.state(link).connected {
                    sessions += 1;
                }
                region.links.note(link, |known| {
                    (known.connected, known.last_error, known.reconnects) = (true, None, sessions.saturating_sub(1));
                });
                (peer, wait) = (Some(open), RETRY_MIN);
                sleep(POLL).await;
            }
            Err(reason) => {
                tracing::debug!(%link, reason, "the source cannot be polled");
                region.links.note(link, |known| (known.connected, known.last_error) = (false, Some(reason)));
                sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
    if let Some(sink) = last {
        over(&region, link, &sink).await;
    }
}

async fn reach(
    region: &Region,
    source: &SourceAddress,
    others: &[String],
    credentials: &Credentials,
    cluster: ClusterId,
) -> Result<Peer, String> {
    let others = others.iter().filter(|other| **other != source.address);
    let addresses = [&source.address].into_iter().chain(others);
    region.peering.dial_any(addresses, &pinned(credentials), Some(cluster), CALL_TIME).await
}

async fn poll(region: &Region, state: &State, link: LinkId, sink: &SinkLink, peer: &Peer) -> Result<(), String> {
    let Some(database) = state.databases.get(&sink.database) else { return Ok(()) };
    let (asked, cut) = (Instant::now(), region.detector.served(state, sink.database));
    let poll = Poll {
        link,
        token: sink.credentials.token.clone(),
        cut,
        promotions: database.promotions.clone(),
        full_copy: database.full_copy,
        claims: database.claims.values().cloned().collect(),
        aggregators: state.sql_addresses(),
    };
    let source = match peer.call(&LinkRequest::Poll(poll), CALL_TIME).await? {
        LinkAnswer::Source(source) => *source,
        LinkAnswer::Refused(refusal) => return Err(refusal.to_string()),
        other => return Err(format!("the source answers {other:?}")),
    };
    guard::learn(region, sink.database, source.claims.clone()).await?;
    if source.aggregators != sink.others {
        let learnt = Command::LearnAddresses { link, addresses: source.aggregators.clone() };
        let learnt = region.catalog.propose(learnt).await.map_err(|error| error.to_string())?;
        learnt.map_err(|refusal| refusal.to_string())?;
    }
    if source.promotions != database.promotions {
        let (promotions, relay) = (source.promotions.clone(), source.relay);
        if let Some(refusal) = region.detector.learn(sink.database, link, promotions, relay).await? {
            region.links.note(link, |known| known.last_error = Some(refusal));
        }
    }
    settle(region, state, link, sink).await?;
    if region.detector.streams(state, sink.database, link) && !region.links.state(link).looked_aside {
        let set_aside = set_aside_since(region, sink.database, sink.since.0).await;
        region.links.note(link, |known| (known.set_aside, known.looked_aside) = (set_aside, true));
    }
    measure_copy(region, sink.database, link).await?;
    let applied = || region.detector.primaries(state, sink.database).map(|replica| replica.applied.0).sum();
    region.links.note(link, |known| {
        known.began.get_or_insert_with(Instant::now);
        known.applied_at_start.get_or_insert_with(applied);
        known.source = Some(source);
        (known.asked, known.heard) = (Some(asked), Some(Instant::now()));
    });
    Ok(())
}

/// Has the catalog know that every partition has been compared with the source and rewound.
async fn settle(region: &Region, state: &State, link: LinkId, sink: &SinkLink) -> Result<(), String> {
    let database = sink.database;
    let ended = state
        .sources
        .values()
        .any(|out| out.database == database && out.peer_cluster == sink.source_cluster && out.ended.is_some());
    let parted =
        state.parted.values().any(|parted| parted.database == database && parted.source_cluster == sink.source_cluster);
    if !(sink.forced || ended || parted) || !region.detector.joined(state, database, link) {
        return Ok(());
    }
    let joined = region.catalog.propose(Command::Joined { database, link }).await.map_err(|error| error.to_string())?;
    match joined {
        Ok(_) => tracing::info!(%database, %link, "every partition has joined its source"),
        Err(refusal) => tracing::debug!(%database, %refusal, "the catalog has moved on"),
    }
    Ok(())
}

/// A full copy that has come to its end is measured.
pub(super) async fn measure_copy(region: &Region, database: DatabaseId, link: LinkId) -> Result<(), String> {
    let (state, known) = (region.catalog.state(), region.links.state(link));
    let complete = !state.partitions_of(database).any(|(_, partition)| partition.incomplete);
    let full = state.sinks.get(&link).is_some_and(|sink| sink.tier == Tier::Full);
    let Some(source) = known.source.filter(|_| known.to_measure && complete && full) else { return Ok(()) };
    if region.detector.served(&state, database)
        < known.target.unwrap_or(Timestamp::MAX).min(source.end.unwrap_or(Timestamp::MAX))
    {
        return Ok(());
    }
    let copy = FullCopy { shipped_bytes: region.links.received(link).bytes, live_bytes: source.live_bytes };
    let command = Command::MeasureCopy { database, copy };
    region.catalog.propose(command).await.map_err(|error| error.to_string())?.map_err(|refusal| refusal.to_string())?;
    region.links.note(link, |known| known.to_measure = false);
    Ok(())
}

/// The link is over here: by a promotion, which is told as a claim; or because the database was dropped or follows
/// another source.
async fn over(region: &Region, link: LinkId, sink: &SinkLink) {
    let state = region.catalog.state();
    region.links.note(link, |known| known.connected = false);
    if state.parted.contains_key(&link) {
        return;
    }
    let (token, keep_pin) = (sink.credentials.token.clone(), state.databases.contains_key(&sink.database));
    for _ in 0..CLOSE_TRIES {
        let closed = async {
            let peer = reach(region, &sink.source, &sink.others, &sink.credentials, sink.source_cluster).await?;
            peer.call(&LinkRequest::Close { link, token: token.clone(), keep_pin }, CALL_TIME).await
        };
        match closed.await {
            Ok(_) => return,
            Err(reason) => tracing::debug!(%link, reason, "the source does not know yet that its link is over"),
        }
        sleep(RETRY_MAX).await;
    }
}

/// Tells the former source of the claim.
async fn claim(region: Arc<Region>, link: LinkId) {
    let mut wait = RETRY_MIN;
    loop {
        let state = region.catalog.state();
        let Some(parted) = state.parted.get(&link) else { return };
        let Some(database) = state.databases.get(&parted.database) else { return };
        let claims = database.claims.values().cloned().collect();
        let told = async {
            let (source, others) = (&parted.source, &parted.others);
            let peer = reach(&region, source, others, &parted.credentials, parted.source_cluster).await?;
            let token = parted.credentials.token.clone();
            peer.call(&LinkRequest::Claim { link, token, claims }, CALL_TIME).await
        };
        match told.await {
            Ok(LinkAnswer::Done | LinkAnswer::Refused(LinkRefusal::Token)) => {
                return region.links.note(link, |known| known.told = true);
            }
            Ok(other) => tracing::debug!(%link, ?other, "the former source does not take the claim"),
            Err(reason) => tracing::debug!(%link, reason, "the former source cannot be told of the claim"),
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}
