//! From a declaration to SQL.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{ColumnSpec, DatasetFormat, DatasetSpec, SourcePath};
use serde_json::{Map, Value};

use super::types::to_sql;
use super::{FORMAT_PREFIX, SPEC_OPTION, TIMESTAMP, VERSION};

/// The one statement that declares `spec` under `name`; [`parse_create_external_table`](super::parse_create_external_table)
/// reads it back to the same.
///
/// # Panics
/// Never: every part of a declaration is JSON.
#[must_use]
pub fn create_external_table(name: &str, spec: &DatasetSpec) -> String {
    let said = sayable(spec);
    let mut sql = format!("CREATE EXTERNAL TABLE {}", identifier(name));
    if let Some(schema) = &said.schema {
        sql.push_str(&format!(" ({})", columns(schema)));
    }
    sql.push_str(&format!(" STORED AS {}", spec.format.as_str().to_uppercase()));
    if !said.partition_columns.is_empty() {
        sql.push_str(&format!(" PARTITIONED BY ({})", columns(&said.partition_columns)));
    }
    if !said.ordering.is_empty() {
        let by = said.ordering.iter().map(|by| {
            let direction = if by.descending { "DESC" } else { "ASC" };
            let nulls = if by.nulls_first { "FIRST" } else { "LAST" };
            format!("{} {direction} NULLS {nulls}", identifier(&by.column))
        });
        sql.push_str(&format!(" WITH ORDER ({})", by.collect::<Vec<_>>().join(", ")));
    }
    let location = match &said.path {
        SourcePath::One(path) => literal(path),
        SourcePath::Many(paths) => {
            format!("({})", paths.iter().map(|path| literal(path)).collect::<Vec<_>>().join(", "))
        }
    };
    sql.push_str(&format!(" LOCATION {location}"));

    let mut options = said.options.clone();
    options.extend(said.version.map(|version| (VERSION.to_owned(), version.to_string())));
    options.extend(said.timestamp.clone().map(|timestamp| (TIMESTAMP.to_owned(), timestamp)));
    let rest = difference(spec, &said);
    if !rest.is_empty() {
        let rest = serde_json::to_string(&rest).expect("a map of JSON is JSON");
        options.insert(SPEC_OPTION.to_owned(), rest);
    }
    if !options.is_empty() {
        let options: Vec<_> =
            options.iter().map(|(name, value)| format!("{} {}", literal(name), literal(value))).collect();
        sql.push_str(&format!(" OPTIONS ({})", options.join(", ")));
    }
    sql
}

/// As much of a declaration as SQL says exactly; the rest is as if it were not declared.
fn sayable(spec: &DatasetSpec) -> DatasetSpec {
    let path = match &spec.path {
        SourcePath::Many(paths) if paths.len() < 2 => SourcePath::One(String::new()),
        path => path.clone(),
    };
    let mut said = DatasetSpec::new(spec.format, path);
    let is_delta = spec.format == DatasetFormat::Delta;
    // Of a Delta table the partition columns are among the others, and in SQL they stand apart.
    // The parser tells them by their names alone; a declaration may be read before it is refused for having two of one.
    let names: BTreeSet<_> = spec.partition_columns.iter().map(|column| &column.name).collect();
    let distinct = names.len() == spec.partition_columns.len();
    if !is_delta && distinct && are_sayable(&spec.partition_columns) {
        said.partition_columns.clone_from(&spec.partition_columns);
    }
    let collides = |column: &ColumnSpec| said.partition_columns.iter().any(|other| other.name == column.name);
    if let Some(schema) = spec.schema.as_ref().filter(|schema| !schema.is_empty() && are_sayable(schema))
        && !schema.iter().any(collides)
    {
        said.schema = Some(schema.clone());
    }
    if spec.ordering.iter().all(|by| is_name(&by.column)) {
        said.ordering.clone_from(&spec.ordering);
    }
    let reserved =
        |name: &String| [SPEC_OPTION, VERSION, TIMESTAMP].contains(&name.as_str()) || name.starts_with(FORMAT_PREFIX);
    if !spec.options.keys().any(reserved) {
        said.options.clone_from(&spec.options);
    }
    if is_delta {
        said.version = spec.version;
        said.timestamp.clone_from(&spec.timestamp);
    }
    said
}

fn are_sayable(columns: &[ColumnSpec]) -> bool {
    columns
        .iter()
        .all(|column| is_name(&column.name) && column.metadata.is_empty() && to_sql(&column.data_type).is_some())
}

/// SQL has no empty identifier.
fn is_name(name: &str) -> bool {
    !name.is_empty()
}

/// The fields of `spec` that `said` says otherwise.
fn difference(spec: &DatasetSpec, said: &DatasetSpec) -> BTreeMap<String, Value> {
    let said = fields(said);
    fields(spec).into_iter().filter(|(name, value)| said.get(name) != Some(value)).collect()
}

pub(super) fn fields(spec: &DatasetSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields,
        other => unreachable!("a declaration is a JSON object, not {other:?}"),
    }
}

fn columns(columns: &[ColumnSpec]) -> String {
    let columns = columns.iter().map(|column| {
        let data_type = to_sql(&column.data_type).unwrap_or_default();
        let null = if column.nullable { "" } else { " NOT NULL" };
        format!("{} {data_type}{null}", identifier(&column.name))
    });
    columns.collect::<Vec<_>>().join(", ")
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
