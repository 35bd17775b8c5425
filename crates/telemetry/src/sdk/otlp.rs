//! OTLP exporters, by HTTP and by gRPC.

#[cfg(feature = "otlp-http")]
use opentelemetry_otlp::WithHttpConfig;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig};

use super::{Protocol, SdkBuilder, SdkError, Settings};

/// Adds an exporter for each signal that `settings` ask for.
pub(super) fn add(mut builder: SdkBuilder, settings: &Settings) -> Result<SdkBuilder, SdkError> {
    if let Some(timeout) = settings.flush_timeout {
        builder = builder.with_flush_timeout(timeout);
    }
    #[cfg(feature = "otlp-grpc")]
    let runtime = {
        let grpc = [settings.traces, settings.metrics, settings.logs].contains(&Some(Protocol::Grpc));
        if grpc && builder.runtime.is_none() {
            builder.runtime = Some(start_runtime()?);
        }
        builder.runtime.as_ref().map(|runtime| runtime.handle().clone())
    };
    // A channel belongs to the runtime in which it is made.
    #[cfg(feature = "otlp-grpc")]
    let _entered = runtime.as_ref().map(tokio::runtime::Handle::enter);

    let exporters = Exporters {
        endpoint: settings.endpoint.as_deref(),
        #[cfg(feature = "otlp-http")]
        clients: super::http_client::Clients::telling(&builder.health),
    };
    if let Some(protocol) = settings.traces {
        builder = builder.with_span_exporter(exporters.spans(protocol)?);
    }
    if let Some(protocol) = settings.metrics {
        builder = builder.with_metric_exporter(exporters.metrics(protocol)?);
    }
    if let Some(protocol) = settings.logs {
        builder = builder.with_log_exporter(exporters.logs(protocol)?);
    }
    Ok(builder)
}

/// One thread for all gRPC: the caller's runtime may end before the last flush.
#[cfg(feature = "otlp-grpc")]
fn start_runtime() -> Result<tokio::runtime::Runtime, SdkError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("telemetry-grpc")
        .enable_all()
        .build()
        .map_err(|source| SdkError::Exporter { signal: "gRPC", source: source.into() })
}

/// What the exporters of all signals have in common.
struct Exporters<'a> {
    /// A base URL, to which HTTP appends the path of the signal. Without one, the exporters resolve those of the
    /// environment, as the standard says.
    endpoint: Option<&'a str>,
    #[cfg(feature = "otlp-http")]
    clients: super::http_client::Clients,
}

/// The exporters differ in type only.
macro_rules! exporter {
    ($make:ident, $exporter:ident, $signal:literal, $variable:literal) => {
        fn $make(&self, protocol: Protocol) -> Result<$exporter, SdkError> {
            let failed = |source: opentelemetry_otlp::ExporterBuildError| SdkError::Exporter {
                signal: $signal,
                source: source.into(),
            };
            match protocol {
                #[cfg(feature = "otlp-http")]
                Protocol::HttpProtobuf => {
                    let builder = $exporter::builder()
                        .with_http()
                        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                        .with_http_client(self.clients.of($variable, self.endpoint));
                    match self.endpoint {
                        Some(base) => builder.with_endpoint(format!(concat!("{}/v1/", $signal), base)),
                        None => builder,
                    }
                    .build()
                    .map_err(failed)
                }
                #[cfg(not(feature = "otlp-http"))]
                Protocol::HttpProtobuf => Err(SdkError::Protocol { protocol: "http/protobuf", built: "grpc" }),
                #[cfg(feature = "otlp-grpc")]
                Protocol::Grpc => {
                    let builder = $exporter::builder().with_tonic();
                    match self.endpoint {
                        Some(base) => builder.with_endpoint(base),
                        None => builder,
                    }
                    .build()
                    .map_err(failed)
                }
                #[cfg(not(feature = "otlp-grpc"))]
                Protocol::Grpc => Err(SdkError::Protocol { protocol: "grpc", built: "http/protobuf" }),
            }
        }
    };
}

impl Exporters<'_> {
    exporter!(spans, SpanExporter, "traces", "TRACES");
    exporter!(metrics, MetricExporter, "metrics", "METRICS");
    exporter!(logs, LogExporter, "logs", "LOGS");
}
