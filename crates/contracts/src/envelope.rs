//! `{kind, version, payload}`: how a payload says what it is.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A payload with a kind and a version.
pub trait Contract: Serialize + DeserializeOwned + JsonSchema {
    /// The kind, in snake_case; never reused for another meaning.
    const KIND: &'static str;
    /// The version of the payload's shape, from 1.
    const VERSION: u32;
}

/// A payload and its name tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope<T> {
    /// What the payload is: see the registry of contracts.
    pub kind: String,
    /// The version of its shape, from 1.
    pub version: u32,
    /// The payload itself.
    pub payload: T,
}

/// The bytes are not an envelope of the expected contract.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not JSON, or not the shape of the contract.
    #[error("the document is not a valid `{kind}`")]
    Malformed {
        /// The kind that was expected.
        kind: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A well-formed envelope of something else.
    #[error("expected a `{expected}` of version {expected_version}, found a `{found}` of version {found_version}")]
    OtherContract {
        /// The kind that was expected.
        expected: &'static str,
        /// The version that was expected.
        expected_version: u32,
        /// The kind that was found.
        found: String,
        /// The version that was found.
        found_version: u32,
    },
}

impl<T: Contract> Envelope<T> {
    /// Wraps `payload` with its contract's kind and version.
    #[must_use]
    pub fn new(payload: T) -> Self {
        Self { kind: T::KIND.to_owned(), version: T::VERSION, payload }
    }

    /// Decodes an envelope and checks its name tag before its payload.
    ///
    /// # Errors
    /// [`EnvelopeError::OtherContract`] when kind or version differ, [`EnvelopeError::Malformed`] for everything else.
    pub fn from_json(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let malformed = |source| EnvelopeError::Malformed { kind: T::KIND, source };
        let raw: Envelope<serde_json::Value> = serde_json::from_slice(bytes).map_err(malformed)?;
        if raw.kind != T::KIND || raw.version != T::VERSION {
            return Err(EnvelopeError::OtherContract {
                expected: T::KIND,
                expected_version: T::VERSION,
                found: raw.kind,
                found_version: raw.version,
            });
        }
        Ok(Self::new(serde_json::from_value(raw.payload).map_err(malformed)?))
    }
}
