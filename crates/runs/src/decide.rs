//! Every decision of a run, taken from identities before anything is computed.
//!
//! A key depends on pins, plans and upstream keys, never on rows; so hits and misses of the whole pipeline are known
//! first, and with them which uncached views are needed at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use alluvium_contracts::{
    CacheOutcome, CachePolicy, ContentDigest, LineageSummary, MissExplanation, OutputResult, PlanDocument,
    PlannedOutput, PlannedView, RunId, Stability, ViewResult,
};
use alluvium_datasets::{ChangedError, PinnedDataset};
use alluvium_delta_cache::{Entry, InMemory, Lookup, OutputState, OutputTarget, Published, Reading};
use alluvium_plans::{Input, PlanBundle, SessionPlans, ViewRef, one_line, plan_view};
use alluvium_profile::{Session, real_path};
use alluvium_telemetry::{end_span, plan_span, set_plan_hash};
use tracing::Instrument as _;

use crate::error::RunError;
use crate::execute::Outcomes;
use crate::graph::Graph;
use crate::pipeline::Pipeline;
use crate::run::RunOptions;
use crate::sources::Sources;
use crate::unstable::Reads;

/// The decisions of one pass over the selected views, and the session that they were planned in.
pub(crate) struct Decisions {
    pub(crate) session: Session,
    pub(crate) graph: Graph,
    pub(crate) views: BTreeMap<String, ViewDecision>,
    pub(crate) outputs: BTreeMap<String, OutputDecision>,
    /// Keeps every entry that was found from deletion.
    pub(crate) reading: Arc<Reading>,
    pub(crate) sources: Sources,
}

pub(crate) struct ViewDecision {
    pub(crate) bundle: PlanBundle,
    pub(crate) policy: CachePolicy,
    pub(crate) reference: Arc<ViewRef>,
    pub(crate) state: State,
    /// To be computed whatever the caches hold.
    pub(crate) fresh: bool,
    /// A hit that is computed all the same, to be compared.
    pub(crate) shadow: bool,
    pub(crate) tags: Vec<String>,
    /// What it reads of unstable views.
    pub(crate) reads: Reads,
    /// What its readers read of unstable views: its own rows if it is one that is kept, and else what it reads.
    pub(crate) passes_on: Reads,
    /// Which rows are bound, of one that is kept.
    pub(crate) rows: OnceLock<String>,
    /// The sources that its computation reads in this run: its own, and those of upstream views without an entry.
    live: BTreeSet<String>,
}

/// What is to be done about a view.
pub(crate) enum State {
    /// A checked entry, by this lookup.
    Hit(Arc<Entry>, CacheOutcome),
    /// The published output holds its rows.
    HitOutput(Box<Published>),
    /// Earlier work of this process holds its rows, by this lookup.
    HitMemory(InMemory, CacheOutcome),
    /// To be computed.
    Compute {
        /// One line that says why.
        reason: String,
        explanation: Option<MissExplanation>,
    },
    /// Uncached, and nothing reads it in this run.
    Idle,
}

pub(crate) struct OutputDecision {
    pub(crate) target: OutputTarget,
    pub(crate) view: String,
    pub(crate) state: OutputState,
    /// To be published whatever its table holds.
    pub(crate) fresh: bool,
}

/// What is to be done anew whatever the caches hold.
struct Anew<'a> {
    options: &'a RunOptions,
    done: &'a Outcomes,
}

impl Anew<'_> {
    /// Nothing: a query takes what is there.
    const NOTHING: Anew<'static> = Anew {
        options: &RunOptions { select: Vec::new(), fresh: false, keep_going: false, shadow_percent: 0, parent: None },
        done: &Outcomes {
            views: BTreeMap::new(),
            outputs: BTreeMap::new(),
            sources: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            superseded: Vec::new(),
        },
    };

    /// Asked for, and not done by an earlier attempt of the run.
    fn view(&self, view: &str) -> bool {
        self.asks_for(view)
            && !self
                .done
                .views
                .get(view)
                .is_some_and(|done| matches!(done.report.result, ViewResult::Write | ViewResult::Computed))
    }

    fn output(&self, view: &str, output: &str) -> bool {
        let done = self.done.outputs.get(output).map(|done| done.report.result);
        self.asks_for(view) && done != Some(OutputResult::Write)
    }

    fn asks_for(&self, view: &str) -> bool {
        let select = &self.options.select;
        self.options.fresh && (select.is_empty() || select.iter().any(|selected| selected == view))
    }
}

const FRESH: &str = "asked for with --fresh";

impl Decisions {
    /// Pins the sources, plans the selected views and looks every key up. `done` is what an earlier attempt of the same
    /// run has done: it is not done anew.
    pub(crate) async fn take(pipeline: &Pipeline, options: &RunOptions, done: &Outcomes) -> Result<Self, RunError> {
        let session = pipeline.sessions.build()?;
        let graph = Graph::of(&pipeline.project, &session, &options.select)?;
        Self::over(pipeline, session, graph, &BTreeSet::new(), &Anew { options, done }).await
    }

    /// The decisions for what a query names: these views with their ancestors, and these sources.
    pub(crate) async fn take_named(
        pipeline: &Pipeline,
        views: &BTreeSet<String>,
        sources: &BTreeSet<String>,
    ) -> Result<Self, RunError> {
        let session = pipeline.sessions.build()?;
        let views: Vec<String> = views.iter().cloned().collect();
        let graph = match views.as_slice() {
            [] => Graph::default(),
            views => Graph::of(&pipeline.project, &session, views)?,
        };
        Self::over(pipeline, session, graph, sources, &Anew::NOTHING).await
    }

    async fn over(
        pipeline: &Pipeline,
        session: Session,
        graph: Graph,
        sources: &BTreeSet<String>,
        anew: &Anew<'_>,
    ) -> Result<Self, RunError> {
        let mentioned: BTreeSet<&String> = graph.mentions.values().flatten().chain(sources).collect();
        let sources = Sources::pin(pipeline, &session, &mentioned).await?;
        let reading = Arc::new(pipeline.cache.begin_reading()?);
        let plans = pipeline.plans.as_ref().map(|store| store.in_session(&session));
        let mut decisions = Self { session, graph, views: BTreeMap::new(), outputs: BTreeMap::new(), reading, sources };
        let mut inputs: BTreeMap<String, Input> =
            decisions.sources.pins.iter().map(|(name, pin)| (name.clone(), Input::Dataset(pin.clone()))).collect();
        for view in decisions.graph.order.clone() {
            let decision = decisions.decide(pipeline, plans.as_ref(), &view, &inputs, anew).await?;
            let identity = decision.bundle.identity();
            inputs.insert(view.clone(), Input::View { key: identity.cache_key, stability: identity.stability });
            decisions.views.insert(view, decision);
        }
        decisions.rest_idle();
        Ok(decisions)
    }

    /// Chooses the share of hits that are computed all the same. Which ones follows from the run and the view's name.
    pub(crate) fn with_shadows(mut self, run_id: RunId, percent: u8) -> Self {
        for (name, decision) in &mut self.views {
            let lot = ContentDigest::of(format!("{run_id} {name}").as_bytes());
            let lot = lot.as_bytes().iter().fold(0_u64, |lot, byte| (lot << 8) | u64::from(*byte)) % 100;
            decision.shadow = matches!(decision.state, State::Hit(..)) && lot < u64::from(percent);
        }
        self
    }

    /// Whether any source that a computation of `view` reads has changed since it was pinned.
    pub(crate) fn recheck(&self, view: &str) -> Result<(), ChangedError> {
        // The rows of a kept source were stated again when they were kept, and stand for its pin whatever becomes of its files.
        let read = self.live_sources_of(view).filter(|source| !self.sources.is_filled(source));
        read.filter_map(|source| self.sources.pins.get(source)).try_for_each(PinnedDataset::recheck)
    }

    /// The sources that a computation of `view` reads in this run.
    pub(crate) fn live_sources_of(&self, view: &str) -> impl Iterator<Item = &String> {
        self.views.get(view).map(|decision| &decision.live).into_iter().flatten()
    }

    /// Which file is to blame when a computation of `view` failed, if one is: it reads them all.
    pub(crate) async fn unreadable(&self, view: &str) -> Option<String> {
        for source in &self.views.get(view)?.live {
            let Some(pin) = self.sources.pins.get(source) else {
                continue;
            };
            if let Some((path, error)) = pin.first_unreadable(self.session.context()).await {
                return Some(format!(
                    "{} of source `{source}` cannot be read to its end: {error}. Check that the file is whole; in csv and json, a \
                     value may be of another type than those of the first records (`schema_infer_max_rec` says how many are \
                     looked at)",
                    path.display()
                ));
            }
        }
        None
    }

    /// The sources, as they were pinned.
    pub(crate) fn pins(&self) -> impl Iterator<Item = &PinnedDataset> {
        self.sources.pins.values()
    }

    /// The outputs of a view.
    pub(crate) fn outputs_of<'a>(&'a self, view: &'a str) -> impl Iterator<Item = (&'a String, &'a OutputDecision)> {
        self.outputs.iter().filter(move |(_, output)| output.view == view)
    }

    /// What each selected view that reads `view` does with it.
    pub(crate) fn lineage_of_readers(&self, view: &str) -> Vec<LineageSummary> {
        let readers = self.graph.readers().remove(view).unwrap_or_default();
        readers.into_iter().filter_map(|reader| Some(self.views.get(reader)?.bundle.lineage())).collect()
    }

    /// The columns that the readers of an output need statistics of, and that its table has none of.
    pub(crate) async fn pending_statistics(&self, pipeline: &Pipeline, output: &str) -> Result<Vec<String>, RunError> {
        let found = self.outputs.get(output).and_then(|output| Some((output, self.views.get(&output.view)?)));
        let Some((output, view)) = found else { return Ok(Vec::new()) };
        let readers = self.lineage_of_readers(&output.view);
        if readers.is_empty() {
            return Ok(Vec::new());
        }
        let pending = pipeline.cache.pending_statistics(&output.target, &view.bundle, &readers).await;
        pending.map_err(|error| RunError::output(&pipeline.project, error))
    }

    /// The contract document of `plan`.
    pub(crate) fn document(&self) -> PlanDocument {
        PlanDocument {
            views: self.graph.order.iter().filter_map(|name| self.planned_view(name)).collect(),
            outputs: self.outputs.keys().filter_map(|name| self.planned_output(name)).collect(),
        }
    }

    /// What is to be done about a view, and why.
    pub(crate) fn planned_view(&self, name: &str) -> Option<PlannedView> {
        let decision = self.views.get(name)?;
        let (result, saved_ms, reason, explanation) = match &decision.state {
            State::Hit(entry, _) => (ViewResult::Hit, Some(entry.compute_ms), None, None),
            State::HitOutput(published) => (ViewResult::Hit, published.compute_ms, None, None),
            State::HitMemory(..) => (ViewResult::Hit, None, None, None),
            State::Idle => (ViewResult::Computed, None, Some(IDLE.to_owned()), None),
            State::Compute { reason, explanation } => {
                let result = if decision.is_kept() { ViewResult::Write } else { ViewResult::Computed };
                (result, None, Some(reason.clone()), explanation.clone())
            }
        };
        Some(PlannedView {
            name: name.to_owned(),
            result,
            cache_policy: decision.policy,
            reads: decision.bundle.reads().to_vec(),
            identity: decision.bundle.identity().clone(),
            saved_ms,
            reason,
            explanation,
        })
    }

    /// What is to be done about an output, and why.
    pub(crate) fn planned_output(&self, name: &str) -> Option<PlannedOutput> {
        let output = self.outputs.get(name)?;
        let (result, reason) = match &output.state {
            OutputState::Hit(_) => (OutputResult::Hit, None),
            OutputState::Stale { reason, .. } => (OutputResult::Write, Some(reason.clone())),
            OutputState::Foreign { version } => (
                OutputResult::Error,
                Some(format!("version {version} was committed by somebody else and foreign_commit = \"error\"")),
            ),
        };
        Some(PlannedOutput { name: name.to_owned(), view: output.view.clone(), result, reason })
    }

    async fn decide(
        &mut self,
        pipeline: &Pipeline,
        plans: Option<&SessionPlans<'_>>,
        view: &str,
        inputs: &BTreeMap<String, Input>,
        anew: &Anew<'_>,
    ) -> Result<ViewDecision, RunError> {
        let project = &pipeline.project;
        let sql = project.queries().get(view).map_or("", |query| query.sql.as_str());
        let planning = plan_span(view);
        let planned = async {
            match plans {
                Some(plans) => plans.plan_view(view, sql, inputs).await,
                None => plan_view(&self.session, view, sql, inputs).await,
            }
        };
        let bundle = match planned.instrument(planning.clone()).await {
            Ok(bundle) => {
                set_plan_hash(&planning, &bundle.identity().plan_fingerprint);
                end_span(&planning, "ok", None);
                bundle
            }
            Err(source) => {
                let error = RunError::plan(project, view, source);
                end_span(&planning, "error", Some(error.kind()));
                return Err(error);
            }
        };
        drop(planning);
        let spec = project.spec().views.get(view);
        let policy = spec.map(|spec| spec.cache).unwrap_or_default();
        let tags = spec.map(|spec| spec.tags.clone()).unwrap_or_default();
        let reference = Arc::new(ViewRef::new(view, Arc::clone(bundle.published().arrow())));
        register(&self.session, view, Arc::clone(&reference) as Arc<dyn datafusion::catalog::TableProvider>)
            .map_err(RunError::execute)?;
        let reads = self.reads_of(&bundle);
        let has_entry = has_entry(&bundle, policy);
        for (name, spec) in project.outputs_of(view) {
            let target = OutputTarget {
                name: name.clone(),
                path: real_path(&project.dir().join(&spec.path)).map_err(RunError::directory)?,
                declared_path: spec.path.clone(),
                policy: spec.write.clone(),
                foreign_commit: spec.foreign_commit,
                is_entry: policy == CachePolicy::DeltaOutput && bundle.cache_key().is_some(),
            };
            pipeline.tell_semantics(name, &spec.write, &bundle);
            let state = pipeline
                .cache
                .output_state(&target, &bundle)
                .await
                .map_err(|error| RunError::output(project, error))?;
            let mut output = OutputDecision { target, view: view.to_owned(), state, fresh: false };
            if anew.output(view, name) {
                output.renew(FRESH);
            }
            if !has_entry {
                output.renew_unless(&reads);
            }
            self.outputs.insert(name.clone(), output);
        }
        let fresh = anew.view(view);
        let mut state = self.state(pipeline, &bundle, policy, &reads, fresh)?;
        if let State::Hit(entry, _) = &state
            && let Some(other) = reads.other_than(&entry.unstable_rows)
        {
            state = State::Compute { reason: other.of_reader(), explanation: None };
        }
        let passes_on = passed_on(&state, &bundle, policy, &reads);
        if has_entry {
            // What was published of an unstable view before it was computed again holds other rows under the same key.
            for output in self.outputs.values_mut().filter(|output| output.view == view) {
                output.renew_unless(&passes_on);
            }
        }
        let live = self.live_sources(&bundle);
        let rows = OnceLock::new();
        let shadow = false;
        Ok(ViewDecision { bundle, policy, reference, state, fresh, shadow, tags, reads, passes_on, rows, live })
    }

    fn state(
        &self,
        pipeline: &Pipeline,
        bundle: &PlanBundle,
        policy: CachePolicy,
        reads: &Reads,
        fresh: bool,
    ) -> Result<State, RunError> {
        let compute = |reason: &str, explanation| State::Compute { reason: reason.to_owned(), explanation };
        if bundle.cache_key().is_none() {
            return Ok(compute(&format!("uncacheable: {}", bundle.identity().reasons.join("; ")), None));
        }
        Ok(match policy {
            CachePolicy::None => compute("uncached: cache = \"none\"", None),
            CachePolicy::Memory => {
                let found = reads.rows().and_then(|rows| pipeline.cache.lookup_memory(bundle, &rows));
                match found {
                    Some((kept, outcome)) if !fresh => State::HitMemory(kept, outcome),
                    Some(_) | None => compute("kept in memory: cache = \"memory\"", None),
                }
            }
            CachePolicy::DeltaStaging => match pipeline.cache.lookup(&self.reading, bundle)? {
                Lookup::Hit(entry, outcome) if !fresh => State::Hit(entry, outcome),
                Lookup::Hit(..) => compute(FRESH, None),
                Lookup::Miss(explanation) => compute(&one_line(&explanation), Some(explanation)),
            },
            CachePolicy::DeltaOutput => match self.outputs_of(bundle.name()).next() {
                Some((_, OutputDecision { state: OutputState::Hit(published), .. })) => {
                    State::HitOutput(published.clone())
                }
                Some((_, OutputDecision { state: OutputState::Stale { reason, explanation, .. }, .. })) => {
                    match explanation.as_deref() {
                        Some(explanation) => compute(&one_line(explanation), Some(explanation.clone())),
                        None => compute(reason, None),
                    }
                }
                Some((_, OutputDecision { state: OutputState::Foreign { .. }, .. })) => {
                    compute("the head of its output is somebody else's commit", None)
                }
                // Declared with exactly one output, which the project's loading has checked.
                None => compute("its output is not declared", None),
            },
        })
    }

    /// What a view reads of unstable views.
    fn reads_of(&self, bundle: &PlanBundle) -> Reads {
        let mut reads = Reads::default();
        for upstream in bundle.reads().iter().filter_map(|name| self.views.get(name)) {
            reads.extend(&upstream.passes_on);
        }
        reads
    }

    fn live_sources(&self, bundle: &PlanBundle) -> BTreeSet<String> {
        let mut live = BTreeSet::new();
        for name in bundle.reads() {
            match self.views.get(name) {
                Some(upstream) if upstream.is_kept() => {}
                Some(upstream) => live.extend(upstream.live.iter().cloned()),
                None => {
                    live.insert(name.clone());
                }
            }
        }
        live
    }

    fn is_wanted(&self, view: &str, readers: Option<&BTreeSet<String>>) -> bool {
        let mut outputs = self.outputs_of(view).peekable();
        let is_end = readers.is_none() && outputs.peek().is_none();
        let is_published = outputs.any(|(_, output)| !matches!(output.state, OutputState::Hit(_)));
        let is_read = readers
            .into_iter()
            .flatten()
            .any(|reader| self.views.get(reader).is_some_and(|reader| matches!(reader.state, State::Compute { .. })));
        is_end || is_published || is_read
    }

    /// An uncached view is computed only for a reader that is computed, for an output that is written, or because it is
    /// the end of its line.
    fn rest_idle(&mut self) {
        let readers: BTreeMap<String, BTreeSet<String>> = self
            .graph
            .readers()
            .into_iter()
            .map(|(view, readers)| (view.to_owned(), readers.into_iter().map(str::to_owned).collect()))
            .collect();
        for view in self.graph.order.clone().into_iter().rev() {
            let Some(decision) = self.views.get(&view) else {
                continue;
            };
            let idles = matches!(decision.state, State::Compute { .. })
                && decision.bundle.cache_key().is_some()
                && matches!(decision.policy, CachePolicy::None | CachePolicy::Memory);
            if !idles {
                continue;
            }
            if !self.is_wanted(&view, readers.get(&view))
                && let Some(decision) = self.views.get_mut(&view)
            {
                decision.state = State::Idle;
            }
        }
    }
}

/// Why an idle view was not computed.
pub(crate) const IDLE: &str = "not needed: everything that reads it is up to date";

impl OutputDecision {
    /// Publishes what is up to date all the same.
    fn renew(&mut self, reason: &str) {
        if let OutputState::Hit(published) = &self.state {
            self.fresh = true;
            let head = Some(published.version);
            self.state = OutputState::Stale { reason: reason.to_owned(), head, explanation: None };
        }
    }

    /// Publishes it anew unless what its table holds are these rows, or was computed from them.
    fn renew_unless(&mut self, rows: &Reads) {
        let OutputState::Hit(published) = &self.state else { return };
        let mut held = published.unstable_rows.clone();
        // Published while its view had an entry, it holds rows of the view, and which they are matters to nobody by now.
        if !rows.is_of(&self.view) {
            held.remove(&self.view);
        }
        if let Some(other) = rows.other_than(&held) {
            let (reason, head) = (other.of_output(&self.view), Some(published.version));
            self.state = OutputState::Stale { reason, head, explanation: None };
        }
    }
}

/// What the readers of a view read of unstable views by reading it.
fn passed_on(state: &State, bundle: &PlanBundle, policy: CachePolicy, reads: &Reads) -> Reads {
    let rows = match state {
        _ if bundle.identity().stability == Stability::Exact => return Reads::default(),
        State::Hit(entry, _) => Some(entry.rows_id()),
        State::HitOutput(published) => Some(published.rows_id()),
        State::Compute { .. } if is_kept(bundle, policy) => None,
        // Rows that are in no table are those that they were computed from.
        State::HitMemory(..) | State::Compute { .. } | State::Idle => return reads.clone(),
    };
    Reads::of(bundle.name(), rows)
}

fn has_entry(bundle: &PlanBundle, policy: CachePolicy) -> bool {
    policy == CachePolicy::DeltaStaging && is_kept(bundle, policy)
}

fn is_kept(bundle: &PlanBundle, policy: CachePolicy) -> bool {
    bundle.cache_key().is_some() && matches!(policy, CachePolicy::DeltaStaging | CachePolicy::DeltaOutput)
}

impl ViewDecision {
    /// Why its key was not found, where it was looked up and is computed.
    pub(crate) fn explanation(&self) -> Option<&MissExplanation> {
        match &self.state {
            State::Compute { explanation, .. } => explanation.as_ref(),
            State::Hit(..) | State::HitOutput(_) | State::HitMemory(..) | State::Idle => None,
        }
    }

    /// Binds the rows of one that is kept, and says which they are.
    pub(crate) fn bind(&self, provider: Arc<dyn datafusion::catalog::TableProvider>, rows: String) {
        self.reference.bind(provider);
        // Bound once a pass; a second time it is the same.
        let _ = self.rows.set(rows);
    }

    /// Whether its rows are kept in an entry.
    pub(crate) fn has_entry(&self) -> bool {
        has_entry(&self.bundle, self.policy)
    }

    /// Whether publishing its one output is how it is kept.
    pub(crate) fn is_its_output(&self) -> bool {
        self.policy == CachePolicy::DeltaOutput && self.is_kept()
    }

    /// Whether its rows are kept in a table of their own, so that its readers do not read its sources.
    pub(crate) fn is_kept(&self) -> bool {
        is_kept(&self.bundle, self.policy)
    }
}

/// Registers a table under exactly this name: a bare string would be parsed as SQL and lose its capitals.
#[expect(clippy::disallowed_methods, reason = "the one place where a pipeline's tables enter a session")]
pub(crate) fn register(
    session: &Session,
    name: &str,
    provider: Arc<dyn datafusion::catalog::TableProvider>,
) -> datafusion::common::Result<()> {
    session.context().register_table(datafusion::common::TableReference::bare(name), provider).map(drop)
}
