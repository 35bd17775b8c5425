//! Past runs as documents: what `alluvium runs` prints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{ArtifactId, PlanFingerprint, RowsDigest};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::explanation::{ComponentChange, MissExplanation};
use crate::v1::ledger::{CacheInventoryEntry, CacheRunSummary};
use crate::v1::manifest::RunManifest;
use crate::v1::sample;
use crate::words::words;

/// What `alluvium runs ls --format json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunList {
    /// The runs, newest first.
    pub runs: Vec<CacheRunSummary>,
    /// Runs that are in the ledgers and were not asked for.
    pub omitted_count: u64,
}

impl Contract for RunList {
    const KIND: &'static str = "run_list";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium runs ls --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self { runs: vec![CacheRunSummary::example()], omitted_count: 12 }
    }
}

/// What `alluvium runs show --format json` prints: everything that the ledgers hold of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// The run as a whole.
    pub summary: CacheRunSummary,
    /// Its manifest, where there is one.
    pub manifest: Option<RunManifest>,
    /// What became of its views and outputs, in the order in which it was recorded.
    pub entries: Vec<CacheInventoryEntry>,
    /// The documents that it was the first to leave.
    pub artifacts: Vec<RunArtifact>,
    /// The ledgers that could not be read, each with why: what they hold of the run is not here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

impl Contract for RunRecord {
    const KIND: &'static str = "run_record";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium runs show --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            summary: CacheRunSummary::example(),
            manifest: Some(RunManifest::example()),
            entries: vec![CacheInventoryEntry::example()],
            artifacts: vec![RunArtifact {
                name: "daily_delays".to_owned(),
                artifact_kind: MissExplanation::KIND.to_owned(),
                artifact_id: ArtifactId::of(b"miss_explanation"),
            }],
            unread: Vec::new(),
        }
    }
}

/// A document in `alluvium.cache_artifacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunArtifact {
    /// What it is about.
    pub name: String,
    /// The kind of its contract.
    pub artifact_kind: String,
    /// Its identity, by which the table has it.
    pub artifact_id: ArtifactId,
}

/// What `alluvium runs diff --format json` prints: how one run differs from another, by their manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunDifference {
    /// The run that is compared with.
    pub before: RunId,
    /// The run that is compared.
    pub after: RunId,
    /// What was read: sources, their files, versions, options and schemas.
    pub inputs: Vec<ComponentChange>,
    /// What was asked for: SQL and specifications.
    pub queries: Vec<ComponentChange>,
    /// What it ran on: settings, profile, engine.
    pub environment: Vec<ComponentChange>,
    /// What came of it: plan fingerprints, rows and versions.
    pub results: Vec<ComponentChange>,
}

impl Contract for RunDifference {
    const KIND: &'static str = "run_difference";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium runs diff --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let change = |component: &str, before: &str, after: &str| ComponentChange {
            component: component.to_owned(),
            before: Some(before.to_owned()),
            after: Some(after.to_owned()),
        };
        let print = |what: &[u8]| PlanFingerprint::of(what).to_string();
        Self {
            before: sample::run_id(),
            after: sample::run_id(),
            inputs: vec![change("source flights: version", "41", "42")],
            queries: vec![change(
                "view daily_delays: sql",
                "select avg(delay) from flights",
                "select max(delay) from flights",
            )],
            environment: vec![change("setting datafusion.execution.time_zone", "+00:00", "+01:00")],
            results: vec![
                change("view daily_delays: plan_fingerprint", &print(b"avg"), &print(b"max")),
                change("output daily: row_count", "181", "182"),
            ],
        }
    }
}

words!(
    /// What came of running something again.
    ReplayResult {
        /// The same rows.
        Same => "same",
        /// Other rows, though they have to be the same.
        Different => "different",
        /// Other rows, which may legitimately differ between two executions.
        Unstable => "unstable",
        /// It could not be run again, or there is nothing left to compare with.
        Unreplayable => "unreplayable",
    }
);

words!(
    /// What has become of an input since a run read it.
    ReplayInputState {
        /// It can be read as it was.
        Unchanged => "unchanged",
        /// It is there, and is not what it was.
        Changed => "changed",
        /// It is not there any more.
        Gone => "gone",
    }
);

/// What `alluvium runs replay --format json` prints: a run carried out again over its own inputs, beside what it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayDocument {
    /// The run that was replayed.
    pub run_id: RunId,
    /// The worst of its views' results; `unreplayable` when an input is not what it was.
    pub result: ReplayResult,
    /// What has become of its inputs, each for itself.
    pub inputs: Vec<ReplayInput>,
    /// What came of each view whose rows it kept.
    pub views: Vec<ReplayedView>,
    /// Things that a person should know: another engine, other settings.
    pub notices: Vec<String>,
}

/// An input of a run that is replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayInput {
    /// The source.
    pub name: String,
    /// What has become of it.
    pub state: ReplayInputState,
    /// What differs; none where it is unchanged.
    pub reason: Option<String>,
}

/// A view of a run that was carried out again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayedView {
    /// The view.
    pub name: String,
    /// What came of it.
    pub result: ReplayResult,
    /// The digest of the rows that the run left, where they are there or were digested then.
    pub expected_content_hash: Option<RowsDigest>,
    /// The digest of the rows that the replay gave.
    pub content_hash: Option<RowsDigest>,
    /// The rows that the run left.
    pub expected_row_count: Option<u64>,
    /// The rows that the replay gave.
    pub row_count: Option<u64>,
    /// Why it may differ, or why it could not be compared.
    pub reason: Option<String>,
}

impl Contract for ReplayDocument {
    const KIND: &'static str = "replay_document";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium runs replay --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            run_id: sample::run_id(),
            result: ReplayResult::Unstable,
            inputs: vec![ReplayInput { name: "flights".to_owned(), state: ReplayInputState::Unchanged, reason: None }],
            views: vec![ReplayedView {
                name: "daily_delays".to_owned(),
                result: ReplayResult::Unstable,
                expected_content_hash: Some(RowsDigest::of(b"then")),
                content_hash: Some(RowsDigest::of(b"now")),
                expected_row_count: Some(181),
                row_count: Some(181),
                reason: Some("avg(delay) adds floats in parallel".to_owned()),
            }],
            notices: vec!["the run used datafusion 55.1.0, this is 55.2.0".to_owned()],
        }
    }
}
