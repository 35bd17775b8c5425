//! What the caches cost: lookups, fingerprints, stored plans, materialising, scanning and collecting. On standard output,
//! one JSON line.
//!
//! `cache-bench QUERIES DIR`: `QUERIES` holds TPC-H's queries as `q01.sql` …, `DIR` is a directory that is not there yet.
//! `cargo xtask bench cache` runs it.

mod entries;
mod plans;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use alluvium_telemetry::{Seam, Stopwatch};
use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Value, json};

/// Lookups, plans, entries.
#[derive(Parser)]
struct Arguments {
    /// TPC-H's queries.
    queries: PathBuf,
    /// A directory that is not there yet.
    dir: PathBuf,
    /// Views that are looked up.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    views: u32,
    /// Rows of the table that is materialised and scanned.
    #[arg(long, default_value_t = 4_000_000)]
    rows: u64,
    /// Entries that are collected.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    entries: u32,
    /// How often each thing is done; medians are told.
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
            eprintln!("cache-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &Arguments) -> Result<Value> {
    let Arguments { queries, dir, views, rows, entries, runs } = arguments;
    std::fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        Ok(json!({
            "runs": runs,
            "views": views,
            "lookup_seconds": entries::lookups(&dir.join("views"), *views, *runs).await?,
            "plans": plans::planned(queries, &dir.join("plans"), *runs).await?,
            "rows": rows,
            "tables": tables::materialised_and_scanned(&dir.join("tables"), *rows, *runs).await?,
            "entries": entries,
            "collection_seconds": entries::collected(&dir.join("entries"), *entries).await?,
        }))
    })
}

fn now() -> Stopwatch {
    Seam::system().stopwatch()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or_default()
}
