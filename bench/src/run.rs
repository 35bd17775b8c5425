//! The run itself: register, then write view after view, then the outputs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use datafusion::arrow::array::UInt64Array;
use datafusion::common::TableReference;
use datafusion::config::TableParquetOptions;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{
    CsvReadOptions, DataFrame, JsonReadOptions, ParquetReadOptions, SessionConfig, SessionContext,
};

use crate::folder::{Folder, Format, Output, Source};

/// Rows written, by name.
pub struct Wrote {
    /// Of each view.
    pub views: BTreeMap<String, u64>,
    /// Of each output.
    pub outputs: BTreeMap<String, u64>,
}

/// Runs the views of `folder` in the given order, and then all its outputs, writing below `out`.
#[expect(
    clippy::disallowed_methods,
    reason = "the rival makes its own session and registers what it wrote: it is a program without a crate of ours"
)]
pub async fn run(folder: &Folder, order: &[String], out: &Path, cores: usize) -> Result<Wrote> {
    let partitions = folder.target_partitions(cores);
    let mut config = SessionConfig::new().with_target_partitions(partitions);
    // One file a partition; the default is at least four.
    config
        .options_mut()
        .set("datafusion.execution.minimum_parallel_output_files", &partitions.to_string())
        .context("cannot set the number of files")?;
    let ctx = SessionContext::new_with_config(config);

    for (name, source) in folder.sources() {
        let frame = read(&ctx, source, folder.paths(source)).await.with_context(|| format!("source {name}"))?;
        ctx.register_table(TableReference::bare(name.as_str()), frame.into_view())
            .with_context(|| format!("source {name}"))?;
    }

    let mut wrote = Wrote { views: BTreeMap::new(), outputs: BTreeMap::new() };
    for view in order {
        let run = async {
            let frame = ctx.sql(&folder.sql(view)?).await?;
            // Without a schema, a view of no rows could not be read back: it may have no file.
            let schema = frame.schema().as_arrow().clone();
            let dir = directory(out, "views", view)?;
            let rows = write(frame, &dir, Vec::new(), "snappy").await?;
            let options = ParquetReadOptions::default().schema(&schema);
            ctx.register_parquet(TableReference::bare(view.as_str()), &dir, options).await?;
            anyhow::Ok(rows)
        };
        let rows = run.await.with_context(|| format!("view {view}"))?;
        wrote.views.insert(view.clone(), rows);
    }
    for (name, output) in folder.outputs() {
        let rows =
            publish(&ctx, output, &directory(out, "outputs", name)?).await.with_context(|| format!("output {name}"))?;
        wrote.outputs.insert(name.clone(), rows);
    }
    Ok(wrote)
}

async fn publish(ctx: &SessionContext, output: &Output, dir: &str) -> Result<u64> {
    let frame = ctx.table(TableReference::bare(output.view.as_str())).await?;
    let codec = match output.write.writer_properties.compression.as_deref() {
        None | Some("snappy") => "snappy",
        Some("zstd") => "zstd(3)",
        Some("uncompressed") => "uncompressed",
        Some(other) => bail!("the rival knows no codec {other}"),
    };
    write(frame, dir, output.write.partition_by.clone(), codec).await
}

/// A directory below `out`; the slash says that it holds many files.
fn directory(out: &Path, kind: &str, name: &str) -> Result<String> {
    let dir = out.join(kind).join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(format!("{}/", dir.canonicalize()?.to_string_lossy()))
}

/// Writes `frame` as Parquet files into `dir` and returns how many rows it had.
async fn write(frame: DataFrame, dir: &str, partition_by: Vec<String>, codec: &str) -> Result<u64> {
    let mut parquet = TableParquetOptions::default();
    parquet.global.compression = Some(codec.to_owned());
    let options = DataFrameWriteOptions::new().with_single_file_output(false).with_partition_by(partition_by);
    let counts = frame.write_parquet(dir, options, Some(parquet)).await?;
    counts
        .iter()
        .map(|batch| {
            let count = batch.column(0).as_any().downcast_ref::<UInt64Array>();
            Ok(count.context("the engine did not say how many rows it wrote")?.iter().flatten().sum::<u64>())
        })
        .sum()
}

/// A source as the engine's own listing table reads it.
async fn read(ctx: &SessionContext, source: &Source, paths: Vec<String>) -> Result<DataFrame> {
    let mut options = source.options.clone();
    let frame = match source.format {
        Format::Parquet => {
            let read = ParquetReadOptions::default().file_extension("");
            ctx.read_parquet(paths, read).await?
        }
        Format::Json => {
            let read = JsonReadOptions::default().file_extension("");
            ctx.read_json(paths, read).await?
        }
        Format::Csv => {
            let mut read = CsvReadOptions::new().file_extension("");
            if let Some(value) = options.remove("has_header") {
                read = read.has_header(value.parse().context("has_header")?);
            }
            if let Some(value) = options.remove("delimiter") {
                read = read.delimiter(byte(&value).context("delimiter")?);
            }
            if let Some(value) = options.remove("quote") {
                read = read.quote(byte(&value).context("quote")?);
            }
            if let Some(value) = options.remove("escape") {
                read = read.escape(byte(&value).context("escape")?);
            }
            read = read.null_regex(options.remove("null_regex"));
            ctx.read_csv(paths, read).await?
        }
    };
    if let Some(unknown) = options.keys().next() {
        bail!("the rival does not know the option {unknown}");
    }
    Ok(frame)
}

fn byte(text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => bail!("{text:?} is not one byte"),
    }
}
