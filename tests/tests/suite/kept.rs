//! Runs that are kept: no collection and no eviction takes what a replay compares with.

use std::path::Path;
use std::time::Duration;

use alluvium_contracts::{RemovalResult, ReplayResult, UnreplayableRun, ViewResult};
use alluvium_runs::{Caches, GcRequest, OpenOptions, Opened, Pipeline, RunName, RunOptions, Selection, Silent};
use alluvium_telemetry::Seam;
use alluvium_write_policy::Maintenance;
use serde_json::Value;

use crate::lab::{Lab, run, try_run};

fn lab() -> Lab {
    let lab = Lab::new(
        r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.totals]
sql = "select s, sum(k) as k from events group by s"

[views.large]
sql = "select s from totals where k > 2"
"#,
    );
    lab.parquet("data/events.parquet", &[(1, "a"), (5, "b")]);
    lab
}

fn caches(lab: &Lab) -> Box<Caches> {
    match Caches::open(lab.dir(), OpenOptions::default()).unwrap() {
        Opened::Caches(caches) => caches,
        Opened::Absent(path) => panic!("{path:?}"),
    }
}

fn collect(lab: &Lab, dry_run: bool) -> Vec<(String, RemovalResult)> {
    let removal = caches(lab).cache().collect_garbage(GcRequest { max_bytes: Some(0), dry_run }).unwrap();
    let mut entries: Vec<_> = removal.entries.into_iter().map(|entry| (entry.view_name, entry.result)).collect();
    entries.sort();
    entries
}

async fn replays(pipeline: &Pipeline, run: &RunName) -> ReplayResult {
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    pipeline.replay(run, None, cancel).await.unwrap().result
}

#[tokio::test]
async fn what_a_kept_run_left_stays_until_it_is_released() {
    let lab = lab();
    let first = run(&lab.open()).await.run_id;
    let name = RunName::parse(&first.to_string()).unwrap();
    let kept = lab.open().keep_run(&name).await.unwrap();
    assert_eq!((kept.run_id, kept.entries.len(), kept.missing.len()), (first, 2, 0));
    assert_eq!(lab.open().kept_runs().unwrap().into_iter().collect::<Vec<_>>(), [first]);
    // Two runs that name the same entries are kept apart.
    let again = run(&lab.open()).await.run_id;
    lab.open().keep_run(&RunName::Latest).await.unwrap();
    assert_eq!(lab.open().kept_runs().unwrap().into_iter().collect::<Vec<_>>(), [first, again]);
    assert_eq!(lab.open().release_run(&RunName::Latest).await.unwrap(), (again, true));
    // Another run leaves entries of its own, which nobody keeps.
    lab.edit("alluvium.toml", "k > 2", "k > 3");
    run(&lab.open()).await;

    let large = |result| ("large".to_owned(), result);
    let totals = |result| ("totals".to_owned(), result);
    // What is kept is spared before anything is condemned.
    assert_eq!(collect(&lab, true), [large(RemovalResult::Planned)]);
    assert_eq!(collect(&lab, false), [large(RemovalResult::Deleted)]);
    let evicted = caches(&lab).cache().evict(&Selection::default(), false).unwrap();
    assert!(evicted.entries.iter().all(|entry| entry.result == RemovalResult::Kept), "{evicted:#?}");
    assert_eq!(evicted.entries.len(), 2);
    assert!(evicted.entries[0].reason.contains(&first.to_string()), "{evicted:#?}");
    assert_eq!(replays(&lab.open(), &name).await, ReplayResult::Same);

    assert_eq!(lab.open().release_run(&name).await.unwrap(), (first, true));
    assert_eq!(lab.open().release_run(&name).await.unwrap(), (first, false));
    assert_eq!(collect(&lab, false), [large(RemovalResult::Deleted), totals(RemovalResult::Deleted)]);
    assert_eq!(replays(&lab.open(), &name).await, ReplayResult::Unreplayable, "nothing is left to compare with");
    let lost = lost(&lab.open()).await;
    let of_first = lost.iter().find(|lost| lost.run_id == first).unwrap();
    let begins = |with: &str| of_first.reasons.iter().any(|reason| reason.starts_with(with));
    assert!(begins("view totals: nothing is left of its rows: ") && begins("view large: "), "{of_first:?}");
    let kept = lab.open().keep_run(&name).await.unwrap();
    assert_eq!((kept.entries.len(), kept.missing.len()), (0, 2), "it is said");
}

/// It is said, and may be found again.
#[tokio::test]
async fn what_a_kept_run_left_stays_though_a_newer_entry_of_its_key_is_evicted() {
    let lab = lab();
    run(&lab.open()).await;
    lab.open().keep_run(&RunName::Latest).await.unwrap();
    let fresh = RunOptions { fresh: true, ..RunOptions::default() };
    let _ = try_run(&lab.open(), fresh, &Silent).await.unwrap();
    let evicted = caches(&lab).cache().evict(&Selection::default(), false).unwrap();
    let results: Vec<_> = evicted.entries.iter().map(|entry| (entry.view_name.as_str(), entry.result)).collect();
    let deleted = ["large", "totals"].map(|view| (view, RemovalResult::Deleted));
    let kept = ["large", "totals"].map(|view| (view, RemovalResult::Kept));
    assert_eq!(results, [deleted, kept].concat());
    assert!(run(&lab.open()).await.views.iter().all(|view| view.result == ViewResult::Hit));
}

async fn lost(pipeline: &Pipeline) -> Vec<UnreplayableRun> {
    pipeline.unreplayable_runs(Duration::from_secs(600)).await.unwrap().0
}

/// Makes what a commit removed look as if that was long ago.
fn age_removes(table: &Path, version: u64) {
    let log = table.join(format!("_delta_log/{version:020}.json"));
    let text = std::fs::read_to_string(&log).unwrap();
    let aged = text.lines().map(|line| {
        let mut action: Value = serde_json::from_str(line).unwrap();
        if let Some(remove) = action.get_mut("remove") {
            remove["deletionTimestamp"] = 0.into();
        }
        format!("{action}\n")
    });
    let aged: String = aged.collect();
    std::fs::write(&log, aged).unwrap();
}

/// Tables too: the version that a kept run read outlives every vacuum, and is missed when it does not.
#[tokio::test]
async fn what_a_kept_run_read_is_not_vacuumed_until_it_is_released() {
    let published = "[views.all_events]\nsql = \"select k, s from events\"\n[outputs.published]\nview = \"all_events\"\npath = \"out\"\n";
    let upstream = Lab::new(&format!("[sources.events]\nformat = \"parquet\"\npath = \"events.parquet\"\n{published}"));
    upstream.parquet("events.parquet", &[(1, "a"), (5, "b")]);
    run(&upstream.open()).await;
    let table = upstream.path("out");
    let reader =
        Lab::new(&format!("[sources.events]\nformat = \"delta\"\npath = \"{}\"\n{published}", table.display()));
    let first = run(&reader.open()).await.run_id;
    let name = RunName::parse(&first.to_string()).unwrap();
    let kept = reader.open().keep_run(&name).await.unwrap();
    assert_eq!(kept.tables, ["events at version 0", "published at version 0"]);
    assert_eq!(kept.unkept, Vec::<String>::new());
    upstream.parquet("events.parquet", &[(7, "c")]);
    run(&upstream.open()).await;
    age_removes(&table, 1);

    let vacuum = || async { Maintenance::begin(&table, Seam::system()).unwrap().vacuum(168, &[]).await.unwrap() };
    let vacuumed = vacuum().await;
    assert_eq!((vacuumed.files_removed, vacuumed.kept_versions), (0, vec![0]), "nobody told the vacuum");
    assert_eq!(replays(&reader.open(), &name).await, ReplayResult::Same);
    assert_eq!(lost(&reader.open()).await, []);

    assert_eq!(reader.open().release_run(&name).await.unwrap(), (first, true));
    assert_eq!(vacuum().await.files_removed, 1);
    assert_eq!(replays(&reader.open(), &name).await, ReplayResult::Unreplayable);
    assert_eq!(lost(&reader.open()).await.len(), 1);
    let kept = reader.open().keep_run(&name).await.unwrap();
    assert_eq!(kept.tables, ["published at version 0"]);
    assert!(kept.unkept[0].contains("events at version 0: 1 of the 1 data files"), "{kept:?}");
    let lost = lost(&reader.open()).await;
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].reasons[0].contains("events is gone: 1 of the 1 data files of version 0"), "{lost:?}");
}
