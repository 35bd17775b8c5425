//! `alluvium sql`: one query, its rows on standard output.

#[cfg(feature = "substrait")]
use std::io::Read as _;
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
        runtime.block_on(stop.or(answer(&pipeline, args, terminal)))
    };
    // Work that was dropped half-way may still hold a worker; nothing waits for it.
    runtime.shutdown_background();
    answered.map_err(Failure::stopped)??;
    Ok(Exit::Done)
}

async fn answer(pipeline: &Pipeline, args: &SqlArgs, terminal: &Terminal) -> Result<(), Failure> {
    let answer = match &args.substrait {
        Some(file) => substrait(pipeline, file).await?,
        None => pipeline.sql_in(args.sql(), &args.dialect).await?,
    };
    // However quiet: without it the answer passes for all there was.
    answer.notices.iter().for_each(|notice| terminal.line(&format!("note: {notice}")));
    let mut stdout = Stdout::take();
    let written = write(answer, args.format, &mut stdout).await;
    stdout.finish(written)
}

/// Answers a plan.
#[cfg(feature = "substrait")]
async fn substrait(pipeline: &Pipeline, file: &Path) -> Result<QueryAnswer, Failure> {
    let plan = match file == Path::new("-") {
        true => {
            let mut plan = Vec::new();
            std::io::stdin().lock().read_to_end(&mut plan).map(|_| plan)
        }
        false => std::fs::read(file),
    };
    let plan = plan.map_err(|error| Failure::input(format!("cannot read {}", file.display())).because(error))?;
    Ok(pipeline.substrait(plan).await?)
}

#[cfg(not(feature = "substrait"))]
async fn substrait(_: &Pipeline, _: &Path) -> Result<QueryAnswer, Failure> {
    Err(Failure::input("this build of alluvium reads no Substrait".to_owned())
        .with_hint("build it with the feature: cargo build --release --package alluvium-cli --features substrait"))
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
    if args.substrait.is_some() {
        return Ok(());
    }
    let sql = args.sql();
    // One word is never a query.
    if args.dir().is_some() || sql.contains(char::is_whitespace) || !Path::new(sql).is_dir() {
        return Ok(());
    }
    Err(Failure::input(format!("`{sql}` is a directory, and the query is missing"))
        .with_hint(format!("alluvium sql {sql} \"select …\"")))
}
