//! `kill -9` between any two steps of a drain.

use alluvium_telemetry::Seam;

use super::support::{Root, event, kill, ledgers, role, spawn, sql, summary, views, wait_to_be_killed};
use crate::Ledger;

/// Played by a process of its own: records a run and is killed at the fail point that its role names.
#[test]
#[ignore = "a process that `a_drain_killed_*` start and kill"]
fn drainer() {
    let Some((point, root)) = role() else { return };
    let ledgers = ledgers(&root);
    let run = ledgers.begin_run(Seam::system().run_id(), None, None).unwrap();
    let run_id = run.run_id();
    ledgers.record(&[event(run_id, "a"), event(run_id, "b")]).unwrap();
    ledgers.end_run(run, &summary(run_id), &[]).unwrap();
    fail::cfg_callback(point, wait_to_be_killed).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ledgers.drain()).unwrap();
}

/// Kills a drain at `point` of its first ledger, and drains what it left together with news. How far the other ledger came beside it is
/// nobody's to say.
async fn killed_at(point: &str, committed: &[&str]) {
    let root = Root::new();
    let child = spawn("tests::crash::drainer", point, root.path());
    kill(child);

    let ledgers = root.ledgers();
    assert_eq!(ledgers.pending().unwrap(), 3, "nothing is taken out before it is committed");
    assert_eq!(views(&ledgers).await, committed);
    ledgers.record(&[event(root.seam.run_id(), "c")]).unwrap();
    let report = ledgers.drain().await.unwrap();

    let missing = 3 - committed.len() as u64;
    assert_eq!(report.rows.get(&Ledger::CacheInventory), Some(&missing));
    assert!(report.notices.is_empty(), "{:?}", report.notices);
    assert_eq!(views(&ledgers).await, ["a", "b", "c"]);
    assert_eq!(sql(&ledgers, "select result from cache_runs").await.len(), 1);
    assert_eq!(ledgers.pending().unwrap(), 0);
}

#[tokio::test]
async fn a_drain_killed_before_its_commit_is_done_by_the_next() {
    killed_at("ledger.drain.before_commit", &[]).await;
}

#[tokio::test]
async fn a_drain_killed_after_its_commit_writes_nothing_twice() {
    killed_at("ledger.drain.after_commit", &["a", "b"]).await;
}

/// As above, but without news: then there is nothing to commit to that ledger, and the outbox is only emptied.
#[tokio::test]
async fn a_drain_killed_after_its_commit_is_finished_without_another() {
    let root = Root::new();
    kill(spawn("tests::crash::drainer", "ledger.drain.after_commit", root.path()));
    let ledgers = root.ledgers();
    let report = ledgers.drain().await.unwrap();
    assert!(!report.rows.contains_key(&Ledger::CacheInventory), "{report:?}");
    assert_eq!(report.commits, report.rows.len() as u64);
    assert_eq!(views(&ledgers).await, ["a", "b"]);
    assert_eq!(sql(&ledgers, "select result from cache_runs").await.len(), 1);
    assert_eq!(ledgers.pending().unwrap(), 0);
}
