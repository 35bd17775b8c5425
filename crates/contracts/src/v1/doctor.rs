//! The document of `doctor`: the state of a project and of what it runs on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{ProfileHash, SqlPolicyHash};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::{RootId, RunId};
use crate::v1::sample::{self, names};
use crate::words::words;

/// The state of a project and of what it runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorDocument {
    /// Alluvium's version.
    pub alluvium_version: String,
    /// The engine's crates, with their versions.
    pub engine_versions: BTreeMap<String, String>,
    /// The profile's label.
    pub profile_name: Option<String>,
    /// The digest of the profile.
    pub profile_hash: Option<ProfileHash>,
    /// What SQL may do: the policy's name, such as `read_only`.
    pub sql_policy: Option<String>,
    /// The digest of that policy.
    pub sql_policy_hash: Option<SqlPolicyHash>,
    /// Settings that differ from the engine's defaults.
    pub settings: BTreeMap<String, String>,
    /// The places that are used.
    pub roots: Vec<DoctorRoot>,
    /// Limits by name, in the unit that the name says, such as `memory_limit_bytes`; none for no limit.
    pub limits: BTreeMap<String, Option<u64>>,
    /// Features of this build by name, and whether they are in it.
    pub feature_gates: BTreeMap<String, bool>,
    /// What was checked.
    pub checks: Vec<DoctorCheck>,
    /// Runs of this project that can no longer be replayed.
    pub unreplayable_runs: Vec<UnreplayableRun>,
    /// How many runs were looked at for that; none where there is no cache root to look in.
    pub replay_check: Option<ReplayCheck>,
}

/// A place that is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorRoot {
    /// What it is for, such as `cache_output_root`, `kv_root` or `spill`.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Who chose it, such as `--cache-root` or `default`.
    pub origin: String,
    /// Its id, where it is there.
    pub root_id: Option<RootId>,
    /// Bytes in it, where they were counted.
    pub size_bytes: Option<u64>,
}

words!(
    /// How a check ended.
    CheckStatus {
        /// Well.
        Ok => "ok",
        /// Something to look at.
        Warning => "warning",
        /// Something that keeps runs from working.
        Error => "error",
    }
);

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorCheck {
    /// What was checked.
    pub name: String,
    /// How it ended.
    pub status: CheckStatus,
    /// What was found.
    pub message: String,
    /// What to do, where something is to be done.
    pub fix: Option<String>,
}

/// A run that can no longer be replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnreplayableRun {
    /// The run.
    pub run_id: RunId,
    /// What of it was lost, input by input.
    pub reasons: Vec<String>,
}

/// How many of a project's runs were looked at, whether they can be replayed: kept ones first, then the newest, for as long as there
/// was time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayCheck {
    /// Runs that were looked at.
    pub checked_count: u64,
    /// Runs that were not: the time was up.
    pub unchecked_count: u64,
    /// The time that there was, in milliseconds.
    pub limit_ms: u64,
}

impl Contract for DoctorDocument {
    const KIND: &'static str = "doctor_document";
    const VERSION: u32 = 1;
    const DOC: &'static str = "the state of a project and of what it runs on";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let map = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Self {
            alluvium_version: "0.1.0".to_owned(),
            engine_versions: map("datafusion", "55.2.0"),
            profile_name: Some("nightly".to_owned()),
            profile_hash: Some(ProfileHash::of(b"default")),
            sql_policy: Some("read_only".to_owned()),
            sql_policy_hash: Some(SqlPolicyHash::of(b"read_only")),
            settings: map("datafusion.execution.target_partitions", "4"),
            roots: vec![DoctorRoot {
                name: "cache_output_root".to_owned(),
                path: ".alluvium".to_owned(),
                origin: "default".to_owned(),
                root_id: Some(sample::root_id()),
                size_bytes: Some(13_204_981),
            }],
            limits: BTreeMap::from([
                ("memory_limit_bytes".to_owned(), Some(1 << 30)),
                ("spill_limit_bytes".to_owned(), None),
            ]),
            feature_gates: BTreeMap::from([("substrait".to_owned(), false)]),
            checks: vec![DoctorCheck {
                name: "cache root".to_owned(),
                status: CheckStatus::Warning,
                message: "1 directory is in quarantine".to_owned(),
                fix: Some("look at it and delete it".to_owned()),
            }],
            unreplayable_runs: vec![UnreplayableRun {
                run_id: sample::run_id(),
                reasons: names(["source flights: version 41 was vacuumed"]),
            }],
            replay_check: Some(ReplayCheck { checked_count: 19, unchecked_count: 240, limit_ms: 10_000 }),
        }
    }
}
