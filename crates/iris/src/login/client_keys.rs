//! Keys that clients publish under a URL: fetched when they are needed, kept a while, and asked for again
//! when a token names one that is not among them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use o28m_core::limits::JWKS_BYTES_MAX;
use o28m_jose::JwkSet;
use tokio::sync::Semaphore;

use crate::{Iris, WebError};

/// Key sets kept at most.
const SETS_MAX: usize = 1000;
/// Keys of one set that are looked at.
const KEYS_MAX: usize = 100;
/// Seconds a key set is used without a look (Keycloak 26.5: a day).
const FRESH_S: i64 = 24 * 3600;
/// Seconds between two looks at one URL (Keycloak 26.5), also after one that failed.
const PAUSE_S: i64 = 10;
/// Fetches at once.
const FETCHES_MAX: usize = 16;

/// What is known of the keys under a URL.
#[derive(Clone)]
struct Known {
    keys: Option<Arc<JwkSet>>,
    fetched_s: i64,
    tried_s: i64,
}

/// Key sets of clients, by URL.
pub(crate) struct ClientKeys {
    known: Mutex<HashMap<String, Known>>,
    fetching: Semaphore,
}

impl Default for ClientKeys {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            fetching: Semaphore::new(FETCHES_MAX),
        }
    }
}

impl ClientKeys {
    /// What is known, and whether it is time for a look, which is noted.
    fn look(&self, url: &str, kid: Option<&str>, now_s: i64) -> (Option<Arc<JwkSet>>, bool) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.get(url).cloned();
        let keys = found.as_ref().and_then(|it| it.keys.clone());
        let has_key = |set: &Arc<JwkSet>| kid.is_none_or(|kid| set.by_kid(kid).is_some());
        let is_fresh = |it: &Known| now_s < it.fetched_s.saturating_add(FRESH_S);
        if keys.as_ref().is_some_and(has_key) && found.as_ref().is_some_and(is_fresh) {
            return (keys, false);
        }
        let tried = found.as_ref().map(|it| it.tried_s);
        if tried.is_some_and(|tried_s| now_s < tried_s.saturating_add(PAUSE_S)) {
            return (keys, false);
        }
        if all.len() >= SETS_MAX && !all.contains_key(url) {
            all.clear();
        }
        let entry = all.entry(url.to_owned()).or_insert(Known {
            keys: None,
            fetched_s: 0,
            tried_s: now_s,
        });
        entry.tried_s = now_s;
        (keys, true)
    }

    fn keep(&self, url: &str, set: &Arc<JwkSet>, now_s: i64) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = all.get_mut(url) {
            entry.keys = Some(Arc::clone(set));
            entry.fetched_s = now_s;
        }
    }
}

impl Iris {
    /// The keys under a client's URL, as far as they are known or can be had.
    pub(crate) async fn published_keys(&self, url: &str, kid: Option<&str>) -> Option<Arc<JwkSet>> {
        let now_s = self.ambient.now().seconds();
        let (known, look) = self.client_keys.look(url, kid, now_s);
        if !look {
            return known;
        }
        match self.fetch_keys(url).await {
            Ok(set) => {
                self.client_keys.keep(url, &set, now_s);
                Some(set)
            }
            Err(error) => {
                // A query may hold what is nobody's business.
                let at = url.split('?').next().unwrap_or_default();
                tracing::warn!(%error, url = at, "keys of a client could not be fetched");
                known
            }
        }
    }

    async fn fetch_keys(&self, url: &str) -> Result<Arc<JwkSet>, WebError> {
        let _place = self
            .client_keys
            .fetching
            .try_acquire()
            .map_err(|_| WebError::Silent)?;
        let body = self.web()?.get(url, JWKS_BYTES_MAX).await?;
        let mut set: JwkSet = serde_json::from_slice(&body).map_err(|_| WebError::Silent)?;
        set.keys.truncate(KEYS_MAX);
        Ok(Arc::new(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_looked_at_when_there_is_reason_and_not_too_often() {
        let keys = ClientKeys::default();
        let set = Arc::new(JwkSet {
            keys: vec![o28m_jose::Jwk {
                kid: Some("a".to_owned()),
                ..o28m_jose::Jwk::default()
            }],
        });
        assert!(keys.look("u", None, 100).1);
        // While the first look is on its way, and after it failed.
        assert!(!keys.look("u", None, 109).1);
        assert!(keys.look("u", None, 110).1);
        keys.keep("u", &set, 110);
        assert!(!keys.look("u", Some("a"), 1000).1);
        assert!(keys.look("u", Some("b"), 1000).1);
        let (known, look) = keys.look("u", Some("b"), 1005);
        assert!(known.is_some() && !look);
        assert!(keys.look("u", Some("a"), 110 + FRESH_S).1);
    }

    #[test]
    fn urls_are_forgotten_before_they_are_too_many() {
        let keys = ClientKeys::default();
        for at in 0..SETS_MAX * 2 {
            keys.look(&at.to_string(), None, 0);
        }
        assert!(keys.known.lock().unwrap().len() <= SETS_MAX);
    }
}
