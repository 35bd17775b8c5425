//! `alluvium transpile`: a query in another dialect of SQL, or everything in it that the dialect has no word for.

use std::io::Read;
use std::path::Path;

use alluvium_contracts::TranspileDocument;

use super::transpile_args::TranspileArgs;
use super::{open, runtime};
use crate::args::DocumentFormat;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::signals::Stop;
use crate::terminal::Terminal;

/// Plans the query over the project, and prints it in the other dialect.
pub fn transpile(args: &TranspileArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let text = read(&args.file)?;
    let runtime = runtime()?;
    let stop = Stop::listen(terminal)
        .map_err(|error| Failure::failed("cannot listen for signals".to_owned()).because(error))?;
    let document = {
        let _inside = runtime.enter();
        let pipeline = open(&args.project, None)?;
        runtime.block_on(stop.or(pipeline.transpile(&text, &args.dialect, args.to)))
    };
    // Work that was dropped half-way may still hold a worker; nothing waits for it.
    runtime.shutdown_background();
    let document = document.map_err(Failure::stopped)??;
    match (args.format, &document.sql) {
        (DocumentFormat::Text, Some(sql)) => output::print(&format!("{sql}\n"))?,
        (DocumentFormat::Text, None) => return Err(Failure::input(refusal(&document))),
        (DocumentFormat::Json, Some(_)) => output::print_document(document)?,
        (DocumentFormat::Json, None) => {
            output::print_document(document)?;
            return Ok(Exit::Input);
        }
    }
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = match file.to_str() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        _ => std::fs::read_to_string(file),
    };
    text.map_err(|error| Failure::input(format!("cannot read the query from {}", file.display())).because(error))
}

fn refusal(document: &TranspileDocument) -> String {
    let parts = document.not_carried.iter().map(|part| format!("\n  {}: {}", part.construct, part.reason));
    format!("the query cannot be written in {}:{}", document.to, parts.collect::<String>())
}

#[cfg(test)]
mod tests {
    use alluvium_contracts::Contract;

    use super::*;

    #[test]
    fn golden_refusal_as_text() {
        insta::assert_snapshot!(refusal(&TranspileDocument::example()));
    }
}
