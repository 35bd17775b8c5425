//! `kv-rivals [--quick] [--python PATH] [--dir DIR]`: measures the crate and its rivals, and prints the figures as JSON.
//!
//! Three things are measured, in fresh directories:
//! - *mix*: the loop of DiskCache's `benchmark_core.py` (100 keys, get:set:delete 100:10:1), by 1 and by 8 processes, all
//!   sides in turn, and then again; of each side the round counts whose total is the median;
//! - *scale*: values of 1 KiB, overwritten and read at random among 10⁴, 10⁵ and 10⁶ entries; sides whose ratio is a
//!   goal take turns many times, so that whatever else the machine does meets both;
//! - *profile*: in which functions the time of our get and set goes, if there is `perf`.
//!
//! `cargo xtask bench kv` runs this and writes the page. With `--python`, that interpreter runs `diskcache_side.py` for
//! the side of python-diskcache. `--quick` does a hundredth of the work: it shows that everything runs, and its figures
//! mean nothing. `--only NAME` measures the sides whose names hold NAME.

#![expect(clippy::disallowed_methods, reason = "time is what is measured, and the rivals take no injected clock")]

mod engines;
mod figures;
mod mix;
mod profile;
mod random;
mod scale;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::engines::Kind;

/// DiskCache's own numbers.
const MIX_OPERATIONS: u64 = 100_000;
const PROCESSES: [u32; 2] = [1, 8];
/// How often each side of the mix is measured: an odd number, so that one of them is the median.
const ROUNDS: usize = 3;
const ENTRIES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Measured operations of each kind at each size; fewer for engines that sync each commit.
const SCALE_OPERATIONS: u64 = 50_000;
/// The sides of `scale` that take turns. The others are measured one after the other.
const TURNS: [&[Kind]; 2] = [&[Kind::Cache, Kind::Heed], &[Kind::CacheFull, Kind::HeedThreeTables]];

struct Options {
    quick: bool,
    python: Option<PathBuf>,
    dir: PathBuf,
    only: Option<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kv-rivals: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(mix::WORKER) => return mix::worker(&args[1..]),
        Some(profile::WORKER) => return profile::worker(&args[1..]),
        _ => {}
    }
    let options = parse(args)?;
    let (mixes, scales, profiles) =
        (mixes(&options)?, scales(&options)?, profile::measure(&options.dir, options.quick)?);
    let rounds = ROUNDS;
    println!(
        "{}",
        json!({ "quick": options.quick, "rounds": rounds, "mix": mixes, "scale": scales, "profile": profiles })
    );
    Ok(())
}

impl Options {
    fn wants(&self, kind: Kind) -> bool {
        self.only.as_ref().is_none_or(|only| kind.name().contains(only.as_str()))
    }

    fn scaled(&self, operations: u64) -> u64 {
        if self.quick { (operations / 100).max(50) } else { operations }
    }
}

/// The mix of every side: one round after the other, so that a slow minute of the machine does not hit one side only.
fn mixes(options: &Options) -> Result<Vec<Value>> {
    let operations = options.scaled(MIX_OPERATIONS);
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        eprintln!("mix, round {round} of {ROUNDS}");
        let mut sides = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| options.wants(*kind)) {
            for processes in PROCESSES {
                sides.push(mix::measure(kind, processes, &options.dir, operations)?);
            }
        }
        let theirs = json!({ "dir": options.dir, "mix_operations": operations, "processes": PROCESSES });
        sides.extend(diskcache(options, "mix", &theirs)?);
        rounds.push(sides);
    }
    Ok(median_rounds(rounds))
}

/// Of each side the round whose total time is the median. The rounds have the same sides in the same order.
fn median_rounds(rounds: Vec<Vec<Value>>) -> Vec<Value> {
    let mut sides: Vec<Vec<Value>> = vec![Vec::new(); rounds.first().map_or(0, Vec::len)];
    for round in rounds {
        sides.iter_mut().zip(round).for_each(|(side, figures)| side.push(figures));
    }
    let total = |figures: &Value| figures["total_seconds"].as_f64().unwrap_or_default();
    let median = |mut side: Vec<Value>| {
        side.sort_by(|one, other| total(one).total_cmp(&total(other)));
        // A write that was dropped in any round was dropped.
        let drops = side.iter().filter_map(|figures| figures["drops"].as_u64()).max();
        let mut figures = side.swap_remove(side.len() / 2);
        if let Some(drops) = drops {
            figures["drops"] = drops.into();
        }
        figures
    };
    sides.into_iter().map(median).collect()
}

fn scales(options: &Options) -> Result<Vec<Value>> {
    let alone = Kind::ALL.into_iter().filter(|kind| TURNS.iter().all(|group| !group.contains(kind)));
    let groups = TURNS.iter().map(|group| group.to_vec()).chain(alone.map(|kind| vec![kind]));
    let mut scales = Vec::new();
    for group in groups {
        let group: Vec<Kind> = group.into_iter().filter(|kind| options.wants(*kind)).collect();
        for entries in ENTRIES {
            scales.extend(scale::measure(
                &group,
                options.scaled(entries),
                options.scaled(SCALE_OPERATIONS),
                &options.dir,
            )?);
        }
    }
    let theirs = json!({
        "dir": options.dir,
        "entries": ENTRIES.map(|entries| options.scaled(entries)),
        "scale_operations": options.scaled(SCALE_OPERATIONS),
    });
    scales.extend(diskcache(options, "scale", &theirs)?);
    Ok(scales)
}

/// Runs the side of python-diskcache, if there is Python: it prints the same figures.
fn diskcache(options: &Options, what: &str, numbers: &Value) -> Result<Vec<Value>> {
    let Some(python) = &options.python else { return Ok(Vec::new()) };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("diskcache_side.py");
    let output = Command::new(python)
        .arg(script)
        .arg(what)
        .arg(numbers.to_string())
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", python.display()))?;
    if !output.status.success() {
        bail!("the side of python-diskcache failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the side of python-diskcache printed no JSON")
}

fn parse(args: Vec<String>) -> Result<Options> {
    let mut options = Options { quick: false, python: None, dir: std::env::temp_dir(), only: None };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--python" => options.python = Some(value()?.into()),
            "--dir" => options.dir = value()?.into(),
            "--only" => options.only = Some(value()?),
            _ => bail!("usage: kv-rivals [--quick] [--python PATH] [--dir DIR] [--only NAME]"),
        }
    }
    Ok(options)
}
