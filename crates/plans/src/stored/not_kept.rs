//! Why a plan is not kept, or not as was asked.

use alluvium_disk_kv_cache::CacheError;
use datafusion::error::DataFusionError;

use super::chain;
#[cfg(feature = "substrait")]
use crate::substrait::NotCarried;

/// Why a plan is not kept. What is told of it is in the plan bundle, so it has to be the same in each run.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    #[error("the query names credentials, and those are kept nowhere")]
    Credentials,
    #[error("{denial}: what the plan computes cannot be told from its text")]
    Uncanonical { denial: String },
    #[error("the function {name}() is no built-in and declares no version: another one may have its name")]
    Function { name: String },
    #[error("a table that it scans is not there under its name")]
    Tables,
    #[error("the engine's encoding has no form for it: {}", one_line(_0))]
    Encode(#[source] DataFusionError),
    #[error("the engine's encoding cannot be read back: {}", one_line(_0))]
    Decode(#[source] DataFusionError),
    #[cfg(feature = "substrait")]
    #[error("{}", _0.reason())]
    NotCarried(#[from] NotCarried),
    #[error("{form} does not give back the plan that went in")]
    Lossy { form: &'static str },
    #[cfg(feature = "substrait")]
    #[error("{substrait}; {engine}")]
    Neither { substrait: Box<NotKept>, engine: Box<NotKept> },
    #[error("the store of plans could not be written: {}", chain(_0))]
    Store(#[source] CacheError),
}

/// Its root: what is around that tells places in the engine's sources.
fn one_line(error: &DataFusionError) -> String {
    error.find_root().strip_backtrace().lines().next().unwrap_or_default().to_owned()
}
