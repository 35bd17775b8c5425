//! Changes of Delta sources: each consumer reads on from where the last run that succeeded on its behalf left it.

use std::path::PathBuf;
use std::sync::Arc;

use alluvium_contracts::{CdfCursor, ReplayInputState, ReplayResult, RunDocument, RunResult};
use alluvium_runs::{Hook, HookError, Pipeline, Project, RunName, RunOptions, RunStep, Silent};
use async_trait::async_trait;

use crate::crash::crashes;
use crate::lab::{Lab, answer, results, run, try_run, write_parquet};

/// Publishes its events, with their changes.
fn producer() -> Lab {
    let lab = Lab::new(
        r#"
[sources.raw]
format = "parquet"
path = "data/events.parquet"

[views.events]
sql = "select k, s from raw"

[outputs.events]
view = "events"
path = "out/events"

[outputs.events.write]
enable_features = ["change_data_feed"]
"#,
    );
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b")]);
    lab
}

/// Reads what was inserted, and publishes it.
fn consumer(producer: &Lab) -> Lab {
    Lab::new(&format!(
        r#"
[sources.events]
format = "delta"
path = "{}"
cdf_consumer = "nightly"

[sources.events.cdf]
starting_version = 0
required = true

[views.fresh]
sql = "select k, _commit_version as v from events__cdf where _change_type = 'insert'"

[views.checked]
sql = "select 1 / (k - 7) as x from fresh"

[outputs.fresh]
view = "fresh"
path = "out/fresh"
"#,
        producer.path("out/events").display()
    ))
}

async fn publish(producer: &Lab, rows: &[(i64, &str)]) {
    producer.parquet("data/events.parquet", rows);
    assert_eq!(producer.run().await.result, RunResult::Succeeded);
}

fn cursor(pipeline: &Pipeline) -> Option<(u64, CdfCursor)> {
    let mut cursors = pipeline.cursors().unwrap();
    assert!(cursors.len() <= 1, "{cursors:?}");
    cursors.pop().map(|cursor| (cursor.version, cursor))
}

async fn keys(pipeline: &Pipeline, table: &str) -> String {
    let rows = answer(pipeline, &format!("select k from {table} order by k")).await;
    rows.lines().filter_map(|line| line.trim_matches(['|', ' ']).parse::<i64>().ok()).map(|k| format!("{k} ")).collect()
}

async fn range(pipeline: &Pipeline) -> Option<(u64, u64, Option<String>)> {
    let manifest = pipeline.manifest_of(&RunName::Latest).await.unwrap();
    let pin = manifest.delta_inputs.into_iter().find(|pin| pin.name == "events__cdf").unwrap();
    assert!(pin.path.is_some(), "{pin:?}");
    pin.cdf_range.map(|range| (range.starting_version, range.ending_version, range.consumer))
}

fn succeeded(document: &RunDocument) {
    assert_eq!(document.result, RunResult::Succeeded, "{document:#?}");
}

#[tokio::test]
async fn a_run_that_succeeds_moves_its_consumer_and_the_manifest_says_over_what() {
    let producer = producer();
    publish(&producer, &[(1, "a"), (2, "b")]).await;
    let lab = consumer(&producer);
    let pipeline = lab.open();
    assert_eq!(cursor(&pipeline), None);
    let first = run(&pipeline).await;
    succeeded(&first);
    let (version, kept) = cursor(&pipeline).unwrap();
    assert_eq!((version, kept.consumer.as_str(), kept.dataset_name.as_str()), (0, "nightly", "events"));
    assert_eq!(kept.run_id, Some(first.run_id));
    assert_eq!(range(&pipeline).await, Some((0, 0, Some("nightly".to_owned()))));
    assert_eq!(keys(&pipeline, "outputs.fresh").await, "1 2 ");

    // What was inserted since; the run before read it already.
    publish(&producer, &[(3, "c")]).await;
    publish(&producer, &[(3, "c"), (4, "d")]).await;
    let pipeline = lab.open();
    assert_eq!(keys(&pipeline, "fresh").await, "3 3 4 ", "what a run would read now; asking moves nothing");
    succeeded(&run(&pipeline).await);
    assert_eq!(range(&pipeline).await, Some((1, 2, Some("nightly".to_owned()))));
    assert_eq!(cursor(&pipeline).unwrap().0, 2);
    assert_eq!(keys(&pipeline, "outputs.fresh").await, "3 3 4 ");

    // Nothing new: no rows, and from the second time on a hit.
    succeeded(&lab.run().await);
    assert_eq!(range(&lab.open()).await, None);
    assert_eq!(keys(&lab.open(), "outputs.fresh").await, "");
    assert_eq!(results(&lab.run().await), ["fresh: hit", "checked: hit"]);
    assert_eq!(cursor(&lab.open()).unwrap().0, 2);
}

#[tokio::test]
async fn a_run_that_fails_is_killed_or_interrupted_leaves_its_consumer() {
    let producer = producer();
    publish(&producer, &[(1, "a")]).await;
    let lab = consumer(&producer);
    succeeded(&lab.run().await);
    publish(&producer, &[(7, "g")]).await;
    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Failed, "{document:#?}");
    let pipeline = lab.open();
    assert_eq!(cursor(&pipeline).unwrap().0, 0);
    assert_eq!(range(&pipeline).await, Some((1, 1, Some("nightly".to_owned()))), "it is on record what it read");

    let (stop, cancel) = tokio::sync::watch::channel(true);
    let document = pipeline.run(Default::default(), &Silent, cancel).await.unwrap();
    drop(stop);
    assert_eq!((document.result, cursor(&pipeline).unwrap().0), (RunResult::Interrupted, 0));

    // With everything done but its end.
    lab.edit("alluvium.toml", "1 / (k - 7)", "1 + (k - 7)");
    assert!(crashes(&lab, "view.published", 1));
    assert_eq!(cursor(&lab.open()).unwrap().0, 0);
    let document = lab.run().await;
    succeeded(&document);
    assert_eq!(results(&document), ["fresh: hit", "checked: hit"], "the killed run had computed it");
    assert_eq!(cursor(&lab.open()).unwrap().0, 1);
}

/// Two views read the same changes, one of them by way of another.
fn two_readers(producer: &Lab) -> Lab {
    Lab::new(&format!(
        r#"
[sources.events]
format = "delta"
path = "{}"
cdf_consumer = "nightly"

[sources.events.cdf]
starting_version = 0

[views.a]
sql = "select k from events__cdf where _change_type = 'insert'"

[views.b]
sql = "select k, 1 / (k - 7) as x from events__cdf where _change_type = 'insert'"

[views.c]
sql = "select k, x from b"

[outputs.c]
view = "c"
path = "out/c"
"#,
        producer.path("out/events").display()
    ))
}

#[tokio::test]
async fn a_consumer_waits_for_every_view_that_reads_its_changes() {
    let producer = producer();
    publish(&producer, &[(1, "a")]).await;
    let lab = two_readers(&producer);
    succeeded(&lab.run().await);
    publish(&producer, &[(2, "b")]).await;

    // A run of less than all that read them, though all of it succeeded.
    for (select, unread) in [("a", "`b`, `c`"), ("b", "`a`, `c`"), ("c", "`a`")] {
        let options = RunOptions { select: vec![select.to_owned()], ..RunOptions::default() };
        let document = try_run(&lab.open(), options, &Silent).await.unwrap();
        succeeded(&document);
        assert_eq!(range(&lab.open()).await, Some((1, 1, Some("nightly".to_owned()))));
        assert_eq!(cursor(&lab.open()).unwrap().0, 0, "{select}");
        let told = |notice: &String| {
            notice.contains("consumer `nightly` of the changes of `events` stays")
                && notice.contains(&format!("not read by {unread},"))
        };
        assert!(document.notices.iter().any(told), "{select}: {:?}", document.notices);
    }
    // A view that cannot be understood may read them.
    lab.edit("alluvium.toml", "select k, x from b", "selec k, x from b");
    let options = RunOptions { select: vec!["a".to_owned(), "b".to_owned()], ..RunOptions::default() };
    let document = try_run(&lab.open(), options, &Silent).await.unwrap();
    succeeded(&document);
    assert_eq!(cursor(&lab.open()).unwrap().0, 0);
    assert!(document.notices.iter().any(|notice| notice.contains("consumer `nightly`")), "{:?}", document.notices);
    lab.edit("alluvium.toml", "selec k, x from b", "select k, x from b");

    let document = lab.run().await;
    succeeded(&document);
    assert!(!document.notices.iter().any(|notice| notice.contains("consumer")), "{:?}", document.notices);
    assert_eq!(results(&document), ["a: hit", "b: hit", "c: hit"], "the same changes again");
    assert_eq!(keys(&lab.open(), "outputs.c").await, "2 ");
    assert_eq!(cursor(&lab.open()).unwrap().0, 1);

    // One of them fails, and the other goes on.
    publish(&producer, &[(7, "g")]).await;
    let options = RunOptions { keep_going: true, ..RunOptions::default() };
    let document = try_run(&lab.open(), options, &Silent).await.unwrap();
    assert_eq!((document.result, results(&document)[0].as_str()), (RunResult::Failed, "a: write"), "{document:#?}");
    assert_eq!(cursor(&lab.open()).unwrap().0, 1);
    lab.edit("alluvium.toml", "1 / (k - 7)", "1 + (k - 7)");
    succeeded(&lab.run().await);
    assert_eq!(keys(&lab.open(), "outputs.c").await, "7 ");
    assert_eq!(cursor(&lab.open()).unwrap().0, 2);
}

/// Begins a run of its own in the midst of another, over more changes.
struct Meanwhile {
    producer: PathBuf,
    consumer: PathBuf,
}

#[async_trait]
impl Hook for Meanwhile {
    fn name(&self) -> &str {
        "meanwhile"
    }

    async fn before_run(&self, _: &RunStep<'_>) -> Result<(), HookError> {
        write_parquet(&self.producer.join("data/events.parquet"), &[(2, "b")]);
        for dir in [self.producer.clone(), self.consumer.clone()] {
            let runs = move || tokio::runtime::Runtime::new().unwrap().block_on(run(&Lab::open_at(&dir)));
            succeeded(&tokio::task::spawn_blocking(runs).await?);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_consumer_that_another_run_moved_stays_there() {
    let producer = producer();
    publish(&producer, &[(1, "a")]).await;
    let lab = consumer(&producer);
    let hook = Meanwhile { producer: producer.dir().to_owned(), consumer: lab.dir().to_owned() };
    let document = run(&lab.open().with_hook(Arc::new(hook))).await;
    succeeded(&document);
    assert_eq!(cursor(&lab.open()).unwrap().0, 1, "where the other run left it");
    assert!(document.notices.iter().any(|notice| notice.contains("consumer `nightly`")), "{:?}", document.notices);
}

#[tokio::test]
async fn a_run_over_changes_is_replayed_over_the_same_changes() {
    let producer = producer();
    publish(&producer, &[(1, "a"), (2, "b")]).await;
    let lab = consumer(&producer);
    succeeded(&lab.run().await);
    publish(&producer, &[(3, "c")]).await;
    let (_stop, cancel) = tokio::sync::watch::channel(false);
    let replayed = lab.open().replay(&RunName::Latest, None, cancel.clone()).await.unwrap();
    assert_eq!(replayed.result, ReplayResult::Same, "{replayed:#?}");
    assert_eq!(replayed.views.iter().find(|view| view.name == "fresh").unwrap().row_count, Some(2));
    assert_eq!(cursor(&lab.open()).unwrap().0, 0, "a replay consumes nothing");
    // Nothing new.
    succeeded(&lab.run().await);
    succeeded(&lab.run().await);
    let replayed = lab.open().replay(&RunName::Latest, None, cancel.clone()).await.unwrap();
    assert_eq!(replayed.result, ReplayResult::Same, "{replayed:#?}");

    std::fs::remove_file(producer.path("out/events/_delta_log/00000000000000000001.json")).unwrap();
    let first = lab.open().runs(9).await.unwrap().runs[1].run_id.to_string();
    let replayed = lab.open().replay(&RunName::parse(&first).unwrap(), None, cancel).await.unwrap();
    assert_eq!(replayed.result, ReplayResult::Unreplayable, "{replayed:#?}");
    assert_ne!(replayed.inputs[0].state, ReplayInputState::Unchanged);
}

#[test]
fn a_declaration_that_contradicts_itself_is_refused_by_name() {
    let source = "[sources.t]\nformat = \"delta\"\npath = \"t\"\n";
    for (more, expected) in [
        ("cdf_consumer = \"me\"\n", "no changes; add `[sources.t.cdf]`"),
        ("cdf_consumer = \"a/b\"\ncdf = { starting_version = 0 }\n", "which is no name"),
        ("cdf_consumer = \"me\"\ncdf = { ending_version = 3 }\n", "would never read on"),
        ("cdf = {}\n[views.t__cdf]\nsql = \"select 1 as a\"\n", "the name of a source's changes"),
    ] {
        let lab = Lab::new(&format!("{source}{more}"));
        let error = Project::load(lab.dir()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("alluvium.toml:"), "{error}");
    }
}
