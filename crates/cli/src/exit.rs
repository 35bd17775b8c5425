//! Exit codes: the part of the command line that scripts read.

use std::process::ExitCode;

use alluvium_contracts::{RunDocument, RunResult};

use crate::signals::Signal;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done.
    Done,
    /// A view or an output failed, or the machine did.
    Failed,
    /// The user's input is wrong: the pipeline file, SQL, or an argument.
    Input,
    /// A signal asked to stop.
    Stopped(Signal),
}

/// The codes, for `--help`.
pub const HELP: &str = "\
Exit codes:
  0    done
  1    a view or an output failed, or the machine did (no space, no permission …)
  2    the input is wrong: pipeline file, SQL or arguments
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)
The first signal lets a run end cleanly, the second ends it at once.";

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Input => 2,
            Self::Stopped(signal) => signal.exit_code(),
        }
    }

    /// How a run that produced `document` ends. A signal that came after everything was done changes nothing.
    pub fn of_run(document: &RunDocument, signal: Option<Signal>) -> Self {
        match document.result {
            RunResult::Succeeded => Self::Done,
            RunResult::Failed => Self::Failed,
            RunResult::Interrupted => Self::Stopped(signal.unwrap_or(Signal::Interrupt)),
            RunResult::Killed => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn every_ending_has_its_documented_code() {
        for (exit, code) in [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Input, 2),
            (Exit::Stopped(Signal::Interrupt), 130),
            (Exit::Stopped(Signal::Terminate), 143),
        ] {
            assert_eq!(exit.code(), code);
            assert!(HELP.contains(&format!("\n  {code} ")), "{code} is not in the help");
        }
    }

    #[test]
    fn a_run_ends_as_its_document_says() {
        let ended = |result, signal| {
            let document = RunDocument { result, ..fixtures::run() };
            Exit::of_run(&document, signal).code()
        };
        assert_eq!(ended(RunResult::Succeeded, None), 0);
        assert_eq!(ended(RunResult::Succeeded, Some(Signal::Interrupt)), 0);
        assert_eq!(ended(RunResult::Failed, None), 1);
        assert_eq!(ended(RunResult::Failed, Some(Signal::Terminate)), 1);
        assert_eq!(ended(RunResult::Interrupted, Some(Signal::Interrupt)), 130);
        assert_eq!(ended(RunResult::Interrupted, Some(Signal::Terminate)), 143);
    }
}
