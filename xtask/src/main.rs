//! Developer tasks, run as `cargo xtask TASK`: the whole check and its parts.
//!
//! `ci` is what must pass before a change lands; every other task is one of its steps, or a check too
//! slow to be one. Tasks orchestrate cargo and git and hold no product logic.

mod bench;
mod cargo;
mod ci;
mod consumers;
mod contracts;
mod features;
mod fuzz;
mod interop;
mod layers;
mod metadata;
mod project;
mod python;
mod snapshots;
mod soak;
mod stopwatch;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer tasks of the Alluvium workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the whole check, in order, stopping at the first failure.
    Ci(ci::Args),
    /// Compare the dependency graph with the declared layers.
    Layers,
    /// Check module docs, file lengths, licences, manifests and committed text.
    Tidy,
    /// Regenerate the golden snapshots, or check that they are current.
    Snapshots(snapshots::Args),
    /// Write the contract schemas to docs/contracts, or check that they are current.
    Contracts(contracts::Args),
    /// Fuzz the decoders for a bounded time, with nightly.
    Fuzz(fuzz::Args),
    /// Build each library crate from a throwaway consumer, then package it.
    Consumers(consumers::Args),
    /// Lint and test crates whose features leave code out, with every combination of them.
    Features,
    /// Measure the release binary and write docs/benchmarks.md; `bench kv`: the key-value crate and its rivals;
    /// `bench contracts`: encoding and decoding.
    Bench(bench::Args),
    /// Read what a run writes with foreign readers: Python's deltalake and jsonschema.
    Interop(interop::Args),
    /// Run long what the check runs for seconds: `cache`, `kv`, `write`.
    Soak(soak::Args),
}

fn main() -> ExitCode {
    let outcome = cargo::workspace_root().and_then(|root| match Cli::parse().task {
        Task::Ci(args) => ci::run(&root, &args),
        Task::Layers => layers::run(&root),
        Task::Tidy => tidy::run(&root),
        Task::Snapshots(args) => snapshots::run(&root, &args),
        Task::Contracts(args) => contracts::run(&root, &args),
        Task::Fuzz(args) => fuzz::run(&root, &args),
        Task::Consumers(args) => consumers::run(&root, &args),
        Task::Features => features::run(&root),
        Task::Bench(args) => bench::run(&root, &args),
        Task::Interop(args) => interop::run(&root, &args),
        Task::Soak(args) => soak::run(&root, &args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
