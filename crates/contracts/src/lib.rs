//! The contracts of Alluvium: everything that it writes for others to read.
//!
//! Ledger rows, commit metadata, the pipeline file and the documents of the command line are plain serde types here,
//! one module a family, each with a JSON Schema. A downstream team can depend on this crate alone: it does no I/O and
//! knows no engine (no arrow, DataFusion, Delta or OpenTelemetry).
//!
//! ```
//! use alluvium_contracts::{CacheKey, Envelope, PlanDocument};
//!
//! let key = CacheKey::of(b"identity text");
//! assert!(key.to_string().starts_with("b3:"));
//! assert_eq!(key.to_string().parse::<CacheKey>().unwrap(), key);
//!
//! let document = Envelope::new(PlanDocument { views: vec![], outputs: vec![] });
//! assert_eq!(serde_json::to_value(&document).unwrap()["kind"], "plan_document");
//! ```
//!
//! # What this crate is not
//! It holds no behaviour of the caches: no key is computed here, only carried. It never reads a file.
//!
//! # Compatibility
//! A payload carries its kind and version in an [`Envelope`]. Types that a person writes ([`PipelineSpec`] and below)
//! refuse unknown fields; types that a machine writes tolerate them, so that an older reader can meet a newer writer.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cache;
mod canonical;
mod commit;
mod digest;
mod documents;
mod envelope;
mod events;
mod field;
mod ids;
mod pipeline;
mod registry;
mod write;

pub use cache::{CacheOperation, CacheOutcome, CachePolicy, CacheScope, LookupResult, ViewResult};
pub use canonical::{CanonicalError, canonical_json};
pub use commit::{CacheCommitMetadata, CommitMetadataError, DeltaInput};
pub use digest::{
    ArtifactId, CacheKey, ContentDigest, DigestParseError, LayoutHash, PinDigest, PlanFingerprint, SchemaHash,
};
pub use documents::{
    ComponentChange, Identity, MissExplanation, OutputReport, OutputResult, PlanDocument, PlannedOutput, PlannedView,
    RunDocument, RunResult, Stability, ViewReport,
};
pub use envelope::{Contract, Envelope, EnvelopeError};
pub use events::{CacheInventoryEntry, CacheRunSummary, LedgerEvent};
pub use field::FieldSpec;
pub use ids::{EntryId, IdParseError, RootId, RunId, StoreId};
pub use pipeline::{
    ForeignCommit, NameError, OutputSpec, PipelineSpec, Preset, ProfileSpec, SourceFormat, SourcePath, SourceSpec,
    ViewSpec, validate_name,
};
pub use registry::{ContractEntry, contracts};
pub use write::{Compression, DeltaWritePolicy};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
