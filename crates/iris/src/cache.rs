//! Compiled objects in memory, dropped when something they were made of changes.
//!
//! An entry names what it depends on. Changes are remembered by the same names, and an entry is
//! compared with them when it is used: nothing has to know who uses what.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use o28m_store::{Change, Changes as Feed, Store};

/// Changed names remembered; beyond that every entry counts as changed once.
const CHANGED_MAX: usize = 65_536;
/// Pause after the database failed to say what changed.
const RETRY: Duration = Duration::from_millis(200);
/// How often expired sessions are deleted.
const SWEEP: Duration = Duration::from_secs(60);
/// Batches deleted at once, and what a full batch has at least.
const SWEEPS_MAX: usize = 100;
const SWEEP_FULL: u64 = 1000;

/// The name under which all objects of a kind in a realm are depended on.
pub(crate) fn group(kind: &str, owner: &str) -> String {
    format!("{kind}@{owner}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock is held leaves plain maps behind, which stay usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Seen {
    /// Newest version known to this process.
    version: i64,
    /// Entries made before this tick are stale.
    floor: u64,
    changed: HashMap<String, i64>,
}

/// What changed lately.
#[derive(Default)]
pub(crate) struct Changed {
    seen: Mutex<Seen>,
    /// Rises with every change that was noted.
    tick: AtomicU64,
}

impl Changed {
    /// Notes that these names changed at `version`.
    pub(crate) fn note(&self, version: i64, names: impl IntoIterator<Item = String>) {
        let mut seen = lock(&self.seen);
        for name in names {
            let at = seen.changed.entry(name).or_default();
            *at = version.max(*at);
        }
        seen.version = seen.version.max(version);
        let tick = self.tick.fetch_add(1, Ordering::Release).saturating_add(1);
        if seen.changed.len() > CHANGED_MAX {
            seen.changed.clear();
            seen.floor = tick;
        }
    }

    /// Notes that anything may have changed up to `version`.
    fn forget(&self, version: i64) {
        let mut seen = lock(&self.seen);
        seen.changed.clear();
        seen.version = seen.version.max(version);
        seen.floor = self.tick.fetch_add(1, Ordering::Release).saturating_add(1);
    }

    /// Makes every entry stale.
    pub(crate) fn forget_now(&self) {
        let mut seen = lock(&self.seen);
        seen.floor = self.tick.fetch_add(1, Ordering::Release).saturating_add(1);
    }

    /// Version and tick to stamp an entry with, taken before it is loaded.
    fn stamp(&self) -> (i64, u64) {
        let seen = lock(&self.seen);
        (seen.version, self.tick.load(Ordering::Acquire))
    }

    fn is_fresh<T>(&self, entry: &Entry<T>) -> bool {
        let tick = self.tick.load(Ordering::Acquire);
        if entry.checked.load(Ordering::Relaxed) == tick {
            return true;
        }
        let seen = lock(&self.seen);
        let changed = |name: &String| seen.changed.get(name).is_some_and(|at| *at > entry.loaded);
        if entry.made < seen.floor || entry.depends.iter().any(changed) {
            return false;
        }
        entry.checked.store(tick, Ordering::Relaxed);
        true
    }
}

/// A value and what it was made of.
pub(crate) struct Made<T> {
    /// The value.
    pub(crate) value: T,
    /// Ids and [`group`]s whose change makes it stale.
    pub(crate) depends: Vec<String>,
}

struct Entry<T> {
    value: Arc<T>,
    depends: Vec<String>,
    loaded: i64,
    made: u64,
    checked: AtomicU64,
}

type Generation<T> = HashMap<String, Arc<Entry<T>>>;

/// A bounded read-through cache. Two generations stand in for least-recently-used order: what is
/// used moves to the young one, and a full young one replaces the old one.
pub(crate) struct Cache<T> {
    generations: Mutex<(Generation<T>, Generation<T>)>,
    changed: Arc<Changed>,
    entries_max: usize,
}

impl<T> Cache<T> {
    /// An empty cache of at most `entries_max` entries.
    pub(crate) fn new(entries_max: usize, changed: &Arc<Changed>) -> Self {
        Self {
            generations: Mutex::default(),
            changed: Arc::clone(changed),
            entries_max,
        }
    }

    fn find(&self, key: &str) -> Option<Arc<Entry<T>>> {
        let mut generations = lock(&self.generations);
        let (young, old) = &mut *generations;
        if let Some(entry) = young.get(key) {
            return Some(Arc::clone(entry));
        }
        let entry = old.remove(key)?;
        young.insert(key.to_owned(), Arc::clone(&entry));
        Some(entry)
    }

    fn keep(&self, key: &str, entry: Arc<Entry<T>>) {
        let mut generations = lock(&self.generations);
        let (young, old) = &mut *generations;
        if young.len() * 2 >= self.entries_max {
            *old = std::mem::take(young);
        }
        young.insert(key.to_owned(), entry);
    }

    /// The fresh value of `key`, loading it when there is none. Absence is not remembered.
    ///
    /// # Errors
    /// Those of `load`.
    pub(crate) async fn get<E, F: Future<Output = Result<Option<Made<T>>, E>>>(
        &self,
        key: &str,
        load: impl FnOnce() -> F,
    ) -> Result<Option<Arc<T>>, E> {
        if let Some(entry) = self.find(key)
            && self.changed.is_fresh(&entry)
        {
            return Ok(Some(Arc::clone(&entry.value)));
        }
        // Taken before reading: a change that comes in between makes the entry stale, never missed.
        let (loaded, tick) = self.changed.stamp();
        // Boxed: loading is rare and its future large, and callers carry this one in theirs.
        let Some(made) = Box::pin(load()).await? else {
            return Ok(None);
        };
        let entry = Entry {
            value: Arc::new(made.value),
            depends: made.depends,
            loaded,
            made: tick,
            checked: AtomicU64::new(u64::MAX),
        };
        let value = Arc::clone(&entry.value);
        self.keep(key, Arc::new(entry));
        Ok(Some(value))
    }
}

/// Follows the store's changes and deletes expired sessions until it is dropped.
pub(crate) async fn follow(
    store: Store,
    changed: Arc<Changed>,
    clock: Arc<dyn o28m_core::Clock>,
    mut done: i64,
) {
    let mut announced = store.subscribe();
    // Something may have been written between reading `done` and subscribing.
    announced.mark_changed();
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            alive = announced.changed() => if alive.is_err() { return },
            _ = sweep.tick() => {
                sweep_all(&store, clock.now().seconds()).await;
                continue;
            }
        }
        let newest = *announced.borrow_and_update();
        while done < newest {
            match store.changes_since(done).await {
                Ok(Feed::Since(changes)) => {
                    done = changes
                        .last()
                        .map_or(newest, |change| change.version)
                        .max(newest);
                    for Change {
                        version,
                        kind,
                        id,
                        owner,
                        ..
                    } in changes
                    {
                        changed.note(version, [group(&kind, &owner), id]);
                    }
                }
                Ok(Feed::Truncated) => {
                    done = newest;
                    changed.forget(newest);
                }
                Err(error) => {
                    tracing::warn!(error = %error, "changes could not be read, trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Deletes what expired, a bounded number at a time, for as long as there is much of it.
async fn sweep_all(store: &Store, now_s: i64) {
    for _ in 0..SWEEPS_MAX {
        match store.expire_sessions(now_s).await {
            Ok(deleted) if deleted >= SWEEP_FULL => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(error = %error, "expired sessions could not be deleted");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn load(cache: &Cache<u32>, key: &str, value: u32) -> u32 {
        let made = async || {
            Ok::<_, ()>(Some(Made {
                value,
                depends: vec![format!("id-{key}")],
            }))
        };
        *cache.get(key, made).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn an_entry_lives_until_something_it_was_made_of_changes() {
        let changed = Arc::new(Changed::default());
        let cache = Cache::new(10, &changed);
        assert_eq!(load(&cache, "a", 1).await, 1);
        assert_eq!(load(&cache, "a", 2).await, 1);
        changed.note(5, ["id-b".to_owned()]);
        assert_eq!(load(&cache, "a", 3).await, 1);
        changed.note(6, ["id-a".to_owned()]);
        assert_eq!(load(&cache, "a", 4).await, 4);
        // A late announcement of an older version is not lost behind a newer own write.
        changed.note(9, ["id-c".to_owned()]);
        changed.note(8, ["id-a".to_owned()]);
        assert_eq!(load(&cache, "a", 5).await, 5);
        changed.forget(9);
        assert_eq!(load(&cache, "a", 6).await, 6);
    }

    #[tokio::test]
    async fn it_stays_within_its_bound() {
        let cache = Cache::new(8, &Arc::new(Changed::default()));
        for key in 0..100 {
            load(&cache, &key.to_string(), key).await;
        }
        let generations = lock(&cache.generations);
        assert!(generations.0.len() + generations.1.len() <= 8);
    }
}
