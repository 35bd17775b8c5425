//! What of a plan a dialect has no word for, or another meaning.

use std::error::Error;

use alluvium_contracts::{NotCarried, TargetDialect};
use alluvium_profile::PlannedQuery;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort, WindowFunction};
use datafusion::logical_expr::{
    BinaryExpr, Cast, Distinct, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, WindowFunctionDefinition,
};
use datafusion::sql::unparser::Unparser;

use super::meanings;
use super::portable::{self, Kind};

/// As much of a part is told.
const MAX_CHARACTERS: usize = 120;

/// Everything in the plan that cannot be carried, each once.
pub(super) fn of(planned: &PlannedQuery, to: TargetDialect, unparser: &Unparser<'_>) -> Vec<NotCarried> {
    let mut walk = Walk { to, unparser, found: Vec::new() };
    for function in &planned.table_functions {
        walk.refuse(format!("{function}(…)"), "a plan has the rows of a table function, and not its call".to_owned());
    }
    let walked = planned.plan.apply_with_subqueries(|node| {
        walk.node(node)?;
        Ok(TreeNodeRecursion::Continue)
    });
    if let Err(error) = walked {
        walk.refuse("the query".to_owned(), first_line(&error));
    }
    walk.found
}

/// The columns that the expressions of a node are over.
pub(super) fn scope(node: &LogicalPlan) -> DFSchema {
    let mut scope = DFSchema::empty();
    node.inputs().into_iter().for_each(|input| scope.merge(input.schema()));
    scope
}

/// The first line of an error of the engine, without what is meant for its developers.
pub(super) fn first_line(error: &dyn Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

struct Walk<'u> {
    to: TargetDialect,
    unparser: &'u Unparser<'u>,
    found: Vec<NotCarried>,
}

impl Walk<'_> {
    fn refuse(&mut self, construct: String, reason: String) {
        let construct = match construct.char_indices().nth(MAX_CHARACTERS) {
            Some((end, _)) => format!("{}…", &construct[..end]),
            None => construct,
        };
        let refusal = NotCarried { construct, reason };
        if !self.found.contains(&refusal) {
            self.found.push(refusal);
        }
    }

    fn refuse_expr(&mut self, expr: &Expr, reason: impl Into<String>) {
        let text = self.unparser.expr_to_sql(expr).map_or_else(|_| expr.to_string(), |sql| sql.to_string());
        self.refuse(text, reason.into());
    }

    fn refuse_if(&mut self, expr: &Expr, reason: Option<String>) {
        if let Some(reason) = reason {
            self.refuse_expr(expr, reason);
        }
    }

    fn cast(&mut self, expr: &Expr, value: &Expr, into: &DataType, tried: bool, scope: &DFSchema) {
        let reason = match value.get_type(scope) {
            Ok(from) => meanings::of_cast(self.to, value, &from, into, tried),
            Err(_) if self.to == TargetDialect::Generic => None,
            Err(error) => Some(first_line(&error)),
        };
        self.refuse_if(expr, reason);
    }

    fn is_one_of(&self, dialects: &[TargetDialect]) -> bool {
        dialects.contains(&self.to)
    }

    fn node(&mut self, node: &LogicalPlan) -> datafusion::error::Result<()> {
        use TargetDialect::{Bigquery, Mysql, Snowflake, Sqlite};
        let to = self.to;
        let refusal = match node {
            LogicalPlan::RecursiveQuery(query) => {
                Some((format!("WITH RECURSIVE {}", query.name), "the unparser has no recursive queries".to_owned()))
            }
            LogicalPlan::Extension(node) => {
                Some((node.node.name().to_owned(), "a plan node of an extension has no SQL".to_owned()))
            }
            LogicalPlan::Join(join) if join.null_equality == NullEquality::NullEqualsNull => Some((
                "INTERSECT or EXCEPT".to_owned(),
                "the unparser writes it as an EXISTS in which NULLs do not meet".to_owned(),
            )),
            LogicalPlan::Join(join) if join.join_type == JoinType::Full && to == Mysql => {
                Some(("FULL JOIN".to_owned(), format!("{to} has none")))
            }
            LogicalPlan::Distinct(Distinct::On(_)) if self.is_one_of(&[Mysql, Sqlite, Bigquery, Snowflake]) => {
                Some(("DISTINCT ON".to_owned(), format!("{to} has none")))
            }
            _ => None,
        };
        if let Some((construct, reason)) = refusal {
            self.refuse(construct, reason);
        }
        let scope = scope(node);
        if let LogicalPlan::Sort(sort) = node {
            sort.expr.iter().for_each(|sort| self.sort(sort, &scope));
        }
        node.apply_expressions(|expr| {
            self.unwritten(expr);
            expr.apply(|part| {
                self.expr(part, &scope);
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(())
    }

    /// Names the smallest parts that the unparser refuses. Answers whether that settles the expressions around `expr`: a
    /// subquery is a plan, whose own nodes are looked at.
    fn unwritten(&mut self, expr: &Expr) -> bool {
        let mut settled =
            matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_));
        // The closure never fails.
        let _ = expr.apply_children(|child| {
            settled |= self.unwritten(child);
            Ok(TreeNodeRecursion::Continue)
        });
        if !settled && let Err(error) = self.unparser.expr_to_sql(expr) {
            self.refuse(expr.to_string(), first_line(&error));
            settled = true;
        }
        settled
    }

    fn expr(&mut self, expr: &Expr, scope: &DFSchema) {
        use TargetDialect::{Bigquery, Generic, Mysql, Postgresql, Sqlite};
        let to = self.to;
        match expr {
            Expr::SimilarTo(_) => self.refuse_expr(expr, "SIMILAR TO: the unparser writes LIKE for it"),
            Expr::Like(like) if like.case_insensitive && self.is_one_of(&[Mysql, Sqlite, Bigquery]) => {
                self.refuse_expr(expr, format!("{to} has no ILIKE"));
            }
            Expr::TryCast(_) if self.is_one_of(&[Postgresql, Mysql, Sqlite, Bigquery]) => {
                self.refuse_expr(expr, format!("{to} has no TRY_CAST"));
            }
            Expr::GroupingSet(_) if self.is_one_of(&[Mysql, Sqlite]) => {
                self.refuse_expr(expr, format!("{to} has no grouping sets"));
            }
            Expr::HigherOrderFunction(_) | Expr::ScalarVariable(..) if to != Generic => {
                self.refuse_expr(expr, format!("{to} is not known to have it"));
            }
            Expr::Cast(Cast { expr: value, field }) => self.cast(expr, value, field.data_type(), false, scope),
            Expr::TryCast(TryCast { expr: value, field }) => self.cast(expr, value, field.data_type(), true, scope),
            Expr::Like(like) => self.refuse_if(expr, meanings::of_like(to, like)),
            Expr::Literal(value, _) => self.refuse_if(expr, meanings::of_literal(to, value)),
            Expr::BinaryExpr(binary) => self.operator(expr, binary, scope),
            Expr::ScalarFunction(function) => {
                self.function(expr, Kind::Scalar, function.name());
                let first = function.args.first().and_then(|arg| arg.get_type(scope).ok()).unwrap_or(DataType::Null);
                self.refuse_if(expr, meanings::of_arguments(to, function.name(), &function.args, &first));
            }
            Expr::AggregateFunction(function) => self.aggregate(expr, function, scope),
            Expr::WindowFunction(function) => self.window(expr, function, scope),
            _ => {}
        }
    }

    fn operator(&mut self, expr: &Expr, binary: &BinaryExpr, scope: &DFSchema) {
        use TargetDialect::{Generic, Mysql, Postgresql};
        let to = self.to;
        let type_of = |side: &Expr| side.get_type(scope).unwrap_or(DataType::Null);
        if let Some(reason) = meanings::of_operator(to, binary, &type_of(&binary.left), &type_of(&binary.right)) {
            return self.refuse_expr(expr, reason);
        }
        let reason = match binary.op {
            Operator::StringConcat if to == Mysql => format!("|| is OR in {to}"),
            Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch
                if !self.is_one_of(&[Generic, Postgresql]) =>
            {
                format!("{to} has no such operator, or another one of its name")
            }
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::Plus
            | Operator::Minus
            | Operator::Multiply
            | Operator::Divide
            | Operator::Modulo
            | Operator::And
            | Operator::Or
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
            | Operator::StringConcat
            | Operator::BitwiseAnd
            | Operator::BitwiseOr
            | Operator::BitwiseShiftLeft
            | Operator::BitwiseShiftRight
            | Operator::BitwiseXor
            | Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch => return,
            _ if to == Generic => return,
            _ => format!("{to} is not known to have {}", binary.op),
        };
        self.refuse_expr(expr, reason);
    }

    fn function(&mut self, expr: &Expr, kind: Kind, name: &str) {
        if !portable::has(self.to, kind, name) {
            let reason = format!("the function {name} is not known to be in {}, and to mean the same", self.to);
            self.refuse_expr(expr, reason);
        }
    }

    fn aggregate(&mut self, expr: &Expr, function: &AggregateFunction, scope: &DFSchema) {
        let params = &function.params;
        self.function(expr, Kind::Aggregate, function.func.name());
        if !params.order_by.is_empty() && !function.func.supports_within_group_clause() {
            self.refuse_expr(expr, "ORDER BY inside a function: the unparser leaves it out");
        }
        params.order_by.iter().for_each(|sort| self.sort(sort, scope));
        self.of_rows(expr, &params.args, params.null_treatment, params.filter.is_some(), scope);
    }

    fn window(&mut self, expr: &Expr, function: &WindowFunction, scope: &DFSchema) {
        let params = &function.params;
        let kind = match &function.fun {
            WindowFunctionDefinition::AggregateUDF(_) => Kind::Aggregate,
            WindowFunctionDefinition::WindowUDF(_) => Kind::Window,
        };
        self.function(expr, kind, function.fun.name());
        params.order_by.iter().for_each(|sort| self.sort(sort, scope));
        self.of_rows(expr, &params.args, params.null_treatment, params.filter.is_some(), scope);
    }

    /// What functions of groups and windows have in common.
    fn of_rows(
        &mut self,
        expr: &Expr,
        args: &[Expr],
        nulls: Option<NullTreatment>,
        is_filtered: bool,
        scope: &DFSchema,
    ) {
        use TargetDialect::{Bigquery, Mysql, Snowflake, Sqlite};
        let to = self.to;
        if nulls.is_some() {
            self.refuse_expr(expr, "IGNORE NULLS or RESPECT NULLS: the unparser leaves it out");
        }
        if is_filtered && self.is_one_of(&[Mysql, Bigquery, Snowflake]) {
            self.refuse_expr(expr, format!("{to} has no FILTER of a function"));
        }
        let is_decimal = |arg: &Expr| arg.get_type(scope).is_ok_and(|data_type| data_type.is_decimal());
        if to == Sqlite && args.iter().any(is_decimal) {
            self.refuse_expr(expr, format!("{to} computes decimals as floating-point numbers"));
        }
    }

    /// To MySQL NULL is the least value, and nothing can be said about it.
    fn sort(&mut self, sort: &Sort, scope: &DFSchema) {
        if self.to == TargetDialect::Mysql && sort.nulls_first != sort.asc && sort.expr.nullable(scope).unwrap_or(true)
        {
            let place = if sort.nulls_first { "first" } else { "last" };
            self.refuse_expr(&sort.expr, format!("ORDER BY: {} has no NULLS {}", self.to, place.to_uppercase()));
        }
    }
}
