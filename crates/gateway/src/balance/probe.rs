//! Active health checks: the gateway asks targets how they are (spec gateway-proxy 11.4).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request, StatusCode, Version};
use o28m_core::Ambient;
use o28m_kong::ActiveChecks;
use o28m_net::client::{Pool, SendError, Target, Timeouts, TlsPolicy};
use o28m_net::{Body, Scheme};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Balancer, Peer, PeerIdentity, Report, Ring};
use crate::feed::Feed;
use crate::snapshot::UpstreamTls;

/// How often it is looked whether a check is due.
const TICK: Duration = Duration::from_millis(100);
/// How often it is looked whether checks were configured.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Checks on their way at most, of all upstreams.
const PROBES_MAX: usize = 256;

/// One address of one upstream's target.
type Key = (u128, Arc<str>, SocketAddr);

/// A target to ask.
struct Probe {
    key: Key,
    balancer: Arc<Balancer>,
    ring: Arc<Ring>,
    at: usize,
}

/// When addresses are due, and which are being asked.
#[derive(Default)]
struct Schedule {
    due: HashMap<Key, Instant>,
    busy: HashMap<Key, u128>,
}

/// Asks the targets of all upstreams with active checks, for ever. Those of others are tried again
/// after `recovery`, if that is a time.
pub(crate) async fn keep(
    feed: &Feed,
    trust: &UpstreamTls,
    recovery: Option<Duration>,
    ambient: &Ambient,
) {
    let pool = Pool::new();
    let mut schedule = Schedule::default();
    let mut probes: JoinSet<Key> = JoinSet::new();
    loop {
        while let Some(ended) = probes.try_join_next() {
            match ended {
                Ok(key) => drop(schedule.busy.remove(&key)),
                // The check panicked: which one is not known, so all may be asked again.
                Err(_) => schedule.busy.clear(),
            }
        }
        let due = schedule.due(feed, ambient);
        for probe in due {
            let (pool, trust) = (pool.clone(), trust.clone());
            probes.spawn(async move {
                let key = probe.key.clone();
                ask(&pool, &probe, &trust).await;
                key
            });
        }
        if let Some(after) = recovery {
            feed.current()
                .balancers()
                .for_each(|it| it.try_again(after));
        }
        let tick = if schedule.due.is_empty() && recovery.is_none_or(|it| it >= IDLE_TICK) {
            IDLE_TICK
        } else {
            TICK
        };
        tokio::time::sleep(tick).await;
    }
}

impl Schedule {
    /// What is to be asked now; the first time comes one interval after an address was first seen.
    fn due(&mut self, feed: &Feed, ambient: &Ambient) -> Vec<Probe> {
        let now = Instant::now();
        let snapshot = feed.current();
        let mut due = Vec::new();
        let mut seen = HashMap::new();
        for balancer in snapshot.balancers() {
            let active = &balancer.upstream.healthchecks.active;
            if !active.is_on() {
                continue;
            }
            let ring = balancer.ring_now();
            let asked = self.busy.values().filter(|it| **it == balancer.key).count();
            let mut room = usize::try_from(active.concurrency)
                .unwrap_or(usize::MAX)
                .saturating_sub(asked);
            let peers = ring.peers().iter().enumerate();
            for (at, peer) in peers.filter(|(_, it)| it.weight > 0) {
                let Some(target) = balancer.targets.get(peer.target) else {
                    continue;
                };
                let side = match peer.state.is_available() {
                    true => &active.healthy,
                    false => &active.unhealthy,
                };
                if side.interval <= 0.0 {
                    continue;
                }
                let key = (balancer.key, target.name.clone(), peer.address);
                let next = now + jittered(side.interval, ambient);
                // An interval that became shorter counts at once.
                let at_last = now + Duration::from_secs_f64(side.interval * 1.1);
                let when = self.due.get(&key).copied().unwrap_or(next).min(at_last);
                let is_free = room > 0 && self.busy.len() < PROBES_MAX;
                if when > now || !is_free || self.busy.contains_key(&key) {
                    seen.insert(key, when);
                    continue;
                }
                room -= 1;
                self.busy.insert(key.clone(), balancer.key);
                seen.insert(key.clone(), next);
                due.push(Probe {
                    key,
                    balancer: balancer.clone(),
                    ring: ring.clone(),
                    at,
                });
            }
        }
        self.due = seen;
        due
    }
}

/// The interval and up to a tenth more, so that many addresses and nodes do not ask at once.
fn jittered(interval_s: f64, ambient: &Ambient) -> Duration {
    let mut byte = [0];
    ambient.rng.fill(&mut byte);
    let [byte] = byte;
    Duration::from_secs_f64(interval_s * (1.0 + f64::from(byte) / 2550.0))
}

/// Asks one address and counts what it says.
async fn ask(pool: &Arc<Pool>, probe: &Probe, trust: &UpstreamTls) {
    let Some(peer) = probe.ring.peer(probe.at) else {
        return;
    };
    let balancer = &probe.balancer;
    let active = &balancer.upstream.healthchecks.active;
    let timeout = Duration::from_secs_f64(active.timeout.max(0.001));
    let failed = &active.unhealthy.counters;
    if active.kind == "tcp" {
        let connected = tokio::time::timeout(timeout, TcpStream::connect(peer.address)).await;
        match connected {
            Ok(Ok(_)) => balancer.saw(peer, Report::Success, &active.healthy.counters),
            Ok(Err(_)) => balancer.saw(peer, Report::Tcp, failed),
            Err(_) => balancer.saw(peer, Report::Timeout, failed),
        }
        return;
    }
    let tls = active.kind == "https";
    let identity = match &balancer.identity {
        PeerIdentity::Given(identity) => identity.clone().filter(|_| tls),
        // Without its certificate a target says nothing of how it is to those who have it.
        PeerIdentity::Missing if tls => return,
        PeerIdentity::Missing => None,
    };
    let host = host(balancer, peer);
    let target = Target {
        scheme: if tls { Scheme::Https } else { Scheme::Http },
        host: peer.ip.clone(),
        port: peer.address.port(),
        tls: TlsPolicy {
            server_name: server_name(active, host.as_ref()),
            identity,
            ..trust.of_probes(active.https_verify_certificate)
        },
    };
    let timeouts = Timeouts {
        connect: timeout,
        write: timeout,
        read: timeout,
    };
    let request = request(active, host);
    let answer = tokio::time::timeout(timeout, pool.send(&target, request, &timeouts)).await;
    match answer {
        Ok(Ok(response)) => {
            let status: StatusCode = response.status();
            balancer.count(peer, status, &active.healthy.counters, failed);
        }
        Ok(Err(SendError::Invalid { .. })) => balancer.saw(peer, Report::Http, failed),
        Ok(Err(SendError::ConnectTimeout { .. } | SendError::Timeout { .. })) | Err(_) => {
            balancer.saw(peer, Report::Timeout, failed);
        }
        Ok(Err(
            SendError::Resolve { .. }
            | SendError::Connect { .. }
            | SendError::Tls { .. }
            | SendError::RequestBody { .. }
            | SendError::Closed { .. },
        )) => balancer.saw(peer, Report::Tcp, failed),
    }
}

/// The upstream's own host or the target's, without a port, as Kong's checker sends it.
fn host(balancer: &Balancer, peer: &Peer) -> Option<HeaderValue> {
    let own = balancer.upstream.host_header.as_deref();
    let target = || Some(&balancer.targets.get(peer.target)?.host);
    let text = match own {
        Some(own) => own.to_owned(),
        None => super::bracketed(target()?),
    };
    HeaderValue::try_from(text).ok()
}

fn server_name(active: &ActiveChecks, host: Option<&HeaderValue>) -> Option<Arc<str>> {
    let own = active.https_sni.as_deref();
    own.or_else(|| host.and_then(crate::request::server_name))
        .map(Arc::from)
}

fn request(active: &ActiveChecks, host: Option<HeaderValue>) -> Request<Body> {
    let mut headers = HeaderMap::new();
    for (name, values) in active.headers.iter().flatten() {
        let Ok(name) = HeaderName::try_from(name.as_str()) else {
            continue;
        };
        for value in values
            .iter()
            .filter_map(|it| HeaderValue::try_from(it).ok())
        {
            headers.append(name.clone(), value);
        }
    }
    if let Some(host) = host {
        headers.entry(HOST).or_insert(host);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::new(Body::Empty);
    *request.version_mut() = Version::HTTP_10;
    *request.uri_mut() = active.http_path.parse().unwrap_or_default();
    *request.headers_mut() = headers;
    request
}
