//! The section "Telemetry" of docs/benchmarks.md: what telemetry costs a run in which nothing has changed (the same run
//! without it, with a trace file, with a collector on the same machine that takes everything, and with collectors that are stopped,
//! hang or refuse), and what it costs one cache operation. That such collectors cost no row of the ledgers, over HTTP and gRPC, is for
//! `cargo xtask interop`.

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

/// A collector that does not work costs a run at most this, in milliseconds.
const FAULT_MS: f64 = 100.0;

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
    /// With collectors that do not work: as [`FAULTS`] has them.
    faults: [Times; 3],
}

/// What is wrong with collectors.
const FAULTS: [&str; 3] = ["that is stopped", "that never answers", "that answers 503"];

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
    let collector = Collector::start(Kind::Takes)?;
    let faults = [Collector::stopped()?, Collector::start(Kind::Hangs)?, Collector::start(Kind::Refuses)?];
    let [stopped, hangs, refuses] = faults.each_ref().map(|collector| ["--otlp", collector.url.as_str()]);
    let bench = Bench { root, alluvium: Alluvium::new(binary)?, plain: PathBuf::new(), runs: count };
    let takes = ["--otlp", collector.url.as_str()];
    let times = bench.all_hit_with(&[&[], &["--trace-file", trace], &takes, &stopped, &hangs, &refuses])?;
    let [off, trace_file, collector, faults @ ..] =
        <[Times; 6]>::try_from(times).map_err(|_| anyhow::anyhow!("six ways were not measured"))?;
    Ok(Runs { off, trace_file, collector, faults })
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
    let of_fault = |(what, times): (&str, &Times)| {
        let cost_ms = 1_000.0 * (times.median() - runs.off.median());
        row(
            &format!("| what a collector {what} adds to that run |"),
            &format!("≤ {FAULT_MS} ms"),
            &format!("{cost_ms:.1} ms: {} against {}", milliseconds(times), milliseconds(&runs.off)),
            &verdict(cost_ms, FAULT_MS, 1, "ms"),
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
    let mut rows = vec![of_run("with a collector", &runs.collector), of_run("with a trace file", &runs.trace_file)];
    rows.extend(FAULTS.into_iter().zip(&runs.faults).map(of_fault));
    rows.extend([
        of_operation("that nobody listens to", cost.silent_ns, SILENT_US),
        of_operation("that is counted", cost.counted_ns, RECORDED_US),
        of_operation("that is counted and whose span is recorded", cost.recorded_ns, RECORDED_US),
    ]);
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

/// What a collector does with a request.
#[derive(Clone, Copy)]
enum Kind {
    Takes,
    Hangs,
    Refuses,
}

/// A collector on this machine, with a thread a connection.
struct Collector {
    url: String,
}

impl Collector {
    fn start(kind: Kind) -> Result<Self> {
        let (listener, collector) = Self::bind()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || match kind {
                    // A connection that breaks off is the sender's business.
                    Kind::Takes => drop(answer(stream, "200 OK")),
                    Kind::Refuses => drop(answer(stream, "503 Service Unavailable")),
                    Kind::Hangs => drop(std::io::copy(&mut { stream }, &mut std::io::sink())),
                });
            }
        });
        Ok(collector)
    }

    /// A port that nobody listens on.
    fn stopped() -> Result<Self> {
        Ok(Self::bind()?.1)
    }

    fn bind() -> Result<(TcpListener, Self)> {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let url = format!("http://{}", listener.local_addr().context("a listener without an address")?);
        Ok((listener, Self { url }))
    }
}

fn answer(stream: TcpStream, status: &str) -> std::io::Result<()> {
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
        write!(writer, "HTTP/1.1 {status}\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goal_is_met_or_missed_by_a_figure() {
        let times = |seconds: f64| [seconds, seconds + 0.002, seconds - 0.001].into_iter().collect();
        let faults = [times(0.033), times(0.131), times(0.140)];
        let runs = Runs { off: times(0.032), trace_file: times(0.0332), collector: times(0.034), faults };
        let cost = Cost { silent_ns: 640, counted_ns: 1_200, recorded_ns: 5_450 };
        let section = render(&runs, &cost, &Machine::for_tests());
        let verdicts: Vec<&str> =
            section.lines().filter(|line| line.starts_with("| a") || line.starts_with("| what a")).collect();
        assert_eq!(
            verdicts,
            [
                "| all-hit run of `examples/flights` with a collector, its time over that of one without | ≤ 1.05 × | \
                 1.062 ×: 34.0 ms (33.0–36.0) against 32.0 ms (31.0–34.0) | missed by 0.012 × |",
                "| all-hit run of `examples/flights` with a trace file, its time over that of one without | ≤ 1.05 × | \
                 1.038 ×: 33.2 ms (32.2–35.2) against 32.0 ms (31.0–34.0) | met |",
                "| what a collector that is stopped adds to that run | ≤ 100 ms | \
                 1.0 ms: 33.0 ms (32.0–35.0) against 32.0 ms (31.0–34.0) | met |",
                "| what a collector that never answers adds to that run | ≤ 100 ms | \
                 99.0 ms: 131.0 ms (130.0–133.0) against 32.0 ms (31.0–34.0) | met |",
                "| what a collector that answers 503 adds to that run | ≤ 100 ms | \
                 108.0 ms: 140.0 ms (139.0–142.0) against 32.0 ms (31.0–34.0) | missed by 8.0 ms |",
                "| a cache operation that nobody listens to | ≤ 1 µs | 0.64 µs | met |",
                "| a cache operation that is counted | ≤ 5 µs | 1.20 µs | met |",
                "| a cache operation that is counted and whose span is recorded | ≤ 5 µs | 5.45 µs | missed by 0.45 µs |",
            ]
        );
        assert!(section.contains("Medians of 3 runs in turn"), "{section}");
    }

    fn connect(collector: &Collector) -> std::io::Result<TcpStream> {
        TcpStream::connect(collector.url.trim_start_matches("http://"))
    }

    #[test]
    fn a_collector_answers_request_after_request_or_refuses_or_hangs_or_is_not_there() {
        for (kind, expected) in
            [(Kind::Takes, "HTTP/1.1 200 OK\r\n"), (Kind::Refuses, "HTTP/1.1 503 Service Unavailable\r\n")]
        {
            let mut stream = connect(&Collector::start(kind).unwrap()).unwrap();
            for _ in 0..2 {
                stream.write_all(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").unwrap();
                let mut status = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                reader.read_line(&mut status).unwrap();
                assert_eq!(status, expected);
            }
        }
        let mut stream = connect(&Collector::start(Kind::Hangs).unwrap()).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        stream.write_all(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0]).is_err(), "no answer within the time");
        assert!(connect(&Collector::stopped().unwrap()).is_err());
    }
}
