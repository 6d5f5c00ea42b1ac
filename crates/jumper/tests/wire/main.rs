//! The token gateway behind a real listener, with scripted providers and identity providers.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed assumption in a test is a failed test"
)]

mod doors;
mod errors;
mod events;
mod external;
mod failover;
mod forwarding;
mod harness;
mod one_token;
mod scenarios;
