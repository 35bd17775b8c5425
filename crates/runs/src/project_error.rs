//! What is wrong with a pipeline file, and where.

use std::path::PathBuf;

use alluvium_contracts::NameError;

/// A project cannot be loaded. Every variant is the user's to mend, and names the file and, where there is one, the line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectError {
    /// No pipeline file where one was looked for.
    #[error("there is no pipeline file {}; `alluvium init DIR` makes a project that runs", path.display())]
    NotFound {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}{}", path.display(), asked.as_ref().map(|by| format!(" ({by})")).unwrap_or_default())]
    Read {
        /// The file.
        path: PathBuf,
        /// Who asked for it, as `file:line`.
        asked: Option<String>,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, or not a pipeline: a syntax error, an unknown key, a wrong type, a key given twice.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The pipeline file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong, with what was probably meant.
        message: String,
    },
    /// A name that cannot be one.
    #[error("{place}: bad name in [{section}]")]
    Name {
        /// `file:line`.
        place: String,
        /// `sources`, `views` or `outputs`.
        section: &'static str,
        /// Which name, and the rule.
        #[source]
        source: NameError,
    },
    /// A declaration that contradicts itself or another.
    #[error("{place}: {message}")]
    Contradiction {
        /// `file:line`.
        place: String,
        /// What contradicts what, and what to change.
        message: String,
    },
}

impl ProjectError {
    /// Always true: the command line exits with 2.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        true
    }
}
