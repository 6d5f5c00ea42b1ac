//! Routes and services with everything that can be worked out before a request comes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use o28m_kong::{Route, Service};
use o28m_net::Scheme;
use o28m_net::client::{Target, Timeouts, TlsPolicy, is_loopback};
use o28m_net::dns::is_service;

use super::{Compiler, Id, number};

/// A route as the request path needs it.
pub(crate) struct RouteEntry {
    pub(crate) route: Arc<Route>,
    pub(crate) key: Id,
    pub(crate) service: Option<Id>,
    /// Plain requests are redirected or told to use TLS.
    pub(crate) tls_only: bool,
    /// The route is for gRPC.
    pub(crate) grpc: bool,
    /// It is for gRPC over TLS alone.
    pub(crate) grpcs_only: bool,
}

impl RouteEntry {
    pub(super) fn new(route: Arc<Route>) -> Self {
        let has = |protocol: &str| route.protocols.iter().any(|it| it == protocol);
        Self {
            key: number(&route.id),
            service: route.service.as_ref().map(|it| number(&it.id)),
            tls_only: has("https") && !has("http"),
            grpc: has("grpc") || has("grpcs"),
            grpcs_only: has("grpcs") && !has("grpc"),
            route,
        }
    }
}

/// A service as the request path needs it.
pub(crate) struct ServiceEntry {
    pub(crate) service: Arc<Service>,
    pub(crate) key: Id,
    pub(crate) destination: Destination,
    /// Requests go over HTTP/2, as they come in (gRPC).
    pub(crate) http2: bool,
    /// `Host` of requests that do not keep the client's.
    pub(crate) host: HeaderValue,
    pub(crate) timeouts: Timeouts,
    /// The ports that components of this process with private headers listen on and that its
    /// connections may go to: only the resolver knows whether the host is this machine.
    pub(crate) near_engines: Vec<u16>,
}

/// Where the requests of a service go.
pub(crate) enum Destination {
    /// To a component of this process, by the port that names it.
    Engine(u16),
    /// Over the network.
    Network(Target),
    /// To a target of an upstream, chosen for each attempt.
    Balanced(Balanced),
    /// Nowhere: the protocol is not one that can be spoken.
    Unsupported,
    /// Nowhere: what its connections are to be secured with is not there.
    Insecure,
}

/// The way to an upstream's targets.
pub(crate) struct Balanced {
    /// Key of the upstream.
    pub(crate) upstream: u128,
    pub(crate) scheme: Scheme,
    /// What secures connections, without server name; the service's own identity.
    pub(crate) tls: TlsPolicy,
}

/// Hosts that mean this machine (spec jumper 21.1).
const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// Ports of the components of this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnginePorts {
    /// Those that name a component.
    pub(crate) all: Vec<u16>,
    /// Those behind which a component with private headers is.
    pub(crate) private: Vec<u16>,
    /// Every name may bring a port along.
    pub(crate) any_is_service: bool,
}

impl EnginePorts {
    /// The component that a host and a port name.
    pub(crate) fn named(&self, bare: &str, port: u16) -> Option<u16> {
        (LOOPBACK.contains(&bare) && self.all.contains(&port)).then_some(port)
    }

    /// The ports at which components with private headers may be reached over a socket by this name:
    /// its own, or any where the name brings its port along.
    pub(crate) fn near(&self, bare: &str, port: u16) -> Vec<u16> {
        match bare.parse::<IpAddr>() {
            Ok(address) if !is_loopback(address) => Vec::new(),
            Err(_) if self.any_is_service || is_service(bare) => self.private.clone(),
            Ok(_) | Err(_) => self
                .private
                .iter()
                .copied()
                .filter(|it| *it == port)
                .collect(),
        }
    }
}

impl ServiceEntry {
    /// The upstream that balances its requests.
    pub(super) fn upstream(&self) -> Option<Id> {
        match &self.destination {
            Destination::Balanced(balanced) => Some(balanced.upstream),
            Destination::Engine(_)
            | Destination::Network(_)
            | Destination::Unsupported
            | Destination::Insecure => None,
        }
    }

    /// `upstream` is the one that the host names, `secured` what TLS connections are secured with;
    /// without it none is made. Fails when the host cannot be sent in a header.
    pub(super) fn new(
        service: Service,
        compiler: &Compiler,
        upstream: Option<Id>,
        secured: Option<TlsPolicy>,
    ) -> Result<Self, http::header::InvalidHeaderValue> {
        let bare = service.host.trim_start_matches('[').trim_end_matches(']');
        let port = service.port;
        let ports = &compiler.engine_ports;
        let scheme = match service.protocol.as_str() {
            "http" | "grpc" => Some(Scheme::Http),
            "https" | "grpcs" => Some(Scheme::Https),
            _ => None,
        };
        let http2 = service.protocol.starts_with("grpc");
        let tls = match scheme {
            Some(Scheme::Https) => secured,
            Some(Scheme::Http) | None => Some(TlsPolicy::default()),
        };
        let destination = match (scheme, upstream, tls) {
            (None, ..) => Destination::Unsupported,
            (Some(_), _, None) => Destination::Insecure,
            (Some(scheme), Some(upstream), Some(tls)) => Destination::Balanced(Balanced {
                upstream,
                scheme,
                tls,
            }),
            (Some(scheme), None, Some(mut tls)) => match ports.named(bare, port) {
                Some(port) if scheme == Scheme::Http && !http2 => Destination::Engine(port),
                _ => {
                    if scheme == Scheme::Https && tls.identity.is_none() {
                        tls.identity.clone_from(&compiler.upstream_tls.identity);
                    }
                    Destination::Network(Target {
                        scheme,
                        host: Arc::from(bare),
                        port,
                        tls,
                    })
                }
            },
        };
        let near_engines = match destination {
            Destination::Network(_) => ports.near(bare, port),
            _ => Vec::new(),
        };
        let millis = Duration::from_millis;
        Ok(Self {
            key: number(&service.id),
            destination,
            http2,
            host: host_header(bare, port, scheme)?,
            timeouts: Timeouts {
                connect: millis(service.connect_timeout),
                write: millis(service.write_timeout),
                read: millis(service.read_timeout),
            },
            near_engines,
            service: Arc::new(service),
        })
    }
}

/// The host, with its port unless that is the scheme's own.
fn host_header(
    bare: &str,
    port: u16,
    scheme: Option<Scheme>,
) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let name = if bare.contains(':') {
        format!("[{bare}]")
    } else {
        bare.to_owned()
    };
    let default = matches!(
        (scheme, port),
        (Some(Scheme::Http), 80) | (Some(Scheme::Https), 443)
    );
    HeaderValue::try_from(if default {
        name
    } else {
        format!("{name}:{port}")
    })
}
