//! The identity of a view: what makes a cache entry valid, and why a key moved.
//!
//! A [`PlanBundle`] is built from a query and the pins of its inputs, without executing anything. Its **plan
//! fingerprint** covers the canonical text of the analyzed plan (this crate's own, by an exhaustive walk), the functions
//! it uses, every setting that may change rows, and the versions of the engine. Its **cache key** adds the pins. Whoever
//! cannot be given a key (a volatile function, a leaf without a pin) is *uncacheable*, with the reason: default deny.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::collections::BTreeMap;
//! use alluvium_contracts::ProfileSpec;
//! use alluvium_plans::plan_view;
//! use alluvium_profile::{RuntimeProfile, SessionFactory};
//!
//! let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build()?;
//! let inputs = BTreeMap::new();
//! let one = plan_view(&session, "a", "select 1 + x as y from (values (1), (2)) as t(x)", &inputs).await?;
//! let two = plan_view(&session, "a", "SELECT 1+other.x AS y /* same */ FROM (VALUES (1), (2)) AS other(x)", &inputs).await?;
//! assert_eq!(one.cache_key(), two.cache_key());
//!
//! let random = plan_view(&session, "a", "select random() as y", &inputs).await?;
//! assert!(random.cache_key().is_none());
//! # Ok(()) }
//! ```
//!
//! # What this crate is not
//! It executes nothing, keeps nothing and pins nothing.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bundle;
mod canonical;
mod engine;
mod explain;
mod functions;
mod published;
mod stability;
mod view_ref;

pub use bundle::{Input, PlanBundle, PlanError, plan_view};
pub use engine::{ROWS_EPOCH, engine_versions};
pub use explain::{explain, one_line};
pub use published::{PublishError, PublishedSchema};
pub use view_ref::ViewRef;
