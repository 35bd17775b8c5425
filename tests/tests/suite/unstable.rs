//! Unstable views: one key may have other rows each time they are computed. What was computed from rows that were replaced is computed
//! again with them, so that what a run leaves agrees with itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_contracts::{EntryState, OutputResult, PlanDocument, RunDocument, ViewResult};
use alluvium_delta_cache::{DeltaCache, Lookup, UnstableRows, WriteRequest, Written};
use alluvium_plans::plan_view;
use alluvium_profile::CacheRoot;
use alluvium_runs::{Pipeline, RunOptions, Selection, Silent};
use alluvium_telemetry::Seam;

use crate::caches::caches_at;
use crate::lab::{Lab, answer, results, run, sessions, try_run};

const TOML: &str = r#"
[sources.events]
format = "csv"
path = "data/*.csv"

[views.exact]
sql = "select k from events"

[views.one]
sql = "select k from events limit 1"

[views.middle]
sql = "select k from one"
cache = "none"

[views.direct]
sql = "select k from middle"
cache = "delta_output"

[views.twice]
sql = "select k * 2 as k from middle"

[outputs.one]
view = "one"
path = "out/one"

[outputs.middle]
view = "middle"
path = "out/middle"

[outputs.direct]
view = "direct"
path = "out/direct"

[outputs.twice]
view = "twice"
path = "out/twice"
"#;

/// A project that has run, and whose source then has its files by each other's names: the same content, found in another order.
async fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.write("data/a.csv", "k\n1\n");
    lab.write("data/b.csv", "k\n2\n");
    lab.run().await;
    let before = lab.keys().await;
    lab.write("data/a.csv", "k\n2\n");
    lab.write("data/b.csv", "k\n1\n");
    assert_eq!(lab.keys().await, before);
    lab
}

fn evict(lab: &Lab, view: &str) {
    let selection = Selection { views: vec![view.to_owned()], ..Selection::default() };
    let removed = caches_at(lab.dir()).cache().evict(&selection, false).unwrap();
    assert_eq!(removed.entries.len(), 1, "{removed:?}");
}

/// `name: result` of views and outputs, by name.
fn planned(plan: &PlanDocument) -> (Vec<String>, Vec<String>) {
    let views = plan.views.iter().map(|view| format!("{}: {}", view.name, view.result));
    let outputs = plan.outputs.iter().map(|output| format!("{}: {}", output.name, output.result));
    (sorted(views.collect()), sorted(outputs.collect()))
}

fn done(document: &RunDocument) -> (Vec<String>, Vec<String>) {
    let outputs = document.outputs.iter().map(|output| format!("{}: {}", output.name, output.result));
    (sorted(results(document)), sorted(outputs.collect()))
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// The reason that a view of a run has.
fn reason<'a>(document: &'a RunDocument, view: &str) -> &'a str {
    document.views.iter().find(|report| report.name == view).unwrap().reason.as_deref().unwrap_or_default()
}

/// Views and outputs have the rows that follow from those of `one`.
async fn agree(pipeline: &Pipeline) {
    let joined = "select count(*) as agree from outputs.one as o \
                  join outputs.middle as m on m.k = o.k join outputs.direct as d on d.k = o.k \
                  join outputs.twice as t on t.k = 2 * o.k join one on one.k = o.k \
                  join direct on direct.k = o.k join twice on twice.k = 2 * o.k";
    let rows = answer(pipeline, joined).await;
    assert!(rows.contains("| 1     |"), "{rows}");
}

fn all_hits(document: &RunDocument) {
    let (views, outputs) = done(document);
    assert_eq!(views, ["direct: hit", "exact: hit", "middle: computed", "one: hit", "twice: hit"], "{document:#?}");
    assert!(document.outputs.iter().all(|output| output.result == OutputResult::Hit), "{outputs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reads_an_unstable_view_is_computed_again_with_it() {
    let lab = lab().await;
    all_hits(&lab.run().await);
    evict(&lab, "one");
    let plan = lab.plan().await;
    let document = lab.run().await;
    let (views, outputs) = done(&document);
    assert_eq!(views, ["direct: write", "exact: hit", "middle: computed", "one: write", "twice: write"]);
    assert_eq!(outputs, ["direct: write", "middle: write", "one: write", "twice: write"]);
    assert_eq!(planned(&plan), (views, outputs));
    for view in ["direct", "twice"] {
        assert_eq!(reason(&document, view), "reads the unstable view one, which is computed anew");
    }
    agree(&lab.open()).await;
    all_hits(&lab.run().await);
}

/// As after a kill, or the run of somebody else who asked for one view: nothing of it is seen by this run but a newer entry.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_computed_before_an_unstable_view_was_computed_again_is_no_hit() {
    let lab = lab().await;
    let options = RunOptions { fresh: true, select: vec!["one".to_owned()], ..RunOptions::default() };
    try_run(&lab.open(), options, &Silent).await.unwrap();
    let document = run(&lab.open()).await;
    let (views, outputs) = done(&document);
    assert_eq!(views, ["direct: write", "exact: hit", "middle: computed", "one: hit", "twice: write"]);
    assert_eq!(outputs, ["direct: write", "middle: write", "one: hit", "twice: write"]);
    for view in ["direct", "twice"] {
        assert_eq!(reason(&document, view), "reads the unstable view one, which was computed anew since");
    }
    agree(&lab.open()).await;
    all_hits(&lab.run().await);
}

/// The entry of an unstable view is there, and its output is not yet published: the output has the rows of the entry before.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_behind_an_unstable_view_is_made_good() {
    let lab = lab().await;
    evict(&lab, "one");
    assert!(crate::crash::crashes(&lab, "view.published", 1));
    let document = lab.run().await;
    let (views, outputs) = done(&document);
    assert_eq!(views, ["direct: write", "exact: hit", "middle: computed", "one: hit", "twice: write"]);
    assert_eq!(outputs, ["direct: write", "middle: write", "one: write", "twice: write"]);
    agree(&lab.open()).await;
    all_hits(&lab.run().await);
}

/// The entry that a fresh run replaced lies there until it is collected, and stands for its key again where the newer one is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_entry_that_comes_back_takes_nothing_that_was_computed_from_the_newer_one() {
    let lab = lab().await;
    try_run(&lab.open(), RunOptions { fresh: true, ..RunOptions::default() }, &Silent).await.unwrap();
    let entries = caches_at(lab.dir()).cache().list().unwrap().entries;
    let newer = entries.iter().find(|entry| entry.view_name == "one" && entry.state == EntryState::Live).unwrap();
    let dir = lab.path(".alluvium").join(&newer.cache_path);
    for file in std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).filter(|file| file.is_file()) {
        std::fs::remove_file(file).unwrap();
    }
    let document = run(&lab.open()).await;
    let (views, outputs) = done(&document);
    assert_eq!(views, ["direct: write", "exact: hit", "middle: computed", "one: hit", "twice: write"]);
    assert_eq!(outputs, ["direct: write", "middle: write", "one: write", "twice: write"]);
    agree(&lab.open()).await;
    all_hits(&lab.run().await);
}

/// Rows in memory go by what they were computed from as entries do: what they are read into is kept for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn rows_in_memory_are_those_of_the_unstable_view_that_is_there() {
    let lab = Lab::new(
        // In one partition, so that the first file is met first.
        r#"
[profile]
target_partitions = 1

[sources.events]
format = "csv"
path = "data/*.csv"

[views.one]
sql = "select k from events limit 1"

[views.held]
sql = "select k from one"
cache = "memory"

[views.last]
sql = "select k from held"
"#,
    );
    lab.write("data/a.csv", "k\n1\n");
    lab.write("data/b.csv", "k\n2\n");
    let pipeline = lab.open();
    run(&pipeline).await;
    assert!(answer(&pipeline, "select k from held").await.contains("| 1 |"));
    lab.write("data/a.csv", "k\n2\n");
    lab.write("data/b.csv", "k\n1\n");
    let options = RunOptions { fresh: true, select: vec!["one".to_owned()], ..RunOptions::default() };
    try_run(&pipeline, options, &Silent).await.unwrap();
    assert!(answer(&pipeline, "select k from held").await.contains("| 2 |"), "rows that are read are those of `one`");
    let document = run(&pipeline).await;
    assert_eq!(results(&document), ["one: hit", "held: computed", "last: write"]);
    let agree = "select count(*) as agree from one join held on held.k = one.k join last on last.k = one.k";
    for pipeline in [&pipeline, &lab.open()] {
        assert!(answer(pipeline, agree).await.contains("| 1     |"), "{}", answer(pipeline, agree).await);
        let again = run(pipeline).await;
        assert!(again.views.iter().all(|view| view.result != ViewResult::Write), "{again:#?}");
    }
    // What is in memory is served while that from which it was computed is still being looked at.
    let last = Selection { views: vec!["last".to_owned()], ..Selection::default() };
    caches_at(lab.dir()).cache().evict(&last, false).unwrap();
    let options = RunOptions { shadow_percent: 100, ..RunOptions::default() };
    let shadowed = try_run(&pipeline, options, &Silent).await.unwrap();
    assert_eq!(results(&shadowed), ["one: hit", "held: hit", "last: write"]);
    let again = run(&pipeline).await;
    assert!(again.views.iter().all(|view| view.result != ViewResult::Write), "{again:#?}");
}

/// Whoever waits for a lease takes what its owner published only if it was computed from the same rows.
#[tokio::test(flavor = "multi_thread")]
async fn under_its_lease_a_key_has_only_what_was_computed_from_the_rows_that_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let seam = Seam::system();
    let root = Arc::new(CacheRoot::open(dir.path(), &seam).unwrap());
    let cache = DeltaCache::open(root, seam).unwrap();
    let session = sessions().build().unwrap();
    let bundle = plan_view(&session, "v", "select 1 as k", &BTreeMap::new()).await.unwrap();
    let reading = cache.begin_reading().unwrap();
    let rows_of = |id: &str| UnstableRows::from([("one".to_owned(), id.to_owned())]);
    let (former, newer) = (rows_of("former"), rows_of("newer"));
    let write = async |unstable_rows: &UnstableRows, run_id, fresh| {
        let request = WriteRequest {
            bundle: &bundle,
            key: bundle.cache_key().unwrap(),
            run_id,
            fresh,
            tags: &[],
            unstable_rows,
            reading: &reading,
        };
        match cache.write(&session, request, &|| Ok(())).await.unwrap() {
            Written::Computed(entry, _) => (entry, true),
            Written::Shared(entry, _) => (entry, false),
        }
    };
    for (rows, is_computed) in [(&former, true), (&former, false), (&newer, true), (&newer, false), (&former, true)] {
        let (entry, computed) = write(rows, Seam::system().run_id(), false).await;
        assert_eq!((&entry.unstable_rows, computed), (rows, is_computed));
    }
    // Two views that say the same are computed once by a fresh run, too, or the first one's readers would have other rows.
    let run_id = Seam::system().run_id();
    let (first, computed) = write(&former, run_id, true).await;
    let (second, again) = write(&former, run_id, true).await;
    assert_eq!((computed, again, first.id == second.id), (true, false, true));
    // Its commit says it too: an entry without a row is taken by the same rule.
    drop(cache);
    std::fs::remove_dir_all(dir.path().join("kv/index")).unwrap();
    let root = Arc::new(CacheRoot::open(dir.path(), &Seam::system()).unwrap());
    let cache = DeltaCache::open(root, Seam::system()).unwrap();
    let Lookup::Hit(adopted, _) = cache.lookup(&reading, &bundle).unwrap() else { panic!("it is there") };
    assert_eq!(adopted.unstable_rows, former, "the newest");
}
