//! What is known of artifacts: their schemas and how they were made, in the `runtime` kind and in this process.
//!
//! A record can be lost at no cost but time: the entry's own log says the schema too. So nothing here fails an operation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_contracts::{
    ArtifactId, CacheKey, CachePolicy, ColumnSpec, FieldSpec, PlanFingerprint, RunId, SchemaHash,
};
use alluvium_datasets::field_of;
use alluvium_disk_kv_cache::Order;
use alluvium_plans::PublishedSchema;
use alluvium_profile::{KvKey, KvKind, KvTag};
use alluvium_write_policy::declared_schema;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::ArtifactPolicy;
use crate::cache::DeltaCache;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::scope::EntryScope;

/// What is known of an artifact beside its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArtifactRecord {
    /// Its name.
    pub name: String,
    /// The key of its rows.
    pub cache_key: CacheKey,
    /// The plan that it was computed by, where one was named.
    pub plan_fingerprint: Option<PlanFingerprint>,
    /// The document of that plan, by its identity, where its key is that of a plan.
    #[serde(default)]
    pub plan_artifact_id: Option<ArtifactId>,
    /// Its columns.
    pub schema: Vec<FieldSpec>,
    /// The digest of its schema.
    pub schema_hash: SchemaHash,
    /// Where its rows are: `memory` or `delta_staging`.
    pub storage: CachePolicy,
    /// The directory of its table relative to the cache root, where it has one.
    pub cache_path: Option<String>,
    /// The version of its table, where it has one.
    pub delta_version: Option<u64>,
    /// Its rows.
    pub row_count: u64,
    /// Bytes in its files, or in memory.
    pub size_bytes: u64,
    /// The run that made it.
    pub run_id: RunId,
    /// When it was made, in milliseconds since 1970-01-01 UTC.
    pub created_unix_ms: i64,
}

/// The records that this process knows, and how artifacts are kept.
#[derive(Debug, Default)]
pub(crate) struct Artifacts {
    pub(crate) policy: ArtifactPolicy,
    known: Mutex<HashMap<CacheKey, ArtifactRecord>>,
}

impl Artifacts {
    fn known(&self) -> MutexGuard<'_, HashMap<CacheKey, ArtifactRecord>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeltaCache {
    /// Takes the records of earlier processes into this one, so that loading an artifact reads no log. Returns how many are
    /// known now. What cannot be read is left out: its artifact's own log says the same. Where there is no entry of an artifact,
    /// nothing is looked for.
    pub fn seed_artifacts(&self) -> usize {
        let is_artifact = |(scope, count): &(EntryScope, u64)| *scope == EntryScope::Artifact && *count > 0;
        if !self.index.counts().is_ok_and(|counts| counts.entries.iter().any(is_artifact)) {
            return self.artifacts.known().len();
        }
        let found = match self.root.cache(KvKind::Runtime) {
            Ok(cache) => cache.inner().items_from(&KvKey::ARTIFACTS.to_owned(), Order::Ascending),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "what is known of artifacts cannot be read");
                return self.artifacts.known().len();
            }
        };
        let is_artifact = |key: &String| key.starts_with(KvKey::ARTIFACTS);
        for item in found {
            let Ok((key, item)) = item else { continue };
            // The keys are in order: those of artifacts come first.
            if !key.decode::<String>().is_ok_and(|key| is_artifact(&key)) {
                break;
            }
            if let Ok(record) = serde_json::from_slice::<ArtifactRecord>(&item.value) {
                self.artifacts.known().entry(record.cache_key).or_insert(record);
            }
        }
        self.artifacts.known().len()
    }

    /// Everything that is known of the artifacts whose rows can be loaded here, by name, of each the newest first.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be read, [`CacheError::Read`] when the log of an artifact cannot be.
    pub fn artifact_records(&self) -> Result<Vec<ArtifactRecord>, CacheError> {
        self.seed_artifacts();
        let entries = self.index.entries()?.found;
        let entries = entries.iter().filter(|entry| entry.scope == EntryScope::Artifact);
        let mut records = entries.map(|entry| self.record_of(entry)).collect::<Result<Vec<_>, _>>()?;
        let is_held = |record: &&ArtifactRecord| {
            record.storage == CachePolicy::Memory && self.memory.get(EntryScope::Artifact, record.cache_key).is_some()
        };
        records.extend(self.artifacts.known().values().filter(is_held).cloned());
        records.sort_by(|one, other| (&one.name, other.created_unix_ms).cmp(&(&other.name, one.created_unix_ms)));
        Ok(records)
    }

    /// What is known of the artifact of an entry: remembered, or read from its log.
    pub(crate) fn record_of(&self, entry: &Entry) -> Result<ArtifactRecord, CacheError> {
        if let Some(record) = self.recalled(&entry.view, entry.key)
            && record.schema_hash == entry.schema_hash
            && record.cache_path.as_deref() == Some(entry.dir.as_str())
        {
            return Ok(record);
        }
        let schema = self.declared(entry)?;
        let record = ArtifactRecord { schema: fields(&schema), ..ArtifactRecord::of_entry(entry) };
        self.remember(&record);
        Ok(record)
    }

    /// The columns of an artifact's entry: remembered, or by its own log.
    pub(crate) fn artifact_schema(&self, entry: &Entry) -> Result<SchemaRef, CacheError> {
        match self.record_of(entry)?.arrow_schema() {
            Some(schema) => Ok(schema),
            None => self.declared(entry),
        }
    }

    /// The columns of an entry, by its own log.
    pub(crate) fn declared(&self, entry: &Entry) -> Result<SchemaRef, CacheError> {
        let path = entry.table_dir(self.root.path());
        declared_schema(&path).map_err(|source| CacheError::Read { path, source })
    }

    /// The record of a key, from this process or from an earlier one.
    pub(crate) fn recalled(&self, name: &str, key: CacheKey) -> Option<ArtifactRecord> {
        if let Some(record) = self.artifacts.known().get(&key) {
            return Some(record.clone());
        }
        let bytes = self.root.cache(KvKind::Runtime).ok()?.get(&KvKey::artifact(name, &key)).ok()??;
        let record: ArtifactRecord = serde_json::from_slice(&bytes).ok()?;
        self.artifacts.known().insert(key, record.clone());
        Some(record)
    }

    /// Keeps a record for this process and for later ones.
    pub(crate) fn remember(&self, record: &ArtifactRecord) {
        self.artifacts.known().insert(record.cache_key, record.clone());
        // A struct of strings, numbers and lists of them always encodes.
        let bytes = serde_json::to_vec(record).unwrap_or_default();
        let tags: Vec<KvTag> = record.plan_fingerprint.iter().map(KvTag::plan).collect();
        let key = KvKey::artifact(&record.name, &record.cache_key);
        let failed = match self.root.cache(KvKind::Runtime) {
            Ok(cache) => cache.set(&key, &bytes, &tags).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = failed {
            tracing::warn!(error, artifact = record.name, "what is known of an artifact could not be kept");
        }
    }

    /// Forgets the records of a plan, here and for later processes; returns those that this process knew.
    pub(crate) fn forget_records(&self, plan: &PlanFingerprint) -> Vec<ArtifactRecord> {
        let mut known = self.artifacts.known();
        let forgotten = known.extract_if(|_, record| record.plan_fingerprint == Some(*plan));
        let forgotten = forgotten.map(|(_, record)| record).collect();
        drop(known);
        let evicted = self.root.cache(KvKind::Runtime).map(|cache| cache.evict(&KvTag::plan(plan)));
        if !matches!(evicted, Ok(Ok(_))) {
            tracing::warn!(%plan, "what is known of the artifacts of a plan could not be forgotten");
        }
        forgotten
    }
}

impl ArtifactRecord {
    /// That of an entry, but for its columns.
    pub(crate) fn of_entry(entry: &Entry) -> Self {
        Self {
            name: entry.view.clone(),
            cache_key: entry.key,
            plan_fingerprint: entry.plan_fingerprint,
            plan_artifact_id: entry.plan_artifact_id,
            schema: Vec::new(),
            schema_hash: entry.schema_hash,
            storage: CachePolicy::DeltaStaging,
            cache_path: Some(entry.dir.clone()),
            delta_version: Some(0),
            row_count: entry.row_count,
            size_bytes: entry.size_bytes(),
            run_id: entry.run_id,
            created_unix_ms: entry.created_unix_ms,
        }
    }

    /// Its columns in arrow's types; none if a part of them is no type, which is a record that was not written here.
    #[must_use]
    pub fn arrow_schema(&self) -> Option<SchemaRef> {
        let fields = self.schema.iter().map(|field| {
            let FieldSpec { name, data_type, nullable, metadata } = field.clone();
            field_of(&ColumnSpec { name, data_type, nullable, metadata }).ok()
        });
        Some(Arc::new(Schema::new(fields.collect::<Option<Vec<_>>>()?)))
    }
}

fn fields(schema: &SchemaRef) -> Vec<FieldSpec> {
    let published = DFSchema::try_from(Arc::clone(schema)).ok().and_then(|schema| PublishedSchema::of(&schema).ok());
    published.map(|published| published.fields()).unwrap_or_default()
}
