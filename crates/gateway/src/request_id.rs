//! Request ids: 128 random bits as hexadecimal.

use std::cell::RefCell;

use o28m_core::Rng;

/// Bytes that are drawn at once: the generator costs far more for each call than for each byte.
const BYTES_DRAWN: usize = 1024;

thread_local! {
    /// Random bytes that nobody has got yet.
    static DRAWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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

/// The next id: 32 lower-case hexadecimal digits.
pub(crate) fn next(rng: &dyn Rng) -> String {
    let id = uuid::Uuid::from_bytes(random_bytes(rng)).simple();
    id.encode_lower(&mut uuid::Uuid::encode_buffer()).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::{BYTES_DRAWN, Rng, next};

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
        let ids: HashSet<_> = (0..IDS_DRAWN * 3).map(|_| next(&rng)).collect();
        assert_eq!(ids.len(), IDS_DRAWN * 3);
        assert!(ids.iter().all(|id| id.len() == 32));
        assert_eq!(rng.0.load(Ordering::Relaxed), 3);
    }
}
