//! Runs that are kept: no collection and no eviction takes what a replay compares with.

use alluvium_contracts::{RemovalResult, ReplayResult};
use alluvium_runs::{Caches, GcRequest, OpenOptions, Opened, Pipeline, RunName, Selection};

use crate::lab::{Lab, run};

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
    let kept = lab.open().keep_run(&name).await.unwrap();
    assert_eq!((kept.entries.len(), kept.missing.len()), (0, 2), "it is said");
}
