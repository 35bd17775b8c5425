//! The rows of a query: streamed as JSON or CSV, gathered as a table.

use std::collections::BTreeSet;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json;
use arrow::json::writer::JsonArray;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;

use crate::args::RowFormat;
use crate::failure::Failure;

/// Writes batches in one format.
pub struct RowWriter<W: Write> {
    format: Format<W>,
}

enum Format<W: Write> {
    /// Column widths are known at the end only.
    Table {
        out: W,
        batches: Vec<RecordBatch>,
    },
    Json(Box<json::Writer<W, JsonArray>>),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> RowWriter<W> {
    /// Starts an answer with `schema` on `out`.
    ///
    /// # Errors
    /// An input error where the format cannot hold such rows without losing some of them.
    pub fn new(format: RowFormat, schema: &SchemaRef, out: W) -> Result<Self, Failure> {
        let format = match format {
            // An empty batch first: it holds the header of an answer without rows.
            RowFormat::Table => Format::Table { out, batches: vec![RecordBatch::new_empty(SchemaRef::clone(schema))] },
            RowFormat::Json => {
                distinct_names(schema)?;
                let builder = json::WriterBuilder::new().with_explicit_nulls(true);
                Format::Json(Box::new(builder.build(out)))
            }
            RowFormat::Csv => {
                flat_columns(schema)?;
                let mut writer = csv::WriterBuilder::new().with_header(true).build(out);
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema)))?;
                Format::Csv(Box::new(writer))
            }
        };
        Ok(Self { format })
    }

    /// Writes the rows of `batch`.
    pub fn write(&mut self, batch: RecordBatch) -> Result<(), Failure> {
        match &mut self.format {
            Format::Table { batches, .. } => batches.push(batch),
            Format::Json(writer) => writer.write(&batch)?,
            Format::Csv(writer) => writer.write(&batch)?,
        }
        Ok(())
    }

    /// Ends the answer.
    pub fn finish(self) -> Result<(), Failure> {
        match self.format {
            Format::Table { mut out, batches } => {
                let options = FormatOptions::default().with_null("NULL");
                let table = pretty_format_batches_with_options(&batches, &options)?;
                writeln!(out, "{table}")?;
            }
            Format::Json(mut writer) => {
                writer.finish()?;
                writeln!(writer.into_inner())?;
            }
            // The writer hands every batch on as it comes.
            Format::Csv(_) => {}
        }
        Ok(())
    }
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        Self::failed("cannot print the rows".to_owned()).because(error)
    }
}

/// An object cannot hold two values of one name.
fn distinct_names(schema: &SchemaRef) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name())) {
        None => Ok(()),
        Some(twice) => {
            let message = format!("two columns are called `{}`, which a JSON object cannot hold", twice.name());
            Err(Failure::input(message).with_hint("name them apart with AS, or ask for --format csv"))
        }
    }
}

/// CSV has no nested values.
fn flat_columns(schema: &SchemaRef) -> Result<(), Failure> {
    match schema.fields().iter().find(|field| field.data_type().is_nested()) {
        None => Ok(()),
        Some(nested) => {
            let message = format!("column `{}` is a {}, which CSV cannot hold", nested.name(), nested.data_type());
            Err(Failure::input(message).with_hint("leave it out, or ask for --format json"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};

    use super::*;
    use crate::exit::Exit;

    fn batch() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("count", DataType::Int64, true),
            Field::new("ratio", DataType::Float64, true),
        ]);
        let names = StringArray::from(vec![Some("a,\"b\""), None]);
        let counts = Int64Array::from(vec![None, Some(7)]);
        let ratios = Float64Array::from(vec![0.5, f64::NAN]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(names), Arc::new(counts), Arc::new(ratios)]).unwrap()
    }

    fn printed(format: RowFormat, batches: &[RecordBatch]) -> String {
        let mut bytes = Vec::new();
        let mut writer = RowWriter::new(format, &batch().schema(), &mut bytes).unwrap();
        for batch in batches {
            writer.write(batch.clone()).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_array_with_explicit_nulls() {
        let expected =
            "[{\"name\":\"a,\\\"b\\\"\",\"count\":null,\"ratio\":0.5},{\"name\":null,\"count\":7,\"ratio\":null}";
        assert_eq!(printed(RowFormat::Json, &[batch()]), format!("{expected}]\n"));
        let twice = printed(RowFormat::Json, &[batch(), batch()]);
        assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&twice).unwrap().len(), 4);
        assert_eq!(printed(RowFormat::Json, &[]), "[]\n");
    }

    #[test]
    fn csv_has_one_header_even_without_rows() {
        let row = "\"a,\"\"b\"\"\",,0.5\n,7,NaN\n";
        assert_eq!(printed(RowFormat::Csv, &[batch(), batch()]), format!("name,count,ratio\n{row}{row}"));
        assert_eq!(printed(RowFormat::Csv, &[]), "name,count,ratio\n");
    }

    #[test]
    fn a_table_tells_null_from_nothing_and_has_a_header_without_rows() {
        let table = printed(RowFormat::Table, &[batch()]);
        assert!(table.contains("| NULL  | 7 "), "{table}");
        let empty = printed(RowFormat::Table, &[]);
        assert!(empty.contains("| name | count | ratio |"), "{empty}");
    }

    #[test]
    fn what_a_format_cannot_hold_is_refused_by_name() {
        let refused = |format, fields: Vec<Field>| {
            let failure = RowWriter::new(format, &Arc::new(Schema::new(fields)), Vec::new()).err().unwrap();
            assert_eq!(failure.exit(), Exit::Input);
            format!("{failure:?}")
        };
        let id = || Field::new("id", DataType::Int64, true);
        assert!(refused(RowFormat::Json, vec![id(), id()]).contains("`id`"));
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        let list = Field::new("tags", arrow::array::Array::data_type(&list).clone(), true);
        assert!(refused(RowFormat::Csv, vec![id(), list]).contains("`tags`"));
    }
}
