//! How the columns of a result are called.
//!
//! Inside, names are in lower case and unique; the client sees what it wrote: an alias, a column's name as written,
//! the text of an expression, or, behind a star, the name as declared.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::ast::{Expr, Query as Tree, SelectItem, SetExpr};

use crate::normalize::ident;
use crate::statement::Query;

/// Separates a name from what makes it unique; no identifier holds it.
const MARK: char = '\u{1}';

/// Titles by the name inside.
#[derive(Debug, Default)]
pub(super) struct Titles {
    titles: BTreeMap<String, String>,
}

impl Titles {
    /// The title of a column; `declared` is its name in its table.
    pub(super) fn title(&self, name: &str, declared: Option<&str>) -> String {
        match (self.titles.get(name), declared) {
            (Some(title), _) => title.clone(),
            (None, Some(declared)) => declared.to_string(),
            (None, None) => name.split(MARK).next().unwrap_or(name).to_string(),
        }
    }
}

/// Makes the names of a query's columns unique, and remembers what they are called.
pub(super) fn assign(query: &Query, normalized: &mut Tree) -> Titles {
    let mut titles = Titles::default();
    let written = first_items(&query.tree.body).map(|items| {
        items.iter().enumerate().map(|(at, item)| written_title(item, query.texts.get(at))).collect::<Vec<_>>()
    });
    let mut first = written;
    unique(&mut normalized.body, &mut first, &mut titles);
    titles
}

fn first_items(body: &SetExpr) -> Option<&[SelectItem]> {
    match body {
        SetExpr::Select(select) => Some(&select.projection),
        SetExpr::Query(query) => first_items(&query.body),
        SetExpr::SetOperation { left, .. } => first_items(left),
        _ => None,
    }
}

fn written_title(item: &SelectItem, text: Option<&String>) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) if !name.value.starts_with('@') => Some(name.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) if !parts[0].value.starts_with('@') => {
            parts.last().map(|part| part.value.clone())
        }
        SelectItem::UnnamedExpr(Expr::Value(value)) => {
            Some(value.clone().into_string().unwrap_or_else(|| text.cloned().unwrap_or_else(|| value.to_string())))
        }
        SelectItem::UnnamedExpr(expr) => Some(text.cloned().unwrap_or_else(|| expr.to_string())),
        _ => None,
    }
}

/// Works on every SELECT of the result: each must have unique names. The titles are those of the first.
fn unique(body: &mut SetExpr, written: &mut Option<Vec<Option<String>>>, titles: &mut Titles) {
    match body {
        SetExpr::Select(select) => {
            let wild = select
                .projection
                .iter()
                .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
            let written = written.take();
            let mut seen = BTreeSet::new();
            for (at, item) in select.projection.iter_mut().enumerate() {
                let Some((name, plain)) = inner_name(item) else { continue };
                let name = if !seen.insert(name.clone()) || wild && plain {
                    let marked = format!("{name}{MARK}{at}");
                    *item = SelectItem::ExprWithAlias { expr: expression(item), alias: ident(&marked) };
                    marked
                } else {
                    name
                };
                if let Some(Some(title)) = written.as_ref().and_then(|written| written.get(at)) {
                    titles.titles.insert(name, title.clone());
                }
            }
        }
        SetExpr::Query(query) => unique(&mut query.body, written, titles),
        SetExpr::SetOperation { left, right, .. } => {
            unique(left, written, titles);
            unique(right, written, titles);
        }
        _ => {}
    }
}

/// The name inside, and whether it is a column's own.
fn inner_name(item: &SelectItem) -> Option<(String, bool)> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some((alias.value.clone(), false)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some((name.value.clone(), true)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(|part| (part.value.clone(), true)),
        _ => None,
    }
}

fn expression(item: &SelectItem) -> Expr {
    match item {
        SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr) => expr.clone(),
        other => panic!("{other} is no expression"),
    }
}
