//! Arguments of functions, row by row.

use arrow::array::{Array as _, ArrayRef, AsArray as _, StructArray};
use arrow::datatypes::{
    DataType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion_common::{Result, internal_err};
use datafusion_expr::ColumnarValue;

use crate::id::Part;
use crate::span::Span;

/// A column, or one value that stands for every row.
pub(crate) struct Argument {
    array: ArrayRef,
    constant: bool,
}

impl Argument {
    /// Of each value one.
    pub(crate) fn all(values: &[ColumnarValue]) -> Result<Vec<Self>> {
        let argument = |value: &ColumnarValue| match value {
            ColumnarValue::Array(array) => Ok(Self { array: array.clone(), constant: false }),
            ColumnarValue::Scalar(scalar) => Ok(Self { array: scalar.to_array()?, constant: true }),
        };
        values.iter().map(argument).collect()
    }

    /// Whether it is the same for every row.
    pub(crate) fn is_constant(&self) -> bool {
        self.constant
    }

    fn index(&self, row: usize) -> Option<usize> {
        let index = if self.constant { 0 } else { row };
        (!self.array.is_null(index)).then_some(index)
    }

    /// The text of a row.
    pub(crate) fn text(&self, row: usize) -> Result<Option<&str>> {
        match self.part(row)? {
            None => Ok(None),
            Some(Part::Text(text)) => Ok(Some(text)),
            Some(_) => internal_err!("text was asked for, found {}", self.array.data_type()),
        }
    }

    /// The number of a row.
    pub(crate) fn offset(&self, row: usize) -> Result<Option<i64>> {
        match self.array.as_primitive_opt::<Int64Type>() {
            Some(numbers) => Ok(self.index(row).map(|index| numbers.value(index))),
            None => internal_err!("offsets were not coerced to Int64 but are {}", self.array.data_type()),
        }
    }

    /// The span of a row; none where it is NULL, or an end of it is.
    pub(crate) fn span(&self, row: usize) -> Result<Option<Span>> {
        let Some([start, end]) = self.array.as_struct_opt().map(StructArray::columns) else {
            return internal_err!("a span was asked for, found {}", self.array.data_type());
        };
        let (Some(starts), Some(ends)) = (start.as_primitive_opt::<Int64Type>(), end.as_primitive_opt::<Int64Type>())
        else {
            return internal_err!("the ends of a span were not coerced to Int64: {}", self.array.data_type());
        };
        match self.index(row) {
            Some(index) if starts.is_valid(index) && ends.is_valid(index) => {
                Span::new(starts.value(index), ends.value(index)).map(Some).map_err(external)
            }
            _ => Ok(None),
        }
    }

    /// What an id is derived from.
    pub(crate) fn part(&self, row: usize) -> Result<Option<Part<'_>>> {
        let Some(index) = self.index(row) else {
            return Ok(None);
        };
        macro_rules! integer {
            ($($variant:ident: $arrow:ty),*; $($other:tt)*) => {
                match self.array.data_type() {
                    $(DataType::$variant => Part::Integer(self.array.as_primitive::<$arrow>().value(index).into()),)*
                    $($other)*
                }
            };
        }
        Ok(Some(integer!(
            Int8: Int8Type, Int16: Int16Type, Int32: Int32Type, Int64: Int64Type,
            UInt8: UInt8Type, UInt16: UInt16Type, UInt32: UInt32Type, UInt64: UInt64Type;
            DataType::Utf8 => Part::Text(self.array.as_string::<i32>().value(index)),
            DataType::LargeUtf8 => Part::Text(self.array.as_string::<i64>().value(index)),
            DataType::Utf8View => Part::Text(self.array.as_string_view().value(index)),
            DataType::Binary => Part::Bytes(self.array.as_binary::<i32>().value(index)),
            DataType::LargeBinary => Part::Bytes(self.array.as_binary::<i64>().value(index)),
            DataType::BinaryView => Part::Bytes(self.array.as_binary_view().value(index)),
            DataType::Boolean => Part::Boolean(self.array.as_boolean().value(index)),
            DataType::Date32 => Part::Date(self.array.as_primitive::<Date32Type>().value(index)),
            other => return internal_err!("an id cannot be derived from {other}")
        )))
    }
}

/// An error of ours inside the engine's.
pub(crate) fn external(error: impl std::error::Error + Send + Sync + 'static) -> datafusion_common::DataFusionError {
    datafusion_common::DataFusionError::External(Box::new(error))
}
