//! The figures of docs/benchmarks.md: whole processes, measured from outside.

mod build;
mod cache;
mod contracts;
mod datasets;
mod kv;
mod measure;
mod page;
mod runs;
mod runs_page;
mod telemetry;
mod write;
mod write_page;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::project::Alluvium;
use build::{binary, build};
use measure::Bench;
use page::{Figures, Machine};

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// How often each thing is measured; the page shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    out: PathBuf,
    /// Minutes that the first release build took here; unless given, the page keeps what it says.
    #[arg(long, value_name = "MINUTES")]
    cold_build_minutes: Option<f64>,
    /// Measure this `alluvium` instead of building one; the page says so.
    #[arg(long, value_name = "PATH", requires = "plain")]
    alluvium: Option<PathBuf>,
    /// Measure against this `plain` instead of building one.
    #[arg(long, value_name = "PATH", requires = "alluvium")]
    plain: Option<PathBuf>,
}

/// What else there is to measure.
#[derive(clap::Subcommand)]
enum What {
    /// Measure lookups, fingerprints, stored plans, materialising and collecting, and write docs/benchmarks-cache.md.
    Cache(cache::Args),
    /// Measure canonical forms and strict decoding, and write their section of docs/benchmarks.md.
    Contracts(contracts::Args),
    /// Measure sessions, registrations and scans of pinned files, and write docs/benchmarks-datasets.md.
    Datasets(datasets::Args),
    /// Measure alluvium-disk-kv-cache and its rivals, and write docs/benchmarks-kv.md.
    Kv(kv::Args),
    /// Measure what ledgers cost, and the flights pipeline beside dbt and SQLMesh, and write docs/benchmarks-runs.md.
    Runs(runs::Args),
    /// Measure what telemetry costs a run and an operation, and write its section of docs/benchmarks.md.
    Telemetry(telemetry::Args),
    /// Measure alluvium-write-policy and other writers, and write their section of docs/benchmarks.md.
    Write(write::Args),
}

/// Measure, and write the page of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    match &args.what {
        Some(What::Cache(args)) => return cache::run(root, args),
        Some(What::Contracts(args)) => return contracts::run(root, args),
        Some(What::Datasets(args)) => return datasets::run(root, args),
        Some(What::Kv(args)) => return kv::run(root, args),
        Some(What::Runs(args)) => return runs::run(root, args),
        Some(What::Telemetry(args)) => return telemetry::run(root, args),
        Some(What::Write(args)) => return write::run(root, args),
        None => {}
    }
    let metadata = Metadata::load(root)?;
    let (alluvium, plain) = match (&args.alluvium, &args.plain) {
        (Some(alluvium), Some(plain)) => (alluvium.clone(), plain.clone()),
        _ => {
            let dir = build(root, &metadata, false)?;
            (binary(&dir, "alluvium"), binary(&dir, "plain"))
        }
    };
    let page = root.join(&args.out);
    let earlier = match std::fs::read_to_string(&page) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", page.display())),
    };
    let bench = Bench {
        root,
        alluvium: Alluvium::new(&alluvium)?,
        plain: plain.canonicalize().with_context(|| format!("no binary at {}", plain.display()))?,
        runs: args.runs,
    };
    let figures = Figures {
        cold: bench.cold()?,
        all_hit: bench.all_hit()?,
        further: bench.further_views()?,
        binary_bytes: std::fs::metadata(bench.alluvium.binary()).context("cannot look at the binary")?.len(),
        cold_build: page::cold_build(args.cold_build_minutes, &earlier),
    };
    let mut text = page::render(&figures, &Machine::of(root, &metadata)?, &command(args), args.alluvium.is_some());
    text.push_str(page::sections(&earlier));
    if let Some(dir) = page.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    std::fs::write(&page, &text).with_context(|| format!("cannot write {}", page.display()))?;
    print!("{text}");
    Ok(())
}

/// The command to repeat, without what it says of this machine.
fn command(args: &Args) -> String {
    let mut command = format!("cargo xtask bench --runs {}", args.runs);
    if args.alluvium.is_some() {
        command.push_str(" --alluvium PATH --plain PATH");
    }
    command
}
