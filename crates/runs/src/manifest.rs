//! What a run leaves for whoever asks later: its manifest, and the documents that the manifest and the commits name.

use std::collections::BTreeMap;
use std::path::Path;

use alluvium_contracts::{
    ArtifactId, CacheArtifact, CacheCommitMetadata, CachePolicy, CacheScope, CanonicalError, LedgerEvent, OutputResult,
    PlanSignature, RunCommit, RunId, RunManifest, RunOutput, RunResult, RunView, SourcePath, ViewResult,
};
use alluvium_plans::{PlanBundle, engine_versions};
use alluvium_telemetry::{Redactor, RunContext};
use serde::Serialize;
use serde_json::Value;

use crate::decide::{Decisions, OutputDecision, State, ViewDecision};
use crate::execute::Outcomes;
use crate::pipeline::Pipeline;
use crate::report::{OutputOutcome, ViewOutcome};
use crate::sources;

impl Pipeline {
    /// The manifest of a run with these decisions that has done nothing yet: that of a run that was killed at once.
    pub(crate) fn manifest(&self, run_id: RunId, started_unix_ms: i64, decisions: &Decisions) -> RunManifest {
        let spec = self.project.spec();
        let planned = || decisions.graph.order.iter().filter_map(|name| decisions.views.get(name));
        let plan_fingerprints: BTreeMap<_, _> =
            planned().map(|view| (view.bundle.name().to_owned(), view.bundle.identity().plan_fingerprint)).collect();
        let signed: String = plan_fingerprints.iter().map(|(view, print)| format!("{view} {print}\n")).collect();
        let delta_inputs = decisions.pins().map(|pin| {
            let mut artifact = pin.artifact();
            artifact.path = spec.sources.get(&artifact.name).map(|source| written(&source.path));
            artifact
        });
        let sources = decisions.pins().filter_map(|pin| Some((pin.name(), spec.sources.get(pin.name())?)));
        let views = planned().filter_map(|view| Some((view.bundle.name(), spec.views.get(view.bundle.name())?)));
        let outputs = decisions.outputs.keys().filter_map(|name| Some((name, spec.outputs.get(name)?)));
        let resolved_specs = sources
            .map(|(name, source)| (format!("source {name}"), kept(source)))
            .chain(views.map(|(name, view)| (format!("view {name}"), kept(view))))
            .chain(outputs.map(|(name, output)| (format!("output {name}"), kept(output))));
        let queries = self.project.queries();
        RunManifest {
            run_id,
            started_unix_ms,
            finished_unix_ms: started_unix_ms,
            result: RunResult::Killed,
            traceparent: RunContext::current().map(|context| context.traceparent()),
            plan_signature: Some(PlanSignature::of(signed.as_bytes())),
            plan_fingerprints,
            delta_inputs: delta_inputs.collect(),
            views: Vec::new(),
            outputs: Vec::new(),
            commits: Vec::new(),
            artifact_ids: None,
            resolved_sql: planned()
                .filter_map(|view| Some((view.bundle.name().to_owned(), queries.get(view.bundle.name())?.sql.clone())))
                .collect(),
            resolved_specs: resolved_specs.collect(),
            semantic_settings: decisions.session.semantic_settings(),
            profile_hash: Some(self.sessions.profile().profile_hash()),
            engine_versions: engine_versions(),
        }
    }
}

impl Pipeline {
    /// Fills in what the run did.
    pub(crate) fn ended(&self, begun: RunManifest, decisions: &Decisions, outcomes: &Outcomes) -> RunManifest {
        let mut manifest =
            RunManifest { artifact_ids: Some(outcomes.artifacts.clone()).filter(|ids| !ids.is_empty()), ..begun };
        for name in &decisions.graph.order {
            let (Some(decision), Some(outcome)) = (decisions.views.get(name), outcomes.views.get(name)) else {
                continue;
            };
            if outcome.report.result == ViewResult::Write
                && decision.policy == CachePolicy::DeltaStaging
                && let Some(path) = &outcome.cache_path
            {
                let table = self.root.path().join(path);
                manifest.commits.extend(commit(CacheScope::View, name, path, &table, outcome.delta_version));
            }
            manifest.views.push(run_view(decision, outcome));
        }
        for (name, path, version) in sources::written(outcomes) {
            let table = self.root.path().join(path);
            manifest.commits.extend(commit(CacheScope::Dataset, name, path, &table, version));
        }
        for (name, outcome) in &outcomes.outputs {
            let Some(decision) = decisions.outputs.get(name) else {
                continue;
            };
            let output = self.run_output(name, outcome, decision, decisions);
            if output.result == OutputResult::Write {
                let table = &decision.target.path;
                manifest.commits.extend(commit(CacheScope::Output, name, &output.path, table, output.delta_version));
            }
            manifest.outputs.push(output);
        }
        manifest
    }

    fn run_output(
        &self,
        name: &str,
        outcome: &OutputOutcome,
        decision: &OutputDecision,
        decisions: &Decisions,
    ) -> RunOutput {
        let report = &outcome.report;
        let table = &decision.target.path;
        let commit = report.delta_version.and_then(|version| metadata(table, version));
        let bundle = decisions.views.get(&report.view).map(|view| &view.bundle);
        RunOutput {
            name: name.to_owned(),
            view: report.view.clone(),
            path: report.path.clone(),
            result: report.result,
            table_id: alluvium_write_policy::table_id(table).ok().flatten(),
            delta_version: report.delta_version,
            written_by: commit.as_ref().map(|commit| commit.run_id),
            row_count: report.rows,
            content_hash: commit.and_then(|commit| commit.content_hash),
            schema_hash: bundle.map(|bundle| bundle.published().hash()),
            plan_fingerprint: bundle.map(|bundle| bundle.identity().plan_fingerprint),
            cache_key: bundle.and_then(PlanBundle::cache_key),
        }
    }
}

fn run_view(decision: &ViewDecision, outcome: &ViewOutcome) -> RunView {
    let report = &outcome.report;
    let identity = decision.bundle.identity();
    let mut reasons = identity.reasons.clone();
    if report.result == ViewResult::Error {
        reasons.extend(report.reason.clone());
    }
    RunView {
        name: report.name.clone(),
        result: report.result,
        cache_policy: report.cache_policy,
        cache_key: report.cache_key,
        cache_path: outcome.cache_path.clone(),
        row_count: report.rows,
        content_hash: None,
        schema_hash: Some(outcome.schema_hash),
        stability: Some(identity.stability),
        reasons,
    }
}

/// A commit of this run, if its table still says what it is called.
fn commit(scope: CacheScope, name: &str, path: &str, table: &Path, version: Option<u64>) -> Option<RunCommit> {
    Some(RunCommit {
        cache_scope: scope,
        name: name.to_owned(),
        path: path.to_owned(),
        table_id: alluvium_write_policy::table_id(table).ok()??,
        delta_version: version?,
    })
}

/// What a version says of itself, where it is one of ours.
fn metadata(table: &Path, version: u64) -> Option<CacheCommitMetadata> {
    let info = alluvium_write_policy::commit_info(table, version).ok()?;
    CacheCommitMetadata::from_commit_info(&info).ok()?
}

/// The documents about a view that was not served from the cache.
pub(crate) fn view_documents(
    view: &ViewDecision,
    run_id: RunId,
    unix_ms: i64,
    ids: &mut BTreeMap<String, ArtifactId>,
) -> Vec<LedgerEvent> {
    let State::Compute { explanation, .. } = &view.state else {
        return Vec::new();
    };
    let name = view.bundle.name();
    let explanation = explanation.clone().map(|explanation| CacheArtifact::of(run_id, unix_ms, name, explanation));
    [Some(plan_bundle(view, run_id, unix_ms)), explanation]
        .into_iter()
        .flatten()
        .filter_map(|artifact| event(artifact, ids))
        .collect()
}

/// The documents about an output that was written. Its commit names the plan bundle of its view, and that view may have been
/// served from an entry of another time.
pub(crate) fn output_documents(
    view: &ViewDecision,
    run_id: RunId,
    unix_ms: i64,
    ids: &mut BTreeMap<String, ArtifactId>,
) -> Vec<LedgerEvent> {
    event(plan_bundle(view, run_id, unix_ms), ids).into_iter().collect()
}

fn plan_bundle(view: &ViewDecision, run_id: RunId, unix_ms: i64) -> Result<CacheArtifact, CanonicalError> {
    CacheArtifact::of(run_id, unix_ms, view.bundle.name(), view.bundle.artifact())
}

fn event(
    artifact: Result<CacheArtifact, CanonicalError>,
    ids: &mut BTreeMap<String, ArtifactId>,
) -> Option<LedgerEvent> {
    match artifact {
        Ok(artifact) => {
            ids.insert(format!("{} {}", artifact.artifact_kind, artifact.name), artifact.artifact_id);
            Some(LedgerEvent::CacheArtifacts(artifact))
        }
        Err(error) => {
            tracing::warn!(target: "alluvium.runs", error = &error as &dyn std::error::Error, "a document could not be kept");
            None
        }
    }
}

/// A path as it stands in the pipeline file.
pub(crate) fn written(path: &SourcePath) -> String {
    match path {
        SourcePath::One(path) => path.clone(),
        SourcePath::Many(paths) => paths.join(", "),
    }
}

/// A specification as it may be stored: without credentials.
fn kept(spec: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    strip(&Redactor::default(), &mut value);
    value
}

fn strip(redactor: &Redactor, value: &mut Value) {
    match value {
        Value::String(text) => *text = redactor.kept(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| strip(redactor, item)),
        Value::Object(fields) => fields.values_mut().for_each(|field| strip(redactor, field)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
