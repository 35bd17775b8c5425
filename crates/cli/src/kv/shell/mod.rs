//! `alluvium kv DIR shell`: one JSON request a line on standard input, one answer a line on standard output.
//!
//! docs/reference/kv-shell.md is the reference, and a test replays it. Requests are done one after the other, on one
//! thread. What cannot be done is an answer too: only the end of the input, or of those who read the answers, ends the
//! shell; with it goes every lock that it held.

mod answer;
mod cache;
mod coordination;
mod deque;
mod index;
mod json;
mod lines;
mod operations;
mod queue;
mod request;
mod session;
mod stampede;
mod transactions;
mod wait;

use std::io::{self, Read, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use self::lines::{Line, Lines};
use self::session::Session;
use super::args::{OpenArgs, ShellArgs};
use super::fault::{Fault, kind};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Stdout;

/// The whole answer to a request.
#[derive(Serialize)]
struct Answer {
    id: Value,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Result(Value),
    Error(Fault),
}

/// Answers requests until there are no more, or nobody reads the answers.
pub fn run(dir: &Path, open: OpenArgs, args: &ShellArgs) -> Result<Exit, Failure> {
    let mut session = Session::new(dir, open, args.owner.clone());
    let mut stdout = Stdout::take();
    let ended = answer_all(&mut session, Lines::new(io::stdin().lock(), args.max_line_bytes), &mut stdout);
    drop(session);
    stdout.finish(ended)?;
    Ok(Exit::Done)
}

fn answer_all(session: &mut Session, mut lines: Lines<impl Read>, out: &mut impl Write) -> Result<(), Failure> {
    let cannot_read =
        |error: io::Error| Failure::failed("cannot read requests from standard input".to_owned()).because(error);
    while let Some(line) = lines.next().map_err(cannot_read)? {
        let answer = match line {
            Line::Request(line) if line.trim_ascii().is_empty() => continue,
            Line::Request(line) => answer(session, line),
            Line::TooLong { limit } => {
                let message = format!("the request is longer than {limit} bytes: --max-line-bytes allows more");
                Answer { id: Value::Null, outcome: Outcome::Error(Fault::new(kind::LINE_TOO_LONG, message)) }
            }
        };
        serde_json::to_writer(&mut *out, &answer).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        // The next request may wait long, or never come.
        out.flush()?;
    }
    Ok(())
}

fn answer(session: &mut Session, line: &[u8]) -> Answer {
    let (id, result) = match request::parse(line) {
        Err(fault) => (Value::Null, Err(fault)),
        Ok(mut request) => match request::take_id(&mut request) {
            Err(fault) => (Value::Null, Err(fault)),
            Ok(id) => (id, operations::run(session, &request)),
        },
    };
    Answer { id, outcome: result.map_or_else(Outcome::Error, Outcome::Result) }
}
