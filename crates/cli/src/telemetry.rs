//! What the process tells about itself: logs to standard error, and a run's signals to whoever asked for them.

use std::sync::Arc;

use alluvium_telemetry::sdk::{Flushed, Sdk, SdkBuilder, SdkError, Settings};
use alluvium_telemetry::{DIAGNOSTICS_VARIABLE, Diagnostics, DiagnosticsChoice, JsonLinesSink, Redactor, Seam};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{Cli, Command, RunArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::logging::{self, Verbosity};
use crate::terminal::Terminal;

/// Logs and signals of the process. Dropping it sends what is left, however the command ended.
pub struct Telemetry {
    sdk: Option<Sdk>,
    diagnostics: Diagnostics,
    verbosity: Verbosity,
    terminal: Terminal,
}

impl Telemetry {
    /// Starts logging, and for `run` what its arguments and the environment ask for.
    pub fn start(cli: &Cli, terminal: &Terminal) -> Result<Self, Failure> {
        let verbosity = cli.verbosity.verbosity();
        let seam = Seam::system();
        let run = match &cli.command {
            Command::Run(run) => Some(run),
            _ => None,
        };
        let reports = matches!(cli.command, Command::Run(_) | Command::Cache(_));
        let log = logging::layer(terminal, verbosity, reports)?;
        let Some(run) = run else {
            tracing_subscriber::registry().with(log).init();
            let diagnostics = Diagnostics::new(seam, Redactor::default());
            return Ok(Self { sdk: None, diagnostics, verbosity, terminal: terminal.clone() });
        };
        let settings = Settings::from_environment(run.otlp.as_deref())?;
        if verbosity != Verbosity::Quiet {
            for warning in &settings.warnings {
                terminal.line(&format!("warning: {warning}"));
            }
        }
        let redactor = Redactor::default().with_paths(settings.paths);
        let sdk = sdk(run, &settings, &redactor, &seam)?;
        let diagnostics = diagnostics(Diagnostics::new(seam, redactor), &settings, sdk.as_ref())?;
        match &sdk {
            Some(sdk) => {
                sdk.install();
                tracing_subscriber::registry().with(log).with(sdk.layer()).init();
            }
            None => tracing_subscriber::registry().with(log).init(),
        }
        Ok(Self { sdk, diagnostics, verbosity, terminal: terminal.clone() })
    }

    /// What a run tells beside its ledgers.
    pub fn diagnostics(&self) -> &Diagnostics {
        &self.diagnostics
    }

    /// Whether progress is not wanted.
    pub fn is_quiet(&self) -> bool {
        self.verbosity == Verbosity::Quiet
    }

    fn tell(&self, flushed: &Flushed) {
        if let Some(error) = &flushed.trace_file {
            self.terminal.line(&format!("warning: {}", chain(error)));
        }
        let delivery = &flushed.delivery;
        if self.is_quiet() {
            return;
        }
        if !flushed.complete || delivery.failed > 0 || delivery.rejected > 0 {
            let why = delivery.last_error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
            self.terminal.line(&format!(
                "warning: the collector did not take all signals of this run{why}; its ledgers are complete. \
                 ALLUVIUM_OTLP_FLUSH_MS gives a slow one more time"
            ));
        } else if delivery.dropped > 0 {
            self.terminal.line(&format!(
                "warning: {} spans and log records of this run were dropped before they could be sent; its ledgers are complete. \
                 OTEL_BSP_MAX_QUEUE_SIZE and OTEL_BLRP_MAX_QUEUE_SIZE let more of them wait",
                delivery.dropped
            ));
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(sdk) = &self.sdk {
            self.tell(&sdk.shutdown());
        }
    }
}

/// The providers that are asked for; none where nothing is.
fn sdk(run: &RunArgs, settings: &Settings, redactor: &Redactor, seam: &Seam) -> Result<Option<Sdk>, Failure> {
    if !settings.exports() && run.trace_file.is_none() {
        return Ok(None);
    }
    let mut builder = SdkBuilder::new(seam.clone(), env!("CARGO_PKG_VERSION")).with_redactor(redactor.clone());
    if settings.exports() {
        builder = with_otlp(builder, settings)?;
    }
    if let Some(path) = &run.trace_file {
        builder = builder.with_trace_file(path.clone())?;
    }
    Ok(Some(builder.build()))
}

#[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
fn with_otlp(builder: SdkBuilder, settings: &Settings) -> Result<SdkBuilder, Failure> {
    Ok(builder.with_otlp(settings)?)
}

#[cfg(not(any(feature = "otlp-http", feature = "otlp-grpc")))]
fn with_otlp(_: SdkBuilder, _: &Settings) -> Result<SdkBuilder, Failure> {
    Err(Failure::input("this build cannot export: it has neither of the features otlp-http and otlp-grpc".to_owned())
        .with_hint("leave out --otlp and the OTEL_* variables, or set OTEL_SDK_DISABLED=true"))
}

/// Adds the sink that the environment chooses: unless it says otherwise, OpenTelemetry logs where they are exported.
fn diagnostics(diagnostics: Diagnostics, settings: &Settings, sdk: Option<&Sdk>) -> Result<Diagnostics, Failure> {
    let otel = sdk.and_then(Sdk::diagnostics_sink);
    let choice = match std::env::var(DIAGNOSTICS_VARIABLE) {
        Ok(text) if !text.is_empty() => Some(text.parse::<DiagnosticsChoice>().map_err(refused)?),
        Ok(_) | Err(std::env::VarError::NotPresent) => None,
        Err(error) => return Err(refused(error)),
    };
    Ok(match (choice, otel) {
        (Some(DiagnosticsChoice::None), _) | (None, None) => diagnostics,
        (Some(DiagnosticsChoice::Otel) | None, Some(sink)) => diagnostics.with_sink(sink),
        // Who disables the SDK disables what goes through it.
        (Some(DiagnosticsChoice::Otel), None) if settings.disabled => diagnostics,
        (Some(DiagnosticsChoice::Otel), None) => {
            return Err(Failure::input(format!("{DIAGNOSTICS_VARIABLE}=otel, and no logs are exported"))
                .with_hint("name a collector with --otlp URL, or write file:PATH or none"));
        }
        (Some(DiagnosticsChoice::File(path)), _) => {
            let sink = JsonLinesSink::open(&path).map_err(|error| {
                Failure::input(format!("{DIAGNOSTICS_VARIABLE} names {}, which cannot be written", path.display()))
                    .because(error)
            })?;
            diagnostics.with_sink(Arc::new(sink))
        }
        (Some(_), _) => {
            return Err(Failure::input(format!(
                "{DIAGNOSTICS_VARIABLE}=memory is for processes that embed the crates"
            ))
            .with_hint("write none, otel or file:PATH"));
        }
    })
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::input(format!("{DIAGNOSTICS_VARIABLE} is not understood")).because(error)
}

/// Whatever the SDK refuses was asked for by an argument or a variable.
impl From<SdkError> for Failure {
    fn from(error: SdkError) -> Self {
        Self::of(Exit::Input, error)
    }
}

/// An error and its causes, on one line.
fn chain(error: &SdkError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
