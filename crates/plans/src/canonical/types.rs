//! The canonical text of an arrow type.

use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit, UnionMode};

use super::Walk;

/// The canonical text of one type, such as `(timestamp us "UTC")`.
pub(crate) fn data_type(data_type: &DataType) -> String {
    let mut walk = Walk::default();
    walk.data_type(data_type);
    walk.found.text
}

impl Walk {
    pub(super) fn data_type(&mut self, data_type: &DataType) {
        match data_type {
            DataType::Null => self.simple("null-type"),
            DataType::Boolean => self.simple("bool"),
            DataType::Int8 => self.simple("i8"),
            DataType::Int16 => self.simple("i16"),
            DataType::Int32 => self.simple("i32"),
            DataType::Int64 => self.simple("i64"),
            DataType::UInt8 => self.simple("u8"),
            DataType::UInt16 => self.simple("u16"),
            DataType::UInt32 => self.simple("u32"),
            DataType::UInt64 => self.simple("u64"),
            DataType::Float16 => self.simple("f16"),
            DataType::Float32 => self.simple("f32"),
            DataType::Float64 => self.simple("f64"),
            DataType::Timestamp(unit, zone) => {
                self.open("timestamp");
                self.word(time_unit(*unit));
                match zone {
                    Some(zone) => self.quoted(zone),
                    None => self.word("no-zone"),
                }
                self.close();
            }
            DataType::Date32 => self.simple("date32"),
            DataType::Date64 => self.simple("date64"),
            DataType::Time32(unit) => self.with_word("time32", time_unit(*unit)),
            DataType::Time64(unit) => self.with_word("time64", time_unit(*unit)),
            DataType::Duration(unit) => self.with_word("duration", time_unit(*unit)),
            DataType::Interval(unit) => self.with_word(
                "interval",
                match unit {
                    IntervalUnit::YearMonth => "year-month",
                    IntervalUnit::DayTime => "day-time",
                    IntervalUnit::MonthDayNano => "month-day-nano",
                },
            ),
            DataType::Binary => self.simple("binary"),
            DataType::FixedSizeBinary(size) => {
                self.open("fixed-binary");
                self.number(size);
                self.close();
            }
            DataType::LargeBinary => self.simple("large-binary"),
            DataType::BinaryView => self.simple("binary-view"),
            DataType::Utf8 => self.simple("utf8"),
            DataType::LargeUtf8 => self.simple("large-utf8"),
            DataType::Utf8View => self.simple("utf8-view"),
            DataType::List(item) => self.with_field("list", item),
            DataType::ListView(item) => self.with_field("list-view", item),
            DataType::FixedSizeList(item, size) => {
                self.open("fixed-list");
                self.number(size);
                self.field(item);
                self.close();
            }
            DataType::LargeList(item) => self.with_field("large-list", item),
            DataType::LargeListView(item) => self.with_field("large-list-view", item),
            DataType::Struct(fields) => {
                self.open("struct");
                for field in fields {
                    self.field(field);
                }
                self.close();
            }
            DataType::Union(fields, mode) => {
                self.open("union");
                self.word(match mode {
                    UnionMode::Sparse => "sparse",
                    UnionMode::Dense => "dense",
                });
                for (id, field) in fields.iter() {
                    self.number(id);
                    self.field(field);
                }
                self.close();
            }
            DataType::Dictionary(key, value) => {
                self.open("dictionary");
                self.data_type(key);
                self.data_type(value);
                self.close();
            }
            DataType::Decimal32(precision, scale) => self.decimal("decimal32", *precision, *scale),
            DataType::Decimal64(precision, scale) => self.decimal("decimal64", *precision, *scale),
            DataType::Decimal128(precision, scale) => {
                self.decimal("decimal128", *precision, *scale);
            }
            DataType::Decimal256(precision, scale) => {
                self.decimal("decimal256", *precision, *scale);
            }
            DataType::Map(entries, sorted) => {
                self.open(if *sorted { "sorted-map" } else { "map" });
                self.field(entries);
                self.close();
            }
            DataType::RunEndEncoded(ends, values) => {
                self.open("run-end");
                self.field(ends);
                self.field(values);
                self.close();
            }
        }
    }

    pub(super) fn field(&mut self, field: &Field) {
        self.open("field");
        self.quoted(field.name());
        self.data_type(field.data_type());
        self.word(if field.is_nullable() { "null" } else { "not-null" });
        self.metadata(field.metadata().iter());
        self.close();
    }

    fn simple(&mut self, name: &str) {
        self.open(name);
        self.close();
    }

    fn with_word(&mut self, name: &str, word: &str) {
        self.open(name);
        self.word(word);
        self.close();
    }

    fn with_field(&mut self, name: &str, field: &Field) {
        self.open(name);
        self.field(field);
        self.close();
    }

    fn decimal(&mut self, name: &str, precision: u8, scale: i8) {
        self.open(name);
        self.number(precision);
        self.number(scale);
        self.close();
    }
}

const fn time_unit(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}
