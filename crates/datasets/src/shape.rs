//! What a declaration says of columns: schema, partitions, order, evolution, projection.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{ColumnSpec, DatasetFormat, DatasetSpec, EvolutionSpec, OrderingSpec};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::ScalarValue;
use serde_json::Value;

use crate::SpecError;
use crate::columns::{data_type_of, field_of};
use crate::schema_text::{schema_text, type_text};

/// The declared columns of a dataset.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    /// Without the partition columns.
    pub(crate) declared: Option<Vec<FieldRef>>,
    pub(crate) partitions: Vec<FieldRef>,
    pub(crate) ordering: Vec<OrderingSpec>,
    pub(crate) evolution: Option<Evolution>,
    /// SQL expressions, each with its alias.
    pub(crate) projection: Vec<String>,
}

/// How files of other columns are read.
#[derive(Debug, Clone)]
pub(crate) struct Evolution {
    /// From the older names.
    pub(crate) rename: BTreeMap<String, String>,
    /// Untyped: they take the types of their columns.
    pub(crate) defaults: BTreeMap<String, ScalarValue>,
    pub(crate) casts: BTreeMap<String, DataType>,
    pub(crate) allow_missing: BTreeSet<String>,
    pub(crate) allow_extra: BTreeSet<String>,
    pub(crate) strict: bool,
    /// As it was declared, for identities.
    text: String,
}

impl Shape {
    pub(crate) fn resolve(dataset: &str, spec: &DatasetSpec) -> Result<Self, SpecError> {
        let declared = declared(dataset, "schema", spec.schema.as_deref())?;
        let partitions = declared_partitions(dataset, spec, declared.as_deref().unwrap_or_default())?;
        let check = Check { dataset, spec, declared: declared.as_deref(), partitions: &partitions };
        check.ordering()?;
        let evolution = spec.evolution.as_ref().map(|evolution| check.evolution(evolution)).transpose()?;
        Ok(Self {
            declared,
            partitions,
            ordering: spec.ordering.clone(),
            evolution,
            projection: spec.projection_exprs.clone(),
        })
    }

    /// Without the partition columns, for whoever has them among the others.
    pub(crate) fn unpartitioned(&self) -> Self {
        Self { partitions: Vec::new(), ..self.clone() }
    }

    /// Whether the columns of each file decide how it is read. If not, the engine merges them by name.
    pub(crate) fn is_by_file(&self) -> bool {
        self.declared.is_some() || self.evolution.is_some()
    }

    /// Everything that decides rows beside the schema, each part under its name; absent parts are those of a dataset that
    /// declares nothing.
    pub(crate) fn identity(&self) -> BTreeMap<&'static str, String> {
        let mut parts = BTreeMap::new();
        if let Some(declared) = &self.declared {
            parts.insert("declared schema", schema_text(&Schema::new(declared.clone())));
        }
        if !self.partitions.is_empty() {
            parts.insert("declared partitions", schema_text(&Schema::new(self.partitions.clone())));
        }
        if !self.ordering.is_empty() {
            let order = self.ordering.iter().map(|by| {
                serde_json::json!({ "column": by.column, "descending": by.descending, "nulls_first": by.nulls_first })
            });
            parts.insert("ordering", Value::from_iter(order).to_string());
        }
        if let Some(evolution) = &self.evolution {
            parts.insert("evolution", evolution.text.clone());
        }
        if !self.projection.is_empty() {
            parts.insert("projection", Value::from(self.projection.clone()).to_string());
        }
        parts
    }
}

/// Declared columns as fields.
pub(crate) fn declared(
    dataset: &str,
    field: &'static str,
    columns: Option<&[ColumnSpec]>,
) -> Result<Option<Vec<FieldRef>>, SpecError> {
    columns.map(|columns| fields(dataset, field, columns, &[])).transpose()
}

fn declared_partitions(dataset: &str, spec: &DatasetSpec, declared: &[FieldRef]) -> Result<Vec<FieldRef>, SpecError> {
    // A Delta table keeps its partition columns among the others.
    let before = if spec.format == DatasetFormat::Delta { &[] } else { declared };
    fields(dataset, "partition_columns", &spec.partition_columns, before)
}

fn fields(
    dataset: &str,
    field: &'static str,
    columns: &[ColumnSpec],
    before: &[FieldRef],
) -> Result<Vec<FieldRef>, SpecError> {
    let mut names: BTreeSet<&str> = before.iter().map(|field| field.name().as_str()).collect();
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        if !names.insert(&column.name) {
            let (dataset, column) = (dataset.to_owned(), column.name.clone());
            return Err(SpecError::ColumnTwice { dataset, field, column });
        }
        let declared =
            field_of(column).map_err(|source| SpecError::Column { dataset: dataset.to_owned(), field, source })?;
        fields.push(declared.into());
    }
    Ok(fields)
}

struct Check<'a> {
    dataset: &'a str,
    spec: &'a DatasetSpec,
    declared: Option<&'a [FieldRef]>,
    partitions: &'a [FieldRef],
}

impl Check<'_> {
    fn dataset(&self) -> String {
        self.dataset.to_owned()
    }

    fn ordering(&self) -> Result<(), SpecError> {
        let mut seen = BTreeSet::new();
        for by in &self.spec.ordering {
            if !seen.insert(&by.column) {
                let column = by.column.clone();
                return Err(SpecError::ColumnTwice { dataset: self.dataset(), field: "ordering", column });
            }
            if self.partitions.iter().any(|field| *field.name() == by.column) {
                return Err(self.contradiction(
                    "ordering",
                    "partition_columns",
                    &by.column,
                    "a partition column has one value in a file; leave it out of the order",
                ));
            }
            self.known("ordering", &by.column)?;
        }
        Ok(())
    }

    fn evolution(&self, spec: &EvolutionSpec) -> Result<Evolution, SpecError> {
        let format = self.spec.format;
        let refused = |field, instead| Err(SpecError::NotForFormat { dataset: self.dataset(), format, field, instead });
        if format == DatasetFormat::Json {
            return refused(
                "evolution",
                "its records have columns of their own; write `projection_exprs` over what they have",
            );
        }
        let allows = !spec.allow_missing.is_empty() || !spec.allow_extra.is_empty();
        if allows && !spec.strict {
            return refused("evolution.allow_missing and allow_extra", "all is allowed; set `evolution.strict = true`");
        }
        if self.declared.is_none() && !spec.allow_extra.is_empty() {
            return refused("evolution.allow_extra", "without a `schema` no column is one too many");
        }
        for (old, new) in &spec.rename {
            self.known("evolution.rename", new)?;
            let other = if old == new { Some("evolution.rename") } else { self.declares(old).then_some("schema") };
            if let Some(other) = other {
                let instead = "rename columns to other names than those that are in use";
                return Err(self.contradiction("evolution.rename", other, old, instead));
            }
        }
        let mut casts = BTreeMap::new();
        for (column, text) in &spec.casts {
            self.known("evolution.casts", column)?;
            let data_type = data_type_of(column, text).map_err(|source| SpecError::Column {
                dataset: self.dataset(),
                field: "evolution.casts",
                source,
            })?;
            let declared = self.declared.and_then(|fields| fields.iter().find(|field| field.name() == column));
            if declared.is_some_and(|field| *field.data_type() != data_type) {
                let instead = "columns of a `schema` are cast to its types anyway; remove the cast";
                return Err(self.contradiction("evolution.casts", "schema", column, instead));
            }
            casts.insert(column.clone(), data_type);
        }
        let mut defaults = BTreeMap::new();
        for (column, value) in &spec.defaults {
            self.known("evolution.defaults", column)?;
            let default = scalar(value).ok_or_else(|| SpecError::Default {
                dataset: self.dataset(),
                column: column.clone(),
                value: value.to_string(),
            })?;
            defaults.insert(column.clone(), default);
        }
        for column in &spec.allow_missing {
            self.known("evolution.allow_missing", column)?;
        }
        for column in &spec.allow_extra {
            if self.declares(column) {
                let instead = "a column of the `schema` is none too many; remove one of them";
                return Err(self.contradiction("evolution.allow_extra", "schema", column, instead));
            }
        }
        Ok(Evolution {
            text: text(spec, &casts),
            rename: spec.rename.clone(),
            defaults,
            casts,
            allow_missing: spec.allow_missing.iter().cloned().collect(),
            allow_extra: spec.allow_extra.iter().cloned().collect(),
            strict: spec.strict,
        })
    }

    fn declares(&self, column: &str) -> bool {
        self.declared.is_some_and(|fields| fields.iter().any(|field| field.name() == column))
    }

    /// A column that is declared, or any one if none are; never a partition column.
    fn known(&self, field: &'static str, column: &str) -> Result<(), SpecError> {
        let is_partition = self.spec.format != DatasetFormat::Delta
            && self.partitions.iter().any(|partition| partition.name() == column);
        if !is_partition && (self.declared.is_none() || self.declares(column)) {
            return Ok(());
        }
        let known = self.declared.unwrap_or_default().iter().map(|field| field.name().clone()).collect();
        Err(SpecError::UnknownColumn { dataset: self.dataset(), field, column: column.to_owned(), known })
    }

    fn contradiction(
        &self,
        field: &'static str,
        other: &'static str,
        column: &str,
        instead: &'static str,
    ) -> SpecError {
        SpecError::Contradiction { dataset: self.dataset(), field, other, column: Some(column.to_owned()), instead }
    }
}

/// A default as a literal of SQL: a whole number is an integer however it is written, any other is a double.
fn scalar(value: &Value) -> Option<ScalarValue> {
    Some(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(value) => ScalarValue::from(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()?) {
            (Some(integer), _) => ScalarValue::from(integer),
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            (None, double) if double.fract() == 0.0 && double.abs() < EXACT => ScalarValue::from(double as i64),
            (None, double) => ScalarValue::from(double),
        },
        Value::String(text) => ScalarValue::from(text.as_str()),
        Value::Array(_) | Value::Object(_) => return None,
    })
}

/// Below this a double holds every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Everything that an evolution says, in one order. Types are in our own text, so that their spelling does not matter.
fn text(spec: &EvolutionSpec, casts: &BTreeMap<String, DataType>) -> String {
    let sorted = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    let casts: BTreeMap<_, _> = casts.iter().map(|(column, cast)| (column, type_text(cast))).collect();
    let defaults: BTreeMap<_, _> = spec.defaults.iter().map(|(column, value)| (column, value.to_string())).collect();
    serde_json::json!({
        "rename": spec.rename,
        "defaults": defaults,
        "casts": casts,
        "allow_missing": sorted(&spec.allow_missing),
        "allow_extra": sorted(&spec.allow_extra),
        "strict": spec.strict,
    })
    .to_string()
}
