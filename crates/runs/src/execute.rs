//! Carrying decisions out: independent views at once, each after what it reads, each output after its view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alluvium_contracts::{
    ArtifactId, CacheInventoryEntry, CacheKey, CachePolicy, LedgerEvent, OutputReport, OutputResult, RunId,
    ShadowResult, ViewResult,
};
use alluvium_delta_cache::{CacheError, OutputState, PublishRequest, Published, WriteRequest, Written};
use alluvium_ledgers::LedgerError;
use alluvium_telemetry::{end_span, view_span};
use datafusion::catalog::TableProvider;
use fail::fail_point;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::decide::{Decisions, IDLE, OutputDecision, State, ViewDecision};
use crate::error::chain;
use crate::manifest;
use crate::pipeline::Pipeline;
use crate::progress::{Observer, Progress};
use crate::report::{OutputOutcome, ViewOutcome};

/// What has become of views and outputs so far, over both attempts of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) views: BTreeMap<String, ViewOutcome>,
    pub(crate) outputs: BTreeMap<String, OutputOutcome>,
    /// What the inventory says of the kept sources whose rows were needed.
    pub(crate) sources: BTreeMap<String, CacheInventoryEntry>,
    /// The documents that were kept, by what they are and what they are about.
    pub(crate) artifacts: BTreeMap<String, ArtifactId>,
}

impl Outcomes {
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
}

/// What working on one view came to.
struct Done {
    view: String,
    /// None when a source changed and the view is to be planned again.
    outcome: Option<ViewOutcome>,
    outputs: Vec<(String, Option<OutputOutcome>)>,
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
        let limit = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let mut running = FuturesUnordered::new();
        loop {
            if stopped_by.is_none() {
                for view in self.ready(&pending, outcomes, &unresolved, limit.saturating_sub(running.len())) {
                    pending.remove(&view);
                    self.observer.notify(&Progress::ViewStarted { name: view.clone() });
                    running.push(self.work(view));
                }
            }
            if running.is_empty() {
                break;
            }
            let done = tokio::select! {
                biased;
                () = cancelled(cancel) => return Ok(Ended::Interrupted),
                done = running.next() => done,
            };
            let Some(done) = done else { break };
            let mut events = self.decisions.sources.events(outcomes);
            match done.outcome {
                Some(outcome) => {
                    if outcome.report.result == ViewResult::Error && !self.keep_going {
                        stopped_by = Some(done.view.clone());
                    }
                    self.finish_view(outcomes, &done.view, outcome, &mut events);
                }
                None => {
                    unresolved.insert(done.view.clone());
                }
            }
            for (output, outcome) in done.outputs {
                match outcome {
                    Some(outcome) => {
                        if outcome.report.result == OutputResult::Error && !self.keep_going {
                            stopped_by = Some(done.view.clone());
                        }
                        self.finish_output(outcomes, output, outcome, &mut events);
                    }
                    None => {
                        unresolved.insert(done.view.clone());
                    }
                }
            }
            fail_point!("run.event.before");
            self.pipeline.ledgers.record(&events)?;
            fail_point!("run.event.after");
        }
        drop(running);
        if !unresolved.is_empty() {
            return Ok(Ended::SourcesChanged);
        }
        self.skip_rest(&pending, stopped_by.as_deref(), outcomes)?;
        Ok(Ended::Complete)
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
            let is_settled = match &decision.state {
                State::Idle => true,
                State::Hit(..) | State::HitOutput(_) | State::HitMemory(_) => outputs_are_published && !decision.shadow,
                State::Compute { .. } => false,
            };
            if !is_settled {
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

    fn finish_view(&self, outcomes: &mut Outcomes, view: &str, outcome: ViewOutcome, events: &mut Vec<LedgerEvent>) {
        // What the first attempt wrote is a hit of the second; the run wrote it. What is as it was is no news.
        let now = (outcome.report.result, outcome.report.cache_key);
        let earlier = outcomes.views.get(view).map(|earlier| (earlier.report.result, earlier.report.cache_key));
        if earlier == Some(now) || (now.0 == ViewResult::Hit && earlier == Some((ViewResult::Write, now.1))) {
            return;
        }
        let unix_ms = self.pipeline.seam.unix_ms();
        events.push(outcome.event(self.run_id, unix_ms));
        if let Some(decision) = self.decisions.views.get(view) {
            events.extend(manifest::view_documents(decision, self.run_id, unix_ms, &mut outcomes.artifacts));
        }
        self.observer.notify(&Progress::ViewFinished(outcome.report.clone()));
        outcomes.views.insert(view.to_owned(), outcome);
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
                events.extend(manifest::output_documents(view, self.run_id, unix_ms, &mut outcomes.artifacts));
            }
        }
        self.observer.notify(&Progress::OutputFinished(outcome.report.clone()));
        outcomes.outputs.insert(output, outcome);
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
                let outcome = output_outcome(decided, OutputResult::Skipped, Some(reason.clone()), 0.0);
                self.finish_output(outcomes, output.clone(), outcome, &mut events);
            }
        }
        self.pipeline.ledgers.record(&events)
    }

    async fn work(&self, view: String) -> Done {
        let span = view_span(&view);
        let done = self.work_on(view).instrument(span.clone()).await;
        match &done.outcome {
            Some(outcome) => end_view(&span, outcome),
            None => end_span(&span, "source_changed", None),
        }
        done
    }

    async fn work_on(&self, view: String) -> Done {
        let Some(decision) = self.decisions.views.get(&view) else {
            return Done { view, outcome: None, outputs: Vec::new() };
        };
        let watch = self.pipeline.seam.stopwatch();
        let outcome = match self.view(decision).await {
            Ok(outcome) => outcome,
            // A failure over a source that changed meanwhile says nothing about the view.
            Err(_) if self.may_retry && self.decisions.recheck(&view).is_err() => {
                return Done { view, outcome: None, outputs: Vec::new() };
            }
            Err(error) => {
                let mut outcome = failed(decision, &error, watch.elapsed_ms());
                if matches!(error, CacheError::Compute { .. } | CacheError::Dataset { .. } | CacheError::Write { .. })
                    && let Some(blame) = self.decisions.unreadable(&view).await
                {
                    outcome.report.reason = Some(blame);
                }
                outcome
            }
        };
        let mut outputs = Vec::new();
        for (name, decided) in self.decisions.outputs_of(&view) {
            outputs.push((name.clone(), self.output(decision, decided, &outcome).await));
        }
        Done { view, outcome: Some(outcome), outputs }
    }

    /// Serves or computes one view and binds its rows.
    async fn view(&self, decision: &ViewDecision) -> Result<ViewOutcome, CacheError> {
        let State::Compute { reason, .. } = &decision.state else {
            return match &decision.state {
                State::Hit(entry, _) if decision.shadow => self.shadowed(decision, entry).await,
                _ => self.serve(decision),
            };
        };
        let Pipeline { cache, .. } = self.pipeline;
        let session = &self.decisions.session;
        let bundle = &decision.bundle;
        self.fill_sources(bundle.name()).await?;
        let watch = self.pipeline.seam.stopwatch();
        let before_publish = || self.decisions.recheck(bundle.name());
        let done = |result| ViewOutcome::new(decision, result, Some(reason.clone()), watch.elapsed_ms());
        match (bundle.cache_key(), decision.policy) {
            (Some(_), CachePolicy::None) => {
                decision.reference.bind(cache.computed(bundle));
                let is_end = !self.is_read(bundle.name());
                let rows = if is_end { Some(cache.count(session, bundle).await?) } else { None };
                let outcome = done(ViewResult::Computed);
                Ok(rows.map_or(outcome.clone(), |rows| outcome.with_rows(rows)))
            }
            // An uncacheable view is computed once a run, so that all its readers see the same rows.
            (None, _) | (Some(_), CachePolicy::Memory) => {
                let memory = cache.memory(session, bundle, decision.fresh, &before_publish).await?;
                let ((provider, rows), written) = memory;
                decision.reference.bind(provider);
                let outcome = match written {
                    Some(written) => ViewOutcome::of_operation(decision, &written, Some(reason.clone())),
                    None => done(ViewResult::Computed),
                };
                Ok(outcome.with_rows(rows))
            }
            (Some(key), CachePolicy::DeltaStaging) => self.write(decision, key, decision.fresh, reason.clone()).await,
            (Some(_), CachePolicy::DeltaOutput) => {
                // Declared with exactly one output, which the project's loading has checked.
                let Some((_, output)) = self.decisions.outputs_of(bundle.name()).next() else {
                    return Ok(done(ViewResult::Computed));
                };
                let request = self.publication(output, decision, None);
                let published = cache.publish(session, request, &before_publish).await?;
                let schema = bundle.published().arrow();
                decision.reference.bind(cache.output_provider(&output.target, &published, schema)?);
                let outcome = ViewOutcome::of_operation(decision, &published.outcome, Some(reason.clone()));
                Ok(outcome.with_published(&published, &output.target.declared_path))
            }
        }
    }

    /// Writes the entry of a view, or takes the one that somebody else wrote meanwhile, and binds its rows.
    pub(crate) async fn write(
        &self,
        decision: &ViewDecision,
        key: CacheKey,
        fresh: bool,
        reason: String,
    ) -> Result<ViewOutcome, CacheError> {
        let Pipeline { cache, .. } = self.pipeline;
        let bundle = &decision.bundle;
        let watch = self.pipeline.seam.stopwatch();
        let before_publish = || self.decisions.recheck(bundle.name());
        let request = WriteRequest {
            bundle,
            key,
            run_id: self.run_id,
            fresh,
            tags: &decision.tags,
            reading: &self.decisions.reading,
        };
        let (entry, outcome) = match cache.write(&self.decisions.session, request, &before_publish).await? {
            Written::Computed(entry, written) => (entry, ViewOutcome::of_operation(decision, &written, Some(reason))),
            Written::Shared(entry, read) => {
                let reason =
                    "computed meanwhile under the same key: by another process, or for a view that says the same";
                let mut outcome = ViewOutcome::of_operation(decision, &read, Some(reason.to_owned()));
                // Waiting for it was part of the view's time.
                outcome.report.duration_ms = watch.elapsed_ms();
                (entry, outcome)
            }
        };
        decision.reference.bind(cache.provider(&entry, bundle.published().arrow())?);
        Ok(outcome.with_entry(&entry))
    }

    /// Binds the rows that are there already.
    pub(crate) fn serve(&self, decision: &ViewDecision) -> Result<ViewOutcome, CacheError> {
        let cache = &self.pipeline.cache;
        let bundle = &decision.bundle;
        let hit = |outcome| ViewOutcome::of_operation(decision, outcome, None);
        match &decision.state {
            State::Hit(entry, outcome) => {
                decision.reference.bind(cache.provider(entry, bundle.published().arrow())?);
                Ok(hit(outcome).with_entry(entry))
            }
            State::HitOutput(published) => match self.decisions.outputs_of(bundle.name()).next() {
                Some((_, output)) => {
                    let schema = bundle.published().arrow();
                    decision.reference.bind(cache.output_provider(&output.target, published, schema)?);
                    Ok(hit(&published.outcome).with_published(published, &output.target.declared_path))
                }
                None => Ok(hit(&published.outcome)),
            },
            State::HitMemory(outcome) => match cache.in_memory(bundle) {
                Some((provider, rows)) => {
                    decision.reference.bind(provider);
                    Ok(hit(outcome).with_rows(rows))
                }
                None => Ok(hit(outcome)),
            },
            // Only what is computed to be compared reads an idle view; one that is to be computed is not served.
            State::Compute { .. } | State::Idle => {
                decision.reference.bind(cache.computed(bundle));
                Ok(ViewOutcome::new(decision, ViewResult::Computed, Some(IDLE.to_owned()), 0.0))
            }
        }
    }

    /// Publishes one output of a view that is done; none when a source changed meanwhile.
    async fn output(
        &self,
        decision: &ViewDecision,
        output: &OutputDecision,
        view: &ViewOutcome,
    ) -> Option<OutputOutcome> {
        let watch = self.pipeline.seam.stopwatch();
        let reason = match &output.state {
            OutputState::Stale { reason, .. } => Some(reason.clone()),
            OutputState::Hit(_) | OutputState::Foreign { .. } => None,
        };
        if matches!(view.report.result, ViewResult::Error | ViewResult::Skipped) {
            let reason = format!("its view `{}` has no rows", view.report.name);
            let result =
                if decision.policy == CachePolicy::DeltaOutput { OutputResult::Error } else { OutputResult::Skipped };
            let mut outcome = output_outcome(output, result, Some(reason), watch.elapsed_ms());
            outcome.error_type = view.error_type;
            return Some(outcome);
        }
        if decision.policy == CachePolicy::DeltaOutput && decision.is_kept() {
            // Publishing the output is how the view was kept.
            let result = match view.report.result {
                ViewResult::Write => OutputResult::Write,
                _ => OutputResult::Hit,
            };
            let mut outcome = output_outcome(output, result, reason, view.report.duration_ms);
            outcome.report.delta_version = view.delta_version;
            outcome.report.rows = view.report.rows;
            outcome.size_bytes = view.report.bytes;
            outcome.file_count = view.file_count;
            return Some(outcome);
        }
        // What was published from an entry that is not trusted any more is published anew.
        let distrusted = view.report.shadow == Some(ShadowResult::Differs);
        if let OutputState::Hit(published) = &output.state
            && !distrusted
        {
            return Some(output_hit(output, published));
        }
        let reason =
            reason.or_else(|| distrusted.then(|| "its view's entry held other rows than it should".to_owned()));
        let source = Arc::clone(&decision.reference) as Arc<dyn TableProvider>;
        let before_publish = || match decision.is_kept() {
            // The rows come from an entry, whose key says what they are, whatever has become of the sources since.
            true => Ok(()),
            false => self.decisions.recheck(decision.bundle.name()),
        };
        let request = self.publication(output, decision, Some(source));
        let request = PublishRequest { fresh: request.fresh || distrusted, ..request };
        match self.pipeline.cache.publish(&self.decisions.session, request, &before_publish).await {
            Ok(published) => {
                let mut outcome = output_hit(output, &published);
                if published.is_written() {
                    outcome.report.result = OutputResult::Write;
                    outcome.report.reason = reason;
                }
                Some(outcome)
            }
            Err(_) if self.may_retry && before_publish().is_err() => None,
            Err(error) => {
                let reason = Some(chain(&error));
                let mut outcome = output_outcome(output, OutputResult::Error, reason, watch.elapsed_ms());
                outcome.error_type = Some(error.kind());
                Some(outcome)
            }
        }
    }

    fn publication<'r>(
        &self,
        output: &'r OutputDecision,
        view: &'r ViewDecision,
        source: Option<Arc<dyn TableProvider>>,
    ) -> PublishRequest<'r> {
        PublishRequest {
            target: &output.target,
            bundle: &view.bundle,
            source,
            readers: self.decisions.lineage_of_readers(view.bundle.name()),
            run_id: self.run_id,
            fresh: output.fresh,
        }
    }

    fn is_read(&self, view: &str) -> bool {
        self.decisions.graph.readers().contains_key(view) || self.decisions.outputs_of(view).next().is_some()
    }
}

async fn cancelled(cancel: &mut watch::Receiver<bool>) {
    // A sender that is gone can no longer ask.
    if cancel.wait_for(|asked| *asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn failed(decision: &ViewDecision, error: &CacheError, duration_ms: f64) -> ViewOutcome {
    let mut outcome = ViewOutcome::new(decision, ViewResult::Error, Some(chain(error)), duration_ms);
    outcome.error_type = Some(error.kind());
    outcome
}

fn end_view(span: &tracing::Span, outcome: &ViewOutcome) {
    end_span(span, outcome.report.result.as_str(), outcome.error_type);
}

fn output_hit(output: &OutputDecision, published: &Published) -> OutputOutcome {
    let mut outcome = output_outcome(output, OutputResult::Hit, None, published.outcome.duration_ms);
    outcome.report.delta_version = Some(published.version);
    outcome.report.rows = published.row_count;
    outcome.size_bytes = Some(published.size_bytes);
    outcome.file_count = Some(published.file_count());
    outcome
}

impl OutputOutcome {
    /// An output that was not tried.
    pub(crate) fn untried(output: &OutputDecision, result: OutputResult, reason: Option<String>) -> Self {
        output_outcome(output, result, reason, 0.0)
    }
}

fn output_outcome(
    output: &OutputDecision,
    result: OutputResult,
    reason: Option<String>,
    duration_ms: f64,
) -> OutputOutcome {
    OutputOutcome {
        report: OutputReport {
            name: output.target.name.clone(),
            view: output.view.clone(),
            path: output.target.declared_path.clone(),
            result,
            delta_version: None,
            rows: None,
            duration_ms,
            reason,
        },
        size_bytes: None,
        file_count: None,
        error_type: None,
    }
}
