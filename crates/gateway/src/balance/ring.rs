//! The addresses of an upstream and the four ways to choose one (spec gateway-proxy 10.3, 10.4).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::HeaderValue;
use o28m_kong::Upstream;

use super::hash::xxh32;
use super::health::{Held, PeerState};

/// Positions of a round-robin wheel at most; larger weights are scaled down.
const WHEEL_MAX: u64 = 1 << 18;
/// Points of a hash ring at least.
const POINTS_MIN: u32 = 1000;
/// Hashes tried for one address at most: the last free points of a full ring are hard to hit.
const HASHES_MAX: u64 = 1 << 20;
/// Entries of an address of average weight.
const ENTRIES: f64 = 160.0;

/// An address that can be chosen.
pub(super) struct Candidate {
    /// Position of its target.
    pub(super) target: usize,
    pub(super) address: SocketAddr,
    pub(super) service: Option<Service>,
    pub(super) weight: u32,
    pub(super) engine: Option<u16>,
    pub(super) state: Arc<PeerState>,
}

/// What is known of an address that a service of the name server names.
pub(crate) struct Service {
    /// `Host` over plain connections and over TLS, when it differs from that of the target.
    pub(crate) hosts: Option<[HeaderValue; 2]>,
}

/// An address of a target.
pub(crate) struct Peer {
    /// Position of its target.
    pub(crate) target: usize,
    pub(crate) address: SocketAddr,
    /// The address as text.
    pub(crate) ip: Arc<str>,
    /// Set when a service has brought it along.
    pub(crate) service: Option<Service>,
    pub(crate) weight: u32,
    /// The component of this process that answers.
    pub(crate) engine: Option<u16>,
    pub(crate) state: Arc<PeerState>,
}

impl Peer {
    pub(crate) fn is_available(&self, checked: bool) -> bool {
        !checked || self.state.is_available()
    }
}

/// The addresses of an upstream; those without weight are never chosen.
#[derive(Default)]
pub(crate) struct Ring {
    peers: Vec<Peer>,
    picker: Picker,
    total_weight: u64,
    turn: AtomicUsize,
}

#[derive(Default)]
enum Picker {
    /// Each address as often as its weight says, in random order.
    Wheel(Vec<usize>),
    /// The address at each point, if any.
    Points(Vec<Option<u32>>),
    #[default]
    LeastConnections,
    Latency,
}

/// What a choice depends on.
pub(crate) struct Wish<'a> {
    pub(crate) checked: bool,
    /// Addresses that already failed for this request.
    pub(crate) tried: &'a [usize],
    pub(crate) hash: u32,
}

impl Ring {
    pub(super) fn new(
        upstream: &Upstream,
        targets: usize,
        candidates: Vec<Candidate>,
        seed: u64,
    ) -> Self {
        let peers: Vec<Peer> = candidates
            .into_iter()
            .map(|it| Peer {
                target: it.target,
                address: it.address,
                ip: Arc::from(it.address.ip().to_string()),
                service: it.service,
                weight: it.weight,
                engine: it.engine,
                state: it.state,
            })
            .collect();
        let total_weight = peers.iter().map(|it| u64::from(it.weight)).sum();
        let picker = match upstream.algorithm.as_str() {
            "consistent-hashing" => {
                Picker::Points(points(&peers, total_weight, targets, upstream.slots))
            }
            "least-connections" => Picker::LeastConnections,
            "latency" => Picker::Latency,
            _ => Picker::Wheel(wheel(&peers, total_weight, seed)),
        };
        Self {
            peers,
            picker,
            total_weight,
            turn: AtomicUsize::new(0),
        }
    }

    pub(crate) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub(crate) fn peer(&self, at: usize) -> Option<&Peer> {
        self.peers.get(at)
    }

    /// Notes that a request is on its way, where choices depend on that.
    pub(crate) fn hold(&self, peer: &Peer) -> Option<Held> {
        matches!(self.picker, Picker::LeastConnections | Picker::Latency)
            .then(|| Held::new(peer.state.clone()))
    }

    /// Nothing can ever be chosen.
    pub(crate) fn is_empty(&self) -> bool {
        self.total_weight == 0
    }

    /// More than `threshold` percent of the weight is available.
    #[expect(clippy::cast_precision_loss, reason = "weights are far below 2^53")]
    pub(crate) fn is_healthy(&self, checked: bool, threshold: f64) -> bool {
        if self.total_weight == 0 {
            return false;
        }
        if !checked {
            return threshold < 100.0;
        }
        let available = self.peers.iter().filter(|it| it.is_available(checked));
        let available: u64 = available.map(|it| u64::from(it.weight)).sum();
        available as f64 / self.total_weight as f64 * 100.0 > threshold
    }

    /// The position of the next address, `None` when there is none.
    pub(crate) fn choose(&self, wish: &Wish<'_>) -> Option<usize> {
        let usable = |at: &usize| {
            let peer = self.peers.get(*at);
            peer.is_some_and(|it| it.weight > 0 && it.is_available(wish.checked))
        };
        let fresh = |at: &usize| usable(at) && !wish.tried.contains(at);
        match &self.picker {
            Picker::Wheel(wheel) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let from = turn.checked_rem(wheel.len())?;
                let (before, after) = wheel.split_at_checked(from)?;
                let found = after.iter().chain(before).position(usable)?;
                // Those that were skipped have had their turn.
                self.turn.fetch_add(found, Ordering::Relaxed);
                after.iter().chain(before).nth(found).copied()
            }
            Picker::Points(points) => {
                let size = u32::try_from(points.len()).ok()?;
                let start = wish.hash.checked_rem(size)?;
                let (low, high) = points.split_at_checked(usize::try_from(start).ok()? + 1)?;
                let downwards = || {
                    let points = low.iter().rev().chain(high.iter().rev()).flatten();
                    points.filter_map(|at| usize::try_from(*at).ok())
                };
                downwards().find(fresh).or_else(|| downwards().find(usable))
            }
            Picker::LeastConnections => {
                let load = |at: usize| self.load(at);
                self.least(fresh, load).or_else(|| self.least(usable, load))
            }
            Picker::Latency => {
                let now = Instant::now();
                self.welcome(now);
                self.least(fresh, |at| self.slowness(at, now))
            }
        }
    }

    /// The address with the least of something; equal ones take turns.
    fn least(
        &self,
        fits: impl Fn(&usize) -> bool,
        measure: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        let count = self.peers.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let from = turn.checked_rem(count)?;
        let positions = (from..count).chain(0..from).filter(fits);
        positions.min_by(|a, b| measure(*a).total_cmp(&measure(*b)))
    }

    fn load(&self, at: usize) -> f64 {
        self.peers.get(at).map_or(f64::MAX, |it| {
            (f64::from(it.state.active()) + 1.0) / f64::from(it.weight)
        })
    }

    fn slowness(&self, at: usize, now: Instant) -> f64 {
        self.peers.get(at).map_or(f64::MAX, |it| {
            it.state.latency(now).unwrap_or_default() / f64::from(it.weight)
        })
    }

    /// Addresses that nothing is known of begin with the average of the others.
    #[expect(clippy::cast_precision_loss, reason = "a count of addresses")]
    fn welcome(&self, now: Instant) {
        let latencies: Vec<_> = self.peers.iter().map(|it| it.state.latency(now)).collect();
        let known: Vec<f64> = latencies.iter().copied().flatten().collect();
        if known.is_empty() || known.len() == latencies.len() {
            return;
        }
        let average = known.iter().sum::<f64>() / known.len() as f64;
        for (peer, _) in self
            .peers
            .iter()
            .zip(&latencies)
            .filter(|(_, latency)| latency.is_none())
        {
            peer.state.begin_latency(average, now);
        }
    }
}

/// The positions of a round-robin wheel: weights over their greatest common divisor, shuffled.
fn wheel(peers: &[Peer], total: u64, seed: u64) -> Vec<usize> {
    let divisor = peers.iter().fold(0, |a, b| gcd(a, u64::from(b.weight)));
    if divisor == 0 {
        return Vec::new();
    }
    let turns = |weight: u32| match u64::from(weight) / divisor {
        exact if total / divisor <= WHEEL_MAX => exact,
        0 => 0,
        exact => (exact * WHEEL_MAX / (total / divisor)).max(1),
    };
    let mut wheel = Vec::new();
    for (at, peer) in peers.iter().enumerate() {
        let turns = usize::try_from(turns(peer.weight)).unwrap_or(0);
        wheel.extend(std::iter::repeat_n(at, turns));
    }
    let mut random = seed | 1;
    for last in (1..wheel.len()).rev() {
        // Marsaglia's xorshift: good enough to spread the first requests of many nodes.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let span = u64::try_from(last).unwrap_or(u64::MAX - 1) + 1;
        wheel.swap(last, usize::try_from(random % span).unwrap_or(last));
    }
    wheel
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The points of a hash ring. Kong counts points from 1; here they count from 0.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "Kong calculates entries with doubles; they are positive and few"
)]
fn points(peers: &[Peer], total: u64, targets: usize, slots: u32) -> Vec<Option<u32>> {
    let size = slots.max(POINTS_MIN);
    let mut points = vec![None; usize::try_from(size).unwrap_or_default()];
    let mut free = size;
    for (at, peer) in peers.iter().enumerate().filter(|(_, it)| it.weight > 0) {
        let share = f64::from(peer.weight) / total as f64;
        let mut entries = ((share * targets as f64 * ENTRIES).floor() as u64).max(1);
        let name = format!("{}::{}", ip_text(peer), peer.address.port());
        let mut number = 0_u64;
        while entries > 0 && free > 0 && number < HASHES_MAX {
            number += 1;
            let hash = xxh32(format!("{name} {number}").as_bytes()) % size;
            let place = usize::try_from(hash).ok().and_then(|at| points.get_mut(at));
            if let Some(place @ None) = place {
                *place = u32::try_from(at).ok();
                entries -= 1;
                free -= 1;
            }
        }
    }
    points
}

fn ip_text(peer: &Peer) -> String {
    match peer.address {
        SocketAddr::V4(_) => peer.ip.to_string(),
        SocketAddr::V6(_) => format!("[{}]", peer.ip),
    }
}

#[cfg(test)]
mod tests {
    use o28m_kong::{Context, entity};
    use serde_json::{Value, json};

    use super::*;

    struct Fixed;

    impl o28m_core::Clock for Fixed {
        fn now(&self) -> o28m_core::Timestamp {
            o28m_core::Timestamp::from_seconds(1)
        }
    }

    impl o28m_core::Rng for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(1);
        }
    }

    fn ring(changes: Value, weights: &[u32]) -> Ring {
        let ambient = o28m_core::Ambient {
            clock: Arc::new(Fixed),
            rng: Arc::new(Fixed),
        };
        let context = Context {
            ambient: &ambient,
            enabled_plugins: &[],
        };
        let mut body = json!({"name": "up"});
        for (key, value) in changes.as_object().unwrap() {
            body[key] = value.clone();
        }
        let upstream = entity("upstreams").unwrap();
        let upstream = upstream.insert(body.as_object().unwrap().clone(), &context);
        let upstream: Upstream = serde_json::from_value(upstream.unwrap().into()).unwrap();
        let candidates = weights.iter().enumerate().map(|(at, weight)| Candidate {
            target: at,
            address: format!("10.0.0.{}:8000", at + 1).parse().unwrap(),
            service: None,
            weight: *weight,
            engine: None,
            state: Arc::default(),
        });
        Ring::new(&upstream, weights.len(), candidates.collect(), 7)
    }

    fn choose(ring: &Ring, tried: &[usize], hash: u32) -> Option<usize> {
        ring.choose(&Wish {
            checked: true,
            tried,
            hash,
        })
    }

    #[test]
    fn proxy_case_053_the_mapping_is_kongs() {
        let hashing = json!({"hash_on": "ip", "slots": 10_000});
        let ring = ring(hashing, &[100, 100, 50]);
        let Picker::Points(points) = &ring.picker else {
            panic!("not a hash ring")
        };
        let entries = |at| points.iter().filter(|it| **it == Some(at)).count();
        assert_eq!([entries(0), entries(1), entries(2)], [192, 192, 96]);
        for (value, point, peer) in [
            ("user-1", 8958, 0),
            ("user-2", 1226, 1),
            ("user-3", 4968, 1),
            ("", 7590, 0),
        ] {
            let hash = xxh32(value.as_bytes());
            assert_eq!(hash % 10_000 + 1, point, "{value:?}");
            assert_eq!(choose(&ring, &[], hash), Some(peer), "{value:?}");
            let other = choose(&ring, &[peer], hash);
            assert!(other.is_some() && other != Some(peer));
            assert_eq!(choose(&ring, &[0, 1, 2], hash), Some(peer));
        }
    }

    #[test]
    fn a_wheel_skips_who_is_unavailable_and_stays_within_bounds() {
        let ring = ring(
            json!({}),
            &[65_535, 65_534, 1, 0, 65_533, 65_531, 64_000, 1],
        );
        let Picker::Wheel(wheel) = &ring.picker else {
            panic!("not a wheel")
        };
        assert!(wheel.len() as u64 <= WHEEL_MAX + 8, "{}", wheel.len());
        assert!(wheel.contains(&2) && !wheel.contains(&3));
        for at in [0, 1, 4, 5, 6, 7] {
            ring.peers[at].state.force(false);
        }
        assert_eq!(choose(&ring, &[], 0), Some(2));
        ring.peers[2].state.force(false);
        assert_eq!(choose(&ring, &[], 0), None);
    }

    #[test]
    fn a_ring_with_more_entries_than_points_is_filled_and_no_more() {
        let ring = ring(json!({"hash_on": "ip", "slots": 10}), &[1; 20]);
        let Picker::Points(points) = &ring.picker else {
            panic!("not a hash ring")
        };
        assert_eq!(points.len(), 1000);
        assert!(points.iter().all(Option::is_some));
    }

    #[test]
    fn least_connections_counts_by_weight() {
        let ring = ring(json!({"algorithm": "least-connections"}), &[1, 3]);
        let held: Vec<_> = (0..8)
            .map(|_| {
                let at = choose(&ring, &[], 0).unwrap();
                (at, super::super::Held::new(ring.peers[at].state.clone()))
            })
            .collect();
        let of = |peer| held.iter().filter(|(at, _)| *at == peer).count();
        assert_eq!([of(0), of(1)], [2, 6]);
        assert_eq!(choose(&ring, &[1], 0), Some(0));
        assert!(choose(&ring, &[0, 1], 0).is_some());
    }
}
