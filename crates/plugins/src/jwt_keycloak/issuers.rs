//! Where the keys of an issuer come from: this process's memory, or the network with a cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt as _;
use o28m_core::{Ambient, Timestamp};
use o28m_gateway::LocalIssuers;
use o28m_jose::JwkSet;
use o28m_net::client::{Pool, TlsPolicy};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::fetch::{self, Deadlines};
use super::keys::KeySet;

/// Keys are fetched again after this time, so that revoked ones vanish; `Cache-Control` shortens it.
const REFRESH_AFTER_S: i64 = 300;
/// What `Cache-Control` can shorten it to.
const REFRESH_AFTER_S_MIN: i64 = 30;
/// Keys of an issuer that cannot be reached are used until this age.
const STALE_S_MAX: i64 = 3600;
/// An issuer that failed is left alone this long while there are no keys of it.
const FAILURE_REMEMBERED_MS: i64 = 1000;

/// An issuer as one or more instances see it. Keyed by its discovery URL: the same `iss` with another
/// template is another source.
pub(super) struct Source {
    issuer: String,
    discovery_url: String,
    tls: TlsPolicy,
    fetched: ArcSwapOption<FetchedKeys>,
    local: ArcSwapOption<KeySet>,
    flight: Mutex<Flight>,
}

struct FetchedKeys {
    keys: Arc<KeySet>,
    at: Timestamp,
    refresh_after_s: i64,
}

/// At most one fetch per issuer is under way.
#[derive(Default)]
struct Flight {
    /// When the last fetch ended, well or not.
    ended: Option<Timestamp>,
    /// Its sender lives as long as the fetch.
    under_way: Option<watch::Receiver<()>>,
}

/// Keys, and where they came from.
#[derive(Clone)]
pub(super) enum Known {
    /// Read from memory: as fresh as can be.
    Local(Arc<KeySet>),
    /// Read from the network some time ago.
    Fetched(Arc<KeySet>),
}

impl Known {
    pub(super) fn keys(&self) -> &Arc<KeySet> {
        match self {
            Self::Local(keys) | Self::Fetched(keys) => keys,
        }
    }
}

/// What tells sources apart: the discovery URL and the certificates to trust.
type SourceKey = (String, Option<Arc<str>>);

/// Every source of this process and the fetches under way.
pub(super) struct Issuers {
    local: Arc<dyn LocalIssuers>,
    ambient: Ambient,
    deadlines: Deadlines,
    sources: Mutex<HashMap<SourceKey, Weak<Source>>>,
    fetches: Mutex<JoinSet<()>>,
}

/// A poisoned lock only says that some other request panicked; the state behind it is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Issuers {
    pub(super) fn new(
        local: Arc<dyn LocalIssuers>,
        ambient: Ambient,
        deadlines: Deadlines,
    ) -> Self {
        Self {
            local,
            ambient,
            deadlines,
            sources: Mutex::default(),
            fetches: Mutex::default(),
        }
    }

    /// The source for `issuer`, shared by all instances that agree on where its discovery document is.
    /// It is forgotten with the last of them.
    pub(super) fn source(
        &self,
        issuer: &str,
        template: &str,
        ca_pem: Option<&Arc<str>>,
    ) -> Arc<Source> {
        let discovery_url = template.replace("%s", issuer);
        let mut sources = lock(&self.sources);
        sources.retain(|_, source| source.strong_count() > 0);
        let key = (discovery_url, ca_pem.cloned());
        if let Some(source) = sources.get(&key).and_then(Weak::upgrade)
            && source.issuer == issuer
        {
            return source;
        }
        let source = Arc::new(Source {
            issuer: issuer.to_owned(),
            discovery_url: key.0.clone(),
            tls: TlsPolicy {
                verify: true,
                ca_pem: ca_pem.cloned(),
                ..TlsPolicy::default()
            },
            fetched: ArcSwapOption::empty(),
            local: ArcSwapOption::empty(),
            flight: Mutex::default(),
        });
        sources.insert(key, Arc::downgrade(&source));
        source
    }

    /// The keys, if they are known without waiting. Those that are due for a refresh are still given
    /// while one is started.
    pub(super) fn known(&self, source: &Arc<Source>, pool: &Arc<Pool>) -> Option<Known> {
        // Memory answers at once; what does not is waited for by `Issuers::keys`.
        match self.local.key_set(&source.issuer).now_or_never()? {
            Some(set) => Some(source.adopt(set)),
            None => self.fetched(source, pool),
        }
    }

    /// The keys, fetched when they are not known; `None` when the issuer cannot be read.
    pub(super) async fn keys(&self, source: &Arc<Source>, pool: &Arc<Pool>) -> Option<Known> {
        if let Some(set) = self.local.key_set(&source.issuer).await {
            return Some(source.adopt(set));
        }
        if let Some(known) = self.fetched(source, pool) {
            return Some(known);
        }
        let fetch = self.start_fetch(source, pool, FAILURE_REMEMBERED_MS);
        ended(fetch?).await;
        self.fetched(source, pool)
    }

    /// Fetched keys that are at least `age_ms` newer than the last fetch; `None` when that is too
    /// recent or the issuer cannot be read.
    pub(super) async fn newer(
        &self,
        source: &Arc<Source>,
        pool: &Arc<Pool>,
        age_ms: i64,
    ) -> Option<Known> {
        let before = source.fetched.load_full().map(|fetched| fetched.at);
        ended(self.start_fetch(source, pool, age_ms)?).await;
        let after = source.fetched.load_full()?;
        (Some(after.at) != before).then(|| Known::Fetched(after.keys.clone()))
    }

    /// Whether [`Issuers::newer`] would look.
    pub(super) fn may_be_newer(&self, source: &Source, age_ms: i64) -> bool {
        let flight = lock(&source.flight);
        flight.is_under_way() || !flight.ended_within(self.ambient.now(), age_ms)
    }

    fn fetched(&self, source: &Arc<Source>, pool: &Arc<Pool>) -> Option<Known> {
        let fetched = source.fetched.load();
        let fetched = fetched.as_ref()?;
        let age_s = self.ambient.now().millis_since(fetched.at) / 1000;
        if age_s >= STALE_S_MAX {
            return None;
        }
        if age_s >= fetched.refresh_after_s {
            // Not waited for: this request is served with the keys at hand.
            drop(self.start_fetch(source, pool, REFRESH_AFTER_S_MIN * 1000));
        }
        Some(Known::Fetched(fetched.keys.clone()))
    }

    /// Joins the fetch under way or starts one; `None` when the last one ended less than `age_ms` ago.
    fn start_fetch(
        &self,
        source: &Arc<Source>,
        pool: &Arc<Pool>,
        age_ms: i64,
    ) -> Option<watch::Receiver<()>> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let mut flight = lock(&source.flight);
        if flight.is_under_way() {
            return flight.under_way.clone();
        }
        if flight.ended_within(self.ambient.now(), age_ms) {
            return None;
        }
        let (alive, under_way) = watch::channel(());
        flight.under_way = Some(under_way.clone());
        drop(flight);
        let (source, pool) = (source.clone(), pool.clone());
        let (ambient, deadlines) = (self.ambient.clone(), self.deadlines);
        let mut fetches = lock(&self.fetches);
        while fetches.try_join_next().is_some() {}
        fetches.spawn_on(
            async move {
                source.refresh(&pool, &ambient, deadlines).await;
                drop(alive);
            },
            &runtime,
        );
        Some(under_way)
    }
}

/// Waits until the sender is gone: the fetch ended, or its thread did.
async fn ended(mut under_way: watch::Receiver<()>) {
    while under_way.changed().await.is_ok() {}
}

impl Flight {
    fn is_under_way(&self) -> bool {
        let under_way = self.under_way.as_ref();
        under_way.is_some_and(|under_way| under_way.has_changed().is_ok())
    }

    fn ended_within(&self, now: Timestamp, age_ms: i64) -> bool {
        let ended = self.ended;
        ended.is_some_and(|ended| now.millis_since(ended) < age_ms)
    }
}

impl Source {
    /// The `iss` value.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    fn adopt(&self, set: Arc<JwkSet>) -> Known {
        let known = self.local.load_full();
        let keys = KeySet::adopt(set, known.clone());
        if !known.is_some_and(|known| Arc::ptr_eq(&known, &keys)) {
            self.local.store(Some(keys.clone()));
        }
        Known::Local(keys)
    }

    async fn refresh(&self, pool: &Arc<Pool>, ambient: &Ambient, deadlines: Deadlines) {
        let fetched = fetch::fetch(pool, &self.discovery_url, &self.tls, deadlines).await;
        let now = ambient.now();
        match fetched {
            Ok(fetched) => {
                let known = self.fetched.load_full();
                let known = known.map(|fetched| fetched.keys.clone());
                let age_s = fetched.max_age_s.unwrap_or(REFRESH_AFTER_S);
                self.fetched.store(Some(Arc::new(FetchedKeys {
                    keys: KeySet::adopt(Arc::new(fetched.set), known),
                    at: now,
                    refresh_after_s: age_s.clamp(REFRESH_AFTER_S_MIN, REFRESH_AFTER_S),
                })));
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(token.issuer = %self.issuer, error, "failed to fetch the keys of an issuer");
            }
        }
        let mut flight = lock(&self.flight);
        flight.ended = Some(now);
        flight.under_way = None;
    }
}
