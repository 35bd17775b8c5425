//! The provenance of plan nodes.

use std::sync::Arc;

use alluvium_contracts::{ColumnInfluence, ColumnTransformation};
use datafusion::common::{DFSchemaRef, JoinType};
use datafusion::logical_expr::utils::{grouping_set_to_exprlist, split_conjunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, Join, LogicalPlan, RecursiveQuery, TableScan, Union, Unnest, Values,
};

use super::provenance::{Influences, Provenance, Relation};
use super::{Enclosing, Walk};
use crate::canonical::is_work_table;

impl Walk {
    /// The columns of a node, and what decides over its rows.
    pub(super) fn plan(&mut self, plan: &LogicalPlan) -> Relation {
        match plan {
            LogicalPlan::Projection(node) => {
                let input = self.plan(&node.input);
                let columns = node.expr.iter().map(|expr| self.expr(expr, &input)).collect();
                Relation { schema: Arc::clone(&node.schema), columns, rows: input.rows }
            }
            LogicalPlan::Filter(node) => {
                let mut input = self.plan(&node.input);
                for conjunct in split_conjunction(&node.predicate) {
                    let decided_by = self.condition(conjunct, &input);
                    input.rows.extend(decided_by);
                }
                input
            }
            // A window appends its columns to those of its input, and keeps every row.
            LogicalPlan::Window(node) => {
                let mut input = self.plan(&node.input);
                let windows: Vec<_> = node.window_expr.iter().map(|expr| self.expr(expr, &input)).collect();
                input.columns.extend(windows);
                Relation { schema: Arc::clone(&node.schema), ..input }
            }
            LogicalPlan::Aggregate(node) => self.aggregate(node),
            LogicalPlan::Sort(node) => {
                let mut input = self.plan(&node.input);
                let ordered_by = self.order(&node.expr, ColumnInfluence::Sort, &input);
                input.rows.extend(ordered_by);
                input
            }
            LogicalPlan::Join(node) => self.join(node),
            // How rows are spread over partitions is no part of what they are.
            LogicalPlan::Repartition(node) => self.plan(&node.input),
            LogicalPlan::Union(node) => self.union(node),
            LogicalPlan::TableScan(node) => self.scan(node),
            LogicalPlan::EmptyRelation(node) => Relation {
                schema: Arc::clone(&node.schema),
                columns: vec![Provenance::none(); node.schema.fields().len()],
                rows: Influences::new(),
            },
            // A lateral subquery: what it may refer to was pushed by the join around it.
            LogicalPlan::Subquery(node) => self.plan(&node.subquery),
            LogicalPlan::SubqueryAlias(node) => Relation { schema: Arc::clone(&node.schema), ..self.plan(&node.input) },
            LogicalPlan::Limit(node) => {
                let mut input = self.plan(&node.input);
                let bounds = node.skip.as_deref().into_iter().chain(node.fetch.as_deref());
                let cut_by = self.deciding(bounds, ColumnInfluence::Filter, &input);
                input.rows.extend(cut_by);
                input
            }
            LogicalPlan::Values(node) => self.values(node),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut input = self.plan(input);
                input.rows.extend(told_apart(&input));
                input
            }
            LogicalPlan::Distinct(Distinct::On(node)) => self.distinct_on(node),
            LogicalPlan::Unnest(node) => self.unnest(node),
            LogicalPlan::RecursiveQuery(node) => self.recursive(node),
            LogicalPlan::Extension(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => self.opaque(plan),
        }
    }

    fn aggregate(&mut self, node: &Aggregate) -> Relation {
        let input = self.plan(&node.input);
        // The node was built from the same list, so it is well-formed; were it not, nothing could be told apart.
        let Ok(groups) = grouping_set_to_exprlist(&node.group_expr) else {
            return beneath(Arc::clone(&node.schema), [input]);
        };
        let mut columns: Vec<_> = groups.iter().map(|group| self.expr(group, &input)).collect();
        let grouped_by: Vec<_> = columns.iter().cloned().flat_map(|c| c.deciding(ColumnInfluence::GroupBy)).collect();
        if matches!(node.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
            // The engine's own column: which of the grouping sets a row is of.
            columns.push(Provenance::none().through(ColumnTransformation::Aggregation));
        }
        columns.extend(node.aggr_expr.iter().map(|expr| self.expr(expr, &input)));
        let mut rows = input.rows;
        rows.extend(grouped_by);
        Relation { schema: Arc::clone(&node.schema), columns, rows }
    }

    fn join(&mut self, node: &Join) -> Relation {
        let left = self.plan(&node.left);
        self.outer.push(Enclosing { relation: left.clone(), is_seen: is_lateral(&node.right) });
        let right = self.plan(&node.right);
        self.outer.pop();

        let mut joined_by = Influences::new();
        for (on_left, on_right) in &node.on {
            joined_by.extend(self.deciding([on_left], ColumnInfluence::Join, &left));
            joined_by.extend(self.deciding([on_right], ColumnInfluence::Join, &right));
        }
        if let Some(filter) = &node.filter {
            // A semi or anti join's own schema has one side only; its filter sees both.
            joined_by.extend(match left.schema.join(&right.schema) {
                Ok(both) => {
                    let columns = left.columns.iter().chain(&right.columns).cloned().collect();
                    let both = Relation { schema: Arc::new(both), columns, rows: Influences::new() };
                    self.deciding([filter], ColumnInfluence::Join, &both)
                }
                Err(_) => left.everything().or(right.everything()).deciding(ColumnInfluence::Join),
            });
        }
        // A mark says whether the other side has a match, and that side decides over nothing else.
        let mark = |rows: &Influences| Provenance::decided_by(rows.union(&joined_by).cloned().collect());
        let (columns, rows): (Vec<_>, Influences) = match node.join_type {
            JoinType::LeftMark => (left.columns.into_iter().chain([mark(&right.rows)]).collect(), left.rows),
            JoinType::RightMark => (right.columns.into_iter().chain([mark(&left.rows)]).collect(), right.rows),
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => (
                left.columns.into_iter().chain(right.columns).collect(),
                left.rows.into_iter().chain(right.rows).chain(joined_by).collect(),
            ),
            JoinType::LeftSemi | JoinType::LeftAnti => {
                (left.columns, left.rows.into_iter().chain(right.rows).chain(joined_by).collect())
            }
            JoinType::RightSemi | JoinType::RightAnti => {
                (right.columns, left.rows.into_iter().chain(right.rows).chain(joined_by).collect())
            }
        };
        Relation { schema: Arc::clone(&node.schema), columns, rows }
    }

    fn union(&mut self, node: &Union) -> Relation {
        let mut columns = vec![Provenance::none(); node.schema.fields().len()];
        let mut rows = Influences::new();
        for input in &node.inputs {
            let input = self.plan(input);
            columns = columns.into_iter().zip(input.columns).map(|(one, other)| one.or(other)).collect();
            rows.extend(input.rows);
        }
        Relation { schema: Arc::clone(&node.schema), columns, rows }
    }

    fn scan(&mut self, node: &TableScan) -> Relation {
        let schema = Arc::clone(&node.projected_schema);
        let recursive = self.work_tables.iter().rev().find(|(name, _)| is_work_table(name, node));
        if let Some((_, Relation { columns, rows, .. })) = recursive {
            return Relation { schema, columns: columns.clone(), rows: rows.clone() };
        }
        let table = node.table_name.to_string();
        let source = |name: &String| Provenance::source(&table, name);
        let columns = schema.fields().iter().map(|field| source(field.name())).collect();
        // Filters see the whole table, projected or not, and name its columns alone.
        let filtered_by = node.filters.iter().flat_map(|filter| {
            filter.column_refs().into_iter().flat_map(|c| source(&c.name).deciding(ColumnInfluence::Filter))
        });
        let rows = filtered_by.collect();
        self.tables.insert(table.clone());
        Relation { schema, columns, rows }
    }

    fn values(&mut self, node: &Values) -> Relation {
        // A row of VALUES has no input, but a lateral one may refer to the query around it.
        let nothing = Relation {
            schema: Arc::clone(&node.schema),
            columns: vec![Provenance::none(); node.schema.fields().len()],
            rows: Influences::new(),
        };
        let mut columns = nothing.columns.clone();
        for row in &node.values {
            let row: Vec<_> = row.iter().map(|expr| self.expr(expr, &nothing)).collect();
            columns = columns.into_iter().zip(row).map(|(one, other)| one.or(other)).collect();
        }
        Relation { columns, ..nothing }
    }

    fn distinct_on(&mut self, node: &DistinctOn) -> Relation {
        let input = self.plan(&node.input);
        let kept_by = self.deciding(&node.on_expr, ColumnInfluence::GroupBy, &input);
        let ordered_by = self.order(node.sort_expr.as_deref().unwrap_or_default(), ColumnInfluence::Sort, &input);
        let columns = node.select_expr.iter().map(|expr| self.expr(expr, &input)).collect();
        let rows = input.rows.into_iter().chain(kept_by).chain(ordered_by).collect();
        Relation { schema: Arc::clone(&node.schema), columns, rows }
    }

    /// A list becomes as many rows as it has items, so it decides over rows too; a struct only becomes columns.
    fn unnest(&mut self, node: &Unnest) -> Relation {
        let input = self.plan(&node.input);
        let is_list = |index: &usize| node.list_type_columns.iter().any(|(list, _)| list == index);
        let of = |index: &usize| input.columns.get(*index).cloned().unwrap_or_else(|| input.everything());
        let columns = node
            .dependency_indices
            .iter()
            .map(|index| match is_list(index) || node.struct_type_columns.contains(index) {
                true => of(index).through(ColumnTransformation::Expression),
                false => of(index),
            })
            .collect();
        let repeated_by =
            node.list_type_columns.iter().flat_map(|(index, _)| of(index).deciding(ColumnInfluence::Filter));
        let rows = input.rows.iter().cloned().chain(repeated_by).collect();
        Relation { schema: Arc::clone(&node.schema), columns, rows }
    }

    /// The recursive term is walked over what is known of the whole, until that no longer grows.
    fn recursive(&mut self, node: &RecursiveQuery) -> Relation {
        let mut known = Relation { schema: Arc::clone(&node.schema), ..self.plan(&node.static_term) };
        loop {
            self.work_tables.push((node.name.clone(), known.clone()));
            let step = self.plan(&node.recursive_term);
            self.work_tables.pop();

            let columns: Vec<_> =
                known.columns.iter().cloned().zip(step.columns).map(|(one, other)| one.or(other)).collect();
            let mut grown =
                Relation { columns, rows: known.rows.union(&step.rows).cloned().collect(), ..known.clone() };
            if node.is_distinct {
                grown.rows.extend(told_apart(&grown));
            }
            if grown.columns == known.columns && grown.rows == known.rows {
                return known;
            }
            known = grown;
        }
    }

    /// Nothing is known of how the node makes its output: all of it may depend on all of its inputs.
    fn opaque(&mut self, plan: &LogicalPlan) -> Relation {
        let inputs: Vec<_> = plan.inputs().into_iter().map(|input| self.plan(input)).collect();
        beneath(Arc::clone(plan.schema()), inputs)
    }
}

/// Whether the right side of a join sees the left one.
fn is_lateral(right: &LogicalPlan) -> bool {
    match right {
        LogicalPlan::Subquery(_) => true,
        LogicalPlan::SubqueryAlias(node) => is_lateral(&node.input),
        LogicalPlan::Projection(node) => is_lateral(&node.input),
        _ => false,
    }
}

/// Rows that are told apart by all of their columns.
fn told_apart(relation: &Relation) -> Influences {
    relation.columns.iter().cloned().flat_map(|column| column.deciding(ColumnInfluence::GroupBy)).collect()
}

/// A node whose every column, and whose rows, may depend on everything of `inputs`.
fn beneath(schema: DFSchemaRef, inputs: impl IntoIterator<Item = Relation>) -> Relation {
    let mut all = Provenance::none();
    let mut rows = Influences::new();
    for input in inputs {
        all = all.or(input.everything());
        rows.extend(input.rows);
    }
    rows.extend(all.clone().deciding(ColumnInfluence::Filter));
    Relation { columns: vec![all; schema.fields().len()], schema, rows }
}
