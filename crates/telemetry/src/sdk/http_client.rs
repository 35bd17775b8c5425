//! An HTTP client that is made beside the run, on a thread of its own.
//!
//! Making one takes milliseconds, and where it reads the machine's root certificates, longer than many a run. So it is begun when
//! the exporters are put together, and who sends first waits for what is left of it. One that speaks plain HTTP reads none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
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
    is_begun: Arc<AtomicBool>,
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
        Self { health: Arc::clone(health), ..Self::default() }
    }

    /// The client of `signal`, with the timeout and the roots that the environment gives it: `TRACES`, `METRICS` or `LOGS`. It will
    /// send to `endpoint`, or else to where the environment says.
    pub(super) fn of(&self, signal: &str, endpoint: Option<&str>) -> LazyClient {
        let milliseconds = [format!("OTEL_EXPORTER_OTLP_{signal}_TIMEOUT"), "OTEL_EXPORTER_OTLP_TIMEOUT".to_owned()]
            .iter()
            .find_map(|name| std::env::var(name).ok()?.parse().ok());
        let timeout = milliseconds.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        let roots = [format!("OTEL_EXPORTER_OTLP_{signal}_CERTIFICATE"), "OTEL_EXPORTER_OTLP_CERTIFICATE".to_owned()]
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|path| !path.is_empty()));
        let client = LazyClient { timeout, roots: roots.map(PathBuf::from), clients: self.clone() };
        let named = [format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned()];
        let named = || named.iter().find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()));
        if let Some(url) = endpoint.map(str::to_owned).or_else(named) {
            self.begin(client.wanted(url.starts_with("https:")));
        }
        client
    }

    /// Makes the first client beside the run. The others are most often the same one.
    fn begin(&self, wanted: Wanted) {
        if !self.is_begun.swap(true, Ordering::Relaxed) {
            let clients = self.clone();
            // Without the thread, or where this fails, who needs the client makes it, and tells why it cannot.
            let _ = thread::Builder::new().name("telemetry-client".to_owned()).spawn(move || drop(clients.get(wanted)));
        }
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

impl LazyClient {
    fn wanted(&self, secure: bool) -> Wanted {
        Wanted { timeout: self.timeout, secure, roots: self.roots.clone().filter(|_| secure) }
    }
}

#[async_trait]
impl HttpClient for LazyClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let wanted = self.wanted(request.uri().scheme_str() == Some("https"));
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
