//! Everything between a socket and an `http::Request`: listeners, TLS, strict HTTP/1 and HTTP/2, the
//! upstream connection pool, connections to Redis and graceful drain. It knows no route, no token and no
//! configuration entity.

mod body;
mod chunked;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod h2;
mod incoming;
mod outgoing;
pub mod proxy_protocol;
mod service;
mod spelling;
mod timer;
mod transport;
mod tunnel;
mod websocket;

pub use body::{Body, BodyError, TooLarge};
pub use service::{Connection, HttpService, Interim, Rejection, Scheme};
pub use spelling::ReceivedHead;
pub mod client;
pub mod dns;
pub mod redis;
pub mod server;
pub mod tls;

/// A boxed future, `Send` so that the scheduler stays one switch.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
