//! Runs: begun, ended, killed and found.

use alluvium_contracts::{
    CacheInventoryEntry, CacheRunSummary, CacheScope, CdfCursor, Contract as _, LedgerEvent, RunResult, ViewResult,
};
use alluvium_disk_kv_cache::StoreError;
use serde_json::json;

use super::support::{Root, entry, full_entry, hit, kill, ledgers, role, spawn, sql, summary, wait_to_be_killed};
use crate::{CursorMove, KilledRun, LedgerError, Testimony};

#[tokio::test]
async fn a_run_that_ended_is_ended() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run = ledgers.begin_run(root.seam.run_id(), None, None).unwrap();
    let run_id = run.run_id();
    assert_eq!(root.run_files(), [format!("{run_id}.lock")]);
    assert!(ledgers.close_killed_runs().unwrap().is_empty(), "alive");
    let again = ledgers.begin_run(run_id, None, None).unwrap_err();
    assert!(matches!(again, LedgerError::RunBegun { .. }), "{again:?}");

    ledgers.end_run(run, &summary(run_id), &[]).unwrap();
    assert!(root.run_files().is_empty());
    assert!(ledgers.close_killed_runs().unwrap().is_empty(), "ended");
    ledgers.drain().await.unwrap();
    let rows = sql(&ledgers, "select run_id, result from cache_runs").await;
    assert_eq!(rows, [json!({"run_id": run_id, "result": "succeeded"})]);
}

#[test]
fn a_summary_of_another_run_is_refused() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run = ledgers.begin_run(root.seam.run_id(), None, None).unwrap();
    let error = ledgers.end_run(run, &summary(root.seam.run_id()), &[]).unwrap_err();
    assert!(matches!(error, LedgerError::OtherRun { .. }), "{error:?}");
    assert_eq!(ledgers.pending().unwrap(), 0);
    assert_eq!(ledgers.close_killed_runs().unwrap().len(), 1);
}

#[tokio::test]
async fn a_run_never_has_two_rows() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run = ledgers.begin_run(root.seam.run_id(), None, None).unwrap();
    let run_id = run.run_id();
    // Somebody tidies up too much, and the next run takes this one for dead.
    std::fs::remove_dir_all(root.path().join("run_locks")).unwrap();
    assert_eq!(ledgers.close_killed_runs().unwrap(), [run_id]);
    let error = ledgers.end_run(run, &summary(run_id), &[]).unwrap_err();
    assert!(matches!(error, LedgerError::RunNotOpen { .. }), "{error:?}");
    ledgers.drain().await.unwrap();
    assert_eq!(sql(&ledgers, "select result from cache_runs").await, [json!({"result": "killed"})]);
}

/// Every result once or more, and an output's row, which is no view.
fn first_half(run_id: alluvium_contracts::RunId) -> Vec<LedgerEvent> {
    let of = |view, result| LedgerEvent::CacheInventory(entry(run_id, view, result));
    vec![
        hit(run_id, "a", 10.0),
        hit(run_id, "b", 0.5),
        of("c", ViewResult::Write),
        LedgerEvent::CacheInventory(CacheInventoryEntry {
            cache_scope: CacheScope::Output,
            saved_ms: Some(1_000.0),
            ..full_entry(run_id)
        }),
    ]
}

fn second_half(run_id: alluvium_contracts::RunId) -> Vec<LedgerEvent> {
    let of = |view, result| LedgerEvent::CacheInventory(entry(run_id, view, result));
    vec![
        hit(run_id, "d", 1.0),
        of("e", ViewResult::Computed),
        of("f", ViewResult::Error),
        of("g", ViewResult::Skipped),
        of("h", ViewResult::Skipped),
    ]
}

/// Played by a process of its own.
#[test]
#[ignore = "a process that `a_killed_run_is_closed_with_its_true_counts` starts and kills"]
fn killed() {
    let Some((_, root)) = role() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ledgers = ledgers(&root);
    let run = ledgers.begin_run(alluvium_telemetry::Seam::system().run_id(), Some("nightly"), None).unwrap();
    ledgers.record(&first_half(run.run_id())).unwrap();
    runtime.block_on(ledgers.drain()).unwrap();
    ledgers.record(&second_half(run.run_id())).unwrap();
    wait_to_be_killed();
}

#[tokio::test]
async fn a_killed_run_is_closed_with_its_true_counts() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let child = spawn("tests::runs::killed", "run", root.path());
    assert!(ledgers.close_killed_runs().unwrap().is_empty(), "alive in another process");
    kill(child);

    let closed = ledgers.close_killed_runs().unwrap();
    assert_eq!(closed.len(), 1);
    assert!(root.run_files().is_empty());
    assert!(ledgers.close_killed_runs().unwrap().is_empty(), "only once");
    ledgers.drain().await.unwrap();
    let rows = sql(&ledgers, "select * from cache_runs").await;
    assert_eq!(rows.len(), 1);
    let mut row = rows[0].as_object().unwrap().clone();
    let started = row.remove("started_unix_ms").unwrap().as_i64().unwrap();
    let finished = row.remove("finished_unix_ms").unwrap().as_i64().unwrap();
    assert!(0 < started && started <= finished, "{started} {finished}");
    let expected = json!({
        "run_id": closed[0], "profile_name": "nightly", "result": "killed", "hit_count": 3, "write_count": 1,
        "computed_count": 1, "skipped_count": 2, "error_count": 1, "saved_ms": 11.5,
    });
    assert_eq!(serde_json::Value::Object(row), expected);
    // The row agrees with the rows that it sums up.
    let counted = sql(
        &ledgers,
        "select r.run_id from cache_runs r where r.hit_count = (select count(*) from cache_inventory \
         where result = 'hit' and cache_scope = 'view')",
    )
    .await;
    assert_eq!(counted.len(), 1);
}

/// It is closed once, by whoever can tell what it wrote.
#[tokio::test]
async fn a_killed_run_of_which_nobody_can_testify_stays_open() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run = ledgers.begin_run(root.seam.run_id(), None, None).unwrap();
    let (run_id, started) = (run.run_id(), run.started_unix_ms());
    let row =
        |view: &str| CacheInventoryEntry { event_time_unix_ms: started + 40, ..entry(run_id, view, ViewResult::Hit) };
    ledgers.record(&[LedgerEvent::CacheInventory(row("v"))]).unwrap();
    drop(run);
    assert!(ledgers.close_killed_runs_by(|_| None).unwrap().is_empty());
    assert_eq!(root.run_files(), [format!("{run_id}.lock")]);

    let testify = |killed: &KilledRun| {
        assert_eq!((killed.run_id, killed.views.len(), killed.started_unix_ms), (run_id, 1, started));
        // Found an hour later; committed in between.
        let found = CacheInventoryEntry { event_time_unix_ms: started + 3_600_000, ..row("w") };
        let found = CacheInventoryEntry { result: ViewResult::Write, ..found };
        Some(Testimony { writes: vec![found], last_unix_ms: Some(started + 90), ..Testimony::default() })
    };
    assert_eq!(ledgers.close_killed_runs_by(testify).unwrap(), [run_id]);
    assert!(root.run_files().is_empty());
    ledgers.drain().await.unwrap();
    let rows =
        sql(&ledgers, "select finished_unix_ms - started_unix_ms as ms, hit_count, write_count from cache_runs").await;
    assert_eq!(rows, [json!({"ms": 90, "hit_count": 1, "write_count": 1})]);
}

#[test]
fn a_file_without_a_row_is_swept() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run = ledgers.begin_run(root.seam.run_id(), None, None).unwrap();
    // As after a kill between the file and the row.
    let left = root.path().join("run_locks").join(format!("{}.lock", root.seam.run_id()));
    std::fs::write(&left, "").unwrap();
    assert!(ledgers.close_killed_runs().unwrap().is_empty());
    assert_eq!(root.run_files(), [format!("{}.lock", run.run_id())]);
}

#[test]
fn a_row_that_does_not_decode_keeps_no_other_run_open() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let broken = ledgers.begin_run(root.seam.run_id(), None, None).unwrap();
    let run = ledgers.begin_run(root.seam.run_id(), None, None).unwrap();
    let (broken_id, run_id) = (broken.run_id(), run.run_id());
    let key = format!("ledgers/run/{broken_id}");
    root.queue().write::<_, StoreError>(|txn| txn.put("meta", key.as_bytes(), b"{}")).unwrap();
    drop((broken, run));

    assert_eq!(ledgers.close_killed_runs().unwrap(), [run_id]);
    let notices = ledgers.take_notices();
    assert!(notices.len() == 1 && notices[0].contains(&broken_id.to_string()), "{notices:?}");
    assert!(ledgers.take_notices().is_empty());
    assert!(ledgers.close_killed_runs().unwrap().is_empty());
}

#[test]
fn a_cursor_moves_only_with_a_run_that_succeeded_and_from_where_that_found_it() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let stands = || ledgers.cursor("daily_delays", "flights").unwrap();
    let end = |from: Option<CdfCursor>, version: u64, result| {
        let run_id = root.seam.run_id();
        let run = ledgers.begin_run(run_id, None, None).unwrap();
        let to = CdfCursor { version, run_id: Some(run_id), ..CdfCursor::example() };
        let moves = [CursorMove { from, to: to.clone() }];
        let lost = ledgers.end_run_with(run, &CacheRunSummary { result, ..summary(run_id) }, &[], &moves).unwrap();
        (to, lost.len())
    };
    for result in [RunResult::Failed, RunResult::Interrupted, RunResult::Killed] {
        assert_eq!(end(None, 3, result).1, 0);
        assert_eq!(stands(), None, "{result}");
    }
    let (first, lost) = end(None, 3, RunResult::Succeeded);
    assert_eq!((stands(), lost), (Some(first.clone()), 0));
    let (second, _) = end(Some(first.clone()), 5, RunResult::Succeeded);
    assert_eq!(stands(), Some(second.clone()));
    // Begun before the second had ended: over the same changes, over fewer, and from the beginning.
    assert_eq!(end(Some(first.clone()), 5, RunResult::Succeeded).1, 0);
    assert_eq!(end(Some(first), 4, RunResult::Succeeded).1, 1);
    assert_eq!(end(None, 9, RunResult::Succeeded).1, 1);
    assert_eq!(stands(), Some(second.clone()));
    // Of each dataset and consumer by itself.
    assert_eq!(ledgers.cursor("daily_delays", "airports").unwrap(), None);
    assert_eq!(ledgers.cursors().unwrap(), [second]);
}
