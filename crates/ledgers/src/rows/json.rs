//! From Arrow rows back to the JSON that a contract decodes from.

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use serde_json::{Map, Value};

/// Each row as an object with every column, null where there is no value. Columns of types that no ledger has are null.
pub(crate) fn objects(batch: &RecordBatch) -> Vec<Value> {
    let rows = StructArray::from(batch.clone());
    (0..rows.len()).map(|at| value(&rows, at)).collect()
}

fn value(array: &dyn Array, at: usize) -> Value {
    if array.is_null(at) {
        return Value::Null;
    }
    let all = |array: &dyn Array| (0..array.len()).map(|at| value(array, at)).collect::<Vec<_>>();
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(at).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(at).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(at).into(),
        DataType::List(_) => Value::Array(all(&array.as_list::<i32>().value(at))),
        DataType::Map(..) => {
            let entries = array.as_map().value(at);
            let keys = all(entries.column(0));
            let named = keys.into_iter().zip(all(entries.column(1))).filter_map(|(key, value)| match key {
                Value::String(key) => Some((key, value)),
                _ => None,
            });
            Value::Object(named.collect())
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let named = columns.map(|(field, column)| (field.name().clone(), value(column, at)));
            Value::Object(named.collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}
