//! The request as the upstream gets it (spec gateway-proxy 4).

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body::Body as _;
use o28m_net::client::{RequestWriter, WrittenRequest};
use o28m_net::{Body, ReceivedHead};
use o28m_router::PathHandling;

use crate::Exchange;
use crate::flight::Flight;
use crate::headers::{self as names, Field, fields};
use crate::snapshot::ServiceEntry;

/// Headers that a request gets on its way at most.
const HEADERS_ADDED_MAX: usize = 12;
/// Bytes that are kept for making the targets of further requests.
const TARGET_ROOM_MAX: usize = 4096;

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
}

impl Template {
    pub(crate) fn new(flight: &Flight, service: &ServiceEntry) -> Result<Self, BadTarget> {
        Ok(Self {
            http2: service.http2,
            uri: target(flight, service)?,
            host: host(flight, &service.host),
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

    /// One attempt's request for an upstream that speaks HTTP/1.
    pub(crate) fn written(&self, flight: &Flight, body: Body) -> WrittenRequest {
        let request = &flight.exchange.request;
        let mut writer = RequestWriter::new(&request.method, &self.uri);
        self.fields(flight, false, &mut writer);
        writer.finish(body)
    }

    /// One attempt's request for an upstream that speaks HTTP/2, or for a component of this process: there
    /// is no connection to keep alive.
    pub(crate) fn request(&self, flight: &Flight, body: Body) -> Request<Body> {
        let exchange = &flight.exchange;
        let room = exchange.request.headers.len() + HEADERS_ADDED_MAX;
        // Growing costs more than the room.
        let mut headers = HeaderMap::with_capacity(room);
        self.fields(flight, true, &mut headers);
        set_length(&mut headers, &exchange.request, &body);
        let mut request = Request::new(body);
        request.method_mut().clone_from(&exchange.request.method);
        request.uri_mut().clone_from(&self.uri);
        *request.headers_mut() = headers;
        if let Some(head) = exchange.request.extensions.get::<ReceivedHead>() {
            request.extensions_mut().insert(head.clone());
        }
        request
    }

    /// Every field but those that frame the body.
    fn fields(&self, flight: &Flight, in_process: bool, sink: &mut impl Sink) {
        let websocket = flight.asked.websocket && !self.http2;
        let of_connection = match (in_process, websocket) {
            _ if self.http2 => None,
            (false, false) => Some(names::KEEP_ALIVE),
            (false, true) => Some(names::KEEP_ALIVE_UPGRADE),
            (true, true) => Some(names::UPGRADE_ONLY),
            (true, false) => None,
        };
        let te = flight.asked.trailers || self.http2;
        let te = te.then_some(names::TRAILERS);
        let upgrade = websocket.then_some(names::WEBSOCKET);
        let of_connection = [
            (&fields::OF_TE, te),
            (&fields::OF_CONNECTION, of_connection),
            (&fields::OF_UPGRADE, upgrade),
        ];
        let set = |name: &HeaderName| {
            let mut set = of_connection.iter().filter(|(_, value)| value.is_some());
            set.any(|(field, _)| field.name == *name)
        };
        let hides_request_id = flight.shared.options.hides_request_id;
        sink.set(&fields::OF_HOST, Value::Whole(&self.host));
        // Seen on the way: asking the map for it costs more than all the rest of a field.
        let forwarded = Cell::new(false);
        sink.pass(&flight.exchange.request, |name| {
            forwarded.set(forwarded.get() || *name == fields::FORWARDED_FOR.name);
            passes(name, flight.peer_trusted, hides_request_id) && !set(name)
        });
        for (field, value) in &of_connection {
            if let Some(value) = value {
                sink.set(field, Value::Whole(value));
            }
        }
        forward(flight, forwarded.get(), sink);
        if !hides_request_id {
            let id = flight.exchange.request_id.value();
            sink.set(&fields::OF_REQUEST_ID, Value::Whole(id));
        }
    }
}

/// The value of a field.
enum Value<'a> {
    Whole(&'a HeaderValue),
    /// Left out when it has bytes that no value may have.
    Text(&'a [u8]),
}

/// Where the fields of a request go.
trait Sink {
    /// Takes those of the client's fields that `keeps` says.
    fn pass(&mut self, client: &Parts, keeps: impl Fn(&HeaderName) -> bool);

    /// Takes a field that was not passed.
    fn set(&mut self, field: &Field, value: Value<'_>);
}

impl Sink for RequestWriter {
    fn pass(&mut self, client: &Parts, keeps: impl Fn(&HeaderName) -> bool) {
        self.fields(&client.headers, &client.extensions, keeps);
    }

    fn set(&mut self, field: &Field, value: Value<'_>) {
        match value {
            Value::Whole(value) => self.value(field.spelled, value),
            Value::Text(text) => self.field(field.spelled, text),
        }
    }
}

impl Sink for HeaderMap {
    fn pass(&mut self, client: &Parts, keeps: impl Fn(&HeaderName) -> bool) {
        for (name, value) in client.headers.iter().filter(|(name, _)| keeps(name)) {
            self.append(name.clone(), value.clone());
        }
    }

    fn set(&mut self, field: &Field, value: Value<'_>) {
        let value = match value {
            Value::Whole(value) => Ok(value.clone()),
            Value::Text(text) => HeaderValue::from_bytes(text),
        };
        if let Ok(value) = value {
            self.append(field.name.clone(), value);
        }
    }
}

/// Whether a field of the client, or one that a plugin set, goes to the upstream as it is: not what the
/// gateway says itself (the id of the request unless that is hidden), and forwarding headers from peers
/// that are trusted alone.
fn passes(name: &HeaderName, trusted: bool, hides_request_id: bool) -> bool {
    if matches!(*name, HOST | EXPECT) {
        return false;
    }
    match name.as_str().strip_prefix("x-") {
        None => true,
        Some("forwarded-for" | "real-ip") => false,
        Some("kong-request-id") => hides_request_id,
        Some(
            "forwarded-proto" | "forwarded-host" | "forwarded-port" | "forwarded-path"
            | "forwarded-prefix",
        ) => trusted,
        Some(_) => true,
    }
}

/// Where the request comes from and what it asked for; clients' own claims are replaced. `forwarded`
/// means that there is an `X-Forwarded-For` already.
fn forward(flight: &Flight, forwarded: bool, sink: &mut impl Sink) {
    let exchange = &flight.exchange;
    let headers = &exchange.request.headers;
    let connection = &exchange.connection;
    let client = Short::address(exchange.client_ip);
    if forwarded {
        let chain = forwarded_for(headers, connection.peer.ip().to_canonical());
        sink.set(&fields::FORWARDED_FOR, Value::Text(&chain));
    } else {
        sink.set(&fields::FORWARDED_FOR, Value::Text(client.as_slice()));
    }
    sink.set(&fields::REAL_IP, Value::Text(client.as_slice()));
    let is_told = |field: &Field| flight.peer_trusted && headers.contains_key(&field.name);
    let mut tell = |field: &Field, value: Value<'_>| {
        if !is_told(field) {
            sink.set(field, value);
        }
    };
    let scheme = connection.scheme.name();
    tell(&fields::FORWARDED_PROTO, Value::Text(scheme.as_bytes()));
    if let Some(host) = &flight.client_host {
        let text = host.to_str().unwrap_or_default();
        let bare = bare_host(text);
        if bare.bytes().any(|it| it.is_ascii_uppercase()) {
            let lower = bare.to_ascii_lowercase();
            tell(&fields::FORWARDED_HOST, Value::Text(lower.as_bytes()));
        } else if bare.len() == host.len() {
            tell(&fields::FORWARDED_HOST, Value::Whole(host));
        } else if !text.is_empty() {
            tell(&fields::FORWARDED_HOST, Value::Text(bare.as_bytes()));
        }
    }
    let port = Short::decimal(connection.local.port());
    tell(&fields::FORWARDED_PORT, Value::Text(port.as_slice()));
    let path = raw_path(&exchange.request.uri);
    tell(&fields::FORWARDED_PATH, Value::Text(path.as_bytes()));
    let prefix = flight.matched();
    let strips = exchange.route.as_ref().is_some_and(|it| it.strip_path);
    if strips && !matches!(prefix, "" | "/") {
        tell(&fields::FORWARDED_PREFIX, Value::Text(prefix.as_bytes()));
    }
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
    thread_local! {
        /// Room that is used again and again: what is kept then has no more than it needs.
        static ROOM: RefCell<String> = const { RefCell::new(String::new()) };
    }
    ROOM.with_borrow_mut(|room| {
        room.clear();
        push_target(room, flight, service);
        let target = PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(room.as_bytes()));
        room.shrink_to(TARGET_ROOM_MAX);
        Ok(target?.into())
    })
}

/// Path and query of the upstream request.
fn push_target(target: &mut String, flight: &Flight, service: &ServiceEntry) {
    let exchange = &flight.exchange;
    let query = exchange.request.uri.query();
    if service.http2 {
        // The path of a gRPC call names its method: nothing is put before it or taken away.
        target.push_str(raw_path(&exchange.request.uri));
    } else if let Some(path) = &exchange.upstream_path {
        target.push_str(path);
    } else {
        let base = service.service.path.as_deref();
        let strip = exchange.route.as_ref().is_some_and(|it| it.strip_path);
        let write = match flight.path_handling {
            PathHandling::V0 => o28m_router::write_upstream_path,
            PathHandling::V1 => o28m_router::write_upstream_path_v1,
        };
        write(target, base, &exchange.path, flight.matched(), strip);
    }
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
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

/// A short text, made without an allocation: the standard formatter costs ten times as much, several
/// times for every request.
struct Short {
    /// The longest IPv6 address.
    bytes: [u8; 45],
    length: usize,
}

impl Short {
    const EMPTY: Self = Self {
        bytes: [0; 45],
        length: 0,
    };

    /// An address in the form of the standard library.
    fn address(address: IpAddr) -> Self {
        let mut text = Self::EMPTY;
        match address {
            IpAddr::V4(address) => text.push_dotted(address),
            IpAddr::V6(address) => {
                let _fits = write!(text, "{address}");
            }
        }
        text
    }

    fn decimal(number: u16) -> Self {
        let mut text = Self::EMPTY;
        text.push_decimal(number);
        text
    }

    fn push_dotted(&mut self, address: Ipv4Addr) {
        for (at, octet) in address.octets().into_iter().enumerate() {
            if at > 0 {
                self.push(b'.');
            }
            self.push_decimal(octet.into());
        }
    }

    fn push_decimal(&mut self, number: u16) {
        for unit in [10_000, 1000, 100, 10, 1] {
            if number >= unit || unit == 1 {
                self.push(b'0' + (number / unit % 10) as u8);
            }
        }
    }

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

impl std::fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

/// Every line the client sent, and the peer. Kong keeps only the first line.
fn forwarded_for(headers: &HeaderMap, peer: IpAddr) -> Vec<u8> {
    let mut chain = Vec::with_capacity(64);
    for line in headers.get_all(&fields::FORWARDED_FOR.name) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(Short::address(peer).as_slice());
    chain
}

/// The length that the body really has: plugins may have changed it, and buffering finds it out.
fn set_length(headers: &mut HeaderMap, client: &Parts, body: &Body) {
    let announced = headers.get(CONTENT_LENGTH);
    match body.size_hint().exact() {
        None => drop(headers.remove(CONTENT_LENGTH)),
        Some(0) if announced.is_none() && !expects_body(&client.method) => {}
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
    let told = exchange.request.headers.get(&fields::FORWARDED_PROTO.name);
    match told.filter(|_| peer_trusted) {
        Some(value) => value.as_bytes(),
        None => exchange.connection.scheme.name().as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{Short, bare_host};

    #[test]
    fn addresses_have_the_form_of_the_standard_library() {
        let v4 = (0..=u32::MAX).step_by(1_000_003).map(Ipv4Addr::from_bits);
        let v6 = [
            0,
            1,
            u128::MAX,
            0xffff_7f00_0001,
            1 << 127,
            (u128::MAX / 3) << 64,
        ];
        let v6 = v6.into_iter().map(Ipv6Addr::from_bits);
        for address in v4.map(IpAddr::from).chain(v6.map(IpAddr::from)) {
            let text = Short::address(address);
            assert_eq!(text.as_slice(), address.to_string().as_bytes());
        }
    }

    #[test]
    fn ports_have_the_form_of_the_standard_library() {
        for port in 0..=u16::MAX {
            let text = Short::decimal(port);
            assert_eq!(text.as_slice(), port.to_string().as_bytes());
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
