//! Pipelines: a folder of SQL views with an `alluvium.toml`, loaded, planned, run and queried.
//!
//! [`Project::load`] reads and checks the file; [`Pipeline::open`] assembles session, caches and ledgers;
//! [`Pipeline::plan`] says what a run would do and why; [`Pipeline::run`] does it; [`Pipeline::sql`] asks.
//!
//! # What this crate is not
//! It parses no arguments and prints nothing: the command line is a thin layer over it.
//!
//! # Invariants
//! - Every decision (hit or miss) is taken from identities alone, before anything is computed.
//! - Nothing is published whose sources changed while it was computed: it is recomputed once, then it fails.
//! - What fails takes its descendants with it, and nothing that was published before.

#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod aside;
mod bundles;
mod caches;
mod decide;
mod diagnostics;
mod doctor;
mod documents;
mod entries;
mod error;
mod execute;
mod graph;
mod history;
mod holdings;
mod hooks;
mod killed;
mod lineage;
mod locate;
mod maintenance;
mod manifest;
mod pipeline;
mod progress;
mod project;
mod project_dir;
mod project_error;
mod query;
mod report;
mod run;
mod scaffold;
mod semantics;
mod shadow;
mod sinks;
mod sources;
mod unstable;
mod work;

pub use alluvium_delta_cache::{CacheError, DeltaCache, GcRequest, Selection};
pub use alluvium_plans::{PlanStoreCounters, open_lineage_facet};
pub use caches::{Caches, Opened};
pub use doctor::doctor;
pub use error::RunError;
pub use history::{KeptRun, RunName};
pub use hooks::{Hook, HookError, OutputStep, RunStep, ViewStep};
pub use pipeline::{OpenError, OpenOptions, Pipeline};
pub use progress::{Observer, Progress, Silent};
pub use project::{PROJECT_FILE, Project};
pub use project_error::ProjectError;
pub use query::QueryAnswer;
pub use run::RunOptions;
pub use scaffold::{ScaffoldError, scaffold};
pub use sinks::SinkError;
