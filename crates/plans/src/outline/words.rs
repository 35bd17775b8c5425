//! Expressions as a person would write them, over columns of the tables that they come from.

use std::borrow::Cow;
use std::collections::BTreeSet;

use alluvium_contracts::ContentDigest;
use alluvium_telemetry::Redactor;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::expr::{InList, Placeholder};
use datafusion::logical_expr::{BinaryExpr, Distinct, Expr, GroupingSet, LogicalPlan};
use datafusion::sql::unparser::Unparser;
use datafusion::sql::unparser::dialect::Dialect;

use super::walk::tables;

/// Writes the expressions of one plan.
pub(super) struct Words {
    redactor: Redactor,
    hides_literals: bool,
    /// Where there is one table only, its columns need not name it.
    names_tables: bool,
}

/// What a column of a node is.
enum Definition<'p> {
    /// A column of a table, or one that has a name and no more.
    Column(Column),
    /// Computed of the columns of `of`, and called so by the nodes above.
    Computed { expr: &'p Expr, of: &'p LogicalPlan, name: String },
}

impl Words {
    /// Characters of a text that are shown; the rest is told apart by a digest.
    const LONGEST: usize = 160;

    pub(super) fn of(plan: &LogicalPlan, hides_literals: bool) -> Self {
        let tables: BTreeSet<String> = tables(plan).collect();
        Self { redactor: Redactor::default(), hides_literals, names_tables: tables.len() > 1 }
    }

    /// What column `index` of `plan` is computed as.
    pub(super) fn value(&self, plan: &LogicalPlan, index: usize) -> String {
        match definition(plan, index) {
            Definition::Column(column) => self.written(&Expr::Column(self.shown(column))),
            Definition::Computed { expr, of, .. } => self.expr(expr, &[of]),
        }
    }

    /// An expression over the columns of `inputs`, which stand beside each other.
    pub(super) fn expr(&self, expr: &Expr, inputs: &[&LogicalPlan]) -> String {
        self.written(&self.resolved(expr, inputs, true))
    }

    pub(super) fn exprs<'e>(&self, exprs: impl IntoIterator<Item = &'e Expr>, inputs: &[&LogicalPlan]) -> String {
        exprs.into_iter().map(|expr| self.expr(expr, inputs)).collect::<Vec<_>>().join(", ")
    }

    /// A name of the user's.
    pub(super) fn name(&self, name: &str) -> String {
        self.bounded(name)
    }

    /// `expr` over columns of tables. What an aggregate or a window computes is written out where it is used, if it `writes_out`; what a
    /// projection computes has a name.
    fn resolved(&self, expr: &Expr, inputs: &[&LogicalPlan], writes_out: bool) -> Expr {
        let resolved = expr.clone().transform_down(|expr| {
            let told = match expr {
                Expr::Alias(alias) => self.resolved(&alias.expr, inputs, writes_out),
                Expr::Column(column) | Expr::OuterReferenceColumn(_, column) => self.column(column, inputs, writes_out),
                Expr::Literal(..) if self.hides_literals => placeholder("?"),
                // Nobody wrote that: the engine gives a number the type of what it is compared with.
                Expr::Cast(cast) if matches!(*cast.expr, Expr::Literal(..)) => {
                    self.resolved(&cast.expr, inputs, writes_out)
                }
                Expr::Exists(exists) => placeholder(if exists.negated { "NOT EXISTS (…)" } else { "EXISTS (…)" }),
                Expr::ScalarSubquery(_) => placeholder("(SELECT …)"),
                Expr::InSubquery(inside) => Expr::InList(InList {
                    expr: Box::new(self.resolved(&inside.expr, inputs, writes_out)),
                    list: vec![placeholder("SELECT …")],
                    negated: inside.negated,
                }),
                Expr::SetComparison(comparison) => Expr::BinaryExpr(BinaryExpr {
                    left: Box::new(self.resolved(&comparison.expr, inputs, writes_out)),
                    op: comparison.op,
                    right: Box::new(placeholder(&format!("{} (SELECT …)", comparison.quantifier))),
                }),
                other => return Ok(Transformed::no(other)),
            };
            Ok(Transformed::new(told, true, TreeNodeRecursion::Jump))
        });
        // No step of it fails.
        resolved.map_or_else(|_| expr.clone(), |resolved| resolved.data)
    }

    fn column(&self, column: Column, inputs: &[&LogicalPlan], writes_out: bool) -> Expr {
        let place = inputs.iter().find_map(|input| Some((*input, input.schema().maybe_index_of_column(&column)?)));
        // Of a query around: it is called by its name.
        let Some((input, index)) = place else { return Expr::Column(Column::from_name(column.name)) };
        match definition(input, index) {
            Definition::Column(column) => Expr::Column(self.shown(column)),
            Definition::Computed { expr, of, name: _ } if writes_out && is_aggregated(expr) => {
                self.resolved(expr, &[of], false)
            }
            Definition::Computed { name, .. } => Expr::Column(Column::from_name(name)),
        }
    }

    fn shown(&self, column: Column) -> Column {
        if self.names_tables { column } else { Column::from_name(column.name) }
    }

    fn written(&self, expr: &Expr) -> String {
        let text = match Unparser::new(&AsItIs).with_pretty(true).expr_to_sql(expr) {
            Ok(sql) => sql.to_string(),
            Err(_) => expr.human_display().to_string(),
        };
        self.bounded(&text)
    }

    /// Without credentials, and not too long.
    pub(super) fn bounded(&self, text: &str) -> String {
        let text: Cow<'_, str> = self.redactor.kept(text);
        match text.char_indices().nth(Self::LONGEST) {
            Some((end, _)) => {
                let digest = ContentDigest::of(text.as_bytes()).to_string();
                format!("{}… ({})", &text[..end], digest.chars().take(11).collect::<String>())
            }
            None => text.into_owned(),
        }
    }
}

/// What column `index` of `plan` is. Names that only stand for another column are looked through.
fn definition(plan: &LogicalPlan, index: usize) -> Definition<'_> {
    let named = || Definition::Column(Column::from_name(plan.schema().field(index).name()));
    let computed = |expr, of| Definition::Computed { expr, of, name: plan.schema().field(index).name().clone() };
    match plan {
        LogicalPlan::TableScan(scan) => {
            Definition::Column(Column::new(Some(scan.table_name.clone()), plan.schema().field(index).name()))
        }
        LogicalPlan::Projection(node) => match node.expr.get(index) {
            Some(expr) => through(expr, &node.input).unwrap_or_else(|| computed(expr, &node.input)),
            None => named(),
        },
        LogicalPlan::Aggregate(node) => match node.group_expr.as_slice() {
            // Its columns are not those of its list.
            [Expr::GroupingSet(GroupingSet::Rollup(_) | GroupingSet::Cube(_) | GroupingSet::GroupingSets(_))] => {
                named()
            }
            _ => match node.group_expr.iter().chain(&node.aggr_expr).nth(index) {
                Some(expr) => through(expr, &node.input).unwrap_or_else(|| computed(expr, &node.input)),
                None => named(),
            },
        },
        LogicalPlan::Window(node) => match index.checked_sub(node.input.schema().fields().len()) {
            None => definition(&node.input, index),
            Some(index) => node.window_expr.get(index).map_or_else(named, |expr| computed(expr, &node.input)),
        },
        LogicalPlan::Join(node) => {
            let left = node.left.schema().fields().len();
            match node.join_type {
                JoinType::RightSemi | JoinType::RightAnti => definition(&node.right, index),
                JoinType::LeftSemi | JoinType::LeftAnti => definition(&node.left, index),
                JoinType::LeftMark if index < left => definition(&node.left, index),
                JoinType::LeftMark | JoinType::RightMark => named(),
                JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full if index < left => {
                    definition(&node.left, index)
                }
                JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                    definition(&node.right, index - left)
                }
            }
        }
        LogicalPlan::Filter(node) => definition(&node.input, index),
        LogicalPlan::Sort(node) => definition(&node.input, index),
        LogicalPlan::Limit(node) => definition(&node.input, index),
        LogicalPlan::Repartition(node) => definition(&node.input, index),
        LogicalPlan::SubqueryAlias(node) => definition(&node.input, index),
        LogicalPlan::Subquery(node) => definition(&node.subquery, index),
        LogicalPlan::Distinct(Distinct::All(input)) => definition(input, index),
        // Its columns come from several places, or are made here.
        LogicalPlan::Distinct(Distinct::On(_))
        | LogicalPlan::Union(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::RecursiveQuery(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Extension(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_) => named(),
    }
}

/// What `expr` is where it only names a column of `input`.
fn through<'p>(expr: &Expr, input: &'p LogicalPlan) -> Option<Definition<'p>> {
    match expr {
        Expr::Alias(alias) => through(&alias.expr, input),
        Expr::Column(column) => Some(definition(input, input.schema().maybe_index_of_column(column)?)),
        _ => None,
    }
}

fn is_aggregated(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_aggregated(&alias.expr),
        Expr::AggregateFunction(_) | Expr::WindowFunction(_) => true,
        _ => false,
    }
}

fn placeholder(id: &str) -> Expr {
    Expr::Placeholder(Placeholder::new_with_field(id.to_owned(), None))
}

/// SQL in which names are quoted only where they have to be.
struct AsItIs;

impl Dialect for AsItIs {
    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (!identifier.chars().all(is_plain)).then_some('"')
    }
}
