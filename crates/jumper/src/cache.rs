//! A bounded map that survives floods of keys seen once, and a way to do each piece of work once.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use o28m_core::Timestamp;
use tokio::sync::OnceCell;

const SHARDS: usize = 16;
/// Uses that count; more do not make an entry stay longer.
const USES_MAX: u8 = 3;

/// A cache bounded by the sum of its entries' weights.
///
/// New entries wait in a small queue and reach the large one only when they were used there, so
/// keys that occur once never push out keys that occur often (the S3-FIFO scheme).
pub(crate) struct Cache<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
}

struct Shard<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Keys on probation, oldest first; about a tenth of the weight.
    probation: VecDeque<K>,
    /// Keys that were used while on probation.
    proven: VecDeque<K>,
    /// Keys that left probation unused a short while ago.
    forgotten: VecDeque<u64>,
    probation_weight: usize,
    weight: usize,
    weight_max: usize,
}

struct Entry<V> {
    value: V,
    weight: usize,
    expires: Timestamp,
    uses: u8,
    proven: bool,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// An empty cache whose entries weigh at most `weight_max` together.
    pub(crate) fn new(weight_max: usize) -> Self {
        let shard = || Shard {
            entries: HashMap::new(),
            probation: VecDeque::new(),
            proven: VecDeque::new(),
            forgotten: VecDeque::new(),
            probation_weight: 0,
            weight: 0,
            weight_max: weight_max / SHARDS,
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The value of `key` unless it is absent or its time is over.
    pub(crate) fn get<Q>(&self, key: &Q, now: Timestamp) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut shard = self.shard(self.hasher.hash_one(key))?;
        let entry = shard.entries.get_mut(key)?;
        if entry.expires <= now {
            return None;
        }
        entry.uses = entry.uses.saturating_add(1).min(USES_MAX);
        Some(entry.value.clone())
    }

    /// Keeps `value` until `expires`; one that outweighs a whole part of the cache is not kept.
    /// Tells how many others had to go.
    pub(crate) fn insert(&self, key: K, value: V, weight: usize, expires: Timestamp) -> usize {
        let hash = self.hasher.hash_one(&key);
        let Some(mut shard) = self.shard(hash) else {
            return 0;
        };
        if weight > shard.weight_max {
            return 0;
        }
        shard.remove(&key);
        let proven = shard.forgotten.contains(&hash);
        let queue = if proven {
            &mut shard.proven
        } else {
            &mut shard.probation
        };
        queue.push_back(key.clone());
        let entry = Entry {
            value,
            weight,
            expires,
            uses: 0,
            proven,
        };
        shard.entries.insert(key, entry);
        shard.weight += weight;
        shard.probation_weight += if proven { 0 } else { weight };
        let before = shard.entries.len();
        while shard.weight > shard.weight_max && shard.evict_one(&self.hasher) {}
        before - shard.entries.len()
    }

    /// Forgets `key`.
    pub(crate) fn remove(&self, key: &K) {
        if let Some(mut shard) = self.shard(self.hasher.hash_one(key)) {
            shard.remove(key);
        }
    }

    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).entries.len())
            .sum()
    }

    fn shard(&self, hash: u64) -> Option<MutexGuard<'_, Shard<K, V>>> {
        let at = usize::try_from(hash >> 32).unwrap_or_default() % SHARDS;
        self.shards.get(at).map(lock)
    }
}

impl<K: Hash + Eq + Clone, V> Shard<K, V> {
    fn remove(&mut self, key: &K) {
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        self.weight -= entry.weight;
        let queue = if entry.proven {
            &mut self.proven
        } else {
            self.probation_weight -= entry.weight;
            &mut self.probation
        };
        queue.retain(|queued| queued != key);
    }

    /// Moves one key along its queue or drops it; `false` when nothing is left.
    fn evict_one(&mut self, hasher: &RandomState) -> bool {
        let from_probation = self.proven.is_empty() || self.probation_weight > self.weight_max / 10;
        let queue = if from_probation {
            &mut self.probation
        } else {
            &mut self.proven
        };
        let Some(key) = queue.pop_front() else {
            return !self.entries.is_empty() && !from_probation;
        };
        let Some(entry) = self.entries.get_mut(&key) else {
            return true;
        };
        if from_probation {
            self.probation_weight -= entry.weight;
        }
        if entry.uses > 0 {
            entry.uses = if from_probation { 0 } else { entry.uses - 1 };
            entry.proven = true;
            self.proven.push_back(key);
            return true;
        }
        self.weight -= entry.weight;
        self.entries.remove(&key);
        if from_probation {
            self.forgotten.push_back(hasher.hash_one(&key));
            // As many as there are entries, but bounded: a longer memory finds nothing more.
            while self.forgotten.len() > self.entries.len().min(256) {
                self.forgotten.pop_front();
            }
        }
        true
    }
}

/// A panic while holding the lock cannot leave a shard in a state that is unsafe to read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Flying<K, T> = HashMap<K, Arc<OnceCell<T>>>;

/// Work that several requests need at the same time is done by one of them.
pub(crate) struct Flights<K: Hash + Eq, T> {
    flying: Mutex<Flying<K, T>>,
}

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    /// Nothing is under way.
    pub(crate) fn new() -> Self {
        Self {
            flying: Mutex::new(HashMap::new()),
        }
    }

    /// The result of `work`, or that of whoever already does the same work. Results, also failures,
    /// are shared by those who waited and then forgotten.
    ///
    /// # Cancel safety
    /// When the one who works is dropped, one of those waiting does the work with its own future.
    pub(crate) async fn run(&self, key: K, work: impl Future<Output = T>) -> T {
        let cell = Arc::clone(lock(&self.flying).entry(key.clone()).or_default());
        let ticket = Ticket {
            flights: self,
            key,
            cell,
        };
        ticket.cell.get_or_init(|| work).await.clone()
    }
}

/// One request's interest in a flight.
struct Ticket<'a, K: Hash + Eq, T> {
    flights: &'a Flights<K, T>,
    key: K,
    cell: Arc<OnceCell<T>>,
}

impl<K: Hash + Eq, T> Drop for Ticket<'_, K, T> {
    fn drop(&mut self) {
        let mut flying = lock(&self.flights.flying);
        let ours = flying
            .get(&self.key)
            .is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // Two owners are the map and this ticket: nobody else waits.
        let abandoned = Arc::strong_count(&self.cell) <= 2;
        if ours && (self.cell.initialized() || abandoned) {
            flying.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const NOW: Timestamp = Timestamp::from_seconds(1000);
    const LATER: Timestamp = Timestamp::from_seconds(2000);

    #[test]
    fn a_flood_of_new_keys_does_not_push_out_used_ones() {
        let cache: Cache<u64, u64> = Cache::new(SHARDS * 100);
        for key in 0..100 {
            cache.insert(key, key, 1, LATER);
            assert_eq!(cache.get(&key, NOW), Some(key));
        }
        let evicted: usize = (1000..100_000)
            .map(|key| cache.insert(key, key, 1, LATER))
            .sum();
        let kept = (0..100).filter(|key| cache.get(key, NOW).is_some()).count();
        assert_eq!(kept, 100);
        assert!(cache.len() <= SHARDS * 100);
        assert!(evicted > 90_000);
    }

    #[test]
    fn entries_end_and_can_be_removed() {
        let cache: Cache<u8, u8> = Cache::new(1600);
        cache.insert(1, 1, 1, LATER);
        assert_eq!(cache.get(&1, LATER), None);
        cache.insert(1, 2, 1, LATER);
        assert_eq!(cache.get(&1, NOW), Some(2));
        cache.remove(&1);
        assert_eq!((cache.get(&1, NOW), cache.len()), (None, 0));
        cache.insert(1, 1, 101, LATER);
        assert_eq!(cache.len(), 0);
    }

    #[tokio::test]
    async fn concurrent_requests_share_one_result() {
        let (flights, calls) = (Flights::new(), AtomicUsize::new(0));
        let work = || async {
            calls.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            7
        };
        let (a, b) = tokio::join!(flights.run(1, work()), flights.run(1, work()));
        assert_eq!((a, b, calls.load(Ordering::Relaxed)), (7, 7, 1));
        assert_eq!(flights.run(1, work()).await, 7);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        assert!(lock(&flights.flying).is_empty());
    }
}
