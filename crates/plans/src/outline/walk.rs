//! The parts of a query, node by node.

use alluvium_contracts::QueryPart;
use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, GroupingSet, Join, LogicalPlan, Operator, SortExpr,
};

use super::words::Words;
use crate::canonical::is_work_table;

/// Every part of `plan`, and of the subqueries in it, but for the columns of its result.
pub(super) fn parts(plan: &LogicalPlan, words: &Words) -> Vec<(QueryPart, String)> {
    let mut walk = Walk { words, parts: Vec::new(), output: output(plan) };
    each(plan, |node| walk.node(node));
    walk.parts.sort_unstable();
    walk.parts
}

/// The tables that `plan` scans, as often as it does.
pub(super) fn tables(plan: &LogicalPlan) -> impl Iterator<Item = String> {
    let mut tables = Vec::new();
    each(plan, |node| {
        if let LogicalPlan::TableScan(scan) = node
            && !is_work_table(scan.table_name.table(), scan)
        {
            tables.push(scan.table_name.to_string());
        }
    });
    tables.into_iter()
}

/// Calls `look` with each node of `plan` and of its subqueries.
fn each(plan: &LogicalPlan, mut look: impl FnMut(&LogicalPlan)) {
    // It fails only where `look` does.
    let _ = plan.apply_with_subqueries(|node| {
        look(node);
        Ok(TreeNodeRecursion::Continue)
    });
}

/// The projection that makes the columns of the result, which are told as columns.
fn output(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Projection(_) => Some(plan),
        LogicalPlan::Sort(node) => output(&node.input),
        LogicalPlan::Limit(node) => output(&node.input),
        LogicalPlan::SubqueryAlias(node) => output(&node.input),
        LogicalPlan::Distinct(Distinct::All(input)) => output(input),
        _ => None,
    }
}

struct Walk<'w> {
    words: &'w Words,
    parts: Vec<(QueryPart, String)>,
    output: Option<&'w LogicalPlan>,
}

impl Walk<'_> {
    fn add(&mut self, part: QueryPart, text: impl AsRef<str>) {
        self.parts.push((part, self.words.bounded(text.as_ref())));
    }

    fn node(&mut self, plan: &LogicalPlan) {
        match plan {
            LogicalPlan::TableScan(scan) => {
                if !is_work_table(scan.table_name.table(), scan) {
                    self.add(QueryPart::Table, scan.table_name.to_string());
                }
            }
            LogicalPlan::Projection(node) => {
                if self.output.is_some_and(|output| std::ptr::eq(output, plan)) {
                    return;
                }
                for expr in &node.expr {
                    if let Expr::Alias(alias) = expr
                        && !matches!(*alias.expr, Expr::Column(_) | Expr::OuterReferenceColumn(..))
                    {
                        let text = self.words.expr(expr, &[&*node.input]);
                        self.add(QueryPart::Expression, text);
                    }
                }
            }
            LogicalPlan::Filter(node) => {
                for condition in split_conjunction(&node.predicate) {
                    let text = self.words.expr(condition, &[&*node.input]);
                    self.add(QueryPart::Filter, text);
                }
            }
            LogicalPlan::Join(node) => self.join(node),
            LogicalPlan::Aggregate(node) => self.aggregate(node),
            LogicalPlan::Window(node) => {
                for expr in &node.window_expr {
                    let text = self.words.expr(expr, &[&*node.input]);
                    self.add(QueryPart::Window, text);
                }
            }
            LogicalPlan::Sort(node) => {
                let order = self.order(&node.expr, &node.input);
                self.add(QueryPart::Order, order);
            }
            LogicalPlan::Limit(node) => {
                let mut bounds = Vec::new();
                for (word, bound) in [("limit", &node.fetch), ("offset", &node.skip)] {
                    if let Some(bound) = bound {
                        bounds.push(format!("{word} {}", self.words.expr(bound, &[])));
                    }
                }
                self.add(QueryPart::Limit, bounds.join(" "));
            }
            LogicalPlan::Distinct(Distinct::All(_)) => self.add(QueryPart::Distinct, "by all columns"),
            LogicalPlan::Distinct(Distinct::On(node)) => self.distinct_on(node),
            LogicalPlan::Union(node) => self.add(QueryPart::Union, format!("of {} queries", node.inputs.len())),
            LogicalPlan::Values(node) => {
                for row in &node.values {
                    let text = format!("({})", self.words.exprs(row, &[]));
                    self.add(QueryPart::Values, text);
                }
            }
            LogicalPlan::Unnest(node) => {
                let columns: Vec<Expr> = node.exec_columns.iter().cloned().map(Expr::Column).collect();
                let text = self.words.exprs(&columns, &[&*node.input]);
                self.add(QueryPart::Unnest, text);
            }
            LogicalPlan::RecursiveQuery(node) => {
                let repeats = if node.is_distinct { "without repeats" } else { "with repeats" };
                self.add(QueryPart::Recursion, format!("{} {repeats}", node.name));
            }
            // They name, or say nothing that a person wrote.
            LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::Repartition(_)
            | LogicalPlan::EmptyRelation(_)
            | LogicalPlan::Extension(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::DescribeTable(_) => {}
        }
    }

    fn join(&mut self, node: &Join) {
        let with: Vec<String> = tables(&node.right).collect();
        let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(", ")) };
        self.add(QueryPart::Join, format!("{}{with}", kind(node.join_type)));
        let (left, right) = (&*node.left, &*node.right);
        for (one, other) in &node.on {
            let text = format!("{} = {}", self.words.expr(one, &[left]), self.words.expr(other, &[right]));
            self.add(QueryPart::JoinKey, text);
        }
        for condition in node.filter.iter().flat_map(split_conjunction) {
            let part = match condition {
                Expr::BinaryExpr(binary) if binary.op == Operator::Eq => QueryPart::JoinKey,
                _ => QueryPart::JoinCondition,
            };
            let text = self.words.expr(condition, &[left, right]);
            self.add(part, text);
        }
    }

    fn aggregate(&mut self, node: &Aggregate) {
        for key in &node.group_expr {
            let text = match key {
                Expr::GroupingSet(set) => {
                    let list = |exprs: &[Expr]| format!("({})", self.words.exprs(exprs, &[&*node.input]));
                    match set {
                        GroupingSet::Rollup(exprs) => format!("rollup {}", list(exprs)),
                        GroupingSet::Cube(exprs) => format!("cube {}", list(exprs)),
                        GroupingSet::GroupingSets(sets) => {
                            let sets: Vec<String> = sets.iter().map(|exprs| list(exprs)).collect();
                            format!("grouping sets ({})", sets.join(", "))
                        }
                    }
                }
                key => self.words.expr(key, &[&*node.input]),
            };
            self.add(QueryPart::GroupKey, text);
        }
        for expr in &node.aggr_expr {
            let text = self.words.expr(expr, &[&*node.input]);
            self.add(QueryPart::Aggregate, text);
        }
    }

    fn distinct_on(&mut self, node: &DistinctOn) {
        let mut text = format!("by {}", self.words.exprs(&node.on_expr, &[&*node.input]));
        if let Some(sort) = &node.sort_expr {
            text.push_str(&format!(", the first by {}", self.order(sort, &node.input)));
        }
        self.add(QueryPart::Distinct, text);
        for expr in &node.select_expr {
            let text = self.words.expr(expr, &[&*node.input]);
            self.add(QueryPart::Expression, text);
        }
    }

    fn order(&self, sorts: &[SortExpr], input: &LogicalPlan) -> String {
        let one = |sort: &SortExpr| {
            let direction = if sort.asc { "asc" } else { "desc" };
            let nulls = if sort.nulls_first { "first" } else { "last" };
            format!("{} {direction} nulls {nulls}", self.words.expr(&sort.expr, &[input]))
        };
        sorts.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

fn kind(join_type: JoinType) -> &'static str {
    match join_type {
        JoinType::Inner => "inner",
        JoinType::Left => "left",
        JoinType::Right => "right",
        JoinType::Full => "full",
        JoinType::LeftSemi | JoinType::RightSemi => "semi",
        JoinType::LeftAnti | JoinType::RightAnti => "anti",
        JoinType::LeftMark | JoinType::RightMark => "mark",
    }
}
