//! What is done anew although it is there: on request, after damage, and where another root published it.

use std::path::{Path, PathBuf};

use alluvium_contracts::{OutputResult, RunDocument, ViewResult};
use alluvium_runs::{Observer, OpenOptions, Pipeline, Progress, RunOptions, Silent};

use crate::lab::{Lab, results, run, try_run};

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.clean]
sql = "select k, s from events where k > 1"

[views.counted]
sql = "select s, count(*) as n from clean group by s"

[views.gathered]
sql = "select s, array_agg(k) as ks from clean group by s"

[views.direct]
sql = "select s, max(k) as k from clean group by s"
cache = "delta_output"

[outputs.counted]
view = "counted"
path = "out/counted"

[outputs.direct]
view = "direct"
path = "out/direct"

[outputs.gathered]
view = "gathered"
path = "out/gathered"
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

fn fresh(select: &[&str]) -> RunOptions {
    RunOptions { fresh: true, select: select.iter().map(|view| (*view).to_owned()).collect(), ..RunOptions::default() }
}

fn outputs(document: &RunDocument) -> Vec<String> {
    let line = |output: &alluvium_contracts::OutputReport| {
        let result = format!("{:?}", output.result).to_lowercase();
        format!("{}: {result} {}", output.name, output.delta_version.unwrap())
    };
    document.outputs.iter().map(line).collect()
}

fn data_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(data_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files
}

/// Changes one byte; the size and the time of modification stay.
fn damage(path: &Path) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[10] ^= 1;
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

fn other_root(lab: &Lab, name: &str) -> Pipeline {
    Lab::open_with(lab.dir(), OpenOptions { cache_root: Some(lab.path(name)), ..OpenOptions::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_run_computes_and_publishes_what_is_selected_and_nothing_else() {
    let lab = lab();
    lab.run().await;
    let some = try_run(&lab.open(), fresh(&["counted", "direct"]), &Silent).await.unwrap();
    assert_eq!(results(&some), ["clean: hit", "counted: write", "direct: write"]);
    assert_eq!(outputs(&some), ["counted: write 1", "direct: write 1"]);
    assert!(some.views[1..].iter().all(|view| view.reason.as_deref() == Some("asked for with --fresh")), "{some:#?}");

    let all = try_run(&lab.open(), fresh(&[]), &Silent).await.unwrap();
    assert!(all.views.iter().all(|view| view.result == ViewResult::Write), "{all:#?}");
    assert_eq!(outputs(&all), ["counted: write 2", "direct: write 2", "gathered: write 1"]);

    let after = lab.run().await;
    assert!(after.views.iter().all(|view| view.result == ViewResult::Hit), "{after:#?}");
    assert_eq!(outputs(&after), ["counted: hit 2", "direct: hit 2", "gathered: hit 1"]);
}

/// Rewrites the source when `clean` starts, with the bytes that it has.
struct Touch(PathBuf);

impl Observer for Touch {
    fn notify(&self, progress: &Progress) {
        if matches!(progress, Progress::ViewStarted { name } if name == "clean") {
            std::fs::write(&self.0, std::fs::read(&self.0).unwrap()).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_under_a_fresh_run_does_not_end_its_freshness() {
    let lab = lab();
    lab.run().await;
    let touch = Touch(lab.path("data/events.parquet"));
    // The second attempt finds the same keys, and entries under them.
    let document = try_run(&lab.open(), fresh(&["clean", "direct"]), &touch).await.unwrap();
    assert!(document.views.iter().all(|view| view.result != ViewResult::Hit), "{document:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_follows_its_unstable_view_when_that_is_computed_again() {
    let lab = lab();
    lab.run().await;
    for view in ["counted", "gathered"] {
        let dir = std::fs::read_dir(lab.path(".alluvium/view_cache")).unwrap().map(|entry| entry.unwrap().path());
        let dir = dir.into_iter().find(|dir| dir.to_string_lossy().contains(&format!("/{view}__"))).unwrap();
        damage(&data_files(&dir)[0]);
    }
    let document = lab.run().await;
    assert_eq!(results(&document), ["clean: hit", "counted: write", "direct: hit", "gathered: write"]);
    assert_eq!(outputs(&document), ["counted: hit 0", "direct: hit 0", "gathered: write 1"]);
    assert_eq!(document.outputs[2].reason.as_deref(), Some("its view is unstable and is computed anew"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_of_another_root_is_trusted_by_its_digests() {
    let lab = lab();
    lab.run().await;
    let second = run(&other_root(&lab, "second")).await;
    assert_eq!(outputs(&second), ["counted: hit 0", "direct: hit 0", "gathered: write 1"]);
    assert!(second.notices.is_empty(), "{:?}", second.notices);

    // A third root meets bytes that nobody wrote, in a file of the size that the log says.
    damage(&data_files(&lab.path("out/direct"))[0]);
    let third = run(&other_root(&lab, "third")).await;
    let direct = third.outputs.iter().find(|output| output.name == "direct").unwrap();
    assert_eq!((direct.result, direct.delta_version), (OutputResult::Write, Some(1)), "{third:#?}");
    let notices: Vec<_> = third.notices.iter().filter(|notice| notice.contains("output `direct`")).collect();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("other bytes"), "{notices:?}");
}
