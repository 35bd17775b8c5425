//! The metadata that every Delta commit of ours carries.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{ArtifactId, CacheKey, LayoutHash, PinDigest, PlanFingerprint, RowsDigest, SchemaHash};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::cache::{CacheOperation, CachePolicy, CacheScope, LookupResult};
use crate::v1::plan::Stability;
use crate::v1::sample::{self, names};

/// What a commit says of itself, in the commit's `commitInfo`. Unknown keys are tolerated on reading: the engine adds its own.
///
/// `cache_operation` is not called `operation` because the engine reserves that key and drops it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheCommitMetadata {
    /// What was done.
    pub cache_operation: CacheOperation,
    /// To what.
    pub cache_scope: CacheScope,
    /// Under which policy.
    pub cache_policy: CachePolicy,
    /// How it ended: always `ok`, a commit being there.
    pub cache_result: LookupResult,
    /// The view, output or ledger.
    pub name: String,
    /// The run that committed.
    pub run_id: RunId,
    /// The key of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_key: Option<CacheKey>,
    /// The digest of the published schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_hash: Option<SchemaHash>,
    /// The plan fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<PlanFingerprint>,
    /// The digest of the resolved write policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout_hash: Option<LayoutHash>,
    /// The pinned inputs by scan reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delta_inputs: Vec<DeltaInput>,
    /// Stored artifacts that belong to the commit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifact_ids: Vec<ArtifactId>,
    /// The fencing token of the lease under which it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_token: Option<u64>,
    /// The W3C trace context of the run, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Rows that the table holds after the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_count: Option<u64>,
    /// The digest of those rows, whatever their order, where it was taken while they were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<RowsDigest>,
    /// How long the content took to compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_ms: Option<f64>,
    /// Whether computing the content again must give the same rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<Stability>,
    /// The components of the key, by name: with them an index that was lost can say again why a key moved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, String>,
    /// Which rows of unstable views the content was computed from, by view: the id of an entry, or run and fencing token of the
    /// commit of an output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unstable_rows: BTreeMap<String, String>,
    /// The tags of the view.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// One pinned input of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeltaInput {
    /// The name that the plan scans.
    pub name: String,
    /// The digest of its pin.
    pub pin: PinDigest,
    /// The version, where the input is a Delta table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl Contract for CacheCommitMetadata {
    const KIND: &'static str = "cache_commit_metadata";
    const VERSION: u32 = 1;
    const DOC: &'static str = "the metadata of every Delta commit";
    const FORM: Form = Form::Bare;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            cache_operation: CacheOperation::Write,
            cache_scope: CacheScope::Output,
            cache_policy: CachePolicy::DeltaStaging,
            cache_result: LookupResult::Ok,
            name: "daily".to_owned(),
            run_id: sample::run_id(),
            cache_key: Some(CacheKey::of(b"daily_delays")),
            schema_hash: Some(SchemaHash::of(b"daily_delays")),
            plan_hash: Some(PlanFingerprint::of(b"daily_delays")),
            layout_hash: Some(LayoutHash::of(b"daily")),
            delta_inputs: vec![
                DeltaInput { name: "airports".to_owned(), pin: PinDigest::of(b"airports"), version: None },
                DeltaInput { name: "flights".to_owned(), pin: PinDigest::of(b"flights"), version: Some(42) },
            ],
            artifact_ids: vec![ArtifactId::of(b"plan_bundle")],
            fencing_token: Some(7),
            traceparent: Some(sample::TRACEPARENT.to_owned()),
            row_count: Some(181),
            content_hash: Some(RowsDigest::of(b"daily")),
            compute_ms: Some(412.5),
            stability: Some(Stability::Exact),
            components: BTreeMap::from([("source flights: version".to_owned(), "42".to_owned())]),
            unstable_rows: BTreeMap::from([("latest".to_owned(), "019bbfd4-1f00-7def-8123-456789abcdef".to_owned())]),
            tags: names(["nightly"]),
        }
    }
}

/// The `commitInfo` is not one of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitMetadataError {
    /// Some of our keys are there, but they do not make a whole.
    #[error("the commit carries Alluvium's keys, but they do not decode; it was damaged or written by a newer version")]
    Malformed {
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

impl CacheCommitMetadata {
    /// The keys and values to hand to a commit.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map.into_iter().collect(),
            // A struct of strings, numbers and lists of them always encodes as an object.
            _ => BTreeMap::new(),
        }
    }

    /// Reads our keys from a `commitInfo`; `None` when it carries none of ours.
    ///
    /// # Errors
    /// [`CommitMetadataError::Malformed`] when it carries `cache_operation` and the rest does not decode.
    pub fn from_commit_info<'a>(
        info: impl IntoIterator<Item = (&'a String, &'a Value)>,
    ) -> Result<Option<Self>, CommitMetadataError> {
        let map: serde_json::Map<String, Value> =
            info.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        if !map.contains_key("cache_operation") {
            return Ok(None);
        }
        serde_json::from_value(Value::Object(map)).map(Some).map_err(|source| CommitMetadataError::Malformed { source })
    }
}
