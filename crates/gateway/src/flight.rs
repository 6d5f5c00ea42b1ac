//! One request from its head to its log entry: the exchange that plugins see, and what only the
//! request path needs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, SERVER, SET_COOKIE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use o28m_net::{Body, BodyError, Connection, Interim};
use o28m_router::PathHandling;
use smallvec::SmallVec;

use crate::access_log::AccessLog;
use crate::balance::Held;
use crate::headers::{self as names, Asked};
use crate::snapshot::Instance;
use crate::{Attempt, Exchange, RequestId, Shared, Try};

/// nginx's status for a client that went away before the response.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A request in flight. Dropping it, for whatever reason, runs the log phase; nothing else does, so
/// it runs exactly once.
pub(crate) struct Flight {
    pub(crate) shared: Arc<Shared>,
    pub(crate) exchange: Exchange,
    pub(crate) asked: Asked,
    /// The TCP peer's forwarding headers are believed.
    pub(crate) peer_trusted: bool,
    /// `Host` as the client sent it.
    pub(crate) client_host: Option<HeaderValue>,
    /// Bytes of the path that the route matched.
    pub(crate) prefix_length: usize,
    pub(crate) path_handling: PathHandling,
    /// The address of an upstream's target that this request is with, to its end.
    pub(crate) held: Option<Held>,
    /// The client's headers with the names of private ones are still there: no component that takes
    /// them from plugins alone may be reached.
    pub(crate) keeps_private_headers: bool,
    /// Lets the client come back to the same target.
    pub(crate) new_cookie: Option<Box<HeaderValue>>,
    chosen: SmallVec<[Arc<Instance>; 2]>,
}

/// The way of interim responses to the client.
pub(crate) struct Hints {
    pub(crate) interim: Arc<dyn Interim>,
    pub(crate) asked: Asked,
}

impl Flight {
    /// Starts the exchange: request id, client address, and headers that may pass.
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        request: Request<Body>,
        connection: &Connection,
    ) -> Box<Self> {
        // Where it stays: it is large, and moving it costs more than most of what is done with it here.
        let mut flight = Box::new(Self {
            exchange: Exchange::new(
                request,
                connection.clone(),
                shared.feed.current(),
                RequestId::next(shared.ambient.rng.as_ref()),
                shared.ambient.now(),
            ),
            asked: Asked::default(),
            peer_trusted: false,
            client_host: None,
            prefix_length: 0,
            path_handling: PathHandling::default(),
            held: None,
            keeps_private_headers: false,
            new_cookie: None,
            chosen: SmallVec::new(),
            shared: shared.clone(),
        });
        let exchange = &mut flight.exchange;
        shared.metrics.begun.add_one();
        if let Some(port) = shared.options.host_port(connection.local.port()) {
            exchange.connection.local.set_port(port);
        }
        let logged = shared.access_log.as_ref();
        if exchange.snapshot.plugins().needs_traffic()
            || logged.is_some_and(AccessLog::needs_traffic)
        {
            let observed = &mut exchange.observed;
            observed.count_request(&exchange.request, &mut exchange.body);
        }
        let headers = &mut exchange.request.headers;
        let peer = exchange.client_ip;
        flight.client_host = headers.get(HOST).cloned();
        // Before anything is stripped: `Connection` must not name the address header away.
        let announced = connection.announced;
        exchange.client_ip = shared.client_address.find(peer, headers, announced);
        flight.asked = names::strip_request(headers, shared.options.keeps_identity_headers);
        flight.peer_trusted = shared.client_address.trusts(peer);
        flight
    }

    /// Interim responses of the upstream may be for the client.
    pub(crate) fn wants_hints(&self) -> bool {
        self.shared.options.early_hints
    }

    /// The way that they take; `None` when the client could not read them.
    pub(crate) fn hints(&self) -> Option<Hints> {
        let reads = self.wants_hints() && self.exchange.request.version >= http::Version::HTTP_11;
        let interim = self.exchange.connection.interim.clone().filter(|_| reads)?;
        Some(Hints {
            interim,
            asked: self.asked,
        })
    }

    /// The part of the path that the route matched.
    pub(crate) fn matched(&self) -> &str {
        self.exchange
            .path
            .get(..self.prefix_length)
            .unwrap_or_default()
    }

    /// The client's host in lower case without port, as text.
    pub(crate) fn host_name(&self) -> String {
        let host = self.client_host.as_ref().and_then(|it| it.to_str().ok());
        crate::request::bare_host(host.unwrap_or_default()).to_ascii_lowercase()
    }

    /// An attempt to reach the upstream at `target` is over.
    pub(crate) fn attempted(&mut self, begun: Instant, target: impl FnOnce() -> (Arc<str>, u16)) {
        let attempt = Attempt {
            begun,
            ended: Instant::now(),
        };
        self.exchange.observed.upstream = Some(attempt);
        if self.exchange.observed.closely {
            let (host, port) = target();
            self.exchange.observed.tries.push(Try {
                host,
                port,
                attempt,
            });
        }
    }

    /// The instance takes part in this request from now on, to its log phase.
    pub(crate) fn choose(&mut self, instance: &Arc<Instance>) {
        self.chosen.push(instance.clone());
    }

    /// The response as the client gets it. Ends the exchange, or makes the body end it.
    pub(crate) fn finish(mut self: Box<Self>, mut response: Response<Body>) -> Response<Body> {
        let forms = &self.shared.options.forms;
        forms.fill(&mut response, &self.exchange.request_id);
        let (mut head, body) = response.into_parts();
        self.filter_headers(&mut head);
        self.add_headers(&mut head);
        self.exchange.status = Some(head.status);
        let observed = &mut self.exchange.observed;
        if observed.closely {
            observed.head_ended = Some(Instant::now());
        }
        if observed.wants_head {
            observed.response_headers = Some(Box::new(head.headers.clone()));
        }
        if observed.is_counting() {
            observed.count_response(&head, &body);
        }
        let body = match body {
            // Nothing of it can get lost on the way from the upstream.
            body @ (Body::Empty | Body::Full(_)) => body,
            body if body.is_end_stream() => Body::Empty,
            inner => Body::Stream(Box::pin(Tail {
                inner,
                flight: Some(self),
            })),
        };
        Response::from_parts(head, body)
    }

    fn filter_headers(&mut self, head: &mut http::response::Parts) {
        let chosen = std::mem::take(&mut self.chosen);
        for instance in &chosen {
            let filter = || instance.plugin.header_filter(&mut self.exchange, head);
            if caught(filter).is_err() {
                self.panicked(instance, "header_filter");
            }
        }
        self.chosen = chosen;
    }

    /// Reports a plugin's panic.
    pub(crate) fn panicked(&self, instance: &Instance, phase: &'static str) {
        self.shared.metrics.panics.add(1);
        tracing::error!(
            plugin.id = %instance.id,
            plugin.name = instance.name,
            plugin.phase = phase,
            request.id = %self.exchange.request_id,
            "plugin panicked"
        );
    }

    fn add_headers(&self, head: &mut http::response::Parts) {
        let headers = &mut head.headers;
        if let Some(cookie) = &self.new_cookie {
            set_cookie(headers, cookie);
        }
        let options = &self.shared.options;
        if let Some(charset) = &options.charset
            && let Some(content_type) = names::with_charset(headers, charset)
        {
            headers.insert(CONTENT_TYPE, content_type);
        }
        let wanted = self.shared.headers;
        match self.exchange.observed.upstream {
            Some(attempt) => {
                if wanted.upstream_latency {
                    let millis = millis(attempt.begun, attempt.ended);
                    headers.insert(names::UPSTREAM_LATENCY, millis);
                }
                if wanted.proxy_latency {
                    let begun = self.exchange.observed.begun;
                    headers.insert(names::PROXY_LATENCY, millis(begun, attempt.begun));
                }
                if wanted.upstream_status
                    && let Some(status) = self.exchange.upstream_statuses.last()
                {
                    headers.insert(names::UPSTREAM_STATUS, status.as_u16().into());
                }
                if wanted.server {
                    let token = || options.server_token.clone();
                    headers.entry(SERVER).or_insert_with(token);
                }
            }
            None => {
                if wanted.response_latency {
                    let begun = self.exchange.observed.begun;
                    headers.insert(names::RESPONSE_LATENCY, millis(begun, Instant::now()));
                }
                // What a plugin answers is ours as well.
                if wanted.server {
                    headers.insert(SERVER, options.server_token.clone());
                } else {
                    headers.remove(SERVER);
                }
            }
        }
        if options.debug_headers {
            self.add_debug_headers(headers);
        }
        if wanted.request_id {
            let id = self.exchange.request_id.value();
            headers.insert(names::REQUEST_ID, id.clone());
        }
    }

    /// Tells those who ask what their request met.
    #[cold]
    fn add_debug_headers(&self, headers: &mut http::HeaderMap) {
        let exchange = &self.exchange;
        let asked = exchange.request.headers.get("kong-debug");
        if asked.is_none_or(HeaderValue::is_empty) {
            return;
        }
        let (route, service) = (exchange.route.as_ref(), exchange.service.as_ref());
        for (name, value) in [
            ("kong-route-id", route.map(|it| it.id.as_str())),
            ("kong-route-name", route.and_then(|it| it.name.as_deref())),
            ("kong-service-id", service.map(|it| it.id.as_str())),
            (
                "kong-service-name",
                service.and_then(|it| it.name.as_deref()),
            ),
        ] {
            if let Some(value) = value.and_then(|it| HeaderValue::from_bytes(it.as_bytes()).ok()) {
                headers.insert(name, value);
            }
        }
    }

    fn log(&mut self) {
        if self.exchange.status.is_none() {
            self.shared.metrics.aborted.add(1);
            self.exchange.status = StatusCode::from_u16(CLIENT_CLOSED_REQUEST).ok();
        }
        for instance in &self.chosen {
            let log = || instance.plugin.log(&self.exchange);
            if caught(log).is_err() {
                self.panicked(instance, "log");
            }
        }
        let shared = &self.shared;
        if let Some(access_log) = &shared.access_log {
            access_log.log(&self.exchange, shared.ambient.now());
        }
        shared.metrics.ended.add_one();
    }
}

/// Adds a cookie; it replaces the first one of the same name (spec gateway-proxy 10.4).
fn set_cookie(headers: &mut HeaderMap, cookie: &HeaderValue) {
    fn name(line: &HeaderValue) -> Option<&[u8]> {
        line.as_bytes().split(|it| *it == b'=').next()
    }
    let mut lines = headers.iter_mut().filter(|(it, _)| *it == SET_COOKIE);
    match lines.find(|(_, line)| name(line) == name(cookie)) {
        Some((_, same)) => same.clone_from(cookie),
        None => {
            headers.append(SET_COOKIE, cookie.clone());
        }
    }
}

/// The milliseconds between two moments; the few that most requests take cost no allocation.
fn millis(from: Instant, to: Instant) -> HeaderValue {
    static FEW: [HeaderValue; 10] = [
        HeaderValue::from_static("0"),
        HeaderValue::from_static("1"),
        HeaderValue::from_static("2"),
        HeaderValue::from_static("3"),
        HeaderValue::from_static("4"),
        HeaderValue::from_static("5"),
        HeaderValue::from_static("6"),
        HeaderValue::from_static("7"),
        HeaderValue::from_static("8"),
        HeaderValue::from_static("9"),
    ];
    let millis = to.saturating_duration_since(from).as_millis();
    let few = usize::try_from(millis).ok().and_then(|at| FEW.get(at));
    few.cloned()
        .unwrap_or_else(|| HeaderValue::from(u64::try_from(millis).unwrap_or(u64::MAX)))
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.log();
    }
}

/// Runs `work`; a panic costs this request something, not the connection's others.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(work))
}

/// A response body whose end, or abandonment, ends the exchange.
struct Tail {
    inner: Body,
    flight: Option<Box<Flight>>,
}

impl http_body::Body for Tail {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(None | Some(Err(_))) => self.flight = None,
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                if let Some(flight) = &mut self.flight {
                    flight.exchange.observed.count_piece(length);
                }
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::Flight;

    #[test]
    fn a_flight_fits_what_the_allocator_gives_quickly() {
        // Above 1 KiB, mimalloc takes eight times as long.
        assert!(size_of::<Flight>() <= 1024, "{}", size_of::<Flight>());
    }
}
