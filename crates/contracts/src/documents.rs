//! The documents of the command line: what `run` and `plan` print with `--format json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cache::{CachePolicy, ViewResult};
use crate::digest::{CacheKey, PlanFingerprint};
use crate::envelope::Contract;
use crate::ids::RunId;

/// What `alluvium run --format json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDocument {
    /// The run.
    pub run_id: RunId,
    /// How it ended.
    pub result: RunResult,
    /// How long it took.
    pub duration_ms: f64,
    /// Computing that hits saved.
    pub saved_ms: f64,
    /// Every selected view, in topological order.
    pub views: Vec<ViewReport>,
    /// Every output of a selected view, by name.
    pub outputs: Vec<OutputReport>,
    /// Things that a person should know and that are no error: damage found and mended, a ledger set aside.
    pub notices: Vec<String>,
}

impl Contract for RunDocument {
    const KIND: &'static str = "run_document";
    const VERSION: u32 = 1;
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// Everything selected is up to date.
    Succeeded,
    /// A view or an output failed.
    Failed,
    /// Stopped by a signal.
    Interrupted,
    /// Killed; found and closed by a later run.
    Killed,
}

impl RunResult {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Killed => "killed",
        }
    }
}

/// Whether two executions of the same plan over the same pins give the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stability {
    /// Always the same rows.
    Exact,
    /// Executions may legitimately differ, for the stated reasons.
    Unstable,
}

/// The identity of a view, as far as it has one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// The plan fingerprint.
    pub plan_fingerprint: PlanFingerprint,
    /// The cache key; none when the view is uncacheable.
    pub cache_key: Option<CacheKey>,
    /// Exact or unstable.
    pub stability: Stability,
    /// Why it is uncacheable or unstable.
    pub reasons: Vec<String>,
}

/// One view of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ViewReport {
    /// The view's name.
    pub name: String,
    /// What became of it.
    pub result: ViewResult,
    /// Its policy.
    pub cache_policy: CachePolicy,
    /// Its rows, where they were counted.
    pub rows: Option<u64>,
    /// The bytes of its entry, where it has one.
    pub bytes: Option<u64>,
    /// How long it took in this run.
    pub duration_ms: f64,
    /// How much computing a hit saved.
    pub saved_ms: Option<f64>,
    /// Its cache key, where it has one.
    pub cache_key: Option<CacheKey>,
    /// Its plan fingerprint, where it could be planned.
    pub plan_fingerprint: Option<PlanFingerprint>,
    /// Exact or unstable, where it could be planned.
    pub stability: Option<Stability>,
    /// Why it was computed, or why it failed.
    pub reason: Option<String>,
}

/// What became of an output in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputResult {
    /// Already published: the table was not touched.
    Hit,
    /// Published as a new version.
    Write,
    /// Not tried, because its view failed.
    Skipped,
    /// It failed; the table still holds its last good version.
    Error,
}

impl OutputResult {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Write => "write",
            Self::Skipped => "skipped",
            Self::Error => "error",
        }
    }
}

/// One output of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutputReport {
    /// The output's name.
    pub name: String,
    /// The view that it publishes.
    pub view: String,
    /// Where, as written in the pipeline file.
    pub path: String,
    /// What became of it.
    pub result: OutputResult,
    /// The table's version after the run, where there is a table.
    pub delta_version: Option<u64>,
    /// Its rows.
    pub rows: Option<u64>,
    /// How long it took.
    pub duration_ms: f64,
    /// Why it was written, or why it failed.
    pub reason: Option<String>,
}

/// What `alluvium plan --format json` prints: the decisions of a run, without computing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanDocument {
    /// Every selected view, in topological order.
    pub views: Vec<PlannedView>,
    /// Every output of a selected view, by name.
    pub outputs: Vec<PlannedOutput>,
}

impl Contract for PlanDocument {
    const KIND: &'static str = "plan_document";
    const VERSION: u32 = 1;
}

/// What a run would do with one view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedView {
    /// The view's name.
    pub name: String,
    /// What a run would report: `hit`, `write` or `computed`.
    pub result: ViewResult,
    /// Its policy.
    pub cache_policy: CachePolicy,
    /// The sources and views that it reads directly, by name.
    pub reads: Vec<String>,
    /// Its identity.
    pub identity: Identity,
    /// Computing that a hit saves.
    pub saved_ms: Option<f64>,
    /// One line that says why it would be computed; none for a hit.
    pub reason: Option<String>,
    /// Against the nearest earlier entry, where there is one.
    pub explanation: Option<MissExplanation>,
}

/// What a run would do with one output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedOutput {
    /// The output's name.
    pub name: String,
    /// The view that it publishes.
    pub view: String,
    /// What a run would report: `hit`, `write`, or `error` for a foreign commit.
    pub result: OutputResult,
    /// Why; none for a hit.
    pub reason: Option<String>,
}

/// Why a view's key is not that of an earlier entry, component by component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissExplanation {
    /// The key of the earlier entry; none when the view was never cached here.
    pub compared_with: Option<CacheKey>,
    /// Every component that differs, by name.
    pub changes: Vec<ComponentChange>,
}

/// One component of an identity that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentChange {
    /// What changed, such as `source flights: file 2001-03.parquet`.
    pub component: String,
    /// What it was; none when it is new.
    pub before: Option<String>,
    /// What it is; none when it went away.
    pub after: Option<String>,
}

impl std::fmt::Display for ComponentChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{}: {before} → {after}", self.component),
            (None, Some(after)) => write!(f, "{}: added ({after})", self.component),
            (Some(before), None) => write!(f, "{}: removed ({before})", self.component),
            (None, None) => f.write_str(&self.component),
        }
    }
}
