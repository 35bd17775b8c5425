//! SQL expressions that become the columns of a dataset.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::{SessionState, SessionStateDefaults};
use datafusion::logical_expr::{Expr, ScalarUDF, Volatility};

use crate::schema_text::type_text;

/// An expression cannot be a column of a dataset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// It is no expression over the columns that there are.
    #[error("`{expression}` of `projection_exprs` cannot be planned over the columns {known:?}")]
    Expression {
        /// The expression as it was written.
        expression: String,
        /// The columns.
        known: Vec<String>,
        /// The engine's word.
        source: Box<DataFusionError>,
    },
    /// It has no name, and a column has to have one.
    #[error("`{expression}` of `projection_exprs` has no name: write `{expression} as NAME`")]
    Unnamed {
        /// The expression as it was written.
        expression: String,
    },
    /// Two have one name.
    #[error("`{expression}` of `projection_exprs` is called `{column}`, as one before it: give it another alias")]
    NameTwice {
        /// The expression as it was written.
        expression: String,
        /// Its name.
        column: String,
    },
    /// Its value depends on something beside the row.
    #[error(
        "`{expression}` of `projection_exprs` holds {what}: only what depends on one row alone can be a column of a dataset"
    )]
    NotOfARow {
        /// The expression as it was written.
        expression: String,
        /// What it holds.
        what: String,
    },
    /// A function has no version that a pin could hold.
    #[error("`{expression}` of `projection_exprs` calls `{function}`, {why}: call it in a view instead")]
    Function {
        /// The expression as it was written.
        expression: String,
        /// The function.
        function: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The columns that `expressions` make of `schema`, each with what it is computed by.
pub(crate) fn resolve(
    state: &SessionState,
    expressions: &[String],
    schema: &SchemaRef,
) -> Result<(SchemaRef, Vec<Expr>), ProjectionError> {
    let builtins = Builtins::of(state);
    let mut names = BTreeSet::new();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for expression in expressions {
        let failed = |source: DataFusionError| ProjectionError::Expression {
            expression: expression.clone(),
            known: schema.fields().iter().map(|field| field.name().clone()).collect(),
            source: Box::new(source),
        };
        let df_schema = DFSchema::try_from(Arc::clone(schema)).map_err(failed)?;
        let planned = state.create_logical_expr(expression, &df_schema).map_err(failed)?;
        check(&builtins, expression, &planned)?;
        let (name, value) = match planned {
            Expr::Alias(alias) => (alias.name, *alias.expr),
            Expr::Column(column) => (column.name.clone(), Expr::Column(column)),
            _ => {
                return Err(ProjectionError::Unnamed { expression: expression.clone() });
            }
        };
        if !names.insert(name.clone()) {
            return Err(ProjectionError::NameTwice { expression: expression.clone(), column: name });
        }
        let physical = state.create_physical_expr(value.clone(), &df_schema).map_err(failed)?;
        let field = physical.return_field(schema).map_err(failed)?;
        fields.push(
            Field::new(name, field.data_type().clone(), field.is_nullable()).with_metadata(field.metadata().clone()),
        );
        columns.push(value);
    }
    Ok((Arc::new(Schema::new(fields)), columns))
}

/// What the expressions were resolved to, for whoever wonders: columns with their types.
pub(crate) fn resolved_text(schema: &Schema, columns: &[Expr]) -> Vec<String> {
    let resolved = schema.fields().iter().zip(columns);
    resolved.map(|(field, expr)| format!("{}: {} = {expr}", field.name(), type_text(field.data_type()))).collect()
}

fn check(builtins: &Builtins, expression: &str, planned: &Expr) -> Result<(), ProjectionError> {
    let mut found = Ok(());
    let walked = planned.apply(|node| {
        found = check_node(builtins, expression, node);
        Ok(if found.is_ok() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    found
}

/// Exhaustive, so that a new kind of expression does not compile until it is decided upon.
fn check_node(builtins: &Builtins, expression: &str, node: &Expr) -> Result<(), ProjectionError> {
    let what = match node {
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::Literal(..)
        | Expr::BinaryExpr(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::InList(_) => return Ok(()),
        Expr::ScalarFunction(call) => {
            let why = if call.func.signature().volatility != Volatility::Immutable {
                "whose value is not always the same"
            } else if !builtins.has(&call.func) {
                "which is none of the engine's functions"
            } else {
                return Ok(());
            };
            let function = call.func.name().to_owned();
            return Err(ProjectionError::Function { expression: expression.to_owned(), function, why });
        }
        Expr::AggregateFunction(_) | Expr::GroupingSet(_) => "an aggregate",
        Expr::WindowFunction(_) => "a window function",
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::ScalarSubquery(_) => "a subquery",
        #[expect(deprecated, reason = "it is still a variant")]
        Expr::Wildcard { .. } => "a wildcard",
        Expr::Unnest(_) => "an unnesting",
        Expr::Placeholder(_) => "a parameter",
        Expr::ScalarVariable(..) => "a variable of the session",
        Expr::OuterReferenceColumn(..) => "a column of another query",
        Expr::HigherOrderFunction(_) | Expr::Lambda(_) | Expr::LambdaVariable(_) => "a lambda",
    };
    Err(ProjectionError::NotOfARow { expression: expression.to_owned(), what: what.to_owned() })
}

/// The engine's own functions as they are for the settings of a session.
struct Builtins<'a> {
    state: &'a SessionState,
    functions: Vec<Arc<ScalarUDF>>,
}

impl<'a> Builtins<'a> {
    fn of(state: &'a SessionState) -> Self {
        Self { state, functions: SessionStateDefaults::default_scalar_functions() }
    }

    /// By the engine's equality, which compares the implementing type and its fields, never the name alone.
    fn has(&self, function: &ScalarUDF) -> bool {
        self.functions.iter().filter(|builtin| builtin.name() == function.name()).any(|builtin| {
            builtin.as_ref() == function
                || builtin
                    .inner()
                    .with_updated_config(self.state.config_options())
                    .is_some_and(|configured| configured == *function)
        })
    }
}
