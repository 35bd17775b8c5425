//! One large view: computing it into an entry beside writing the same plan as plain Parquet, and scanning either.

use std::collections::BTreeMap;
use std::path::Path;

use alluvium_contracts::{DatasetFormat, DatasetSpec, SourcePath, SqlPolicy};
use alluvium_datasets::{Dataset, Pinner, register_dataset};
use alluvium_delta_cache::{DeltaCache, Lookup};
use alluvium_plans::{Input, PlanBundle, plan_view};
use alluvium_profile::{Query, Session};
use alluvium_telemetry::Seam;
use anyhow::{Context, Result, bail};
use datafusion::common::TableReference;
use datafusion::dataframe::{DataFrame, DataFrameWriteOptions};
use datafusion::prelude::ParquetReadOptions;
use serde_json::{Value, json};

use crate::entries::{caches, session, write};
use crate::{median, now};

/// The view.
const VIEW: &str = "select k, k % 1000 as g, amount * 2 as amount, name from source where k % 10 <> 3";

/// What is asked of its rows.
const QUERIES: [(&str, &str); 3] = [
    ("count and sums", "select count(*), sum(amount), sum(k) from t"),
    ("group by", "select g, count(*), sum(amount) from t group by g"),
    ("selective filter", "select count(*), max(k) from t where name = 'name 17' and g = 17"),
];

/// Medians of materialising the view and of each query over it, by the cache and by plain Parquet, which take turns.
pub async fn materialised_and_scanned(dir: &Path, rows: u64, runs: u32) -> Result<Value> {
    std::fs::create_dir(dir)?;
    let (session, root) = (session()?, dir.join("root"));
    let cache = caches(&root)?;
    // One file a partition, as the cache has them; the engine's default is at least four.
    let partitions = session.context().state().config().target_partitions();
    let set = format!("set datafusion.execution.minimum_parallel_output_files = {partitions}");
    let _ = session.with_sql_policy(SqlPolicy::Service).execute(Query::sql(set.as_str())).await?;
    let bundle = source(&session, dir, rows).await?;
    let plain = dir.join("plain");
    let [mut cached_seconds, mut plain_seconds] = [const { Vec::new() }; 2];
    for run in 0..=runs {
        let start = now();
        write(&cache, &session, &bundle).await?;
        let cached = start.elapsed().as_secs_f64();
        let _ = std::fs::remove_dir_all(&plain);
        let start = now();
        write_plain(&session, &bundle, &plain).await?;
        if run > 0 {
            cached_seconds.push(cached);
            plain_seconds.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(json!({
        "cached_seconds": median(cached_seconds),
        "plain_seconds": median(plain_seconds),
        "scans": scanned(&cache, &bundle, &root, runs).await?,
    }))
}

/// A Parquet file of so many rows, and the view over it.
async fn source(session: &Session, dir: &Path, rows: u64) -> Result<PlanBundle> {
    let sql = format!(
        "select value as k, value * 7 % 100003 as amount, concat('name ', value % 5000) as name \
         from generate_series(1, {rows})"
    );
    let frame = session.execute(Query::sql(sql.as_str())).await?;
    let file = dir.join("source.parquet");
    let file = file.to_str().context("the directory is no text")?;
    frame.write_parquet(file, DataFrameWriteOptions::new().with_single_file_output(true), None).await?;
    let spec = DatasetSpec::new(DatasetFormat::Parquet, SourcePath::One("source.parquet".to_owned()));
    let dataset = Dataset::resolve("source", &spec, dir)?;
    let pinned = register_dataset(session, &Pinner::new(None, Seam::system()), &dataset).await?;
    let inputs = BTreeMap::from([("source".to_owned(), Input::Dataset(pinned))]);
    Ok(plan_view(session, "view", VIEW, &inputs).await?)
}

/// The plan of the view as plain Parquet files.
async fn write_plain(session: &Session, bundle: &PlanBundle, dir: &Path) -> Result<()> {
    std::fs::create_dir(dir)?;
    let frame = DataFrame::new(session.context().state(), bundle.plan().clone());
    let path = format!("{}/", dir.to_str().context("the directory is no text")?);
    frame.write_parquet(&path, DataFrameWriteOptions::new().with_single_file_output(false), None).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the sides of a measurement are no datasets")]
async fn scanned(cache: &DeltaCache, bundle: &PlanBundle, root: &Path, runs: u32) -> Result<Vec<Value>> {
    let reading = cache.begin_reading()?;
    let Lookup::Hit(entry, _) = cache.lookup(&reading, bundle)? else {
        bail!("the view is not there");
    };
    // The entry's own files: in the types that the engine likes best, in those that the view has published, as the entry, and as the
    // entry where the profile has filters applied while files are decoded.
    let files = root.join(&entry.dir);
    let files = files.to_str().context("the directory is no text")?;
    let schema = bundle.published().arrow();
    let sides = [session()?, session()?, session()?, session()?];
    sides[0].context().register_parquet("t", files, ParquetReadOptions::default()).await?;
    sides[1].context().register_parquet("t", files, ParquetReadOptions::default().schema(schema)).await?;
    for side in &sides[2..] {
        side.context().register_table(TableReference::bare("t"), cache.provider(&entry, schema)?)?;
    }
    for setting in ["pushdown_filters", "reorder_filters"] {
        let set = format!("set datafusion.execution.parquet.{setting} = true");
        let _ = sides[3].with_sql_policy(SqlPolicy::Service).execute(Query::sql(set.as_str())).await?;
    }
    let mut figures = Vec::new();
    for (what, sql) in QUERIES {
        let mut seconds = [const { Vec::new() }; 4];
        for run in 0..=runs {
            for (session, seconds) in sides.iter().zip(&mut seconds) {
                let start = now();
                session.execute(Query::sql(sql)).await?.collect().await?;
                if run > 0 {
                    seconds.push(start.elapsed().as_secs_f64());
                }
            }
        }
        let [plain, published, cached, sifted] = seconds.map(median);
        figures.push(json!({
            "what": what,
            "plain_seconds": plain,
            "published_seconds": published,
            "cached_seconds": cached,
            "sifted_seconds": sifted,
        }));
    }
    Ok(figures)
}
