//! What the crates promise together. One binary, because each links the engine.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod artifacts;
mod boundary;
mod caches;
mod changes;
mod changing;
mod commit_keys;
mod counts;
mod crash;
mod crash_scopes;
mod damage;
mod differential;
mod engine_snapshots;
mod entry_tables;
mod frames;
mod fresh;
mod guide;
mod history;
mod hooks;
mod identity;
mod input;
mod kept;
mod lab;
mod lineage;
mod lost_index;
mod outputs;
mod owners;
mod plan_goldens;
mod profile;
mod providers;
mod replays;
mod retention;
mod scopes;
mod secrets;
mod semantic;
mod shadow;
mod signals;
mod sources;
mod spine;
mod store;
mod stored_plans;
mod substrait;
mod telemetry;
mod tpch;
mod transpile;
