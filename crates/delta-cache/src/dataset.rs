//! Registered inputs that are kept: read from their files once a pin, and from the cache afterwards.
//!
//! What is kept stands in for its files and for nothing else: the pin stays that of the files, and the rows have the columns
//! that the files give, so no key moves with the policy. A changed file is another pin, and so another key.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_contracts::{
    CacheInventoryEntry, CacheKey, CacheOperation, CacheOutcome, CachePolicy, CacheScope, DatasetCache, DeltaInput,
    RunId, Stability,
};
use alluvium_datasets::{Dataset, PinnedDataset, Pinner, register_pinned};
use alluvium_plans::{PublishedSchema, engine_versions};
use alluvium_profile::Session;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::datasource::MemTable;
use tracing::Instrument as _;

use crate::cache::{BeforePublish, DeltaCache, Written};
use crate::content::{Content, Demand};
use crate::entry::Entry;
use crate::error::CacheError;
use crate::inventory_row::{InMemoryFacts, row_of, row_of_entry};
use crate::materialize;
use crate::reading::Reading;
use crate::restored::{Restored, irreversible};
use crate::scope::EntryScope;

/// A pinned dataset with the key that its rows are kept under.
#[derive(Debug, Clone)]
pub struct KeptDataset {
    pinned: PinnedDataset,
    policy: CachePolicy,
    key: CacheKey,
    components: BTreeMap<String, String>,
    inputs: Vec<DeltaInput>,
    /// The columns of its table; none of what stays in memory.
    published: Option<PublishedSchema>,
}

/// What to keep.
#[derive(Debug, Clone, Copy)]
pub struct DatasetRequest<'a> {
    /// The dataset.
    pub dataset: &'a KeptDataset,
    /// The run on whose behalf.
    pub run_id: RunId,
    /// Keeps its entry from deletion; so that it is for the caller to hold until the last scan is done.
    pub reading: &'a Reading,
}

/// The rows of a dataset, as they are kept.
#[derive(Debug, Clone)]
pub struct DatasetRows {
    provider: Arc<dyn TableProvider>,
    outcome: CacheOutcome,
    row_count: u64,
    entry: Option<Arc<Entry>>,
}

impl KeptDataset {
    fn new(session: &Session, pinned: &PinnedDataset, policy: CachePolicy) -> Result<Self, CacheError> {
        let (settings, engine) = (session.semantic_settings(), engine_versions());
        let identity = serde_json::json!({
            "scope": "dataset",
            "pin": pinned.digest(),
            "settings": settings,
            "engine": engine,
        });
        let mut components = pinned.components().clone();
        for (prefix, values) in [("setting", &settings), ("engine", &engine)] {
            components.extend(values.iter().map(|(name, value)| (format!("{prefix} {name}"), value.clone())));
        }
        Ok(Self {
            key: CacheKey::of(identity.to_string().as_bytes()),
            published: match policy {
                CachePolicy::DeltaStaging => Some(published(pinned)?),
                CachePolicy::None | CachePolicy::Memory | CachePolicy::DeltaOutput => None,
            },
            inputs: vec![DeltaInput {
                name: pinned.name().to_owned(),
                pin: pinned.digest(),
                version: pinned.delta_version(),
            }],
            pinned: pinned.clone(),
            policy,
            components,
        })
    }

    /// The pin that its rows stand for.
    #[must_use]
    pub fn pinned(&self) -> &PinnedDataset {
        &self.pinned
    }

    /// Where its rows are kept: `memory` or `delta_staging`.
    #[must_use]
    pub fn policy(&self) -> CachePolicy {
        self.policy
    }

    fn content(&self) -> Content<'_> {
        Content {
            scope: EntryScope::Dataset,
            name: self.pinned.name(),
            key: self.key,
            published: self.published.as_ref(),
            plan_fingerprint: None,
            stability: Stability::Exact,
            components: &self.components,
            inputs: &self.inputs,
            unstable_rows: None,
            bundle: None,
            plan_artifact_id: None,
            tags: &[],
        }
    }
}

impl DatasetRows {
    /// What scans them: with the columns that the dataset's files give.
    #[must_use]
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::clone(&self.provider)
    }

    /// The operation that found or wrote them.
    #[must_use]
    pub fn outcome(&self) -> &CacheOutcome {
        &self.outcome
    }

    /// Their table, where they have one.
    #[must_use]
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        self.entry.as_ref()
    }

    /// The row of the inventory that this operation leaves: what a ledger is to record of it.
    #[must_use]
    pub fn inventory(&self, run_id: RunId, event_time_unix_ms: i64) -> CacheInventoryEntry {
        match &self.entry {
            Some(entry) => row_of_entry(&self.outcome, entry, run_id, event_time_unix_ms),
            None => {
                let facts = InMemoryFacts { row_count: self.row_count, schema_hash: None };
                row_of(&self.outcome, facts, run_id, event_time_unix_ms)
            }
        }
    }
}

impl DeltaCache {
    /// What keeps the rows of a pinned dataset, if it declares a `cache`. One with more columns than `cache_max_columns` is
    /// not kept, and noticed.
    ///
    /// # Errors
    /// [`CacheError::Columns`] and [`CacheError::Irreversible`] when no Delta table can hold its columns and give them back.
    pub fn kept_dataset(
        &self,
        session: &Session,
        dataset: &Dataset,
        pinned: &PinnedDataset,
    ) -> Result<Option<KeptDataset>, CacheError> {
        let policy = match dataset.cache() {
            DatasetCache::None => return Ok(None),
            DatasetCache::Memory => CachePolicy::Memory,
            DatasetCache::DeltaStaging => CachePolicy::DeltaStaging,
        };
        let (columns, most) = (pinned.schema().fields().len(), dataset.cache_max_columns());
        if columns > most {
            let name = dataset.name();
            self.notice(format!(
                "dataset `{name}` has {columns} columns, more than cache_max_columns = {most}: it is not kept, and read from its \
                 files each time"
            ));
            return Ok(None);
        }
        KeptDataset::new(session, pinned, policy).map(Some)
    }

    /// Looks for the rows of a dataset. What is found can be scanned for as long as `reading` lives.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be read, [`CacheError::Io`] when a damaged entry cannot be set aside.
    pub fn lookup_dataset(&self, _reading: &Reading, dataset: &KeptDataset) -> Result<Option<DatasetRows>, CacheError> {
        let content = dataset.content();
        let looking = self.begin(CacheOperation::Read, &content.subject(dataset.policy));
        let Some(published) = &dataset.published else {
            return Ok(match self.memory.get(EntryScope::Dataset, dataset.key) {
                Some((provider, row_count)) => {
                    Some(DatasetRows { provider, outcome: looking.hit(None), row_count, entry: None })
                }
                None => {
                    looking.miss();
                    None
                }
            });
        };
        match looking.span().in_scope(|| self.find(&content)) {
            Ok(Some(entry)) => self.dataset_rows(dataset, published, entry, looking.hit(None)).map(Some),
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

    /// The rows of a dataset: those that are kept, or else read from its files and kept. One process of several reads the
    /// files. Its files are stated again before anything is kept, and then `before_publish` is asked: after it, the caller is to wait
    /// for the end, since what is dropped between a commit and its publication is in no index.
    ///
    /// # Errors
    /// [`CacheError::Dataset`] when its files cannot be read, [`CacheError::SourceChanged`] when they changed meanwhile, and
    /// what files, commits and the index may fail with. Nothing is kept then.
    pub async fn dataset(
        &self,
        session: &Session,
        request: DatasetRequest<'_>,
        before_publish: BeforePublish<'_>,
    ) -> Result<DatasetRows, CacheError> {
        let DatasetRequest { dataset, run_id, reading } = request;
        if let Some(found) = self.lookup_dataset(reading, dataset)? {
            return Ok(found);
        }
        let content = dataset.content();
        let Some(published) = &dataset.published else {
            return self.dataset_in_memory(session, dataset, &content).await;
        };
        let demand = Demand { published, run_id, fresh: false };
        let recheck = || dataset.pinned.recheck().and_then(|()| before_publish());
        let streams = async {
            let read = || -> Result<_, DataFusionError> {
                let provider = dataset.pinned.provider().map_err(|error| DataFusionError::External(Box::new(error)))?;
                Ok(session.context().read_table(provider)?.into_unoptimized_plan())
            };
            let plan = read().map_err(|error| content.uncomputed(error))?;
            materialize::streams(session, &plan, published).await.map_err(|error| content.uncomputed(error))
        };
        let (entry, outcome) = match self.write_content(&content, demand, streams, &recheck).await? {
            Written::Computed(entry, outcome) | Written::Shared(entry, outcome) => (entry, outcome),
        };
        self.dataset_rows(dataset, published, entry, outcome)
    }

    /// Pins a dataset and registers it with `session` under its name, kept as it declares: what
    /// [`register_dataset`](alluvium_datasets::register_dataset) does, and `cache = "delta_staging"` too. The rows are none
    /// where it is read from its files: without a `cache`, or with too many columns for it.
    ///
    /// # Errors
    /// As [`dataset`](Self::dataset), and [`CacheError::Register`] when it cannot be pinned or registered.
    pub async fn register_dataset(
        &self,
        session: &Session,
        pinner: &Pinner,
        dataset: &Dataset,
        run_id: RunId,
        reading: &Reading,
    ) -> Result<(PinnedDataset, Option<DatasetRows>), CacheError> {
        let refused = |source| CacheError::Register { dataset: dataset.name().to_owned(), source: Box::new(source) };
        let pinned = pinner.pin(session.context(), dataset).await;
        let pin_error = |source| {
            refused(alluvium_datasets::RegisterError::Pin {
                dataset: dataset.name().to_owned(),
                source: Box::new(source),
            })
        };
        let pinned = pinned.map_err(pin_error)?;
        let rows = match self.kept_dataset(session, dataset, &pinned)? {
            Some(kept) => {
                Some(self.dataset(session, DatasetRequest { dataset: &kept, run_id, reading }, &|| Ok(())).await?)
            }
            None => None,
        };
        let provider = match &rows {
            Some(rows) => rows.provider(),
            None => pinned.provider().map_err(pin_error)?,
        };
        register_pinned(session, &pinned, provider).await.map_err(refused)?;
        Ok((pinned, rows))
    }

    async fn dataset_in_memory(
        &self,
        session: &Session,
        dataset: &KeptDataset,
        content: &Content<'_>,
    ) -> Result<DatasetRows, CacheError> {
        let writing = self.begin(CacheOperation::Write, &content.subject(CachePolicy::Memory));
        let read = async {
            let pinned = &dataset.pinned;
            let read = async {
                let provider = pinned.provider().map_err(|error| DataFusionError::External(Box::new(error)))?;
                let partitions = session.context().read_table(provider)?.collect_partitioned().await?;
                let row_count = partitions.iter().flatten().map(|batch| batch.num_rows() as u64).sum::<u64>();
                Ok((MemTable::try_new(Arc::clone(pinned.schema()), partitions)?, row_count))
            };
            let (table, row_count) = read.await.map_err(|error| content.uncomputed(error))?;
            let changed = |source| CacheError::SourceChanged { name: pinned.name().to_owned(), source };
            pinned.recheck().map_err(changed)?;
            Ok::<_, CacheError>((Arc::new(table), row_count))
        };
        match read.instrument(writing.span().clone()).await {
            Ok((table, row_count)) => {
                self.memory.insert(EntryScope::Dataset, dataset.key, Arc::clone(&table), row_count);
                Ok(DatasetRows { provider: table, outcome: writing.ok(None), row_count, entry: None })
            }
            Err(error) => {
                writing.error(error.kind());
                Err(error)
            }
        }
    }

    fn dataset_rows(
        &self,
        dataset: &KeptDataset,
        published: &PublishedSchema,
        entry: Arc<Entry>,
        outcome: CacheOutcome,
    ) -> Result<DatasetRows, CacheError> {
        let provider = Restored::over(self.provider(&entry, published.arrow())?, dataset.pinned.schema());
        Ok(DatasetRows { provider, outcome, row_count: entry.row_count, entry: Some(entry) })
    }
}

/// The columns of the table that holds a dataset: they have to come back as they were.
fn published(pinned: &PinnedDataset) -> Result<PublishedSchema, CacheError> {
    let name = || pinned.name().to_owned();
    let schema = DFSchema::try_from(Arc::clone(pinned.schema()))
        .map_err(|source| CacheError::Dataset { dataset: name(), source: Box::new(source) })?;
    let published = PublishedSchema::of(&schema).map_err(|source| CacheError::Columns {
        scope: CacheScope::Dataset,
        name: name(),
        source,
    })?;
    match irreversible(pinned.schema(), published.arrow()) {
        None => Ok(published),
        Some(column) => Err(CacheError::Irreversible {
            dataset: name(),
            column: column.name().clone(),
            data_type: column.data_type().clone(),
        }),
    }
}
