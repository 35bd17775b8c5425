//! What the check runs for seconds, run for as long as asked.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use anyhow::Result;

use crate::cargo::{self, WHOLE_WORKSPACE};

/// Arguments of `cargo xtask soak`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Random pipelines of the differential test, four edits each.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    cases: u32,
}

/// What else there is to run long.
#[derive(clap::Subcommand)]
enum What {
    /// Kill processes that write stores, caches and collections, and see that nothing is lost or left.
    Kv(KvArgs),
}

/// Arguments of `cargo xtask soak kv`.
#[derive(clap::Args)]
struct KvArgs {
    /// Kills of each test: of the store, of the cache, and of each collection.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// When and whom they hit; a failure prints it. Default: another each time.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Run what is asked for: without a subcommand, compare pipelines with and without their caches; a difference is printed
/// with the smallest pipeline that shows it.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    if let Some(What::Kv(args)) = &args.what {
        return kv(root, args);
    }
    let mut command = cargo::cargo(root);
    command.arg("test").args(WHOLE_WORKSPACE).args(["--test", "suite", "differential", "--", "--nocapture"]);
    command.env("ALLUVIUM_DIFFERENTIAL_CASES", args.cases.to_string());
    cargo::run(&mut command)
}

fn kv(root: &Path, args: &KvArgs) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(args.kills));
    eprintln!("{} kills, repeated by --seed {seed}", args.kills);
    let mut command = cargo::cargo(root);
    command.args(["test", "--locked", "-p", "alluvium-disk-kv-cache", "--all-features"]);
    // By name: every test in which processes are killed says so in its own.
    command.args(["--test", "integration", "--test", "collections", "kill", "--", "--nocapture"]);
    command.env("ALLUVIUM_KV_KILLS", args.kills.to_string()).env("ALLUVIUM_KV_SEED", seed.to_string());
    cargo::run(&mut command)
}
