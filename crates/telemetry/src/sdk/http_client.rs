//! An HTTP client that is made when it is first needed, on the thread that needs it.
//!
//! Making one reads the machine's root certificates, which takes longer than many a run. Exporters send from threads of
//! their own, so a run does not wait for it there; and one that speaks plain HTTP reads none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::Certificate;
use reqwest::blocking::Client;
use reqwest::redirect::Policy;

use super::health::Health;

/// What the standard says of a request's timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The clients of all exporters: those that want the same share one, with its thread and its connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Clients {
    made: Arc<Mutex<HashMap<Wanted, Client>>>,
    health: Arc<Health>,
}

/// What there is to know before a client is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wanted {
    timeout: Duration,
    secure: bool,
    /// The only roots that are trusted, as PEM; those of the machine where there is none.
    roots: Option<PathBuf>,
}

impl Clients {
    /// Clients that tell `health` why they failed.
    pub(super) fn telling(health: &Arc<Health>) -> Self {
        Self { made: Arc::default(), health: Arc::clone(health) }
    }

    /// The client of `signal`, with the timeout and the roots that the environment gives it: `TRACES`, `METRICS` or `LOGS`.
    pub(super) fn of(&self, signal: &str) -> LazyClient {
        let milliseconds = [format!("OTEL_EXPORTER_OTLP_{signal}_TIMEOUT"), "OTEL_EXPORTER_OTLP_TIMEOUT".to_owned()]
            .iter()
            .find_map(|name| std::env::var(name).ok()?.parse().ok());
        let timeout = milliseconds.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        let roots = [format!("OTEL_EXPORTER_OTLP_{signal}_CERTIFICATE"), "OTEL_EXPORTER_OTLP_CERTIFICATE".to_owned()]
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|path| !path.is_empty()));
        LazyClient { timeout, roots: roots.map(PathBuf::from), clients: self.clone() }
    }

    /// Exporters flush at once, and wait for the one of them that makes the client.
    fn get(&self, wanted: Wanted) -> Result<Client, HttpError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&wanted) {
            return Ok(client.clone());
        }
        // Another host than the one that was named gets neither the headers nor what is sent.
        let builder = Client::builder().timeout(wanted.timeout).redirect(Policy::none());
        let builder = match &wanted.roots {
            _ if !wanted.secure => builder.tls_certs_only([]),
            Some(path) => builder.tls_certs_only(certificates(path)?),
            None => builder,
        };
        let client = builder.build()?;
        made.insert(wanted, client.clone());
        Ok(client)
    }
}

/// The certificates in the file that `OTEL_EXPORTER_OTLP_CERTIFICATE` names.
fn certificates(path: &Path) -> Result<Vec<Certificate>, HttpError> {
    let refused =
        |why: String| HttpError::from(format!("OTEL_EXPORTER_OTLP_CERTIFICATE names no PEM certificates: {why}"));
    let pem = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|error| refused(error.to_string()))?;
    if found.is_empty() { Err(refused("none is in the file".to_owned())) } else { Ok(found) }
}

/// The client of one signal's exporter.
#[derive(Debug)]
pub(super) struct LazyClient {
    timeout: Duration,
    roots: Option<PathBuf>,
    clients: Clients,
}

#[async_trait]
impl HttpClient for LazyClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let secure = request.uri().scheme_str() == Some("https");
        let wanted = Wanted { timeout: self.timeout, secure, roots: self.roots.clone().filter(|_| secure) };
        let sent = match self.clients.get(wanted) {
            Ok(client) => client.send_bytes(request).await,
            Err(error) => Err(error),
        };
        // The exporter makes `network error` of it.
        sent.inspect_err(|error| self.clients.health.failed_by(error.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_certificates_of_the_file_are_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let get = |secure, roots| Clients::default().get(Wanted { timeout: DEFAULT_TIMEOUT, secure, roots });
        let refused = |path: &Path| get(true, Some(path.to_owned())).unwrap_err().to_string();
        assert!(refused(&path).contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "a file that is not there is named");
        std::fs::write(&path, "no certificate").unwrap();
        assert!(refused(&path).contains("none is in the file"));
        get(false, Some(path)).unwrap();
    }
}
