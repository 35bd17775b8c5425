//! The functions that came with the engine, so that a foreign one under the same name is told apart.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};

/// What a session could call before anything foreign was registered, by name; a function with aliases stands under each.
///
/// A function of a plan is built-in if it *equals* the one of that name here. Equality is the engine's, which compares the
/// implementing type and its fields, never the name alone.
pub struct Builtins {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
}

impl Builtins {
    pub(crate) fn of(state: &SessionState) -> Self {
        Self {
            scalar: state.scalar_functions().clone(),
            higher_order: state.higher_order_functions().clone(),
            aggregate: state.aggregate_functions().clone(),
            window: state.window_functions().clone(),
        }
    }

    /// Scalar functions by name and alias.
    #[must_use]
    pub fn scalar(&self) -> &HashMap<String, Arc<ScalarUDF>> {
        &self.scalar
    }

    /// Functions that take a lambda, by name and alias.
    #[must_use]
    pub fn higher_order(&self) -> &HashMap<String, Arc<HigherOrderUDF>> {
        &self.higher_order
    }

    /// Aggregate functions by name and alias.
    #[must_use]
    pub fn aggregate(&self) -> &HashMap<String, Arc<AggregateUDF>> {
        &self.aggregate
    }

    /// Window functions by name and alias.
    #[must_use]
    pub fn window(&self) -> &HashMap<String, Arc<WindowUDF>> {
        &self.window
    }

    /// Whether `function` is the engine's. A function that takes settings (`now` and `to_timestamp` the time zone) is here
    /// in the variant for this session's settings, which is the one that SQL plans to; another variant is foreign.
    #[must_use]
    pub fn is_builtin_scalar(&self, function: &ScalarUDF) -> bool {
        self.scalar.get(function.name()).is_some_and(|registered| registered.as_ref() == function)
    }

    /// Whether `function` is the engine's.
    #[must_use]
    pub fn is_builtin_higher_order(&self, function: &HigherOrderUDF) -> bool {
        self.higher_order.get(function.name()).is_some_and(|registered| registered.as_ref() == function)
    }

    /// Whether `function` is the engine's.
    #[must_use]
    pub fn is_builtin_aggregate(&self, function: &AggregateUDF) -> bool {
        self.aggregate.get(function.name()).is_some_and(|registered| registered.as_ref() == function)
    }

    /// Whether `function` is the engine's.
    #[must_use]
    pub fn is_builtin_window(&self, function: &WindowUDF) -> bool {
        self.window.get(function.name()).is_some_and(|registered| registered.as_ref() == function)
    }
}

impl fmt::Debug for Builtins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builtins")
            .field("scalar", &self.scalar.len())
            .field("higher_order", &self.higher_order.len())
            .field("aggregate", &self.aggregate.len())
            .field("window", &self.window.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use alluvium_contracts::ProfileSpec;
    use datafusion::arrow::datatypes::DataType;
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    use datafusion::logical_expr::expr::WindowFunctionDefinition;
    use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf};
    use datafusion::scalar::ScalarValue;

    use crate::{RuntimeProfile, Session, SessionFactory};

    fn session() -> Session {
        SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap()
    }

    /// The functions of a query: `name` → is a built-in.
    async fn functions(session: &Session, sql: &str) -> Vec<(String, bool)> {
        let plan = session.plan_query(sql).await.unwrap().plan;
        let builtins = session.builtins();
        let mut found = Vec::new();
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    match expr {
                        Expr::ScalarFunction(f) => {
                            found.push((f.func.name().to_owned(), builtins.is_builtin_scalar(&f.func)));
                        }
                        Expr::HigherOrderFunction(f) => {
                            found.push((f.func.name().to_owned(), builtins.is_builtin_higher_order(&f.func)));
                        }
                        Expr::AggregateFunction(f) => {
                            found.push((f.func.name().to_owned(), builtins.is_builtin_aggregate(&f.func)));
                        }
                        Expr::WindowFunction(f) => match &f.fun {
                            WindowFunctionDefinition::AggregateUDF(f) => {
                                found.push((f.name().to_owned(), builtins.is_builtin_aggregate(f)));
                            }
                            WindowFunctionDefinition::WindowUDF(f) => {
                                found.push((f.name().to_owned(), builtins.is_builtin_window(f)));
                            }
                        },
                        _ => {}
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })
        .unwrap();
        found.sort();
        found.dedup();
        found
    }

    #[tokio::test]
    async fn what_sql_plans_to_is_built_in() {
        let session = session();
        let from = "from (select date '2024-01-01' as d, [1] as x, named_struct('f', 1) as s, 1 as n, 'a' as t)";
        let mut names = BTreeSet::new();
        for expression in [
            "now()",
            "current_timestamp",
            "current_date()",
            "to_timestamp('2024-01-01')",
            "extract(year from d)",
            "date_trunc('month', d)",
            "x[1]",
            "x[1:2]",
            "s['f']",
            "[n, 2]",
            "upper(t) || 'b'",
            "position('a' in t)",
            "substring(t from 2)",
            "trim(t)",
            "overlay(t placing 'b' from 1)",
            "coalesce(n, 1)",
            "nullif(n, 1)",
            "round(n, 1)",
            "random()",
            "1 in (select count(*) from (values (1)))",
            "count(*)",
            "count(distinct n)",
            "avg(n)",
            "sum(n) filter (where n > 0)",
            "string_agg(t, ',')",
            "array_agg(n order by n)",
            "median(n)",
            "first_value(n)",
            "percentile_cont(0.5) within group (order by n)",
            "row_number() over (order by n)",
            "lag(n) over (order by n)",
            "sum(n) over (order by n)",
            "first_value(n) over (order by n)",
        ] {
            let found = functions(&session, &format!("select {expression} {from}")).await;
            let foreign: Vec<_> = found.iter().filter(|(_, builtin)| !builtin).collect();
            assert!(foreign.is_empty(), "{expression}: {foreign:?}");
            names.extend(found.into_iter().map(|(name, _)| name));
        }
        assert!(names.len() >= 29, "{names:?}");
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "plays the foreign code that takes a built-in's name")]
    async fn a_foreign_function_under_the_name_of_a_built_in_is_foreign() {
        let session = session();
        let impostor = create_udf(
            "upper",
            vec![DataType::Utf8],
            DataType::Utf8,
            Volatility::Immutable,
            Arc::new(|_| Ok(ColumnarValue::Scalar(ScalarValue::from("lower")))),
        );
        session.context().register_udf(impostor);
        assert_eq!(functions(&session, "select upper('a')").await, [("upper".to_owned(), false)]);
    }

    #[test]
    fn a_built_in_for_other_settings_is_foreign() {
        let session = session();
        let now = &session.builtins().scalar()["now"];
        let mut config = session.context().state().config_options().as_ref().clone();
        let variant = |config: &_| -> ScalarUDF { now.inner().with_updated_config(config).unwrap() };
        assert!(session.builtins().is_builtin_scalar(&variant(&config)));
        config.execution.time_zone = Some("+05:00".to_owned());
        assert!(!session.builtins().is_builtin_scalar(&variant(&config)));
    }

    #[test]
    fn aliases_lead_to_the_function() {
        let session = session();
        let scalar = session.builtins().scalar();
        assert_eq!(scalar["current_timestamp"].name(), scalar["now"].name());
    }
}
