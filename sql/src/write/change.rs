//! UPDATE and DELETE: find the keys, then change the rows where they are.
//!
//! The keys are found at the statement's view; whether a row is still meant is asked again under its lock. A column
//! of the key cannot be changed in place: the row is taken out, and put in where its new key belongs.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::sql::sqlparser::ast::{
    AssignmentTarget, Delete, Expr, FromTable, LimitClause, OrderBy, OrderByExpr, OrderByKind, SetExpr, TableFactor,
    TableWithJoins, Update,
};
use futures::StreamExt;
use futures::future::try_join_all;
use types::value::Zone;
use types::{Datum, Ordinal};

use super::Target;
use super::insert::{CHUNK, on_update};
use crate::answer::Done;
use crate::arrow::Reader;
use crate::bind::{Names, bind, conjuncts};
use crate::cluster::{Cluster, Program, Row, RowWrite, Scan};
use crate::error::{Error, Result};
use crate::leaf::fit;
use crate::normalize::{Normalizer, names};
use crate::parse::{parse, quote_name};
use crate::point;
use crate::scalar::{Env, Scalar, Ty};
use crate::session::Session;
use crate::statement::{Query, Statement};

/// Names of a table's columns, by the table's name or alias.
pub(crate) struct TableNames<'a> {
    pub(crate) target: &'a Target,
    pub(crate) alias: &'a str,
    pub(crate) clause: &'static str,
}

impl Names for TableNames<'_> {
    fn column(&self, table: Option<&str>, column: &str) -> Result<(usize, Ty)> {
        let known = table.is_none_or(|table| table == self.alias);
        let place = self.target.table.position(column).filter(|_| known);
        let place = place.ok_or_else(|| Error::unknown_column(column, self.clause))?;
        Ok((place, Ty::of_column(&self.target.table.columns[place].ty)))
    }
}

/// Database, table and alias of the one table that a statement changes.
pub(crate) fn single_table(tables: &[TableWithJoins], what: &str) -> Result<(Option<String>, String, String)> {
    let [TableWithJoins { relation: TableFactor::Table { name, alias, args: None, .. }, joins }] = tables else {
        return Err(Error::unsupported(format!("{what} of several tables")));
    };
    if !joins.is_empty() {
        return Err(Error::unsupported(format!("{what} of several tables")));
    }
    let mut parts = names(name)?;
    let table = parts.pop().unwrap_or_default();
    let alias = alias.as_ref().map_or(table.clone(), |alias| alias.name.value.clone());
    Ok((parts.pop(), table, alias))
}

/// Which rows: WHERE, ORDER BY, LIMIT.
struct Which<'a> {
    alias: &'a str,
    selection: Option<&'a Expr>,
    order_by: &'a [OrderByExpr],
    limit: Option<&'a Expr>,
}

/// Runs an UPDATE.
pub(crate) async fn update(update: &Update, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Done> {
    if update.from.is_some() || update.returning.is_some() {
        return Err(Error::unsupported("this form of UPDATE"));
    }
    let (database, table, alias) = single_table(std::slice::from_ref(&update.table), "UPDATE")?;
    let target = Target::find(cluster, session, database.as_deref(), &table).await?;
    let env = Env::new(session.zone());
    let names = TableNames { target: &target, alias: &alias, clause: "field list" };
    let mut normalizer = Normalizer::new(session);
    let mut set = Vec::with_capacity(update.assignments.len());
    for assignment in &update.assignments {
        let AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err(Error::unsupported("assignment to several columns"));
        };
        let column = self::names(name)?.pop().unwrap_or_default();
        let place = target.table.position(&column).ok_or_else(|| Error::unknown_column(&column, "field list"))?;
        let value = match &assignment.value {
            Expr::Identifier(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("DEFAULT") => {
                default_of(&target, place)?
            }
            value => bind(&normalizer.cell(value.clone())?, &names, &env)?,
        };
        set.push((place, value));
    }
    let which = Which {
        alias: &alias,
        selection: update.selection.as_ref(),
        order_by: &update.order_by,
        limit: update.limit.as_ref(),
    };
    let (filter, keys) = find(&target, &which, session, cluster, &env).await?;
    let moves =
        set.iter().any(|(place, _)| target.layout.fields[*place].key.is_some() || target.layout.shard.contains(place));
    let touch = on_update(&target, session, &set);
    let program = Program { filter, set, touch };
    let mut done = match moves {
        true => move_rows(&target, program, keys, cluster, &env).await?,
        false => apply(&target, Some(program), keys, RowWrite::Update, cluster).await?,
    };
    done.warnings.extend(env.take_warnings());
    done.info =
        format!("Rows matched: {}  Changed: {}  Warnings: {}", done.matched, done.affected, done.warnings.len());
    Ok(done)
}

fn default_of(target: &Target, place: usize) -> Result<Scalar> {
    let column = &target.table.columns[place];
    match &column.default {
        Some(crate::schema::DefaultValue::Value(value)) => Ok(Scalar::Literal(value.clone())),
        None if column.nullable => Ok(Scalar::Literal(Datum::Null)),
        Some(crate::schema::DefaultValue::Now) => Err(Error::unsupported("SET column = DEFAULT of a time")),
        None => Err(Error::new(1364, format!("Field '{}' doesn't have a default value", column.name))),
    }
}

/// Runs a DELETE.
pub(crate) async fn delete(delete: &Delete, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Done> {
    if delete.using.is_some() || delete.returning.is_some() {
        return Err(Error::unsupported("DELETE of several tables"));
    }
    let tables = match &delete.from {
        FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables) => tables,
    };
    let (database, table, alias) = single_table(tables, "DELETE")?;
    // `DELETE t FROM t` names the one table twice.
    let named = delete.tables.iter().map(names).collect::<Result<Vec<_>>>()?;
    if named.iter().any(|name| name.last() != Some(&alias)) {
        return Err(Error::unsupported("DELETE of several tables"));
    }
    let target = Target::find(cluster, session, database.as_deref(), &table).await?;
    let env = Env::new(session.zone());
    let which = Which {
        alias: &alias,
        selection: delete.selection.as_ref(),
        order_by: &delete.order_by,
        limit: delete.limit.as_ref(),
    };
    let (filter, keys) = find(&target, &which, session, cluster, &env).await?;
    let program = Program { filter, set: vec![], touch: vec![] };
    let mut done = apply(&target, Some(program), keys, RowWrite::Delete, cluster).await?;
    done.matched = done.affected;
    done.warnings.extend(env.take_warnings());
    Ok(done)
}

/// Sends one kind of write for each key.
async fn apply(
    target: &Target,
    program: Option<Program>,
    keys: Vec<(Ordinal, Bytes)>,
    write: fn(Bytes) -> RowWrite,
    cluster: &Arc<dyn Cluster>,
) -> Result<Done> {
    let mut done = Done::default();
    for chunk in keys.chunks(CHUNK) {
        let writes = chunk.iter().map(|(ordinal, key)| (*ordinal, write(key.clone()))).collect();
        for written in target.send(cluster, program.clone(), writes).await? {
            done.affected += written.affected;
            done.matched += u64::from(written.matched);
            done.warnings.extend(written.warnings);
        }
    }
    Ok(done)
}

/// Takes rows out, and puts them in where they belong now. All are out before the first is in.
async fn move_rows(
    target: &Target,
    program: Program,
    keys: Vec<(Ordinal, Bytes)>,
    cluster: &Arc<dyn Cluster>,
    env: &Env,
) -> Result<Done> {
    let Program { filter, set, touch } = program;
    let program = Program { filter, set: vec![], touch: vec![] };
    let (mut done, mut moved) = (Done::default(), Vec::new());
    for chunk in keys.chunks(CHUNK) {
        let writes = chunk.iter().map(|(ordinal, key)| (*ordinal, RowWrite::Take(key.clone()))).collect();
        let written = target.send(cluster, Some(program.clone()), writes).await?;
        // Taken after the wait: a zone behind a reference may not be carried from thread to thread.
        let zone = &target.zone as &dyn Zone;
        for ((_, key), written) in chunk.iter().zip(written) {
            let Some(old) = written.old else { continue };
            let mut row = target.layout.decode_all(key, &old, None)?;
            let mut seen: Vec<Datum> =
                row.iter().cloned().map(|value| crate::layout::localize(value, Some(zone))).collect();
            let before = row.clone();
            done.matched += 1;
            let row_number = done.matched;
            let mut assign = |row: &mut Vec<Datum>, place: &usize, value: &Scalar| -> Result<()> {
                let field = &target.layout.fields[*place];
                row[*place] = fit(field, value.eval(&seen, env)?, zone, target.strict, env, row_number)?;
                seen[*place] = crate::layout::localize(row[*place].clone(), Some(zone));
                Ok(())
            };
            set.iter().try_for_each(|(place, value)| assign(&mut row, place, value))?;
            if row != before {
                touch.iter().try_for_each(|(place, value)| assign(&mut row, place, value))?;
            }
            done.affected += u64::from(row != before);
            let stored = Row { key: target.layout.encode_key(&row), value: target.layout.encode_value(&row)? };
            moved.push((target.layout.ordinal(&row, target.database.partitions), RowWrite::Insert(stored)));
        }
    }
    while !moved.is_empty() {
        let rest = moved.split_off(moved.len().min(CHUNK));
        target.send(cluster, None, std::mem::replace(&mut moved, rest)).await?;
    }
    Ok(done)
}

/// The keys of the rows that are meant, and the condition to ask again where it can be asked at the row.
async fn find(
    target: &Target,
    which: &Which<'_>,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
    env: &Env,
) -> Result<(Option<Scalar>, Vec<(Ordinal, Bytes)>)> {
    let names = TableNames { target, alias: which.alias, clause: "where clause" };
    let filter = match which.selection {
        None => Ok(None),
        Some(selection) => Normalizer::new(session)
            .condition(selection.clone())
            .and_then(|condition| bind(&condition, &names, env))
            .map(Some),
    };
    let ordered = !which.order_by.is_empty() || which.limit.is_some();
    match filter {
        Ok(filter) if !ordered => {
            let keys = scan_keys(target, filter.as_ref(), cluster).await?;
            Ok((filter, keys))
        }
        Ok(filter) => Ok((filter, select_keys(target, which, session, cluster).await?)),
        // What cannot be bound to a row (a subquery) is DataFusion's; any other error is the statement's.
        Err(error) if error.code == 1235 => Ok((None, select_keys(target, which, session, cluster).await?)),
        Err(error) => Err(error),
    }
}

/// Keys by a scan of the partitions that can hold them.
async fn scan_keys(
    target: &Target,
    filter: Option<&Scalar>,
    cluster: &Arc<dyn Cluster>,
) -> Result<Vec<(Ordinal, Bytes)>> {
    let parts = filter.cloned().map(conjuncts).unwrap_or_default();
    let (layout, partitions) = (&target.layout, target.database.partitions);
    if let Some(point) = point::point(layout, &parts, partitions) {
        return Ok(vec![point]);
    }
    let range = point::range(layout, &parts, partitions);
    let scans = range.ordinals.iter().map(|ordinal| {
        let scan = Scan {
            layout: layout.clone(),
            zone: target.zone,
            projection: layout.key_places(),
            filter: filter.cloned(),
            limit: None,
            start: range.start.clone(),
            end: range.end.clone(),
        };
        keys_of(target, *ordinal, scan, cluster)
    });
    Ok(try_join_all(scans).await?.into_iter().flatten().collect())
}

/// Keys of the rows that a scan of one partition finds; its columns are those of the key.
pub(super) async fn keys_of(
    target: &Target,
    ordinal: Ordinal,
    scan: Scan,
    cluster: &Arc<dyn Cluster>,
) -> Result<Vec<(Ordinal, Bytes)>> {
    let mut batches = cluster.scan(&target.database.name, ordinal, scan).await?;
    let mut keys = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let readers = batch.columns().iter().map(|column| Reader::new(column.as_ref())).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let values: Vec<Datum> = readers.iter().map(|reader| reader.get(row)).collect();
            keys.push((ordinal, key_of(target, values)?));
        }
    }
    Ok(keys)
}

/// A key from the values of its columns as a scan returns them.
fn key_of(target: &Target, values: Vec<Datum>) -> Result<Bytes> {
    let mut row = vec![Datum::Null; target.layout.fields.len()];
    for (place, value) in target.layout.key_places().into_iter().zip(values) {
        row[place] = stored(target, place, value)?;
    }
    Ok(target.layout.encode_key(&row))
}

/// The value as it is stored: scans widen integers and return local times.
fn stored(target: &Target, place: usize, value: Datum) -> Result<Datum> {
    let field = &target.layout.fields[place];
    field.ty.convert(value, &target.zone).map_err(|misfit| Error::new(1105, misfit.kind.message(&field.name, 1)))
}

/// Keys by a query: with an order, a limit, or a condition that only a query can hold.
async fn select_keys(
    target: &Target,
    which: &Which<'_>,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
) -> Result<Vec<(Ordinal, Bytes)>> {
    let mut places = target.layout.key_places();
    places.extend(target.layout.shard.iter().filter(|place| target.layout.fields[**place].key.is_none()));
    let columns: Vec<String> = places
        .iter()
        .map(|place| format!("{}.{}", quote_name(which.alias), quote_name(&target.layout.fields[*place].name)))
        .collect();
    let text = format!(
        "SELECT {} FROM {}.{} AS {}",
        columns.join(", "),
        quote_name(&target.database.name),
        quote_name(&target.table.name),
        quote_name(which.alias)
    );
    let Statement::Query(Query { mut tree, texts }) = parse(&text)? else {
        return Err(Error::new(1105, "the search for rows is no query"));
    };
    if let SetExpr::Select(select) = &mut *tree.body {
        select.selection = which.selection.cloned();
    }
    if !which.order_by.is_empty() {
        tree.order_by = Some(OrderBy { kind: OrderByKind::Expressions(which.order_by.to_vec()), interpolate: None });
    }
    tree.limit_clause = which.limit.map(|limit| LimitClause::LimitOffset {
        limit: Some(limit.clone()),
        offset: None,
        limit_by: vec![],
    });
    let rows = crate::select::select(&Query { tree, texts }, session, cluster, true).await?.collect().await?;
    rows.into_iter()
        .map(|values| {
            let mut row = vec![Datum::Null; target.layout.fields.len()];
            for (place, value) in places.iter().zip(values) {
                row[*place] = stored(target, *place, value)?;
            }
            Ok((target.layout.ordinal(&row, target.database.partitions), target.layout.encode_key(&row)))
        })
        .collect()
}
