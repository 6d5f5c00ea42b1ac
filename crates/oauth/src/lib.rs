//! OAuth 2.0 messages: strictly parsed forms, client credentials and error codes (RFC 6749).
//!
//! Pure: nothing here performs I/O, and nothing knows a realm or a token.

mod client;
mod error;
mod form;
mod scope;

pub use client::{Assertion, ClientCredentials, Method};
pub use error::Code;
pub use form::{Form, Malformed};
pub use scope::Scopes;
