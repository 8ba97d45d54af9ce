//! STOP REPLICATING: a sink becomes writable at its cut, whether or not its source answers.
//!
//! The cut is the one that is served: durable on the in-sync set of every partition. It stands still from the moment it is
//! read until the catalog has taken it, so nobody has read what the promotion leaves out. A source that is sealed and in
//! touch has an end: it is waited for, and a planned exchange loses nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::command::Promote;
use catalog::database::Side;
use catalog::{Answer, Command, State};
use serde::{Deserialize, Serialize};
use sql::{Error, Result};
use tokio::time::sleep;
use types::{DatabaseId, LinkId, Promotion, PromotionId, Timestamp};

use super::replicate::link_error;
use crate::gateway::{serving, set_aside_by};
use crate::region::Region;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long the end of a sealed source is waited for.
const END_TIME: Duration = Duration::from_secs(10);
/// How long a source may take to say whether it is sealed. Many times a round trip, and short beside a disaster.
const TOUCH_TIME: Duration = Duration::from_secs(1);

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stopped {
    /// Everything committed at or below this is in, nothing above.
    pub cut: Timestamp,
    /// How long before the order that was, in milliseconds.
    pub behind_millis: u64,
    /// The promotion: the divergence that holds what is above the cut has its id.
    pub promotion: PromotionId,
    /// Records above the cut that were there, and are in the divergence.
    pub dropped_records: u64,
    /// The epoch numbers under which the database is written to now: the highest.
    pub epoch: u64,
}

/// Promotes a database that follows another region.
pub async fn stop(region: &Arc<Region>, name: &str) -> Result<Stopped> {
    let state = region.catalog.state();
    let (database, known) = state.database_named(name).ok_or_else(|| Error::unknown_database(name))?;
    let promotion = match known.side {
        Side::Sink { link } => promote(region, database, link).await?,
        Side::Writable => promoted(&state, database).ok_or_else(|| {
            link_error(format!("The database '{name}' does not follow another region: it is writable"))
        })?,
    };
    region.definitions.forget(database);
    serving(region, database, "promoted").await?;
    let state = region.catalog.state();
    let epochs = state.partitions_of(database).filter_map(|(_, partition)| partition.grant);
    let claim = state.databases.get(&database).and_then(|known| known.claims.get(&promotion.id));
    let ordered = claim.map_or(promotion.cut.millis(), |claim| claim.at.0);
    Ok(Stopped {
        cut: promotion.cut,
        behind_millis: ordered.saturating_sub(promotion.cut.millis()),
        promotion: promotion.id,
        dropped_records: set_aside_by(region, database, promotion.id.0).await.map_or(0, |(records, _)| records),
        epoch: epochs.map(|grant| grant.epoch.number).max().unwrap_or_default(),
    })
}

/// The promotion by which a database was made writable here.
fn promoted(state: &State, database: DatabaseId) -> Option<Promotion> {
    let known = state.databases.get(&database)?;
    let last = known.promotions.last()?;
    known
        .claims
        .get(&last.id)
        .filter(|claim| claim.cluster == state.cluster && claim.promotion == *last)
        .map(|claim| claim.promotion)
}

async fn promote(region: &Region, database: DatabaseId, link: LinkId) -> Result<Promotion> {
    await_end(region, database, link).await;
    // What was served is this office's: a master after it may have served more.
    let term = region.detector.office().await.map_err(|error| Error::new(9005, error.to_string()))?;
    let id = PromotionId(rand::random());
    for _ in 0..10 {
        let _still = region.detector.stand_still(database);
        let state = region.catalog.state();
        let known = state.databases.get(&database).ok_or_else(|| link_error("The database was dropped meanwhile"))?;
        let cut = region.detector.served(&state, database);
        if cut == Timestamp::ZERO {
            return Err(link_error(format!(
                "The database '{}' has no consistent state yet: wait until SHOW REPLICATION STATUS shows a cut, or DROP it",
                known.name
            )));
        }
        let (received, received_epoch) = region.detector.received(&state, database);
        let command = Promote {
            database,
            link,
            promotion: id,
            promotions: known.promotions.clone(),
            cut,
            nonce: rand::random(),
            start_above: received,
            received_epoch,
            token: None,
            copy: None,
            address: region.peering.address.clone(),
        };
        let decided = region.catalog.decide(term, Command::Promote(command)).await;
        match decided.map_err(|error| Error::new(9005, error.to_string()))? {
            Ok(outcome) => match outcome.answer {
                Answer::Promoted(promotion) => return Ok(promotion),
                other => return Err(link_error(format!("The catalog answers {other}"))),
            },
            // The history has moved on meanwhile: what it is now counts.
            Err(catalog::Refusal::LookAgain { .. }) => sleep(LOOK).await,
            Err(refusal) => return Err(link_error(refusal)),
        }
    }
    Err(link_error("The source's history changes all the time: repeat the statement"))
}

/// Waits until everything of a sealed source is here. Whether it is sealed is asked anew: it may have been just now. A
/// source that does not answer at once is lost, and not waited for, unless it was sealed when it was heard last.
async fn await_end(region: &Region, database: DatabaseId, link: LinkId) {
    let begun = Instant::now();
    loop {
        let seen = region.links.state(link);
        let answered = seen.asked.is_some_and(|at| at >= begun);
        let end = seen.source.as_ref().and_then(|source| source.end);
        let silence = if end.is_some() { END_TIME } else { TOUCH_TIME };
        let here = end.is_none_or(|end| region.detector.served(&region.catalog.state(), database) >= end);
        if answered && here || begun.elapsed() > silence {
            return;
        }
        sleep(LOOK).await;
    }
}
