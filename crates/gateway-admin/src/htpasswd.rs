//! Users of the Admin API in the htpasswd format, as nginx reads it.

use o28m_core::Rng;

/// Hashes that can be written; verification knows more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `$2y$`
    Bcrypt,
    /// `$apr1$`
    Apr1,
    /// `{SHA}`
    Sha,
    /// `{SSHA}`
    Ssha,
}

/// A hash could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to hash the password")]
pub struct HashError;

/// Whether `file` has a line for `user` whose hash fits `password`; in constant time per line.
#[must_use]
pub fn verify(file: &str, user: &str, password: &str) -> bool {
    let _ = (file, user, password);
    todo!()
}

/// A `user:hash` line without line end.
///
/// # Errors
/// [`HashError`].
pub fn line(
    user: &str,
    password: &str,
    scheme: Scheme,
    rng: &dyn Rng,
) -> Result<String, HashError> {
    let _ = (user, password, scheme, rng);
    todo!()
}
