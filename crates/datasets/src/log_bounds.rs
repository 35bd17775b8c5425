//! Which of a Delta log's minima and maxima are what they say.
//!
//! Whole numbers and dates are. Not text and bytes, which writers truncate; nor timestamps, cut to milliseconds; nor
//! decimals, some of which went through a double; nor floating point, where NaN is left out and the engine orders it above
//! every number.

use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use serde_json::Value;

use crate::bounds::Bounds;

/// The bounds that the statistics of one file give of columns without NULLs. Partition columns have none.
pub(crate) fn of(statistics: &str, schema: &Schema) -> Vec<Bounds> {
    let Ok(statistics) = serde_json::from_str::<Value>(statistics) else {
        return Vec::new();
    };
    // Wide bounds are those of the rows before a deletion.
    if statistics["tightBounds"] == Value::Bool(false) {
        return Vec::new();
    }
    let bounds = schema.fields().iter().enumerate().filter_map(|(column, field)| {
        let of = |kind: &str| statistics[kind].get(field.name());
        if !is_exact(field.data_type()) || of("nullCount")?.as_u64()? != 0 {
            return None;
        }
        let min = value(of("minValues")?, field.data_type())?;
        let max = value(of("maxValues")?, field.data_type())?;
        (min <= max).then_some(Bounds { column, min, max })
    });
    bounds.collect()
}

/// Written out, since what is new here is not trusted until somebody has looked.
const fn is_exact(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Date32)
}

fn value(logged: &Value, data_type: &DataType) -> Option<ScalarValue> {
    let text = match (logged, data_type) {
        (Value::Number(number), DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            number.as_i64()?.to_string()
        }
        (Value::String(date), DataType::Date32) => date.clone(),
        _ => return None,
    };
    ScalarValue::try_from_string(text, data_type).ok()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    #[test]
    fn only_what_is_exact_is_believed() {
        let types = [
            DataType::Int64,
            DataType::Date32,
            DataType::Int8,
            DataType::Utf8View,
            DataType::Float64,
            DataType::Decimal128(20, 2),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ];
        let schema = Schema::new(
            types
                .iter()
                .enumerate()
                .map(|(n, data_type)| Field::new(format!("c{n}"), data_type.clone(), true))
                .collect::<Vec<_>>(),
        );
        let of = |min: &str, max: &str, nulls: &str, more: &str| {
            of(&format!("{{\"minValues\":{{{min}}},\"maxValues\":{{{max}}},\"nullCount\":{{{nulls}}}{more}}}"), &schema)
        };
        let nulls = "\"c0\":0,\"c1\":0,\"c2\":0,\"c3\":0,\"c4\":0,\"c5\":0,\"c6\":0";
        let all = "\"c0\":-9223372036854775808,\"c1\":\"2024-02-29\",\"c2\":1,\"c3\":\"a\",\"c4\":1.0,\"c5\":1.5,\"c6\":\"2024-02-29T00:00:00Z\"";
        let found = of(all, all, nulls, "");
        let values: Vec<_> = found.iter().map(|bounds| (bounds.column, bounds.min.to_string())).collect();
        assert_eq!(values, [(0, i64::MIN.to_string()), (1, "2024-02-29".to_owned()), (2, "1".to_owned())]);

        let one = |min: &str, max: &str, nulls: &str, more: &str| of(min, max, nulls, more).len();
        assert_eq!(one("\"c0\":1", "\"c0\":2", "\"c0\":0", ""), 1);
        assert_eq!(one("\"c0\":1", "\"c0\":2", "\"c0\":0", ",\"tightBounds\":true"), 1);
        for (min, max, nulls, more) in [
            ("\"c0\":1", "\"c0\":2", "\"c0\":0", ",\"tightBounds\":false"),
            ("\"c0\":1", "\"c0\":2", "\"c0\":1", ""),
            ("\"c0\":1", "\"c0\":2", "", ""),
            ("\"c0\":1", "", "\"c0\":0", ""),
            ("\"c0\":2", "\"c0\":1", "\"c0\":0", ""),
            ("\"c0\":1.5", "\"c0\":2", "\"c0\":0", ""),
            ("\"c2\":1", "\"c2\":300", "\"c2\":0", ""),
            ("\"c1\":19000", "\"c1\":19001", "\"c1\":0", ""),
        ] {
            assert_eq!(one(min, max, nulls, more), 0, "{min} {max} {nulls} {more}");
        }
        assert!(super::of("no JSON", &schema).is_empty());
    }
}
