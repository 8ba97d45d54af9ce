//! Functions of numbers, and those that choose among values.

use types::{Datum, Decimal};

use super::ty::rule;
use super::{Definition, Env, MANY, Ty, def, ops};
use crate::error::{Error, Result};

pub(super) const TABLE: &[Definition] = &[
    def("abs", 1, 1, rule::numeric, |args, env| match ops::numeric(&args[0], env) {
        Datum::Int(value) => value
            .checked_abs()
            .map(Datum::Int)
            .ok_or_else(|| Error::new(1690, format!("BIGINT value is out of range in 'abs({value})'"))),
        Datum::Decimal(value) if value.unscaled() < 0 => ops::negate(&Datum::Decimal(value), env),
        Datum::Double(value) => Ok(Datum::Double(value.abs())),
        other => Ok(other),
    }),
    def("ceil", 1, 1, whole_type, |args, env| Ok(to_whole(&args[0], env, f64::ceil, 1))),
    def("ceiling", 1, 1, whole_type, |args, env| Ok(to_whole(&args[0], env, f64::ceil, 1))),
    def("floor", 1, 1, whole_type, |args, env| Ok(to_whole(&args[0], env, f64::floor, -1))),
    def("round", 1, 2, rounded_type, |args, env| round(args, env, false)),
    def("truncate", 2, 2, rounded_type, |args, env| round(args, env, true)),
    def("sign", 1, 1, rule::int, |args, env| {
        Ok(match ops::compare(&args[0], &Datum::Int(0), env)? {
            Some(order) => Datum::Int(order as i64),
            None => Datum::Null,
        })
    }),
    def("sqrt", 1, 1, rule::double, |args, env| real(&args[0], env, |x| (x >= 0.0).then(|| x.sqrt()))),
    def("exp", 1, 1, rule::double, |args, env| real(&args[0], env, |x| Some(x.exp()))),
    def("ln", 1, 1, rule::double, |args, env| real(&args[0], env, |x| (x > 0.0).then(|| x.ln()))),
    def("log2", 1, 1, rule::double, |args, env| real(&args[0], env, |x| (x > 0.0).then(|| x.log2()))),
    def("log10", 1, 1, rule::double, |args, env| real(&args[0], env, |x| (x > 0.0).then(|| x.log10()))),
    def("log", 1, 2, rule::double, |args, env| match args {
        [x] => real(x, env, |x| (x > 0.0).then(|| x.ln())),
        _ => two_reals(args, env, |base, x| (base > 0.0 && base != 1.0 && x > 0.0).then(|| x.ln() / base.ln())),
    }),
    def("pow", 2, 2, rule::double, |args, env| two_reals(args, env, |x, y| Some(x.powf(y)))),
    def("power", 2, 2, rule::double, |args, env| two_reals(args, env, |x, y| Some(x.powf(y)))),
    def("sin", 1, 1, rule::double, |args, env| real(&args[0], env, |x| Some(x.sin()))),
    def("cos", 1, 1, rule::double, |args, env| real(&args[0], env, |x| Some(x.cos()))),
    def("tan", 1, 1, rule::double, |args, env| real(&args[0], env, |x| Some(x.tan()))),
    def("asin", 1, 1, rule::double, |args, env| real(&args[0], env, |x| (x.abs() <= 1.0).then(|| x.asin()))),
    def("acos", 1, 1, rule::double, |args, env| real(&args[0], env, |x| (x.abs() <= 1.0).then(|| x.acos()))),
    def("atan", 1, 1, rule::double, |args, env| real(&args[0], env, |x| Some(x.atan()))),
    def("atan2", 2, 2, rule::double, |args, env| two_reals(args, env, |y, x| Some(y.atan2(x)))),
    def("radians", 1, 1, rule::double, |args, env| real(&args[0], env, |x| Some(x.to_radians()))),
    def("degrees", 1, 1, rule::double, |args, env| real(&args[0], env, |x| Some(x.to_degrees()))),
    def("pi", 0, 0, rule::double, |_, _| Ok(Datum::Double(std::f64::consts::PI))),
    def("greatest", 2, MANY, rule::union, |args, env| extreme(args, env, std::cmp::Ordering::Greater)),
    def("least", 2, MANY, rule::union, |args, env| extreme(args, env, std::cmp::Ordering::Less)),
    def("interval_of", 2, MANY, rule::int, |args, env| {
        let mut place = 0;
        for bound in &args[1..] {
            match ops::compare(&args[0], bound, env)? {
                None if args[0].is_null() => return Ok(Datum::Int(-1)),
                Some(order) if order.is_lt() => break,
                _ => place += 1,
            }
        }
        Ok(Datum::Int(place))
    }),
];

fn whole_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    match types[0].numeric() {
        Ty::Decimal(precision, scale) if precision.saturating_sub(scale) < 18 => Ty::Int,
        Ty::Decimal(precision, scale) => Ty::Decimal((precision - scale + 1).min(38), 0),
        other => other,
    }
}

/// Ceiling and floor: `step` is where a value with a fraction on that side goes.
fn to_whole(value: &Datum, env: &Env, real: fn(f64) -> f64, step: i128) -> Datum {
    match ops::numeric(value, env) {
        Datum::Double(value) => Datum::Double(real(value)),
        Datum::Decimal(value) => {
            let cut = value.truncate(0);
            let beyond = value.cmp(&cut) as i128 * step > 0;
            let whole = cut.unscaled() + if beyond { step } else { 0 };
            match i64::try_from(whole) {
                Ok(whole) => Datum::Int(whole),
                Err(_) => Datum::Decimal(Decimal::from_int(whole)),
            }
        }
        other => other,
    }
}

fn rounded_type(types: &[Ty], literals: &[Option<Datum>]) -> Ty {
    let places = match literals.get(1) {
        None => Some(0),
        Some(Some(Datum::Int(places))) => Some(*places),
        Some(_) => None,
    };
    match types[0].numeric() {
        Ty::Decimal(precision, scale) => {
            let kept = places.map_or(scale, |places| places.clamp(0, i64::from(scale)) as u8);
            // Rounding up can need one more digit before the point.
            Ty::Decimal((precision - scale + 1 + kept).min(38), kept)
        }
        other => other,
    }
}

fn round(args: &[Datum], env: &Env, cut: bool) -> Result<Datum> {
    let places = match args.get(1).map(|places| ops::numeric(places, env)) {
        None => 0,
        Some(Datum::Null) => return Ok(Datum::Null),
        Some(places) => (ops::double(&places) as i64).clamp(-40, 40),
    };
    let value = ops::numeric(&args[0], env);
    let exact = match value {
        Datum::Null => return Ok(Datum::Null),
        Datum::Double(value) => return Ok(Datum::Double(round_double(value, places, cut))),
        Datum::Int(_) | Datum::UInt(_) if places >= 0 => return Ok(value),
        Datum::Int(value) => Decimal::from_int(value.into()),
        Datum::UInt(value) => Decimal::from_int(value.into()),
        Datum::Decimal(value) => value,
        other => return Ok(other),
    };
    let out_of_range = |_| Error::new(1690, format!("DECIMAL value is out of range in 'round({exact},{places})'"));
    let rounded = if places >= 0 {
        let scale = (places as u8).min(exact.scale());
        if cut { exact.truncate(scale) } else { exact.rescale(scale).map_err(out_of_range)? }
    } else {
        let Some(unit) = 10i128.checked_pow((-places) as u32).filter(|_| -places < 38) else {
            return Ok(zero_like(&value));
        };
        let (whole, rest) =
            (exact.unscaled() / 10i128.pow(exact.scale().into()) / unit, exact.truncate(0).unscaled() % unit);
        let up = !cut && rest.abs() * 2 >= unit;
        Decimal::new((whole + if up { exact.unscaled().signum() } else { 0 }) * unit, 0).map_err(out_of_range)?
    };
    Ok(match value {
        Datum::Int(_) => i64::try_from(rounded.unscaled()).map_or(Datum::Decimal(rounded), Datum::Int),
        Datum::UInt(_) => u64::try_from(rounded.unscaled()).map_or(Datum::Decimal(rounded), Datum::UInt),
        _ => Datum::Decimal(rounded),
    })
}

fn zero_like(value: &Datum) -> Datum {
    match value {
        Datum::Int(_) => Datum::Int(0),
        Datum::UInt(_) => Datum::UInt(0),
        _ => Datum::Decimal(Decimal::from_int(0)),
    }
}

fn round_double(value: f64, places: i64, cut: bool) -> f64 {
    let factor = 10f64.powi(places.unsigned_abs() as i32);
    let scaled = if places >= 0 { value * factor } else { value / factor };
    if !scaled.is_finite() {
        return value;
    }
    let whole = if cut { scaled.trunc() } else { scaled.round_ties_even() };
    if places >= 0 { whole / factor } else { whole * factor }
}

fn real(value: &Datum, env: &Env, function: impl Fn(f64) -> Option<f64>) -> Result<Datum> {
    match ops::numeric(value, env) {
        Datum::Null => Ok(Datum::Null),
        number => finite(function(ops::double(&number))),
    }
}

fn two_reals(args: &[Datum], env: &Env, function: impl Fn(f64, f64) -> Option<f64>) -> Result<Datum> {
    let (a, b) = (ops::numeric(&args[0], env), ops::numeric(&args[1], env));
    if a.is_null() || b.is_null() {
        return Ok(Datum::Null);
    }
    finite(function(ops::double(&a), ops::double(&b)))
}

fn finite(value: Option<f64>) -> Result<Datum> {
    match value {
        None => Ok(Datum::Null),
        Some(value) if value.is_finite() => Ok(Datum::Double(value)),
        Some(_) => Err(Error::new(1690, "DOUBLE value is out of range in a function")),
    }
}

fn extreme(args: &[Datum], env: &Env, wanted: std::cmp::Ordering) -> Result<Datum> {
    let mut best = args[0].clone();
    for value in args {
        match ops::compare(value, &best, env)? {
            None => return Ok(Datum::Null),
            Some(order) if order == wanted => best = value.clone(),
            Some(_) => {}
        }
    }
    Ok(best)
}
