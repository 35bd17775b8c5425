//! Exact or unstable: whether two executions of one plan over the same pins must give the same rows.
//!
//! A view that may legitimately differ is cached all the same and marked, so that a later comparison reports it as
//! such. The judgement errs to one side only: what is not known to be exact is unstable.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Sort, WindowFunctionDefinition};
use datafusion::logical_expr::utils::grouping_set_expr_count;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, WindowFrameUnits};

/// Why two executions of `plan` may differ; empty when they may not.
pub(crate) fn instabilities(plan: &LogicalPlan) -> BTreeSet<String> {
    let mut reasons = BTreeSet::new();
    // The closure never fails, so neither does the walk.
    let _ = plan.apply_with_subqueries(|node| {
        of_node(node, &mut reasons);
        Ok(TreeNodeRecursion::Continue)
    });
    reasons
}

const OPEN_LIMIT: &str = "LIMIT keeps rows that no order, or a tie in it, leaves open";

fn of_node(node: &LogicalPlan, reasons: &mut BTreeSet<String>) {
    match node {
        LogicalPlan::Limit(limit) => {
            let ordered = match without_renaming(&limit.input) {
                LogicalPlan::Sort(sort) => is_total(&sort.input, &columns_of_sort(&sort.expr, sort.input.schema())),
                _ => false,
            };
            if !ordered {
                reasons.insert(OPEN_LIMIT.to_owned());
            }
        }
        LogicalPlan::Sort(sort)
            if sort.fetch.is_some() && !is_total(&sort.input, &columns_of_sort(&sort.expr, sort.input.schema())) =>
        {
            reasons.insert(OPEN_LIMIT.to_owned());
        }
        LogicalPlan::Distinct(Distinct::On(_)) => {
            reasons.insert("DISTINCT ON keeps one of several rows".to_owned());
        }
        LogicalPlan::Aggregate(aggregate) => {
            for expr in &aggregate.aggr_expr {
                of_aggregates(expr, aggregate.input.schema(), reasons);
            }
        }
        LogicalPlan::Window(window) => {
            for expr in &window.window_expr {
                of_windows(expr, &window.input, reasons);
            }
        }
        _ => {}
    }
}

fn of_aggregates(expr: &Expr, input: &DFSchema, reasons: &mut BTreeSet<String>) {
    let _ = expr.apply(|expr| {
        if let Expr::AggregateFunction(call) = expr {
            of_aggregate(call.func.name(), &call.params.args, input, reasons);
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

/// Aggregates that do not depend on the order in which rows arrive.
fn of_aggregate(name: &str, args: &[Expr], input: &DFSchema, reasons: &mut BTreeSet<String>) {
    let type_of_first = args.first().and_then(|arg| arg.get_type(input).ok());
    let is_integer = type_of_first.as_ref().is_some_and(DataType::is_integer);
    let is_decimal = type_of_first.as_ref().is_some_and(DataType::is_decimal);
    // Of NaN and a number, and of 0.0 and -0.0, the engine keeps whichever comes first.
    let is_float = type_of_first.as_ref().is_some_and(holds_floats);
    let exact = match name {
        "min" | "max" => !is_float,
        "count" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor" | "grouping" => true,
        "sum" => is_integer || is_decimal,
        "avg" => is_decimal,
        _ => false,
    };
    if !exact {
        let of = type_of_first.map(|t| format!(" of {t}")).unwrap_or_default();
        reasons.insert(format!("{name}(){of} depends on the order in which rows arrive"));
    }
}

fn of_windows(expr: &Expr, input: &LogicalPlan, reasons: &mut BTreeSet<String>) {
    let _ = expr.apply(|expr| {
        if let Expr::WindowFunction(call) = expr {
            let schema = input.schema();
            let params = &call.params;
            let mut columns = columns_of_sort(&params.order_by, schema);
            columns.extend(params.partition_by.iter().filter_map(|expr| plain_column(expr, schema)));
            let total = is_total(input, &columns);
            match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) => {
                    of_aggregate(function.name(), &params.args, schema, reasons);
                    let by_rows = params.window_frame.units == WindowFrameUnits::Rows;
                    if by_rows && !total {
                        reasons.insert(format!("{}() over ROWS depends on how ties are ordered", function.name()));
                    }
                }
                WindowFunctionDefinition::WindowUDF(function) => {
                    let peers_agree = matches!(function.name(), "rank" | "dense_rank" | "percent_rank" | "cume_dist");
                    if !peers_agree && !total {
                        reasons.insert(format!("{}() depends on how ties are ordered", function.name()));
                    }
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
}

fn holds_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| holds_floats(field.data_type())),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_floats(field.data_type()),
        DataType::Dictionary(_, values) => holds_floats(values),
        other => other.is_floating(),
    }
}

/// Whether no two rows of `plan` agree in all of `columns`.
fn is_total(plan: &LogicalPlan, columns: &BTreeSet<usize>) -> bool {
    unique_key(plan).is_some_and(|key| key.is_subset(columns))
}

/// Columns that tell every row of `plan` from every other, where its shape proves it.
fn unique_key(plan: &LogicalPlan) -> Option<BTreeSet<usize>> {
    match plan {
        LogicalPlan::Aggregate(node) => {
            let groups = grouping_set_expr_count(&node.group_expr).ok()?;
            // With grouping sets two sets may yield equal rows.
            (groups == node.group_expr.len() && !matches!(node.group_expr.as_slice(), [Expr::GroupingSet(_)]))
                .then(|| (0..groups).collect())
        }
        LogicalPlan::Distinct(Distinct::All(input)) => Some((0..input.schema().fields().len()).collect()),
        LogicalPlan::Filter(node) => unique_key(&node.input),
        LogicalPlan::Sort(node) => unique_key(&node.input),
        LogicalPlan::Limit(node) => unique_key(&node.input),
        LogicalPlan::SubqueryAlias(node) => unique_key(&node.input),
        // A window appends its columns behind those of its input.
        LogicalPlan::Window(node) => unique_key(&node.input),
        LogicalPlan::Projection(node) => {
            let key = unique_key(&node.input)?;
            let input = node.input.schema();
            key.into_iter()
                .map(|wanted| node.expr.iter().position(|expr| plain_column(expr, input) == Some(wanted)))
                .collect()
        }
        _ => None,
    }
}

fn columns_of_sort(exprs: &[Sort], schema: &DFSchema) -> BTreeSet<usize> {
    exprs.iter().filter_map(|sort| plain_column(&sort.expr, schema)).collect()
}

fn plain_column(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Alias(alias) => plain_column(&alias.expr, schema),
        _ => None,
    }
}

fn without_renaming(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::SubqueryAlias(node) => without_renaming(&node.input),
        LogicalPlan::Projection(node) => without_renaming(&node.input),
        other => other,
    }
}
