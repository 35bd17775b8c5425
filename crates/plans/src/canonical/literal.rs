//! The canonical text of a literal: its type and its value, floats by their bits.

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::common::ScalarValue;

use super::Walk;

impl Walk {
    pub(super) fn literal(&mut self, value: &ScalarValue) {
        self.open("literal");
        self.data_type(&value.data_type());
        if self.hides_literals {
            self.word("?");
        } else {
            self.scalar(value);
        }
        self.close();
    }

    fn scalar(&mut self, value: &ScalarValue) {
        match value {
            ScalarValue::Null => self.word("NULL"),
            ScalarValue::Boolean(v) => self.option(v.as_ref()),
            ScalarValue::Float16(v) => {
                self.option(v.map(|v| format!("{:04x}", v.to_bits())).as_ref());
            }
            ScalarValue::Float32(v) => {
                self.option(v.map(|v| format!("{:08x}", v.to_bits())).as_ref());
            }
            ScalarValue::Float64(v) => {
                self.option(v.map(|v| format!("{:016x}", v.to_bits())).as_ref());
            }
            ScalarValue::Decimal32(v, _, _) => self.option(v.as_ref()),
            ScalarValue::Decimal64(v, _, _) => self.option(v.as_ref()),
            ScalarValue::Decimal128(v, _, _) => self.option(v.as_ref()),
            ScalarValue::Decimal256(v, _, _) => self.option(v.as_ref()),
            ScalarValue::Int8(v) => self.option(v.as_ref()),
            ScalarValue::Int16(v) => self.option(v.as_ref()),
            ScalarValue::Int32(v) => self.option(v.as_ref()),
            ScalarValue::Int64(v) => self.option(v.as_ref()),
            ScalarValue::UInt8(v) => self.option(v.as_ref()),
            ScalarValue::UInt16(v) => self.option(v.as_ref()),
            ScalarValue::UInt32(v) => self.option(v.as_ref()),
            ScalarValue::UInt64(v) => self.option(v.as_ref()),
            ScalarValue::Utf8(v) | ScalarValue::Utf8View(v) | ScalarValue::LargeUtf8(v) => match v {
                Some(text) => self.quoted(text),
                None => self.word("NULL"),
            },
            ScalarValue::Binary(v)
            | ScalarValue::BinaryView(v)
            | ScalarValue::FixedSizeBinary(_, v)
            | ScalarValue::LargeBinary(v) => {
                self.option(v.as_ref().map(|bytes| hex(bytes)).as_ref());
            }
            ScalarValue::FixedSizeList(array) => {
                self.list(array.len(), array.is_null(0), || array.value(0));
            }
            ScalarValue::List(array) => self.list(array.len(), array.is_null(0), || array.value(0)),
            ScalarValue::LargeList(array) => {
                self.list(array.len(), array.is_null(0), || array.value(0));
            }
            ScalarValue::ListView(array) => {
                self.list(array.len(), array.is_null(0), || array.value(0));
            }
            ScalarValue::LargeListView(array) => {
                self.list(array.len(), array.is_null(0), || array.value(0));
            }
            ScalarValue::Struct(array) => {
                if array.is_null(0) {
                    self.word("NULL");
                } else {
                    for column in array.columns() {
                        self.elements(column.as_ref());
                    }
                }
            }
            ScalarValue::Map(array) => {
                self.list(array.len(), array.is_null(0), || Arc::new(array.value(0)) as ArrayRef);
            }
            ScalarValue::Date32(v) => self.option(v.as_ref()),
            ScalarValue::Date64(v) => self.option(v.as_ref()),
            ScalarValue::Time32Second(v) | ScalarValue::Time32Millisecond(v) => {
                self.option(v.as_ref());
            }
            ScalarValue::Time64Microsecond(v) | ScalarValue::Time64Nanosecond(v) => {
                self.option(v.as_ref());
            }
            ScalarValue::TimestampSecond(v, _)
            | ScalarValue::TimestampMillisecond(v, _)
            | ScalarValue::TimestampMicrosecond(v, _)
            | ScalarValue::TimestampNanosecond(v, _) => self.option(v.as_ref()),
            ScalarValue::IntervalYearMonth(v) => self.option(v.as_ref()),
            ScalarValue::IntervalDayTime(v) => {
                self.option(v.map(|v| format!("{}d{}ms", v.days, v.milliseconds)).as_ref());
            }
            ScalarValue::IntervalMonthDayNano(v) => {
                self.option(v.map(|v| format!("{}m{}d{}ns", v.months, v.days, v.nanoseconds)).as_ref());
            }
            ScalarValue::DurationSecond(v)
            | ScalarValue::DurationMillisecond(v)
            | ScalarValue::DurationMicrosecond(v)
            | ScalarValue::DurationNanosecond(v) => self.option(v.as_ref()),
            ScalarValue::Union(v, _, _) => match v {
                Some((id, value)) => {
                    self.number(id);
                    self.literal(value);
                }
                None => self.word("NULL"),
            },
            ScalarValue::Dictionary(_, value) | ScalarValue::RunEndEncoded(_, _, value) => {
                self.literal(value);
            }
        }
    }

    fn option<T: std::fmt::Display>(&mut self, value: Option<&T>) {
        match value {
            Some(value) => self.number(value),
            None => self.word("NULL"),
        }
    }

    fn list(&mut self, len: usize, null: bool, values: impl FnOnce() -> ArrayRef) {
        if len != 1 {
            self.deny("a list literal that does not hold exactly one list".to_owned());
        } else if null {
            self.word("NULL");
        } else {
            self.elements(values().as_ref());
        }
    }

    fn elements(&mut self, values: &dyn Array) {
        self.open("values");
        for index in 0..values.len() {
            match ScalarValue::try_from_array(values, index) {
                Ok(value) => self.scalar_element(&value),
                Err(_) => self.deny(format!("a literal that holds values of type {}", values.data_type())),
            }
        }
        self.close();
    }

    fn scalar_element(&mut self, value: &ScalarValue) {
        self.open("value");
        self.scalar(value);
        self.close();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 + bytes.len() * 2), |mut text, byte| {
        if text.is_empty() {
            text.push_str("0x");
        }
        let _ = write!(text, "{byte:02x}");
        text
    })
}
