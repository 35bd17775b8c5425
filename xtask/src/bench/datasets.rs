//! docs/benchmarks-datasets.md: what sessions, registrations and scans of `PinnedFiles` cost.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::build::bench;
use super::page::{Machine, goal, notes};
use crate::cargo;
use crate::metadata::Metadata;

/// What an ephemeral session may take, in milliseconds.
const SESSION_MS: f64 = 5.0;
/// What a registration may take, in milliseconds.
const REGISTRATION_MS: f64 = 1.0;
/// The time of the last quarter of all registrations over that of the first, if the cost is linear.
const GROWTH: f64 = 1.25;
/// The time of a scan of `PinnedFiles` over that of plain Parquet.
const SCAN: f64 = 1.05;

/// Arguments of `cargo xtask bench datasets`.
#[derive(clap::Args)]
pub struct Args {
    /// A Parquet file of flights.
    #[arg(long, value_name = "PATH", env = "ALLUVIUM_DATA")]
    data: PathBuf,
    /// Do little, without optimising anything, to see that everything runs; only print the page.
    #[arg(long)]
    quick: bool,
    /// Measure with this `datasets-bench` instead of building one; the page says so.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks-datasets.md")]
    out: PathBuf,
}

/// What `bench/src/datasets/main.rs` prints.
#[derive(Deserialize)]
struct Report {
    runs: u32,
    session_seconds: f64,
    datasets: u32,
    registration_seconds_by_quarter: Vec<f64>,
    queries: Vec<Scan>,
}

#[derive(Deserialize)]
struct Scan {
    what: String,
    plain_seconds: f64,
    pinned_seconds: f64,
    engine_seconds: f64,
}

/// Measure, print the page, and write it into the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let metadata = Metadata::load(root)?;
    let (mut bench, dir) = bench(root, &metadata, args.binary.as_deref(), args.quick, "datasets-bench")?;
    bench.arg(&args.data).arg(&dir);
    if args.quick {
        bench.args(["--datasets", "20", "--runs", "1"]);
    }
    let report: Report =
        serde_json::from_slice(&cargo::read(&mut bench)?).context("the benchmark printed something else")?;
    let page = render(&report, args, &Machine::of(root, &metadata)?);
    print!("{page}");
    if args.quick {
        return Ok(());
    }
    let path = root.join(&args.out);
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn render(report: &Report, args: &Args, machine: &Machine) -> String {
    let notes = notes(args.quick, args.binary.is_some());
    let quarters = &report.registration_seconds_by_quarter;
    let each = quarters.iter().sum::<f64>() * 1e3 / f64::from(report.datasets.max(1));
    let growth = quarters.last().copied().unwrap_or_default() / quarters.first().copied().unwrap_or(f64::NAN);
    let worst = report.queries.iter().map(|scan| scan.pinned_seconds / scan.plain_seconds).fold(0.0, f64::max);
    let goals = [
        goal("`ephemeral_context`", SESSION_MS, report.session_seconds * 1e3, "ms"),
        goal(&format!("each of {} registrations", report.datasets), REGISTRATION_MS, each, "ms"),
        goal("last quarter of the registrations over the first", GROWTH, growth, "×"),
        goal("`PinnedFiles` over plain Parquet, the worst query", SCAN, worst, "×"),
    ];
    let rows: String = report.queries.iter().map(row).collect();
    format!(
        "\
# Sessions and datasets

Written by `cargo xtask bench datasets`; nothing here is written by hand.
{notes}
| what | goal | measured | verdict |
|---|---|---|---|
{}

The data files of one Delta table, read as plain Parquet, as `PinnedFiles` and by the engine's Delta scan: medians of {}
runs in milliseconds, in which the sides take turns.

| query | plain | `PinnedFiles` | engine | over plain | over the engine |
|---|---|---|---|---|---|
{rows}
Measured on {}.
",
        goals.join("\n"),
        report.runs,
        machine.describe(),
    )
}

fn row(Scan { what, plain_seconds, pinned_seconds, engine_seconds }: &Scan) -> String {
    let (plain, pinned, engine) = (plain_seconds * 1e3, pinned_seconds * 1e3, engine_seconds * 1e3);
    let (over_plain, over_engine) = (pinned / plain, pinned / engine);
    format!("| {what} | {plain:.1} | {pinned:.1} | {engine:.1} | {over_plain:.3} × | {over_engine:.3} × |\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_that_is_missed_says_so() {
        let scan =
            |pinned_seconds| Scan { what: "all".to_owned(), plain_seconds: 0.1, pinned_seconds, engine_seconds: 0.2 };
        let report = |pinned_seconds, last| Report {
            runs: 3,
            session_seconds: 0.001,
            datasets: 1_000,
            registration_seconds_by_quarter: vec![0.1, 0.1, 0.1, last],
            queries: vec![scan(pinned_seconds)],
        };
        let args = Args { data: PathBuf::new(), quick: false, binary: None, out: PathBuf::new() };
        let met = render(&report(0.1, 0.1), &args, &Machine::for_tests());
        assert!(
            !met.contains("missed") && met.contains("| all | 100.0 | 100.0 | 200.0 | 1.000 × | 0.500 × |"),
            "{met}"
        );
        let missed = render(&report(0.2, 1.0), &args, &Machine::for_tests());
        assert_eq!(missed.matches("missed").count(), 3, "{missed}");
    }
}
