//! From values to stored rows: conversion, defaults, counters, keys.

use std::sync::Arc;

use types::value::{DAY, Zone};
use types::{Datum, Ordinal};

use super::Target;
use crate::cluster::{Cluster, Row};
use crate::error::{Error, Result};
use crate::leaf::fit;
use crate::scalar::Env;
use crate::schema::{DefaultValue, implicit_default};
use crate::session::Session;

/// What a column is given.
#[derive(Clone, Debug)]
pub(super) enum Given {
    /// This value.
    Value(Datum),
    /// Its default: `DEFAULT`, or it was not named.
    Default,
}

/// Makes rows for a target.
pub(super) struct Maker<'a> {
    target: &'a Target,
    env: &'a Env,
    /// The statement's time, UTC.
    now: i64,
    /// Whether misfits are warnings: INSERT IGNORE, LOAD DATA, or no strict mode.
    pub(super) lenient: bool,
    /// The first counter value made.
    pub(super) first_id: u64,
    /// Rows seen, for messages.
    pub(super) rows: u64,
}

impl<'a> Maker<'a> {
    pub(super) fn new(target: &'a Target, session: &Session, env: &'a Env, ignore: bool) -> Maker<'a> {
        Maker { target, env, now: session.now, lenient: ignore || !target.strict, first_id: 0, rows: 0 }
    }

    /// Converts rows, takes counter values for those that need one, and encodes them.
    pub(super) async fn make(
        &mut self,
        cluster: &Arc<dyn Cluster>,
        rows: Vec<Vec<Given>>,
    ) -> Result<Vec<(Ordinal, Row)>> {
        let mut made = Vec::with_capacity(rows.len());
        for row in rows {
            self.rows += 1;
            made.push(self.convert(row)?);
        }
        self.count(cluster, &mut made).await?;
        let layout = &self.target.layout;
        made.into_iter()
            .map(|row| {
                let ordinal = layout.ordinal(&row, self.target.database.partitions);
                Ok((ordinal, Row { key: layout.encode_key(&row), value: layout.encode_value(&row)? }))
            })
            .collect()
    }

    /// One row in the order of the layout; the counter and the hidden row id stay NULL where they are to be made.
    fn convert(&self, row: Vec<Given>) -> Result<Vec<Datum>> {
        let table = &self.target.table;
        assert_eq!(row.len(), table.columns.len(), "a row was made for another table");
        let mut values = Vec::with_capacity(self.target.layout.fields.len());
        for ((given, column), field) in row.into_iter().zip(&table.columns).zip(&self.target.layout.fields) {
            let value = match given {
                Given::Default | Given::Value(Datum::Null) if column.auto_increment => Datum::Null,
                Given::Value(value) => fit(field, value, &self.target.zone, !self.lenient, self.env, self.rows)?,
                Given::Default => self.default(column)?,
            };
            // Zero asks for a new value as well, as in MySQL.
            let counts = column.auto_increment && matches!(value, Datum::Int(0) | Datum::UInt(0));
            values.push(if counts { Datum::Null } else { value });
        }
        values.resize(self.target.layout.fields.len(), Datum::Null);
        Ok(values)
    }

    fn default(&self, column: &crate::schema::Column) -> Result<Datum> {
        match &column.default {
            Some(DefaultValue::Value(value)) => Ok(value.clone()),
            Some(DefaultValue::Now) => Ok(now(&column.ty, self.now, &self.target.zone)),
            None if column.nullable => Ok(Datum::Null),
            None => {
                let error = Error::new(1364, format!("Field '{}' doesn't have a default value", column.name));
                if !self.lenient {
                    return Err(error);
                }
                self.env.warn(error.code, error.message);
                Ok(implicit_default(&column.ty))
            }
        }
    }

    /// Fills in counters and row ids.
    async fn count(&mut self, cluster: &Arc<dyn Cluster>, rows: &mut [Vec<Datum>]) -> Result<()> {
        let target = self.target;
        let place = match (target.table.counting_column(), target.table.has_row_id()) {
            (Some(place), _) => place,
            (None, true) => target.layout.fields.len() - 1,
            (None, false) => return Ok(()),
        };
        let missing = rows.iter().filter(|row| row[place].is_null()).count() as u64;
        let largest = rows.iter().filter_map(|row| positive(&row[place])).max();
        let (name, id) = (&target.database.name, target.table.id);
        // Values that were written out raise the counter past themselves.
        let least = largest.map_or(target.table.auto_increment, |largest| largest.saturating_add(1));
        if missing == 0 {
            if largest.is_some() {
                cluster.allocate(name, id, 0, least).await?;
            }
            return Ok(());
        }
        let mut next = cluster.allocate(name, id, missing, least.max(target.table.auto_increment)).await?;
        if target.table.counting_column().is_some() && self.first_id == 0 {
            self.first_id = next;
        }
        let field = &target.layout.fields[place];
        for row in rows.iter_mut().filter(|row| row[place].is_null()) {
            row[place] = field.ty.convert(Datum::UInt(next), &target.zone).map_err(|_| {
                Error::new(1467, "Failed to read auto-increment value from storage engine: the column is exhausted")
            })?;
            next += 1;
        }
        Ok(())
    }
}

fn positive(value: &Datum) -> Option<u64> {
    match value {
        Datum::Int(value) => u64::try_from(*value).ok(),
        Datum::UInt(value) => Some(*value),
        _ => None,
    }
}

/// The statement's time as a column of a type keeps it.
pub(super) fn now(ty: &types::ColumnType, utc: i64, zone: &dyn Zone) -> Datum {
    let local = zone.to_local(utc);
    // Digits beyond the column's are cut, not rounded: a time must not be in the future.
    let cut = |fsp: u8| {
        let unit = 10i64.pow(6 - u32::from(fsp.min(6)));
        local - local.rem_euclid(unit)
    };
    match ty {
        types::ColumnType::Timestamp(fsp) => Datum::Timestamp(utc - (local - cut(*fsp))),
        types::ColumnType::DateTime(fsp) => Datum::DateTime(cut(*fsp)),
        types::ColumnType::Date => Datum::Date(local.div_euclid(DAY) as i32),
        other => panic!("a column of type {other} cannot have the time as default"),
    }
}
