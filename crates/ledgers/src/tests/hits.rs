//! What entries have been worth: counted with the events that tell of them, kept as documents.

use alluvium_contracts::{
    CacheArtifact, CacheInventoryEntry, CacheKey, CacheScope, LedgerEvent, RunId, ViewCacheArtifact, ViewResult,
};

use super::support::{Root, entry, full_entry, select};
use crate::Ledgers;

/// An event about the entry of a view that lies at `path`.
fn told(run_id: RunId, path: &str, result: ViewResult) -> CacheInventoryEntry {
    CacheInventoryEntry {
        cache_key: Some(CacheKey::of(b"key")),
        cache_path: Some(path.to_owned()),
        delta_version: Some(0),
        row_count: Some(8),
        saved_ms: (result == ViewResult::Hit).then_some(500.0),
        ..entry(run_id, "v", result)
    }
}

fn record(ledgers: &Ledgers, rows: &[CacheInventoryEntry]) {
    let events: Vec<_> = rows.iter().cloned().map(LedgerEvent::CacheInventory).collect();
    ledgers.record(&events).unwrap();
}

async fn documents(ledgers: &Ledgers) -> Vec<ViewCacheArtifact> {
    ledgers.drain().await.unwrap();
    let sql = "select * from cache_artifacts where artifact_kind = 'view_cache_artifact'";
    let mut rows = select::<CacheArtifact>(ledgers, sql).await;
    rows.sort_by_key(|row| row.event_time_unix_ms);
    rows.iter().map(|row| row.decode().unwrap()).collect()
}

#[tokio::test]
async fn hits_of_an_entry_are_counted_since_it_was_written() {
    let root = Root::new();
    let run_id = root.seam.run_id();
    let at = |unix_ms, path, result| CacheInventoryEntry { event_time_unix_ms: unix_ms, ..told(run_id, path, result) };
    record(&root.ledgers(), &[at(1, "one", ViewResult::Write)]);
    record(&root.ledgers(), &[at(2, "one", ViewResult::Hit), at(3, "one", ViewResult::Hit)]);
    // Another pipeline's view of this name, and the first entry again.
    record(&root.ledgers(), &[at(4, "other", ViewResult::Hit), at(5, "one", ViewResult::Hit)]);
    // Written anew at its place, as an output is.
    record(&root.ledgers(), &[at(6, "one", ViewResult::Write), at(7, "one", ViewResult::Hit)]);

    let found = documents(&root.ledgers()).await;
    let counts: Vec<_> = found.iter().map(|artifact| (artifact.hit_count, artifact.saved_seconds)).collect();
    assert_eq!(counts, [(0, 0.0), (1, 0.5), (2, 1.0), (1, 0.5), (3, 1.5), (0, 0.0), (1, 0.5)]);
    let hits: Vec<_> = found.iter().map(|artifact| artifact.hit).collect();
    assert_eq!(hits[..3], [Some(false), Some(true), Some(true)]);
    let third = &found[2];
    assert_eq!((third.view_name.as_str(), third.run_id), ("v", Some(run_id)));
    assert_eq!((third.cache_path.as_deref(), third.delta_version), (Some("one"), Some(0)));
    assert_eq!((third.compute_ms, third.row_count), (Some(500.0), Some(8)));
    assert_eq!(found[0].compute_ms, Some(12.5));
}

#[tokio::test]
async fn only_entries_of_views_are_counted() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run_id = root.seam.run_id();
    let of = |scope| CacheInventoryEntry { cache_scope: scope, ..told(run_id, "one", ViewResult::Hit) };
    record(
        &ledgers,
        &[
            full_entry(run_id),
            of(CacheScope::Dataset),
            of(CacheScope::Artifact),
            told(run_id, "one", ViewResult::Computed),
            CacheInventoryEntry { cache_key: None, ..told(run_id, "one", ViewResult::Write) },
        ],
    );
    assert_eq!(ledgers.pending().unwrap(), 5);
    assert!(documents(&ledgers).await.is_empty());
}

#[tokio::test]
async fn counts_that_do_not_decode_begin_again() {
    let root = Root::new();
    let run_id = root.seam.run_id();
    record(&root.ledgers(), &[told(run_id, "one", ViewResult::Hit)]);
    root.queue()
        .write::<_, alluvium_disk_kv_cache::StoreError>(|txn| txn.put("meta", b"ledgers/hits/v", b"{"))
        .unwrap();
    record(&root.ledgers(), &[told(run_id, "one", ViewResult::Hit)]);
    let counts: Vec<_> = documents(&root.ledgers()).await.iter().map(|artifact| artifact.hit_count).collect();
    assert_eq!(counts, [1, 1]);
}
