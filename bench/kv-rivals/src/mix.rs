//! The loop of DiskCache's `tests/benchmark_core.py`, by one or several processes.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engines::Kind;
use crate::figures::Times;
use crate::random::Random;

/// The first argument of a worker process.
pub const WORKER: &str = "mix-worker";
/// As there: 100 keys, values of up to a hundred times a number's digits, the first operations not counted.
const KEYS: u64 = 100;
const VALUE_REPEATS: u64 = 100;
const WARM_UP: u64 = 1_000;
const GETS: f64 = 0.900;
const GETS_AND_SETS: f64 = 0.990;

/// What one process measured.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Figures {
    get: Times,
    set: Times,
    delete: Times,
}

/// Measures an engine by `processes` processes of `operations` each, which begin at once.
pub fn measure(kind: Kind, processes: u32, dir: &Path, operations: u64) -> Result<Value> {
    if processes > 1 && !kind.shares() {
        let engine = kind.name();
        return Ok(json!({ "engine": engine, "processes": processes, "refused": "one process only" }));
    }
    let operations = if kind.syncs() { operations / 20 } else { operations };
    let scratch = tempfile::tempdir_in(dir).context("cannot make a directory")?;
    drop(kind.open(scratch.path())?);
    let mut workers = Vec::new();
    for number in 0..processes {
        let worker = Command::new(std::env::current_exe()?)
            .args([WORKER, kind.name(), &number.to_string(), &operations.to_string()])
            .arg(scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        workers.push(worker);
    }
    let mut outputs = Vec::new();
    for worker in &mut workers {
        let mut output = BufReader::new(worker.stdout.take().context("no output")?);
        let mut ready = String::new();
        output.read_line(&mut ready)?;
        ensure!(ready == "ready\n", "a worker of {} did not begin", kind.name());
        outputs.push(output);
    }
    let begun = Instant::now();
    for worker in &mut workers {
        drop(worker.stdin.take());
    }
    let (mut sum, mut wall) = (Figures::default(), Duration::ZERO);
    for (mut worker, mut output) in workers.into_iter().zip(outputs) {
        let mut done = String::new();
        output.read_line(&mut done)?;
        wall = wall.max(begun.elapsed());
        let mut text = String::new();
        output.read_to_string(&mut text)?;
        if !worker.wait()?.success() {
            bail!("a worker of {} failed", kind.name());
        }
        let figures: Figures = serde_json::from_str(&text).context("a worker printed no figures")?;
        sum.get.merge(figures.get);
        sum.set.merge(figures.set);
        sum.delete.merge(figures.delete);
    }
    let (get, set, delete) = (sum.get.summary(), sum.set.summary(), sum.delete.summary());
    let total = get.total_seconds + set.total_seconds + delete.total_seconds;
    eprintln!(
        "mix, {processes} processes, {}: get {:.1}, set {:.1}, delete {:.1} µs",
        kind.name(),
        get.p50,
        set.p50,
        delete.p50
    );
    Ok(json!({
        "engine": kind.name(),
        "processes": processes,
        "durability": kind.durability(),
        "operations": operations,
        "drops": set.misses,
        "get": get,
        "set": set,
        "delete": delete,
        "total_seconds": total,
        "wall_seconds": wall.as_secs_f64(),
    }))
}

/// A worker process: says `ready`, waits for the end of its input, works, says `done` and prints its figures.
pub fn worker(args: &[String]) -> Result<()> {
    let [name, number, operations, dir] = args else { bail!("a worker wants four arguments") };
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).context("no such engine")?;
    let (seed, operations): (u64, u64) = (number.parse()?, operations.parse()?);
    let mut engine = kind.open(Path::new(dir))?;
    let (mut random, mut figures) = (Random::new(seed), Figures::default());
    println!("ready");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    let warm_up = WARM_UP.min(operations / 10);
    for count in 0..operations {
        if count == warm_up {
            figures = Figures::default();
        }
        let key = random.below(KEYS).to_string().into_bytes();
        let value = count.to_string().into_bytes().repeat(1 + random.below(VALUE_REPEATS - 1) as usize);
        let choice = random.fraction();
        if choice < GETS {
            let found = figures.get.time(|| engine.get(&key))?;
            figures.get.misses += u64::from(found.is_none());
        } else if choice < GETS_AND_SETS {
            figures.set.time(|| engine.set(&key, &value))?;
        } else {
            let there = figures.delete.time(|| engine.delete(&key))?;
            figures.delete.misses += u64::from(!there);
        }
    }
    println!("done");
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}
