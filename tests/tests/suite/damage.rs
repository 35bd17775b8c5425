//! Every file of a cache root deleted, cut off or changed by one bit, one at a time: the next run has the right rows, and
//! says what it found; the one after it has nothing to say.
//!
//! The root has everything that a root can have: entries of views and of a source, an artifact, an output's memory, snapshots of
//! the engine's caches, stored plans, ledgers, and the key-value stores of all of them. The check harms one file of each *kind*:
//! files whose paths differ in keys, ids, versions and shards only are of one kind. To what rows are served from, and to stores, it
//! does every harm; to any other kind one, in turn. With `ALLUVIUM_DAMAGE=all` (`cargo xtask soak damage`) every harm is done to every file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use alluvium_contracts::{LookupResult, OutputResult, RunResult, ViewResult};
use alluvium_delta_cache::ArtifactKey;
use alluvium_disk_kv_cache::StoreError;
use alluvium_profile::{CacheRoot, KvKind};
use alluvium_runs::{OpenOptions, Pipeline, Project};

use crate::artifacts::{NONE_IN_MEMORY, batches, caches, keep, rows_of};
use crate::lab::{Lab, answer, copy_dir, later, run, sessions};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Deleted,
    /// To half of what is in it.
    CutOff,
    /// One bit, so many quarters into what is in it.
    Flipped(usize),
}

impl Harm {
    const ALL: [Self; 5] = [Self::Deleted, Self::CutOff, Self::Flipped(1), Self::Flipped(2), Self::Flipped(3)];

    /// Does it to a file; `false` where it would change nothing.
    fn befalls(self, file: &Path) -> bool {
        let mut bytes = std::fs::read(file).unwrap();
        // A store's file ends with room that nothing was ever written to.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        match self {
            Self::Deleted => {
                std::fs::remove_file(file).unwrap();
                return true;
            }
            Self::CutOff => bytes.truncate(used / 2),
            Self::Flipped(quarters) => {
                let from = used * quarters / 4;
                let Some(byte) = bytes[from..].iter_mut().find(|byte| **byte != 0) else { return false };
                *byte ^= 4;
            }
        }
        let changes = bytes != std::fs::read(file).unwrap();
        if changes {
            std::fs::write(file, bytes).unwrap();
        }
        changes
    }
}

/// The files below a directory, relative to it.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(relative) = dirs.pop() {
        for entry in std::fs::read_dir(dir.join(&relative)).unwrap() {
            let entry = entry.unwrap();
            let path = relative.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// A file's place without what is drawn anew each time, and without what tells versions and shards apart.
fn kind_of(file: &Path) -> String {
    let words = file.iter().map(|word| {
        let word = word.to_string_lossy();
        let stem = word.split('.').next().unwrap_or_default();
        let drawn =
            uuid::Uuid::parse_str(stem).is_ok() || (stem.len() == 64 && stem.chars().all(|c| c.is_ascii_hexdigit()));
        let is_counted = !stem.is_empty() && stem.chars().all(|c| c.is_ascii_digit());
        match word.split_once("__") {
            Some((name, _)) => format!("{name}__KEY"),
            None if word.ends_with(".parquet") && !is_counted => "FILE.parquet".to_owned(),
            None if drawn => word.replace(stem, "ID"),
            None if is_counted => word.replace(stem, "N"),
            None => word.into_owned(),
        }
    });
    words.collect::<Vec<_>>().join("/")
}

/// Rows are served from such a file, or it says whose root this is: whatever befalls it is told. Entries of the third view are
/// those of what it was before.
fn is_served(kind: &str) -> bool {
    let served = ["view_cache/first__", "view_cache/second__", "dataset_cache/", "runtime_artifacts/"];
    let is_entry = served.iter().any(|scope| kind.starts_with(scope));
    (is_entry && kind.ends_with(".parquet")) || kind == "root.json"
}

/// A store, or what holds the shards of one together: that it is gone, or a part of it, is told.
fn is_store(kind: &str) -> bool {
    kind.starts_with("kv/") && (kind.ends_with("/data.mdb") || kind.ends_with("/fanout.json"))
}

const EVERYTHING: &str = r#"
[profile]
metadata_snapshots = "on_run_end"
engine_caches.preset = "always_latest"
stored_plans = "engine"

[sources.events]
format = "parquet"
path = "data/events.parquet"
cache = "delta_staging"

[views.first]
sql = "select k, s from events"

[views.second]
sql = "select s, sum(k) as total from first group by s"

[views.third]
sql = "select s, sum(k) as total from events group by s"

[outputs.second]
view = "second"
path = "out/second"
"#;

fn artifact_key() -> ArtifactKey {
    ArtifactKey::given("made", "v1")
}

/// A project whose cache root has all that there is.
fn lab() -> Lab {
    let lab = Lab::new(EVERYTHING);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        lab.run().await;
        lab.run().await;
        // Drains the outbox, so that the ledgers are there.
        lab.sql("select count(*) as n from alluvium.cache_runs").await;
        keep(&caches(&lab.path(".alluvium"), NONE_IN_MEMORY), &artifact_key(), batches(20)).await;
    });
    lab
}

/// What was said of a harm to a kind of file: nothing, that it was found, or that something was made anew.
type Said = (String, Harm, &'static str);

/// What a run over the damage says. One view is another by now, so that what was kept of the source is asked for too.
async fn aftermath(lab: &Lab, file: &Path, harm: Harm) -> Option<Said> {
    let case = format!("{} {harm:?}", file.display());
    let hurt = Lab::new("");
    copy_dir(lab.dir(), hurt.dir());
    if !harm.befalls(&hurt.path(".alluvium").join(file)) {
        return None;
    }
    hurt.edit("alluvium.toml", "sum(k) as total from events", "sum(k) + 100 as total from events");
    let options = OpenOptions { seam: Some(later()), ..OpenOptions::default() };
    let pipeline = match Pipeline::open(Project::load(hurt.dir()).unwrap(), options) {
        Ok(pipeline) => pipeline,
        Err(error) => panic!("{case}: {error:?}"),
    };
    let document = run(&pipeline).await;
    assert_eq!(document.result, RunResult::Succeeded, "{case}: {document:#?}");
    let all = "select s, total from second union all select s, total + 10 from outputs.second \
               union all select s, total from third";
    let rows = format!("select s, sum(total) as total from ({all}) as t group by s order by s");
    let rows = answer(&pipeline, &rows).await;
    assert!(rows.contains("| a | 113   |") && rows.contains("| b | 125   |"), "{case}: {rows}");
    // The ledgers answer: with what is left, where one was set aside with what it held.
    let of_run = |what: &str| format!("select {what} and run_id = '{}'", document.run_id);
    let source = answer(&pipeline, &of_run("result from alluvium.cache_inventory where cache_scope = 'dataset'")).await;
    let taken = answer(&pipeline, &of_run("snapshot_name from alluvium.cache_snapshots where result = 'ok'")).await;
    let is_ledger = file.starts_with("cache_ledgers");
    for snapshot in ["df_metadata_cache", "df_statistics_cache", "df_list_files_cache"] {
        // A ledger whose files are gone is found out by who asks it, and set aside with this run's rows in it.
        assert!(taken.contains(snapshot) || is_ledger, "{case}: {taken}");
        let count = format!("select count(cached_bytes) as n from metadata_cache_snapshots.{snapshot}");
        answer(&pipeline, &count).await;
    }
    let mut notices = document.notices;
    drop(pipeline);

    let session = sessions().build().unwrap();
    let cache = caches(&hurt.path(".alluvium"), NONE_IN_MEMORY);
    let made = keep(&cache, &artifact_key(), batches(20)).await;
    let rows = rows_of(&session, &made).await;
    assert!(rows.contains("| 19 |") && rows.contains("| row 19"), "{case}: {rows}");
    let is_remade = made.outcome().result != LookupResult::Hit;
    notices.extend(cache.take_notices());
    drop((made, cache));

    let again = hurt.run().await;
    assert_eq!(again.result, RunResult::Succeeded, "{case}: {again:#?}");
    assert!(again.views.iter().all(|view| view.result == ViewResult::Hit), "{case}: {again:#?}");
    assert!(again.outputs.iter().all(|output| output.result == OutputResult::Hit), "{case}: {again:#?}");
    assert_eq!(again.notices, Vec::<String>::new(), "{case}: told twice");

    let is_anew = is_remade
        || source.contains("write")
        || document.views.iter().any(|view| view.name != "third" && view.result != ViewResult::Hit)
        || document.outputs.iter().any(|output| output.result != OutputResult::Hit);
    let said = match (notices.is_empty(), is_anew) {
        (false, _) => "told",
        (true, true) => "made anew",
        (true, false) => "nothing",
    };
    Some((kind_of(file), harm, said))
}

/// What is harmed, and how.
fn cases(files: &[PathBuf]) -> Vec<(&PathBuf, Harm)> {
    if std::env::var_os("ALLUVIUM_DAMAGE").is_some_and(|asked| asked == "all") {
        return files.iter().flat_map(|file| Harm::ALL.map(|harm| (file, harm))).collect();
    }
    let kinds: BTreeMap<String, &PathBuf> = files.iter().map(|file| (kind_of(file), file)).collect();
    let mut turns = Harm::ALL.into_iter().cycle();
    let cases = kinds.into_iter().flat_map(|(kind, file)| {
        let every = is_served(&kind) || is_store(&kind);
        let harms = if every { Harm::ALL.to_vec() } else { turns.by_ref().take(1).collect() };
        harms.into_iter().map(move |harm| (file, harm))
    });
    cases.collect()
}

/// All of them, a few at a time.
fn aftermaths(lab: &Lab, cases: &[(&PathBuf, Harm)]) -> Vec<Said> {
    let cases = Mutex::new(cases.iter());
    std::thread::scope(|scope| {
        let work = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let next = || cases.lock().unwrap().next();
            let done =
                std::iter::from_fn(next).filter_map(|(file, harm)| runtime.block_on(aftermath(lab, file, *harm)));
            done.collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn every_file_of_a_cache_root_may_be_damaged() {
    let lab = lab();
    let files = files_below(&lab.path(".alluvium"));
    let kinds: BTreeSet<String> = files.iter().map(|file| kind_of(file)).collect();
    for scope in [
        "view_cache",
        "dataset_cache",
        "runtime_artifacts",
        "metadata_cache_snapshots",
        "cache_ledgers",
        "kv/plan",
        "kv/schema",
        "kv/runtime",
        "kv/queue",
        "kv/index",
    ] {
        assert!(kinds.iter().any(|kind| kind.starts_with(scope)), "{scope}: {kinds:#?}");
    }
    let cases = cases(&files);
    println!("{} files of {} kinds, {} cases", files.len(), kinds.len(), cases.len());
    for (kind, harm, said) in aftermaths(&lab, &cases) {
        println!("{kind} {harm:?}: {said}");
        // Locks hold nothing, and of logs and ledgers a run that hits reads nothing. What it serves it has looked at; a bit of a
        // store may be one that no row stands on any more.
        let is_bit = matches!(harm, Harm::Flipped(_)) && kind.ends_with("/data.mdb");
        if is_served(&kind) || (is_store(&kind) && !is_bit) {
            assert_eq!(said, "told", "{kind} {harm:?}");
        }
    }
}

/// The key-value store tells damage of its pages, not of what is in them: a digit of a row that is another digit.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_index_that_says_something_else_is_not_believed() {
    let lab = Lab::new(
        "[sources.events]\nformat = \"parquet\"\npath = \"events.parquet\"\n[views.first]\nsql = \"select k, s from events\"\n",
    );
    lab.parquet("events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    let key = lab.run().await.views[0].cache_key.unwrap();
    {
        let root = CacheRoot::open(&lab.path(".alluvium"), &later()).unwrap();
        let index = root.kv(KvKind::Index).unwrap();
        let row = index.read::<_, StoreError>(|txn| Ok(txn.get("entries", key.as_bytes())?.unwrap().to_vec())).unwrap();
        let changed = String::from_utf8_lossy(&row[32..]).replace("\"row_count\":3", "\"row_count\":7");
        let changed = [&row[..32], changed.as_bytes()].concat();
        assert_ne!(changed, row);
        index.write::<_, StoreError>(|txn| txn.put("entries", key.as_bytes(), &changed)).unwrap();
    }
    let pipeline = lab.open();
    // The number of rows is answered without reading any.
    let rows = answer(&pipeline, "select count(*) as n from first").await;
    assert!(rows.contains("| 3 |"), "{rows}");
    let document = run(&pipeline).await;
    drop(pipeline);
    assert_eq!(document.notices.len(), 1, "{document:#?}");
    assert_eq!(lab.run().await.notices, Vec::<String>::new());
    assert!(lab.sql("select count(*) as n from first").await.contains("| 3 |"));
}
