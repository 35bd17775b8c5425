//! Logs to standard error, as `ALLUVIUM_LOG` says.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::failure::Failure;
use crate::terminal::Terminal;

/// The variable that holds the filter.
const VARIABLE: &str = "ALLUVIUM_LOG";

/// What is logged unless the variable says otherwise: our own warnings, and nothing of the engine's. A failed cache
/// operation is told by what asked for it.
const DEFAULT: &str = "off,alluvium=warn,alluvium.cache=error";
/// For a command whose report has the notices.
const REPORTED: &str = "off,alluvium=warn,alluvium.cache=error,alluvium.notice=error";

/// The variables, for `--help`.
pub const HELP: &str = "\
Environment:
  ALLUVIUM_CACHE_ROOT  where caches lie, unless --cache-root says so
  ALLUVIUM_LOG         what is logged to standard error, as `target=level,…`: `alluvium=debug`
                       for ours, `debug` for everything (default: `off,alluvium=warn`)
  NO_COLOR             no colours";

/// Starts logging. The filter is checked first, so that a typing error is not silence.
///
/// `reports`: the command's own report has the notices of what was found damaged.
pub fn start(terminal: &Terminal, reports: bool) -> Result<(), Failure> {
    let filter = match std::env::var(VARIABLE) {
        Ok(filter) if !filter.is_empty() => filter,
        Ok(_) | Err(std::env::VarError::NotPresent) => if reports { REPORTED } else { DEFAULT }.to_owned(),
        Err(error) => return Err(refused(error)),
    };
    let filter = EnvFilter::builder().parse(filter).map_err(refused)?;
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Stderr(terminal.clone())).init();
    Ok(())
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
