//! A run's files in the hands of foreign readers: Python's `deltalake` and `jsonschema`, in a venv of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::{cargo, contracts, project};

/// What is installed, with versions.
const REQUIREMENTS: &str = "xtask/interop/requirements.txt";
/// What reads and compares.
const SCRIPT: &str = "xtask/interop/read.py";

/// Arguments of `cargo xtask interop`.
#[derive(clap::Args)]
pub struct Args {
    /// Use this `alluvium` instead of building one.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// Run the example and let others read it, in the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let venv = Metadata::load(root)?.target_directory.join("interop-venv");
    let python = install(root, &venv)?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => contracts::debug_binary(root)?,
    };
    let binary = project::Alluvium::new(&binary)?;

    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    project::copy_flights(root, scratch.path())?;
    let mut command = Command::new(python);
    command.arg("-B").arg(root.join(SCRIPT)).arg(binary.binary()).arg(scratch.path());
    project::plain_environment(&mut command);
    cargo::run(&mut command)
}

/// Makes the venv unless it is there with exactly these requirements, and returns its Python.
fn install(root: &Path, venv: &Path) -> Result<PathBuf> {
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted =
        std::fs::read_to_string(root.join(REQUIREMENTS)).with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    // Written last, so that an interrupted installation is made anew.
    let installed = venv.join("requirements.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    cargo::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))
        .context("Python 3.11 or newer with its venv module is needed")?;
    cargo::run(
        Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(root.join(REQUIREMENTS)),
    )?;
    std::fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(python)
}
