//! Expressions over values, with MySQL's meaning: what leaves evaluate on rows, what INSERT and UPDATE compute, and
//! the functions that DataFusion is given.
//!
//! There is one table of functions. A function takes values and gives a value; its type follows from the types of
//! its arguments. Operators are functions too. TIMESTAMPs are local DATETIMEs here: the scan has converted them.

mod cast;
mod math;
pub mod ops;
mod text;
mod time;
mod ty;
mod zone;

use std::fmt;
use std::sync::Mutex;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::Datum;

use crate::error::{Error, Result};
pub(crate) use text::like;
pub use time::{add_interval, interval_unit};
pub use ty::Ty;
pub use zone::SessionZone;

/// A note of a statement, as SHOW WARNINGS tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// MySQL's number.
    pub code: u16,
    /// What happened.
    pub message: String,
}

/// The function around a literal that was meant as text and is no UTF-8.
pub(crate) const STRAY: &str = "stray_bytes";

/// How many warnings a statement keeps, as MySQL's `max_error_count`; more are counted and dropped.
const MAX_WARNINGS: usize = 1024;

/// What an expression can see besides its arguments.
#[derive(Debug, Default)]
pub struct Env {
    /// The session's time zone.
    pub zone: SessionZone,
    warnings: Mutex<Vec<Warning>>,
}

impl Env {
    /// An environment without warnings.
    pub fn new(zone: SessionZone) -> Env {
        Env { zone, warnings: Mutex::default() }
    }

    /// Keeps a warning.
    pub fn warn(&self, code: u16, message: impl Into<String>) {
        let mut warnings = self.warnings.lock().expect("no holder of this lock panics");
        if warnings.len() < MAX_WARNINGS {
            warnings.push(Warning { code, message: message.into() });
        }
    }

    /// Takes the warnings out.
    pub fn take_warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut *self.warnings.lock().expect("no holder of this lock panics"))
    }
}

/// What a function is.
pub struct Definition {
    /// Lower case.
    pub name: &'static str,
    /// Fewest and most arguments.
    pub arity: (usize, usize),
    /// The result's type from the arguments' types and, where they are constants, their values.
    pub ty: fn(&[Ty], &[Option<Datum>]) -> Ty,
    /// The result.
    pub eval: fn(&[Datum], &Env) -> Result<Datum>,
    /// Whether two calls with the same arguments can differ.
    pub volatile: bool,
}

/// A function of the table. Travels by name.
#[derive(Clone, Copy)]
pub struct Function(&'static Definition);

/// Any number of arguments.
pub(crate) const MANY: usize = usize::MAX;

pub(crate) const fn def(
    name: &'static str,
    least: usize,
    most: usize,
    ty: fn(&[Ty], &[Option<Datum>]) -> Ty,
    eval: fn(&[Datum], &Env) -> Result<Datum>,
) -> Definition {
    Definition { name, arity: (least, most), ty, eval, volatile: false }
}

impl Function {
    /// The function of a name, in any case.
    pub fn find(name: &str) -> Option<Function> {
        let name = name.to_ascii_lowercase();
        [ops::TABLE, cast::TABLE, math::TABLE, text::TABLE, time::TABLE]
            .into_iter()
            .flatten()
            .find(|definition| definition.name == name)
            .map(Function)
    }

    /// Its definition.
    pub fn definition(&self) -> &'static Definition {
        self.0
    }

    /// 1582 unless it takes so many arguments.
    pub fn check_arity(&self, count: usize) -> Result<()> {
        let (least, most) = self.0.arity;
        if (least..=most).contains(&count) {
            return Ok(());
        }
        Err(Error::new(1582, format!("Incorrect parameter count in the call to native function '{}'", self.0.name)))
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.0.name == other.0.name
    }
}

impl Serialize for Function {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.name.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Function {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Function, D::Error> {
        let name = String::deserialize(deserializer)?;
        Function::find(&name).ok_or_else(|| serde::de::Error::custom(format!("function {name} is not known here")))
    }
}

/// An expression over the values of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    /// A constant.
    Literal(Datum),
    /// The row's value at a position.
    Column(usize),
    /// A function of the table.
    Call(Function, Vec<Scalar>),
    /// Three-valued: true and false are 1 and 0.
    And(Vec<Scalar>),
    /// Three-valued.
    Or(Vec<Scalar>),
    /// `CASE WHEN condition THEN value … ELSE value END`.
    Case(Vec<(Scalar, Scalar)>, Box<Scalar>),
    /// Whether the first is one of the others.
    In(Box<Scalar>, Vec<Scalar>),
}

impl Scalar {
    /// A call of a function that is in the table.
    pub fn call(name: &str, arguments: Vec<Scalar>) -> Scalar {
        let function = Function::find(name).unwrap_or_else(|| panic!("function {name} is in no table"));
        Scalar::Call(function, arguments)
    }

    /// Its value for a row. Panics on a column that the row does not have: binding has counted them.
    pub fn eval(&self, row: &[Datum], env: &Env) -> Result<Datum> {
        match self {
            Scalar::Literal(value) => Ok(value.clone()),
            Scalar::Column(at) => Ok(row[*at].clone()),
            Scalar::Call(function, arguments) => {
                let values: Vec<Datum> =
                    arguments.iter().map(|argument| argument.eval(row, env)).collect::<Result<_>>()?;
                (function.0.eval)(&values, env)
            }
            Scalar::And(parts) => connect(parts, row, env, false),
            Scalar::Or(parts) => connect(parts, row, env, true),
            Scalar::Case(branches, otherwise) => {
                for (condition, value) in branches {
                    if condition.holds(row, env)? {
                        return value.eval(row, env);
                    }
                }
                otherwise.eval(row, env)
            }
            Scalar::In(value, list) => {
                let value = value.eval(row, env)?;
                let mut unknown = value.is_null();
                for item in list {
                    match ops::compare(&value, &item.eval(row, env)?, env)? {
                        Some(std::cmp::Ordering::Equal) => return Ok(Datum::Int(1)),
                        Some(_) => {}
                        None => unknown = true,
                    }
                }
                Ok(if unknown { Datum::Null } else { Datum::Int(0) })
            }
        }
    }

    /// Whether it is true: neither false nor NULL.
    pub fn holds(&self, row: &[Datum], env: &Env) -> Result<bool> {
        Ok(ops::truth(&self.eval(row, env)?, env) == Some(true))
    }

    /// The same expression over columns at other positions.
    pub fn moved(self, to: &impl Fn(usize) -> usize) -> Scalar {
        let all = |parts: Vec<Scalar>| parts.into_iter().map(|part| part.moved(to)).collect();
        match self {
            Scalar::Literal(value) => Scalar::Literal(value),
            Scalar::Column(at) => Scalar::Column(to(at)),
            Scalar::Call(function, parts) => Scalar::Call(function, all(parts)),
            Scalar::And(parts) => Scalar::And(all(parts)),
            Scalar::Or(parts) => Scalar::Or(all(parts)),
            Scalar::Case(branches, otherwise) => Scalar::Case(
                branches.into_iter().map(|(condition, value)| (condition.moved(to), value.moved(to))).collect(),
                Box::new(otherwise.moved(to)),
            ),
            Scalar::In(value, list) => Scalar::In(Box::new(value.moved(to)), all(list)),
        }
    }

    /// Gives each column's position to `visit`.
    pub fn columns(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Scalar::Literal(_) => {}
            Scalar::Column(at) => visit(*at),
            Scalar::Call(_, parts) | Scalar::And(parts) | Scalar::Or(parts) => {
                parts.iter().for_each(|part| part.columns(visit));
            }
            Scalar::Case(branches, otherwise) => {
                for (condition, value) in branches {
                    condition.columns(visit);
                    value.columns(visit);
                }
                otherwise.columns(visit);
            }
            Scalar::In(value, list) => {
                value.columns(visit);
                list.iter().for_each(|item| item.columns(visit));
            }
        }
    }
}

/// AND (`decisive` false) or OR (`decisive` true) of parts.
fn connect(parts: &[Scalar], row: &[Datum], env: &Env, decisive: bool) -> Result<Datum> {
    let mut unknown = false;
    for part in parts {
        match ops::truth(&part.eval(row, env)?, env) {
            Some(value) if value == decisive => return Ok(Datum::Int(i64::from(decisive))),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok(if unknown { Datum::Null } else { Datum::Int(i64::from(!decisive)) })
}
