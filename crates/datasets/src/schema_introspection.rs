//! Answers about the schemas of a session, kept in the `schema` cache of a cache root.
//!
//! An answer lies under the digest of everything that it may depend on: the tables that are registered now, their columns and
//! what is known of their constraints. So a registration, here or in another process, asks another question, and no answer
//! can be stale; TTL, eviction and [`invalidate`](SchemaIntrospection::invalidate) only make room.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_contracts::{ProfileHash, SchemaHash};
use alluvium_disk_kv_cache::CacheError;
use alluvium_profile::{KvCache, KvKey, KvTag, Query, QueryError, RuntimeProfile, Session};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::error::DataFusionError;

use crate::pin::blocking;
use crate::schema_text::{identity_bytes, schema_text};
use crate::table_constraints;

/// Raised when the same schemas give another answer.
const EPOCH: u32 = 1;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchemaQuestion {
    /// Each table: catalog, schema, name and type.
    Tables,
    /// Each column of each table: its place, type, and whether it may be NULL.
    Columns,
    /// The rows of `alluvium.table_constraints`.
    Constraints,
}

impl SchemaQuestion {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Tables, Self::Columns, Self::Constraints];

    /// Its name, in keys.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tables => "tables",
            Self::Columns => "columns",
            Self::Constraints => "constraints",
        }
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Tables => {
                "select table_catalog, table_schema, table_name, table_type from information_schema.tables \
                 where table_schema <> 'information_schema' order by 1, 2, 3"
            }
            Self::Columns => {
                "select table_catalog, table_schema, table_name, column_name, ordinal_position, data_type, is_nullable \
                 from information_schema.columns where table_schema <> 'information_schema' order by 1, 2, 3, 5"
            }
            Self::Constraints => {
                "select * from alluvium.table_constraints \
                 order by table_catalog, table_schema, table_name, constraint_type, constraint_name, ordinal_position"
            }
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaIntrospectionError {
    /// The session's tables cannot be looked through.
    #[error("the tables of the session cannot be listed: look at the catalog that fails")]
    Catalog {
        /// The engine's word.
        source: Box<DataFusionError>,
    },
    /// The session refuses the question: its `information_schema` is off, say.
    #[error("the session does not answer the question `{question}` about its schemas")]
    Query {
        /// The question.
        question: &'static str,
        /// Why.
        source: Box<QueryError>,
    },
    /// Answering failed.
    #[error("answering the question `{question}` about the schemas of a session failed")]
    Answer {
        /// The question.
        question: &'static str,
        /// The engine's word.
        source: Box<DataFusionError>,
    },
    /// The answers cannot be forgotten.
    #[error("the kept answers about schemas cannot be forgotten: check the `schema` store of the cache root")]
    Invalidate {
        /// The store's word.
        source: Box<CacheError>,
    },
}

/// Asks about the schemas of sessions, and keeps the answers. Cloning is cheap, and clones share their counters.
#[derive(Debug, Clone)]
pub struct SchemaIntrospection {
    cache: KvCache,
    profile: ProfileHash,
    counted: Arc<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl SchemaIntrospection {
    /// Keeps answers in `cache`, that of [`KvKind::Schema`](alluvium_profile::KvKind::Schema), for sessions of `profile`.
    #[must_use]
    pub fn new(cache: KvCache, profile: &RuntimeProfile) -> Self {
        Self { cache, profile: profile.profile_hash(), counted: Arc::default() }
    }

    /// The answer for the tables that are registered with `session` now. A cache that fails is worked without.
    ///
    /// # Errors
    /// As the variants of [`SchemaIntrospectionError`] say.
    pub async fn ask(
        &self,
        session: &Session,
        question: SchemaQuestion,
    ) -> Result<RecordBatch, SchemaIntrospectionError> {
        let schemas = schema_map(session)
            .await
            .map_err(|source| SchemaIntrospectionError::Catalog { source: Box::new(source) })?;
        // The schema map is the subject: the answer to all of it.
        let key = KvKey::schema(question.as_str(), &schemas.to_string(), &self.profile);
        let (cache, asked) = (self.cache.clone(), key.clone());
        let kept = match blocking(move || cache.get(&asked)).await {
            Ok(kept) => kept.and_then(|bytes| decode(&bytes).ok()),
            Err(error) => {
                warn(&error);
                None
            }
        };
        if let Some(kept) = kept {
            self.counted.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(kept);
        }
        self.counted.misses.fetch_add(1, Ordering::Relaxed);
        let answer = answer(session, question).await?;
        if let Ok(bytes) = encode(&answer) {
            let tags = [KvTag::profile(&self.profile), KvTag::schema_map(&schemas)];
            let cache = self.cache.clone();
            if let Err(error) = blocking(move || cache.set(&key, &bytes, &tags)).await {
                warn(&error);
            }
        }
        Ok(answer)
    }

    /// Forgets all answers of this profile, and counts them.
    ///
    /// # Errors
    /// [`SchemaIntrospectionError::Invalidate`].
    pub fn invalidate(&self) -> Result<u64, SchemaIntrospectionError> {
        self.cache
            .evict(&KvTag::profile(&self.profile))
            .map_err(|source| SchemaIntrospectionError::Invalidate { source: Box::new(source) })
    }

    /// How many answers were there, and how many had to be found.
    #[must_use]
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.counted.hits.load(Ordering::Relaxed), self.counted.misses.load(Ordering::Relaxed))
    }
}

fn warn(error: &CacheError) {
    tracing::warn!(error = error as &dyn std::error::Error, "the cache of schema answers failed; working without it");
}

async fn answer(session: &Session, question: SchemaQuestion) -> Result<RecordBatch, SchemaIntrospectionError> {
    let frame = session
        .execute(Query::sql(question.sql()))
        .await
        .map_err(|source| SchemaIntrospectionError::Query { question: question.as_str(), source: Box::new(source) })?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let rows = async { Ok(concat_batches(&schema, &frame.collect().await?)?) };
    rows.await
        .map_err(|source| SchemaIntrospectionError::Answer { question: question.as_str(), source: Box::new(source) })
}

/// The digest of all tables of a session but those of `information_schema`, which says the same.
async fn schema_map(session: &Session) -> Result<SchemaHash, DataFusionError> {
    // Made now rather than by the first registration after the first answer, which has it among its tables.
    let constraints = table_constraints::known(session).await?.current().await?;
    let catalogs = Arc::clone(session.context().state().catalog_list());
    let mut tables = Vec::new();
    for catalog_name in catalogs.catalog_names() {
        let Some(catalog) = catalogs.catalog(&catalog_name) else {
            continue;
        };
        for schema_name in catalog.schema_names() {
            let Some(schema) = catalog.schema(&schema_name).filter(|_| schema_name != "information_schema") else {
                continue;
            };
            for name in schema.table_names() {
                let Some(table) = schema.table(&name).await? else {
                    continue;
                };
                let said = (catalog_name.clone(), schema_name.clone(), name);
                let constraints = constraints.get(&said).map(|constraints| format!("{constraints:?}"));
                let table_type = format!("{:?}", table.table_type());
                tables.push((said, table_type, schema_text(&table.schema()), constraints));
            }
        }
    }
    tables.sort();
    Ok(SchemaHash::of(&identity_bytes(&serde_json::json!({ "epoch": EPOCH, "tables": tables }))))
}

fn encode(answer: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &answer.schema())?;
    writer.write(answer)?;
    writer.into_inner()
}

fn decode(bytes: &[u8]) -> Result<RecordBatch, ArrowError> {
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    reader.next().unwrap_or_else(|| Err(ArrowError::IpcError("there is no answer in it".to_owned())))
}
