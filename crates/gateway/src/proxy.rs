//! The request path, top to bottom.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use http::header::{CONNECTION, HeaderName, HeaderValue, LOCATION, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use o28m_net::{Body, Connection, Rejection, Scheme};
use o28m_router::{Headers, RequestHead, normalise_path};
use serde_json::json;

use crate::flight::{Flight, caught};
use crate::request::{forwarded_proto, raw_path};
use crate::snapshot::{Destination, Instance, RouteEntry, Scopes, ServiceEntry, Snapshot};
use crate::{Access, Exchange, Shared, Source, Verdict, body_limit, errors, grpc, upstream};

/// What ends a request early, or what it goes on with.
type Step<T> = ControlFlow<Response<Body>, T>;

/// The route of a request and its service.
type Found<'a> = (&'a RouteEntry, Option<&'a Arc<ServiceEntry>>);

/// Answers one request.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    request: Request<Body>,
    connection: &Connection,
) -> Response<Body> {
    let mut flight = Flight::begin(shared, request, connection);
    let snapshot = flight.exchange.snapshot.clone();
    let response = match travel(&mut flight, &snapshot).await {
        ControlFlow::Break(response) | ControlFlow::Continue(response) => response,
    };
    flight.finish(response)
}

/// The way of a request that nothing stops.
async fn travel(flight: &mut Flight, snapshot: &Snapshot) -> Step<Response<Body>> {
    let (route, service) = match find_route(flight, snapshot) {
        ControlFlow::Continue(found) => found,
        ControlFlow::Break(response) => {
            choose_global(flight, snapshot);
            return ControlFlow::Break(response);
        }
    };
    if let Some(service) = service {
        drop_private_headers(flight, service);
        if flight.keeps_private_headers {
            // Boxed: hardly any service needs to ask a resolver here.
            Box::pin(look_for_engine(flight, service)).await;
        }
    }
    let scopes = snapshot
        .plugins()
        .scopes(Some(route.key), service.map(|it| it.key));
    access(flight, scopes).await?;
    let Some(service) = service else {
        let message = "no Service found with those values";
        return ControlFlow::Break(refuse(flight, StatusCode::SERVICE_UNAVAILABLE, message));
    };
    ControlFlow::Continue(upstream::send(flight, service).await)
}

/// Everything before plugins: method, path, route, and what the route demands of the connection.
fn find_route<'a>(flight: &mut Flight, snapshot: &'a Snapshot) -> Step<Found<'a>> {
    check_method(flight)?;
    check_length(flight)?;
    check_server_name(flight)?;
    let uri = &flight.exchange.request.uri;
    let Ok(path) = normalise_path(raw_path(uri)) else {
        return ControlFlow::Break(refuse_as_server(flight, StatusCode::BAD_REQUEST));
    };
    flight.exchange.path = path.into_owned();
    let Some(found) = match_route(flight, snapshot) else {
        flight.shared.metrics.unmatched.add(1);
        let message = "no Route matched with those values";
        return ControlFlow::Break(refuse(flight, StatusCode::NOT_FOUND, message));
    };
    check_scheme(flight, found.0)?;
    check_grpc(flight, found.0)?;
    ControlFlow::Continue(found)
}

fn check_method(flight: &Flight) -> Step<()> {
    match flight.exchange.request.method {
        Method::TRACE | Method::CONNECT => {
            ControlFlow::Break(refuse_as_server(flight, StatusCode::METHOD_NOT_ALLOWED))
        }
        _ => ControlFlow::Continue(()),
    }
}

/// A body that says it is too long is not waited for; one that turns out to be fails where it is read.
fn check_length(flight: &mut Flight) -> Step<()> {
    let limit_bytes = flight.shared.options.body_bytes_max;
    if limit_bytes == 0 || body_limit::limit(&mut flight.exchange.body, limit_bytes) {
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(refuse_as_server(flight, StatusCode::PAYLOAD_TOO_LARGE))
}

/// Where it is asked for, a request is for the host that its connection was made to (RFC 9110 section
/// 7.4).
fn check_server_name(flight: &Flight) -> Step<()> {
    let Some(server_name) = &flight.exchange.connection.server_name else {
        return ControlFlow::Continue(());
    };
    if !flight.shared.options.strict_host {
        return ControlFlow::Continue(());
    }
    let host = flight.host_name();
    let without_dot = |name: &str| name.strip_suffix('.').unwrap_or(name).to_owned();
    if without_dot(&host) == without_dot(server_name) {
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(refuse_as_server(flight, StatusCode::MISDIRECTED_REQUEST))
}

fn match_route<'a>(flight: &mut Flight, snapshot: &'a Snapshot) -> Option<Found<'a>> {
    let exchange = &mut flight.exchange;
    let connection = &exchange.connection;
    let host = flight.client_host.as_ref();
    let found = snapshot.router().find(&RequestHead {
        method: exchange.request.method.as_str(),
        host: host.and_then(|it| it.to_str().ok()).unwrap_or_default(),
        port: connection.local.port(),
        path: &exchange.path,
        query: exchange.request.uri.query().unwrap_or_default(),
        server_name: match connection.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(connection.server_name.as_deref().unwrap_or_default()),
        },
        headers: &Lines(&exchange.request.headers),
        source: Some(source(exchange)),
        destination: Some(connection.local.ip().to_canonical()),
    })?;
    let route = snapshot.route(found.key)?;
    let service = snapshot.service_of(route);
    exchange.route = Some(found.route);
    exchange.service = service.map(|it| it.service.clone());
    if !found.captures.is_empty() {
        exchange.uri_captures = found.captures.into_iter().collect();
    }
    flight.prefix_length = found.prefix_length;
    flight.path_handling = found.path_handling;
    Some((route, service))
}

/// The client. Its port is known only when it is the peer.
fn source(exchange: &Exchange) -> SocketAddr {
    let peer = exchange.connection.peer;
    let port = match peer.ip().to_canonical() == exchange.client_ip {
        true => peer.port(),
        false => 0,
    };
    SocketAddr::new(exchange.client_ip, port)
}

/// Request headers as the router asks for them.
struct Lines<'a>(&'a HeaderMap);

impl Headers for Lines<'_> {
    fn any(&self, name: &str, visit: &mut dyn FnMut(&str) -> bool) -> bool {
        let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
        let same = |key: &HeaderName| {
            key.as_str()
                .bytes()
                .map(dashed)
                .eq(name.bytes().map(dashed))
        };
        let lines = self.0.iter().filter(|(key, _)| same(key));
        // What is no text is a value all the same: of those, all or none may have to fit.
        let mut values = lines.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()));
        values.any(|value| visit(&value))
    }
}

/// Routes for TLS only send plain requests away (spec gateway-proxy 3.8).
fn check_scheme(flight: &Flight, route: &RouteEntry) -> Step<()> {
    if !route.tls_only || forwarded_proto(&flight.exchange, flight.peer_trusted) == b"https" {
        return ControlFlow::Continue(());
    }
    let status = StatusCode::from_u16(route.route.https_redirect_status_code);
    let status = status.unwrap_or(StatusCode::UPGRADE_REQUIRED);
    if status == StatusCode::UPGRADE_REQUIRED {
        let mut response = refuse(flight, status, "Please use HTTPS protocol");
        let upgrade = HeaderValue::from_static("TLS/1.2, HTTP/1.1");
        response.headers_mut().insert(UPGRADE, upgrade);
        let connection = HeaderValue::from_static("Upgrade");
        response.headers_mut().insert(CONNECTION, connection);
        return ControlFlow::Break(response);
    }
    ControlFlow::Break(redirect(flight, status))
}

fn redirect(flight: &Flight, status: StatusCode) -> Response<Body> {
    let exchange = &flight.exchange;
    let told = exchange
        .header("x-forwarded-host")
        .filter(|_| flight.peer_trusted);
    let host = told.map_or_else(|| flight.host_name(), ToOwned::to_owned);
    let target = exchange.request.uri.path_and_query();
    let target = target.map_or("/", http::uri::PathAndQuery::as_str);
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    if let Ok(location) = HeaderValue::try_from(format!("https://{host}{target}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Routes for gRPC take nothing else, and over HTTP/2 alone (spec gateway-proxy 3.8).
fn check_grpc(flight: &Flight, route: &RouteEntry) -> Step<()> {
    if !route.grpc {
        return ControlFlow::Continue(());
    }
    let request = &flight.exchange.request;
    if !grpc::is_grpc(&request.headers) {
        let message = "Non-gRPC request matched gRPC route";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return ControlFlow::Break(refuse(flight, status, message));
    }
    if request.version == Version::HTTP_2 {
        let proto = forwarded_proto(&flight.exchange, flight.peer_trusted);
        if !route.grpcs_only || proto == b"https" {
            return ControlFlow::Continue(());
        }
        let message = "gRPC request matched gRPCs route";
        return ControlFlow::Break(grpc::respond(StatusCode::OK, 1, message));
    }
    let status = StatusCode::UPGRADE_REQUIRED;
    let mut response = refuse(flight, status, "Please use HTTP2 protocol");
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("HTTP/2"));
    ControlFlow::Break(response)
}

/// What steers a component of this process comes from plugins alone, never from a client.
fn drop_private_headers(flight: &mut Flight, service: &ServiceEntry) {
    match &service.destination {
        Destination::Engine(port) => drop_headers_of(flight, *port),
        Destination::Balanced(balanced) => {
            let balancer = flight.exchange.snapshot.balancer(balanced.upstream);
            let Some(balancer) = balancer.cloned() else {
                return;
            };
            // Any attempt may go to any of the targets.
            for port in &balancer.engine_ports {
                drop_headers_of(flight, *port);
            }
            flight.keeps_private_headers = !balancer.near_engines.is_empty();
        }
        Destination::Network(_) => {
            flight.keeps_private_headers = !service.near_engines.is_empty();
        }
        Destination::Unsupported | Destination::Insecure => {}
    }
}

/// The port is that of a component with private headers: whether its own addresses are among those of
/// the host decides whether the client's are dropped. If they are not now, they must not be later.
async fn look_for_engine(flight: &mut Flight, service: &ServiceEntry) {
    let shared = flight.shared.clone();
    let (ports, is_near) = match &service.destination {
        Destination::Network(target) => {
            let pool = flight.exchange.connection.pool.clone();
            let looking = async { pool.leads_to_loopback(&target.host).await };
            let found = tokio::time::timeout(service.timeouts.connect, looking).await;
            let ports = service.near_engines.clone();
            (ports, matches!(found, Ok(Ok(true))))
        }
        Destination::Balanced(balanced) => {
            let balancer = flight.exchange.snapshot.balancer(balanced.upstream);
            let Some(balancer) = balancer.cloned() else {
                return;
            };
            let looking = balancer.leads_to_engine(&shared.balancing);
            let found = tokio::time::timeout(service.timeouts.connect, looking).await;
            (balancer.near_engines.clone(), found == Ok(true))
        }
        Destination::Engine(_) | Destination::Unsupported | Destination::Insecure => return,
    };
    if is_near {
        for port in ports {
            drop_headers_of(flight, port);
        }
        flight.keeps_private_headers = false;
    }
}

fn drop_headers_of(flight: &mut Flight, port: u16) {
    let headers = &mut flight.exchange.request.headers;
    for name in flight.shared.private_headers_of(port) {
        let _dropped = headers.remove(*name);
    }
}

/// Plugins that see the response to a request which was not routed.
fn choose_global(flight: &mut Flight, snapshot: &Snapshot) {
    run_through(&snapshot.plugins().scopes(None, None), |instance| {
        flight.choose(instance)
    });
}

fn run_through<'a>(scopes: &Scopes<'a>, mut visit: impl FnMut(&'a Arc<Instance>)) {
    let mut from = 0;
    while let Some(instance) = scopes.next(from) {
        from = u32::from(instance.rank) + 1;
        visit(instance);
    }
}

/// Runs access phases in order. Once a plugin has answered, those after it are still chosen, so
/// that they see the response.
async fn access(flight: &mut Flight, mut scopes: Scopes<'_>) -> Step<()> {
    let mut from = 0;
    let mut caller = 0;
    let mut step = ControlFlow::Continue(());
    while let Some(instance) = scopes.next(from) {
        from = u32::from(instance.rank) + 1;
        flight.choose(instance);
        if step.is_break() {
            continue;
        }
        step = run(flight, instance).await;
        // Which instance comes next depends on who calls, as far as plugins have found out.
        if let Some(consumer) = &flight.exchange.consumer {
            let address = Arc::as_ptr(consumer).addr();
            if address != caller {
                caller = address;
                scopes.set_consumer(&consumer.id);
            }
        }
    }
    let observed = &mut flight.exchange.observed;
    if observed.closely {
        observed.access_ended = Some(Instant::now());
    }
    step
}

async fn run(flight: &mut Flight, instance: &Instance) -> Step<()> {
    let exchange = &mut flight.exchange;
    let verdict = match caught(move || instance.plugin.access(exchange)) {
        Ok(Access::Now(verdict)) => Ok(verdict),
        Ok(Access::Later(verdict)) => AssertUnwindSafe(verdict).catch_unwind().await,
        Err(panic) => Err(panic),
    };
    match verdict {
        Ok(Verdict::Continue) => ControlFlow::Continue(()),
        Ok(Verdict::Respond(response)) => {
            flight.exchange.source = Source::Exit;
            ControlFlow::Break(as_asked(flight, response))
        }
        Err(_) => {
            flight.panicked(instance, "access");
            flight.exchange.source = Source::Error;
            let body = json!({"message": "An unexpected error occurred"});
            let response = errors::exit(StatusCode::INTERNAL_SERVER_ERROR, &body);
            ControlFlow::Break(as_asked(flight, response))
        }
    }
}

/// A plugin's response, to a gRPC call as one of gRPC.
fn as_asked(flight: &Flight, response: Response<Body>) -> Response<Body> {
    if grpc::is_call(&flight.exchange.request) {
        grpc::of_plugin(response)
    } else {
        response
    }
}

/// An error of ours that routing or plugins decided (path A).
pub(crate) fn refuse(flight: &Flight, status: StatusCode, message: &str) -> Response<Body> {
    let exchange = &flight.exchange;
    if grpc::is_call(&exchange.request) {
        return grpc::refuse(status);
    }
    errors::respond(
        status,
        message,
        &exchange.request.headers,
        &exchange.request_id,
    )
}

/// An error of the server underneath (path B).
pub(crate) fn refuse_as_server(flight: &Flight, status: StatusCode) -> Response<Body> {
    server_error(flight, status, &errors::default_message(status))
}

fn server_error(flight: &Flight, status: StatusCode, message: &str) -> Response<Body> {
    let exchange = &flight.exchange;
    if grpc::server_speaks_it(&exchange.request) {
        return grpc::error(status, message);
    }
    errors::server(
        &flight.shared.options.forms,
        status,
        message,
        &exchange.request.headers,
        &exchange.request_id,
    )
}

/// Answers a request that the framing guard refused; global plugins see the response.
pub(crate) fn reject(
    shared: &Arc<Shared>,
    rejection: &Rejection,
    connection: &Connection,
) -> Response<Body> {
    shared.metrics.rejected.add(1);
    let request = match &rejection.head {
        Some(head) => Request::from_parts(head.clone(), Body::Empty),
        None => Request::new(Body::Empty),
    };
    let mut flight = Flight::begin(shared, request, connection);
    if let Ok(path) = normalise_path(raw_path(&flight.exchange.request.uri)) {
        flight.exchange.path = path.into_owned();
    }
    let snapshot = flight.exchange.snapshot.clone();
    choose_global(&mut flight, &snapshot);
    let response = if rejection.is_too_large() {
        let message = "Request header or cookie too large";
        server_error(&flight, StatusCode::BAD_REQUEST, message)
    } else {
        refuse_as_server(&flight, rejection.status)
    };
    flight.finish(response)
}
