//! The data plane: snapshot of the configuration, plugin phases, and the path of a request through
//! them to an upstream. It knows no plugin by name and no identity provider.

mod access_log;
mod address;
mod balance;
mod balanced;
mod body_limit;
mod error_templates;
pub mod errors;
mod exchange;
mod feed;
mod flight;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod grpc;
mod headers;
mod metrics;
mod observed;
mod options;
mod plugin;
mod proxy;
mod request;
mod request_id;
mod snapshot;
mod spool;
mod upstream;

pub use o28m_kong::RouterFlavor;
pub use o28m_router::Calculation;

pub use access_log::AccessLogFormat;
pub use balance::{AddressHealth, Resolution, TargetHealth, UpstreamHealth};
pub use exchange::{Credential, Exchange, SecurityEvent, Source};
pub use observed::{Attempt, Observed, Try};
pub use plugin::{Access, BadConfig, Needs, Plugin, PluginKind, Verdict};
pub use request_id::{RequestId, random_bytes};
pub use snapshot::{Snapshot, StoredCredential, TARGET_HEALTH, Variables};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use o28m_core::Ambient;
use o28m_jose::JwkSet;
use o28m_net::dns::Resolver;
use o28m_net::tls::{CertificateSource, ConfigError, Identities, Identity};
use o28m_net::{BoxFuture, Connection, HttpService, Rejection};
use o28m_store::Store;
use o28m_telemetry::metrics::Registry;
use tokio_util::sync::CancellationToken;

use access_log::AccessLog;
use address::ClientAddress;
use balance::Balancing;
use feed::Feed;
use metrics::{Configured, Metrics, Resolving};
use options::Options;
use snapshot::{Compiler, ENTITY_KINDS, EnginePorts, Kinds, UpstreamTls};

/// nginx's `proxy_ssl_verify_depth`.
const VERIFY_DEPTH: u8 = 1;

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
    /// The port it really listens on, where that is another one: what goes there over a socket has the
    /// same private headers.
    pub listens_on: Option<u16>,
    /// Who answers.
    pub service: Arc<dyn HttpService>,
    /// Request headers, in lower case, that steer it: only plugins may set them. Lines of these names
    /// that a client sends are dropped before the first plugin runs (spec jumper 4.2).
    pub private_headers: &'static [&'static str],
}

/// Settings of the data plane.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Addresses or CIDR blocks whose forwarding headers are believed.
    pub trusted_ips: Vec<String>,
    /// Header a trusted peer gives the client address in, or `proxy_protocol` for what its header of
    /// that protocol says.
    pub real_ip_header: String,
    /// Skip trusted addresses from the right when reading it.
    pub real_ip_recursive: bool,
    /// How the routes that match a request are ranked.
    pub route_match_calculation: Calculation,
    /// How routes are matched.
    pub router_flavor: RouterFlavor,
    /// Verify upstream certificates of services that do not say.
    pub upstream_tls_verify: bool,
    /// Intermediate certificates at most in their chains; 1 unless told otherwise, as in nginx.
    pub upstream_tls_verify_depth: Option<u8>,
    /// PEM bundle that services without `ca_certificates` trust instead of the system's roots.
    pub upstream_tls_ca: Option<Arc<str>>,
    /// What services and upstreams without `client_certificate` show to upstreams that ask.
    pub upstream_identity: Option<Arc<Identity>>,
    /// What `{vault://env/...}` in stored configuration can read.
    pub variables: Variables,
    /// Where the access log goes.
    pub access_log: Option<PathBuf>,
    /// What its lines look like.
    pub access_log_format: AccessLogFormat,
    /// Bytes of a buffered request body kept in memory; unset is 1 MiB.
    pub body_memory_bytes_max: Option<usize>,
    /// What is added to responses.
    pub headers: Headers,
    /// Requests that have nothing to hash go to any target of an upstream with consistent hashing, by
    /// weight, instead of all to the same one.
    pub hash_at_random: bool,
    /// How long passive checks keep a target away before requests try it again; unset is until it is
    /// set healthy by hand.
    pub recovery_time: Option<Duration>,
    /// Who looks up the names of targets; unset is the resolver of the process.
    pub resolver: Option<Arc<Resolver>>,
    /// What `Server` says; unset is `kong/3.9.3`.
    pub server_token: Option<HeaderValue>,
    /// Requests go upstream without our `X-Kong-Request-Id` (Kong `headers_upstream=off`).
    pub hides_request_id: bool,
    /// Clients may send `X-Consumer-*` and the like upstream where no plugin sets them, as in Kong.
    pub keeps_identity_headers: bool,
    /// Bytes of a request body (nginx `client_max_body_size`); unset or 0 is any number.
    pub body_bytes_max: Option<u64>,
    /// Charset of responses that name none.
    pub charset: Charset,
    /// Forms of error bodies.
    pub errors: ErrorForms,
    /// Ports of listeners, each with what clients know it as (Kong `port_maps`).
    pub port_maps: Vec<(u16, u16)>,
    /// Requests with `Kong-Debug` learn their route and service (Kong `allow_debug_header`).
    pub debug_headers: bool,
    /// On TLS, `Host` has to be the name of the handshake where that has one; others get 421.
    pub strict_host: bool,
    /// Interim responses of upstreams, such as 103, are passed on.
    pub early_hints: bool,
    /// How long nothing may move on a WebSocket; unset is the service's `read_timeout`.
    pub websocket_idle_timeout: Option<Duration>,
    /// For all attempts of a request together, until the response head.
    pub request_timeout: Option<Duration>,
    /// Retries for a thousand requests at most, in the long run; unset is any number.
    pub retry_permille: Option<u32>,
}

impl Settings {
    /// Finds what [`Gateway::new`] would refuse, except that nothing is opened.
    ///
    /// # Errors
    /// Every [`Error`] but [`Error::AccessLog`] and [`Error::Store`].
    pub fn check(&self) -> Result<(), Error> {
        let _address = ClientAddress::new(self)?;
        let _options = Options::new(self)?;
        let _tls = upstream_tls(self)?;
        Ok(())
    }
}

/// The charset of responses that name none (nginx `charset`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charset(Option<Arc<str>>);

impl Default for Charset {
    fn default() -> Self {
        Self(Some("UTF-8".into()))
    }
}

impl Charset {
    /// That of nginx's directive; `off` and the empty text are none.
    ///
    /// # Errors
    /// [`Error::Charset`] when it is not one word of letters, digits and `-_.:+`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
        match text {
            "" | "off" => Ok(Self(None)),
            text if text.bytes().all(fits) => Ok(Self(Some(text.into()))),
            text => Err(Error::Charset(text.to_owned())),
        }
    }
}

/// What error bodies look like where Kong's own forms are not wanted.
#[derive(Clone, Debug, Default)]
pub struct ErrorForms {
    /// Templates with at most two `%s`, for the message and the id of the request.
    pub html: Option<String>,
    /// As `html`.
    pub json: Option<String>,
    /// As `html`.
    pub xml: Option<String>,
    /// As `html`.
    pub plain: Option<String>,
    /// Media type of errors of the server underneath for requests that say nothing; empty is
    /// `text/plain`.
    pub default_type: String,
    /// Messages do not name hosts and causes.
    pub minimal: bool,
}

/// What the gateway adds to responses (Kong `headers`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `Server` on answers of its own.
    pub server: bool,
    /// `X-Kong-Proxy-Latency`.
    pub proxy_latency: bool,
    /// `X-Kong-Upstream-Latency`.
    pub upstream_latency: bool,
    /// `X-Kong-Response-Latency`.
    pub response_latency: bool,
    /// `X-Kong-Upstream-Status`.
    pub upstream_status: bool,
    /// `X-Kong-Request-Id`.
    pub request_id: bool,
}

impl Default for Headers {
    fn default() -> Self {
        Self::named(["server_tokens", "latency_tokens", "X-Kong-Request-Id"])
    }
}

impl Headers {
    /// Those of Kong's names that are there; names of others mean nothing.
    #[must_use]
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut headers = Self {
            server: false,
            proxy_latency: false,
            upstream_latency: false,
            response_latency: false,
            upstream_status: false,
            request_id: false,
        };
        for name in names {
            match name.to_ascii_lowercase().as_str() {
                "server_tokens" | "server" => headers.server = true,
                "latency_tokens" => {
                    headers.proxy_latency = true;
                    headers.upstream_latency = true;
                    headers.response_latency = true;
                }
                "x-kong-proxy-latency" => headers.proxy_latency = true,
                "x-kong-upstream-latency" => headers.upstream_latency = true,
                "x-kong-response-latency" => headers.response_latency = true,
                "x-kong-upstream-status" => headers.upstream_status = true,
                "x-kong-request-id" => headers.request_id = true,
                _ => {}
            }
        }
        headers
    }
}

/// The settings or the stored configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A trusted address is neither an IP address nor a CIDR block.
    #[error("invalid trusted address {0:?}")]
    TrustedIp(String),
    /// The header with the client's address is no header name.
    #[error("invalid client address header {0:?}")]
    RealIpHeader(String),
    /// The charset is no word.
    #[error("invalid charset {0:?}")]
    Charset(String),
    /// An error template cannot be filled in.
    #[error("error template {format} has {count} places for two values")]
    ErrorTemplate {
        /// `html`, `json`, `xml` or `plain`.
        format: &'static str,
        /// Its `%s`.
        count: usize,
    },
    /// The default type of errors is none of the four.
    #[error("invalid default type of errors {0:?}")]
    ErrorType(String),
    /// The access log cannot be opened.
    #[error("cannot open access log {}", path.display())]
    AccessLog {
        /// Its path.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The bundle that upstreams are verified with cannot be used.
    #[error("invalid bundle of trusted certificates for upstreams")]
    UpstreamCa(#[source] ConfigError),
    /// The configuration could not be read.
    #[error("failed to load the gateway configuration")]
    Store(#[from] o28m_store::Error),
}

/// The data plane of this process. Cheap to share; listeners of all threads use the same one.
pub struct Gateway {
    shared: Arc<Shared>,
}

/// What every request needs; outlives the call for as long as a response body does.
struct Shared {
    feed: Arc<Feed>,
    balancing: Arc<Balancing>,
    client_address: ClientAddress,
    upstream_tls: UpstreamTls,
    engines: Vec<LocalEngine>,
    metrics: Metrics,
    access_log: Option<AccessLog>,
    body_memory_bytes_max: usize,
    headers: Headers,
    hash_at_random: bool,
    recovery_time: Option<Duration>,
    options: Options,
    ambient: Ambient,
}

impl Shared {
    fn engine(&self, port: u16) -> Option<&LocalEngine> {
        self.engines.iter().find(|it| it.port == port)
    }

    /// What steers the components that are reached at a port.
    fn private_headers_of(&self, port: u16) -> impl Iterator<Item = &'static &'static str> {
        let engines = self.engines.iter();
        let engines = engines.filter(move |it| it.port == port || it.listens_on == Some(port));
        engines.flat_map(|it| it.private_headers)
    }
}

impl Gateway {
    /// A data plane without configuration: every request is answered with 404.
    ///
    /// # Errors
    /// Every [`Error`] but [`Error::Store`].
    pub fn new(
        settings: Settings,
        kinds: Vec<Arc<dyn PluginKind>>,
        engines: Vec<LocalEngine>,
        metrics: &Registry,
        ambient: Ambient,
    ) -> Result<Arc<Self>, Error> {
        let mut seed = [0; 8];
        ambient.rng.fill(&mut seed);
        let resolver = settings.resolver.clone().unwrap_or_else(Resolver::shared);
        let balancing = Arc::new(Balancing::new(u64::from_be_bytes(seed), resolver.clone()));
        let upstream_tls = upstream_tls(&settings)?;
        let all_kinds = kinds.clone();
        let compiler = Compiler {
            kinds: Kinds::new(kinds),
            engine_ports: engine_ports(&engines, &resolver),
            upstream_tls: upstream_tls.clone(),
            flavor: settings.router_flavor,
            calculation: settings.route_match_calculation,
            balancing: balancing.clone(),
            variables: settings.variables.clone(),
        };
        let client_address = ClientAddress::new(&settings)?;
        let feed = Arc::new(Feed::new(compiler, ambient.clone()));
        publish_state(metrics, &feed);
        metrics.collect(Configured::new(&feed, &balancing, &all_kinds));
        metrics.collect(Resolving(resolver));
        let metrics = Metrics::new(metrics);
        let access_log = settings.access_log.as_deref();
        let access_log = access_log
            .map(|path| {
                let dropped = metrics.log_lines_dropped.clone();
                AccessLog::open(path, settings.access_log_format, dropped)
            })
            .transpose()?;
        let shared = Shared {
            feed,
            balancing,
            client_address,
            upstream_tls,
            engines,
            metrics,
            access_log,
            body_memory_bytes_max: settings
                .body_memory_bytes_max
                .unwrap_or(spool::MEMORY_BYTES_MAX),
            headers: settings.headers,
            hash_at_random: settings.hash_at_random,
            recovery_time: settings.recovery_time,
            options: Options::new(&settings)?,
            ambient,
        };
        Ok(Arc::new(Self {
            shared: Arc::new(shared),
        }))
    }

    /// Loads the whole configuration.
    ///
    /// # Errors
    /// [`Error::Store`]; the snapshot in use stays.
    pub async fn load(&self, store: &Store) -> Result<(), Error> {
        Ok(self.shared.feed.load(store).await?)
    }

    /// Follows the change feed until `stop` is cancelled: each batch of changes becomes a new
    /// snapshot. A database that goes away is waited for; the snapshot in use stays. Meanwhile names of
    /// targets are looked up and active health checks are made.
    pub async fn follow(self: Arc<Self>, store: Store, stop: CancellationToken) {
        let Shared {
            feed,
            balancing,
            upstream_tls,
            recovery_time,
            ambient,
            ..
        } = &*self.shared;
        tokio::select! {
            () = feed.follow(&store, &stop) => {}
            () = balance::keep_names(feed, balancing) => {}
            () = balance::keep_probing(feed, upstream_tls, *recovery_time, ambient) => {}
        }
    }

    /// How well the targets of an upstream are, as this process sees it; `None` when there is none of
    /// that id.
    #[must_use]
    pub fn health_of(&self, upstream_id: &str) -> Option<UpstreamHealth> {
        let snapshot = self.snapshot();
        let balancer = snapshot.balancer_of(upstream_id)?;
        Some(balancer.health(&self.shared.balancing))
    }

    /// Announces the version of the snapshot in use.
    #[must_use]
    pub fn applied(&self) -> tokio::sync::watch::Receiver<i64> {
        self.shared.feed.applied()
    }

    /// Requests that came in so far, and those that are not over yet.
    #[must_use]
    pub fn requests(&self) -> (u64, u64) {
        // In this order: what ends meanwhile must not make it less than nothing.
        let ended = self.shared.metrics.ended.get();
        let begun = self.shared.metrics.begun.get();
        (begun, begun.saturating_sub(ended))
    }

    /// The snapshot in use.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.feed.current()
    }
}

fn upstream_tls(settings: &Settings) -> Result<UpstreamTls, Error> {
    if let Some(bundle) = &settings.upstream_tls_ca {
        o28m_net::tls::check_authority(bundle.as_bytes()).map_err(Error::UpstreamCa)?;
    }
    Ok(UpstreamTls {
        verify: settings.upstream_tls_verify,
        verify_depth: settings.upstream_tls_verify_depth.unwrap_or(VERIFY_DEPTH),
        ca_pem: settings.upstream_tls_ca.clone(),
        identity: settings.upstream_identity.clone(),
    })
}

fn engine_ports(engines: &[LocalEngine], resolver: &Resolver) -> EnginePorts {
    let private = engines.iter().filter(|it| !it.private_headers.is_empty());
    EnginePorts {
        all: engines.iter().map(|it| it.port).collect(),
        private: private
            .flat_map(|it| [Some(it.port), it.listens_on])
            .flatten()
            .collect(),
        any_is_service: resolver.takes_any_name_for_a_service(),
    }
}

/// Gauges of the configuration in use.
fn publish_state(metrics: &Registry, feed: &Arc<Feed>) {
    let gauge = |name, help, read: fn(&Feed) -> f64| {
        // The registry lives as long as the process; it must not keep the data plane alive.
        let feed = Arc::downgrade(feed);
        metrics.gauge(name, help, &[], move || {
            feed.upgrade().map_or(f64::NAN, |feed| read(&feed))
        });
    };
    gauge(
        "o28m_config_snapshot_age_seconds",
        "How long a known configuration change has been waiting to be applied.",
        Feed::age_seconds,
    );
    gauge(
        "o28m_config_snapshot_version",
        "Version of the change log that the configuration in use is of.",
        Feed::version,
    );
    gauge(
        "o28m_config_routes",
        "Routes in the configuration in use.",
        Feed::routes,
    );
    for kind in ENTITY_KINDS.iter().filter(|it| **it != TARGET_HEALTH) {
        let feed = Arc::downgrade(feed);
        metrics.gauge(
            "o28m_config_skipped_entities",
            "Entities of the configuration in use that cannot be used.",
            &[("kind", kind)],
            move || feed.upgrade().map_or(f64::NAN, |feed| skipped(&feed, kind)),
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn skipped(feed: &Feed, kind: &str) -> f64 {
    feed.current().skipped(kind) as f64
}

/// The certificates of the snapshot in use, for TLS listeners.
impl CertificateSource for Gateway {
    fn find(&self, server_name: Option<&str>) -> Option<Identities> {
        self.shared.feed.current().certificates().find(server_name?)
    }
}

impl HttpService for Gateway {
    fn call<'a>(
        &'a self,
        request: http::Request<o28m_net::Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, http::Response<o28m_net::Body>> {
        Box::pin(proxy::handle(&self.shared, request, connection))
    }

    fn reject(
        &self,
        rejection: &Rejection,
        connection: &Connection,
    ) -> http::Response<o28m_net::Body> {
        proxy::reject(&self.shared, rejection, connection)
    }
}
