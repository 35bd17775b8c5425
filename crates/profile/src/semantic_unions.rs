//! `UNION` of columns whose extension types differ: plain values, where the engine takes the type of any branch that has one.
//!
//! The engine's planner passes over branches without a type, and its type coercion lets the last type win and writes it into the
//! schema of every branch; so text beside ids would be called ids, and nodes edges. Here such a column is told apart in every
//! branch by an empty type, which planner and operators hand on alike.

use std::sync::Arc;

use arrow_schema::extension::{EXTENSION_TYPE_METADATA_KEY, EXTENSION_TYPE_NAME_KEY};
use datafusion::arrow::datatypes::Field;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::functions::core::with_metadata;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection, Union};
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::lit;

/// Takes the extension type from columns of a `UNION` whose branches do not agree on it.
#[derive(Debug)]
pub(crate) struct SemanticUnions;

impl AnalyzerRule for SemanticUnions {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut disagrees = false;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Union(union) = node {
                disagrees |= !disagreeing(union)?.is_empty();
            }
            Ok(if disagrees { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if !disagrees {
            return Ok(plan);
        }
        let mended = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Union(union) => plainly(union).map(Transformed::yes),
            // What is above a mended one has its columns.
            other => other.recompute_schema().map(Transformed::yes),
        })?;
        Ok(mended.data)
    }

    fn name(&self) -> &'static str {
        "semantic_unions"
    }
}

/// The columns whose type is not the same in every branch. A branch that has nothing but NULL there is of any type.
fn disagreeing(union: &Union) -> Result<Vec<usize>> {
    let mut columns = Vec::new();
    for index in 0..union.schema.fields().len() {
        let mut found = None;
        for input in union.inputs.iter().filter(|input| !is_null(input, index)) {
            let own = extension_type(input, index)?;
            if *found.get_or_insert_with(|| own.clone()) != own {
                columns.push(index);
                break;
            }
        }
    }
    Ok(columns)
}

type ExtensionType = (Option<String>, Option<String>);

/// What a branch computes, whatever type coercion says of it.
fn extension_type(input: &LogicalPlan, index: usize) -> Result<ExtensionType> {
    let field = match input {
        LogicalPlan::Projection(projection) => projection.expr[index].to_field(projection.input.schema())?.1,
        other => Arc::clone(&other.schema().fields()[index]),
    };
    let own = |key: &str| field.metadata().get(key).filter(|value| !value.is_empty()).cloned();
    Ok((own(EXTENSION_TYPE_NAME_KEY), own(EXTENSION_TYPE_METADATA_KEY)))
}

fn is_null(input: &LogicalPlan, index: usize) -> bool {
    let LogicalPlan::Projection(projection) = input else {
        return false;
    };
    let mut expr = &projection.expr[index];
    loop {
        match expr {
            Expr::Alias(alias) => expr = &alias.expr,
            Expr::Cast(cast) => expr = &cast.expr,
            Expr::Literal(value, _) => return value.is_null(),
            _ => return false,
        }
    }
}

fn plainly(union: Union) -> Result<LogicalPlan> {
    let columns = disagreeing(&union)?;
    if columns.is_empty() {
        return Ok(LogicalPlan::Union(union));
    }
    let Union { inputs, schema } = union;
    let inputs = inputs.into_iter().map(|input| branch(input, &columns)).collect::<Result<Vec<_>>>()?;
    let fields = schema.iter().enumerate().map(|(index, (qualifier, field))| {
        let field = match columns.contains(&index) {
            true => Arc::new(field.as_ref().clone().with_metadata(emptied(field))),
            false => Arc::clone(field),
        };
        (qualifier.cloned(), field)
    });
    let schema = DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())?;
    Ok(LogicalPlan::Union(Union { inputs, schema: Arc::new(schema) }))
}

fn emptied(field: &Field) -> std::collections::HashMap<String, String> {
    let mut metadata = field.metadata().clone();
    metadata.insert(EXTENSION_TYPE_NAME_KEY.to_owned(), String::new());
    metadata.insert(EXTENSION_TYPE_METADATA_KEY.to_owned(), String::new());
    metadata
}

fn branch(input: Arc<LogicalPlan>, columns: &[usize]) -> Result<Arc<LogicalPlan>> {
    let exprs = input.schema().iter().enumerate().map(|(index, (qualifier, field))| {
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        match columns.contains(&index) {
            true => {
                let no_type = [EXTENSION_TYPE_NAME_KEY, "", EXTENSION_TYPE_METADATA_KEY, ""].map(lit);
                let plain = with_metadata().call(std::iter::once(column).chain(no_type).collect());
                plain.alias_qualified(qualifier.cloned(), field.name())
            }
            false => column,
        }
    });
    let exprs = exprs.collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, input)?)))
}

#[cfg(test)]
mod tests;
