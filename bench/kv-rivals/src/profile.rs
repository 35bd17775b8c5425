//! Where the time of our operations goes: samples of a process that does nothing else, by `perf`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::engines::{Engine, Kind};
use crate::random::Random;
use crate::scale::{VALUE_BYTES, key, values};

/// The first argument of the process that is looked at.
pub const WORKER: &str = "profile-worker";
/// What is looked at: the sides of the goals that are ratios.
const LOOKED_AT: [(Kind, &str); 4] =
    [(Kind::Cache, "get"), (Kind::Heed, "get"), (Kind::CacheFull, "set"), (Kind::HeedThreeTables, "set")];
const ENTRIES: u64 = 100_000;
const SECONDS: &str = "3";
/// In Hz. No round number, so as not to keep step with a timer.
const RATE: &str = "3989";
/// Functions with less of the time are left out, in percent.
const LEAST: f64 = 2.0;

/// The functions in which the time of each operation goes, with their shares in percent; nothing without `perf`.
pub fn measure(dir: &Path, quick: bool) -> Result<Vec<Value>> {
    if Command::new("perf").arg("version").stdout(Stdio::null()).status().is_err() {
        eprintln!("profile: there is no perf");
        return Ok(Vec::new());
    }
    let entries = if quick { ENTRIES / 100 } else { ENTRIES };
    LOOKED_AT.iter().map(|(kind, operation)| look(*kind, operation, entries, dir)).collect()
}

fn look(kind: Kind, operation: &str, entries: u64, dir: &Path) -> Result<Value> {
    let scratch = tempfile::tempdir_in(dir).context("cannot make a directory")?;
    let store = scratch.path().join("store");
    std::fs::create_dir(&store)?;
    let samples = scratch.path().join("samples");
    let mut worker = Command::new(std::env::current_exe()?)
        .args([WORKER, kind.name(), operation, &entries.to_string()])
        .arg(store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a worker")?;
    let mut ready = String::new();
    BufReader::new(worker.stdout.take().context("no output")?).read_line(&mut ready)?;
    ensure!(ready == "ready\n", "the worker of {} did not begin", kind.name());
    let recorded = Command::new("perf")
        .args(["record", "--quiet", "--event", "cpu-clock", "--freq", RATE, "--pid", &worker.id().to_string()])
        .arg("--output")
        .arg(&samples)
        .args(["--", "sleep", SECONDS])
        .stderr(Stdio::null())
        .status()?;
    drop(worker.stdin.take());
    ensure!(worker.wait()?.success(), "the worker of {} failed", kind.name());
    ensure!(recorded.success(), "perf could not sample: {recorded}");
    let report = Command::new("perf")
        .args(["report", "--stdio", "--quiet", "--no-children", "--fields", "overhead,sym", "--input"])
        .arg(&samples)
        .stderr(Stdio::null())
        .output()?;
    eprintln!("profile, {operation}, {}", kind.name());
    let functions = functions(&String::from_utf8_lossy(&report.stdout));
    Ok(json!({ "engine": kind.name(), "operation": operation, "entries": entries, "functions": functions }))
}

/// The functions of a report, whose lines are ` 20.20%  [.] name`, those of the kernel marked by a `k`.
fn functions(report: &str) -> Vec<Value> {
    let line = |line: &str| {
        let (share, rest) = line.trim().split_once("%")?;
        let (place, name) = rest.trim().split_once("] ")?;
        let share = share.parse::<f64>().ok().filter(|share| *share >= LEAST)?;
        Some(json!({ "name": name.trim(), "percent": share, "kernel": place == "[k" }))
    };
    report.lines().filter_map(line).collect()
}

/// The process that is looked at: fills an engine, says `ready`, and does one operation until its input ends.
pub fn worker(args: &[String]) -> Result<()> {
    let [name, operation, entries, dir] = args else { bail!("a profile worker wants four arguments") };
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).context("no such engine")?;
    let entries = entries.parse()?;
    let mut engine = kind.open(Path::new(dir))?;
    engine.fill(entries, &mut values(entries))?;
    let keys: Vec<Vec<u8>> = (0..entries).map(key).collect();
    println!("ready");
    std::io::stdout().flush()?;
    let ended = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    let mut random = Random::new(entries);
    while !ended.is_finished() {
        let key = &keys[random.below(entries) as usize];
        work(&mut *engine, operation, key)?;
    }
    Ok(())
}

fn work(engine: &mut dyn Engine, operation: &str, key: &[u8]) -> Result<()> {
    match operation {
        "get" => ensure!(engine.get(key)?.is_some(), "a key is gone"),
        _ => engine.set(key, &[0xA5; VALUE_BYTES])?,
    }
    Ok(())
}
