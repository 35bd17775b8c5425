//! `alluvium sql`: one query, its rows on standard output.

use std::io::Write;
use std::path::Path;

use alluvium_runs::{Pipeline, QueryAnswer};
use futures::StreamExt;

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
    refuse_directory(args)?;
    let runtime = runtime()?;
    let stop = Stop::listen(terminal)
        .map_err(|error| Failure::failed("cannot listen for signals".to_owned()).because(error))?;
    let answered = {
        let _inside = runtime.enter();
        let pipeline = open(&args.project, args.dir())?;
        runtime.block_on(stop.or(answer(&pipeline, args)))
    };
    // Work that was dropped half-way may still hold a worker; nothing waits for it.
    runtime.shutdown_background();
    answered.map_err(Failure::stopped)??;
    Ok(Exit::Done)
}

async fn answer(pipeline: &Pipeline, args: &SqlArgs) -> Result<(), Failure> {
    let answer = pipeline.sql_in(args.sql(), &args.dialect).await?;
    let mut stdout = Stdout::take();
    let written = write(answer, args.format, &mut stdout).await;
    stdout.finish(written)
}

async fn write(mut answer: QueryAnswer, format: RowFormat, out: impl Write) -> Result<(), Failure> {
    let mut rows = RowWriter::new(format, &answer.schema, out)?;
    while let Some(batch) = answer.batches.next().await {
        rows.write(batch.map_err(|error| Failure::failed("the query failed".to_owned()).because(error))?)?;
    }
    rows.finish()
}

/// `alluvium sql DIR` is a query forgotten: say so, rather than that `DIR` is bad SQL.
fn refuse_directory(args: &SqlArgs) -> Result<(), Failure> {
    let sql = args.sql();
    // One word is never a query.
    if args.dir().is_some() || sql.contains(char::is_whitespace) || !Path::new(sql).is_dir() {
        return Ok(());
    }
    Err(Failure::input(format!("`{sql}` is a directory, and the query is missing"))
        .with_hint(format!("alluvium sql {sql} \"select …\"")))
}
