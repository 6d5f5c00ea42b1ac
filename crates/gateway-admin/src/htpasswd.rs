//! Users of the Admin API in the htpasswd format, as nginx reads it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use o28m_core::{Rng, id};
use sha_crypt::{Sha256Params, Sha512Params};

use crate::apr1;

/// Work factor of new bcrypt hashes: about 50 ms, paid once a minute for each client.
const BCRYPT_COST: u32 = 10;
/// Bytes of a SHA-1 digest.
const SHA1_BYTES: usize = 20;

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

/// Whether `file` has a line for `user` whose hash fits `password`; in constant time per line. An
/// unknown user costs as much as a wrong password.
#[must_use]
pub fn verify(file: &str, user: &str, password: &str) -> bool {
    let own = lines(file).find(|(name, _)| *name == user);
    let stand_in = || lines(file).find(|(_, hash)| is_usable(hash));
    match own.or_else(stand_in) {
        Some((_, hash)) => matches(hash, password) && own.is_some(),
        None => false,
    }
}

/// Users of `file` whose hash is of no known kind, so that no password fits.
pub(crate) fn unusable(file: &str) -> impl Iterator<Item = &str> {
    let bad = lines(file).filter(|(_, hash)| !is_usable(hash));
    bad.map(|(user, _)| user)
}

/// User and hash of each line, as nginx splits them: comments start with `#`, a third field is ignored.
fn lines(file: &str) -> impl Iterator<Item = (&str, &str)> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (user, rest) = line.trim_end().split_once(':')?;
            Some((user, rest.split(':').next().unwrap_or_default()))
        })
}

fn is_usable(hash: &str) -> bool {
    const KNOWN: &[&str] = &[
        "$apr1$", "$2y$", "$2a$", "$2b$", "$5$", "$6$", "{SHA}", "{SSHA}", "{PLAIN}",
    ];
    KNOWN.iter().any(|prefix| hash.starts_with(prefix))
}

fn matches(hash: &str, password: &str) -> bool {
    let secret = password.as_bytes();
    if let Some(rest) = hash.strip_prefix("$apr1$") {
        let (salt, expected) = rest.split_once('$').unwrap_or((rest, ""));
        return equal(expected, &apr1::hash(secret, salt.as_bytes()));
    }
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    if let Some(rest) = hash.strip_prefix("$5$") {
        return sha_crypt(rest, |salt, rounds| {
            let parameters = Sha256Params::new(rounds).ok()?;
            sha_crypt::sha256_crypt_b64(secret, salt, &parameters).ok()
        });
    }
    if let Some(rest) = hash.strip_prefix("$6$") {
        return sha_crypt(rest, |salt, rounds| {
            let parameters = Sha512Params::new(rounds).ok()?;
            sha_crypt::sha512_crypt_b64(secret, salt, &parameters).ok()
        });
    }
    if let Some(expected) = hash.strip_prefix("{SHA}") {
        return equal(expected, &STANDARD.encode(sha1(&[secret])));
    }
    if let Some(encoded) = hash.strip_prefix("{SSHA}") {
        let decoded = STANDARD.decode(encoded).unwrap_or_default();
        let Some((expected, salt)) = decoded.split_at_checked(SHA1_BYTES) else {
            return false;
        };
        return verify_slices_are_equal(expected, sha1(&[secret, salt]).as_ref()).is_ok();
    }
    match hash.strip_prefix("{PLAIN}") {
        Some(expected) => equal(expected, password),
        None => false,
    }
}

/// `[rounds=<n>$]<salt>$<hash>`, with the hash made by `make`.
fn sha_crypt(rest: &str, make: impl Fn(&[u8], usize) -> Option<String>) -> bool {
    let (rounds, rest) = match rest.strip_prefix("rounds=") {
        Some(rest) => match rest.split_once('$') {
            Some((rounds, rest)) => (rounds.parse().ok(), rest),
            None => return false,
        },
        None => (Some(sha_crypt::ROUNDS_DEFAULT), rest),
    };
    let (Some(rounds), Some((salt, expected))) = (rounds, rest.split_once('$')) else {
        return false;
    };
    make(salt.as_bytes(), rounds).is_some_and(|made| equal(expected, &made))
}

fn equal(expected: &str, made: &str) -> bool {
    verify_slices_are_equal(expected.as_bytes(), made.as_bytes()).is_ok()
}

fn sha1(parts: &[&[u8]]) -> digest::Digest {
    // Not our choice: the file format's.
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    context.finish()
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
    let secret = password.as_bytes();
    let hash = match scheme {
        Scheme::Bcrypt => {
            let mut salt = [0; 16];
            rng.fill(&mut salt);
            bcrypt::hash_with_salt(secret, BCRYPT_COST, salt)
                .map_err(|_| HashError)?
                .format_for_version(bcrypt::Version::TwoY)
        }
        Scheme::Apr1 => {
            let salt = id::random_alphanumeric(rng, apr1::SALT_BYTES_MAX);
            format!("$apr1${salt}${}", apr1::hash(secret, salt.as_bytes()))
        }
        Scheme::Sha => format!("{{SHA}}{}", STANDARD.encode(sha1(&[secret]))),
        Scheme::Ssha => {
            let mut salt = [0; 8];
            rng.fill(&mut salt);
            let mut bytes = sha1(&[secret, &salt]).as_ref().to_vec();
            bytes.extend_from_slice(&salt);
            format!("{{SSHA}}{}", STANDARD.encode(bytes))
        }
    };
    Ok(format!("{user}:{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeros;

    impl Rng for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    #[test]
    fn verifies_what_other_programs_wrote() {
        // openssl passwd -apr1|-5|-6, htpasswd -nbB, htpasswd -nbs.
        let hashes = [
            "$apr1$abcdefgh$bAwZZ/J98zJ0QHYmK5Q/f1",
            "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
            "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1",
            "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
            "{SHA}+pvrmeQCmtWmYVOZ57uuITVghrM=",
            "{PLAIN}changeme",
        ];
        for (at, hash) in hashes.iter().enumerate() {
            let password = match at {
                1 | 2 => "secret",
                3 => "myPassword",
                _ => "changeme",
            };
            let file = format!("# comment\nother:{{PLAIN}}x\nadmin:{hash}:comment\n");
            assert!(verify(&file, "admin", password), "{hash}");
            assert!(!verify(&file, "admin", "wrong"), "{hash}");
            assert!(!verify(&file, "nobody", password), "{hash}");
        }
    }

    #[test]
    fn verifies_what_it_writes() {
        for scheme in [Scheme::Bcrypt, Scheme::Apr1, Scheme::Sha, Scheme::Ssha] {
            let line = line("admin", "pass word", scheme, &Zeros).unwrap();
            assert!(verify(&line, "admin", "pass word"), "{line}");
            assert!(!verify(&line, "admin", "pass"), "{line}");
        }
    }

    #[test]
    fn admin_case_004_plain_text_is_never_a_hash() {
        let file = "admin:changeme\n";
        assert!(!verify(file, "admin", "changeme"));
        assert_eq!(unusable(file).collect::<Vec<_>>(), ["admin"]);
    }

    #[test]
    fn broken_hashes_fit_no_password() {
        for hash in [
            "",
            "$apr1$",
            "$5$",
            "$6$rounds=1$a$b",
            "$2y$",
            "{SSHA}AA",
            "{SHA}",
            "$5$a",
        ] {
            assert!(!verify(&format!("admin:{hash}"), "admin", ""), "{hash}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(hash in "(\\$(apr1|2y|5|6)\\$|\\{S?SHA\\})[$./a-zA-Z0-9=]{0,24}") {
            let file = format!("admin:{hash}");
            proptest::prop_assert!(!verify(&file, "admin", "password"));
        }
    }
}
