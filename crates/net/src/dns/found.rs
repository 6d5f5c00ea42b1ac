//! What a name stands for, and who of several comes next.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Kind;
use super::walk::Outcome;

/// Where connections of a name may go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// The port, where the name says one.
    pub port: Option<u16>,
    /// Its share among the others; at least 1.
    pub weight: u16,
    /// What a service calls it.
    pub name: Option<Arc<str>>,
}

impl Endpoint {
    pub(super) fn address(ip: IpAddr) -> Self {
        Self {
            ip,
            port: None,
            weight: 1,
            name: None,
        }
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }
}

/// Who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Records of this kind.
    Records(Kind),
    /// The hosts file.
    HostsFile,
    /// It is an address, or `localhost`.
    Fixed,
}

/// What a name stands for: at least one endpoint.
#[derive(Debug)]
pub struct Found {
    endpoints: Box<[Endpoint]>,
    /// How many of them are of the preferred family; the others come after them.
    preferred: usize,
    origin: Origin,
    total_weight: usize,
    turn: AtomicUsize,
}

impl Found {
    /// `last` is what the name stood for before: its turns go on.
    pub(super) fn new(outcome: Outcome, last: Option<&Self>) -> Self {
        let preferred = outcome.endpoints.iter().take(outcome.preferred);
        let total_weight = preferred.map(|it| usize::from(it.weight)).sum();
        let turn = last.map_or(0, |it| it.turn.load(Ordering::Relaxed));
        Self {
            endpoints: outcome.endpoints.into(),
            preferred: outcome.preferred,
            origin: outcome.origin,
            total_weight,
            turn: AtomicUsize::new(turn),
        }
    }

    pub(super) fn fixed(ip: IpAddr) -> Self {
        Self {
            endpoints: Box::new([Endpoint::address(ip)]),
            preferred: 1,
            origin: Origin::Fixed,
            total_weight: 1,
            turn: AtomicUsize::new(0),
        }
    }

    /// Those of the preferred family, or the services of the lowest priority.
    #[must_use]
    pub fn preferred(&self) -> &[Endpoint] {
        self.endpoints.get(..self.preferred).unwrap_or_default()
    }

    /// Who said so.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// All of them.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Whose turn it is: each as often as its weight says. `port` is that of endpoints without one.
    #[must_use]
    pub fn next(&self, port: u16) -> Option<SocketAddr> {
        match self.preferred() {
            [] => self.endpoints.first().map(|it| it.at(port)),
            [only] => Some(only.at(port)),
            several => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let mut place = turn.checked_rem(self.total_weight)?;
                let mut each = several.iter();
                let chosen = each.find(|it| {
                    let weight = usize::from(it.weight);
                    let found = place < weight;
                    place = place.saturating_sub(weight);
                    found
                });
                chosen.map(|it| it.at(port))
            }
        }
    }

    /// All addresses, beginning with `first`, those of the preferred family before the others.
    #[must_use]
    pub fn beginning_with(&self, first: SocketAddr, port: u16) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self.endpoints.iter().map(|it| it.at(port)).collect();
        let preferred = addresses.get_mut(..self.preferred).unwrap_or_default();
        let at = preferred.iter().position(|it| *it == first).unwrap_or(0);
        preferred.rotate_left(at);
        addresses
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(weights: &[u16], preferred: usize) -> Found {
        let endpoints = weights.iter().enumerate().map(|(at, weight)| Endpoint {
            ip: IpAddr::from([10, 0, 0, u8::try_from(at).unwrap()]),
            port: (at == 1).then_some(99),
            weight: *weight,
            name: None,
        });
        let outcome = Outcome {
            endpoints: endpoints.collect(),
            preferred,
            origin: Origin::Records(Kind::Srv),
            ttl: Duration::ZERO,
            hint: None,
        };
        Found::new(outcome, None)
    }

    #[test]
    fn turns_follow_weights_and_go_on() {
        let first = found(&[1, 3, 1], 2);
        let ports = |found: &Found, times: usize| -> Vec<u16> {
            (0..times).map(|_| found.next(80).unwrap().port()).collect()
        };
        assert_eq!(ports(&first, 5), [80, 99, 99, 99, 80]);
        let outcome = Outcome {
            endpoints: first.endpoints.to_vec(),
            preferred: 2,
            origin: first.origin,
            ttl: Duration::ZERO,
            hint: None,
        };
        assert_eq!(ports(&Found::new(outcome, Some(&first)), 3), [99, 99, 99]);
    }

    #[test]
    fn others_follow_in_order() {
        let found = found(&[1, 1, 1, 1], 3);
        let first: SocketAddr = "10.0.0.1:99".parse().unwrap();
        let all = found.beginning_with(first, 80);
        let all: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(
            all,
            ["10.0.0.1:99", "10.0.0.2:80", "10.0.0.0:80", "10.0.0.3:80"]
        );
    }
}
