use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use http::{Request, Response};
use o28m_core::limits;
use tokio::task::AbortHandle;

use super::aim::Aim;
use super::connect::{Dial, Reach, connect};
use super::connection::{Failed, Upstream};
use super::{SendError, Target, Timeouts, WrittenRequest};
use crate::Body;
use crate::dns::Resolver;
use crate::h2::links::Links;

/// Idle connections of all targets together.
const IDLE_MAX: usize = 16 * 1024;
/// How often idle connections are looked through at least and at most.
const SWEEP_MAX: Duration = Duration::from_secs(5);
const SWEEP_MIN: Duration = Duration::from_millis(50);
/// Sweeps in the time that a connection may idle, where that is short.
const SWEEPS: u32 = 12;
/// Idle connections that may turn out closed before a request gets a fresh one.
const STALE_MAX: usize = 3;

/// Keep-alive connections to upstreams, keyed by target including its TLS policy.
///
/// One pool belongs to one runtime: its connections are polled by tasks of the runtime that made them.
pub struct Pool {
    idle: Mutex<Idle>,
    settings: PoolSettings,
    /// Time between two looks at idle connections.
    sweep: Duration,
    /// Looks that a connection may idle through.
    sweeps_max: u32,
    resolver: Arc<Resolver>,
    /// Those that speak HTTP/2.
    links: Arc<Links>,
}

/// How long connections are kept, and how often they are used.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// Idle connections kept for each target; 0 uses a connection for one request only.
    pub idle_max: usize,
    /// Requests of one connection; 0 is any number.
    pub requests_max: u32,
    /// How long a connection may idle; `None` for as long as the upstream keeps it.
    pub idle_timeout: Option<Duration>,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            idle_max: limits::UPSTREAM_IDLE_MAX,
            requests_max: limits::UPSTREAM_REQUESTS_MAX,
            idle_timeout: Some(Duration::from_secs(limits::UPSTREAM_IDLE_TIMEOUT_S)),
        }
    }
}

/// What else is to be known of how a request is sent.
#[derive(Clone, Copy, Default)]
pub struct Way<'a> {
    /// Never to a loopback address: a name may stand for one, now or later.
    pub beyond_loopback: bool,
    /// Called with each interim response but `100 Continue`.
    pub interim: Option<&'a (dyn Fn(http::response::Parts) + Send + Sync)>,
}

impl Way<'_> {
    fn reach(self) -> Reach {
        match self.beyond_loopback {
            true => Reach::BeyondLoopback,
            false => Reach::Anywhere,
        }
    }
}

/// How far a request is when nobody has waited for anything yet.
enum Begun {
    /// An idle connection has it.
    Connected(Box<Upstream>, Aim),
    /// There was none.
    Waiting(Box<Waiting>),
    /// Nobody knows where it should go.
    Failed(Box<SendError>),
}

/// A request without a connection.
struct Waiting {
    request: WrittenRequest,
    /// `None` while the name has to be looked up.
    aim: Option<Aim>,
}

#[derive(Default)]
#[expect(
    clippy::vec_box,
    reason = "a connection moves between pool, request and body: as a pointer, not as a large value"
)]
struct Idle {
    by_target: HashMap<Arc<Target>, Vec<Box<Upstream>>, RandomState>,
    count: usize,
    /// Sweeps so far: the clock of idle connections, cheaper to read than a real one.
    sweeps: u32,
    /// The task that looks through idle connections; runs while there may be some.
    sweeper: Option<AbortHandle>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with_settings(PoolSettings::default())
    }

    /// An empty pool that keeps at most so many idle connections for each target; 0 uses a connection
    /// for one request only.
    #[must_use]
    pub fn with_idle_max(idle_max: usize) -> Arc<Self> {
        Self::with_settings(PoolSettings {
            idle_max,
            ..PoolSettings::default()
        })
    }

    /// An empty pool.
    #[must_use]
    pub fn with_settings(settings: PoolSettings) -> Arc<Self> {
        Self::with_resolver(settings, Resolver::shared())
    }

    /// An empty pool whose names are looked up by this resolver.
    #[must_use]
    pub fn with_resolver(settings: PoolSettings, resolver: Arc<Resolver>) -> Arc<Self> {
        let (sweep, sweeps_max) = match settings.idle_timeout {
            None => (SWEEP_MAX, u32::MAX),
            Some(timeout) => {
                let sweep = (timeout / SWEEPS).clamp(SWEEP_MIN, SWEEP_MAX);
                let sweeps = timeout.as_millis().div_ceil(sweep.as_millis().max(1));
                (sweep, u32::try_from(sweeps).unwrap_or(u32::MAX))
            }
        };
        Arc::new(Self {
            idle: Mutex::default(),
            settings,
            sweep,
            sweeps_max,
            resolver,
            links: Links::new(&settings),
        })
    }

    /// Whether a connection that served so many requests may not serve another.
    pub(super) fn is_used_up(&self, requests: u32) -> bool {
        let max = self.settings.requests_max;
        max > 0 && requests >= max
    }

    /// Sends `request` and waits for the response head. The request's URI is origin-form, its headers
    /// are sent as they are (the caller sets `Host` and has removed hop-by-hop headers), except those
    /// that frame the body. A response that switches protocols carries the connection in its
    /// extensions: a service that answers with it joins its client to the upstream.
    ///
    /// # Errors
    /// [`SendError`]; after the head, failures surface in the body.
    ///
    /// # Cancel safety
    /// Dropping the future closes the upstream connection.
    pub fn send(
        self: &Arc<Self>,
        target: &Target,
        request: impl Into<WrittenRequest>,
        timeouts: &Timeouts,
    ) -> impl Future<Output = Result<Response<Body>, SendError>> {
        self.send_by(target, request.into(), timeouts, Way::default())
    }

    /// [`Pool::send`], but never to a loopback address: a name may stand for one, now or later.
    ///
    /// # Errors
    /// [`SendError`]; a target that has loopback addresses alone is [`SendError::Connect`].
    ///
    /// # Cancel safety
    /// As [`Pool::send`].
    pub async fn send_beyond_loopback(
        self: &Arc<Self>,
        target: &Target,
        request: impl Into<WrittenRequest>,
        timeouts: &Timeouts,
    ) -> Result<Response<Body>, SendError> {
        let way = Way {
            beyond_loopback: true,
            ..Way::default()
        };
        self.send_by(target, request.into(), timeouts, way).await
    }

    /// [`Pool::send`] over HTTP/2, which TLS targets are told of in the handshake and others are expected
    /// to speak (gRPC). Requests share connections; trailers pass in both directions, and the request's
    /// body may go on while the response is read. `beyond_loopback` is as for
    /// [`Pool::send_beyond_loopback`].
    ///
    /// # Errors
    /// [`SendError`]; what the upstream did not look at is `unsent`, whatever was sent.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream; others of the connection go on.
    pub async fn send_http2(
        self: &Arc<Self>,
        target: &Target,
        request: Request<Body>,
        timeouts: &Timeouts,
        beyond_loopback: bool,
    ) -> Result<Response<Body>, SendError> {
        let aim = Aim::find(&self.resolver, &target.host, target.port).await?;
        let dial = Dial {
            aim: &aim,
            target,
            timeouts,
            reach: if beyond_loopback {
                Reach::BeyondLoopback
            } else {
                Reach::Anywhere
            },
        };
        self.links.send(&dial, request).await
    }

    /// Whether a loopback address is among those of `host`, a name or an address.
    ///
    /// # Errors
    /// [`SendError::Resolve`].
    pub async fn leads_to_loopback(&self, host: &Arc<str>) -> Result<bool, SendError> {
        Aim::leads_to_loopback(&self.resolver, host).await
    }

    /// [`Pool::send`] with everything about the way given.
    ///
    /// # Errors
    /// [`SendError`]; a target that may not be reached is [`SendError::Connect`].
    ///
    /// # Cancel safety
    /// As [`Pool::send`].
    pub fn send_by(
        self: &Arc<Self>,
        target: &Target,
        request: WrittenRequest,
        timeouts: &Timeouts,
        way: Way<'_>,
    ) -> impl Future<Output = Result<Response<Body>, SendError>> {
        // Not within the future: a request that found its connection moves there directly, not through the
        // memory of all those who wait for the answer.
        let begun = self.begin(target, request, way.reach());
        async move {
            let (waiting, stale) = match begun {
                Begun::Failed(error) => return Err(*error),
                Begun::Waiting(waiting) => (waiting, 0),
                Begun::Connected(upstream, aim) => {
                    match upstream.exchange(timeouts, self, way.interim).await {
                        Ok(response) => return Ok(response),
                        Err(Failed::Closed(_, Some(unsent))) => {
                            let request = *unsent;
                            let aim = Some(aim);
                            (Box::new(Waiting { request, aim }), 1)
                        }
                        Err(failed) => return Err(failure(failed, target, true)),
                    }
                }
            };
            // Boxed: connections are made rarely.
            Box::pin(self.send_waiting(target, *waiting, stale, timeouts, way)).await
        }
    }

    /// Gives a request to an idle connection, if there is one.
    fn begin(&self, target: &Target, request: WrittenRequest, reach: Reach) -> Begun {
        let aim = match Aim::known(&self.resolver, &target.host, target.port).transpose() {
            Ok(aim) => aim,
            Err(error) => return Begun::Failed(Box::new(error)),
        };
        let idle = |aim: &Aim| self.take(target, aim, request.probes, reach);
        match (aim.as_ref().and_then(idle), aim) {
            (Some(mut upstream), Some(aim)) => {
                upstream.begin(request);
                Begun::Connected(upstream, aim)
            }
            (_, aim) => Begun::Waiting(Box::new(Waiting { request, aim })),
        }
    }

    /// Sends a request that has no connection yet; `stale` ones turned out to be closed before.
    async fn send_waiting(
        self: &Arc<Self>,
        target: &Target,
        waiting: Waiting,
        mut stale: usize,
        timeouts: &Timeouts,
        way: Way<'_>,
    ) -> Result<Response<Body>, SendError> {
        let Waiting { mut request, aim } = waiting;
        let aim = match aim {
            Some(known) => known,
            None => Aim::find(&self.resolver, &target.host, target.port).await?,
        };
        loop {
            let idle = if stale < STALE_MAX {
                self.take(target, &aim, request.probes, way.reach())
            } else {
                None
            };
            let reused = idle.is_some();
            let mut upstream = match idle {
                Some(upstream) => upstream,
                None => connect(&aim, target, timeouts, way.reach()).await?,
            };
            upstream.begin(request);
            match upstream.exchange(timeouts, self, way.interim).await {
                Ok(response) => return Ok(response),
                // Nothing was sent: another connection may take it, whatever the method.
                Err(Failed::Closed(_, Some(unsent))) if reused => {
                    request = *unsent;
                    stale += 1;
                }
                Err(failed) => return Err(failure(failed, target, reused)),
            }
        }
    }

    /// Idle connections, of all targets.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The youngest idle connection that still works.
    fn take(&self, target: &Target, aim: &Aim, probe: bool, reach: Reach) -> Option<Box<Upstream>> {
        loop {
            let mut upstream = {
                let mut idle = self.lock();
                let same = idle.by_target.get_mut(target)?;
                let upstream = same.remove(aim.youngest(same)?);
                idle.count -= 1;
                upstream
            };
            if reach.covers(upstream.loopback) && upstream.is_alive(probe) {
                return Some(upstream);
            }
        }
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(self: &Arc<Self>, mut upstream: Box<Upstream>) {
        let mut idle = self.lock();
        upstream.idle_since_sweep = idle.sweeps;
        if idle.count >= IDLE_MAX || self.settings.idle_max == 0 {
            return;
        }
        let idle = &mut *idle;
        let same = match idle.by_target.get_mut(&*upstream.target) {
            Some(same) => same,
            None => idle.by_target.entry(upstream.target.clone()).or_default(),
        };
        if same.len() >= self.settings.idle_max {
            return;
        }
        same.push(upstream);
        idle.count += 1;
        let sweeper = idle.sweeper.as_ref();
        if sweeper.is_none_or(AbortHandle::is_finished) {
            let sweeper = tokio::spawn(sweep(Arc::downgrade(self), self.sweep));
            idle.sweeper = Some(sweeper.abort_handle());
        }
    }

    /// Drops what is closed or was idle for too long; `false` when nothing is left.
    fn sweep(&self) -> bool {
        let mut idle = self.lock();
        let mut count = 0;
        idle.sweeps = idle.sweeps.wrapping_add(1);
        let sweeps = idle.sweeps;
        idle.by_target.retain(|_, connections| {
            connections.retain_mut(|upstream| {
                let idle = sweeps.wrapping_sub(upstream.idle_since_sweep);
                idle <= self.sweeps_max && upstream.is_alive(false)
            });
            count += connections.len();
            !connections.is_empty()
        });
        idle.count = count;
        if count == 0 {
            idle.sweeper = None;
        }
        count > 0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(sweeper) = self.lock().sweeper.take() {
            sweeper.abort();
        }
    }
}

/// Owned by the pool: ends with it, or when nothing is idle.
async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match pool.upgrade() {
            Some(pool) if pool.sweep() => {}
            _ => return,
        }
    }
}

fn failure(failed: Failed, target: &Target, reused: bool) -> SendError {
    let target = target.to_string();
    match failed {
        Failed::Timeout => SendError::Timeout { target },
        Failed::Invalid(source) => SendError::Invalid { target, source },
        Failed::Body(source) => SendError::RequestBody { target, source },
        Failed::Closed(source, unsent) => SendError::Closed {
            target,
            reused,
            unsent: unsent.is_some(),
            source,
        },
    }
}
