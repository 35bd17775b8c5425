//! The manifest of a run: everything that it takes to prove where a table came from, and to run it again.
//!
//! It is linked with commits both ways: each commit of a run names the run in its metadata
//! ([`CacheCommitMetadata`](crate::CacheCommitMetadata)), and the manifest names the commits.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::{
    ArtifactId, CacheKey, ContentDigest, PinDigest, PlanFingerprint, PlanSignature, ProfileHash, RowsDigest, SchemaHash,
};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::cache::{CachePolicy, CacheScope, ViewResult};
use crate::v1::documents::{OutputResult, RunResult};
use crate::v1::plan::Stability;
use crate::v1::sample;
use crate::words::words;

/// What a run read, computed and published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunManifest {
    /// The run.
    pub run_id: RunId,
    /// When it started, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: i64,
    /// When it ended, in milliseconds since 1970-01-01 UTC. For a killed run, the last sign of life that it left.
    pub finished_unix_ms: i64,
    /// How it ended.
    pub result: RunResult,
    /// The W3C trace context of the run, where one was given.
    pub traceparent: Option<String>,
    /// The directory that the paths of sources and outputs are relative to: as seen from the cache root where that lies below it, so
    /// that both can be moved together, and absolute otherwise.
    pub project_dir: Option<String>,
    /// One digest over `plan_fingerprints`: two runs with the same computed the same things.
    pub plan_signature: Option<PlanSignature>,
    /// The fingerprint of each view that was planned.
    pub plan_fingerprints: BTreeMap<String, PlanFingerprint>,
    /// The exact state of each source that was read. A change feed that several consumers read stands here once for each.
    pub delta_inputs: Vec<DeltaInputPin>,
    /// What became of each view of the run, in topological order.
    pub views: Vec<RunView>,
    /// What each output holds after the run.
    pub outputs: Vec<RunOutput>,
    /// The commits that the run made, oldest first, but for those to ledgers: the manifest lies in one of them itself, and
    /// theirs name the run.
    pub commits: Vec<RunCommit>,
    /// Stored artifacts of the run, by what they are, such as `plan_bundle daily_delays`.
    pub artifact_ids: Option<BTreeMap<String, ArtifactId>>,
    /// The SQL of each view, as it was planned.
    pub resolved_sql: BTreeMap<String, String>,
    /// The specification of each source and output with its defaults filled in, as in the pipeline file. Untyped: its
    /// numbers are integers where their value is one within ±(2⁵³−1), doubles otherwise.
    pub resolved_specs: BTreeMap<String, Value>,
    /// The settings that may change rows.
    pub semantic_settings: BTreeMap<String, String>,
    /// The runtime profile.
    pub profile_hash: Option<ProfileHash>,
    /// The engine's crates, with their versions.
    pub engine_versions: BTreeMap<String, String>,
}

words!(
    /// What kind of thing an input is.
    InputKind {
        /// Local files.
        Files => "files",
        /// Objects of a store.
        Objects => "objects",
        /// A Delta table.
        DeltaTable => "delta_table",
        /// An upstream view.
        View => "view",
    }
);

/// The exact state of an input, and the way it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeltaInputPin {
    /// The name that plans scan.
    pub name: String,
    /// What it is.
    pub kind: InputKind,
    /// The digest of the whole pin, content and way of reading.
    pub pin: PinDigest,
    /// The format, such as `csv`; none for a view.
    pub format: Option<String>,
    /// Where it lies, as written in the specification.
    pub path: Option<String>,
    /// The cache key of an upstream view.
    pub cache_key: Option<CacheKey>,
    /// The id of a Delta table.
    pub table_id: Option<String>,
    /// The version of a Delta table.
    pub version: Option<u64>,
    /// When that version was committed, in milliseconds since 1970-01-01 UTC.
    pub timestamp_unix_ms: Option<i64>,
    /// The digest of that version's commit file, or of its list of files once that has expired: a copy keeps its id.
    pub commit_digest: Option<ContentDigest>,
    /// The digest of the schema that it is read with.
    pub schema_hash: Option<SchemaHash>,
    /// Every resolved option of reading.
    pub options: BTreeMap<String, String>,
    /// Files in it.
    pub file_count: Option<u64>,
    /// Bytes in those files.
    pub size_bytes: Option<u64>,
    /// The pinned files; empty for a Delta table, whose log lists them, and for a view.
    pub files: Vec<FilePin>,
    /// The changes that were consumed, where the table was read as a change feed.
    pub cdf_range: Option<CdfRange>,
}

/// One pinned file or object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilePin {
    /// The path as it was listed.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// The digest of its bytes; none for an object.
    pub content_digest: Option<ContentDigest>,
    /// The version id or ETag of an object.
    pub object_version: Option<String>,
}

/// The versions of a change feed that a run consumed, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CdfRange {
    /// The first version.
    pub starting_version: u64,
    /// The last version.
    pub ending_version: u64,
    /// Changes in them, where they were counted.
    pub row_count: Option<u64>,
    /// Whose cursor moves to the last version when the run succeeds; none where the range was asked for by itself.
    pub consumer: Option<String>,
}

/// What became of a view in a run, and what its rows are told by when it is run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// The view.
    pub name: String,
    /// What became of it.
    pub result: ViewResult,
    /// Its policy.
    pub cache_policy: CachePolicy,
    /// Its cache key, where it has one.
    pub cache_key: Option<CacheKey>,
    /// The directory of its entry relative to the cache root, where it has one.
    pub cache_path: Option<String>,
    /// Its rows, where they were counted.
    pub row_count: Option<u64>,
    /// The digest of its rows, whatever their order, where they were digested.
    pub content_hash: Option<RowsDigest>,
    /// The digest of its published schema, where it could be planned.
    pub schema_hash: Option<SchemaHash>,
    /// Whether computing it again has to give the same rows, where it could be planned.
    pub stability: Option<Stability>,
    /// Why it is uncacheable or unstable, or why it failed; empty for any other.
    pub reasons: Vec<String>,
}

/// What an output holds after a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunOutput {
    /// The output.
    pub name: String,
    /// The view that it publishes.
    pub view: String,
    /// Where, as written in the pipeline file.
    pub path: String,
    /// What became of it.
    pub result: OutputResult,
    /// The id of the table; none where there is no table.
    pub table_id: Option<String>,
    /// Its version after the run.
    pub delta_version: Option<u64>,
    /// The run that committed that version: this one where `result` is `write`.
    pub written_by: Option<RunId>,
    /// Its rows.
    pub row_count: Option<u64>,
    /// The digest of its rows, whatever their order.
    pub content_hash: Option<RowsDigest>,
    /// The digest of its schema.
    pub schema_hash: Option<SchemaHash>,
    /// The fingerprint of the view.
    pub plan_fingerprint: Option<PlanFingerprint>,
    /// The cache key of the view.
    pub cache_key: Option<CacheKey>,
}

/// One commit of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunCommit {
    /// What kind of table it is in.
    pub cache_scope: CacheScope,
    /// The view, output, dataset, artifact or snapshot.
    pub name: String,
    /// The table's directory relative to the cache root; for an output, its path as written in the pipeline file.
    pub path: String,
    /// The id of the table.
    pub table_id: String,
    /// The version that the commit made.
    pub delta_version: u64,
}

impl Contract for RunManifest {
    const KIND: &'static str = "run_manifest";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what a run read, computed and published: enough to run it again";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        const TABLE: &str = "2c7ad6d0-9a1e-4a52-9a34-0d9a3a1f5a10";
        const ENTRY: &str = "view_cache/daily_delays__5f/1c3f7a52-8f0e-4b6d-a1c4-0e5d2b7f9a61";
        let map = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let fingerprint = PlanFingerprint::of(b"daily_delays");
        Self {
            run_id: sample::run_id(),
            started_unix_ms: sample::UNIX_MS,
            finished_unix_ms: sample::UNIX_MS + 2_431,
            result: RunResult::Succeeded,
            traceparent: Some(sample::TRACEPARENT.to_owned()),
            project_dir: Some("..".to_owned()),
            plan_signature: Some(PlanSignature::of(b"daily_delays")),
            plan_fingerprints: BTreeMap::from([("daily_delays".to_owned(), fingerprint)]),
            delta_inputs: vec![DeltaInputPin::example()],
            views: vec![RunView {
                name: "daily_delays".to_owned(),
                result: ViewResult::Write,
                cache_policy: CachePolicy::DeltaStaging,
                cache_key: Some(CacheKey::of(b"daily_delays")),
                cache_path: Some(ENTRY.to_owned()),
                row_count: Some(181),
                content_hash: Some(RowsDigest::of(b"daily")),
                schema_hash: Some(SchemaHash::of(b"daily_delays")),
                stability: Some(Stability::Unstable),
                reasons: vec!["avg(delay) adds floats in parallel".to_owned()],
            }],
            outputs: vec![RunOutput {
                name: "daily".to_owned(),
                view: "daily_delays".to_owned(),
                path: "out/daily".to_owned(),
                result: OutputResult::Write,
                table_id: Some(TABLE.to_owned()),
                delta_version: Some(3),
                written_by: Some(sample::run_id()),
                row_count: Some(181),
                content_hash: Some(RowsDigest::of(b"daily")),
                schema_hash: Some(SchemaHash::of(b"daily_delays")),
                plan_fingerprint: Some(fingerprint),
                cache_key: Some(CacheKey::of(b"daily_delays")),
            }],
            commits: vec![
                RunCommit {
                    cache_scope: CacheScope::View,
                    name: "daily_delays".to_owned(),
                    path: ENTRY.to_owned(),
                    table_id: "d1f7a6c2-4b0e-4c3d-8e57-6a9b2c1d0e4f".to_owned(),
                    delta_version: 0,
                },
                RunCommit {
                    cache_scope: CacheScope::Output,
                    name: "daily".to_owned(),
                    path: "out/daily".to_owned(),
                    table_id: TABLE.to_owned(),
                    delta_version: 3,
                },
            ],
            artifact_ids: Some(BTreeMap::from([(
                "plan_bundle daily_delays".to_owned(),
                ArtifactId::of(b"plan_bundle"),
            )])),
            resolved_sql: map("daily_delays", "select flight_date, avg(delay) from flights group by flight_date"),
            resolved_specs: BTreeMap::from([(
                "source flights".to_owned(),
                json!({"format": "delta", "path": "data/flights", "version": 42, "sample": 0.5}),
            )]),
            semantic_settings: map("datafusion.execution.time_zone", "+00:00"),
            profile_hash: Some(ProfileHash::of(b"default")),
            engine_versions: map("datafusion", "55.2.0"),
        }
    }
}

impl Contract for DeltaInputPin {
    const KIND: &'static str = "delta_input_pin";
    const VERSION: u32 = 1;
    const DOC: &'static str = "the exact state of an input, and the way it is read";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            name: "flights".to_owned(),
            kind: InputKind::DeltaTable,
            pin: PinDigest::of(b"flights"),
            format: Some("delta".to_owned()),
            path: Some("data/flights".to_owned()),
            cache_key: None,
            table_id: Some("7d0c2b4e-1f7a-4f43-8a53-3f1d5d6d8b11".to_owned()),
            version: Some(42),
            timestamp_unix_ms: Some(sample::UNIX_MS),
            commit_digest: Some(ContentDigest::of(b"00000000000000000042.json")),
            schema_hash: Some(SchemaHash::of(b"flights")),
            options: BTreeMap::new(),
            file_count: Some(6),
            size_bytes: Some(13_204_981),
            files: Vec::new(),
            cdf_range: Some(CdfRange {
                starting_version: 40,
                ending_version: 42,
                row_count: Some(1_204),
                consumer: Some("daily_delays".to_owned()),
            }),
        }
    }
}
