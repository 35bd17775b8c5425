//! SQL `INSERT` through the same writer as everything else.
//!
//! The engine's own way from `INSERT` into a table checks no constraint and no NOT NULL, forgets writer properties and
//! statistics, and says nothing in the commit. A [`GovernedTable`] reads as the engine does and writes as [`TableWrite`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_contracts::{DeltaWritePolicy, SchemaMode, WriteMode};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Statistics, not_impl_err};
use datafusion::datasource::TableType;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::CastExpr;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};

use crate::apply::TableWrite;
use crate::error::{CommitError, TypeCarrier};
use crate::files::{CommitMetadata, TableWriteOutcome};
use crate::guarded_scan::GuardedScan;
use crate::policy::ResolvedWritePolicy;
use crate::read::open;
use crate::schema::{by_position, table_schema};
use crate::semantic;
use crate::stored::stored_policy;

/// A Delta table for SQL: `reader` answers queries, `INSERT` goes through [`TableWrite`].
///
/// Rows are written as the policy says that is stored with the table, and checked for everything that the table asks of
/// them. `INSERT INTO` appends and `INSERT OVERWRITE` replaces all rows; every statement is one commit. `DELETE`, `UPDATE`
/// and `MERGE` are refused, as the engine refuses them of a provider.
///
/// Columns with a semantic type take what the statement gives of that type. Where `reader` has text as views (`Utf8View`), a
/// constant loses its type to the planner's cast before it comes here, and is refused: give it from a row.
#[derive(Debug)]
pub struct GovernedTable {
    table: PathBuf,
    reader: Arc<dyn TableProvider>,
    metadata: CommitMetadata,
}

impl GovernedTable {
    /// The table at `table_dir`, as `reader` reads it, through a [`GuardedScan`]. What `reader` sees is its own: a provider that is pinned to a version
    /// does not see what is inserted.
    #[must_use]
    pub fn new(table_dir: &Path, reader: Arc<dyn TableProvider>) -> Self {
        Self {
            table: table_dir.to_path_buf(),
            reader: Arc::new(GuardedScan::new(reader)),
            metadata: CommitMetadata::new(),
        }
    }

    /// What the commits of its `INSERT`s say beside the engine's own keys.
    #[must_use]
    pub fn with_metadata(mut self, metadata: CommitMetadata) -> Self {
        self.metadata = metadata;
        self
    }
}

#[async_trait]
impl TableProvider for GovernedTable {
    fn schema(&self) -> SchemaRef {
        self.reader.schema()
    }

    fn table_type(&self) -> TableType {
        self.reader.table_type()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.reader.scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.reader.supports_filters_pushdown(filters)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.reader.statistics()
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mode = match operation {
            InsertOp::Append => WriteMode::Append,
            InsertOp::Overwrite => WriteMode::Overwrite,
            InsertOp::Replace => {
                return not_impl_err!("REPLACE INTO names no keys; merge with `mode = \"merge\"` and `keys`");
            }
        };
        let sink = Sink {
            table: self.table.clone(),
            schema: input.schema(),
            carried: carried(input.as_ref())?,
            mode,
            metadata: self.metadata.clone(),
        };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
    }
}

/// The columns of an `INSERT`'s rows with their metadata. The planner casts them to the types of the reader, which may be another
/// layout of the same text, and takes a cast for the end of an extension type.
fn carried(input: &dyn ExecutionPlan) -> Result<Schema> {
    let schema = input.schema();
    let Some(projection) = input.downcast_ref::<ProjectionExec>() else {
        return Ok(schema.as_ref().clone());
    };
    let below = projection.input().schema();
    let column = |(projected, field): (&ProjectionExpr, &FieldRef)| {
        let Some(cast) = projected.expr.downcast_ref::<CastExpr>() else { return Ok(field.as_ref().clone()) };
        let source = cast.expr().return_field(&below)?;
        Ok(match is_text(source.data_type()) && is_text(field.data_type()) {
            true => field.as_ref().clone().with_metadata(source.metadata().clone()),
            false => field.as_ref().clone(),
        })
    };
    let fields: Vec<Field> = projection.expr().iter().zip(schema.fields()).map(column).collect::<Result<_>>()?;
    Ok(Schema::new(fields))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The columns of `given` under the names that they have in the table: an `INSERT` goes by position.
fn named(given: &Schema, table: &Schema) -> Schema {
    let fields = given.fields().iter().zip(table.fields());
    Schema::new(fields.map(|(given, field)| given.as_ref().clone().with_name(field.name())).collect::<Vec<_>>())
}

/// Where the rows of one `INSERT` go.
#[derive(Debug)]
struct Sink {
    table: PathBuf,
    /// Of the rows that come.
    schema: SchemaRef,
    /// The same with the metadata of what the statement says.
    carried: Schema,
    mode: WriteMode,
    metadata: CommitMetadata,
}

impl DisplayAs for Sink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GovernedTable(mode={})", self.mode)
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, rows: SendableRecordBatchStream, task: &Arc<TaskContext>) -> Result<u64> {
        let outcome = self.write(rows, task).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(match outcome {
            TableWriteOutcome::Committed(committed) => committed.files.iter().map(|file| file.row_count).sum(),
            // None is for a write of any version, without a transaction, in these modes.
            TableWriteOutcome::AlreadyApplied
            | TableWriteOutcome::Ignored { .. }
            | TableWriteOutcome::Conflict { .. } => 0,
        })
    }
}

impl Sink {
    async fn write(
        &self,
        rows: SendableRecordBatchStream,
        task: &Arc<TaskContext>,
    ) -> Result<TableWriteOutcome, CommitError> {
        let loaded = open(&self.table)?.load(None).await?;
        let schema = table_schema(&loaded.state)?;
        semantic::check(&semantic::declared(&loaded.state)?, &named(&self.carried, &schema), TypeCarrier::Rows)?;
        let (policy, overrides) = stored_policy(&loaded.state);
        let policy = DeltaWritePolicy { mode: self.mode, schema_mode: SchemaMode::Strict, ..policy };
        let policy = ResolvedWritePolicy::resolve_with(&policy, &schema, &[], &overrides)?;
        // The planner gave them the table's columns; a reader may know views of text where the table has text.
        let rows = by_position(rows, &schema);
        TableWrite::new(&self.table, schema, vec![rows], &policy)
            .metadata(self.metadata.clone())
            .task(Arc::clone(task))
            .unstated(Some(loaded), false)
            .run()
            .await
    }
}
