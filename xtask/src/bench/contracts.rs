//! The section "Contracts" of docs/benchmarks.md: canonical forms and strict decoding beside the plain crates.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::page::{Machine, put_section};
use crate::cargo;
use crate::metadata::Metadata;

/// How many times the plain crate's time is allowed.
const GOAL: f64 = 2.0;

/// The heading of the section, by which it is found again.
const HEADING: &str = "## Contracts";

/// Arguments of `cargo xtask bench contracts`.
#[derive(clap::Args)]
pub struct Args {
    /// Do a fiftieth of the work without optimising it, to see that everything runs; only print the section.
    #[arg(long)]
    quick: bool,
    /// The page whose section is written.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    out: PathBuf,
}

/// What `crates/contracts/benches/artifact.rs` prints.
#[derive(Deserialize)]
struct Report {
    rounds: u32,
    calls: u32,
    sizes: Sizes,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Sizes {
    json_bytes: u64,
    messagepack_bytes: u64,
}

/// Medians, in microseconds a call.
#[derive(Deserialize)]
struct Row {
    what: String,
    plain_us: f64,
    ours_us: f64,
}

/// Measure, print the section, and put it into the page of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut bench = cargo::cargo(root);
    bench.args(["bench", "--locked", "-p", "alluvium-contracts", "--bench", "artifact"]);
    if args.quick {
        bench.args(["--profile", "dev", "--", "--quick"]);
    }
    let printed = cargo::read(&mut bench)?;
    let report: Report = serde_json::from_slice(&printed).context("the benchmark printed something else")?;
    let section = render(&report, &Machine::of(root, &Metadata::load(root)?)?);
    print!("{section}");
    if args.quick {
        return Ok(());
    }
    let page = root.join(&args.out);
    let earlier = std::fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    std::fs::write(&page, put_section(&earlier, HEADING, &section))
        .with_context(|| format!("cannot write {}", page.display()))
}

fn render(report: &Report, machine: &Machine) -> String {
    let rows: String = report.rows.iter().map(row).collect();
    format!(
        "\
{HEADING}

Written by `cargo xtask bench contracts`: an artifact of {} bytes of JSON, {} of MessagePack, through serde_json and
rmp-serde alone, and through the canonical forms and the strict decoders of `alluvium-contracts`.

| what | goal | plain | ours | measured | verdict |
|---|---|---|---|---|---|
{rows}
Medians of {} rounds of {} calls, in which the sides take turns.

Measured on {}.
",
        report.sizes.json_bytes,
        report.sizes.messagepack_bytes,
        report.rounds,
        report.calls,
        machine.describe(),
    )
}

fn row(Row { what, plain_us, ours_us }: &Row) -> String {
    let ratio = ours_us / plain_us;
    // With a digit more than what is measured is told in, so that what is missed by a hair does not look like the goal.
    let verdict = if ratio <= GOAL { "met".to_owned() } else { format!("missed by {:.3} ×", ratio - GOAL) };
    format!("| {what} | ≤ {GOAL} × | {plain_us:.3} µs | {ours_us:.3} µs | {ratio:.3} × | {verdict} |\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_replaced_where_it_stands() {
        let report = Report {
            rounds: 3,
            calls: 20,
            sizes: Sizes { json_bytes: 1101, messagepack_bytes: 990 },
            rows: vec![
                Row { what: "JSON, encode".to_owned(), plain_us: 1.0, ours_us: 1.5 },
                Row { what: "JSON, decode".to_owned(), plain_us: 2.0, ours_us: 4.001 },
            ],
        };
        let section = render(&report, &Machine::for_tests());
        assert!(section.contains("| JSON, encode | ≤ 2 × | 1.000 µs | 1.500 µs | 1.500 × | met |\n"), "{section}");
        assert!(
            section.contains("| JSON, decode | ≤ 2 × | 2.000 µs | 4.001 µs | 2.001 × | missed by 0.001 × |\n"),
            "{section}"
        );

        let page = put_section("# Benchmarks\n\nAll.\n", HEADING, &section);
        assert_eq!(page, format!("# Benchmarks\n\nAll.\n\n{section}"));
        let longer = format!("{page}\n## More\n\nAnd so on.\n");
        let again = put_section(&longer, HEADING, &section.replace("1.500", "1.750"));
        assert_eq!(again, longer.replace("1.500", "1.750"));
    }
}
