//! What the check runs for seconds, run for as long as asked.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::cargo::{self, WHOLE_WORKSPACE};

/// Arguments of `cargo xtask soak`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

/// What there is to run long.
#[derive(clap::Subcommand)]
enum What {
    /// Compare random pipelines with and without their caches, and kill processes that compute the same views.
    Cache(CacheArgs),
    /// Delete, cut off and change every file of a cache root, one at a time, and run over what is left.
    Damage(DamageArgs),
    /// Kill processes that write stores, caches and collections, and see that nothing is lost or left.
    Kv(KvArgs),
    /// Race processes that write one table: appends, then with overwrites, merges and a maintainer, then killing some.
    Write(WriteArgs),
}

/// Arguments of `cargo xtask soak cache`.
#[derive(clap::Args)]
struct CacheArgs {
    /// Cases of the differential test: edits of random pipelines, four of each, after which everything is compared.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    cases: u32,
    /// Processes to kill, eight at a time on one pipeline.
    #[arg(long, value_name = "N", default_value_t = 60)]
    kills: u64,
    /// Build with optimisations first, which pays for many cases only.
    #[arg(long)]
    release: bool,
    /// Which pipelines and edits, and when kills hit; a failure prints it. Default: others each time.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Arguments of `cargo xtask soak damage`.
#[derive(clap::Args)]
struct DamageArgs {
    /// Build with optimisations first.
    #[arg(long)]
    release: bool,
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

/// Arguments of `cargo xtask soak write`.
#[derive(clap::Args)]
struct WriteArgs {
    /// Processes that write at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    processes: u32,
    /// Writes of each.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=999))]
    writes: u32,
    /// Processes that are killed in the last part.
    #[arg(long, value_name = "N", default_value_t = 3)]
    kills: u32,
}

/// Run what is asked for.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    match &args.what {
        What::Cache(args) => cache(root, args),
        What::Damage(args) => damage(root, args),
        What::Kv(args) => kv(root, args),
        What::Write(args) => write(root, args),
    }
}

/// A difference is printed with the smallest pipeline that shows it.
fn cache(root: &Path, args: &CacheArgs) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| RandomState::new().hash_one(args.cases));
    eprintln!("{} cases and {} kills, repeated by --seed {seed}", args.cases, args.kills);
    // The parts of it run beside each other: one alone leaves all cores but one idle.
    let mut differential = suite(root, args.release, "differential::");
    differential.env("ALLUVIUM_DIFFERENTIAL_CASES", args.cases.to_string());
    differential.env("ALLUVIUM_DIFFERENTIAL_SEED", seed.to_string());
    cargo::run(&mut differential)?;
    // One after the other: each has processes enough.
    let mut owners = suite(root, args.release, "owners::");
    owners.arg("--test-threads=1");
    owners.env("ALLUVIUM_KILLS", args.kills.to_string()).env("ALLUVIUM_KILL_SEED", seed.to_string());
    cargo::run(&mut owners)
}

/// Tests of the whole, and what they print.
fn suite(root: &Path, release: bool, filter: &str) -> Command {
    let mut command = cargo::cargo(root);
    command.arg("test").args(WHOLE_WORKSPACE);
    if release {
        command.arg("--release");
    }
    command.args(["--test", "suite", filter, "--", "--nocapture"]);
    command
}

fn damage(root: &Path, args: &DamageArgs) -> Result<()> {
    cargo::run(suite(root, args.release, "damage::").env("ALLUVIUM_DAMAGE", "all"))
}

fn write(root: &Path, args: &WriteArgs) -> Result<()> {
    ensure!(args.kills < args.processes, "--kills {} leaves none of {} processes to go on", args.kills, args.processes);
    let mut command = cargo::cargo(root);
    command.arg("test").args(WHOLE_WORKSPACE).args(["--lib", "tests::processes::", "--", "--nocapture"]);
    // One after the other: each has processes enough.
    command.arg("--test-threads=1");
    command.env("ALLUVIUM_RACE_PROCESSES", args.processes.to_string());
    command.env("ALLUVIUM_RACE_WRITES", args.writes.to_string());
    command.env("ALLUVIUM_RACE_KILLS", args.kills.to_string());
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
