//! `alluvium sql`: one query, its rows on standard output.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use alluvium_runs::{Pipeline, QueryAnswer};

use super::{open, runtime};
use crate::args::{RowFormat, SqlArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Stdout;
use crate::rows::RowWriter;
use crate::signals::Stop;
use crate::terminal::Terminal;

/// Answers the query.
pub fn sql(args: &SqlArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let stop = Stop::listen(terminal)
        .map_err(|error| Failure::failed("cannot listen for signals".to_owned()).because(error))?;
    let answered = {
        let _inside = runtime.enter();
        let pipeline = open(&args.project, args.dir()).map_err(|failure| hinted(failure, args))?;
        runtime.block_on(stop.or(answer(&pipeline, args)))
    };
    // Work that was dropped half-way may still hold a worker; nothing waits for it.
    runtime.shutdown_background();
    answered.map_err(Failure::stopped)??;
    Ok(Exit::Done)
}
