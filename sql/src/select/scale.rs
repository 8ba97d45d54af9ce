//! How many digits after the point a decimal column shows, or a column of times after its seconds.
//!
//! MySQL computes a quotient with more digits than it shows (`scalar::ops::quotient_scale`), and what is computed
//! from it further carries both counts. Types here carry the computed one; the shown one is found by looking the plan
//! through. The digits of a time are those of the columns that it comes from; its type here has none.

use datafusion::arrow::datatypes::Field;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

use super::udf::Udf;
use crate::arrow::ty_of;
use crate::scalar::Ty;
use types::ColumnType;

/// Digits shown of an output column of a plan; `None` if it is neither a decimal nor a time.
pub(super) fn shown(plan: &LogicalPlan, index: usize) -> Option<u8> {
    let field = plan.schema().field(index);
    let (declared, otherwise) = match ty_of(field.data_type())? {
        Ty::Decimal(_, scale) => (scale, scale),
        Ty::DateTime | Ty::Time => (6, 0),
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
        _ => fraction_of(field),
    };
    Some(found.unwrap_or(otherwise).min(declared))
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
        Expr::Literal(ScalarValue::TimestampMicrosecond(micros, _) | ScalarValue::DurationMicrosecond(micros), _) => {
            Some(micros.map_or(0, fraction_in))
        }
        Expr::ScalarFunction(call) if is_clock(expr, input) => of_clock(call, input),
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

/// Digits of a second that a time has: those of its column or of what it is computed from, none of a date, all of a text.
fn fraction_digits(expr: &Expr, input: &LogicalPlan) -> u8 {
    match expr.get_type(input.schema()).ok().and_then(|ty| ty_of(&ty)) {
        Some(Ty::DateTime) => of_expr(expr, input).unwrap_or(0),
        Some(Ty::Date) => 0,
        _ => 6,
    }
}

/// Whether an expression is a time of day, with or without a date.
fn is_clock(expr: &Expr, input: &LogicalPlan) -> bool {
    let ty = expr.get_type(input.schema()).ok().and_then(|ty| ty_of(&ty));
    matches!(ty, Some(Ty::DateTime | Ty::Time))
}

/// Digits of a second that a function's answer has.
fn of_clock(call: &ScalarFunction, input: &LogicalPlan) -> Option<u8> {
    let name = call.func.inner().downcast_ref::<Udf>()?.function.definition().name;
    let text = |at: usize| match call.args.get(at) {
        Some(Expr::Literal(value, _)) => value.to_string(),
        _ => String::new(),
    };
    let seconds = |at: usize| of_expr(call.args.get(at)?, input);
    let times = || call.args.iter().filter(|arg| is_clock(arg, input)).filter_map(|arg| of_expr(arg, input)).max();
    Some(match name {
        "cast_datetime" | "cast_time" => text(1).parse().unwrap_or(0),
        "str_to_date" => {
            if text(1).contains("%f") {
                6
            } else {
                0
            }
        }
        "sec_to_time" | "from_unixtime" => seconds(0).unwrap_or(6).min(6),
        "date_add" | "date_sub" if text(2).to_ascii_lowercase().contains("microsecond") => 6,
        "date_add" | "date_sub" => times().unwrap_or(0).max(seconds(1).unwrap_or(0)).min(6),
        _ => times().unwrap_or(0),
    })
}

/// Digits that a stored column of times was declared with; those of any other are not known here.
fn fraction_of(field: &Field) -> Option<u8> {
    let declared = field.metadata().get(super::table::DECLARED).and_then(|text| serde_json::from_str(text).ok());
    match (declared, ty_of(field.data_type())) {
        (Some(ColumnType::DateTime(fsp) | ColumnType::Timestamp(fsp) | ColumnType::Time(fsp)), _) => Some(fsp),
        (_, Some(Ty::DateTime | Ty::Time)) => Some(0),
        _ => None,
    }
}

/// Digits that a value needs: none, three or six.
fn fraction_in(micros: i64) -> u8 {
    match micros {
        whole if whole % 1_000_000 == 0 => 0,
        millis if millis % 1000 == 0 => 3,
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
