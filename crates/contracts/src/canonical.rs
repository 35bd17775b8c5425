//! Canonical JSON (RFC 8785) and canonical MessagePack: one value, one sequence of bytes in each.
//!
//! Both encode the same data model, that of JSON, so a value has one identity whatever language it was built in, and a
//! document can be turned from either form into the other without its type. The rules:
//!
//! - An object's keys are sorted: by UTF-16 code units in JSON (RFC 8785), by bytes of UTF-8 in MessagePack.
//! - A number is a double. One whose value is an integer within ±(2⁵³−1) is an integer whatever its Rust type, so `5`
//!   and `5.0` are one number and encode alike; every other number is a 64-bit float. What is read follows the same
//!   rule: see [`decode`](crate::decode()).
//! - Integers beyond that range are refused, because doubles would round them: a field that may need them is a
//!   [`DecimalU64`](crate::DecimalU64) or [`DecimalI64`](crate::DecimalI64), which are text.
//! - NaN, the infinities and −0.0 are refused, as are byte strings and keys that are no text.
//! - MessagePack is in its shortest forms.
//!
//! The encoder is our own because `serde_json_canonicalizer` rounds wide integers in silence, which would give two
//! values one identity, names no place in its errors, and costs several times plain JSON; the tests hold our JSON
//! against it.

mod encoder;
mod json;
mod messagepack;

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

pub(crate) use encoder::{MAX_DEPTH, SAFE_INTEGER, safe_integer};

/// Why a value has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoCanonicalForm {
    /// NaN or an infinity.
    NotFinite,
    /// −0.0, which equals 0 and would have a second form.
    NegativeZero,
    /// An integer that a double would round; the decimal digits.
    WideInteger(String),
    /// A byte string, which JSON does not have.
    Bytes,
    /// A key that is no text.
    KeyNotText,
    /// A key that an object holds twice.
    DuplicateKey(String),
    /// Deeper nesting than any reader accepts.
    TooDeep,
    /// The value's own `Serialize` failed, with this message.
    Custom(String),
}

impl fmt::Display for NoCanonicalForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite => f.write_str("JSON has no NaN and no infinity; leave the field out instead"),
            Self::NegativeZero => f.write_str("-0.0 equals 0 and is written as 0; add 0.0 to it"),
            Self::WideInteger(digits) => {
                write!(f, "{digits} is beyond 2^53-1, where doubles lose integers; write it as a decimal string")
            }
            Self::Bytes => f.write_str("JSON has no byte strings; write text or a list"),
            Self::KeyNotText => f.write_str("a key has to be text"),
            Self::DuplicateKey(key) => write!(f, "the key `{key}` is there twice; name it once"),
            Self::TooDeep => write!(f, "it is nested deeper than {MAX_DEPTH} levels; flatten it"),
            Self::Custom(message) => f.write_str(message),
        }
    }
}

/// The value has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value at `{pointer}` has no canonical form: {problem}")]
#[non_exhaustive]
pub struct CanonicalError {
    /// Where, as a JSON pointer (RFC 6901); empty for the whole value. A key is cut after 80 characters, with `…`.
    pub pointer: String,
    /// Why.
    pub problem: NoCanonicalForm,
}

/// Encodes `value` as canonical JSON by RFC 8785: sorted keys, shortest numbers, no white space.
///
/// # Errors
/// [`CanonicalError`] names the place of what has no canonical form; the rules are those of
/// [`canonical_messagepack`] too.
pub fn canonical_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    encoder::encode::<json::Json, T>(value)
}

/// Encodes `value` as canonical MessagePack: sorted keys, shortest forms, and nothing that JSON does not have.
///
/// # Errors
/// [`CanonicalError`] names the place of what has no canonical form: NaN, an infinity, −0.0, an integer beyond
/// ±(2⁵³−1), a byte string, a key that is no text or is there twice, or nesting beyond 64 levels.
pub fn canonical_messagepack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    encoder::encode::<messagepack::MessagePack, T>(value)
}

/// One step of a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into an object.
    Key(Cow<'static, str>),
    /// Into a list.
    Index(usize),
}

/// A JSON pointer from steps that were collected on the way out, innermost first. A key is cut where it is long, so that
/// what is reported of a hostile document stays small.
pub(crate) fn pointer(inside_out: &[Step]) -> String {
    let mut pointer = String::new();
    for step in inside_out.iter().rev() {
        pointer.push('/');
        match step {
            Step::Key(key) => {
                let (shown, rest) = split_shown(key);
                // A terminal may act on what a document was given for a key.
                for character in shown.chars() {
                    match character {
                        '~' => pointer.push_str("~0"),
                        '/' => pointer.push_str("~1"),
                        unseen if unseen.escape_debug().count() > 2 => pointer.extend(unseen.escape_default()),
                        control if control.is_control() => pointer.extend(control.escape_default()),
                        shown => pointer.push(shown),
                    }
                }
                pointer.push_str(if rest.is_empty() { "" } else { "…" });
            }
            Step::Index(index) => pointer.push_str(&index.to_string()),
        }
    }
    pointer
}

/// How many characters of a document are shown in what is said of it.
const SHOWN: usize = 80;

/// What is shown of `text`, and the rest.
pub(crate) fn split_shown(text: &str) -> (&str, &str) {
    text.split_at(text.char_indices().nth(SHOWN).map_or(text.len(), |(end, _)| end))
}

#[cfg(test)]
mod tests;
