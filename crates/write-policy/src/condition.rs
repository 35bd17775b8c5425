//! SQL conditions over rows: constraints, and the rows that a write replaces.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{DFSchema, DataFusionError, plan_err};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;

use crate::error::PolicyError;

/// A condition over columns, which it finds by name.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    sql: String,
    /// The columns that it reads, and no other.
    columns: SchemaRef,
    /// Over `columns`.
    expression: Arc<dyn PhysicalExpr>,
}

impl Condition {
    /// `field` is where the condition stands, for errors.
    pub(crate) fn parse(field: &str, sql: &str, schema: &Schema) -> Result<Self, PolicyError> {
        let refused =
            |source| PolicyError::Condition { field: field.to_owned(), sql: sql.to_owned(), source: Box::new(source) };
        let read = collect_columns(&plan(sql, schema).map_err(refused)?);
        let read = schema.fields().iter().filter(|field| read.iter().any(|column| column.name() == field.name()));
        let columns = Arc::new(Schema::new(read.cloned().collect::<Vec<_>>()));
        let expression = plan(sql, &columns).map_err(refused)?;
        Ok(Self { sql: sql.to_owned(), columns, expression })
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Over [`Self::schema`].
    pub(crate) fn expression(&self) -> Arc<dyn PhysicalExpr> {
        Arc::clone(&self.expression)
    }

    /// The columns that it reads, with their types.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    /// The columns that it reads.
    pub(crate) fn columns(&self) -> Vec<String> {
        self.columns.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Of each row of a batch, whether it is true. NULL is not.
    pub(crate) fn holds(&self, batch: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
        let indices = self.columns.fields().iter().map(|field| batch.schema_ref().index_of(field.name()));
        let read = batch.project(&indices.collect::<Result<Vec<_>, _>>()?)?;
        let result = self.expression.evaluate(&read)?.into_array(batch.num_rows())?;
        let result = result.as_boolean();
        Ok(BooleanArray::new(
            match result.nulls() {
                Some(valid) => result.values() & valid.inner(),
                None => result.values().clone(),
            },
            None,
        ))
    }
}

fn plan(sql: &str, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let state = parser();
    let columns = DFSchema::try_from(schema.clone())?;
    let expression = state.create_logical_expr(sql, &columns)?;
    let unsteady = |expression: &Expr| match expression {
        Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
        _ => false,
    };
    if expression.exists(|expression| Ok(unsteady(expression)))? {
        return plan_err!("it calls a function that may answer differently each time");
    }
    // Some functions have no other form than the one they are simplified to.
    let context = SimplifyContext::builder().with_schema(Arc::new(columns.clone())).build();
    let simplifier = ExprSimplifier::new(context);
    let expression = simplifier.simplify(simplifier.coerce(expression, &columns)?)?;
    let expression = state.create_physical_expr(expression, &columns)?;
    match expression.data_type(schema)? {
        DataType::Boolean => Ok(expression),
        other => plan_err!("it is of type {other}, not Boolean"),
    }
}

/// Knows the built-in functions and nothing of the caller's: a condition that is stored with a table means the same to
/// everybody. It plans expressions; no query ever runs in it.
#[expect(clippy::disallowed_methods, reason = "no session for queries: it plans conditions over one schema")]
fn parser() -> SessionState {
    SessionStateBuilder::new().with_default_features().build()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::Field;

    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![Field::new("n", DataType::Int64, true)])
    }

    #[test]
    fn null_is_not_true() {
        let condition = Condition::parse("f", "n > 1 and n is not null or n = -5", &schema()).unwrap();
        let batch = RecordBatch::try_new(
            Arc::new(schema()),
            vec![Arc::new(Int64Array::from(vec![Some(2), Some(1), None, Some(-5)]))],
        )
        .unwrap();
        let holds: Vec<bool> = condition.holds(&batch).unwrap().iter().flatten().collect();
        assert_eq!(holds, [true, false, false, true]);
        assert_eq!(condition.columns(), ["n"]);
    }

    #[test]
    fn functions_that_are_only_ever_simplified_are_evaluated() {
        for sql in [
            "coalesce(n, 0) >= 0",
            "nvl(n, 1) > 0",
            "nvl2(n, n, 1) > 0",
            "ifnull(n, 1) > 0",
            "nullif(n, 3) = 2 or n is null",
        ] {
            let condition = Condition::parse("f", sql, &schema()).unwrap();
            let rows: ArrayRef = Arc::new(Int64Array::from(vec![Some(2), None]));
            let batch = RecordBatch::try_new(condition.schema(), vec![rows]).unwrap();
            assert_eq!(condition.holds(&batch).unwrap().true_count(), 2, "{sql}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_by_field() {
        for sql in ["n +", "m > 1", "n + 1", "random() > 0.5", "now() is not null", "f(n)"] {
            let error = Condition::parse("constraints.c", sql, &schema()).unwrap_err();
            assert!(error.to_string().contains("`constraints.c`") && error.to_string().contains(sql), "{error}");
        }
    }
}
