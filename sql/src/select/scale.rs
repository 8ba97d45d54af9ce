//! How many digits after the point a decimal column shows.
//!
//! MySQL computes a quotient with more digits than it shows (`scalar::ops::quotient_scale`), and what is computed
//! from it further carries both counts. Types here carry the computed one; the shown one is found by looking the plan
//! through.

use datafusion::common::Column;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

use super::udf::Udf;
use crate::arrow::ty_of;
use crate::scalar::Ty;
use types::ColumnType;

/// Digits shown of an output column of a plan; `None` if it is no decimal.
pub(super) fn shown(plan: &LogicalPlan, index: usize) -> Option<u8> {
    let declared = match ty_of(plan.schema().field(index).data_type())? {
        Ty::Decimal(_, scale) => scale,
        _ => return None,
    };
    let found = match plan {
        LogicalPlan::Projection(projection) => of_expr(projection.expr.get(index)?, &projection.input),
        LogicalPlan::Aggregate(aggregate) => {
            let groups = aggregate.group_expr.len();
            match index.checked_sub(groups) {
                None => of_expr(&aggregate.group_expr[index], &aggregate.input),
                Some(at) => of_expr(aggregate.aggr_expr.get(at)?, &aggregate.input),
            }
        }
        LogicalPlan::Window(window) => {
            let inputs = window.input.schema().fields().len();
            match index.checked_sub(inputs) {
                None => shown(&window.input, index),
                Some(at) => of_expr(window.window_expr.get(at)?, &window.input),
            }
        }
        LogicalPlan::Filter(filter) => shown(&filter.input, index),
        LogicalPlan::Sort(sort) => shown(&sort.input, index),
        LogicalPlan::Limit(limit) => shown(&limit.input, index),
        LogicalPlan::SubqueryAlias(alias) => shown(&alias.input, index),
        LogicalPlan::Distinct(datafusion::logical_expr::Distinct::All(input)) => shown(input, index),
        LogicalPlan::Union(union) => union.inputs.iter().filter_map(|input| shown(input, index)).max(),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            match index.checked_sub(left) {
                None => shown(&join.left, index),
                Some(at) => shown(&join.right, at),
            }
        }
        _ => None,
    };
    Some(found.unwrap_or(declared).min(declared))
}

fn of_expr(expr: &Expr, input: &LogicalPlan) -> Option<u8> {
    let of = |expr: &Expr| of_expr(expr, input);
    match expr {
        Expr::Column(column) => of_column(column, input),
        Expr::Alias(alias) => of(&alias.expr),
        Expr::BinaryExpr(binary) => {
            let (left, right) = (of(&binary.left)?, of(&binary.right)?);
            Some(if binary.op == Operator::Multiply { left + right } else { left.max(right) })
        }
        Expr::ScalarFunction(call) => {
            let name = call.func.inner().downcast_ref::<Udf>()?.function.definition().name;
            let arguments: Vec<Option<u8>> = call.args.iter().map(of).collect();
            match name {
                "div" => Some((arguments[0]? + 4).min(30)),
                "mul" => Some(arguments[0]? + arguments[1]?),
                "add" | "sub" | "mod" | "greatest" | "least" => arguments.into_iter().flatten().max(),
                "neg" | "abs" | "summand" | "to_number" => arguments[0],
                "unix_timestamp" => Some(fraction_digits(call.args.first()?, input)),
                "choose" => {
                    let last = arguments.len() - 1;
                    let values = arguments.into_iter().enumerate().filter(|(at, _)| at % 2 == 1 || *at == last);
                    values.filter_map(|(_, scale)| scale).max()
                }
                _ => by_type(expr, input),
            }
        }
        Expr::AggregateFunction(call) => match call.func.name() {
            "sum" | "min" | "max" => of(call.params.args.first()?),
            _ => by_type(expr, input),
        },
        Expr::WindowFunction(call) => match call.fun.name() {
            "sum" | "min" | "max" | "lag" | "lead" | "first_value" | "last_value" | "nth_value" => {
                of(call.params.args.first()?)
            }
            _ => by_type(expr, input),
        },
        Expr::Case(case) => case
            .when_then_expr
            .iter()
            .map(|(_, then)| then.as_ref())
            .chain(case.else_expr.as_deref())
            .filter_map(of)
            .max(),
        Expr::Cast(cast) => of(&cast.expr),
        Expr::ScalarSubquery(subquery) => shown(&subquery.subquery, 0),
        _ => by_type(expr, input),
    }
}

/// Digits of a second that a time has: those of its column, none of another DATETIME, all of a text.
fn fraction_digits(expr: &Expr, input: &LogicalPlan) -> u8 {
    let Ok((_, field)) = expr.to_field(input.schema()) else { return 6 };
    let declared = field.metadata().get(super::table::DECLARED).and_then(|text| serde_json::from_str(text).ok());
    match (declared, ty_of(field.data_type())) {
        (Some(ColumnType::DateTime(fsp) | ColumnType::Timestamp(fsp)), _) => fsp,
        (_, Some(Ty::DateTime | Ty::Date)) => 0,
        _ => 6,
    }
}

fn of_column(column: &Column, input: &LogicalPlan) -> Option<u8> {
    let index = input.schema().maybe_index_of_column(column)?;
    match shown(input, index) {
        Some(scale) => Some(scale),
        None => ty_of(input.schema().field(index).data_type()).map(Ty::scale),
    }
}

fn by_type(expr: &Expr, input: &LogicalPlan) -> Option<u8> {
    ty_of(&expr.get_type(input.schema()).ok()?).map(Ty::scale)
}
