//! The functions of `scalar`'s table as DataFusion's.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::compute::{cast, kernels::boolean};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    Case, ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility, cast as cast_expr,
};
use types::Datum;

use crate::arrow::{Reader, array, data_type, ty_of};
use crate::error::Error;
use crate::scalar::{Env, Function, Ty};

/// A function and what it sees of its statement.
#[derive(Debug)]
pub(crate) struct Udf {
    pub(crate) function: Function,
    env: Arc<Env>,
    signature: Signature,
}

/// Makes a function of the table known to DataFusion.
pub(crate) fn udf(function: Function, env: &Arc<Env>) -> Arc<ScalarUDF> {
    let volatility = if function.definition().volatile { Volatility::Volatile } else { Volatility::Immutable };
    let signature = Signature::one_of(vec![TypeSignature::VariadicAny, TypeSignature::Nullary], volatility);
    Arc::new(ScalarUDF::new_from_impl(Udf { function, env: env.clone(), signature }))
}

impl PartialEq for Udf {
    fn eq(&self, other: &Udf) -> bool {
        self.function == other.function
    }
}

impl Eq for Udf {}

impl Hash for Udf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.definition().name.hash(state);
    }
}

/// One of our errors on its way through DataFusion.
pub(crate) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The type of values in Arrow's type, or 1235.
pub(crate) fn ty(data_type: &DataType) -> Result<Ty> {
    ty_of(data_type).ok_or_else(|| external(Error::unsupported(format!("values of type {data_type}"))))
}

impl ScalarUDFImpl for Udf {
    fn name(&self) -> &str {
        self.function.definition().name
    }

    /// The name of a call inside of calls is made of a hash of these: DataFusion asks for names of all calls in each of its
    /// passes, and the text of a long sum would be written as often as it has summands. People see titles.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let is_call = |expr: &Expr| matches!(expr, Expr::ScalarFunction(_));
        if !args.iter().any(is_call) {
            let names: Vec<String> = args.iter().map(|argument| argument.schema_name().to_string()).collect();
            return Ok(format!("{}({})", self.name(), names.join(",")));
        }
        let hash = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            (seed, args).hash(&mut hasher);
            hasher.finish()
        };
        Ok(format!("{}({:016x}{:016x})", self.name(), hash(0), hash(1)))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let types: Vec<Ty> = types.iter().map(ty).collect::<Result<_>>()?;
        Ok(data_type((self.function.definition().ty)(&types, &[])))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<Ty> = args.arg_fields.iter().map(|field| ty(field.data_type())).collect::<Result<_>>()?;
        let literals: Vec<Option<Datum>> =
            args.scalar_arguments.iter().map(|value| value.and_then(|value| literal(value).ok())).collect();
        let result = (self.function.definition().ty)(&types, &literals);
        Ok(Arc::new(Field::new(self.name(), data_type(result), true)))
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if self.name() == "cast_char" && args.len() == 1 && info.get_data_type(&args[0])? == DataType::Utf8 {
            return Ok(ExprSimplifyResult::Simplified(args.into_iter().next().expect("there is one")));
        }
        if self.name() != "choose" || args.len() < 3 {
            return Ok(ExprSimplifyResult::Original(args));
        }
        // DataFusion's CASE computes only the branch that is taken; all branches are brought to one type first.
        let types = args.iter().map(|argument| ty(&info.get_data_type(argument)?)).collect::<Result<Vec<Ty>>>()?;
        let to = (self.function.definition().ty)(&types, &[]);
        let mut values = args.into_iter().zip(types).collect::<Vec<_>>();
        let otherwise = values.pop().map(|(value, from)| Box::new(self.converted(value, from, to)));
        let mut branches = Vec::with_capacity(values.len() / 2);
        let mut rest = values.into_iter();
        while let (Some((condition, kind)), Some((value, from))) = (rest.next(), rest.next()) {
            let condition = if kind == Ty::Bool { condition } else { cast_expr(condition, DataType::Boolean) };
            branches.push((Box::new(condition), Box::new(self.converted(value, from, to))));
        }
        Ok(ExprSimplifyResult::Simplified(Expr::Case(Case::new(None, branches, otherwise))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let result = args.return_field.data_type();
        if let Some(fast) = self.fast(&args, result)? {
            return Ok(fast);
        }
        let all_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let arguments: Vec<Argument> = args.args.iter().map(Argument::new).collect::<Result<_>>()?;
        let mut values = Vec::with_capacity(rows);
        let mut row_values = Vec::with_capacity(arguments.len());
        for row in 0..rows {
            row_values.clear();
            row_values.extend(arguments.iter().map(|argument| argument.get(row)));
            values.push((self.function.definition().eval)(&row_values, &self.env).map_err(external)?);
        }
        let array = array(ty(result)?, &values).map_err(external)?;
        if all_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

impl Udf {
    /// A value as one of another type, written as MySQL writes it where it becomes text.
    fn converted(&self, value: Expr, from: Ty, to: Ty) -> Expr {
        let function = match (from, to) {
            (from, to) if from == to => return value,
            (Ty::Null, _) => None,
            (_, Ty::Text) => Some("cast_char"),
            (_, Ty::Bytes) => Some("cast_binary"),
            _ => None,
        };
        match function.and_then(Function::find) {
            Some(function) => Expr::ScalarFunction(ScalarFunction::new_udf(udf(function, &self.env), vec![value])),
            None => cast_expr(value, data_type(to)),
        }
    }

    /// The common cases a column at a time; their meaning is that of the table's function.
    fn fast(&self, args: &ScalarFunctionArgs, result: &DataType) -> Result<Option<ColumnarValue>> {
        let is =
            |at: usize, wanted: &DataType| args.args.get(at).is_some_and(|argument| argument.data_type() == *wanted);
        let arrays = || ColumnarValue::values_to_arrays(&args.args);
        let name = self.name();
        if !args.args.iter().any(|argument| matches!(argument, ColumnarValue::Array(_))) {
            return Ok(None);
        }
        let computed: ArrayRef = match name {
            "add" | "sub" | "mul" if is(0, &DataType::Int64) && is(1, &DataType::Int64) => {
                let arrays = arrays()?;
                let kernel = match name {
                    "add" => numeric::add,
                    "sub" => numeric::sub,
                    _ => numeric::mul,
                };
                kernel(&arrays[0], &arrays[1]).map_err(|_| {
                    let sign = match name {
                        "add" => "+",
                        "sub" => "-",
                        _ => "*",
                    };
                    external(Error::new(1690, format!("BIGINT value is out of range in '(… {sign} …)'")))
                })?
            }
            "summand" if is(0, result) => arrays()?.remove(0),
            "summand" if is(0, &DataType::Int64) || is(0, &DataType::UInt64) => cast(&arrays()?[0], result)?,
            "bool_value" if is(0, &DataType::Boolean) => cast(&arrays()?[0], result)?,
            "isnull" => Arc::new(boolean::is_null(&arrays()?[0])?),
            "like" if args.args.len() == 2 && is(0, &DataType::Utf8) && is(1, &DataType::Utf8) => {
                return self.fast_like(args).map(Some);
            }
            _ => return Ok(None),
        };
        Ok(Some(ColumnarValue::Array(computed)))
    }

    /// LIKE of two texts: Arrow's kernel, whose escape is MySQL's.
    fn fast_like(&self, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
        use datafusion::arrow::array::Datum as _;
        use datafusion::arrow::array::Scalar;
        let text = args.args[0].clone().into_array(args.number_rows)?;
        let found: BooleanArray = match &args.args[1] {
            ColumnarValue::Scalar(pattern) => {
                let pattern = Scalar::new(pattern.to_array()?);
                datafusion::arrow::compute::kernels::comparison::like(&text, &pattern)?
            }
            ColumnarValue::Array(pattern) => {
                datafusion::arrow::compute::kernels::comparison::like(&text, &pattern.get().0)?
            }
        };
        Ok(ColumnarValue::Array(Arc::new(found)))
    }
}

/// An argument's values by row.
enum Argument {
    Same(Datum),
    Each(Reader),
}

impl Argument {
    fn new(value: &ColumnarValue) -> Result<Argument> {
        Ok(match value {
            ColumnarValue::Scalar(value) => Argument::Same(literal(value).map_err(external)?),
            ColumnarValue::Array(array) => Argument::Each(Reader::new(array.as_ref()).map_err(external)?),
        })
    }

    fn get(&self, row: usize) -> Datum {
        match self {
            Argument::Same(value) => value.clone(),
            Argument::Each(reader) => reader.get(row),
        }
    }
}

/// The value of a constant.
pub(crate) fn literal(value: &ScalarValue) -> Result<Datum, Error> {
    let array = value.to_array().map_err(crate::arrow::internal)?;
    Ok(Reader::new(array.as_ref())?.get(0))
}

/// A constant of a value. Panics on what is no value of an expression.
pub(crate) fn scalar_value(value: &Datum) -> ScalarValue {
    let ty = Ty::of_datum(value);
    let array = array(ty, std::slice::from_ref(value)).expect("a value is of its own type");
    ScalarValue::try_from_array(&array, 0).expect("the array has one value")
}
