//! One measurement of a write or a read, in a process of its own, so that its peak of memory is its own. On standard output,
//! one JSON line.
//!
//! - `parquet SRC OUT`: the rows of the Parquet files `SRC` written as plain Parquet by DataFusion.
//! - `delta SRC OUT [--zorder COLUMN] [--file-bytes N] [--memory-bytes N]`: the same plan, at the same parallelism and with the
//!   same Parquet properties, written as a Delta table by alluvium-write-policy.
//! - `read TABLE SQL`: what a query over the Delta table `t` reads of its files.
//!
//! `cargo xtask bench write` runs them in turn and compares.

mod memory;
mod read;
mod source;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::Value;

/// One measurement of a write or a read.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Write plain Parquet files.
    Parquet {
        /// A Parquet file, or a directory of them.
        source: PathBuf,
        /// A directory that is not there yet.
        out: PathBuf,
    },
    /// Write a Delta table.
    Delta {
        /// A Parquet file, or a directory of them.
        source: PathBuf,
        /// A directory that is not there yet.
        out: PathBuf,
        #[command(flatten)]
        layout: write::Layout,
    },
    /// Query a Delta table, which the query calls `t`.
    Read {
        /// Its directory.
        table: PathBuf,
        /// The query.
        sql: String,
    },
}

fn main() -> ExitCode {
    match work(Arguments::parse().what) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("write-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(what: What) -> Result<Value> {
    tokio::runtime::Runtime::new()?.block_on(async {
        match what {
            What::Parquet { source, out } => write::parquet(&source, &out).await,
            What::Delta { source, out, layout } => write::delta(&source, &out, &layout).await,
            What::Read { table, sql } => read::read(&table, &sql).await,
        }
    })
}
