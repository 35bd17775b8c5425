//! Numbers as they are spelled: one is taken in if it equals the shortest decimal spelling of its double, and refused if
//! that would round it.
//!
//! A parser rounds a number before anybody can look, so what it calls a float is looked up in the text again.

use super::{Fault, Node, cut};
use crate::canonical::SAFE_INTEGER;
use crate::v1::ErrorCode;

/// The numbers of a JSON text in their order, found without parsing it a second time.
pub(super) struct Numbers<'de> {
    rest: &'de [u8],
    passed: usize,
}

impl<'de> Numbers<'de> {
    pub(super) fn of(text: &'de [u8]) -> Self {
        Self { rest: text, passed: 0 }
    }

    /// The spelling of the number with `index`, from 0 on, in a text that a parser took in up to there. Asked for with
    /// rising indexes: what was passed is gone.
    pub(super) fn at(&mut self, index: usize) -> Option<&'de str> {
        while self.passed < index {
            self.next()?;
        }
        self.next()
    }

    fn next(&mut self) -> Option<&'de str> {
        loop {
            let (first, behind) = self.rest.split_first()?;
            match first {
                b'"' => self.rest = behind_text(behind),
                b'-' | b'0'..=b'9' => {
                    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    let end = self.rest.iter().position(|byte| !is_part(byte)).unwrap_or(self.rest.len());
                    let (number, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    self.passed += 1;
                    return str::from_utf8(number).ok();
                }
                _ => self.rest = behind,
            }
        }
    }
}

/// What follows a text, from behind the quote that begins it.
fn behind_text(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        let is_end = rest[at] == b'"';
        // An escape is two bytes here: the digits of `\u` are neither quotes nor backslashes.
        rest = rest.get(at + if is_end { 1 } else { 2 }..).unwrap_or_default();
        if is_end {
            return rest;
        }
    }
    &[]
}

/// The node of a number that is spelled `text`, which a parser made `value` of.
pub(super) fn spelled<'de>(text: &str, value: f64) -> Result<Node<'de>, Fault> {
    let mut buffer = ryu_js::Buffer::new();
    let canonical = buffer.format_finite(value);
    if text != canonical && Decimal::of(text) != Decimal::of(canonical) {
        return Err(rounded(text, canonical));
    }
    Node::float(value)
}

/// The node of a number of which there is only the spelling.
pub(super) fn of_text<'de>(text: &str) -> Result<Node<'de>, Fault> {
    if let Ok(value) = text.parse::<i128>() {
        return integer(value);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => spelled(text, value),
        Ok(_) => Err(out_of_range(text)),
        Err(_) => Err(Fault::new(ErrorCode::Malformed, "a number", cut(text))),
    }
}

/// The node of an integer, or what is wrong with it.
pub(super) fn integer<'de>(value: i128) -> Result<Node<'de>, Fault> {
    match i64::try_from(value) {
        Ok(safe) if (-SAFE_INTEGER..=SAFE_INTEGER).contains(&safe) => Ok(Node::Integer(safe)),
        _ => spelled(&value.to_string(), value as f64),
    }
}

/// A number whose value no double has.
fn rounded(text: &str, canonical: &str) -> Fault {
    let expected = "a number equal to the shortest decimal spelling of its double; a wide integer is a decimal string";
    Fault::new(ErrorCode::BadNumber, expected, format!("{}, which would become {canonical}", cut(text)))
}

/// An integer that is not even tried.
#[cfg(feature = "toml")]
pub(super) fn too_wide(text: &str) -> Fault {
    Fault::new(ErrorCode::BadNumber, "an integer within 2^53-1 of zero, or a decimal string", cut(text))
}

/// A number too large for any double.
pub(super) fn out_of_range(text: &str) -> Fault {
    Fault::new(ErrorCode::BadNumber, "a number within ±1.8e308", cut(text))
}

/// The value of a spelling: the digits, from the first to the last that is not 0, and the power of ten of the last.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let written = format!("{whole}{fraction}");
        let digits = written.trim_end_matches('0');
        // No text is long enough for the sums to matter where an exponent is beyond 64 bits.
        let far = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        let shift = (written.len() - digits.len()) as i64 - fraction.len() as i64;
        let exponent = exponent.parse().unwrap_or(far).saturating_add(shift);
        match digits.trim_start_matches('0') {
            "" => Self { negative: false, digits: String::new(), exponent: 0 },
            digits => Self { negative, digits: digits.to_owned(), exponent },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_between_texts() {
        let text = br#"{"1": [true, -2.5e+3, "3\"4\\", "\\\u0022", false, null, 5], "e6": {"x": 0}}"#;
        let mut numbers = Numbers::of(text);
        assert_eq!([numbers.at(0), numbers.at(2), numbers.at(3)], [Some("-2.5e+3"), Some("0"), None]);
    }

    #[test]
    fn one_value_has_many_spellings() {
        for (one, other) in [
            ("5", "5.0"),
            ("5", "0.05e2"),
            ("500", "5e2"),
            ("1e+21", "1000000000000000000000"),
            ("-1.50", "-15e-1"),
            ("0", "0.000e99999999999999999999"),
            ("0", "0.0e9223372036854775807"),
            ("0", "0.0e-9223372036854775808"),
        ] {
            assert_eq!(Decimal::of(one), Decimal::of(other), "{one} {other}");
        }
        for (one, other) in [("5", "-5"), ("5", "50"), ("0.1", "0.10000000000000001"), ("1e-99999999999999999999", "0")]
        {
            assert_ne!(Decimal::of(one), Decimal::of(other), "{one} {other}");
        }
    }
}
