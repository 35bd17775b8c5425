//! The functions as SQL calls them.

mod ids;
mod spans;

use std::sync::LazyLock;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{ColumnarValue, DocSection, Documentation, ReturnFieldArgs, ScalarUDF};

use crate::version::VersionedFunction;

/// Who defines these functions.
const PROVIDER: &str = "alluvium";

/// Every function of this crate, with its version. All are immutable, and NULL where an argument is NULL.
#[must_use]
pub fn functions() -> &'static [VersionedFunction] {
    static FUNCTIONS: LazyLock<Vec<VersionedFunction>> = LazyLock::new(|| {
        let ids =
            ids::all().into_iter().map(|(number, function)| VersionedFunction::scalar(PROVIDER, number, function));
        let spans = spans::all().map(|(number, function)| VersionedFunction::scalar(PROVIDER, number, function));
        ids.chain(spans).collect()
    });
    &FUNCTIONS
}

/// A definition's number and the function: a result that changes is another number.
type Numbered = (u32, ScalarUDF);

const SECTION: DocSection =
    DocSection { include: true, label: "Semantic Functions", description: Some("Stable ids, hashes and spans.") };

fn documentation(description: &str, syntax: &str, arguments: &[(&str, &str)]) -> Documentation {
    let documentation = Documentation::builder(SECTION, description, syntax);
    arguments.iter().fold(documentation, |built, (name, what)| built.with_argument(*name, *what)).build()
}

/// Strict functions are NULL only where an argument is.
fn nullable(args: &ReturnFieldArgs<'_>) -> bool {
    args.arg_fields.iter().any(|field| field.is_nullable())
}

/// What a call gives: the one value of a constant, a column otherwise.
fn result(values: ArrayRef, constant: bool) -> Result<ColumnarValue> {
    match constant {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
        false => Ok(ColumnarValue::Array(values)),
    }
}

/// The type that an id can be derived from and that has the values of `given`.
fn part_type(function: &str, given: &DataType) -> Result<DataType> {
    Ok(match given {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Boolean
        | DataType::Date32
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => given.clone(),
        DataType::Null => DataType::Utf8,
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => part_type(function, value)?,
        other => {
            return plan_err!(
                "{function}() cannot derive an id from {other}: it takes text, whole numbers, booleans, dates and bytes; \
                 cast to text, in the form that the id should stand for"
            );
        }
    })
}

/// The type of text that has the values of `given`.
fn text_type(function: &str, what: &str, given: &DataType) -> Result<DataType> {
    match part_type(function, given) {
        Ok(text) if crate::semantic_type::is_text(&text) => Ok(text),
        _ => plan_err!("{function}() takes text as {what}, and not {given}"),
    }
}

#[cfg(test)]
mod tests;
