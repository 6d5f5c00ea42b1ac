//! The crate over real sockets.

mod client;
mod framing;
mod server;
mod support;
mod tls;
mod upgrade;
