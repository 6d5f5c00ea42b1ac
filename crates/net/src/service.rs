use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode};

use crate::client::Pool;
use crate::{Body, BoxFuture};

/// The scheme of a connection to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What is known of the connection a request came in on.
#[derive(Clone)]
pub struct Connection {
    /// The TCP peer.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Server name of the TLS handshake, lower case.
    pub server_name: Option<Arc<str>>,
    /// The upstream pool of the thread that serves this connection.
    pub pool: Arc<Pool>,
    /// The request was handed over inside this process, not read from a socket.
    pub in_process: bool,
    /// Whom a load balancer names as the client, on listeners with the PROXY protocol.
    pub announced: Option<SocketAddr>,
    /// Takes interim responses; `None` where nobody could read them.
    pub interim: Option<Arc<dyn Interim>>,
}

impl Connection {
    /// A plain connection between two addresses that nothing else is known of.
    #[must_use]
    pub fn plain(peer: SocketAddr, local: SocketAddr, pool: Arc<Pool>) -> Self {
        Self {
            peer,
            local,
            scheme: Scheme::Http,
            server_name: None,
            pool,
            in_process: false,
            announced: None,
            interim: None,
        }
    }
}

/// Takes interim responses to the request that is being answered, ahead of its final one.
pub trait Interim: Send + Sync {
    /// Sends one with a status from 102 on. It is lost when the final response has begun, and when
    /// there were too many. Whoever calls must know that the client speaks HTTP/1.1 or later.
    fn send(&self, status: StatusCode, headers: &HeaderMap);
}

/// A request that was refused before it reached the service.
pub struct Rejection {
    /// The status to answer.
    pub status: StatusCode,
    /// Why, for the log; never shown to the peer.
    pub reason: &'static str,
    /// What could be read of the head: request line and headers parsed so far, if they were sound.
    pub head: Option<http::request::Parts>,
}

impl Rejection {
    /// The reason of a head that is over a limit other than the request line's: a header line, all
    /// of them together, or their number. nginx calls it 494 and shows it as 400.
    pub const TOO_LARGE: &'static str = "request header or cookie too large";

    /// The head was over a limit; the status is 400 all the same.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.reason == Self::TOO_LARGE
    }
}

/// Something that answers requests: a listener's handler, and the in-process door of jumper, issuer
/// and Admin API. Dropping the future cancels the request.
pub trait HttpService: Send + Sync {
    /// Answers one request. Failures are responses.
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>>;

    /// The body and headers for a request that was refused for its head; the connection closes after it.
    fn reject(&self, rejection: &Rejection, connection: &Connection) -> Response<Body> {
        let _ = connection;
        let text = rejection.status.canonical_reason().unwrap_or_default();
        let mut response = Response::new(Body::full(text));
        *response.status_mut() = rejection.status;
        response
    }
}
