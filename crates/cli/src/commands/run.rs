//! `alluvium run`: bring views and outputs up to date.

use alluvium_runs::{OpenOptions, RunOptions};
use alluvium_telemetry::TraceContext;

use super::{open_with, runtime};
use crate::args::{DocumentFormat, RunArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::{Lines, Live, Nothing, Show};
use crate::signals::Stop;
use crate::telemetry::Telemetry;
use crate::terminal::Terminal;
use crate::{output, report, table};

/// Runs the pipeline, shows its progress, and prints its report.
pub fn run(args: &RunArgs, telemetry: &Telemetry, terminal: &Terminal) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let stop = Stop::listen(terminal)
        .map_err(|error| Failure::failed("cannot listen for signals".to_owned()).because(error))?;
    let options = RunOptions {
        select: args.select.clone(),
        fresh: args.fresh,
        keep_going: args.keep_going,
        shadow_percent: args.shadow,
        parent: args.traceparent.clone().or_else(TraceContext::from_environment),
    };
    let show: Box<dyn Show> = if telemetry.is_quiet() {
        Box::new(Nothing)
    } else if args.format == DocumentFormat::Text && terminal.is_live() {
        Box::new(Live::new(terminal))
    } else {
        Box::new(Lines::new(terminal))
    };
    let document = {
        let _inside = runtime.enter();
        let diagnostics = Some(telemetry.diagnostics().clone());
        let opening = OpenOptions { diagnostics, ..args.project.open_options() };
        let pipeline = open_with(&args.project, args.dir.as_deref(), opening)?;
        runtime.block_on(pipeline.run(options, show.observer(), stop.token()))
    };
    // Before anything can fail: a query that does not yield may still hold a worker, and nothing waits for it.
    runtime.shutdown_background();
    show.end();
    let document = document.map_err(Failure::from)?;
    let exit = Exit::of_run(&document, stop.signal());
    match args.format {
        DocumentFormat::Text => {
            output::print(&report::run(&document, &table::Style::of_stdout(terminal)))?;
        }
        DocumentFormat::Json => output::print_document(document)?,
    }
    Ok(exit)
}
