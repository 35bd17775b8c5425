//! Every mode of a write, each on a table of its own that keeps a change data feed, and what each schema mode makes of a column
//! that the table does not have: `modes DIR` makes `DIR/merge`, `DIR/schema_merge`, and so on. `cargo xtask interop` has them
//! read by others.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{DeltaFeature, DeltaWritePolicy, SchemaMode, WriteMode};
use alluvium_write_policy::{ResolvedWritePolicy, TableWrite};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("name a directory that is not there yet")?;
    let dir = Path::new(&dir);
    let in_mode = |mode| DeltaWritePolicy {
        mode,
        enable_features: vec![DeltaFeature::ChangeDataFeed],
        ..DeltaWritePolicy::default()
    };
    let keys = || vec!["name".to_owned()];
    let replaced = || Some("count > 1".to_owned());
    let policies = [
        in_mode(WriteMode::Append),
        in_mode(WriteMode::Overwrite),
        in_mode(WriteMode::Ignore),
        DeltaWritePolicy { replace_where: replaced(), ..in_mode(WriteMode::ReplaceWhere) },
        DeltaWritePolicy { keys: keys(), ..in_mode(WriteMode::Merge) },
        DeltaWritePolicy { keys: keys(), ..in_mode(WriteMode::Delete) },
    ];
    for policy in policies {
        let table = dir.join(policy.mode.as_str());
        write(&table, &in_mode(WriteMode::Error), &FIRST, "count").await?;
        write(&table, &policy, &SECOND, "count").await?;
    }
    for (schema_mode, mode) in [
        (SchemaMode::Merge, WriteMode::Append),
        (SchemaMode::Overwrite, WriteMode::Overwrite),
        (SchemaMode::Strict, WriteMode::Append),
    ] {
        let table = dir.join(format!("schema_{}", schema_mode.as_str()));
        write(&table, &in_mode(WriteMode::Error), &FIRST, "count").await?;
        let written = write(&table, &DeltaWritePolicy { schema_mode, ..in_mode(mode) }, &SECOND, "total").await;
        match (written, schema_mode) {
            (Err(refused), SchemaMode::Strict) => println!("{}: {refused}", table.display()),
            (Ok(()), SchemaMode::Strict) => return Err("strict took another column".into()),
            (written, _) => written?,
        }
    }
    Ok(())
}

const FIRST: [(&str, i64); 3] = [("a", 1), ("b", 2), ("c", 3)];
const SECOND: [(&str, i64); 2] = [("b", 20), ("d", 40)];

/// Writes `rows` of the columns `name` and `number`.
async fn write(
    table: &Path,
    policy: &DeltaWritePolicy,
    rows: &[(&str, i64)],
    number: &str,
) -> Result<(), Box<dyn Error>> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new(number, DataType::Int64, true),
    ]));
    let (names, counts): (Vec<&str>, Vec<i64>) = rows.iter().copied().unzip();
    let columns = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![Arc::new(StringArray::from(names)), Arc::new(Int64Array::from(counts))],
    )?;
    let rows = RecordBatchStreamAdapter::new(Arc::clone(&schema), futures::stream::iter([Ok(columns)]));
    let policy = ResolvedWritePolicy::resolve(policy, &schema)?;
    let outcome = TableWrite::new(table, schema, vec![Box::pin(rows)], &policy).run().await?;
    println!("{}: {outcome:?}", table.display());
    Ok(())
}
