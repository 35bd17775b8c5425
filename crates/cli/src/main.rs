//! `alluvium`: run, plan and query a pipeline of SQL views with durable, exact caches.
//!
//! Arguments, progress, tables and exit codes; everything else is `alluvium-runs`, so that a library user misses
//! nothing. What a person asked for goes to standard output, everything else to standard error.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod commands;
mod exit;
#[cfg(feature = "failpoints")]
mod failpoints;
mod failure;
mod human;
mod kv;
mod logging;
mod output;
mod panics;
mod progress;
mod report;
mod rows;
mod signals;
mod table;
mod telemetry;
mod terminal;

use std::process::ExitCode;

use crate::args::Cli;
use crate::exit::Exit;
use crate::telemetry::Telemetry;
use crate::terminal::Terminal;

fn main() -> ExitCode {
    let cli = match Cli::from_arguments(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and versions are "errors" of clap's that go to standard output with code 0. A reader that has
            // gone away is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() { Exit::Input } else { Exit::Done }.into();
        }
    };
    let terminal = Terminal::detect();
    let told = |failure: failure::Failure| {
        failure.print(&terminal);
        failure.exit()
    };
    panics::contained(|| start(cli, &terminal).unwrap_or_else(told)).unwrap_or_else(told).into()
}

fn start(cli: Cli, terminal: &Terminal) -> Result<Exit, failure::Failure> {
    panics::tell_as_errors();
    let telemetry = Telemetry::start(&cli, terminal)?;
    #[cfg(feature = "failpoints")]
    failpoints::arm()?;
    commands::dispatch(cli.command, &telemetry, terminal)
}
