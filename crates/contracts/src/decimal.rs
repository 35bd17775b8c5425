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
    ($(#[$doc:meta])* $name:ident, $integer:ty, $expected:literal) => {
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
                let pattern = pattern(&<$integer>::MIN.to_string(), &<$integer>::MAX.to_string());
                json_schema!({ "type": "string", "pattern": pattern })
            }
        }
    };
}

decimal!(
    /// An unsigned 64-bit integer as decimal text.
    DecimalU64, u64, "a decimal string of an unsigned 64-bit integer"
);
decimal!(
    /// A signed 64-bit integer as decimal text.
    DecimalI64, i64, "a decimal string of a signed 64-bit integer"
);

/// The pattern of exactly the integers from `least`, which is 0 or below, to `most`.
fn pattern(least: &str, most: &str) -> String {
    match least.strip_prefix('-') {
        Some(least) => format!("^(0|{}|-({}))$", up_to(most), up_to(least)),
        None => format!("^(0|{})$", up_to(most)),
    }
}

/// The pattern of the integers from 1 to `most`, digit by digit: what is shorter, what begins like `most` and goes on with
/// a smaller digit, and `most` itself.
fn up_to(most: &str) -> String {
    let mut alternatives = vec![format!("[1-9][0-9]{{0,{}}}", most.len() - 2)];
    for (at, digit) in most.bytes().enumerate() {
        let least = if at == 0 { b'1' } else { b'0' };
        if digit > least {
            let (smaller, rest) = (char::from(digit - 1), most.len() - at - 1);
            let rest = if rest > 0 { format!("[0-9]{{{rest}}}") } else { String::new() };
            alternatives.push(format!("{}[{}-{smaller}]{rest}", &most[..at], char::from(least)));
        }
    }
    alternatives.push(most.to_owned());
    alternatives.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the schema's pattern takes and what decoding takes are the same texts.
    #[test]
    fn the_pattern_is_the_range() {
        let pattern = |schema: Schema| regex::Regex::new(schema.get("pattern").unwrap().as_str().unwrap()).unwrap();
        let mut generator = SchemaGenerator::default();
        let unsigned = pattern(DecimalU64::json_schema(&mut generator));
        let signed = pattern(DecimalI64::json_schema(&mut generator));
        let mut texts: Vec<String> =
            ["", "-", "+1", "-0", "00", "01", "-01", "1.0", "1e3", " 1", "1 ", "1\n", "\u{661}", "0x1"]
                .map(str::to_owned)
                .into();
        for power in 0..=70 {
            for offset in -11..=11_i128 {
                texts
                    .extend([(1_i128 << power) + offset, -(1_i128 << power) + offset].map(|number| number.to_string()));
            }
        }
        for power in 0..=21 {
            for offset in -1..=1_i128 {
                texts.push((10_i128.pow(power) + offset).to_string());
                // One digit of the largest, moved up and down.
                for largest in [u64::MAX as i128, i64::MAX as i128] {
                    texts.extend([1, -1].map(|sign| (sign * (largest + offset * 10_i128.pow(power))).to_string()));
                }
            }
        }
        for text in texts {
            assert_eq!(unsigned.is_match(&text), text.parse::<DecimalU64>().is_ok(), "{text}");
            assert_eq!(signed.is_match(&text), text.parse::<DecimalI64>().is_ok(), "{text}");
        }
    }

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
