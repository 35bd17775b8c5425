//! Integers that may exceed 2⁵³−1: decimal text, because JSON's numbers are doubles.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not such an integer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
#[non_exhaustive]
pub struct DecimalParseError {
    /// What was expected.
    pub expected: &'static str,
    /// What was found.
    pub text: String,
}

macro_rules! decimal {
    ($(#[$doc:meta])* $name:ident, $integer:ty, $pattern:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $integer);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DecimalParseError;

            fn from_str(text: &str) -> Result<Self, DecimalParseError> {
                // `parse` reads `+1`, `-0` and `007` too; one number has one text here.
                match text.parse::<$integer>() {
                    Ok(value) if value.to_string() == text => Ok(Self(value)),
                    _ => Err(DecimalParseError { expected: $expected, text: text.to_owned() }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &$expected))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

decimal!(
    /// An unsigned 64-bit integer as decimal text.
    DecimalU64, u64, "^(0|[1-9][0-9]*)$", "a decimal string of an unsigned 64-bit integer"
);
decimal!(
    /// A signed 64-bit integer as decimal text.
    DecimalI64, i64, "^(0|-?[1-9][0-9]*)$", "a decimal string of a signed 64-bit integer"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_text() {
        for good in ["0", "1", "18446744073709551615"] {
            assert_eq!(good.parse::<DecimalU64>().unwrap().to_string(), good);
        }
        for bad in ["", "+1", "-1", "-0", "01", "1.0", "1e3", "18446744073709551616", " 1"] {
            assert!(bad.parse::<DecimalU64>().is_err(), "{bad}");
        }
        assert_eq!("-9223372036854775808".parse(), Ok(DecimalI64(i64::MIN)));
        assert!("-0".parse::<DecimalI64>().is_err());
        assert_eq!(serde_json::to_string(&DecimalU64(u64::MAX)).unwrap(), "\"18446744073709551615\"");
        assert!(serde_json::from_str::<DecimalU64>("1").is_err());
    }
}
