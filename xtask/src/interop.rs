//! A run's files in the hands of foreign readers: Python's `deltalake` and `jsonschema`, in a venv of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::{cargo, project, python};

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
    let python = python::venv(root, REQUIREMENTS, &venv)?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => project::debug_binary(root)?,
    };
    let binary = project::Alluvium::new(&binary)?;

    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    project::copy_flights(root, scratch.path())?;
    let mut command = Command::new(python);
    command.arg("-B").arg(root.join(SCRIPT)).arg(binary.binary()).arg(scratch.path());
    project::plain_environment(&mut command);
    cargo::run(&mut command)
}
