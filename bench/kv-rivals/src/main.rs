//! `kv-rivals [--quick] [--python PATH] [--dir DIR]`: measures the crate and its rivals, and prints the figures as JSON.
//!
//! Two things are measured, each side in turn in a fresh directory:
//! - *mix*: the loop of DiskCache's `benchmark_core.py` (100 keys, get:set:delete 100:10:1), by 1 and by 8 processes;
//! - *scale*: values of 1 KiB, overwritten and read at random among 10⁴, 10⁵ and 10⁶ entries.
//!
//! `cargo xtask bench kv` runs this and writes the page. With `--python`, that interpreter runs `diskcache.py` for the
//! side of python-diskcache. `--quick` does a hundredth of the work: it shows that everything runs, and its figures
//! mean nothing. `--only NAME` measures the sides whose names hold NAME.

#![expect(clippy::disallowed_methods, reason = "time is what is measured, and the rivals take no injected clock")]

mod engines;
mod figures;
mod mix;
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
const ENTRIES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Measured operations of each kind at each size; fewer for engines that sync each commit.
const SCALE_OPERATIONS: u64 = 50_000;

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
    if args.first().is_some_and(|arg| arg == mix::WORKER) {
        return mix::worker(&args[1..]);
    }
    let options = parse(args)?;
    let (mut mixes, mut scales) = (Vec::new(), Vec::new());
    let wanted = |kind: &&Kind| options.only.as_ref().is_none_or(|only| kind.name().contains(only.as_str()));
    for kind in Kind::ALL.iter().filter(wanted) {
        for processes in PROCESSES {
            mixes.push(mix::measure(*kind, processes, &options.dir, scaled(MIX_OPERATIONS, options.quick))?);
        }
    }
    for kind in Kind::ALL.iter().filter(wanted) {
        let operations = if kind.syncs() { SCALE_OPERATIONS / 50 } else { SCALE_OPERATIONS };
        for entries in ENTRIES {
            let (entries, operations) = (scaled(entries, options.quick), scaled(operations, options.quick));
            scales.push(scale::measure(*kind, entries, operations, &options.dir)?);
        }
    }
    if let Some(python) = &options.python {
        let theirs = diskcache(python, &options)?;
        mixes.extend(theirs["mix"].as_array().context("no mix")?.iter().cloned());
        scales.extend(theirs["scale"].as_array().context("no scale")?.iter().cloned());
    }
    println!("{}", json!({ "quick": options.quick, "mix": mixes, "scale": scales }));
    Ok(())
}

fn scaled(operations: u64, quick: bool) -> u64 {
    if quick { (operations / 100).max(50) } else { operations }
}

/// Runs the side of python-diskcache, which prints the same figures.
fn diskcache(python: &Path, options: &Options) -> Result<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("diskcache_side.py");
    let numbers = json!({
        "dir": options.dir,
        "mix_operations": scaled(MIX_OPERATIONS, options.quick),
        "processes": PROCESSES,
        "entries": ENTRIES.map(|entries| scaled(entries, options.quick)),
        "scale_operations": scaled(SCALE_OPERATIONS, options.quick),
    });
    let output = Command::new(python)
        .arg(script)
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
