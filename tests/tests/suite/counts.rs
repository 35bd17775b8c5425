//! Three counts that agree: what the engine counts, what commits say, and what the ledgers hold; after runs of every kind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alluvium_contracts::{
    CacheArtifact, CacheCommitMetadata, CacheOperation, CacheOperations, CacheRemoval, CacheScope, LookupResult,
    RemovalResult, RunId, RunResult, ViewResult,
};
use alluvium_ledgers::decode_rows;
use alluvium_runs::{Caches, GcRequest, Opened, RunOptions, Selection};
use alluvium_telemetry::vocabulary::metric;
use alluvium_write_policy::commit_info;
use arrow::array::{AsArray as _, Int64Array};

use crate::caches::entry_dirs;
use crate::crash::{child_that, childhood, crashes};
use crate::lab::{Lab, batches, run};
use crate::signals::Signals;

/// Each kind of commit of each run.
type Writes = BTreeMap<(RunId, CacheScope), u64>;

/// Entries, an output beside one, and an output that is its view's cache.
fn lab() -> Lab {
    let lab = Lab::new(
        r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.first]
sql = "select k, s from events"

[views.second]
sql = "select s, sum(10 / k) as total from first group by s"

[views.third]
sql = "select count(*) as n from second"
cache = "delta_output"

[outputs.second]
view = "second"
path = "out/second"

[outputs.third]
view = "third"
path = "out/third"
"#,
    );
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

/// Every Delta table below a directory.
pub fn tables(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.join("_delta_log").is_dir() {
            found.push(path);
        } else if path.is_dir() {
            tables(&path, found);
        }
    }
}

/// By the metadata of every commit under the cache root and of every output.
fn commits(lab: &Lab) -> Writes {
    let mut found = Vec::new();
    tables(&lab.path(".alluvium/view_cache"), &mut found);
    tables(&lab.path(".alluvium/dataset_cache"), &mut found);
    tables(&lab.path("out"), &mut found);
    let mut writes = Writes::new();
    for table in found {
        for version in 0.. {
            let Ok(info) = commit_info(&table, version) else { break };
            let metadata = CacheCommitMetadata::from_commit_info(&info).unwrap().unwrap();
            assert_eq!(metadata.cache_operation, CacheOperation::Write);
            *writes.entry((metadata.run_id, metadata.cache_scope)).or_default() += 1;
        }
    }
    writes
}

/// By the rows of the inventory: what is kept in an output is a commit to that.
async fn rows(lab: &Lab) -> Writes {
    let sql = "select run_id, cache_scope, count(*) as n from alluvium.cache_inventory \
               where result = 'write' and (cache_scope = 'output' or cache_policy = 'delta_staging') group by 1, 2";
    let mut writes = Writes::new();
    for batch in batches(&lab.open(), sql).await {
        let counts = batch.column(2).as_any().downcast_ref::<Int64Array>().unwrap().clone();
        for row in 0..batch.num_rows() {
            let text = |column: usize| text(batch.column(column), row);
            let scope = match text(1).as_str() {
                "view" => CacheScope::View,
                "output" => CacheScope::Output,
                "dataset" => CacheScope::Dataset,
                other => panic!("{other}"),
            };
            writes.insert((text(0).parse().unwrap(), scope), u64::try_from(counts.value(row)).unwrap());
        }
    }
    writes
}

fn text(column: &arrow::array::ArrayRef, row: usize) -> String {
    let column = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).unwrap();
    column.as_string::<i32>().value(row).to_owned()
}

/// The summary of each run says of views what its rows say.
async fn assert_summaries(lab: &Lab) {
    let sql = "select count(*) as n from alluvium.cache_runs r left join (
                 select run_id, count(*) filter (where result = 'hit') as hits, count(*) filter (where result = 'write') as writes,
                        count(*) filter (where result = 'computed') as computed, count(*) filter (where result = 'skipped') as skipped,
                        count(*) filter (where result = 'error') as errors
                 from alluvium.cache_inventory where cache_scope = 'view' group by run_id) i using (run_id)
               where r.hit_count <> coalesce(hits, 0) or r.write_count <> coalesce(writes, 0) or r.computed_count <> coalesce(computed, 0)
                  or r.skipped_count <> coalesce(skipped, 0) or r.error_count <> coalesce(errors, 0)";
    assert_eq!(number(lab, sql).await, 0, "a summary says otherwise than the rows of its run");
}

async fn number(lab: &Lab, sql: &str) -> u64 {
    let batches = batches(&lab.open(), sql).await;
    let column = batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap().clone();
    u64::try_from(column.value(0)).unwrap()
}

fn total(writes: &Writes) -> u64 {
    writes.values().sum()
}

/// What the engine counted of an operation with one of the results, whatever policy and scope, for what is kept on disk.
fn counted(signals: &Signals, operation: &str, result: &str) -> u64 {
    let of_policy = |policy: &str| {
        let wanted = [
            format!("cache.operation={operation}"),
            format!("cache.result={result}"),
            format!("cache.policy={policy}"),
        ];
        signals.total(metric::OPERATIONS, &wanted.each_ref().map(String::as_str))
    };
    of_policy("delta_staging") + of_policy("delta_output")
}

async fn agree(lab: &Lab, what: &str) -> Writes {
    let (commits, rows) = (commits(lab), rows(lab).await);
    assert_eq!(commits, rows, "{what}: commits and ledger rows");
    assert_summaries(lab).await;
    rows
}

#[tokio::test]
async fn after_a_fresh_run_a_hit_one_and_a_failed_one() {
    let lab = lab();
    let signals = Signals::new();
    let document = signals.record(async { run(&Lab::open_with(lab.dir(), signals.options())).await }).await;
    assert_eq!(document.result, RunResult::Succeeded);
    let writes = agree(&lab, "fresh").await;
    assert_eq!((total(&writes), counted(&signals, "write", "ok")), (4, 4), "two entries and two outputs: {writes:?}");

    let signals = Signals::new();
    signals.record(async { run(&Lab::open_with(lab.dir(), signals.options())).await }).await;
    assert_eq!(agree(&lab, "hit").await, writes);
    assert_eq!(counted(&signals, "write", "ok"), 0);
    // The lookup of an output that is its view's cache is one operation and two rows.
    let hits = "select count(*) as n from alluvium.cache_inventory where result = 'hit' \
                and not (cache_scope = 'view' and cache_policy = 'delta_output')";
    assert_eq!((number(&lab, hits).await, counted(&signals, "read", "hit")), (4, 4));

    // 10 / 0.
    lab.parquet("data/events.parquet", &[(0, "a")]);
    let signals = Signals::new();
    let options = RunOptions { keep_going: true, ..RunOptions::default() };
    let document = signals
        .record(async {
            let pipeline = Lab::open_with(lab.dir(), signals.options());
            crate::lab::try_run(&pipeline, options, &alluvium_runs::Silent).await.unwrap()
        })
        .await;
    assert_eq!(document.result, RunResult::Failed);
    let after = agree(&lab, "failed").await;
    assert_eq!((total(&after) - total(&writes), counted(&signals, "write", "ok")), (1, 1), "the first view: {after:?}");
    let errors = "select count(*) as n from alluvium.cache_inventory where result = 'error'";
    assert_eq!((number(&lab, errors).await, counted(&signals, "write", "error")), (1, 1));
    let skipped = document.views.iter().filter(|view| view.result == ViewResult::Skipped).count();
    assert_eq!(skipped, 1, "{document:#?}");
}

/// A killed run counts nothing any more; its commits are in the ledgers once it is closed, whether it came to record them or not.
#[tokio::test]
async fn after_a_run_that_was_killed_anywhere() {
    let mut unrecorded = 0;
    for point in [
        "view.files.written",
        "view.commit.before",
        "view.commit.after",
        "view.published",
        "run.event.before",
        "run.event.after",
        "output.commit.before",
        "output.commit.after",
        "output.published",
        "ledger.drain.before_commit",
        "ledger.drain.after_commit",
    ] {
        for hit in 1..=2 {
            let lab = lab();
            assert!(crashes(&lab, point, hit), "{point}#{hit} was never reached");
            let found = "select count(*) as n from alluvium.cache_inventory where reason like 'found by its commit%'";
            // Asking closes it; what it committed is as it was left.
            let at_once = agree(&lab, &format!("{point}#{hit}, asked at once")).await;
            unrecorded += number(&lab, found).await;
            let killed = number(&lab, "select count(*) as n from alluvium.cache_runs where result = 'killed'").await;
            assert_eq!(killed, u64::from(!point.starts_with("ledger.")), "{point}#{hit}");
            run(&lab.open()).await;
            let after = agree(&lab, &format!("{point}#{hit}, and run again")).await;
            assert!(
                total(&after) >= 4 && at_once.iter().all(|(key, count)| after.get(key) == Some(count)),
                "{after:?}"
            );
        }
    }
    assert!(unrecorded >= 5, "points between a commit and its event: {unrecorded}");
}

/// A run that is asked to stop gives up what it has not begun to publish, and has the rest on record: rows and manifest.
#[tokio::test]
async fn after_a_run_that_was_interrupted_anywhere() {
    for point in [
        "view.files.written",
        "view.commit.before",
        "view.commit.after",
        "view.published",
        "run.event.before",
        "run.event.after",
        "output.files.written",
        "output.commit.before",
        "output.commit.after",
        "output.published",
    ] {
        for hit in 1..=2 {
            let lab = lab();
            let (stop, cancel) = tokio::sync::watch::channel(false);
            let reached = std::sync::atomic::AtomicU32::new(0);
            let ask = move || {
                if reached.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == hit {
                    stop.send_replace(true);
                }
            };
            fail::cfg_callback(point, ask).unwrap();
            let document = lab.open().run(RunOptions::default(), &alluvium_runs::Silent, cancel).await.unwrap();
            fail::remove(point);
            assert_eq!(document.result, RunResult::Interrupted, "{point}#{hit}");
            let what = format!("{point}#{hit}, interrupted");
            let writes = agree(&lab, &what).await;
            let named = number(&lab, "select count(*) as n from alluvium.run_commits").await;
            assert_eq!(named, total(&writes), "{what}: the commits that its manifest names");
            assert_eq!(run(&lab.open()).await.result, RunResult::Succeeded, "{what}");
        }
    }
}

/// A commit that cannot end keeps no run from ending that was asked to: the run is left as a killed one, and its commits are looked for.
#[test]
fn after_a_run_that_was_interrupted_while_its_commit_was_held_up() {
    const THREADS: usize = 4;
    let lab = lab();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(THREADS)
        .enable_all()
        .build()
        .unwrap();
    let (stop, cancel) = tokio::sync::watch::channel(false);
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let hold = move || {
        stop.send_replace(true);
        // Every thread on which files are written.
        for _ in 0..THREADS {
            let held = std::sync::Arc::clone(&held);
            tokio::task::spawn_blocking(move || held.lock().unwrap().recv());
        }
    };
    fail::cfg_callback("view.commit.before", hold).unwrap();
    let document = {
        let _inside = runtime.enter();
        runtime.block_on(lab.open().run(RunOptions::default(), &alluvium_runs::Silent, cancel)).unwrap()
    };
    fail::remove("view.commit.before");
    assert_eq!(document.result, RunResult::Interrupted);
    runtime.shutdown_background();
    drop(release);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    runtime.block_on(async {
        assert_eq!(run(&lab.open()).await.result, RunResult::Succeeded);
        let query = "select count(*) as n from alluvium.cache_runs where result = 'killed'";
        assert_eq!(number(&lab, query).await, 1, "what it committed is found by its commits");
        agree(&lab, "held up").await;
    });
}

/// A kept source, too: between its commit and its publication nobody else knows of it.
#[tokio::test]
async fn after_a_run_that_was_interrupted_while_a_source_was_kept() {
    for point in ["view.files.written", "view.commit.before", "view.commit.after", "view.published"] {
        let lab = lab();
        lab.edit("alluvium.toml", "data/events.parquet\"", "data/events.parquet\"\ncache = \"delta_staging\"");
        let (stop, cancel) = tokio::sync::watch::channel(false);
        // The source is what is written first.
        fail::cfg_callback(point, move || {
            stop.send_replace(true);
        })
        .unwrap();
        let document = lab.open().run(RunOptions::default(), &alluvium_runs::Silent, cancel).await.unwrap();
        fail::remove(point);
        assert_eq!(document.result, RunResult::Interrupted, "{point}");
        let writes = agree(&lab, point).await;
        assert_eq!(writes.get(&(document.run_id, CacheScope::Dataset)), Some(&1), "{point}: {writes:?}");
        assert_eq!(total(&writes), 1, "{point}: nothing else was begun");
        let named = number(&lab, "select count(*) as n from alluvium.run_commits").await;
        assert_eq!(named, 1, "{point}: the commits that its manifest names");
        let again = run(&lab.open()).await;
        assert_eq!(again.result, RunResult::Succeeded, "{point}");
        let hits =
            "select count(*) as n from alluvium.cache_inventory where cache_scope = 'dataset' and result = 'hit'";
        assert_eq!(number(&lab, hits).await, 1, "{point}: what was kept is kept");
    }
}

/// A source that changes while it is read has its views computed again; what was published before that is a commit of the run, too.
#[tokio::test]
async fn after_a_run_that_was_tried_again() {
    let lab = Lab::new(
        r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.first]
sql = "select k, s from events"
cache = "delta_output"

[views.second]
sql = "select f.s, e.k from first f join events e on f.s = e.s"

[outputs.first]
view = "first"
path = "out/first"
"#,
    );
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b")]);
    let (file, is_changed) = (lab.path("data/events.parquet"), std::sync::atomic::AtomicBool::new(false));
    let change = move || {
        if !is_changed.swap(true, std::sync::atomic::Ordering::SeqCst) {
            crate::lab::write_parquet(&file, &[(1, "a"), (2, "b"), (3, "c")]);
        }
    };
    fail::cfg_callback("output.published", change).unwrap();
    let document = run(&lab.open()).await;
    fail::remove("output.published");
    assert_eq!(document.result, RunResult::Succeeded, "{document:#?}");
    let writes = commits(&lab);
    assert_eq!(writes.get(&(document.run_id, CacheScope::Output)), Some(&2), "published twice: {writes:?}");
    assert_eq!(writes, rows(&lab).await);
    let named = number(&lab, "select count(*) as n from alluvium.run_commits").await;
    assert_eq!(named, total(&writes), "the commits that its manifest names");
}

#[tokio::test]
async fn after_eight_runs_at_once() {
    let lab = lab();
    let signals = Signals::new();
    let pipelines: Vec<_> = (0..8).map(|_| Lab::open_with(lab.dir(), signals.options())).collect();
    let documents = signals.record(futures::future::join_all(pipelines.iter().map(run))).await;
    assert!(documents.iter().all(|document| document.result == RunResult::Succeeded));
    drop(pipelines);
    let writes = agree(&lab, "eight at once").await;
    assert_eq!((total(&writes), counted(&signals, "write", "ok")), (4, 4), "each once: {writes:?}");
    assert_eq!(number(&lab, "select count(*) as n from alluvium.cache_runs").await, 8);
}

/// What waits for another, is set aside or collected has no row in the inventory: it is told by documents.
async fn documented(lab: &Lab, operation: CacheOperation, result: LookupResult) -> u64 {
    let sql = "select * from alluvium.cache_artifacts where artifact_kind = 'cache_operations'";
    let artifacts: Vec<CacheArtifact> =
        batches(&lab.open(), sql).await.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect();
    let counts = artifacts.iter().flat_map(|artifact| {
        let document: CacheOperations = artifact.decode().unwrap();
        assert_eq!(document.run_id, artifact.run_id);
        document.counts
    });
    counts.filter(|count| (count.operation, count.result) == (operation, result)).map(|count| count.count).sum()
}

/// What was removed from the caches by hand, by the name of what did it.
async fn removals(lab: &Lab, name: &str) -> Vec<CacheRemoval> {
    let sql =
        format!("select * from alluvium.cache_artifacts where artifact_kind = 'cache_removal' and name = '{name}'");
    let artifacts: Vec<CacheArtifact> =
        batches(&lab.open(), &sql).await.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect();
    artifacts.iter().map(|artifact| artifact.decode().unwrap()).collect()
}

#[tokio::test]
async fn after_a_collection_of_more_than_one_thread_deletes() {
    let lab = lab();
    run(&lab.open()).await;
    // What writers left who died before their commits.
    let dir = entry_dirs(&lab.path(".alluvium"), "view_cache")[0].clone();
    let unfinished: Vec<_> =
        (0..300).map(|entry| dir.with_file_name(format!("7d0c7a55-0c61-4f0e-8a53-{entry:012x}"))).collect();
    for dir in &unfinished {
        std::fs::create_dir(dir).unwrap();
        std::fs::write(dir.join("part.parquet"), b"half").unwrap();
    }
    let signals = Signals::new();
    signals
        .record(async {
            let Opened::Caches(caches) = Caches::open(lab.dir(), signals.options()).unwrap() else { panic!() };
            let removal = caches.collect_garbage(GcRequest::default()).unwrap();
            assert!(removal.entries.iter().all(|entry| entry.result == RemovalResult::Deleted), "{removal:?}");
            assert_eq!(removal.entries.len(), unfinished.len());
        })
        .await;
    assert_eq!((counted(&signals, "gc", "ok"), counted(&signals, "evict", "ok")), (1, unfinished.len() as u64));
    assert!(unfinished.iter().all(|dir| !dir.exists()) && dir.exists());
    let again = run(&lab.open()).await;
    assert!(again.views.iter().all(|view| view.result == ViewResult::Hit), "{again:#?}");
}

#[tokio::test]
async fn after_an_eviction_a_collection_and_damage() {
    let lab = lab();
    run(&lab.open()).await;
    let signals = Signals::new();
    signals
        .record(async {
            let Opened::Caches(caches) = Caches::open(lab.dir(), signals.options()).unwrap() else { panic!() };
            let first = Selection { views: vec!["first".to_owned()], ..Selection::default() };
            caches.evict(&first, true).unwrap();
            caches.evict(&first, false).unwrap();
            caches.collect_garbage(GcRequest { max_bytes: Some(0), dry_run: false }).unwrap();
            caches.collect_garbage(GcRequest::default()).unwrap();
            // Tells, and is on no record.
            caches.collect_garbage(GcRequest { dry_run: true, ..GcRequest::default() }).unwrap();
        })
        .await;
    let (evicted, collected) = (removals(&lab, "evict").await, removals(&lab, "gc").await);
    assert_eq!((evicted.len(), collected.len() as u64, counted(&signals, "gc", "ok")), (1, 2, 3));
    let gone = evicted.iter().chain(&collected).flat_map(|removal| &removal.entries);
    let gone = gone.filter(|entry| entry.result == RemovalResult::Deleted).count() as u64;
    assert_eq!((gone, counted(&signals, "evict", "ok")), (2, 2), "both views that had an entry");

    run(&lab.open()).await;
    let mut entries = Vec::new();
    tables(&lab.path(".alluvium/view_cache"), &mut entries);
    for entry in &entries {
        for file in alluvium_write_policy::active_files(entry, 0).await.unwrap() {
            std::fs::write(entry.join(file.path), "damaged").unwrap();
        }
    }
    let signals = Signals::new();
    signals.record(async { run(&Lab::open_with(lab.dir(), signals.options())).await }).await;
    let found = counted(&signals, "evict", "ok");
    assert!(found >= 2, "both are set aside: {found}");
    assert_eq!(documented(&lab, CacheOperation::Evict, LookupResult::Ok).await, found);
    let verified = counted(&signals, "verify", "ok") + counted(&signals, "verify", "error");
    let told = documented(&lab, CacheOperation::Verify, LookupResult::Ok).await
        + documented(&lab, CacheOperation::Verify, LookupResult::Error).await;
    assert_eq!(told, verified);
}

/// The operations that a process of [`eight_processes`] counted, by operation and result.
type Counters = BTreeMap<String, u64>;

const COUNTED: [(&str, &str); 5] =
    [("write", "ok"), ("write", "error"), ("read", "hit"), ("lease_wait", "ok"), ("evict", "ok")];

/// Not a test of its own: what each of eight processes does.
#[tokio::test]
async fn counting_child() {
    let Some(project) = childhood() else { return };
    // Long enough for the others to find the lease held.
    fail::cfg("view.files.written", "sleep(300)").unwrap();
    let signals = Signals::new();
    let options = RunOptions { keep_going: true, ..RunOptions::default() };
    let document = signals
        .record(async {
            let pipeline = Lab::open_with(&project, signals.options());
            crate::lab::try_run(&pipeline, options, &alluvium_runs::Silent).await.unwrap()
        })
        .await;
    assert_eq!(document.result, RunResult::Failed, "one branch fails");
    let name = |(operation, result): (&str, &str)| format!("{operation} {result}");
    let counters: Counters = COUNTED.map(|kind| (name(kind), counted(&signals, kind.0, kind.1))).into();
    let file = project.join(format!("counters/{}.json", document.run_id));
    std::fs::write(file, serde_json::to_vec(&counters).unwrap()).unwrap();
}

#[tokio::test]
async fn after_eight_processes_at_once_one_branch_of_which_fails() {
    let lab = lab();
    let broken = "[views.broken]\nsql = \"select 10 / (k - k) as x from events\"\n[views.below]\nsql = \"select x from broken\"\n";
    let text = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
    lab.write("alluvium.toml", &(text + broken));
    std::fs::create_dir(lab.path("counters")).unwrap();
    let null = std::process::Stdio::null;
    let start =
        || child_that("counts::counting_child", lab.dir(), "no such point#1").stdout(null()).stderr(null()).spawn();
    let children: Vec<_> = (0..8).map(|_| start().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut counters = Counters::new();
    for file in std::fs::read_dir(lab.path("counters")).unwrap() {
        let one: Counters = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
        for (kind, count) in one {
            *counters.entry(kind).or_default() += count;
        }
    }
    let writes = agree(&lab, "eight processes").await;
    assert_eq!((total(&writes), counters["write ok"]), (4, 4), "each once: {writes:?}");
    let of = |result: &str| {
        format!(
            "select count(*) as n from alluvium.cache_inventory where result = '{result}' \
                 and not (cache_scope = 'view' and cache_policy = 'delta_output')"
        )
    };
    assert_eq!(number(&lab, &of("hit")).await, counters["read hit"]);
    assert_eq!((number(&lab, &of("error")).await, counters["write error"]), (8, 8));
    assert_eq!(number(&lab, &of("skipped")).await, 8);
    let waited = documented(&lab, CacheOperation::LeaseWait, LookupResult::Ok).await;
    assert!(waited > 0, "nobody waited");
    assert_eq!(waited, counters["lease_wait ok"]);
    assert_eq!(documented(&lab, CacheOperation::Evict, LookupResult::Ok).await, counters["evict ok"]);
    assert_eq!(number(&lab, "select count(*) as n from alluvium.cache_runs where result = 'failed'").await, 8);
}
