//! Queries: tables, clauses, and the names of columns.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Join, JoinConstraint, JoinOperator, LimitClause, ObjectName, ObjectNamePart, Offset,
    OffsetRows, OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, TableAlias, TableFactor, TableWithJoins, Value,
};

use super::expression::shortened;
use super::{Normalizer, ident, names};
use crate::error::{Error, Result};

impl Normalizer<'_> {
    pub(crate) fn query(&mut self, mut query: Query) -> Result<Query> {
        if !query.locks.is_empty() {
            return Err(Error::unsupported("SELECT … FOR UPDATE and FOR SHARE"));
        }
        if query.fetch.is_some() || query.for_clause.is_some() || !query.pipe_operators.is_empty() {
            return Err(Error::unsupported(shortened(&query)));
        }
        let known = self.ctes.len();
        if let Some(with) = &mut query.with {
            if with.recursive {
                return Err(Error::unsupported("WITH RECURSIVE"));
            }
            for cte in &mut with.cte_tables {
                let inner = std::mem::replace(&mut *cte.query, empty_query());
                *cte.query = self.query(inner)?;
                cte.alias.columns.iter_mut().for_each(|column| column.name = ident(&column.name.value.to_lowercase()));
                cte.alias.name = ident(&cte.alias.name.value);
                self.ctes.push(cte.alias.name.value.clone());
            }
        }
        *query.body = self.set_expr(*query.body)?;
        if let Some(order_by) = &mut query.order_by {
            let OrderByKind::Expressions(expressions) = &mut order_by.kind else {
                return Err(Error::unsupported("ORDER BY ALL"));
            };
            self.order_by(expressions)?;
        }
        query.limit_clause = query.limit_clause.map(|limit| self.limit(limit)).transpose()?;
        self.ctes.truncate(known);
        Ok(query)
    }

    fn set_expr(&mut self, body: SetExpr) -> Result<SetExpr> {
        Ok(match body {
            SetExpr::Select(select) => SetExpr::Select(Box::new(self.select(*select)?)),
            SetExpr::Query(query) => SetExpr::Query(Box::new(self.query(*query)?)),
            SetExpr::SetOperation { left, op, set_quantifier, right } => SetExpr::SetOperation {
                left: Box::new(self.set_expr(*left)?),
                op,
                set_quantifier,
                right: Box::new(self.set_expr(*right)?),
            },
            other => return Err(Error::unsupported(shortened(&other))),
        })
    }

    fn select(&mut self, select: Select) -> Result<Select> {
        let outer = std::mem::take(&mut self.using);
        let select = self.select_alone(select);
        self.using = outer;
        select
    }

    fn select_alone(&mut self, mut select: Select) -> Result<Select> {
        if select.into.is_some() {
            return Err(Error::unsupported("SELECT … INTO"));
        }
        if matches!(select.distinct, Some(Distinct::On(_))) || select.top.is_some() || select.qualify.is_some() {
            return Err(Error::unsupported(shortened(&select)));
        }
        // Hints and modifiers (SQL_NO_CACHE and the like) change no answer, but for this one.
        if select
            .select_modifiers
            .as_ref()
            .is_some_and(|modifiers| modifiers.to_string().contains("SQL_CALC_FOUND_ROWS"))
        {
            return Err(Error::unsupported("SQL_CALC_FOUND_ROWS"));
        }
        select.select_modifiers = None;
        select.optimizer_hints = vec![];
        if !select.named_window.is_empty() {
            return Err(Error::unsupported("WINDOW clause"));
        }
        select.from =
            select.from.into_iter().filter(|from| !is_dual(from)).map(|from| self.from(from)).collect::<Result<_>>()?;
        select.selection = select.selection.map(|condition| self.filter(condition)).transpose()?;
        select.having = select.having.map(|condition| self.filter(condition)).transpose()?;
        select.group_by = match select.group_by {
            GroupByExpr::Expressions(expressions, modifiers) if modifiers.is_empty() => {
                let expressions =
                    expressions.into_iter().map(|expr| self.position_or_value(expr)).collect::<Result<_>>()?;
                GroupByExpr::Expressions(expressions, modifiers)
            }
            other => return Err(Error::unsupported(shortened(&other))),
        };
        select.projection = select.projection.into_iter().map(|item| self.select_item(item)).collect::<Result<_>>()?;
        Ok(select)
    }

    fn select_item(&mut self, item: SelectItem) -> Result<SelectItem> {
        Ok(match item {
            SelectItem::UnnamedExpr(expr) => {
                let plain = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                let name = expr.to_string();
                let value = self.value(expr)?;
                // Derived tables are addressed by the text of an expression.
                match (plain, &value) {
                    (true, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => SelectItem::UnnamedExpr(value),
                    _ => SelectItem::ExprWithAlias { expr: value, alias: ident(&name.to_lowercase()) },
                }
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                SelectItem::ExprWithAlias { expr: self.value(expr)?, alias: ident(&alias.value.to_lowercase()) }
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                let name = quoted(&names(&name)?.split_off(name.0.len() - 1));
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
            }
            wildcard @ SelectItem::Wildcard(_) => wildcard,
            other => return Err(Error::unsupported(shortened(&other))),
        })
    }

    fn from(&mut self, from: TableWithJoins) -> Result<TableWithJoins> {
        let relation = self.table(from.relation)?;
        let joins: Vec<Join> = from.joins.into_iter().map(|join| self.join(join)).collect::<Result<_>>()?;
        for join in &joins {
            let (side, columns) = match &join.join_operator {
                JoinOperator::RightOuter(JoinConstraint::Using(columns)) => (&join.relation, columns),
                JoinOperator::Inner(JoinConstraint::Using(columns))
                | JoinOperator::LeftOuter(JoinConstraint::Using(columns)) => (&relation, columns),
                _ => continue,
            };
            if let TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } =
                side
            {
                for column in columns {
                    self.using.extend(names(column)?.pop().map(|column| (column, alias.name.value.clone())));
                }
            }
        }
        Ok(TableWithJoins { relation, joins })
    }

    fn join(&mut self, join: Join) -> Result<Join> {
        let relation = self.table(join.relation)?;
        let join_operator = match join.join_operator {
            JoinOperator::Join(on) | JoinOperator::Inner(on) | JoinOperator::StraightJoin(on) => self.inner(on)?,
            JoinOperator::CrossJoin(on) => self.inner(on)?,
            JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => JoinOperator::LeftOuter(self.constraint(on)?),
            JoinOperator::Right(on) | JoinOperator::RightOuter(on) => JoinOperator::RightOuter(self.constraint(on)?),
            _ => return Err(Error::unsupported("this kind of join")),
        };
        Ok(Join { relation, global: false, join_operator })
    }

    /// JOIN without a condition is a cross join in MySQL.
    fn inner(&mut self, on: JoinConstraint) -> Result<JoinOperator> {
        Ok(match self.constraint(on)? {
            JoinConstraint::None => JoinOperator::CrossJoin(JoinConstraint::None),
            on => JoinOperator::Inner(on),
        })
    }

    fn constraint(&mut self, on: JoinConstraint) -> Result<JoinConstraint> {
        Ok(match on {
            JoinConstraint::On(condition) => JoinConstraint::On(self.condition(condition)?),
            JoinConstraint::Using(columns) => JoinConstraint::Using(
                columns
                    .iter()
                    .map(|column| {
                        Ok(quoted(&names(column)?.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>()))
                    })
                    .collect::<Result<_>>()?,
            ),
            other => other,
        })
    }

    fn table(&mut self, factor: TableFactor) -> Result<TableFactor> {
        match factor {
            TableFactor::Table {
                name,
                mut alias,
                args: None,
                with_hints,
                version,
                with_ordinality,
                json_path,
                sample,
                ..
            } => {
                if !with_hints.is_empty()
                    || version.is_some()
                    || with_ordinality
                    || json_path.is_some()
                    || sample.is_some()
                {
                    return Err(Error::unsupported(format!("table {name} with clauses")));
                }
                if let Some(alias) = &mut alias {
                    alias.name = ident(&alias.name.value);
                }
                let parts = names(&name)?;
                let name = match parts.as_slice() {
                    [cte] if self.ctes.contains(cte) => quoted(&parts),
                    _ => {
                        let (database, table) = self.table_name(&name)?;
                        self.tables.insert((database.clone(), table.clone()));
                        // Columns are addressed by the table alone, so that stars are as well.
                        alias.get_or_insert_with(|| table_alias(&table));
                        quoted(&[database, table])
                    }
                };
                Ok(TableFactor::Table {
                    name,
                    alias,
                    args: None,
                    with_hints: vec![],
                    version: None,
                    with_ordinality: false,
                    partitions: vec![],
                    json_path: None,
                    sample: None,
                    index_hints: vec![],
                })
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let Some(mut alias) = alias else {
                    return Err(Error::new(1248, "Every derived table must have its own alias"));
                };
                alias.name = ident(&alias.name.value);
                alias.columns.iter_mut().for_each(|column| column.name = ident(&column.name.value.to_lowercase()));
                let subquery = Box::new(self.query(*subquery)?);
                Ok(TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None })
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                let table_with_joins = Box::new(self.from(*table_with_joins)?);
                Ok(TableFactor::NestedJoin { table_with_joins, alias: None })
            }
            other => Err(Error::unsupported(shortened(&other))),
        }
    }

    pub(crate) fn order_by(&mut self, expressions: &mut [OrderByExpr]) -> Result<()> {
        for expression in expressions {
            let expr = std::mem::replace(&mut expression.expr, super::null());
            expression.expr = self.position_or_value(expr)?;
            // NULLs are the smallest in either direction.
            expression.options.nulls_first = Some(expression.options.asc != Some(false));
        }
        Ok(())
    }

    /// A number here is a position, not a value.
    fn position_or_value(&mut self, expr: Expr) -> Result<Expr> {
        match expr {
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => Ok(Expr::Value(value)),
            other => self.value(other),
        }
    }

    fn limit(&mut self, limit: LimitClause) -> Result<LimitClause> {
        let (limit, offset) = match limit {
            LimitClause::OffsetCommaLimit { offset, limit } => (Some(limit), Some(offset)),
            LimitClause::LimitOffset { limit, offset, limit_by } if limit_by.is_empty() => {
                (limit, offset.map(|offset| offset.value))
            }
            LimitClause::LimitOffset { .. } => return Err(Error::unsupported("LIMIT BY")),
        };
        let limit = limit.map(|limit| self.row_count(limit)).transpose()?;
        let offset = offset.map(|offset| self.row_count(offset)).transpose()?;
        Ok(LimitClause::LimitOffset {
            limit,
            offset: offset.map(|value| Offset { value, rows: OffsetRows::None }),
            limit_by: vec![],
        })
    }

    /// A count of rows; above what DataFusion counts to it is all of them (MySQL users write 2^64-1).
    fn row_count(&mut self, count: Expr) -> Result<Expr> {
        match count {
            Expr::Value(value) => match value.to_string().parse::<u64>() {
                Ok(count) => Ok(super::number(count.min(i64::MAX as u64))),
                Err(_) => Err(Error::syntax(&value.to_string(), 1)),
            },
            other => Err(Error::unsupported(format!("LIMIT {}", shortened(&other)))),
        }
    }
}

fn quoted(parts: &[String]) -> ObjectName {
    ObjectName(parts.iter().map(|part| ObjectNamePart::Identifier(ident(part))).collect())
}

fn table_alias(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: ident(name), columns: vec![], at: None }
}

fn is_dual(from: &TableWithJoins) -> bool {
    matches!(&from.relation, TableFactor::Table { name, .. } if from.joins.is_empty() && name.to_string().eq_ignore_ascii_case("dual"))
}

/// How many rows a query has: `SELECT COUNT(1) FROM …` of a plain one, `SELECT COUNT(1) FROM (query)` of others.
pub(super) fn count_of(mut query: Query) -> Query {
    let count = super::call("count", vec![super::number(1)]);
    let whole = query.with.is_none() && query.limit_clause.is_none();
    if let (true, SetExpr::Select(select)) = (whole, &mut *query.body) {
        let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
        let constant = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                matches!(expr, Expr::Value(_) | Expr::Identifier(_) | Expr::CompoundIdentifier(_))
            }
            _ => true,
        };
        let aggregated = !select.projection.iter().all(constant);
        if !grouped && !aggregated && select.having.is_none() && select.distinct.is_none() {
            select.projection = vec![SelectItem::UnnamedExpr(count)];
            query.order_by = None;
            return query;
        }
    }
    let relation = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(table_alias("\u{1}rows")),
        sample: None,
    };
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: vec![],
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![SelectItem::UnnamedExpr(count)],
        exclude: None,
        into: None,
        from: vec![TableWithJoins { relation, joins: vec![] }],
        lateral_views: vec![],
        prewhere: None,
        selection: None,
        connect_by: vec![],
        group_by: GroupByExpr::Expressions(vec![], vec![]),
        cluster_by: vec![],
        distribute_by: vec![],
        sort_by: vec![],
        having: None,
        named_window: vec![],
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    Query { body: Box::new(SetExpr::Select(Box::new(select))), ..empty_query() }
}

/// What stands in a tree while its query is worked on.
fn empty_query() -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Values(datafusion::sql::sqlparser::ast::Values {
            explicit_row: false,
            value_keyword: false,
            rows: vec![],
        })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}
