//! Request ids: 128 random bits as hexadecimal.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use http::HeaderValue;
use o28m_core::Rng;

/// Bytes that are drawn at once: the generator costs far more for each call than for each byte.
const BYTES_DRAWN: usize = 1024;
/// Digits of an id.
const DIGITS: usize = 32;

thread_local! {
    /// Random bytes that nobody has got yet.
    static DRAWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Digits of ids that no request has got yet: they share one allocation.
    static READY: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// Random bytes for ids that every request needs; `N` is at most 64.
#[must_use]
pub fn random_bytes<const N: usize>(rng: &dyn Rng) -> [u8; N] {
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.len() < N {
            drawn.resize(BYTES_DRAWN, 0);
            rng.fill(drawn);
        }
        let (rest, taken) = drawn.split_last_chunk::<N>().unwrap_or((&[], &[0; N]));
        let (left, taken) = (rest.len(), *taken);
        // What was used is gone: nobody gets it again.
        drawn.truncate(left);
        taken
    })
}

/// The id of a request: 32 lower-case hexadecimal digits (Kong 3.9 `X-Kong-Request-Id`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The next id.
    pub(crate) fn next(rng: &dyn Rng) -> Self {
        let digits = READY.with_borrow_mut(|ready| {
            if ready.len() < DIGITS {
                *ready = draw(rng);
            }
            ready.split_to(DIGITS.min(ready.len()))
        });
        Self(HeaderValue::from_maybe_shared(digits).unwrap_or(NONE))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header has it.
    pub(crate) fn value(&self) -> &HeaderValue {
        &self.0
    }
}

/// What stands for an id that no header can have.
const NONE: HeaderValue = HeaderValue::from_static("-");

/// The digits of as many ids as are made at once.
fn draw(rng: &dyn Rng) -> Bytes {
    let (mut bytes, mut digits) = ([0; BYTES_DRAWN], [0; BYTES_DRAWN * 2]);
    rng.fill(&mut bytes);
    let (ids, _) = bytes.as_chunks();
    for (id, digits) in ids.iter().zip(digits.chunks_exact_mut(DIGITS)) {
        uuid::Uuid::from_bytes(*id).simple().encode_lower(digits);
    }
    Bytes::copy_from_slice(&digits)
}

impl From<String> for RequestId {
    fn from(id: String) -> Self {
        Self(HeaderValue::try_from(id).unwrap_or(NONE))
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::{BYTES_DRAWN, RequestId, Rng};

    const IDS_DRAWN: usize = BYTES_DRAWN / 16;

    struct Bytes(AtomicU8);

    impl Rng for Bytes {
        fn fill(&self, bytes: &mut [u8]) {
            let draw = self.0.fetch_add(1, Ordering::Relaxed);
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = draw.wrapping_mul(64).wrapping_add((at / 16) as u8);
            }
        }
    }

    #[test]
    fn ids_never_repeat_and_the_generator_is_called_rarely() {
        let rng = Bytes(AtomicU8::new(0));
        let ids: HashSet<_> = (0..IDS_DRAWN * 3)
            .map(|_| RequestId::next(&rng).to_string())
            .collect();
        assert_eq!(ids.len(), IDS_DRAWN * 3);
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.bytes().all(is_digit))
        );
        assert_eq!(rng.0.load(Ordering::Relaxed), 3);
    }
}
