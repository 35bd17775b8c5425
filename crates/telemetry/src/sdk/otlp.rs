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

    let endpoint = settings.endpoint.as_deref();
    if let Some(protocol) = settings.traces {
        builder = builder.with_span_exporter(spans(protocol, endpoint)?);
    }
    if let Some(protocol) = settings.metrics {
        builder = builder.with_metric_exporter(metrics(protocol, endpoint)?);
    }
    if let Some(protocol) = settings.logs {
        builder = builder.with_log_exporter(logs(protocol, endpoint)?);
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

/// The exporters differ in type only. An endpoint of the command line is a base URL, to which HTTP appends the path of
/// the signal; those of the environment are resolved by the exporter, as the standard says.
macro_rules! exporter {
    ($make:ident, $exporter:ident, $signal:literal, $variable:literal) => {
        fn $make(protocol: Protocol, endpoint: Option<&str>) -> Result<$exporter, SdkError> {
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
                        .with_http_client(super::http_client::LazyClient::of($variable));
                    match endpoint {
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
                    match endpoint {
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

exporter!(spans, SpanExporter, "traces", "TRACES");
exporter!(metrics, MetricExporter, "metrics", "METRICS");
exporter!(logs, LogExporter, "logs", "LOGS");
