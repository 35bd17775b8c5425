//! `{kind, version, payload}`: how a payload says what it is, and the traits of whatever travels in it.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::canonical::{CanonicalError, canonical_json, canonical_messagepack};
use crate::decode::{Encoding, Limits, Node, cut, read, typed};
use crate::digest::ArtifactId;
use crate::v1::{ErrorCode, ErrorReport};

/// A payload with a kind and a version.
pub trait Contract: Serialize + DeserializeOwned + JsonSchema {
    /// The kind, in snake_case; never reused for another meaning.
    const KIND: &'static str;
    /// The version of the payload's shape, from 1.
    const VERSION: u32;
    /// What it is, in one line.
    const DOC: &'static str;
    /// What is written: the payload alone, or in its envelope.
    const FORM: Form;
    /// What a reader does with a field that it does not know, anywhere in the payload.
    const UNKNOWN_FIELDS: UnknownFields;

    /// A payload that a reader might meet, with every field filled that can be.
    fn example() -> Self;
}

/// What is written of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The payload alone: the place where it lies says what it is (a file's name, a table, a commit).
    Bare,
    /// The payload in its [`Envelope`].
    Enveloped,
}

/// What a reader does with a field that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// It refuses the payload: a person wrote it, and may have misspelt the field.
    Refused,
    /// It ignores the field: a newer program may have written it.
    Ignored,
}

/// A payload and its name tag. Unknown fields beside the three are ignored.
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
    /// Not a document, or not the shape of the contract.
    #[error("the document is not a valid `{kind}`")]
    Malformed {
        /// The kind that was expected.
        kind: &'static str,
        /// Where and why.
        #[source]
        source: ErrorReport,
    },
    /// A well-formed envelope of something else.
    #[error("expected a `{expected}` of version {expected_version}, found a `{found}` of version {found_version}")]
    OtherContract {
        /// The kind that was expected.
        expected: &'static str,
        /// The version that was expected.
        expected_version: u32,
        /// The kind that was found, cut after 80 characters.
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

    /// Decodes an envelope from JSON and checks its name tag before its payload.
    ///
    /// # Errors
    /// [`EnvelopeError::OtherContract`] when kind or version differ, [`EnvelopeError::Malformed`] for everything else.
    pub fn from_json(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        Self::decode(bytes, Encoding::Json, Limits::default())
    }

    /// Decodes an envelope from MessagePack and checks its name tag before its payload.
    ///
    /// # Errors
    /// [`EnvelopeError::OtherContract`] when kind or version differ, [`EnvelopeError::Malformed`] for everything else.
    pub fn from_messagepack(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        Self::decode(bytes, Encoding::MessagePack, Limits::default())
    }

    /// Decodes an envelope under the given limits and checks its name tag before its payload.
    ///
    /// # Errors
    /// [`EnvelopeError::OtherContract`] when kind or version differ, [`EnvelopeError::Malformed`] for everything else.
    pub fn decode(bytes: &[u8], encoding: Encoding, limits: Limits) -> Result<Self, EnvelopeError> {
        let malformed = |source: ErrorReport| EnvelopeError::Malformed { kind: T::KIND, source: source.about(T::KIND) };
        let raw = read(bytes, encoding, limits).and_then(Tagged::of).map_err(malformed)?;
        if raw.kind != T::KIND || raw.version != T::VERSION {
            return Err(EnvelopeError::OtherContract {
                expected: T::KIND,
                expected_version: T::VERSION,
                found: cut(&raw.kind).escape_debug().to_string(),
                found_version: raw.version,
            });
        }
        let payload = typed(raw.payload, &["payload"]).map_err(malformed)?;
        Ok(Self { kind: raw.kind, version: raw.version, payload })
    }
}

impl<T: Serialize> Envelope<T> {
    /// The envelope as canonical JSON.
    ///
    /// # Errors
    /// [`CanonicalError`] names the place of what has no canonical form.
    pub fn to_canonical_json(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical_json(self)
    }

    /// The envelope as canonical MessagePack.
    ///
    /// # Errors
    /// [`CanonicalError`] names the place of what has no canonical form.
    pub fn to_canonical_messagepack(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical_messagepack(self)
    }

    /// The identity of the enveloped payload: SHA-256 of its canonical MessagePack.
    ///
    /// Bytes that were stored are checked as they are ([`ArtifactId::of`] of them): a reader that ignores a newer
    /// writer's field and encodes again has another identity.
    ///
    /// # Errors
    /// [`CanonicalError`] names the place of what has no canonical form.
    pub fn artifact_id(&self) -> Result<ArtifactId, CanonicalError> {
        self.to_canonical_messagepack().map(|bytes| ArtifactId::of(&bytes))
    }
}

/// An envelope whose payload is still a node.
pub(crate) struct Tagged<'de> {
    pub(crate) kind: String,
    pub(crate) version: u32,
    pub(crate) payload: Node<'de>,
}

impl<'de> Tagged<'de> {
    pub(crate) fn of(mut node: Node<'de>) -> Result<Self, ErrorReport> {
        const SHAPE: &str = "an envelope: an object with `kind`, `version` and `payload`";
        if !matches!(node, Node::Object(_)) {
            return Err(ErrorReport::new(ErrorCode::WrongType, "", SHAPE, node.describe()));
        }
        let mut take = |key: &'static str| {
            node.take(key).ok_or_else(|| {
                ErrorReport::new(ErrorCode::MissingField, "", SHAPE, format!("an object without `{key}`"))
            })
        };
        let (kind, version, payload) = (take("kind")?, take("version")?, take("payload")?);
        Ok(Self { kind: typed(kind, &["kind"])?, version: typed(version, &["version"])?, payload })
    }
}
