//! The figures of docs/benchmarks-kv.md: `bench/kv-rivals`, a workspace of its own, built, run and turned into a page.

mod goals;
mod page;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::page::Machine;
use crate::metadata::Metadata;
use crate::{cargo, python};
use report::Report;

const RIVALS: &str = "bench/kv-rivals";
const REQUIREMENTS: &str = "bench/kv-rivals/requirements.txt";

/// Arguments of `cargo xtask bench kv`.
#[derive(clap::Args)]
pub struct Args {
    /// Do a hundredth of the work, to see that everything runs; the page says so.
    #[arg(long)]
    quick: bool,
    /// Leave python-diskcache out, and with it the goals against it.
    #[arg(long)]
    without_python: bool,
    /// Measure in this directory instead of the system's temporary one: the device matters.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The page to write; the figures go beside it, as JSON.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks-kv.md")]
    out: PathBuf,
    /// Write the page of these figures, measured earlier.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// Measure, and write the page of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let metadata = Metadata::load(root)?;
    let page = root.join(&args.out);
    // Before minutes of measuring would be lost for want of it.
    if let Some(dir) = page.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let text = match &args.from {
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => measure(root, &metadata, args)?,
    };
    let report: Report = serde_json::from_slice(&text).context("these are not figures of kv-rivals")?;
    if args.from.is_none() {
        write(&page.with_extension("json"), &serde_json::to_string_pretty(&report)?)?;
    }
    let rendered = page::render(&report, &Machine::of(root, &metadata)?, &versions(root)?);
    write(&page, &rendered)?;
    print!("{rendered}");
    Ok(())
}

fn measure(root: &Path, metadata: &Metadata, args: &Args) -> Result<Vec<u8>> {
    let target = metadata.target_directory.join("kv-rivals");
    let rivals = root.join(RIVALS);
    let mut build = cargo::cargo(&rivals);
    cargo::run(build.args(["build", "--release", "--locked", "--target-dir"]).arg(&target))?;
    let mut command = Command::new(target.join("release").join(format!("kv-rivals{}", std::env::consts::EXE_SUFFIX)));
    if args.quick {
        command.arg("--quick");
    }
    if let Some(dir) = &args.dir {
        command.arg("--dir").arg(dir);
    }
    if !args.without_python {
        command.arg("--python").arg(python::venv(root, REQUIREMENTS, &target.join("venv"))?);
    }
    let figures = cargo::read(&mut command)?;
    // Whatever becomes of the page: `--from` makes it of these.
    std::fs::write(target.join("figures.json"), &figures).context("cannot keep the figures")?;
    Ok(figures)
}

/// The versions of the sides, from their lock file and the requirements.
fn versions(root: &Path) -> Result<Vec<String>> {
    let lock = std::fs::read_to_string(root.join(RIVALS).join("Cargo.lock")).context("cannot read the rivals' lock")?;
    let lock: toml::Table = lock.parse().context("the rivals' lock file is no TOML")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("the rivals' lock names no package")?;
    let text = |package: &toml::Value, key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let rust = ["heed", "sled", "redb", "fjall", "rusqlite"].into_iter().filter_map(|name| {
        let package = packages.iter().find(|package| text(package, "name").as_deref() == Some(name))?;
        Some(format!("{name} {}", text(package, "version")?))
    });
    let python = std::fs::read_to_string(root.join(REQUIREMENTS)).context("cannot read the rivals' requirements")?;
    Ok(rust.chain(python.lines().map(|line| line.replace("==", " "))).collect())
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
