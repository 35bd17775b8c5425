//! What is wrong with a document: the answer to hostile, broken or mistaken bytes.

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

/// What is wrong with a document, and where. What is found is quoted at most 80 characters long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("at {place}: expected {expected}, found {found}", place = if .pointer.is_empty() { "the top" } else { .pointer })]
pub struct ErrorReport {
    /// The kind of mistake.
    pub code: ErrorCode,
    /// Where: a JSON pointer (RFC 6901), empty for the whole document.
    pub pointer: String,
    /// What was expected there.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// The kind of the contract that the document should be, where it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
}

impl ErrorReport {
    pub(crate) fn new(
        code: ErrorCode,
        pointer: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { code, pointer: pointer.into(), expected: expected.into(), found: found.into(), contract: None }
    }

    pub(crate) fn about(mut self, contract: &str) -> Self {
        self.contract = Some(contract.to_owned());
        self
    }
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
        .about("pipeline_spec")
    }
}
