//! The upstream client: a keep-alive pool over HTTP/1.1 and HTTP/2, plain or TLS.

mod aim;
mod answer;
pub(crate) mod connect;
mod connection;
mod download;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
mod pool;
mod request;
mod tls;
mod trust;
mod url;

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::Response;

use crate::tls::Identity;
use crate::tunnel::TunnelSlot;
use crate::{Body, BodyError, Scheme};
pub use connect::is_loopback;
pub use pool::{Pool, PoolSettings, Way};
pub use request::{RequestWriter, WrittenRequest};
pub use tls::{config as tls_config, handshake as tls_handshake};
pub use trust::trust_instead_of_system;
pub use url::parse_url;

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Host name or IP address without brackets; names are resolved, `localhost` is 127.0.0.1.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// TLS settings; ignored for plain targets.
    pub tls: TlsPolicy,
}

/// How the upstream's certificate is treated and what is shown to it; part of the pool key, so that
/// connections of different trust or identity never serve each other's requests.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsPolicy {
    /// Verify chain and name; off means any certificate is accepted.
    pub verify: bool,
    /// Name for SNI and verification when it is not the target's host.
    pub server_name: Option<Arc<str>>,
    /// PEM bundle that replaces the system roots.
    pub ca_pem: Option<Arc<str>>,
    /// How many intermediate certificates may be between the upstream's and a trusted one; `None` is as
    /// many as a chain can have (OpenSSL `SSL_set_verify_depth`).
    pub verify_depth: Option<u8>,
    /// What is shown to upstreams that ask for a certificate.
    pub identity: Option<Arc<Identity>>,
}

/// Limits of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// TCP and TLS establishment.
    pub connect: Duration,
    /// Between two successful writes.
    pub write: Duration,
    /// Time to the response head, and between two reads of its body.
    pub read: Duration,
}

/// Why no response head arrived.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The name does not resolve.
    #[error("failed to resolve {host}")]
    Resolve {
        /// The name.
        host: Arc<str>,
        /// Why nobody could tell; absent when there is no such name, or no address of it.
        #[source]
        source: Option<std::io::Error>,
    },
    /// TCP connect failed.
    #[error("failed to connect to {target}")]
    Connect {
        /// `host:port`.
        target: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The TLS handshake failed, or the certificate was refused.
    #[error("TLS handshake with {target} failed")]
    Tls {
        /// `host:port`.
        target: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Connecting took too long.
    #[error("timed out connecting to {target}")]
    ConnectTimeout {
        /// `host:port`.
        target: String,
    },
    /// The upstream did not take or answer the request in time.
    #[error("timed out waiting for {target}")]
    Timeout {
        /// `host:port`.
        target: String,
    },
    /// The connection broke before a response head was complete.
    #[error("{target} closed the connection before answering")]
    Closed {
        /// `host:port`.
        target: String,
        /// The connection had served other requests before: a retry on a fresh one is likely to work.
        reused: bool,
        /// Not a byte of the request was handed to the connection.
        unsent: bool,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The request's own body failed: the client's fault, not the upstream's.
    #[error("the request body could not be sent to {target}")]
    RequestBody {
        /// `host:port`.
        target: String,
        /// The cause.
        #[source]
        source: BodyError,
    },
    /// What arrived was not an HTTP response.
    #[error("{target} sent an invalid response")]
    Invalid {
        /// `host:port`.
        target: String,
        /// The cause.
        #[source]
        source: InvalidResponse,
    },
}

/// What is wrong with a response.
#[derive(Debug, thiserror::Error)]
pub enum InvalidResponse {
    /// It does not begin as HTTP/1 does.
    #[error("not HTTP/1")]
    NotHttp,
    /// More than 64 KiB of head, or too many interim responses.
    #[error("head too large")]
    TooLarge,
    /// Lengths that are no numbers, or differ.
    #[error("invalid Content-Length")]
    Length,
    /// A coding other than `chunked`.
    #[error("unknown Transfer-Encoding")]
    Coding,
    /// A line is no header.
    #[error("malformed head")]
    Malformed(#[source] httparse::Error),
    /// The upstream broke the rules of HTTP/2, or reset the request, or the request is none that HTTP/2
    /// can carry.
    #[error("no HTTP/2 response")]
    Http2(#[source] std::io::Error),
}

/// Has a response that switches protocols carry bytes until nothing moved for so long, instead of for
/// the time that its upstream had to answer in.
pub fn set_tunnel_idle(response: &Response<Body>, idle: Duration) {
    if let Some(slot) = response.extensions().get::<TunnelSlot>() {
        slot.set_idle(idle);
    }
}

impl Hash for Target {
    /// Leaves the CA bundle out: it can be large, and targets that differ in nothing else are rare.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.host.hash(state);
        (self.scheme, self.port, self.tls.verify).hash(state);
        self.tls.identity.hash(state);
    }
}

impl std::fmt::Display for Target {
    /// `host:port`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl SendError {
    /// The failure of the request's own body, when that is why the upstream got no whole request.
    #[must_use]
    pub fn request_body_error(&self) -> Option<&BodyError> {
        match self {
            Self::RequestBody { source, .. } => Some(source),
            _ => None,
        }
    }
}
