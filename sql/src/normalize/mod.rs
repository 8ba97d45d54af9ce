//! MySQL's syntax tree made plain: what is left means the same to DataFusion's planner and to our own binder.
//!
//! - A condition is where truth is asked for (WHERE, ON, HAVING, AND, WHEN …); everything else is a value. A value in
//!   the place of a condition becomes `value <> 0`, a condition in the place of a value becomes `CASE WHEN condition
//!   THEN 1 WHEN NOT condition THEN 0 END` under the name `bool_value`. So booleans never leave conditions, as
//!   MySQL has none.
//! - Columns are in lower case and quoted: their names ignore case. Tables carry their database: theirs do not.
//! - Operators and clauses with a form of their own (LIKE, BETWEEN, CAST, INTERVAL, EXTRACT, …) become functions of
//!   `scalar`'s table or plain comparisons. What the session knows (variables, NOW(), DATABASE()) becomes constants.
//! - Everything that is not known here is refused with 1235.

mod call;
mod expression;
mod query;

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Value,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use types::Datum;

use crate::error::{Error, Result};
use crate::parse::quote;
use crate::session::Session;

/// Rewrites a statement's tree and remembers what it reads.
pub(crate) struct Normalizer<'a> {
    session: &'a Session,
    /// Tables that the statement reads, as (database, table).
    pub(crate) tables: BTreeSet<(String, String)>,
    /// Names of WITH that are in sight.
    ctes: Vec<String>,
    /// Whether `VALUES(column)` means the row that was to be inserted.
    inserted: bool,
    /// Columns that USING makes one, and the table whose column stands for both.
    using: BTreeMap<String, String>,
    /// Whether the condition at hand chooses rows.
    filters: bool,
    /// User variables that are fields of the row, as in LOAD DATA.
    row_variables: Vec<String>,
}

/// What a row's variable is called inside: no identifier can be.
pub(crate) fn row_variable(name: &str) -> String {
    format!("\u{1}@{name}")
}

impl<'a> Normalizer<'a> {
    pub(crate) fn new(session: &'a Session) -> Normalizer<'a> {
        Normalizer {
            session,
            tables: BTreeSet::new(),
            ctes: Vec::new(),
            inserted: false,
            filters: false,
            using: BTreeMap::new(),
            row_variables: Vec::new(),
        }
    }

    /// The same, for expressions over a row with variables of its own (lower case).
    pub(crate) fn with_row_variables(session: &'a Session, variables: Vec<String>) -> Normalizer<'a> {
        Normalizer { row_variables: variables, ..Normalizer::new(session) }
    }

    /// The tree of a value in which `VALUES(column)` can stand.
    pub(crate) fn value_with_inserted(&mut self, expr: Expr) -> Result<Expr> {
        self.inserted = true;
        let value = self.cell(expr);
        self.inserted = false;
        value
    }

    /// Database and name of a table as written.
    pub(crate) fn table_name(&self, name: &ObjectName) -> Result<(String, String)> {
        let parts = names(name)?;
        match parts.as_slice() {
            [table] => {
                let database = self.session.database.clone().ok_or_else(Error::no_database)?;
                Ok((database, table.clone()))
            }
            [database, table] => Ok((database.clone(), table.clone())),
            _ => Err(Error::unsupported(format!("table name {name}"))),
        }
    }
}

/// The identifiers of a name with points.
pub(crate) fn names(name: &ObjectName) -> Result<Vec<String>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(ident.value.clone()),
            ObjectNamePart::Function(_) => Err(Error::unsupported(format!("name {name}"))),
        })
        .collect()
}

/// A quoted identifier: taken as it is.
pub(crate) fn ident(name: &str) -> Ident {
    Ident { value: name.into(), quote_style: Some('`'), span: Span::empty() }
}

/// A call of a function by name.
pub(crate) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(ident(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

pub(crate) fn number(value: impl ToString) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).with_empty_span())
}

pub(crate) fn text(value: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).with_empty_span())
}

pub(crate) fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

/// A constant as a tree.
pub(crate) fn constant(value: &Datum) -> Expr {
    match value {
        Datum::Null => null(),
        Datum::Int(value) if *value < 0 => call("neg", vec![number(value.unsigned_abs())]),
        Datum::Decimal(value) if value.unscaled() < 0 => {
            call("neg", vec![number(value.to_string().trim_start_matches('-'))])
        }
        Datum::Int(_) | Datum::UInt(_) | Datum::Decimal(_) => number(value),
        Datum::Float(_) | Datum::Double(_) => call("cast_double", vec![text(value.to_string())]),
        Datum::Bytes(_) => {
            let literal = quote(value);
            let digits = literal.strip_prefix("x'").and_then(|rest| rest.strip_suffix('\'')).unwrap_or_default();
            Expr::Value(Value::HexStringLiteral(digits.into()).with_empty_span())
        }
        Datum::Date(_) => call("cast_date", vec![text(value.to_string())]),
        Datum::DateTime(_) | Datum::Timestamp(_) => call("cast_datetime", vec![text(value.to_string()), number(6)]),
        Datum::Time(_) => call("cast_time", vec![text(value.to_string()), number(6)]),
        Datum::Text(value) | Datum::Json(value) => text(value),
    }
}

/// A cast that only `scalar`'s functions and DataFusion's planner see.
pub(crate) fn plain_cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}
