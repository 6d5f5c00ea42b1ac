//! Names of targets to endpoints, looked up outside the request path and kept for all snapshots.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use o28m_net::dns::{Endpoint, Failure, Resolver};
use tokio::task::JoinSet;

use super::Balancing;
use crate::feed::Feed;

/// Names are looked up again so long after their answers went out of date, as Kong does.
const REFRESH_DELAY: Duration = Duration::from_millis(500);
/// Pause after a look-up that no server could answer.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// How often what is known of addresses is swept.
const SWEEP: Duration = Duration::from_secs(5);
/// Pause between two looks at all names: many may be due at once.
const TICK: Duration = Duration::from_millis(20);

/// What is known of names.
pub(crate) struct Names {
    resolver: Arc<Resolver>,
    known: Mutex<HashMap<Arc<str>, Known>>,
    /// Counts changes.
    generation: AtomicU64,
}

struct Known {
    endpoints: Arc<[Endpoint]>,
    /// Why there are none.
    failure: Option<Failure>,
    /// The generation that they are of.
    changed: u64,
    /// When it is looked up again.
    due: Instant,
}

impl Default for Names {
    fn default() -> Self {
        Self::new(Resolver::shared())
    }
}

impl Names {
    pub(super) fn new(resolver: Arc<Resolver>) -> Self {
        Self {
            resolver,
            known: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoints, none when there are none; `None` when it was never looked up.
    pub(super) fn known(&self, host: &str) -> Option<Arc<[Endpoint]>> {
        self.lock().get(host).map(|it| it.endpoints.clone())
    }

    /// Why the name has no endpoints.
    pub(super) fn failure(&self, host: &str) -> Option<Failure> {
        self.lock().get(host)?.failure.clone()
    }

    /// Differs whenever anything is known that was not before.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether anything is known of one of the names that was not in a generation.
    pub(super) fn have_changed<'a>(
        &self,
        mut hosts: impl Iterator<Item = &'a Arc<str>>,
        since: u64,
    ) -> bool {
        if self.generation() == since {
            return false;
        }
        let known = self.lock();
        hosts.any(|host| known.get(host).is_some_and(|it| it.changed > since))
    }

    /// Looks a name up.
    pub(super) async fn look_up(&self, host: &Arc<str>) {
        let (found, until) = self.resolver.renew(host).await;
        let now = self.resolver.now();
        let (mut endpoints, due) = match &found {
            Ok(found) => (found.preferred().to_vec(), until + REFRESH_DELAY),
            Err(failure) if failure.is_not_found() => (Vec::new(), until + REFRESH_DELAY),
            Err(_) => (Vec::new(), now + RETRY_DELAY),
        };
        endpoints.sort_unstable();
        endpoints.dedup();
        let mut known = self.lock();
        let old = known.get(host).filter(|it| *it.endpoints == *endpoints);
        let changed = match old {
            Some(old) => old.changed,
            None => self.generation.load(Ordering::Relaxed) + 1,
        };
        let entry = Known {
            endpoints: Arc::from(endpoints),
            failure: found.err(),
            changed,
            due,
        };
        let _old = known.insert(host.clone(), entry);
        // While it is locked: whoever reads the new generation finds what is new in it.
        self.generation.fetch_max(changed, Ordering::Release);
    }

    /// Which of the names have to be looked up now, and how long the others have time. Forgets all
    /// that are not among them.
    fn due(&self, used: &HashSet<Arc<str>>) -> (Vec<Arc<str>>, Duration) {
        let now = self.resolver.now();
        let mut known = self.lock();
        known.retain(|host, _| used.contains(host));
        let mut rest = SWEEP;
        let is_due = |host: &&Arc<str>| match known.get(*host) {
            Some(it) if it.due > now => {
                rest = rest.min(it.due.saturating_duration_since(now));
                false
            }
            Some(_) | None => true,
        };
        let due = used.iter().filter(is_due).cloned().collect();
        (due, rest)
    }
}

/// Looks up the names of targets when they are new and when their answers go out of date, for ever.
pub(crate) async fn keep(feed: &Feed, balancing: &Arc<Balancing>) {
    let mut applied = feed.applied();
    let mut swept = Instant::now();
    let mut asking: JoinSet<Arc<str>> = JoinSet::new();
    let mut asked: HashSet<Arc<str>> = HashSet::new();
    loop {
        applied.borrow_and_update();
        let used = refresh(feed, balancing);
        let (due, rest) = balancing.names.due(&used);
        for host in due {
            if asked.insert(host.clone()) {
                let balancing = balancing.clone();
                asking.spawn(async move {
                    balancing.names.look_up(&host).await;
                    host
                });
            }
        }
        if swept.elapsed() >= SWEEP {
            balancing.sweep();
            swept = Instant::now();
        }
        tokio::select! {
            ended = asking.join_next(), if !asking.is_empty() => forget(&mut asked, ended),
            // Whether a change or the time ends it: there is something to look at.
            _changed = tokio::time::timeout(rest, applied.changed()) => {}
        }
        while let Some(ended) = asking.try_join_next() {
            forget(&mut asked, Some(ended));
        }
        tokio::time::sleep(TICK).await;
    }
}

fn forget(asked: &mut HashSet<Arc<str>>, ended: Option<Result<Arc<str>, tokio::task::JoinError>>) {
    match ended {
        Some(Ok(host)) => drop(asked.take(&host)),
        // It panicked: which one is not known, so all may be asked again.
        Some(Err(_)) => asked.clear(),
        None => {}
    }
}

/// Makes the rings anew whose names changed; gives all names in use.
fn refresh(feed: &Feed, balancing: &Balancing) -> HashSet<Arc<str>> {
    let snapshot = feed.current();
    let balancers = snapshot.balancers().filter(|it| it.named);
    let mut used = HashSet::new();
    for balancer in balancers {
        balancer.refresh(balancing);
        let named = balancer.targets.iter().filter(|it| it.is_looked_up());
        used.extend(named.map(|it| it.host.clone()));
    }
    used
}

#[cfg(test)]
mod tests {
    use o28m_net::dns::Settings;
    use o28m_net::dns::testing::NameServer;

    use super::*;

    #[tokio::test]
    async fn only_changes_make_rings_old() {
        let server = NameServer::start().await.unwrap();
        server.set_addresses("a.test", 60, &["10.0.0.2", "fd00::1", "10.0.0.1"]);
        let names = Names::new(Resolver::new(Settings {
            servers: vec![server.address],
            hosts_file: None,
            resolv_conf: None,
            valid_ttl: Some(Duration::ZERO),
            ..Settings::default()
        }));
        let host: Arc<str> = Arc::from("a.test");
        assert!(names.known(&host).is_none());
        names.look_up(&host).await;
        let known = names.known(&host).unwrap();
        let known: Vec<_> = known.iter().map(|it| it.ip.to_string()).collect();
        assert_eq!(known, ["10.0.0.1", "10.0.0.2"], "of the preferred family");
        let generation = names.generation();
        assert!(names.have_changed(std::iter::once(&host), generation - 1));
        names.look_up(&host).await;
        assert_eq!(names.generation(), generation);
        assert!(!names.have_changed(std::iter::once(&host), generation));
        let other: Arc<str> = Arc::from("none.test");
        names.look_up(&other).await;
        assert!(names.known(&other).unwrap().is_empty());
        assert!(!names.have_changed(std::iter::once(&host), generation));
        let used = HashSet::from([other.clone()]);
        let (due, rest) = names.due(&used);
        assert!(due.is_empty() && rest > Duration::ZERO, "{due:?}");
        assert!(names.known(&host).is_none());
    }
}
