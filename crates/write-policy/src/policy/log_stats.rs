//! Statistics of files in the log: exactly the columns that were decided on.
//!
//! The engine picks columns by the name of their leaf: `a` also matches `x.a`, and `a.b` matches nothing. So it is asked
//! for every leaf of the right name, and what it gives is filtered by path.

use arrow::datatypes::{DataType, Fields, Schema};
use serde_json::{Map, Value};

use super::ResolvedWritePolicy;
use super::stats::{EXACT_DIGITS, path_parts};

/// Which columns a file's statistics keep.
#[derive(Debug, Clone)]
pub(crate) struct LogStats {
    paths: Vec<Vec<String>>,
    /// Leaves whose bounds would not hold.
    unbounded: Vec<Vec<String>>,
}

impl LogStats {
    pub(crate) fn new(policy: &ResolvedWritePolicy, schema: &Schema) -> Self {
        let paths = match &policy.stats().stats_columns {
            Some(columns) => columns.iter().map(|column| path_parts(schema, column)).collect(),
            None => {
                let cap = usize::try_from(policy.policy().stats_max_columns).unwrap_or(usize::MAX);
                let columns = schema.fields().iter().map(|field| field.name());
                let columns = columns.filter(|column| !policy.partition_by().contains(column)).take(cap);
                columns.map(|column| vec![column.clone()]).collect()
            }
        };
        let mut unbounded = Vec::new();
        find_unbounded(schema.fields(), &mut Vec::new(), &mut unbounded);
        Self { paths, unbounded }
    }

    /// What to ask the engine for, given the leaves of the file: their names, quoted as it wants them.
    pub(crate) fn leaf_names<'a>(&self, leaves: impl Iterator<Item = &'a [String]>) -> Vec<String> {
        let wanted = leaves.filter(|leaf| self.paths.iter().any(|path| leaf.starts_with(path)));
        let mut names: Vec<String> = wanted.filter_map(|leaf| leaf.last()).map(|name| quoted(name)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The statistics with no other column in them.
    pub(crate) fn filter(&self, stats: &str) -> Option<String> {
        let mut stats: Value = serde_json::from_str(stats).ok()?;
        for key in ["minValues", "maxValues", "nullCount"] {
            if let Some(Value::Object(columns)) = stats.get_mut(key) {
                let whole: Vec<&[String]> = self.paths.iter().map(Vec::as_slice).collect();
                keep(columns, &whole);
                if key != "nullCount" {
                    self.unbounded.iter().for_each(|path| drop_leaf(columns, path));
                }
            }
        }
        serde_json::to_string(&stats).ok()
    }
}

/// Collects the leaves that are decimals of more digits than the engine's bounds keep.
fn find_unbounded(fields: &Fields, above: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    for field in fields {
        above.push(field.name().clone());
        match field.data_type() {
            DataType::Struct(inner) => find_unbounded(inner, above, found),
            DataType::Decimal128(precision, _) if *precision <= EXACT_DIGITS => {}
            data_type if data_type.is_decimal() => found.push(above.clone()),
            _ => {}
        }
        above.pop();
    }
}

fn drop_leaf(columns: &mut Map<String, Value>, path: &[String]) {
    match path {
        [leaf] => drop(columns.remove(leaf)),
        [first, rest @ ..] => {
            if let Some(Value::Object(inner)) = columns.get_mut(first) {
                drop_leaf(inner, rest);
            }
        }
        [] => {}
    }
}

/// Keeps what lies on or under one of `paths`.
fn keep(columns: &mut Map<String, Value>, paths: &[&[String]]) {
    columns.retain(|name, value| {
        let below: Vec<&[String]> = paths
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(first, _)| *first == name)
            .map(|(_, rest)| rest)
            .collect();
        if below.iter().any(|rest| rest.is_empty()) {
            return true;
        }
        match value {
            Value::Object(inner) if !below.is_empty() => {
                keep(inner, &below);
                !inner.is_empty()
            }
            _ => false,
        }
    });
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_kept_by_path_not_by_leaf() {
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let stats = LogStats { paths: vec![path("b"), path("a.c")], unbounded: Vec::new() };
        let given = r#"{"numRecords":1,"minValues":{"b":1,"a":{"b":2,"c":3},"c":4},"maxValues":{"a":{"b":2}},"nullCount":{"c":0}}"#;
        let kept: Value = serde_json::from_str(&stats.filter(given).unwrap()).unwrap();
        assert_eq!(
            kept,
            serde_json::json!({"numRecords":1,"minValues":{"b":1,"a":{"c":3}},"maxValues":{},"nullCount":{}})
        );
        let leaves = [path("a.b"), path("a.c"), path("b")];
        assert_eq!(stats.leaf_names(leaves.iter().map(Vec::as_slice)), ["\"b\"", "\"c\""]);
    }
}
