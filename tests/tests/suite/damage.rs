//! Every file of a cache root deleted, cut off or changed by one bit, one at a time: the next run has the right rows, and
//! says what it found; the one after it has nothing to say.
//!
//! The root has everything that a root can have: entries of views and of a source, an artifact, an output's memory, snapshots of
//! the engine's caches, stored plans, ledgers, and the key-value stores of all of them. The check harms one file of each *kind*:
//! files whose paths differ in keys, ids, versions and shards only are of one kind. To what rows are served from, and to stores, it
//! does every harm; to any other kind one, in turn. With `ALLUVIUM_DAMAGE=all` (`cargo xtask soak damage`) every harm is done to every file.
//!
//! Damage that decodes is done by itself: one digit of a number that a log or a row of the index says, where the index is lost that
//! would know the log's bytes, and the row's own digest fits. The check does it to what numbers of rows are answered from, the soak to
//! every number.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use alluvium_contracts::{
    ContentDigest, LookupResult, OutputResult, RunDocument, RunId, RunResult, ShadowResult, VerifyResult, ViewResult,
};
use alluvium_delta_cache::ArtifactKey;
use alluvium_disk_kv_cache::{Order, StoreError};
use alluvium_profile::{CacheRoot, KvKind};
use alluvium_runs::{CacheError, GcRequest, OpenOptions, Pipeline, Project, RunOptions, Silent};

use crate::artifacts::{NONE_IN_MEMORY, batches, caches, keep, rows_of};
use crate::caches::caches_at;
use crate::lab::{Lab, answer, copy_dir, later, run, sessions, try_run};

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

/// What befalls a cache root.
#[derive(Debug, Clone)]
enum Case {
    /// A file, by its bytes.
    File(PathBuf, Harm),
    /// A number of a log is another one, and the index is lost.
    Log(PathBuf, Number),
    /// A number of a row of the index is another one, and its digest fits.
    Row(&'static str, Vec<u8>, Number),
}

impl Case {
    /// Does it to a cache root; `false` where it would change nothing.
    fn befalls(&self, root: &Path) -> bool {
        match self {
            Self::File(file, harm) => harm.befalls(&root.join(file)),
            Self::Log(file, number) => {
                recount(&root.join(file), |text| number.moved(text));
                lose_index(root);
                true
            }
            Self::Row(table, key, number) => {
                rewrite_row(root, table, key, |text| number.moved(text));
                true
            }
        }
    }

    /// What it is done to, without what is drawn anew each time.
    fn kind(&self) -> String {
        match self {
            Self::File(file, harm) => format!("{} {harm:?}", kind_of(file)),
            Self::Log(file, number) => format!("{} {}", kind_of(file), number.name),
            Self::Row(table, _, number) => format!("row of {table}: {}", number.name),
        }
    }

    fn is_of_ledger(&self) -> bool {
        matches!(self, Self::File(file, _) | Self::Log(file, _) if file.starts_with("cache_ledgers"))
    }
}

/// A whole number in a text of JSON, or of JSON inside of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// Of what.
    name: String,
    /// Where its last digit stands.
    at: usize,
}

impl Number {
    pub fn all(text: &str) -> Vec<Self> {
        let bytes = text.as_bytes();
        let starts = text.match_indices("\":").map(|(colon, _)| colon);
        let numbers = starts.filter_map(|colon| {
            let from = colon + 2;
            let digits = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let name = text[..colon].trim_end_matches('\\').rsplit('"').next().unwrap_or_default();
            (digits > 0).then(|| Self { name: name.to_owned(), at: from + digits - 1 })
        });
        numbers.collect()
    }

    /// The first of that name.
    pub fn named(text: &str, name: &str) -> Self {
        let found = Self::all(text).into_iter().find(|number| number.name == name);
        found.unwrap_or_else(|| panic!("no number is called {name} in {text}"))
    }

    /// The text with another digit there.
    pub fn moved(&self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        bytes[self.at] = if bytes[self.at] == b'9' { b'8' } else { bytes[self.at] + 1 };
        String::from_utf8(bytes).unwrap()
    }
}

/// Makes a text file another one.
pub fn recount(file: &Path, other: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(file).unwrap();
    let changed = other(&text);
    assert_ne!(changed, text);
    std::fs::write(file, changed).unwrap();
}

pub fn lose_index(root: &Path) {
    std::fs::remove_dir_all(root.join("kv/index")).unwrap();
}

/// The rows of a table of the index, each with its text.
pub fn rows_in(root: &Path, table: &str) -> Vec<(Vec<u8>, String)> {
    let root = CacheRoot::open(root, &later()).unwrap();
    let read = root.kv(KvKind::Index).unwrap().read::<_, StoreError>(|txn| {
        let rows = txn.scan(table, .., Order::Ascending)?;
        rows.map(|row| row.map(|(key, row)| (key.to_vec(), String::from_utf8_lossy(&row[32..]).into_owned()))).collect()
    });
    read.unwrap()
}

/// The bytes of a row of the index.
pub fn raw_row(root: &Path, table: &str, key: &[u8]) -> Vec<u8> {
    let root = CacheRoot::open(root, &later()).unwrap();
    let index = root.kv(KvKind::Index).unwrap();
    index.read::<_, StoreError>(|txn| Ok(txn.get(table, key)?.unwrap().to_vec())).unwrap()
}

pub fn delete_row(root: &Path, table: &str, key: &[u8]) {
    let root = CacheRoot::open(root, &later()).unwrap();
    assert!(root.kv(KvKind::Index).unwrap().write::<_, StoreError>(|txn| txn.delete(table, key)).unwrap());
}

/// Makes a row of the index another one, with the digest that fits.
pub fn rewrite_row(root: &Path, table: &str, key: &[u8], other: impl Fn(&str) -> String) {
    let (_, text) = rows_in(root, table).into_iter().find(|(held, _)| held == key).unwrap();
    let changed = other(&text);
    assert_ne!(changed, text);
    put_row(
        root,
        table,
        key,
        &[ContentDigest::of(changed.as_bytes()).as_bytes().as_slice(), changed.as_bytes()].concat(),
    );
}

pub fn put_row(root: &Path, table: &str, key: &[u8], row: &[u8]) {
    let root = CacheRoot::open(root, &later()).unwrap();
    root.kv(KvKind::Index).unwrap().write::<_, StoreError>(|txn| txn.put(table, key, row)).unwrap();
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

/// What was said of a harm: nothing, that it was found, or that something was made anew.
type Said = (Case, &'static str);

/// What a run over the damage says. One view is another by now, so that what was kept of the source is asked for too.
async fn aftermath(lab: &Lab, harm: &Case) -> Option<Said> {
    let case = format!("{harm:?}");
    let hurt = Lab::new("");
    copy_dir(lab.dir(), hurt.dir());
    if !harm.befalls(&hurt.path(".alluvium")) {
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
    // Numbers of rows are answered without reading any.
    let counts = "select (select count(*) from events) as e, (select count(*) from first) as f, \
                  (select count(*) from second) as s, (select count(*) from outputs.second) as o";
    let counts = answer(&pipeline, counts).await;
    assert!(counts.contains("| 3 | 3 | 2 | 2 |"), "{case}: {counts}");
    // The ledgers answer: with what is left, where one was set aside with what it held.
    let of_run = |what: &str| format!("select {what} and run_id = '{}'", document.run_id);
    let source = answer(&pipeline, &of_run("result from alluvium.cache_inventory where cache_scope = 'dataset'")).await;
    let taken = answer(&pipeline, &of_run("snapshot_name from alluvium.cache_snapshots where result = 'ok'")).await;
    for snapshot in ["df_metadata_cache", "df_statistics_cache", "df_list_files_cache"] {
        // A ledger whose files are gone is found out by who asks it, and set aside with this run's rows in it.
        assert!(taken.contains(snapshot) || harm.is_of_ledger(), "{case}: {taken}");
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
    let count = hurt.sql("select count(*) as n from runtime_artifacts.made").await;
    assert!(count.contains("| 20 |"), "{case}: {count}");

    let is_anew = is_remade
        || source.contains("write")
        || document.views.iter().any(|view| view.name != "third" && view.result != ViewResult::Hit)
        || document.outputs.iter().any(|output| output.result != OutputResult::Hit);
    let said = match (notices.is_empty(), is_anew) {
        (false, _) => "told",
        (true, true) => "made anew",
        (true, false) => "nothing",
    };
    Some((harm.clone(), said))
}

fn is_all_asked_for() -> bool {
    std::env::var_os("ALLUVIUM_DAMAGE").is_some_and(|asked| asked == "all")
}

/// What is harmed, and how.
fn cases(files: &[PathBuf]) -> Vec<Case> {
    if is_all_asked_for() {
        return files.iter().flat_map(|file| Harm::ALL.map(|harm| Case::File(file.clone(), harm))).collect();
    }
    let kinds: BTreeMap<String, &PathBuf> = files.iter().map(|file| (kind_of(file), file)).collect();
    let mut turns = Harm::ALL.into_iter().cycle();
    let cases = kinds.into_iter().flat_map(|(kind, file)| {
        let every = is_served(&kind) || is_store(&kind);
        let harms = if every { Harm::ALL.to_vec() } else { turns.by_ref().take(1).collect() };
        harms.into_iter().map(move |harm| Case::File(file.clone(), harm))
    });
    cases.collect()
}

/// What numbers of rows are answered from.
const COUNTS: [&str; 2] = ["numRecords", "row_count"];

/// The numbers that are moved of a text.
fn numbers(text: &str) -> Vec<Number> {
    let is_moved = |number: &Number| is_all_asked_for() || COUNTS.contains(&number.name.as_str());
    Number::all(text).into_iter().filter(is_moved).collect()
}

/// Numbers of logs and of rows of the index.
fn counted_cases(root: &Path, files: &[PathBuf]) -> Vec<Case> {
    let is_log = |file: &&PathBuf| {
        let kind = kind_of(file);
        kind.ends_with("/_delta_log/N.json")
            && (is_all_asked_for() || is_served(&kind.replace("/_delta_log/N.json", "/FILE.parquet")))
    };
    let of_log = |file: &PathBuf| {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        numbers(&text).into_iter().map(|number| Case::Log(file.clone(), number)).collect::<Vec<_>>()
    };
    let mut cases: Vec<Case> = files.iter().filter(is_log).flat_map(of_log).collect();
    // Outputs are remembered by their place, which is another one for each case: they have tests of their own below.
    for table in ["entries", "datasets", "artifacts"] {
        // Nobody asks any more for what the third view was before.
        for (key, text) in rows_in(root, table).into_iter().filter(|(_, text)| !text.contains("\"view\":\"third\"")) {
            cases.extend(numbers(&text).into_iter().map(|number| Case::Row(table, key.clone(), number)));
        }
    }
    cases
}

/// All of them, a few at a time.
fn aftermaths(lab: &Lab, cases: &[Case]) -> Vec<Said> {
    let cases = Mutex::new(cases.iter());
    std::thread::scope(|scope| {
        let work = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let next = || cases.lock().unwrap().next();
            let done = std::iter::from_fn(next).filter_map(|case| runtime.block_on(aftermath(lab, case)));
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
    for (case, said) in aftermaths(&lab, &cases) {
        println!("{}: {said}", case.kind());
        let Case::File(file, harm) = case else { unreachable!("only files were harmed") };
        let kind = kind_of(&file);
        // Locks hold nothing, and of logs and ledgers a run that hits reads nothing. What it serves it has looked at; a bit of a
        // store may be one that no row stands on any more.
        let is_bit = matches!(harm, Harm::Flipped(_)) && kind.ends_with("/data.mdb");
        if is_served(&kind) || (is_store(&kind) && !is_bit) {
            assert_eq!(said, "told", "{kind} {harm:?}");
        }
    }
}

/// The log of every scope, and every row of the index that rows are served by.
#[test]
fn every_number_that_is_believed_may_be_another() {
    let lab = lab();
    let root = lab.path(".alluvium");
    let cases = counted_cases(&root, &files_below(&root));
    println!("{} cases", cases.len());
    let kinds: BTreeSet<String> = cases.iter().map(Case::kind).collect();
    for kind in [
        "view_cache/first__KEY/ID/_delta_log/N.json numRecords",
        "view_cache/second__KEY/ID/_delta_log/N.json row_count",
        "dataset_cache/events__KEY/ID/_delta_log/N.json numRecords",
        "runtime_artifacts/made__KEY/ID/_delta_log/N.json row_count",
        "row of entries: row_count",
        "row of datasets: row_count",
        "row of artifacts: row_count",
    ] {
        assert!(kinds.contains(kind), "{kind}: {kinds:#?}");
    }
    for (case, said) in aftermaths(&lab, &cases) {
        let kind = case.kind();
        println!("{kind}: {said}");
        let is_count = COUNTS.iter().any(|count| kind.ends_with(count));
        let is_served = matches!(case, Case::Row(..))
            || ["view_cache", "dataset_cache", "runtime_artifacts"].iter().any(|scope| kind.starts_with(scope));
        if is_count && is_served && !kind.contains("third__") {
            assert_eq!(said, "told", "{kind}");
        }
    }
}

/// The project of the tests below: an exact view, an unstable one, and an output.
fn counted() -> Lab {
    let lab = Lab::new(
        r#"
[sources.events]
format = "parquet"
path = "events.parquet"

[views.first]
sql = "select k, s from events"

[views.loose]
sql = "select sum(cast(k as double)) as k from events group by s"

[outputs.first]
view = "first"
path = "out"
"#,
    );
    lab.parquet("events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

async fn count(lab: &Lab, table: &str) -> String {
    lab.sql(&format!("select count(*) as n from {table}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_whose_log_counts_other_rows_is_published_anew() {
    for (name, is_index_lost) in [("numRecords", true), ("row_count", true), ("row_count", false)] {
        let lab = counted();
        lab.run().await;
        recount(&lab.path("out/_delta_log/00000000000000000000.json"), |log| Number::named(log, name).moved(log));
        if is_index_lost {
            lose_index(&lab.path(".alluvium"));
        }
        let document = lab.run().await;
        assert_eq!(document.outputs[0].result, OutputResult::Write, "{name}: {document:#?}");
        assert!(document.notices.iter().any(|notice| notice.contains("published anew")), "{name}: {document:#?}");
        assert!(count(&lab, "outputs.first").await.contains("| 3 |"), "{name}");
        assert_eq!(lab.run().await.notices, Vec::<String>::new(), "{name}");
    }
}

/// What the index remembers of an output is not the output: where it is damaged, the table is what it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_remembered_with_other_rows_stays() {
    let lab = counted();
    lab.run().await;
    let root = lab.path(".alluvium");
    let (key, _) = rows_in(&root, "outputs").remove(0);
    rewrite_row(&root, "outputs", &key, |row| Number::named(row, "row_count").moved(row));
    let document = lab.run().await;
    assert_eq!(document.outputs[0].result, OutputResult::Hit, "{document:#?}");
    assert!(document.notices[0].contains("remembers of output `first` is damaged"), "{document:#?}");
    assert!(count(&lab, "outputs.first").await.contains("| 3 |"));
    assert_eq!(lab.run().await.notices, Vec::<String>::new());
}

/// Puts another number of rows where every record of the only entry of a view agrees on it: commit, log and index.
fn forge_count(lab: &Lab, view: &str) {
    let root = lab.path(".alluvium");
    let shown = caches_at(lab.dir()).cache().show(view).unwrap().entries.remove(0);
    let log = root.join(&shown.entry.cache_path).join("_delta_log/00000000000000000000.json");
    let before = ContentDigest::of(&std::fs::read(&log).unwrap()).to_string();
    for name in COUNTS {
        recount(&log, |text| Number::named(text, name).moved(text));
    }
    let after = ContentDigest::of(&std::fs::read(&log).unwrap()).to_string();
    rewrite_row(&root, "entries", shown.entry.cache_key.unwrap().as_bytes(), |row| {
        let counts: Vec<Number> = Number::all(row).into_iter().filter(|number| number.name == "row_count").collect();
        assert_eq!(counts.len(), 2, "of the entry and of its one file: {row}");
        assert!(row.contains(&before), "{row}");
        counts.iter().fold(row.to_owned(), |row, number| number.moved(&row)).replace(&before, &after)
    });
}

async fn shadowed(lab: &Lab) -> RunDocument {
    let options = RunOptions { shadow_percent: 100, ..RunOptions::default() };
    try_run(&lab.open(), options, &Silent).await.unwrap()
}

/// Where all records agree, only the files know better: who reads them all the same asks their footers.
#[tokio::test(flavor = "multi_thread")]
async fn footers_are_held_against_what_is_said_of_them() {
    let lab = counted();
    lab.run().await;
    forge_count(&lab, "first");
    assert!(count(&lab, "first").await.contains("| 4 |"), "a hit reads no file");
    let verified = caches_at(lab.dir()).cache().verify(&[]).unwrap();
    let first = verified.entries.iter().find(|entry| entry.view_name == "first").unwrap();
    assert_eq!((verified.damaged_count, first.result), (1, VerifyResult::Damaged), "{verified:#?}");
    assert!(first.damage.as_ref().unwrap().contains("holds 3 rows, and is said to hold 4"), "{first:?}");
    lab.run().await;

    // A shadow computation finds it in any view: what is said of files is never unstable.
    for (place, view) in ["first", "loose"].into_iter().enumerate() {
        forge_count(&lab, view);
        let document = shadowed(&lab).await;
        assert_eq!(document.views[place].shadow, Some(ShadowResult::Differs), "{document:#?}");
        assert_eq!(document.views[place].result, ViewResult::Write, "{document:#?}");
        assert!(document.views[place].reason.as_ref().unwrap().contains("damaged record"), "{document:#?}");
        assert_eq!(document.notices.len(), 1, "{document:#?}");
    }
    assert!(count(&lab, "first").await.contains("| 3 |"));

    // Nor is it adopted, though every digest fits.
    forge_count(&lab, "first");
    lose_index(&lab.path(".alluvium"));
    let document = lab.run().await;
    assert_eq!(document.views[0].result, ViewResult::Write, "{document:#?}");
    assert!(document.notices.iter().any(|notice| notice.contains("said to hold 4")), "{document:#?}");
}

/// A file that nobody can read, whoever asks, until this is dropped: a link to itself.
struct Barred {
    file: PathBuf,
    aside: PathBuf,
}

impl Barred {
    fn new(lab: &Lab, file: &Path) -> Self {
        let barred = Self { file: file.to_owned(), aside: lab.path("aside") };
        std::fs::rename(file, &barred.aside).unwrap();
        std::os::unix::fs::symlink(file, file).unwrap();
        barred
    }
}

impl Drop for Barred {
    fn drop(&mut self) {
        std::fs::remove_file(&self.file).unwrap();
        std::fs::rename(&self.aside, &self.file).unwrap();
    }
}

/// The directory of the only entry of a view, its commit, and its one data file.
fn files_of(lab: &Lab, view: &str) -> [PathBuf; 3] {
    let shown = caches_at(lab.dir()).cache().show(view).unwrap().entries.remove(0);
    let dir = lab.path(".alluvium").join(&shown.entry.cache_path);
    let (log, data) = (dir.join("_delta_log/00000000000000000000.json"), dir.join(&shown.files[0].path));
    [dir, log, data]
}

/// Verifies what cannot all be read; and says what was told meanwhile.
fn verified_in_vain(lab: &Lab) -> Vec<String> {
    let caches = caches_at(lab.dir());
    let error = caches.cache().verify(&[]).unwrap_err();
    assert!(matches!(error, CacheError::Read { .. }) && !error.is_input(), "{error:?}");
    caches.take_notices()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_verify_cannot_read_stays_where_it_is() {
    let lab = counted();
    lab.run().await;
    let [first, log, data] = files_of(&lab, "first");
    for file in [&log, &data] {
        let barred = Barred::new(&lab, file);
        assert_eq!(verified_in_vain(&lab), Vec::<String>::new(), "{}", file.display());
        drop(barred);
        let verified = caches_at(lab.dir()).cache().verify(&[]).unwrap();
        assert_eq!((verified.entries.len(), verified.damaged_count), (2, 0), "{verified:#?}");
    }

    // What is damaged beside it is found all the same.
    let [loose, _, data] = files_of(&lab, "loose");
    assert!(Harm::CutOff.befalls(&data));
    let barred = Barred::new(&lab, &log);
    let notices = verified_in_vain(&lab);
    assert!(notices.len() == 1 && notices[0].contains("`loose`"), "{notices:?}");
    assert!(first.exists() && !loose.exists());
    drop(barred);
    let verified = caches_at(lab.dir()).cache().verify(&[]).unwrap();
    assert_eq!((verified.entries.len(), verified.damaged_count), (1, 0), "{verified:#?}");
}

/// A hit does not read the commit, which a shadow computation does.
#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_computation_that_cannot_read_the_entry_leaves_it() {
    let lab = counted();
    lab.run().await;
    let [first, log, _] = files_of(&lab, "first");
    let barred = Barred::new(&lab, &log);
    let document = shadowed(&lab).await;
    drop(barred);
    assert_eq!(document.result, RunResult::Succeeded, "{document:#?}");
    assert_eq!((document.views[0].result, document.views[0].shadow), (ViewResult::Hit, None), "{document:#?}");
    assert!(document.views[0].reason.as_ref().unwrap().contains("its entry stands"), "{document:#?}");
    assert_eq!(document.notices, Vec::<String>::new());
    assert!(first.exists() && !lab.path(".alluvium/quarantine").exists());
    assert_eq!(shadowed(&lab).await.views[0].shadow, Some(ShadowResult::Agrees));
}

/// A row that says what is kept, and cannot be read, may say anything: nothing goes until it is said again.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_unreadable_row_may_keep_is_not_condemned() {
    let lab = counted();
    let kept = lab.run().await.run_id;
    let root = lab.path(".alluvium");
    let keep = |run_id: RunId| {
        let caches = caches_at(lab.dir());
        let entry = caches.cache().show("first").unwrap().entries.remove(0).entry;
        assert_eq!(caches.cache().keep(run_id, &BTreeSet::from([entry.cache_path])).unwrap(), Vec::<String>::new());
    };
    let collect = |dry_run| {
        let caches = caches_at(lab.dir());
        let removal = caches.collect_garbage(GcRequest { max_bytes: Some(0), dry_run }).unwrap();
        let results = removal.entries.iter().map(|entry| format!("{} {}", entry.view_name, entry.result));
        let mut results: Vec<String> = results.collect();
        results.sort();
        (results, caches.take_notices())
    };
    let damage = |key: &str| put_row(&root, "kept", key.as_bytes(), b"\0 what no digest fits");
    let spared = ["first kept".to_owned(), "loose kept".to_owned()];

    keep(kept);
    damage(&kept.to_string());
    for dry_run in [true, false] {
        let (results, notices) = collect(dry_run);
        assert_eq!(results, spared, "dry run: {dry_run}");
        assert!(notices.len() == 1 && notices[0].contains(&format!("runs keep {kept}")), "{notices:?}");
    }
    assert!(caches_at(lab.dir()).cache().kept_runs().unwrap().contains(&kept), "it is kept, whatever for");
    keep(kept);
    assert_eq!(collect(true), (vec!["loose planned".to_owned()], Vec::new()));
    damage(&kept.to_string());
    assert!(caches_at(lab.dir()).cache().release(kept).unwrap());
    assert_eq!(collect(true).0, ["first planned", "loose planned"]);

    // What no run's name is on can neither be kept anew nor released.
    damage("nobody");
    let (results, notices) = collect(false);
    assert_eq!(results, spared);
    assert!(notices[0].contains("rebuild-index"), "{notices:?}");
    assert_eq!(caches_at(lab.dir()).cache().rebuild_index().unwrap().dropped_count, 1);
    let (results, notices) = collect(false);
    assert_eq!((results, notices), (vec!["first deleted".to_owned(), "loose deleted".to_owned()], Vec::new()));
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
