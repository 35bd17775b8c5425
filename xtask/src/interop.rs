//! A run's files and signals, written tables, the answers to TPC-H's queries and to what Ibis and SQLGlot emit, in the hands
//! of others: Python's `deltalake`, `pyarrow`, `jsonschema`, `opentelemetry-proto` and `duckdb`, in a venv of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::{cargo, project, python};

/// What is installed, with versions.
const REQUIREMENTS: &str = "xtask/interop/requirements.txt";
/// What reads the files, what receives the signals, and what asks in SQL of others.
const SCRIPTS: [&str; 3] = ["xtask/interop/read.py", "xtask/interop/otlp_run.py", "xtask/interop/dialects.py"];
/// What reads the tables that write policies made.
const WRITE_POLICY: &str = "xtask/interop/write_policy.py";
/// The schema that says which fields those have.
const WRITE_POLICY_SCHEMA: &str = "docs/contracts/delta_write_policy.v1.schema.json";
/// What compares the answers to TPC-H's queries, and where those are.
const TPCH: [&str; 2] = ["xtask/interop/tpch.py", "tests/tpch"];

/// Arguments of `cargo xtask interop`.
#[derive(clap::Args)]
pub struct Args {
    /// Use this `alluvium`, with the features otlp-http and otlp-grpc, instead of building one; `examples/modes` of
    /// alluvium-write-policy and `examples/tpch` of alluvium-tests have to lie beside it.
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
    answer_tpch(root, &python, binary.binary())?;
    read_tables(root, &python, binary.binary())
}

/// All of TPC-H over every provider, and as one pipeline over Parquet and over Delta.
fn answer_tpch(root: &Path, python: &Path, binary: &Path) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let [script, queries] = TPCH.map(|path| root.join(path));
    let mut command = Command::new(python);
    command.arg("-B").arg(script).arg(binary).arg(queries).arg(scratch.path());
    project::plain_environment(&mut command);
    cargo::run(&mut command)
}

/// One table for each field of a write policy, made by a pipeline, and one for each mode.
fn read_tables(root: &Path, python: &Path, binary: &Path) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let (modes, project) = (scratch.path().join("modes"), scratch.path().join("project"));
    std::fs::create_dir(&project).with_context(|| format!("cannot make {}", project.display()))?;
    let example = binary.with_file_name("examples").join(format!("modes{}", std::env::consts::EXE_SUFFIX));
    cargo::run(Command::new(example).arg(&modes))?;
    let mut command = Command::new(python);
    command
        .arg("-B")
        .arg(root.join(WRITE_POLICY))
        .arg(binary)
        .arg(&modes)
        .arg(root.join(WRITE_POLICY_SCHEMA))
        .arg(&project);
    project::plain_environment(&mut command);
    cargo::run(&mut command)
}
