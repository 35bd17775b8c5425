//! A view's plan as an artifact: its identity, what went into it, and why a key moved.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{CacheKey, FunctionHash, PlanFingerprint, ProfileHash, SchemaHash, SqlPolicyHash, SubstraitHash};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::v1::field::FieldSpec;
use crate::v1::lineage::LineageSummary;
use crate::v1::manifest::DeltaInputPin;
use crate::v1::sample::names;
use crate::words::words;

words!(
    /// Whether two executions of the same plan over the same pins give the same rows.
    Stability {
        /// Always the same rows.
        Exact => "exact",
        /// Executions may legitimately differ, for the stated reasons.
        Unstable => "unstable",
    }
);

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

words!(
    /// How a stored plan is encoded.
    PlanEncoding {
        /// It is not stored.
        None => "none",
        /// In the engine's own encoding, which only the same version reads.
        Engine => "engine",
        /// As Substrait, normalised so that equal plans give equal bytes.
        Substrait => "substrait",
    }
);

/// A view's plan: what it is, what it reads, and why it may or may not be cached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanBundleArtifact {
    /// The view.
    pub view_name: String,
    /// The identity of its computation.
    pub plan_fingerprint: PlanFingerprint,
    /// The cache key; none when the view is uncacheable.
    pub cache_key: Option<CacheKey>,
    /// What went into the fingerprint, by name.
    pub components: PlanComponents,
    /// What `function_catalog()` said of each function used when the view was planned: its arguments, result, volatility and
    /// version. By kind and name, as in `scalar upper`; one that cannot be called by its name has none.
    #[serde(default)]
    pub function_hashes: BTreeMap<String, FunctionHash>,
    /// What the query reads.
    pub lineage: LineageSummary,
    /// What each name in the query stands for.
    pub pins: Vec<DeltaInputPin>,
    /// The columns of the result.
    pub schema: Vec<FieldSpec>,
    /// The digest of the published schema.
    pub schema_hash: SchemaHash,
    /// Whether the view may be cached.
    pub cacheable: bool,
    /// Exact or unstable.
    pub stability: Stability,
    /// Why it is uncacheable or unstable.
    pub reasons: Vec<String>,
    /// How the stored plan is encoded.
    pub plan_encoding: PlanEncoding,
    /// Why it is encoded so, where another encoding was asked for.
    pub plan_encoding_reason: Option<String>,
    /// The digest of the Substrait encoding, where there is one.
    pub substrait_hash: Option<SubstraitHash>,
    /// The runtime profile under which it was planned.
    pub profile_hash: Option<ProfileHash>,
    /// The SQL policy under which it was planned.
    pub sql_policy_hash: Option<SqlPolicyHash>,
}

/// What goes into a plan fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanComponents {
    /// The canonical text of the analyzed plan, with `?` for each literal where the query names credentials.
    pub canonical_plan: String,
    /// The functions used, with their versions.
    pub functions: BTreeMap<String, String>,
    /// The settings that may change rows.
    pub semantic_settings: BTreeMap<String, String>,
    /// The engine's crates, with their versions.
    pub engine_versions: BTreeMap<String, String>,
}

impl Contract for PlanBundleArtifact {
    const KIND: &'static str = "plan_bundle_artifact";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a view's plan: fingerprint and components, lineage, pins, encoding, reasons";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let map = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Self {
            view_name: "daily_delays".to_owned(),
            plan_fingerprint: PlanFingerprint::of(b"daily_delays"),
            cache_key: Some(CacheKey::of(b"daily_delays")),
            components: PlanComponents {
                canonical_plan: "(aggregate (scan flights [2 5]) [#0] [(avg #1)])".to_owned(),
                functions: map("aggregate avg", "built-in"),
                semantic_settings: map("datafusion.execution.time_zone", "+00:00"),
                engine_versions: map("datafusion", "55.2.0"),
            },
            function_hashes: BTreeMap::from([("aggregate avg".to_owned(), FunctionHash::of(b"avg"))]),
            lineage: LineageSummary::example(),
            pins: vec![DeltaInputPin::example()],
            schema: vec![FieldSpec {
                name: "mean_delay".to_owned(),
                data_type: "Float64".to_owned(),
                nullable: true,
                metadata: BTreeMap::new(),
            }],
            schema_hash: SchemaHash::of(b"daily_delays"),
            cacheable: true,
            stability: Stability::Unstable,
            reasons: names(["avg(delay) adds floats in parallel"]),
            plan_encoding: PlanEncoding::Engine,
            plan_encoding_reason: Some("Substrait has no JOIN USING".to_owned()),
            substrait_hash: None,
            profile_hash: Some(ProfileHash::of(b"default")),
            sql_policy_hash: Some(SqlPolicyHash::of(b"read_only")),
        }
    }
}
