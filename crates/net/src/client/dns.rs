//! Names to addresses: the system resolver on blocking threads, behind a small cache.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::{OnceCell, Semaphore};

use super::SendError;

/// How long an answer, also a negative one, is kept: the system resolver tells no time to live.
const TTL: Duration = Duration::from_secs(5);
/// Names kept.
const NAMES_MAX: usize = 1024;
/// Look-ups at once; a resolver that hangs must not take every blocking thread.
const LOOKUPS_MAX: usize = 16;
/// What resolvers say of a name that does not exist or has no address (glibc, musl).
const NO_SUCH_NAME: [&str; 5] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "nodename nor servname provided",
];

type Answer = Result<Arc<[IpAddr]>, Failure>;

/// Why a name has no address; it can be told to several callers.
#[derive(Clone)]
enum Failure {
    NoSuchName,
    Resolver(io::ErrorKind, Arc<str>),
}

struct Entry {
    since: Instant,
    answer: Arc<OnceCell<Answer>>,
}

/// The resolver of one pool.
pub(crate) struct Resolver {
    names: Mutex<HashMap<Arc<str>, Entry>>,
    lookups: Semaphore,
    turn: AtomicUsize,
}

impl Resolver {
    pub(super) fn new() -> Self {
        Self {
            names: Mutex::new(HashMap::new()),
            lookups: Semaphore::new(LOOKUPS_MAX),
            turn: AtomicUsize::new(0),
        }
    }

    /// The addresses of `host`, beginning with another one each time.
    pub(super) async fn resolve(
        &self,
        host: &Arc<str>,
        port: u16,
    ) -> Result<Vec<SocketAddr>, SendError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        match self.answer(host).await {
            Ok(addresses) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
                let rotated = addresses.iter().cycle().skip(turn).take(addresses.len());
                Ok(rotated
                    .map(|address| SocketAddr::new(*address, port))
                    .collect())
            }
            Err(failure) => Err(SendError::Resolve {
                host: host.clone(),
                source: match failure {
                    Failure::NoSuchName => None,
                    Failure::Resolver(kind, text) => Some(io::Error::new(kind, text.to_string())),
                },
            }),
        }
    }

    async fn answer(&self, host: &Arc<str>) -> Answer {
        if let Some(answer) = reserved(host) {
            return answer;
        }
        // One caller asks, the others wait for its answer; if it goes away the next one asks.
        let cell = self.entry(host);
        cell.get_or_init(|| self.look_up(host)).await.clone()
    }

    fn entry(&self, host: &Arc<str>) -> Arc<OnceCell<Answer>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = names.get(host)
            && entry.since.elapsed() < TTL
        {
            return entry.answer.clone();
        }
        if names.len() >= NAMES_MAX {
            names.retain(|_, entry| entry.since.elapsed() < TTL);
        }
        if names.len() >= NAMES_MAX {
            names.clear();
        }
        let entry = Entry {
            since: Instant::now(),
            answer: Arc::new(OnceCell::new()),
        };
        let answer = entry.answer.clone();
        names.insert(host.clone(), entry);
        answer
    }

    async fn look_up(&self, host: &str) -> Answer {
        let _permit = self.lookups.acquire().await;
        match lookup_host((host, 0)).await {
            Ok(found) => {
                let addresses: Arc<[IpAddr]> = found.map(|address| address.ip()).collect();
                if addresses.is_empty() {
                    Err(Failure::NoSuchName)
                } else {
                    Ok(addresses)
                }
            }
            Err(error) => {
                let text = error.to_string();
                if NO_SUCH_NAME.iter().any(|known| text.contains(known)) {
                    Err(Failure::NoSuchName)
                } else {
                    Err(Failure::Resolver(error.kind(), text.into()))
                }
            }
        }
    }
}

/// Names that no resolver is asked for (RFC 6761 sections 6.3 and 6.4).
fn reserved(host: &str) -> Option<Answer> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.eq_ignore_ascii_case("localhost") {
        return Some(Ok(Arc::new([IpAddr::V4(Ipv4Addr::LOCALHOST)])));
    }
    last.eq_ignore_ascii_case("invalid")
        .then_some(Err(Failure::NoSuchName))
}
