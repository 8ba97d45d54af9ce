//! Expressions, as values and as conditions.

use bytes::Bytes;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, Expr, TrimWhereField,
    UnaryOperator, Value,
};
use types::Datum;

use super::call::case;
use super::query::count_of;
use super::{Normalizer, call, constant, ident, null, number, row_variable, text};
use crate::error::{Error, Result};
use crate::octets;
use crate::parse::hex_bytes;
use crate::scalar::STRAY;

type Operator = BinaryOperator;

impl Normalizer<'_> {
    /// The tree of a value.
    pub(crate) fn value(&mut self, expr: Expr) -> Result<Expr> {
        let filters = std::mem::replace(&mut self.filters, false);
        let value = self.plain_value(expr);
        self.filters = filters;
        value
    }

    /// The tree of a condition that chooses rows: only there DataFusion has EXISTS.
    pub(crate) fn filter(&mut self, expr: Expr) -> Result<Expr> {
        let filters = std::mem::replace(&mut self.filters, true);
        let condition = self.condition(expr);
        self.filters = filters;
        condition
    }

    fn plain_value(&mut self, expr: Expr) -> Result<Expr> {
        if is_condition(&expr) {
            let condition = self.condition(expr)?;
            return Ok(call("bool_value", vec![condition]));
        }
        match expr {
            Expr::Nested(inner) => Ok(Expr::Nested(Box::new(self.value(*inner)?))),
            Expr::Identifier(name) => self.identifier(&name.value, name.quote_style.is_some()),
            Expr::CompoundIdentifier(parts) => self.compound(parts),
            Expr::Value(value) => literal(value.value),
            Expr::BinaryOp { left, op, right } => self.operation(*left, op, *right),
            Expr::UnaryOp { op, expr } => self.unary(op, *expr),
            Expr::Case { operand, conditions, else_result, .. } => {
                let mut branches = Vec::with_capacity(conditions.len());
                for CaseWhen { condition, result } in conditions {
                    let condition = match &operand {
                        Some(operand) => comparison((**operand).clone(), Operator::Eq, condition),
                        None => condition,
                    };
                    branches.push((self.condition(condition)?, self.value(result)?));
                }
                let otherwise = else_result.map(|result| self.value(*result)).transpose()?;
                Ok(case(branches, otherwise))
            }
            Expr::Function(function) => self.call(function),
            Expr::Cast { expr, data_type, .. } => self.cast(*expr, &data_type),
            Expr::Convert { expr, data_type: Some(data_type), .. } => self.cast(*expr, &data_type),
            Expr::Convert { expr, charset: Some(_), .. } => Ok(call("cast_char", vec![self.value(*expr)?])),
            Expr::Collate { expr, collation } => {
                let collation = collation.to_string().to_ascii_lowercase();
                if !collation.ends_with("_bin") && collation != "binary" {
                    return Err(Error::unsupported(format!("COLLATE {collation}")));
                }
                self.value(*expr)
            }
            Expr::Prefixed { prefix, value } if prefix.value.starts_with('_') => introduced(&prefix.value, *value),
            Expr::TypedString(typed) => {
                let value = text(typed.value.into_string().unwrap_or_default());
                match typed.data_type {
                    DataType::Date => Ok(call("cast_date", vec![value])),
                    DataType::Timestamp(..) | DataType::Datetime(_) => {
                        Ok(call("cast_datetime", vec![value, number(6)]))
                    }
                    DataType::Time(..) => Ok(call("cast_time", vec![value, number(6)])),
                    other => Err(Error::unsupported(format!("literal of type {other}"))),
                }
            }
            Expr::Subquery(query) => Ok(Expr::Subquery(Box::new(self.query(*query)?))),
            other => self.value_of_form(other),
        }
    }

    /// Functions that have a grammar of their own.
    fn value_of_form(&mut self, expr: Expr) -> Result<Expr> {
        match expr {
            Expr::Extract { field, expr, .. } => {
                let function = match field.to_string().to_ascii_lowercase().as_str() {
                    part @ ("year" | "quarter" | "month" | "day" | "hour" | "minute" | "second" | "microsecond") => {
                        part.to_string()
                    }
                    "week" => "week".into(),
                    other => return Err(Error::unsupported(format!("EXTRACT({other})"))),
                };
                Ok(call(&function, vec![self.value(*expr)?]))
            }
            Expr::Ceil { expr, field } => self.round_to(*expr, &field, "ceil"),
            Expr::Floor { expr, field } => self.round_to(*expr, &field, "floor"),
            Expr::Position { expr, r#in } => Ok(call("locate", vec![self.value(*expr)?, self.value(*r#in)?])),
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut arguments = vec![self.value(*expr)?];
                arguments.push(substring_from.map_or(Ok(number(1)), |from| self.value(*from))?);
                if let Some(count) = substring_for {
                    arguments.push(self.value(*count)?);
                }
                Ok(call("substring", arguments))
            }
            Expr::Trim { trim_where, trim_what, expr, trim_characters: None } => {
                let what = trim_what.map_or(Ok(text(" ")), |what| self.value(*what))?;
                let function = match trim_where {
                    Some(TrimWhereField::Leading) => "trim_leading",
                    Some(TrimWhereField::Trailing) => "trim_trailing",
                    _ => "trim",
                };
                Ok(call(function, vec![self.value(*expr)?, what]))
            }
            other => Err(Error::unsupported(shortened(&other))),
        }
    }

    /// The tree of a condition.
    pub(crate) fn condition(&mut self, expr: Expr) -> Result<Expr> {
        match expr {
            Expr::Nested(inner) => Ok(Expr::Nested(Box::new(self.condition(*inner)?))),
            Expr::BinaryOp { left, op: op @ (Operator::And | Operator::Or | Operator::Xor), right } => {
                Ok(binary(self.condition(*left)?, op, self.condition(*right)?))
            }
            // Two bars are OR in MySQL.
            Expr::BinaryOp { left, op: Operator::StringConcat, right } => {
                Ok(binary(self.condition(*left)?, Operator::Or, self.condition(*right)?))
            }
            Expr::BinaryOp { left, op, right } if is_comparison(&op) => self.compare(*left, op, *right),
            Expr::UnaryOp { op: UnaryOperator::Not | UnaryOperator::BangNot, expr } => Ok(not(self.condition(*expr)?)),
            Expr::IsNull(expr) => Ok(Expr::IsNull(Box::new(self.value(*expr)?))),
            Expr::IsNotNull(expr) => Ok(Expr::IsNotNull(Box::new(self.value(*expr)?))),
            Expr::IsTrue(expr) => Ok(Expr::IsTrue(Box::new(self.condition(*expr)?))),
            Expr::IsNotTrue(expr) => Ok(Expr::IsNotTrue(Box::new(self.condition(*expr)?))),
            Expr::IsFalse(expr) => Ok(Expr::IsFalse(Box::new(self.condition(*expr)?))),
            Expr::IsNotFalse(expr) => Ok(Expr::IsNotFalse(Box::new(self.condition(*expr)?))),
            Expr::IsUnknown(expr) => Ok(Expr::IsUnknown(Box::new(self.condition(*expr)?))),
            Expr::IsNotUnknown(expr) => Ok(Expr::IsNotUnknown(Box::new(self.condition(*expr)?))),
            Expr::Between { expr, negated, low, high } => {
                let low = comparison((*expr).clone(), Operator::GtEq, *low);
                let high = comparison(*expr, Operator::LtEq, *high);
                let both = self.condition(binary(low, Operator::And, high))?;
                Ok(if negated { not(both) } else { both })
            }
            Expr::InList { expr, list, negated } => {
                let any = self.any_of(*expr, list)?;
                Ok(if negated { not(any) } else { any })
            }
            Expr::InSubquery { expr, subquery, negated } => Ok(Expr::InSubquery {
                expr: Box::new(self.value(*expr)?),
                subquery: Box::new(self.query(*subquery)?),
                negated,
            }),
            Expr::Exists { subquery, negated } if !self.filters => {
                let count = Expr::Subquery(Box::new(count_of(self.query(*subquery)?)));
                let op = if negated { Operator::Eq } else { Operator::Gt };
                Ok(binary(count, op, number(0)))
            }
            Expr::AnyOp { left, compare_op: Operator::Eq, right, .. } if matches!(*right, Expr::Subquery(_)) => {
                self.in_subquery(*left, *right, false)
            }
            Expr::AllOp { left, compare_op: Operator::NotEq, right } if matches!(*right, Expr::Subquery(_)) => {
                self.in_subquery(*left, *right, true)
            }
            Expr::Exists { subquery, negated } => {
                Ok(Expr::Exists { subquery: Box::new(self.query(*subquery)?), negated })
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                let mut arguments = vec![self.value(*expr)?, self.value(*pattern)?];
                if let Some(escape) = escape_char {
                    arguments.push(text(escape.into_string().unwrap_or_default()));
                }
                let like = call("like", arguments);
                Ok(if negated { not(like) } else { like })
            }
            Expr::RLike { negated, expr, pattern, .. } => {
                let matched = call("regexp", vec![self.value(*expr)?, self.value(*pattern)?]);
                Ok(if negated { not(matched) } else { matched })
            }
            Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => Ok(Expr::Value(value)),
            Expr::Function(function) if is_predicate(&function) => self.call(function),
            Expr::AnyOp { .. } | Expr::AllOp { .. } => Err(Error::unsupported("this use of ANY, SOME or ALL")),
            other => Ok(binary(self.value(other)?, Operator::NotEq, number(0))),
        }
    }

    fn in_subquery(&mut self, left: Expr, right: Expr, negated: bool) -> Result<Expr> {
        let Expr::Subquery(subquery) = right else { return Err(Error::unsupported("ANY and ALL of a list")) };
        self.condition(Expr::InSubquery { expr: Box::new(left), subquery, negated })
    }

    /// `a = (b, …)` and the like for rows; plain comparisons otherwise.
    fn compare(&mut self, left: Expr, op: Operator, right: Expr) -> Result<Expr> {
        if let (Expr::Tuple(left), Expr::Tuple(right)) = (&left, &right) {
            if left.len() != right.len() {
                return Err(Error::new(1241, format!("Operand should contain {} column(s)", left.len())));
            }
            if op != Operator::Eq {
                return Err(Error::unsupported("comparison of rows other than ="));
            }
            let pairs = left.iter().cloned().zip(right.iter().cloned());
            let parts: Vec<Expr> =
                pairs.map(|(left, right)| self.compare(left, Operator::Eq, right)).collect::<Result<_>>()?;
            return Ok(balanced(parts, &Operator::And));
        }
        Ok(binary(self.operand(left)?, op, self.operand(right)?))
    }

    /// One side of a comparison: with bytes, a literal that is no UTF-8 compares as well.
    fn operand(&mut self, expr: Expr) -> Result<Expr> {
        match stray_bytes(&expr) {
            Some(bytes) => Ok(call(STRAY, vec![constant(&Datum::Bytes(bytes))])),
            None => self.value(expr),
        }
    }

    /// What is put into a column: whether that takes bytes is for the column to say.
    pub(crate) fn cell(&mut self, expr: Expr) -> Result<Expr> {
        match stray_bytes(&expr) {
            Some(bytes) => Ok(constant(&Datum::Bytes(bytes))),
            None => self.value(expr),
        }
    }

    fn any_of(&mut self, expr: Expr, list: Vec<Expr>) -> Result<Expr> {
        if list.is_empty() {
            return Err(Error::syntax(")", 1));
        }
        let parts: Vec<Expr> =
            list.into_iter().map(|item| self.compare(expr.clone(), Operator::Eq, item)).collect::<Result<_>>()?;
        Ok(balanced(parts, &Operator::Or))
    }

    fn operation(&mut self, left: Expr, op: Operator, right: Expr) -> Result<Expr> {
        if let Expr::Interval(interval) = right {
            let function = match op {
                Operator::Plus => "date_add",
                Operator::Minus => "date_sub",
                other => return Err(Error::unsupported(format!("INTERVAL with {other}"))),
            };
            return self.interval_call(function, left, interval);
        }
        if let (Expr::Interval(interval), Operator::Plus) = (&left, &op) {
            return self.interval_call("date_add", right, interval.clone());
        }
        let (left, right) = (self.value(left)?, self.value(right)?);
        let function = match op {
            Operator::Plus | Operator::Minus | Operator::Multiply => return Ok(binary(left, op, right)),
            Operator::Divide => "div",
            Operator::MyIntegerDivide => "intdiv",
            Operator::Modulo => "mod",
            Operator::BitwiseAnd => "bits_and",
            Operator::BitwiseOr => "bits_or",
            Operator::BitwiseXor | Operator::PGBitwiseXor => "bits_xor",
            Operator::PGBitwiseShiftLeft => "shift_left",
            Operator::PGBitwiseShiftRight => "shift_right",
            Operator::Arrow => "json_extract",
            Operator::LongArrow => {
                return Ok(call("json_unquote", vec![call("json_extract", vec![left, right])]));
            }
            other => return Err(Error::unsupported(format!("operator {other}"))),
        };
        Ok(call(function, vec![left, right]))
    }

    fn unary(&mut self, op: UnaryOperator, expr: Expr) -> Result<Expr> {
        let value = self.value(expr)?;
        match op {
            UnaryOperator::Plus => Ok(value),
            UnaryOperator::Minus => Ok(call("neg", vec![value])),
            UnaryOperator::BitwiseNot => Ok(call("bit_not", vec![value])),
            other => Err(Error::unsupported(format!("operator {other}"))),
        }
    }

    fn round_to(&mut self, expr: Expr, field: &CeilFloorKind, function: &str) -> Result<Expr> {
        match field {
            CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => Ok(call(function, vec![self.value(expr)?])),
            _ => Err(Error::unsupported(format!("{function} with a second argument"))),
        }
    }

    fn identifier(&mut self, name: &str, quoted: bool) -> Result<Expr> {
        if !quoted {
            if let Some(variable) = name.strip_prefix("@@") {
                return self.system_variable(variable);
            }
            if let Some(variable) = name.strip_prefix('@') {
                let variable = variable.to_ascii_lowercase();
                if self.row_variables.contains(&variable) {
                    return Ok(Expr::Identifier(ident(&row_variable(&variable))));
                }
                let value = self.session.user_variables.get(&variable);
                return Ok(value.map_or_else(null, constant));
            }
        }
        let name = name.to_lowercase();
        Ok(match self.using.get(&name) {
            Some(table) => Expr::CompoundIdentifier(vec![ident(table), ident(&name)]),
            None => Expr::Identifier(ident(&name)),
        })
    }

    fn system_variable(&self, name: &str) -> Result<Expr> {
        let name = name.to_ascii_lowercase();
        match self.session.variable(&name) {
            Some(value) => Ok(constant(&value)),
            None => Err(Error::new(1193, format!("Unknown system variable '{name}'"))),
        }
    }

    fn compound(&mut self, parts: Vec<datafusion::sql::sqlparser::ast::Ident>) -> Result<Expr> {
        let first = parts[0].value.to_ascii_lowercase();
        if matches!(first.as_str(), "@@session" | "@@global" | "@@local") && parts.len() == 2 {
            return self.system_variable(&parts[1].value);
        }
        // `database.table.column` is `table.column`: tables are known by their own names here.
        let parts = &parts[parts.len().saturating_sub(2)..];
        let last = parts.len() - 1;
        let parts = parts
            .iter()
            .enumerate()
            .map(|(at, part)| if at == last { ident(&part.value.to_lowercase()) } else { ident(&part.value) })
            .collect();
        Ok(Expr::CompoundIdentifier(parts))
    }

    fn cast(&mut self, expr: Expr, to: &DataType) -> Result<Expr> {
        let value = self.value(expr)?;
        let with_length = |function: &str, length: Option<u64>| {
            let mut arguments = vec![value.clone()];
            arguments.extend(length.map(number));
            call(function, arguments)
        };
        let chars = |length: &Option<datafusion::sql::sqlparser::ast::CharacterLength>| match length {
            Some(datafusion::sql::sqlparser::ast::CharacterLength::IntegerLength { length, .. }) => Some(*length),
            _ => None,
        };
        Ok(match to {
            DataType::Signed | DataType::SignedInteger | DataType::Int(_) | DataType::BigInt(_) => {
                call("cast_signed", vec![value])
            }
            DataType::Unsigned | DataType::UnsignedInteger => call("cast_unsigned", vec![value]),
            DataType::Char(length)
            | DataType::Character(length)
            | DataType::Varchar(length)
            | DataType::Nvarchar(length) => with_length("cast_char", chars(length)),
            DataType::Binary(length) => with_length("cast_binary", *length),
            DataType::Decimal(info) | DataType::Dec(info) | DataType::Numeric(info) => {
                let (precision, scale) = match info {
                    ExactNumberInfo::None => (10, 0),
                    ExactNumberInfo::Precision(precision) => (*precision, 0),
                    ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
                };
                call("cast_decimal", vec![value, number(precision), number(scale)])
            }
            DataType::Double(_) | DataType::DoublePrecision | DataType::Real | DataType::Float(_) => {
                call("cast_double", vec![value])
            }
            DataType::Date => call("cast_date", vec![value]),
            DataType::Datetime(fsp) => with_length("cast_datetime", *fsp),
            DataType::Time(fsp, _) => with_length("cast_time", *fsp),
            DataType::JSON => call("cast_char", vec![value]),
            other => return Err(Error::unsupported(format!("CAST … AS {other}"))),
        })
    }
}

fn is_comparison(op: &Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::Spaceship
    )
}

/// Functions that answer with a condition.
fn is_predicate(function: &datafusion::sql::sqlparser::ast::Function) -> bool {
    let name = function.name.to_string().to_ascii_lowercase();
    matches!(name.trim_matches('`'), "isnull" | "like" | "regexp" | "regexp_like" | "json_valid")
}

/// Whether a tree's value is a truth.
fn is_condition(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_condition(inner),
        Expr::BinaryOp { op, .. } => {
            is_comparison(op) || matches!(op, Operator::And | Operator::Or | Operator::Xor | Operator::StringConcat)
        }
        Expr::UnaryOp { op, .. } => matches!(op, UnaryOperator::Not | UnaryOperator::BangNot),
        Expr::Function(function) => is_predicate(function),
        Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between { .. }
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::Exists { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. }
        | Expr::Like { .. }
        | Expr::RLike { .. } => true,
        _ => false,
    }
}

/// The bytes of a literal behind the name of its character set, and whether they are written as digits.
fn introduced_bytes(value: &Expr) -> Result<(Bytes, bool)> {
    let Expr::Value(value) = value else { return Err(Error::unsupported(shortened(value))) };
    match &value.value {
        Value::HexStringLiteral(digits) => {
            hex_bytes(digits).map(|bytes| (bytes, true)).ok_or_else(|| Error::syntax(digits, 1))
        }
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Ok((Bytes::from(text.clone()), false)),
        other => Err(Error::unsupported(format!("literal {other}"))),
    }
}

/// Names of UTF-8 before a literal.
fn is_utf8(charset: &str) -> bool {
    ["_utf8mb4", "_utf8mb3", "_utf8"].iter().any(|name| charset.eq_ignore_ascii_case(name))
}

/// A literal behind the name of its character set.
fn introduced(charset: &str, value: Expr) -> Result<Expr> {
    let (bytes, as_digits) = introduced_bytes(&value)?;
    if charset.eq_ignore_ascii_case("_binary") {
        return Ok(constant(&Datum::Bytes(bytes)));
    }
    if as_digits && !bytes.is_ascii() && !is_utf8(charset) {
        return Err(Error::unsupported(format!("literals in {}", &charset[1..])));
    }
    match std::str::from_utf8(&bytes) {
        Ok(found) => Ok(text(found)),
        Err(_) => Err(octets::invalid(&bytes)),
    }
}

/// The bytes of a literal that was meant as text and is no UTF-8.
fn stray_bytes(expr: &Expr) -> Option<Bytes> {
    match expr {
        Expr::Nested(inner) => stray_bytes(inner),
        Expr::Prefixed { prefix, value } if is_utf8(&prefix.value) => {
            let (bytes, _) = introduced_bytes(value).ok()?;
            std::str::from_utf8(&bytes).is_err().then_some(bytes)
        }
        _ => None,
    }
}

fn literal(value: Value) -> Result<Expr> {
    Ok(match value {
        // A number with an exponent is a double, others are exact.
        Value::Number(digits, _) if digits.contains(['e', 'E']) => call("cast_double", vec![text(digits)]),
        Value::Number(digits, _) => number(digits),
        Value::SingleQuotedString(value) | Value::DoubleQuotedString(value) | Value::NationalStringLiteral(value) => {
            text(value)
        }
        Value::HexStringLiteral(digits) => {
            let bytes = hex_bytes(&digits).ok_or_else(|| Error::syntax(&digits, 1))?;
            constant(&Datum::Bytes(bytes))
        }
        Value::Boolean(value) => number(u8::from(value)),
        Value::Null => null(),
        other => return Err(Error::unsupported(format!("literal {other}"))),
    })
}

pub(super) fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
}

fn comparison(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

pub(super) fn not(condition: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(condition))) }
}

/// The parts joined by an operator, as a tree of least depth.
fn balanced(mut parts: Vec<Expr>, op: &Operator) -> Expr {
    while parts.len() > 1 {
        let mut halved = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some(left) = rest.next() {
            halved.push(match rest.next() {
                Some(right) => binary(left, op.clone(), right),
                None => left,
            });
        }
        parts = halved;
    }
    parts.pop().expect("the list is not empty")
}

/// A tree's text as it stands in a message.
pub(super) fn shortened(expr: &impl ToString) -> String {
    expr.to_string().chars().take(60).collect()
}
