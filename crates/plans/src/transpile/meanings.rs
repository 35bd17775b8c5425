//! What a dialect has the same word for and means otherwise by it: casts, texts, patterns, operators, arguments of functions.
//!
//! Each answers why a part is not carried, or `None` where the dialect answers what the engine answers. Where the engine fails
//! (`cast('1.5' as int)`, `7 / 0`), another may answer. What DuckDB and SQLite do was tried (`xtask/interop/dialects.py`
//! repeats it); of the others their documentation was read.

use alluvium_contracts::TargetDialect;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Like, Operator};

use TargetDialect::{Bigquery, Duckdb, Generic, Mysql, Postgresql, Snowflake, Sqlite};

/// As much as decides what a cast means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Null,
    Boolean,
    Integer,
    Float,
    Decimal { scale: i8 },
    Text,
    Date,
    Timestamp,
    Other,
}

impl Class {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Decimal32(_, scale)
            | DataType::Decimal64(_, scale)
            | DataType::Decimal128(_, scale)
            | DataType::Decimal256(_, scale) => Self::Decimal { scale: *scale },
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::Dictionary(_, values) => Self::of(values),
            of if of.is_integer() => Self::Integer,
            _ => Self::Other,
        }
    }
}

/// Of a cast of `value`, which is `from`, `into` another type. One that answers NULL where it fails is `tried`: then what the
/// dialect makes of a wrong text counts too.
pub(super) fn of_cast(
    to: TargetDialect,
    value: &Expr,
    from: &DataType,
    into: &DataType,
    tried: bool,
) -> Option<String> {
    if to == Generic || from == into {
        return None;
    }
    if lacks(to, into) {
        return Some(format!("{to} has no type {into}, or another one of its name"));
    }
    let is_one_of = |dialects: &[TargetDialect]| dialects.contains(&to);
    let same = match (Class::of(from), Class::of(into)) {
        (Class::Text, Class::Text) => true,
        (Class::Text, _) if tried => false,
        (Class::Null, _)
        | (Class::Boolean, Class::Integer)
        | (Class::Integer, Class::Integer | Class::Float | Class::Decimal { .. } | Class::Text)
        | (Class::Float | Class::Decimal { .. }, Class::Float)
        | (Class::Date, Class::Text | Class::Timestamp) => true,
        (Class::Boolean, Class::Text) => !is_one_of(&[Mysql, Sqlite]),
        (Class::Integer, Class::Boolean) => to != Sqlite,
        (Class::Decimal { scale }, Class::Integer) if scale <= 0 => true,
        (Class::Float | Class::Decimal { .. }, Class::Integer) => {
            return (to != Sqlite).then(|| format!("{to} rounds what the engine cuts off"));
        }
        // Where the last digits are beyond what a float has, which of them are cut off is for whoever runs it.
        (Class::Float, Class::Decimal { scale }) => to == Duckdb || (to != Sqlite && scale >= 15),
        (Class::Decimal { scale }, Class::Decimal { scale: least }) => to != Sqlite || scale <= least,
        (Class::Decimal { .. }, Class::Text) => !is_one_of(&[Sqlite, Bigquery]),
        (Class::Text, Class::Integer | Class::Float) => true,
        (Class::Text, Class::Decimal { .. }) => to != Sqlite,
        (Class::Text, Class::Boolean) => is_one_of(&[Postgresql, Duckdb]),
        (Class::Text | Class::Timestamp, Class::Date) if to == Sqlite => {
            let same = text(value).is_some_and(is_day);
            return (!same).then(|| format!("{to} has no dates, and keeps the text as it is"));
        }
        (Class::Text | Class::Timestamp, Class::Date) => true,
        (Class::Text, Class::Timestamp) => {
            let same = text(value).is_some_and(|text| is_without_zone(text) && (to != Mysql || !text.contains('.')));
            return (!same).then(|| format!("{to} may read zones and fractions of a second otherwise"));
        }
        (Class::Timestamp, Class::Timestamp) => to != Mysql,
        _ => false,
    };
    (!same).then(|| format!("a cast of {from} to {into} is not known to mean the same in {to}"))
}

/// Whether the unparser's word for a type is none of the dialect, or means another type.
fn lacks(to: TargetDialect, data_type: &DataType) -> bool {
    match data_type {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => to != Sqlite,
        DataType::Float32 => matches!(to, Postgresql | Sqlite | Bigquery | Snowflake),
        DataType::Boolean | DataType::Int8 | DataType::Int16 => to == Mysql,
        // The name of the zone is lost.
        DataType::Timestamp(_, Some(zone)) if !matches!(zone.as_ref(), "UTC" | "+00:00") => true,
        DataType::Timestamp(..) => to == Sqlite,
        _ => false,
    }
}

/// Whether it is `YYYY-MM-DD`.
fn is_day(text: &str) -> bool {
    let is_digit =
        |(place, byte): (usize, u8)| if matches!(place, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
    text.len() == 10 && text.bytes().enumerate().all(is_digit)
}

/// Whether it is a day, or a day and a time of it, and nothing behind.
fn is_without_zone(text: &str) -> bool {
    let (day, time) = text.split_at_checked(10).unwrap_or((text, ""));
    is_day(day) && time.bytes().all(|byte| byte.is_ascii_digit() || b" T:.".contains(&byte))
}

/// Of a literal.
pub(super) fn of_literal(to: TargetDialect, value: &ScalarValue) -> Option<String> {
    if to == Sqlite && matches!(value.data_type(), DataType::Interval(_)) {
        return Some(format!("{to} has no intervals"));
    }
    if to == Sqlite && matches!(value.data_type(), DataType::Timestamp(..)) {
        return Some(format!("{to} has no timestamps"));
    }
    let text = value.try_as_str().flatten()?;
    if matches!(to, Mysql | Bigquery | Snowflake) && text.contains('\\') {
        return Some(format!("a backslash in a text escapes what follows it in {to}"));
    }
    (to == Bigquery && text.contains(['\'', '\n', '\r']))
        .then(|| format!("quotes and ends of lines in a text are written otherwise in {to}"))
}

/// Of LIKE and ILIKE.
pub(super) fn of_like(to: TargetDialect, like: &Like) -> Option<String> {
    let pattern = text(&like.pattern);
    match to {
        Sqlite if pattern.is_none_or(|pattern| pattern.contains(|c: char| c.is_ascii_alphabetic())) => {
            Some(format!("LIKE does not tell capitals in {to}"))
        }
        Sqlite | Duckdb | Snowflake
            if like.escape_char.is_none() && pattern.is_none_or(|pattern| pattern.contains('\\')) =>
        {
            Some(format!("a backslash in a pattern escapes nothing in {to}"))
        }
        Bigquery if like.escape_char.is_some() => Some(format!("{to} has no ESCAPE")),
        _ => None,
    }
}

/// Of an operator whose left side is `of`, and whose right side is `by`.
pub(super) fn of_operator(to: TargetDialect, binary: &BinaryExpr, of: &DataType, by: &DataType) -> Option<String> {
    use Operator::{BitwiseAnd, BitwiseOr, BitwiseShiftLeft, BitwiseShiftRight, BitwiseXor};
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    if to == Generic {
        return None;
    }
    let is_float = of.is_floating();
    match binary.op {
        Divide if of.is_integer() && matches!(to, Mysql | Bigquery | Snowflake) => {
            Some(format!("an integer divided by an integer is no integer in {to}"))
        }
        Modulo if to == Bigquery => Some(format!("{to} has no %")),
        Modulo if is_float && matches!(to, Sqlite | Postgresql) => Some(format!("% is of integers in {to}")),
        Divide | Modulo if is_float && matches!(to, Mysql | Sqlite) && !is_number_but_zero(&binary.right) => {
            Some(format!("a division by zero is NULL in {to}, and infinite or NaN to the engine"))
        }
        Plus | Minus | Multiply | Divide | Modulo if of.is_decimal() && to == Sqlite => {
            Some(format!("{to} computes decimals as floating-point numbers"))
        }
        Minus
            if of.is_temporal() && by.is_temporal() && matches!(to, Mysql | Sqlite | Bigquery) && !is_interval(by) =>
        {
            Some(format!("the difference of two times is another in {to}"))
        }
        BitwiseAnd | BitwiseOr | BitwiseXor | BitwiseShiftLeft | BitwiseShiftRight if to == Mysql => {
            Some(format!("{to} computes bits of unsigned integers"))
        }
        BitwiseAnd | BitwiseOr | BitwiseShiftLeft | BitwiseShiftRight if to == Snowflake => {
            Some(format!("{to} has functions for it"))
        }
        BitwiseXor if to != Bigquery => Some(format!("^ is something else in {to}")),
        _ => None,
    }
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// Of a function of values that the dialect has, by its arguments. `first` is the type of the first.
pub(super) fn of_arguments(to: TargetDialect, name: &str, args: &[Expr], first: &DataType) -> Option<String> {
    let is_at_least = |place: usize, least: i64| args.get(place).and_then(integer).is_some_and(|value| value >= least);
    let is_one_of = |words: &[&str]| {
        args.first().and_then(text).is_some_and(|part| words.contains(&part.to_ascii_lowercase().as_str()))
    };
    let same = match (name, to) {
        (_, Generic) => true,
        ("substr", to) => to == Postgresql || is_at_least(1, 1),
        ("left" | "right", to) => matches!(to, Postgresql | Duckdb) || is_at_least(1, 0),
        ("array_element", Postgresql) => is_at_least(1, 1),
        // White space of any kind, if nothing is said.
        ("ltrim" | "rtrim", Bigquery) => args.len() == 2,
        ("round", to) => rounds_alike(to, args, first),
        ("date_part", to) => {
            is_one_of(&["year", "quarter", "month", "day", "hour", "minute"])
                || (to != Postgresql && is_one_of(&["second"]))
                || (matches!(to, Postgresql | Duckdb) && is_one_of(&["week", "dow", "doy"]))
        }
        ("date_trunc", _) => is_one_of(&["year", "quarter", "month", "week", "day", "hour", "minute", "second"]),
        _ => true,
    };
    (!same).then(|| format!("{name} of such arguments is not known to mean the same in {to}"))
}

/// Halves away from zero, and the digits of the very number that the engine has.
fn rounds_alike(to: TargetDialect, args: &[Expr], first: &DataType) -> bool {
    let is_float = first.is_floating();
    match to {
        Generic => true,
        // The unparser puts a cast to `NUMERIC` in the place of any other cast.
        Postgresql => !is_float && !matches!(args.first(), Some(Expr::Cast(_))),
        Mysql => !is_float,
        Duckdb => !args.first().is_some_and(is_float_literal),
        Sqlite => args.len() == 1,
        Bigquery => !is_float || args.len() == 1,
        Snowflake => !is_float || (args.len() == 1 && !args.first().is_some_and(is_float_literal)),
    }
}

/// A text that is written as such.
fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        Expr::Cast(Cast { expr, field }) if Class::of(field.data_type()) == Class::Text => text(expr),
        _ => None,
    }
}

/// A whole number that is written as such.
fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => value.to_string().parse().ok(),
        Expr::Cast(Cast { expr, field }) if field.data_type().is_integer() => integer(expr),
        _ => None,
    }
}

fn is_float_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.data_type().is_floating(),
        Expr::Negative(expr) => is_float_literal(expr),
        _ => false,
    }
}

fn is_number_but_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.to_string().parse::<f64>().is_ok_and(|value| value != 0.0),
        Expr::Cast(Cast { expr, .. }) => is_number_but_zero(expr),
        Expr::Negative(expr) => is_number_but_zero(expr),
        _ => false,
    }
}
