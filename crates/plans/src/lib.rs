//! The identity of a view: what makes a cache entry valid, and why a key moved.
//!
//! A [`PlanBundle`] is built from a query and the pins of its inputs, without executing anything. Its **plan
//! fingerprint** covers the canonical text of the analyzed plan (this crate's own, by an exhaustive walk), the functions
//! it uses, every setting that may change rows, and the versions of the engine. Its **cache key** adds the pins. Whoever
//! cannot be given a key (a volatile function, a leaf without a pin) is *uncacheable*, with the reason: default deny.
//!
//! A [`PlanStore`] keeps plans, so that the same query over tables of the same columns need not be planned again.
//!
//! # What this crate is not
//! It executes nothing, pins nothing and keeps no rows.

#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bundle;
mod canonical;
mod engine;
mod explain;
mod functions;
mod lineage;
mod outline;
mod published;
mod stability;
mod stored;
#[cfg(feature = "substrait")]
mod substrait;
mod tables;
mod transpile;
mod view_ref;

pub use bundle::{Input, PlanBundle, PlanError, plan_view};
pub use engine::{ROWS_EPOCH, engine_versions};
pub use explain::{Earlier, changes, explain, one_line};
pub use lineage::{lineage, lineage_of_columns, open_lineage_facet};
pub use outline::Outline;
pub use published::{PublishError, PublishedSchema};
pub use stored::{PlanStore, PlanStoreCounters, PlanStoreError, SessionPlans};
#[cfg(feature = "substrait")]
pub use substrait::{NotCarried, SubstraitPlan};
pub use transpile::transpile;
pub use view_ref::ViewRef;
