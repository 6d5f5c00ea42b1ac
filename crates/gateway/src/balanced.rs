//! Requests of services behind an upstream: each attempt goes to a target that is chosen for it.

use std::sync::Arc;
use std::time::Instant;

use http::{Response, StatusCode};
use o28m_net::client::{Target, TlsPolicy};
use o28m_net::{Body, Scheme};

use crate::Source;
use crate::balance::{Balancer, Chosen, Peer, PeerIdentity, Ring, Wish};
use crate::flight::Flight;
use crate::proxy::{refuse, refuse_as_server};
use crate::request::{Template, server_name};
use crate::snapshot::{Balanced, ServiceEntry};
use crate::spool::Outgoing;
use crate::upstream::{
    Retries, answered, call_engine, failed, may_repeat, report, send_with_hints, status_of,
    unreadable,
};

/// What is known of the way to a target.
pub(crate) struct Course {
    balancer: Arc<Balancer>,
    ring: Arc<Ring>,
    chosen: Chosen,
    /// Where this request failed.
    tried: Vec<usize>,
    at: usize,
}

impl Course {
    /// Chooses the first target, before the client's body is read.
    pub(crate) async fn begin(
        flight: &mut Flight,
        service: &ServiceEntry,
        balanced: &Balanced,
    ) -> Result<Self, Response<Body>> {
        let found = flight
            .exchange
            .snapshot
            .balancer(balanced.upstream)
            .cloned();
        let Some(balancer) = found else {
            return Err(no_peer(flight));
        };
        let ring = balancer.ring(&flight.shared.balancing);
        let ring = tokio::time::timeout(service.timeouts.connect, ring).await;
        let ring = ring.unwrap_or_else(|_| balancer.ring_now());
        let mut course = Self {
            chosen: Chosen::new(flight, &balancer.upstream),
            balancer,
            ring,
            tried: Vec::new(),
            at: 0,
        };
        match course.choose() {
            true => Ok(course),
            false => Err(no_peer(flight)),
        }
    }

    fn choose(&mut self) -> bool {
        if !self.balancer.is_healthy(&self.ring) {
            return false;
        }
        let wish = Wish {
            checked: self.balancer.checked,
            tried: &self.tried,
            hash: self.chosen.hash,
        };
        let found = self.ring.choose(&wish);
        self.at = found.unwrap_or(self.at);
        found.is_some()
    }

    /// Another target after this one failed.
    fn choose_again(&mut self) -> bool {
        self.tried.push(self.at);
        self.choose()
    }

    fn peer(&self) -> Option<&Peer> {
        self.ring.peer(self.at)
    }

    fn saw_status(&self, status: StatusCode) {
        if let Some(peer) = self.peer() {
            self.balancer.saw_status(peer, status);
        }
    }
}

fn no_peer(flight: &Flight) -> Response<Body> {
    let message = "failure to get a peer from the ring-balancer";
    refuse(flight, StatusCode::SERVICE_UNAVAILABLE, message)
}

/// Tries until an answer arrives or no attempt is left.
pub(crate) async fn send(
    flight: &mut Flight,
    service: &ServiceEntry,
    balanced: &Balanced,
    course: &mut Course,
    template: &mut Template,
    body: &Outgoing,
) -> Response<Body> {
    let mut retries = Retries::new(service.service.retries);
    let tls = balanced.scheme == Scheme::Https;
    // Only attempts over the network need it here: an engine takes the body itself.
    let mut next = None;
    loop {
        let Some(peer) = course.peer() else {
            return refuse_as_server(flight, StatusCode::SERVICE_UNAVAILABLE);
        };
        if let Some(host) = course.balancer.host_of(peer, tls) {
            template.set_host(flight, host);
        }
        flight.held = course.ring.hold(peer);
        if let Some(port) = peer.engine.filter(|_| !tls && !service.http2) {
            let response = call_engine(flight, service, template, port, body).await;
            return finished(flight, course, response);
        }
        let Some(body_now) = next.take().or_else(|| body.again()) else {
            return failed(flight, StatusCode::BAD_GATEWAY);
        };
        let Some(policy) = policy(balanced, &course.balancer, template) else {
            return failed(flight, StatusCode::BAD_GATEWAY);
        };
        if flight.keeps_private_headers && course.balancer.is_near_engine(peer) {
            // Its address became one of this machine while plugins ran.
            return failed(flight, StatusCode::BAD_GATEWAY);
        }
        let target = Target {
            scheme: balanced.scheme,
            host: peer.ip.clone(),
            port: peer.address.port(),
            tls: policy,
        };
        let begun = Instant::now();
        let pool = &flight.exchange.connection.pool;
        let outcome = if service.http2 {
            let request = template.request(flight, body_now);
            Box::pin(pool.send_http2(&target, request, &service.timeouts, false)).await
        } else if flight.wants_hints() {
            let request = template.written(flight, body_now);
            let hints = flight.hints();
            Box::pin(send_with_hints(
                pool, hints, &target, request, service, false,
            ))
            .await
        } else {
            let request = template.written(flight, body_now);
            pool.send(&target, request, &service.timeouts).await
        };
        flight.attempted(begun, || (target.host.clone(), target.port));
        let error = match outcome {
            Ok(response) => {
                let response = answered(flight, response);
                return finished(flight, course, response);
            }
            Err(error) => error,
        };
        report(flight, &error);
        if let Some(error) = error.request_body_error() {
            return unreadable(flight, error);
        }
        let status = status_of(&error);
        let again = may_repeat(flight, service, &error)
            && retries.take(&error)
            && flight.shared.options.may_retry();
        next = body.again().filter(|_| again);
        if next.is_none() {
            let response = failed(flight, status);
            return finished(flight, course, response);
        }
        if let Some(peer) = course.peer() {
            course.balancer.saw_failure(peer, status);
        }
        flight.exchange.upstream_statuses.push(status);
        if !course.choose_again() {
            return refuse_as_server(flight, StatusCode::SERVICE_UNAVAILABLE);
        }
        flight.shared.metrics.retries.add(1);
    }
}

/// What secures the connections of an attempt; `None` when something of it is not there.
fn policy(balanced: &Balanced, balancer: &Balancer, template: &Template) -> Option<TlsPolicy> {
    if balanced.scheme == Scheme::Http {
        return Some(TlsPolicy::default());
    }
    let identity = match (&balanced.tls.identity, &balancer.identity) {
        (Some(own), _) => Some(own.clone()),
        (None, PeerIdentity::Given(identity)) => identity.clone(),
        (None, PeerIdentity::Missing) => return None,
    };
    Some(TlsPolicy {
        server_name: server_name(template.host()).map(Arc::from),
        identity,
        ..balanced.tls.clone()
    })
}

/// The last attempt is over: its status counts for the target's health, whatever plugins make of it.
pub(crate) fn finished(
    flight: &mut Flight,
    course: &mut Course,
    response: Response<Body>,
) -> Response<Body> {
    if flight.exchange.source == Source::Service
        && let Some(held) = &mut flight.held
    {
        held.answered();
    }
    if let Some(status) = flight.exchange.upstream_statuses.last() {
        course.saw_status(*status);
    }
    flight.new_cookie = course.chosen.cookie.take().map(Box::new);
    response
}
