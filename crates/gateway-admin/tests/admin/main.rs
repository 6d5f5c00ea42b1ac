//! The Admin API over the wire.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail them"
)]

mod audit;
mod auth;
mod concurrency;
mod consumers;
mod db_less;
mod declarative;
mod fuzz;
mod harness;
mod http;
mod lists;
mod operations;
mod platform;
mod plugins;
mod preconditions;
mod routes;
mod services;
mod status;
mod upstreams;
