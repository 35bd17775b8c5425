//! The commands, one module each.

mod cache;
pub mod cache_args;
mod contracts;
mod doctor;
mod init;
mod kv;
mod lineage;
mod plan;
mod run;
mod runs;
pub mod runs_args;
mod sql;
mod table;
pub mod table_args;
mod transpile;
pub mod transpile_args;

use std::path::Path;

use alluvium_runs::{OpenOptions, Pipeline, Project};
use tokio::runtime::Runtime;

use crate::args::{Command, ProjectArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::telemetry::Telemetry;
use crate::terminal::Terminal;

/// Does what was asked.
pub fn dispatch(command: Command, telemetry: &Telemetry, terminal: &Terminal) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => run::run(&args, telemetry, terminal),
        Command::Plan(args) => plan::plan(&args, terminal),
        Command::Runs(args) => runs::runs(&args, terminal),
        Command::Sql(args) => sql::sql(&args, terminal),
        Command::Transpile(args) => transpile::transpile(&args, terminal),
        Command::Lineage(args) => lineage::lineage(&args, terminal),
        Command::Init(args) => init::init(&args, terminal),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Contracts(args) => contracts::contracts(&args.command),
        Command::Table(args) => table::table(&args, terminal),
        Command::Cache(args) => cache::cache(&args, terminal),
        Command::Kv(args) => kv::kv(args, terminal),
    }
}

/// The runtime that queries run on: a worker thread a core.
fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(crate::panics::WORKER)
        // Planning recurses with the depth of a query; tokio's 2 MiB are too few for deep ones.
        .thread_stack_size(8 * 1024 * 1024)
        .build()
        .map_err(|error| Failure::failed("cannot start worker threads".to_owned()).because(error))
}

/// Opens the project of `args`. Within [`runtime`]: stores may register with it.
fn open(args: &ProjectArgs, positional: Option<&Path>) -> Result<Pipeline, Failure> {
    open_with(args, positional, args.open_options())
}

/// Like [`open`], with options of the command's own.
fn open_with(args: &ProjectArgs, positional: Option<&Path>, options: OpenOptions) -> Result<Pipeline, Failure> {
    let project = Project::load(args.directory(positional))?;
    Ok(Pipeline::open(project, options)?)
}
