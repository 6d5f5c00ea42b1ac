//! Signing on few threads, and remembering what was signed.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderValue;
use o28m_core::Timestamp;
use o28m_jose::slots::{KeyRing, SharedKeys};
use o28m_jose::{KeyError, SigningKey, base64url, encode};
use o28m_telemetry::metrics::{Counter, Histogram, Registry};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::cache::{Cache, Flights};

/// Signatures that may wait for a thread before requests are refused.
const WAITING_MAX: usize = 1024;
/// Seconds a token without end is remembered.
const ENDLESS_TTL_S: i64 = 300;
/// Bytes an entry takes besides its token.
const ENTRY_BYTES: usize = 160;

/// Why a token could not be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignError {
    #[error("no signing key available")]
    NoKey,
    #[error(
        "Key is too weak: The JWT JWA Specification (RFC 7518, Section 3.3) states that keys used with RS256 MUST have a size >= 2048 bits."
    )]
    Weak,
    #[error("too many signatures are waiting")]
    Busy,
    #[error("signing failed")]
    Failed,
}

/// A bounded number of threads for work that takes long.
pub(crate) struct CpuPool {
    running: Arc<Semaphore>,
    admitted: Semaphore,
}

impl CpuPool {
    /// As many at once as there are cores.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            running: Arc::new(Semaphore::new(cores)),
            admitted: Semaphore::new(cores + WAITING_MAX),
        }
    }

    /// Runs `work` on another thread.
    ///
    /// # Errors
    /// [`SignError::Busy`] when too much is waiting already, [`SignError::Failed`] when `work`
    /// panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SignError> {
        let _admission = self.admitted.try_acquire().map_err(|_| SignError::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        let permit = running.map_err(|_| SignError::Failed)?;
        let work = move || {
            let result = work();
            drop(permit);
            result
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| SignError::Failed)
    }
}

type Key = (u64, [u8; 32]);

/// Makes the gateway's tokens. A token is a function of its claims and the key alone, so one that
/// was made before is as good as a new one.
pub(crate) struct Signer {
    keys: SharedKeys,
    cpu: Arc<CpuPool>,
    signed: Cache<Key, HeaderValue>,
    flights: Flights<Key, Result<HeaderValue, SignError>>,
    hits: Counter,
    misses: Counter,
    evictions: Counter,
    seconds: Histogram,
}

impl Signer {
    /// A signer that remembers up to `cache_bytes_max` of tokens.
    pub(crate) fn new(
        keys: SharedKeys,
        cpu: Arc<CpuPool>,
        cache_bytes_max: usize,
        metrics: &Registry,
    ) -> Self {
        let counter = |what: &str, help| {
            let name = format!("o28m_jumper_lms_cache_{what}_total");
            metrics.counter(&name, help, &[])
        };
        Self {
            keys,
            cpu,
            signed: Cache::new(cache_bytes_max),
            flights: Flights::new(),
            hits: counter("hits", "Tokens taken from the signed-token cache."),
            misses: counter("misses", "Tokens that had to be signed."),
            evictions: counter("evictions", "Tokens pushed out of the signed-token cache."),
            seconds: metrics.histogram(
                "o28m_jumper_lms_sign_seconds",
                "Time to sign a token, with waiting for a thread.",
                &[],
                &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 1.0],
            ),
        }
    }

    /// `Bearer` and a token with `payload`, which ends at `exp` (seconds since the epoch).
    ///
    /// # Errors
    /// [`SignError`].
    pub(crate) async fn bearer(
        &self,
        payload: &impl Serialize,
        exp: Option<i64>,
        now: Timestamp,
    ) -> Result<HeaderValue, SignError> {
        // One ring for key id and signature, whatever is swapped meanwhile.
        let ring = self.keys.load_full();
        let signing = ring.signing.as_ref().ok_or_else(|| unusable(&ring))?;
        let header = header(Some(signing.kid()));
        let payload = serde_json::to_vec(payload).map_err(|_| SignError::Failed)?;
        let key = (ring.epoch, digest(&header, &payload));
        if let Some(found) = self.signed.get(&key, now) {
            self.hits.add(1);
            return Ok(found);
        }
        let work = async {
            self.misses.add(1);
            let started = Instant::now();
            let signed = self
                .cpu
                .run(move || sign_with_ring(&header, &payload, &ring));
            let signed = signed.await??;
            self.seconds.observe(started.elapsed().as_secs_f64());
            let expires = exp.map_or(now.plus_seconds(ENDLESS_TTL_S), Timestamp::from_seconds);
            if expires > now {
                let weight = signed.len() + ENTRY_BYTES;
                let evicted = self.signed.insert(key, signed.clone(), weight, expires);
                self.evictions.add(evicted as u64);
            }
            Ok(signed)
        };
        self.flights.run(key, work).await
    }
}

/// Why a ring has no key to sign with.
fn unusable(ring: &KeyRing) -> SignError {
    match ring.slots.signing().map(|slot| slot.signing_key()) {
        Some(Err(KeyError::Weak)) => SignError::Weak,
        _ => SignError::NoKey,
    }
}

/// The protected header, `kid` only when there is one.
fn header(kid: Option<&str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Header<'a> {
        typ: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        kid: Option<&'a str>,
        alg: &'static str,
    }
    let header = Header {
        typ: "JWT",
        kid: kid.filter(|kid| !kid.is_empty()),
        alg: "RS256",
    };
    // A struct of strings always serialises.
    serde_json::to_vec(&header).unwrap_or_default()
}

fn digest(header: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(header);
    // No header holds a line break, so the border is unambiguous.
    context.update(b"\n");
    context.update(payload);
    context.finish().as_ref().try_into().unwrap_or_default()
}

fn sign_with_ring(header: &[u8], payload: &[u8], ring: &KeyRing) -> Result<HeaderValue, SignError> {
    let key = ring.signing.as_ref().ok_or(SignError::NoKey)?;
    let token = compact(header, payload, key)?;
    let mut value =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| SignError::Failed)?;
    value.set_sensitive(true);
    Ok(value)
}

fn compact(header: &[u8], payload: &[u8], key: &SigningKey) -> Result<String, SignError> {
    let mut token = encode(header, payload);
    let signature = key.sign(token.as_bytes());
    // An empty signature is how the key says that it failed; it must never leave as a token.
    if signature.is_empty() {
        return Err(SignError::Failed);
    }
    token.push('.');
    token.push_str(&base64url(&signature));
    Ok(token)
}

/// A token signed by a foreign key: without `kid`.
///
/// # Errors
/// [`SignError::Failed`].
pub(crate) fn sign_foreign(
    payload: &impl Serialize,
    key: &SigningKey,
) -> Result<String, SignError> {
    let payload = serde_json::to_vec(payload).map_err(|_| SignError::Failed)?;
    compact(&header(None), &payload, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_form_of_the_original() {
        assert_eq!(
            header(Some("k\"1")),
            br#"{"typ":"JWT","kid":"k\"1","alg":"RS256"}"#
        );
        for kid in [None, Some("")] {
            let text = base64url(&header(kid));
            assert_eq!(text, "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9");
        }
    }
}
