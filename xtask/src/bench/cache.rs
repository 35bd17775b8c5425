//! docs/benchmarks-cache.md: what lookups, fingerprints, stored plans, entries and their collection cost.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::build::bench;
use super::page::{Machine, goal, notes};
use crate::cargo;
use crate::metadata::Metadata;

/// What finding an entry and binding its rows may take, in milliseconds.
const LOOKUP_MS: f64 = 1.0;
/// What the identity of a TPC-H query may take beside planning it, in milliseconds.
const FINGERPRINT_MS: f64 = 1.0;
/// The time of computing a view into an entry over that of writing its plan as plain Parquet.
const MATERIALISING: f64 = 1.15;
/// The time of a scan of an entry over that of its files as plain Parquet.
const SCAN: f64 = 1.05;
/// The time of taking a stored plan over that of planning: beyond it, stored plans stay off by default.
const REPLAY: f64 = 1.0;

/// Arguments of `cargo xtask bench cache`.
#[derive(clap::Args)]
pub struct Args {
    /// Do little, without optimising anything, to see that everything runs; only print the page.
    #[arg(long)]
    quick: bool,
    /// Measure with this `cache-bench` instead of building one; the page says so.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks-cache.md")]
    out: PathBuf,
}

/// What `bench/src/cache/main.rs` prints.
#[derive(Deserialize)]
struct Report {
    runs: u32,
    views: u32,
    lookup_seconds: f64,
    plans: Vec<Plan>,
    rows: u64,
    tables: Tables,
    entries: u32,
    collection_seconds: f64,
}

/// One query of TPC-H.
#[derive(Deserialize)]
struct Plan {
    query: String,
    plan_seconds: f64,
    bundle_seconds: f64,
    /// None where the plan cannot be stored.
    replay_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct Tables {
    cached_seconds: f64,
    plain_seconds: f64,
    scans: Vec<Scan>,
}

#[derive(Deserialize)]
struct Scan {
    what: String,
    plain_seconds: f64,
    published_seconds: f64,
    cached_seconds: f64,
    sifted_seconds: f64,
}

/// Measure, print the page, and write it into the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let metadata = Metadata::load(root)?;
    let (mut bench, dir) = bench(root, &metadata, args.binary.as_deref(), args.quick, "cache-bench")?;
    bench.arg(root.join("tests/tpch")).arg(&dir);
    if args.quick {
        bench.args(["--views", "5", "--rows", "20000", "--entries", "20", "--runs", "1"]);
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

impl Plan {
    fn fingerprint_seconds(&self) -> f64 {
        self.bundle_seconds - self.plan_seconds
    }

    fn row(&self) -> String {
        let Self { query, plan_seconds, bundle_seconds, replay_seconds } = self;
        let replay = match replay_seconds {
            Some(replay) => format!("{:.3} | {:.3} ×", replay * 1e3, replay / bundle_seconds),
            None => "– | –".to_owned(),
        };
        let (plan, bundle, fingerprint) = (plan_seconds * 1e3, bundle_seconds * 1e3, self.fingerprint_seconds() * 1e3);
        format!("| {query} | {plan:.3} | {bundle:.3} | {fingerprint:.3} | {replay} |\n")
    }
}

fn render(report: &Report, args: &Args, machine: &Machine) -> String {
    let notes = notes(args.quick, args.binary.is_some());
    let Report { runs, views, rows, tables, entries, .. } = report;
    let fingerprint = report.plans.iter().map(Plan::fingerprint_seconds).fold(0.0, f64::max);
    let scan = tables.scans.iter().map(|scan| scan.cached_seconds / scan.plain_seconds).fold(0.0, f64::max);
    let stored = report.plans.iter().filter_map(|plan| Some((plan.replay_seconds?, plan.bundle_seconds)));
    let (replayed, bundled) = stored.fold((0.0, 0.0), |sums, plan| (sums.0 + plan.0, sums.1 + plan.1));
    let goals = [
        goal(
            &format!("finding one of {views} entries and binding its rows"),
            LOOKUP_MS,
            report.lookup_seconds * 1e3,
            "ms",
        ),
        goal(
            "the identity of a TPC-H query beside its planning, the worst query",
            FINGERPRINT_MS,
            fingerprint * 1e3,
            "ms",
        ),
        goal(
            "a view computed into an entry over plain Parquet",
            MATERIALISING,
            tables.cached_seconds / tables.plain_seconds,
            "×",
        ),
        goal("an entry scanned over its files as plain Parquet, the worst query", SCAN, scan, "×"),
        goal("a bundle of a stored plan over one that is planned, all queries", REPLAY, replayed / bundled, "×"),
    ];
    let plans: String = report.plans.iter().map(Plan::row).collect();
    let scans: String = tables.scans.iter().map(row).collect();
    format!(
        "\
# The caches

Written by `cargo xtask bench cache`; nothing here is written by hand. What a hit costs a whole run is in
[benchmarks.md](benchmarks.md).
{notes}
| what | goal | measured | verdict |
|---|---|---|---|
{}

Collecting {entries} entries at once took {:.2} s, {:.3} ms an entry.

Medians of {runs} runs in milliseconds, in which the sides take turns. *Bundle* is planning and identity from the SQL; *stored* is the
same from a plan in the KV kind `plan`, whose identity is derived anew. Queries without it have a plan that the engine's encoding cannot
carry.

| query | plan | bundle | identity | stored | over bundle |
|---|---|---|---|---|---|
{plans}
A view of {rows} source rows, computed and kept in {:.1} ms; its plan written as plain Parquet in {:.1} ms. Its entry, scanned beside
its files as plain Parquet, once with text as views of bytes, as the engine reads it by default, and once in the types that the view
has published, where text is `Utf8`. *Sifted* is the entry where the profile has `parquet.pushdown_filters` and
`parquet.reorder_filters`, so that filters are applied while files are decoded:

| query | plain | plain, published types | entry | over plain | over published types | sifted | over plain |
|---|---|---|---|---|---|---|---|
{scans}
Measured on {}.
",
        goals.join("\n"),
        report.collection_seconds,
        report.collection_seconds * 1e3 / f64::from((*entries).max(1)),
        tables.cached_seconds * 1e3,
        tables.plain_seconds * 1e3,
        machine.describe(),
    )
}

fn row(Scan { what, plain_seconds, published_seconds, cached_seconds, sifted_seconds }: &Scan) -> String {
    let milliseconds = [plain_seconds, published_seconds, cached_seconds, sifted_seconds].map(|seconds| seconds * 1e3);
    let [plain, published, cached, sifted] = milliseconds;
    format!(
        "| {what} | {plain:.1} | {published:.1} | {cached:.1} | {:.3} × | {:.3} × | {sifted:.1} | {:.3} × |\n",
        cached / plain,
        cached / published,
        sifted / plain
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(slower: f64) -> Report {
        let plan = |query: &str, replay_seconds| Plan {
            query: query.to_owned(),
            plan_seconds: 0.002,
            bundle_seconds: 0.002 + 0.000_5 * slower,
            replay_seconds,
        };
        Report {
            runs: 3,
            views: 200,
            lookup_seconds: 0.000_5 * slower,
            plans: vec![plan("q01", Some(0.001 * slower * slower)), plan("q02", None)],
            rows: 100,
            tables: Tables {
                cached_seconds: 0.1 * slower,
                plain_seconds: 0.1,
                scans: vec![Scan {
                    what: "all".to_owned(),
                    plain_seconds: 0.1,
                    published_seconds: 0.125,
                    cached_seconds: 0.1 * slower,
                    sifted_seconds: 0.05,
                }],
            },
            entries: 10,
            collection_seconds: 0.1,
        }
    }

    #[test]
    fn a_goal_that_is_missed_says_so() {
        let args = Args { quick: false, binary: None, out: PathBuf::new() };
        let met = render(&report(1.0), &args, &Machine::for_tests());
        assert!(!met.contains("missed"), "{met}");
        assert!(met.contains("| q01 | 2.000 | 2.500 | 0.500 | 1.000 | 0.400 × |"), "{met}");
        assert!(met.contains("| q02 | 2.000 | 2.500 | 0.500 | – | – |"), "{met}");
        assert!(
            met.contains("0.10 s, 10.000 ms an entry")
                && met.contains("| all | 100.0 | 125.0 | 100.0 | 1.000 × | 0.800 × | 50.0 | 0.500 × |"),
            "{met}"
        );
        let missed = render(&report(3.0), &args, &Machine::for_tests());
        assert_eq!(missed.matches("missed").count(), 5, "{missed}");
    }
}
