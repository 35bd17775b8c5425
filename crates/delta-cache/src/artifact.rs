//! Runtime artifacts: tables of a library's user, kept under a name and a key.
//!
//! A small table stays in memory. One that grows over the limit becomes an entry like that of a view, by the same protocol,
//! and can be loaded in a later run or another process. Either way it has the published schema, so that nobody sees where
//! it is kept.
//!
//! *Invariant:* rows over the limit are in memory only until their commit. What was gathered by then is handed to the
//! writer, batch by batch, and the rest of the rows goes there straight from the stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_contracts::{
    ArtifactId, CacheInventoryEntry, CacheKey, CacheOperation, CacheOutcome, CachePolicy, CacheRemoval, CacheScope,
    DeltaInput, PlanFingerprint, RunId, Stability,
};
use alluvium_plans::{PlanBundle, PublishedSchema};
use alluvium_profile::Session;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, DataFusionError, TableReference};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use futures::{StreamExt as _, TryStreamExt as _};
use tracing::Instrument as _;

use crate::artifact_record::ArtifactRecord;
use crate::cache::DeltaCache;
use crate::content::{Content, Demand};
use crate::entry::Entry;
use crate::error::CacheError;
use crate::inventory_row::{InMemoryFacts, row_of, row_of_entry};
use crate::published::{PublishExec, publish_batch};
use crate::reading::Reading;
use crate::scope::EntryScope;
use crate::write::{Placed, Turn};

/// Which artifacts outlive the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArtifactPolicy {
    /// Whether a table over the limit becomes a Delta table under the cache root. If not, every table stays in memory.
    /// Default: true.
    pub persist: bool,
    /// Bytes in memory up to which a table stays there. Default: 8 MiB.
    pub memory_limit_bytes: u64,
}

impl Default for ArtifactPolicy {
    fn default() -> Self {
        Self { persist: true, memory_limit_bytes: 8 << 20 }
    }
}

/// The name and the identity of an artifact.
#[derive(Debug, Clone)]
pub struct ArtifactKey {
    name: String,
    key: CacheKey,
    plan_fingerprint: Option<PlanFingerprint>,
    /// The document of the plan, by its identity.
    plan_artifact_id: Option<ArtifactId>,
    stability: Stability,
    components: BTreeMap<String, String>,
    inputs: Vec<DeltaInput>,
}

impl ArtifactKey {
    /// A key that the caller vouches for: the same name and text mean the same rows.
    #[must_use]
    pub fn given(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            key: derived(name, "given", text),
            plan_fingerprint: None,
            plan_artifact_id: None,
            stability: Stability::Exact,
            components: BTreeMap::from([("key".to_owned(), text.to_owned())]),
            inputs: Vec::new(),
        }
    }

    /// The identity of a plan, its inputs included; none if the plan is uncacheable. The artifact's commit and its record name
    /// the plan's document by [`PlanBundle::artifact_id`].
    #[must_use]
    pub fn of_plan(name: &str, plan: &PlanBundle) -> Option<Self> {
        Some(Self {
            name: name.to_owned(),
            key: derived(name, "plan", &plan.cache_key()?.to_string()),
            plan_fingerprint: Some(plan.identity().plan_fingerprint),
            plan_artifact_id: plan.artifact_id().ok(),
            stability: plan.identity().stability,
            components: plan.components().clone(),
            inputs: plan.inputs().to_vec(),
        })
    }

    /// Names the plan that computes the rows of a given key: what is known of the artifact can be evicted by it.
    #[must_use]
    pub fn with_plan_fingerprint(mut self, plan: PlanFingerprint) -> Self {
        self.plan_fingerprint = Some(plan);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key of the rows.
    #[must_use]
    pub fn cache_key(&self) -> CacheKey {
        self.key
    }

    fn content<'a>(&'a self, published: Option<&'a PublishedSchema>, tags: &'a [String]) -> Content<'a> {
        Content {
            scope: EntryScope::Artifact,
            name: &self.name,
            key: self.key,
            published,
            plan_fingerprint: self.plan_fingerprint,
            stability: self.stability,
            components: &self.components,
            inputs: &self.inputs,
            unstable_rows: None,
            bundle: None,
            plan_artifact_id: self.plan_artifact_id,
            tags,
        }
    }
}

/// A name of its own in the key keeps one row of the index to one artifact.
fn derived(name: &str, what: &str, text: &str) -> CacheKey {
    CacheKey::of(serde_json::json!(["artifact", name, what, text]).to_string().as_bytes())
}

/// The rows of an artifact, if they have to be made.
#[derive(Debug, Clone)]
pub enum ArtifactRows {
    /// These.
    Batches {
        /// Their schema.
        schema: SchemaRef,
        /// The rows.
        batches: Vec<RecordBatch>,
    },
    /// What this yields; it is executed only if there is no artifact yet.
    Frame(Box<DataFrame>),
}

/// What to keep.
#[derive(Debug)]
pub struct ArtifactRequest<'a> {
    /// Its name and identity.
    pub key: &'a ArtifactKey,
    /// Its rows.
    pub rows: ArtifactRows,
    /// The run on whose behalf.
    pub run_id: RunId,
    /// Make it even if it is there.
    pub fresh: bool,
    /// What it can be evicted by, beside its name.
    pub tags: &'a [String],
    /// Keeps it from deletion; so that it is for the caller to hold until the last scan is done.
    pub reading: &'a Reading,
}

/// An artifact that is there.
#[derive(Debug, Clone)]
pub struct Artifact {
    record: ArtifactRecord,
    provider: Arc<dyn TableProvider>,
    outcome: CacheOutcome,
    entry: Option<Arc<Entry>>,
}

impl Artifact {
    /// What is known of it.
    #[must_use]
    pub fn record(&self) -> &ArtifactRecord {
        &self.record
    }

    /// What scans its rows.
    #[must_use]
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::clone(&self.provider)
    }

    /// The operation that found or made it.
    #[must_use]
    pub fn outcome(&self) -> &CacheOutcome {
        &self.outcome
    }

    /// Registers it with `session` under its name, in the place of what had that name.
    ///
    /// # Errors
    /// [`CacheError::Artifact`] when the session refuses it.
    #[expect(clippy::disallowed_methods, reason = "the one place where artifacts enter a session")]
    pub fn register(&self, session: &Session) -> Result<(), CacheError> {
        // A bare string would be parsed as SQL and lose its capitals.
        let table = TableReference::bare(self.record.name.as_str());
        let context = session.context();
        let registered = context
            .deregister_table(table.clone())
            .and_then(|_| context.register_table(table, self.provider()))
            .map(drop);
        registered
            .map_err(|source| CacheError::Artifact { artifact: self.record.name.clone(), source: Box::new(source) })
    }

    /// The row of the inventory that this operation leaves: what a ledger is to record of it.
    #[must_use]
    pub fn inventory(&self, run_id: RunId, event_time_unix_ms: i64) -> CacheInventoryEntry {
        match &self.entry {
            Some(entry) => row_of_entry(&self.outcome, entry, run_id, event_time_unix_ms),
            None => {
                let ArtifactRecord { row_count, schema_hash, plan_fingerprint, plan_artifact_id, .. } = self.record;
                let facts = InMemoryFacts { row_count, schema_hash: Some(schema_hash) };
                let row = row_of(&self.outcome, facts, run_id, event_time_unix_ms);
                CacheInventoryEntry { plan_fingerprint, plan_artifact_id, ..row }
            }
        }
    }
}

impl DeltaCache {
    /// Keeps artifacts by another policy than the default.
    #[must_use]
    pub fn with_artifact_policy(mut self, policy: ArtifactPolicy) -> Self {
        self.artifacts.policy = policy;
        self
    }

    /// The artifact of a key: the one that is there, or else made of the request's rows. A table over the policy's limit
    /// becomes a Delta table of its own, and of its rows nothing stays in memory.
    ///
    /// # Errors
    /// [`CacheError::Columns`] when no table can hold its columns, [`CacheError::Artifact`] when its rows cannot be computed,
    /// and what files, commits and the index may fail with. Nothing is kept then.
    pub async fn artifact(&self, request: ArtifactRequest<'_>) -> Result<Artifact, CacheError> {
        if !request.fresh
            && let Some(found) = self.load_artifact(request.reading, request.key)?
        {
            return Ok(found);
        }
        let ArtifactRequest { key, rows, run_id, fresh, tags, reading: _ } = request;
        let (published, rows) = Rows::of(&key.name, rows)?;
        let content = key.content(Some(&published), tags);
        let demand = Demand { published: &published, run_id, fresh };
        if self.artifacts.policy.persist {
            self.make(key, &content, demand, rows).await
        } else {
            self.keep_in_memory(key, &content, demand, rows).await
        }
    }

    /// The artifact of a key, if it is there: in the memory of this process, or in a table of any. What is found can be
    /// scanned for as long as `reading` lives.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be read, [`CacheError::Io`] when a damaged entry cannot be set aside.
    pub fn load_artifact(&self, _reading: &Reading, key: &ArtifactKey) -> Result<Option<Artifact>, CacheError> {
        let content = key.content(None, &[]);
        let held = self.memory.get(EntryScope::Artifact, key.key);
        let policy = if held.is_some() { CachePolicy::Memory } else { CachePolicy::DeltaStaging };
        let looking = self.begin(CacheOperation::Read, &content.subject(policy));
        if let Some((provider, _)) = held
            && let Some(record) = self.recalled(&key.name, key.key)
        {
            return Ok(Some(Artifact { record, provider, outcome: looking.hit(None), entry: None }));
        }
        match looking.span().in_scope(|| self.find(&content)) {
            Ok(Some(entry)) => self.found(entry, looking.hit(None)).map(Some),
            Ok(None) => {
                looking.miss();
                Ok(None)
            }
            Err(error) => {
                looking.error(error.kind());
                Err(error)
            }
        }
    }

    /// Forgets what is known of the artifacts of a plan, condemns them, and deletes what nobody reads: as [`evict`](Self::evict) does.
    /// What cannot be deleted is noticed.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be used, [`CacheError::Io`] when a directory cannot be listed. What was in memory is
    /// gone all the same.
    pub fn evict_artifacts(&self, plan: &PlanFingerprint) -> Result<CacheRemoval, CacheError> {
        // First, so that nothing of it is served from memory whatever becomes of the rest.
        for record in self.forget_records(plan) {
            self.memory.remove(EntryScope::Artifact, record.cache_key);
        }
        let live = self.index.entries()?.found;
        let orphans = self.described_orphans(&live)?;
        let is_of_plan =
            |entry: &&Entry| entry.scope == EntryScope::Artifact && entry.plan_fingerprint.as_ref() == Some(plan);
        let doomed =
            self.select(&live, orphans, |_, entry| entry.filter(is_of_plan).map(|_| format!("asked for: {plan}")))?;
        self.remove(doomed, None, false)
    }

    /// Under the lease of its key: in memory if its rows are few, else as an entry.
    async fn make(
        &self,
        key: &ArtifactKey,
        content: &Content<'_>,
        demand: Demand<'_>,
        rows: Rows,
    ) -> Result<Artifact, CacheError> {
        let leased = match self.turn(content, demand).await? {
            Turn::Ours(leased) => leased,
            Turn::Found(entry, outcome) => return self.found(entry, outcome),
        };
        let watch = self.seam.stopwatch();
        let gathered = Gathered::of(rows, demand.published, Some(self.artifacts.policy.memory_limit_bytes)).await;
        let (gathered, rest) = match gathered {
            Ok(Gathered { batches, bytes, rest: None }) => {
                let writing = self.begin(CacheOperation::Write, &content.subject(CachePolicy::Memory)).since(watch);
                return self.hold(key, demand, batches, bytes, |bytes| writing.ok(Some(bytes)));
            }
            Ok(Gathered { batches, rest: Some(rest), .. }) => (batches, rest),
            Err(source) => {
                self.begin(CacheOperation::Write, &content.staged()).since(watch).error("compute");
                return Err(content.uncomputed(source));
            }
        };
        let schema = Arc::clone(demand.published.arrow());
        let stream = futures::stream::iter(gathered.into_iter().map(Ok)).chain(rest);
        let stream: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema, stream));
        let writing = self.begin(CacheOperation::Write, &content.staged()).since(watch);
        let written = self.publish_content(content, demand, leased, async { Ok(vec![stream]) }, &|| Ok(()));
        match written.instrument(writing.span().clone()).await {
            Ok(Placed::Theirs(entry)) => {
                let outcome = self.overtaken(content, writing);
                self.found(entry, outcome)
            }
            Ok(Placed::Ours(entry)) => {
                let outcome = writing.ok(Some(entry.size_bytes()));
                self.memory.remove(EntryScope::Artifact, key.key);
                let schema = demand.published.fields();
                self.remember(&ArtifactRecord { schema, ..ArtifactRecord::of_entry(&entry) });
                self.found(entry, outcome)
            }
            Err(error) => {
                writing.error(error.kind());
                Err(error)
            }
        }
    }

    async fn keep_in_memory(
        &self,
        key: &ArtifactKey,
        content: &Content<'_>,
        demand: Demand<'_>,
        rows: Rows,
    ) -> Result<Artifact, CacheError> {
        let writing = self.begin(CacheOperation::Write, &content.subject(CachePolicy::Memory));
        let gathered = Gathered::of(rows, demand.published, None).instrument(writing.span().clone()).await;
        match gathered {
            Ok(Gathered { batches, bytes, .. }) => {
                self.hold(key, demand, batches, bytes, |bytes| writing.ok(Some(bytes)))
            }
            Err(source) => {
                writing.error("compute");
                Err(content.uncomputed(source))
            }
        }
    }

    /// Keeps rows for the rest of the process.
    fn hold(
        &self,
        key: &ArtifactKey,
        demand: Demand<'_>,
        batches: Vec<RecordBatch>,
        bytes: u64,
        done: impl FnOnce(u64) -> CacheOutcome,
    ) -> Result<Artifact, CacheError> {
        let Demand { published, run_id, fresh: _ } = demand;
        let row_count = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let table = MemTable::try_new(Arc::clone(published.arrow()), vec![batches])
            .map_err(|source| CacheError::Artifact { artifact: key.name.clone(), source: Box::new(source) })?;
        let table = Arc::new(table);
        self.memory.insert(EntryScope::Artifact, key.key, Arc::clone(&table), row_count);
        let record = ArtifactRecord {
            name: key.name.clone(),
            cache_key: key.key,
            plan_fingerprint: key.plan_fingerprint,
            plan_artifact_id: key.plan_artifact_id,
            schema: published.fields(),
            schema_hash: published.hash(),
            storage: CachePolicy::Memory,
            cache_path: None,
            delta_version: None,
            row_count,
            size_bytes: bytes,
            run_id,
            created_unix_ms: self.seam.unix_ms(),
        };
        self.remember(&record);
        Ok(Artifact { record, provider: table, outcome: done(bytes), entry: None })
    }

    /// The artifact of a checked entry.
    fn found(&self, entry: Arc<Entry>, outcome: CacheOutcome) -> Result<Artifact, CacheError> {
        let record = self.record_of(&entry)?;
        let provider = self.provider(&entry, &self.artifact_schema(&entry)?)?;
        Ok(Artifact { record, provider, outcome, entry: Some(entry) })
    }
}

/// Rows that nobody has asked for yet.
enum Rows {
    Batches(Vec<RecordBatch>),
    Frame(Box<DataFrame>),
}

impl Rows {
    /// The rows, with the schema that they are published in.
    fn of(name: &str, rows: ArtifactRows) -> Result<(PublishedSchema, Self), CacheError> {
        let published = |schema: &DFSchema| {
            PublishedSchema::of(schema).map_err(|source| CacheError::Columns {
                scope: CacheScope::Artifact,
                name: name.to_owned(),
                source,
            })
        };
        match rows {
            ArtifactRows::Batches { schema, batches } => {
                let schema = DFSchema::try_from(schema)
                    .map_err(|source| CacheError::Artifact { artifact: name.to_owned(), source: Box::new(source) })?;
                Ok((published(&schema)?, Self::Batches(batches)))
            }
            ArtifactRows::Frame(frame) => Ok((published(frame.schema())?, Self::Frame(frame))),
        }
    }

    /// In published batches.
    async fn stream(self, published: &PublishedSchema) -> Result<SendableRecordBatchStream, DataFusionError> {
        let schema = Arc::clone(published.arrow());
        match self {
            Self::Batches(batches) => {
                let to = Arc::clone(&schema);
                let batches = batches.into_iter().map(move |batch| {
                    publish_batch(&batch, &to).map_err(|lost| DataFusionError::External(Box::new(lost)))
                });
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches))))
            }
            Self::Frame(frame) => {
                let (state, plan) = frame.into_parts();
                let exec = state.create_physical_plan(&plan).await?;
                execute_stream(Arc::new(PublishExec::new(exec, schema)), state.task_ctx())
            }
        }
    }
}

/// The first rows of an artifact.
struct Gathered {
    batches: Vec<RecordBatch>,
    /// What they take in memory.
    bytes: u64,
    /// The others, if those are over the limit.
    rest: Option<SendableRecordBatchStream>,
}

impl Gathered {
    /// Rows until they take more than `limit` bytes; without a limit, all.
    async fn of(rows: Rows, published: &PublishedSchema, limit: Option<u64>) -> Result<Self, DataFusionError> {
        let mut stream = rows.stream(published).await?;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = stream.try_next().await? {
            bytes += batch.get_array_memory_size() as u64;
            batches.push(batch);
            if limit.is_some_and(|limit| bytes > limit) {
                return Ok(Self { batches, bytes, rest: Some(stream) });
            }
        }
        Ok(Self { batches, bytes, rest: None })
    }
}
