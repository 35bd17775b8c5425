//! Where diagnostics go that a profile asks for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use alluvium_profile::RuntimeProfile;
use alluvium_telemetry::{Diagnostics, DiagnosticsChoice, DiagnosticsChoiceError, JsonLinesSink, Redactor, Seam};

/// A sink of diagnostics cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The text names no sink.
    #[error("`diagnostics` of [profile] is wrong")]
    Choice(#[from] DiagnosticsChoiceError),
    /// The file cannot be written.
    #[error("the file of diagnostics {} cannot be written: name another in `diagnostics` of [profile]", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A sink that takes a program which reads or exports it.
    #[error(
        "`diagnostics` of [profile] asks for {choice}, and this program keeps and exports none: write \"file:PATH\" or \"none\""
    )]
    Foreign {
        /// The sink.
        choice: &'static str,
    },
}

/// Diagnostics with the sink that the profile names.
pub(crate) fn of_profile(profile: &RuntimeProfile, seam: &Seam) -> Result<Diagnostics, SinkError> {
    let diagnostics = Diagnostics::new(seam.clone(), Redactor::default());
    match profile.diagnostics()? {
        DiagnosticsChoice::None => Ok(diagnostics),
        DiagnosticsChoice::File(path) => match JsonLinesSink::open(&path) {
            Ok(sink) => Ok(diagnostics.with_sink(Arc::new(sink))),
            Err(source) => Err(SinkError::File { path, source }),
        },
        DiagnosticsChoice::Otel => Err(SinkError::Foreign { choice: "otel" }),
        _ => Err(SinkError::Foreign { choice: "memory" }),
    }
}
