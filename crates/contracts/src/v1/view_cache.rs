//! What the cache did for a view.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{CacheKey, PlanFingerprint, SchemaHash};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::cache::CachePolicy;
use crate::v1::sample;

/// The cache of one view in one run, and what its entry has been worth so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ViewCacheArtifact {
    /// The view.
    pub view_name: String,
    /// The run, where there was one.
    pub run_id: Option<RunId>,
    /// Its policy.
    pub cache_policy: CachePolicy,
    /// The entry's directory relative to the cache root, where it has one.
    pub cache_path: Option<String>,
    /// The cache key, where it has one.
    pub cache_key: Option<CacheKey>,
    /// The plan fingerprint, where it could be planned.
    pub plan_fingerprint: Option<PlanFingerprint>,
    /// The digest of the published schema, where it could be planned.
    pub schema_hash: Option<SchemaHash>,
    /// The Delta version of the entry.
    pub delta_version: Option<u64>,
    /// Whether the entry was there; none where it was not looked for.
    pub hit: Option<bool>,
    /// Hits of this entry since it was written, this run's included.
    pub hit_count: u64,
    /// Computing that those hits saved, in seconds.
    pub saved_seconds: f64,
    /// Computing that one hit saves, in milliseconds: how long the entry took to compute.
    pub compute_ms: Option<f64>,
    /// Rows of the entry.
    pub row_count: Option<u64>,
    /// Data files of the entry.
    pub file_count: Option<u64>,
    /// Bytes of the entry.
    pub size_bytes: Option<u64>,
}

impl Contract for ViewCacheArtifact {
    const KIND: &'static str = "view_cache_artifact";
    const VERSION: u32 = 1;
    const DOC: &'static str = "the cache of a view: path, fingerprint, hit, hits and seconds saved";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            view_name: "daily_delays".to_owned(),
            run_id: Some(sample::run_id()),
            cache_policy: CachePolicy::DeltaStaging,
            cache_path: Some("view_cache/daily_delays__5f/1c3f7a52-8f0e-4b6d-a1c4-0e5d2b7f9a61".to_owned()),
            cache_key: Some(CacheKey::of(b"daily_delays")),
            plan_fingerprint: Some(PlanFingerprint::of(b"daily_delays")),
            schema_hash: Some(SchemaHash::of(b"daily_delays")),
            delta_version: Some(0),
            hit: Some(true),
            hit_count: 22,
            saved_seconds: 9.0625,
            compute_ms: Some(412.5),
            row_count: Some(181),
            file_count: Some(1),
            size_bytes: Some(48_213),
        }
    }
}
