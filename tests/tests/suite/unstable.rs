//! Unstable views: one key may have other rows each time they are computed. What was computed from rows that were replaced is computed
//! again with them, so that what a run leaves agrees with itself.

use alluvium_contracts::{OutputResult, PlanDocument, RunDocument};
use alluvium_runs::{Pipeline, RunOptions, Selection, Silent};

use crate::caches::caches_at;
use crate::lab::{Lab, answer, results, run, try_run};

const TOML: &str = r#"
[sources.events]
format = "csv"
path = "data/*.csv"

[views.exact]
sql = "select k from events"

[views.one]
sql = "select k from events limit 1"

[views.middle]
sql = "select k from one"
cache = "none"

[views.direct]
sql = "select k from middle"
cache = "delta_output"

[views.twice]
sql = "select k * 2 as k from middle"

[outputs.one]
view = "one"
path = "out/one"

[outputs.middle]
view = "middle"
path = "out/middle"

[outputs.direct]
view = "direct"
path = "out/direct"

[outputs.twice]
view = "twice"
path = "out/twice"
"#;

/// A project that has run, and whose source then has its files by each other's names: the same content, found in another order.
async fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.write("data/a.csv", "k\n1\n");
    lab.write("data/b.csv", "k\n2\n");
    lab.run().await;
    let before = lab.keys().await;
    lab.write("data/a.csv", "k\n2\n");
    lab.write("data/b.csv", "k\n1\n");
    assert_eq!(lab.keys().await, before);
    lab
}

fn evict(lab: &Lab, view: &str) {
    let selection = Selection { views: vec![view.to_owned()], ..Selection::default() };
    let removed = caches_at(lab.dir()).cache().evict(&selection, false).unwrap();
    assert_eq!(removed.entries.len(), 1, "{removed:?}");
}

/// `name: result` of views and outputs, by name.
fn planned(plan: &PlanDocument) -> (Vec<String>, Vec<String>) {
    let views = plan.views.iter().map(|view| format!("{}: {}", view.name, view.result));
    let outputs = plan.outputs.iter().map(|output| format!("{}: {}", output.name, output.result));
    (sorted(views.collect()), sorted(outputs.collect()))
}

fn done(document: &RunDocument) -> (Vec<String>, Vec<String>) {
    let outputs = document.outputs.iter().map(|output| format!("{}: {}", output.name, output.result));
    (sorted(results(document)), sorted(outputs.collect()))
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// The reason that a view of a run has.
fn reason<'a>(document: &'a RunDocument, view: &str) -> &'a str {
    document.views.iter().find(|report| report.name == view).unwrap().reason.as_deref().unwrap_or_default()
}

/// Views and outputs have the rows that follow from those of `one`.
async fn agree(pipeline: &Pipeline) {
    let joined = "select count(*) as agree from outputs.one as o \
                  join outputs.middle as m on m.k = o.k join outputs.direct as d on d.k = o.k \
                  join outputs.twice as t on t.k = 2 * o.k join one on one.k = o.k \
                  join direct on direct.k = o.k join twice on twice.k = 2 * o.k";
    let rows = answer(pipeline, joined).await;
    assert!(rows.contains("| 1     |"), "{rows}");
}

fn all_hits(document: &RunDocument) {
    let (views, outputs) = done(document);
    assert_eq!(views, ["direct: hit", "exact: hit", "middle: computed", "one: hit", "twice: hit"], "{document:#?}");
    assert!(document.outputs.iter().all(|output| output.result == OutputResult::Hit), "{outputs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reads_an_unstable_view_is_computed_again_with_it() {
    let lab = lab().await;
    all_hits(&lab.run().await);
    evict(&lab, "one");
    let plan = lab.plan().await;
    let document = lab.run().await;
    let (views, outputs) = done(&document);
    assert_eq!(views, ["direct: write", "exact: hit", "middle: computed", "one: write", "twice: write"]);
    assert_eq!(outputs, ["direct: write", "middle: write", "one: write", "twice: write"]);
    assert_eq!(planned(&plan), (views, outputs));
    for view in ["direct", "twice"] {
        assert_eq!(reason(&document, view), "reads the unstable view middle, which is computed anew");
    }
    agree(&lab.open()).await;
    all_hits(&lab.run().await);
}

/// As after a kill, or the run of somebody else who asked for one view: nothing of it is seen by this run but a newer entry.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_computed_before_an_unstable_view_was_computed_again_is_no_hit() {
    let lab = lab().await;
    let options = RunOptions { fresh: true, select: vec!["one".to_owned()], ..RunOptions::default() };
    try_run(&lab.open(), options, &Silent).await.unwrap();
    let document = run(&lab.open()).await;
    let (views, outputs) = done(&document);
    assert_eq!(views, ["direct: write", "exact: hit", "middle: computed", "one: hit", "twice: write"]);
    assert_eq!(outputs, ["direct: write", "middle: write", "one: hit", "twice: write"]);
    for view in ["direct", "twice"] {
        assert_eq!(reason(&document, view), "reads the unstable view middle, which was computed anew since");
    }
    agree(&lab.open()).await;
    all_hits(&lab.run().await);
}

/// The entry of an unstable view is there, and its output is not yet published: the output has the rows of the entry before.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_behind_an_unstable_view_is_made_good() {
    let lab = lab().await;
    evict(&lab, "one");
    assert!(crate::crash::crashes(&lab, "view.published", 1));
    let document = lab.run().await;
    let (views, outputs) = done(&document);
    assert_eq!(views, ["direct: write", "exact: hit", "middle: computed", "one: hit", "twice: write"]);
    assert_eq!(outputs, ["direct: write", "middle: write", "one: write", "twice: write"]);
    agree(&lab.open()).await;
    all_hits(&lab.run().await);
}
