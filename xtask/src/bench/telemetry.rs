//! The section "Telemetry" of docs/benchmarks.md: what telemetry costs a run in which nothing has changed (the same run
//! without it, with a trace file, and with a collector on the same machine that takes everything), and what it costs one
//! cache operation.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::build::{binary, build};
use super::measure::{Bench, Times};
use super::page::{Machine, milliseconds, put_section, row, verdict};
use crate::cargo;
use crate::metadata::Metadata;
use crate::project::Alluvium;

/// A run with telemetry takes at most this many times as long as one without.
const RUN_RATIO: f64 = 1.05;

/// Most microseconds that a cache operation is measured for while nobody listens, and while it is recorded.
const SILENT_US: f64 = 1.0;
const RECORDED_US: f64 = 5.0;

/// The heading of the section, by which it is found again.
const HEADING: &str = "## Telemetry";

/// Arguments of `cargo xtask bench telemetry`.
#[derive(clap::Args)]
pub struct Args {
    /// How often each thing is measured.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Measure this `alluvium` instead of building one; the section is only printed.
    #[arg(long, value_name = "PATH")]
    alluvium: Option<PathBuf>,
    /// The page whose section is written.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    out: PathBuf,
}

/// What the example `cost` of alluvium-telemetry prints: medians of one operation.
#[derive(Deserialize)]
struct Cost {
    silent_ns: u32,
    counted_ns: u32,
    recorded_ns: u32,
}

/// All-hit runs.
struct Runs {
    off: Times,
    trace_file: Times,
    collector: Times,
}

/// Measures, prints the section, and puts it into the page of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let metadata = Metadata::load(root)?;
    let binary = match &args.alluvium {
        Some(binary) => binary.clone(),
        None => binary(&build(root, &metadata, false)?, "alluvium"),
    };
    let section = render(&runs(root, &binary, args.runs)?, &cost(root)?, &Machine::of(root, &metadata)?);
    print!("{section}");
    if args.alluvium.is_some() {
        return Ok(());
    }
    let page = root.join(&args.out);
    let earlier = std::fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    std::fs::write(&page, put_section(&earlier, HEADING, &section))
        .with_context(|| format!("cannot write {}", page.display()))
}

fn runs(root: &Path, binary: &Path, count: u32) -> Result<Runs> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let trace = scratch.path().join("trace.json");
    let trace = trace.to_str().context("a temporary path that is not UTF-8")?;
    let collector = Collector::start()?;
    let bench = Bench { root, alluvium: Alluvium::new(binary)?, plain: PathBuf::new(), runs: count };
    let times = bench.all_hit_with(&[&[], &["--trace-file", trace], &["--otlp", &collector.url]])?;
    let [off, trace_file, collector] =
        <[Times; 3]>::try_from(times).map_err(|_| anyhow::anyhow!("three ways were not measured"))?;
    Ok(Runs { off, trace_file, collector })
}

fn cost(root: &Path) -> Result<Cost> {
    let mut example = cargo::cargo(root);
    example.args([
        "run",
        "--release",
        "--locked",
        "-p",
        "alluvium-telemetry",
        "--features",
        "sdk",
        "--example",
        "cost",
    ]);
    serde_json::from_slice(&cargo::read(&mut example)?).context("the example `cost` printed something else")
}

fn render(runs: &Runs, cost: &Cost, machine: &Machine) -> String {
    let of_run = |what: &str, times: &Times| {
        let ratio = times.median() / runs.off.median();
        row(
            &format!("| all-hit run of `examples/flights` {what}, its time over that of one without |"),
            &format!("≤ {RUN_RATIO} ×"),
            &format!("{ratio:.3} ×: {} against {}", milliseconds(times), milliseconds(&runs.off)),
            &verdict(ratio, RUN_RATIO, 3, "×"),
        )
    };
    let of_operation = |what: &str, ns: u32, goal: f64| {
        let us = f64::from(ns) / 1_000.0;
        row(
            &format!("| a cache operation {what} |"),
            &format!("≤ {goal} µs"),
            &format!("{us:.2} µs"),
            &verdict(us, goal, 2, "µs"),
        )
    };
    let rows = [
        of_run("with a collector", &runs.collector),
        of_run("with a trace file", &runs.trace_file),
        of_operation("that nobody listens to", cost.silent_ns, SILENT_US),
        of_operation("that is counted", cost.counted_ns, RECORDED_US),
        of_operation("that is counted and whose span is recorded", cost.recorded_ns, RECORDED_US),
    ];
    format!(
        "\
{HEADING}

Written by `cargo xtask bench telemetry`. The collector is on the same machine and takes traces, metrics and logs.

| what | goal | measured | verdict |
|---|---|---|---|
{}

Medians of {} runs in turn, with the fastest and the slowest, and of the example `cost` of `alluvium-telemetry`, whose
exporters keep nothing.

Measured on {}.
",
        rows.join("\n"),
        runs.off.count(),
        machine.describe(),
    )
}

/// Answers every request with 200, on a thread a connection.
struct Collector {
    url: String,
}

impl Collector {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let url = format!("http://{}", listener.local_addr().context("a listener without an address")?);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that breaks off is the sender's business.
                std::thread::spawn(move || drop(answer(stream)));
            }
        });
        Ok(Self { url })
    }
}

fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut body_bytes = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                body_bytes = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(body_bytes), &mut std::io::sink())?;
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goal_is_met_or_missed_by_a_figure() {
        let times = |seconds: f64| [seconds, seconds + 0.002, seconds - 0.001].into_iter().collect();
        let runs = Runs { off: times(0.032), trace_file: times(0.0332), collector: times(0.034) };
        let cost = Cost { silent_ns: 640, counted_ns: 1_200, recorded_ns: 5_450 };
        let section = render(&runs, &cost, &Machine::for_tests());
        let verdicts: Vec<&str> = section.lines().filter(|line| line.starts_with("| a")).collect();
        assert_eq!(
            verdicts,
            [
                "| all-hit run of `examples/flights` with a collector, its time over that of one without | ≤ 1.05 × | \
                 1.062 ×: 34.0 ms (33.0–36.0) against 32.0 ms (31.0–34.0) | missed by 0.012 × |",
                "| all-hit run of `examples/flights` with a trace file, its time over that of one without | ≤ 1.05 × | \
                 1.038 ×: 33.2 ms (32.2–35.2) against 32.0 ms (31.0–34.0) | met |",
                "| a cache operation that nobody listens to | ≤ 1 µs | 0.64 µs | met |",
                "| a cache operation that is counted | ≤ 5 µs | 1.20 µs | met |",
                "| a cache operation that is counted and whose span is recorded | ≤ 5 µs | 5.45 µs | missed by 0.45 µs |",
            ]
        );
        assert!(section.contains("Medians of 3 runs in turn"), "{section}");
    }

    #[test]
    fn the_collector_answers_request_after_request() {
        let collector = Collector::start().unwrap();
        let mut stream = TcpStream::connect(collector.url.trim_start_matches("http://")).unwrap();
        for _ in 0..2 {
            stream.write_all(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").unwrap();
            let mut status = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            reader.read_line(&mut status).unwrap();
            assert_eq!(status, "HTTP/1.1 200 OK\r\n");
        }
    }
}
