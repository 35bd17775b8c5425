//! Carrying decisions out: independent views at once, each after what it reads, each output after its view.
//!
//! *Invariant:* what became of a view or output is recorded before anything else of the run is done with it: a step is a task of
//! its own, and a run that is interrupted drops only tasks that have not begun to publish: what is committed is on record. Where queries
//! that do not yield keep a publication from ending, it is left behind, and the run with it, as if it had been killed.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use alluvium_contracts::{
    ArtifactId, CacheInventoryEntry, CachePolicy, CacheScope, LedgerEvent, OutputResult, RunId, ViewResult,
};
use alluvium_delta_cache::OutputState;
use alluvium_ledgers::LedgerError;
use alluvium_telemetry::view_span;
use fail::fail_point;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;

use crate::aside::within_patience;
use crate::decide::{Decisions, State};
use crate::documents::{Documents, plan_bundle_of};
use crate::hooks::RunHooks;
use crate::pipeline::Pipeline;
use crate::progress::{Observer, Progress};
use crate::report::{OutputOutcome, ViewOutcome};
use crate::work::{Done, Task, end_view, failed, output_hit};

/// What has become of views and outputs so far, over both attempts of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) views: BTreeMap<String, ViewOutcome>,
    pub(crate) outputs: BTreeMap<String, OutputOutcome>,
    /// What the inventory says of the kept sources whose rows were needed.
    pub(crate) sources: BTreeMap<String, CacheInventoryEntry>,
    /// What the first attempt wrote and the second wrote again otherwise.
    pub(crate) superseded: Vec<Superseded>,
    /// The documents that were kept, by what they are and what they are about.
    pub(crate) artifacts: BTreeMap<String, ArtifactId>,
}

/// A commit of the run that is not the last one of what it is of.
#[derive(Debug)]
pub(crate) struct Superseded {
    pub(crate) scope: CacheScope,
    pub(crate) name: String,
    /// Of an output as it is declared; of an entry relative to the cache root.
    pub(crate) path: String,
    pub(crate) version: Option<u64>,
}

impl Outcomes {
    /// Puts an outcome in the place of an earlier one, whose commit stays one of the run.
    fn put_view(&mut self, view: &str, outcome: ViewOutcome) {
        if let Some(earlier) = self.views.insert(view.to_owned(), outcome)
            && (earlier.report.result, earlier.report.cache_policy) == (ViewResult::Write, CachePolicy::DeltaStaging)
            && let Some(path) = earlier.cache_path
        {
            let (name, version) = (view.to_owned(), earlier.delta_version);
            self.superseded.push(Superseded { scope: CacheScope::View, name, path, version });
        }
    }

    /// As [`put_view`](Self::put_view).
    fn put_output(&mut self, output: String, outcome: OutputOutcome) {
        if let Some(earlier) = self.outputs.insert(output, outcome).map(|earlier| earlier.report)
            && earlier.result == OutputResult::Write
        {
            let (name, path, version) = (earlier.name, earlier.path, earlier.delta_version);
            self.superseded.push(Superseded { scope: CacheScope::Output, name, path, version });
        }
    }

    /// As [`put_view`](Self::put_view), of the rows of a source.
    pub(crate) fn put_source(&mut self, source: &str, row: CacheInventoryEntry) {
        if let Some(earlier) = self.sources.insert(source.to_owned(), row)
            && earlier.result == ViewResult::Write
            && let Some(path) = earlier.cache_path
        {
            let (name, version) = (source.to_owned(), earlier.delta_version);
            self.superseded.push(Superseded { scope: CacheScope::Dataset, name, path, version });
        }
    }

    /// The class of the first failure, by name.
    pub(crate) fn error_type(&self) -> Option<&'static str> {
        let views = self.views.values().map(|view| view.error_type);
        views.chain(self.outputs.values().map(|output| output.error_type)).flatten().next()
    }
}

/// One attempt at carrying the decisions out.
pub(crate) struct Attempt<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) decisions: &'a Decisions,
    pub(crate) run_id: RunId,
    pub(crate) keep_going: bool,
    /// Whether a source that changes under us is recomputed afterwards, and so is no failure yet.
    pub(crate) may_retry: bool,
    pub(crate) observer: &'a dyn Observer,
    pub(crate) hooks: &'a RunHooks<'a>,
    pub(crate) publishing: Publishing,
}

/// What is being published in an attempt: a view or an output from its last look at the sources until its task ends, a kept source
/// until its rows are there.
#[derive(Debug, Default)]
pub(crate) struct Publishing(watch::Sender<BTreeSet<(CacheScope, String)>>);

impl Publishing {
    pub(crate) fn begin(&self, scope: CacheScope, name: &str) {
        self.0.send_if_modified(|begun| begun.insert((scope, name.to_owned())));
    }

    pub(crate) fn end(&self, scope: CacheScope, name: &str) {
        self.0.send_if_modified(|begun| begun.remove(&(scope, name.to_owned())));
    }

    fn has_begun(&self, scope: CacheScope, name: &str) -> bool {
        self.0.borrow().contains(&(scope, name.to_owned()))
    }

    /// Waits until none of these sources is on its way to the cache.
    async fn are_filled(&self, sources: &[(CacheScope, String)]) {
        let is_none = |begun: &BTreeSet<_>| !sources.iter().any(|source| begun.contains(source));
        // The sender lives as long as this does.
        let _ = self.0.subscribe().wait_for(is_none).await;
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything has an outcome.
    Complete,
    /// A source changed: what has no outcome is to be planned again.
    SourcesChanged,
    /// The caller asked to stop: what has no outcome was not tried.
    Interrupted,
    /// The caller asked to stop, and a publication was left behind: its commit may land, and is on no record.
    LeftBehind,
    /// A hook refused the run before anything was tried.
    Refused,
}

/// What became of a task.
enum Performed {
    Done(Done),
    /// It was dropped before it began to publish.
    GaveWay,
    /// It was dropped while it published.
    LeftBehind,
}

impl Attempt<'_> {
    pub(crate) async fn carry_out(
        &self,
        outcomes: &mut Outcomes,
        cancel: &mut watch::Receiver<bool>,
    ) -> Result<Ended, LedgerError> {
        let mut pending = self.settle(outcomes)?;
        let mut unresolved: BTreeSet<String> = BTreeSet::new();
        let mut stopped_by: Option<String> = None;
        let mut left_behind = false;
        let limit = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let mut running = FuturesUnordered::new();
        loop {
            let is_cancelled = *cancel.borrow();
            if stopped_by.is_none() && !is_cancelled {
                for view in self.ready(&pending, outcomes, &unresolved, limit.saturating_sub(running.len())) {
                    pending.remove(&view);
                    self.observer.notify(&Progress::ViewStarted { name: view.clone() });
                    running.push(self.perform_unless(cancel.clone(), Task::View(view)));
                }
            }
            let Some(done) = running.next().await else { break };
            let done = match done {
                Performed::Done(done) => done,
                // It was not tried.
                Performed::GaveWay => continue,
                Performed::LeftBehind => {
                    left_behind = true;
                    continue;
                }
            };
            let mut events = self.decisions.sources.events(outcomes);
            let mut next = Vec::new();
            match done {
                Done::View(worked) => {
                    if worked.outcome.report.result == ViewResult::Error && !self.keep_going {
                        stopped_by = Some(worked.name.clone());
                    }
                    self.finish_view(outcomes, &worked.name, worked.outcome.clone(), &mut events);
                    next.push(Task::AfterView(worked));
                }
                Done::AfterView(worked) => {
                    let outputs = self.decisions.outputs_of(&worked.name);
                    next.extend(outputs.map(|(output, _)| Task::Output(Arc::clone(&worked), output.clone())));
                }
                Done::Output(worked, outcome) => {
                    if outcome.report.result == OutputResult::Error && !self.keep_going {
                        stopped_by = Some(worked.name.clone());
                    }
                    self.finish_output(outcomes, outcome.report.name.clone(), (*outcome).clone(), &mut events);
                    next.push(Task::AfterOutput(worked, outcome));
                }
                Done::AfterOutput => {}
                Done::SourceChanged(view) => {
                    unresolved.insert(view);
                }
            }
            fail_point!("run.event.before");
            self.pipeline.ledgers.record(&events)?;
            fail_point!("run.event.after");
            if !*cancel.borrow() {
                running.extend(next.into_iter().map(|task| self.perform_unless(cancel.clone(), task)));
            }
        }
        drop(running);
        if *cancel.borrow() {
            self.record_published(outcomes).await?;
            return Ok(if left_behind { Ended::LeftBehind } else { Ended::Interrupted });
        }
        if !unresolved.is_empty() {
            return Ok(Ended::SourcesChanged);
        }
        self.skip_rest(&pending, stopped_by.as_deref(), outcomes)?;
        Ok(Ended::Complete)
    }

    /// Performs a task, unless the caller asks to stop before it publishes: then it is dropped, and nobody was told of it. What has
    /// begun to publish ends, if it can within seconds, because a commit that is nowhere on record has no run.
    async fn perform_unless(&self, mut cancel: watch::Receiver<bool>, task: Task) -> Performed {
        let (published, sources): (_, Vec<_>) = match &task {
            Task::View(name) => {
                let sources = self.decisions.live_sources_of(name);
                let sources = sources.map(|source| (CacheScope::Dataset, source.clone()));
                (Some((CacheScope::View, name.clone())), sources.collect())
            }
            Task::Output(_, name) => (Some((CacheScope::Output, name.clone())), Vec::new()),
            Task::AfterView(_) | Task::AfterOutput(..) => (None, Vec::new()),
        };
        let mut work = pin!(self.perform(task));
        tokio::select! {
            biased;
            done = &mut work => return Performed::Done(done),
            () = cancelled(&mut cancel) => {}
        }
        let rest = async {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.publishing.are_filled(&sources) => {}
            }
            match published {
                Some((scope, name)) if self.publishing.has_begun(scope, &name) => Some(work.await),
                _ => None,
            }
        };
        match within_patience(rest).await {
            Some(Some(done)) => Performed::Done(done),
            Some(None) => Performed::GaveWay,
            None => Performed::LeftBehind,
        }
    }

    /// Records what tasks published that were never told of as such: the rows of sources, and outputs that are the cache of a view.
    async fn record_published(&self, outcomes: &mut Outcomes) -> Result<(), LedgerError> {
        let mut events = self.decisions.sources.events(outcomes);
        for (name, output) in &self.decisions.outputs {
            let Some(view) = self.decisions.views.get(&output.view).filter(|view| view.is_its_output()) else {
                continue;
            };
            let written = outcomes.views.get(&output.view).filter(|done| done.report.result == ViewResult::Write);
            if let Some(written) = written.cloned()
                && let Some(outcome) = self.output(view, output, &written).await
            {
                self.finish_output(outcomes, name.clone(), outcome, &mut events);
            }
        }
        self.pipeline.ledgers.record(&events)
    }

    /// Gives an outcome to all that needs no work, binds its rows, and returns what is left.
    fn settle(&self, outcomes: &mut Outcomes) -> Result<BTreeSet<String>, LedgerError> {
        let mut events = Vec::new();
        let mut pending = BTreeSet::new();
        for name in &self.decisions.graph.order {
            let Some(decision) = self.decisions.views.get(name) else {
                continue;
            };
            let outputs_are_published =
                self.decisions.outputs_of(name).all(|(_, output)| matches!(output.state, OutputState::Hit(_)));
            let needs_no_work = match &decision.state {
                State::Idle => true,
                State::Hit(..) | State::HitOutput(_) | State::HitMemory(..) => {
                    outputs_are_published && !decision.shadow
                }
                State::Compute { .. } => false,
            };
            // Hooks are asked about everything.
            if !needs_no_work || !self.hooks.is_empty() {
                pending.insert(name.clone());
                continue;
            }
            let span = view_span(name);
            let outcome = match span.in_scope(|| self.serve(decision)) {
                Ok(outcome) => outcome,
                Err(error) => failed(decision, &error, 0.0),
            };
            end_view(&span, &outcome);
            self.finish_view(outcomes, name, outcome, &mut events);
            for (output, decided) in self.decisions.outputs_of(name) {
                if let OutputState::Hit(published) = &decided.state {
                    self.finish_output(outcomes, output.clone(), output_hit(decided, published), &mut events);
                }
            }
        }
        self.pipeline.ledgers.record(&events)?;
        Ok(pending)
    }

    fn finish_view(
        &self,
        outcomes: &mut Outcomes,
        view: &str,
        mut outcome: ViewOutcome,
        events: &mut Vec<LedgerEvent>,
    ) {
        // What the first attempt wrote is a hit of the second; the run wrote it. What is as it was is no news.
        let now = (outcome.report.result, outcome.report.cache_key);
        let earlier = outcomes.views.get(view).map(|earlier| (earlier.report.result, earlier.report.cache_key));
        if earlier == Some(now) || (now.0 == ViewResult::Hit && earlier == Some((ViewResult::Write, now.1))) {
            return;
        }
        let unix_ms = self.pipeline.seam.unix_ms();
        let decision = self.decisions.views.get(view);
        let of_view = |decision| self.documents(unix_ms).of_view(decision, &mut outcomes.artifacts);
        let documents = decision.map(of_view).unwrap_or_default();
        outcome.plan_artifact_id = outcome.plan_artifact_id.or_else(|| plan_bundle_of(view, &outcomes.artifacts));
        events.push(outcome.event(self.run_id, unix_ms));
        events.extend(documents);
        self.observer.notify(&Progress::ViewFinished(outcome.report.clone()));
        outcomes.put_view(view, outcome);
    }

    fn finish_output(
        &self,
        outcomes: &mut Outcomes,
        output: String,
        outcome: OutputOutcome,
        events: &mut Vec<LedgerEvent>,
    ) {
        let now = (outcome.report.result, outcome.report.delta_version);
        let earlier =
            outcomes.outputs.get(&output).map(|earlier| (earlier.report.result, earlier.report.delta_version));
        if earlier == Some(now) || (now.0 == OutputResult::Hit && earlier == Some((OutputResult::Write, now.1))) {
            return;
        }
        if let Some(view) = self.decisions.views.get(&outcome.report.view) {
            let unix_ms = self.pipeline.seam.unix_ms();
            events.push(outcome.event(self.run_id, unix_ms, view));
            if outcome.report.result == OutputResult::Write {
                events.extend(self.documents(unix_ms).of_output(&outcome, view, &mut outcomes.artifacts));
            }
        }
        self.observer.notify(&Progress::OutputFinished(outcome.report.clone()));
        outcomes.put_output(output, outcome);
    }

    fn documents(&self, unix_ms: i64) -> Documents<'_> {
        Documents { project: &self.pipeline.project, run_id: self.run_id, unix_ms }
    }

    /// Up to `limit` pending views that can be worked on: their rows are there, or all that they read is.
    fn ready(
        &self,
        pending: &BTreeSet<String>,
        outcomes: &Outcomes,
        unresolved: &BTreeSet<String>,
        limit: usize,
    ) -> Vec<String> {
        let is_done = |view: &String| {
            !pending.contains(view)
                && !unresolved.contains(view)
                && self.decisions.views.get(view).is_some_and(|decision| decision.reference.is_bound())
                && outcomes
                    .views
                    .get(view)
                    .is_some_and(|outcome| !matches!(outcome.report.result, ViewResult::Error | ViewResult::Skipped))
        };
        self.decisions
            .graph
            .order
            .iter()
            .filter(|view| pending.contains(*view))
            .filter(|view| !self.is_computed(view) || self.is_grounded(view, &is_done))
            .take(limit)
            .cloned()
            .collect()
    }

    /// Whether a view is computed in this run, for its rows or to be compared.
    pub(crate) fn is_computed(&self, view: &str) -> bool {
        let decision = self.decisions.views.get(view);
        decision.is_some_and(|decision| decision.shadow || matches!(decision.state, State::Compute { .. }))
    }

    /// Whether all that a computation of `view` scans is there: through views that are computed inside their readers, too.
    fn is_grounded(&self, view: &str, is_done: &dyn Fn(&String) -> bool) -> bool {
        let is_idle =
            |view: &str| self.decisions.views.get(view).is_some_and(|decision| matches!(decision.state, State::Idle));
        self.decisions
            .graph
            .upstream(view)
            .all(|upstream| is_done(upstream) && (!is_idle(upstream) || self.is_grounded(upstream, is_done)))
    }

    /// What was never started: below a failure, or after it.
    fn skip_rest(
        &self,
        pending: &BTreeSet<String>,
        stopped_by: Option<&str>,
        outcomes: &mut Outcomes,
    ) -> Result<(), LedgerError> {
        let mut events = Vec::new();
        for name in self.decisions.graph.order.iter().filter(|name| pending.contains(*name)) {
            let Some(decision) = self.decisions.views.get(name) else {
                continue;
            };
            let broken = self.decisions.graph.upstream(name).find(|upstream| {
                outcomes
                    .views
                    .get(*upstream)
                    .is_some_and(|outcome| matches!(outcome.report.result, ViewResult::Error | ViewResult::Skipped))
            });
            let reason = match (broken, stopped_by) {
                (Some(upstream), _) => format!("it reads `{upstream}`, which has no rows"),
                (None, Some(view)) => {
                    format!("the run stopped when `{view}` failed; --keep-going goes on")
                }
                (None, None) => continue,
            };
            let outcome = ViewOutcome::new(decision, ViewResult::Skipped, Some(reason.clone()), 0.0);
            end_view(&view_span(name), &outcome);
            self.finish_view(outcomes, name, outcome, &mut events);
            for (output, decided) in self.decisions.outputs_of(name) {
                let outcome = OutputOutcome::untried(decided, OutputResult::Skipped, Some(reason.clone()));
                self.finish_output(outcomes, output.clone(), outcome, &mut events);
            }
        }
        self.pipeline.ledgers.record(&events)
    }
}

/// Waits until the caller asks to stop.
pub(crate) async fn cancelled(cancel: &mut watch::Receiver<bool>) {
    // A sender that is gone can no longer ask.
    if cancel.wait_for(|asked| *asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}
