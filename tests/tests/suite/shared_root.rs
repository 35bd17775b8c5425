//! Projects that share a cache root: each run is told of as what it was, whichever project asks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_contracts::{CacheScope, RunManifest, RunResult};
use alluvium_ledgers::decode_rows;
use alluvium_runs::{OpenOptions, Pipeline};
use alluvium_telemetry::{Clock, Seam};

use crate::crash::crashes;
use crate::lab::{Lab, Later, answer, batches, run};

/// A project of the given output over a cache root that is none of its own.
fn project(root: &Path, output: &str) -> Lab {
    let lab = crate::crash::lab();
    lab.edit("alluvium.toml", "outputs.second", &format!("outputs.{output}"));
    lab.edit("alluvium.toml", "out/second", &format!("out/{output}"));
    let text = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
    lab.write("alluvium.toml", &format!("[profile]\ncache_output_root = \"{}\"\n{text}", root.display()));
    lab
}

async fn manifests(pipeline: &Pipeline) -> Vec<RunManifest> {
    let found = batches(pipeline, "select * from alluvium.run_manifests where result = 'killed'").await;
    found.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect()
}

/// With two views and the one output that it committed before it died, each once.
async fn assert_closed(pipeline: &Pipeline, what: &str) {
    let found = manifests(pipeline).await;
    let [killed] = found.as_slice() else { panic!("{what}: {found:?}") };
    let commits: Vec<_> = killed.commits.iter().map(|commit| (commit.cache_scope, commit.name.as_str())).collect();
    let expected = [(CacheScope::View, "first"), (CacheScope::View, "second"), (CacheScope::Output, "mine")];
    assert_eq!(commits, expected, "{what}");
    assert!(killed.outputs[0].content_hash.is_some(), "{what}: {killed:?}");
    let writes = format!(
        "select cache_scope, count(*) as n from alluvium.cache_inventory where run_id = '{}' and result = 'write' \
         group by 1 order by 1",
        killed.run_id
    );
    let writes = answer(pipeline, &writes).await;
    insta::allow_duplicates! {
        insta::assert_snapshot!(writes, @r"
        +-------------+---+
        | cache_scope | n |
        +-------------+---+
        | output      | 1 |
        | view        | 2 |
        +-------------+---+
        ");
    }
}

#[tokio::test]
async fn a_killed_run_is_closed_by_another_project_with_what_it_published() {
    let root = tempfile::tempdir().unwrap();
    // Whether the other one has an output of that name and path, too, or not.
    for other in ["mine", "other"] {
        let root = root.path().join(other);
        let (mine, other) = (project(&root, "mine"), project(&root, other));
        assert!(crashes(&mine, "output.commit.after", 1));
        assert_closed(&other.open(), "asked by another").await;
        assert_eq!(run(&other.open()).await.result, RunResult::Succeeded);
        assert_closed(&other.open(), "after a run of another").await;
        assert_eq!(run(&mine.open()).await.result, RunResult::Succeeded);
        assert_closed(&mine.open(), "after a run of its own").await;
    }
}

/// A volume that is not mounted, or another container in which another project lies at that place.
#[tokio::test]
async fn a_killed_run_whose_project_is_out_of_sight_is_left_to_it() {
    let root = tempfile::tempdir().unwrap();
    for at_its_place in ["nothing", "another project"] {
        let root = root.path().join(at_its_place);
        let (mine, other) = (project(&root, "mine"), project(&root, "other"));
        assert!(crashes(&mine, "output.commit.after", 1));
        let aside = tempfile::tempdir().unwrap();
        std::fs::rename(mine.dir(), aside.path().join("mine")).unwrap();
        let asked_at = if at_its_place == "nothing" {
            other.dir().to_owned()
        } else {
            crate::lab::copy_dir(other.dir(), mine.dir());
            mine.dir().to_owned()
        };
        assert_eq!(run(&Lab::open_at(&asked_at)).await.result, RunResult::Succeeded);
        assert!(manifests(&Lab::open_at(&asked_at)).await.is_empty(), "{at_its_place}: nobody sees what it published");

        let _ = std::fs::remove_dir_all(mine.dir());
        std::fs::rename(aside.path().join("mine"), mine.dir()).unwrap();
        assert_closed(&other.open(), at_its_place).await;
    }
}

#[derive(Debug)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn since_epoch(&self) -> Duration {
        Later.since_epoch() + self.0
    }

    fn monotonic(&self) -> Duration {
        Later.monotonic()
    }
}

fn days_ahead(days: u64) -> OpenOptions {
    let clock = Ahead(Duration::from_secs(days * 24 * 60 * 60));
    OpenOptions { seam: Some(Seam::system().with_clock(Arc::new(clock))), ..OpenOptions::default() }
}

/// A project that was deleted does not keep its runs open for ever; how long it lasted is not how long nobody looked.
#[tokio::test]
async fn a_killed_run_is_not_left_open_for_ever_and_ends_with_its_last_sign_of_life() {
    let root = tempfile::tempdir().unwrap();
    let (mine, other) = (project(root.path(), "mine"), project(root.path(), "other"));
    assert!(crashes(&mine, "output.commit.after", 1));
    std::fs::remove_dir_all(mine.dir()).unwrap();
    assert!(manifests(&Lab::open_with(other.dir(), days_ahead(29))).await.is_empty());
    let pipeline = Lab::open_with(other.dir(), days_ahead(31));
    let [killed] = manifests(&pipeline).await.try_into().unwrap();
    assert_eq!((killed.views.len(), killed.outputs.len()), (2, 0), "{killed:?}");
    let lasted = killed.finished_unix_ms - killed.started_unix_ms;
    assert!((1..600_000).contains(&lasted), "{lasted} ms");
    let ended = "select finished_at is null and duration_seconds is null and last_sign_at > started_at as unknown \
                 from alluvium.runs where result = 'killed'";
    let ended = answer(&pipeline, ended).await;
    assert!(ended.contains("true") && !ended.contains("false"), "{ended}");
}
