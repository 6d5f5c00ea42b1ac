//! The tests of `wire` once more, with every identity provider on a PostgreSQL database of its own. Without
//! a server program they run in memory again.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test helper that meets something unexpected should fail the test loudly"
)]

/// Where identity providers keep their state, see [`harness::World::start`].
const ON_POSTGRESQL: bool = true;

#[path = "../wire/admin.rs"]
mod admin;
#[path = "../wire/attacks.rs"]
mod attacks;
#[path = "../wire/bound.rs"]
mod bound;
#[path = "../wire/client_keys.rs"]
mod client_keys;
#[path = "../wire/clients.rs"]
mod clients;
#[path = "../wire/consent.rs"]
mod consent;
#[path = "../wire/control_plane.rs"]
mod control_plane;
#[path = "../wire/eddsa.rs"]
mod eddsa;
#[path = "../wire/events.rs"]
mod events;
#[path = "../wire/farewell.rs"]
mod farewell;
#[path = "../wire/frames.rs"]
mod frames;
#[path = "../wire/groups.rs"]
mod groups;
#[path = "../wire/harness.rs"]
mod harness;
#[path = "../wire/keys.rs"]
mod keys;
#[path = "../wire/login.rs"]
mod login;
#[path = "../wire/logout.rs"]
mod logout;
#[path = "../wire/other_grants.rs"]
mod other_grants;
#[path = "../wire/passwords.rs"]
mod passwords;
#[path = "../wire/permissions.rs"]
mod permissions;
#[path = "../wire/pushed.rs"]
mod pushed;
#[path = "../wire/rotation.rs"]
mod rotation;
#[path = "../wire/security.rs"]
mod security;
#[path = "../wire/sessions.rs"]
mod sessions;
#[path = "../wire/setup.rs"]
mod setup;
#[path = "../wire/tokens.rs"]
mod tokens;
#[path = "../wire/transfer.rs"]
mod transfer;
#[path = "../wire/users.rs"]
mod users;
#[path = "../wire/visitor.rs"]
mod visitor;
