//! Routes and services with everything that can be worked out before a request comes.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use o28m_kong::{Route, Service};
use o28m_net::Scheme;
use o28m_net::client::{Target, Timeouts, TlsPolicy};

use super::{Id, number};

/// A route as the request path needs it.
pub(crate) struct RouteEntry {
    pub(crate) route: Arc<Route>,
    pub(crate) key: Id,
    pub(crate) service: Option<Id>,
    /// Plain requests are redirected or told to use TLS.
    pub(crate) tls_only: bool,
    /// The route is for gRPC.
    pub(crate) grpc: bool,
}

impl RouteEntry {
    pub(super) fn new(route: Arc<Route>) -> Self {
        let has = |protocol: &str| route.protocols.iter().any(|it| it == protocol);
        Self {
            key: number(&route.id),
            service: route.service.as_ref().map(|it| number(&it.id)),
            tls_only: has("https") && !has("http"),
            grpc: has("grpc") || has("grpcs"),
            route,
        }
    }
}

/// A service as the request path needs it.
pub(crate) struct ServiceEntry {
    pub(crate) service: Arc<Service>,
    pub(crate) key: Id,
    pub(crate) destination: Destination,
    /// `Host` of requests that do not keep the client's.
    pub(crate) host: HeaderValue,
    pub(crate) timeouts: Timeouts,
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
}

/// The way to an upstream's targets.
#[derive(Clone, Copy)]
pub(crate) struct Balanced {
    /// Key of the upstream.
    pub(crate) upstream: u128,
    pub(crate) scheme: Scheme,
    /// Verify certificates.
    pub(crate) verify: bool,
}

/// Hosts that mean this machine (spec jumper 21.1).
const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "::1"];

impl ServiceEntry {
    /// The upstream that balances its requests.
    pub(super) fn upstream(&self) -> Option<Id> {
        match &self.destination {
            Destination::Balanced(balanced) => Some(balanced.upstream),
            Destination::Engine(_) | Destination::Network(_) | Destination::Unsupported => None,
        }
    }

    /// `upstream` is the one that the host names. Fails when the host cannot be sent in a header.
    pub(super) fn new(
        service: Service,
        engine_ports: &[u16],
        tls_verify: bool,
        upstream: Option<Id>,
    ) -> Result<Self, http::header::InvalidHeaderValue> {
        let bare = service.host.trim_start_matches('[').trim_end_matches(']');
        let port = service.port;
        let scheme = match service.protocol.as_str() {
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => None,
        };
        let local = LOOPBACK.contains(&bare) && engine_ports.contains(&port);
        let verify = service.tls_verify.unwrap_or(tls_verify);
        let balanced = upstream.zip(scheme).map(|(upstream, scheme)| Balanced {
            upstream,
            scheme,
            verify,
        });
        let destination = match scheme {
            Some(_) if let Some(balanced) = balanced => Destination::Balanced(balanced),
            Some(Scheme::Http) if local => Destination::Engine(port),
            Some(scheme) => Destination::Network(Target {
                scheme,
                host: Arc::from(bare),
                port,
                tls: TlsPolicy {
                    verify,
                    ..TlsPolicy::default()
                },
            }),
            None => Destination::Unsupported,
        };
        let millis = Duration::from_millis;
        Ok(Self {
            key: number(&service.id),
            destination,
            host: host_header(bare, port, scheme)?,
            timeouts: Timeouts {
                connect: millis(service.connect_timeout),
                write: millis(service.write_timeout),
                read: millis(service.read_timeout),
            },
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
