//! The engine's reader of Substrait, with what it passes over refused.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{Expr, Limit, LogicalPlan, LogicalPlanBuilder, Projection, Sort, SortExpr};
use datafusion_substrait::extensions::Extensions;
use datafusion_substrait::logical_plan::consumer::{
    DefaultSubstraitConsumer, SubstraitConsumer, from_aggregate_rel, from_field_reference, from_read_rel,
    from_scalar_function, from_substrait_named_struct, from_substrait_plan_with_consumer, from_substrait_rel,
    from_window_function, name_to_op, substrait_fun_name,
};
use datafusion_substrait::substrait::proto::aggregate_function::AggregationInvocation;
use datafusion_substrait::substrait::proto::expression::field_reference::{ReferenceType, RootType};
use datafusion_substrait::substrait::proto::expression::reference_segment::ReferenceType as Segment;
use datafusion_substrait::substrait::proto::expression::{FieldReference, ScalarFunction, WindowFunction};
use datafusion_substrait::substrait::proto::extensions::AdvancedExtension;
use datafusion_substrait::substrait::proto::function_argument::ArgType;
use datafusion_substrait::substrait::proto::read_rel::{NamedTable, ReadType};
use datafusion_substrait::substrait::proto::rel::RelType;
use datafusion_substrait::substrait::proto::rel_common::EmitKind;
use datafusion_substrait::substrait::proto::{
    AggregateRel, AggregationPhase, FunctionOption, Plan, ReadRel, Rel, RelCommon, RelRoot, plan_rel,
};
use prost::Message as _;

use super::error::SubstraitError;

/// The most inputs of one set operation: each makes the tree deeper.
const MOST_INPUTS: usize = 2_000;
/// What an expression that is named several times may grow to, in bytes of the plan.
const LARGEST_COPIES_BYTES: usize = 64 << 20;

/// Where the tables of a plan come from.
pub(super) struct Tables {
    /// The names that were met, where they stand for nothing; none where the session has the tables.
    named: Option<Mutex<BTreeSet<TableReference>>>,
}

impl Tables {
    /// The session's.
    pub(super) fn registered() -> Self {
        Self { named: None }
    }

    /// Tables without rows, with the columns that the plan declares.
    pub(super) fn declared() -> Self {
        Self { named: Some(Mutex::default()) }
    }

    pub(super) fn into_named(self) -> Vec<TableReference> {
        let named = self.named.map(|named| named.into_inner().unwrap_or_else(PoisonError::into_inner));
        named.unwrap_or_default().into_iter().collect()
    }
}

pub(super) struct Consumer<'a> {
    /// It keeps the schemas around a subquery.
    engine: DefaultSubstraitConsumer<'a>,
    extensions: &'a Extensions,
    state: &'a SessionState,
    tables: &'a Tables,
    /// How many relations read a named table so far.
    reads: AtomicUsize,
}

impl<'a> Consumer<'a> {
    pub(super) fn new(extensions: &'a Extensions, state: &'a SessionState, tables: &'a Tables) -> Self {
        let engine = DefaultSubstraitConsumer::new(extensions, state);
        Self { engine, extensions, state, tables, reads: AtomicUsize::new(0) }
    }

    /// The plan, with its names.
    pub(super) async fn plan(&self, plan: &Plan) -> Result<LogicalPlan> {
        match plan.relations.first().and_then(|relation| relation.rel_type.as_ref()) {
            Some(plan_rel::RelType::Root(RelRoot { input: Some(input), names })) => {
                let read = self.consume_rel(input).await?;
                let has_flat_names = read.schema().fields().iter().all(|field| !field.data_type().is_nested());
                match has_flat_names && names.len() == read.schema().fields().len() {
                    true => named(read, names),
                    // Names of fields inside columns are the engine's to give.
                    false => from_substrait_plan_with_consumer(self, plan).await,
                }
            }
            Some(plan_rel::RelType::Rel(rel)) => self.consume_rel(rel).await,
            _ => Err(SubstraitError::malformed("its relation is empty").into()),
        }
    }

    /// A table by its declared columns, or as the session has it.
    async fn table(&self, read: &ReadRel, named: &NamedTable) -> Result<LogicalPlan> {
        let table = reference(named)?;
        if let Some(names) = &self.tables.named {
            let declared =
                read.base_schema.as_ref().ok_or_else(|| SubstraitError::malformed("a table has no columns"))?;
            let schema = from_substrait_named_struct(self, declared)?;
            names.lock().unwrap_or_else(PoisonError::into_inner).insert(table.clone());
            let source = provider_as_source(Arc::new(EmptyTable::new(Arc::clone(schema.inner()))));
            return LogicalPlanBuilder::scan(table, source, None)?.build();
        }
        if self.resolve_table_ref(&table).await?.is_none() {
            return Err(SubstraitError::UnknownTable { table: table.to_string() }.into());
        }
        from_read_rel(self, read).await
    }
}

#[async_trait]
impl SubstraitConsumer for Consumer<'_> {
    async fn resolve_table_ref(&self, table: &TableReference) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.state.schema_for_ref(table.clone()) {
            Ok(schema) => schema.table(table.table()).await,
            // A catalog or schema that there is not has no tables.
            Err(_) => Ok(None),
        }
    }

    fn get_extensions(&self) -> &Extensions {
        self.extensions
    }

    fn get_function_registry(&self) -> &impl FunctionRegistry {
        self.state
    }

    fn push_outer_schema(&self, schema: Arc<DFSchema>) {
        self.engine.push_outer_schema(schema);
    }

    fn pop_outer_schema(&self) {
        self.engine.pop_outer_schema();
    }

    fn get_outer_schema(&self, steps_out: usize) -> Option<Arc<DFSchema>> {
        // The stack is counted from its end.
        self.engine.get_outer_schema(steps_out)
    }

    async fn consume_rel(&self, rel: &Rel) -> Result<LogicalPlan> {
        check(rel)?;
        from_substrait_rel(self, rel).await
    }

    /// The engine hands a filter to the table, which may ignore it, and reads no filter or choice of columns of literal rows.
    async fn consume_read(&self, read: &ReadRel) -> Result<LogicalPlan> {
        let whole = ReadRel { filter: None, projection: None, ..read.clone() };
        let plan = match &read.read_type {
            // Substrait names columns by position, the engine by table: in a query over a table inside a query over the same one,
            // it would take the outer column for the inner one.
            Some(ReadType::NamedTable(named)) => match self.reads.fetch_add(1, Ordering::Relaxed) {
                0 => self.table(&whole, named).await?,
                earlier => {
                    let plan = LogicalPlanBuilder::from(self.table(&whole, named).await?);
                    plan.alias(format!("{}#{}", reference(named)?.table(), earlier + 1))?.build()?
                }
            },
            Some(ReadType::VirtualTable(_)) => from_read_rel(self, &whole).await?,
            Some(ReadType::LocalFiles(_)) => {
                return Err(SubstraitError::unsupported("reading files by their names").into());
            }
            Some(_) => return Err(SubstraitError::unsupported("a table of another kind than a named one").into()),
            None => return Err(SubstraitError::malformed("a read relation says not what it reads").into()),
        };
        let plan = match &read.filter {
            Some(filter) => {
                let predicate = self.consume_expression(filter, plan.schema()).await?;
                LogicalPlanBuilder::from(plan).filter(predicate)?.build()?
            }
            None => plan,
        };
        let Some(select) = read.projection.as_ref().and_then(|mask| mask.select.as_ref()) else {
            return Ok(plan);
        };
        if select.struct_items.iter().any(|item| item.child.is_some()) {
            return Err(SubstraitError::unsupported("a choice of fields inside a column").into());
        }
        let columns = select.struct_items.iter().map(|item| column(plan.schema(), item.field));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        LogicalPlanBuilder::from(plan).project(columns)?.build()
    }

    async fn consume_aggregate(&self, rel: &AggregateRel) -> Result<LogicalPlan> {
        for measure in rel.measures.iter().filter_map(|measure| measure.measure.as_ref()) {
            check_options(&measure.options)?;
            check_phase(measure.phase)?;
        }
        let references = rel.groupings.iter().flat_map(|grouping| &grouping.expression_references);
        if references.clone().any(|reference| *reference as usize >= rel.grouping_expressions.len()) {
            return Err(SubstraitError::malformed("a grouping names an expression that is not there").into());
        }
        check_copies(
            rel.groupings.iter().map(|grouping| grouping.expression_references.len()).sum(),
            rel.encoded_len(),
        )?;
        from_aggregate_rel(self, rel).await
    }

    async fn consume_scalar_function(&self, call: &ScalarFunction, input: &DFSchema) -> Result<Expr> {
        check_options(&call.options)?;
        let name = self.extensions.functions.get(&call.function_reference).map(|name| substrait_fun_name(name));
        // The engine would take the function for it, whatever that does.
        if let Some(name) = name
            && name_to_op(name).is_some()
            && self.state.scalar_functions().contains_key(name)
        {
            let what = format!("`{name}`, of which there is a function of the same name,");
            return Err(SubstraitError::unsupported(what).into());
        }
        // The engine writes each side twice, so that a chain of them would double with every link.
        if let (Some("xor"), [left, right]) = (name, call.arguments.as_slice())
            && let (Some(ArgType::Value(left)), Some(ArgType::Value(right))) = (&left.arg_type, &right.arg_type)
        {
            let left = self.consume_expression(left, input).await?;
            return Ok(left.not_eq(self.consume_expression(right, input).await?));
        }
        from_scalar_function(self, call, input).await
    }

    async fn consume_window_function(&self, call: &WindowFunction, input: &DFSchema) -> Result<Expr> {
        check_options(&call.options)?;
        check_phase(call.phase)?;
        if call.invocation == AggregationInvocation::Distinct as i32 {
            return Err(SubstraitError::unsupported("DISTINCT in a window function").into());
        }
        from_window_function(self, call, input).await
    }

    async fn consume_field_reference(&self, reference: &FieldReference, input: &DFSchema) -> Result<Expr> {
        if let Some(ReferenceType::DirectReference(segment)) = &reference.reference_type
            && let Some(Segment::StructField(field)) = &segment.reference_type
        {
            let outer = match &reference.root_type {
                Some(RootType::OuterReference(outer)) => self.get_outer_schema(outer.steps_out as usize),
                _ => None,
            };
            column(outer.as_deref().unwrap_or(input), field.field)?;
        }
        from_field_reference(self, reference, input).await
    }
}

fn column(schema: &DFSchema, position: i32) -> Result<Expr> {
    let position = usize::try_from(position).ok().filter(|position| *position < schema.fields().len());
    let position = position.ok_or_else(|| SubstraitError::malformed("a position names a column that is not there"))?;
    Ok(Expr::Column(Column::from(schema.qualified_field(position))))
}

fn reference(named: &NamedTable) -> Result<TableReference, SubstraitError> {
    match named.names.as_slice() {
        [table] => Ok(TableReference::bare(table.as_str())),
        [schema, table] => Ok(TableReference::partial(schema.as_str(), table.as_str())),
        [catalog, schema, table] => Ok(TableReference::full(catalog.as_str(), schema.as_str(), table.as_str())),
        names => Err(SubstraitError::malformed(format!("the name of a table has {} parts", names.len()))),
    }
}

/// Refuses what the engine's reader would say at length, or pass over.
fn check(rel: &Rel) -> Result<(), SubstraitError> {
    let unsupported = |what: &str| Err(SubstraitError::unsupported(what));
    let (common, extension) = match &rel.rel_type {
        Some(RelType::Read(rel)) => (&rel.common, &rel.advanced_extension),
        Some(RelType::Filter(rel)) => (&rel.common, &rel.advanced_extension),
        Some(RelType::Fetch(rel)) => (&rel.common, &rel.advanced_extension),
        Some(RelType::Aggregate(rel)) => (&rel.common, &rel.advanced_extension),
        Some(RelType::Sort(rel)) => (&rel.common, &rel.advanced_extension),
        Some(RelType::Project(rel)) => (&rel.common, &rel.advanced_extension),
        Some(RelType::Exchange(rel)) => (&rel.common, &rel.advanced_extension),
        Some(RelType::Join(rel)) if rel.left.is_some() && rel.right.is_some() => (&rel.common, &rel.advanced_extension),
        Some(RelType::Cross(rel)) if rel.left.is_some() && rel.right.is_some() => {
            (&rel.common, &rel.advanced_extension)
        }
        Some(RelType::Join(_) | RelType::Cross(_)) => return Err(SubstraitError::malformed("a join has one side")),
        Some(RelType::Set(rel)) if rel.inputs.len() <= MOST_INPUTS => (&rel.common, &rel.advanced_extension),
        Some(RelType::Set(_)) => return unsupported("a set operation of more than 2000 inputs"),
        Some(RelType::Write(_) | RelType::Update(_)) => return unsupported("writing to a table"),
        Some(RelType::Ddl(_)) => return unsupported("making or dropping a table"),
        Some(RelType::ExtensionSingle(_) | RelType::ExtensionMulti(_) | RelType::ExtensionLeaf(_)) => {
            return unsupported("a relation of an extension");
        }
        Some(RelType::Reference(_)) => return unsupported("a reference to another relation"),
        Some(RelType::Window(_)) => return unsupported("a window relation (functions of a projection are)"),
        Some(RelType::Expand(_)) => return unsupported("an expand relation"),
        Some(RelType::HashJoin(_) | RelType::MergeJoin(_) | RelType::NestedLoopJoin(_)) => {
            return unsupported("a physical join");
        }
        None => return Err(SubstraitError::malformed("a relation is empty")),
    };
    let of_common = common.as_ref().and_then(|common| common.advanced_extension.as_ref());
    if [extension.as_ref(), of_common].into_iter().flatten().any(|e: &AdvancedExtension| e.enhancement.is_some()) {
        return unsupported("an enhancement of a relation");
    }
    match common {
        Some(RelCommon { emit_kind: Some(EmitKind::Emit(emit)), .. }) => {
            let distinct = emit.output_mapping.iter().collect::<BTreeSet<_>>().len();
            check_copies(emit.output_mapping.len() - distinct, rel.encoded_len())
        }
        _ => Ok(()),
    }
}

/// Expressions are copied for every name that they get.
fn check_copies(copies: usize, each_bytes: usize) -> Result<(), SubstraitError> {
    match copies.saturating_mul(each_bytes) > LARGEST_COPIES_BYTES {
        true => Err(SubstraitError::unsupported("an expression that is used this often")),
        false => Ok(()),
    }
}

/// The engine has none, and a plan that asks for one is not to be answered without.
fn check_options(options: &[FunctionOption]) -> Result<(), SubstraitError> {
    match options.first() {
        Some(option) => Err(SubstraitError::unsupported(format!("the option `{}` of a function", option.name))),
        None => Ok(()),
    }
}

fn check_phase(phase: i32) -> Result<(), SubstraitError> {
    match phase == AggregationPhase::Unspecified as i32 || phase == AggregationPhase::InitialToResult as i32 {
        true => Ok(()),
        false => Err(SubstraitError::unsupported("an aggregation in parts")),
    }
}

/// Gives the columns of a plan their names where they are computed, as SQL does: below what orders and cuts the rows.
fn named(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    let before: Vec<String> = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    if before == names {
        return Ok(plan);
    }
    let named_anew = |exprs: Vec<Expr>| {
        let exprs = exprs.into_iter().zip(before.iter().zip(names));
        let exprs = exprs.map(|(expr, (before, name))| match expr {
            expr if before == name => expr,
            Expr::Alias(alias) => alias.expr.alias(name),
            expr => expr.alias(name),
        });
        exprs.collect::<Vec<_>>()
    };
    match plan {
        LogicalPlan::Projection(Projection { expr, input, .. }) => {
            Ok(LogicalPlan::Projection(Projection::try_new(named_anew(expr), input)?))
        }
        LogicalPlan::Limit(limit) => {
            let input = Arc::new(named(Arc::unwrap_or_clone(limit.input), names)?);
            Ok(LogicalPlan::Limit(Limit { input, ..limit }))
        }
        LogicalPlan::Sort(sort) => {
            let old = Arc::clone(sort.input.schema());
            let input = Arc::new(named(Arc::unwrap_or_clone(sort.input), names)?);
            let renamed = |expr: Expr| -> Result<Expr> {
                let now = expr.transform(|expr| match &expr {
                    Expr::Column(column) => {
                        let position = old.index_of_column(column)?;
                        Ok(Transformed::yes(Expr::Column(Column::from(input.schema().qualified_field(position)))))
                    }
                    _ => Ok(Transformed::no(expr)),
                })?;
                Ok(now.data)
            };
            let exprs = sort.expr.into_iter().map(|sort| Ok(SortExpr { expr: renamed(sort.expr)?, ..sort }));
            let expr = exprs.collect::<Result<Vec<_>>>()?;
            Ok(LogicalPlan::Sort(Sort { expr, input: Arc::clone(&input), fetch: sort.fetch }))
        }
        plan => {
            let columns = plan.schema().columns().into_iter().map(Expr::Column).collect();
            Ok(LogicalPlan::Projection(Projection::try_new(named_anew(columns), Arc::new(plan))?))
        }
    }
}

/// Window functions in an order of their own: the engine's reader takes those of a projection from a set, whose order is another in
/// every process, and with it the identity of the plan.
pub(super) fn in_one_order(plan: LogicalPlan) -> Result<LogicalPlan> {
    let ordered = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Window(_) = &node else {
            return Ok(Transformed::no(node));
        };
        // One projection makes them all: a chain of nodes, none of which reads what another computes.
        let mut exprs = Vec::new();
        let mut input = node;
        while let LogicalPlan::Window(window) = input {
            exprs.extend(window.window_expr);
            input = Arc::unwrap_or_clone(window.input);
        }
        exprs.sort_by_cached_key(|expr| expr.schema_name().to_string());
        let input = in_one_order(input)?;
        let windows = LogicalPlanBuilder::window_plan(input, exprs)?;
        Ok(Transformed::new(windows, true, TreeNodeRecursion::Jump))
    })?;
    Ok(ordered.data)
}
