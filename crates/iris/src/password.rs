//! Password hashes as PHC strings: Argon2id with Keycloak 26's parameters, and PBKDF2; and Keycloak's
//! own two documents for them, `credentialData` and `secretData`.

use std::num::NonZeroU32;

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use o28m_core::{Ambient, Secret};
use serde_json::{Value, json};

/// KiB, passes, lanes and output bytes (Keycloak 26.5 `Argon2Parameters`).
const MEMORY_KIB: u32 = 7168;
const PASSES: u32 = 5;
const LANES: u32 = 1;
const OUTPUT_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// Bytes of a PBKDF2 hash (Keycloak's 512 bits).
const PBKDF2_BYTES: usize = 64;
/// Longer passwords are refused before they are hashed.
pub(crate) const PASSWORD_BYTES_MAX: usize = 4096;
/// Work that an imported hash may ask for.
const IMPORT_MEMORY_KIB_MAX: u32 = 64 * 1024;
const IMPORT_PASSES_MAX: u32 = 64;
const IMPORT_ROUNDS_MAX: u32 = 10_000_000;

/// A hash nobody's password has, for users that do not exist: refusing them takes as long.
const NOBODY: &str = "$argon2id$v=19$m=7168,t=5,p=1$AAAAAAAAAAAAAAAAAAAAAA$\
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A hash function of PBKDF2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pbkdf2 {
    Sha1,
    Sha256,
    Sha512,
}

impl Pbkdf2 {
    const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha512];

    /// Keycloak's name of the provider, which is the name in PHC strings here.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "pbkdf2",
            Self::Sha256 => "pbkdf2-sha256",
            Self::Sha512 => "pbkdf2-sha512",
        }
    }

    /// Rounds unless the policy says otherwise (Keycloak 26.5).
    pub(crate) const fn default_rounds(self) -> u32 {
        match self {
            Self::Sha1 => 1_300_000,
            Self::Sha256 => 600_000,
            Self::Sha512 => 210_000,
        }
    }

    fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Argon2 { passes: u32 },
    Pbkdf2 { of: Pbkdf2, rounds: u32 },
}

impl Default for Plan {
    fn default() -> Self {
        Self::Argon2 { passes: PASSES }
    }
}

fn hasher(passes: u32) -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, passes, LANES, Some(OUTPUT_BYTES)).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The hash of a password as a PHC string; `None` when the password is too long.
///
/// Takes tens of milliseconds: call it on a blocking thread.
pub(crate) fn hash(password: &Secret<String>, ambient: &Ambient) -> Option<String> {
    hash_with(password, Plan::default(), ambient)
}

/// The hash of a password as a PHC string; `None` when the password is too long.
///
/// Takes up to a second, by the plan: call it on a blocking thread.
pub(crate) fn hash_with(
    password: &Secret<String>,
    plan: Plan,
    ambient: &Ambient,
) -> Option<String> {
    if password.expose().len() > PASSWORD_BYTES_MAX {
        return None;
    }
    let mut salt = [0_u8; SALT_BYTES];
    ambient.rng.fill(&mut salt);
    match plan {
        Plan::Argon2 { passes } => {
            let salt = SaltString::encode_b64(&salt).ok()?;
            let hash = hasher(passes)?.hash_password(password.expose().as_bytes(), &salt);
            Some(hash.ok()?.to_string())
        }
        Plan::Pbkdf2 { of, rounds } => {
            let mut out = [0_u8; PBKDF2_BYTES];
            let rounds = NonZeroU32::new(rounds)?;
            let bytes = password.expose().as_bytes();
            pbkdf2::derive(of.algorithm(), rounds, &salt, bytes, &mut out);
            Some(pbkdf2_text(of, rounds.get(), &salt, &out))
        }
    }
}

fn pbkdf2_text(of: Pbkdf2, rounds: u32, salt: &[u8], hash: &[u8]) -> String {
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("${}$i={rounds}${salt}${hash}", of.name())
}

/// The parts of a PBKDF2 hash.
struct Stored {
    of: Pbkdf2,
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

fn read_pbkdf2(text: &str) -> Option<Stored> {
    let mut parts = text.strip_prefix('$')?.split('$');
    let name = parts.next()?;
    let of = Pbkdf2::ALL.into_iter().find(|of| of.name() == name)?;
    let rounds = parts.next()?.strip_prefix("i=")?.parse().ok()?;
    let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
    let hash = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
    Some(Stored {
        of,
        rounds,
        salt,
        hash,
    })
}

/// Whether the password fits the hash; without a hash it takes as long and says no.
///
/// Takes tens of milliseconds: call it on a blocking thread.
pub(crate) fn verify(password: &Secret<String>, hash: Option<&str>) -> bool {
    if password.expose().len() > PASSWORD_BYTES_MAX {
        return false;
    }
    let bytes = password.expose().as_bytes();
    if let Some(stored) = hash.and_then(read_pbkdf2) {
        let algorithm = stored.of.algorithm();
        let verified = pbkdf2::verify(algorithm, stored.rounds, &stored.salt, bytes, &stored.hash);
        return verified.is_ok();
    }
    let (Ok(parsed), Some(hasher)) = (PasswordHash::new(hash.unwrap_or(NOBODY)), hasher(PASSES))
    else {
        return false;
    };
    let fits = hasher.verify_password(bytes, &parsed).is_ok();
    fits && hash.is_some()
}

/// Whether a hash was made by another plan.
pub(crate) fn is_outdated(hash: &str, plan: Plan) -> bool {
    match plan {
        Plan::Argon2 { passes } => !hash.starts_with(&format!(
            "$argon2id$v=19$m={MEMORY_KIB},t={passes},p={LANES}$"
        )),
        Plan::Pbkdf2 { of, rounds } => !hash.starts_with(&format!("${}$i={rounds}$", of.name())),
    }
}

/// Keycloak's `credentialData` of a hash, and its `secretData`.
pub(crate) fn documents(hash: &str) -> Option<(Value, Value)> {
    if let Some(stored) = read_pbkdf2(hash) {
        let data = json!({
            "hashIterations": stored.rounds.get(), "algorithm": stored.of.name(),
            "additionalParameters": {},
        });
        return Some((data, secret_data(&stored.hash, &stored.salt)));
    }
    let parsed = PasswordHash::new(hash).ok()?;
    let params = Params::try_from(&parsed).ok()?;
    let mut salt = [0_u8; 64];
    let salt = parsed.salt?.decode_b64(&mut salt).ok()?.to_vec();
    let output = parsed.hash?;
    let kind = match parsed.algorithm.as_str() {
        "argon2d" => "d",
        "argon2i" => "i",
        _ => "id",
    };
    let version = if parsed.version == Some(16) {
        "1.0"
    } else {
        "1.3"
    };
    let data = json!({
        "hashIterations": params.t_cost(), "algorithm": "argon2",
        "additionalParameters": {
            "hashLength": [output.len().to_string()], "memory": [params.m_cost().to_string()],
            "type": [kind], "version": [version], "parallelism": [params.p_cost().to_string()],
        },
    });
    Some((data, secret_data(output.as_bytes(), &salt)))
}

fn secret_data(hash: &[u8], salt: &[u8]) -> Value {
    json!({
        "value": STANDARD.encode(hash), "salt": STANDARD.encode(salt), "additionalParameters": {},
    })
}

/// The PHC string of Keycloak's two documents; `None` for an algorithm that is not known, and for work
/// that nobody would ask for in earnest.
pub(crate) fn from_documents(credential_data: &str, secret_data: &str) -> Option<String> {
    let data: Value = serde_json::from_str(credential_data).ok()?;
    let secret: Value = serde_json::from_str(secret_data).ok()?;
    let bytes = |name: &str| STANDARD.decode(secret.get(name)?.as_str()?).ok();
    let (hash, salt) = (bytes("value")?, bytes("salt")?);
    let rounds = u32::try_from(data.get("hashIterations")?.as_u64()?).ok()?;
    let name = data.get("algorithm")?.as_str()?;
    if let Some(of) = Pbkdf2::ALL.into_iter().find(|of| of.name() == name) {
        let usable = (1..=IMPORT_ROUNDS_MAX).contains(&rounds)
            && (16..=128).contains(&hash.len())
            && (1..=128).contains(&salt.len());
        return usable.then(|| pbkdf2_text(of, rounds, &salt, &hash));
    }
    if name != "argon2" {
        return None;
    }
    let parameter = |name: &str, default: &str| -> String {
        let values = data.get("additionalParameters").and_then(|it| it.get(name));
        let first = values.and_then(|it| it.as_array()?.first()?.as_str());
        first.unwrap_or(default).to_owned()
    };
    let memory: u32 = parameter("memory", "7168").parse().ok()?;
    let lanes: u32 = parameter("parallelism", "1").parse().ok()?;
    let version = match parameter("version", "1.3").as_str() {
        "1.3" => 19,
        "1.0" => 16,
        _ => return None,
    };
    let kind = parameter("type", "id");
    let usable = memory <= IMPORT_MEMORY_KIB_MAX
        && (1..=IMPORT_PASSES_MAX).contains(&rounds)
        && lanes <= 16
        && matches!(kind.as_str(), "id" | "i" | "d");
    if !usable {
        return None;
    }
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    let text = format!("$argon2{kind}$v={version}$m={memory},t={rounds},p={lanes}${salt}${hash}");
    PasswordHash::new(&text).is_ok().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn ambient() -> Ambient {
        Ambient {
            clock: std::sync::Arc::new(Epoch),
            rng: std::sync::Arc::new(Fixed),
        }
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let stored = hash(&secret("right"), &ambient()).unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"),
            "{stored}"
        );
        assert!(verify(&secret("right"), Some(&stored)));
        assert!(!verify(&secret("wrong"), Some(&stored)));
        assert!(!verify(&secret("right"), None));
        assert!(PasswordHash::new(NOBODY).is_ok());
        assert!(hash(&secret(&"x".repeat(5000)), &ambient()).is_none());
    }

    #[test]
    fn every_hash_survives_the_way_through_keycloaks_documents() {
        let mut plans: Vec<Plan> = Pbkdf2::ALL.map(|of| Plan::Pbkdf2 { of, rounds: 10 }).into();
        plans.push(Plan::Argon2 { passes: 1 });
        for plan in plans {
            let stored = hash_with(&secret("right"), plan, &ambient()).unwrap();
            let (data, value) = documents(&stored).unwrap();
            let again = from_documents(&data.to_string(), &value.to_string()).unwrap();
            assert_eq!(again, stored);
            assert!(verify(&secret("right"), Some(&again)) && !verify(&secret("x"), Some(&again)));
            assert!(!is_outdated(&again, plan));
            let other = Plan::Pbkdf2 {
                of: Pbkdf2::Sha512,
                rounds: 11,
            };
            assert!(is_outdated(&again, other));
        }
    }

    #[test]
    fn a_hash_of_another_program_is_read() {
        // RFC 6070, test vector 2: PBKDF2 with HMAC-SHA1, "password", "salt", 2 rounds, 20 bytes.
        let data = r#"{"hashIterations":2,"algorithm":"pbkdf2"}"#;
        let value = r#"{"value":"6mwBTcctb4zNHtkqzh1B8NjeiVc=","salt":"c2FsdA=="}"#;
        let hash = from_documents(data, value).unwrap();
        assert!(verify(&secret("password"), Some(&hash)));
        for bad in [
            r#"{"hashIterations":0,"algorithm":"pbkdf2"}"#,
            r#"{"hashIterations":2000000000,"algorithm":"pbkdf2"}"#,
            r#"{"hashIterations":2,"algorithm":"md5"}"#,
            r#"{"hashIterations":2,"algorithm":"argon2","additionalParameters":{"memory":["99999999"]}}"#,
        ] {
            assert!(from_documents(bad, value).is_none(), "{bad}");
        }
    }
}
