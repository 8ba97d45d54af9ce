//! Normalised trees as expressions over the places of a row: what INSERT, UPDATE, DELETE and point reads evaluate
//! without DataFusion. Subqueries and aggregates are none of these: 1235.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Value,
};
use types::Datum;
use types::value::{DAY, number_prefix, parse_datetime, parse_time};

use crate::error::{Error, Result};
use crate::grammar::number_literal;
use crate::octets;
use crate::parse::hex_bytes;
use crate::scalar::{Env, Function, STRAY, Scalar, Ty};

/// Where names are looked up.
pub(crate) trait Names {
    /// The place of a column, given its table where one is written, and its type.
    fn column(&self, table: Option<&str>, column: &str) -> Result<(usize, Ty)>;

    /// The place of `VALUES(column)`, where it means something.
    fn inserted(&self, _: &str) -> Result<(usize, Ty)> {
        Err(Error::unsupported("VALUES() outside of ON DUPLICATE KEY UPDATE"))
    }
}

/// No columns: constants alone.
pub(crate) struct NoNames;

impl Names for NoNames {
    fn column(&self, _: Option<&str>, column: &str) -> Result<(usize, Ty)> {
        Err(Error::unknown_column(column, "field list"))
    }
}

/// Binds a normalised tree. Calls of constants are computed at once.
pub(crate) fn bind(expr: &Expr, names: &dyn Names, env: &Env) -> Result<Scalar> {
    typed(expr, names, env).map(|(scalar, _)| scalar)
}

type Typed = (Scalar, Ty);

fn typed(expr: &Expr, names: &dyn Names, env: &Env) -> Result<Typed> {
    let one = |expr: &Expr| typed(expr, names, env);
    match expr {
        Expr::Nested(inner) => one(inner),
        Expr::Identifier(name) => {
            let (place, ty) = names.column(None, &name.value)?;
            Ok((Scalar::Column(place), ty))
        }
        Expr::CompoundIdentifier(parts) => {
            let column = parts.last().map(|part| part.value.as_str()).unwrap_or_default();
            let table = parts.len().checked_sub(2).map(|at| parts[at].value.as_str());
            let (place, ty) = names.column(table, column)?;
            Ok((Scalar::Column(place), ty))
        }
        Expr::Value(value) => {
            let value = literal(&value.value)?;
            let ty = Ty::of_datum(&value);
            Ok((Scalar::Literal(value), ty))
        }
        Expr::BinaryOp { left, op, right } => {
            let (first, second) = (one(left)?, one(right)?);
            refuse_stray(left, &first, second.1)?;
            refuse_stray(right, &second, first.1)?;
            operation(first, op, second, env)
        }
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => call("not", vec![one(expr)?], env),
        Expr::IsNull(expr) => call("isnull", vec![one(expr)?], env),
        Expr::IsNotNull(expr) => call("not", vec![call("isnull", vec![one(expr)?], env)?], env),
        Expr::IsTrue(expr) => call("null_safe_eq", vec![call("truth", vec![one(expr)?], env)?, constant(1)], env),
        Expr::IsFalse(expr) => call("null_safe_eq", vec![call("truth", vec![one(expr)?], env)?, constant(0)], env),
        Expr::IsNotTrue(expr) => call("not", vec![one(&Expr::IsTrue(expr.clone()))?], env),
        Expr::IsNotFalse(expr) => call("not", vec![one(&Expr::IsFalse(expr.clone()))?], env),
        Expr::IsUnknown(expr) => call("isnull", vec![call("truth", vec![one(expr)?], env)?], env),
        Expr::IsNotUnknown(expr) => call("not", vec![one(&Expr::IsUnknown(expr.clone()))?], env),
        Expr::Function(function) => function_call(function, names, env),
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => Err(Error::unsupported("subqueries here")),
        other => Err(Error::unsupported(other.to_string().chars().take(60).collect::<String>())),
    }
}

/// 1300 where a literal that is no UTF-8 is compared with text.
fn refuse_stray(expr: &Expr, (value, _): &Typed, other: Ty) -> Result<()> {
    let is_stray = matches!(expr, Expr::Function(call) if call.name.to_string().trim_matches('`') == STRAY);
    match value {
        Scalar::Literal(Datum::Bytes(bytes)) if is_stray && other == Ty::Text => Err(octets::invalid(bytes)),
        _ => Ok(()),
    }
}

fn constant(value: i64) -> Typed {
    (Scalar::Literal(Datum::Int(value)), Ty::Int)
}

fn function_call(function: &Call, names: &dyn Names, env: &Env) -> Result<Typed> {
    let name = function.name.to_string().replace('`', "").to_ascii_lowercase();
    let FunctionArguments::List(list) = &function.args else { return call(&name, vec![], env) };
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
        other => Err(Error::unsupported(format!("argument {other}"))),
    });
    let arguments: Vec<&Expr> = arguments.collect::<Result<_>>()?;
    if let ("values", [Expr::Identifier(column)]) = (name.as_str(), arguments.as_slice()) {
        let (place, ty) = names.inserted(&column.value)?;
        return Ok((Scalar::Column(place), ty));
    }
    let arguments = arguments.into_iter().map(|argument| typed(argument, names, env)).collect::<Result<Vec<_>>>()?;
    if name == "choose" {
        return Ok(choice(arguments));
    }
    call(&name, arguments, env)
}

/// CASE: the branch that is not taken is not computed.
fn choice(mut arguments: Vec<Typed>) -> Typed {
    let types: Vec<Ty> = arguments.iter().map(|(_, ty)| *ty).collect();
    let function = Function::find("choose").expect("it is in the table");
    let ty = (function.definition().ty)(&types, &[]);
    let (otherwise, _) = arguments.pop().expect("the value behind ELSE is always there");
    let mut branches = Vec::with_capacity(arguments.len() / 2);
    let mut rest = arguments.into_iter().map(|(scalar, _)| scalar);
    while let (Some(condition), Some(value)) = (rest.next(), rest.next()) {
        branches.push((condition, value));
    }
    (Scalar::Case(branches, Box::new(otherwise)), ty)
}

/// A call, or its value if the arguments are constants. An error of the computation waits for the row.
fn call(name: &str, arguments: Vec<Typed>, env: &Env) -> Result<Typed> {
    let function = Function::find(name).ok_or_else(|| Error::unsupported(format!("function {name} here")))?;
    function.check_arity(arguments.len())?;
    let literals: Vec<Option<Datum>> = arguments
        .iter()
        .map(|(argument, _)| match argument {
            Scalar::Literal(value) => Some(value.clone()),
            _ => None,
        })
        .collect();
    let types: Vec<Ty> = arguments.iter().map(|(_, ty)| *ty).collect();
    let ty = (function.definition().ty)(&types, &literals);
    let call = Scalar::Call(function, arguments.into_iter().map(|(argument, _)| argument).collect());
    if literals.iter().all(Option::is_some)
        && !function.definition().volatile
        && let Ok(value) = call.eval(&[], env)
    {
        return Ok((Scalar::Literal(value), ty));
    }
    Ok((call, ty))
}

fn operation(left: Typed, op: &BinaryOperator, right: Typed, env: &Env) -> Result<Typed> {
    let name = match op {
        BinaryOperator::And => return Ok((Scalar::And(flat(left.0, right.0, true)), Ty::Bool)),
        BinaryOperator::Or => return Ok((Scalar::Or(flat(left.0, right.0, false)), Ty::Bool)),
        BinaryOperator::Xor => "xor",
        BinaryOperator::Eq => "eq",
        BinaryOperator::NotEq => "ne",
        BinaryOperator::Lt => "lt",
        BinaryOperator::LtEq => "le",
        BinaryOperator::Gt => "gt",
        BinaryOperator::GtEq => "ge",
        BinaryOperator::Spaceship => "null_safe_eq",
        BinaryOperator::Plus => "add",
        BinaryOperator::Minus => "sub",
        BinaryOperator::Multiply => "mul",
        other => return Err(Error::unsupported(format!("operator {other} here"))),
    };
    if matches!(name, "add" | "sub" | "mul") {
        return call(name, vec![left, right], env);
    }
    let (left_ty, right_ty) = (left.1, right.1);
    call(name, vec![compared_with(left, right_ty)?, compared_with(right, left_ty)?], env)
}

fn flat(left: Scalar, right: Scalar, and: bool) -> Vec<Scalar> {
    let mut parts = Vec::new();
    for part in [left, right] {
        match part {
            Scalar::And(inner) if and => parts.extend(inner),
            Scalar::Or(inner) if !and => parts.extend(inner),
            other => parts.push(other),
        }
    }
    parts
}

/// A constant text as what a column of another kind is compared with: a date (1525 if it is none), or a number.
fn compared_with((scalar, ty): Typed, other: Ty) -> Result<Typed> {
    let Scalar::Literal(Datum::Text(text)) = &scalar else { return Ok((scalar, ty)) };
    let wrong = |what: &str| Error::new(1525, format!("Incorrect {what} value: '{text}'"));
    let value = match other {
        Ty::Time => Datum::Time(parse_time(text).ok_or_else(|| wrong("TIME"))?),
        Ty::Date | Ty::DateTime => {
            let what = if other == Ty::Date { "DATE" } else { "DATETIME" };
            let (micros, _) = parse_datetime(text).ok_or_else(|| wrong(what))?;
            match other == Ty::Date && micros % DAY == 0 {
                true => Datum::Date(micros.div_euclid(DAY) as i32),
                false => Datum::DateTime(micros),
            }
        }
        other if other.is_exact() && other != Ty::Null => {
            let prefix = number_prefix(text);
            match (prefix.garbage, prefix.text.parse::<i64>()) {
                (false, Ok(value)) => Datum::Int(value),
                _ => return Ok((scalar, ty)),
            }
        }
        _ => return Ok((scalar, ty)),
    };
    let ty = Ty::of_datum(&value);
    Ok((Scalar::Literal(value), ty))
}

/// A literal's value.
pub(crate) fn literal(value: &Value) -> Result<Datum> {
    match value {
        Value::Null => Ok(Datum::Null),
        Value::Boolean(value) => Ok(Datum::Int(i64::from(*value))),
        Value::Number(digits, _) => number_literal(digits, false)
            .ok_or_else(|| Error::new(1367, format!("Illegal double '{digits}' value found during parsing"))),
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Ok(Datum::Text(text.clone())),
        Value::HexStringLiteral(digits) => hex_bytes(digits).map(Datum::Bytes).ok_or_else(|| Error::syntax(digits, 1)),
        other => Err(Error::unsupported(format!("literal {other}"))),
    }
}

/// The parts that must all hold.
pub(crate) fn conjuncts(condition: Scalar) -> Vec<Scalar> {
    match condition {
        Scalar::And(parts) => parts.into_iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}
