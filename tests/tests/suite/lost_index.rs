//! A cache root whose index is lost: entries and outputs are found again by their own commits, and by nothing less.

use std::path::{Path, PathBuf};

use alluvium_contracts::{OutputResult, RunResult, ViewResult};
use alluvium_runs::{RunOptions, Silent};

use crate::lab::{Lab, copy_dir, results, try_run};

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.clean]
sql = "select k, s from events where k > 1"

[views.counted]
sql = "select s, count(*) as n from clean group by s"

[outputs.counted]
view = "counted"
path = "out/counted"
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

fn lose_index(lab: &Lab) {
    std::fs::remove_dir_all(lab.path(".alluvium/kv/index")).unwrap();
}

/// The directory of a view's only key.
fn key_dir(lab: &Lab, view: &str) -> PathBuf {
    let dirs = std::fs::read_dir(lab.path(".alluvium/view_cache")).unwrap().map(|entry| entry.unwrap().path());
    dirs.into_iter().find(|dir| dir.to_string_lossy().contains(&format!("/{view}__"))).unwrap()
}

fn entries(key_dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(key_dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

async fn path_of(lab: &Lab, view: &str) -> String {
    let newest = format!(
        "select cache_path from alluvium.cache_inventory where view_name = '{view}' and output_name is null \
         order by event_time_unix_ms desc limit 1"
    );
    lab.sql(&newest).await.lines().nth(3).unwrap().trim_matches(['|', ' ']).to_owned()
}

fn damage(entry: &Path) {
    let file = std::fs::read_dir(entry).unwrap().map(|file| file.unwrap().path());
    let file = file.into_iter().find(|file| file.extension().is_some_and(|kind| kind == "parquet")).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[10] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_computed_is_found_by_its_commits() {
    let lab = lab();
    lab.run().await;
    // A second entry under the same key; the first stays behind.
    let fresh = RunOptions { fresh: true, ..RunOptions::default() };
    try_run(&lab.open(), fresh, &Silent).await.unwrap();
    assert_eq!(entries(&key_dir(&lab, "clean")).len(), 2);
    let newest = path_of(&lab, "clean").await;

    lose_index(&lab);
    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Succeeded, "{document:#?}");
    assert_eq!(results(&document), ["clean: hit", "counted: hit"]);
    assert!(document.views.iter().all(|view| view.saved_ms.is_some_and(|ms| ms > 0.0)));
    assert_eq!((document.outputs[0].result, document.outputs[0].delta_version), (OutputResult::Hit, Some(1)));
    assert_eq!(path_of(&lab, "clean").await, newest, "the highest fencing token wins");
    assert!(lab.sql("select sum(n) as n from counted").await.contains("| 2 |"));

    // The index that was made anew goes on: what is edited is written, and beats what was adopted.
    try_run(&lab.open(), RunOptions { fresh: true, ..RunOptions::default() }, &Silent).await.unwrap();
    let newest = path_of(&lab, "clean").await;
    lose_index(&lab);
    assert_eq!(results(&lab.run().await), ["clean: hit", "counted: hit"]);
    assert_eq!(path_of(&lab, "clean").await, newest, "tokens go on where the lost index stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_sound_entries_of_this_very_key_are_taken() {
    let lab = lab();
    lab.run().await;
    let (clean, counted) = (key_dir(&lab, "clean"), key_dir(&lab, "counted"));
    damage(&entries(&clean)[0]);
    // Another view's entry, under the name of this one's key.
    for entry in entries(&counted) {
        std::fs::remove_dir_all(entry).unwrap();
    }
    copy_dir(&entries(&clean)[0], &counted.join(entries(&clean)[0].file_name().unwrap()));
    std::fs::create_dir(counted.join("no-entry")).unwrap();

    lose_index(&lab);
    let document = lab.run().await;
    assert!(document.views.iter().all(|view| view.result == ViewResult::Write), "{document:#?}");
    assert!(lab.sql("select sum(n) as n from counted").await.contains("| 2 |"));
}
