//! Rows that stay in memory for the rest of the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alluvium_contracts::{CacheKey, CacheOperation, CacheOutcome, CachePolicy};
use alluvium_plans::PlanBundle;
use alluvium_profile::Session;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use crate::cache::{BeforePublish, DeltaCache, compute};
use crate::error::CacheError;
use crate::materialize;
use crate::operation::Subject;
use crate::scope::EntryScope;
use crate::unstable_rows::UnstableRows;

/// The rows of a view, and how many there are.
pub type InMemory = (Arc<dyn TableProvider>, u64);

/// The rows that are kept, by key.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Tables>);

/// Tables, by what they are of.
type Tables = HashMap<(EntryScope, CacheKey), Kept>;

#[derive(Debug)]
struct Kept {
    table: Arc<MemTable>,
    rows: u64,
    computed_from: UnstableRows,
}

impl Memory {
    /// How many tables of a scope are kept.
    pub(crate) fn len(&self, scope: EntryScope) -> u64 {
        self.tables().keys().filter(|(of, _)| *of == scope).count() as u64
    }

    pub(crate) fn get(&self, scope: EntryScope, key: CacheKey) -> Option<InMemory> {
        self.get_computed_from(scope, key, &UnstableRows::new())
    }

    fn get_computed_from(&self, scope: EntryScope, key: CacheKey, rows: &UnstableRows) -> Option<InMemory> {
        let tables = self.tables();
        let kept = tables.get(&(scope, key)).filter(|kept| kept.computed_from == *rows)?;
        Some((Arc::clone(&kept.table) as Arc<dyn TableProvider>, kept.rows))
    }

    pub(crate) fn insert(&self, scope: EntryScope, key: CacheKey, table: Arc<MemTable>, rows: u64) {
        self.insert_computed_from(scope, key, table, rows, &UnstableRows::new());
    }

    fn insert_computed_from(
        &self,
        scope: EntryScope,
        key: CacheKey,
        table: Arc<MemTable>,
        rows: u64,
        computed_from: &UnstableRows,
    ) {
        self.tables().insert((scope, key), Kept { table, rows, computed_from: computed_from.clone() });
    }

    pub(crate) fn remove(&self, scope: EntryScope, key: CacheKey) {
        self.tables().remove(&(scope, key));
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeltaCache {
    /// The view's rows in memory, kept for the rest of the process where it has a key. Returns what scans them and how many
    /// there are, and the outcome of keeping them: none for a view without a key, and where they were there already, computed from
    /// the same `unstable_rows`. `fresh` computes them even then.
    ///
    /// # Errors
    /// [`CacheError::Compute`] when the query fails, [`CacheError::SourceChanged`] when `before_publish` finds a source
    /// changed; nothing is kept then.
    pub async fn memory(
        &self,
        session: &Session,
        bundle: &PlanBundle,
        unstable_rows: &UnstableRows,
        fresh: bool,
        before_publish: BeforePublish<'_>,
    ) -> Result<(InMemory, Option<CacheOutcome>), CacheError> {
        if !fresh && let Some(kept) = self.in_memory(bundle, unstable_rows) {
            return Ok((kept, None));
        }
        let Some(key) = bundle.cache_key() else {
            let (table, rows) = self.compute_in_memory(session, bundle, before_publish).await?;
            return Ok(((table, rows), None));
        };
        let writing = self.begin(CacheOperation::Write, &Subject::view(bundle, CachePolicy::Memory));
        let computed = self.compute_in_memory(session, bundle, before_publish);
        match tracing::Instrument::instrument(computed, writing.span().clone()).await {
            Ok((table, rows)) => {
                let kept = Arc::clone(&table);
                self.memory.insert_computed_from(EntryScope::View, key, kept, rows, unstable_rows);
                Ok(((table, rows), Some(writing.ok(None))))
            }
            Err(error) => {
                writing.error(error.kind());
                Err(error)
            }
        }
    }

    /// The view's rows, if an earlier call kept them in memory and computed them from these `unstable_rows`.
    #[must_use]
    pub fn lookup_memory(&self, bundle: &PlanBundle, unstable_rows: &UnstableRows) -> Option<(InMemory, CacheOutcome)> {
        let reading = self.begin(CacheOperation::Read, &Subject::view(bundle, CachePolicy::Memory));
        match self.in_memory(bundle, unstable_rows) {
            Some(kept) => Some((kept, reading.hit(None))),
            None => {
                reading.miss();
                None
            }
        }
    }

    fn in_memory(&self, bundle: &PlanBundle, unstable_rows: &UnstableRows) -> Option<InMemory> {
        self.memory.get_computed_from(EntryScope::View, bundle.cache_key()?, unstable_rows)
    }

    async fn compute_in_memory(
        &self,
        session: &Session,
        bundle: &PlanBundle,
        before_publish: BeforePublish<'_>,
    ) -> Result<(Arc<MemTable>, u64), CacheError> {
        let (table, rows) =
            materialize::in_memory(session, bundle.plan(), bundle.published()).await.map_err(compute(bundle.name()))?;
        before_publish().map_err(|source| CacheError::SourceChanged { name: bundle.name().to_owned(), source })?;
        Ok((Arc::new(table), rows))
    }
}
