//! SELECT of one row by its key, without DataFusion.
//!
//! Taken for `SELECT columns FROM table WHERE key = constant [AND …]` and nothing else; every other query goes the
//! general way and has the same answer.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, Select, SelectItem, SetExpr};
use types::Datum;
use types::value::Zone;

use crate::answer::{ResultColumn, Rows};
use crate::bind::{bind, conjuncts};
use crate::cluster::Cluster;
use crate::error::Result;
use crate::normalize::Normalizer;
use crate::point;
use crate::scalar::{Env, Scalar};
use crate::session::Session;
use crate::statement::Query;
use crate::write::{TableNames, Target, single_table};

/// The rows, or `None` if the query is not of this kind.
pub(crate) async fn select(query: &Query, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Option<Rows>> {
    let Some(select) = plain(query) else { return Ok(None) };
    let Some(selection) = select.selection.clone() else { return Ok(None) };
    let Ok((database, table, alias)) = single_table(&select.from, "SELECT") else { return Ok(None) };
    let schema = database.as_deref().or(session.database.as_deref());
    if schema.is_none_or(|schema| schema.eq_ignore_ascii_case(crate::info::INFORMATION_SCHEMA)) {
        return Ok(None);
    }
    let target = Target::find(cluster, session, database.as_deref(), &table).await?;
    let env = Env::new(session.zone());
    let names = TableNames { target: &target, alias: &alias, clause: "where clause" };
    let condition = Normalizer::new(session).condition(selection).and_then(|tree| bind(&tree, &names, &env));
    // Errors are the general way's to tell.
    let Ok(condition) = condition else { return Ok(None) };
    let parts = conjuncts(condition);
    let Some((ordinal, key)) = point::point(&target.layout, &parts, target.database.partitions) else {
        return Ok(None);
    };
    let Some((places, columns)) = projection(select, &target, &alias) else { return Ok(None) };
    let stored = cluster.get(&target.database.name, ordinal, vec![key.clone()]).await?;
    let mut rows = Vec::new();
    if let Some(Some(value)) = stored.into_iter().next() {
        let row = target.layout.decode_all(&key, &value, Some(&target.zone as &dyn Zone))?;
        if Scalar::And(parts).holds(&row, &env)? {
            rows.push(places.iter().map(|place| row[*place].clone()).collect::<Vec<Datum>>());
        }
    }
    let mut answer = Rows::of(columns, rows);
    answer.env = Arc::new(env);
    Ok(Some(answer))
}

/// A SELECT without anything that makes rows of rows.
fn plain(query: &Query) -> Option<&Select> {
    let tree = &query.tree;
    let bare = tree.with.is_none() && tree.order_by.is_none() && tree.limit_clause.is_none() && tree.locks.is_empty();
    let SetExpr::Select(select) = &*tree.body else { return None };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(expressions, modifiers) if expressions.is_empty() && modifiers.is_empty());
    let clauses =
        select.distinct.is_some() || select.having.is_some() || select.into.is_some() || select.qualify.is_some();
    (bare && !grouped && !clauses && select.select_modifiers.is_none()).then_some(select)
}

/// Places and columns of plain column names and stars.
fn projection(select: &Select, target: &Target, alias: &str) -> Option<(Vec<usize>, Vec<ResultColumn>)> {
    let (mut places, mut columns) = (Vec::new(), Vec::new());
    let mut add = |place: usize, name: String| {
        let column = &target.table.columns[place];
        places.push(place);
        columns.push(ResultColumn {
            name,
            table: target.table.name.clone(),
            ty: column.ty,
            nullable: column.nullable,
            declared: true,
        });
    };
    for item in &select.projection {
        let (expr, title) = match item {
            SelectItem::Wildcard(_) => {
                (0..target.table.columns.len()).for_each(|place| add(place, target.table.columns[place].name.clone()));
                continue;
            }
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
            _ => return None,
        };
        let (qualifier, name) = match expr {
            Expr::Identifier(name) => (None, &name.value),
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => (Some(&parts[0].value), &parts[1].value),
            _ => return None,
        };
        if qualifier.is_some_and(|qualifier| qualifier != alias) {
            return None;
        }
        let place = target.table.position(name)?;
        add(place, title.unwrap_or_else(|| name.clone()));
    }
    Some((places, columns))
}
