//! The tasks of a run: serving or computing a view, publishing an output, and the hooks around both.

use std::sync::Arc;

use alluvium_contracts::{CacheKey, CachePolicy, CacheScope, OutputReport, OutputResult, ShadowResult, ViewResult};
use alluvium_datasets::ChangedError;
use alluvium_delta_cache::{CacheError, OutputState, PublishRequest, Published, UnstableRows, WriteRequest, Written};
use alluvium_telemetry::{end_span, view_span};
use datafusion::catalog::TableProvider;
use tracing::{Instrument as _, Span};

use crate::decide::{IDLE, OutputDecision, State, ViewDecision};
use crate::error::chain;
use crate::execute::Attempt;
use crate::hooks::{HOOK, Refusal};
use crate::pipeline::Pipeline;
use crate::report::{OutputOutcome, ViewOutcome};
use crate::unstable::Reads;

/// Something to do.
pub(crate) enum Task {
    View(String),
    /// The hooks after a view, whose outcome is on record.
    AfterView(Arc<Worked>),
    /// One output of a view.
    Output(Arc<Worked>, String),
    /// The hooks after an output.
    AfterOutput(Arc<Worked>, Box<OutputOutcome>),
}

/// What was done.
pub(crate) enum Done {
    View(Arc<Worked>),
    AfterView(Arc<Worked>),
    Output(Arc<Worked>, Box<OutputOutcome>),
    AfterOutput,
    /// A source of this view changed, and it or an output of it is to be planned again.
    SourceChanged(String),
}

/// A view that was worked on.
pub(crate) struct Worked {
    pub(crate) name: String,
    pub(crate) outcome: ViewOutcome,
    /// Its outputs are part of it.
    span: Span,
}

impl Worked {
    fn has_rows(&self) -> bool {
        !matches!(self.outcome.report.result, ViewResult::Error | ViewResult::Skipped)
    }
}

impl Attempt<'_> {
    pub(crate) async fn perform(&self, task: Task) -> Done {
        match task {
            Task::View(name) => {
                let span = view_span(&name);
                match self.work_on(&name).instrument(span.clone()).await {
                    Some(outcome) => {
                        end_view(&span, &outcome);
                        Done::View(Arc::new(Worked { name, outcome, span }))
                    }
                    None => {
                        end_span(&span, "source_changed", None);
                        Done::SourceChanged(name)
                    }
                }
            }
            Task::AfterView(worked) => {
                if let Some(decision) = self.announced(|decisions| decisions.planned_view(&worked.name)) {
                    let after = self.hooks.after_view(&decision, &worked.outcome.report);
                    after.instrument(worked.span.clone()).await;
                }
                Done::AfterView(worked)
            }
            Task::Output(worked, name) => {
                let outcome = match (self.decisions.views.get(&worked.name), self.decisions.outputs.get(&name)) {
                    (Some(view), Some(output)) => {
                        self.asked(view, output, &worked).instrument(worked.span.clone()).await
                    }
                    _ => None,
                };
                match outcome {
                    Some(outcome) => Done::Output(worked, Box::new(outcome)),
                    None => Done::SourceChanged(worked.name.clone()),
                }
            }
            Task::AfterOutput(worked, outcome) => {
                let name = &outcome.report.name;
                if worked.has_rows()
                    && let Some(decision) = self.announced(|decisions| decisions.planned_output(name))
                    && let Some(output) = self.decisions.outputs.get(name)
                {
                    let view = &worked.outcome.report;
                    let after = self.hooks.after_output(&decision, &output.target.path, view, &outcome.report);
                    after.instrument(worked.span.clone()).await;
                }
                Done::AfterOutput
            }
        }
    }

    /// What is to be told to hooks; none where there are none.
    fn announced<T>(&self, what: impl FnOnce(&crate::decide::Decisions) -> Option<T>) -> Option<T> {
        if self.hooks.is_empty() { None } else { what(self.decisions) }
    }

    /// One view; none when a source changed and it is to be planned again.
    async fn work_on(&self, name: &str) -> Option<ViewOutcome> {
        let decision = self.decisions.views.get(name)?;
        let watch = self.pipeline.seam.stopwatch();
        if let Err(refusal) = self.ask_about(decision).await {
            return Some(ViewOutcome::refused(decision, &refusal, watch.elapsed_ms()));
        }
        let watch = self.pipeline.seam.stopwatch();
        match self.view(decision).await {
            Ok(outcome) => Some(outcome),
            // A failure over a source that changed meanwhile says nothing about the view.
            Err(_) if self.may_retry && self.decisions.recheck(name).is_err() => None,
            Err(error) => {
                let mut outcome = failed(decision, &error, watch.elapsed_ms());
                if matches!(error, CacheError::Compute { .. } | CacheError::Dataset { .. } | CacheError::Write { .. })
                    && let Some(blame) = self.decisions.unreadable(name).await
                {
                    outcome.report.reason = Some(blame);
                }
                Some(outcome)
            }
        }
    }

    /// Asks the hooks before a view, and those before the output that is its cache.
    async fn ask_about(&self, view: &ViewDecision) -> Result<(), Refusal> {
        let name = view.bundle.name();
        if let Some(decision) = self.announced(|decisions| decisions.planned_view(name)) {
            self.hooks.before_view(&decision).await?;
        }
        if view.is_its_output() {
            for (name, output) in self.decisions.outputs_of(name) {
                self.ask_about_output(name, output, None).await?;
            }
        }
        Ok(())
    }

    async fn ask_about_output(
        &self,
        name: &str,
        output: &OutputDecision,
        view: Option<&Worked>,
    ) -> Result<(), Refusal> {
        match self.announced(|decisions| decisions.planned_output(name)) {
            Some(decision) => {
                let report = view.map(|view| &view.outcome.report);
                self.hooks.before_output(&decision, &output.target.path, report).await
            }
            None => Ok(()),
        }
    }

    /// Publishes one output, unless a hook refuses; none when a source changed.
    async fn asked(&self, view: &ViewDecision, output: &OutputDecision, worked: &Worked) -> Option<OutputOutcome> {
        if worked.has_rows() && !view.is_its_output() {
            let watch = self.pipeline.seam.stopwatch();
            if let Err(refusal) = self.ask_about_output(&output.target.name, output, Some(worked)).await {
                let reason = Some(refusal.to_string());
                let mut outcome = output_outcome(output, OutputResult::Error, reason, watch.elapsed_ms());
                outcome.error_type = Some(HOOK);
                return Some(outcome);
            }
        }
        self.output(view, output, &worked.outcome).await
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
        if let Some(plans) = &self.pipeline.plans {
            plans.count_execution(bundle);
        }
        let watch = self.pipeline.seam.stopwatch();
        let before_publish = || self.begin_publishing(bundle.name());
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
                let rows = self.unstable_rows(&decision.reads);
                let memory = cache.memory(session, bundle, &rows, decision.fresh, &before_publish).await?;
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
                decision.bind(cache.output_provider(&output.target, &published, schema)?, published.rows_id());
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
        let before_publish = || self.begin_publishing(bundle.name());
        let request = WriteRequest {
            bundle,
            key,
            run_id: self.run_id,
            fresh,
            tags: &decision.tags,
            unstable_rows: &self.unstable_rows(&decision.reads),
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
        decision.bind(cache.provider(&entry, bundle.published().arrow())?, entry.rows_id());
        Ok(outcome.with_entry(&entry))
    }

    /// Binds the rows that are there already.
    pub(crate) fn serve(&self, decision: &ViewDecision) -> Result<ViewOutcome, CacheError> {
        let cache = &self.pipeline.cache;
        let bundle = &decision.bundle;
        let hit = |outcome| ViewOutcome::of_operation(decision, outcome, None);
        match &decision.state {
            State::Hit(entry, outcome) => {
                decision.bind(cache.provider(entry, bundle.published().arrow())?, entry.rows_id());
                Ok(hit(outcome).with_entry(entry))
            }
            State::HitOutput(published) => match self.decisions.outputs_of(bundle.name()).next() {
                Some((_, output)) => {
                    let schema = bundle.published().arrow();
                    decision.bind(cache.output_provider(&output.target, published, schema)?, published.rows_id());
                    Ok(hit(&published.outcome).with_published(published, &output.target.declared_path))
                }
                None => Ok(hit(&published.outcome)),
            },
            State::HitMemory((provider, rows), outcome) => {
                decision.reference.bind(Arc::clone(provider));
                Ok(hit(outcome).with_rows(*rows))
            }
            // Only what is computed to be compared reads an idle view; one that is to be computed is not served.
            State::Compute { .. } | State::Idle => {
                decision.reference.bind(cache.computed(bundle));
                Ok(ViewOutcome::new(decision, ViewResult::Computed, Some(IDLE.to_owned()), 0.0))
            }
        }
    }

    /// Publishes one output of a view that is done; none when a source changed meanwhile.
    pub(crate) async fn output(
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
        if decision.is_its_output() {
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
            outcome.plan_artifact_id = view.plan_artifact_id;
            outcome.publication.clone_from(&view.publication);
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
        let recheck = || match decision.is_kept() {
            // The rows come from an entry, whose key says what they are, whatever has become of the sources since.
            true => Ok(()),
            false => self.decisions.recheck(decision.bundle.name()),
        };
        let before_publish = || recheck().inspect(|()| self.publishing.begin(CacheScope::Output, &output.target.name));
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
            Err(_) if self.may_retry && recheck().is_err() => None,
            Err(error) => {
                let reason = Some(chain(&error));
                let mut outcome = output_outcome(output, OutputResult::Error, reason, watch.elapsed_ms());
                outcome.error_type = Some(error.kind());
                Some(outcome)
            }
        }
    }

    /// The last look at the sources of a view before it is published; after it the task ends, whoever asks it to stop.
    fn begin_publishing(&self, view: &str) -> Result<(), ChangedError> {
        self.decisions.recheck(view).inspect(|()| self.publishing.begin(CacheScope::View, view))
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
            unstable_rows: self.unstable_rows(if view.has_entry() { &view.passes_on } else { &view.reads }),
        }
    }

    /// Which rows of unstable views are read: those that were there when it was decided what to do, and those computed since.
    fn unstable_rows(&self, reads: &Reads) -> UnstableRows {
        // What was there need not be bound yet: rows in memory that were computed from it are served before it is.
        let known = |(view, decided): (&String, Option<&String>)| {
            let rows = decided.or_else(|| self.decisions.views.get(view)?.rows.get())?;
            Some((view.clone(), rows.clone()))
        };
        reads.iter().filter_map(known).collect()
    }

    fn is_read(&self, view: &str) -> bool {
        self.decisions.graph.readers().contains_key(view) || self.decisions.outputs_of(view).next().is_some()
    }
}

pub(crate) fn failed(decision: &ViewDecision, error: &CacheError, duration_ms: f64) -> ViewOutcome {
    let mut outcome = ViewOutcome::new(decision, ViewResult::Error, Some(chain(error)), duration_ms);
    outcome.error_type = Some(error.kind());
    outcome
}

pub(crate) fn end_view(span: &Span, outcome: &ViewOutcome) {
    end_span(span, outcome.report.result.as_str(), outcome.error_type);
}

pub(crate) fn output_hit(output: &OutputDecision, published: &Published) -> OutputOutcome {
    let mut outcome = output_outcome(output, OutputResult::Hit, None, published.outcome.duration_ms);
    outcome.report.delta_version = Some(published.version);
    outcome.report.rows = published.row_count;
    outcome.size_bytes = Some(published.size_bytes);
    outcome.file_count = Some(published.file_count());
    outcome.plan_artifact_id = published.plan_artifact_id;
    outcome.publication.clone_from(&published.report);
    outcome
}

impl ViewOutcome {
    /// A view that a hook refused.
    fn refused(decision: &ViewDecision, refusal: &Refusal, duration_ms: f64) -> Self {
        let mut outcome = Self::new(decision, ViewResult::Error, Some(refusal.to_string()), duration_ms);
        outcome.error_type = Some(HOOK);
        outcome
    }

    /// A view that was not tried.
    pub(crate) fn untried(decision: &ViewDecision, reason: String) -> Self {
        Self::new(decision, ViewResult::Skipped, Some(reason), 0.0)
    }
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
        plan_artifact_id: None,
        publication: None,
        error_type: None,
    }
}
