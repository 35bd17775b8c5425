//! `alluvium plan`: what a run would do, and why.

use super::{open, runtime};
use crate::args::{DocumentFormat, PlanArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::signals::Stop;
use crate::terminal::Terminal;
use crate::{output, report, table};

/// Plans the pipeline and prints the decisions.
pub fn plan(args: &PlanArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let stop = Stop::listen(terminal)
        .map_err(|error| Failure::failed("cannot listen for signals".to_owned()).because(error))?;
    let document = {
        let _inside = runtime.enter();
        let pipeline = open(&args.project, args.dir.as_deref())?;
        runtime.block_on(stop.or(pipeline.plan(&args.select)))
    };
    // Work that was dropped half-way may still hold a worker; nothing waits for it.
    runtime.shutdown_background();
    let document = document.map_err(Failure::stopped)??;
    match args.format {
        DocumentFormat::Text => {
            output::print(&report::plan(&document, &table::Style::of_stdout(terminal)))?;
        }
        DocumentFormat::Json => output::print_document(document)?,
    }
    Ok(Exit::Done)
}
