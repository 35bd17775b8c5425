//! The published schema: what a view looks like at its boundary, whatever its cache policy.
//!
//! Names lose their qualifiers and types become those that Delta can represent, so that `none`, `memory` and
//! `delta_staging` agree. Every column is nullable. Casting values is not done here; a value that would be lost is an
//! error when the view runs.

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_contracts::{FieldSpec, SchemaHash, canonical_json};
use arrow_schema::extension::{EXTENSION_TYPE_METADATA_KEY, EXTENSION_TYPE_NAME_KEY};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;

use crate::canonical::data_type;

/// The schema of a view at its boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedSchema {
    schema: SchemaRef,
}

/// A view's columns cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Two columns have one name (Delta does not tell upper from lower case).
    #[error("two columns are called `{name}` once qualifiers and case are dropped; give one of them another alias")]
    Collision {
        /// The name.
        name: String,
    },
    /// A type that no Delta table can hold.
    #[error("column `{column}` has type {data_type}, which a Delta table cannot hold; cast it to {hint}")]
    Unrepresentable {
        /// The column, with the path inside nested types.
        column: String,
        /// Its type.
        data_type: String,
        /// What to cast it to.
        hint: &'static str,
    },
    /// A name that no Delta table can have.
    #[error(
        "column `{column}` has a name that a Delta table cannot have; give it an alias without spaces or any of ,;{{}}()="
    )]
    Name {
        /// The column's name.
        column: String,
    },
    /// No columns at all.
    #[error("the view has no columns")]
    Empty,
}

impl PublishedSchema {
    /// Derives the published schema from a plan's own.
    ///
    /// # Errors
    /// [`PublishError`] naming the column that stands in the way.
    pub fn of(plan_schema: &DFSchema) -> Result<Self, PublishError> {
        let mut seen = HashMap::new();
        let mut fields: Vec<FieldRef> = Vec::with_capacity(plan_schema.fields().len());
        for field in plan_schema.fields() {
            let name = field.name();
            if name.is_empty() || name.contains([' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '=']) {
                return Err(PublishError::Name { column: name.clone() });
            }
            if seen.insert(name.to_lowercase(), ()).is_some() {
                return Err(PublishError::Collision { name: name.clone() });
            }
            let published = representable(field.data_type(), name)?;
            fields.push(Arc::new(Field::new(name, published, true).with_metadata(metadata(field))));
        }
        if fields.is_empty() {
            return Err(PublishError::Empty);
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)) })
    }

    /// The arrow schema.
    #[must_use]
    pub fn arrow(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns as contracts say them.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldSpec> {
        self.schema
            .fields()
            .iter()
            .map(|field| FieldSpec {
                name: field.name().clone(),
                data_type: field.data_type().to_string(),
                nullable: field.is_nullable(),
                metadata: field.metadata().iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            })
            .collect()
    }

    /// Names, types and metadata as one canonical text.
    #[must_use]
    pub(crate) fn canonical(&self) -> String {
        let columns: Vec<_> = self
            .schema
            .fields()
            .iter()
            .map(|field| {
                let metadata: std::collections::BTreeMap<_, _> = field.metadata().iter().collect();
                (field.name(), data_type(field.data_type()), metadata)
            })
            .collect();
        // Strings and maps with string keys always have a canonical form.
        canonical_json(&columns).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The digest of names, types and metadata.
    #[must_use]
    pub fn hash(&self) -> SchemaHash {
        SchemaHash::of(self.canonical().as_bytes())
    }
}

/// The metadata of a column. An extension type without a name is how one is taken away: here it goes.
fn metadata(field: &Field) -> HashMap<String, String> {
    let mut metadata = field.metadata().clone();
    if field.extension_type_name() == Some("") {
        metadata.remove(EXTENSION_TYPE_NAME_KEY);
        metadata.remove(EXTENSION_TYPE_METADATA_KEY);
    }
    metadata
}

fn representable(data_type: &DataType, column: &str) -> Result<DataType, PublishError> {
    let refuse =
        |hint| Err(PublishError::Unrepresentable { column: column.to_owned(), data_type: data_type.to_string(), hint });
    Ok(match data_type {
        // A column of nothing but NULL has to be of some type; text can hold whatever comes later.
        DataType::Null => DataType::Utf8,
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary => data_type.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        // An instant is the same instant in UTC; without a zone, UTC is what the engine computes with.
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => {
            if *precision > 38 || *scale < 0 {
                return refuse("decimal(38, s) with s from 0 to 38");
            }
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, value) => representable(value, column)?,
        DataType::RunEndEncoded(_, values) => representable(values.data_type(), column)?,
        DataType::List(item)
        | DataType::ListView(item)
        | DataType::LargeList(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            let element = representable(item.data_type(), &format!("{column}[]"))?;
            DataType::List(Arc::new(Field::new("element", element, true)))
        }
        DataType::Struct(fields) => {
            let mut published = Vec::with_capacity(fields.len());
            for field in fields {
                let inner = representable(field.data_type(), &format!("{column}.{}", field.name()))?;
                published.push(Field::new(field.name(), inner, true));
            }
            if published.is_empty() {
                return refuse("a struct with at least one field");
            }
            DataType::Struct(published.into())
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return refuse("a map of keys and values");
            };
            let [key, value] = pair.as_ref() else {
                return refuse("a map of keys and values");
            };
            let key = representable(key.data_type(), &format!("{column}.key"))?;
            let value = representable(value.data_type(), &format!("{column}.value"))?;
            let pair = vec![Field::new("key", key, false), Field::new("value", value, true)];
            DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.into()), false)), false)
        }
        DataType::Time32(_) | DataType::Time64(_) => return refuse("a string, or a timestamp"),
        DataType::Duration(_) => return refuse("a bigint of its unit"),
        DataType::Interval(_) => return refuse("a string, or a number of its unit"),
        DataType::Union(_, _) => return refuse("one of its members"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: Vec<Field>) -> Result<PublishedSchema, PublishError> {
        PublishedSchema::of(&DFSchema::try_from(Schema::new(fields)).unwrap())
    }

    #[test]
    fn types_become_those_of_delta() {
        let zoneless = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8));
        let list = DataType::LargeList(Arc::new(Field::new("item", DataType::UInt64, false)));
        let published = of(vec![
            Field::new("a", DataType::UInt64, false),
            Field::new("b", zoneless, true),
            Field::new("c", dictionary, true),
            Field::new("d", list, true),
            Field::new("e", DataType::Null, true),
        ])
        .unwrap();
        let types: Vec<_> = published.fields().into_iter().map(|field| field.data_type).collect();
        assert_eq!(types, ["Int64", "Timestamp(µs, \"UTC\")", "Utf8", "List(Int64, field: 'element')", "Utf8"]);
        assert!(published.fields().iter().all(|field| field.nullable));
    }

    #[test]
    fn what_cannot_be_published_is_named() {
        let duration = of(vec![Field::new("d", DataType::Duration(TimeUnit::Second), true)]).unwrap_err();
        assert!(duration.to_string().contains("`d`"), "{duration}");
        let collision = of(vec![Field::new("a", DataType::Int8, true), Field::new("A", DataType::Int8, true)]);
        assert_eq!(collision, Err(PublishError::Collision { name: "A".to_owned() }));
        let name = of(vec![Field::new("count(*)", DataType::Int64, true)]);
        assert!(matches!(name, Err(PublishError::Name { .. })));
    }
}
