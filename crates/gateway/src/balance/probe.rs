//! Active health checks: the gateway asks targets how they are (spec gateway-proxy 11.4).

mod ask;
mod grpc;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use o28m_core::Ambient;
use o28m_net::client::Pool;
use tokio::task::JoinSet;

use super::{Balancer, Ring};
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
    // A connection of its own for each check: whether one can be made is part of the question.
    let pool = Pool::with_idle_max(0);
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
                ask::ask(&pool, &probe, &trust).await;
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
