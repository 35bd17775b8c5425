#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod builtins;
mod cache_root;
mod chain;
mod engine_caches;
mod engine_tasks;
mod explained;
mod extension;
mod factory;
mod function_catalog;
mod function_versions;
mod ignored;
mod kv_cache;
mod kv_clock;
mod kv_keys;
mod kv_kind;
mod kv_settings;
mod kv_stats;
mod machine;
mod now;
mod planner;
mod prepared;
mod profile_builder;
mod profile_error;
mod profile_keys;
mod query;
mod query_error;
mod query_spans;
mod root_error;
mod root_file;
mod root_path;
mod runtime_profile;
mod semantic_unions;
mod session;
mod session_prepared;
mod settings;
mod statement;
#[cfg(feature = "substrait")]
mod substrait;

pub use builtins::Builtins;
pub use cache_root::CacheRoot;
pub use extension::{ExternalTableFactory, SessionExtension, SessionParts, Slot};
pub use factory::{SessionError, SessionFactory};
pub use function_versions::FunctionVersions;
pub use kv_cache::KvCache;
pub use kv_keys::{KvKey, KvTag};
pub use kv_kind::KvKind;
pub use kv_settings::{KvKindSettings, KvSettings};
pub use prepared::PreparedStatement;
pub use profile_builder::{ProfileBuilder, RESERVED_SCHEMAS, SettingOrigin};
pub use profile_error::ProfileError;
pub use query::Query;
pub use query_error::{Position, QueryError};
pub use root_error::{RootError, RootOrigin};
pub use root_path::{real_path, resolve_cache_root};
pub use runtime_profile::RuntimeProfile;
pub use session::{PlannedQuery, Session};
pub use settings::{NEUTRAL_PROFILE_SETTINGS, NEUTRAL_SETTINGS};
#[cfg(feature = "substrait")]
pub use substrait::SubstraitError;
