//! Decoding bytes that nobody vouches for: bounded, strict, and never a panic.
//!
//! Bytes become a [`Node`] first, by a reader for each encoding, under [`Limits`] and with every key of every object
//! told apart; from there one deserializer serves both encodings, so a payload decodes from either into equal values,
//! and a mistake is reported with its place ([`ErrorReport`]).
//!
//! Numbers, typed or not, follow one rule: **a number is taken in if it equals the shortest decimal spelling of its
//! double**, that is of the double nearest to it, and refused otherwise. That spelling is its canonical form (RFC 8785). So
//! `5`, `5.0` and `0.5e1` are the integer 5, in MessagePack a float too; `0.1` is the double that is spelled so; and
//! `9007199254740993`, `18446744073709551617`, `0.10000000000000001` and `1e-400` are refused with their place, in JSON and
//! in TOML, in decimal or hexadecimal. Two documents with one identity therefore say the same numbers.
//!
//! A byte order mark is refused before JSON, which knows none (RFC 8259, 8.1), and ignored before TOML, as TOML says.

mod json;
mod messagepack;
mod node;
mod number;
#[cfg(feature = "toml")]
mod toml;
mod typed;

use serde::de::DeserializeOwned;

use crate::canonical::{MAX_DEPTH, Step, pointer, split_shown};
use crate::v1::{ErrorCode, ErrorReport};

#[cfg(feature = "toml")]
pub(crate) use self::toml::Toml;
#[cfg(feature = "toml")]
pub use self::toml::decode_toml;
pub(crate) use node::Node;

/// How a document is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON text in UTF-8.
    Json,
    /// MessagePack.
    MessagePack,
}

impl Encoding {
    /// The encoding of a document that is an object or a list, by its first byte: none begins one in both. JSON is ASCII
    /// there, unless a byte order mark stands before it, which is refused as such.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xef, 0xbb, 0xbf, ..] | [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => Self::Json,
            [0x80..=0xff, ..] => Self::MessagePack,
            _ => Self::Json,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::MessagePack => "MessagePack",
        }
    }
}

impl std::fmt::Display for Encoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How much a decoder takes in before it refuses. Nesting is bounded at 64 levels whatever the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The length of a document in bytes. Default: 16 MiB.
    pub max_bytes: usize,
    /// The values in it, keys not counted; each takes up to about 150 bytes while it is decoded. Default: 1,000,000.
    pub max_values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 16 << 20, max_values: 1_000_000 }
    }
}

impl Limits {
    /// Takes documents of up to `max_bytes` bytes.
    #[must_use]
    pub const fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Takes documents of up to `max_values` values.
    #[must_use]
    pub const fn with_max_values(mut self, max_values: usize) -> Self {
        self.max_values = max_values;
        self
    }
}

/// Decodes a bare payload from JSON, under the default [`Limits`].
///
/// # Errors
/// [`ErrorReport`] with the place, what was expected there, and what was found.
pub fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorReport> {
    decode(bytes, Encoding::Json, Limits::default())
}

/// Decodes a bare payload from MessagePack, under the default [`Limits`]; the forms need not be the shortest.
///
/// # Errors
/// [`ErrorReport`] with the place, what was expected there, and what was found.
pub fn decode_messagepack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorReport> {
    decode(bytes, Encoding::MessagePack, Limits::default())
}

/// Decodes a bare payload under the given limits.
///
/// A number, in a field of any type or of none, is taken in if it equals the shortest decimal spelling of its double, and
/// refused otherwise; integers that may be wider than 2⁵³−1 are decimal strings.
///
/// ```
/// use alluvium_contracts::decode_json;
///
/// for five in ["5", "5.0", "0.5e1"] {
///     assert_eq!(decode_json::<u8>(five.as_bytes()).unwrap(), 5);
/// }
/// let report = decode_json::<Vec<f64>>(b"[0.1, 0.10000000000000001]").unwrap_err();
/// assert_eq!(report.pointer, "/1");
/// ```
///
/// # Errors
/// [`ErrorReport`] with the place, what was expected there, and what was found.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], encoding: Encoding, limits: Limits) -> Result<T, ErrorReport> {
    read(bytes, encoding, limits).and_then(|node| typed(node, &[]))
}

/// Reads the whole of `bytes` as one document.
pub(crate) fn read(bytes: &[u8], encoding: Encoding, limits: Limits) -> Result<Node<'_>, ErrorReport> {
    small_enough(bytes, limits.max_bytes)
        .and_then(|()| match encoding {
            Encoding::Json => json::read(bytes, limits),
            Encoding::MessagePack => messagepack::read(bytes, limits),
        })
        .map_err(Fault::report)
}

/// Refuses a document before anything of it is read.
fn small_enough(bytes: &[u8], max_bytes: usize) -> Result<(), Fault> {
    if bytes.len() <= max_bytes {
        return Ok(());
    }
    Err(Fault::new(ErrorCode::TooLarge, format!("at most {max_bytes} bytes"), format!("{} bytes", bytes.len())))
}

/// Decodes a node that lies at `at` (outermost first) in its document.
pub(crate) fn typed<T: DeserializeOwned>(node: Node<'_>, at: &[&'static str]) -> Result<T, ErrorReport> {
    T::deserialize(node).map_err(|mut fault: Fault| {
        fault.0.steps.extend(at.iter().rev().map(|key| Step::Key((*key).into())));
        fault.report()
    })
}

/// A mistake on its way out. Behind a pointer, because every value that is decoded comes out of a `Result` with it.
#[derive(Debug)]
pub(crate) struct Fault(Box<Mistake>);

#[derive(Debug)]
struct Mistake {
    code: ErrorCode,
    expected: String,
    found: String,
    /// Where it came from, innermost first.
    steps: Vec<Step>,
    /// Line and column, where the reader knows them.
    position: Option<(usize, usize)>,
}

impl Fault {
    fn new(code: ErrorCode, expected: impl Into<String>, found: impl Into<String>) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self(Box::new(Mistake { code, expected, found, steps: Vec::new(), position: None }))
    }

    fn too_deep() -> Self {
        Self::new(ErrorCode::TooDeep, format!("at most {MAX_DEPTH} levels"), "deeper nesting")
    }

    fn too_many(limits: Limits) -> Self {
        Self::new(ErrorCode::TooLarge, format!("at most {} values", limits.max_values), "more values")
    }

    fn under(mut self, step: Step) -> Self {
        self.0.steps.push(step);
        self
    }

    fn at(mut self, line: usize, column: usize) -> Self {
        self.0.position = Some((line, column));
        self
    }

    pub(crate) fn report(self) -> ErrorReport {
        let Mistake { code, expected, found, steps, position } = *self.0;
        let report = ErrorReport::new(code, pointer(&steps), expected, found);
        match position {
            Some(position) => report.at(position),
            None => report,
        }
    }
}

/// `text` in quotes, cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    match split_shown(text) {
        (whole, "") => format!("{whole:?}"),
        (shown, _) => format!("{shown:?}… ({} bytes)", text.len()),
    }
}

/// A number or a name as it is spelled, cut where it is long.
pub(crate) fn cut(text: &str) -> String {
    match split_shown(text) {
        (whole, "") => whole.to_owned(),
        (shown, _) => format!("{shown}… ({} bytes)", text.len()),
    }
}

#[cfg(test)]
mod tests;
