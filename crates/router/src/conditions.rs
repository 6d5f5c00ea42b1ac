//! Conditions of a route besides its hosts and paths.

use std::net::IpAddr;

use o28m_kong::expression::Network;
use o28m_kong::{Endpoint, Route, RouterFlavor};
use regex::Regex;

use crate::host::{Host, Name};
use crate::pattern::limited;
use crate::{Problem, RequestHead};

/// What does not differ between the path groups of a route.
#[derive(Clone, Default)]
pub(crate) struct Conditions {
    /// Some host has a port, so that the index alone does not decide.
    pub(crate) host_ports: bool,
    methods: Vec<String>,
    headers: Vec<HeaderCondition>,
    server_names: Vec<Name>,
    /// Those that only the flavour `expressions` has.
    rest: Option<Box<Transport>>,
}

/// Conditions on the connection.
#[derive(Clone, Default)]
struct Transport {
    sources: Vec<Peer>,
    destinations: Vec<Peer>,
    protocols: Protocols,
}

/// The schemes that a route serves.
#[derive(Clone, Copy)]
pub(crate) struct Protocols {
    plain: bool,
    tls: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            plain: true,
            tls: true,
        }
    }
}

impl Protocols {
    /// A route for `https` alone serves both, so that the redirect to TLS can happen.
    pub(crate) fn of(protocols: &[String]) -> Self {
        let has = |name: &str| protocols.iter().any(|it| it == name);
        if protocols.is_empty() || protocols.len() == 1 && has("https") {
            return Self::default();
        }
        Self {
            plain: has("http") || has("grpc"),
            tls: has("https") || has("grpcs"),
        }
    }

    pub(crate) fn hold(self, head: &RequestHead<'_>) -> bool {
        match head.server_name {
            Some(_) => self.tls,
            None => self.plain,
        }
    }
}

#[derive(Clone)]
struct Peer {
    addresses: Option<Network>,
    port: Option<i64>,
}

impl Peer {
    fn compile(endpoint: &Endpoint) -> Result<Self, Problem> {
        let addresses = endpoint.ip.as_deref().map(|text| {
            let (address, bits) = text.split_once('/').unwrap_or((text, ""));
            let address: IpAddr = address.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let bits = if bits.is_empty() {
                Some(longest)
            } else {
                bits.parse().ok()
            };
            let bits = bits.filter(|bits| *bits <= longest)?;
            Some(Network { address, bits })
        });
        Ok(Self {
            addresses: match addresses {
                Some(addresses) => Some(addresses.ok_or(Problem::Endpoint)?),
                None => None,
            },
            port: endpoint.port.map(i64::from),
        })
    }

    fn compile_all(endpoints: &Option<Vec<Endpoint>>) -> Result<Vec<Self>, Problem> {
        endpoints.iter().flatten().map(Self::compile).collect()
    }

    fn hold(list: &[Self], address: Option<IpAddr>, port: Option<i64>) -> bool {
        let fits = |peer: &Self| {
            let inside = |network: Network| address.is_some_and(|it| network.contains(it));
            peer.addresses.is_none_or(inside) && peer.port.is_none_or(|it| port == Some(it))
        };
        list.is_empty() || list.iter().any(fits)
    }
}

#[derive(Clone)]
pub(crate) struct HeaderCondition {
    /// Lower case.
    pub(crate) name: String,
    values: Vec<HeaderPattern>,
}

#[derive(Clone)]
enum HeaderPattern {
    Text(String),
    Regex(Regex),
}

impl Conditions {
    pub(crate) fn compile(route: &Route, flavor: RouterFlavor) -> Result<Self, Problem> {
        let headers = route.headers.iter().flatten();
        let headers = headers.map(|(name, values)| HeaderCondition::compile(name, values));
        let snis = route.snis.iter().flatten();
        let rest = match flavor {
            RouterFlavor::Expressions => Some(Box::new(Transport {
                sources: Peer::compile_all(&route.sources)?,
                destinations: Peer::compile_all(&route.destinations)?,
                protocols: Protocols::of(&route.protocols),
            })),
            RouterFlavor::Traditional | RouterFlavor::TraditionalCompatible => None,
        };
        Ok(Self {
            host_ports: false,
            methods: route.methods.clone().unwrap_or_default(),
            headers: headers.collect::<Result<_, _>>()?,
            server_names: snis.map(|it| Name::parse(it)).collect(),
            rest,
        })
    }

    pub(crate) fn hold(&self, head: &RequestHead<'_>, host: &Host<'_>) -> bool {
        let method = self.methods.is_empty() || self.methods.iter().any(|it| it == head.method);
        method
            && self.server_name(head.server_name)
            && self.headers.iter().all(|it| it.holds(head))
            && self.rest.as_ref().is_none_or(|it| it.hold(head, host))
    }

    /// On plain connections the condition counts as met, so that the redirect to TLS can happen.
    fn server_name(&self, server_name: Option<&str>) -> bool {
        self.server_names.is_empty()
            || server_name.is_none_or(|name| self.server_names.iter().any(|it| it.matches(name)))
    }
}

impl Transport {
    fn hold(&self, head: &RequestHead<'_>, host: &Host<'_>) -> bool {
        self.protocols.hold(head)
            && Peer::hold(
                &self.sources,
                head.source.map(|it| it.ip()),
                head.source_port(),
            )
            && Peer::hold(&self.destinations, head.destination, Some(host.port))
    }
}

impl HeaderCondition {
    /// Each value is a text, or an expression after `~*`.
    fn compile(name: &str, values: &[String]) -> Result<Self, regex::Error> {
        let values = values.iter().map(|value| HeaderPattern::parse(value));
        Ok(Self {
            name: name.to_ascii_lowercase(),
            values: values.collect::<Result<_, _>>()?,
        })
    }

    /// As before Kong 3.0: a value is an expression only when it is the only one, and a text as well.
    pub(crate) fn compile_single(name: &str, values: &[String]) -> Result<Self, regex::Error> {
        let mut condition = Self {
            name: name.to_ascii_lowercase(),
            values: values.iter().cloned().map(HeaderPattern::Text).collect(),
        };
        if let [only] = values
            && only.starts_with("~*")
        {
            condition.values.push(HeaderPattern::parse(only)?);
        }
        Ok(condition)
    }

    pub(crate) fn holds(&self, head: &RequestHead<'_>) -> bool {
        let mut fits = |value: &str| self.values.iter().any(|it| it.matches(value));
        head.headers.any(&self.name, &mut fits)
    }
}

impl HeaderPattern {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Text(text) => text.eq_ignore_ascii_case(value),
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    fn parse(value: &str) -> Result<Self, regex::Error> {
        let Some(pattern) = value.strip_prefix("~*") else {
            return Ok(Self::Text(value.to_owned()));
        };
        // Kong lower-cases the pattern, which turns `\D` into `\d`; ignoring case means the same
        // for everything else.
        limited(pattern, true).map(Self::Regex)
    }
}
