//! Choosing one of several upstreams, and one of several zones.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use o28m_core::Rng;
use o28m_telemetry::metrics::Registry;
use serde::Deserialize;

use crate::config::{RouteConfig, Server};

/// A number in `[0, 1)`.
pub(crate) fn fraction(rng: &dyn Rng) -> f64 {
    let mut bytes = [0; 4];
    rng.fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// The server at `fraction` of the summed weights; `None` when no server has weight. Servers that
/// all lack a weight share equally.
pub(crate) fn pick(servers: &[Server], fraction: f64) -> Option<&Server> {
    let unweighted = servers.iter().all(|server| server.weight.is_none());
    let weight = |server: &Server| match server.weight {
        _ if unweighted => 1.0,
        weight => weight.unwrap_or(0.0).max(0.0),
    };
    let total: f64 = servers.iter().map(weight).sum();
    let mut left = fraction * total;
    let mut weighted = servers.iter().filter(|server| weight(server) > 0.0);
    // Rounding may leave a rest behind the last server: it takes that too.
    let last = weighted.clone().next_back();
    weighted
        .find(|server| {
            left -= weight(server);
            left < 0.0
        })
        .or(last)
}

/// Which zones are up, as the last message about each of them said.
pub struct ZoneHealth {
    healthy_by_default: bool,
    zones: RwLock<HashMap<String, Arc<AtomicBool>>>,
    registry: Registry,
}

/// Zones that are remembered; messages about more are ignored.
const ZONES_MAX: usize = 1024;

/// A message about a zone that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not JSON of the agreed shape, or an unknown status.
    #[error("zone status message cannot be read")]
    Malformed,
    /// The message does not say which zone.
    #[error("zone status message names no zone")]
    NoZone,
    /// More zones than can be.
    #[error("zone status message for one zone too many")]
    TooMany,
}

impl ZoneHealth {
    /// Nothing is known yet.
    pub(crate) fn new(healthy_by_default: bool, registry: &Registry) -> Self {
        Self {
            healthy_by_default,
            zones: RwLock::default(),
            registry: registry.clone(),
        }
    }

    /// Takes in a message `{"zone":"…","status":"HEALTHY"|"UNHEALTHY"}`; without status the zone is
    /// down.
    ///
    /// # Errors
    /// [`MessageError`]; nothing changes then.
    pub fn apply(&self, message: &[u8]) -> Result<(), MessageError> {
        #[derive(Deserialize)]
        struct Message {
            zone: Option<String>,
            status: Option<Status>,
        }
        #[derive(Deserialize, PartialEq)]
        #[serde(rename_all = "UPPERCASE")]
        enum Status {
            Healthy,
            Unhealthy,
        }
        let message: Message =
            serde_json::from_slice(message).map_err(|_| MessageError::Malformed)?;
        let zone = message.zone.ok_or(MessageError::NoZone)?;
        let is_healthy = message.status == Some(Status::Healthy);
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = zones.get(&zone) {
            known.store(is_healthy, Ordering::Relaxed);
            return Ok(());
        }
        if zones.len() >= ZONES_MAX {
            return Err(MessageError::TooMany);
        }
        let health = Arc::new(AtomicBool::new(is_healthy));
        let read = Arc::clone(&health);
        self.registry.gauge(
            "zone_health_status",
            "1 while a zone is healthy.",
            &[("zone", zone.as_str()), ("status", "HEALTHY")],
            move || f64::from(u8::from(read.load(Ordering::Relaxed))),
        );
        zones.insert(zone, health);
        Ok(())
    }

    fn is_healthy(&self, zone: &str) -> bool {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        zones
            .get(zone)
            .map_or(self.healthy_by_default, |it| it.load(Ordering::Relaxed))
    }
}

/// The first entry that is not of a zone to avoid, and whether it is the last resort without zone.
pub(crate) fn choose<'a>(
    entries: &'a [Arc<RouteConfig>],
    skip: Option<&str>,
    health: &ZoneHealth,
) -> Option<(&'a Arc<RouteConfig>, bool)> {
    entries.iter().find_map(|entry| {
        let Some(zone) = entry
            .target_zone_name
            .as_deref()
            .filter(|it| !it.is_empty())
        else {
            return Some((entry, true));
        };
        let skipped = skip.is_some_and(|skip| skip.trim().eq_ignore_ascii_case(zone));
        (!skipped && health.is_healthy(zone)).then(|| (entry, entry.secondary_failover))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(weights: &[Option<f64>]) -> Vec<Server> {
        let server = |weight: &Option<f64>| Server {
            upstream: None,
            weight: *weight,
        };
        weights.iter().map(server).collect()
    }

    /// How often each server is picked at evenly spread fractions.
    fn picks(weights: &[Option<f64>]) -> Vec<usize> {
        let servers = servers(weights);
        let mut counts = vec![0; servers.len()];
        for step in 0..1000 {
            if let Some(found) = pick(&servers, f64::from(step) / 1000.0) {
                let at = servers
                    .iter()
                    .position(|it| std::ptr::eq(it, found))
                    .unwrap();
                counts[at] += 1;
            }
        }
        counts
    }

    #[test]
    fn jumper_case_047_weights_are_shares() {
        assert_eq!(picks(&[Some(50.0), Some(50.0)]), [500, 500]);
        assert_eq!(picks(&[Some(3.0), Some(1.0)]), [750, 250]);
        assert_eq!(picks(&[Some(0.0), Some(1.0)]), [0, 1000]);
        assert_eq!(picks(&[Some(0.0), Some(0.0)]), [0, 0]);
        assert_eq!(picks(&[None, None]), [500, 500]);
        assert_eq!(picks(&[None, Some(2.0)]), [0, 1000]);
        assert_eq!(picks(&[Some(-5.0), Some(0.5)]), [0, 1000]);
        assert_eq!(picks(&[]), [0; 0]);
    }

    #[test]
    fn jumper_case_051_messages_about_nothing_change_nothing() {
        let health = ZoneHealth::new(true, &Registry::default());
        for (message, result) in [
            (r#"{"zone":"A","status":"X"}"#, Err(MessageError::Malformed)),
            (r#"{"status":"UNHEALTHY"}"#, Err(MessageError::NoZone)),
            (
                r#"{"zone":null,"status":"UNHEALTHY"}"#,
                Err(MessageError::NoZone),
            ),
            ("nonsense", Err(MessageError::Malformed)),
        ] {
            assert_eq!(health.apply(message.as_bytes()), result);
            assert!(health.is_healthy("A"));
        }
        for (message, healthy) in [
            (r#"{"zone":"A","status":"UNHEALTHY","more":1}"#, false),
            (r#"{"zone":"A","status":"HEALTHY"}"#, true),
            (r#"{"zone":"A"}"#, false),
        ] {
            health.apply(message.as_bytes()).unwrap();
            assert_eq!(health.is_healthy("A"), healthy);
        }
        assert!(health.is_healthy("a"));
    }
}
