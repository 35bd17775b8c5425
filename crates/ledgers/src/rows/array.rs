//! From values to Arrow arrays.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, MapArray, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::Value;

const NULL: &Value = &Value::Null;

/// The values as an array of a type that a ledger has. A value of another kind becomes a null, which whatever the array goes
/// into refuses where it may have none, so that it cannot slip through.
pub(super) fn of(data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    Ok(match data_type {
        DataType::Utf8 => Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        }))),
        DataType::Int64 => Arc::new(Int64Array::from_iter(values.iter().map(|value| match value {
            Value::Integer(integer) => Some(*integer),
            _ => None,
        }))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(values.iter().map(|value| match value {
            Value::Float(float) => Some(*float),
            _ => None,
        }))),
        DataType::List(element) => {
            let lists: Vec<Option<&[Value]>> = values
                .iter()
                .map(|value| match value {
                    Value::List(list) => Some(list.as_slice()),
                    _ => None,
                })
                .collect();
            let elements: Vec<&Value> = lists.iter().flatten().copied().flatten().collect();
            let elements = of(element.data_type(), &elements)?;
            Arc::new(ListArray::try_new(Arc::clone(element), offsets(&lists), elements, nulls(&lists))?)
        }
        DataType::Map(entry, sorted) => {
            let maps: Vec<Option<&[(String, Value)]>> = values
                .iter()
                .map(|value| match value {
                    Value::Map(map) => Some(map.as_slice()),
                    _ => None,
                })
                .collect();
            let DataType::Struct(fields) = entry.data_type() else {
                return Err(no_column(entry.data_type()));
            };
            let entries = || maps.iter().flatten().copied().flatten();
            let keys: StringArray = entries().map(|(key, _)| Some(key)).collect();
            let values: Vec<&Value> = entries().map(|(_, value)| value).collect();
            let columns = vec![Arc::new(keys) as ArrayRef, of(fields[1].data_type(), &values)?];
            let entries = StructArray::try_new(fields.clone(), columns, None)?;
            Arc::new(MapArray::try_new(Arc::clone(entry), offsets(&maps), entries, nulls(&maps), *sorted)?)
        }
        DataType::Struct(fields) => {
            let structs: Vec<Option<&[Value]>> = values
                .iter()
                .map(|value| match value {
                    Value::Struct(values) => Some(values.as_slice()),
                    _ => None,
                })
                .collect();
            let columns = fields
                .iter()
                .enumerate()
                .map(|(at, field)| {
                    let values: Vec<&Value> = structs.iter().map(|row| row.map_or(NULL, |row| &row[at])).collect();
                    of(field.data_type(), &values)
                })
                .collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, nulls(&structs))?)
        }
        other => return Err(no_column(other)),
    })
}

fn offsets<T>(lists: &[Option<&[T]>]) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, <[T]>::len)))
}

fn nulls<T>(lists: &[Option<&[T]>]) -> Option<NullBuffer> {
    lists.iter().any(Option::is_none).then(|| lists.iter().map(Option::is_some).collect())
}

fn no_column(data_type: &DataType) -> ArrowError {
    ArrowError::NotYetImplemented(format!("a ledger has no column of type {data_type}"))
}
