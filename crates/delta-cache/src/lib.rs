//! Exact, durable caches: the rows of a view, a dataset or an artifact as a Delta table under a key that says what they are.
//!
//! [`DeltaCache::lookup`] answers from an index and the stat of a few files: no log replay, no ledger scan, no source
//! data. [`DeltaCache::write`] computes a view once, however many processes ask, and publishes it in one transaction; a
//! process killed anywhere leaves the old state or the new one. [`DeltaCache::publish`] does the same for an output,
//! which is a Delta table that others read. Entries are listed, verified, evicted, collected under a byte budget, found
//! again when the index is lost, and exported ([`DeltaCache::list`] and its neighbours); none is deleted under a reader.
//! [`DeltaCache::dataset`] reads the files of an input once a pin, and [`DeltaCache::artifact`] keeps what a caller computed.
//!
//! # What this crate is not
//! It knows no pipeline and no order of views, and it does not decide what a key is: `alluvium-plans` does.
//!
//! # Invariants
//! - An entry's directory is written once, under a name that was never used, and never changed after publication.
//! - A row of the index is written only by the holder of the current token of its key.
//! - A hit was checked: every file of the entry has the stamp that it had at publication, or was hashed again and has
//!   the digest that it had then.
//! - Every read, write, eviction, rehash and wait for a lease is one [`CacheOutcome`](alluvium_contracts::CacheOutcome): its
//!   span, its metrics and what a ledger stores of it are made from that value.
//! - What was computed from rows of an unstable view is taken only where those are the rows that are read: [`UnstableRows`].
//! - What is damaged is set aside and named, never read as absent, and never served.
//! - An entry is deleted only when every [`Reading`] that began before it was condemned has ended.

#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod adopt;
mod artifact;
mod artifact_record;
mod cache;
mod catalog;
mod content;
mod dataset;
mod engine_snapshot;
mod entry;
mod error;
mod evict;
mod export;
mod fault;
mod frame_cache;
mod gc;
mod index;
mod inventory;
mod inventory_row;
mod lease;
mod lock_file;
mod materialize;
mod memory;
mod names;
mod operation;
mod orphans;
mod output;
mod place;
mod provider;
mod published;
mod reading;
mod restored;
mod retention;
mod rows_digest;
mod scope;
mod shadow;
mod unstable_rows;
mod verify;
mod write;

pub use artifact::{Artifact, ArtifactKey, ArtifactPolicy, ArtifactRequest, ArtifactRows};
pub use artifact_record::ArtifactRecord;
pub use cache::{BeforePublish, DeltaCache, Lookup, WriteRequest, Written};
pub use catalog::EntrySchema;
pub use dataset::{DatasetRequest, DatasetRows, KeptDataset};
pub use engine_snapshot::{ENGINE_CACHES, SNAPSHOTS, snapshot_name};
pub use entry::{Entry, EntryFile};
pub use error::CacheError;
pub use evict::Selection;
pub use frame_cache::FrameCache;
pub use gc::GcRequest;
pub use memory::InMemory;
pub use output::{OutputState, OutputTarget, PublicationReport, PublishRequest, Published};
pub use provider::ComputedView;
pub use published::LostValue;
pub use reading::Reading;
pub use rows_digest::{RowsDigester, rows_digest};
pub use scope::EntryScope;
pub use shadow::Shadow;
pub use unstable_rows::UnstableRows;
