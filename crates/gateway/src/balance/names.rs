//! Names of targets to addresses, looked up outside the request path and kept for all snapshots.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::lookup_host;
use tokio::sync::Semaphore;

use super::{Balancer, Balancing};
use crate::feed::Feed;

/// How often names are looked up: the system's resolver tells no time to live.
const REFRESH: Duration = Duration::from_secs(5);
/// How long the last good answer is used while the resolver does not answer (`dns_stale_ttl`).
const STALE_TTL: Duration = Duration::from_secs(3600);
/// Look-ups at once; a resolver that hangs must not take every blocking thread.
const LOOKUPS_MAX: usize = 8;
/// What resolvers say of a name that does not exist or has no address (glibc, musl).
const NO_SUCH_NAME: [&str; 5] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided",
];

/// What is known of names.
pub(crate) struct Names {
    known: Mutex<HashMap<Arc<str>, Known>>,
    lookups: Semaphore,
    /// Counts changes.
    generation: AtomicU64,
}

struct Known {
    addresses: Arc<[IpAddr]>,
    /// When the answer was given.
    good: Instant,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS_MAX),
            generation: AtomicU64::new(0),
        }
    }
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses, none when there are none; `None` when it was never looked up.
    pub(super) fn known(&self, host: &str) -> Option<Arc<[IpAddr]>> {
        self.lock().get(host).map(|it| it.addresses.clone())
    }

    /// Differs whenever anything is known that was not before.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks a name up.
    pub(super) async fn look_up(&self, host: &Arc<str>) {
        let _permit = self.lookups.acquire().await;
        let answer = lookup_host((&**host, 0)).await;
        let now = Instant::now();
        let mut known = self.lock();
        let old = known.get(host);
        let (addresses, good) = match answer {
            Ok(found) => (preferred(found.map(|it| it.ip()).collect()), now),
            Err(error) => {
                let text = error.to_string();
                let is_gone = NO_SUCH_NAME.iter().any(|it| text.contains(it));
                let kept = old.filter(|it| !is_gone && now.duration_since(it.good) < STALE_TTL);
                tracing::debug!(target.host = %host, %error, "name of a target cannot be resolved");
                kept.map_or_else(|| (Vec::new(), now), |it| (it.addresses.to_vec(), it.good))
            }
        };
        let changed = old.is_none_or(|it| *it.addresses != *addresses);
        let addresses = Arc::from(addresses);
        known.insert(host.clone(), Known { addresses, good });
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Forgets the names that are not among these.
    fn retain(&self, used: &HashSet<&Arc<str>>) {
        self.lock().retain(|host, _| used.contains(host));
    }
}

/// Kong's default order asks for A records alone; AAAA records count when there are no others.
fn preferred(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if addresses.iter().any(IpAddr::is_ipv4) {
        addresses.retain(IpAddr::is_ipv4);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Looks up new names at once and all of them from time to time, for ever.
pub(crate) async fn keep(feed: &Feed, balancing: &Balancing) {
    let mut applied = feed.applied();
    let mut refreshed = Instant::now();
    loop {
        applied.borrow_and_update();
        let snapshot = feed.current();
        let balancers: Vec<&Arc<Balancer>> = snapshot.balancers().filter(|it| it.named).collect();
        join_all(balancers.iter().map(|it| it.resolve(balancing))).await;
        if refreshed.elapsed() >= REFRESH {
            look_up_all(balancing, &balancers).await;
            balancing.sweep();
            refreshed = Instant::now();
        }
        // A ring may also have been made of what was known before the last look-ups.
        for balancer in &balancers {
            balancer.refresh(balancing);
        }
        drop(balancers);
        drop(snapshot);
        let rest = REFRESH.saturating_sub(refreshed.elapsed());
        // Whether a change or the time ends it: there is something to look at.
        let _changed = tokio::time::timeout(rest, applied.changed()).await;
    }
}

async fn look_up_all(balancing: &Balancing, balancers: &[&Arc<Balancer>]) {
    let targets = balancers.iter().flat_map(|it| &it.targets);
    let named = targets.filter(|it| it.is_looked_up());
    let used: HashSet<&Arc<str>> = named.map(|it| &it.host).collect();
    balancing.names.retain(&used);
    join_all(used.iter().map(|host| balancing.names.look_up(host))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_newer_family_count_when_there_are_no_others() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (old, other, new) = (address("10.0.0.2"), address("10.0.0.1"), address("::2"));
        assert_eq!(preferred(vec![new, old, other, old]), [other, old]);
        assert_eq!(preferred(vec![new, new]), [new]);
        assert!(preferred(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn only_changes_make_rings_old() {
        let names = Names::default();
        let host: Arc<str> = Arc::from("localhost");
        assert!(names.known(&host).is_none());
        names.look_up(&host).await;
        let known = names.known(&host).unwrap();
        assert!(known.iter().all(IpAddr::is_loopback) && !known.is_empty());
        let generation = names.generation();
        names.look_up(&host).await;
        assert_eq!(names.generation(), generation);
        names.retain(&HashSet::new());
        assert!(names.known(&host).is_none());
    }
}
