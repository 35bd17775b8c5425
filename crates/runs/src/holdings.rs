//! `alluvium.bytes_by_scope`: what is there now. Ledgers tell what was written; what has gone since then, only those who hold it know:
//! the index of the caches, and the logs of the outputs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::CacheScope;
use alluvium_delta_cache::{EntrySchema, EntryScope};
use alluvium_write_policy::{active_files, head_commit};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;

use crate::error::RunError;
use crate::pipeline::Pipeline;

/// The name of the table in the schema of ledgers.
pub(crate) const BYTES_BY_SCOPE: &str = "bytes_by_scope";

/// What the tables of one scope hold together. What one of them does not tell is unknown of all.
struct Holding {
    scope: CacheScope,
    tables: u64,
    size_bytes: Option<u64>,
    row_count: Option<u64>,
    file_count: Option<u64>,
}

impl Holding {
    fn of(scope: CacheScope) -> Self {
        Self { scope, tables: 0, size_bytes: Some(0), row_count: Some(0), file_count: Some(0) }
    }

    fn add(&mut self, size_bytes: Option<u64>, row_count: Option<u64>, file_count: Option<u64>) {
        let sum = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
        self.tables += 1;
        self.size_bytes = sum(self.size_bytes, size_bytes);
        self.row_count = sum(self.row_count, row_count);
        self.file_count = sum(self.file_count, file_count);
    }
}

impl Pipeline {
    /// A row for each scope that has tables: the live entries of the cache root, and the newest versions of this project's outputs.
    pub(crate) async fn bytes_by_scope(
        &self,
        schemas: &BTreeMap<EntryScope, EntrySchema>,
    ) -> Result<Arc<dyn TableProvider>, RunError> {
        let mut holdings = Vec::new();
        for (scope, schema) in schemas {
            let mut holding = Holding::of(scope.word());
            for (_, entry) in schema.entries() {
                holding.add(Some(entry.size_bytes()), Some(entry.row_count), Some(entry.files.len() as u64));
            }
            holdings.push(holding);
        }
        let mut published = Holding::of(CacheScope::Output);
        for output in self.project.spec().outputs.values() {
            add_output(&mut published, &self.project.dir().join(&output.path)).await;
        }
        holdings.push(published);
        holdings.retain(|holding| holding.tables > 0);
        table(&holdings).map_err(RunError::execute)
    }
}

async fn add_output(published: &mut Holding, table: &Path) {
    let head = match head_commit(table) {
        Ok(Some(head)) => head,
        // Not published yet.
        Ok(None) => return,
        Err(_) => return published.add(None, None, None),
    };
    match active_files(table, head.version).await {
        Ok(files) => {
            let rows = files.iter().map(|file| file.row_count).sum();
            published.add(Some(files.iter().map(|file| file.size_bytes).sum()), Some(rows), Some(files.len() as u64));
        }
        Err(_) => published.add(None, None, None),
    }
}

fn table(holdings: &[Holding]) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let scopes: ArrayRef =
        Arc::new(holdings.iter().map(|holding| Some(holding.scope.as_str())).collect::<StringArray>());
    let count = |of: &dyn Fn(&Holding) -> Option<u64>| -> ArrayRef {
        Arc::new(holdings.iter().map(|holding| i64::try_from(of(holding)?).ok()).collect::<Int64Array>())
    };
    let columns = [
        ("cache_scope", scopes),
        ("entry_count", count(&|holding| Some(holding.tables))),
        ("size_bytes", count(&|holding| holding.size_bytes)),
        ("row_count", count(&|holding| holding.row_count)),
        ("file_count", count(&|holding| holding.file_count)),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}
