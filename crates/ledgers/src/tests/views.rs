//! What people ask most, against rows that are known.

use alluvium_contracts::{CacheInventoryEntry, CacheKey, CacheScope, LedgerEvent, RunId, ViewResult};
use serde_json::{Value, json};

use super::support::{Root, entry, full_entry, manifest, summary, view};
use crate::{Ledger, LedgerView, Ledgers};

/// Rows of views `a` and `b` in two runs: written slowly and quickly, then hit, and `a` written again under another key.
fn record(ledgers: &Ledgers, first: RunId, second: RunId) {
    let row = |run_id, view: &str, result, time, key: &[u8], duration_ms, saved_ms| CacheInventoryEntry {
        event_time_unix_ms: time,
        cache_key: Some(CacheKey::of(key)),
        cache_path: Some(format!("view_cache/{view}/{}", CacheKey::of(key))),
        size_bytes: Some(100),
        row_count: Some(10),
        file_count: Some(1),
        reason: Some(format!("reason of {time}")),
        duration_ms,
        saved_ms,
        ..entry(run_id, view, result)
    };
    let rows = [
        row(first, "a", ViewResult::Write, 1_000, b"a1", 3_000.0, None),
        row(first, "b", ViewResult::Write, 1_001, b"b", 500.0, None),
        CacheInventoryEntry { event_time_unix_ms: 1_002, ..full_entry(first) },
        row(second, "b", ViewResult::Hit, 2_000, b"b", 0.5, Some(500.0)),
        row(second, "b", ViewResult::Hit, 2_001, b"b", 0.5, Some(500.0)),
        row(second, "a", ViewResult::Write, 2_002, b"a2", 1_000.0, None),
        // At the same time as the row above, in an earlier run.
        row(first, "a", ViewResult::Hit, 2_002, b"a1", 1.0, Some(3_000.0)),
        CacheInventoryEntry { cache_key: None, ..row(second, "c", ViewResult::Computed, 2_003, b"", 9.0, None) },
    ];
    ledgers.record(&rows.map(LedgerEvent::CacheInventory)).unwrap();
    ledgers.record(&[LedgerEvent::CacheRuns(summary(first))]).unwrap();
}

async fn asked(select: &str) -> Vec<Value> {
    let root = Root::new();
    let ledgers = root.ledgers();
    let (first, second) = (root.seam.run_id(), root.seam.run_id());
    record(&ledgers, first, second);
    ledgers.drain().await.unwrap();
    view(&ledgers, select).await
}

#[tokio::test]
async fn every_view_is_there_before_any_run() {
    let root = Root::new();
    for view_of in LedgerView::all() {
        let rows = view(&root.ledgers(), &format!("select * from alluvium.{view_of}")).await;
        assert!(rows.is_empty(), "{view_of}: {rows:?}");
    }
}

#[tokio::test]
async fn a_run_has_its_hit_rate_and_what_it_saved() {
    let rows = asked("select hit_rate * 6 as sixths, saved_seconds, duration_seconds from alluvium.runs").await;
    assert_eq!(rows, [json!({"sixths": 1.0, "saved_seconds": 0.0065, "duration_seconds": 0.999})]);
}

#[tokio::test]
async fn the_newest_row_of_each_view_and_output_is_found_once() {
    let rows = asked(
        "select cache_scope, view_name, result, event_time_unix_ms as t from alluvium.latest_entries \
         order by cache_scope desc, view_name",
    )
    .await;
    let row = |scope: CacheScope, view: &str, result: ViewResult, t: i64| json!({"cache_scope": scope, "view_name": view, "result": result, "t": t});
    let expected = [
        row(CacheScope::View, "a", ViewResult::Write, 2_002),
        row(CacheScope::View, "b", ViewResult::Hit, 2_001),
        row(CacheScope::View, "c", ViewResult::Computed, 2_003),
        row(CacheScope::Output, "route_delays", ViewResult::Write, 1_002),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn of_rows_that_a_join_leaves_out_nothing_else_is_decoded() {
    let plan = asked("explain analyze select * from alluvium.latest_entries").await;
    let plan = plan.iter().map(Value::to_string).collect::<String>();
    // Of eight rows four are the newest, and one beside them has the same time.
    assert!(plan.contains("pushdown_rows_matched=5, pushdown_rows_pruned=3"), "{plan}");
}

#[tokio::test]
async fn the_slowest_view_comes_first() {
    let rows = asked("select rank, view_name, computed_count as n, total_seconds, max_seconds from alluvium.slowest_views order by rank").await;
    assert_eq!(rows[0], json!({"rank": 1, "view_name": "a", "n": 2, "total_seconds": 4.0, "max_seconds": 3.0}));
    assert_eq!(rows[1]["view_name"], "b");
    assert_eq!((rows[2]["view_name"].as_str(), rows.len()), (Some("c"), 3));
}

#[tokio::test]
async fn every_write_is_counted_and_no_hit() {
    let rows = asked(
        "select cache_scope, write_count, size_bytes, row_count from alluvium.bytes_written_by_scope order by 1 desc",
    )
    .await;
    assert_eq!(rows[0], json!({"cache_scope": "view", "write_count": 3, "size_bytes": 300, "row_count": 30}));
    assert_eq!((rows[1]["write_count"].as_i64(), rows.len()), (Some(1), 2));
}

/// By which a query opens those that it needs and no others.
#[tokio::test]
async fn a_view_is_over_the_ledgers_that_it_says() {
    for view_of in LedgerView::all() {
        for ledger in Ledger::all() {
            let names = view_of.sql().contains(&format!("alluvium.{ledger}"));
            assert_eq!(names, view_of.ledgers().contains(&ledger), "{view_of} and {ledger}");
        }
    }
}

#[tokio::test]
async fn a_list_with_null_leaves_nothing_out_of_its_negation() {
    for condition in ["view_name not in ('a', null)", "view_name in (null)", "row_count > 0 and cast(null as boolean)"]
    {
        let rows = asked(&format!("select view_name from alluvium.cache_inventory where {condition}")).await;
        assert!(rows.is_empty(), "{condition}: {rows:?}");
    }
}

#[tokio::test]
async fn a_manifest_is_asked_by_its_commits_inputs_and_outputs() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let manifest = manifest(root.seam.run_id());
    ledgers.record(&[LedgerEvent::RunManifests(Box::new(manifest.clone()))]).unwrap();
    ledgers.drain().await.unwrap();
    let rows = view(
        &ledgers,
        "select c.run_id, c.name, i.delta_version as read, o.row_count as n from alluvium.run_commits c \
         join alluvium.run_inputs i using (run_id) join alluvium.run_outputs o on c.table_id = o.table_id \
         and c.delta_version = o.delta_version",
    )
    .await;
    assert_eq!(rows, [json!({"run_id": manifest.run_id, "name": "daily", "read": 42, "n": 181})]);
}

#[tokio::test]
async fn the_misses_of_a_view_say_why() {
    let rows = asked("select reason from alluvium.view_misses where view_name = 'a' order by computed_at").await;
    assert_eq!(rows, [json!({"reason": "reason of 1000"}), json!({"reason": "reason of 2002"})]);
}

#[tokio::test]
async fn an_entry_has_its_hits_and_what_they_saved() {
    let rows =
        asked("select view_name, hit_count, saved_seconds, compute_seconds from alluvium.entry_hits order by 1, 4")
            .await;
    let row = |view: &str, hits: i64, saved: f64, cost: f64| json!({"view_name": view, "hit_count": hits, "saved_seconds": saved, "compute_seconds": cost});
    assert_eq!(rows, [row("a", 0, 0.0, 1.0), row("a", 1, 3.0, 3.0), row("b", 2, 1.0, 0.5)]);
}
