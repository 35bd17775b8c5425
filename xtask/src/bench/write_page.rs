//! The section of docs/benchmarks.md about writes, in a layout that changes only where a figure does.

use super::page::{Machine, notes};
use super::write::{Figures, READ_FILE_BYTES, SORT_MEMORY_BYTES, Side};

const WRITE_RATIO: f64 = 1.15;
const READ_RATIO: f64 = 5.0;
const SORT_RATIO: f64 = 1.2;

/// The heading of the section, by which it is found again.
pub const HEADING: &str = "## Writes of tables";

/// The section.
pub fn render(figures: &Figures, machine: &Machine, versions: &[String]) -> String {
    let notes = notes(figures.quick, figures.given_binary);
    let [unordered, clustered] = figures.read_bytes;
    let read_ratio = unordered as f64 / clustered.max(1) as f64;
    let sort_ratio = figures.sort_peak_bytes as f64 / SORT_MEMORY_BYTES as f64;
    let mut goals: Vec<String> = figures
        .writes
        .iter()
        .filter_map(|(source, sides)| {
            let ratio = median(&sides.get("delta")?.seconds)? / median(&sides.get("parquet")?.seconds)?;
            Some(goal(
                &format!("write of {source}, its time over plain Parquet"),
                "≤",
                WRITE_RATIO,
                ratio,
                ratio <= WRITE_RATIO,
            ))
        })
        .collect();
    goals.push(goal(
        &format!(
            "selective read, files of {} MiB: bytes of the unordered table over the clustered one",
            READ_FILE_BYTES >> 20
        ),
        "≥",
        READ_RATIO,
        read_ratio,
        read_ratio >= READ_RATIO,
    ));
    goals.push(goal(
        &format!("peak memory of a sorted write over its limit of {} MiB", SORT_MEMORY_BYTES >> 20),
        "≤",
        SORT_RATIO,
        sort_ratio,
        sort_ratio <= SORT_RATIO,
    ));
    let sides: Vec<String> = figures
        .writes
        .iter()
        .flat_map(|(source, sides)| {
            let ours = sides.get("delta").and_then(|side| median(&side.seconds));
            sides.iter().map(move |(side, Side { seconds, bytes })| {
                let own = median(seconds).unwrap_or_default();
                let over = ours.map_or_else(String::new, |ours| format!("{:.2}", own / ours));
                let (least, most) = (least(seconds), most(seconds));
                let megabytes = *bytes as f64 / 1e6;
                format!("| {source} | {} | {own:.3} | {least:.3} | {most:.3} | {over} | {megabytes:.1} |", named(side))
            })
        })
        .collect();
    format!(
        "\
{HEADING}

Written by `cargo xtask bench write`, which measures all sides anew; nothing here is written by hand.
{notes}
| what | goal | measured | verdict |
|---|---|---|---|
{}

The selective read scans {unordered} bytes of the unordered table and {clustered} of the clustered one. The sorted table
has {} bytes of Parquet.

Seconds from the plan to the last byte, reading the source included; starting the process and importing libraries are not.
*over ours* is the median over that of alluvium-write-policy; *MB* are those of the Parquet files.

| source | side | median | least | most | over ours | MB |
|---|---|---|---|---|---|---|
{}

Measured on {}; {}.
",
        goals.join("\n"),
        figures.sorted_bytes,
        sides.join("\n"),
        machine.describe(),
        versions.join(", "),
    )
}

fn goal(what: &str, sign: &str, wanted: f64, measured: f64, is_met: bool) -> String {
    let verdict = if is_met { "met" } else { "missed" };
    format!("| {what} | {sign} {wanted} × | {measured:.2} × | {verdict} |")
}

fn named(side: &str) -> &str {
    match side {
        "delta" => "alluvium-write-policy",
        "parquet" => "plain Parquet by DataFusion",
        "deltalake" => "Delta by Python's deltalake",
        "polars" => "Delta by Polars",
        "duckdb" => "plain Parquet by DuckDB",
        other => other,
    }
}

fn median(seconds: &[f64]) -> Option<f64> {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn least(seconds: &[f64]) -> f64 {
    seconds.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(seconds: &[f64]) -> f64 {
    seconds.iter().copied().fold(0.0, f64::max)
}
