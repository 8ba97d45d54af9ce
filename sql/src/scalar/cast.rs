//! CAST and CONVERT. What does not fit is cut, with MySQL's warning.

use types::value::{BlobSize, ColumnType, IntWidth};
use types::{Datum, Decimal};

use super::ty::rule;
use super::{Definition, Env, Ty, def, ops};
use crate::error::{Error, Result};

pub(super) const TABLE: &[Definition] = &[
    def("cast_signed", 1, 1, rule::int, |args, env| signed(&args[0], env)),
    def("cast_unsigned", 1, 1, rule::uint, |args, env| unsigned(&args[0], env)),
    def("cast_decimal", 3, 3, decimal_type, decimal),
    def("cast_double", 1, 1, rule::double, |args, env| {
        Ok(match ops::numeric(&args[0], env) {
            Datum::Null => Datum::Null,
            other => Datum::Double(ops::double(&other)),
        })
    }),
    def("cast_char", 1, 2, rule::text, |args, _| {
        let text = match &args[0] {
            Datum::Null => return Ok(Datum::Null),
            Datum::Bytes(bytes) => String::from_utf8(bytes.to_vec())
                .map_err(|_| Error::new(3854, "Cannot convert string from binary to utf8mb4"))?,
            other => other.to_string(),
        };
        Ok(Datum::Text(match length(args) {
            Some(length) => text.chars().take(length).collect(),
            None => text,
        }))
    }),
    def("cast_binary", 1, 2, rule::bytes, |args, _| {
        let mut bytes = match &args[0] {
            Datum::Null => return Ok(Datum::Null),
            Datum::Bytes(bytes) => bytes.to_vec(),
            other => other.to_string().into_bytes(),
        };
        if let Some(length) = length(args) {
            bytes.resize(length.min(BlobSize::Medium.limit() as usize), 0);
        }
        Ok(Datum::Bytes(bytes.into()))
    }),
    // Bytes of a literal that was meant as text: what compares it with text refuses it.
    def(super::STRAY, 1, 1, rule::bytes, |args, _| Ok(args[0].clone())),
    def("cast_date", 1, 1, rule::date, |args, env| convert(ColumnType::Date, &args[0], env)),
    def("cast_datetime", 1, 2, rule::datetime, |args, env| {
        convert(ColumnType::DateTime(length(args).unwrap_or(0).min(6) as u8), &args[0], env)
    }),
    def("cast_time", 1, 2, rule::time, |args, env| {
        convert(ColumnType::Time(length(args).unwrap_or(0).min(6) as u8), &args[0], env)
    }),
    // A date or time from a text, with all its digits; NULL and a warning if it is none.
    def("to_datetime", 1, 1, rule::datetime, |args, env| convert(ColumnType::DateTime(6), &args[0], env)),
    def("to_time", 1, 1, rule::time, |args, env| convert(ColumnType::Time(6), &args[0], env)),
];

fn length(args: &[Datum]) -> Option<usize> {
    match args.get(1) {
        Some(Datum::Int(length)) => usize::try_from(*length).ok(),
        Some(Datum::UInt(length)) => usize::try_from(*length).ok(),
        _ => None,
    }
}

fn convert(ty: ColumnType, value: &Datum, env: &Env) -> Result<Datum> {
    match ty.convert(value.clone(), &env.zone) {
        Ok(value) => Ok(value),
        Err(misfit) => {
            let what = match ty {
                ColumnType::Time(_) => "Truncated incorrect time",
                ColumnType::Int { .. } => "Truncated incorrect INTEGER",
                ColumnType::Decimal { .. } => "Truncated incorrect DECIMAL",
                _ => "Incorrect datetime",
            };
            env.warn(1292, format!("{what} value: '{value}'"));
            Ok(match ty {
                ColumnType::Time(_) | ColumnType::Date | ColumnType::DateTime(_) => Datum::Null,
                _ => misfit.adjusted.unwrap_or(Datum::Null),
            })
        }
    }
}

fn signed(value: &Datum, env: &Env) -> Result<Datum> {
    match value {
        Datum::UInt(value) => Ok(Datum::Int(*value as i64)),
        other => convert(ColumnType::Int { width: IntWidth::Big, unsigned: false }, other, env),
    }
}

fn unsigned(value: &Datum, env: &Env) -> Result<Datum> {
    match value {
        // Negative numbers wrap around, as in MySQL.
        Datum::Int(value) => Ok(Datum::UInt(*value as u64)),
        Datum::Decimal(value) if value.unscaled() < 0 => Ok(Datum::UInt(0)),
        Datum::Text(text) if text.trim_start().starts_with('-') => match signed(value, env)? {
            Datum::Int(value) => Ok(Datum::UInt(value as u64)),
            other => Ok(other),
        },
        other => convert(ColumnType::Int { width: IntWidth::Big, unsigned: true }, other, env),
    }
}

fn decimal_type(_: &[Ty], literals: &[Option<Datum>]) -> Ty {
    let digits = |at: usize, default: u8| match literals.get(at) {
        Some(Some(Datum::Int(value))) => *value as u8,
        _ => default,
    };
    Ty::Decimal(digits(1, 10), digits(2, 0))
}

fn decimal(args: &[Datum], env: &Env) -> Result<Datum> {
    let (Datum::Int(precision), Datum::Int(scale)) = (&args[1], &args[2]) else {
        return Err(Error::new(1210, "Incorrect arguments to CAST AS DECIMAL"));
    };
    let ty = ColumnType::Decimal { precision: *precision as u8, scale: *scale as u8, unsigned: false };
    ty.check("CAST").map_err(|error| Error::new(error.code(), error.to_string()))?;
    match &args[0] {
        Datum::Null => Ok(Datum::Null),
        // A text is read as its number first: what follows the digits is only a warning here.
        Datum::Text(text) => {
            let prefix = types::value::number_prefix(text);
            if prefix.garbage {
                env.warn(1292, format!("Truncated incorrect DECIMAL value: '{text}'"));
            }
            let number = Decimal::parse(prefix.text).map_or(Datum::Int(0), Datum::Decimal);
            convert(ty, &number, env)
        }
        other => convert(ty, &ops::numeric(other, env), env),
    }
}
