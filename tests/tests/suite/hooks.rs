//! Hooks: each step is announced once, what comes before one may refuse it, and what comes after cannot undo it.

use std::sync::{Arc, Mutex};

use alluvium_contracts::{OutputReport, OutputResult, RunDocument, RunResult, ViewReport, ViewResult};
use alluvium_runs::{Hook, HookError, OutputStep, Pipeline, RunOptions, RunStep, Silent, ViewStep};
use alluvium_telemetry::RunContext;
use async_trait::async_trait;

use crate::lab::{Lab, answer, results, run, try_run};

const PIPELINE: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.first]
sql = "select k, s from events"

[views.second]
sql = "select s, sum(k) as total from first group by s"

[views.alone]
sql = "select count(*) as n from events"
cache = "delta_output"

[outputs.second]
view = "second"
path = "out/second"

[outputs.alone]
view = "alone"
path = "out/alone"
"#;

fn lab() -> Lab {
    let lab = Lab::new(PIPELINE);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

/// Writes down every step, and refuses or fails at those that it is told.
#[derive(Default)]
struct Diary {
    lines: Mutex<Vec<String>>,
    refused: Vec<&'static str>,
}

impl Diary {
    fn at(refused: &[&'static str]) -> Arc<Self> {
        Arc::new(Self { refused: refused.to_vec(), ..Self::default() })
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// `step` decides whether to refuse; `told` is what the step showed.
    fn note(&self, context: &RunContext, step: String, told: &str) -> Result<(), HookError> {
        assert_eq!(RunContext::current().as_ref(), Some(context), "{step}: it works inside of its run");
        self.lines.lock().unwrap().push(format!("{step} {told}").trim_end().to_owned());
        match self.refused.contains(&step.as_str()) {
            true => Err(format!("not today, password=hunter2 at {step}").into()),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Hook for Diary {
    fn name(&self) -> &str {
        "diary"
    }

    async fn before_run(&self, run: &RunStep<'_>) -> Result<(), HookError> {
        self.note(run.context, "before run".to_owned(), &format!("{} views", run.plan.views.len()))
    }

    async fn after_run(&self, run: &RunStep<'_>, document: &RunDocument) -> Result<(), HookError> {
        assert_eq!(document.run_id, run.context.run_id());
        self.note(run.context, "after run".to_owned(), document.result.as_str())
    }

    async fn before_view(&self, view: &ViewStep<'_>) -> Result<(), HookError> {
        let decision = view.decision;
        self.note(view.context, format!("before {}", decision.name), decision.result.as_str())
    }

    async fn after_view(&self, view: &ViewStep<'_>, report: &ViewReport) -> Result<(), HookError> {
        self.note(view.context, format!("after {}", view.decision.name), report.result.as_str())
    }

    async fn before_output(&self, output: &OutputStep<'_>) -> Result<(), HookError> {
        let rows = output.view.and_then(|view| view.rows);
        let told = format!("{} {rows:?}", output.decision.result.as_str());
        self.note(output.context, format!("before {}>", output.decision.name), &told)
    }

    async fn after_output(&self, output: &OutputStep<'_>, report: &OutputReport) -> Result<(), HookError> {
        assert!(output.path.join("_delta_log").is_dir() || report.result == OutputResult::Error);
        let told = format!("{} {:?}", report.result.as_str(), report.delta_version);
        self.note(output.context, format!("after {}>", output.decision.name), &told)
    }
}

fn with(lab: &Lab, diary: &Arc<Diary>) -> Pipeline {
    lab.open().with_hook(Arc::clone(diary) as Arc<dyn Hook>)
}

/// The steps about one view or output, in order.
fn about(diary: &Diary, name: &str) -> Vec<String> {
    let is_about = |line: &String| line.split(' ').nth(1).is_some_and(|word| word.trim_end_matches('>') == name);
    diary.lines().into_iter().filter(is_about).collect()
}

#[tokio::test]
async fn every_step_is_announced_once_in_order_with_its_decision_and_outcome() {
    let lab = lab();
    let diary = Diary::at(&[]);
    let document = run(&with(&lab, &diary)).await;
    assert_eq!(document.result, RunResult::Succeeded);
    let lines = diary.lines();
    assert_eq!((lines[0].as_str(), lines.last().unwrap().as_str()), ("before run 3 views", "after run succeeded"));
    assert_eq!(lines.len(), 2 + 3 * 2 + 2 * 2, "{lines:#?}");
    assert_eq!(about(&diary, "first"), ["before first write", "after first write"]);
    assert_eq!(
        about(&diary, "second"),
        ["before second write", "after second write", "before second> write Some(2)", "after second> write Some(0)"]
    );
    // The output that is its view's cache is announced before it is computed.
    assert_eq!(
        about(&diary, "alone"),
        ["before alone write", "before alone> write None", "after alone write", "after alone> write Some(0)"]
    );

    // Hits too; and the rows are what they are without a hook.
    let diary = Diary::at(&[]);
    let document = run(&with(&lab, &diary)).await;
    assert_eq!(results(&document), ["alone: hit", "first: hit", "second: hit"]);
    assert_eq!(diary.lines().len(), 12, "{:#?}", diary.lines());
    assert_eq!(about(&diary, "second")[3], "after second> hit Some(0)");
    assert!(document.notices.is_empty(), "{:?}", document.notices);
}

#[tokio::test]
async fn a_refused_run_computes_nothing_and_is_on_record() {
    let lab = lab();
    let diary = Diary::at(&["before run"]);
    let pipeline = with(&lab, &diary);
    let document = run(&pipeline).await;
    assert_eq!(document.result, RunResult::Failed);
    assert!(document.views.iter().all(|view| view.result == ViewResult::Skipped), "{document:#?}");
    let reason = document.views[0].reason.as_deref().unwrap();
    assert!(reason.contains("hook `diary` refused") && reason.contains("not today"), "{reason}");
    assert!(!reason.contains("hunter2"), "{reason}");
    assert_eq!(diary.lines(), ["before run 3 views", "after run failed"]);
    let kept = answer(
        &pipeline,
        "select r.result, r.skipped_count, count(*) as n from alluvium.cache_runs r \
         join alluvium.cache_inventory i using (run_id) where i.result = 'skipped' group by 1, 2",
    )
    .await;
    assert!(kept.contains("| failed | 3             | 5 |"), "{kept}");
}

#[tokio::test]
async fn a_refused_view_takes_its_descendants_and_outputs_with_it() {
    let lab = lab();
    let diary = Diary::at(&["before first"]);
    let document = run(&with(&lab, &diary)).await;
    let first = document.views.iter().find(|view| view.name == "first").unwrap();
    assert_eq!(first.result, ViewResult::Error);
    assert!(first.reason.as_deref().unwrap().contains("hook `diary`"), "{first:?}");
    assert!(about(&diary, "second").is_empty(), "what is skipped is not announced: {:?}", diary.lines());
    let second = document.outputs.iter().find(|output| output.name == "second").unwrap();
    assert_eq!(second.result, OutputResult::Skipped);
    // A hit is refused like anything else.
    run(&lab.open()).await;
    let document = run(&with(&lab, &diary)).await;
    let first = document.views.iter().find(|view| view.name == "first").unwrap();
    assert_eq!(first.result, ViewResult::Error, "{document:#?}");
}

#[tokio::test]
async fn a_refused_output_keeps_its_last_good_version() {
    let lab = lab();
    run(&lab.open()).await;
    lab.parquet("data/events.parquet", &[(9, "a")]);
    let diary = Diary::at(&["before second>", "before alone>"]);
    let pipeline = with(&lab, &diary);
    let options = RunOptions { keep_going: true, ..RunOptions::default() };
    let document = try_run(&pipeline, options, &Silent).await.unwrap();
    assert_eq!(document.result, RunResult::Failed);
    for output in &document.outputs {
        assert_eq!(output.result, OutputResult::Error, "{output:?}");
    }
    let second = document.views.iter().find(|view| view.name == "second").unwrap();
    assert_eq!(second.result, ViewResult::Write, "its rows are kept");
    let alone = document.views.iter().find(|view| view.name == "alone").unwrap();
    assert_eq!(alone.result, ViewResult::Error, "its output is where it would be kept");
    let rows = answer(&pipeline, "select sum(total) as t from outputs.second").await;
    assert!(rows.contains("| 6 |"), "{rows}");
    let rows = answer(&pipeline, "select n from outputs.alone").await;
    assert!(rows.contains("| 3 |"), "{rows}");
}

#[tokio::test]
async fn what_fails_after_a_step_is_told_and_changes_nothing() {
    let lab = lab();
    let diary = Diary::at(&["after first", "after second>", "after run"]);
    let document = run(&with(&lab, &diary)).await;
    assert_eq!(document.result, RunResult::Succeeded);
    assert_eq!(document.notices.len(), 3, "{:?}", document.notices);
    assert!(document.notices[0].starts_with("the hook `diary` failed after view `first`"), "{:?}", document.notices);
    assert!(document.notices[2].starts_with("the hook `diary` failed after the run"), "{:?}", document.notices);
    assert_eq!(results(&lab.run().await), ["alone: hit", "first: hit", "second: hit"]);
}

/// Waits for ever before the run, before a view or after one.
struct Waiting(&'static str, tokio::sync::Notify);

#[async_trait]
impl Hook for Waiting {
    fn name(&self) -> &str {
        "waiting"
    }

    async fn before_run(&self, _: &RunStep<'_>) -> Result<(), HookError> {
        self.wait("before run").await
    }

    async fn before_view(&self, view: &ViewStep<'_>) -> Result<(), HookError> {
        self.wait(&format!("before {}", view.decision.name)).await
    }

    async fn after_view(&self, view: &ViewStep<'_>, _: &ViewReport) -> Result<(), HookError> {
        self.wait(&format!("after {}", view.decision.name)).await
    }
}

impl Waiting {
    async fn wait(&self, step: &str) -> Result<(), HookError> {
        if step == self.0 {
            self.1.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_interrupted_run_waits_for_no_hook_and_keeps_what_was_done() {
    for (step, expected) in [("before run", 0), ("before second", 2), ("after second", 3)] {
        let lab = lab();
        let hook = Arc::new(Waiting(step, tokio::sync::Notify::new()));
        let pipeline = lab.open().with_hook(Arc::clone(&hook) as Arc<dyn Hook>);
        let (stop, cancel) = tokio::sync::watch::channel(false);
        let running = pipeline.run(RunOptions::default(), &Silent, cancel);
        let stopping = async {
            hook.1.notified().await;
            // Other views go on meanwhile.
            while expected > 0
                && !answer(&lab.open(), "select count(*) as n from alluvium.cache_inventory where cache_scope = 'view'")
                    .await
                    .contains(&format!("| {expected} |"))
            {
                tokio::task::yield_now().await;
            }
            stop.send(true).unwrap();
        };
        let (document, ()) = tokio::join!(running, stopping);
        let document = document.unwrap();
        assert_eq!(document.result, RunResult::Interrupted, "{step}");
        let written = document.views.iter().filter(|view| view.result == ViewResult::Write).count();
        assert_eq!(written, expected, "{step}: {document:#?}");
    }
}
