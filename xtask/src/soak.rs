//! What the check runs for seconds, run for as long as asked.

use std::path::Path;

use anyhow::Result;

use crate::cargo::{self, WHOLE_WORKSPACE};

/// Arguments of `cargo xtask soak`.
#[derive(clap::Args)]
pub struct Args {
    /// Random pipelines of the differential test, four edits each.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    cases: u32,
}

/// Compare pipelines with and without their caches; a difference is printed with the smallest pipeline that shows it.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let mut command = cargo::cargo(root);
    command.arg("test").args(WHOLE_WORKSPACE).args(["--test", "suite", "differential", "--", "--nocapture"]);
    command.env("ALLUVIUM_DIFFERENTIAL_CASES", args.cases.to_string());
    cargo::run(&mut command)
}
