//! CREATE, ALTER and DROP DATABASE: decided by the catalog, waited for at the leaves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::command::CreateDatabase;
use catalog::database::{Holder, Options, PARTITIONS_MAX};
use catalog::decide::placement;
use catalog::partition::Partition;
use catalog::{Command, Refusal};
use sql::answer::{Answer, Done};
use sql::statement::{self, DatabaseOption, Statement, Wait};
use sql::{Error, Result};
use types::{DatabaseId, Datum, Mode, PartitionId};

use crate::region::Region;
use crate::writable;

/// Partitions for each leaf where nothing is said.
const PARTITIONS_PER_LEAF: u32 = 4;
/// Between two looks whether a new database's primaries serve.
const LOOK: Duration = Duration::from_millis(20);

/// Has a command decided.
pub async fn decide(region: &Region, command: Command) -> Result<()> {
    match region.catalog.propose(command).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(refusal)) => Err(refused(&refusal)),
        Err(error) => Err(Error::new(9005, error.to_string())),
    }
}

pub(super) fn refused(refusal: &Refusal) -> Error {
    let code = match refusal {
        Refusal::NameExisting { .. } => 1049,
        Refusal::NameNew { .. } => 1007,
        _ => 1105,
    };
    Error::new(code, refusal.to_string())
}

/// Carries out a statement about databases.
pub async fn change(region: &Arc<Region>, statement: &Statement) -> Result<Answer> {
    match statement {
        Statement::CreateDatabase(create) => self::create(region, create).await?,
        Statement::AlterDatabase(alter) => self::alter(region, alter).await?,
        Statement::DropDatabase { name, if_exists } => {
            let named = region.catalog.state().database_named(name).map(|(id, _)| id);
            let Some(id) = named else {
                return match if_exists {
                    true => Ok(Answer::Done(Done::default())),
                    false => Err(Error::new(1008, format!("Can't drop database '{name}'; database doesn't exist"))),
                };
            };
            // The guard's database may be dropped: it is somebody else's by now. A person's order and a token are kept.
            let state = region.catalog.state();
            let held = |known: &catalog::database::Database| known.fenced.holders.iter().any(|h| *h != Holder::Guard);
            if let Some(refusal) = writable::refusal(&state, id).filter(|_| held(&state.databases[&id])) {
                return Err(refusal);
            }
            decide(region, Command::DropDatabase { name: name.clone() }).await?;
            region.definitions.forget(id);
        }
        _ => return Err(Error::new(1105, "not a statement about databases")),
    }
    Ok(Answer::Done(Done { affected: 1, ..Done::default() }))
}

async fn create(region: &Arc<Region>, create: &statement::CreateDatabase) -> Result<()> {
    let state = region.catalog.state();
    if state.database_named(&create.name).is_some() || create.name.eq_ignore_ascii_case("information_schema") {
        return match create.if_not_exists {
            true => Ok(()),
            false => Err(Error::new(1007, format!("Can't create database '{}'; database exists", create.name))),
        };
    }
    let candidates = placement::candidates(&state);
    if candidates.is_empty() {
        return Err(Error::new(9005, "The cluster has no leaf yet: start one, then create the database"));
    }
    let groups: std::collections::BTreeSet<_> = candidates.iter().map(|candidate| candidate.group).collect();
    let redundancy = region.options.redundancy.unwrap_or(groups.len().min(2) as u8);
    let mut options = Options { redundancy, ..Options::default() };
    set_options(&mut options, &create.options)?;
    let default =
        region.options.partitions.unwrap_or((PARTITIONS_PER_LEAF * candidates.len() as u32).min(PARTITIONS_MAX));
    let partitions = create.partitions.unwrap_or(default);
    let placement = placement::assign(&candidates, partitions, options.redundancy).map_err(|r| refused(&r))?;
    let command = CreateDatabase {
        name: create.name.clone(),
        identity: rand::random(),
        partitions,
        mode: mode(Mode { sync_durability: true, sync_replication: true }, create.durability, create.replication),
        options,
        placement,
        nonce: rand::random(),
    };
    decide(region, Command::CreateDatabase(command)).await?;
    let id = region.catalog.state().database_named(&create.name).map(|(id, _)| id);
    serving(region, id.ok_or_else(|| Error::unknown_database(&create.name))?, "created").await
}

fn mode(before: Mode, durability: Option<Wait>, replication: Option<Wait>) -> Mode {
    Mode {
        sync_durability: durability.map_or(before.sync_durability, |wait| wait == Wait::Sync),
        sync_replication: replication.map_or(before.sync_replication, |wait| wait == Wait::Sync),
    }
}

async fn alter(region: &Region, alter: &statement::AlterDatabase) -> Result<()> {
    let state = region.catalog.state();
    let (_, database) = state.database_named(&alter.name).ok_or_else(|| Error::unknown_database(&alter.name))?;
    let mut options = database.options.clone();
    set_options(&mut options, &alter.options)?;
    let mode = mode(database.mode, alter.durability, alter.replication);
    decide(region, Command::AlterDatabase { name: alter.name.clone(), mode, options }).await
}

/// Waits until every partition of a writable database has a primary that serves in its present reign. `done` is what has
/// been done to it.
pub async fn serving(region: &Arc<Region>, id: DatabaseId, done: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let late = region.late(id).await?;
        if late.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > region.options.partition_wait * 4 {
            let text = format!(
                "The database is {done}; its partitions {} do not serve yet: see SHOW PARTITIONS",
                late.join(", ")
            );
            return Err(Error::new(9005, text));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Partitions of a writable database without a primary that serves in its present reign, as the master has heard.
pub fn late(region: &Region, id: DatabaseId) -> Vec<String> {
    let state = region.catalog.state();
    let serves = |(id, partition): &(PartitionId, &Partition)| {
        let replica = region.detector.primary(&state, *id).filter(|replica| replica.reign == partition.reign);
        replica.and_then(|replica| replica.leading).is_some_and(|leading| leading.serving && leading.link.is_none())
    };
    state.partitions_of(id).filter(|held| !serves(held)).map(|(id, _)| id.ordinal.to_string()).collect()
}

fn set_options(options: &mut Options, given: &[DatabaseOption]) -> Result<()> {
    for DatabaseOption { name, value } in given {
        let number = || match value {
            Datum::Int(number) if *number >= 0 => Ok(*number as u64),
            Datum::UInt(number) => Ok(*number),
            other => Err(Error::new(1231, format!("Option '{name}' can't be set to the value of '{other}'"))),
        };
        let text = value.to_string();
        let millis = || {
            duration_millis(&text).ok_or_else(|| {
                Error::new(1231, format!("'{text}' is no duration for option '{name}': write '500ms', '5s', '72h'"))
            })
        };
        match name.as_str() {
            "redundancy" => options.redundancy = u8::try_from(number()?).unwrap_or(u8::MAX),
            "min_in_sync" => options.min_in_sync = u8::try_from(number()?).unwrap_or(u8::MAX),
            "failback_retention" => options.failback_retention_millis = millis()?,
            "failback_retention_bytes" => {
                let bytes = size_bytes(&text);
                options.failback_retention_bytes = bytes.ok_or_else(|| {
                    Error::new(1231, format!("'{text}' is no size for option '{name}': write '100MB', '10GiB'"))
                })?;
            }
            "guard" if text == "strict" => options.strict_guard = true,
            "guard" if text == "lenient" => options.strict_guard = false,
            "guard" => return Err(Error::new(1231, "Option 'guard' is 'lenient' or 'strict'")),
            "async_failover_after" if text == "never" => options.async_failover_after_millis = None,
            "async_failover_after" => options.async_failover_after_millis = Some(millis()?),
            "upload_lag_limit" => return Err(Error::unsupported("database option upload_lag_limit")),
            _ => return Err(Error::new(1231, format!("There is no database option '{name}'"))),
        }
    }
    match options.problem() {
        None => Ok(()),
        Some(problem) => Err(Error::new(1231, problem)),
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor)?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A duration as people write it, in milliseconds.
pub fn duration_millis(text: &str) -> Option<u64> {
    scaled(text.trim(), &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)])
}

fn size_bytes(text: &str) -> Option<u64> {
    let units = [
        ("", 1),
        ("B", 1),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    scaled(text.trim(), &units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        assert_eq!(duration_millis("72h"), Some(72 * 3_600_000));
        assert_eq!(duration_millis("500ms"), Some(500));
        assert_eq!(duration_millis("5 parsecs"), None);
        assert_eq!(size_bytes("10GiB"), Some(10 << 30));
        assert_eq!(size_bytes("4096"), Some(4096));
        assert_eq!(size_bytes("much"), None);
    }

    #[test]
    fn options_that_are_not_there_yet_are_named() {
        let mut options = Options::default();
        let mut refused = |name: &str| {
            let given = DatabaseOption { name: name.into(), value: Datum::Int(1) };
            set_options(&mut options, &[given]).expect_err(name).code
        };
        assert_eq!(refused("upload_lag_limit"), 1235);
        assert_eq!(refused("nonsense"), 1231);
    }
}
