//! What a library user adds at the steps of a run: before and after the run, each view and each output.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_contracts::{OutputReport, PlanDocument, PlannedOutput, PlannedView, RunDocument, ViewReport};
use alluvium_telemetry::RunContext;
use async_trait::async_trait;

use crate::error::chain;
use crate::pipeline::Pipeline;

/// Why a hook refuses a step, or could not do what it does after one.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// Something that is done at the steps of a run. Each method does nothing by default; a pipeline is given hooks by
/// [`Pipeline::with_hook`].
///
/// What comes *before* a step may refuse it: `before_run` the run, which then computes nothing and ends as failed; `before_view` a
/// view, which is then an error, its descendants and outputs skipped like those of any other; `before_output` an output, whose last
/// good version stays the head. The class of such an error is `hook`, and its reason names the hook. What comes *after* a step cannot
/// undo it: its error is a notice of the run and changes nothing else. Of several hooks, those before a step are asked in the order
/// in which they were added, until one refuses; those after it are all told.
///
/// Each view and output of a run that is tried is announced, hits too: the decision says which. One that is skipped is not. When a
/// source changed while it was read, what is decided anew is announced anew. A run that is interrupted drops the hook that it
/// awaits, and calls `after_run` and no other. [`Pipeline::replay`] calls none, and a hook that panics leaves a killed run.
///
/// The methods are async because what is worth doing here waits for somebody: a catalog, a mail, a query. Other views go on
/// meanwhile, unless the thread is blocked. No lease, lock or transaction is held across a call; what is held is what keeps the run
/// alive and the entries that it found from deletion. Before `before_run` the run is on record; before every `after_…`, so is the outcome.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use alluvium_contracts::{OutputReport, OutputResult};
/// use alluvium_runs::{Hook, HookError, OpenOptions, OutputStep, Pipeline, Project, RunOptions, Silent, scaffold};
///
/// /// Publishes nothing that is empty, and keeps the versions that were published.
/// #[derive(Default)]
/// struct Publications(Mutex<Vec<(String, u64)>>);
///
/// #[async_trait::async_trait]
/// impl Hook for Publications {
///     fn name(&self) -> &str {
///         "publications"
///     }
///
///     async fn before_output(&self, output: &OutputStep<'_>) -> Result<(), HookError> {
///         match output.view.and_then(|view| view.rows) {
///             Some(0) => Err(format!("`{}` would be empty", output.decision.name).into()),
///             _ => Ok(()),
///         }
///     }
///
///     async fn after_output(&self, _: &OutputStep<'_>, report: &OutputReport) -> Result<(), HookError> {
///         if report.result == OutputResult::Write
///             && let Some(version) = report.delta_version
///         {
///             self.0.lock().map_err(|_| "poisoned")?.push((report.name.clone(), version));
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// scaffold(dir.path())?;
/// let publications = Arc::new(Publications::default());
/// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?
///     .with_hook(Arc::clone(&publications) as Arc<dyn Hook>);
/// let (_stop, cancel) = tokio::sync::watch::channel(false);
/// let document = pipeline.run(RunOptions::default(), &Silent, cancel).await?;
/// assert_eq!(publications.0.lock().map_err(|_| "poisoned")?.len(), document.outputs.len());
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Hook: Send + Sync {
    /// What reasons and notices call it.
    fn name(&self) -> &str;

    /// Everything is decided and nothing computed.
    ///
    /// # Errors
    /// Refuses the run.
    async fn before_run(&self, _run: &RunStep<'_>) -> Result<(), HookError> {
        Ok(())
    }

    /// The run has ended, one way or another, and is in the ledgers or their outbox.
    ///
    /// # Errors
    /// Told among the run's notices.
    async fn after_run(&self, _run: &RunStep<'_>, _document: &RunDocument) -> Result<(), HookError> {
        Ok(())
    }

    /// What a view reads is there, and it is about to be served or computed.
    ///
    /// # Errors
    /// Refuses the view.
    async fn before_view(&self, _view: &ViewStep<'_>) -> Result<(), HookError> {
        Ok(())
    }

    /// A view was served, computed, or failed. Its outputs come after this.
    ///
    /// # Errors
    /// Told among the run's notices.
    async fn after_view(&self, _view: &ViewStep<'_>, _report: &ViewReport) -> Result<(), HookError> {
        Ok(())
    }

    /// The rows of an output are there, or, where it is its view's cache, about to be computed.
    ///
    /// # Errors
    /// Refuses the output, and its view too if it is the view's cache.
    async fn before_output(&self, _output: &OutputStep<'_>) -> Result<(), HookError> {
        Ok(())
    }

    /// An output was published, found up to date, or failed. The report has its version.
    ///
    /// # Errors
    /// Told among the run's notices.
    async fn after_output(&self, _output: &OutputStep<'_>, _report: &OutputReport) -> Result<(), HookError> {
        Ok(())
    }
}

/// A run, for its hooks.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RunStep<'a> {
    /// Which, and its place in a trace.
    pub context: &'a RunContext,
    /// What was decided, and why.
    pub plan: &'a PlanDocument,
}

/// A view of a run, for its hooks.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ViewStep<'a> {
    /// The run.
    pub context: &'a RunContext,
    /// What was decided of the view, and why: its identity, and a hit or not.
    pub decision: &'a PlannedView,
}

/// An output of a run, for its hooks.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct OutputStep<'a> {
    /// The run.
    pub context: &'a RunContext,
    /// What was decided of the output, and why.
    pub decision: &'a PlannedOutput,
    /// The directory of its table.
    pub path: &'a Path,
    /// What became of its view; none where the output is its view's cache and not tried yet.
    pub view: Option<&'a ViewReport>,
}

impl Pipeline {
    /// Adds a hook to every run of this pipeline, behind those that it has.
    #[must_use]
    pub fn with_hook(mut self, hook: Arc<dyn Hook>) -> Self {
        self.hooks.0.push(hook);
        self
    }
}

/// The hooks of a pipeline.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Vec<Arc<dyn Hook>>);

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|hook| hook.name())).finish()
    }
}

/// The hooks of one run, and what they had to say.
pub(crate) struct RunHooks<'p> {
    hooks: &'p [Arc<dyn Hook>],
    pub(crate) context: RunContext,
    notices: Mutex<Vec<String>>,
}

/// A step was refused; who did it, and why.
#[derive(Debug)]
pub(crate) struct Refusal(String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The class of such an error.
pub(crate) const HOOK: &str = "hook";

/// Asks each hook for one method, until one refuses.
macro_rules! ask {
    ($self:ident.$method:ident($step:expr)) => {{
        for hook in $self.hooks {
            hook.$method($step)
                .await
                .map_err(|error| Refusal(format!("the hook `{}` refused it: {}", hook.name(), chain(&*error))))?;
        }
        Ok(())
    }};
}

/// Tells each hook what has happened.
macro_rules! tell {
    ($self:ident.$method:ident($step:expr, $report:expr), $what:expr) => {
        for hook in $self.hooks {
            if let Err(error) = hook.$method($step, $report).await {
                $self.notice(format!("the hook `{}` failed after {}: {}", hook.name(), $what, chain(&*error)));
            }
        }
    };
}

impl<'p> RunHooks<'p> {
    pub(crate) fn new(hooks: &'p Hooks, context: RunContext) -> Self {
        Self { hooks: &hooks.0, context, notices: Mutex::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    pub(crate) async fn before_run(&self, plan: &PlanDocument) -> Result<(), Refusal> {
        let step = RunStep { context: &self.context, plan };
        ask!(self.before_run(&step))
    }

    pub(crate) async fn after_run(&self, plan: &PlanDocument, document: &RunDocument) {
        let step = RunStep { context: &self.context, plan };
        tell!(self.after_run(&step, document), "the run");
    }

    pub(crate) async fn before_view(&self, decision: &PlannedView) -> Result<(), Refusal> {
        let step = ViewStep { context: &self.context, decision };
        ask!(self.before_view(&step))
    }

    pub(crate) async fn after_view(&self, decision: &PlannedView, report: &ViewReport) {
        let step = ViewStep { context: &self.context, decision };
        tell!(self.after_view(&step, report), format_args!("view `{}`", report.name));
    }

    pub(crate) async fn before_output(
        &self,
        decision: &PlannedOutput,
        path: &Path,
        view: Option<&ViewReport>,
    ) -> Result<(), Refusal> {
        let step = OutputStep { context: &self.context, decision, path, view };
        ask!(self.before_output(&step))
    }

    pub(crate) async fn after_output(
        &self,
        decision: &PlannedOutput,
        path: &Path,
        view: &ViewReport,
        report: &OutputReport,
    ) {
        let step = OutputStep { context: &self.context, decision, path, view: Some(view) };
        tell!(self.after_output(&step, report), format_args!("output `{}`", report.name));
    }

    /// What the hooks had to say since the last call.
    pub(crate) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn notice(&self, notice: String) {
        tracing::warn!(target: "alluvium.notice", notice);
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }
}
