use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Cells of one counter. Threads share a cell only when there are more of them.
const CELLS: usize = 32;

/// A number that only grows and that every request adds to: each thread has a place of its own, so
/// that processors do not take the same memory from one another.
#[derive(Clone, Default)]
pub struct Sharded(Arc<[Padded; CELLS]>);

/// As large as what processors exchange at once.
#[derive(Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

impl Sharded {
    /// Adds one.
    pub fn add_one(&self) {
        if let Some(Padded(cell)) = self.0.get(place()) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        let cells = self.0.iter();
        cells.map(|Padded(cell)| cell.load(Ordering::Relaxed)).sum()
    }
}

/// The cell of this thread.
fn place() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    PLACE.with(|place| {
        if place.get() == usize::MAX {
            place.set(THREADS.fetch_add(1, Ordering::Relaxed) % CELLS);
        }
        place.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_thread_is_forgotten() {
        let counter = Sharded::default();
        std::thread::scope(|scope| {
            for _ in 0..CELLS + 3 {
                scope.spawn(|| (0..100).for_each(|_| counter.add_one()));
            }
        });
        assert_eq!(counter.get(), (CELLS as u64 + 3) * 100);
    }
}
