//! INSERT and REPLACE.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, Insert, OnInsert, Query as Tree, SetExpr, TableObject,
};
use futures::StreamExt;

use super::Target;
use super::rows::{Given, Maker, now};
use crate::answer::Done;
use crate::bind::{Names, NoNames, bind};
use crate::cluster::{Cluster, Program, Row, RowWrite};
use crate::error::{Error, Result};
use crate::normalize::{Normalizer, names};
use crate::scalar::{Env, Scalar, Ty};
use crate::session::Session;
use crate::statement::Query;

/// Rows that are sent at once, at most.
pub(super) const CHUNK: usize = 1000;

/// What becomes of a row whose key is there.
pub(super) enum OnDuplicate {
    Error,
    Ignore,
    Replace,
    Update(Program),
}

impl OnDuplicate {
    pub(super) fn write(&self, row: Row) -> RowWrite {
        match self {
            OnDuplicate::Error => RowWrite::Insert(row),
            OnDuplicate::Ignore => RowWrite::InsertIgnore(row),
            OnDuplicate::Replace => RowWrite::Replace(row),
            OnDuplicate::Update(_) => RowWrite::Upsert(row),
        }
    }

    pub(super) fn program(&self) -> Option<Program> {
        match self {
            OnDuplicate::Update(program) => Some(program.clone()),
            _ => None,
        }
    }
}

/// Runs an INSERT or REPLACE.
pub(crate) async fn insert(insert: &Insert, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Done> {
    if insert.returning.is_some()
        || insert.partitioned.is_some()
        || insert.insert_alias.is_some()
        || insert.output.is_some()
    {
        return Err(Error::unsupported("this form of INSERT"));
    }
    let TableObject::TableName(name) = &insert.table else { return Err(Error::unsupported("INSERT into no table")) };
    let parts = names(name)?;
    let (database, table) = match parts.as_slice() {
        [table] => (None, table.as_str()),
        [database, table] => (Some(database.as_str()), table.as_str()),
        _ => return Err(Error::unsupported(format!("table name {name}"))),
    };
    let target = Target::find(cluster, session, database, table).await?;
    let env = Env::new(session.zone());
    let on_duplicate = match (&insert.on, insert.replace_into, insert.ignore) {
        (Some(OnInsert::DuplicateKeyUpdate(assignments)), _, _) => {
            OnDuplicate::Update(upsert_program(assignments, &target, session, &env)?)
        }
        (Some(_), _, _) => return Err(Error::unsupported("ON CONFLICT")),
        (None, true, _) => OnDuplicate::Replace,
        (None, false, true) => OnDuplicate::Ignore,
        (None, false, false) => OnDuplicate::Error,
    };
    let mut work = Work {
        maker: Maker::new(&target, session, &env, insert.ignore),
        target: &target,
        on_duplicate,
        done: Done::default(),
        records: 0,
        duplicates: 0,
    };
    match (&insert.source, insert.assignments.as_slice()) {
        (Some(source), []) => {
            let places = places(&target, &insert.columns.iter().map(names).collect::<Result<Vec<_>>>()?)?;
            match values_of(source) {
                Some(values) => work.values(values, &places, session, cluster).await?,
                None => work.select(source, &places, session, cluster).await?,
            }
        }
        (None, assignments) if !assignments.is_empty() => {
            let named = assignments.iter().map(target_name).collect::<Result<Vec<_>>>()?;
            let places = places(&target, &named)?;
            let values: Vec<Expr> = assignments.iter().map(|assignment| assignment.value.clone()).collect();
            work.values(vec![values], &places, session, cluster).await?;
        }
        _ => work.values(vec![vec![]], &[], session, cluster).await?,
    }
    let shown = work.records > 1 || insert.source.as_ref().is_some_and(|source| values_of(source).is_none());
    let (records, duplicates) = (work.records, work.duplicates);
    let mut done = work.finish();
    done.warnings = env.take_warnings().into_iter().chain(done.warnings).collect();
    if shown {
        done.info = format!("Records: {records}  Duplicates: {duplicates}  Warnings: {}", done.warnings.len());
    }
    done.matched = done.affected;
    Ok(done)
}

/// The rows of VALUES; `None` for a query.
fn values_of(source: &Tree) -> Option<Vec<Vec<Expr>>> {
    match &*source.body {
        SetExpr::Values(values) if source.order_by.is_none() && source.with.is_none() => {
            Some(values.rows.iter().map(|row| row.content.clone()).collect())
        }
        _ => None,
    }
}

fn target_name(assignment: &Assignment) -> Result<Vec<String>> {
    match &assignment.target {
        AssignmentTarget::ColumnName(name) => names(name),
        AssignmentTarget::Tuple(_) => Err(Error::unsupported("assignment to several columns")),
    }
}

/// Places of named columns; all columns if none is named.
pub(super) fn places(target: &Target, named: &[Vec<String>]) -> Result<Vec<usize>> {
    if named.is_empty() {
        return Ok((0..target.table.columns.len()).collect());
    }
    let mut places = Vec::with_capacity(named.len());
    for name in named {
        let column = name.last().map(String::as_str).unwrap_or_default();
        let place = target.table.position(column).ok_or_else(|| Error::unknown_column(column, "field list"))?;
        if places.contains(&place) {
            return Err(Error::new(1110, format!("Column '{column}' specified twice")));
        }
        places.push(place);
    }
    Ok(places)
}

struct Work<'a> {
    maker: Maker<'a>,
    target: &'a Target,
    on_duplicate: OnDuplicate,
    done: Done,
    records: u64,
    duplicates: u64,
}

impl Work<'_> {
    async fn values(
        &mut self,
        rows: Vec<Vec<Expr>>,
        places: &[usize],
        session: &Session,
        cluster: &Arc<dyn Cluster>,
    ) -> Result<()> {
        let env = Env::new(session.zone());
        let mut normalizer = Normalizer::new(session);
        let mut chunk = Vec::new();
        for (at, row) in rows.into_iter().enumerate() {
            // `VALUES ()` is a row of defaults.
            if row.len() != places.len() && !row.is_empty() {
                return Err(Error::new(1136, format!("Column count doesn't match value count at row {}", at + 1)));
            }
            let mut given = vec![Given::Default; self.target.table.columns.len()];
            for (place, expr) in places.iter().zip(row) {
                given[*place] = match expr {
                    Expr::Identifier(name)
                        if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("DEFAULT") =>
                    {
                        Given::Default
                    }
                    expr => Given::Value(bind(&normalizer.cell(expr)?, &NoNames, &env)?.eval(&[], &env)?),
                };
            }
            chunk.push(given);
            if chunk.len() == CHUNK {
                self.send(std::mem::take(&mut chunk), cluster).await?;
            }
        }
        self.send(chunk, cluster).await?;
        self.done.warnings.extend(env.take_warnings());
        Ok(())
    }

    async fn select(
        &mut self,
        source: &Tree,
        places: &[usize],
        session: &Session,
        cluster: &Arc<dyn Cluster>,
    ) -> Result<()> {
        let query = Query { tree: Box::new(source.clone()), texts: vec![] };
        let mut rows = crate::select::select(&query, session, cluster, false).await?;
        if rows.columns.len() != places.len() {
            return Err(Error::new(1136, "Column count doesn't match value count at row 1"));
        }
        // The rows are all read before the first is written: the table may be the one that is read.
        let mut chunks = Vec::new();
        while let Some(portion) = rows.rows.next().await {
            chunks.push(portion?);
        }
        for portion in chunks {
            for part in portion.chunks(CHUNK) {
                let given = part.iter().map(|row| {
                    let mut given = vec![Given::Default; self.target.table.columns.len()];
                    places.iter().zip(row).for_each(|(place, value)| given[*place] = Given::Value(value.clone()));
                    given
                });
                self.send(given.collect(), cluster).await?;
            }
        }
        self.done.warnings.extend(rows.env.take_warnings());
        Ok(())
    }

    async fn send(&mut self, rows: Vec<Vec<Given>>, cluster: &Arc<dyn Cluster>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.records += rows.len() as u64;
        let made = self.maker.make(cluster, rows).await?;
        let writes = made.into_iter().map(|(ordinal, row)| (ordinal, self.on_duplicate.write(row))).collect();
        for written in self.target.send(cluster, self.on_duplicate.program(), writes).await? {
            self.done.affected += written.affected;
            self.duplicates += u64::from(written.matched);
            self.done.warnings.extend(written.warnings);
        }
        Ok(())
    }

    fn finish(mut self) -> Done {
        self.done.last_insert_id = self.maker.first_id;
        self.done
    }
}

/// The assignments of ON DUPLICATE KEY UPDATE.
fn upsert_program(assignments: &[Assignment], target: &Target, session: &Session, env: &Env) -> Result<Program> {
    let names = UpsertNames { target };
    let mut normalizer = Normalizer::new(session);
    let mut set = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        let column = target_name(assignment)?.pop().unwrap_or_default();
        let place = settable(target, &column)?;
        let value = bind(&normalizer.value_with_inserted(assignment.value.clone())?, &names, env)?;
        set.push((place, value));
    }
    let touch = on_update(target, session, &set);
    Ok(Program { filter: None, set, touch })
}

/// Places of columns that are set to the time because others change.
pub(super) fn on_update(target: &Target, session: &Session, set: &[(usize, Scalar)]) -> Vec<(usize, Scalar)> {
    let columns = target.table.columns.iter().enumerate();
    columns
        .filter(|(place, column)| column.on_update_now && set.iter().all(|(set, _)| set != place))
        .map(|(place, column)| {
            let value = now(&column.ty, session.now, &target.zone);
            (place, Scalar::Literal(crate::layout::localize(value, Some(&target.zone))))
        })
        .collect()
}

/// The place of a column that can be set where the row is.
pub(super) fn settable(target: &Target, column: &str) -> Result<usize> {
    let place = target.table.position(column).ok_or_else(|| Error::unknown_column(column, "field list"))?;
    if target.layout.fields[place].key.is_some() || target.layout.shard.contains(&place) {
        return Err(Error::unsupported(format!("ON DUPLICATE KEY UPDATE of key column {column}")));
    }
    Ok(place)
}

struct UpsertNames<'a> {
    target: &'a Target,
}

impl Names for UpsertNames<'_> {
    fn column(&self, _: Option<&str>, column: &str) -> Result<(usize, Ty)> {
        let place = self.target.table.position(column).ok_or_else(|| Error::unknown_column(column, "field list"))?;
        Ok((place, Ty::of_column(&self.target.table.columns[place].ty)))
    }

    fn inserted(&self, column: &str) -> Result<(usize, Ty)> {
        let (place, ty) = self.column(None, column)?;
        Ok((place + self.target.layout.fields.len(), ty))
    }
}
