//! Logs to standard error, as `-v`, `-q` or `ALLUVIUM_LOG` say.

use std::io;

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::failure::Failure;
use crate::terminal::Terminal;

/// The variable that holds the filter.
const VARIABLE: &str = "ALLUVIUM_LOG";

/// What is logged unless somebody says otherwise: our own warnings, and nothing of the engine's. A failed cache
/// operation is told by what asked for it.
const DEFAULT: &str = "off,alluvium=warn,alluvium.cache=error";
/// For a command whose report has the notices.
const REPORTED: &str = "off,alluvium=warn,alluvium.cache=error,alluvium.notice=error";

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors.
    Quiet,
    /// Warnings, or what the variable says.
    Normal,
    /// What is done.
    Verbose,
    /// Every step of ours.
    Debug,
    /// Every step of ours, and what the engine tells.
    Everything,
}

impl Verbosity {
    /// The filter that a flag asks for: it goes before the variable.
    const fn filter(self) -> Option<&'static str> {
        match self {
            Self::Normal => None,
            Self::Quiet => Some("off,alluvium=error,alluvium.cache=off,alluvium.notice=off"),
            Self::Verbose => Some("off,alluvium=info"),
            Self::Debug => Some("off,alluvium=debug"),
            Self::Everything => Some("debug,alluvium=trace"),
        }
    }
}

/// The variables, for `--help`.
pub const HELP: &str = "\
Environment:
  ALLUVIUM_CACHE_ROOT  where caches lie, unless --cache-root says so
  ALLUVIUM_LOG         what is logged to standard error, as `target=level,…`: `alluvium=debug`
                       for ours, `debug` for everything (default: `off,alluvium=warn`); -v and -q
                       go before it
  ALLUVIUM_DIAGNOSTICS where a run tells what it found: none, otel or file:PATH (default: otel
                       where logs are exported)
  OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SDK_DISABLED and the other OTEL_* variables
                       where a run sends traces, metrics and logs, unless --otlp says so
  TRACEPARENT          the trace that a run continues, unless --traceparent says so
  NO_COLOR             no colours";

/// The layer that logs. The filter is checked first, so that a typing error is not silence; it is this layer's own, and
/// what is exported is no matter of it.
///
/// `reports`: the command's own report has the notices of what was found damaged.
pub fn layer<S>(
    terminal: &Terminal,
    verbosity: Verbosity,
    reports: bool,
) -> Result<impl Layer<S> + Send + Sync + use<S>, Failure>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = match (verbosity.filter(), std::env::var(VARIABLE)) {
        (Some(filter), _) => filter.to_owned(),
        (None, Ok(filter)) if !filter.is_empty() => filter,
        (None, Ok(_) | Err(std::env::VarError::NotPresent)) => if reports { REPORTED } else { DEFAULT }.to_owned(),
        (None, Err(error)) => return Err(refused(error)),
    };
    let filter = EnvFilter::builder().parse(filter).map_err(refused)?;
    Ok(fmt::layer().with_ansi(false).with_writer(Stderr(terminal.clone())).with_filter(filter))
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::input(format!("{VARIABLE} is not a log filter"))
        .because(error)
        .with_hint("write it as `target=level,…`, such as ALLUVIUM_LOG=alluvium=debug")
}

/// Writes events between two frames of the live display.
struct Stderr(Terminal);

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event(&self.0)
    }
}

struct Event<'a>(&'a Terminal);

impl io::Write for Event<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
