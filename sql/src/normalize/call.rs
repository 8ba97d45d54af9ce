//! Calls of functions: those that the session answers, those that are other trees, aggregates, and the rest by name.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Interval, ObjectName, ObjectNamePart, WindowType,
};
use types::Datum;
use types::value::Zone;

use super::expression::shortened;
use super::{Normalizer, call, constant, ident, null, number, plain_cast, text};
use crate::error::{Error, Result};
use crate::scalar;
use crate::session::VERSION;

impl Normalizer<'_> {
    pub(super) fn call(&mut self, mut function: Function) -> Result<Expr> {
        let name = function.name.to_string().replace('`', "").to_ascii_lowercase();
        if function.filter.is_some() || !function.within_group.is_empty() || function.null_treatment.is_some() {
            return Err(Error::unsupported(shortened(&function)));
        }
        if is_aggregate(&name) || function.over.is_some() {
            return self.aggregate(&name, function);
        }
        let arguments = match std::mem::replace(&mut function.args, FunctionArguments::None) {
            FunctionArguments::None => vec![],
            FunctionArguments::List(list) if list.duplicate_treatment.is_none() && list.clauses.is_empty() => {
                plain_arguments(list)?
            }
            _ => return Err(Error::unsupported(shortened(&function))),
        };
        if let ("values", true, [Expr::Identifier(column)]) = (name.as_str(), self.inserted, arguments.as_slice()) {
            return Ok(call("values", vec![Expr::Identifier(ident(&column.value.to_lowercase()))]));
        }
        if let Some(value) = self.session_function(&name, &arguments)? {
            return Ok(constant(&value));
        }
        if let Some(tree) = self.rewritten(&name, &arguments)? {
            return Ok(tree);
        }
        let name = match name.as_str() {
            "regexp_like" if arguments.len() == 2 => "regexp",
            "std" | "day_of_month" => return Err(Error::new(1305, format!("FUNCTION {name} does not exist"))),
            "sysdate" => "now",
            other => other,
        };
        let Some(found) = scalar::Function::find(name) else {
            if matches!(name, "rand" | "uuid" | "md5") {
                let arguments = arguments.into_iter().map(|argument| self.value(argument)).collect::<Result<_>>()?;
                return Ok(call(name, arguments));
            }
            let database = self.session.database.as_deref().unwrap_or("");
            return Err(Error::new(1305, format!("FUNCTION {database}.{name} does not exist")));
        };
        found.check_arity(arguments.len())?;
        let arguments = arguments.into_iter().map(|argument| self.value(argument)).collect::<Result<_>>()?;
        Ok(call(name, arguments))
    }

    /// What the session knows; the same throughout a statement.
    fn session_function(&self, name: &str, arguments: &[Expr]) -> Result<Option<Datum>> {
        let session = self.session;
        let fsp = match arguments {
            [] => 0,
            [Expr::Value(value)] => value.to_string().parse().unwrap_or(0),
            _ => 0,
        };
        let at = |micros: i64| {
            types::value::round_to_fsp(micros - micros.rem_euclid(10i64.pow(6 - u32::from(fsp.min(6u8)))), 6)
        };
        let local = session.zone().to_local(session.now);
        let day = |micros: i64| Datum::Date(micros.div_euclid(types::value::DAY) as i32);
        let clock = |micros: i64| Datum::Time(at(micros).rem_euclid(types::value::DAY));
        Ok(Some(match name {
            "now" | "current_timestamp" | "localtime" | "localtimestamp" | "sysdate" => Datum::DateTime(at(local)),
            "utc_timestamp" => Datum::DateTime(at(session.now)),
            "curdate" | "current_date" => day(local),
            "utc_date" => day(session.now),
            "curtime" | "current_time" => clock(local),
            "utc_time" => clock(session.now),
            "unix_timestamp" if arguments.is_empty() => Datum::Int(session.now.div_euclid(types::value::SECOND)),
            "database" | "schema" => session.database.clone().map_or(Datum::Null, Datum::Text),
            "user" | "session_user" | "system_user" | "current_user" => {
                Datum::Text(format!("{}@{}", session.user, session.host))
            }
            "version" => Datum::Text(VERSION.into()),
            "connection_id" => Datum::UInt(session.connection_id),
            "last_insert_id" if arguments.is_empty() => Datum::UInt(session.last_insert_id),
            "last_insert_id" => return Err(Error::unsupported("LAST_INSERT_ID(expression)")),
            "row_count" => Datum::Int(session.row_count),
            "found_rows" => Datum::UInt(session.found_rows),
            _ => return Ok(None),
        }))
    }

    /// Functions that are other trees.
    fn rewritten(&mut self, name: &str, arguments: &[Expr]) -> Result<Option<Expr>> {
        let arity = |count: usize| scalar_arity(name, arguments.len(), count);
        Ok(Some(match name {
            "if" => {
                arity(3)?;
                let condition = self.condition(arguments[0].clone())?;
                let (yes, no) = (self.value(arguments[1].clone())?, self.value(arguments[2].clone())?);
                case(vec![(condition, yes)], Some(no))
            }
            "ifnull" | "nvl" => {
                arity(2)?;
                self.coalesce(arguments)?
            }
            "coalesce" => self.coalesce(arguments)?,
            "nullif" => {
                arity(2)?;
                let same = Expr::BinaryOp {
                    left: Box::new(arguments[0].clone()),
                    op: BinaryOperator::Eq,
                    right: Box::new(arguments[1].clone()),
                };
                case(vec![(self.condition(same)?, null())], Some(self.value(arguments[0].clone())?))
            }
            "isnull" => {
                arity(1)?;
                Expr::IsNull(Box::new(self.value(arguments[0].clone())?))
            }
            "date_add" | "adddate" | "date_sub" | "subdate" => {
                arity(2)?;
                let function = if name.contains("sub") { "date_sub" } else { "date_add" };
                match &arguments[1] {
                    Expr::Interval(interval) => self.interval_call(function, arguments[0].clone(), interval.clone())?,
                    days => {
                        let (value, days) = (self.value(arguments[0].clone())?, self.value(days.clone())?);
                        call(function, vec![value, days, text("DAY")])
                    }
                }
            }
            "timestampadd" => {
                arity(3)?;
                let (value, amount) = (self.value(arguments[2].clone())?, self.value(arguments[1].clone())?);
                call("date_add", vec![value, amount, text(unit(&arguments[0])?)])
            }
            "timestampdiff" => {
                arity(3)?;
                let (from, to) = (self.value(arguments[1].clone())?, self.value(arguments[2].clone())?);
                call("timestampdiff", vec![text(unit(&arguments[0])?), from, to])
            }
            "timestamp" => {
                arity(1)?;
                call("to_datetime", vec![self.value(arguments[0].clone())?])
            }
            _ => return Ok(None),
        }))
    }

    fn coalesce(&mut self, arguments: &[Expr]) -> Result<Expr> {
        let Some((last, first)) = arguments.split_last() else {
            return Err(Error::new(1582, "Incorrect parameter count in the call to native function 'coalesce'"));
        };
        let branches = first
            .iter()
            .map(|argument| {
                let value = self.value(argument.clone())?;
                Ok((Expr::IsNotNull(Box::new(value.clone())), value))
            })
            .collect::<Result<Vec<_>>>()?;
        let last = self.value(last.clone())?;
        Ok(if branches.is_empty() { last } else { case(branches, Some(last)) })
    }

    pub(super) fn interval_call(&mut self, function: &str, value: Expr, interval: Interval) -> Result<Expr> {
        let unit = interval.leading_field.as_ref().map(ToString::to_string).unwrap_or_default().to_ascii_uppercase();
        if scalar::interval_unit(&unit).is_none() || interval.last_field.is_some() {
            return Err(Error::unsupported(format!("INTERVAL … {unit}")));
        }
        Ok(call(function, vec![self.value(value)?, self.value(*interval.value)?, text(unit)]))
    }

    /// Aggregates and window functions.
    fn aggregate(&mut self, name: &str, mut function: Function) -> Result<Expr> {
        let FunctionArguments::List(list) = std::mem::replace(&mut function.args, FunctionArguments::None) else {
            return Err(Error::unsupported(shortened(&function)));
        };
        if let Some(WindowType::WindowSpec(spec)) = &mut function.over {
            spec.partition_by = spec.partition_by.drain(..).map(|part| self.value(part)).collect::<Result<_>>()?;
            self.order_by(&mut spec.order_by)?;
        }
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        if name == "group_concat" {
            return self.group_concat(list, function);
        }
        if name == "count" && matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]) {
            return Ok(rebuilt(function, "count", vec![number(1)], false));
        }
        if !list.clauses.is_empty() {
            return Err(Error::unsupported(shortened(&list)));
        }
        let arguments: Vec<Expr> =
            plain_arguments(list)?.into_iter().map(|argument| self.value(argument)).collect::<Result<_>>()?;
        let one = || match arguments.as_slice() {
            [argument] => Ok(argument.clone()),
            [] => Err(Error::new(1582, format!("Incorrect parameter count in the call to native function '{name}'"))),
            _ => Err(Error::unsupported(format!("{name} of several arguments"))),
        };
        let of_double = |to: &str, argument: Expr| {
            rebuilt(function.clone(), to, vec![call("cast_double", vec![argument])], distinct)
        };
        let of_bits = |to: &str, argument: Expr, empty: Expr| {
            let argument = call("cast_unsigned", vec![argument]);
            let bits = rebuilt(function.clone(), to, vec![argument], distinct);
            case(vec![(Expr::IsNotNull(Box::new(bits.clone())), bits)], Some(empty))
        };
        Ok(match name {
            "count" | "min" | "max" => rebuilt(function.clone(), name, vec![one()?], distinct),
            "sum" => rebuilt(function.clone(), "sum", vec![call("summand", vec![one()?])], distinct),
            "avg" => {
                let argument = one()?;
                let sum = rebuilt(function.clone(), "sum", vec![call("summand", vec![argument.clone()])], distinct);
                let count = rebuilt(function.clone(), "count", vec![argument], distinct);
                call("div", vec![sum, count])
            }
            "std" | "stddev" | "stddev_pop" => of_double("stddev_pop", one()?),
            "stddev_samp" => of_double("stddev_samp", one()?),
            "variance" | "var_pop" => of_double("var_pop", one()?),
            "var_samp" => of_double("var_samp", one()?),
            "bit_xor" => of_bits("bit_xor", one()?, call("cast_unsigned", vec![number(0)])),
            "bit_or" => of_bits("bit_or", one()?, call("cast_unsigned", vec![number(0)])),
            "bit_and" => of_bits("bit_and", one()?, number(u64::MAX)),
            "any_value" if function.over.is_none() => rebuilt(function.clone(), "min", vec![one()?], false),
            "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" | "lag" | "lead"
            | "first_value" | "last_value" | "nth_value"
                if function.over.is_some() =>
            {
                rebuilt(function.clone(), name, arguments.clone(), distinct)
            }
            other => return Err(Error::unsupported(format!("aggregate {other}"))),
        })
    }

    fn group_concat(&mut self, list: FunctionArgumentList, function: Function) -> Result<Expr> {
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        let mut separator = text(",");
        let mut clauses = Vec::new();
        for clause in list.clauses.clone() {
            match clause {
                FunctionArgumentClause::Separator(value) => separator = text(value.into_string().unwrap_or_default()),
                FunctionArgumentClause::OrderBy(mut order) => {
                    self.order_by(&mut order)?;
                    clauses.push(FunctionArgumentClause::OrderBy(order));
                }
                _ => return Err(Error::unsupported(shortened(&list))),
            }
        }
        let arguments = plain_arguments(list)?;
        let value = match arguments.as_slice() {
            [one] => call("cast_char", vec![self.value(one.clone())?]),
            _ => {
                let parts = arguments.into_iter().map(|argument| self.value(argument)).collect::<Result<_>>()?;
                call("concat", parts)
            }
        };
        let mut joined = rebuilt(function, "string_agg", vec![value, separator], distinct);
        if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut joined {
            list.clauses = clauses;
        }
        Ok(plain_cast(joined, DataType::Text))
    }
}

/// The same function, window and all, under a name and with arguments.
fn rebuilt(mut function: Function, name: &str, arguments: Vec<Expr>, distinct: bool) -> Expr {
    function.name = ObjectName(vec![ObjectNamePart::Identifier(ident(name))]);
    function.args = FunctionArguments::List(FunctionArgumentList {
        duplicate_treatment: distinct.then_some(DuplicateTreatment::Distinct),
        args: arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect(),
        clauses: vec![],
    });
    Expr::Function(function)
}

fn plain_arguments(list: FunctionArgumentList) -> Result<Vec<Expr>> {
    list.args
        .into_iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
            other => Err(Error::unsupported(format!("argument {}", shortened(&other)))),
        })
        .collect()
}

fn scalar_arity(name: &str, count: usize, expected: usize) -> Result<()> {
    if count == expected {
        return Ok(());
    }
    Err(Error::new(1582, format!("Incorrect parameter count in the call to native function '{name}'")))
}

/// `CASE WHEN … END`, as the function that gives it MySQL's type.
pub(crate) fn case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Expr {
    let mut arguments: Vec<Expr> = branches.into_iter().flat_map(|(condition, result)| [condition, result]).collect();
    arguments.push(otherwise.unwrap_or_else(null));
    call("choose", arguments)
}

fn is_aggregate(name: &str) -> bool {
    matches!(
        name,
        "count"
            | "sum"
            | "avg"
            | "min"
            | "max"
            | "std"
            | "stddev"
            | "stddev_pop"
            | "stddev_samp"
            | "variance"
            | "var_pop"
            | "var_samp"
            | "bit_and"
            | "bit_or"
            | "bit_xor"
            | "any_value"
            | "group_concat"
            | "json_arrayagg"
            | "json_objectagg"
    )
}

/// The unit that stands as a bare word.
fn unit(expr: &Expr) -> Result<String> {
    let unit = expr.to_string().to_ascii_uppercase();
    let unit = unit.trim_start_matches("SQL_TSI_").to_string();
    match scalar::interval_unit(&unit) {
        Some(_) => Ok(unit),
        None => Err(Error::unsupported(format!("interval unit {unit}"))),
    }
}
