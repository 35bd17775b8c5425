//! From outbox to SQL: what is recorded is what is read, once.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use alluvium_contracts::{
    CacheArtifact, CacheInventoryEntry, LedgerEvent, MaintenanceEvent, MaintenanceOperation, MaintenanceResult,
};
use alluvium_disk_kv_cache::{Order, StoreError};
use alluvium_write_policy::{AppendOutcome, AppendTip, append};
use arrow::array::RecordBatch;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::prelude::SessionContext;
use serde_json::json;

use super::support::{Root, event, full_entry, hit, names, select, sql, summary, views};
use crate::queue::Queue;
use crate::{DrainReport, Ledger, LedgerError};

#[tokio::test]
async fn what_was_recorded_is_read_by_sql() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run = ledgers.begin_run(root.seam.run_id(), Some("nightly"), None).unwrap();
    let run_id = run.run_id();
    let full = full_entry(run_id);
    ledgers.record(&[LedgerEvent::CacheInventory(full.clone()), hit(run_id, "routes", 2.5)]).unwrap();
    ledgers.end_run(run, &summary(run_id), &[]).unwrap();
    assert_eq!(ledgers.pending().unwrap(), 3);

    let report = ledgers.drain().await.unwrap();
    let rows = [(Ledger::CacheInventory, 2), (Ledger::CacheRuns, 1)].into();
    assert_eq!(report, DrainReport { rows, commits: 2, ..DrainReport::default() });
    assert_eq!(ledgers.pending().unwrap(), 0);

    let inventory = sql(&ledgers, "select * from cache_inventory order by view_name").await;
    assert_eq!(inventory.len(), 2);
    assert_eq!(inventory[0], serde_json::to_value(&full).unwrap());
    let runs = sql(&ledgers, "select * from cache_runs").await;
    assert_eq!(runs, [serde_json::to_value(summary(run_id)).unwrap()]);
    let joined = sql(
        &ledgers,
        "select i.view_name, r.hit_count from cache_inventory i join cache_runs r using (run_id) \
         where i.result = 'hit' and i.saved_ms > 2.0",
    )
    .await;
    assert_eq!(joined, [json!({"view_name": "routes", "hit_count": 1})]);
}

/// The tip of each is what the next one follows; `alluvium-write-policy` shows that following replays nothing.
#[tokio::test]
async fn drains_follow_one_another_without_replaying_the_log() {
    let root = Root::new();
    let run_id = root.seam.run_id();
    for number in 0..5_i64 {
        let queue = Queue::open(root.queue(), &root.seam).unwrap();
        let tip = queue.left(Ledger::CacheInventory).unwrap().and_then(|left| left.tip);
        // The first drain makes the table, and the second looks at it.
        let version = (number >= 2).then(|| number as u64 - 1);
        assert_eq!(tip.as_ref().map(AppendTip::version), version);
        if let Some(tip) = tip {
            let (dir, ledger) = (root.dir_of(Ledger::CacheInventory), Ledger::CacheInventory);
            assert!(tip.hold(&dir, &ledger.schema()).unwrap().is_some());
            let applied = queue.left(ledger).unwrap().and_then(|left| left.applied);
            let transaction = tip.transaction(&format!("alluvium-outbox-{}", queue.id()));
            assert_eq!(transaction.map(|number| number as u64), applied);
        }
        drop(queue);
        // As in another process.
        let ledgers = root.ledgers();
        ledgers.record(&[event(run_id, &format!("v{number}"))]).unwrap();
        assert_eq!(ledgers.drain().await.unwrap().rows, [(Ledger::CacheInventory, 1)].into());
    }
    assert_eq!(views(&root.ledgers()).await, ["v0", "v1", "v2", "v3", "v4"]);
}

#[tokio::test]
async fn a_ledger_has_one_schema_absent_or_present_and_takes_no_insert() {
    let root = Root::new();
    let ledgers = root.ledgers();
    assert!(views(&ledgers).await.is_empty(), "an absent ledger is an empty table");
    for present in [false, true] {
        if present {
            let run_id = root.seam.run_id();
            ledgers.record(&[event(run_id, "v"), LedgerEvent::CacheRuns(summary(run_id))]).unwrap();
            ledgers.drain().await.unwrap();
        }
        for ledger in Ledger::all() {
            let table = ledgers.table(ledger).await.unwrap();
            assert_eq!(table.schema(), ledger.schema(), "{ledger}, present: {present}");
            #[expect(clippy::disallowed_methods, reason = "a bare session to plan one insert")]
            let session = SessionContext::new().state();
            let input = std::sync::Arc::new(EmptyExec::new(ledger.schema()));
            let inserted = table.insert_into(&session, input, InsertOp::Append).await;
            assert!(inserted.is_err(), "{ledger}, present: {present}");
        }
    }
}

#[tokio::test]
async fn nothing_to_drain_touches_no_ledger() {
    let root = Root::new();
    let ledgers = root.ledgers();
    assert_eq!(ledgers.drain().await.unwrap(), DrainReport::default());
    assert!(!ledgers.path().exists());

    // One ledger with news: one commit, and the other is not made.
    ledgers.record(&[event(root.seam.run_id(), "v")]).unwrap();
    assert_eq!(ledgers.drain().await.unwrap().commits, 1);
    assert_eq!(names(ledgers.path()), [".drain.lock", Ledger::CacheInventory.dir_name()]);
}

#[tokio::test]
async fn a_commit_says_what_it_is() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run_id = root.seam.run_id();
    ledgers.record(&[event(root.seam.run_id(), "v"), event(run_id, "w")]).unwrap();
    ledgers.drain().await.unwrap();
    let log = root.dir_of(Ledger::CacheInventory).join("_delta_log/00000000000000000000.json");
    let log = std::fs::read_to_string(log).unwrap();
    let actions: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |kind| actions.iter().find_map(|action| action.get(kind)).unwrap();
    let info = find("commitInfo");
    assert_eq!(info["cache_scope"], "ledger");
    assert_eq!(info["cache_operation"], "write");
    assert_eq!(info["name"], "cache_inventory");
    assert_eq!(info["run_id"], run_id.to_string(), "the last run in the batch");
    let transaction = find("txn");
    let number = Queue::open(root.queue(), &root.seam).unwrap().left(Ledger::CacheInventory).unwrap().unwrap().applied;
    assert_eq!(transaction["version"].as_u64(), number);
    assert!(transaction["appId"].as_str().unwrap().starts_with("alluvium-outbox-"));
    let properties = find("metaData")["configuration"].as_object().unwrap();
    assert_ne!(properties.get("delta.enableExpiredLogCleanup"), Some(&json!("false")));
}

#[tokio::test]
async fn the_log_is_checkpointed() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let drain = async |view: &str| {
        ledgers.record(&[event(root.seam.run_id(), view)]).unwrap();
        ledgers.drain().await.unwrap();
    };
    drain("a").await;
    // The engine's interval of 100 commits, shortened for the test.
    let log = root.dir_of(Ledger::CacheInventory).join("_delta_log");
    let first = log.join("00000000000000000000.json");
    let text = std::fs::read_to_string(&first).unwrap();
    let shortened = text.replace("\"configuration\":{", "\"configuration\":{\"delta.checkpointInterval\":\"2\"");
    assert_ne!(text, shortened);
    std::fs::write(&first, shortened).unwrap();
    drain("b").await;
    drain("c").await;
    assert!(log.join("_last_checkpoint").exists(), "{:?}", names(&log));
    assert_eq!(views(&ledgers).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn threads_record_whole_and_drainers_drain_once() {
    const THREADS: usize = 8;
    const EACH: usize = 25;
    let root = Root::new();
    let run = root.ledgers().begin_run(root.seam.run_id(), None, None).unwrap();
    let run_id = run.run_id();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let ledgers = root.ledgers();
            scope.spawn(move || {
                for n in 0..EACH {
                    let name = format!("{thread}-{n}");
                    ledgers.record(&[event(run_id, &format!("{name}a")), event(run_id, &format!("{name}b"))]).unwrap();
                }
            });
        }
    });

    // Numbers that grow, and the two events of a call side by side.
    let queued: Vec<(u64, LedgerEvent)> = root
        .queue()
        .read::<_, StoreError>(|txn| {
            let scan = txn.scan("outbox", .., Order::Ascending)?;
            Ok(scan
                .map(|entry| {
                    let (key, value) = entry.unwrap();
                    (u64::from_be_bytes(key.try_into().unwrap()), crate::event::decode(value).unwrap())
                })
                .collect())
        })
        .unwrap();
    let name = |event: &LedgerEvent| match event {
        LedgerEvent::CacheInventory(entry) => entry.view_name.clone(),
        _ => panic!("nobody ended"),
    };
    let sequences: Vec<u64> = queued.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences.len(), 2 * THREADS * EACH);
    assert!(sequences.is_sorted_by(|one, next| one < next), "{sequences:?}");
    for pair in queued.chunks(2) {
        assert_eq!(pair[0].0 + 1, pair[1].0);
        let (first, second) = (name(&pair[0].1), name(&pair[1].1));
        assert_eq!(first.trim_end_matches('a'), second.trim_end_matches('b'));
    }

    // Each drainer with a handle of its own, as other processes would have.
    let (one, two, three) = (root.ledgers(), root.ledgers(), root.ledgers());
    let (one, two, three) = tokio::join!(one.drain(), two.drain(), three.drain());
    let commits = [one, two, three].map(|report| report.unwrap().commits);
    assert_eq!(commits.iter().sum::<u64>(), 1, "{commits:?}");
    let views = views(&root.ledgers()).await;
    assert_eq!(views.len(), 2 * THREADS * EACH);
    assert_eq!(views.iter().collect::<BTreeSet<_>>().len(), views.len());

    // The counts of the run's row were not lost between threads either.
    drop(run);
    let ledgers = root.ledgers();
    assert_eq!(ledgers.close_killed_runs().unwrap(), [run_id]);
    ledgers.drain().await.unwrap();
    let runs = sql(&ledgers, "select write_count from cache_runs").await;
    assert_eq!(runs, [json!({"write_count": 2 * THREADS * EACH})]);
}

#[tokio::test]
async fn a_drainer_waits_no_longer_than_it_was_told() {
    let root = Root::new();
    let ledgers = root.ledgers().with_drain_wait(Duration::from_millis(30));
    ledgers.record(&[event(root.seam.run_id(), "v")]).unwrap();
    std::fs::create_dir_all(ledgers.path()).unwrap();
    let other = File::create(ledgers.path().join(".drain.lock")).unwrap();
    other.lock().unwrap();
    let error = ledgers.drain().await.unwrap_err();
    assert!(matches!(error, LedgerError::Busy { waited_ms: 30, .. }), "{error:?}");
    assert_eq!(ledgers.pending().unwrap(), 1);

    drop(other);
    assert_eq!(ledgers.drain().await.unwrap().commits, 1);
}

#[tokio::test]
async fn what_is_no_row_is_put_aside_and_blocks_nothing() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run_id = root.seam.run_id();
    let too_many = CacheInventoryEntry { row_count: Some(u64::MAX), ..full_entry(run_id) };
    ledgers
        .record(&[
            event(run_id, "a"),
            event(run_id, "b"),
            event(run_id, "c"),
            LedgerEvent::CacheInventory(too_many),
            event(run_id, "d"),
        ])
        .unwrap();
    let future = br#"{"kind":"cache_inventory_entry","version":2,"payload":{}}"#;
    let keys = root
        .queue()
        .write::<_, StoreError>(|txn| {
            let scan = txn.scan("outbox", .., Order::Ascending)?;
            let keys: Vec<Vec<u8>> = scan.map(|entry| entry.unwrap().0.to_vec()).collect();
            txn.put("outbox", &keys[1], b"\xff not JSON")?;
            txn.put("outbox", &keys[2], future)?;
            Ok(keys)
        })
        .unwrap();

    let report = ledgers.drain().await.unwrap();
    assert_eq!((report.rejected, report.waiting, report.kept, report.commits), (2, 1, 0, 1));
    assert_eq!(report.notices.len(), 3, "{:?}", report.notices);
    assert!(report.notices[1].contains("row_count"), "{:?}", report.notices);
    assert!(report.notices[2].contains("events of `cache_inventory_entry` version 2 (1) wait"), "{:?}", report.notices);
    assert_eq!(views(&ledgers).await, ["a", "d"]);
    assert_eq!(ledgers.pending().unwrap(), 0);
    let kept = root
        .queue()
        .read::<_, StoreError>(|txn| {
            let key = [b"ledgers/waiting/".as_slice(), &keys[2]].concat();
            Ok(txn.get("meta", &key)?.map(<[u8]>::to_vec))
        })
        .unwrap();
    assert_eq!(kept.as_deref(), Some(future.as_slice()));
}

#[tokio::test]
async fn a_new_queue_store_does_not_pass_for_the_old_one() {
    let root = Root::new();
    let ledgers = root.ledgers();
    ledgers.record(&[event(root.seam.run_id(), "before")]).unwrap();
    ledgers.drain().await.unwrap();
    drop(ledgers);
    std::fs::remove_dir_all(root.queue_dir()).unwrap();

    // Its numbers begin at 1 again, which the ledger has had from the other store.
    let ledgers = root.ledgers();
    ledgers.record(&[event(root.seam.run_id(), "after")]).unwrap();
    ledgers.drain().await.unwrap();
    assert_eq!(views(&ledgers).await, ["after", "before"]);
}

#[tokio::test]
async fn a_ledger_that_fails_keeps_no_other_from_being_drained() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run_id = root.seam.run_id();
    ledgers.record(&[event(run_id, "old")]).unwrap();
    ledgers.drain().await.unwrap();
    // One ledger to set aside, one that cannot be made.
    std::fs::remove_dir_all(root.dir_of(Ledger::CacheInventory)).unwrap();
    std::fs::write(root.dir_of(Ledger::CacheRuns), "").unwrap();
    ledgers.record(&[LedgerEvent::CacheRuns(summary(run_id)), event(run_id, "new")]).unwrap();

    let error = ledgers.drain().await.unwrap_err();
    assert!(matches!(error, LedgerError::Append { ledger: Ledger::CacheRuns, .. }), "{error:?}");
    assert_eq!(ledgers.take_notices().len(), 1, "what it found is told all the same");
    assert_eq!(ledgers.pending().unwrap(), 1);
    std::fs::remove_file(root.dir_of(Ledger::CacheRuns)).unwrap();
    assert_eq!(ledgers.drain().await.unwrap().rows, [(Ledger::CacheRuns, 1)].into());
    assert_eq!(views(&ledgers).await, ["new"]);
}

#[tokio::test]
async fn a_long_history_is_kept_in_few_files_behind_a_checkpoint() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let names: Vec<String> = (0..40).map(|number| format!("v{number:02}")).collect();
    let mut done = Vec::new();
    for name in &names {
        ledgers.record(&[event(root.seam.run_id(), name)]).unwrap();
        let report = ledgers.drain().await.unwrap();
        assert_eq!(report.notices, Vec::<String>::new());
        done.extend(report.maintenance.into_iter().map(|event| (event.operation, event.result)));
    }
    for operation in [MaintenanceOperation::Compact, MaintenanceOperation::Checkpoint] {
        assert!(done.contains(&(operation, MaintenanceResult::Ok)), "{done:?}");
    }
    assert_eq!(views(&ledgers).await, names);

    let dir = ledgers.path().join(Ledger::CacheInventory.dir_name());
    let head = alluvium_write_policy::head_commit(&dir).unwrap().unwrap().version;
    let files = alluvium_write_policy::active_files(&dir, head).await.unwrap();
    assert!(files.len() < 16, "{} files", files.len());
    let log = std::fs::read_dir(dir.join("_delta_log")).unwrap();
    let checkpoints =
        log.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().ends_with(".checkpoint.parquet"));
    assert_eq!(checkpoints.count(), 1);

    // What was done to it is on record, whole.
    let kept = select::<CacheArtifact>(&ledgers, "select * from cache_artifacts").await;
    let done: Vec<MaintenanceEvent> = kept.iter().map(|artifact| artifact.decode().unwrap()).collect();
    let operations: Vec<_> = done.iter().map(|event| event.operation).collect();
    assert!(operations.contains(&MaintenanceOperation::Compact), "{operations:?}");
    assert!(operations.contains(&MaintenanceOperation::Checkpoint), "{operations:?}");
    let of_it = |event: &MaintenanceEvent| {
        event.table_path == Ledger::CacheInventory.dir_name() && event.result == MaintenanceResult::Ok
    };
    assert!(done.iter().all(of_it), "{done:#?}");
}

/// No drain makes a version that is one less than a multiple of 32, because others commit in between.
#[tokio::test]
async fn a_ledger_that_others_commit_to_is_kept_up_all_the_same() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let (dir, schema) = (root.dir_of(Ledger::CacheInventory), Ledger::CacheInventory.schema());
    let mut kept_up = Vec::new();
    for number in 0..34 {
        ledgers.record(&[event(root.seam.run_id(), "v")]).unwrap();
        let done = ledgers.drain().await.unwrap().maintenance;
        if done.iter().any(|event| event.operation == MaintenanceOperation::Checkpoint) {
            kept_up.push(number);
        }
        let nothing = vec![RecordBatch::new_empty(schema.clone())];
        let appended = append(&dir, schema.clone(), nothing, &Default::default(), ("others", number + 1)).await;
        assert!(matches!(appended.unwrap(), AppendOutcome::Committed(_)));
    }
    // The 33rd commit, and 32 after it those that came since.
    assert_eq!(kept_up, [16, 32], "which drains did");
}
