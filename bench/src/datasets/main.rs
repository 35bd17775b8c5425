//! What sessions, registrations and scans of `PinnedFiles` cost. On standard output, one JSON line.
//!
//! `datasets-bench SRC DIR`: `SRC` is a Parquet file of flights, `DIR` a directory that is not there yet. The rows are written
//! there as a Delta table, and the same data files are read as plain Parquet, as `PinnedFiles` and by the engine's Delta scan, in
//! one session and in turn. `cargo xtask bench datasets` runs it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use alluvium_contracts::{DatasetFormat, DatasetSpec, DeltaWritePolicy, ProfileSpec, SourcePath};
use alluvium_datasets::{Dataset, PinnedFiles, Pinner, register_dataset};
use alluvium_profile::{Query, RuntimeProfile, Session, SessionFactory};
use alluvium_telemetry::{Seam, Stopwatch};
use alluvium_write_policy::{ResolvedWritePolicy, TableWrite, TableWriteOutcome};
use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use datafusion::arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::logical_expr::{cast, ident};
use datafusion::physical_plan::execute_stream_partitioned;
use datafusion::prelude::ParquetReadOptions;
use deltalake_core::DeltaTableBuilder;
use serde_json::{Value, json};
use url::Url;

/// What is asked of each side, which it calls `t`.
const QUERIES: [(&str, &str); 3] = [
    ("count and averages", "select count(*), avg(delay), sum(distance) from t"),
    ("group by", "select origin, count(*), avg(delay) from t group by origin"),
    ("selective filter", "select count(*), max(distance) from t where destination = 'ABE' and delay > 60"),
];

/// Sessions, registrations and scans.
#[derive(Parser)]
struct Arguments {
    /// A Parquet file of flights.
    source: PathBuf,
    /// A directory that is not there yet.
    dir: PathBuf,
    /// How many datasets are registered.
    #[arg(long, default_value_t = 1_000)]
    datasets: usize,
    /// How often sessions are made and queries run; medians are told.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

fn main() -> ExitCode {
    match work(&Arguments::parse()) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("datasets-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &Arguments) -> Result<Value> {
    std::fs::create_dir(&arguments.dir).with_context(|| format!("cannot make {}", arguments.dir.display()))?;
    let dir = arguments.dir.canonicalize()?;
    let sessions = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default()));
    tokio::runtime::Runtime::new()?.block_on(async {
        let session_seconds = sessions_made(&sessions, arguments.runs)?;
        let quarters = registered(&sessions.build()?, &dir.join("small"), arguments.datasets).await?;
        let table = dir.join("flights");
        write(&sessions.build()?, &arguments.source, &table).await?;
        let queries = scanned(&sessions, &table, arguments.runs).await?;
        Ok(json!({
            "runs": arguments.runs,
            "session_seconds": session_seconds,
            "datasets": arguments.datasets,
            "registration_seconds_by_quarter": quarters,
            "queries": queries,
        }))
    })
}

/// The median of an ephemeral session.
fn sessions_made(sessions: &SessionFactory, runs: u32) -> Result<f64> {
    let mut seconds = Vec::new();
    for _ in 0..runs {
        let start = now();
        sessions.ephemeral_context()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(median(seconds))
}

/// Seconds for each quarter of so many small CSV files in one session: as long for the last as for the first, if the cost is linear.
async fn registered(session: &Session, dir: &Path, count: usize) -> Result<Vec<f64>> {
    std::fs::create_dir(dir)?;
    let mut datasets = Vec::with_capacity(count);
    for number in 0..count {
        let name = format!("d{number}");
        std::fs::write(dir.join(format!("{name}.csv")), format!("k,v\n{number},x\n"))?;
        let spec = DatasetSpec::new(DatasetFormat::Csv, SourcePath::One(format!("{name}.csv")));
        datasets.push(Dataset::resolve(&name, &spec, dir)?);
    }
    let pinner = Pinner::new(None, Seam::system());
    let mut quarters = Vec::new();
    for quarter in datasets.chunks(count.div_ceil(4).max(1)) {
        let start = now();
        for dataset in quarter {
            register_dataset(session, &pinner, dataset).await?;
        }
        quarters.push(start.elapsed().as_secs_f64());
    }
    Ok(quarters)
}

/// The rows of `source` as a Delta table. Timestamps without a zone become UTC.
async fn write(session: &Session, source: &Path, table: &Path) -> Result<()> {
    let path = source.to_str().context("the path of the source is no text")?;
    let frame = session.context().read_parquet(path, ParquetReadOptions::default()).await?;
    let columns = frame.schema().fields().iter().map(|field| match field.data_type() {
        DataType::Timestamp(_, None) => {
            let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            cast(ident(field.name()), utc).alias(field.name())
        }
        _ => ident(field.name()),
    });
    let columns: Vec<_> = columns.collect();
    let frame = frame.select(columns)?;
    let schema = Arc::new(Schema::new(frame.schema().fields().clone()));
    let policy = ResolvedWritePolicy::resolve(&DeltaWritePolicy::default(), &schema)?;
    let plan = frame.create_physical_plan().await?;
    let rows = execute_stream_partitioned(plan, session.context().task_ctx())?;
    match TableWrite::new(table, schema, rows, &policy).run().await? {
        TableWriteOutcome::Committed(_) => Ok(()),
        other => bail!("the table was not written: {other:?}"),
    }
}

/// Medians of each query by each side, which take turns.
#[expect(clippy::disallowed_methods, reason = "the sides of a measurement are no datasets")]
async fn scanned(sessions: &SessionFactory, table: &Path, runs: u32) -> Result<Vec<Value>> {
    let url = Url::from_directory_path(table).map_err(|()| anyhow!("{} is no directory", table.display()))?;
    let loaded = DeltaTableBuilder::from_url(url)?.load().await?;
    let (plain, pinned, engine) = (sessions.build()?, sessions.build()?, sessions.build()?);
    let files = table.to_str().context("the path of the table is no text")?;
    plain.context().register_parquet("t", files, ParquetReadOptions::default()).await?;
    pinned.context().register_table("t", Arc::new(PinnedFiles::of_delta(&loaded)?))?;
    engine.context().register_table("t", loaded.table_provider().await?)?;
    let mut figures = Vec::new();
    for (what, sql) in QUERIES {
        let mut seconds = [(&plain, Vec::new()), (&pinned, Vec::new()), (&engine, Vec::new())];
        // The first round warms up what the system keeps of files.
        for run in 0..=runs {
            for (session, seconds) in &mut seconds {
                let start = now();
                session.execute(Query::sql(sql)).await?.collect().await?;
                if run > 0 {
                    seconds.push(start.elapsed().as_secs_f64());
                }
            }
        }
        let [plain, pinned, engine] = seconds.map(|(_, seconds)| median(seconds));
        figures.push(json!({
            "what": what,
            "plain_seconds": plain,
            "pinned_seconds": pinned,
            "engine_seconds": engine,
        }));
    }
    Ok(figures)
}

fn now() -> Stopwatch {
    Seam::system().stopwatch()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or_default()
}
