//! What a run leaves for whoever asks later: its manifest. The documents that it names are made in [`crate::documents`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use alluvium_contracts::{
    CacheCommitMetadata, CachePolicy, CacheScope, CdfRange, OutputResult, PlanSignature, RunCommit, RunId, RunManifest,
    RunOutput, RunResult, RunView, SourcePath, ViewResult,
};
use alluvium_plans::{PlanBundle, engine_versions};
use alluvium_telemetry::{Redactor, RunContext};
use serde::Serialize;
use serde_json::Value;

use crate::decide::{Decisions, OutputDecision, ViewDecision};
use crate::execute::{Outcomes, Superseded};
use crate::pipeline::Pipeline;
use crate::report::{OutputOutcome, ViewOutcome};
use crate::sources;

/// How the key in `resolved_specs` of what was declared with credentials begins: those are kept nowhere, so that it cannot be run again.
pub(crate) const REDACTED_SPEC: &str = "redacted ";

impl Pipeline {
    /// The manifest of a run with these decisions that has done nothing yet: that of a run that was killed at once.
    pub(crate) fn manifest(&self, run_id: RunId, started_unix_ms: i64, decisions: &Decisions) -> RunManifest {
        let spec = self.project.spec();
        let redactor = Redactor::default();
        let planned = || decisions.graph.order.iter().filter_map(|name| decisions.views.get(name));
        let plan_fingerprints: BTreeMap<_, _> =
            planned().map(|view| (view.bundle.name().to_owned(), view.bundle.identity().plan_fingerprint)).collect();
        let signed: String = plan_fingerprints.iter().map(|(view, print)| format!("{view} {print}\n")).collect();
        let delta_inputs = decisions.pins().map(|pin| {
            let mut artifact = pin.artifact();
            let path = self.project.source_of(&artifact.name).map(|(_, source)| written(&source.path));
            artifact.path = path.map(|path| redactor.kept(&path).into_owned());
            for (name, value) in &mut artifact.options {
                *value = redactor.kept_option(name, value).into_owned();
            }
            artifact.cdf_range = artifact.cdf_range.map(|range| CdfRange {
                consumer: decisions.sources.consumer_of(pin.name()).map(str::to_owned),
                ..range
            });
            artifact
        });
        let sources = decisions.pins().filter_map(|pin| self.project.source_of(pin.name()));
        let views = planned().filter_map(|view| Some((view.bundle.name(), spec.views.get(view.bundle.name())?)));
        let outputs = decisions.outputs.keys().filter_map(|name| Some((name, spec.outputs.get(name)?)));
        let mut resolved_specs: BTreeMap<String, Value> = sources
            .map(|(name, source)| (format!("source {name}"), declared(source)))
            .chain(views.map(|(name, view)| (format!("view {name}"), declared(view))))
            .chain(outputs.map(|(name, output)| (format!("output {name}"), declared(output))))
            .collect();
        let queries = self.project.queries();
        let mut resolved_sql: BTreeMap<String, String> = planned()
            .filter_map(|view| Some((view.bundle.name().to_owned(), queries.get(view.bundle.name())?.sql.clone())))
            .collect();
        let mut redacted: Vec<String> = resolved_specs
            .iter_mut()
            .filter_map(|(name, spec)| redactor.keep_document(spec).then(|| name.clone()))
            .collect();
        for (view, sql) in &mut resolved_sql {
            if let Cow::Owned(kept) = redactor.kept(sql) {
                *sql = kept;
                redacted.push(format!("view {view}"));
            }
        }
        resolved_specs.extend(redacted.into_iter().map(|name| (format!("{REDACTED_SPEC}{name}"), Value::Bool(true))));
        RunManifest {
            run_id,
            started_unix_ms,
            finished_unix_ms: started_unix_ms,
            result: RunResult::Killed,
            traceparent: RunContext::current().map(|context| context.traceparent()),
            project_dir: self.project_dir(),
            plan_signature: Some(PlanSignature::of(signed.as_bytes())),
            plan_fingerprints,
            delta_inputs: delta_inputs.collect(),
            views: Vec::new(),
            outputs: Vec::new(),
            commits: Vec::new(),
            artifact_ids: None,
            resolved_sql,
            resolved_specs,
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
        for Superseded { scope, name, path, version } in &outcomes.superseded {
            let root = if *scope == CacheScope::Output { self.project.dir() } else { self.root.path() };
            manifest.commits.extend(commit(*scope, name, path, &root.join(path), *version));
        }
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
pub(crate) fn commit(
    scope: CacheScope,
    name: &str,
    path: &str,
    table: &Path,
    version: Option<u64>,
) -> Option<RunCommit> {
    Some(RunCommit {
        cache_scope: scope,
        name: name.to_owned(),
        path: path.to_owned(),
        table_id: alluvium_write_policy::table_id(table).ok()??,
        delta_version: version?,
    })
}

/// What a version says of itself, where it is one of ours.
pub(crate) fn metadata(table: &Path, version: u64) -> Option<CacheCommitMetadata> {
    let info = alluvium_write_policy::commit_info(table, version).ok()?;
    CacheCommitMetadata::from_commit_info(&info).ok()?
}

/// A path as it stands in the pipeline file.
pub(crate) fn written(path: &SourcePath) -> String {
    match path {
        SourcePath::One(path) => path.clone(),
        SourcePath::Many(paths) => paths.join(", "),
    }
}

fn declared(spec: &impl Serialize) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}
