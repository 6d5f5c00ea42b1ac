//! The crate over real sockets.

mod framing;
mod support;
