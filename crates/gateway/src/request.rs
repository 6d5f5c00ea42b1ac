//! The request as the upstream gets it (spec gateway-proxy 4).

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TE, UPGRADE};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body::Body as _;
use o28m_net::Body;

use crate::Exchange;
use crate::flight::Flight;
use crate::headers as names;
use crate::snapshot::ServiceEntry;

/// Headers that a request gets on its way at most.
const HEADERS_ADDED_MAX: usize = 12;

/// The path and query cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("the upstream path is not a valid request target")]
pub(crate) struct BadTarget(#[from] http::uri::InvalidUri);

/// What becomes part of every attempt to send a request upstream.
pub(crate) struct Template {
    /// The request goes over HTTP/2.
    http2: bool,
    uri: Uri,
    host: HeaderValue,
    request_id: HeaderValue,
}

impl Template {
    pub(crate) fn new(flight: &Flight, service: &ServiceEntry) -> Result<Self, BadTarget> {
        Ok(Self {
            http2: service.http2,
            uri: target(flight, service)?,
            host: host(flight, &service.host),
            request_id: flight.request_id_value(),
        })
    }

    /// Lets attempts go to another host, `own`, unless the client's or a plugin's is kept.
    pub(crate) fn set_host(&mut self, flight: &Flight, own: &HeaderValue) {
        self.host = host(flight, own);
    }

    /// Path and query of the upstream request.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// `Host` of the upstream request.
    pub(crate) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// One attempt's request. One that stays in this process has no connection to keep alive.
    pub(crate) fn request(&self, flight: &Flight, body: Body, in_process: bool) -> Request<Body> {
        let exchange = &flight.exchange;
        let mut headers = copy_with_room(&exchange.request.headers);
        headers.insert(HOST, self.host.clone());
        if flight.asked.trailers || self.http2 {
            headers.insert(TE, names::TRAILERS);
        }
        let websocket = flight.asked.websocket && !self.http2;
        let of_connection = match (in_process, websocket) {
            _ if self.http2 => None,
            (false, false) => Some(names::KEEP_ALIVE),
            (false, true) => Some(names::KEEP_ALIVE_UPGRADE),
            (true, true) => Some(names::UPGRADE_ONLY),
            (true, false) => None,
        };
        if let Some(of_connection) = of_connection {
            headers.insert(CONNECTION, of_connection);
        }
        if websocket {
            headers.insert(UPGRADE, names::WEBSOCKET);
        }
        forward(flight, &mut headers);
        headers.insert(names::REQUEST_ID, self.request_id.clone());
        set_length(&mut headers, &exchange.request.method, &body);
        let mut request = Request::new(body);
        request.method_mut().clone_from(&exchange.request.method);
        request.uri_mut().clone_from(&self.uri);
        *request.headers_mut() = headers;
        request
    }
}

/// A copy without `Expect`, and with room for the headers that are added: growing costs more than
/// copying one by one.
fn copy_with_room(headers: &HeaderMap) -> HeaderMap {
    let mut copy = HeaderMap::with_capacity(headers.len() + HEADERS_ADDED_MAX);
    for (name, value) in headers.iter().filter(|(name, _)| *name != EXPECT) {
        copy.append(name.clone(), value.clone());
    }
    copy
}

/// Where the request comes from and what it asked for; clients' own claims are replaced.
fn forward(flight: &Flight, headers: &mut HeaderMap) {
    let exchange = &flight.exchange;
    let connection = &exchange.connection;
    let peer = connection.peer.ip().to_canonical();
    let client = address_value(exchange.client_ip);
    let chain = match headers.get(&names::FORWARDED_FOR) {
        Some(_) => Some(forwarded_for(headers, peer)),
        None => client.clone(),
    };
    let mut replace = |name, value: Option<HeaderValue>| match value {
        Some(value) => drop(headers.insert(name, value)),
        None => drop(headers.remove(name)),
    };
    replace(names::FORWARDED_FOR, chain);
    replace(names::REAL_IP, client);
    let trusted = flight.peer_trusted;
    let mut set = |name, value: &dyn Fn() -> Option<HeaderValue>| {
        if !(trusted && headers.contains_key(&name)) {
            match value() {
                Some(value) => drop(headers.insert(name, value)),
                None => drop(headers.remove(name)),
            }
        }
    };
    set(names::FORWARDED_PROTO, &|| {
        Some(HeaderValue::from_static(connection.scheme.name()))
    });
    set(names::FORWARDED_HOST, &|| {
        let host = flight.client_host.as_ref()?.to_str().ok()?;
        let bare = bare_host(host);
        if bare.len() == host.len() && !host.bytes().any(|it| it.is_ascii_uppercase()) {
            return flight.client_host.clone();
        }
        HeaderValue::try_from(bare.to_ascii_lowercase()).ok()
    });
    set(names::FORWARDED_PORT, &|| {
        Some(HeaderValue::from(connection.local.port()))
    });
    set(names::FORWARDED_PATH, &|| {
        HeaderValue::from_bytes(raw_path(&exchange.request.uri).as_bytes()).ok()
    });
    set(names::FORWARDED_PREFIX, &|| {
        let prefix = flight.matched();
        let strips = exchange.route.as_ref().is_some_and(|it| it.strip_path);
        let told = strips && !matches!(prefix, "" | "/");
        told.then(|| HeaderValue::from_bytes(prefix.as_bytes()).ok())
            .flatten()
    });
}

/// The request target's path as the client sent it.
pub(crate) fn raw_path(uri: &Uri) -> &str {
    uri.path()
}

/// A host without its port; IPv6 literals keep their brackets.
pub(crate) fn bare_host(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if !port.is_empty()
                && port.bytes().all(|it| it.is_ascii_digit())
                && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

fn target(flight: &Flight, service: &ServiceEntry) -> Result<Uri, BadTarget> {
    let exchange = &flight.exchange;
    let query = exchange.request.uri.query();
    if service.http2 {
        // The path of a gRPC call names its method: nothing is put before it or taken away.
        let target = raw_path(&exchange.request.uri);
        let target = match query {
            Some(query) => format!("{target}?{query}"),
            None => target.to_owned(),
        };
        return Ok(PathAndQuery::from_maybe_shared(Bytes::from(target))?.into());
    }
    let base = service.service.path.as_deref();
    let length = base.map_or(0, str::len) + exchange.path.len() + query.map_or(0, str::len) + 2;
    let mut target = String::with_capacity(length);
    match &exchange.upstream_path {
        Some(path) => target.push_str(path),
        None => {
            let strip = exchange.route.as_ref().is_some_and(|it| it.strip_path);
            let matched = flight.matched();
            o28m_router::write_upstream_path(&mut target, base, &exchange.path, matched, strip);
        }
    }
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    Ok(PathAndQuery::from_maybe_shared(Bytes::from(target))?.into())
}

/// The client's `Host` when the route keeps it, what a plugin set, or the destination's own.
fn host(flight: &Flight, own: &HeaderValue) -> HeaderValue {
    let current = flight.exchange.request.headers.get(HOST);
    let preserve = flight
        .exchange
        .route
        .as_ref()
        .is_some_and(|it| it.preserve_host);
    match current {
        Some(host) if preserve || !is_same_value(host, flight.client_host.as_ref()) => host.clone(),
        _ => own.clone(),
    }
}

/// Whether it is the client's value itself, not one a plugin set to the same text: clones share
/// bytes.
fn is_same_value(host: &HeaderValue, client: Option<&HeaderValue>) -> bool {
    client.is_some_and(|client| std::ptr::eq(client.as_bytes(), host.as_bytes()))
}

fn address_value(address: IpAddr) -> Option<HeaderValue> {
    match address {
        IpAddr::V4(address) => HeaderValue::from_bytes(dotted(address).as_slice()).ok(),
        IpAddr::V6(address) => HeaderValue::try_from(address.to_string()).ok(),
    }
}

/// The dotted form of an IPv4 address. The standard formatter costs ten times as much, once for every
/// request.
fn dotted(address: Ipv4Addr) -> Dotted {
    let mut text = Dotted {
        bytes: [0; 15],
        length: 0,
    };
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            text.push(b'.');
        }
        for (unit, needed) in [(100, octet >= 100), (10, octet >= 10), (1, true)] {
            if needed {
                text.push(b'0' + octet / unit % 10);
            }
        }
    }
    text
}

struct Dotted {
    bytes: [u8; 15],
    length: usize,
}

impl Dotted {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Every line the client sent, and the peer. Kong keeps only the first line.
fn forwarded_for(headers: &HeaderMap, peer: IpAddr) -> HeaderValue {
    let mut chain = Vec::with_capacity(64);
    for line in headers.get_all(&names::FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.to_string().as_bytes());
    HeaderValue::from_maybe_shared(Bytes::from(chain))
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// The length that the body really has: plugins may have changed it, and buffering finds it out.
fn set_length(headers: &mut HeaderMap, method: &Method, body: &Body) {
    let announced = headers.get(CONTENT_LENGTH);
    match body.size_hint().exact() {
        None => drop(headers.remove(CONTENT_LENGTH)),
        Some(0) if announced.is_none() && !expects_body(method) => {}
        Some(length) => {
            let value = HeaderValue::from(length);
            if announced != Some(&value) {
                headers.insert(CONTENT_LENGTH, value);
            }
        }
    }
}

fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// The name for SNI and verification: `Host` without port; none for addresses.
pub(crate) fn server_name(host: &HeaderValue) -> Option<&str> {
    let name = bare_host(host.to_str().ok()?);
    let is_address = name.starts_with('[') || name.parse::<IpAddr>().is_ok();
    (!is_address && !name.is_empty()).then_some(name)
}

/// The scheme the client used as far as we believe it: of the connection, or what a trusted peer
/// says.
pub(crate) fn forwarded_proto(exchange: &Exchange, peer_trusted: bool) -> &[u8] {
    let told = exchange.request.headers.get(&names::FORWARDED_PROTO);
    match told.filter(|_| peer_trusted) {
        Some(value) => value.as_bytes(),
        None => exchange.connection.scheme.name().as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::{bare_host, dotted};

    #[test]
    fn addresses_have_the_form_of_the_standard_library() {
        for bits in (0..=u32::MAX).step_by(1_000_003) {
            let address = std::net::Ipv4Addr::from_bits(bits);
            assert_eq!(dotted(address).as_slice(), address.to_string().as_bytes());
        }
    }

    #[test]
    fn hosts_lose_their_port_only() {
        for (host, bare) in [
            ("a.example.com", "a.example.com"),
            ("a.example.com:8000", "a.example.com"),
            ("[::1]:8000", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("a:", "a:"),
            ("", ""),
        ] {
            assert_eq!(bare_host(host), bare);
        }
    }
}
