//! The contracts of Alluvium: everything that it writes for others to read.
//!
//! Ledger rows, commit metadata, artifacts, diagnostics events, the pipeline file, the documents of the command line and
//! the reports of errors are plain serde types here, one module a family, each with a JSON Schema. A downstream team can
//! depend on this crate alone: it does no I/O and knows no engine (no arrow, DataFusion, Delta or OpenTelemetry).
//!
//! ```
//! use alluvium_contracts::{Contract, Envelope, MissExplanation};
//!
//! let artifact = Envelope::new(MissExplanation::example());
//! let id = artifact.artifact_id().unwrap();
//! assert!(id.to_string().starts_with("sha256:"));
//!
//! // Both encodings say the same.
//! let json = artifact.to_canonical_json().unwrap();
//! let packed = artifact.to_canonical_messagepack().unwrap();
//! assert_eq!(Envelope::from_json(&json).unwrap(), artifact);
//! assert_eq!(Envelope::from_messagepack(&packed).unwrap(), artifact);
//!
//! // What is wrong with a document is said with its place.
//! let broken = String::from_utf8(json).unwrap().replace("changes", "chances");
//! let report = alluvium_contracts::validate(broken.as_bytes(), None).unwrap_err();
//! assert_eq!(report.pointer, "/payload");
//! assert_eq!(report.expected, "the field `changes`");
//! ```
//!
//! Two identities cannot be mixed up:
//!
//! ```compile_fail,E0308
//! use alluvium_contracts::{CacheKey, PlanFingerprint};
//!
//! let key: CacheKey = PlanFingerprint::of(b"the same 32 bytes");
//! ```
//!
//! # What this crate is not
//! It holds no behaviour of the caches: no key is computed here, only carried. It never reads a file.
//!
//! # Features
//! - `toml` (off): `decode_toml` and `validate_toml`, for what people write.
//!
//! # Compatibility
//! A type's module is its version ([`v1`]); the crate's root re-exports the latest of each ([`latest`]). Types that a
//! person writes refuse unknown fields; types that a program writes ignore them, so that an older reader can meet a
//! newer writer. Each states which ([`Contract::UNKNOWN_FIELDS`]), and [`breaking_changes`] says what may not change.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bounds;
mod canonical;
mod compatibility;
mod decimal;
mod decode;
mod digest;
mod envelope;
mod ids;
pub mod latest;
mod rate;
mod registry;
mod schema;
pub mod v1;
mod words;

pub use canonical::{CanonicalError, NoCanonicalForm, canonical_json, canonical_messagepack};
pub use compatibility::{BreakingChange, BreakingRule, breaking_changes};
pub use decimal::{DecimalI64, DecimalParseError, DecimalU64};
#[cfg(feature = "toml")]
pub use decode::decode_toml;
pub use decode::{Encoding, Limits, decode, decode_json, decode_messagepack};
pub use digest::{
    ArtifactId, CacheKey, ContentDigest, DigestParseError, FunctionHash, LayoutHash, PinDigest, PlanFingerprint,
    PlanSignature, ProfileHash, RowsDigest, SchemaHash, SqlPolicyHash, SubstraitHash,
};
pub use envelope::{Contract, Envelope, EnvelopeError, Form, UnknownFields};
pub use ids::{CommitId, EntryId, IdParseError, RootId, RunId, StoreId};
// `latest` is itself an explicit list.
pub use latest::*;
pub use rate::FalsePositiveRate;
#[cfg(feature = "toml")]
pub use registry::validate_toml;
pub use registry::{ContractEntry, INDEX, TranscodeError, Validated, Written, contract, contracts, export, validate};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
