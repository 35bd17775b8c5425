//! The canonical text of an expression.

use alluvium_functions::Function;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{
    AggregateFunctionParams, NullTreatment, Sort, WindowFunctionDefinition, WindowFunctionParams,
};
use datafusion::logical_expr::{Expr, GroupingSet, ScalarUDF, Subquery, Volatility, WindowFrame, WindowFrameBound};

use super::Walk;

impl Walk {
    #[expect(deprecated, reason = "a match without a wildcard arm has to name the deprecated variant too")]
    pub(super) fn expr(&mut self, expr: &Expr, input: &DFSchema) {
        match expr {
            // An alias names; only its metadata says something. Output names are written once, at the root.
            Expr::Alias(alias) => match &alias.metadata {
                Some(metadata) if !metadata.is_empty() => {
                    self.open("tagged");
                    self.metadata(metadata.inner().iter());
                    self.expr(&alias.expr, input);
                    self.close();
                }
                Some(_) | None => self.expr(&alias.expr, input),
            },
            Expr::Column(column) => self.column(column, input),
            Expr::ScalarVariable(_, names) => {
                self.deny(format!("the variable @{} has no value in a pipeline", names.join(".")));
            }
            Expr::Literal(value, metadata) => match metadata {
                Some(metadata) if !metadata.is_empty() => {
                    self.open("tagged");
                    self.metadata(metadata.inner().iter());
                    self.literal(value);
                    self.close();
                }
                Some(_) | None => self.literal(value),
            },
            Expr::BinaryExpr(binary) => {
                self.open("binary");
                self.variant(binary.op);
                self.expr(&binary.left, input);
                self.expr(&binary.right, input);
                self.close();
            }
            Expr::Like(like) | Expr::SimilarTo(like) => {
                self.open(if matches!(expr, Expr::Like(_)) { "like" } else { "similar-to" });
                self.variant(like.negated);
                self.variant(like.case_insensitive);
                self.variant(like.escape_char);
                self.expr(&like.expr, input);
                self.expr(&like.pattern, input);
                self.close();
            }
            Expr::Not(inner) => self.unary("not", inner, input),
            Expr::IsNotNull(inner) => self.unary("is-not-null", inner, input),
            Expr::IsNull(inner) => self.unary("is-null", inner, input),
            Expr::IsTrue(inner) => self.unary("is-true", inner, input),
            Expr::IsFalse(inner) => self.unary("is-false", inner, input),
            Expr::IsUnknown(inner) => self.unary("is-unknown", inner, input),
            Expr::IsNotTrue(inner) => self.unary("is-not-true", inner, input),
            Expr::IsNotFalse(inner) => self.unary("is-not-false", inner, input),
            Expr::IsNotUnknown(inner) => self.unary("is-not-unknown", inner, input),
            Expr::Negative(inner) => self.unary("negative", inner, input),
            Expr::Between(between) => {
                self.open("between");
                self.variant(between.negated);
                self.expr(&between.expr, input);
                self.expr(&between.low, input);
                self.expr(&between.high, input);
                self.close();
            }
            Expr::Case(case) => {
                self.open("case");
                self.optional(case.expr.as_deref(), input);
                for (when, then) in &case.when_then_expr {
                    self.open("when");
                    self.expr(when, input);
                    self.expr(then, input);
                    self.close();
                }
                self.optional(case.else_expr.as_deref(), input);
                self.close();
            }
            Expr::Cast(cast) => {
                self.open("cast");
                self.field(&cast.field);
                self.expr(&cast.expr, input);
                self.close();
            }
            Expr::TryCast(cast) => {
                self.open("try-cast");
                self.field(&cast.field);
                self.expr(&cast.expr, input);
                self.close();
            }
            Expr::ScalarFunction(call) => {
                self.open("scalar");
                self.scalar_function(&call.func);
                self.found.functions.push(Function::Scalar(call.func.clone()));
                self.exprs(&call.args, input);
                self.close();
            }
            Expr::AggregateFunction(call) => {
                self.open("aggregate");
                self.quoted(call.func.name());
                self.found.functions.push(Function::Aggregate(call.func.clone()));
                self.aggregate_params(&call.params, input);
                self.close();
            }
            Expr::WindowFunction(call) => {
                self.open("window");
                match &call.fun {
                    WindowFunctionDefinition::AggregateUDF(function) => {
                        self.word("aggregate");
                        self.quoted(function.name());
                        self.found.functions.push(Function::Aggregate(function.clone()));
                    }
                    WindowFunctionDefinition::WindowUDF(function) => {
                        self.word("window");
                        self.quoted(function.name());
                        self.found.functions.push(Function::Window(function.clone()));
                    }
                }
                self.window_params(&call.params, input);
                self.close();
            }
            Expr::InList(list) => {
                self.open("in-list");
                self.variant(list.negated);
                self.expr(&list.expr, input);
                self.exprs(&list.list, input);
                self.close();
            }
            Expr::Exists(exists) => {
                self.open("exists");
                self.variant(exists.negated);
                self.subquery(&exists.subquery, input);
                self.close();
            }
            Expr::InSubquery(inside) => {
                self.open("in-subquery");
                self.variant(inside.negated);
                self.expr(&inside.expr, input);
                self.subquery(&inside.subquery, input);
                self.close();
            }
            Expr::SetComparison(comparison) => {
                self.open("set-comparison");
                self.variant(comparison.op);
                self.variant(comparison.quantifier);
                self.expr(&comparison.expr, input);
                self.subquery(&comparison.subquery, input);
                self.close();
            }
            Expr::ScalarSubquery(subquery) => {
                self.open("scalar-subquery");
                self.subquery(subquery, input);
                self.close();
            }
            Expr::Wildcard { .. } => {
                self.deny("a wildcard that the planner left unresolved".to_owned());
            }
            Expr::GroupingSet(set) => {
                self.open("grouping");
                match set {
                    GroupingSet::Rollup(exprs) => {
                        self.word("rollup");
                        self.exprs(exprs, input);
                    }
                    GroupingSet::Cube(exprs) => {
                        self.word("cube");
                        self.exprs(exprs, input);
                    }
                    GroupingSet::GroupingSets(sets) => {
                        self.word("sets");
                        for exprs in sets {
                            self.exprs(exprs, input);
                        }
                    }
                }
                self.close();
            }
            Expr::Placeholder(placeholder) => {
                self.deny(format!("the parameter {} has no value in a pipeline", placeholder.id));
            }
            Expr::OuterReferenceColumn(_, column) => self.outer_column(column),
            Expr::Unnest(unnest) => {
                self.open("unnest-expr");
                self.variant(unnest.outer);
                self.expr(&unnest.expr, input);
                self.close();
            }
            // Higher-order functions declare no version and their lambdas bind names, which the canonical form does
            // not resolve yet.
            Expr::HigherOrderFunction(call) => {
                self.deny(format!("the higher-order function {}() has no canonical form", call.name()));
            }
            Expr::Lambda(_) | Expr::LambdaVariable(_) => {
                self.deny("a lambda has no canonical form".to_owned());
            }
        }
    }

    pub(super) fn exprs(&mut self, exprs: &[Expr], input: &DFSchema) {
        self.open("list");
        for expr in exprs {
            self.expr(expr, input);
        }
        self.close();
    }

    pub(super) fn optional(&mut self, expr: Option<&Expr>, input: &DFSchema) {
        match expr {
            Some(expr) => self.expr(expr, input),
            None => self.word("none"),
        }
    }

    pub(super) fn sort_exprs(&mut self, exprs: &[Sort], input: &DFSchema) {
        self.open("order");
        for sort in exprs {
            self.word(if sort.asc { "asc" } else { "desc" });
            self.word(if sort.nulls_first { "nulls-first" } else { "nulls-last" });
            self.expr(&sort.expr, input);
        }
        self.close();
    }

    pub(super) fn column(&mut self, column: &Column, input: &DFSchema) {
        match input.maybe_index_of_column(column) {
            Some(index) => {
                self.open("column");
                self.number(index);
                self.close();
            }
            None => self.deny(format!("the column {} resolves to nothing in its input", column.flat_name())),
        }
    }

    /// A correlated column belongs to one of the enclosing queries that have it, most often the nearest. Which one depends on what
    /// of them its place can see, and a derived table sees nothing beside it, so every one of them is part of what it means.
    fn outer_column(&mut self, column: &Column) {
        let places = self.outer.iter().rev().enumerate();
        let places = places.filter_map(|(depth, schema)| Some((depth, schema.maybe_index_of_column(column)?)));
        let places: Vec<(usize, usize)> = places.collect();
        if places.is_empty() {
            return self.deny(format!("the outer column {} resolves to no enclosing query", column.flat_name()));
        }
        self.open("outer");
        for (depth, index) in places {
            self.number(depth);
            self.number(index);
        }
        self.close();
    }

    fn unary(&mut self, name: &str, inner: &Expr, input: &DFSchema) {
        self.open(name);
        self.expr(inner, input);
        self.close();
    }

    fn scalar_function(&mut self, function: &ScalarUDF) {
        self.quoted(function.name());
        // Said here as well as denied later, so that the text of a volatile call is never that of a pure one.
        match function.signature().volatility {
            Volatility::Immutable => {}
            Volatility::Stable => self.word("stable"),
            Volatility::Volatile => self.word("volatile"),
        }
    }

    fn aggregate_params(&mut self, params: &AggregateFunctionParams, input: &DFSchema) {
        let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = params;
        self.variant(distinct);
        self.null_treatment(*null_treatment);
        self.exprs(args, input);
        self.optional(filter.as_deref(), input);
        self.sort_exprs(order_by, input);
    }

    fn window_params(&mut self, params: &WindowFunctionParams, input: &DFSchema) {
        let WindowFunctionParams { args, partition_by, order_by, window_frame, filter, null_treatment, distinct } =
            params;
        self.variant(distinct);
        self.null_treatment(*null_treatment);
        self.exprs(args, input);
        self.optional(filter.as_deref(), input);
        self.exprs(partition_by, input);
        self.sort_exprs(order_by, input);
        self.window_frame(window_frame);
    }

    fn null_treatment(&mut self, treatment: Option<NullTreatment>) {
        self.word(match treatment {
            None => "default-nulls",
            Some(NullTreatment::IgnoreNulls) => "ignore-nulls",
            Some(NullTreatment::RespectNulls) => "respect-nulls",
        });
    }

    fn window_frame(&mut self, frame: &WindowFrame) {
        self.open("frame");
        self.variant(frame.units);
        self.window_bound(&frame.start_bound);
        self.window_bound(&frame.end_bound);
        self.variant(frame.is_causal());
        self.close();
    }

    fn window_bound(&mut self, bound: &WindowFrameBound) {
        match bound {
            WindowFrameBound::Preceding(value) => {
                self.word("preceding");
                self.literal(value);
            }
            WindowFrameBound::CurrentRow => self.word("current-row"),
            WindowFrameBound::Following(value) => {
                self.word("following");
                self.literal(value);
            }
        }
    }

    /// A subquery sees the columns of the query around it.
    fn subquery(&mut self, subquery: &Subquery, input: &DFSchema) {
        self.outer.push(input.clone().into());
        self.plan(&subquery.subquery);
        self.outer.pop();
    }
}
