//! Declared columns: from their text to arrow's fields, and back.

use std::collections::HashMap;

use alluvium_contracts::ColumnSpec;
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

/// A column cannot be said in the other form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnError {
    /// The text is no type.
    #[error(
        "`{data_type}` of the column `{column}` is no type: write it as arrow does, such as `Int64` or `List(Utf8)`"
    )]
    Type {
        /// The column.
        column: String,
        /// Its type as it was written.
        data_type: String,
        /// Arrow's word.
        source: ArrowError,
    },
    /// Arrow's notation loses a part of the field.
    #[error(
        "the column `{column}` cannot be declared: arrow's notation cannot say its type; leave out the metadata of inner \
         fields, quotes in their names, and the order of dictionaries"
    )]
    Unsayable {
        /// The column.
        column: String,
    },
}

/// The field that a column declares.
///
/// # Errors
/// [`ColumnError::Type`] if its type is none.
pub fn field_of(column: &ColumnSpec) -> Result<Field, ColumnError> {
    let data_type = data_type_of(&column.name, &column.data_type)?;
    let metadata = column.metadata.iter().map(|(key, value)| (key.clone(), value.clone()));
    Ok(Field::new(&column.name, data_type, column.nullable).with_metadata(metadata.collect::<HashMap<_, _>>()))
}

/// The column that declares exactly this field.
///
/// # Errors
/// [`ColumnError::Unsayable`] if arrow's notation would lose a part of it.
pub fn column_of(field: &Field) -> Result<ColumnSpec, ColumnError> {
    let column = ColumnSpec {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        nullable: field.is_nullable(),
        metadata: field.metadata().iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    };
    match field_of(&column) {
        Ok(same) if same == *field => Ok(column),
        _ => Err(ColumnError::Unsayable { column: column.name }),
    }
}

/// The type of a column, from arrow's notation.
pub(crate) fn data_type_of(column: &str, text: &str) -> Result<DataType, ColumnError> {
    text.parse().map_err(|source| ColumnError::Type { column: column.to_owned(), data_type: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_arrow_cannot_say_is_refused_and_not_lost() {
        let inner = |metadata: bool, name: &str| {
            let field = Field::new(name, DataType::Int8, true);
            let pairs = metadata.then(|| ("k".to_owned(), "v".to_owned()));
            Arc::new(field.with_metadata(pairs.into_iter().collect()))
        };
        let list = |metadata, name| Field::new("l", DataType::List(inner(metadata, name)), true);
        assert_eq!(field_of(&column_of(&list(false, "element")).unwrap()).unwrap(), list(false, "element"));
        assert!(matches!(column_of(&list(true, "item")), Err(ColumnError::Unsayable { .. })));
        assert!(matches!(column_of(&list(false, "it's")), Err(ColumnError::Unsayable { .. })));
    }

    #[test]
    fn a_text_that_is_no_type_is_named_with_its_column() {
        let column =
            ColumnSpec { name: "c".to_owned(), data_type: "Int63".to_owned(), nullable: true, metadata: [].into() };
        let error = field_of(&column).unwrap_err().to_string();
        assert!(error.contains("`Int63` of the column `c`"), "{error}");
    }
}
