//! What the two standard streams are attached to, and the one way to write lines to standard error.

use std::env;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};

/// Standard error, and what may be shown on it. Cloning gives another handle to the same terminal.
#[derive(Clone)]
pub struct Terminal {
    /// The live display. Lines go through it, so that they do not tear it.
    display: MultiProgress,
    /// Whether a person watches standard error on a terminal that can move its cursor.
    live: bool,
    /// Whether standard error takes colours.
    colour: bool,
    /// Whether standard output takes colours.
    colour_stdout: bool,
}

impl Terminal {
    /// Looks at the process's streams and at `TERM` and `NO_COLOR`.
    pub fn detect() -> Self {
        let capable = env::var_os("TERM").is_none_or(|term| term != "dumb");
        // no-color.org: any value but the empty one.
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            display: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            live: io::stderr().is_terminal() && capable,
            colour: io::stderr().is_terminal() && capable && wanted,
            colour_stdout: io::stdout().is_terminal() && capable && wanted,
        }
    }

    /// Whether a live display can be shown.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether standard output takes colours.
    pub fn stdout_takes_colours(&self) -> bool {
        self.colour_stdout
    }

    /// Shows the live display from now on.
    pub fn show_display(&self) -> &MultiProgress {
        self.display.set_draw_target(ProgressDrawTarget::stderr());
        &self.display
    }

    /// Writes one line (or several) to standard error. If nobody can read it, it is lost.
    pub fn line(&self, text: &str) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Writes raw bytes to standard error, between two frames of the live display.
    pub fn bytes(&self, bytes: &[u8]) {
        self.display.suspend(|| {
            let _ = io::stderr().write_all(bytes);
        });
    }

    /// `text` in bold red, where that can be seen.
    pub fn alarming(&self, text: &str) -> String {
        if self.colour { format!("\u{1b}[1;31m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
