//! The `$apr1$` hash of Apache's htpasswd: 1000 rounds of MD5 over password and salt.

use md5::{Digest as _, Md5};

const ROUNDS: u32 = 1000;
const MAGIC: &[u8] = b"$apr1$";
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Which bytes of the digest make each group of four characters, most significant first.
const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
/// Characters of the salt that count.
pub(crate) const SALT_BYTES_MAX: usize = 8;

/// The 22 characters after the salt.
pub(crate) fn hash(password: &[u8], salt: &[u8]) -> String {
    let salt = salt.get(..SALT_BYTES_MAX).unwrap_or(salt);
    let mut digest = first(password, salt);
    for round in 0..ROUNDS {
        let odd = round % 2 == 1;
        let mut context = Md5::new();
        context.update(if odd { password } else { digest.as_slice() });
        if round % 3 != 0 {
            context.update(salt);
        }
        if round % 7 != 0 {
            context.update(password);
        }
        context.update(if odd { digest.as_slice() } else { password });
        digest = context.finalize().into();
    }
    encode(&digest)
}

fn first(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let inner = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize();
    let mut context = Md5::new()
        .chain_update(password)
        .chain_update(MAGIC)
        .chain_update(salt);
    for chunk in password.chunks(inner.len()) {
        context.update(inner.get(..chunk.len()).unwrap_or(&inner));
    }
    let mut length = password.len();
    while length > 0 {
        // The format's well-known oddity: a NUL or the first character, by the bits of the length.
        context.update(if length & 1 == 1 {
            &[0]
        } else {
            password.get(..1).unwrap_or_default()
        });
        length >>= 1;
    }
    context.finalize().into()
}

fn encode(digest: &[u8; 16]) -> String {
    let byte = |at: usize| u32::from(digest.get(at).copied().unwrap_or_default());
    let mut text = String::with_capacity(22);
    for [high, middle, low] in GROUPS {
        let bits = byte(high) << 16 | byte(middle) << 8 | byte(low);
        push(&mut text, bits, 4);
    }
    push(&mut text, byte(11), 2);
    text
}

/// Six bits a character, least significant first.
fn push(text: &mut String, mut bits: u32, characters: u32) {
    for _ in 0..characters {
        let at = usize::try_from(bits & 63).unwrap_or_default();
        text.extend(ALPHABET.get(at).copied().map(char::from));
        bits >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_other_implementations() {
        // OpenSSL with that salt, and the example of the manual of Apache.
        assert_eq!(hash(b"changeme", b"abcdefgh"), "bAwZZ/J98zJ0QHYmK5Q/f1");
        assert_eq!(hash(b"myPassword", b"r31....."), "HqJZimcKQFAMYayBlzkrA/");
        assert_eq!(hash(b"", b"abcdefgh").len(), 22);
    }
}
