//! The identity provider over the wire: real listeners, real store, settable clock.

mod admin;
mod clients;
mod control_plane;
mod harness;
mod keys;
mod replicas;
mod rotation;
mod tokens;
mod users;
