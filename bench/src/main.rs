//! `plain DIR OUT VIEW…`: what a careful person would write with DataFusion alone to run the pipeline folder `DIR`.
//!
//! Registers the sources of `DIR/alluvium.toml`, then runs the views in the order given, each written as Parquet
//! below `OUT` and read back from there by the views after it, then writes the outputs. No caching, no identities,
//! no Delta log. On standard output, one JSON line: seconds, and the rows that each view and output wrote.
//!
//! `cargo xtask bench` computes the order and compares the time with that of `alluvium run`.

mod folder;
mod run;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};

use crate::folder::Folder;

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plain: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the rival uses nothing of ours, and so no injected clock; nothing is computed from the time"
)]
fn work() -> Result<()> {
    let start = std::time::Instant::now();
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(dir), Some(out)) = (args.next(), args.next()) else {
        bail!("usage: plain DIR OUT VIEW…");
    };
    let order: Vec<String> = args.map(|view| view.to_string_lossy().into_owned()).collect();
    let dir = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
    let folder = Folder::read(&dir)?;
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let wrote = tokio::runtime::Runtime::new()
        .context("cannot start the runtime")?
        .block_on(run::run(&folder, &order, &out, cores))?;
    println!(
        "{}",
        serde_json::json!({
            "seconds": start.elapsed().as_secs_f64(),
            "views": wrote.views,
            "outputs": wrote.outputs,
        })
    );
    Ok(())
}
