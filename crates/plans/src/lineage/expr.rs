//! The provenance of expressions.

use alluvium_contracts::{ColumnInfluence, ColumnTransformation};
use datafusion::common::Column;
use datafusion::logical_expr::expr::{
    AggregateFunction, AggregateFunctionParams, Case, Sort, WindowFunction, WindowFunctionDefinition,
    WindowFunctionParams,
};
use datafusion::logical_expr::{Expr, GroupingSet, Operator, Subquery};

use super::provenance::{Influences, Provenance, Relation};
use super::{Enclosing, Walk};

impl Walk {
    /// Where the value of `expr` over a row of `input` comes from.
    #[expect(deprecated, reason = "a match without a wildcard arm has to name the deprecated variant too")]
    pub(super) fn expr(&mut self, expr: &Expr, input: &Relation) -> Provenance {
        match expr {
            Expr::Alias(alias) => self.expr(&alias.expr, input),
            Expr::Column(column) => input.column(column).cloned().unwrap_or_else(|| input.everything()),
            Expr::OuterReferenceColumn(_, column) => self.outer_column(column),
            // What a lambda's variable ranges over is an argument of the call around it.
            Expr::Literal(_, _) | Expr::ScalarVariable(_, _) | Expr::Placeholder(_) | Expr::LambdaVariable(_) => {
                Provenance::none()
            }
            Expr::BinaryExpr(binary) => self.combined([&*binary.left, &*binary.right], input),
            Expr::Like(like) | Expr::SimilarTo(like) => self.combined([&*like.expr, &*like.pattern], input),
            Expr::Not(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsNull(inner)
            | Expr::IsTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::Negative(inner) => self.combined([&**inner], input),
            Expr::Between(between) => self.combined([&*between.expr, &*between.low, &*between.high], input),
            Expr::Case(case) => self.case(case, input),
            Expr::Cast(cast) => self.combined([&*cast.expr], input),
            Expr::TryCast(cast) => self.combined([&*cast.expr], input),
            Expr::ScalarFunction(call) => {
                self.functions.insert(call.name().to_owned());
                self.combined(&call.args, input)
            }
            Expr::HigherOrderFunction(call) => {
                self.functions.insert(call.name().to_owned());
                self.combined(&call.args, input)
            }
            Expr::Lambda(lambda) => self.expr(&lambda.body, input),
            Expr::AggregateFunction(call) => self.aggregate_function(call, input),
            Expr::WindowFunction(call) => self.window_function(call, input),
            Expr::InList(list) => self.combined(std::iter::once(&*list.expr).chain(&list.list), input),
            Expr::Exists(exists) => {
                let rows = self.subquery(&exists.subquery, input).rows;
                Provenance::decided_by(rows)
            }
            Expr::InSubquery(inside) => {
                let value = self.expr(&inside.expr, input);
                let found = self.subquery_value(&inside.subquery, input);
                Provenance::combined([value, found], ColumnTransformation::Expression)
            }
            Expr::SetComparison(comparison) => {
                let value = self.expr(&comparison.expr, input);
                let found = self.subquery_value(&comparison.subquery, input);
                Provenance::combined([value, found], ColumnTransformation::Expression)
            }
            Expr::ScalarSubquery(subquery) => self.subquery_value(subquery, input),
            Expr::GroupingSet(set) => match set {
                GroupingSet::Rollup(exprs) | GroupingSet::Cube(exprs) => self.combined(exprs, input),
                GroupingSet::GroupingSets(sets) => self.combined(sets.iter().flatten(), input),
            },
            Expr::Unnest(unnest) => self.combined([&*unnest.expr], input),
            Expr::Wildcard { .. } => input.everything(),
        }
    }

    /// Everything that a decision by `exprs` depends on.
    pub(super) fn deciding<'e>(
        &mut self,
        exprs: impl IntoIterator<Item = &'e Expr>,
        influence: ColumnInfluence,
        input: &Relation,
    ) -> Influences {
        exprs.into_iter().flat_map(|expr| self.expr(expr, input).deciding(influence)).collect()
    }

    pub(super) fn order(&mut self, sorts: &[Sort], influence: ColumnInfluence, input: &Relation) -> Influences {
        self.deciding(sorts.iter().map(|sort| &sort.expr), influence, input)
    }

    /// What a condition on rows decides by. Where two tables meet in an equation rows are joined, wherever the query says
    /// so: `FROM a, b WHERE a.k = b.k` is a join as much as `a JOIN b ON a.k = b.k`.
    pub(super) fn condition(&mut self, conjunct: &Expr, input: &Relation) -> Influences {
        if let Expr::BinaryExpr(binary) = conjunct
            && binary.op == Operator::Eq
        {
            let (left, right) = (self.expr(&binary.left, input), self.expr(&binary.right, input));
            let joins = !left.direct().is_empty()
                && !right.direct().is_empty()
                && left.direct().iter().all(|l| right.direct().iter().all(|r| l.table != r.table));
            return left.or(right).deciding(if joins { ColumnInfluence::Join } else { ColumnInfluence::Filter });
        }
        self.expr(conjunct, input).deciding(ColumnInfluence::Filter)
    }

    fn combined<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>, input: &Relation) -> Provenance {
        let parts: Vec<_> = exprs.into_iter().map(|expr| self.expr(expr, input)).collect();
        Provenance::combined(parts, ColumnTransformation::Expression)
    }

    /// A correlated column belongs to the nearest enclosing query that has it and is seen from its place: the planner's own rule.
    fn outer_column(&self, column: &Column) -> Provenance {
        let nearest = |is_seen| {
            let mut enclosing = self.outer.iter().rev().filter(|enclosing| enclosing.is_seen == is_seen);
            enclosing.find_map(|enclosing| enclosing.relation.column(column)).cloned()
        };
        nearest(true).or_else(|| nearest(false)).unwrap_or_else(|| {
            let all = self.outer.iter().map(|enclosing| enclosing.relation.everything());
            Provenance::combined(all, ColumnTransformation::Expression)
        })
    }

    fn case(&mut self, case: &Case, input: &Relation) -> Provenance {
        let conditions = case.expr.as_deref().into_iter().chain(case.when_then_expr.iter().map(|(when, _)| &**when));
        let chosen_by = self.deciding(conditions, ColumnInfluence::Conditional, input);
        let results = case.when_then_expr.iter().map(|(_, then)| &**then).chain(case.else_expr.as_deref());
        self.combined(results, input).under(chosen_by)
    }

    fn aggregate_function(&mut self, call: &AggregateFunction, input: &Relation) -> Provenance {
        let AggregateFunctionParams { args, distinct: _, filter, order_by, null_treatment: _ } = &call.params;
        self.functions.insert(call.func.name().to_owned());
        let filtered_by = self.deciding(filter.as_deref(), ColumnInfluence::Filter, input);
        let ordered_by = self.order(order_by, ColumnInfluence::Sort, input);
        self.combined(args, input).through(ColumnTransformation::Aggregation).under(filtered_by).under(ordered_by)
    }

    fn window_function(&mut self, call: &WindowFunction, input: &Relation) -> Provenance {
        let WindowFunctionParams {
            args,
            partition_by,
            order_by,
            window_frame: _,
            filter,
            null_treatment: _,
            distinct: _,
        } = &call.params;
        let name = match &call.fun {
            WindowFunctionDefinition::AggregateUDF(function) => function.name(),
            WindowFunctionDefinition::WindowUDF(function) => function.name(),
        };
        self.functions.insert(name.to_owned());
        let filtered_by = self.deciding(filter.as_deref(), ColumnInfluence::Filter, input);
        let partitioned_by = self.deciding(partition_by, ColumnInfluence::Window, input);
        let ordered_by = self.order(order_by, ColumnInfluence::Window, input);
        self.combined(args, input)
            .through(ColumnTransformation::Window)
            .under(filtered_by)
            .under(partitioned_by)
            .under(ordered_by)
    }

    /// The value that a subquery gives to an expression: that of its columns, under what decides over its rows.
    fn subquery_value(&mut self, subquery: &Subquery, input: &Relation) -> Provenance {
        let Relation { columns, rows, .. } = self.subquery(subquery, input);
        columns.into_iter().fold(Provenance::none(), Provenance::or).under(rows)
    }

    /// A subquery sees the columns of the query around it.
    fn subquery(&mut self, subquery: &Subquery, input: &Relation) -> Relation {
        self.outer.push(Enclosing { relation: input.clone(), is_seen: true });
        let relation = self.plan(&subquery.subquery);
        self.outer.pop();
        relation
    }
}
