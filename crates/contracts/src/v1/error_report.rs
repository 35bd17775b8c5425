//! What is wrong with a document: the answer to hostile, broken or mistaken bytes.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};
use crate::words::words;

words!(
    /// The kind of a mistake in a document.
    ErrorCode {
        /// The bytes are no document of their encoding.
        Malformed => "malformed",
        /// The bytes end before the document does.
        Truncated => "truncated",
        /// The document is longer, or holds more values, than is read.
        TooLarge => "too_large",
        /// The document is nested deeper than is read.
        TooDeep => "too_deep",
        /// An object holds a key twice.
        DuplicateKey => "duplicate_key",
        /// A number that has no canonical form, NaN, an infinity or −0.0, or whose value its canonical form would round.
        BadNumber => "bad_number",
        /// A value of another type.
        WrongType => "wrong_type",
        /// A value of the right type that is not valid here.
        BadValue => "bad_value",
        /// A required field is not there.
        MissingField => "missing_field",
        /// A field that the contract does not have, where unknown fields are refused.
        UnknownField => "unknown_field",
        /// A word that a closed enum does not have.
        UnknownVariant => "unknown_variant",
        /// No contract of this kind and version is known.
        UnknownContract => "unknown_contract",
    }
);

/// What is wrong with a document, and where.
///
/// A report is small whatever the document: each of its texts is cut after 2,048 characters, a key in the pointer and what
/// is quoted of the document after 80; `…` stands where something was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("at {}: expected {expected}, found {found}", place(pointer, *line, *column))]
pub struct ErrorReport {
    /// The kind of mistake.
    pub code: ErrorCode,
    /// Where: a JSON pointer (RFC 6901), empty for the whole document and where a text is no document at all.
    pub pointer: String,
    /// The line, from 1, where it is known: of TOML, and of text that is no JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in that line, in characters from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What was expected there.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// The kind of the contract that the document should be, where it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
}

/// The place in words.
fn place(pointer: &str, line: Option<u32>, column: Option<u32>) -> String {
    let mut words = match (pointer, line) {
        ("", Some(_)) => String::new(),
        ("", None) => "the top".to_owned(),
        (pointer, _) => pointer.to_owned(),
    };
    if let Some(line) = line {
        let column = column.map(|column| format!(", column {column}")).unwrap_or_default();
        let line = format!("line {line}{column}");
        // Writing to a string cannot fail.
        let _ = if words.is_empty() { words.write_str(&line) } else { write!(words, " ({line})") };
    }
    words
}

/// The longest text of a report, in characters.
const LONGEST: usize = 2_048;

impl ErrorReport {
    pub(crate) fn new(
        code: ErrorCode,
        pointer: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let [pointer, expected, found] = [pointer.into(), expected.into(), found.into()].map(shortened);
        Self { code, pointer, line: None, column: None, expected, found, contract: None }
    }

    /// The same, at a line and a column of its text, both from 1.
    pub(crate) fn at(self, (line, column): (usize, usize)) -> Self {
        let [line, column] = [line, column].map(|number| u32::try_from(number).ok());
        Self { line, column, ..self }
    }

    pub(crate) fn about(mut self, contract: &str) -> Self {
        self.contract = Some(contract.to_owned());
        self
    }
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Contract for ErrorReport {
    const KIND: &'static str = "error_report";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what is wrong with a document, and where";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self::new(
            ErrorCode::WrongType,
            "/outputs/daily/write/stats_max_columns",
            "an integer from 0 to 4294967295",
            "the text \"thirty\"",
        )
        .at((21, 21))
        .about("pipeline_spec")
    }
}
