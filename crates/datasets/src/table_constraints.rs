//! `alluvium.table_constraints`: the constraints and column defaults of a session's datasets, of which `information_schema`
//! has none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use alluvium_profile::Session;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, Session as EngineSession, TableProvider};
use datafusion::common::{TableReference, plan_datafusion_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::PinnedDataset;
use crate::constraint_facts::TableConstraint;
use crate::live_table::{Rows, live_table};

/// The schema of our tables in the default catalog.
const SCHEMA: &str = "alluvium";
/// The table.
pub(crate) const TABLE: &str = "table_constraints";

/// Adds what is known of `dataset`'s constraints and defaults to `alluvium.table_constraints`, which it makes if it is not
/// there. They are those of the table that is registered as `table` now, and no longer there once another one is.
///
/// [`register_dataset`](crate::register_dataset) does it. Call it for a dataset that was registered in another way.
///
/// # Errors
/// The engine's: no such table or catalog, or another table in the place of ours.
pub async fn describe_dataset(
    session: &Session,
    table: impl Into<TableReference>,
    dataset: &PinnedDataset,
) -> Result<(), DataFusionError> {
    let state = session.context().state();
    let table = table.into();
    let schema = state.schema_for_ref(table.clone())?;
    let defaults = &state.config_options().catalog;
    let name = table.resolve(&defaults.default_catalog, &defaults.default_schema);
    let missing = || plan_datafusion_err!("no table {name} is registered to describe");
    let provider = schema.table(&name.table).await?.ok_or_else(missing)?;
    let described = Described {
        schema: Arc::downgrade(&schema),
        provider: Arc::downgrade(&provider),
        constraints: dataset.table_constraints().into(),
    };
    let key = (name.catalog.to_string(), name.schema.to_string(), name.table.to_string());
    let known = known(session).await?;
    known.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, described);
    Ok(())
}

/// Makes `alluvium.table_constraints`, if it is not there: empty until a dataset is described.
pub(crate) async fn known(session: &Session) -> Result<Arc<Known>> {
    let state = session.context().state();
    let catalog_name = &state.config_options().catalog.default_catalog;
    let no_catalog = || plan_datafusion_err!("the session has no catalog {catalog_name}");
    let catalog = state.catalog_list().catalog(catalog_name).ok_or_else(no_catalog)?;
    let schema = match catalog.schema(SCHEMA) {
        Some(schema) => schema,
        None => {
            let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema(SCHEMA, Arc::clone(&schema))?;
            schema
        }
    };
    let Some(table) = schema.table(TABLE).await? else {
        let known = Arc::new(Known::default());
        schema.register_table(TABLE.to_owned(), Arc::new(ConstraintTable { known: Arc::clone(&known) }))?;
        return Ok(known);
    };
    match table.downcast_ref::<ConstraintTable>() {
        Some(ours) => Ok(Arc::clone(&ours.known)),
        None => Err(plan_datafusion_err!("{SCHEMA}.{TABLE} is another table: deregister it, this name is taken")),
    }
}

/// Catalog, schema and table.
type Name = (String, String, String);

/// What is known of each table, by its name.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<BTreeMap<Name, Described>>);

/// Neither reference keeps alive what the session has let go of.
#[derive(Debug, Clone)]
struct Described {
    schema: Weak<dyn SchemaProvider>,
    provider: Weak<dyn TableProvider>,
    constraints: Arc<[TableConstraint]>,
}

impl Described {
    /// Whether the table that was described is still the one of its name.
    async fn is_current(&self, table: &str) -> Result<bool> {
        let (Some(schema), Some(provider)) = (self.schema.upgrade(), self.provider.upgrade()) else {
            return Ok(false);
        };
        let registered = schema.table(table).await?;
        Ok(registered.is_some_and(|registered| std::ptr::addr_eq(Arc::as_ptr(&registered), Arc::as_ptr(&provider))))
    }
}

impl Known {
    /// The constraints of all tables that are registered, by their names.
    pub(crate) async fn current(&self) -> Result<BTreeMap<Name, Arc<[TableConstraint]>>> {
        let described = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut current = BTreeMap::new();
        for (name, described) in described {
            if described.is_current(&name.2).await? {
                current.insert(name, described.constraints);
            } else {
                self.forget(&name, &described);
            }
        }
        Ok(current)
    }

    /// The schemas in which the described tables are.
    fn schemas(&self) -> Vec<Arc<dyn SchemaProvider>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter_map(|described| described.schema.upgrade()).collect()
    }

    /// Unless it was described anew meanwhile.
    fn forget(&self, name: &Name, described: &Described) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(name).is_some_and(|now| Weak::ptr_eq(&now.provider, &described.provider)) {
            known.remove(name);
        }
    }
}

fn columns() -> SchemaRef {
    let text = |name: &str, nullable: bool| Field::new(name, DataType::Utf8, nullable);
    Arc::new(Schema::new(vec![
        text("table_catalog", false),
        text("table_schema", false),
        text("table_name", false),
        text("constraint_name", false),
        text("constraint_type", false),
        text("column_name", true),
        Field::new("ordinal_position", DataType::Int64, true),
        text("expression", true),
        text("declared_by", false),
    ]))
}

impl Known {
    async fn rows(&self) -> Result<RecordBatch> {
        let current = self.current().await?;
        let rows: Vec<_> =
            current.iter().flat_map(|(name, constraints)| constraints.iter().map(move |one| (name, one))).collect();
        let text = |of: fn(&(&Name, &TableConstraint)) -> Option<String>| -> ArrayRef {
            Arc::new(rows.iter().map(of).collect::<StringArray>())
        };
        let places = rows.iter().map(|(_, one)| one.ordinal_position.map(i64::from)).collect::<Int64Array>();
        let arrays = vec![
            text(|(name, _)| Some(name.0.clone())),
            text(|(name, _)| Some(name.1.clone())),
            text(|(name, _)| Some(name.2.clone())),
            text(|(_, one)| Some(one.name.clone())),
            text(|(_, one)| Some(one.kind.as_str().to_owned())),
            text(|(_, one)| one.column.clone()),
            Arc::new(places),
            text(|(_, one)| one.expression.clone()),
            text(|(_, one)| Some(one.declared_by.as_str().to_owned())),
        ];
        Ok(RecordBatch::try_new(columns(), arrays)?)
    }
}

/// What is known, for a plan: it may be executed when its session is gone.
#[derive(Debug)]
struct Planned {
    known: Arc<Known>,
    _schemas: Vec<Arc<dyn SchemaProvider>>,
}

#[async_trait]
impl Rows for Planned {
    async fn rows(&self, _: &TaskContext) -> Result<RecordBatch> {
        self.known.rows().await
    }
}

/// The table, which can be told from others.
#[derive(Debug)]
struct ConstraintTable {
    known: Arc<Known>,
}

#[async_trait]
impl TableProvider for ConstraintTable {
    fn schema(&self) -> SchemaRef {
        columns()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn EngineSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planned = Planned { known: Arc::clone(&self.known), _schemas: self.known.schemas() };
        live_table(columns(), Arc::new(planned))?.scan(state, projection, filters, limit).await
    }
}
