//! Values in Arrow's columns, and back.
//!
//! Integers of all widths are 64 bits wide here, TIMESTAMPs are local DATETIMEs, TIMEs are durations: what a column
//! was declared as travels beside, in the field's metadata.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, Date32Array, Date32Builder,
    Decimal128Array, Decimal128Builder, DurationMicrosecondArray, DurationMicrosecondBuilder, Float32Array,
    Float32Builder, Float64Array, Float64Builder, Int64Array, Int64Builder, StringArray, StringBuilder,
    TimestampMicrosecondArray, TimestampMicrosecondBuilder, UInt64Array, UInt64Builder, new_null_array,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
pub use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::record_batch::RecordBatchOptions;
use types::{ColumnType, Datum, Decimal};

use crate::error::{Error, Result};
use crate::scalar::Ty;

/// Arrow's type for values of a type.
pub fn data_type(ty: Ty) -> DataType {
    match ty {
        Ty::Null => DataType::Null,
        Ty::Bool => DataType::Boolean,
        Ty::Int => DataType::Int64,
        Ty::UInt => DataType::UInt64,
        Ty::Decimal(precision, scale) => DataType::Decimal128(precision.clamp(1, 38), scale as i8),
        Ty::Float => DataType::Float32,
        Ty::Double => DataType::Float64,
        Ty::Text => DataType::Utf8,
        Ty::Bytes => DataType::Binary,
        Ty::Date => DataType::Date32,
        Ty::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
        Ty::Time => DataType::Duration(TimeUnit::Microsecond),
    }
}

/// Arrow's type for a column.
pub fn column_type(ty: &ColumnType) -> DataType {
    data_type(Ty::of_column(ty))
}

/// The type of values in Arrow's type; `None` for types that no expression here has.
pub fn ty_of(data_type: &DataType) -> Option<Ty> {
    Some(match data_type {
        DataType::Null => Ty::Null,
        DataType::Boolean => Ty::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Ty::Int,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Ty::UInt,
        DataType::Decimal128(precision, scale) if *scale >= 0 => Ty::Decimal(*precision, *scale as u8),
        DataType::Float32 => Ty::Float,
        DataType::Float64 => Ty::Double,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ty::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Ty::Bytes,
        DataType::Date32 => Ty::Date,
        DataType::Timestamp(_, None) => Ty::DateTime,
        DataType::Duration(TimeUnit::Microsecond) => Ty::Time,
        _ => return None,
    })
}

/// Columns that grow row by row.
pub struct Columns {
    types: Vec<Ty>,
    schema: SchemaRef,
    values: Vec<Vec<Datum>>,
    rows: usize,
    bytes: usize,
}

impl Columns {
    /// Empty columns of these types.
    pub fn new<'a>(types: impl IntoIterator<Item = &'a ColumnType>) -> Columns {
        let types: Vec<Ty> = types.into_iter().map(Ty::of_column).collect();
        let fields: Vec<Field> =
            types.iter().enumerate().map(|(at, ty)| Field::new(format!("c{at}"), data_type(*ty), true)).collect();
        let values = types.iter().map(|_| Vec::new()).collect();
        Columns { types, schema: Arc::new(Schema::new(fields)), values, rows: 0, bytes: 0 }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of their values, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row.
    pub fn push(&mut self, row: impl Iterator<Item = Datum>) -> Result<()> {
        for (column, value) in self.values.iter_mut().zip(row) {
            self.bytes += value.size();
            column.push(value);
        }
        self.rows += 1;
        Ok(())
    }

    /// The rows as a batch; the columns are empty again.
    pub fn take(&mut self) -> Result<RecordBatch> {
        let mut arrays = Vec::with_capacity(self.types.len());
        for (ty, column) in self.types.iter().zip(&mut self.values) {
            arrays.push(array(*ty, &std::mem::take(column))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(internal)
    }
}

/// An error of Arrow's that no input should cause.
pub(crate) fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(1105, format!("the query could not be computed: {error}"))
}

macro_rules! build {
    ($builder:expr, $values:expr, $($pattern:pat => $value:expr),+) => {{
        let mut builder = $builder;
        for value in $values {
            match value {
                Datum::Null => builder.append_null(),
                $($pattern => builder.append_value($value),)+
                #[allow(unreachable_patterns)]
                other => return Err(internal(format!("value {other} is of another type than its column"))),
            }
        }
        Arc::new(builder.finish()) as ArrayRef
    }};
}

/// An array of values of one type.
pub fn array(ty: Ty, values: &[Datum]) -> Result<ArrayRef> {
    Ok(match ty {
        Ty::Null => new_null_array(&DataType::Null, values.len()),
        Ty::Bool => build!(BooleanBuilder::new(), values, Datum::Int(value) => *value != 0),
        Ty::Int => {
            build!(Int64Builder::new(), values, Datum::Int(value) => *value, Datum::UInt(value) => *value as i64)
        }
        Ty::UInt => {
            build!(UInt64Builder::new(), values, Datum::UInt(value) => *value, Datum::Int(value) => *value as u64)
        }
        Ty::Decimal(precision, scale) => {
            let mut builder = Decimal128Builder::new();
            for value in values {
                match value {
                    Datum::Null => builder.append_null(),
                    other => builder.append_value(to_decimal(other, scale)?.unscaled()),
                }
            }
            let array =
                builder.finish().with_precision_and_scale(precision.clamp(1, 38), scale as i8).map_err(internal)?;
            Arc::new(array)
        }
        Ty::Float => build!(Float32Builder::new(), values, Datum::Float(value) => *value),
        Ty::Double => build!(Float64Builder::new(), values,
            Datum::Double(value) => *value, Datum::Float(value) => f64::from(*value),
            Datum::Int(value) => *value as f64, Datum::UInt(value) => *value as f64,
            Datum::Decimal(value) => value.to_f64()),
        Ty::Text => build!(StringBuilder::new(), values, Datum::Text(value) => value, Datum::Json(value) => value,
            other => other.to_string()),
        Ty::Bytes => build!(BinaryBuilder::new(), values, Datum::Bytes(value) => value,
            Datum::Text(value) => value.as_bytes()),
        Ty::Date => build!(Date32Builder::new(), values, Datum::Date(value) => *value),
        Ty::DateTime => build!(TimestampMicrosecondBuilder::new(), values,
            Datum::DateTime(value) => *value, Datum::Timestamp(value) => *value,
            Datum::Date(value) => i64::from(*value) * types::value::DAY),
        Ty::Time => build!(DurationMicrosecondBuilder::new(), values, Datum::Time(value) => *value),
    })
}

fn to_decimal(value: &Datum, scale: u8) -> Result<Decimal> {
    let exact = match value {
        Datum::Int(value) => Decimal::from_int(i128::from(*value)),
        Datum::UInt(value) => Decimal::from_int(i128::from(*value)),
        Datum::Decimal(value) => *value,
        other => return Err(internal(format!("value {other} is no decimal"))),
    };
    exact.rescale(scale).map_err(|_| Error::new(1690, format!("DECIMAL value is out of range in '({exact})'")))
}

/// The values of an array.
pub fn datums(array: &dyn Array) -> Result<Vec<Datum>> {
    Reader::new(array).map(|reader| (0..array.len()).map(|row| reader.get(row)).collect())
}

/// Reads an array's values by row.
pub enum Reader {
    /// All NULL.
    Null,
    /// Conditions.
    Bool(BooleanArray),
    /// Integers.
    Int(Int64Array),
    /// Unsigned integers.
    UInt(UInt64Array),
    /// Decimals and their scale.
    Decimal(Decimal128Array, u8),
    /// FLOAT.
    Float(Float32Array),
    /// DOUBLE.
    Double(Float64Array),
    /// Text.
    Text(StringArray),
    /// Bytes.
    Bytes(BinaryArray),
    /// Days.
    Date(Date32Array),
    /// Microseconds.
    DateTime(TimestampMicrosecondArray),
    /// Microseconds.
    Time(DurationMicrosecondArray),
}

impl Reader {
    /// A reader of an array of any type that an expression can have.
    pub fn new(array: &dyn Array) -> Result<Reader> {
        let ty = ty_of(array.data_type())
            .ok_or_else(|| Error::unsupported(format!("values of type {}", array.data_type())))?;
        let wanted = data_type(ty);
        let converted: ArrayRef = if *array.data_type() == wanted {
            array.slice(0, array.len())
        } else {
            cast(array, &wanted).map_err(internal)?
        };
        let any = converted.as_any();
        const SAME: &str = "the array was converted to this type";
        Ok(match ty {
            Ty::Null => Reader::Null,
            Ty::Bool => Reader::Bool(any.downcast_ref::<BooleanArray>().expect(SAME).clone()),
            Ty::Int => Reader::Int(any.downcast_ref::<Int64Array>().expect(SAME).clone()),
            Ty::UInt => Reader::UInt(any.downcast_ref::<UInt64Array>().expect(SAME).clone()),
            Ty::Decimal(_, scale) => Reader::Decimal(any.downcast_ref::<Decimal128Array>().expect(SAME).clone(), scale),
            Ty::Float => Reader::Float(any.downcast_ref::<Float32Array>().expect(SAME).clone()),
            Ty::Double => Reader::Double(any.downcast_ref::<Float64Array>().expect(SAME).clone()),
            Ty::Text => Reader::Text(any.downcast_ref::<StringArray>().expect(SAME).clone()),
            Ty::Bytes => Reader::Bytes(any.downcast_ref::<BinaryArray>().expect(SAME).clone()),
            Ty::Date => Reader::Date(any.downcast_ref::<Date32Array>().expect(SAME).clone()),
            Ty::DateTime => Reader::DateTime(any.downcast_ref::<TimestampMicrosecondArray>().expect(SAME).clone()),
            Ty::Time => Reader::Time(any.downcast_ref::<DurationMicrosecondArray>().expect(SAME).clone()),
        })
    }

    /// The value of a row.
    pub fn get(&self, row: usize) -> Datum {
        match self {
            Reader::Null => Datum::Null,
            Reader::Bool(array) if array.is_valid(row) => Datum::Int(array.value(row).into()),
            Reader::Int(array) if array.is_valid(row) => Datum::Int(array.value(row)),
            Reader::UInt(array) if array.is_valid(row) => Datum::UInt(array.value(row)),
            Reader::Decimal(array, scale) if array.is_valid(row) => {
                // Arrow's decimals have at most 38 digits, but an overflowing sum is not checked by it.
                Decimal::new(array.value(row), *scale).map_or(Datum::Null, Datum::Decimal)
            }
            Reader::Float(array) if array.is_valid(row) => Datum::Float(array.value(row)),
            Reader::Double(array) if array.is_valid(row) => Datum::Double(array.value(row)),
            Reader::Text(array) if array.is_valid(row) => Datum::Text(array.value(row).into()),
            Reader::Bytes(array) if array.is_valid(row) => Datum::Bytes(array.value(row).to_vec().into()),
            Reader::Date(array) if array.is_valid(row) => Datum::Date(array.value(row)),
            Reader::DateTime(array) if array.is_valid(row) => Datum::DateTime(array.value(row)),
            Reader::Time(array) if array.is_valid(row) => Datum::Time(array.value(row)),
            _ => Datum::Null,
        }
    }
}

/// A batch as bytes: Arrow's stream format.
pub fn encode_batch(batch: &RecordBatch) -> Result<bytes::Bytes> {
    let mut bytes = Vec::new();
    let mut writer =
        datafusion::arrow::ipc::writer::StreamWriter::try_new(&mut bytes, &batch.schema()).map_err(internal)?;
    writer.write(batch).map_err(internal)?;
    writer.finish().map_err(internal)?;
    drop(writer);
    Ok(bytes.into())
}

/// Reads a batch's bytes.
pub fn decode_batch(bytes: &[u8]) -> Result<RecordBatch> {
    let mut reader = datafusion::arrow::ipc::reader::StreamReader::try_new(bytes, None).map_err(internal)?;
    reader.next().ok_or_else(|| internal("a batch is empty"))?.map_err(internal)
}
