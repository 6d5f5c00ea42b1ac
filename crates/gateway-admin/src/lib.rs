//! Kong's Admin API over the store, its protection, and the status endpoints.

pub mod htpasswd;

use std::path::PathBuf;
use std::sync::Arc;

use o28m_core::Ambient;
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_store::Store;
use serde_json::Value;
use tokio::sync::watch;

/// Settings of the Admin API.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Users; without a file everyone who reaches the listener is let in.
    pub htpasswd_file: Option<PathBuf>,
    /// Names of the plugins that may be configured.
    pub enabled_plugins: Vec<String>,
    /// Answer a write only after the data plane of this process has applied it.
    pub strict: bool,
}

/// Why an operation of the wiring failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Admin API refused it.
    #[error("the Admin API answered {status}: {message}")]
    Refused {
        /// Its status.
        status: u16,
        /// Its message.
        message: String,
    },
}

/// The Admin API as a service; the listener and the gateway's in-process door share it.
pub struct AdminService {}

impl AdminService {
    /// The Admin API over a migrated store. `applied` announces what this process's data plane applied.
    #[must_use]
    pub fn new(
        store: Store,
        settings: Settings,
        applied: Option<watch::Receiver<i64>>,
        ambient: Ambient,
    ) -> Arc<Self> {
        let _ = (store, settings, applied, ambient);
        todo!()
    }

    /// A `PUT` by the process itself, without authentication; for set-up.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub async fn put(&self, path: &str, body: Value) -> Result<(), Error> {
        let _ = (path, body);
        todo!()
    }
}

impl HttpService for AdminService {
    fn call<'a>(
        &'a self,
        request: http::Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, http::Response<Body>> {
        let _ = (request, connection);
        todo!()
    }
}

/// What the status listener reports.
pub trait Readiness: Send + Sync {
    /// `None` when ready, otherwise the reason of Kong's 503.
    fn not_ready(&self) -> Option<String>;
}

/// The status listener: `/status`, `/status/ready`.
#[must_use]
pub fn status(readiness: Arc<dyn Readiness>, store: Option<Store>) -> Arc<dyn HttpService> {
    let _ = (readiness, store);
    todo!()
}
