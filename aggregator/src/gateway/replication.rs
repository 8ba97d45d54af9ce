//! REPLICATE and STOP REPLICATING: what was typed as an order, what was done as a row.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use catalog::Command;
use catalog::event::UnixMillis;
use catalog::link::{LinkOptions, SourceAddress, Tier};
use sql::answer::{Answer, ResultColumn};
use sql::statement::{Replicate, Wait};
use sql::{Error, Result};
use types::{Datum, Timestamp};

use super::answer::table;
use super::shows::{self, count, text};
use crate::ask::unexpected;
use crate::dr::{self, Order};
use crate::mysql::Client;
use crate::protocol::{FrontAnswer, FrontRequest, SheetOf};
use crate::region::Region;
use crate::sessions::Progress;

/// How often it is looked how far a copy has come.
const LOOK: Duration = Duration::from_secs(1);

/// A time of the timestamp service, which is shown in the zone of whoever asks.
pub fn time(ts: Timestamp) -> Datum {
    if ts == Timestamp::ZERO {
        return Datum::Null;
    }
    shows::time(UnixMillis(ts.millis()))
}

/// The word for a tier.
pub fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Log => "log",
        Tier::State => "state",
        Tier::Full => "full",
    }
}

/// Columns that hold text; a name that begins with `#` is a number's, one with `@` a time's.
pub(super) fn columns(names: &[&str]) -> Vec<ResultColumn> {
    let of = |name: &&str| match (name.strip_prefix('#'), name.strip_prefix('@')) {
        (Some(name), _) => ResultColumn::int(name),
        (_, Some(name)) => ResultColumn::time(name),
        (None, None) => ResultColumn::text(name),
    };
    names.iter().map(of).collect()
}

/// Tells how far a sink is, until it is dropped.
async fn watch(region: &Arc<Region>, client: &Client, database: &str, progress: &Progress) -> Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(seen) = region.sheet(client, SheetOf::Replication(Some(database.into()))).await else { continue };
        let column = seen.columns.iter().position(|(name, _)| name == "progress");
        if let Some(Datum::Int(percent)) = column.and_then(|column| seen.rows.first()?.get(column)) {
            progress.tell(u64::try_from(*percent).unwrap_or_default(), 100);
        }
    }
}

/// `REPLICATE DATABASE`.
pub async fn replicate(
    region: &Arc<Region>,
    client: &Client,
    statement: &Replicate,
    progress: &Progress,
) -> Result<Answer> {
    if statement.replication == Some(Wait::Sync) {
        return Err(Error::unsupported("REPLICATE DATABASE … WITH SYNC REPLICATION"));
    }
    let given: Vec<(String, String)> =
        statement.options.iter().map(|option| (option.name.clone(), option.value.to_string())).collect();
    let options: LinkOptions = dr::link_options(&given)?;
    let source = &statement.source;
    let host = if source.host.contains(':') { format!("[{}]", source.host) } else { source.host.clone() };
    let order = Order {
        database: statement.database.clone(),
        source: SourceAddress {
            address: format!("{host}:{}", source.port),
            database: source.database.clone().unwrap_or_else(|| statement.database.clone()),
            user: source.user.clone(),
        },
        password: source.password.clone(),
        sync_durability: statement.durability.map(|wait| wait == Wait::Sync),
        forced: statement.force_differential,
        options,
        no_wait: statement.no_wait,
    };
    let answer = tokio::select! {
        answer = region.ask(FrontRequest::Replicate(order)) => answer?,
        never = watch(region, client, &statement.database, progress) => match never {},
    };
    let done = match answer {
        FrontAnswer::Replicated(done) => done?,
        other => return Err(unexpected(&other)),
    };
    let (set_aside, divergence) = match &done.set_aside {
        Some((records, id)) => (count(*records), text(id.clone())),
        None => (count(0), Datum::Null),
    };
    let row = vec![
        text(statement.database.clone()),
        text(tier(done.tier)),
        done.common_point.map_or(Datum::Null, time),
        count(done.shipped_records),
        count(done.shipped_bytes),
        done.full_copy_bytes.map_or(Datum::Null, count),
        set_aside,
        divergence,
        count(done.duration.as_millis() as u64),
        time(done.cut),
    ];
    let names = [
        "database",
        "tier",
        "@common_point",
        "#shipped_records",
        "#shipped_bytes",
        "#full_copy_bytes",
        "#set_aside_records",
        "divergence",
        "#duration_ms",
        "@cut",
    ];
    Ok(table(columns(&names), vec![row]))
}

/// `PAUSE REPLICATING` and `CONTINUE REPLICATING`.
pub async fn pause(region: &Region, database: &str, paused: bool) -> Result<Answer> {
    let named = region.catalog.state().database_named(database).map(|(id, _)| id);
    let id = named.ok_or_else(|| Error::unknown_database(database))?;
    let decided = region.catalog.propose(Command::PauseLink { database: id, paused }).await;
    let decided = decided.map_err(|error| Error::new(9005, error.to_string()))?;
    decided.map_err(|refusal| Error::new(9010, refusal.to_string()))?;
    let row = vec![text(database), text(if paused { "paused" } else { "streaming" })];
    Ok(table(columns(&["database", "state"]), vec![row]))
}

/// `STOP REPLICATING`.
pub async fn stop(region: &Arc<Region>, database: &str) -> Result<Answer> {
    let done = match region.ask(FrontRequest::Stop(database.to_string())).await? {
        FrontAnswer::Stopped(done) => done?,
        other => return Err(unexpected(&other)),
    };
    let row = vec![
        text(database),
        time(done.cut),
        count(done.behind_millis),
        count(done.dropped_records),
        text(done.epoch.to_string()),
    ];
    Ok(table(columns(&["database", "@cut", "#behind_ms", "#dropped_records", "epoch"]), vec![row]))
}
