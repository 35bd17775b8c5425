//! What telemetry costs a run in which nothing has changed: the same run without it, with a trace file, and with a
//! collector on the same machine that takes everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::measure::{Bench, Times};
use crate::project::Alluvium;
use crate::{cargo, metadata};

/// A run with telemetry takes at most this many times as long as one without.
const GOAL: f64 = 1.05;

/// Arguments of `cargo xtask bench telemetry`.
#[derive(clap::Args)]
pub struct Args {
    /// How often each thing is measured.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Measure this `alluvium` instead of building one.
    #[arg(long, value_name = "PATH")]
    alluvium: Option<PathBuf>,
}

/// Measures, and prints a line a way of telling.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let binary = match &args.alluvium {
        Some(binary) => binary.clone(),
        None => build(root)?,
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let trace = scratch.path().join("trace.json");
    let collector = Collector::start()?;
    let ways: [(&str, Vec<&str>); 3] = [
        ("off", Vec::new()),
        ("trace file", vec!["--trace-file", trace.to_str().context("a temporary path that is not UTF-8")?]),
        ("collector", vec!["--otlp", &collector.url]),
    ];
    let bench = Bench { root, alluvium: Alluvium::new(&binary)?, plain: PathBuf::new(), runs: args.runs };
    let times = bench.all_hit_with(&ways.each_ref().map(|(_, arguments)| arguments.as_slice()))?;
    let off = times.first().map_or(f64::NAN, Times::median);
    for ((name, _), times) in ways.iter().zip(&times) {
        let (median, (fastest, slowest)) = (times.median(), times.range());
        let ratio = median / off;
        let verdict = if ratio <= GOAL { "met" } else { "missed" };
        println!(
            "{name:10}  {:6.1} ms ({:.1}–{:.1})  {ratio:.3} ×  {verdict}",
            1_000.0 * median,
            1_000.0 * fastest,
            1_000.0 * slowest
        );
    }
    Ok(())
}

fn build(root: &Path) -> Result<PathBuf> {
    cargo::run(cargo::cargo(root).args(["build", "--release", "--locked", "-p", "alluvium-cli"]))?;
    let target = metadata::Metadata::load(root)?.target_directory;
    Ok(target.join("release").join(format!("alluvium{}", std::env::consts::EXE_SUFFIX)))
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
