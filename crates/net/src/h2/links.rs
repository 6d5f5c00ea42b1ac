//! The connections of a pool that speak HTTP/2, by target as those of HTTP/1 are.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use foldhash::fast::RandomState;
use http::{Request, Response};
use http_body::Body as _;
use tokio::sync::Semaphore;

use super::link::{Failed, Lasts, Link, Slot, State};
use crate::Body;
use crate::client::connect::{Dial, is_loopback};
use crate::client::{InvalidResponse, PoolSettings, SendError, Target};

/// Connections that may turn out to take no more requests before one fails.
const STALE_MAX: usize = 3;

/// Targets that connections are kept for; one to any more serves a single request.
const TARGETS_MAX: usize = 4096;

/// All connections.
pub(crate) struct Links {
    lasts: Lasts,
    /// A connection serves more than one request.
    shares: bool,
    by_target: Mutex<HashMap<Arc<Target>, Arc<Group>, RandomState>>,
}

/// Those to one target.
struct Group {
    links: Mutex<Vec<Arc<Link>>>,
    /// Held by who makes a new one: others wait for that instead of making their own.
    making: Semaphore,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room on a connection that goes where the request is to go.
    fn reserve(&self, dial: &Dial<'_>) -> Option<Slot> {
        self.reserve_on(|address| {
            dial.aim.leads_to(address) && dial.reach.covers(is_loopback(address.ip()))
        })
    }

    fn reserve_on(&self, fits: impl Fn(SocketAddr) -> bool) -> Option<Slot> {
        let mut links = self.lock();
        links.retain(|it| !it.state.is_closed());
        let mut fitting = links.iter().filter(|it| fits(it.address));
        fitting.find_map(Link::reserve)
    }

    fn forget(&self, state: &Arc<State>) {
        self.lock().retain(|it| !Arc::ptr_eq(&it.state, state));
    }
}

impl Links {
    pub(crate) fn new(settings: &PoolSettings) -> Arc<Self> {
        Arc::new(Self {
            lasts: Lasts {
                idle: settings.idle_timeout,
                requests_max: match settings.requests_max {
                    0 => u32::MAX,
                    max => max,
                },
            },
            shares: settings.idle_max > 0,
            by_target: Mutex::default(),
        })
    }

    /// Sends `request` and waits for the response head.
    pub(crate) async fn send(
        self: &Arc<Self>,
        dial: &Dial<'_>,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        let mut stale = 0;
        loop {
            let slot = self.slot(dial).await?;
            let reused = slot.reused;
            // A body in memory is kept; one that is streamed comes back if nothing was taken from it.
            let (parts, body) = request.into_parts();
            let kept = match &body {
                Body::Full(Some(bytes)) => Some(Body::Full(Some(bytes.clone()))),
                _ if body.is_end_stream() => Some(Body::Empty),
                _ => None,
            };
            let attempt = Request::from_parts(parts.clone(), body);
            let exchange = slot.exchange(attempt, dial.target.scheme, dial.timeouts);
            match Box::pin(exchange).await {
                Ok(response) => return Ok(response),
                Err(Failed::Unprocessed(error, body)) => match kept.or(body) {
                    Some(body) if stale < STALE_MAX => {
                        stale += 1;
                        request = Request::from_parts(parts, body);
                    }
                    _ => return Err(closed(dial.target, error, reused, true)),
                },
                Err(failed) => return Err(failure(failed, dial.target, reused)),
            }
        }
    }

    /// Room for a request on a connection, made if there is none.
    async fn slot(self: &Arc<Self>, dial: &Dial<'_>) -> Result<Slot, SendError> {
        let using = self.using(dial.target);
        let group = &using.group;
        if let Some(slot) = group.reserve(dial) {
            return Ok(slot);
        }
        let making = async {
            // Never closed; whoever gets no permit makes a connection all the same.
            let _permit = group.making.acquire().await;
            if let Some(slot) = group.reserve(dial) {
                return Ok(slot);
            }
            self.connect(dial, group).await
        };
        match tokio::time::timeout(dial.timeouts.connect, Box::pin(making)).await {
            Ok(made) => made,
            Err(_) => Err(SendError::ConnectTimeout {
                target: dial.target.to_string(),
            }),
        }
    }

    async fn connect(
        self: &Arc<Self>,
        dial: &Dial<'_>,
        group: &Arc<Group>,
    ) -> Result<Slot, SendError> {
        let (transport, address) = dial.establish(&[b"h2"]).await?;
        // Another address than that whose turn it was may have answered, and be connected already.
        if let Some(slot) = group.reserve_on(|it| it == address) {
            return Ok(slot);
        }
        let (links, of) = (Arc::downgrade(self), Arc::downgrade(group));
        let target = dial.target.clone();
        let ended = move |state: &Arc<State>| forget(&links, &of, &target, state);
        let link = Link::open(transport, address, dial.timeouts, self.lasts, ended).await;
        let link = link.map_err(|source| SendError::Connect {
            target: dial.target.to_string(),
            source,
        })?;
        if self.shares && self.lock().len() <= TARGETS_MAX {
            group.lock().push(link.clone());
        }
        link.reserve().ok_or_else(|| SendError::Connect {
            target: dial.target.to_string(),
            source: io::ErrorKind::ConnectionAborted.into(),
        })
    }

    fn using<'a>(&'a self, target: &'a Target) -> Using<'a> {
        let mut groups = self.lock();
        let group = match groups.get(target) {
            Some(group) => group.clone(),
            None => {
                let group = Arc::new(Group {
                    links: Mutex::default(),
                    making: Semaphore::new(1),
                });
                groups.insert(Arc::new(target.clone()), group.clone());
                group
            }
        };
        Using {
            links: self,
            target,
            group,
        }
    }

    /// Drops a group without connections that nobody else uses.
    fn tidy(&self, target: &Target, group: &Arc<Group>) {
        let mut groups = self.lock();
        // The map's and the caller's.
        if Arc::strong_count(group) == 2 && group.lock().is_empty() {
            groups.remove(target);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Target>, Arc<Group>, RandomState>> {
        self.by_target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group that somebody takes a connection of. Names come from clients, so none is left behind.
struct Using<'a> {
    links: &'a Links,
    target: &'a Target,
    group: Arc<Group>,
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.links.tidy(self.target, &self.group);
    }
}

/// A connection ended.
fn forget(links: &Weak<Links>, group: &Weak<Group>, target: &Target, state: &Arc<State>) {
    let (Some(links), Some(group)) = (links.upgrade(), group.upgrade()) else {
        return;
    };
    group.forget(state);
    links.tidy(target, &group);
}

fn failure(failed: Failed, target: &Target, reused: bool) -> SendError {
    match failed {
        Failed::Timeout => SendError::Timeout {
            target: target.to_string(),
        },
        Failed::Closed(source) => closed(target, source, reused, false),
        Failed::Unprocessed(source, _) => closed(target, source, reused, true),
        Failed::Body(source) => SendError::RequestBody {
            target: target.to_string(),
            source,
        },
        Failed::Invalid(source) | Failed::Unsendable(source) => SendError::Invalid {
            target: target.to_string(),
            source: InvalidResponse::Http2(source),
        },
    }
}

fn closed(target: &Target, source: io::Error, reused: bool, unsent: bool) -> SendError {
    SendError::Closed {
        target: target.to_string(),
        reused,
        unsent,
        source,
    }
}
