//! Tests of slots: their order, what each part does, and that every way to a session fills them alike.

use std::sync::Mutex;

use alluvium_contracts::{ProfileSpec, SqlPolicy};
use async_trait::async_trait;
use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, DisplayIndex, FormatOptions, FormatResult};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{MemoryCatalogProvider, Session as EngineSession, TableFunctionArgs, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::types::DFExtensionType;
use datafusion::common::{DFSchemaRef, Result, ScalarValue};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::rank::rank_udwf;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::registry::ExtensionTypeRegistration;
use datafusion::logical_expr::{
    ColumnarValue, CreateExternalTable, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore,
    Volatility, create_udf,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_planner::PhysicalPlanner;
use datafusion::prelude::{DataFrame, Expr, col};
use object_store::memory::InMemory;

use super::*;
use crate::{Query, RuntimeProfile, Session, SessionError, SessionFactory};

#[derive(Debug)]
struct Everything {
    slot: Slot,
    order: Arc<Mutex<Vec<Slot>>>,
}

#[derive(Debug)]
struct Given;

impl TableFunctionImpl for Given {
    fn call_with_args(&self, _: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        Ok(empty_table())
    }
}

#[async_trait]
impl TableProviderFactory for Given {
    async fn create(&self, _: &dyn EngineSession, _: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
        Ok(empty_table())
    }
}

impl CacheFactory for Given {
    fn create(&self, plan: LogicalPlan, _: &SessionState) -> Result<LogicalPlan> {
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(Node(Arc::clone(plan.schema()))) }))
    }
}

/// Shows all values alike.
impl DFExtensionType for Given {
    fn storage_type(&self) -> DataType {
        DataType::Int64
    }

    fn serialize_metadata(&self) -> Option<String> {
        None
    }

    fn create_array_formatter<'fmt>(
        &self,
        _: &'fmt dyn Array,
        _: &FormatOptions<'fmt>,
    ) -> Result<Option<ArrayFormatter<'fmt>>> {
        struct Shown;
        impl DisplayIndex for Shown {
            fn write(&self, _: usize, f: &mut dyn fmt::Write) -> FormatResult {
                Ok(f.write_str("shown as given")?)
            }
        }
        Ok(Some(ArrayFormatter::new(Box::new(Shown), true)))
    }
}

impl PhysicalOptimizerRule for Given {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        // Shows itself: nothing comes of any query whose first column is called `nothing`.
        let hides = plan.schema().fields().first().is_some_and(|field| field.name() == "nothing");
        Ok(if hides { Arc::new(EmptyExec::new(plan.schema())) } else { plan })
    }

    fn name(&self) -> &str {
        "given"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Node(DFSchemaRef);

impl PartialOrd for Node {
    fn partial_cmp(&self, _: &Self) -> Option<std::cmp::Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for Node {
    fn name(&self) -> &str {
        "Node"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.0
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(Self(Arc::clone(&self.0)))
    }
}

#[async_trait]
impl ExtensionPlanner for Given {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        _: &[Arc<dyn ExecutionPlan>],
        _: &dyn EngineSession,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let schema: SchemaRef = Arc::new(node.schema().as_arrow().clone());
        Ok((node.name() == "Node").then(|| Arc::new(EmptyExec::new(schema)) as _))
    }
}

fn empty_table() -> Arc<dyn TableProvider> {
    Arc::new(EmptyTable::new(Arc::new(Schema::new(vec![Field::new("given", DataType::Int64, true)]))))
}

impl SessionExtension for Everything {
    fn slot(&self) -> Slot {
        self.slot
    }

    fn install(&self, parts: &mut SessionParts) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.order.lock().unwrap().push(self.slot);
        let answer = Arc::new(|_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::from(42_i64))));
        match self.slot {
            Slot::ObjectStores => parts.object_store(Url::parse("given://host")?, Arc::new(InMemory::new())),
            Slot::Catalogs => parts.catalog("given", Arc::new(MemoryCatalogProvider::new())),
            Slot::Functions => {
                let function = create_udf("given", Vec::new(), DataType::Int64, Volatility::Immutable, answer);
                parts.scalar_function(Arc::new(function));
                parts.aggregate_function(Arc::new(sum_udaf().as_ref().clone().with_aliases(["given_sum"])));
                parts.window_function(Arc::new(rank_udwf().as_ref().clone().with_aliases(["given_rank"])));
            }
            Slot::DeltaTables => {
                parts.table_factory("given", Arc::new(Given));
                parts.extension_planner(Arc::new(Given));
            }
            Slot::PreparedStatements => parts.prepared("given", "select 1 as one"),
            Slot::Introspection => parts.table_function("given", Arc::new(Given)),
            Slot::CacheFactory => parts.cache_factory(Arc::new(Given)),
            Slot::Tracing => parts.physical_rule(Arc::new(Given)),
            Slot::SchemaRegistry => {
                parts.extension_type(ExtensionTypeRegistration::new_arc("given", |_, _| Ok(Arc::new(Given))));
            }
        }
        Ok(())
    }
}

fn factory(order: &Arc<Mutex<Vec<Slot>>>) -> SessionFactory {
    let spec = ProfileSpec { sql_policy: Some(SqlPolicy::Admin), target_partitions: Some(1), ..ProfileSpec::default() };
    // Given from the last to the first.
    Slot::ALL.into_iter().rev().fold(SessionFactory::new(RuntimeProfile::from(&spec)), |factory, slot| {
        factory.with_extension(Arc::new(Everything { slot, order: Arc::clone(order) }))
    })
}

async fn rows(session: &Session, sql: &str) -> String {
    let frame = session.execute(Query::sql(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string()
}

#[tokio::test]
async fn slots_are_filled_in_their_order_and_every_part_works() {
    let order = Arc::default();
    let factory = factory(&order);
    let session = factory.build().unwrap();
    assert_eq!(*order.lock().unwrap(), Slot::ALL);

    session.context().runtime_env().object_store(ObjectStoreUrl::parse("given://host").unwrap()).unwrap();
    assert!(session.context().catalog("given").is_some());
    assert!(rows(&session, "select given() as x").await.contains("42"));
    assert!(rows(&session, "select given_sum(x) from (values (40), (2)) as v(x)").await.contains("42"));
    rows(&session, "select given_rank() over (order by x) from (values (40)) as v(x)").await;
    rows(&session, "create external table made stored as given location 'nowhere'").await;
    assert!(rows(&session, "describe made").await.contains("given"));
    assert!(rows(&session, "execute given").await.contains("one"));
    let seven = session.execute(Query::sql("select 7 as seven")).await.unwrap();
    let marked = FieldMetadata::from(BTreeMap::from([("ARROW:extension:name".to_owned(), "given".to_owned())]));
    let marked = seven.select([col("seven").alias_with_metadata("x", Some(marked))]).unwrap();
    let shown = marked.to_string().await.unwrap();
    assert!(shown.contains("shown as given"), "{shown}");
    rows(&session, "select * from given()").await;
    assert!(rows(&session, "select 1 as something").await.contains('1'));
    assert!(!rows(&session, "select 7 as nothing").await.contains('7'), "the rule ran");
    // The node of the cache factory is planned by the planner of another slot.
    let frame: DataFrame = session.execute(Query::sql("select 7 as seven")).await.unwrap();
    let cached = frame.cache().await.unwrap();
    assert_eq!(cached.count().await.unwrap(), 0, "the planner made of it what it does: nothing");
    // A function that came with an extension is no built-in.
    assert!(!session.builtins().scalar().contains_key("given"));
}

#[tokio::test]
async fn a_shared_and_an_ephemeral_session_know_the_same() {
    fn known(session: &Session) -> Vec<String> {
        let state = session.context().state();
        let mut known: Vec<String> = state.config_options().entries().iter().map(|e| format!("{e:?}")).collect();
        known.extend(state.runtime_env().config_entries().iter().map(|e| format!("{e:?}")));
        known.extend(state.scalar_functions().keys().cloned());
        known.extend(state.aggregate_functions().keys().cloned());
        known.extend(state.window_functions().keys().cloned());
        known.extend(state.table_functions().keys().cloned());
        known.extend(state.table_factories().keys().cloned());
        known.extend(state.catalog_list().catalog_names());
        known.extend(state.physical_optimizers().iter().map(|rule| rule.name().to_owned()));
        known.extend(session.prepared_statements().into_iter().map(|statement| statement.sql));
        known.push(format!("{:?}", state.query_planner()));
        known.push(format!("{} {:?}", session.sql_policy(), state.cache_factory().is_some()));
        known.sort();
        known
    }
    let factory = factory(&Arc::default());
    let (shared, ephemeral) = (factory.session_context().unwrap(), factory.ephemeral_context().unwrap());
    assert_eq!(known(&shared), known(&ephemeral));
    rows(&shared, "create table t as select 1 as a").await;
    rows(&factory.session_context().unwrap(), "select * from t").await;
    let unknown = factory.ephemeral_context().unwrap().execute(Query::sql("select * from t")).await;
    assert!(unknown.is_err(), "an ephemeral session has nothing of another");
}

#[test]
fn an_empty_slot_that_has_to_be_filled_is_an_error() {
    let profile = || RuntimeProfile::from(&ProfileSpec::default());
    let error = SessionFactory::new(profile()).requiring(Slot::Introspection).build().unwrap_err();
    assert!(matches!(error, SessionError::MissingSlot { slot: Slot::Introspection }), "{error}");
    let filled = Everything { slot: Slot::Introspection, order: Arc::default() };
    SessionFactory::new(profile()).requiring(Slot::Introspection).with_extension(Arc::new(filled)).build().unwrap();
}

#[test]
fn an_extension_that_fails_is_named() {
    #[derive(Debug)]
    struct Broken;
    impl SessionExtension for Broken {
        fn slot(&self) -> Slot {
            Slot::PreparedStatements
        }
        fn install(&self, parts: &mut SessionParts) -> Result<(), Box<dyn Error + Send + Sync>> {
            parts.prepared("drops", "drop table t");
            Ok(())
        }
    }
    let profile = RuntimeProfile::from(&ProfileSpec::default());
    let error = SessionFactory::new(profile).with_extension(Arc::new(Broken)).build().unwrap_err();
    assert!(matches!(error, SessionError::Extension { slot: Slot::PreparedStatements, .. }), "{error}");
}
