//! The documents of the command line: what `run` and `plan` print with `--format json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{CacheKey, PlanFingerprint};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::cache::{CachePolicy, ViewResult};
use crate::v1::explanation::MissExplanation;
use crate::v1::plan::{Identity, Stability};
use crate::v1::sample;
use crate::words::words;

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
    const DOC: &'static str = "what `alluvium run --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            run_id: sample::run_id(),
            result: RunResult::Succeeded,
            duration_ms: 2_431.5,
            saved_ms: 9_120.5,
            views: vec![ViewReport {
                name: "daily_delays".to_owned(),
                result: ViewResult::Write,
                cache_policy: CachePolicy::DeltaStaging,
                rows: Some(181),
                bytes: Some(48_213),
                duration_ms: 430.25,
                saved_ms: None,
                cache_key: Some(CacheKey::of(b"daily_delays")),
                plan_fingerprint: Some(PlanFingerprint::of(b"daily_delays")),
                stability: Some(Stability::Exact),
                reason: Some("source flights: version 41 → 42".to_owned()),
                explanation: Some(MissExplanation::example()),
                shadow: None,
            }],
            outputs: vec![OutputReport {
                name: "daily".to_owned(),
                view: "daily_delays".to_owned(),
                path: "out/daily".to_owned(),
                result: OutputResult::Write,
                delta_version: Some(3),
                rows: Some(181),
                duration_ms: 21.5,
                reason: Some("its view changed".to_owned()),
            }],
            notices: vec![
                "an entry of `daily_delays` was damaged; it is in quarantine and was computed again".to_owned(),
            ],
        }
    }
}

words!(
    /// How a run ended.
    RunResult {
        /// Everything selected is up to date.
        Succeeded => "succeeded",
        /// A view or an output failed.
        Failed => "failed",
        /// Stopped by a signal.
        Interrupted => "interrupted",
        /// Killed; found and closed by a later run.
        Killed => "killed",
    }
);

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
    /// Why its key was not found: what differs from the nearest earlier entry. None for a view that was not looked up or
    /// was found.
    pub explanation: Option<MissExplanation>,
    /// What computing it all the same came to, where it was a hit that `--shadow` chose.
    pub shadow: Option<ShadowResult>,
}

words!(
    /// What a shadow computation of a hit came to.
    ShadowResult {
        /// The entry holds the rows that the view has.
        Agrees => "agrees",
        /// It holds others, as an unstable view may.
        Unstable => "unstable",
        /// It holds others though the view is exact: it was set aside, and the view computed anew.
        Differs => "differs",
    }
);

words!(
    /// What became of an output in a run.
    OutputResult {
        /// Already published: the table was not touched.
        Hit => "hit",
        /// Published as a new version.
        Write => "write",
        /// Not tried, because its view failed.
        Skipped => "skipped",
        /// It failed; the table still holds its last good version.
        Error => "error",
    }
);

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
    const DOC: &'static str = "what `alluvium plan --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            views: vec![PlannedView {
                name: "daily_delays".to_owned(),
                result: ViewResult::Write,
                cache_policy: CachePolicy::DeltaStaging,
                reads: vec!["airports".to_owned(), "flights".to_owned()],
                identity: Identity {
                    plan_fingerprint: PlanFingerprint::of(b"daily_delays"),
                    cache_key: Some(CacheKey::of(b"daily_delays")),
                    stability: Stability::Unstable,
                    reasons: vec!["sum(delay) adds floats in parallel".to_owned()],
                },
                saved_ms: None,
                reason: Some("source flights: version 41 → 42".to_owned()),
                explanation: Some(MissExplanation::example()),
            }],
            outputs: vec![PlannedOutput {
                name: "daily".to_owned(),
                view: "daily_delays".to_owned(),
                result: OutputResult::Write,
                reason: Some("its view changed".to_owned()),
            }],
        }
    }
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
    /// Why; of a hit, what waits for the next write.
    pub reason: Option<String>,
}
