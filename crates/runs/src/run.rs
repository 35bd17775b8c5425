//! The life of a run: begin, decide, carry out, end; and what is left of it in the ledgers.

use alluvium_contracts::{
    CacheArtifact, CacheOperations, LedgerEvent, MetadataSnapshots, OutputResult, RunDocument, RunId, RunResult,
    ViewResult,
};
use alluvium_datasets::ConstraintError;
use alluvium_ledgers::CursorMove;
use alluvium_telemetry::{Redactor, RunContext, RunSpan, TraceContext};
use tokio::sync::watch;

use crate::aside::{aside, within_patience};
use crate::decide::Decisions;
use crate::error::{RunError, chain};
use crate::execute::{Attempt, Ended, Outcomes, Publishing, cancelled};
use crate::hooks::{HOOK, RunHooks};
use crate::pipeline::Pipeline;
use crate::progress::{Observer, Progress};
use crate::report::{OutputOutcome, ViewOutcome, result_of, summary};

/// Events that may wait in the outbox before an all-hit run drains them: such a run commits to no ledger until then.
const OUTBOX_PATIENCE: u64 = 5_000;

/// What a run is asked to do.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The views to bring up to date, with their ancestors. Empty: all.
    pub select: Vec<String>,
    /// Compute the selected views, and publish their outputs, even where the caches hold them. Ancestors that are not
    /// selected themselves still hit.
    pub fresh: bool,
    /// Go on with what does not depend on a view that failed.
    pub keep_going: bool,
    /// The share of hits, in percent, that are computed all the same and compared: 0 to 100. Which ones is another choice each
    /// run.
    pub shadow_percent: u8,
    /// The place in a trace that the run continues. Without one it begins a trace whose id is its own.
    pub parent: Option<TraceContext>,
}

impl Pipeline {
    /// Brings the selected views and their outputs up to date.
    ///
    /// A view or output that fails is a result in the document, not an error. When `cancel` turns true, the run stops
    /// what it is doing, publishes nothing more, and ends as interrupted. What it was about to commit by then, it commits and records.
    /// It ends so within seconds though a query does not yield: that is left to the runtime, which should be shut down in the
    /// background then. Where such queries keep a commit from ending for 5 s, the run is left as one that was killed.
    ///
    /// # Errors
    /// [`RunError`] when the pipeline is wrong, its sources cannot be pinned, or the ledgers cannot be written; nothing
    /// was computed then, or all that was published stays.
    pub async fn run(
        &self,
        options: RunOptions,
        observer: &dyn Observer,
        cancel: watch::Receiver<bool>,
    ) -> Result<RunDocument, RunError> {
        let run_id = self.seam.run_id();
        let span = RunSpan::begin(&self.seam, run_id, options.parent.clone());
        let hooks = RunHooks::new(&self.hooks, span.context().clone());
        match span.scope(self.run_as(&hooks, options, observer, cancel)).await {
            Ok((document, error_type)) => {
                span.finish(document.result.as_str(), error_type);
                Ok(document)
            }
            Err(error) => {
                span.finish(RunResult::Failed.as_str(), Some(error.kind()));
                Err(error)
            }
        }
    }

    /// The run, and the class of its first failure.
    async fn run_as(
        &self,
        hooks: &RunHooks<'_>,
        options: RunOptions,
        observer: &dyn Observer,
        mut cancel: watch::Receiver<bool>,
    ) -> Result<(RunDocument, Option<&'static str>), RunError> {
        let run_id = hooks.context.run_id();
        let watch = self.seam.stopwatch();
        let redactor = Redactor::default();
        let started_unix_ms = self.seam.unix_ms();
        // A pipeline that is wrong is refused before there is a run.
        let mut outcomes = Outcomes::default();
        let mut decisions = self.decide(&options, &outcomes).await?.with_shadows(run_id, options.shadow_percent);
        self.close_killed_runs().await?;
        self.cache.seed_artifacts();
        let profile_name = self.project.spec().profile.name.as_deref().map(|name| redactor.kept(name));
        let profile_name = profile_name.as_deref();
        let mut manifest = self.manifest(run_id, started_unix_ms, &decisions);
        let guard = self.ledgers.begin_run(run_id, profile_name, Some(&manifest))?;
        self.tell_decisions(&decisions);
        observer.notify(&Progress::RunStarted { run_id, views: decisions.graph.order.clone() });

        let mut may_retry = true;
        let mut untried = "the run was interrupted".to_owned();
        let refusal = if hooks.is_empty() {
            None
        } else {
            let plan = decisions.document();
            tokio::select! {
                biased;
                answer = hooks.before_run(&plan) => answer.err(),
                // The first attempt ends at once.
                () = cancelled(&mut cancel) => None,
            }
        };
        let ended = loop {
            if let Some(refusal) = &refusal {
                untried = refusal.to_string();
                break Ended::Refused;
            }
            let attempt = Attempt {
                pipeline: self,
                decisions: &decisions,
                run_id,
                keep_going: options.keep_going,
                may_retry,
                observer,
                hooks,
                publishing: Publishing::default(),
            };
            match attempt.carry_out(&mut outcomes, &mut cancel).await? {
                Ended::SourcesChanged if may_retry => {
                    may_retry = false;
                    // Pinned anew; what the first attempt published under a key that still holds is a hit now.
                    match self.decide(&options, &outcomes).await {
                        Ok(anew) => {
                            decisions = anew.with_shadows(run_id, options.shadow_percent);
                            manifest = self.manifest(run_id, started_unix_ms, &decisions);
                            self.ledgers.renew_manifest(&guard, &manifest)?;
                        }
                        // The run began, so it ends as a run: with what it did, and why it could do no more.
                        Err(error) => {
                            untried = format!("a source changed while it was read, and then: {}", chain(&error));
                            break Ended::SourcesChanged;
                        }
                    }
                }
                ended => break ended,
            }
        };
        let error_type = if ended == Ended::Refused { Some(HOOK) } else { outcomes.error_type() };
        let mut last = self.skip_untried(run_id, &decisions, &mut outcomes, &untried);
        let mut manifest = self.ended(manifest, &decisions, &outcomes);
        let document = self.document(run_id, &decisions, &mut outcomes, ended, watch.elapsed_ms());
        let summary = summary(&document, profile_name, started_unix_ms, self.seam.unix_ms());
        manifest.result = summary.result;
        manifest.finished_unix_ms = summary.finished_unix_ms;
        last.push(LedgerEvent::RunManifests(Box::new(manifest)));
        let is_stopped = matches!(ended, Ended::Interrupted | Ended::LeftBehind);
        // They are written on the caller's runtime, which queries that were dropped may still hold.
        if !is_stopped && self.sessions.profile().metadata_snapshots() == MetadataSnapshots::OnRunEnd {
            let taken = self.cache.snapshot_engine_caches(&decisions.session, run_id).await;
            last.extend(taken.into_iter().map(LedgerEvent::CacheSnapshots));
        }
        last.extend(self.other_operations(&hooks.context));
        let (moves, waiting) = decisions.cursor_moves(self, run_id, summary.finished_unix_ms);
        let lost = match ended {
            // The next run closes it as killed, and finds by its commits what it published.
            Ended::LeftBehind => {
                drop(guard);
                Vec::new()
            }
            _ => self.ledgers.end_run_with(guard, &summary, &last, &moves)?,
        };
        let mut document = self.drain_if_due(document, is_stopped).await?;
        // Snapshots were taken after the others had been.
        document.notices.extend(self.take_notices());
        if summary.result == RunResult::Succeeded {
            document.notices.extend(waiting);
        }
        document.notices.extend(lost.into_iter().map(|CursorMove { to, .. }| {
            format!(
                "the consumer `{}` of the changes of `{}` was moved by another run meanwhile, and stays where that run left it",
                to.consumer, to.dataset_name
            )
        }));
        self.tell_end(&summary);
        if !hooks.is_empty() {
            document.notices.extend(hooks.take_notices());
            let plan = decisions.document();
            let told = hooks.after_run(&plan, &document);
            if is_stopped {
                let _ = within_patience(told).await;
            } else {
                told.await;
            }
            document.notices.extend(hooks.take_notices());
        }
        Ok((document, error_type))
    }

    /// What the run did to the caches and no row tells of, such as waiting for a lease; none of a run that did no such thing.
    fn other_operations(&self, context: &RunContext) -> Option<LedgerEvent> {
        let (run_id, counts) = (context.run_id(), context.other_operations());
        if counts.is_empty() {
            return None;
        }
        let document = CacheOperations { run_id, counts };
        CacheArtifact::of(run_id, self.seam.unix_ms(), "run", document).ok().map(LedgerEvent::CacheArtifacts)
    }

    /// The decisions, over sources whose rows are what is declared of them.
    async fn decide(&self, options: &RunOptions, done: &Outcomes) -> Result<Decisions, RunError> {
        let decisions = Decisions::take(self, options, done).await?;
        match decisions.sources.check_constraints(self, &decisions.session).await {
            Ok(()) => Ok(decisions),
            Err(RunError::Constraints { source: ConstraintError::Changed { .. }, .. }) => {
                let anew = Decisions::take(self, options, done).await?;
                anew.sources.check_constraints(self, &anew.session).await?;
                Ok(anew)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives an outcome to what has none: it was not tried.
    fn skip_untried(
        &self,
        run_id: RunId,
        decisions: &Decisions,
        outcomes: &mut Outcomes,
        reason: &str,
    ) -> Vec<LedgerEvent> {
        let unix_ms = self.seam.unix_ms();
        let mut events = Vec::new();
        for (name, decision) in &decisions.views {
            if !outcomes.views.contains_key(name) {
                let outcome = ViewOutcome::untried(decision, reason.to_owned());
                events.push(outcome.event(run_id, unix_ms));
                outcomes.views.insert(name.clone(), outcome);
            }
        }
        for (name, output) in &decisions.outputs {
            if let Some(view) = decisions.views.get(&output.view).filter(|_| !outcomes.outputs.contains_key(name)) {
                let outcome = OutputOutcome::untried(output, OutputResult::Skipped, Some(reason.to_owned()));
                events.push(outcome.event(run_id, unix_ms, view));
                outcomes.outputs.insert(name.clone(), outcome);
            }
        }
        events
    }

    fn document(
        &self,
        run_id: RunId,
        decisions: &Decisions,
        outcomes: &mut Outcomes,
        ended: Ended,
        duration_ms: f64,
    ) -> RunDocument {
        let views = decisions.graph.order.iter().filter_map(|name| outcomes.views.remove(name));
        let views: Vec<_> = views.map(|outcome| outcome.report).collect();
        let outputs: Vec<_> = std::mem::take(&mut outcomes.outputs).into_values().map(|done| done.report).collect();
        RunDocument {
            run_id,
            result: match ended {
                Ended::Refused => RunResult::Failed,
                Ended::Interrupted | Ended::LeftBehind => result_of(&views, &outputs, true),
                Ended::Complete | Ended::SourcesChanged => result_of(&views, &outputs, false),
            },
            duration_ms,
            // Not `sum`, which gives -0.0 for no hits.
            saved_ms: views.iter().filter_map(|view| view.saved_ms).fold(0.0, |sum, ms| sum + ms),
            views,
            outputs,
            notices: self.take_notices(),
        }
    }

    /// Moves the outbox into the ledgers when the run wrote something, or when much has gathered.
    async fn drain_if_due(&self, mut document: RunDocument, is_stopped: bool) -> Result<RunDocument, RunError> {
        let wrote = document.views.iter().any(|view| view.result != ViewResult::Hit)
            || document.outputs.iter().any(|output| output.result != OutputResult::Hit);
        if wrote || self.ledgers.pending()? > OUTBOX_PATIENCE {
            // What cannot be drained now stays in the outbox; the run's own work is done and stands.
            let ledgers = self.ledgers.clone();
            let drained = if is_stopped {
                // Others wait for the lock of a drain, so it must not begin where it may not go on.
                aside(async move { ledgers.drain().await }).await.map_err(|error| chain(&error))
            } else {
                Ok(ledgers.drain().await)
            };
            match drained.and_then(|drained| drained.map_err(|error| chain(&error))) {
                Ok(report) => {
                    document.notices.extend(report.notices);
                    self.tell_maintenance(Some(document.run_id), report.maintenance);
                }
                Err(why) => document
                    .notices
                    .push(format!("the ledgers could not be written, their rows wait in the outbox: {why}")),
            }
        }
        Ok(document)
    }
}
