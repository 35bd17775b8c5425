//! What the standard `OTEL_*` variables and the command line ask for, before anything is built.
//!
//! Two of the standard's defaults are turned round, because this is a command and not a service: nothing is exported
//! unless an endpoint or an exporter is named, and an unknown protocol is an error instead of a silent default. What else is
//! not understood may be meant for other programs, and is a warning.

use std::time::Duration;

use super::{SdkError, unheeded};
use crate::{PathPolicy, Redactor};

/// The variable by which a person opts in to paths as they are.
const PATHS_VARIABLE: &str = "ALLUVIUM_TELEMETRY_PATHS";

/// How OTLP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Protocol buffers over HTTP.
    #[default]
    HttpProtobuf,
    /// gRPC.
    Grpc,
}

/// What to export, and to where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Settings {
    /// The collector's base URL, where the command line gave one; otherwise the exporters read their variables.
    pub endpoint: Option<String>,
    /// The protocol of traces, where they are exported.
    pub traces: Option<Protocol>,
    /// The protocol of metrics, where they are exported.
    pub metrics: Option<Protocol>,
    /// The protocol of logs, where they are exported.
    pub logs: Option<Protocol>,
    /// How long the end of the process waits for the collector, where `ALLUVIUM_OTLP_FLUSH_MS` says so.
    pub flush_timeout: Option<Duration>,
    /// How paths leave: `ALLUVIUM_TELEMETRY_PATHS`, `hashed` or `shown`.
    pub paths: PathPolicy,
    /// Whether `OTEL_SDK_DISABLED` says so: then nothing is exported.
    pub disabled: bool,
    /// What the variables say and nobody heeds, a sentence each, without their values: to be told to whoever set them.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads the process's environment. `endpoint` is the command line's and goes before it.
    ///
    /// # Errors
    /// [`SdkError::Variable`] and [`SdkError::Endpoint`] for values that mean nothing, [`SdkError::UserInfo`].
    pub fn from_environment(endpoint: Option<&str>) -> Result<Self, SdkError> {
        Self::from_variables(endpoint, |name| std::env::var(name).ok())
    }

    /// Whether anything is to be exported.
    #[must_use]
    pub fn exports(&self) -> bool {
        self.traces.or(self.metrics).or(self.logs).is_some()
    }

    fn from_variables(endpoint: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, SdkError> {
        // An empty variable is an unset one, says the standard.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut settings = Self { paths: paths(&variable)?, ..Self::default() };
        settings.warnings = unheeded::warnings(&variable);
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            settings.disabled = true;
            return Ok(settings);
        }
        settings.endpoint = endpoint.map(base_url).transpose()?;
        settings.traces = signal("TRACES", endpoint.is_some(), &variable, &mut settings.warnings)?;
        settings.metrics = signal("METRICS", endpoint.is_some(), &variable, &mut settings.warnings)?;
        settings.logs = signal("LOGS", endpoint.is_some(), &variable, &mut settings.warnings)?;
        if [settings.traces, settings.metrics, settings.logs].contains(&Some(Protocol::Grpc))
            && ["", "TRACES_", "METRICS_", "LOGS_"]
                .iter()
                .any(|signal| variable(&format!("OTEL_EXPORTER_OTLP_{signal}CERTIFICATE")).is_some())
        {
            settings
                .warnings
                .push("OTEL_EXPORTER_OTLP_CERTIFICATE is not heeded by grpc: set SSL_CERT_FILE".to_owned());
        }
        // The command line's goes before them.
        let named = if endpoint.is_none() { &["", "TRACES_", "METRICS_", "LOGS_"][..] } else { &[] };
        for name in named.iter().map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}ENDPOINT")) {
            let Some(url) = variable(&name).filter(|_| settings.exports()) else { continue };
            if !is_plain(&url) {
                let value = Redactor::default().text(&url).into_owned();
                let expected = "write http://HOST:PORT or https://HOST:PORT";
                return Err(SdkError::Variable { variable: name, value, expected });
            }
            if has_user_info(&url) {
                settings.warnings.push(format!(
                    "the user info in {name} is not sent: set OTEL_EXPORTER_OTLP_HEADERS=authorization=…"
                ));
            }
        }
        settings.flush_timeout = match variable("ALLUVIUM_OTLP_FLUSH_MS") {
            None => None,
            Some(value) => Some(value.parse().map(Duration::from_millis).map_err(|_| SdkError::Variable {
                variable: "ALLUVIUM_OTLP_FLUSH_MS".to_owned(),
                value,
                expected: "write a whole number of milliseconds",
            })?),
        };
        Ok(settings)
    }
}

/// The URL to which `/v1/traces` and so on are appended.
fn base_url(url: &str) -> Result<String, SdkError> {
    let shown = || Redactor::default().text(url).into_owned();
    match (is_plain(url), has_user_info(url)) {
        (false, _) => Err(SdkError::Endpoint { url: shown() }),
        (true, true) => Err(SdkError::UserInfo { url: shown() }),
        (true, false) => Ok(url.trim_end_matches('/').to_owned()),
    }
}

/// Whether it is a URL of HTTP with a host, and without a query.
fn is_plain(url: &str) -> bool {
    let authority = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    authority.is_some_and(|authority| !authority.is_empty() && !authority.starts_with(['/', ':']))
        && !url.contains(|c: char| c.is_whitespace() || c == '?' || c == '#')
}

/// Whether a user, or a user and a password, stand before the host. Exporters send neither.
fn has_user_info(url: &str) -> bool {
    url.split_once("://").is_some_and(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(rest).contains('@'))
}

fn paths(variable: &impl Fn(&str) -> Option<String>) -> Result<PathPolicy, SdkError> {
    match variable(PATHS_VARIABLE) {
        None => Ok(PathPolicy::default()),
        Some(value) => match value.as_str() {
            "hashed" => Ok(PathPolicy::Hashed),
            "shown" => Ok(PathPolicy::Shown),
            _ => Err(SdkError::Variable {
                variable: PATHS_VARIABLE.to_owned(),
                value,
                expected: "write hashed or shown",
            }),
        },
    }
}

/// The protocol of a signal, where it is exported at all.
fn signal(
    name: &str,
    endpoint_given: bool,
    variable: &impl Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<Protocol>, SdkError> {
    let exporter = format!("OTEL_{name}_EXPORTER");
    let named = ["OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("OTEL_EXPORTER_OTLP_{name}_ENDPOINT")];
    let wanted = match variable(&exporter).as_deref() {
        None => endpoint_given || named.iter().any(|name| variable(name).is_some()),
        Some("otlp") => true,
        Some("none") => false,
        Some(_) => {
            warnings.push(format!("{exporter} is taken for none: write otlp or none"));
            false
        }
    };
    if !wanted {
        return Ok(None);
    }
    for variable_name in [format!("OTEL_EXPORTER_OTLP_{name}_PROTOCOL"), "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned()] {
        match variable(&variable_name).as_deref() {
            None => {}
            Some("http/protobuf") => return Ok(Some(Protocol::HttpProtobuf)),
            Some("grpc") => return Ok(Some(Protocol::Grpc)),
            Some(other) => {
                return Err(SdkError::Variable {
                    variable: variable_name,
                    value: other.to_owned(),
                    expected: "write http/protobuf or grpc",
                });
            }
        }
    }
    Ok(Some(Protocol::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: Option<&str>, variables: &[(&str, &str)]) -> Result<Settings, SdkError> {
        Settings::from_variables(endpoint, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_exported_unless_somebody_asks() {
        assert!(!settings(None, &[]).unwrap().exports());
        assert!(!settings(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).unwrap().exports());
        let all = settings(Some("http://localhost:4318/"), &[]).unwrap();
        assert_eq!(all.endpoint.as_deref(), Some("http://localhost:4318"));
        assert_eq!([all.traces, all.metrics, all.logs], [Some(Protocol::HttpProtobuf); 3]);
    }

    #[test]
    fn user_info_that_nobody_would_send_is_told() {
        let refused = settings(Some("http://ada:hunter2@c:4318"), &[]).unwrap_err();
        assert!(matches!(refused, SdkError::UserInfo { .. }), "{refused:?}");
        assert!(!refused.to_string().contains("hunter2") && refused.to_string().contains("OTLP_HEADERS"), "{refused}");
        let name = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT";
        let warned = settings(None, &[(name, "https://token@c:4318/v1/logs")]).unwrap().warnings;
        assert!(warned.len() == 1 && warned[0].contains(name) && !warned[0].contains("token@"), "{warned:?}");
        assert!(settings(None, &[(name, "https://c:4318/v1/logs@2")]).unwrap().warnings.is_empty());
    }

    #[test]
    fn an_endpoint_that_is_none_is_refused_where_it_counts() {
        for (name, value) in
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x:1"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "nonsense")]
        {
            let refused = settings(None, &[(name, value)]).unwrap_err();
            assert!(matches!(&refused, SdkError::Variable { variable, .. } if variable == name), "{refused:?}");
            assert!(settings(Some("http://c:4318"), &[(name, value)]).is_ok(), "the command line's goes before {name}");
            assert!(settings(None, &[(name, value), ("OTEL_SDK_DISABLED", "true")]).is_ok());
        }
    }

    #[test]
    fn a_signal_is_chosen_by_its_exporter_endpoint_and_protocol() {
        let one = settings(None, &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:4318/v1/metrics")]).unwrap();
        assert_eq!([one.traces, one.metrics, one.logs], [None, Some(Protocol::HttpProtobuf), None]);
        let two = settings(
            Some("http://c:4317"),
            &[
                ("OTEL_LOGS_EXPORTER", "none"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
            ],
        )
        .unwrap();
        assert_eq!([two.traces, two.metrics, two.logs], [Some(Protocol::Grpc), Some(Protocol::HttpProtobuf), None]);
    }

    #[test]
    fn disabled_is_disabled_whatever_else_is_said() {
        let off = settings(Some("http://c:4318"), &[("OTEL_SDK_DISABLED", "TRUE")]).unwrap();
        assert!(!off.exports() && off.disabled);
        assert!(settings(Some("http://c:4318"), &[("OTEL_SDK_DISABLED", "0")]).unwrap().exports());
    }

    #[test]
    fn what_means_nothing_is_an_error_that_names_it() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("ALLUVIUM_OTLP_FLUSH_MS", "soon"),
            ("ALLUVIUM_TELEMETRY_PATHS", "some"),
        ] {
            let error = settings(Some("http://c:4318"), &[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        for url in ["localhost:4318", "http://", "ftp://x", "http://c/?a=b", "http:// c"] {
            assert!(matches!(settings(Some(url), &[]), Err(SdkError::Endpoint { .. })), "{url}");
        }
        let error = settings(Some("ftp://ada:hunter2@c"), &[]).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_meant_for_other_programs_is_a_warning_that_names_it() {
        let odd = settings(Some("http://c:4318"), &[("OTEL_TRACES_EXPORTER", "console")]).unwrap();
        assert_eq!([odd.traces, odd.metrics], [None, Some(Protocol::HttpProtobuf)]);
        assert_eq!(odd.warnings, ["OTEL_TRACES_EXPORTER is taken for none: write otlp or none"]);
        for (name, fine, odd) in [
            ("OTEL_SDK_DISABLED", "False", "1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000", "10s"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "1000", "-1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,c=hunter2==", "hunter2"),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "a=b", "=hunter2"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "brotli"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "sometimes"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c=d", "a=b,hunter2"),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off", "jaeger_remote"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10", "many"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "10", "1m"),
        ] {
            assert_eq!(settings(None, &[(name, fine)]).unwrap().warnings, Vec::<String>::new(), "{name}={fine}");
            let warnings = settings(None, &[(name, odd)]).unwrap().warnings;
            assert!(matches!(&*warnings, [one] if one.starts_with(name) && !one.contains("hunter2")), "{warnings:?}");
        }
        let sampled = |argument| {
            let variables = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            settings(None, &variables).unwrap().warnings.len()
        };
        assert_eq!([sampled("0.25"), sampled("25%"), sampled("2")], [0, 1, 1]);
        let certificate = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem");
        assert!(settings(Some("https://c"), &[certificate]).unwrap().warnings.is_empty());
        let grpc = settings(Some("https://c"), &[certificate, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap();
        assert!(grpc.warnings[0].contains("SSL_CERT_FILE"));
        assert_eq!(settings(None, &[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "k")]).unwrap().warnings.len(), 1);
    }

    #[test]
    fn paths_are_hashed_unless_somebody_opts_in() {
        assert_eq!(settings(None, &[]).unwrap().paths, PathPolicy::Hashed);
        assert_eq!(settings(None, &[("ALLUVIUM_TELEMETRY_PATHS", "shown")]).unwrap().paths, PathPolicy::Shown);
    }

    #[test]
    fn the_end_may_be_given_more_time() {
        let slow = settings(None, &[("ALLUVIUM_OTLP_FLUSH_MS", "2500")]).unwrap();
        assert_eq!(slow.flush_timeout, Some(Duration::from_millis(2500)));
    }
}
