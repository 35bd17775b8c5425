//! A reader while entries are collected: stopped between any two steps, and the collector too, in every order. The reader
//! never misses a file, and in the end everything that was condemned is gone.
//!
//! Fail points are the process's, so the interleavings are played in a child of this binary that does nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use alluvium_contracts::{CachedEntry, EntryState, RemovalResult, RunResult};
use alluvium_runs::{GcRequest, Selection};

use crate::caches::{caches_at, entry_dirs};
use crate::lab::{Lab, answer, results, run};

const CHILD: &str = "ALLUVIUM_TEST_RETENTION";

/// Between begin and end of a query whose view has an entry.
const READER: [&str; 2] = ["view.row.found", "query.decided"];

/// The same where the index was lost, so that reader and collector both adopt the entry.
const ADOPTER: [&str; 3] = ["view.adopt.uncondemned", "view.adopt.checked", "query.decided"];

const COLLECTOR: [&str; 5] = ["gc.condemned", "gc.condemned.listed", "gc.readers.listed", "gc.deleting", "gc.deleted"];

/// Whose entry is read and collected.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    View,
    /// That of the source, by a view which has none.
    Source,
}

impl Kept {
    /// What the view does in a run that finds no entry.
    fn anew(self) -> &'static str {
        match self {
            Self::View => "first: write",
            Self::Source => "first: computed",
        }
    }

    /// The directories of the entries.
    fn dirs(self, lab: &Lab) -> usize {
        match self {
            Self::View => entry_dirs(&lab.path(".alluvium"), "view_cache").len(),
            Self::Source => entry_dirs(&lab.path(".alluvium"), "dataset_cache").len(),
        }
    }
}

fn lab(kept: Kept) -> Lab {
    let (source, view) = match kept {
        Kept::View => ("none", "delta_staging"),
        Kept::Source => ("delta_staging", "none"),
    };
    let lab = Lab::new(&format!(
        r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"
cache = "{source}"

[views.first]
sql = "select k, s from events"
cache = "{view}"
"#
    ));
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

/// Holds the first thread that comes to a fail point, until it is opened.
struct Gate {
    point: &'static str,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    reached: bool,
    open: bool,
}

impl Gate {
    fn at(point: &'static str) -> Self {
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let held = Arc::clone(&state);
        let hold = move || {
            let (state, changed) = &*held;
            let mut state = state.lock().unwrap();
            if !state.reached {
                state.reached = true;
                drop(changed.wait_while(state, |state| !state.open).unwrap());
            }
        };
        fail::cfg_callback(point, hold).unwrap();
        Self { point, state }
    }

    fn is_reached(&self) -> bool {
        self.state.0.lock().unwrap().reached
    }

    /// Waits until somebody is held, or `thread` has ended without coming here.
    fn wait<T>(&self, thread: &JoinHandle<T>) {
        while !self.is_reached() && !thread.is_finished() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn open(&self) {
        self.state.0.lock().unwrap().open = true;
        self.state.1.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
        fail::remove(self.point);
    }
}

fn read(dir: &Path) -> JoinHandle<String> {
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let pipeline = Lab::open_at(&dir);
            answer(&pipeline, "select sum(k) as k, count(*) as n from first").await
        })
    })
}

fn collect(dir: &Path) -> JoinHandle<usize> {
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        let request = GcRequest { max_bytes: Some(0), dry_run: false };
        caches_at(&dir).cache().collect_garbage(request).unwrap().entries.len()
    })
}

fn write(dir: &Path) -> JoinHandle<Vec<String>> {
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { results(&run(&Lab::open_at(&dir)).await) })
    })
}

fn assert_rows(rows: &str, case: &str) {
    assert!(rows.contains("| 6 | 3 |"), "{case}: {rows}");
}

/// Both are held, and let go in turn.
async fn interleaved(kept: Kept, reader: &'static str, collector: &'static str, lost: bool, reader_first: bool) {
    let case =
        format!("{kept:?}, reader at {reader}, collector at {collector}, lost: {lost}, reader first: {reader_first}");
    let lab = lab(kept);
    lab.run().await;
    if lost {
        std::fs::remove_dir_all(lab.path(".alluvium/kv/index")).unwrap();
    }
    let (at_reader, at_collector) = (Gate::at(reader), Gate::at(collector));
    let reading = read(lab.dir());
    at_reader.wait(&reading);
    assert!(at_reader.is_reached(), "{case}: the reader never came there");
    let collecting = collect(lab.dir());
    at_collector.wait(&collecting);
    let rows = if reader_first {
        at_reader.open();
        let rows = reading.join().unwrap();
        at_collector.open();
        collecting.join().unwrap();
        rows
    } else {
        at_collector.open();
        collecting.join().unwrap();
        at_reader.open();
        reading.join().unwrap()
    };
    assert_rows(&rows, &case);
    drop((at_reader, at_collector));
    // What nobody reads any more goes, and nothing else was lost.
    collect(lab.dir()).join().unwrap();
    assert_eq!(kept.dirs(&lab), 0, "{case}");
    let document = lab.run().await;
    assert_eq!((document.result, results(&document)), (RunResult::Succeeded, vec![kept.anew().to_owned()]), "{case}");
    assert_eq!(kept.dirs(&lab), 1, "{case}");
    assert_rows(&read(lab.dir()).join().unwrap(), &case);
}

/// The collector is held, and a reader comes and goes.
async fn between(collector: &'static str) {
    let lab = lab(Kept::View);
    lab.run().await;
    let at_collector = Gate::at(collector);
    let collecting = collect(lab.dir());
    at_collector.wait(&collecting);
    assert!(at_collector.is_reached(), "the collector never came to {collector}");
    // In a query, and as a run that computes the key anew while its old entry is on its way out.
    assert_rows(&read(lab.dir()).join().unwrap(), collector);
    assert_eq!(results(&lab.run().await), ["first: write"], "{collector}");
    at_collector.open();
    assert_eq!(collecting.join().unwrap(), 1);
    assert_eq!(results(&lab.run().await), ["first: hit"], "{collector}");
    assert_eq!(Kept::View.dirs(&lab), 1, "{collector}");
    assert_rows(&read(lab.dir()).join().unwrap(), collector);
}

/// A directory is condemned while its writer is at work, who publishes it and ends while the collector is held.
async fn published_after_all() {
    let lab = lab(Kept::View);
    let (at_writer, at_collector) = (Gate::at("view.commit.before"), Gate::at("gc.condemned.listed"));
    let writing = write(lab.dir());
    at_writer.wait(&writing);
    assert!(at_writer.is_reached(), "the writer never came there");
    // As if the collector had asked for the lease right before the writer took it.
    std::fs::remove_dir_all(lab.path(".alluvium/leases")).unwrap();
    let collecting = collect(lab.dir());
    at_collector.wait(&collecting);
    assert!(at_collector.is_reached(), "the collector never came there");
    let listing = caches_at(lab.dir()).cache().list().unwrap();
    assert_eq!(listing.entries.iter().map(|entry| entry.state).collect::<Vec<_>>(), [EntryState::Condemned]);
    at_writer.open();
    assert_eq!(writing.join().unwrap(), ["first: write"]);
    at_collector.open();
    assert_eq!(collecting.join().unwrap(), 0);
    assert_eq!(Kept::View.dirs(&lab), 1);
    assert_eq!(results(&lab.run().await), ["first: hit"]);
}

/// Every entry is looked at as a collection comes and goes, which may condemn it and not delete it.
async fn collected_while_it_is_verified() {
    let lab = lab(Kept::View);
    lab.run().await;
    let at_verifier = Gate::at("verify.listed");
    let dir = lab.dir().to_owned();
    let verifying = std::thread::spawn(move || caches_at(&dir).cache().verify(&[]).unwrap());
    at_verifier.wait(&verifying);
    assert!(at_verifier.is_reached(), "the verifier never came there");
    assert_eq!(collect(lab.dir()).join().unwrap(), 1);
    assert_eq!(Kept::View.dirs(&lab), 1, "it is read");
    at_verifier.open();
    let verified = verifying.join().unwrap();
    assert_eq!((verified.damaged_count, verified.entries.len()), (0, 0), "{verified:?}");
    assert_eq!(verified.notices, Vec::<String>::new());
    collect(lab.dir()).join().unwrap();
    assert_eq!(Kept::View.dirs(&lab), 0);
}

/// While entries of a key are deleted side by side somebody has its lock, as each of them had for a moment.
async fn emptied_by_many() {
    let lab = lab(Kept::View);
    let key = lab.run().await.views[0].cache_key.unwrap();
    let dir = entry_dirs(&lab.path(".alluvium"), "view_cache")[0].clone();
    // What writers left who died before their commits: more than one thread deletes.
    for entry in 0..99 {
        std::fs::create_dir(dir.with_file_name(format!("7d0c7a55-0c61-4f0e-8a53-{entry:012x}"))).unwrap();
    }
    let (at_condemned, at_deleted) = (Gate::at("gc.condemned"), Gate::at("gc.deleted"));
    let collecting = collect(lab.dir());
    at_condemned.wait(&collecting);
    let lock = std::fs::File::create(lab.path(&format!(".alluvium/leases/{}.lock", key.hex()))).unwrap();
    lock.try_lock().unwrap();
    at_condemned.open();
    at_deleted.wait(&collecting);
    assert!(at_deleted.is_reached(), "the collector never came there");
    assert_eq!(Kept::View.dirs(&lab), 0);
    drop(lock);
    at_deleted.open();
    assert_eq!(collecting.join().unwrap(), 100);
    assert_eq!(std::fs::read_dir(lab.path(".alluvium/view_cache")).unwrap().count(), 0, "that of the key is gone too");
}

/// Not a test of its own: what the child does.
#[tokio::test(flavor = "multi_thread")]
async fn retention_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    published_after_all().await;
    collected_while_it_is_verified().await;
    emptied_by_many().await;
    for collector in COLLECTOR {
        between(collector).await;
        for reader_first in [true, false] {
            for reader in READER {
                interleaved(Kept::View, reader, collector, false, reader_first).await;
                interleaved(Kept::Source, reader, collector, false, reader_first).await;
            }
        }
    }
    for collector in COLLECTOR {
        for reader_first in [true, false] {
            for reader in ADOPTER {
                interleaved(Kept::View, reader, collector, true, reader_first).await;
                interleaved(Kept::Source, reader, collector, true, reader_first).await;
            }
        }
    }
}

/// Each is told, what went is on record all the same, and every later collection tries again.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_keeps_nothing_else() {
    let lab = lab(Kept::View);
    lab.run().await;
    lab.edit("alluvium.toml", "select k, s", "select s, k");
    lab.run().await;
    lab.edit("alluvium.toml", "select s, k", "select s");
    lab.run().await;
    let caches = caches_at(lab.dir());
    let cache = caches.cache();
    let mut entries = cache.list().unwrap().entries;
    // Deleted in this order.
    entries.sort_by_key(|entry| entry.entry_id);
    let [first, other, last] = entries.as_slice() else { panic!("{entries:?}") };
    let dir = |entry: &CachedEntry| lab.path(".alluvium").join(&entry.cache_path);
    // No directory can be removed by this name, by root neither.
    for stuck in [first, last] {
        std::fs::remove_dir_all(dir(stuck)).unwrap();
        std::fs::write(dir(stuck), "").unwrap();
    }
    for (pass, deleted) in [BTreeSet::from([other.entry_id]), BTreeSet::new()].into_iter().enumerate() {
        let removal = caches.collect_garbage(GcRequest { max_bytes: Some(0), dry_run: false }).unwrap();
        let of = |result: RemovalResult| {
            let of_result = removal.entries.iter().filter(|entry| entry.result == result);
            of_result.map(|entry| entry.entry_id).collect::<BTreeSet<_>>()
        };
        assert_eq!(of(RemovalResult::Deleted), deleted, "{removal:?}");
        assert_eq!(of(RemovalResult::Condemned), BTreeSet::from([first.entry_id, last.entry_id]), "{removal:?}");
        let stuck = removal.entries.iter().filter(|entry| entry.reason.contains("it cannot be deleted: "));
        assert_eq!(stuck.count(), 2, "{removal:?}");
        assert!(!dir(other).exists());
        let left: Vec<_> = cache.list().unwrap().entries.iter().map(|entry| (entry.entry_id, entry.state)).collect();
        assert_eq!(left, [first, last].map(|stuck| (stuck.entry_id, EntryState::Condemned)));
        assert_eq!((cache.take_undeleted(), cache.take_undeleted()), (2, 0));
        let told = caches.take_notices();
        assert_eq!(told.len(), 2, "{told:?}");
        for (stuck, notice) in [first, last].into_iter().zip(&told) {
            assert!(notice.contains(&stuck.cache_path) && notice.contains("delete it by hand"), "{notice}");
        }
        let recorded = "select count(*) as n from alluvium.cache_artifacts where artifact_kind = 'cache_removal'";
        assert!(lab.sql(recorded).await.contains(&format!("| {} |", pass + 1)));
    }
    for stuck in [first, last] {
        std::fs::remove_file(dir(stuck)).unwrap();
    }
    assert_eq!(collect(lab.dir()).join().unwrap(), 2);
    assert_eq!(cache.list().unwrap().entries, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_says_what_nothing_is_of() {
    let lab = lab(Kept::View);
    lab.edit("alluvium.toml", "[views.first]", "[views.first]\ntags = [\"nightly\"]");
    let written = lab.run().await;
    let caches = caches_at(lab.dir());
    let run_id = "019bbfd4-1f00-7def-8123-456789abcdef".parse().unwrap();
    let tags = vec!["nightly".to_owned(), "nighlty".to_owned()];
    let unknown = Selection { tags: tags.clone(), run_id: Some(run_id), ..Selection::default() };
    assert_eq!(caches.cache().evict(&unknown, false).unwrap().entries, []);
    let said = ["no entry has the tag `nighlty`".to_owned(), format!("no entry was written by run {run_id}")];
    assert_eq!(caches.take_notices(), said);
    let known = Selection { tags: tags[..1].to_vec(), run_id: Some(written.run_id), ..Selection::default() };
    assert_eq!(caches.cache().evict(&known, false).unwrap().entries.len(), 1);
    assert_eq!(caches.take_notices(), Vec::<String>::new());
}

#[test]
fn no_interleaving_of_reader_and_collector_misses_a_file() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "retention::retention_child", "--nocapture"])
        .env(CHILD, "yes")
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
}
