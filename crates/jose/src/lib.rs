//! JSON Object Signing: keys (RFC 7517), signatures (RFC 7515, RFC 7518, RFC 8037) and the gateway's key
//! slots.
//!
//! Only what tokens of this platform need: compact JWS, no JWE, no `none`. The algorithm used to
//! verify is always the caller's, never the token's alone (RFC 8725 section 3.1).

mod algorithm;
mod jwk;
mod jws;
mod key;
pub mod slots;
pub mod x509;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use jwk::{Jwk, JwkSet};
pub use jws::{CompactJws, Malformed, encode, sign};
pub use key::{KeyError, SignatureInvalid, SigningKey, VerifyingKey};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// base64url without padding, the encoding of every JOSE field (RFC 7515 section 2).
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Standard base64 with padding, the encoding of `x5c` and of Keycloak's `public_key`.
#[must_use]
pub fn base64std(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes base64url without padding; `None` for anything else.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
