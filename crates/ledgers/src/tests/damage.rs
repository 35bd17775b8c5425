//! Absent, damaged and newer are three answers.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::LedgerEvent;
use arrow::array::{Array, RecordBatch, new_empty_array, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::json;

use super::support::{Root, event, names, sql, summary, views};
use crate::{Ledger, LedgerError, Ledgers};

const INVENTORY: Ledger = Ledger::CacheInventory;

/// A root whose inventory holds `old` and whose outbox holds `new` and a run's summary.
async fn half_drained() -> (Root, Ledgers) {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run_id = root.seam.run_id();
    // The later ones follow the first without replaying the log.
    for _ in 0..3 {
        ledgers.record(&[event(run_id, "old")]).unwrap();
        ledgers.drain().await.unwrap();
    }
    ledgers.record(&[event(run_id, "new"), LedgerEvent::CacheRuns(summary(run_id))]).unwrap();
    (root, ledgers)
}

fn commit(dir: &Path, version: u32) -> std::path::PathBuf {
    dir.join(format!("_delta_log/{version:020}.json"))
}

fn data_file(dir: &Path) -> std::path::PathBuf {
    let name = names(dir).into_iter().find(|name| name.ends_with(".parquet"));
    dir.join(name.unwrap())
}

/// What `damage` does to the inventory is noticed by a drain and by a reader, sets it aside, and loses no event.
async fn is_set_aside(damage: impl Fn(&Path), told: &str, aside: bool) {
    for by_drain in [true, false] {
        let (root, ledgers) = half_drained().await;
        let dir = root.dir_of(INVENTORY);
        damage(&dir);
        let notices = if by_drain {
            ledgers.drain().await.unwrap().notices
        } else {
            assert_eq!(views(&ledgers).await, Vec::<String>::new());
            assert_eq!(ledgers.pending().unwrap(), 2);
            ledgers.take_notices()
        };
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0].contains("cache_inventory") && notices[0].contains(told), "{notices:?}");
        let set_aside = dir.with_file_name(format!("{}.damaged-1", INVENTORY.dir_name()));
        assert_eq!(set_aside.exists(), aside);

        let report = ledgers.drain().await.unwrap();
        assert!(report.notices.is_empty(), "told once: {:?}", report.notices);
        assert_eq!(views(&ledgers).await, ["new"]);
        assert_eq!(sql(&ledgers, "select run_id from cache_runs").await.len(), 1, "the other ledger goes on");
        assert!(ledgers.take_notices().is_empty());
    }
}

#[tokio::test]
async fn a_commit_that_is_no_json_is_damage() {
    is_set_aside(|dir| std::fs::write(commit(dir, 0), "{\"commitInfo\":{").unwrap(), "does not load", true).await;
}

#[tokio::test]
async fn an_empty_commit_is_damage() {
    is_set_aside(|dir| std::fs::write(commit(dir, 0), "").unwrap(), "does not load", true).await;
}

/// The engine passes over them.
#[tokio::test]
async fn commits_that_are_gone_from_the_middle_or_the_end_are_told() {
    let gone: [&dyn Fn(&Path); 2] =
        [&|dir| std::fs::write(commit(dir, 1), "").unwrap(), &|dir| std::fs::remove_file(commit(dir, 2)).unwrap()];
    for damage in gone {
        let (root, ledgers) = half_drained().await;
        damage(&root.dir_of(INVENTORY));
        assert_eq!(views(&ledgers).await.len(), 2, "the other rows are there");
        let told = ledgers.take_notices();
        assert!(
            told.len() == 1 && told[0].contains("cache_inventory") && told[0].contains("damaged or gone"),
            "{told:?}"
        );
        let told = ledgers.drain().await.unwrap().notices;
        assert!(told.len() == 1 && told[0].contains("damaged or gone"), "{told:?}");
        assert_eq!(views(&ledgers).await.len(), 3, "it goes on");
        assert!(ledgers.take_notices().is_empty(), "told once");
    }
}

#[tokio::test]
async fn a_log_that_has_gone_is_damage_and_not_absence() {
    is_set_aside(|dir| std::fs::remove_dir_all(dir.join("_delta_log")).unwrap(), "log has gone", true).await;
}

#[tokio::test]
async fn a_ledger_that_has_gone_is_told() {
    is_set_aside(|dir| std::fs::remove_dir_all(dir).unwrap(), "nothing left to set aside", false).await;
}

#[tokio::test]
async fn data_files_are_looked_at_by_readers() {
    for told in ["has gone", "another length"] {
        let (root, ledgers) = half_drained().await;
        let file = data_file(&root.dir_of(INVENTORY));
        match told {
            "has gone" => std::fs::remove_file(file).unwrap(),
            _ => std::fs::write(file, "PAR1").unwrap(),
        }
        assert!(views(&ledgers).await.is_empty());
        let notices = ledgers.take_notices();
        assert!(notices.len() == 1 && notices[0].contains(told), "{notices:?}");
    }
}

#[tokio::test]
async fn damage_is_numbered() {
    let (root, ledgers) = half_drained().await;
    for _ in 0..2 {
        ledgers.record(&[event(root.seam.run_id(), "more")]).unwrap();
        ledgers.drain().await.unwrap();
        std::fs::write(commit(&root.dir_of(INVENTORY), 0), "").unwrap();
        assert!(views(&ledgers).await.is_empty());
    }
    let found = names(ledgers.path());
    for n in [1, 2] {
        assert!(found.contains(&format!("{}.damaged-{n}", INVENTORY.dir_name())), "{found:?}");
    }
}

#[tokio::test]
async fn files_of_a_first_drain_that_was_killed_are_no_damage() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let dir = root.dir_of(INVENTORY);
    std::fs::create_dir_all(dir.join("_delta_log")).unwrap();
    std::fs::write(dir.join("part-00000.parquet"), "half").unwrap();
    ledgers.record(&[event(root.seam.run_id(), "v")]).unwrap();
    assert!(ledgers.drain().await.unwrap().notices.is_empty());
    assert_eq!(views(&ledgers).await, ["v"]);
}

/// The ledger is left as it is; its events stay, the other ledger's do not.
async fn is_newer(root: &Root, ledgers: &Ledgers, found: &str) {
    let error = ledgers.table(INVENTORY).await.unwrap_err();
    assert!(matches!(error, LedgerError::NewerFormat { .. }), "{error:?}");
    assert!(error.to_string().contains(found), "{error}");
    let report = ledgers.drain().await.unwrap();
    assert_eq!((report.kept, report.commits), (1, 1));
    assert!(report.notices.len() == 1 && report.notices[0].contains(found), "{:?}", report.notices);
    assert_eq!(ledgers.pending().unwrap(), 1);
    assert!(names(ledgers.path()).iter().all(|name| !name.contains("damaged")));
    assert!(root.dir_of(INVENTORY).exists());
}

#[tokio::test]
async fn a_newer_protocol_is_newer() {
    let protocols = [
        (json!({"minReaderVersion": 9, "minWriterVersion": 9}), "9"),
        (
            json!({"minReaderVersion": 3, "minWriterVersion": 7,
                "readerFeatures": ["timeTravelToTheFuture"], "writerFeatures": ["timeTravelToTheFuture"]}),
            "timeTravelToTheFuture",
        ),
    ];
    for (protocol, found) in protocols {
        let (root, ledgers) = half_drained().await;
        let action = json!({ "protocol": protocol }).to_string();
        std::fs::write(commit(&root.dir_of(INVENTORY), 3), action).unwrap();
        is_newer(&root, &ledgers, found).await;
    }
}

/// Replaces the inventory with a table of `schema`, all its columns empty of rows.
async fn replace(root: &Root, schema: Schema) {
    let dir = root.dir_of(INVENTORY);
    std::fs::remove_dir_all(&dir).unwrap();
    let columns = schema
        .fields()
        .iter()
        .map(|field| match field.is_nullable() {
            true => new_null_array(field.data_type(), 0),
            false => new_empty_array(field.data_type()),
        })
        .collect::<Vec<Arc<dyn Array>>>();
    let schema = Arc::new(schema);
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let outcome = alluvium_write_policy::append(&dir, schema, vec![batch], &Default::default(), ("test", 1)).await;
    let _ = outcome.unwrap();
}

#[tokio::test]
async fn a_column_that_nobody_here_can_fill_is_newer() {
    let (root, ledgers) = half_drained().await;
    let mut fields: Vec<Field> = INVENTORY.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("trace_id", DataType::Utf8, false));
    replace(&root, Schema::new(fields)).await;
    is_newer(&root, &ledgers, "trace_id").await;
}

#[tokio::test]
async fn a_column_of_another_type_is_damage() {
    let (root, ledgers) = half_drained().await;
    replace(&root, Schema::new(vec![Field::new("run_id", DataType::Int64, false)])).await;
    let report = ledgers.drain().await.unwrap();
    assert!(report.notices.len() == 1 && report.notices[0].contains("run_id"), "{:?}", report.notices);
    assert_eq!(views(&ledgers).await, ["new"]);
}
