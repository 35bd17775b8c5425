//! PREPARE, EXECUTE and DEALLOCATE.

use std::sync::Arc;

use alluvium_contracts::{PreparedAction, Severity, SqlPolicy};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::{DFSchema, ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlan, Prepare, Statement};
use datafusion::prelude::DataFrame;

use crate::prepared::{Entry, PreparedStatement};
use crate::query_error::QueryError;
use crate::session::Session;
use crate::statement::Parsed;

impl Session {
    /// Plans the statement, to see that it can be planned and which types its parameters have, and keeps its text.
    pub(crate) async fn prepare(&self, sql: String, parsed: Parsed) -> Result<DataFrame, QueryError> {
        let Prepare { name, fields, .. } = self.to_prepare(&parsed).await?;
        let described = PreparedStatement {
            name,
            sql,
            parameters: fields.iter().map(|field| field.data_type().clone()).collect(),
            prepared_under: self.sql_policy(),
            is_system: false,
        };
        self.tell(PreparedAction::Prepare, &described);
        self.prepared.insert(Entry { described, parsed })?;
        self.nothing()
    }

    pub(crate) fn deallocate(&self, name: &str) -> Result<DataFrame, QueryError> {
        self.prepared.remove(name)?;
        self.nothing()
    }

    /// Plans the prepared statement with its values, under the policy of now.
    pub(crate) async fn execute_prepared(&self, parsed: Parsed) -> Result<DataFrame, QueryError> {
        let LogicalPlan::Statement(Statement::Execute(execute)) = self.to_plan(&parsed).await? else {
            return Err(QueryError::UnknownPrepared { name: String::new(), suggestion: None });
        };
        let Entry { described, parsed } = self.prepared.get(&execute.name)?;
        if described.prepared_under > self.sql_policy() {
            return Err(QueryError::Forbidden {
                statement: format!("EXECUTE of `{}`", described.name),
                position: None,
                policy: self.sql_policy(),
                needed: described.prepared_under,
            });
        }
        // What it calls may have been replaced since.
        self.refuse_foreign_functions(&parsed)?;
        let Prepare { fields, input, .. } = self.to_prepare(&parsed).await?;
        if fields.len() != execute.parameters.len() {
            return Err(QueryError::ParameterCount {
                name: described.name,
                expected: fields.len(),
                found: execute.parameters.len(),
            });
        }
        let values = execute.parameters.into_iter().zip(&fields).enumerate().map(|(index, (value, field))| {
            self.value(value, field).map_err(|source| QueryError::ParameterValue {
                name: described.name.clone(),
                position: index + 1,
                expected: field.data_type().to_string(),
                source: Some(Box::new(source)),
            })
        });
        let values = ParamValues::List(values.collect::<Result<_, _>>()?);
        let plan =
            Arc::unwrap_or_clone(input).with_param_values(values).map_err(|error| QueryError::plan(error, None))?;
        self.tell(PreparedAction::Execute, &described);
        match crate::statement::needed_by_plan(&plan) {
            SqlPolicy::ReadOnly => Ok(DataFrame::new(self.context().state(), self.analyzed(plan, None)?)),
            _ => self.run_plan(plan).await,
        }
    }

    async fn to_prepare(&self, parsed: &Parsed) -> Result<Prepare, QueryError> {
        match self.to_plan(parsed).await? {
            LogicalPlan::Statement(Statement::Prepare(prepare)) => Ok(prepare),
            other => Err(QueryError::plan(
                DataFusionError::Internal(format!("PREPARE was planned as {}", other.display())),
                None,
            )),
        }
    }

    /// What an expression without columns is, as a value of a parameter.
    fn value(&self, value: Expr, field: &FieldRef) -> Result<ScalarAndMetadata, DataFusionError> {
        let one_row = RecordBatchOptions::new().with_row_count(Some(1));
        let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one_row)?;
        let value = match self.context().create_physical_expr(value, &DFSchema::empty())?.evaluate(&row)? {
            ColumnarValue::Scalar(value) => value,
            ColumnarValue::Array(values) => ScalarValue::try_from_array(&values, 0)?,
        };
        Ok(ScalarAndMetadata::new(value.cast_to(field.data_type())?, None))
    }

    /// The answer of a statement that has none.
    pub(crate) fn nothing(&self) -> Result<DataFrame, QueryError> {
        self.context().read_empty().map_err(|error| QueryError::plan(error, None))
    }

    fn tell(&self, action: PreparedAction, statement: &PreparedStatement) {
        if let Some(diagnostics) = &self.diagnostics {
            diagnostics.event(&statement.used(action), Severity::Info);
        }
    }
}
