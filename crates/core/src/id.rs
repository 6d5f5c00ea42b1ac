//! Identifiers: UUIDs and random strings.

use uuid::Uuid;

use crate::Rng;

const LOWER_HEX: &[u8; 16] = b"0123456789abcdef";
const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A random version-4 UUID (RFC 9562) in its 36-character lower-case form.
#[must_use]
pub fn uuid_v4(rng: &dyn Rng) -> String {
    let mut bytes = [0_u8; 16];
    rng.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// A version-5 (name based, SHA-1) UUID of `name` in `namespace`.
///
/// Returns `None` when `namespace` is not a UUID.
#[must_use]
pub fn uuid_v5(namespace: &str, name: &[u8]) -> Option<String> {
    let namespace = Uuid::parse_str(namespace).ok()?;
    Some(Uuid::new_v5(&namespace, name).to_string())
}

/// An id as a number, which is cheaper to hash and compare than its text. Ids are UUIDs; anything else
/// is mapped to one.
#[must_use]
pub fn number(id: &str) -> u128 {
    Uuid::parse_str(id)
        .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()))
        .as_u128()
}

/// Whether `text` has the 8-4-4-4-12 hexadecimal form that Kong treats as an id, in any case.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `length` random characters of `A-Z a-z 0-9`, uniformly distributed.
#[must_use]
pub fn random_alphanumeric(rng: &dyn Rng, length: usize) -> String {
    random_text(rng, ALPHANUMERIC, length)
}

/// `length` random characters of `alphabet`, which has 1 to 256 ASCII characters, uniformly distributed.
#[must_use]
pub fn random_text(rng: &dyn Rng, alphabet: &[u8], length: usize) -> String {
    let mut text = String::with_capacity(length);
    let size = alphabet.len();
    if !(1..=256).contains(&size) {
        return text;
    }
    // The largest multiple of the size in a byte: rejecting the rest keeps the choice uniform.
    let usable = 256 - 256 % size;
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        rng.fill(&mut bytes);
        let numbers = bytes.iter().map(|byte| usize::from(*byte));
        let numbers = numbers.filter(|number| *number < usable);
        for number in numbers.take(length - text.len()) {
            if let Some(character) = alphabet.get(number % size) {
                text.push(char::from(*character));
            }
        }
    }
    text
}

/// `bytes` as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            if let Some(digit) = LOWER_HEX.get(usize::from(nibble)) {
                text.push(char::from(*digit));
            }
        }
    }
    text
}

/// A request id: 128 random bits as 32 lower-case hexadecimal digits (Kong 3.9 `X-Kong-Request-Id`).
#[must_use]
pub fn request_id(rng: &dyn Rng) -> String {
    let mut bytes = [0_u8; 16];
    rng.fill(&mut bytes);
    hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(std::sync::atomic::AtomicU8);

    impl Rng for Counter {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                *byte = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn uuid_v4_has_version_and_variant() {
        let id = uuid_v4(&Counter(0.into()));
        assert!(is_uuid(&id));
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn uuid_v5_matches_the_declarative_vector() {
        // Vector of Kong 3.9: services/`my-service`.
        let space = uuid_v5("fd02801f-0957-4a15-a55a-c8d9606f30b5", b"services").unwrap();
        assert_eq!(
            uuid_v5(&space, b"my-service").unwrap(),
            "0855b320-0dd2-547d-891d-601e9b38647f"
        );
        assert_eq!(uuid_v5("no uuid", b"x"), None);
    }

    #[test]
    fn random_text_has_the_length_and_alphabet_asked_for() {
        let text = random_alphanumeric(&Counter(0.into()), 100);
        assert_eq!(text.len(), 100);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn recognises_uuids_only_in_canonical_shape() {
        assert!(is_uuid("0855B320-0dd2-547d-891d-601e9b38647f"));
        assert!(!is_uuid("0855b3200dd2547d891d601e9b38647f"));
        assert!(!is_uuid("0855b320-0dd2-547d-891d-601e9b38647g"));
    }
}
