//! Password hashes: Argon2id with Keycloak 26's parameters, as PHC strings.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use o28m_core::{Ambient, Secret};

/// KiB, passes, lanes and output bytes (Keycloak 26.5 `Argon2Parameters`).
const MEMORY_KIB: u32 = 7168;
const PASSES: u32 = 5;
const LANES: u32 = 1;
const OUTPUT_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// Longer passwords are refused before they are hashed.
pub(crate) const PASSWORD_BYTES_MAX: usize = 4096;

/// A hash nobody's password has, for users that do not exist: refusing them takes as long.
const NOBODY: &str = "$argon2id$v=19$m=7168,t=5,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn hasher() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_BYTES)).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The hash of a password as a PHC string; `None` when the password is too long.
///
/// Takes tens of milliseconds: call it on a blocking thread.
pub(crate) fn hash(password: &Secret<String>, ambient: &Ambient) -> Option<String> {
    if password.expose().len() > PASSWORD_BYTES_MAX {
        return None;
    }
    let mut salt = [0_u8; SALT_BYTES];
    ambient.rng.fill(&mut salt);
    let salt = SaltString::encode_b64(&salt).ok()?;
    let hash = hasher()?
        .hash_password(password.expose().as_bytes(), &salt)
        .ok()?;
    Some(hash.to_string())
}

/// Whether the password fits the hash; without a hash it takes as long and says no.
///
/// Takes tens of milliseconds: call it on a blocking thread.
pub(crate) fn verify(password: &Secret<String>, hash: Option<&str>) -> bool {
    if password.expose().len() > PASSWORD_BYTES_MAX {
        return false;
    }
    let (Ok(parsed), Some(hasher)) = (PasswordHash::new(hash.unwrap_or(NOBODY)), hasher()) else {
        return false;
    };
    let fits = hasher
        .verify_password(password.expose().as_bytes(), &parsed)
        .is_ok();
    fits && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_only() {
        struct Fixed;
        impl o28m_core::Rng for Fixed {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(7);
            }
        }
        struct Epoch;
        impl o28m_core::Clock for Epoch {
            fn now(&self) -> o28m_core::Timestamp {
                o28m_core::Timestamp::from_seconds(0)
            }
        }
        let ambient = Ambient {
            clock: std::sync::Arc::new(Epoch),
            rng: std::sync::Arc::new(Fixed),
        };
        let secret = |text: &str| Secret::new(text.to_owned());
        let stored = hash(&secret("right"), &ambient).unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"),
            "{stored}"
        );
        assert!(verify(&secret("right"), Some(&stored)));
        assert!(!verify(&secret("wrong"), Some(&stored)));
        assert!(!verify(&secret("right"), None));
        assert!(PasswordHash::new(NOBODY).is_ok());
        assert!(hash(&secret(&"x".repeat(5000)), &ambient).is_none());
    }
}
