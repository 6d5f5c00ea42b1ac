//! Basic authentication of the Admin API against an htpasswd file that may change at any time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use o28m_core::Rng;
use tokio::sync::Semaphore;

use crate::htpasswd;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::throttle::Throttle;

/// How old the file in memory may be when a request comes in.
const RELOAD_INTERVAL: Duration = Duration::from_millis(500);
/// How long a verified header is believed without hashing again.
const VERIFIED_TTL: Duration = Duration::from_secs(60);
/// Verified headers remembered; more make all be forgotten.
const VERIFIED_MAX: usize = 1024;
/// Bytes of the file; larger ones are not read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Password checks at the same time.
const CHECKS_MAX: usize = 2;
/// Password checks that run or wait; further requests are refused.
const WAITING_MAX: usize = 256;

/// The users, and who proved to be one.
pub(crate) struct Guard {
    path: PathBuf,
    users: ArcSwap<Users>,
    /// Milliseconds after `started` when the file is to be read again.
    reload_at_ms: AtomicU64,
    started: Instant,
    /// Salts the memory of verified headers.
    key: hmac::Key,
    checks: Arc<Semaphore>,
    waiting: Semaphore,
    throttle: Throttle,
    /// Where password checks are counted, once it is known.
    metrics: Arc<OnceLock<Metrics>>,
}

/// One state of the file. What was verified against it is forgotten with it.
#[derive(Default)]
struct Users {
    file: String,
    verified: Mutex<HashMap<Vec<u8>, Instant>>,
}

impl Guard {
    /// Reads the file for the first time.
    pub(crate) fn new(path: PathBuf, rng: &dyn Rng, metrics: Arc<OnceLock<Metrics>>) -> Self {
        let mut salt = [0; 32];
        rng.fill(&mut salt);
        let users = load(&path);
        Self {
            path,
            users: ArcSwap::from_pointee(users),
            reload_at_ms: AtomicU64::new(0),
            started: Instant::now(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &salt),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            waiting: Semaphore::new(WAITING_MAX),
            throttle: Throttle::default(),
            metrics,
        }
    }

    /// Hashes the next password of everyone again.
    pub(crate) fn forget(&self) {
        self.users.load().forget();
    }

    /// Lets a request pass whose credentials are those of a user; gives its name. Wrong passwords make
    /// their source wait, except for credentials that were right before.
    pub(crate) async fn check(
        &self,
        headers: &HeaderMap,
        source: IpAddr,
    ) -> Result<String, Problem> {
        self.reload().await;
        let denied = || Problem::Unauthorized {
            html: prefers_html(headers),
        };
        let header = headers.get(header::AUTHORIZATION).ok_or_else(denied)?;
        let (user, password) = credentials(header.as_bytes()).ok_or_else(denied)?;
        let users = self.users.load_full();
        let digest = hmac::sign(&self.key, header.as_bytes()).as_ref().to_vec();
        if users.is_verified(&digest) {
            return Ok(user);
        }
        if !self.throttle.allows(source, Instant::now()) {
            return Err(Problem::Throttled);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Problem::Busy)?;
        let permit = Arc::clone(&self.checks)
            .acquire_owned()
            .await
            .map_err(|_| Problem::Busy)?;
        // Someone with the same credentials may have been in front.
        if users.is_verified(&digest) {
            return Ok(user);
        }
        if let Some(metrics) = self.metrics.get() {
            metrics.password_checks.add(1);
        }
        let (checked, name) = (Arc::clone(&users), user.clone());
        let check = tokio::task::spawn_blocking(move || {
            // The permit goes with the work, so that dropped requests do not overbook the processors.
            let _permit = permit;
            htpasswd::verify(&checked.file, &name, &password)
        });
        match check.await {
            Ok(true) => {
                users.remember(digest);
                Ok(user)
            }
            Ok(false) => {
                self.throttle.failed(source, Instant::now());
                tracing::info!(
                    client.address = %source,
                    "credentials of the Admin API refused"
                );
                Err(denied())
            }
            Err(_) => Err(Problem::Internal),
        }
    }

    async fn reload(&self) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.reload_at_ms.load(Ordering::Acquire);
        let next = now_ms.saturating_add(u64::try_from(RELOAD_INTERVAL.as_millis()).unwrap_or(0));
        let mine = now_ms >= due
            && self
                .reload_at_ms
                .compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        if !mine {
            return;
        }
        let path = self.path.clone();
        let Ok(file) = tokio::task::spawn_blocking(move || read(&path)).await else {
            return;
        };
        if file != self.users.load().file {
            tracing::info!(path = %self.path.display(), "users of the Admin API changed");
            warn(&self.path, &file);
            self.users.store(Arc::new(Users {
                file,
                verified: Mutex::default(),
            }));
        }
    }
}

impl Users {
    fn is_verified(&self, digest: &[u8]) -> bool {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified
            .get(digest)
            .is_some_and(|since| since.elapsed() < VERIFIED_TTL)
    }

    fn forget(&self) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.clear();
    }

    fn remember(&self, digest: Vec<u8>) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= VERIFIED_MAX {
            verified.clear();
        }
        verified.insert(digest, Instant::now());
    }
}

fn load(path: &Path) -> Users {
    let file = read(path);
    warn(path, &file);
    Users {
        file,
        verified: Mutex::default(),
    }
}

/// The file's text; an unreadable file has no users.
fn read(path: &Path) -> String {
    let size = std::fs::metadata(path).map(|metadata| metadata.len());
    if size.is_ok_and(|size| size > FILE_BYTES_MAX) {
        return String::new();
    }
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Says who cannot log in, and why.
fn warn(path: &Path, file: &str) {
    if file.trim().is_empty() {
        tracing::warn!(
            path = %path.display(),
            "users of the Admin API cannot be read or there are none: nobody can log in"
        );
    }
    for user in htpasswd::unusable(file) {
        tracing::warn!(
            path = %path.display(),
            user.name = user,
            "password hash is of no known kind: the user cannot log in, make a line with `o28m htpasswd`"
        );
    }
}

/// User and password of a basic `Authorization` value.
fn credentials(header: &[u8]) -> Option<(String, String)> {
    let header = std::str::from_utf8(header).ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn prefers_html(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.contains("text/html") && !accept.contains("json")
}
