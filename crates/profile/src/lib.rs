#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod builtins;
mod cache_root;
mod factory;
mod ignored;
mod kv_kind;
mod machine;
mod now;
mod query_error;
mod root_error;
mod root_file;
mod root_path;
mod runtime_profile;
mod session;
mod settings;
mod statement;

pub use builtins::Builtins;
pub use cache_root::CacheRoot;
pub use factory::{SessionError, SessionFactory};
pub use kv_kind::KvKind;
pub use query_error::{Position, QueryError};
pub use root_error::{RootError, RootOrigin};
pub use root_path::{real_path, resolve_cache_root};
pub use runtime_profile::RuntimeProfile;
pub use session::{PlannedQuery, Session};
pub use settings::NEUTRAL_SETTINGS;
