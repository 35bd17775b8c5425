//! Ledgers and outboxes that are put back from copies of themselves, at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_contracts::{CacheArtifact, LedgerEvent};
use alluvium_telemetry::{Clock, Seam};
use serde_json::json;

use super::support::{Root, bundle, event, manifest, queue, select, sql, summary, views};
use crate::{Ledger, LedgerError, Ledgers, RunGuard};

const INVENTORY: Ledger = Ledger::CacheInventory;

fn copy(from: &Path, to: &Path) {
    if !from.exists() {
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => assert!(fs::copy(from, to).is_ok()),
        }
    }
}

/// Takes a copy of `place`, or puts one back.
fn replace(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    copy(from, to);
}

async fn record(root: &Root, view: &str) {
    root.ledgers().record(&[event(root.seam.run_id(), view)]).unwrap();
}

async fn drain(root: &Root) -> Vec<String> {
    root.ledgers().drain().await.unwrap().notices
}

#[tokio::test]
async fn an_outbox_that_was_put_back_loses_nothing_that_is_recorded_from_then_on() {
    // As many new events as fill the numbers of the old ones, and more: at some point each of them would have been taken for an old one.
    for recorded_since in [1, 3, 5] {
        let root = Root::new();
        let backup = root.path().join("backup");
        record(&root, "first").await;
        assert!(drain(&root).await.is_empty());
        record(&root, "waits in the copy").await;
        replace(&root.queue_dir(), &backup);
        for n in 0..3 {
            record(&root, &format!("old {n}")).await;
        }
        assert!(drain(&root).await.is_empty());
        replace(&backup, &root.queue_dir());

        let mut expected: BTreeSet<String> =
            ["first", "waits in the copy", "old 0", "old 1", "old 2"].map(str::to_owned).into();
        for n in 0..recorded_since {
            record(&root, &format!("new {n}")).await;
            expected.insert(format!("new {n}"));
        }
        let told = drain(&root).await;
        assert!(told.len() == 1 && told[0].contains("outbox") && told[0].contains("put back"), "{told:?}");
        assert_eq!(views(&root.ledgers()).await, expected.iter().cloned().collect::<Vec<_>>());
        let [loss] = root.ledgers().losses().unwrap().try_into().unwrap();
        assert_eq!(loss.what, told[0], "kept for whoever asks later");
        record(&root, "after").await;
        assert!(drain(&root).await.is_empty(), "told once");
    }
}

#[tokio::test]
async fn a_ledger_that_was_put_back_is_told_though_nobody_followed_it() {
    for drains in [1, 3] {
        let root = Root::new();
        let backup = root.path().join("backup");
        for n in 0..drains {
            record(&root, &format!("kept {n}")).await;
            drain(&root).await;
        }
        replace(&root.dir_of(INVENTORY), &backup);
        record(&root, "gone").await;
        drain(&root).await;
        replace(&backup, &root.dir_of(INVENTORY));

        record(&root, "new").await;
        let told = drain(&root).await;
        assert!(told.len() == 1 && told[0].contains("cache_inventory") && told[0].contains("gone"), "{told:?}");
        let found = views(&root.ledgers()).await;
        assert_eq!(found.len(), drains + 1, "{found:?}");
        assert!(found.contains(&"new".to_owned()), "{found:?}");
        assert_eq!(root.ledgers().losses().unwrap().len(), 1);
        record(&root, "after").await;
        assert!(drain(&root).await.is_empty(), "told once");
    }
}

#[tokio::test]
async fn an_outbox_that_is_gone_is_told_once_by_a_drain_or_by_a_question() {
    for by_drain in [true, false] {
        let root = Root::new();
        let run_id = root.seam.run_id();
        let both = [event(run_id, "kept"), LedgerEvent::CacheRuns(summary(run_id))];
        root.ledgers().record(&both).unwrap();
        assert!(drain(&root).await.is_empty(), "the first drain of a root");
        record(&root, "gone").await;
        fs::remove_dir_all(root.queue_dir()).unwrap();

        let told = if by_drain {
            root.ledgers().record(&both).unwrap();
            drain(&root).await
        } else {
            let ledgers = root.ledgers();
            assert_eq!(views(&ledgers).await, ["kept"]);
            ledgers.take_notices()
        };
        assert!(told.len() == 1 && told[0].contains("outbox") && told[0].contains("was lost"), "{told:?}");
        let [loss] = root.ledgers().losses().unwrap().try_into().unwrap();
        assert_eq!(loss.what, told[0], "kept for whoever asks later");
        root.ledgers().record(&both).unwrap();
        assert!(drain(&root).await.is_empty(), "told once");
        let ledgers = root.ledgers();
        assert_eq!(views(&ledgers).await.len(), if by_drain { 3 } else { 2 });
        assert!(ledgers.take_notices().is_empty(), "told once");
    }
}

/// The row of the run comes back with the copy; its file does not.
#[tokio::test]
async fn a_run_that_ended_after_the_copy_is_not_closed_again() {
    let root = Root::new();
    let backup = root.path().join("backup");
    let ended = root.ledgers().begin_run(root.seam.run_id(), None, Some(&manifest(root.seam.run_id()))).unwrap();
    let killed = root.ledgers().begin_run(root.seam.run_id(), None, None).unwrap();
    let alive = root.ledgers().begin_run(root.seam.run_id(), None, None).unwrap();
    let [ended_id, killed_id, alive_id] = [&ended, &killed, &alive].map(RunGuard::run_id);
    replace(&root.queue_dir(), &backup);
    let last = [LedgerEvent::RunManifests(Box::new(manifest(ended_id)))];
    root.ledgers().end_run(ended, &summary(ended_id), &last).unwrap();
    drain(&root).await;
    drop(killed);

    for again in [false, true] {
        replace(&backup, &root.queue_dir());
        let ledgers = root.ledgers();
        // The second time the other one is on record too.
        let expected = if again { vec![ended_id, killed_id] } else { vec![ended_id] };
        assert_eq!(ledgers.forget_ended_runs().await.unwrap(), expected);
        assert_eq!(ledgers.close_killed_runs().unwrap(), if again { vec![] } else { vec![killed_id] });
        ledgers.drain().await.unwrap();
    }
    root.ledgers().end_run(alive, &summary(alive_id), &[]).unwrap();
    drain(&root).await;
    let found = sql(&root.ledgers(), "select run_id, result from cache_runs order by run_id").await;
    let expected = [(ended_id, "succeeded"), (killed_id, "killed"), (alive_id, "succeeded")];
    let expected = expected.map(|(run_id, result)| json!({"run_id": run_id, "result": result}));
    assert_eq!(found, expected);
    assert_eq!(sql(&root.ledgers(), "select run_id from run_manifests").await.len(), 1);
}

/// Any steps in any order, as below.
#[tokio::test]
async fn whatever_is_put_back_no_run_has_two_rows() {
    for seed in 0..6_u64 {
        let root = Root::new();
        let backup = root.path().join("backup");
        let mut alive: Vec<RunGuard> = Vec::new();
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut steps = Vec::new();
        for _ in 0..24 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let one = ["begin", "end", "kill", "close", "drain", "copy", "put back"][(state >> 32) as usize % 7];
            steps.push(one);
            match (one, alive.pop()) {
                ("begin", run) => {
                    alive.extend(run);
                    alive.push(root.ledgers().begin_run(root.seam.run_id(), None, None).unwrap());
                }
                ("end", Some(run)) => {
                    let run_id = run.run_id();
                    // The copy may be older than the run.
                    match root.ledgers().end_run(run, &summary(run_id), &[]) {
                        Ok(()) | Err(LedgerError::RunNotOpen { .. }) => {}
                        Err(error) => panic!("seed {seed}: {steps:?}: {error}"),
                    }
                }
                ("kill", Some(run)) => drop(run),
                (one, run) => {
                    alive.extend(run);
                    match one {
                        "close" => {
                            root.ledgers().forget_ended_runs().await.unwrap();
                            root.ledgers().close_killed_runs().unwrap();
                        }
                        "drain" => drop(drain(&root).await),
                        "copy" if root.queue_dir().exists() => replace(&root.queue_dir(), &backup),
                        "put back" if backup.exists() => replace(&backup, &root.queue_dir()),
                        _ => {}
                    }
                }
            }
        }
        drop(alive);
        root.ledgers().forget_ended_runs().await.unwrap();
        root.ledgers().close_killed_runs().unwrap();
        drain(&root).await;
        let twice = "select run_id from cache_runs group by run_id having count(*) > 1";
        assert_eq!(sql(&root.ledgers(), twice).await.len(), 0, "seed {seed}: {steps:?}");
    }
}

/// A plan bundle is recorded once: if its ledger has lost it, it is recorded again.
#[tokio::test]
async fn documents_that_a_ledger_has_lost_are_recorded_again() {
    let root = Root::new();
    let (dir, backup) = (root.dir_of(Ledger::CacheArtifacts), root.path().join("backup"));
    let record = |view: &str| {
        let document = LedgerEvent::CacheArtifacts(bundle(root.seam.run_id(), view));
        root.ledgers().record(&[document]).unwrap();
    };
    record("kept");
    drain(&root).await;
    replace(&dir, &backup);
    record("lost");
    drain(&root).await;
    replace(&backup, &dir);
    record("another");
    assert_eq!(drain(&root).await.len(), 1);
    record("lost");
    drain(&root).await;
    let kept = select::<CacheArtifact>(&root.ledgers(), "select * from cache_artifacts").await;
    let mut names: Vec<_> = kept.into_iter().map(|artifact| artifact.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["another", "kept", "lost"]);
}

/// Stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn since_epoch(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Without a clock, the first drain finds out, and what is recorded after it is safe.
#[tokio::test]
async fn where_the_clock_was_put_back_too_the_first_drain_mends_it() {
    let root = Root::new();
    let backup = root.path().join("backup");
    let still = || {
        let seam = Seam::system().with_clock(Arc::new(Still));
        Ledgers::open(root.path().join("cache_ledgers"), queue(root.path()), seam).unwrap()
    };
    let record = |view: &str| still().record(&[event(root.seam.run_id(), view)]).unwrap();
    record("first");
    still().drain().await.unwrap();
    replace(&root.queue_dir(), &backup);
    for n in 0..5 {
        record(&format!("old {n}"));
    }
    still().drain().await.unwrap();
    replace(&backup, &root.queue_dir());
    record("taken for old");
    let told = still().drain().await.unwrap().notices;
    assert!(told.len() == 1 && told[0].contains("put back"), "{told:?}");
    record("new");
    assert!(still().drain().await.unwrap().notices.is_empty());
    assert!(views(&still()).await.contains(&"new".to_owned()));
}

/// Any steps in any order. What the outbox and the ledger hold at a moment is what a copy of that moment brings back, and a drain
/// leaves the one in the other, once. A drain that is killed after its commit is a drain before which the outbox is put back.
#[tokio::test]
async fn whatever_is_put_back_nothing_is_there_twice_and_nothing_new_is_lost() {
    for seed in 0..12_u64 {
        let root = Root::new();
        let (outbox_copy, ledger_copy) = (root.path().join("outbox-copy"), root.path().join("ledger-copy"));
        let (mut outbox, mut ledger) = (BTreeSet::new(), BTreeSet::new());
        let mut copies: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        // A ledger that goes back while the outbox stays is behind it from then on: what is put back of the outbox later may be what the
        // ledger had once, and is not looked for.
        let mut ledger_went_back = false;
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut steps = Vec::new();
        for step in 0..24 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let one = ["record", "record", "drain", "copy outbox", "put outbox back", "copy ledger", "put ledger back"]
                [(state >> 32) as usize % 7];
            steps.push(one);
            match one {
                "record" => {
                    let view = format!("{step:02}");
                    record(&root, &view).await;
                    outbox.insert(view);
                }
                "drain" => {
                    drain(&root).await;
                    let since_then = std::mem::take(&mut outbox);
                    ledger.extend(since_then);
                }
                "copy outbox" if root.queue_dir().exists() => {
                    replace(&root.queue_dir(), &outbox_copy);
                    copies.insert("outbox", outbox.clone());
                }
                "put outbox back" if !ledger_went_back => {
                    if let Some(copied) = copies.get("outbox") {
                        replace(&outbox_copy, &root.queue_dir());
                        outbox.clone_from(copied);
                    }
                }
                "copy ledger" if root.dir_of(INVENTORY).exists() => {
                    replace(&root.dir_of(INVENTORY), &ledger_copy);
                    copies.insert("ledger", ledger.clone());
                }
                "put ledger back" => {
                    if let Some(copied) = copies.get("ledger") {
                        replace(&ledger_copy, &root.dir_of(INVENTORY));
                        ledger_went_back |= ledger != *copied;
                        ledger.clone_from(copied);
                    }
                }
                _ => {}
            }
        }
        drain(&root).await;
        ledger.extend(outbox);
        let found = views(&root.ledgers()).await;
        assert_eq!(found, ledger.into_iter().collect::<Vec<_>>(), "seed {seed}: {steps:?}");
    }
}
