//! An HTTP client that is made when it is first needed, on the thread that needs it.
//!
//! Making one reads the machine's root certificates, which takes longer than many a run. Exporters send from threads of
//! their own, so a run does not wait for it there; and one that speaks plain HTTP reads none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::blocking::Client;

/// What the standard says of a request's timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The clients of all exporters: those that want the same share one, with its thread and its connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Clients(Arc<Mutex<HashMap<Wanted, Client>>>);

/// What there is to know before a client is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Wanted {
    timeout: Duration,
    secure: bool,
}

impl Clients {
    /// The client of `signal`, with the timeout that the environment gives it: `TRACES`, `METRICS` or `LOGS`.
    pub(super) fn of(&self, signal: &str) -> LazyClient {
        let milliseconds = [format!("OTEL_EXPORTER_OTLP_{signal}_TIMEOUT"), "OTEL_EXPORTER_OTLP_TIMEOUT".to_owned()]
            .iter()
            .find_map(|name| std::env::var(name).ok()?.parse().ok());
        let timeout = milliseconds.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        LazyClient { timeout, clients: self.clone() }
    }

    /// Exporters flush at once, and wait for the one of them that makes the client.
    fn get(&self, wanted: Wanted) -> Result<Client, reqwest::Error> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&wanted) {
            return Ok(client.clone());
        }
        let builder = Client::builder().timeout(wanted.timeout);
        let builder = if wanted.secure { builder } else { builder.tls_certs_only([]) };
        let client = builder.build()?;
        made.insert(wanted, client.clone());
        Ok(client)
    }
}

/// The client of one signal's exporter.
#[derive(Debug)]
pub(super) struct LazyClient {
    timeout: Duration,
    clients: Clients,
}

#[async_trait]
impl HttpClient for LazyClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let secure = request.uri().scheme_str() == Some("https");
        self.clients.get(Wanted { timeout: self.timeout, secure })?.send_bytes(request).await
    }
}
