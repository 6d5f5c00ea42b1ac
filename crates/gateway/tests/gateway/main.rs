//! The data plane over real sockets: a client, a gateway with its store, and scripted upstreams.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed assumption of a test is a failed test"
)]

mod balancing;
mod bodies;
mod certificates;
mod configuration;
mod engines;
mod errors;
mod headers;
mod logs;
mod names;
mod outage;
mod plugins;
mod retries;
mod routing;
mod settings;
mod slow;
mod support;
mod tls;
