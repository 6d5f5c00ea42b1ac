//! Upstreams: which target an attempt goes to, and how well targets are (spec gateway-proxy 10, 11).
//!
//! What is configured is in the snapshot; what is known of addresses outlives it, keyed by upstream,
//! target and address.

mod hash;
mod health;
mod names;
mod probe;
mod ring;

pub(crate) use hash::Chosen;
pub(crate) use health::{Held, PeerState, Report};
pub(crate) use names::keep as keep_names;
pub(crate) use probe::keep as keep_probing;
pub(crate) use ring::{Peer, Ring, Wish};

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::InvalidHeaderValue;
use http::{HeaderValue, StatusCode};
use o28m_kong::{Counters, Target, Upstream};
use o28m_net::client::is_loopback;
use o28m_net::dns::{Endpoint, Failure, Resolver};
use o28m_net::tls::Identity;
use tokio::sync::OnceCell;

use crate::snapshot::{Compiler, EnginePorts};
use names::Names;
use ring::{Candidate, Service};

/// How long what is known of an address is kept after the last configuration that has it.
const STATE_TTL: Duration = Duration::from_secs(300);

/// Key of an upstream in the snapshot.
type Id = u128;

/// What is known of one address of a target of an upstream.
type StateKey = (Id, Arc<str>, SocketAddr);

/// What all snapshots share.
#[derive(Default)]
pub(crate) struct Balancing {
    states: Mutex<HashMap<StateKey, Kept>>,
    names: Names,
    /// Where the next shuffle begins.
    seed: AtomicU64,
}

struct Kept {
    state: Arc<PeerState>,
    /// When it was first seen without a user.
    unused: Option<Instant>,
}

impl Balancing {
    /// Nothing known yet; `seed` makes nodes begin at different targets.
    pub(crate) fn new(seed: u64, resolver: Arc<Resolver>) -> Self {
        Self {
            states: Mutex::default(),
            names: Names::new(resolver),
            seed: AtomicU64::new(seed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StateKey, Kept>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, key: StateKey) -> Arc<PeerState> {
        let mut states = self.lock();
        let kept = states.entry(key).or_insert_with(|| Kept {
            state: Arc::default(),
            unused: None,
        });
        kept.unused = None;
        kept.state.clone()
    }

    /// Sets the health of a target, or of one of its addresses.
    pub(crate) fn force(&self, upstream: Id, target: &str, address: Option<&str>, healthy: bool) {
        let states = self.lock();
        for ((_, _, at), kept) in states
            .iter()
            .filter(|((of, name, _), _)| *of == upstream && **name == *target)
        {
            if address.is_none_or(|it| it.parse() == Ok(*at) || it.parse() == Ok(at.ip())) {
                kept.state.force(healthy);
                tracing::info!(
                    target.name = target,
                    target.address = %at,
                    target.healthy = healthy,
                    "health of a target was set"
                );
            }
        }
    }

    /// Forgets what no configuration has had for a while.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, kept| {
            if Arc::strong_count(&kept.state) > 1 {
                kept.unused = None;
                return true;
            }
            let since = *kept.unused.get_or_insert(now);
            now.duration_since(since) < STATE_TTL
        });
    }
}

/// A target as it is configured.
pub(crate) struct TargetEntry {
    pub(crate) id: String,
    pub(crate) key: Id,
    pub(crate) upstream: Id,
    /// `host:port`, what its state is kept by.
    pub(crate) name: Arc<str>,
    /// Without brackets.
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) weight: u32,
    /// The component of this process that is meant.
    pub(crate) engine: Option<u16>,
    /// Ports at which its addresses may lead to a component with private headers.
    near_engines: Vec<u16>,
}

impl TargetEntry {
    /// `None` when it is not `host:port`.
    pub(crate) fn new(
        target: &Target,
        key: Id,
        upstream: Id,
        engine_ports: &EnginePorts,
    ) -> Option<Self> {
        let (host, port) = target.target.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // The stored form of an IPv6 address is written out.
        let host = match host.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => host.to_owned(),
        };
        let engine = engine_ports.named(&host, port);
        let near_engines = match engine {
            None => engine_ports.near(&host, port),
            Some(_) => Vec::new(),
        };
        Some(Self {
            id: target.id.clone(),
            key,
            upstream,
            name: Arc::from(target.target.as_str()),
            host: Arc::from(host),
            port,
            weight: target.weight,
            engine,
            near_engines,
        })
    }

    fn is_name(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }

    /// Its addresses are found by asking a resolver.
    fn is_looked_up(&self) -> bool {
        self.is_name() && &*self.host != "localhost"
    }

    /// Its endpoints as far as they are known: always for addresses and `localhost`.
    fn endpoints(&self, names: &Names) -> Option<Arc<[Endpoint]>> {
        let only = |ip| -> Arc<[Endpoint]> {
            Arc::new([Endpoint {
                ip,
                port: None,
                weight: 1,
                name: None,
            }])
        };
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Some(only(address));
        }
        if !self.is_looked_up() {
            return Some(only(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        }
        names.known(&self.host)
    }

    /// The share of an endpoint: services have their own, and a target without weight gets nothing.
    fn weight_of(&self, endpoint: &Endpoint) -> u32 {
        match (self.weight, &endpoint.name) {
            (0, _) | (_, None) => self.weight,
            (_, Some(_)) => u32::from(endpoint.weight),
        }
    }
}

/// What an upstream's targets are shown over TLS.
#[derive(Debug)]
pub(crate) enum PeerIdentity {
    /// This certificate, if any.
    Given(Option<Arc<Identity>>),
    /// One that is not there: no connection is made.
    Missing,
}

/// An upstream with its targets, compiled.
pub(crate) struct Balancer {
    pub(crate) key: Id,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) targets: Vec<Arc<TargetEntry>>,
    /// `Host` of each target over plain connections and over TLS.
    hosts: Vec<[HeaderValue; 2]>,
    ring: ArcSwap<Ring>,
    /// Health counts.
    pub(crate) checked: bool,
    /// Ports of the components of this process that are among the targets.
    pub(crate) engine_ports: Vec<u16>,
    /// Ports at which some target may lead to a component with private headers.
    pub(crate) near_engines: Vec<u16>,
    /// What upstreams are shown that ask who connects, unless the service has its own.
    pub(crate) identity: PeerIdentity,
    /// It was unhealthy as a whole when that was last looked at.
    refusing: AtomicBool,
    /// Some target's name is looked up.
    named: bool,
    /// Some name has never been looked up.
    pending: AtomicBool,
    first: OnceCell<()>,
    /// Of which state of the names the ring was made; one builder at a time.
    built: Mutex<u64>,
}

impl Balancer {
    /// Fails when a host cannot be sent in a header.
    pub(crate) fn new(
        compiler: &Compiler,
        key: Id,
        upstream: Arc<Upstream>,
        mut targets: Vec<Arc<TargetEntry>>,
        identity: PeerIdentity,
    ) -> Result<Self, InvalidHeaderValue> {
        targets.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        let hosts = targets
            .iter()
            .map(|it| hosts(&upstream, &it.host, it.port))
            .collect::<Result<_, _>>()?;
        let ports = |mut ports: Vec<u16>| {
            ports.sort_unstable();
            ports.dedup();
            ports
        };
        let engine_ports = targets.iter().filter_map(|it| it.engine).collect();
        let near = targets.iter().flat_map(|it| it.near_engines.clone());
        let near_engines = near.collect();
        let balancer = Self {
            engine_ports: ports(engine_ports),
            near_engines: ports(near_engines),
            identity,
            key,
            checked: upstream.healthchecks.is_on(),
            named: targets.iter().any(|it| it.is_looked_up()),
            upstream,
            targets,
            hosts,
            ring: ArcSwap::from_pointee(Ring::default()),
            refusing: AtomicBool::new(false),
            pending: AtomicBool::new(false),
            first: OnceCell::new(),
            built: Mutex::new(0),
        };
        balancer.build(&compiler.balancing);
        Ok(balancer)
    }

    /// Makes the ring of what is known of the targets' names.
    pub(crate) fn build(&self, balancing: &Balancing) {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the names: what changes meanwhile makes another build necessary.
        *built = balancing.names.generation();
        let mut pending = false;
        let mut candidates = Vec::new();
        for (at, target) in self.targets.iter().enumerate() {
            let endpoints = target.endpoints(&balancing.names);
            pending |= endpoints.is_none();
            let endpoints = endpoints.iter().flat_map(|it| it.iter());
            let of_target = endpoints.map(|it| self.candidate(balancing, at, target, it));
            let mut of_target: Vec<Candidate> = of_target.collect();
            // As texts: the order in which points of a hash ring are given away.
            of_target.sort_by_cached_key(|it| it.address.to_string());
            candidates.extend(of_target);
        }
        let seed = balancing
            .seed
            .fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let ring = Ring::new(&self.upstream, self.targets.len(), candidates, seed);
        self.ring.store(Arc::new(ring));
        self.pending.store(pending, Ordering::Release);
    }

    fn candidate(
        &self,
        balancing: &Balancing,
        at: usize,
        target: &TargetEntry,
        endpoint: &Endpoint,
    ) -> Candidate {
        let address = SocketAddr::new(endpoint.ip, endpoint.port.unwrap_or(target.port));
        let service = endpoint.name.as_deref().map(|own| {
            let name = match self.upstream.use_srv_name {
                true => own,
                false => &target.host,
            };
            Service {
                hosts: hosts(&self.upstream, name, address.port()).ok(),
            }
        });
        Candidate {
            target: at,
            address,
            service,
            weight: target.weight_of(endpoint),
            engine: target.engine,
            state: balancing.state((self.key, target.name.clone(), address)),
        }
    }

    /// Makes the ring anew when one of its names changed since.
    fn refresh(&self, balancing: &Balancing) {
        let built = *self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = self.targets.iter().filter(|it| it.is_looked_up());
        if balancing
            .names
            .have_changed(hosts.map(|it| &it.host), built)
        {
            self.build(balancing);
        }
    }

    /// The ring; waits for names when otherwise there would be nobody to send to.
    pub(crate) async fn ring(&self, balancing: &Balancing) -> Arc<Ring> {
        let ring = self.ring.load_full();
        if !ring.is_empty() || !self.pending.load(Ordering::Acquire) {
            return ring;
        }
        self.first
            .get_or_init(|| self.look_up_first(balancing))
            .await;
        self.ring.load_full()
    }

    /// Looks names up until one of them leads somewhere; one caller asks, the others wait. The rest is
    /// looked up outside the request path.
    async fn look_up_first(&self, balancing: &Balancing) {
        let unknown = self.targets.iter().filter(|it| it.weight > 0);
        let unknown = unknown.filter(|it| it.endpoints(&balancing.names).is_none());
        let mut asked: FuturesUnordered<_> = unknown
            .map(|it| balancing.names.look_up(&it.host))
            .collect();
        while asked.next().await.is_some() {
            self.build(balancing);
            if !self.ring.load().is_empty() {
                break;
            }
        }
    }

    /// Whether some target's address is one of this machine at which a component with private headers
    /// listens; waits for names as [`Balancer::ring`] does.
    pub(crate) async fn leads_to_engine(&self, balancing: &Balancing) -> bool {
        let ring = self.ring(balancing).await;
        ring.peers().iter().any(|it| self.is_near_engine(it))
    }

    /// Whether a connection to this peer would reach a component with private headers.
    pub(crate) fn is_near_engine(&self, peer: &Peer) -> bool {
        !self.near_engines.is_empty()
            && self.near_engines.contains(&peer.address.port())
            && is_loopback(peer.address.ip())
    }

    /// The ring as it is.
    pub(crate) fn ring_now(&self) -> Arc<Ring> {
        self.ring.load_full()
    }

    /// `Host` of requests to this peer that do not keep the client's.
    pub(crate) fn host_of<'a>(&'a self, peer: &'a Peer, tls: bool) -> Option<&'a HeaderValue> {
        let own = peer.service.as_ref().and_then(|it| it.hosts.as_ref());
        let [plain, secure] = own.or_else(|| self.hosts.get(peer.target))?;
        Some(if tls { secure } else { plain })
    }

    /// Whether enough weight is available (spec gateway-proxy 10.3).
    pub(crate) fn is_healthy(&self, ring: &Ring) -> bool {
        ring.is_healthy(self.checked, self.upstream.healthchecks.threshold)
    }

    /// An upstream's answer, or the status that stands for a failed last attempt (passive checks).
    pub(crate) fn saw_status(&self, peer: &Peer, status: StatusCode) {
        let passive = &self.upstream.healthchecks.passive;
        if status == StatusCode::GATEWAY_TIMEOUT {
            self.saw(peer, Report::Timeout, &passive.unhealthy);
        } else {
            self.count(peer, status, &passive.healthy, &passive.unhealthy);
        }
    }

    /// A failed attempt that another one follows.
    pub(crate) fn saw_failure(&self, peer: &Peer, status: StatusCode) {
        let report = match status {
            StatusCode::GATEWAY_TIMEOUT => Report::Timeout,
            _ => Report::Tcp,
        };
        self.saw(peer, report, &self.upstream.healthchecks.passive.unhealthy);
    }

    /// Counts a status by the lists it is in.
    fn count(&self, peer: &Peer, status: StatusCode, healthy: &Counters, unhealthy: &Counters) {
        match meaning(status, healthy, unhealthy) {
            Some(Report::Success) => self.saw(peer, Report::Success, healthy),
            Some(failure) => self.saw(peer, failure, unhealthy),
            None => {}
        }
    }

    fn saw(&self, peer: &Peer, report: Report, limits: &Counters) {
        let limit = match report {
            Report::Success => limits.successes,
            Report::Http => limits.http_failures,
            Report::Tcp => limits.tcp_failures,
            Report::Timeout => limits.timeouts,
        };
        if !self.checked {
            return;
        }
        let target = self.targets.get(peer.target);
        let target = target.map_or("", |it| &it.name);
        let change = peer.state.report(report, limit);
        if change.is_some() {
            self.announce();
        }
        match change {
            None => {}
            Some(true) => tracing::info!(
                upstream.name = %self.upstream.name,
                target.name = target,
                target.address = %peer.address,
                "target is healthy again"
            ),
            Some(false) => tracing::warn!(
                upstream.name = %self.upstream.name,
                target.name = target,
                target.address = %peer.address,
                "target is unhealthy and gets no more requests"
            ),
        }
    }

    /// Says when the upstream as a whole begins or ends to be unhealthy.
    fn announce(&self) {
        let refusing = !self.is_healthy(&self.ring_now());
        if self.refusing.swap(refusing, Ordering::Relaxed) == refusing {
            return;
        }
        if !refusing {
            tracing::info!(upstream.name = %self.upstream.name, "upstream is healthy again");
        } else {
            tracing::warn!(
                upstream.name = %self.upstream.name,
                "upstream is unhealthy: its requests are answered with 503"
            );
        }
    }

    /// Lets requests try targets again that passive checks took out so long ago. Active checks find out
    /// themselves.
    pub(crate) fn try_again(&self, after: Duration) {
        let checks = &self.upstream.healthchecks;
        if !self.checked || checks.active.is_on() {
            return;
        }
        for peer in self.ring_now().peers() {
            if peer.state.try_again(after, &checks.passive.unhealthy) {
                tracing::info!(
                    upstream.name = %self.upstream.name,
                    target.address = %peer.address,
                    "target is tried again"
                );
                self.announce();
            }
        }
    }

    /// How well the targets are, as this process sees it.
    pub(crate) fn health(&self, balancing: &Balancing) -> UpstreamHealth {
        let ring = self.ring_now();
        let of_target = |(at, target): (usize, &Arc<TargetEntry>)| {
            let peers = || ring.peers().iter().filter(move |peer| peer.target == at);
            TargetHealth {
                id: target.id.clone(),
                host: target.host.to_string(),
                port: target.port,
                weight: target.weight,
                resolution: match peers().next() {
                    Some(peer) if peer.service.is_some() => Resolution::Srv,
                    Some(peer) if peer.address.is_ipv6() => Resolution::Aaaa,
                    Some(_) => Resolution::A,
                    None => Resolution::None(balancing.names.failure(&target.host)),
                },
                addresses: peers().map(|peer| self.address_health(peer)).collect(),
            }
        };
        UpstreamHealth {
            healthy: self.is_healthy(&ring),
            targets: self.targets.iter().enumerate().map(of_target).collect(),
        }
    }

    fn address_health(&self, peer: &Peer) -> AddressHealth {
        AddressHealth {
            ip: peer.address.ip().to_string(),
            port: peer.address.port(),
            weight: peer.weight,
            available: peer.is_available(self.checked),
        }
    }
}

/// What a status says by the lists it is in; one in neither says nothing.
fn meaning(status: StatusCode, healthy: &Counters, unhealthy: &Counters) -> Option<Report> {
    let status = status.as_u16();
    if healthy.http_statuses.contains(&status) {
        Some(Report::Success)
    } else {
        let is_bad = unhealthy.http_statuses.contains(&status);
        is_bad.then_some(Report::Http)
    }
}

/// `Host` over plain connections and over TLS: the upstream's own or this name, with the port unless
/// that is the scheme's (spec gateway-proxy 4.3).
fn hosts(
    upstream: &Upstream,
    name: &str,
    port: u16,
) -> Result<[HeaderValue; 2], InvalidHeaderValue> {
    let own = upstream.host_header.as_deref();
    let name = own.map_or_else(|| bracketed(name), str::to_owned);
    let has_port = own.is_some_and(|it| crate::request::bare_host(it) != it);
    let value = |default: u16| {
        HeaderValue::try_from(if has_port || port == default {
            name.clone()
        } else {
            format!("{name}:{port}")
        })
    };
    Ok([value(80)?, value(443)?])
}

/// A host as URLs have it.
fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

/// How well an upstream is, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHealth {
    /// Enough weight is available; otherwise requests are answered with 503.
    pub healthy: bool,
    /// Every target, also those without weight.
    pub targets: Vec<TargetHealth>,
}

/// How well a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// Its id.
    pub id: String,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its weight.
    pub weight: u32,
    /// How its addresses are found.
    pub resolution: Resolution,
    /// What the name resolves to.
    pub addresses: Vec<AddressHealth>,
}

/// How the addresses of a target are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Addresses of IPv4: its own, or those of its name.
    A,
    /// Addresses of IPv6.
    Aaaa,
    /// Services with ports and weights.
    Srv,
    /// There are none, for this reason as far as it is known.
    None(Option<Failure>),
}

/// How well an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressHealth {
    /// The address.
    pub ip: String,
    /// The port.
    pub port: u16,
    /// The target's weight, or its own where a service has one.
    pub weight: u32,
    /// It gets requests.
    pub available: bool,
}
