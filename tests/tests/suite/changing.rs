//! Files that change while a run reads them: recomputed once, then failed; never new rows under an old key.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use alluvium_contracts::RunResult;
use alluvium_runs::{Observer, Progress, RunName, RunOptions};
use tokio::sync::Notify;

use crate::lab::{Lab, answer, results, try_run, write_parquet};

/// Rewrites a file when the view `on` starts: `times` times at most, with other rows each time.
struct Rewriter {
    on: &'static str,
    path: PathBuf,
    times: u32,
    done: AtomicU32,
}

impl Observer for Rewriter {
    fn notify(&self, progress: &Progress) {
        if let Progress::ViewStarted { name } = progress
            && name == self.on
            && self.done.fetch_add(1, Ordering::SeqCst) < self.times
        {
            let n = i64::from(self.done.load(Ordering::SeqCst));
            write_parquet(&self.path, &[(100 + n, "x")]);
        }
    }
}

fn lab(cache: &str) -> Lab {
    let lab = Lab::new(&format!(
        r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.all]
sql = "select k from events"
cache = "{cache}"

[views.total]
sql = "select sum(k) as total from all"
"#
    ));
    lab.edit("alluvium.toml", "[views.all]", "[views.everything]");
    lab.edit("alluvium.toml", "from all", "from everything");
    lab.parquet("data/events.parquet", &[(1, "a")]);
    lab
}

fn rewriter(lab: &Lab, on: &'static str, times: u32) -> Rewriter {
    Rewriter { on, path: lab.path("data/events.parquet"), times, done: AtomicU32::new(0) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_rewritten_once_is_read_again() {
    for (cache, on) in [("delta_staging", "everything"), ("memory", "everything"), ("none", "total")] {
        let lab = lab(cache);
        let pipeline = lab.open();
        let document = try_run(&pipeline, RunOptions::default(), &rewriter(&lab, on, 1)).await.unwrap();
        assert_eq!(document.result, RunResult::Succeeded, "{cache}: {document:#?}");
        assert!(answer(&pipeline, "select total from total").await.contains("| 101   |"), "{cache}");
        // The first content comes back, and with it its key: nothing that was computed from the second serves it.
        lab.parquet("data/events.parquet", &[(1, "a")]);
        let back = lab.run().await;
        assert!(results(&back).contains(&"total: write".to_owned()), "{cache}: {:?}", results(&back));
        assert!(answer(&lab.open(), "select total from total").await.contains("| 1     |"), "{cache}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_keeps_changing_fails_unpublished() {
    let lab = lab("delta_staging");
    let pipeline = lab.open();
    let document = try_run(&pipeline, RunOptions::default(), &rewriter(&lab, "everything", 2)).await.unwrap();
    assert_eq!(document.result, RunResult::Failed);
    assert_eq!(results(&document), ["everything: error", "total: skipped"]);
    assert!(
        !lab.path(".alluvium/view_cache").exists()
            || std::fs::read_dir(lab.path(".alluvium/view_cache")).unwrap().count() == 0
    );
    // The third content is stable: it is computed, not served from what failed.
    let document = lab.run().await;
    assert_eq!(results(&document), ["everything: write", "total: write"]);
    assert!(lab.sql("select total from total").await.contains("| 102   |"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_attempt_did_is_told_once() {
    let lab = lab("delta_staging");
    lab.edit(
        "alluvium.toml",
        "[views.everything]",
        "[sources.more]\nformat = \"parquet\"\npath = \"data/more.parquet\"\n\
         [views.a_steady]\nsql = \"select k from more\"\n[outputs.steady]\nview = \"a_steady\"\npath = \"out\"\n\
         [views.everything]",
    );
    lab.parquet("data/more.parquet", &[(7, "a")]);
    let pipeline = lab.open();
    let document = try_run(&pipeline, RunOptions::default(), &rewriter(&lab, "everything", 1)).await.unwrap();
    assert_eq!(results(&document), ["a_steady: write", "everything: write", "total: write"]);
    let told = "select view_name, output_name, count(*) as n from alluvium.cache_inventory group by 1, 2 order by 1, 2";
    insta::assert_snapshot!(answer(&pipeline, told).await, @r"
    +------------+-------------+---+
    | view_name  | output_name | n |
    +------------+-------------+---+
    | a_steady   | steady      | 1 |
    | a_steady   |             | 1 |
    | everything |             | 1 |
    | total      |             | 1 |
    +------------+-------------+---+
    ");
    let counted = answer(&pipeline, "select write_count from alluvium.cache_runs").await;
    assert!(counted.contains("| 3           |"), "{counted}");
}

/// Removes a file when a view starts.
struct Remover(PathBuf);

impl Observer for Remover {
    fn notify(&self, progress: &Progress) {
        if let Progress::ViewStarted { .. } = progress {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_goes_away_ends_the_run_as_failed_with_its_name() {
    let lab = lab("delta_staging");
    let pipeline = lab.open();
    let remover = Remover(lab.path("data/events.parquet"));
    let document = try_run(&pipeline, RunOptions::default(), &remover).await.unwrap();
    assert_eq!(document.result, RunResult::Failed);
    let reason = document.views[0].reason.clone().unwrap();
    assert!(reason.contains("events.parquet"), "{reason}");
    let runs = answer(&pipeline, "select result from alluvium.cache_runs").await;
    assert!(runs.contains("failed"), "{runs}");
}

/// Tells when a view whose file was rewritten starts again.
struct Again {
    rewriter: Rewriter,
    started: Notify,
}

impl Observer for Again {
    fn notify(&self, progress: &Progress) {
        let is_rewritten = self.rewriter.done.load(Ordering::SeqCst) > 0;
        self.rewriter.notify(progress);
        if let Progress::ViewStarted { name } = progress
            && is_rewritten
            && name == self.rewriter.on
        {
            self.started.notify_one();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_in_its_second_attempt_names_what_that_read() {
    let lab = lab("delta_staging");
    let again = Again { rewriter: rewriter(&lab, "everything", 1), started: Notify::new() };
    let pipeline = lab.open();
    tokio::select! {
        biased;
        () = again.started.notified() => {}
        ended = try_run(&pipeline, RunOptions::default(), &again) => panic!("{ended:?}"),
    }
    drop(pipeline);
    // It finds the other one killed, and reads the same file.
    let next = lab.run().await.run_id;
    let pipeline = lab.open();
    let runs = pipeline.runs(9).await.unwrap().runs;
    let killed = runs.iter().find(|run| run.run_id != next).unwrap();
    assert_eq!(killed.result, RunResult::Killed);
    let mut pins = Vec::new();
    for run_id in [killed.run_id, next] {
        let manifest = pipeline.manifest_of(&RunName::parse(&run_id.to_string()).unwrap()).await.unwrap();
        pins.push(manifest.delta_inputs[0].pin.to_string());
    }
    assert_eq!(pins[0], pins[1]);
}
