#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod argument;
mod catalog;
mod id;
mod semantic_type;
mod span;
mod udf;
mod validation;
mod version;

pub use catalog::{
    FunctionCatalog, FunctionEntry, FunctionExample, FunctionKind, FunctionTier, Resolution, ResolveError,
};
pub use id::{Part, prefixed_hash64, prefixed_hash128, stable_id};
pub use semantic_type::{EdgeId, NodeId, SemanticType, SemanticTypeError, SpanId};
pub use span::{Span, SpanError};
pub use udf::functions;
pub use validation::{column_spec, validate};
pub use version::{Function, FunctionVersion, VersionedFunction};
