//! The live entries of the caches, as tables that a query can name.
//!
//! | name | what |
//! |---|---|
//! | `view_cache.NAME`, `dataset_cache.NAME`, `runtime_artifacts.NAME` | the newest live entry of that name |
//! | `view_cache.NAME__KEY` and so on | an earlier one, by the first digits of its key |
//! | `alluvium.cache_entries` | a row for each of them: table, version, schema, fingerprint, path |

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_delta_cache::{Entry, EntrySchema, EntryScope};
use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;

use crate::error::RunError;

/// The name of the table of entries in the schema of ledgers.
pub(crate) const CACHE_ENTRIES: &str = "cache_entries";

/// Whether a schema is one of entries.
pub(crate) fn is_entry_schema(name: &str) -> bool {
    SCOPES.iter().any(|scope| scope.dir_name() == name)
}

const SCOPES: [EntryScope; 3] = [EntryScope::View, EntryScope::Dataset, EntryScope::Artifact];

/// Registers the schemas of entries, and the table of all of them in `ledgers`.
pub(crate) fn register(
    catalog: &dyn CatalogProvider,
    ledgers: &dyn SchemaProvider,
    schemas: BTreeMap<EntryScope, EntrySchema>,
) -> Result<(), RunError> {
    let listed = listing(&schemas).map_err(RunError::execute)?;
    ledgers.register_table(CACHE_ENTRIES.to_owned(), listed).map_err(RunError::execute)?;
    for (scope, schema) in schemas {
        catalog.register_schema(scope.dir_name(), Arc::new(schema)).map_err(RunError::execute)?;
    }
    Ok(())
}

/// An entry, with its scope and the name of its table.
type Row<'e> = (&'e EntryScope, &'e String, &'e Entry);

fn listing(schemas: &BTreeMap<EntryScope, EntrySchema>) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let rows: Vec<Row<'_>> = schemas
        .iter()
        .flat_map(|(scope, schema)| schema.entries().map(move |(table, entry)| (scope, table, entry)))
        .collect();
    let text = |of: &dyn Fn(&Row<'_>) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<StringArray>())
    };
    let count = |of: &dyn Fn(&Entry) -> u64| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, _, entry)| i64::try_from(of(entry)).ok()).collect::<Int64Array>())
    };
    let created: ArrayRef = Arc::new(
        rows.iter().map(|(_, _, entry)| entry.created_unix_ms).collect::<Vec<_>>().into_iter().collect::<Int64Array>(),
    );
    let compute: ArrayRef = Arc::new(rows.iter().map(|(_, _, entry)| Some(entry.compute_ms)).collect::<Float64Array>());
    let columns = [
        ("table_schema", text(&|(scope, ..)| Some(scope.dir_name().to_owned()))),
        ("table_name", text(&|(_, table, _)| Some((*table).clone()))),
        ("cache_scope", text(&|(scope, ..)| Some(scope.word().as_str().to_owned()))),
        ("view_name", text(&|(.., entry)| Some(entry.view.clone()))),
        ("entry_id", text(&|(.., entry)| Some(entry.id.to_string()))),
        ("cache_key", text(&|(.., entry)| Some(entry.key.to_string()))),
        ("cache_path", text(&|(.., entry)| Some(entry.dir.clone()))),
        // An entry is a table of one version.
        ("delta_version", count(&|_| 0)),
        ("schema_hash", text(&|(.., entry)| Some(entry.schema_hash.to_string()))),
        ("plan_fingerprint", text(&|(.., entry)| entry.plan_fingerprint.map(|plan| plan.to_string()))),
        ("stability", text(&|(.., entry)| Some(entry.stability.as_str().to_owned()))),
        ("run_id", text(&|(.., entry)| Some(entry.run_id.to_string()))),
        ("created_unix_ms", created),
        ("compute_ms", compute),
        ("row_count", count(&|entry| entry.row_count)),
        ("file_count", count(&|entry| entry.files.len() as u64)),
        ("size_bytes", count(&Entry::size_bytes)),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}
