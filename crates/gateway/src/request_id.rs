//! Request ids: 128 random bits as hexadecimal.

use std::cell::RefCell;

use o28m_core::Rng;

const ID_BYTES: usize = 16;
/// Ids whose bits are drawn at once: the generator costs far more for each call than for each byte.
const IDS_DRAWN: usize = 64;

thread_local! {
    /// Random bytes that no id was made of yet.
    static DRAWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The next id: 32 lower-case hexadecimal digits.
pub(crate) fn next(rng: &dyn Rng) -> String {
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.len() < ID_BYTES {
            drawn.resize(ID_BYTES * IDS_DRAWN, 0);
            rng.fill(drawn);
        }
        let (rest, id) = drawn
            .split_last_chunk::<ID_BYTES>()
            .unwrap_or((&[], &[0; ID_BYTES]));
        let (left, id) = (rest.len(), uuid::Uuid::from_bytes(*id).simple());
        let id = id.encode_lower(&mut uuid::Uuid::encode_buffer()).to_owned();
        // What was used is gone: no two requests share an id.
        drawn.truncate(left);
        id
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::{IDS_DRAWN, Rng, next};

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
