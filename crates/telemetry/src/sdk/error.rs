//! What can be wrong with what a person asked for.

use std::path::PathBuf;

/// The exporters cannot be set up. That a collector does not answer is no error of this kind: it is counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SdkError {
    /// A variable has a value that means nothing, or nothing here.
    #[error("{variable}=`{value}` is not understood: {expected}")]
    Variable {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// The protocol is known and was not built in.
    #[error("the protocol {protocol} is not part of this build; use one of: {built}")]
    Protocol {
        /// What was asked for.
        protocol: &'static str,
        /// What there is.
        built: &'static str,
    },
    /// An exporter refuses its settings.
    #[error(
        "the OTLP exporter of {signal} cannot be set up; check the endpoint and the OTEL_EXPORTER_OTLP_* variables"
    )]
    Exporter {
        /// traces, metrics or logs.
        signal: &'static str,
        /// What it refuses.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The endpoint is no base URL.
    #[error("`{url}` is not the URL of a collector; write http://HOST:PORT or https://HOST:PORT")]
    Endpoint {
        /// What was given, without credentials.
        url: String,
    },
    /// The endpoint holds credentials, which exporters do not send.
    #[error(
        "`{url}` holds user info, which is not sent; leave it out and set OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20…"
    )]
    UserInfo {
        /// What was given, without credentials.
        url: String,
    },
    /// The trace file cannot be written.
    #[error("cannot write the trace file {}; choose a path in a directory that exists and can be written", path.display())]
    TraceFile {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
