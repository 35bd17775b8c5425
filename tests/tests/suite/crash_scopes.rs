//! kill -9 between any two steps in the life of what is no view: kept sources, runtime artifacts, snapshots of the engine's
//! caches. The next process is right, and finds whatever was there before the death.

use std::path::Path;

use alluvium_contracts::{CacheCommitMetadata, CachedEntry, EntryState, LookupResult, RunResult};
use alluvium_delta_cache::{ArtifactKey, GcRequest};
use alluvium_write_policy::commit_info;
use tempfile::TempDir;

use crate::artifacts::{NONE_IN_MEMORY, batches, caches, keep, load, rows_of, tables};
use crate::caches::caches_at;
use crate::crash::{childhood, crashes, crashes_at};
use crate::lab::{Lab, answer, results, run, sessions};

/// Every step of the life of an entry, with whether the entry is there when a process dies at it: from its commit on,
/// because who looks for it adopts it.
const STEPS: [(&str, bool); 5] = [
    ("view.lease.acquired", false),
    ("view.files.written", false),
    ("view.commit.before", false),
    ("view.commit.after", true),
    ("view.published", true),
];

fn live(dir: &Path) -> Vec<String> {
    let entries: Vec<CachedEntry> = caches_at(dir).cache().list().unwrap().entries;
    assert!(entries.iter().all(|entry| entry.state == EntryState::Live), "{entries:#?}");
    let mut names: Vec<String> = entries.into_iter().map(|entry| entry.view_name).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_source_is_kept_the_next_run_is_right() {
    for (point, is_there) in STEPS {
        // The first time for the source, the second for the view.
        for hit in [1, 2] {
            let case = format!("{point}#{hit}");
            let lab = Lab::new(
                "[sources.events]\nformat = \"parquet\"\npath = \"events.parquet\"\ncache = \"delta_staging\"\n\
                 [views.counted]\nsql = \"select s, sum(k) as total from events group by s\"\n",
            );
            lab.parquet("events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
            assert!(crashes(&lab, point, hit), "{case} was never reached");
            let pipeline = lab.open();
            let document = run(&pipeline).await;
            assert_eq!(document.result, RunResult::Succeeded, "{case}: {document:#?}");
            let view = if hit == 2 && is_there { "hit" } else { "write" };
            assert_eq!(results(&document), [format!("counted: {view}")], "{case}");
            let rows = answer(&pipeline, "select s, total from counted order by s").await;
            assert!(rows.contains("| a | 1     |") && rows.contains("| b | 5     |"), "{case}: {rows}");
            // Whether the run read the source's files: not if the view was there, nor if what was kept of them was.
            let source = match (hit, is_there) {
                (2, true) => None,
                (2, false) | (1, true) => Some("hit"),
                _ => Some("write"),
            };
            let asked = format!(
                "select result from alluvium.cache_inventory where cache_scope = 'dataset' and run_id = '{}'",
                document.run_id
            );
            let found = answer(&pipeline, &asked).await;
            assert_eq!(found.lines().nth(3).map(|line| line.trim_matches(['|', ' '])), source, "{case}: {found}");
            // The dead has its row, too, where it came to commit.
            let of_the_dead = format!(
                "select view_name, cache_path is not null as is_there from alluvium.cache_inventory \
                 where cache_scope = 'dataset' and result = 'write' and run_id <> '{}'",
                document.run_id
            );
            let of_the_dead = answer(&pipeline, &of_the_dead).await;
            let is_kept = hit == 2 || is_there;
            assert_eq!(
                of_the_dead.matches("| events    | true     |").count(),
                usize::from(is_kept),
                "{case}: {of_the_dead}"
            );
            drop(pipeline);

            let _ = caches_at(lab.dir()).cache().collect_garbage(GcRequest::default()).unwrap();
            assert_eq!(live(lab.dir()), ["counted", "events"], "{case}: what the dead left is gone");
            let kept = "select count(*) as n, sum(k) as k from dataset_cache.events";
            let kept = lab.sql(kept).await;
            assert!(kept.contains("| 3 | 6 |"), "{case}: {kept}");
            assert_eq!(results(&lab.run().await), ["counted: hit"], "{case}");
        }
    }
}

fn key() -> ArtifactKey {
    ArtifactKey::given("made", "v1")
}

/// Not a test of its own: what the child does.
#[tokio::test(flavor = "multi_thread")]
async fn artifact_child() {
    let Some(root) = childhood() else { return };
    keep(&caches(&root, NONE_IN_MEMORY), &key(), batches(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_an_artifact_is_made_the_next_process_is_right() {
    let session = sessions().build().unwrap();
    let expected = {
        let root = TempDir::new().unwrap();
        let made = keep(&caches(root.path(), NONE_IN_MEMORY), &key(), batches(500)).await;
        rows_of(&session, &made).await
    };
    for (point, is_there) in STEPS {
        let root = TempDir::new().unwrap();
        assert!(crashes_at("crash_scopes::artifact_child", root.path(), point, 1), "{point} was never reached");
        let cache = caches(root.path(), NONE_IN_MEMORY);
        let loaded = load(&cache, &key());
        assert_eq!(loaded.is_some(), is_there, "{point}");
        if let Some(loaded) = &loaded {
            assert_eq!(rows_of(&session, loaded).await, expected, "{point}");
        }
        let made = keep(&cache, &key(), batches(500)).await;
        let expected_result = if is_there { LookupResult::Hit } else { LookupResult::Ok };
        assert_eq!(made.outcome().result, expected_result, "{point}");
        assert_eq!(rows_of(&session, &made).await, expected, "{point}");
        drop((loaded, made));
        let _ = cache.collect_garbage(GcRequest::default()).unwrap();
        assert_eq!((tables(root.path()), cache.artifact_records().unwrap().len()), (1, 1), "{point}");
        let other = caches(root.path(), NONE_IN_MEMORY);
        assert_eq!(rows_of(&session, &load(&other, &key()).unwrap()).await, expected, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_snapshots_are_taken_the_next_run_takes_them() {
    let snapshots = ["df_metadata_cache", "df_statistics_cache", "df_list_files_cache"];
    for point in ["snapshot.taken", "snapshot.committed"] {
        for hit in 1..=3 {
            let case = format!("{point}#{hit}");
            let lab = Lab::new(
                "[profile]\nmetadata_snapshots = \"on_run_end\"\nengine_caches.preset = \"always_latest\"\n\
                 [sources.events]\nformat = \"parquet\"\npath = \"events.parquet\"\n\
                 [views.first]\nsql = \"select k, s from events\"\n",
            );
            lab.parquet("events.parquet", &[(1, "a"), (2, "b")]);
            assert!(crashes(&lab, point, hit), "{case} was never reached");
            let document = lab.run().await;
            assert_eq!(document.result, RunResult::Succeeded, "{case}: {document:#?}");
            assert_eq!(results(&document), ["first: hit"], "{case}: the view was on record");
            let committed = if point == "snapshot.committed" { hit } else { hit - 1 };
            for (place, name) in (1..).zip(snapshots) {
                let table = lab.path(&format!(".alluvium/metadata_cache_snapshots/{name}"));
                let commit = |version| {
                    CacheCommitMetadata::from_commit_info(&commit_info(&table, version).unwrap()).unwrap().unwrap()
                };
                // What was committed stays, and the next snapshot comes behind it.
                let newest = u64::from(place <= committed);
                assert_eq!(commit(newest).run_id, document.run_id, "{case}: {name}");
                assert!(newest == 0 || commit(0).run_id != document.run_id, "{case}: {name}");
                assert!(commit_info(&table, newest + 1).is_err(), "{case}: {name}");
                let rows = format!("select count(distinct run_id) as runs from metadata_cache_snapshots.{name}");
                let rows = lab.sql(&rows).await;
                assert!(rows.contains("| 1    |") || rows.contains("| 0    |"), "{case}: {name}: {rows}");
            }
            let taken = lab.sql("select result, count(*) as n from alluvium.cache_snapshots group by 1").await;
            assert!(taken.contains(&format!("| ok     | {} |", 3 + committed)), "{case}: {taken}");
            let runs = lab.sql("select result, count(*) as n from alluvium.cache_runs group by 1 order by 1").await;
            assert!(runs.contains("killed") && runs.contains("succeeded"), "{case}: {runs}");
            // What the dead had committed is on record, as its commits say.
            let of_the_dead = format!(
                "select snapshot_name, delta_version, row_count > 0 as rows, result from alluvium.cache_snapshots \
                 where run_id <> '{}' order by snapshot_name",
                document.run_id
            );
            let of_the_dead = lab.sql(&of_the_dead).await;
            for (place, name) in (1..).zip(snapshots) {
                assert_eq!(of_the_dead.contains(name), place <= committed, "{case}: {of_the_dead}");
            }
            assert_eq!(of_the_dead.matches("| ok").count(), committed as usize, "{case}: {of_the_dead}");
        }
    }
}
