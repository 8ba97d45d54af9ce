//! Operators between typed expressions: MySQL's conversions, written out as casts and functions.
//!
//! What DataFusion computes in the same way is left to it (numbers of one kind, texts, dates); the rest goes to
//! `scalar`'s functions.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, cast, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use types::value::{DAY, number_prefix, parse_datetime, parse_time};
use types::{Datum, Decimal};

use super::udf::{external, literal, scalar_value, ty, udf};
use crate::arrow::data_type;
use crate::error::Error;
use crate::octets;
use crate::scalar::{Env, Function, STRAY, Ty};

/// Plans operators.
#[derive(Debug)]
pub(crate) struct Operators {
    pub(crate) env: Arc<Env>,
}

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        let planned = match &op {
            BinaryOperator::Eq => self.compare(Operator::Eq, left, right, schema)?,
            BinaryOperator::NotEq => self.compare(Operator::NotEq, left, right, schema)?,
            BinaryOperator::Lt => self.compare(Operator::Lt, left, right, schema)?,
            BinaryOperator::LtEq => self.compare(Operator::LtEq, left, right, schema)?,
            BinaryOperator::Gt => self.compare(Operator::Gt, left, right, schema)?,
            BinaryOperator::GtEq => self.compare(Operator::GtEq, left, right, schema)?,
            BinaryOperator::Spaceship => self.compare(Operator::IsNotDistinctFrom, left, right, schema)?,
            // Both sides are conditions: they differ, or one is unknown.
            BinaryOperator::Xor => binary(left, Operator::NotEq, right),
            BinaryOperator::Plus => self.arithmetic(Operator::Plus, "add", left, right, schema)?,
            BinaryOperator::Minus => self.arithmetic(Operator::Minus, "sub", left, right, schema)?,
            BinaryOperator::Multiply => self.arithmetic(Operator::Multiply, "mul", left, right, schema)?,
            _ => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

/// An expression's type. A column that two tables share, as after USING, is of the first one's type: whether it may
/// be named so is the planner's to judge.
fn type_of(expr: &Expr, schema: &DFSchema) -> Result<Ty> {
    if let Ok(found) = expr.get_type(schema) {
        return ty(&found);
    }
    let named = expr.clone().transform(|expr| match expr {
        Expr::Column(column) if column.relation.is_none() => {
            let first = schema.iter().find(|(_, field)| *field.name() == column.name);
            match first {
                Some((qualifier, _)) => {
                    Ok(Transformed::yes(Expr::Column(Column::new(qualifier.cloned(), column.name))))
                }
                None => Ok(Transformed::no(Expr::Column(column))),
            }
        }
        other => Ok(Transformed::no(other)),
    })?;
    ty(&named.data.get_type(schema)?)
}

/// What a literal that is no UTF-8 compares as: 1300 with text.
fn without_stray(expr: Expr, other: Ty) -> Result<Expr> {
    let Expr::ScalarFunction(call) = &expr else { return Ok(expr) };
    let ([Expr::Literal(value, _)], STRAY) = (call.args.as_slice(), call.func.name()) else { return Ok(expr) };
    match literal(value).map_err(external)? {
        Datum::Bytes(bytes) if other == Ty::Text => Err(external(octets::invalid(&bytes))),
        _ => Ok(Expr::Literal(value.clone(), None)),
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

impl Operators {
    fn call(&self, name: &str, arguments: Vec<Expr>) -> Expr {
        let function = Function::find(name).unwrap_or_else(|| panic!("function {name} is in no table"));
        Expr::ScalarFunction(ScalarFunction::new_udf(udf(function, &self.env), arguments))
    }

    fn compare(&self, op: Operator, left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr> {
        let (a, b) = (type_of(&left, schema)?, type_of(&right, schema)?);
        let (left, right) = (without_stray(left, b)?, without_stray(right, a)?);
        let (left, right) = match (a, b) {
            (Ty::Null, _) | (_, Ty::Null) => (left, right),
            (a, b) if a == b => (left, right),
            (Ty::Text, Ty::Bytes) => (cast(left, DataType::Binary), right),
            (Ty::Bytes, Ty::Text) => (left, cast(right, DataType::Binary)),
            (a, b) if a.is_time() && b.is_time() => both_times(left, a, right, b)?,
            (a, b) if a.is_time() && b.is_string() => {
                let (converted, kind) = self.as_time(right, a)?;
                (widened(left, a, kind), converted)
            }
            (a, b) if a.is_string() && b.is_time() => {
                let (converted, kind) = self.as_time(left, b)?;
                (converted, widened(right, b, kind))
            }
            (a, b) if a.is_time() && b.is_number() => match self.number_as_time(&right, a)? {
                Some(time) => {
                    let kind = if a == Ty::Date { Ty::DateTime } else { a };
                    (widened(left, a, kind), time)
                }
                None => return self.numbers(op, self.call("to_number", vec![left]), a.numeric(), right, b),
            },
            (a, b) if a.is_number() && b.is_time() => match self.number_as_time(&left, b)? {
                Some(time) => {
                    let kind = if b == Ty::Date { Ty::DateTime } else { b };
                    (time, widened(right, b, kind))
                }
                None => return self.numbers(op, left, a, self.call("to_number", vec![right]), b.numeric()),
            },
            (a, b) => {
                let (left, a) = self.as_number(left, a)?;
                let (right, b) = self.as_number(right, b)?;
                return self.numbers(op, left, a, right, b);
            }
        };
        Ok(binary(left, op, right))
    }

    /// Compares numbers of any two kinds.
    fn numbers(&self, op: Operator, left: Expr, a: Ty, right: Expr, b: Ty) -> Result<Expr> {
        let (left, right) = match (a, b) {
            (a, b) if a == b => (left, right),
            (a, b) if a.is_exact() && b.is_exact() => (exact(left, a, b)?, exact(right, b, a)?),
            _ => (to_double(left, a), to_double(right, b)),
        };
        Ok(binary(left, op, right))
    }

    /// A text as the number that it is compared as.
    fn as_number(&self, expr: Expr, kind: Ty) -> Result<(Expr, Ty)> {
        if !kind.is_string() {
            return Ok((expr, kind));
        }
        if let Expr::Literal(value, _) = &expr
            && let Datum::Text(text) = literal(value).map_err(external)?
        {
            let prefix = number_prefix(&text);
            if let (false, Ok(value)) = (prefix.garbage, prefix.text.parse::<i64>()) {
                return Ok((lit(value), Ty::Int));
            }
            return Ok((lit(crate::scalar::ops::text_double(&text, &self.env)), Ty::Double));
        }
        Ok((self.call("cast_double", vec![expr]), Ty::Double))
    }

    /// A text as the date or time that it is compared as. A constant that is none is 1525, as in MySQL.
    fn as_time(&self, expr: Expr, other: Ty) -> Result<(Expr, Ty)> {
        let wrong = |what: &str, text: &str| external(Error::new(1525, format!("Incorrect {what} value: '{text}'")));
        if let Expr::Literal(value, _) = &expr
            && let Datum::Text(text) = literal(value).map_err(external)?
        {
            if other == Ty::Time {
                let micros = parse_time(&text).ok_or_else(|| wrong("TIME", &text))?;
                return Ok((Expr::Literal(scalar_value(&Datum::Time(micros)), None), Ty::Time));
            }
            let what = if other == Ty::Date { "DATE" } else { "DATETIME" };
            let (micros, _) = parse_datetime(&text).ok_or_else(|| wrong(what, &text))?;
            if other == Ty::Date && micros % DAY == 0 {
                let days = Datum::Date(micros.div_euclid(DAY) as i32);
                return Ok((Expr::Literal(scalar_value(&days), None), Ty::Date));
            }
            return Ok((Expr::Literal(scalar_value(&Datum::DateTime(micros)), None), Ty::DateTime));
        }
        let (function, kind) = if other == Ty::Time { ("to_time", Ty::Time) } else { ("to_datetime", Ty::DateTime) };
        Ok((self.call(function, vec![expr]), kind))
    }

    /// A constant number such as 20240131 as the time that it is compared as.
    fn number_as_time(&self, expr: &Expr, other: Ty) -> Result<Option<Expr>> {
        let Expr::Literal(value, _) = expr else { return Ok(None) };
        let text = literal(value).map_err(external)?.to_string();
        let datum = match other {
            Ty::Time => parse_time(&text).map(Datum::Time),
            _ => parse_datetime(&text).map(|(micros, _)| Datum::DateTime(micros)),
        };
        Ok(datum.map(|datum| Expr::Literal(scalar_value(&datum), None)))
    }

    fn arithmetic(&self, op: Operator, function: &str, left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr> {
        let (a, b) = (type_of(&left, schema)?, type_of(&right, schema)?);
        if a == Ty::Null || b == Ty::Null || a.is_time() || b.is_time() {
            return Ok(self.call(function, vec![left, right]));
        }
        let (left, a) = self.as_operand(left, a);
        let (right, b) = self.as_operand(right, b);
        match (a, b) {
            (Ty::Decimal(..), b) if b.is_exact() => self.exact_arithmetic(op, function, (left, a), (right, b)),
            (a, Ty::Decimal(..)) if a.is_exact() => self.exact_arithmetic(op, function, (left, a), (right, b)),
            (a, b) if a.is_exact() && b.is_exact() => Ok(self.call(function, vec![left, right])),
            (a, b) => Ok(binary(to_double(left, a), op, to_double(right, b))),
        }
    }

    /// Decimals whose result cannot overflow are DataFusion's; others are computed with a check.
    fn exact_arithmetic(&self, op: Operator, function: &str, left: (Expr, Ty), right: (Expr, Ty)) -> Result<Expr> {
        let (a, b) = (decimal_type(&left), decimal_type(&right));
        let fits = match op {
            Operator::Multiply => {
                a.whole_digits() + a.scale() + b.whole_digits() + b.scale() < 38 && a.scale() + b.scale() <= 30
            }
            _ => a.whole_digits().max(b.whole_digits()) + a.scale().max(b.scale()) < 38,
        };
        if !fits {
            return Ok(self.call(function, vec![left.0, right.0]));
        }
        Ok(binary(to_decimal(left, a)?, op, to_decimal(right, b)?))
    }

    fn as_operand(&self, expr: Expr, kind: Ty) -> (Expr, Ty) {
        match kind {
            Ty::Text | Ty::Bytes => (self.call("cast_double", vec![expr]), Ty::Double),
            Ty::Bool => (self.call("bool_value", vec![expr]), Ty::Int),
            other => (expr, other),
        }
    }
}

/// Dates widened to datetimes where the other side is one.
fn both_times(left: Expr, a: Ty, right: Expr, b: Ty) -> Result<(Expr, Expr)> {
    if a == Ty::Time || b == Ty::Time {
        return Err(external(Error::unsupported("comparison of TIME with DATE or DATETIME")));
    }
    Ok((widened(left, a, Ty::DateTime), widened(right, b, Ty::DateTime)))
}

fn widened(expr: Expr, from: Ty, to: Ty) -> Expr {
    if from == to { expr } else { cast(expr, data_type(to)) }
}

fn to_double(expr: Expr, kind: Ty) -> Expr {
    match (&expr, kind) {
        (_, Ty::Double) => expr,
        _ => cast(expr, DataType::Float64),
    }
}

/// An exact number as it is compared with another exact one: integers of one sign as they are, others as decimals.
fn exact(expr: Expr, kind: Ty, other: Ty) -> Result<Expr> {
    match (kind, other) {
        (Ty::Int, Ty::UInt) => {
            if let Expr::Literal(value, _) = &expr
                && let Datum::Int(value) = literal(value).map_err(external)?
                && let Ok(value) = u64::try_from(value)
            {
                return Ok(lit(value));
            }
            Ok(cast(expr, DataType::Decimal128(20, 0)))
        }
        (Ty::UInt, Ty::Int) => Ok(cast(expr, DataType::Decimal128(20, 0))),
        (Ty::Bool, _) => Ok(cast(expr, DataType::Int64)),
        (Ty::Int | Ty::UInt, Ty::Decimal(..)) => {
            let kind = decimal_type(&(expr.clone(), kind));
            to_decimal((expr, kind), kind)
        }
        _ => Ok(expr),
    }
}

/// The decimal type of an exact expression; a constant integer has as many digits as are written.
fn decimal_type(operand: &(Expr, Ty)) -> Ty {
    match operand {
        (_, kind @ Ty::Decimal(..)) => *kind,
        (Expr::Literal(value, _), _) => match literal(value) {
            Ok(Datum::Int(value)) => Ty::of_datum(&Datum::Decimal(Decimal::from_int(value.into()))),
            Ok(Datum::UInt(value)) => Ty::of_datum(&Datum::Decimal(Decimal::from_int(value.into()))),
            _ => Ty::Decimal(20, 0),
        },
        (_, Ty::UInt) => Ty::Decimal(20, 0),
        _ => Ty::Decimal(19, 0),
    }
}

fn to_decimal((expr, from): (Expr, Ty), to: Ty) -> Result<Expr> {
    if let Expr::Literal(value, _) = &expr
        && let Datum::Int(value) = literal(value).map_err(external)?
    {
        return Ok(Expr::Literal(scalar_value(&Datum::Decimal(Decimal::from_int(value.into()))), None));
    }
    Ok(if from == to && matches!(from, Ty::Decimal(..)) && matches!(expr, Expr::Column(_)) {
        expr
    } else {
        cast(expr, data_type(to))
    })
}
