//! Live entries as tables: a schema of a catalog for each scope, so that SQL can name them.
//!
//! The newest entry of a name is the table of that name; an earlier one has the first digits of its key behind it. What is
//! named is checked like any hit, and an entry that is not asked for is not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_contracts::CacheOperation;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::TableType;

use crate::cache::DeltaCache;
use crate::content::Content;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::reading::Reading;
use crate::scope::EntryScope;

/// The live entries of a scope, as they were when this was made.
#[derive(Debug)]
pub struct EntrySchema {
    cache: Arc<DeltaCache>,
    /// Keeps them from deletion.
    _reading: Arc<Reading>,
    entries: BTreeMap<String, Entry>,
}

impl DeltaCache {
    /// The live entries as tables, a schema a scope. They can be scanned for as long as the schemas live.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be read.
    pub fn entry_schemas(
        self: &Arc<Self>,
        reading: &Arc<Reading>,
    ) -> std::result::Result<BTreeMap<EntryScope, EntrySchema>, CacheError> {
        let empty = || EntrySchema { cache: Arc::clone(self), _reading: Arc::clone(reading), entries: BTreeMap::new() };
        let mut schemas: BTreeMap<_, _> = EntryScope::ALL.into_iter().map(|scope| (scope, empty())).collect();
        let mut entries = self.index.entries()?.found;
        entries.sort_by_key(|entry| (std::cmp::Reverse(entry.created_unix_ms), entry.id));
        for entry in entries {
            if let Some(schema) = schemas.get_mut(&entry.scope) {
                schema.add(entry);
            }
        }
        Ok(schemas)
    }

    /// What scans a live entry, once it has been checked like a hit; none if it turned out damaged.
    fn table_of(&self, entry: &Entry) -> std::result::Result<Option<Arc<dyn TableProvider>>, CacheError> {
        let content = Content::of_entry(entry);
        let looking = self.begin(CacheOperation::Read, &content.staged());
        match looking.span().in_scope(|| self.valid_entry(&content)) {
            Ok(Some(found)) => {
                looking.hit(None);
                let schema = match found.scope {
                    EntryScope::Artifact => self.artifact_schema(&found)?,
                    EntryScope::View | EntryScope::Dataset => self.declared(&found)?,
                };
                self.provider(&found, &schema).map(Some)
            }
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
}

impl EntrySchema {
    /// Each table's name, with the entry that it is.
    pub fn entries(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }

    fn add(&mut self, entry: Entry) {
        let digits: String = entry.key.hex().chars().take(12).collect();
        let mut names =
            [entry.view.clone(), format!("{}__{digits}", entry.view), format!("{}__{}", entry.view, entry.key.hex())]
                .into_iter();
        if let Some(name) = names.find(|name| !self.entries.contains_key(name)) {
            self.entries.insert(name, entry);
        }
    }
}

#[async_trait]
impl SchemaProvider for EntrySchema {
    fn table_names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.entries.get(name) {
            Some(entry) => self.cache.table_of(entry).map_err(|error| DataFusionError::External(Box::new(error))),
            None => Ok(None),
        }
    }

    /// Listing tables opens none of them.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.entries.contains_key(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }
}
