//! DataFusion's expressions as ours, where a leaf can evaluate them with the same result.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::{Expr, Operator};
use types::Datum;

use super::udf::{Udf, literal};
use crate::arrow::ty_of;
use crate::scalar::{Scalar, Ty};

/// The expression over a table's columns, `None` if it must stay with DataFusion.
pub(super) fn lower(expr: &Expr, schema: &SchemaRef) -> Option<Scalar> {
    match expr {
        Expr::Column(column) => schema.index_of(&column.name).ok().map(Scalar::Column),
        Expr::Literal(value, _) => literal(value).ok().map(Scalar::Literal),
        Expr::Alias(alias) => lower(&alias.expr, schema),
        Expr::BinaryExpr(binary) => {
            let parts = || Some(vec![lower(&binary.left, schema)?, lower(&binary.right, schema)?]);
            match binary.op {
                Operator::And => parts().map(Scalar::And),
                Operator::Or => parts().map(Scalar::Or),
                op => Some(Scalar::call(comparison(op)?, parts()?)),
            }
        }
        // CASE whose branches are of one type already.
        Expr::Case(case) if case.expr.is_none() => {
            let branches = case.when_then_expr.iter();
            let branches = branches.map(|(when, then)| Some((lower(when, schema)?, lower(then, schema)?)));
            let otherwise = match &case.else_expr {
                Some(otherwise) => lower(otherwise, schema)?,
                None => Scalar::Literal(Datum::Null),
            };
            Some(Scalar::Case(branches.collect::<Option<_>>()?, Box::new(otherwise)))
        }
        Expr::Not(inner) => Some(Scalar::call("not", vec![lower(inner, schema)?])),
        Expr::IsNull(inner) => Some(Scalar::call("isnull", vec![lower(inner, schema)?])),
        Expr::IsNotNull(inner) => Some(Scalar::call("not", vec![Scalar::call("isnull", vec![lower(inner, schema)?])])),
        Expr::Between(between) => {
            let value = lower(&between.expr, schema)?;
            let both = Scalar::And(vec![
                Scalar::call("ge", vec![value.clone(), lower(&between.low, schema)?]),
                Scalar::call("le", vec![value, lower(&between.high, schema)?]),
            ]);
            Some(if between.negated { Scalar::call("not", vec![both]) } else { both })
        }
        Expr::InList(list) => {
            let items = list.list.iter().map(|item| lower(item, schema)).collect::<Option<Vec<_>>>()?;
            let any = Scalar::In(Box::new(lower(&list.expr, schema)?), items);
            Some(if list.negated { Scalar::call("not", vec![any]) } else { any })
        }
        Expr::Cast(cast) => {
            let inner = lower(&cast.expr, schema)?;
            same_when_cast(&cast.expr, cast.field.data_type(), schema).then_some(inner)
        }
        Expr::ScalarFunction(call) => {
            let ours = call.func.inner().downcast_ref::<Udf>()?;
            if ours.function.definition().volatile {
                return None;
            }
            let arguments = call.args.iter().map(|argument| lower(argument, schema)).collect::<Option<Vec<_>>>()?;
            if ours.function.definition().name == "choose" {
                return Some(choice(arguments));
            }
            Some(Scalar::Call(ours.function, arguments))
        }
        _ => None,
    }
}

fn choice(arguments: Vec<Scalar>) -> Scalar {
    let mut branches = Vec::with_capacity(arguments.len() / 2);
    let mut rest = arguments.into_iter();
    loop {
        match (rest.next(), rest.next()) {
            (Some(condition), Some(value)) => branches.push((condition, value)),
            (otherwise, _) => {
                return Scalar::Case(branches, Box::new(otherwise.unwrap_or(Scalar::Literal(Datum::Null))));
            }
        }
    }
}

fn comparison(op: Operator) -> Option<&'static str> {
    Some(match op {
        Operator::Eq => "eq",
        Operator::NotEq => "ne",
        Operator::Lt => "lt",
        Operator::LtEq => "le",
        Operator::Gt => "gt",
        Operator::GtEq => "ge",
        Operator::IsNotDistinctFrom => "null_safe_eq",
        _ => return None,
    })
}

/// Whether our operators see the same value without the cast: they compare across kinds by value themselves.
fn same_when_cast(inner: &Expr, to: &DataType, schema: &SchemaRef) -> bool {
    let from = match inner {
        Expr::Column(column) => schema.field_with_name(&column.name).ok().and_then(|field| ty_of(field.data_type())),
        Expr::Literal(value, _) => literal(value).ok().map(|value: Datum| Ty::of_datum(&value)),
        _ => None,
    };
    match (from, ty_of(to)) {
        (Some(Ty::Int | Ty::UInt), Some(Ty::Decimal(precision, scale))) => precision.saturating_sub(scale) >= 19,
        (Some(Ty::Decimal(_, from)), Some(Ty::Decimal(_, to))) => to >= from,
        (Some(Ty::Date), Some(Ty::DateTime)) => true,
        // As doubles two different integers can be equal: that is for DataFusion to say.
        (Some(Ty::Float), Some(Ty::Double)) => true,
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}
