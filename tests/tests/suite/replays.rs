//! Whole pipelines run again: what is exact gives the same rows, what is not is marked, and nothing is ever different.

use std::path::Path;

use alluvium_contracts::{ReplayDocument, ReplayInputState, ReplayResult, RunId, Stability};
use alluvium_runs::{Pipeline, RunName};

use crate::lab::{Lab, copy_dir, results, run};
use crate::tpch;

async fn replay(pipeline: &Pipeline, run_id: RunId) -> ReplayDocument {
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    pipeline.replay(&name(run_id), None, cancel).await.unwrap()
}

fn name(run_id: RunId) -> RunName {
    RunName::parse(&run_id.to_string()).unwrap()
}

/// Every view of the run gives the same rows, or others only where its manifest says that it may.
async fn gives_its_rows_again(lab: &Lab, run_id: RunId, views: usize) {
    let pipeline = lab.open();
    let replayed = replay(&pipeline, run_id).await;
    assert_eq!(replayed.views.len(), views, "{replayed:#?}");
    let manifest = pipeline.manifest_of(&name(run_id)).await.unwrap();
    for view in &replayed.views {
        let was = manifest.views.iter().find(|was| was.name == view.name).unwrap();
        let may_differ = was.stability == Some(Stability::Unstable);
        assert!(
            view.result == ReplayResult::Same || (may_differ && view.result == ReplayResult::Unstable),
            "{view:#?} {was:#?}"
        );
    }
    assert!(matches!(replayed.result, ReplayResult::Same | ReplayResult::Unstable), "{replayed:#?}");
}

/// Changes one byte of a file, and expects a replay to name that input and no other, and to execute nothing.
async fn one_byte_names_its_input(lab: &Lab, run_id: RunId, file: &str, input: &str) {
    let mut bytes = std::fs::read(lab.path(file)).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(lab.path(file), bytes).unwrap();
    let replayed = replay(&lab.open(), run_id).await;
    assert_eq!((replayed.result, replayed.views.len()), (ReplayResult::Unreplayable, 0), "{replayed:#?}");
    let changed = replayed.inputs.iter().filter(|input| input.state != ReplayInputState::Unchanged);
    let changed: Vec<_> = changed.map(|input| (input.name.as_str(), input.state)).collect();
    assert_eq!(changed, [(input, ReplayInputState::Changed)], "{replayed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_of_flights_is_the_same_again() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights");
    let lab = Lab::new(&std::fs::read_to_string(example.join("alluvium.toml")).unwrap());
    copy_dir(&example.join("views"), &lab.path("views"));
    std::fs::create_dir(lab.path("data")).unwrap();
    let arrives = |file: &str| {
        let file = Path::new("data").join(file);
        std::fs::copy(example.join(&file), lab.dir().join(file)).unwrap();
    };
    arrives("airports.csv");
    arrives("2001-01.parquet");

    let written = run(&lab.open()).await;
    let hit = run(&lab.open()).await;
    assert!(hit.saved_ms > 0.0, "{:?}", results(&hit));
    lab.edit("views/hour_delays.sql", "group by departure_hour", "where distance_miles > 100 group by departure_hour");
    let edited = run(&lab.open()).await;
    // The glob matches one more file from now on, which those runs did not read.
    arrives("2001-02.parquet");
    let grown = run(&lab.open()).await;
    for run_id in [written.run_id, hit.run_id, edited.run_id, grown.run_id] {
        gives_its_rows_again(&lab, run_id, 10).await;
    }
    one_byte_names_its_input(&lab, grown.run_id, "data/airports.csv", "airports").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_of_tpch_is_the_same_again() {
    let lab = tpch::generated();
    let written = run(&lab.open()).await;
    let hit = run(&lab.open()).await;
    assert!(hit.saved_ms > 0.0, "{:?}", results(&hit));
    for run_id in [written.run_id, hit.run_id] {
        gives_its_rows_again(&lab, run_id, 23).await;
    }
    one_byte_names_its_input(&lab, hit.run_id, "nation.parquet", "nation").await;
}

/// `same` is said of what was compared, and of nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn views_that_nobody_kept_are_named_beside_those_that_are_the_same() {
    let lab = Lab::new(
        r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.passing]
sql = "select k, s from events where k > 1"
cache = "none"

[views.totals]
sql = "select s, sum(k) as k from passing group by s"

[views.published]
sql = "select k from passing"
cache = "none"

[outputs.published]
view = "published"
path = "out/published"
"#,
    );
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b")]);
    let run_id = run(&lab.open()).await.run_id;
    let replayed = replay(&lab.open(), run_id).await;
    assert_eq!(replayed.result, ReplayResult::Same, "{replayed:#?}");
    let mut names: Vec<_> = replayed.views.iter().map(|view| view.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["published", "totals"]);
    assert_eq!(replayed.notices, ["`passing` is not compared: the run kept no rows of it"]);
}
