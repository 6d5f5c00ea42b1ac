//! The identity provider over the wire: real listeners, real store, settable clock.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test helper that meets something unexpected should fail the test loudly"
)]

/// Where identity providers keep their state, see [`harness::World::start`].
const ON_POSTGRESQL: bool = false;

mod admin;
mod attacks;
mod bound;
mod client_keys;
mod clients;
mod consent;
mod control_plane;
mod eddsa;
mod events;
mod farewell;
mod frames;
mod groups;
mod harness;
mod keys;
mod login;
mod logout;
mod other_grants;
mod passwords;
mod permissions;
mod pushed;
mod queries;
mod replicas;
mod rotation;
mod security;
mod sessions;
mod setup;
mod tokens;
mod transfer;
mod users;
mod visitor;
