//! Columns whose values are in the names of directories (`year=2024/month=2`), and such values as text.

use std::borrow::Cow;
use std::path::Path;

use arrow::datatypes::Field;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use percent_encoding::percent_decode_str;

/// What writers call the directory of NULL.
const NULL_DIRECTORY: &str = "__HIVE_DEFAULT_PARTITION__";

/// The `key=value` directories above a file, outermost first: keys, and values of which `None` is NULL.
///
/// Both are percent-decoded, as writers encode what a directory cannot be called. `None` if something decodes to no text.
pub(crate) fn directories(below: &Path) -> Option<Vec<(String, Option<String>)>> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned);
    let parts = below.parent()?.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let pairs = parts.filter_map(|part| {
        let (key, value) = part.split_once('=')?;
        Some((key.to_owned(), (value != NULL_DIRECTORY).then(|| value.to_owned())))
    });
    pairs
        .map(|(key, value)| {
            let value = match value {
                Some(value) => Some(decoded(&value)?),
                None => None,
            };
            Some((decoded(&key)?, value))
        })
        .collect()
}

/// A text as a value of the column; `None` is NULL. The error is the engine's word, if it has one.
pub(crate) fn value_of(text: Option<&str>, field: &Field) -> Result<ScalarValue, Option<DataFusionError>> {
    let value = match text {
        None if !field.is_nullable() => return Err(None),
        None => ScalarValue::try_from(field.data_type()),
        Some(text) => ScalarValue::try_from_string(text.to_owned(), field.data_type()),
    };
    match value {
        // A cast that fails may give NULL instead of an error.
        Ok(value) if value.is_null() && text.is_some() => Err(None),
        value => value.map_err(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_decoded_and_null_has_a_name() {
        let found = directories(Path::new("a=1/plain/b=x%20%3D%25/c=__HIVE_DEFAULT_PARTITION__/d=/f.parquet")).unwrap();
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(found, [("a", Some("1")), ("b", Some("x =%")), ("c", None), ("d", Some(""))]);
        assert_eq!(directories(Path::new("x=%FF/f")), None);
        assert_eq!(directories(Path::new("f=1")), Some(vec![]));
    }
}
