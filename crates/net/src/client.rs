//! The upstream client: a keep-alive pool over HTTP/1.1, plain or TLS.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};

use crate::{Body, Scheme};

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// How the upstream's certificate is treated; part of the pool key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct TlsPolicy {
    /// Verify chain and name; off means any certificate is accepted.
    pub verify: bool,
    /// Name for SNI and verification when it is not the target's host.
    pub server_name: Option<Arc<str>>,
    /// PEM bundle that replaces the system roots.
    pub ca_pem: Option<Arc<str>>,
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
        /// The resolver's error, absent for an empty answer.
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
        /// The request, given back when it can be replayed (bodyless and not sent).
        request: Option<Box<Request<Body>>>,
        /// The cause.
        #[source]
        source: hyper::Error,
    },
    /// What arrived was not an HTTP/1 response.
    #[error("{target} sent an invalid response")]
    Invalid {
        /// `host:port`.
        target: String,
        /// The cause.
        #[source]
        source: hyper::Error,
    },
}

/// Keep-alive connections to upstreams, keyed by target including its TLS policy.
///
/// One pool belongs to one runtime: its connections are driven by tasks of the runtime that made them.
pub struct Pool {}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {})
    }

    /// Sends `request` and waits for the response head. The request's URI is origin-form, its headers
    /// are sent as they are (the caller sets `Host` and has removed hop-by-hop headers).
    ///
    /// # Errors
    /// [`SendError`]; after the head, failures surface in the body.
    ///
    /// # Cancel safety
    /// Dropping the future closes the upstream connection.
    pub async fn send(
        self: &Arc<Self>,
        target: &Target,
        request: Request<Body>,
        timeouts: &Timeouts,
    ) -> Result<Response<Body>, SendError> {
        let _ = (target, request, timeouts);
        todo!()
    }
}

/// Splits an absolute `http` or `https` URL into where to connect and the origin-form path with query.
/// The default port is filled in; user info and fragments are refused.
#[must_use]
pub fn parse_url(url: &str) -> Option<(Target, String)> {
    let _ = url;
    todo!()
}
