//! The names that a resolver remembers. Reading takes no lock; new names do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use rpds::HashTrieMapSync;
use tokio::sync::Notify;

use super::walk::Hint;
use super::{Failure, Found};

/// What a look-up gave, and how long it counts.
pub(super) struct Answer {
    pub(super) result: Result<Arc<Found>, Failure>,
    pub(super) fresh_until: Instant,
    /// Afterwards it is not even used while a new one cannot be had.
    pub(super) usable_until: Instant,
}

impl Answer {
    pub(super) fn failed(failure: Failure, now: Instant) -> Self {
        Self {
            result: Err(failure),
            fresh_until: now,
            usable_until: now,
        }
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.fresh_until
    }

    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.result.is_ok() && now < self.usable_until
    }
}

/// A name.
pub(super) struct Name {
    pub(super) host: Arc<str>,
    answer: ArcSwapOption<Answer>,
    hint: Mutex<Option<Hint>>,
    asking: AtomicBool,
    /// Told when a look-up is over.
    pub(super) answered: Notify,
    /// Used since it was last looked for names to forget.
    used: AtomicBool,
    ill: AtomicBool,
    /// How many names of the resolver cannot be resolved.
    failing: Arc<AtomicUsize>,
}

impl Name {
    fn new(host: &Arc<str>, failing: &Arc<AtomicUsize>) -> Self {
        Self {
            host: host.clone(),
            answer: ArcSwapOption::empty(),
            hint: Mutex::new(None),
            asking: AtomicBool::new(false),
            answered: Notify::new(),
            // Names that were asked for only once are forgotten first.
            used: AtomicBool::new(false),
            ill: AtomicBool::new(false),
            failing: failing.clone(),
        }
    }

    /// It is in use; threads that only read must not write to the same place all the time.
    fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn answer(&self) -> Option<Arc<Answer>> {
        self.answer.load_full()
    }

    pub(super) fn set(&self, answer: Arc<Answer>) {
        self.answer.store(Some(answer));
    }

    pub(super) fn hint(&self) -> Option<Hint> {
        self.hint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn remember(&self, hint: Option<Hint>) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = hint;
    }

    /// The right to look it up; `None` while somebody else has it.
    pub(super) fn begin(this: &Arc<Self>) -> Option<Asking> {
        let busy = this.asking.swap(true, Ordering::AcqRel);
        (!busy).then(|| Asking(this.clone()))
    }

    /// It cannot be resolved. Gives how many cannot, when it could be before.
    pub(super) fn fails(&self) -> Option<usize> {
        let known = self.ill.swap(true, Ordering::Relaxed);
        (!known).then(|| self.failing.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// It can be resolved. Gives whether it was the last one that could not.
    pub(super) fn recovers(&self) -> bool {
        self.ill.swap(false, Ordering::Relaxed) && self.failing.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.recovers();
    }
}

/// A look-up on its way. Dropping it, for whatever reason, lets others look.
pub(super) struct Asking(Arc<Name>);

impl Asking {
    pub(super) fn name(&self) -> &Name {
        &self.0
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asking.store(false, Ordering::Release);
        self.0.answered.notify_waiters();
    }
}

/// All names.
pub(super) struct Names {
    by_host: ArcSwap<HashTrieMapSync<Arc<str>, Arc<Name>>>,
    writing: Mutex<()>,
    most: usize,
    failing: Arc<AtomicUsize>,
}

impl Names {
    pub(super) fn new(most: usize) -> Self {
        Self {
            by_host: ArcSwap::default(),
            writing: Mutex::new(()),
            most: most.max(1),
            failing: Arc::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_host.load().size()
    }

    /// The last answer, while it counts.
    pub(super) fn fresh(&self, host: &str, now: Instant) -> Option<Result<Arc<Found>, Failure>> {
        let names = self.by_host.load();
        let name = names.get(host)?;
        name.touch();
        let answer = name.answer.load();
        let answer = answer.as_ref().filter(|it| it.is_fresh(now))?;
        Some(answer.result.clone())
    }

    /// The name, which is remembered from now on.
    pub(super) fn get(&self, host: &Arc<str>) -> Arc<Name> {
        if let Some(name) = self.by_host.load().get(host) {
            name.touch();
            return name.clone();
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_host = HashTrieMapSync::clone(&self.by_host.load());
        if let Some(name) = by_host.get(host) {
            return name.clone();
        }
        if by_host.size() >= self.most {
            self.forget(&mut by_host);
        }
        let name = Arc::new(Name::new(host, &self.failing));
        by_host.insert_mut(host.clone(), name.clone());
        self.by_host.store(Arc::new(by_host));
        name
    }

    /// Makes room for an eighth of all: of names that were not used lately as far as there are any.
    fn forget(&self, by_host: &mut HashTrieMapSync<Arc<str>, Arc<Name>>) {
        let excess = by_host.size() + 1 - self.most + self.most / 8;
        let (mut idle, busy): (Vec<_>, Vec<_>) = by_host
            .iter()
            .partition(|(_, name)| !name.used.swap(false, Ordering::Relaxed));
        idle.extend(busy);
        let forgotten: Vec<Arc<str>> = idle
            .iter()
            .take(excess)
            .map(|(host, _)| (*host).clone())
            .collect();
        for host in forgotten {
            by_host.remove_mut(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_names_are_remembered_than_allowed() {
        let names = Names::new(16);
        let host = |at: usize| -> Arc<str> { Arc::from(format!("host-{at}.example")) };
        let first = names.get(&host(0));
        for at in 1..500 {
            names.get(&host(at));
            assert!(names.len() <= 16);
            // What is used again and again stays.
            assert!(Arc::ptr_eq(&first, &names.get(&host(0))), "{at}");
        }
    }

    #[test]
    fn names_that_fail_are_counted_once() {
        let names = Names::new(4);
        let (a, b) = (names.get(&Arc::from("a")), names.get(&Arc::from("b")));
        assert_eq!([a.fails(), a.fails(), b.fails()], [Some(1), None, Some(2)]);
        assert_eq!(
            [a.recovers(), a.recovers(), b.recovers()],
            [false, false, true]
        );
        assert_eq!(b.fails(), Some(1));
    }
}
