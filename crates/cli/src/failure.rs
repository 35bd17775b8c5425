//! What went wrong, how the process ends for it, and how that is told.

use std::error::Error;
use std::fmt;

use alluvium_runs::{CacheError, OpenError, ProjectError, RunError, ScaffoldError};
use alluvium_telemetry::Redactor;
use alluvium_write_policy::{MaintenanceError, ReadError};

use crate::exit::Exit;
use crate::signals::Signal;
use crate::terminal::Terminal;

/// A command that could not be done.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
}

impl Failure {
    /// The user's input is wrong.
    pub fn input(message: String) -> Self {
        Self::of(Exit::Input, Message { text: message, source: None })
    }

    /// The machine or the data is at fault.
    pub fn failed(message: String) -> Self {
        Self::of(Exit::Failed, Message { text: message, source: None })
    }

    /// A signal asked to stop: nothing more to say.
    pub fn stopped(signal: Signal) -> Self {
        Self { exit: Exit::Stopped(signal), error: None, hint: None }
    }

    /// The process ends with `exit` because of `error`.
    pub fn of(exit: Exit, error: impl Error + Send + Sync + 'static) -> Self {
        Self { exit, error: Some(Box::new(error)), hint: None }
    }

    /// Puts `source` beneath the message.
    pub fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        let text = self.error.map(|error| error.to_string()).unwrap_or_default();
        self.error = Some(Box::new(Message { text, source: Some(Box::new(source)) }));
        self
    }

    /// Says what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Tells it on standard error.
    pub fn print(&self, terminal: &Terminal) {
        if let Some(text) = self.text() {
            let (head, rest) = text.split_at("error:".len());
            terminal.line(&format!("{}{rest}", terminal.alarming(head)));
        }
    }

    /// `error: …`, its causes, and the hint, without credentials: engines repeat values, and standard error ends up in logs. Nothing
    /// where there is nothing to tell.
    fn text(&self) -> Option<String> {
        let error: &dyn Error = self.error.as_deref()?;
        let mut text = format!("error: {error}");
        let mut said = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            // Some foreign errors repeat their cause in their own message.
            if !said.contains(&cause_text) {
                text.push_str(&format!("\n  caused by: {}", cause_text.replace('\n', "\n    ")));
                said = cause_text;
            }
            next = cause.source();
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
        Some(Redactor::default().kept(&text).into_owned())
    }
}

/// A message of the command line's own.
#[derive(Debug)]
struct Message {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Message {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// Maps an error of the library: its own word on whose fault it is decides the exit code.
macro_rules! from_library {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let exit = if error.is_input() { Exit::Input } else { Exit::Failed };
                Self::of(exit, error)
            }
        })+
    };
}

from_library!(ProjectError, OpenError, RunError, CacheError, ScaffoldError, ReadError, MaintenanceError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_once_and_the_hint_comes_last() {
        let root = Message { text: "No such file".to_owned(), source: None };
        let repeats = Message { text: "open: No such file".to_owned(), source: Some(Box::new(root)) };
        let failure = Failure::input("cannot read x.toml".to_owned()).because(repeats).with_hint("create it");
        assert_eq!(failure.exit(), Exit::Input);
        assert_eq!(
            failure.text().unwrap(),
            "error: cannot read x.toml\n  caused by: open: No such file\nhint: create it"
        );
    }

    #[test]
    fn a_signal_has_nothing_to_tell() {
        let failure = Failure::stopped(Signal::Terminate);
        assert_eq!((failure.exit().code(), failure.text()), (143, None));
    }
}
