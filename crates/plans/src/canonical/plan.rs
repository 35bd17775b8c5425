//! The canonical text of a plan node.

use std::sync::Arc;

use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::{DFSchema, NullEquality};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::{Distinct, Join, LogicalPlan, Partitioning, RecursiveQuery, TableScan, Unnest};

use super::Walk;

/// Whether `scan` reads what the recursive CTE `name` has found so far, and not a table of that name.
pub(crate) fn is_work_table(name: &str, scan: &TableScan) -> bool {
    name == scan.table_name.table()
        && source_as_provider(&scan.source)
            .is_ok_and(|provider| (provider.as_ref() as &dyn std::any::Any).is::<CteWorkTable>())
}

impl Walk {
    pub(super) fn plan(&mut self, plan: &LogicalPlan) {
        match plan {
            LogicalPlan::Projection(node) => {
                self.open("projection");
                self.types(&node.schema);
                self.exprs(&node.expr, node.input.schema());
                self.plan(&node.input);
                self.close();
            }
            LogicalPlan::Filter(node) => {
                self.open("filter");
                self.expr(&node.predicate, node.input.schema());
                self.plan(&node.input);
                self.close();
            }
            LogicalPlan::Window(node) => {
                self.open("window");
                self.types(&node.schema);
                self.exprs(&node.window_expr, node.input.schema());
                self.plan(&node.input);
                self.close();
            }
            LogicalPlan::Aggregate(node) => {
                self.open("aggregate");
                self.types(&node.schema);
                self.exprs(&node.group_expr, node.input.schema());
                self.exprs(&node.aggr_expr, node.input.schema());
                self.plan(&node.input);
                self.close();
            }
            LogicalPlan::Sort(node) => {
                self.open("sort");
                self.variant(node.fetch);
                self.sort_exprs(&node.expr, node.input.schema());
                self.plan(&node.input);
                self.close();
            }
            LogicalPlan::Join(node) => self.join(node),
            LogicalPlan::Repartition(node) => {
                self.repartition(node.partitioning_scheme.clone(), &node.input);
            }
            LogicalPlan::Union(node) => {
                self.open("union");
                self.types(&node.schema);
                for input in &node.inputs {
                    self.plan(input);
                }
                self.close();
            }
            LogicalPlan::TableScan(node) => self.scan(node),
            LogicalPlan::EmptyRelation(node) => {
                self.open("empty");
                self.variant(node.produce_one_row);
                self.types(&node.schema);
                self.close();
            }
            // A lateral subquery: what it may refer to was pushed by the join around it.
            LogicalPlan::Subquery(node) => {
                self.open("lateral");
                self.plan(&node.subquery);
                self.close();
            }
            // Only renames the qualifier, and qualifiers leave no trace.
            LogicalPlan::SubqueryAlias(node) => self.plan(&node.input),
            LogicalPlan::Limit(node) => {
                self.open("limit");
                self.optional(node.skip.as_deref(), node.input.schema());
                self.optional(node.fetch.as_deref(), node.input.schema());
                self.plan(&node.input);
                self.close();
            }
            LogicalPlan::Values(node) => {
                self.open("rows");
                self.types(&node.schema);
                for row in &node.values {
                    self.exprs(row, &DFSchema::empty());
                }
                self.close();
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                self.open("distinct");
                self.plan(input);
                self.close();
            }
            LogicalPlan::Distinct(Distinct::On(node)) => {
                self.open("distinct-on");
                self.types(&node.schema);
                self.exprs(&node.on_expr, node.input.schema());
                self.exprs(&node.select_expr, node.input.schema());
                self.sort_exprs(node.sort_expr.as_deref().unwrap_or_default(), node.input.schema());
                self.plan(&node.input);
                self.close();
            }
            LogicalPlan::Unnest(node) => self.unnest(node),
            LogicalPlan::RecursiveQuery(node) => self.recursive(node),
            LogicalPlan::Extension(node) => {
                self.deny(format!("the plan node {} of an extension has no canonical form", node.node.name()));
            }
            LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => self.deny("a statement that is no query".to_owned()),
        }
    }

    fn join(&mut self, node: &Join) {
        self.open("join");
        self.variant(node.join_type);
        self.variant(node.join_constraint);
        self.word(match node.null_equality {
            NullEquality::NullEqualsNothing => "null-equals-nothing",
            NullEquality::NullEqualsNull => "null-equals-null",
        });
        self.variant(node.null_aware);
        self.types(&node.schema);
        for (left, right) in &node.on {
            self.open("on");
            self.expr(left, node.left.schema());
            self.expr(right, node.right.schema());
            self.close();
        }
        if let Some(filter) = &node.filter {
            // A semi or anti join's own schema has one side only; its filter sees both.
            match node.left.schema().join(node.right.schema()) {
                Ok(both) => self.expr(filter, &both),
                Err(_) => self.deny("a join whose sides share a qualified column name".to_owned()),
            }
        } else {
            self.word("no-filter");
        }
        self.plan(&node.left);
        self.outer.push(Arc::clone(node.left.schema()));
        self.plan(&node.right);
        self.outer.pop();
        self.close();
    }

    fn repartition(&mut self, scheme: Partitioning, input: &LogicalPlan) {
        // How rows are spread over partitions is no part of what they are; the input says it all. Ordered partitioning
        // schemes too: a view promises no row order.
        match scheme {
            Partitioning::RoundRobinBatch(_)
            | Partitioning::Hash(_, _)
            | Partitioning::Range(_)
            | Partitioning::DistributeBy(_) => self.plan(input),
        }
    }

    fn scan(&mut self, node: &TableScan) {
        if let Some(depth) = self.work_tables.iter().rev().position(|name| is_work_table(name, node)) {
            self.open("work-table");
            self.number(depth);
            self.types(&node.projected_schema);
            self.close();
            return;
        }
        self.open("scan");
        self.quoted(&node.table_name.to_string());
        self.types(&node.projected_schema);
        self.variant(&node.projection);
        self.variant(node.fetch);
        match DFSchema::try_from(node.source.schema()) {
            Ok(schema) => {
                let schema = schema.strip_qualifiers();
                let filters: Vec<_> = node.filters.iter().map(|filter| unnormalize_col(filter.clone())).collect();
                self.exprs(&filters, &schema);
            }
            Err(_) => self.deny(format!("the table {} has two columns of one name", node.table_name)),
        }
        self.close();
        self.found.scans.push(node.clone());
    }

    fn recursive(&mut self, node: &RecursiveQuery) {
        self.open("recursive");
        self.variant(node.is_distinct);
        self.types(&node.schema);
        self.plan(&node.static_term);
        self.work_tables.push(node.name.clone());
        self.plan(&node.recursive_term);
        self.work_tables.pop();
        self.close();
    }

    fn unnest(&mut self, node: &Unnest) {
        self.open("unnest");
        self.types(&node.schema);
        for column in &node.exec_columns {
            self.column(column, node.input.schema());
        }
        for (index, list) in &node.list_type_columns {
            self.open("list-column");
            self.number(index);
            self.number(list.depth);
            self.column(&list.output_column, &node.schema);
            self.close();
        }
        self.variant(&node.struct_type_columns);
        self.variant(&node.dependency_indices);
        self.variant(node.options.null_handling);
        for recursion in &node.options.recursions {
            self.open("recursion");
            self.number(recursion.depth);
            self.column(&recursion.input_column, node.input.schema());
            self.column(&recursion.output_column, &node.schema);
            self.close();
        }
        self.plan(&node.input);
        self.close();
    }
}
