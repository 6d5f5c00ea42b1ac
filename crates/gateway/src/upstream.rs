//! From the end of the access phase to the upstream's response head: body, destination, attempts
//! (spec gateway-proxy 7).

use std::error::Error as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use http::header::{CONNECTION, UPGRADE};
use http::{Response, StatusCode};
use o28m_net::client::{Pool, SendError, Target, Way, WrittenRequest, set_tunnel_idle};
use o28m_net::{Body, BodyError, Connection, Scheme};

use crate::balanced::{self, Course};
use crate::flight::{Flight, Hints};
use crate::headers::{UPGRADE_ONLY, WEBSOCKET, strip_response};
use crate::proxy::{refuse, refuse_as_server};
use crate::request::{Template, server_name};
use crate::snapshot::{Destination, ServiceEntry};
use crate::spool::{Outgoing, SpoolError};
use crate::{Source, errors};

/// What request-size-limiting says, here for bodies that turn out too large while they are read.
const BODY_TOO_LARGE: &str = "Request size limit exceeded";

/// Sends the request to where its service lives and gives the answer, or the error that stands for
/// it.
pub(crate) async fn send(flight: &mut Flight, service: &ServiceEntry) -> Response<Body> {
    if matches!(service.destination, Destination::Unsupported) {
        let message = format!(
            "service protocol {} is not supported",
            service.service.protocol
        );
        return refuse(flight, StatusCode::NOT_IMPLEMENTED, &message);
    }
    if matches!(service.destination, Destination::Insecure) {
        return failed(flight, StatusCode::BAD_GATEWAY);
    }
    let mut course = None;
    if let Destination::Balanced(balanced) = &service.destination {
        // Boxed: the futures of requests that need no upstream stay small.
        match Box::pin(Course::begin(flight, service, balanced)).await {
            Ok(found) => course = Some(found),
            Err(response) => return response,
        }
    }
    let body = std::mem::take(&mut flight.exchange.body);
    let buffers = flight
        .exchange
        .route
        .as_ref()
        .is_none_or(|it| it.request_buffering);
    // Calls of gRPC are streams in both directions, whatever the route says (nginx `grpc_pass`).
    let body = if buffers && !service.http2 {
        match Outgoing::buffer(body, flight.shared.body_memory_bytes_max).await {
            Ok(body) => body,
            Err(SpoolError::Read(error)) => return unreadable(flight, &error),
            Err(error) => return unkept(flight, &error),
        }
    } else {
        Outgoing::live(body)
    };
    let mut template = match Template::new(flight, service) {
        Ok(template) => template,
        Err(error) => {
            tracing::error!(request.id = %flight.exchange.request_id, %error, "request cannot be sent");
            return refuse_as_server(flight, StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    if flight.exchange.observed.closely {
        flight.exchange.observed.upstream_uri = Some(template.uri().to_string());
    }
    flight.shared.options.count_request();
    let Some(limit) = flight.shared.options.request_timeout else {
        return dispatch(flight, service, &mut course, &mut template, &body).await;
    };
    let begun = Instant::now();
    // Boxed: only with a limit that is off by default.
    let sending = Box::pin(dispatch(flight, service, &mut course, &mut template, &body));
    let sent = tokio::time::timeout(limit, sending).await;
    sent.unwrap_or_else(|_| overdue(flight, service, course, begun))
}

/// Takes the request to its destination.
async fn dispatch(
    flight: &mut Flight,
    service: &ServiceEntry,
    course: &mut Option<Course>,
    template: &mut Template,
    body: &Outgoing,
) -> Response<Body> {
    match &service.destination {
        Destination::Engine(port) => call_engine(flight, service, template, *port, body).await,
        Destination::Network(target) => {
            let Some(own) = with_server_name(target, service, template) else {
                return over_network(flight, service, template, target, body).await;
            };
            // Boxed: few services keep the client's host on TLS.
            Box::pin(async move { over_network(flight, service, template, &own, body).await }).await
        }
        Destination::Balanced(balanced) => match course {
            Some(course) => {
                let sending = balanced::send(flight, service, balanced, course, template, body);
                Box::pin(sending).await
            }
            None => refuse_as_server(flight, StatusCode::SERVICE_UNAVAILABLE),
        },
        Destination::Unsupported => refuse_as_server(flight, StatusCode::NOT_IMPLEMENTED),
        Destination::Insecure => refuse_as_server(flight, StatusCode::BAD_GATEWAY),
    }
}

/// All attempts together took too long.
fn overdue(
    flight: &mut Flight,
    service: &ServiceEntry,
    course: Option<Course>,
    begun: Instant,
) -> Response<Body> {
    let (host, port) = (&service.service.host, service.service.port);
    flight.attempted(begun, || (Arc::from(host.as_str()), port));
    let response = failed(flight, StatusCode::GATEWAY_TIMEOUT);
    match course {
        Some(mut course) => balanced::finished(flight, &mut course, response),
        None => response,
    }
}

/// The client's body cannot be read.
pub(crate) fn unreadable(flight: &Flight, error: &BodyError) -> Response<Body> {
    let limit_bytes = flight.shared.options.body_bytes_max;
    match error {
        BodyError::TooLarge {
            limit_bytes: crossed,
        } if limit_bytes > 0 && *crossed as u64 == limit_bytes => {
            refuse_as_server(flight, StatusCode::PAYLOAD_TOO_LARGE)
        }
        BodyError::TooLarge { .. } => refuse(flight, StatusCode::PAYLOAD_TOO_LARGE, BODY_TOO_LARGE),
        BodyError::Timeout => refuse_as_server(flight, StatusCode::REQUEST_TIMEOUT),
        BodyError::Broken(_) => refuse_as_server(flight, StatusCode::BAD_REQUEST),
    }
}

/// The client's body cannot be kept.
fn unkept(flight: &Flight, error: &SpoolError) -> Response<Body> {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(
        request.id = %flight.exchange.request_id,
        %error,
        cause = cause.unwrap_or_default(),
        "request cannot be sent"
    );
    refuse_as_server(flight, StatusCode::INTERNAL_SERVER_ERROR)
}

/// TLS names the host that the request names; `None` when that is the target's own.
fn with_server_name(
    target: &Target,
    service: &ServiceEntry,
    template: &Template,
) -> Option<Target> {
    if target.scheme == Scheme::Http || *template.host() == service.host {
        return None;
    }
    let mut target = target.clone();
    target.tls.server_name = server_name(template.host()).map(Arc::from);
    Some(target)
}

/// Hands the request to a component of this process, once: it may reach others itself.
pub(crate) async fn call_engine(
    flight: &mut Flight,
    service: &ServiceEntry,
    template: &Template,
    port: u16,
    body: &Outgoing,
) -> Response<Body> {
    let engine = flight.shared.engine(port).map(|it| it.service.clone());
    let Some((engine, body)) = engine.zip(body.again()) else {
        return refuse_as_server(flight, StatusCode::BAD_GATEWAY);
    };
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connection = Connection {
        in_process: true,
        ..Connection::plain(
            loopback(0),
            loopback(port),
            flight.exchange.connection.pool.clone(),
        )
    };
    let request = template.request(flight, body);
    let begun = Instant::now();
    let call = AssertUnwindSafe(engine.call(request, &connection)).catch_unwind();
    let outcome = tokio::time::timeout(service.timeouts.read, call).await;
    flight.attempted(begun, || (Arc::from("127.0.0.1"), port));
    match outcome {
        Ok(Ok(response)) => answered(flight, response),
        Ok(Err(_)) => {
            tracing::error!(
                request.id = %flight.exchange.request_id,
                engine.port = port,
                "component panicked"
            );
            failed(flight, StatusCode::BAD_GATEWAY)
        }
        Err(_) => failed(flight, StatusCode::GATEWAY_TIMEOUT),
    }
}

/// Tries until an answer arrives or no attempt is left.
async fn over_network(
    flight: &mut Flight,
    service: &ServiceEntry,
    template: &Template,
    target: &Target,
    body: &Outgoing,
) -> Response<Body> {
    let mut retries = Retries::new(service.service.retries);
    let mut next = body.again();
    loop {
        let Some(body_now) = next.take() else {
            return failed(flight, StatusCode::BAD_GATEWAY);
        };
        let beyond_loopback = flight.keeps_private_headers;
        let begun = Instant::now();
        let pool = &flight.exchange.connection.pool;
        let timeouts = &service.timeouts;
        // Boxed: what is rarely needed.
        let outcome = if service.http2 {
            let request = template.request(flight, body_now);
            Box::pin(pool.send_http2(target, request, timeouts, beyond_loopback)).await
        } else if beyond_loopback || flight.wants_hints() {
            let request = template.written(flight, body_now);
            let hints = flight.hints();
            let sending = send_with_hints(pool, hints, target, request, service, beyond_loopback);
            Box::pin(sending).await
        } else {
            let request = template.written(flight, body_now);
            pool.send_by(target, request, timeouts, Way::default())
                .await
        };
        flight.attempted(begun, || (target.host.clone(), target.port));
        let error = match outcome {
            Ok(response) => return answered(flight, response),
            Err(error) => error,
        };
        report(flight, &error);
        if let Some(error) = error.request_body_error() {
            return unreadable(flight, error);
        }
        if let SendError::Resolve { host, source } = &error {
            flight.exchange.observed.upstream = None;
            return unresolved(flight, host, source.as_ref());
        }
        let status = status_of(&error);
        let again = may_repeat(flight, service, &error)
            && retries.take(&error)
            && flight.shared.options.may_retry();
        next = body.again().filter(|_| again);
        if next.is_none() {
            return failed(flight, status);
        }
        flight.exchange.upstream_statuses.push(status);
        flight.shared.metrics.retries.add(1);
    }
}

/// Sends a request, and interim responses on to the client if it may get them.
pub(crate) async fn send_with_hints(
    pool: &Arc<Pool>,
    hints: Option<Hints>,
    target: &Target,
    request: WrittenRequest,
    service: &ServiceEntry,
    beyond_loopback: bool,
) -> Result<Response<Body>, SendError> {
    let pass = |mut head: http::response::Parts| {
        if let Some(Hints { interim, asked }) = &hints {
            strip_response(&mut head.headers, *asked);
            interim.send(head.status, &head.headers);
        }
    };
    let way = Way {
        beyond_loopback,
        interim: Some(&pass),
    };
    pool.send_by(target, request, &service.timeouts, way).await
}

/// Attempts that are left.
pub(crate) struct Retries {
    left: u32,
    /// A connection that turned out to be dead is worth one more attempt.
    extra: bool,
}

impl Retries {
    pub(crate) fn new(left: u32) -> Self {
        Self { left, extra: true }
    }

    /// Whether another attempt may follow this failure.
    pub(crate) fn take(&mut self, error: &SendError) -> bool {
        let reused = matches!(error, SendError::Closed { reused: true, .. });
        if matches!(error, SendError::Invalid { .. }) {
            false
        } else if reused && self.extra {
            self.extra = false;
            true
        } else {
            let left = self.left;
            self.left = left.saturating_sub(1);
            left > 0
        }
    }
}

/// The request may be sent again after this failure, as far as it is concerned.
pub(crate) fn may_repeat(flight: &Flight, service: &ServiceEntry, error: &SendError) -> bool {
    !has_begun(error) || repeats(flight, service)
}

/// The upstream may have seen something of the request.
fn has_begun(error: &SendError) -> bool {
    match error {
        SendError::Resolve { .. }
        | SendError::Connect { .. }
        | SendError::Tls { .. }
        | SendError::ConnectTimeout { .. } => false,
        SendError::Closed { unsent, .. } => !unsent,
        SendError::Timeout { .. } | SendError::RequestBody { .. } | SendError::Invalid { .. } => {
            true
        }
    }
}

/// A request that was begun may be sent again: its method allows it and its body was kept.
fn repeats(flight: &Flight, service: &ServiceEntry) -> bool {
    let method = flight.exchange.request.method.as_str();
    let buffered = flight
        .exchange
        .route
        .as_ref()
        .is_none_or(|it| it.request_buffering);
    buffered && !service.http2 && !matches!(method, "POST" | "PATCH" | "LOCK")
}

pub(crate) fn status_of(error: &SendError) -> StatusCode {
    match error {
        SendError::ConnectTimeout { .. } | SendError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        SendError::Resolve { .. } => StatusCode::SERVICE_UNAVAILABLE,
        SendError::Connect { .. }
        | SendError::Tls { .. }
        | SendError::Closed { .. }
        | SendError::RequestBody { .. }
        | SendError::Invalid { .. } => StatusCode::BAD_GATEWAY,
    }
}

pub(crate) fn report(flight: &Flight, error: &SendError) {
    let cause = error.source().map(ToString::to_string);
    tracing::debug!(
        request.id = %flight.exchange.request_id,
        %error,
        cause = cause.unwrap_or_default(),
        "attempt failed"
    );
}

/// A name that does not exist, or a resolver that does not answer.
fn unresolved(flight: &Flight, host: &str, source: Option<&std::io::Error>) -> Response<Body> {
    let Some(reason) = source else {
        return refuse(
            flight,
            StatusCode::SERVICE_UNAVAILABLE,
            "name resolution failed",
        );
    };
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    if flight.shared.options.forms.minimal {
        return refuse(flight, status, &errors::default_message(status));
    }
    let message = format!("failed the initial dns/balancer resolve for '{host}' with: {reason}");
    refuse(flight, status, &message)
}

/// The upstream's answer, without what concerned only its connection.
pub(crate) fn answered(flight: &mut Flight, mut response: Response<Body>) -> Response<Body> {
    strip_response(response.headers_mut(), flight.asked);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !flight.asked.websocket {
            return failed(flight, StatusCode::BAD_GATEWAY);
        }
        if let Some(idle) = flight.shared.options.websocket_idle_timeout {
            set_tunnel_idle(&response, idle);
        }
        // What follows is in the extensions: the connection that whoever serves the client joins.
        response.headers_mut().insert(CONNECTION, UPGRADE_ONLY);
        response.headers_mut().insert(UPGRADE, WEBSOCKET);
    }
    flight.exchange.upstream_statuses.push(response.status());
    flight.exchange.source = Source::Service;
    response
}

/// No answer came.
pub(crate) fn failed(flight: &mut Flight, status: StatusCode) -> Response<Body> {
    flight.exchange.upstream_statuses.push(status);
    refuse_as_server(flight, status)
}
