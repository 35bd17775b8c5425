//! Maintenance changes files and logs, never rows.

use std::time::{Duration, SystemTime};

use alluvium_contracts::{
    Compression, DeltaFeature, MaintenanceOperation, MaintenancePolicy, MaintenanceResult, StatsPolicy, WriteMode,
    WriterPropertiesPolicy,
};
use alluvium_telemetry::Seam;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

use super::*;
use crate::{CommitError, Maintenance, MaintenanceError, keep_versions, release_versions, table_order};

fn maintenance(table: &Path) -> Maintenance {
    Maintenance::begin(table, Seam::system()).unwrap()
}

fn appending() -> DeltaWritePolicy {
    DeltaWritePolicy {
        mode: WriteMode::Append,
        stats_policy: StatsPolicy::Explicit,
        stats_columns: Some(names(&["n"])),
        partition_by: names(&["s"]),
        writer_properties: WriterPropertiesPolicy {
            compression: Compression::Zstd,
            bloom_filter_columns: names(&["n"]),
            ..WriterPropertiesPolicy::default()
        },
        ..DeltaWritePolicy::default()
    }
}

async fn small_files(table: &Path, policy: &DeltaWritePolicy) {
    for n in 0..5 {
        land(table, policy, vec![batch(&[(Some("a"), n), (Some("b"), n), (None, n)])]).await;
    }
}

#[tokio::test]
async fn compaction_keeps_rows_and_writes_as_the_table_says() {
    let dir = tempfile::tempdir().unwrap();
    small_files(dir.path(), &appending()).await;
    let before = rows(dir.path()).await;
    let skipped = maintenance(dir.path()).compact(6).await.unwrap();
    assert_eq!((skipped.result, skipped.version_after), (MaintenanceResult::Skipped, Some(4)));
    let event = maintenance(dir.path()).compact(3).await.unwrap();
    assert_eq!((event.result, event.files_removed, event.files_added), (MaintenanceResult::Ok, 15, 3));
    assert_eq!((event.version_before, event.version_after), (Some(4), Some(5)));
    assert_eq!(rows(dir.path()).await, before);
    let log = actions(dir.path(), 5);
    assert_eq!(log["commitInfo"][0]["operation"], "OPTIMIZE");
    for action in log["add"].iter().chain(&log["remove"]) {
        assert_eq!(action["dataChange"], false, "no reader of changes sees it: {action}");
    }
    for add in &log["add"] {
        let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
        assert_eq!(stats["minValues"].as_object().unwrap().keys().collect::<Vec<_>>(), ["n"]);
        assert!(add["tags"]["alluvium.digest"].is_string());
        let column = footer(&dir.path().join(add["path"].as_str().unwrap())).row_group(0).column(0).clone();
        assert!(matches!(column.compression(), parquet::basic::Compression::ZSTD(_)), "the engine would forget it");
        assert!(column.bloom_filter_offset().is_some());
    }
    let again = maintenance(dir.path()).compact(2).await.unwrap();
    assert_eq!(again.result, MaintenanceResult::Skipped, "one file a partition has nothing to join");
}

#[tokio::test]
async fn ordering_anew_gives_the_version_an_order() {
    let dir = tempfile::tempdir().unwrap();
    small_files(dir.path(), &appending()).await;
    let before = rows(dir.path()).await;
    assert_eq!(table_order(dir.path(), 4).await.unwrap(), None);
    let event = maintenance(dir.path()).zorder(&names(&["n"])).await.unwrap();
    assert_eq!((event.operation, event.result), (MaintenanceOperation::Zorder, MaintenanceResult::Ok));
    assert_eq!(table_order(dir.path(), 5).await.unwrap(), Some(names(&["s", "n"])));
    assert_eq!(rows(dir.path()).await, before);
}

#[tokio::test]
async fn an_append_only_table_may_be_compacted_and_a_feed_stays_silent() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy {
        enable_features: vec![DeltaFeature::AppendOnly, DeltaFeature::ChangeDataFeed],
        mode: WriteMode::Append,
        ..DeltaWritePolicy::default()
    };
    small_files(dir.path(), &policy).await;
    let before = rows(dir.path()).await;
    assert_eq!(maintenance(dir.path()).compact(2).await.unwrap().result, MaintenanceResult::Ok);
    assert_eq!(rows(dir.path()).await, before);
}

fn hours_ago(hours: u64) -> SystemTime {
    let now = Duration::from_millis(Seam::system().unix_ms().try_into().unwrap());
    SystemTime::UNIX_EPOCH + now - Duration::from_secs(hours * 3_600)
}

/// Makes the log look as if it was written hours ago.
fn age_log(table: &Path) {
    for entry in fs::read_dir(table.join("_delta_log")).unwrap() {
        fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(hours_ago(3)).unwrap();
    }
}

/// Makes what a table removed look as if it was removed long ago.
fn age_removes(table: &Path) {
    let old = hours_ago(200);
    let old_ms = old.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    for entry in fs::read_dir(table.join("_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let lines: Vec<String> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|line| {
                let mut action: Value = serde_json::from_str(line).unwrap();
                if let Some(remove) = action.get_mut("remove") {
                    remove["deletionTimestamp"] = Value::from(old_ms);
                }
                action.to_string()
            })
            .collect();
        fs::write(&path, lines.join("\n")).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    }
    for file in data_files(table) {
        fs::File::options().write(true).open(table.join(file)).unwrap().set_modified(old).unwrap();
    }
}

#[tokio::test]
async fn vacuum_has_a_floor_and_keeps_pinned_versions() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy::default();
    for n in 0..3 {
        land(dir.path(), &policy, vec![batch(&[(Some("a"), n)])]).await;
    }
    let low = maintenance(dir.path()).vacuum(167, &[]).await;
    assert!(matches!(low, Err(MaintenanceError::Retention { hours: 167, floor: 168 })), "{low:?}");
    let young = maintenance(dir.path()).vacuum(168, &[]).await.unwrap();
    assert_eq!((young.result, data_files(dir.path()).len()), (MaintenanceResult::Skipped, 4), "with the lock file");
    age_removes(dir.path());
    let event = maintenance(dir.path()).vacuum(168, &[1]).await.unwrap();
    assert_eq!((event.result, event.files_removed), (MaintenanceResult::Ok, 1));
    assert!(event.bytes_removed > 0);
    assert_eq!(plain_rows(dir.path(), 1).await, ["a|1"], "the pinned version reads");
    assert_eq!(rows(dir.path()).await, ["a|2"]);
    assert!(dir.path().join("_alluvium/maintenance.lock").exists(), "what is not data is left alone");
    assert_eq!((event.version_before, event.version_after), (Some(2), Some(2)), "the head is whose it was");
}

#[tokio::test]
async fn a_checkpoint_is_written_when_due_and_lets_the_log_go() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() };
    small_files(dir.path(), &policy).await;
    let before = rows(dir.path()).await;
    assert_eq!(maintenance(dir.path()).checkpoint().await.unwrap().result, MaintenanceResult::Ok);
    assert!(dir.path().join("_delta_log/00000000000000000004.checkpoint.parquet").exists());
    assert_eq!(maintenance(dir.path()).checkpoint().await.unwrap().result, MaintenanceResult::Skipped);
    // Nothing is old enough yet.
    assert_eq!(maintenance(dir.path()).cleanup_log(1).await.unwrap().result, MaintenanceResult::Skipped);
    age_log(dir.path());
    let event = maintenance(dir.path()).cleanup_log(1).await.unwrap();
    assert_eq!((event.result, event.files_removed), (MaintenanceResult::Ok, 4), "commits 0 to 3");
    assert_eq!(rows(dir.path()).await, before);
    land(dir.path(), &policy, vec![batch(&[(Some("z"), 1)])]).await;
    assert_eq!(rows(dir.path()).await.len(), before.len() + 1);

    // A table whose commits are its truth keeps them.
    let kept = tempfile::tempdir().unwrap();
    replace(kept.path(), None, vec![batch(&[(Some("a"), 1)])]).await;
    let event = maintenance(kept.path()).cleanup_log(1).await.unwrap();
    assert!(event.result == MaintenanceResult::Skipped && event.reason.unwrap().contains("enableExpiredLogCleanup"));
}

/// What is kept is kept from every vacuum and log cleanup, and not only from one that is told of it.
#[tokio::test]
async fn kept_versions_can_be_read_until_they_are_released() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..5 {
        land(dir.path(), &DeltaWritePolicy::default(), vec![batch(&[(Some("a"), n)])]).await;
        if n == 0 {
            maintenance(dir.path()).checkpoint().await.unwrap();
        }
    }
    let [one, other] = [(); 2].map(|()| Seam::system().run_id());
    keep_versions(dir.path(), one, 1..=1).unwrap();
    keep_versions(dir.path(), other, 1..=2).unwrap();
    assert_eq!(rows(dir.path()).await, ["a|4"], "a mark is no data");
    age_removes(dir.path());
    let busy = maintenance(dir.path());
    assert!(matches!(keep_versions(dir.path(), one, 1..=1), Err(MaintenanceError::Busy { .. })), "a vacuum decides");
    drop(busy);

    let vacuumed = maintenance(dir.path()).vacuum(168, &[]).await.unwrap();
    assert_eq!((vacuumed.files_removed, vacuumed.kept_versions), (2, vec![1, 2]));
    assert_eq!([plain_rows(dir.path(), 1).await, plain_rows(dir.path(), 2).await], [["a|1"], ["a|2"]]);
    assert!(release_versions(dir.path(), other).unwrap());
    assert!(!release_versions(dir.path(), other).unwrap());
    let vacuumed = maintenance(dir.path()).vacuum(168, &[]).await.unwrap();
    assert_eq!((vacuumed.files_removed, vacuumed.kept_versions), (1, vec![1]), "the other still keeps one");

    maintenance(dir.path()).checkpoint().await.unwrap();
    age_log(dir.path());
    let cleaned = maintenance(dir.path()).cleanup_log(1).await.unwrap();
    assert_eq!(
        cleaned.result,
        MaintenanceResult::Skipped,
        "version 1 is read from the checkpoint before it: {cleaned:?}"
    );
    assert_eq!(plain_rows(dir.path(), 1).await, ["a|1"]);
    assert!(release_versions(dir.path(), one).unwrap());
    let cleaned = maintenance(dir.path()).cleanup_log(1).await.unwrap();
    assert_eq!(cleaned.files_removed, 5, "commits 0 to 3, and the checkpoint of version 0: {cleaned:?}");
    assert_eq!(rows(dir.path()).await, ["a|4"]);

    // A version that nobody can read any more keeps no vacuum from its work, and what is not understood does.
    let mark = |name: &str| dir.path().join("_alluvium/kept").join(name);
    fs::write(mark(&format!("{one}.1-1")), []).unwrap();
    assert_eq!(maintenance(dir.path()).vacuum(168, &[]).await.unwrap().kept_versions, [0_u64; 0]);
    fs::write(mark("all"), []).unwrap();
    let unread = maintenance(dir.path()).vacuum(168, &[]).await.unwrap_err();
    assert!(matches!(&unread, MaintenanceError::Kept { path, .. } if path.ends_with("all")), "{unread:?}");
    let ahead = keep_versions(dir.path(), one, 0..=9).unwrap_err();
    assert!(
        matches!(&ahead, MaintenanceError::Table { source } if source.to_string().contains("version 9")),
        "{ahead:?}"
    );
}

#[tokio::test]
async fn restore_makes_an_older_version_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3 {
        land(dir.path(), &DeltaWritePolicy::default(), vec![batch(&[(Some("a"), n)])]).await;
    }
    let event = maintenance(dir.path()).restore(0).await.unwrap();
    assert_eq!((event.version_before, event.version_after), (Some(2), Some(3)));
    assert_eq!((event.files_added, event.files_removed), (1, 1));
    assert_eq!(rows(dir.path()).await, ["a|0"]);
    let digests: Vec<_> = active_files(dir.path(), 3).await.unwrap().into_iter().map(|file| file.digest).collect();
    assert!(digests.iter().all(Option::is_some), "the files are known as they were");
    let ahead = maintenance(dir.path()).restore(9).await;
    assert!(matches!(&ahead, Err(error) if error.is_input()), "{ahead:?}");
}

#[tokio::test]
async fn the_stored_policy_says_what_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy {
        zorder_by: names(&["n"]),
        maintenance: MaintenancePolicy {
            compact_min_files: Some(3),
            zorder_min_files: Some(2),
            vacuum_retention_hours: Some(168),
            checkpoint_interval_commits: Some(3),
            log_retention_hours: Some(24),
        },
        mode: WriteMode::Append,
        ..DeltaWritePolicy::default()
    };
    small_files(dir.path(), &policy).await;
    let before = rows(dir.path()).await;
    let events = maintenance(dir.path()).run_due().await.unwrap();
    use MaintenanceOperation::*;
    use MaintenanceResult::*;
    let what: Vec<_> = events.iter().map(|event| (event.operation, event.result)).collect();
    assert_eq!(what, [(Zorder, Ok), (Compact, Skipped), (Checkpoint, Ok), (Vacuum, Skipped), (LogCleanup, Skipped)]);
    assert_eq!(rows(dir.path()).await, before);
    let events = maintenance(dir.path()).run_due().await.unwrap();
    assert!(events.iter().all(|event| event.result == Skipped), "nothing is due twice: {events:?}");

    let plain = tempfile::tempdir().unwrap();
    replace(plain.path(), None, vec![]).await;
    assert_eq!(maintenance(plain.path()).run_due().await.unwrap(), [], "what is not asked for is not done");
    let nowhere = Maintenance::begin(&plain.path().join("x"), Seam::system());
    assert!(matches!(nowhere, Err(MaintenanceError::Table { .. })), "{nowhere:?}");
}

#[tokio::test]
async fn vacuum_takes_what_a_killed_writer_of_ours_left_and_nothing_else_that_it_does_not_know() {
    const LEFT: &str = "part-00000-2882ce28-fff6-45e3-ad74-0f605445e7ab-c000.snappy.parquet";
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { partition_by: names(&["s"]), ..DeltaWritePolicy::default() };
    for n in 0..2 {
        land(dir.path(), &policy, vec![batch(&[(Some("a b"), n)])]).await;
    }
    let all = data_files(dir.path());
    let left = [LEFT.to_owned(), format!("s=a b/{LEFT}#1")];
    let others = [
        "part-left.parquet".to_owned(),
        "notes.txt".to_owned(),
        format!("_own/{LEFT}"),
        format!("exports/{LEFT}"),
        format!("s=a b/deeper=1/{LEFT}"),
        format!("s=other table/_delta_log/{LEFT}"),
        format!("s=other table/{LEFT}"),
    ];
    for file in left.iter().chain(&others) {
        let file = dir.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "left").unwrap();
    }
    let young = dir.path().join(LEFT.replace("00000-", "00001-"));
    fs::write(&young, "being written").unwrap();
    let linked = tempfile::tempdir().unwrap();
    fs::write(linked.path().join(LEFT), "left").unwrap();
    std::os::unix::fs::symlink(linked.path(), dir.path().join("s=linked")).unwrap();
    for file in all.iter().cloned().chain(left.iter().chain(&others).map(PathBuf::from)) {
        fs::File::options().write(true).open(dir.path().join(file)).unwrap().set_modified(hours_ago(169)).unwrap();
    }
    fs::File::options().write(true).open(linked.path().join(LEFT)).unwrap().set_modified(hours_ago(169)).unwrap();

    // A log that has lost its first commits cannot say whose a file was.
    let first = dir.path().join("_delta_log/00000000000000000000.json");
    let aside = dir.path().join("_delta_log/aside");
    maintenance(dir.path()).checkpoint().await.unwrap();
    fs::rename(&first, &aside).unwrap();
    assert_eq!(maintenance(dir.path()).vacuum(168, &[]).await.unwrap().files_removed, 0);
    fs::rename(&aside, &first).unwrap();

    let event = maintenance(dir.path()).vacuum(168, &[]).await.unwrap();
    assert_eq!((event.result, event.files_removed, event.bytes_removed), (MaintenanceResult::Ok, 2, 8));
    assert!(left.iter().all(|file| !dir.path().join(file).exists()));
    assert!(others.iter().all(|file| dir.path().join(file).exists()) && young.exists());
    assert!(linked.path().join(LEFT).exists(), "what lies behind a link is not the table's");
    assert!(all.iter().all(|file| dir.path().join(file).exists()), "removed a moment ago, or there");
    assert_eq!(plain_rows(dir.path(), 0).await, ["0"]);
    assert_eq!(rows(dir.path()).await, ["a b|1"]);
}

#[tokio::test]
async fn the_commits_of_kept_versions_outlast_writes_and_restores() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() };
    for n in 0..4 {
        land(dir.path(), &policy, vec![batch(&[(Some("a"), n)])]).await;
    }
    maintenance(dir.path()).checkpoint().await.unwrap();
    let holder = Seam::system().run_id();
    keep_versions(dir.path(), holder, 1..=1).unwrap();
    let age = || {
        for entry in fs::read_dir(dir.path().join("_delta_log")).unwrap() {
            let file = fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
            file.set_modified(hours_ago(24 * 40)).unwrap();
        }
    };
    age();
    land(dir.path(), &policy, vec![batch(&[(Some("b"), 4)])]).await;
    maintenance(dir.path()).restore(3).await.unwrap();
    maintenance(dir.path()).checkpoint().await.unwrap();
    age();
    land(dir.path(), &policy, vec![batch(&[(Some("c"), 5)])]).await;
    assert!(dir.path().join("_delta_log/00000000000000000001.json").exists());
    assert_eq!(maintenance(dir.path()).vacuum(168, &[]).await.unwrap().kept_versions, [1]);
    assert_eq!(plain_rows(dir.path(), 1).await, ["a|0", "a|1"]);
}

#[tokio::test]
async fn an_append_only_table_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let features = vec![DeltaFeature::AppendOnly];
    let policy = DeltaWritePolicy { enable_features: features, mode: WriteMode::Append, ..DeltaWritePolicy::default() };
    for n in 0..2 {
        land(dir.path(), &policy, vec![batch(&[(Some("a"), n)])]).await;
    }
    let refused = maintenance(dir.path()).restore(0).await;
    let is_refused = matches!(&refused, Err(MaintenanceError::Commit { source: CommitError::AppendOnly { .. } }));
    assert!(is_refused, "{refused:?}");
    assert_eq!(rows(dir.path()).await, ["a|0", "a|1"]);
}

#[tokio::test]
async fn an_order_is_made_within_the_memory_that_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() };
    land(dir.path(), &policy, vec![numbered(0, 60_000)]).await;
    let within = |bytes| {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0).build_arc().unwrap();
        maintenance(dir.path()).task(Arc::new(TaskContext::default().with_runtime(runtime)))
    };
    let little = within(64 << 10).zorder(&names(&["s"])).await;
    assert!(matches!(little, Err(MaintenanceError::Write { .. })), "{little:?}");
    within(64 << 20).zorder(&names(&["s"])).await.unwrap();
    assert_eq!(rows(dir.path()).await.len(), 60_000);
}
