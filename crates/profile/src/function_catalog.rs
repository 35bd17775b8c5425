//! The functions of a session as a catalog, and as a table of SQL: `select * from function_catalog()`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alluvium_functions::{Function, FunctionCatalog, FunctionEntry, FunctionTier};
use datafusion::DATAFUSION_VERSION;
use datafusion::arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session as EngineSession, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::session::{Session, SessionFunctions};

/// The name of the table function.
pub(crate) const NAME: &str = "function_catalog";

impl Session {
    /// What can be called here now: what came with the engine, what was installed with the session, and what was registered
    /// since.
    ///
    /// # Errors
    /// [`DataFusionError::External`] where a function's own words have no canonical form.
    pub fn function_catalog(&self) -> Result<FunctionCatalog> {
        let state = self.context().state_ref();
        let callable = Callable::of(&*state.read());
        callable.catalog(self.functions(), None)
    }

    /// The part of [`function_catalog`](Self::function_catalog) that is `used`: what a plan records of the functions that it
    /// calls. One that its name does not lead to here is left out.
    ///
    /// # Errors
    /// As there.
    pub fn function_catalog_of(&self, used: &[Function]) -> Result<FunctionCatalog> {
        let state = self.context().state_ref();
        let callable = Callable::of(&*state.read());
        callable.catalog(self.functions(), Some(used))
    }
}

/// The functions of a session, by every name that leads to one.
#[derive(Debug, Clone)]
struct Callable {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
}

impl Callable {
    fn of(session: &dyn EngineSession) -> Self {
        Self {
            scalar: session.scalar_functions().clone(),
            higher_order: session.higher_order_functions().clone(),
            aggregate: session.aggregate_functions().clone(),
            window: session.window_functions().clone(),
        }
    }

    /// All, or `only` these.
    fn catalog(&self, known: &SessionFunctions, only: Option<&[Function]>) -> Result<FunctionCatalog> {
        let SessionFunctions { builtins, versions } = known;
        let mut catalog = FunctionCatalog::new(DATAFUSION_VERSION);
        let tier = |is_builtin| if is_builtin { FunctionTier::BuiltIn } else { FunctionTier::Extension };
        let mut insert = |function: Function, is_builtin: bool, names: Vec<String>| {
            if only.is_some_and(|only| !only.contains(&function)) {
                return Ok(());
            }
            let version = versions.of(&function).filter(|_| !is_builtin).cloned();
            catalog
                .insert(function, tier(is_builtin), version, names)
                .map_err(|error| DataFusionError::External(error.into()))
        };
        for (function, names) in by_function(&self.scalar, |function| function.name()) {
            insert(Function::Scalar(Arc::clone(function)), builtins.is_builtin_scalar(function), names)?;
        }
        for (function, names) in by_function(&self.aggregate, |function| function.name()) {
            insert(Function::Aggregate(Arc::clone(function)), builtins.is_builtin_aggregate(function), names)?;
        }
        for (function, names) in by_function(&self.window, |function| function.name()) {
            insert(Function::Window(Arc::clone(function)), builtins.is_builtin_window(function), names)?;
        }
        if only.is_some() {
            return Ok(catalog);
        }
        for (function, names) in by_function(&self.higher_order, |function| function.name()) {
            let tier = tier(builtins.is_builtin_higher_order(function));
            let inserted = catalog.insert_higher_order(function, tier, names);
            inserted.map_err(|error| DataFusionError::External(error.into()))?;
        }
        Ok(catalog)
    }
}

/// Each function with the names that lead to it. Where another took a function's own name, it is the other that has it.
fn by_function<F: PartialEq>(
    functions: &HashMap<String, Arc<F>>,
    name: impl Fn(&F) -> &str,
) -> Vec<(&Arc<F>, Vec<String>)> {
    let mut found: BTreeMap<&str, (&Arc<F>, Vec<String>)> = BTreeMap::new();
    for function in functions.values() {
        let own = name(function);
        found.entry(own).or_insert_with(|| (functions.get(own).unwrap_or(function), Vec::new()));
    }
    for (called, function) in functions {
        if let Some((own, names)) = found.get_mut(name(function))
            && own.as_ref() == function.as_ref()
        {
            names.push(called.clone());
        }
    }
    found.into_values().collect()
}

/// `function_catalog()`: a row a function. Rows are made when they are read, of the functions that there were when the query
/// was planned.
#[derive(Debug)]
pub(crate) struct CatalogFunction(pub(crate) Arc<SessionFunctions>);

impl TableFunctionImpl for CatalogFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        if !args.exprs().is_empty() {
            return plan_err!("{NAME}() takes no argument; filter its rows with WHERE");
        }
        let rows = Rows { schema: schema(), callable: Callable::of(args.session()), known: Arc::clone(&self.0) };
        Ok(Arc::new(StreamingTable::try_new(schema(), vec![Arc::new(rows)])?))
    }
}

/// The rows of one query.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    callable: Callable,
    known: Arc<SessionFunctions>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batch = self.callable.catalog(&self.known, None).and_then(|catalog| batch(&self.schema, &catalog));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter([batch])))
    }
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let optional = |name: &str| Field::new(name, DataType::Utf8, true);
    let texts = |name: &str| Field::new_list(name, Field::new_list_field(DataType::Utf8, true), false);
    Arc::new(Schema::new(vec![
        text("name"),
        text("kind"),
        text("tier"),
        optional("version"),
        text("volatility"),
        texts("aliases"),
        texts("signatures"),
        texts("examples"),
        optional("syntax"),
        optional("description"),
        text("hash"),
    ]))
}

fn batch(schema: &SchemaRef, catalog: &FunctionCatalog) -> Result<RecordBatch> {
    let entries: Vec<&FunctionEntry> = catalog.entries().collect();
    let text = |value: &dyn Fn(&FunctionEntry) -> Option<String>| -> ArrayRef {
        Arc::new(entries.iter().map(|entry| value(entry)).collect::<StringArray>())
    };
    let texts = |values: &dyn Fn(&FunctionEntry) -> Vec<String>| -> ArrayRef {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for entry in &entries {
            lists.append_value(values(entry).into_iter().map(Some));
        }
        Arc::new(lists.finish())
    };
    let columns = vec![
        text(&|entry| Some(entry.name.clone())),
        text(&|entry| Some(entry.kind.to_string())),
        text(&|entry| Some(entry.tier.to_string())),
        text(&|entry| entry.version.as_ref().map(ToString::to_string)),
        text(&|entry| Some(entry.volatility_word().to_owned())),
        texts(&|entry| entry.aliases.clone()),
        texts(&|entry| entry.signatures.clone()),
        texts(&|entry| entry.examples.iter().map(ToString::to_string).collect()),
        text(&|entry| entry.syntax.clone()),
        text(&|entry| entry.description.clone()),
        text(&|entry| Some(entry.hash.to_string())),
    ];
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

#[cfg(test)]
mod tests;
