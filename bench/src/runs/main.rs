//! Past runs, made up, and what recording one costs. On standard output, one JSON line.
//!
//! - `seed ROOT --runs N --rows M`: adds `N` runs to the ledgers of a cache root, each with `M` rows in the inventory and a manifest.
//! - `record ROOT --rows M [--drain]`: the seconds that a run's ledgers take from its beginning to its end, and to the end of the drain
//!   that a run which has written something does.
//!
//! `cargo xtask bench runs` lays them below a pipeline and measures that.

use std::path::PathBuf;
use std::process::ExitCode;

use alluvium_contracts::{
    CacheInventoryEntry, CacheKey, CachePolicy, CacheRunSummary, CacheScope, Contract as _, LedgerEvent,
    PlanFingerprint, RunId, RunManifest, RunResult, SchemaHash, ViewResult,
};
use alluvium_ledgers::Ledgers;
use alluvium_profile::{CacheRoot, KvKind};
use alluvium_telemetry::Seam;
use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

/// Views that made-up runs have; a run with more rows has them of several outputs.
const VIEWS: u64 = 100;
/// How many runs wait in the outbox before one drains them: most runs write nothing.
const DRAIN_EVERY: u64 = 10;

/// Past runs, made up.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Add past runs.
    Seed {
        /// The cache root.
        root: PathBuf,
        /// How many.
        #[arg(long)]
        runs: u64,
        /// Rows of each in the inventory.
        #[arg(long)]
        rows: u64,
    },
    /// Record one run.
    Record {
        /// The cache root.
        root: PathBuf,
        /// Its rows in the inventory.
        #[arg(long)]
        rows: u64,
        /// Drain the outbox into the ledgers, as a run does that has written something.
        #[arg(long)]
        drain: bool,
    },
}

fn main() -> ExitCode {
    match work(Arguments::parse().what) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("runs-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(what: What) -> Result<Value> {
    let seam = Seam::system();
    tokio::runtime::Runtime::new()?.block_on(async {
        match what {
            What::Seed { root, runs, rows } => {
                let ledgers = open(&root, &seam)?;
                for number in 0..runs {
                    record(&ledgers, &seam, number, rows)?;
                    if (number + 1).is_multiple_of(DRAIN_EVERY) {
                        ledgers.drain().await?;
                    }
                }
                ledgers.drain().await?;
                Ok(json!({"runs": runs}))
            }
            What::Record { root, rows, drain } => {
                let ledgers = open(&root, &seam)?;
                // What waits already is no part of it.
                ledgers.drain().await?;
                let watch = seam.stopwatch();
                record(&ledgers, &seam, 0, rows)?;
                if drain {
                    ledgers.drain().await?;
                }
                Ok(json!({"seconds": watch.elapsed_ms() / 1_000.0}))
            }
        }
    })
}

fn open(root: &std::path::Path, seam: &Seam) -> Result<Ledgers> {
    let root = CacheRoot::open(root, seam)?;
    Ok(Ledgers::open(root.ledgers(), root.kv(KvKind::Queue)?.clone(), seam.clone())?)
}

fn record(ledgers: &Ledgers, seam: &Seam, number: u64, rows: u64) -> Result<()> {
    let (run_id, unix_ms) = (seam.run_id(), seam.unix_ms());
    let manifest =
        RunManifest { run_id, started_unix_ms: unix_ms, finished_unix_ms: unix_ms, ..RunManifest::example() };
    let run = ledgers.begin_run(run_id, Some("made up"), Some(&manifest))?;
    let events: Vec<LedgerEvent> =
        (0..rows).map(|row| LedgerEvent::CacheInventory(inventory(run_id, unix_ms, (number, rows), row))).collect();
    ledgers.record(&events)?;
    let summary = CacheRunSummary {
        run_id,
        profile_name: Some("made up".to_owned()),
        started_unix_ms: unix_ms,
        finished_unix_ms: unix_ms + 60,
        result: RunResult::Succeeded,
        hit_count: rows - writes(number, rows),
        write_count: writes(number, rows),
        computed_count: 0,
        skipped_count: 0,
        error_count: 0,
        saved_ms: 100.0,
    };
    Ok(ledgers.end_run(run, &summary, &[LedgerEvent::RunManifests(Box::new(manifest))])?)
}

/// In one run of ten a tenth of the views is computed.
fn writes(number: u64, rows: u64) -> u64 {
    if number.is_multiple_of(10) { rows.div_ceil(10) } else { 0 }
}

fn inventory(run_id: RunId, event_time_unix_ms: i64, (number, rows): (u64, u64), row: u64) -> CacheInventoryEntry {
    let view = row % VIEWS;
    let is_write = row < writes(number, rows);
    let identity = format!("{view} {}", number / 10);
    CacheInventoryEntry {
        run_id,
        event_time_unix_ms,
        cache_scope: CacheScope::View,
        view_name: format!("view_{view:03}"),
        output_name: None,
        cache_policy: CachePolicy::DeltaStaging,
        result: if is_write { ViewResult::Write } else { ViewResult::Hit },
        reason: is_write.then(|| format!("source events: version {number} → {}", number + 1)),
        cache_key: Some(CacheKey::of(identity.as_bytes())),
        plan_fingerprint: Some(PlanFingerprint::of(&view.to_be_bytes())),
        schema_hash: Some(SchemaHash::of(&view.to_be_bytes())),
        cache_path: Some(format!("view_cache/view_{view:03}__{identity}")),
        delta_version: Some(0),
        row_count: Some(1_000 * view),
        file_count: Some(1),
        size_bytes: Some(40_000 * view),
        duration_ms: if is_write { 25.0 } else { 0.2 },
        saved_ms: (!is_write).then_some(25.0),
        plan_artifact_id: None,
    }
}
