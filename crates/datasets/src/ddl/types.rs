//! The types that SQL says exactly: each has one name here, and is read by its synonyms too.

use datafusion::sql::sqlparser::ast::{DataType as SqlType, ExactNumberInfo, TimezoneInfo};

/// Arrow's notation, and the name in SQL.
const NAMES: &[(&str, &str)] = &[
    ("Boolean", "BOOLEAN"),
    ("Int8", "TINYINT"),
    ("Int16", "SMALLINT"),
    ("Int32", "INT"),
    ("Int64", "BIGINT"),
    ("UInt8", "TINYINT UNSIGNED"),
    ("UInt16", "SMALLINT UNSIGNED"),
    ("UInt32", "INT UNSIGNED"),
    ("UInt64", "BIGINT UNSIGNED"),
    ("Float32", "REAL"),
    ("Float64", "DOUBLE"),
    ("Utf8", "VARCHAR"),
    ("Binary", "BYTEA"),
    ("Date32", "DATE"),
    ("Timestamp(ns)", "TIMESTAMP"),
];

/// The type of SQL that is read as exactly this text.
pub(super) fn to_sql(arrow: &str) -> Option<String> {
    if let Some((_, sql)) = NAMES.iter().find(|(name, _)| *name == arrow) {
        return Some((*sql).to_owned());
    }
    let (precision, scale) = arrow.strip_prefix("Decimal128(")?.strip_suffix(')')?.split_once(", ")?;
    let (precision, scale) = (precision.parse::<u8>().ok()?, scale.parse::<u8>().ok()?);
    // Only as it is read back: `007` is a number too.
    (arrow == format!("Decimal128({precision}, {scale})")).then(|| format!("DECIMAL({precision}, {scale})"))
}

/// The type in arrow's notation, if it says one exactly.
pub(super) fn of_sql(sql: &SqlType) -> Option<String> {
    let name = match sql {
        SqlType::Boolean | SqlType::Bool => "Boolean",
        SqlType::TinyInt(None) => "Int8",
        SqlType::SmallInt(None) | SqlType::Int2(None) => "Int16",
        SqlType::Int(None) | SqlType::Integer(None) | SqlType::Int4(None) => "Int32",
        SqlType::BigInt(None) => "Int64",
        SqlType::TinyIntUnsigned(None) => "UInt8",
        SqlType::SmallIntUnsigned(None) | SqlType::Int2Unsigned(None) => "UInt16",
        SqlType::IntUnsigned(None) | SqlType::IntegerUnsigned(None) | SqlType::Int4Unsigned(None) => "UInt32",
        SqlType::BigIntUnsigned(None) => "UInt64",
        SqlType::Real | SqlType::Float4 | SqlType::Float(ExactNumberInfo::None) => "Float32",
        SqlType::Double(ExactNumberInfo::None) | SqlType::DoublePrecision | SqlType::Float8 => "Float64",
        SqlType::Varchar(None) | SqlType::Text | SqlType::String(None) => "Utf8",
        SqlType::Bytea => "Binary",
        SqlType::Date => "Date32",
        SqlType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => "Timestamp(ns)",
        SqlType::Decimal(info) | SqlType::Numeric(info) => {
            let ExactNumberInfo::PrecisionAndScale(precision, scale) = info else {
                return None;
            };
            return Some(format!("Decimal128({precision}, {scale})"));
        }
        _ => return None,
    };
    Some(name.to_owned())
}
