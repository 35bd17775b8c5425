//! A schema as one line of text: unambiguous, so that it can be hashed; readable, so that it can explain a miss.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit, UnionMode};

/// The one encoding of a value under a digest: strings are quoted, so nothing runs together, and objects are sorted.
pub(crate) fn identity_bytes(value: &serde_json::Value) -> Vec<u8> {
    alluvium_contracts::canonical_json(value).expect("a JSON value has string keys and no NaN")
}

/// `a: Int64, b: Utf8 not null {"key":"value"}`, and the schema's own metadata in front when it has any.
///
/// Everything that tells two schemas apart is in it, in one fixed order; the engine's `Display` is not used, because it
/// may change between versions and prints metadata in random order.
pub(crate) fn schema_text(schema: &Schema) -> String {
    let mut text = metadata(schema.metadata());
    if !text.is_empty() {
        text.push(' ');
    }
    fields(&mut text, schema.fields());
    text
}

fn fields<'a>(text: &mut String, fields: impl IntoIterator<Item = &'a std::sync::Arc<Field>>) {
    for (index, one) in fields.into_iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        field(text, one);
    }
}

fn field(text: &mut String, field: &Field) {
    // Destructuring is not possible; what `Field` compares is its name, type, nullability, metadata and, for a
    // dictionary, whether it is ordered.
    text.push_str(&name(field.name()));
    text.push_str(": ");
    data_type(text, field.data_type());
    if field.dict_is_ordered() == Some(true) {
        text.push_str(" ordered");
    }
    if !field.is_nullable() {
        text.push_str(" not null");
    }
    let metadata = metadata(field.metadata());
    if !metadata.is_empty() {
        text.push(' ');
        text.push_str(&metadata);
    }
}

/// A plain name as it is, any other as a JSON string.
fn name(name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { name.to_owned() } else { json(name) }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn metadata(metadata: &HashMap<String, String>) -> String {
    if metadata.is_empty() {
        return String::new();
    }
    let sorted: BTreeMap<_, _> = metadata.iter().collect();
    let entries: Vec<_> = sorted.into_iter().map(|(key, value)| format!("{}:{}", json(key), json(value))).collect();
    format!("{{{}}}", entries.join(","))
}

/// The text of a type.
pub(crate) fn type_text(of: &DataType) -> String {
    let mut text = String::new();
    data_type(&mut text, of);
    text
}

/// Exhaustive, so that a type which is new in arrow does not compile until it has a text.
fn data_type(text: &mut String, data_type: &DataType) {
    let simple = match data_type {
        DataType::Null => "Null",
        DataType::Boolean => "Boolean",
        DataType::Int8 => "Int8",
        DataType::Int16 => "Int16",
        DataType::Int32 => "Int32",
        DataType::Int64 => "Int64",
        DataType::UInt8 => "UInt8",
        DataType::UInt16 => "UInt16",
        DataType::UInt32 => "UInt32",
        DataType::UInt64 => "UInt64",
        DataType::Float16 => "Float16",
        DataType::Float32 => "Float32",
        DataType::Float64 => "Float64",
        DataType::Date32 => "Date32",
        DataType::Date64 => "Date64",
        DataType::Binary => "Binary",
        DataType::LargeBinary => "LargeBinary",
        DataType::BinaryView => "BinaryView",
        DataType::Utf8 => "Utf8",
        DataType::LargeUtf8 => "LargeUtf8",
        DataType::Utf8View => "Utf8View",
        DataType::Timestamp(unit, None) => return call(text, "Timestamp", time_unit(*unit)),
        DataType::Timestamp(unit, Some(zone)) => {
            return call(text, "Timestamp", &format!("{}, {}", time_unit(*unit), json(zone)));
        }
        DataType::Time32(unit) => return call(text, "Time32", time_unit(*unit)),
        DataType::Time64(unit) => return call(text, "Time64", time_unit(*unit)),
        DataType::Duration(unit) => return call(text, "Duration", time_unit(*unit)),
        DataType::Interval(unit) => return call(text, "Interval", interval_unit(*unit)),
        DataType::FixedSizeBinary(bytes) => {
            return call(text, "FixedSizeBinary", &bytes.to_string());
        }
        DataType::Decimal32(precision, scale) => {
            return call(text, "Decimal32", &format!("{precision}, {scale}"));
        }
        DataType::Decimal64(precision, scale) => {
            return call(text, "Decimal64", &format!("{precision}, {scale}"));
        }
        DataType::Decimal128(precision, scale) => {
            return call(text, "Decimal128", &format!("{precision}, {scale}"));
        }
        DataType::Decimal256(precision, scale) => {
            return call(text, "Decimal256", &format!("{precision}, {scale}"));
        }
        DataType::List(item) => return nested(text, "List", [item]),
        DataType::ListView(item) => return nested(text, "ListView", [item]),
        DataType::LargeList(item) => return nested(text, "LargeList", [item]),
        DataType::LargeListView(item) => return nested(text, "LargeListView", [item]),
        DataType::FixedSizeList(item, length) => {
            return nested(text, &format!("FixedSizeList{length}"), [item]);
        }
        DataType::Struct(children) => return nested(text, "Struct", children),
        DataType::Map(entries, false) => return nested(text, "Map", [entries]),
        DataType::Map(entries, true) => return nested(text, "SortedMap", [entries]),
        DataType::RunEndEncoded(ends, values) => {
            return nested(text, "RunEndEncoded", [ends, values]);
        }
        DataType::Dictionary(key, value) => {
            text.push_str("Dictionary(");
            self::data_type(text, key);
            text.push_str(", ");
            self::data_type(text, value);
            text.push(')');
            return;
        }
        DataType::Union(children, mode) => {
            text.push_str(match mode {
                UnionMode::Sparse => "SparseUnion(",
                UnionMode::Dense => "DenseUnion(",
            });
            for (index, (id, child)) in children.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(text, "{}{id}=", if index > 0 { ", " } else { "" });
                field(text, child);
            }
            text.push(')');
            return;
        }
    };
    text.push_str(simple);
}

fn call(text: &mut String, name: &str, arguments: &str) {
    text.push_str(name);
    text.push('(');
    text.push_str(arguments);
    text.push(')');
}

fn nested<'a>(text: &mut String, name: &str, children: impl IntoIterator<Item = &'a std::sync::Arc<Field>>) {
    text.push_str(name);
    text.push('(');
    fields(text, children);
    text.push(')');
}

const fn time_unit(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

const fn interval_unit(unit: IntervalUnit) -> &'static str {
    match unit {
        IntervalUnit::YearMonth => "year_month",
        IntervalUnit::DayTime => "day_time",
        IntervalUnit::MonthDayNano => "month_day_nano",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Fields, UnionFields};

    use super::*;

    fn of(fields: Vec<Field>) -> String {
        schema_text(&Schema::new(fields))
    }

    #[test]
    fn it_reads_well() {
        let text = of(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b c", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Field::new("l", DataType::List(Arc::new(Field::new("item", DataType::Decimal128(10, -2), true))), true),
            Field::new("d", DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), true),
        ]);
        assert_eq!(
            text,
            r#"a: Int64, "b c": Timestamp(us, "UTC") not null, l: List(item: Decimal128(10, -2)), d: Dictionary(Int32, Utf8)"#
        );
    }

    /// Pairs that differ in one thing each, among them those that a careless text would run together.
    #[test]
    fn whatever_differs_reads_differently() {
        let int = |name: &str| Field::new(name, DataType::Int64, true);
        let with = |pairs: &[(&str, &str)]| {
            int("a").with_metadata(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let list = |field: Field| Field::new("a", DataType::List(Arc::new(field)), true);
        let strukt = |fields: Vec<Field>| Field::new("a", DataType::Struct(Fields::from(fields)), true);
        let union = |mode, id: i8| {
            let fields = UnionFields::try_new(vec![id], vec![int("x")]).unwrap();
            Field::new("a", DataType::Union(fields, mode), true)
        };
        let map = |sorted| Field::new("a", DataType::Map(Arc::new(int("e")), sorted), true);
        let dictionary = |ordered| {
            let data_type = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
            Field::new("a", data_type, true).with_dict_is_ordered(ordered)
        };
        let all = [
            vec![],
            vec![int("a")],
            vec![int("b")],
            vec![Field::new("a", DataType::Int64, false)],
            vec![Field::new("a", DataType::Int32, true)],
            vec![int("a"), int("b")],
            vec![int("b"), int("a")],
            vec![int("a: Int64, b")],
            vec![int("a\": Int64, \"b")],
            vec![with(&[("k", "v")])],
            vec![with(&[("k", "w")])],
            vec![with(&[("k\":\"v", "")])],
            vec![with(&[("k", "v"), ("l", "v")])],
            vec![list(int("item"))],
            vec![list(Field::new("item", DataType::Int64, false))],
            vec![list(int("element"))],
            vec![strukt(vec![int("x"), int("y")])],
            vec![strukt(vec![int("x")]), int("y")],
            vec![union(UnionMode::Dense, 0)],
            vec![union(UnionMode::Sparse, 0)],
            vec![union(UnionMode::Sparse, 1)],
            vec![map(false)],
            vec![map(true)],
            vec![dictionary(false)],
            vec![dictionary(true)],
            vec![Field::new("a", DataType::Timestamp(TimeUnit::Second, None), true)],
            vec![Field::new("a", DataType::Timestamp(TimeUnit::Second, Some("".into())), true)],
            vec![Field::new("a", DataType::Timestamp(TimeUnit::Second, Some("UTC".into())), true)],
            vec![Field::new("a", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), true)],
        ];
        let mut texts: Vec<_> = all.iter().map(|fields| of(fields.clone())).collect();
        texts.push(schema_text(&Schema::new(vec![int("a")]).with_metadata([("k".to_owned(), "v".to_owned())].into())));
        for (index, text) in texts.iter().enumerate() {
            assert!(!texts[..index].contains(text), "{text}");
        }
    }

    #[test]
    fn the_order_of_metadata_does_not_matter() {
        let entries: Vec<_> = (0..20).map(|n| (n.to_string(), n.to_string())).collect();
        let forward = Schema::new(Fields::empty()).with_metadata(entries.iter().cloned().collect());
        let backward = Schema::new(Fields::empty()).with_metadata(entries.into_iter().rev().collect());
        assert_eq!(schema_text(&forward), schema_text(&backward));
    }
}
