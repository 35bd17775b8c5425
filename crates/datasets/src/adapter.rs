//! What becomes of the columns of files, told of a layout that was made already.

use alluvium_contracts::{AdaptedColumn, AdaptedFiles, AdapterChoice, ColumnAdaptation, SchemaAdapter};
use arrow::datatypes::Schema;
use datafusion::logical_expr::Expr;

use crate::layout::Group;
use crate::schema_text::type_text;

/// The choice for a dataset of `schema`, whose files form `groups`, each with how many there are. No value of a default is in
/// it.
pub(crate) fn choice<'g>(
    dataset: &str,
    schema: &Schema,
    groups: impl IntoIterator<Item = (usize, &'g Group)>,
) -> AdapterChoice {
    let mut adapter = SchemaAdapter::Engine;
    let groups = groups.into_iter().map(|(files, group)| {
        if group.columns.is_some() {
            adapter = SchemaAdapter::Expressions;
        }
        AdaptedFiles { file_count: files as u64, columns: adapted(schema, group) }
    });
    let groups = groups.collect();
    AdapterChoice { dataset_name: dataset.to_owned(), adapter, groups }
}

/// The choice for files that are read by the dataset's own schema.
pub(crate) fn as_it_is(dataset: &str, files: usize) -> AdapterChoice {
    AdapterChoice {
        dataset_name: dataset.to_owned(),
        adapter: SchemaAdapter::Engine,
        groups: vec![AdaptedFiles { file_count: files as u64, columns: Vec::new() }],
    }
}

fn adapted(schema: &Schema, group: &Group) -> Vec<AdaptedColumn> {
    let columns = schema.fields().iter().zip(group.columns.iter().flatten());
    let columns = columns.filter_map(|(target, expr)| {
        let (adaptation, source) = match expr {
            Expr::Column(column) if column.name() == target.name() => return None,
            Expr::Column(_) => (ColumnAdaptation::Renamed, Some(expr)),
            Expr::Cast(cast) => (ColumnAdaptation::Cast, Some(cast.expr.as_ref())),
            Expr::Literal(value, _) if value.is_null() => (ColumnAdaptation::Null, None),
            _ => (ColumnAdaptation::Default, None),
        };
        let column = match source {
            Some(Expr::Column(column)) => Some(column.name()),
            _ => None,
        };
        let field = column.and_then(|name| group.schema.field_with_name(name).ok());
        Some(AdaptedColumn {
            name: target.name().clone(),
            adaptation,
            file_column: column.map(str::to_owned),
            file_type: field.map(|field| type_text(field.data_type())),
            data_type: type_text(target.data_type()),
        })
    });
    columns.collect()
}
