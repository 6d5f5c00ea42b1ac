//! The Admin API over the wire.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail them"
)]

mod auth;
mod concurrency;
mod consumers;
mod db_less;
mod declarative;
mod harness;
mod http;
mod lists;
mod platform;
mod plugins;
mod routes;
mod services;
mod status;
mod upstreams;
