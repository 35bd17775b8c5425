//! From SQL to a declaration.

use alluvium_contracts::{ColumnSpec, DatasetFormat, DatasetSpec, OrderingSpec, SourcePath};
use datafusion::error::DataFusionError;
use datafusion::sql::parser::{CreateExternalTable, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, Expr, Ident, IndexColumn, ObjectNamePart, OrderByExpr, TableConstraint, Value,
};
use serde_json::Map;

use super::emit::fields;
use super::types::of_sql;
use super::{CreateDataset, DdlError, Existing, FORMAT_PREFIX, SPEC_OPTION, TIMESTAMP, VERSION};
use crate::credentials;

/// Reads exactly one `CREATE EXTERNAL TABLE` as a declaration.
///
/// Names are as the engine reads them: in lower case unless they are quoted. `VARCHAR` is `Utf8`, `TIMESTAMP` has
/// nanoseconds; a type that says no Arrow type exactly is refused. Options of the format may be called `format.NAME`; those
/// of a Delta table are `version` and `timestamp`; [`SPEC_OPTION`] says the rest.
///
/// # Errors
/// As the variants of [`DdlError`] say; nothing is passed over.
pub fn parse_create_external_table(sql: &str) -> Result<CreateDataset, DdlError> {
    let syntax = |source: DataFusionError| DdlError::Syntax { message: unquoting(&source.to_string()).to_owned() };
    let mut statements = DFParserBuilder::new(sql).build().map_err(syntax)?.parse_statements().map_err(syntax)?;
    let table = match (statements.pop_front(), statements.len()) {
        (Some(Statement::CreateExternalTable(table)), 0) => table,
        (Some(other), 0) => {
            let words = other.to_string();
            return Err(DdlError::NotOne { found: words.split(' ').take(2).collect::<Vec<_>>().join(" ") });
        }
        (_, more) => return Err(DdlError::NotOne { found: format!("{} statements", more + 1) }),
    };
    read(table)
}

/// The parser's word up to what it found, which may be the value of an option.
fn unquoting(message: &str) -> &str {
    message.split_once(", found: ").map_or(message, |(expected, _)| expected)
}

/// Reads a parsed `CREATE EXTERNAL TABLE`, as [`parse_create_external_table`] does.
pub(crate) fn read(table: CreateExternalTable) -> Result<CreateDataset, DdlError> {
    let clause = |clause, instead| Err(DdlError::Clause { clause, instead });
    if table.unbounded {
        return clause("UNBOUNDED", "a dataset is a pinned list of files; leave it out");
    }
    if table.temporary {
        return clause("TEMPORARY", "every registration ends with its session; leave it out");
    }
    let existing = match (table.if_not_exists, table.or_replace) {
        (true, _) => Existing::Keep,
        (false, true) => Existing::Replace,
        (false, false) => Existing::Refuse,
    };
    let [ObjectNamePart::Identifier(name)] = table.name.0.as_slice() else {
        return clause("the schema", "datasets are in the default schema of their session; write one name");
    };
    let name = normalized(name);
    let format = format(&table.file_type)?;
    let mut locations = table.locations;
    if let Some(url) = locations.iter().find(|location| credentials::are_in(location)) {
        return Err(DdlError::CloudLocation { url: credentials::without(url) });
    }
    let path = match locations.len() {
        1 => SourcePath::One(locations.remove(0)),
        _ => SourcePath::Many(locations),
    };
    let mut spec = DatasetSpec::new(format, path);
    columns(&mut spec, table.columns, &table.table_partition_cols)?;
    for constraint in table.constraints {
        add_constraint(&mut spec, constraint)?;
    }
    let mut orders = table.order_exprs;
    if orders.len() > 1 {
        return clause("a second WITH ORDER", "files have one order; name its columns in one clause");
    }
    spec.ordering = orders.pop().unwrap_or_default().into_iter().map(ordering).collect::<Result<_, _>>()?;
    let spec = options(spec, table.options)?;
    Ok(CreateDataset { name, spec, existing })
}

fn format(file_type: &str) -> Result<DatasetFormat, DdlError> {
    let known = DatasetFormat::ALL.iter().find(|format| format.as_str().eq_ignore_ascii_case(file_type));
    known.copied().ok_or_else(|| DdlError::Format { found: file_type.to_owned() })
}

/// Puts columns apart that the parser put together.
fn columns(spec: &mut DatasetSpec, columns: Vec<ColumnDef>, partitions: &[String]) -> Result<(), DdlError> {
    // Partition columns are known by their text alone, quotes included.
    let mut declared: Vec<(String, ColumnSpec)> = Vec::with_capacity(columns.len());
    for column in columns {
        declared.push((column.name.to_string(), column_spec(column)?));
    }
    for partition in partitions {
        // The last: where the clause has types they come behind the others.
        let place = declared.iter().rposition(|(text, _)| text == partition);
        let place = place.ok_or_else(|| DdlError::Partition { column: partition.clone() })?;
        let (_, column) = match spec.format {
            DatasetFormat::Delta => declared[place].clone(),
            _ => declared.remove(place),
        };
        spec.partition_columns.push(column);
    }
    let only_partitions = spec.format == DatasetFormat::Delta && declared.len() == partitions.len();
    if !declared.is_empty() && !only_partitions {
        spec.schema = Some(declared.into_iter().map(|(_, column)| column).collect());
    }
    Ok(())
}

fn column_spec(column: ColumnDef) -> Result<ColumnSpec, DdlError> {
    let name = normalized(&column.name);
    let data_type = of_sql(&column.data_type)
        .ok_or_else(|| DdlError::Type { column: name.clone(), data_type: column.data_type.to_string() })?;
    let mut nullable = true;
    for option in column.options {
        match option.option {
            ColumnOption::Null => {}
            ColumnOption::NotNull => nullable = false,
            _ => {
                return Err(DdlError::Clause {
                    clause: "what stands behind the type of a column",
                    instead: "only NULL and NOT NULL may; declare keys and checks behind the columns, defaults in `evolution`",
                });
            }
        }
    }
    Ok(ColumnSpec { name, data_type, nullable, metadata: [].into() })
}

fn add_constraint(spec: &mut DatasetSpec, constraint: TableConstraint) -> Result<(), DdlError> {
    let clause = |clause, instead| Err(DdlError::Clause { clause, instead });
    match constraint {
        TableConstraint::PrimaryKey(key) => {
            if !spec.constraints.primary_key.is_empty() {
                return clause("a second PRIMARY KEY", "a dataset has one");
            }
            let name = |column: IndexColumn| match column.column.expr {
                Expr::Identifier(name) => Ok(normalized(&name)),
                _ => clause("PRIMARY KEY", "name columns, not expressions").map(|()| String::new()),
            };
            spec.constraints.primary_key = key.columns.into_iter().map(name).collect::<Result<_, _>>()?;
        }
        TableConstraint::Check(check) => {
            let Some(name) = check.name else {
                return clause("CHECK", "give it a name: CONSTRAINT NAME CHECK (…)");
            };
            if spec.constraints.check.insert(normalized(&name), check.expr.to_string()).is_some() {
                return clause("a second CHECK of one name", "give it another name");
            }
        }
        _ => return clause("a constraint", "only PRIMARY KEY and CHECK are checked"),
    }
    Ok(())
}

fn ordering(by: OrderByExpr) -> Result<OrderingSpec, DdlError> {
    let Expr::Identifier(column) = &by.expr else {
        return Err(DdlError::Clause { clause: "WITH ORDER", instead: "name columns, not expressions" });
    };
    let descending = by.options.asc == Some(false);
    // Where nothing is said NULL is the largest value, as in the engine.
    let nulls_first = by.options.nulls_first.unwrap_or(descending);
    Ok(OrderingSpec { column: normalized(column), descending, nulls_first })
}

fn options(mut spec: DatasetSpec, options: Vec<(String, Value)>) -> Result<DatasetSpec, DdlError> {
    let mut rest = None;
    for (name, value) in options {
        let value = text(value);
        let is_delta = spec.format == DatasetFormat::Delta;
        let name = name.strip_prefix(FORMAT_PREFIX).unwrap_or(&name).to_owned();
        if credentials::is_of_cloud_store(&name) {
            return Err(DdlError::CloudOption { option: name });
        }
        let twice = match name.as_str() {
            SPEC_OPTION => rest.replace(value).is_some(),
            VERSION if is_delta => {
                let version = value.parse().map_err(|source: std::num::ParseIntError| DdlError::Value {
                    option: VERSION,
                    value: value.clone(),
                    source: Box::new(source),
                })?;
                spec.version.replace(version).is_some()
            }
            TIMESTAMP if is_delta => spec.timestamp.replace(value).is_some(),
            _ => spec.options.insert(name.clone(), value).is_some(),
        };
        if twice {
            return Err(DdlError::OptionTwice { option: name });
        }
    }
    let Some(rest) = rest else {
        return Ok(spec);
    };
    let overlaid = serde_json::from_str::<Map<_, _>>(&rest).and_then(|rest| {
        let mut all = fields(&spec);
        all.extend(rest);
        serde_json::from_value(all.into())
    });
    let spec: DatasetSpec = overlaid.map_err(|source| match credentials::are_mentioned(&rest) {
        // Even the decoder's word shows values.
        true => DdlError::CloudOption { option: SPEC_OPTION.to_owned() },
        false => DdlError::Value { option: SPEC_OPTION, value: rest, source: Box::new(source) },
    })?;
    match spec.options.keys().find(|name| credentials::is_of_cloud_store(name)) {
        Some(option) => Err(DdlError::CloudOption { option: option.clone() }),
        None => Ok(spec),
    }
}

fn text(value: Value) -> String {
    match value {
        Value::SingleQuotedString(text)
        | Value::DoubleQuotedString(text)
        | Value::EscapedStringLiteral(text)
        | Value::Number(text, _) => text,
        other => other.to_string(),
    }
}

fn normalized(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_ascii_lowercase(),
    }
}
