//! An HTTP client that is made when it is first needed, on the thread that needs it.
//!
//! Making one reads the machine's root certificates, which takes longer than many a run. Exporters send from threads of
//! their own, so a run does not wait for it there; and one that speaks plain HTTP reads none.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::blocking::Client;

/// What the standard says of a request's timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one signal's exporter.
#[derive(Debug)]
pub(super) struct LazyClient {
    timeout: Duration,
    plain: OnceLock<Client>,
    secure: OnceLock<Client>,
}

impl LazyClient {
    /// A client with the timeout that the environment gives `signal`: `TRACES`, `METRICS` or `LOGS`.
    pub(super) fn of(signal: &str) -> Self {
        let milliseconds = [format!("OTEL_EXPORTER_OTLP_{signal}_TIMEOUT"), "OTEL_EXPORTER_OTLP_TIMEOUT".to_owned()]
            .iter()
            .find_map(|name| std::env::var(name).ok()?.parse().ok());
        let timeout = milliseconds.map_or(DEFAULT_TIMEOUT, Duration::from_millis);
        Self { timeout, plain: OnceLock::new(), secure: OnceLock::new() }
    }

    fn client(&self, secure: bool) -> Result<&Client, reqwest::Error> {
        let cell = if secure { &self.secure } else { &self.plain };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let builder = Client::builder().timeout(self.timeout);
        let builder = if secure { builder } else { builder.tls_certs_only([]) };
        let made = builder.build()?;
        Ok(cell.get_or_init(|| made))
    }
}

#[async_trait]
impl HttpClient for LazyClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let secure = request.uri().scheme_str() == Some("https");
        self.client(secure)?.send_bytes(request).await
    }
}
