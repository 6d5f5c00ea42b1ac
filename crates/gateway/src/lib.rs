//! The data plane: snapshot of the configuration, plugin phases, and the path of a request through
//! them to an upstream. It knows no plugin by name and no identity provider.

pub mod errors;
mod exchange;
mod plugin;
mod snapshot;

pub use exchange::{Credential, Exchange, Source};
pub use plugin::{Access, BadConfig, Plugin, PluginKind, Verdict};
pub use snapshot::Snapshot;

use std::path::PathBuf;
use std::sync::Arc;

use o28m_core::Ambient;
use o28m_jose::JwkSet;
use o28m_net::{BoxFuture, HttpService};
use o28m_store::Store;
use o28m_telemetry::metrics::Registry;
use tokio_util::sync::CancellationToken;

/// Key sets of issuers that live in this process, so that they need no network.
pub trait LocalIssuers: Send + Sync {
    /// The published keys of `issuer` (an exact `iss` value); `None` when it is not one of ours.
    fn key_set<'a>(&'a self, issuer: &'a str) -> BoxFuture<'a, Option<Arc<JwkSet>>>;
}

/// A component of this process that stands behind a loopback port: what the balancer sends to
/// `localhost:<port>` is handed to it without a socket.
pub struct LocalEngine {
    /// The well-known port that services name, such as 8080 for jumper.
    pub port: u16,
    /// Who answers.
    pub service: Arc<dyn HttpService>,
}

/// Settings of the data plane.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Addresses or CIDR blocks whose forwarding headers are believed.
    pub trusted_ips: Vec<String>,
    /// Header a trusted peer gives the client address in.
    pub real_ip_header: String,
    /// Skip trusted addresses from the right when reading it.
    pub real_ip_recursive: bool,
    /// Verify upstream certificates of services that do not say.
    pub upstream_tls_verify: bool,
    /// Where the JSON access log goes.
    pub access_log: Option<PathBuf>,
}

/// The settings or the stored configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A trusted address is neither an IP address nor a CIDR block.
    #[error("invalid trusted address {0:?}")]
    TrustedIp(String),
    /// The access log cannot be opened.
    #[error("cannot open access log {}", path.display())]
    AccessLog {
        /// Its path.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The configuration could not be read.
    #[error("failed to load the gateway configuration")]
    Store(#[from] o28m_store::Error),
}

/// The data plane of this process. Cheap to share; listeners of all threads use the same one.
pub struct Gateway {}

impl Gateway {
    /// A data plane without configuration: every request is answered with 404.
    ///
    /// # Errors
    /// [`Error::TrustedIp`], [`Error::AccessLog`].
    pub fn new(
        settings: Settings,
        kinds: Vec<Arc<dyn PluginKind>>,
        engines: Vec<LocalEngine>,
        metrics: &Registry,
        ambient: Ambient,
    ) -> Result<Arc<Self>, Error> {
        let _ = (settings, kinds, engines, metrics, ambient);
        todo!()
    }

    /// Loads the whole configuration.
    ///
    /// # Errors
    /// [`Error::Store`]; the snapshot in use stays.
    pub async fn load(&self, store: &Store) -> Result<(), Error> {
        let _ = store;
        todo!()
    }

    /// Follows the change feed until `stop` is cancelled: each batch of changes becomes a new snapshot.
    /// A database that goes away is waited for; the snapshot in use stays.
    pub async fn follow(self: Arc<Self>, store: Store, stop: CancellationToken) {
        let _ = (store, stop);
        todo!()
    }

    /// Announces the version of the snapshot in use.
    #[must_use]
    pub fn applied(&self) -> tokio::sync::watch::Receiver<i64> {
        todo!()
    }

    /// The snapshot in use.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        todo!()
    }
}

impl HttpService for Gateway {
    fn call<'a>(
        &'a self,
        request: http::Request<o28m_net::Body>,
        connection: &'a o28m_net::Connection,
    ) -> BoxFuture<'a, http::Response<o28m_net::Body>> {
        let _ = (request, connection);
        todo!()
    }
}
