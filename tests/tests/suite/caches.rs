//! Looking after a cache root: what it holds is listed, verified, evicted, collected, found again and exported, and the
//! pipeline over it goes on with the right rows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_contracts::{
    CacheRemoval, CachedEntry, EntryState, RemovalResult, RunResult, VerifyResult, ViewReport, ViewResult,
};
use alluvium_runs::{CacheError, Caches, GcRequest, OpenOptions, Opened, RunOptions, Selection, Silent};

use crate::lab::{Lab, answer, later, results, run, try_run};

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.clean]
sql = "select k, s from events where k > 1"
tags = ["raw", "nightly"]

[views.counted]
sql = "select s, count(*) as n from clean group by s"
tags = ["nightly"]
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

/// The caches of a project, with the clock of its runs.
pub fn caches_at(dir: &Path) -> Box<Caches> {
    let options = OpenOptions { seam: Some(later()), ..OpenOptions::default() };
    match Caches::open(dir, options).unwrap() {
        Opened::Caches(caches) => caches,
        Opened::Absent(path) => panic!("no root at {}", path.display()),
    }
}

fn caches(lab: &Lab) -> Box<Caches> {
    caches_at(lab.dir())
}

fn listed(lab: &Lab) -> Vec<CachedEntry> {
    caches(lab).cache().list().unwrap().entries
}

/// `view state` of everything in the cache.
fn states(lab: &Lab) -> Vec<String> {
    listed(lab).iter().map(|entry| format!("{} {}", entry.view_name, entry.state)).collect()
}

fn removed(removal: &CacheRemoval) -> Vec<(String, RemovalResult)> {
    removal.entries.iter().map(|entry| (entry.view_name.clone(), entry.result)).collect()
}

fn evict(lab: &Lab, selection: &Selection) -> Vec<(String, RemovalResult)> {
    removed(&caches(lab).cache().evict(selection, false).unwrap())
}

/// The directories of all entries of a scope.
pub fn entry_dirs(root: &Path, scope: &str) -> Vec<PathBuf> {
    let listed = |dir: &Path| -> Vec<PathBuf> {
        let found = std::fs::read_dir(dir).map(|dir| dir.map(|entry| entry.unwrap().path()).collect());
        found.unwrap_or_default()
    };
    listed(&root.join(scope)).iter().flat_map(|parent| listed(parent)).collect()
}

fn data_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.into_iter().find(|file| file.extension().is_some_and(|kind| kind == "parquet")).unwrap()
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

async fn fresh(lab: &Lab) {
    let options = RunOptions { fresh: true, ..RunOptions::default() };
    let _ = try_run(&lab.open(), options, &Silent).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_tells_what_it_is_and_why_it_was_computed() {
    let lab = lab();
    assert!(matches!(Caches::open(lab.dir(), OpenOptions::default()).unwrap(), Opened::Absent(_)));
    let first = lab.run().await;
    assert_eq!(states(&lab), ["clean live", "counted live"]);
    let shown = caches(&lab).cache().show("clean").unwrap();
    let [detail] = shown.entries.as_slice() else { panic!("{shown:?}") };
    assert_eq!(detail.entry.run_id, Some(first.run_id));
    assert_eq!((detail.entry.row_count, detail.entry.delta_version), (Some(2), Some(0)));
    assert_eq!(detail.entry.tags, ["raw", "nightly"]);
    assert!(detail.components.keys().any(|name| name.starts_with("source events")), "{:?}", detail.components);
    let why = detail.explanation.clone().unwrap();
    assert!(why.compared_with.is_none() && why.changes.is_empty(), "{why:?}");

    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b"), (4, "c")]);
    let second = lab.run().await;
    let shown = caches(&lab).cache().show("clean").unwrap();
    assert_eq!(shown.entries.len(), 2);
    let why = shown.entries[0].explanation.clone().unwrap();
    assert_eq!(why.compared_with, shown.entries[1].entry.cache_key);
    assert!(why.changes.iter().all(|change| change.component.starts_with("source events")), "{why:?}");
    assert!(!why.changes.is_empty());
    // The run says the same.
    let report = second.views.iter().find(|view| view.name == "clean").unwrap();
    assert_eq!(report.explanation.as_ref(), Some(&why));
    let hit: Vec<ViewReport> = lab.run().await.views;
    assert!(hit.iter().all(|view| view.result == ViewResult::Hit && view.explanation.is_none()), "{hit:?}");

    // By key, by its first digits, and by id.
    let newest = &shown.entries[0].entry;
    let key = newest.cache_key.unwrap().to_string();
    for wanted in [key.as_str(), &key[..12], &key[3..15], &newest.entry_id.to_string()] {
        let found = caches(&lab).cache().show(wanted).unwrap();
        assert_eq!(found.entries.len(), 1, "{wanted}");
        assert_eq!(found.entries[0].entry.entry_id, newest.entry_id);
    }
    let absent = caches(&lab).cache().show("nobody").unwrap_err();
    assert!(absent.is_input() && matches!(absent, CacheError::NoSuchEntry { .. }), "{absent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_is_verified_and_damage_is_set_aside() {
    let lab = lab();
    lab.run().await;
    let sound = caches(&lab).cache().verify(&[]).unwrap();
    assert_eq!((sound.entries.len(), sound.damaged_count), (2, 0));

    // Damage that no stamp tells of: the index holds the stamp of the damaged file.
    let [clean, counted] = ["clean", "counted"].map(|view| {
        let entry = listed(&lab).into_iter().find(|entry| entry.view_name == view).unwrap();
        lab.path(".alluvium").join(entry.cache_path)
    });
    flip(&data_file(&clean));
    flip(&counted.join("_delta_log/00000000000000000000.json"));
    let found = caches(&lab).cache().verify(&["counted".to_owned()]).unwrap();
    assert_eq!(found.entries.len(), 1, "only what was asked for");
    assert_eq!(found.entries[0].result, VerifyResult::Damaged);
    let found = caches(&lab).cache().verify(&[]).unwrap();
    assert_eq!(found.entries.len(), 1, "what is set aside is no entry any more");
    let damage = found.entries[0].damage.clone().unwrap();
    assert!(damage.contains("other bytes"), "{damage}");
    assert!(!clean.exists() && !counted.exists());
    assert_eq!(std::fs::read_dir(lab.path(".alluvium/quarantine")).unwrap().count(), 2);
    let document = lab.run().await;
    assert_eq!(results(&document), ["clean: write", "counted: write"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_evicted_by_view_tag_age_and_run() {
    let lab = lab();
    let first = lab.run().await;
    let planned = caches(&lab).cache().evict(&Selection::default(), true).unwrap();
    assert_eq!(
        removed(&planned),
        [("clean".to_owned(), RemovalResult::Planned), ("counted".to_owned(), RemovalResult::Planned)]
    );
    assert_eq!(planned.live_bytes_after, 0);
    assert_eq!(states(&lab), ["clean live", "counted live"], "a dry run changes nothing");

    let tagged = |tag: &str| Selection { tags: vec![tag.to_owned()], ..Selection::default() };
    let gone = |view: &str| (view.to_owned(), RemovalResult::Deleted);
    assert_eq!(evict(&lab, &tagged("weekly")), []);
    assert_eq!(evict(&lab, &tagged("raw")), [gone("clean")]);
    assert_eq!(entry_dirs(&lab.path(".alluvium"), "view_cache").len(), 1, "its directory is gone too");
    let again = lab.run().await;
    assert_eq!(results(&again), ["clean: write", "counted: hit"]);
    assert_eq!(again.views[0].reason.as_deref(), Some("its entry is gone"));

    let of_run = Selection { run_id: Some(first.run_id), ..Selection::default() };
    assert_eq!(evict(&lab, &of_run), [gone("counted")]);
    let both = Selection { views: vec!["clean".to_owned()], tags: vec!["nowhere".to_owned()], ..Selection::default() };
    assert_eq!(evict(&lab, &both), [], "all that is said has to fit");
    let old = |age: u64| Selection { older_than: Some(Duration::from_secs(age)), ..Selection::default() };
    assert_eq!(evict(&lab, &old(600)), []);
    assert_eq!(evict(&lab, &old(0)), [gone("clean")]);
    assert!(entry_dirs(&lab.path(".alluvium"), "view_cache").is_empty() && states(&lab).is_empty());
    assert_eq!(results(&lab.run().await), ["clean: write", "counted: write"]);
}

fn of_view(view: &str) -> Selection {
    Selection { views: vec![view.to_owned()], ..Selection::default() }
}

fn gone(view: &str, count: usize) -> Vec<(String, RemovalResult)> {
    vec![(view.to_owned(), RemovalResult::Deleted); count]
}

/// Also by tag, where what was left of an earlier run has another one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_evicted_is_computed_again_whatever_was_left_of_it() {
    let lab = lab();
    lab.run().await;
    fresh(&lab).await;
    assert_eq!(states(&lab), ["clean live", "clean orphan", "counted live", "counted orphan"]);
    let planned = caches(&lab).cache().evict(&of_view("clean"), true).unwrap();
    assert_eq!(removed(&planned), vec![("clean".to_owned(), RemovalResult::Planned); 2]);
    assert_eq!(planned.live_bytes_after, listed(&lab)[2].size_bytes, "bytes of orphans are none of live entries");
    assert_eq!(evict(&lab, &of_view("clean")), gone("clean", 2));
    assert_eq!(states(&lab), ["counted live", "counted orphan"]);
    assert_eq!(lab.plan().await.views[0].result.as_str(), "write");
    assert_eq!(results(&lab.run().await), ["clean: write", "counted: hit"]);

    lab.edit("alluvium.toml", "tags = [\"nightly\"]", "tags = [\"hourly\"]");
    fresh(&lab).await;
    let hourly = Selection { tags: vec!["hourly".to_owned()], ..Selection::default() };
    assert_eq!(evict(&lab, &hourly), gone("counted", 3));
    assert_eq!(results(&lab.run().await), ["clean: hit", "counted: write"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_index_does_not_know_is_evicted_by_what_its_commit_says() {
    let lab = lab();
    let first = lab.run().await;
    fresh(&lab).await;
    let of_run = Selection { run_id: Some(first.run_id), ..Selection::default() };
    let tagged = Selection { tags: vec!["raw".to_owned()], ..of_run.clone() };
    let opened = caches(&lab);
    assert_eq!(removed(&opened.cache().evict(&tagged, false).unwrap()), gone("clean", 1));
    assert_eq!(removed(&opened.cache().evict(&of_run, false).unwrap()), gone("counted", 1));
    assert_eq!(opened.take_notices(), Vec::<String>::new());
    drop(opened);
    assert_eq!(states(&lab), ["clean live", "counted live"]);

    std::fs::remove_dir_all(lab.path(".alluvium/kv/index")).unwrap();
    // Whoever wrote this died before its commit: it has a name, and nothing else.
    let unfinished = listed(&lab)[0].cache_path.clone();
    let unfinished = lab.path(".alluvium").join(unfinished).with_file_name("7d0c7a55-0c61-4f0e-8a53-0a1d2f6b9c11");
    std::fs::create_dir(&unfinished).unwrap();
    assert_eq!(states(&lab), ["clean orphan", "clean orphan", "counted orphan"]);
    let old = Selection { older_than: Some(Duration::ZERO), ..of_view("clean") };
    assert_eq!(removed(&caches(&lab).cache().evict(&old, true).unwrap()).len(), 1, "nobody knows how old the other is");
    assert_eq!(evict(&lab, &of_view("clean")), gone("clean", 2));
    assert!(!unfinished.exists());
    assert_eq!(states(&lab), ["counted orphan"]);
    assert!(caches(&lab).cache().evict(&of_view("clean"), false).unwrap_err().is_input());
    assert_eq!(results(&lab.run().await), ["clean: write", "counted: hit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_computed_is_not_evicted_and_that_is_told() {
    let lab = lab();
    lab.run().await;
    fresh(&lab).await;
    let orphan = listed(&lab).into_iter().find(|entry| entry.state == EntryState::Orphan).unwrap();
    let key = orphan.cache_key.unwrap();
    let lease = std::fs::File::create(lab.path(&format!(".alluvium/leases/{}.lock", key.hex()))).unwrap();
    lease.try_lock().unwrap();
    let opened = caches(&lab);
    assert_eq!(removed(&opened.cache().evict(&of_view("clean"), false).unwrap()), gone("clean", 1));
    let told = opened.take_notices();
    assert!(told.len() == 1 && told[0].starts_with(&orphan.cache_path), "{told:?}");
    drop((lease, opened));
    assert_eq!(states(&lab), ["clean orphan", "counted live", "counted orphan"]);
    assert_eq!(evict(&lab, &of_view("clean")), gone("clean", 1));
    assert_eq!(states(&lab), ["counted live", "counted orphan"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_what_stands_for_nothing_and_what_is_worth_least() {
    let lab = lab();
    lab.run().await;
    fresh(&lab).await;
    // Whoever wrote this died before its commit.
    let unfinished =
        entry_dirs(&lab.path(".alluvium"), "view_cache")[0].with_file_name("7d0c7a55-0c61-4f0e-8a53-0a1d2f6b9c11");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("part.parquet"), b"half").unwrap();
    assert_eq!(entry_dirs(&lab.path(".alluvium"), "view_cache").len(), 5);
    assert_eq!(states(&lab).iter().filter(|state| state.ends_with("orphan")).count(), 3);

    let collect = |max_bytes, dry_run| caches(&lab).cache().collect_garbage(GcRequest { max_bytes, dry_run }).unwrap();
    let planned = collect(None, true);
    assert_eq!(planned.entries.len(), 3);
    assert!(planned.entries.iter().all(|entry| entry.result == RemovalResult::Planned));
    assert!(planned.entries.iter().any(|entry| entry.reason.contains("no commit")), "{planned:?}");
    let collected = collect(None, false);
    assert_eq!(collected.entries.iter().filter(|entry| entry.result == RemovalResult::Deleted).count(), 3);
    assert_eq!(collected.live_bytes_before, collected.live_bytes_after);
    assert_eq!(states(&lab), ["clean live", "counted live"]);
    assert!(!unfinished.exists());

    // What is left is over a budget of one byte less than all; the one that saves least for its size goes.
    let entries = listed(&lab);
    let worth = |entry: &CachedEntry| entry.compute_ms.unwrap() / entry.size_bytes as f64;
    let least = if worth(&entries[0]) < worth(&entries[1]) { &entries[0] } else { &entries[1] };
    assert_eq!(collect(Some(collected.live_bytes_after), false).entries, []);
    let collected = collect(Some(collected.live_bytes_after - 1), false);
    assert_eq!(removed(&collected), [(least.view_name.clone(), RemovalResult::Deleted)]);
    assert!(collected.entries[0].reason.contains("over the budget"), "{collected:?}");
    assert_eq!(listed(&lab).len(), 1);
    assert_eq!(lab.run().await.result, RunResult::Succeeded);
    assert_eq!(collect(Some(0), false).live_bytes_after, 0);
    assert_eq!(listed(&lab), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_rebuilt_from_commits_and_still_explains() {
    let lab = lab();
    lab.run().await;
    fresh(&lab).await;
    let before = listed(&lab);
    std::fs::remove_dir_all(lab.path(".alluvium/kv/index")).unwrap();
    let damaged =
        before.iter().find(|entry| entry.state == EntryState::Orphan && entry.view_name == "counted").unwrap();
    flip(&data_file(&lab.path(".alluvium").join(&damaged.cache_path)));
    assert!(listed(&lab).iter().all(|entry| entry.state == EntryState::Orphan));
    let rebuilt = caches(&lab).cache().rebuild_index().unwrap();
    assert_eq!(rebuilt.kept_count, 0);
    assert_eq!(rebuilt.left.len(), 2, "{rebuilt:?}");
    assert!(rebuilt.left.iter().all(|left| left.reason.contains("another entry stands")), "{rebuilt:?}");
    // The same entries stand, and say the same of themselves.
    let live = |entries: Vec<CachedEntry>| -> Vec<CachedEntry> {
        let live = entries.into_iter().filter(|entry| entry.state == EntryState::Live);
        // The index has the time of publication, the commit its own, which the engine's clock gives.
        live.map(|entry| CachedEntry { created_unix_ms: None, ..entry }).collect()
    };
    assert_eq!(live(listed(&lab)), live(before));
    assert_eq!(results(&lab.run().await), ["clean: hit", "counted: hit"]);
    lab.parquet("data/events.parquet", &[(7, "z")]);
    let plan = lab.plan().await;
    let reason = plan.views[0].reason.clone().unwrap();
    assert!(reason.contains("source events"), "{reason}");
    assert_eq!(caches(&lab).cache().rebuild_index().unwrap().kept_count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_entry_is_a_table_of_its_own() {
    let lab = lab();
    lab.run().await;
    let caches = caches(&lab);
    let reading = caches.cache().begin_reading().unwrap();
    let to = lab.path("exported");
    let exported = caches.cache().export(&reading, "clean", &to).unwrap();
    assert_eq!((exported.row_count, exported.view_name.as_str()), (2, "clean"));
    let again = caches.cache().export(&reading, "clean", &to).unwrap_err();
    assert!(matches!(again, CacheError::Exists { .. }), "{again:?}");
    drop(reading);
    let _ = caches.cache().evict(&Selection::default(), false).unwrap();

    let reader = Lab::new(&format!(
        "[sources.events]\nformat = \"delta\"\npath = \"{}\"\n[views.v]\nsql = \"select k, s from events\"\n",
        to.display()
    ));
    let pipeline = reader.open();
    assert_eq!(run(&pipeline).await.result, RunResult::Succeeded);
    let rows = answer(&pipeline, "select sum(k) as k, count(*) as n from v").await;
    assert!(rows.contains("| 5 | 2 |"), "{rows}");

    // A copy of what is damaged gets no name.
    lab.run().await;
    let entry = listed(&lab).into_iter().find(|entry| entry.view_name == "clean").unwrap();
    flip(&data_file(&lab.path(".alluvium").join(entry.cache_path)));
    let caches = caches_at(lab.dir());
    let reading = caches.cache().begin_reading().unwrap();
    let refused = caches.cache().export(&reading, "clean", &lab.path("damaged")).unwrap_err();
    assert!(matches!(refused, CacheError::Damaged { .. }), "{refused:?}");
    let left = std::fs::read_dir(lab.dir())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"));
    assert_eq!(left.count(), 0);
}
