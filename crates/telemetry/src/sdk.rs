//! The receiving side: providers, exporters and the `tracing` layer that fills them.
//!
//! Only a binary has a use for this. Everything that leaves goes through the redacting exporters and the bounded Views
//! of this module; an exporter of the caller's is wrapped in them too.

mod environment;
mod error;
mod flush;
mod health;
#[cfg(feature = "otlp-http")]
mod http_client;
mod ids;
mod logs;
#[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
mod otlp;
mod rejections;
mod spans;
mod trace_file;
mod unheeded;
mod views;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{LogExporter, LoggerProviderBuilder, SdkLoggerProvider};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{MeterProviderBuilder, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanExporter, TracerProviderBuilder};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

pub use environment::{Protocol, Settings};
pub use error::SdkError;
pub use flush::Flushed;
pub use health::Delivery;

use self::health::{Counted, Health, Watched};
use self::logs::RedactingLogs;
use self::rejections::Rejections;
use self::spans::RedactingSpans;
use self::trace_file::TraceFile;
use crate::{CacheMetrics, DiagnosticsSink, OtelLogsSink, Redactor, Seam, vocabulary};

/// How long the end of a process waits for a collector, unless told otherwise. With setting up and switching threads it
/// makes the 100 ms that a collector which does not answer may cost.
pub const DEFAULT_FLUSH_TIMEOUT: Duration = Duration::from_millis(80);

/// How long finished spans and logs wait to be sent together, unless `OTEL_BSP_SCHEDULE_DELAY` and
/// `OTEL_BLRP_SCHEDULE_DELAY` say otherwise. A tenth of the standard's, because most runs are short and what was sent
/// while one worked is not waited for at its end.
const SCHEDULE_DELAY: Duration = Duration::from_millis(500);

/// Puts exporters together.
#[must_use = "nothing is installed before `build`"]
pub struct SdkBuilder {
    seam: Seam,
    redactor: Redactor,
    flush_timeout: Duration,
    span_targets: Vec<String>,
    resource: Resource,
    spans: Option<TracerProviderBuilder>,
    metrics: Option<MeterProviderBuilder>,
    logs: Option<LoggerProviderBuilder>,
    health: Arc<Health>,
    trace_file: Option<Arc<TraceFile>>,
    #[cfg(feature = "otlp-grpc")]
    runtime: Option<tokio::runtime::Runtime>,
}

impl SdkBuilder {
    /// Signals of the service `alluvium` in `version`; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` have the last
    /// word.
    pub fn new(seam: Seam, version: &'static str) -> Self {
        let instance = seam.instance_id().to_string();
        let given = Resource::builder().build();
        let mut attributes =
            vec![KeyValue::new("service.version", version), KeyValue::new("service.instance.id", instance)];
        // The SDK calls a service without a name `unknown_service`, and ours has one.
        let unnamed = |name: &str| name.starts_with("unknown_service");
        if given.get(&"service.name".into()).is_none_or(|name| unnamed(&name.as_str())) {
            attributes.push(KeyValue::new("service.name", vocabulary::SCOPE));
        }
        attributes.retain(|attribute| attribute.key.as_str() == "service.name" || given.get(&attribute.key).is_none());
        Self {
            seam,
            redactor: Redactor::default(),
            flush_timeout: DEFAULT_FLUSH_TIMEOUT,
            span_targets: vec![vocabulary::SCOPE.to_owned()],
            resource: Resource::builder().with_attributes(attributes).build(),
            spans: None,
            metrics: None,
            logs: None,
            health: Arc::default(),
            trace_file: None,
            #[cfg(feature = "otlp-grpc")]
            runtime: None,
        }
    }

    /// What is taken out before anything leaves. Say this before adding exporters.
    pub fn with_redactor(mut self, redactor: Redactor) -> Self {
        self.redactor = redactor;
        self
    }

    /// How long [`Sdk::shutdown`] waits for a collector; [`DEFAULT_FLUSH_TIMEOUT`] unless this or the environment
    /// says otherwise.
    pub fn with_flush_timeout(mut self, timeout: Duration) -> Self {
        self.flush_timeout = timeout;
        self
    }

    /// Records the spans of another crate, by the prefix of their target. Their attributes still have to be allowed:
    /// [`Redactor::with_allowed_prefix`].
    pub fn with_span_target(mut self, prefix: impl Into<String>) -> Self {
        self.span_targets.push(prefix.into());
        self
    }

    /// Sends finished spans to `exporter` in batches, from a thread of its own with a bounded queue.
    pub fn with_span_exporter(mut self, exporter: impl SpanExporter + 'static) -> Self {
        let exporter = Watched::new(RedactingSpans::new(exporter, self.redactor.clone()), &self.health);
        let processor = opentelemetry_sdk::trace::BatchSpanProcessor::builder(exporter);
        let processor = match std::env::var_os("OTEL_BSP_SCHEDULE_DELAY").filter(|delay| !delay.is_empty()) {
            Some(_) => processor,
            None => processor.with_batch_config(
                opentelemetry_sdk::trace::BatchConfigBuilder::default().with_scheduled_delay(SCHEDULE_DELAY).build(),
            ),
        };
        let processor = Counted::new(processor.build(), &self.health);
        self.spans = Some(self.spans.unwrap_or_else(tracer_provider).with_span_processor(processor));
        self
    }

    /// Sends metrics to `exporter`, every minute or as `OTEL_METRIC_EXPORT_INTERVAL` says, and at the end.
    pub fn with_metric_exporter(mut self, exporter: impl PushMetricExporter) -> Self {
        let reader = PeriodicReader::builder(Watched::new(exporter, &self.health)).build();
        self.metrics =
            Some(self.metrics.unwrap_or_else(|| views::bounded(SdkMeterProvider::builder())).with_reader(reader));
        self
    }

    /// Sends log records to `exporter` in batches, from a thread of its own with a bounded queue.
    pub fn with_log_exporter(mut self, exporter: impl LogExporter + 'static) -> Self {
        let exporter = Watched::new(exporter, &self.health);
        let processor = opentelemetry_sdk::logs::BatchLogProcessor::builder(exporter);
        let processor = match std::env::var_os("OTEL_BLRP_SCHEDULE_DELAY").filter(|delay| !delay.is_empty()) {
            Some(_) => processor,
            None => processor.with_batch_config(
                opentelemetry_sdk::logs::BatchConfigBuilder::default().with_scheduled_delay(SCHEDULE_DELAY).build(),
            ),
        };
        let processor = Counted::new(processor.build(), &self.health);
        self.logs = Some(self.logs.unwrap_or_else(SdkLoggerProvider::builder).with_log_processor(processor));
        self
    }

    /// Writes a trace of the process to `path` at its end, for Perfetto or `chrome://tracing`.
    ///
    /// # Errors
    /// [`SdkError::TraceFile`] when the file cannot be created.
    pub fn with_trace_file(mut self, path: PathBuf) -> Result<Self, SdkError> {
        let file = Arc::new(TraceFile::create(path)?);
        let exporter = RedactingSpans::new(trace_file::Exporter(Arc::clone(&file)), self.redactor.clone());
        self.spans = Some(self.spans.unwrap_or_else(tracer_provider).with_simple_exporter(exporter));
        self.trace_file = Some(file);
        Ok(self)
    }

    /// Adds the OTLP exporters that `settings` ask for.
    ///
    /// # Errors
    /// [`SdkError::Protocol`] for a protocol that was not built in, [`SdkError::Exporter`] when an endpoint is malformed.
    /// That the collector does not answer is no error.
    #[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
    pub fn with_otlp(self, settings: &Settings) -> Result<Self, SdkError> {
        otlp::add(self, settings)
    }

    /// Starts the providers.
    pub fn build(self) -> Sdk {
        Sdk {
            tracer: self.spans.map(|spans| spans.with_resource(self.resource.clone()).build()),
            meter: self.metrics.map(|metrics| metrics.with_resource(self.resource.clone()).build()),
            logger: self.logs.map(|logs| logs.with_resource(self.resource).build()),
            seam: self.seam,
            redactor: self.redactor,
            flush_timeout: self.flush_timeout,
            span_targets: self.span_targets,
            health: self.health,
            trace_file: self.trace_file,
            #[cfg(feature = "otlp-grpc")]
            runtime: std::sync::Mutex::new(self.runtime),
        }
    }
}

impl fmt::Debug for SdkBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdkBuilder").finish_non_exhaustive()
    }
}

fn tracer_provider() -> TracerProviderBuilder {
    SdkTracerProvider::builder().with_id_generator(ids::RunIds::default())
}

/// Running providers. Call [`shutdown`](Self::shutdown) before the process ends, however it ends.
pub struct Sdk {
    seam: Seam,
    redactor: Redactor,
    flush_timeout: Duration,
    span_targets: Vec<String>,
    tracer: Option<SdkTracerProvider>,
    meter: Option<SdkMeterProvider>,
    logger: Option<SdkLoggerProvider>,
    health: Arc<Health>,
    trace_file: Option<Arc<TraceFile>>,
    #[cfg(feature = "otlp-grpc")]
    runtime: std::sync::Mutex<Option<tokio::runtime::Runtime>>,
}

impl Sdk {
    /// Makes these providers the process's, so that [`CacheMetrics::global`] counts to them and
    /// [`QueryTrace`](crate::QueryTrace) finds its tracer. Call it before the first cache operation. Spans of `tracing` need
    /// the [`layer`](Self::layer).
    pub fn install(&self) {
        if let Some(meter) = &self.meter {
            global::set_meter_provider(meter.clone());
        }
        if let Some(tracer) = &self.tracer {
            global::set_tracer_provider(tracer.clone());
        }
    }

    /// The meter provider, for instruments of other crates. Its Views bound them too.
    #[must_use]
    pub fn meter_provider(&self) -> Option<&SdkMeterProvider> {
        self.meter.as_ref()
    }

    /// Instruments of these providers alone, for a process that has several.
    #[must_use]
    pub fn cache_metrics(&self) -> Option<CacheMetrics> {
        use opentelemetry::metrics::MeterProvider as _;
        self.meter.as_ref().map(|meter| CacheMetrics::new(&meter.meter(vocabulary::SCOPE)))
    }

    /// The layer that turns Alluvium's `tracing` spans into OpenTelemetry's, and its events from INFO up into log
    /// records; and counts what collectors reject. It has its own filters: what is logged elsewhere is no matter.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        // A list and not options: `None` in a layered pair would turn the other off.
        let mut layers: Vec<Box<dyn Layer<S> + Send + Sync>> = Vec::new();
        if let Some(tracer) = &self.tracer {
            let targets = self.span_targets.clone();
            let spans = tracing_opentelemetry::layer()
                .with_tracer(tracer.tracer(vocabulary::SCOPE))
                // Each costs, and none is in the vocabulary.
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_filter(filter_fn(move |metadata| {
                    metadata.is_span() && from(metadata, Level::INFO, targets.iter().map(String::as_str))
                }));
            layers.push(spans.boxed());
        }
        if let Some(logger) = &self.logger {
            let redacting = RedactingLogs::new(logger.clone(), self.redactor.clone());
            let events = OpenTelemetryTracingBridge::new(&redacting).with_filter(filter_fn(|metadata| {
                metadata.is_event() && from(metadata, Level::INFO, [vocabulary::SCOPE])
            }));
            layers.push(events.boxed());
        }
        let warnings = |metadata: &Metadata<'_>| metadata.is_event() && *metadata.level() == Level::WARN;
        layers.push(Rejections::new(&self.health).with_filter(filter_fn(warnings)).boxed());
        layers
    }

    /// A sink that sends diagnostics as log records; `None` where logs go nowhere.
    #[must_use]
    pub fn diagnostics_sink(&self) -> Option<Arc<dyn DiagnosticsSink>> {
        let logger = self.logger.as_ref()?;
        Some(Arc::new(OtelLogsSink::new(&RedactingLogs::new(logger.clone(), self.redactor.clone()))))
    }

    /// Sends what is left and writes the trace file. Collectors are waited for at most the flush timeout, all together;
    /// what they have not taken then is lost. [`Delivery`] counts what was; what is rejected of a batch that was taken, only under
    /// the [`layer`](Self::layer).
    pub fn shutdown(&self) -> Flushed {
        let trace_file = self.trace_file.as_ref().map_or(Ok(()), |file| file.finish());
        let providers: Vec<flush::Shutdown> = [
            self.tracer.clone().map(|tracer| Box::new(move |left| tracer.shutdown_with_timeout(left)) as _),
            self.meter.clone().map(|meter| Box::new(move |left| meter.shutdown_with_timeout(left)) as _),
            self.logger.clone().map(|logger| Box::new(move |left| logger.shutdown_with_timeout(left)) as _),
        ]
        .into_iter()
        .flatten()
        .collect();
        let complete = flush::all(&self.seam, providers, self.flush_timeout);
        #[cfg(feature = "otlp-grpc")]
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
        Flushed { complete, delivery: self.health.delivery(&self.redactor), trace_file: trace_file.err() }
    }
}

impl fmt::Debug for Sdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sdk").finish_non_exhaustive()
    }
}

fn from<'a>(metadata: &Metadata<'_>, most: Level, targets: impl IntoIterator<Item = &'a str>) -> bool {
    *metadata.level() <= most && targets.into_iter().any(|target| metadata.target().starts_with(target))
}
