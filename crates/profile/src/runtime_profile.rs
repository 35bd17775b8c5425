//! How the engine runs: a declared profile, resolved for this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_contracts::{
    EngineCachePreset, MemoryPoolKind, MetadataSnapshots, Preset, ProfileHash, ProfileSpec, SqlPolicy, SqlPolicyHash,
    StoredPlans, canonical_json,
};
use alluvium_telemetry::{DiagnosticsChoice, DiagnosticsChoiceError};

use crate::engine_caches::EngineCaches;
use crate::kv_settings::{self, KvSettings};
use crate::machine::Machine;
use crate::profile_builder::{ProfileBuilder, SettingOrigin};
use crate::profile_keys;
use crate::settings;
use crate::statement::RULES_EPOCH;

const GIB: u64 = 1 << 30;

/// How the engine runs: a [`ProfileSpec`] with every value filled in for this machine.
///
/// | preset | `target_partitions` | `memory_limit_bytes` |
/// |---|---|---|
/// | `dev` | 2 | 1 GiB |
/// | `default` | one a core | none |
/// | `prod` | one a core | 70 % of the memory this process may use; none where the system does not tell |
///
/// Everything else is alike in all presets: `docs/reference/profile.md` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeProfile {
    resolved: ProfileSpec,
    /// Of the settings that somebody chose.
    origins: BTreeMap<String, SettingOrigin>,
    base_dir: PathBuf,
}

impl RuntimeProfile {
    /// Collects a profile from a file, variables and code.
    #[must_use]
    pub fn builder() -> ProfileBuilder {
        ProfileBuilder::default()
    }

    /// The free label.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.resolved.name.as_deref()
    }

    /// The preset that undeclared values came from.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.resolved.preset
    }

    /// Every value, as a pipeline file would declare it.
    #[must_use]
    pub fn spec(&self) -> &ProfileSpec {
        &self.resolved
    }

    /// Every setting with its value as text, by its key under `[profile]`; `(unset)` where there is no value.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, String> {
        // A struct of numbers, words and flags with text for keys has a form in JSON.
        profile_keys::settings(&self.resolved).unwrap_or_default()
    }

    /// Who chose the value of a setting.
    #[must_use]
    pub fn origin(&self, key: &str) -> SettingOrigin {
        self.origins.get(key).copied().unwrap_or(SettingOrigin::Preset)
    }

    /// The digest of every setting. Two profiles with one hash make sessions that are alike; where they came from, and what
    /// the variables were called, does not count.
    #[must_use]
    pub fn profile_hash(&self) -> ProfileHash {
        ProfileHash::of(&canonical_json(&self.resolved).unwrap_or_default())
    }

    /// Every setting of the engine that may change rows, with its value, in a session of this profile: all but
    /// [`NEUTRAL_SETTINGS`](crate::NEUTRAL_SETTINGS). Of the profile's own settings these are what is left when
    /// [`NEUTRAL_PROFILE_SETTINGS`](crate::NEUTRAL_PROFILE_SETTINGS) are taken away.
    #[must_use]
    pub fn semantic_settings(&self) -> BTreeMap<String, String> {
        settings::semantic(settings::session_config(self).options())
    }

    /// Partitions that a query runs in.
    #[must_use]
    pub fn target_partitions(&self) -> usize {
        words(self.resolved.target_partitions.map(u64::from))
    }

    /// Rows that operators hand on at once.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        words(self.resolved.batch_size.map(u64::from))
    }

    /// Memory that queries may hold before they spill, in bytes; `None`: no limit.
    #[must_use]
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        self.resolved.memory_limit_bytes
    }

    /// How that memory is shared.
    #[must_use]
    pub fn memory_pool(&self) -> MemoryPoolKind {
        self.resolved.memory_pool.unwrap_or(MemoryPoolKind::Fair)
    }

    /// Where queries spill to; `None`: the system's directory for temporary files.
    #[must_use]
    pub fn spill_directory(&self) -> Option<PathBuf> {
        self.resolved.spill_directory.as_deref().map(|path| self.path("spill_directory", path))
    }

    /// Bytes that a session may spill.
    #[must_use]
    pub fn spill_limit_bytes(&self) -> u64 {
        self.resolved.spill_limit_bytes.unwrap_or(SPILL_LIMIT_BYTES)
    }

    /// What SQL may do beside asking.
    #[must_use]
    pub fn sql_policy(&self) -> SqlPolicy {
        self.resolved.sql_policy.unwrap_or(SqlPolicy::ReadOnly)
    }

    /// The digest of that policy: of its name, and of the rules that this version puts behind it.
    #[must_use]
    pub fn sql_policy_hash(&self) -> SqlPolicyHash {
        SqlPolicyHash::of(format!("{RULES_EPOCH} {}", self.sql_policy()).as_bytes())
    }

    /// Where diagnostics go.
    ///
    /// # Errors
    /// [`DiagnosticsChoiceError`] if the text names no sink.
    pub fn diagnostics(&self) -> Result<DiagnosticsChoice, DiagnosticsChoiceError> {
        let choice = self.resolved.diagnostics.as_deref().unwrap_or(NO_DIAGNOSTICS).parse()?;
        Ok(match choice {
            DiagnosticsChoice::File(path) => DiagnosticsChoice::File(self.path("diagnostics", &path.to_string_lossy())),
            choice => choice,
        })
    }

    /// Whether each operator of a query has a span of its own, where traces are recorded.
    #[must_use]
    pub fn query_spans(&self) -> bool {
        self.resolved.query_spans.unwrap_or(false)
    }

    /// When what the engine remembers of files is written down.
    #[must_use]
    pub fn metadata_snapshots(&self) -> MetadataSnapshots {
        self.resolved.metadata_snapshots.unwrap_or(MetadataSnapshots::Off)
    }

    /// Whether the plans of views are kept, and how.
    #[must_use]
    pub fn stored_plans(&self) -> StoredPlans {
        self.resolved.stored_plans.unwrap_or(StoredPlans::Off)
    }

    /// How long a process that computes an entry or publishes an output has for it before one that waits takes over.
    #[must_use]
    pub fn lease_deadline(&self) -> Duration {
        Duration::from_secs(self.resolved.lease_deadline_seconds.unwrap_or(LEASE_DEADLINE_SECONDS))
    }

    /// What the engine remembers of files.
    pub(crate) fn engine_caches(&self) -> EngineCaches {
        let caches = &self.resolved.engine_caches;
        EngineCaches {
            metadata_bytes: words(caches.metadata_limit_bytes),
            statistics_bytes: words(caches.statistics_limit_bytes),
            listing_bytes: words(caches.listing_limit_bytes),
            listing_ttl: Duration::from_secs(caches.listing_ttl_seconds.unwrap_or_default()),
        }
    }

    /// The key-value stores: where they lie, and the settings of each kind.
    #[must_use]
    pub fn kv_settings(&self) -> KvSettings {
        let kv = KvSettings::from(&self.resolved.kv);
        match &self.resolved.kv_root {
            Some(root) => kv.with_root(self.path("kv_root", root)),
            None => kv,
        }
    }

    /// A path as it was declared: relative to the pipeline file if that declared it, else to the working directory.
    fn path(&self, key: &str, path: &str) -> PathBuf {
        match self.origin(key) {
            SettingOrigin::File => self.base_dir.join(path),
            _ => Path::new(path).to_owned(),
        }
    }

    pub(crate) fn resolve(spec: &ProfileSpec, machine: Machine) -> Self {
        let (partitions, memory) = match spec.preset {
            Preset::Dev => (2, Some(GIB)),
            Preset::Default => (machine.cores, None),
            Preset::Prod => (machine.cores, machine.memory_bytes.map(|bytes| bytes / 10 * 7)),
        };
        let mut resolved = spec.clone();
        // A value that is out of range is kept, for the session factory to refuse by name.
        resolved.target_partitions.get_or_insert(u32::try_from(partitions).unwrap_or(u32::MAX));
        resolved.batch_size.get_or_insert(8192);
        resolved.memory_limit_bytes = resolved.memory_limit_bytes.or(memory);
        resolved.memory_pool.get_or_insert(MemoryPoolKind::Fair);
        resolved.spill_limit_bytes.get_or_insert(SPILL_LIMIT_BYTES);
        resolved.default_catalog.get_or_insert_with(|| "datafusion".to_owned());
        resolved.default_schema.get_or_insert_with(|| "public".to_owned());
        resolved.information_schema.get_or_insert(true);
        resolved.sql_policy.get_or_insert(SqlPolicy::ReadOnly);
        resolved.diagnostics.get_or_insert_with(|| NO_DIAGNOSTICS.to_owned());
        resolved.query_spans.get_or_insert(false);
        resolved.parquet.pushdown_filters.get_or_insert(false);
        resolved.parquet.reorder_filters.get_or_insert(false);
        resolved.parquet.metadata_size_hint_bytes.get_or_insert(512 << 10);
        resolved.metadata_snapshots.get_or_insert(MetadataSnapshots::Off);
        resolved.stored_plans.get_or_insert(StoredPlans::Off);
        resolved.lease_deadline_seconds.get_or_insert(LEASE_DEADLINE_SECONDS);
        let caches = &mut resolved.engine_caches;
        let preset = EngineCaches::preset(*caches.preset.get_or_insert(EngineCachePreset::Strict));
        caches.metadata_limit_bytes.get_or_insert(preset.metadata_bytes as u64);
        caches.statistics_limit_bytes.get_or_insert(preset.statistics_bytes as u64);
        caches.listing_limit_bytes.get_or_insert(preset.listing_bytes as u64);
        caches.listing_ttl_seconds.get_or_insert(preset.listing_ttl.as_secs());
        resolved.features.topk_dynamic_filters.get_or_insert(true);
        resolved.features.join_dynamic_filters.get_or_insert(true);
        resolved.features.aggregate_dynamic_filters.get_or_insert(true);
        kv_settings::fill(&mut resolved.kv);
        Self { resolved, origins: BTreeMap::new(), base_dir: PathBuf::new() }
    }

    pub(crate) fn declared_by(self, origins: BTreeMap<String, SettingOrigin>, base_dir: PathBuf) -> Self {
        Self { origins, base_dir, ..self }
    }
}

/// The engine's own limit.
const SPILL_LIMIT_BYTES: u64 = 100 * GIB;
const LEASE_DEADLINE_SECONDS: u64 = 600;
const NO_DIAGNOSTICS: &str = "none";

/// A number of bytes, rows or partitions as this machine counts them; one that it cannot address is all it can.
fn words(n: Option<u64>) -> usize {
    usize::try_from(n.unwrap_or_default()).unwrap_or(usize::MAX)
}

impl From<&ProfileSpec> for RuntimeProfile {
    /// What the pipeline file says, and nothing else. Asks the system for cores and memory where the preset depends on them.
    fn from(spec: &ProfileSpec) -> Self {
        Self::resolve(spec, Machine::detect())
    }
}

#[cfg(test)]
mod tests;
