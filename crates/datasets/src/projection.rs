//! SQL expressions that become the columns of a dataset.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
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
    #[error("`{expression}` of `{field}` cannot be planned over the columns {known:?}")]
    Expression {
        /// The field of the declaration.
        field: &'static str,
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
    #[error("`{expression}` of `{field}` holds {what}: only what depends on one row alone has a place there")]
    NotOfARow {
        /// The field of the declaration.
        field: &'static str,
        /// The expression as it was written.
        expression: String,
        /// What it holds.
        what: String,
    },
    /// A function has no version that a pin could hold.
    #[error("`{expression}` of `{field}` calls `{function}`, {why}: call it in a view instead")]
    Function {
        /// The field of the declaration.
        field: &'static str,
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
    const FIELD: &str = "projection_exprs";
    let row = RowExpressions::over(state, schema);
    let mut names = BTreeSet::new();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for expression in expressions {
        let planned = row.plan(FIELD, expression)?;
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
        let field = row.field(&value).map_err(|source| row.unplanned(FIELD, expression, source))?;
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

/// Expressions over the columns of one schema, whose values depend on one row alone.
pub(crate) struct RowExpressions<'a> {
    state: &'a SessionState,
    schema: &'a SchemaRef,
    builtins: Builtins<'a>,
}

impl<'a> RowExpressions<'a> {
    pub(crate) fn over(state: &'a SessionState, schema: &'a SchemaRef) -> Self {
        Self { state, schema, builtins: Builtins::of(state) }
    }

    /// The expression that a `field` of the declaration holds.
    pub(crate) fn plan(&self, field: &'static str, expression: &str) -> Result<Expr, ProjectionError> {
        let planned = DFSchema::try_from(Arc::clone(self.schema))
            .and_then(|schema| self.state.create_logical_expr(expression, &schema))
            .map_err(|source| self.unplanned(field, expression, source))?;
        let mut found = Ok(());
        let walked = planned.apply(|node| {
            found = check_node(&self.builtins, field, expression, node);
            Ok(if found.is_ok() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        debug_assert!(walked.is_ok(), "the walk itself cannot fail");
        found.map(|()| planned)
    }

    fn field(&self, expr: &Expr) -> Result<FieldRef, DataFusionError> {
        let schema = DFSchema::try_from(Arc::clone(self.schema))?;
        self.state.create_physical_expr(expr.clone(), &schema)?.return_field(self.schema)
    }

    fn unplanned(&self, field: &'static str, expression: &str, source: DataFusionError) -> ProjectionError {
        ProjectionError::Expression {
            field,
            expression: expression.to_owned(),
            known: self.schema.fields().iter().map(|field| field.name().clone()).collect(),
            source: Box::new(source),
        }
    }
}

/// Exhaustive, so that a new kind of expression does not compile until it is decided upon.
fn check_node(
    builtins: &Builtins<'_>,
    field: &'static str,
    expression: &str,
    node: &Expr,
) -> Result<(), ProjectionError> {
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
            return Err(ProjectionError::Function { field, expression: expression.to_owned(), function, why });
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
    Err(ProjectionError::NotOfARow { field, expression: expression.to_owned(), what: what.to_owned() })
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
