//! One look-up: which names are asked for, for what, and in which order (spec gateway-proxy 10.6).

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, join_all, select};

use super::exchange::Exchange;
use super::message::{ALIASES_MAX, Record, Reply, Service};
use super::system::Servers;
use super::{Endpoint, Failure, Kind, Order, Origin, Step};

/// How long the other family of addresses is waited for once the preferred one is there (RFC 8305
/// section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long the name that had records last is asked for first.
const HINT_TTL: Duration = Duration::from_secs(300);
/// Endpoints of all services of one name that count.
const ENDPOINTS_MAX: usize = 1024;
/// Services of one name that count.
const SERVICES_MAX: usize = 256;

/// What a name stands for.
pub(super) struct Outcome {
    /// Those of the preferred family first.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) preferred: usize,
    pub(super) origin: Origin,
    pub(super) ttl: Duration,
    pub(super) hint: Option<Hint>,
}

/// Why it stands for nothing, and how long that holds as far as the zone says.
#[derive(Debug)]
pub(super) struct Miss {
    pub(super) failure: Failure,
    pub(super) ttl: Option<Duration>,
}

/// What had records last: asked for first, so that a name that is looked up again and again costs no
/// walk through the search domains each time.
#[derive(Clone, Debug)]
pub(super) struct Hint {
    name: Arc<str>,
    kind: Kind,
    until: Instant,
}

impl From<Failure> for Miss {
    fn from(failure: Failure) -> Self {
        Self { failure, ttl: None }
    }
}

impl Miss {
    /// Of two, the one that says more: that a server could not tell is more than that nothing is there.
    fn or(self, other: Self) -> Self {
        match (self.failure.is_not_found(), other.failure.is_not_found()) {
            (true, false) => other,
            (true, true) => {
                let ttl = self.ttl.min(other.ttl).or(self.ttl).or(other.ttl);
                // The name is there, for something else.
                let failure = match self.failure {
                    Failure::NoRecords => self.failure,
                    _ => other.failure,
                };
                Self { failure, ttl }
            }
            (false, _) => self,
        }
    }

    /// Another name will not do better.
    fn is_final(&self) -> bool {
        match self.failure {
            Failure::NoSuchName
            | Failure::NoRecords
            | Failure::Refused(..)
            | Failure::Recursion
            | Failure::Invalid => false,
            Failure::Timeout(_)
            | Failure::Unreachable(..)
            | Failure::NoServer
            | Failure::TooLong => true,
        }
    }
}

/// A look-up.
pub(super) struct Walk<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) servers: Arc<Servers>,
    pub(super) order: &'a Order,
    pub(super) now: Instant,
}

impl Walk<'_> {
    /// Looks `host` up.
    pub(super) async fn find(&self, host: &str, hint: Option<Hint>) -> Result<Outcome, Miss> {
        let hint = hint.filter(|it| it.until > self.now);
        let mut missed: Option<Miss> = None;
        for (name, kinds) in self.steps(host, hint.as_ref()) {
            let found = match kinds.as_slice() {
                [Kind::Srv] => self.services(&name).await,
                kinds => self.addresses(&name, kinds).await,
            };
            match found {
                Ok(mut outcome) => {
                    let known = hint.filter(|it| it.name == name);
                    outcome.hint = Some(Hint {
                        until: known.map_or(self.now + HINT_TTL, |it| it.until),
                        kind: kinds.first().copied().unwrap_or(Kind::A),
                        name,
                    });
                    return Ok(outcome);
                }
                Err(miss) if miss.is_final() => return Err(miss),
                Err(miss) => {
                    missed = Some(match missed {
                        Some(first) => first.or(miss),
                        None => miss,
                    });
                }
            }
        }
        Err(missed.unwrap_or(Failure::NoRecords.into()))
    }

    /// What is asked, one after the other.
    fn steps(&self, host: &str, hint: Option<&Hint>) -> Vec<(Arc<str>, Vec<Kind>)> {
        let mut names = candidates(host, &self.servers);
        if let Some(at) = hint.and_then(|hint| names.iter().position(|it| *it == hint.name)) {
            names.get_mut(..=at).unwrap_or_default().rotate_right(1);
        }
        match self.order {
            Order::Together(kinds) => {
                let wants_service = kinds.contains(&Kind::Srv) && is_service(host);
                let kinds: Vec<Kind> = match wants_service {
                    true => vec![Kind::Srv],
                    false => address_kinds(kinds.iter().copied()),
                };
                names.into_iter().map(|it| (it, kinds.clone())).collect()
            }
            Order::InTurn(steps) => {
                let mut kinds = Vec::new();
                for step in steps {
                    let kind = match step {
                        Step::Last => hint.map(|it| it.kind),
                        Step::Kind(kind) => Some(*kind),
                    };
                    kinds.extend(kind.filter(|it| !kinds.contains(it)));
                }
                let each = |kind: &Kind| {
                    let kind = *kind;
                    let names = names.iter().cloned();
                    names.map(move |it| (it, vec![kind])).collect::<Vec<_>>()
                };
                kinds.iter().flat_map(each).collect()
            }
        }
    }

    /// Addresses of up to two families, asked for at once.
    async fn addresses(&self, name: &str, kinds: &[Kind]) -> Result<Outcome, Miss> {
        let (first, second) = match kinds {
            [] => return Err(Failure::NoRecords.into()),
            [only] => return self.family(name, *only).await,
            [first, second, ..] => (*first, *second),
        };
        let first = pin!(self.family(name, first));
        let second = pin!(self.family(name, second));
        let (first, second) = match select(first, second).await {
            Either::Left((Ok(first), second)) => {
                let second = tokio::time::timeout(RESOLUTION_DELAY, second).await;
                (Ok(first), second.ok())
            }
            // Other failures are those of the name, or of the server.
            Either::Left((Err(miss), second)) if miss.failure == Failure::NoRecords => {
                (Err(miss), Some(second.await))
            }
            Either::Left((Err(miss), _)) => (Err(miss), None),
            Either::Right((second, first)) => (first.await, Some(second)),
        };
        match (first, second) {
            (Ok(mut first), Some(Ok(second))) => {
                first.endpoints.extend(second.endpoints);
                first.ttl = first.ttl.min(second.ttl);
                Ok(first)
            }
            (Ok(first), _) => Ok(first),
            (Err(miss), Some(Ok(second))) if miss.failure.is_not_found() => Ok(second),
            (Err(miss), Some(Err(other))) => Err(miss.or(other)),
            (Err(miss), _) => Err(miss),
        }
    }

    async fn family(&self, name: &str, kind: Kind) -> Result<Outcome, Miss> {
        let (records, ttl) = self.records(name, kind).await?;
        let endpoints: Vec<Endpoint> = records
            .into_iter()
            .filter_map(|it| match it {
                Record::Address(ip) => Some(Endpoint::address(ip)),
                Record::Service(_) => None,
            })
            .collect();
        Ok(Outcome {
            preferred: endpoints.len(),
            endpoints,
            origin: Origin::Records(kind),
            ttl,
            hint: None,
        })
    }

    /// The services of the lowest priority, with their addresses.
    async fn services(&self, name: &str) -> Result<Outcome, Miss> {
        let (records, mut ttl) = self.records(name, Kind::Srv).await?;
        let services = records.into_iter().filter_map(|it| match it {
            // Those that point to the name itself lead nowhere.
            Record::Service(it) if !it.target.eq_ignore_ascii_case(name) => Some(it),
            Record::Service(_) | Record::Address(_) => None,
        });
        let mut services: Vec<Service> = services.take(SERVICES_MAX).collect();
        let lowest = services.iter().map(|it| it.priority).min();
        services.retain(|it| Some(it.priority) == lowest);
        let found = join_all(services.iter().map(|it| self.service(it))).await;
        let mut endpoints = Vec::new();
        let mut missed = Miss::from(Failure::NoRecords);
        for outcome in found {
            match outcome {
                Ok((found, life)) => {
                    endpoints.extend(found);
                    ttl = life.map_or(ttl, |it| ttl.min(it));
                }
                Err(miss) => missed = missed.or(miss),
            }
        }
        if endpoints.is_empty() {
            return Err(missed);
        }
        endpoints.truncate(ENDPOINTS_MAX);
        Ok(Outcome {
            preferred: endpoints.len(),
            endpoints,
            origin: Origin::Records(Kind::Srv),
            ttl,
            hint: None,
        })
    }

    /// The addresses of a service: those that came along, else those of its name.
    async fn service(&self, service: &Service) -> Result<(Vec<Endpoint>, Option<Duration>), Miss> {
        let kinds = match self.order {
            Order::Together(kinds) => address_kinds(kinds.iter().copied()),
            Order::InTurn(steps) => address_kinds(steps.iter().filter_map(|it| match it {
                Step::Kind(kind) => Some(*kind),
                Step::Last => None,
            })),
        };
        let endpoint = |ip| Endpoint {
            ip,
            port: (service.port != 0).then_some(service.port),
            weight: service.weight.max(1),
            name: Some(service.target.clone()),
        };
        for kind in &kinds {
            let along = service.addresses.iter().copied();
            let along = along.filter(|it| it.is_ipv4() == (*kind == Kind::A));
            let along: Vec<Endpoint> = along.map(endpoint).collect();
            if !along.is_empty() {
                return Ok((along, None));
            }
        }
        let found = self.addresses(&service.target, &kinds).await?;
        let endpoints = found.endpoints.iter().take(found.preferred);
        let endpoints = endpoints.map(|it| endpoint(it.ip)).collect();
        Ok((endpoints, Some(found.ttl)))
    }

    /// The records of a name, whatever it is an alias of.
    async fn records(&self, name: &str, kind: Kind) -> Result<(Vec<Record>, Duration), Miss> {
        let mut alias: Option<String> = None;
        let mut ttl = Duration::MAX;
        for _ in 0..=ALIASES_MAX {
            let name = alias.as_deref().unwrap_or(name);
            match self.exchange.ask(&self.servers, name, kind).await? {
                Reply::Records(records, life) => return Ok((records, ttl.min(life))),
                Reply::Alias(next, life) => {
                    ttl = ttl.min(life);
                    alias = Some(next);
                }
                Reply::Nothing(failure, ttl) => return Err(Miss { failure, ttl }),
                Reply::Unable(failure) => return Err(failure.into()),
            }
        }
        Err(Failure::Recursion.into())
    }
}

/// The families, addresses of the older one when there are none.
fn address_kinds(kinds: impl Iterator<Item = Kind>) -> Vec<Kind> {
    let mut families: Vec<Kind> = Vec::new();
    for kind in kinds.filter(|it| *it != Kind::Srv) {
        if !families.contains(&kind) {
            families.push(kind);
        }
    }
    if families.is_empty() {
        families.push(Kind::A);
    }
    families
}

/// Whether a name has the form of a service's: `_service._protocol.name` (RFC 2782).
#[must_use]
pub fn is_service(host: &str) -> bool {
    let mut labels = host.split('.');
    let mut is_marked = || labels.next().is_some_and(|it| it.starts_with('_'));
    is_marked() && is_marked() && labels.next().is_some_and(|it| !it.is_empty())
}

/// The names that may be meant, in lower case.
fn candidates(host: &str, servers: &Servers) -> Vec<Arc<str>> {
    let name = host.to_ascii_lowercase();
    if let Some(name) = name.strip_suffix('.') {
        return vec![Arc::from(name)];
    }
    let within = servers.search.iter();
    let mut names: Vec<Arc<str>> = within
        .map(|domain| Arc::from(format!("{name}.{domain}")))
        .filter(|it| super::message::is_name(it))
        .collect();
    let dots = name.bytes().filter(|it| *it == b'.').count();
    let at = if dots >= servers.ndots {
        0
    } else {
        names.len()
    };
    names.insert(at, Arc::from(name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(ndots: usize) -> Arc<Servers> {
        Arc::new(Servers {
            addresses: Vec::new(),
            search: vec![
                "ns.svc.cluster.local".to_owned(),
                "cluster.local".to_owned(),
            ],
            ndots,
            timeout: Duration::from_secs(1),
            attempts: 1,
            rotate: false,
        })
    }

    fn steps(order: &Order, host: &str, hint: Option<&Hint>) -> Vec<String> {
        let exchange = Exchange::new();
        let walk = Walk {
            exchange: &exchange,
            servers: servers(2),
            order,
            now: Instant::now(),
        };
        let steps = walk.steps(host, hint).into_iter();
        steps
            .map(|(name, kinds)| format!("{name} {kinds:?}"))
            .collect()
    }

    #[test]
    fn names_with_few_dots_are_tried_within_the_search_domains_first() {
        let names = |host| candidates(host, &servers(2)).join(" ");
        assert_eq!(
            names("A.b"),
            "a.b.ns.svc.cluster.local a.b.cluster.local a.b"
        );
        assert_eq!(
            names("a.b.c"),
            "a.b.c a.b.c.ns.svc.cluster.local a.b.c.cluster.local"
        );
        assert_eq!(names("a."), "a");
        let long = "x".repeat(63);
        let long = format!("{long}.{long}.{long}.{}", "x".repeat(50));
        assert_eq!(names(&long), long);
    }

    #[test]
    fn services_are_asked_for_where_the_name_says_so() {
        let order = Order::Together(vec![Kind::A, Kind::Aaaa, Kind::Srv]);
        assert_eq!(steps(&order, "a.b.", None), ["a.b [A, Aaaa]"]);
        assert_eq!(steps(&order, "_http._tcp.b.", None), ["_http._tcp.b [Srv]"]);
        assert_eq!(steps(&order, "_http.b.c.", None), ["_http.b.c [A, Aaaa]"]);
        let order = Order::Together(vec![Kind::Aaaa]);
        assert_eq!(
            steps(&order, "_http._tcp.b.", None),
            ["_http._tcp.b [Aaaa]"]
        );
    }

    #[test]
    fn an_order_goes_through_all_names_for_each_kind() {
        let order = Order::InTurn(vec![Step::Last, Step::Kind(Kind::Srv), Step::Kind(Kind::A)]);
        let all = ["x.ns.svc.cluster.local", "x.cluster.local", "x"];
        let of = |kind: &str, names: [&str; 3]| names.map(|it| format!("{it} [{kind}]"));
        let expected = [of("Srv", all), of("A", all)].concat();
        assert_eq!(steps(&order, "x", None), expected);
        let hint = Hint {
            name: Arc::from("x.cluster.local"),
            kind: Kind::A,
            until: Instant::now() + HINT_TTL,
        };
        let first = ["x.cluster.local", "x.ns.svc.cluster.local", "x"];
        let expected = [of("A", first), of("Srv", first)].concat();
        assert_eq!(steps(&order, "x", Some(&hint)), expected);
    }
}
