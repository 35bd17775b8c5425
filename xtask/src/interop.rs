//! A run's files and signals in the hands of foreign readers: Python's `deltalake`, `jsonschema` and `opentelemetry-proto`, in
//! a venv of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::{cargo, project, python};

/// What is installed, with versions.
const REQUIREMENTS: &str = "xtask/interop/requirements.txt";
/// What reads the files, and what receives the signals.
const SCRIPTS: [&str; 2] = ["xtask/interop/read.py", "xtask/interop/otlp_run.py"];

/// Arguments of `cargo xtask interop`.
#[derive(clap::Args)]
pub struct Args {
    /// Use this `alluvium`, with the features otlp-http and otlp-grpc, instead of building one.
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

    for script in SCRIPTS {
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        project::copy_flights(root, scratch.path())?;
        let mut command = Command::new(&python);
        command.arg("-B").arg(root.join(script)).arg(binary.binary()).arg(scratch.path());
        project::plain_environment(&mut command);
        cargo::run(&mut command)?;
    }
    Ok(())
}
