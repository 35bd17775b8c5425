//! A ledger that cannot be read is an answer to who asks it, and to nobody else.

use std::path::PathBuf;

use alluvium_contracts::{CheckStatus, DoctorCheck, RunResult};
use alluvium_disk_kv_cache::{Settings, Store, StoreError};
use alluvium_ledgers::{Ledger, LedgerError};
use alluvium_runs::{OpenOptions, Pipeline, Project, RunError, RunName, RunOptions, Silent};
use datafusion::common::DataFusionError;
use futures::TryStreamExt as _;

use crate::lab::{Lab, answer, copy_dir, later, run, try_run};

fn dir_of(lab: &Lab, ledger: Ledger) -> PathBuf {
    lab.path(".alluvium/cache_ledgers").join(ledger.dir_name())
}

/// What asking the inventory by itself and through a view over it comes to.
async fn refusals(pipeline: &Pipeline) -> Vec<RunError> {
    let mut refusals = Vec::new();
    for sql in ["select view_name from alluvium.cache_inventory", "select * from alluvium.slowest_views"] {
        let error = match pipeline.sql(sql).await {
            Err(error) => error,
            Ok(answer) => {
                let read: Result<Vec<_>, DataFusionError> = answer.batches.try_collect().await;
                RunError::Execute { source: Box::new(read.unwrap_err()) }
            }
        };
        refusals.push(error);
    }
    refusals
}

/// Everything that does not ask the inventory.
async fn assert_the_others_answer(lab: &Lab) {
    let pipeline = lab.open();
    assert_eq!(pipeline.runs(9).await.unwrap().runs.len(), 1);
    assert_eq!(pipeline.manifest_of(&RunName::Latest).await.unwrap().result, RunResult::Succeeded);
    for table in ["cache_artifacts", "cache_snapshots", "runs", "run_commits", "cache_entries", "bytes_by_scope"] {
        answer(&pipeline, &format!("select * from alluvium.{table}")).await;
    }
    let listed = "select table_name from information_schema.tables where table_schema = 'alluvium'";
    assert!(answer(&pipeline, listed).await.contains("| cache_runs "));
}

#[tokio::test]
async fn one_ledger_of_a_newer_format_keeps_no_question_from_the_others() {
    let lab = crate::crash::lab();
    run(&lab.open()).await;
    let newer = r#"{"protocol":{"minReaderVersion":9,"minWriterVersion":9}}"#;
    let log = dir_of(&lab, Ledger::CacheInventory).join("_delta_log/00000000000000000001.json");
    std::fs::write(log, newer).unwrap();
    for error in refusals(&lab.open()).await {
        assert!(
            matches!(&error, RunError::Ledger(LedgerError::NewerFormat { ledger: Ledger::CacheInventory, .. })),
            "{error:?}"
        );
    }
    assert_the_others_answer(&lab).await;
}

#[tokio::test]
async fn a_run_is_shown_without_what_only_a_newer_build_can_read() {
    let lab = crate::crash::lab();
    run(&lab.open()).await;
    let newer = r#"{"protocol":{"minReaderVersion":9,"minWriterVersion":9}}"#;
    let log = dir_of(&lab, Ledger::CacheArtifacts).join("_delta_log/00000000000000000001.json");
    std::fs::write(log, newer).unwrap();
    let record = lab.open().run_record(&RunName::Latest).await.unwrap();
    assert!(record.manifest.is_some() && !record.entries.is_empty() && record.artifacts.is_empty());
    assert!(record.unread.len() == 1 && record.unread[0].contains("cache_artifacts"), "{:?}", record.unread);
}

/// What is no directory where a directory should be: nothing of it can be read, and nothing can be said of it.
#[tokio::test]
async fn one_ledger_that_the_system_does_not_show_keeps_no_question_from_the_others() {
    let lab = crate::crash::lab();
    run(&lab.open()).await;
    // An event for it waits, too.
    run(&lab.open()).await;
    let log = dir_of(&lab, Ledger::CacheInventory).join("_delta_log");
    std::fs::rename(&log, log.with_file_name("aside")).unwrap();
    // A link to itself: `ELOOP`, for whoever asks.
    std::os::unix::fs::symlink(&log, &log).unwrap();
    for error in refusals(&lab.open()).await {
        assert!(
            matches!(&error, RunError::Ledger(LedgerError::Unreadable { ledger: Ledger::CacheInventory, .. })),
            "{error:?}"
        );
    }
    let pipeline = lab.open();
    assert_eq!(pipeline.runs(9).await.unwrap().runs.len(), 2);
    // What waited is not lost.
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(log.with_file_name("aside"), &log).unwrap();
    let hits = answer(&pipeline, "select count(*) as n from alluvium.cache_inventory where result = 'hit'").await;
    assert!(hits.contains("| 3 "), "{hits}");
}

/// What the outbox finds out when a run begins is told by that run, once.
#[tokio::test]
async fn what_a_run_finds_wrong_in_the_outbox_is_among_its_notices() {
    let lab = crate::crash::lab();
    run(&lab.open()).await;
    let pipeline = lab.open();
    let queue = Store::open(lab.path(".alluvium/kv/queue"), &["outbox", "meta"], Settings::new()).unwrap();
    let row = format!("ledgers/run/{}", later().run_id());
    queue.write::<_, StoreError>(|txn| txn.put("meta", row.as_bytes(), b"no row")).unwrap();
    drop(queue);
    let told = |notices: &[String]| notices.iter().filter(|told| told.contains("does not decode")).count();
    assert_eq!(told(&run(&pipeline).await.notices), 1);
    assert_eq!(told(&run(&pipeline).await.notices), 0);
}

/// A copy that somebody puts back: the next run that drains says so, and `doctor` after it.
#[tokio::test]
async fn a_ledger_that_is_put_back_is_told_by_the_run_and_by_doctor() {
    let lab = crate::crash::lab();
    run(&lab.open()).await;
    let (dir, backup) = (dir_of(&lab, Ledger::CacheRuns), lab.path("backup"));
    copy_dir(&dir, &backup);
    let fresh = RunOptions { fresh: true, ..RunOptions::default() };
    try_run(&lab.open(), fresh.clone(), &Silent).await.unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    copy_dir(&backup, &dir);

    let told = try_run(&lab.open(), fresh, &Silent).await.unwrap().notices;
    assert!(told.iter().any(|told| told.contains("cache_runs") && told.contains("gone")), "{told:?}");
    let options = OpenOptions { seam: Some(later()), ..OpenOptions::default() };
    let found = alluvium_runs::doctor(&Project::load(lab.dir()).unwrap(), &options).unwrap();
    let warned = |check: &&DoctorCheck| check.name == "ledgers" && check.status == CheckStatus::Warning;
    let warnings: Vec<_> = found.checks.iter().filter(warned).collect();
    assert!(warnings.len() == 1 && warnings[0].message.contains("cache_runs"), "{warnings:?}");
    assert_eq!(lab.open().runs(9).await.unwrap().runs.len(), 2, "the first and the last");
}

/// Opening a ledger compares lengths; what its files hold is found out when they are read.
#[tokio::test]
async fn damage_of_equal_length_names_the_ledger_the_file_and_what_to_do() {
    let harms: [fn(&mut Vec<u8>); 2] = [
        |bytes| bytes.fill(0),
        |bytes| {
            let end = bytes.len() / 2;
            bytes[4..end].fill(0xff);
        },
    ];
    for harm in harms {
        let lab = crate::crash::lab();
        run(&lab.open()).await;
        let dir = dir_of(&lab, Ledger::CacheInventory);
        let [file] = alluvium_write_policy::active_files(&dir, 0).await.unwrap().try_into().unwrap();
        let mut bytes = std::fs::read(dir.join(&file.path)).unwrap();
        harm(&mut bytes);
        std::fs::write(dir.join(&file.path), bytes).unwrap();
        for error in refusals(&lab.open()).await {
            let RunError::Execute { source } = &error else { panic!("{error:?}") };
            let DataFusionError::External(damage) = &**source else { panic!("{source:?}") };
            let damage = damage.to_string();
            for words in ["cache_inventory", &*file.path, "from a copy", "move the directory away"] {
                assert!(damage.contains(words), "{words}: {damage}");
            }
        }
        assert_the_others_answer(&lab).await;
        // Which is what it says.
        std::fs::rename(&dir, dir.with_extension("away")).unwrap();
        let empty = answer(&lab.open(), "select count(*) as n from alluvium.cache_inventory").await;
        assert!(empty.contains("| 0 "), "{empty}");
    }
}
