//! The Admin API over the wire.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail them"
)]

mod audit;
mod auth;
mod cases;
mod certificates;
mod concurrency;
mod consumers;
mod credentials;
mod db_less;
mod declarative;
mod every_entity;
mod harness;
mod http;
mod keys;
mod lists;
mod operations;
mod platform;
mod plugins;
mod preconditions;
mod routes;
mod services;
mod status;
mod upstreams;

#[path = "../../../kong/tests/entities/material.rs"]
#[expect(dead_code, reason = "the tests of the declarations use all of it")]
mod material;
