//! One request and what is known of it so far; plugins read and change it.

use std::net::IpAddr;
use std::sync::Arc;

use o28m_core::Timestamp;
use o28m_kong::{Consumer, Route, Service};
use o28m_net::{Body, Connection};
use smallvec::SmallVec;

use crate::{Observed, RequestId, Snapshot};

/// A request on its way through the phases.
pub struct Exchange {
    /// In `X-Kong-Request-Id` and error bodies.
    pub request_id: RequestId,
    /// When the head was complete.
    pub started: Timestamp,
    /// The configuration this request began with.
    pub snapshot: Arc<Snapshot>,
    /// The connection it came in on.
    pub connection: Connection,
    /// The client: the peer, or what a trusted peer's header says.
    pub client_ip: IpAddr,
    /// Head of the request as the client sent it, without hop-by-hop and identity headers
    /// (`X-Consumer-*` and the like); `Expect` is still there. Plugins change its headers and
    /// query; the upstream request is made from it. `uri` keeps the client's raw target.
    pub request: http::request::Parts,
    /// Body of the request; a plugin that takes it must put one back.
    pub body: Body,
    /// Normalised path of the client's request.
    pub path: String,
    /// Path that replaces the computed upstream path, set by a plugin; escaped, without query.
    pub upstream_path: Option<String>,
    /// Named and numbered captures of the route's path expression.
    pub uri_captures: Vec<(String, String)>,
    /// The matched route; `None` before routing and when nothing matched.
    pub route: Option<Arc<Route>>,
    /// The route's service.
    pub service: Option<Arc<Service>>,
    /// Who calls, set by an authentication plugin.
    pub consumer: Option<Arc<Consumer>>,
    /// Identifier of the credential that proved it.
    pub credential: Option<Credential>,
    /// Groups asserted by an authentication plugin instead of a consumer's ACLs.
    pub authenticated_groups: Option<Vec<String>>,
    /// Client id for the access log, set by jwt-keycloak.
    pub gateway_consumer: Option<String>,
    /// Why an authentication plugin refused, for the access log.
    pub security_event: Option<SecurityEvent>,
    /// Status sent to the client; known in the log phase.
    pub status: Option<http::StatusCode>,
    /// Status of each upstream attempt, oldest first; 502 or 504 for one that got no answer.
    pub upstream_statuses: SmallVec<[http::StatusCode; 4]>,
    /// Where the response came from; known from header_filter on.
    pub source: Source,
    /// Moments and sizes, for logs, metrics and traces.
    pub observed: Observed,
}

/// An event class and what happened, as the platform's security monitoring knows them
/// (access log fields `eventclassid` and `event_details`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecurityEvent {
    /// Such as `ua222`.
    pub class_id: &'static str,
    /// Such as `validate_scope failed`.
    pub details: &'static str,
}

/// A credential that an authentication plugin accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Id of the credential entity, where there is one.
    pub id: Option<String>,
    /// Value of `X-Credential-Identifier`, where the plugin sets it.
    pub identifier: Option<String>,
}

/// Where a response came from (Kong's response source).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The gateway itself failed or refused.
    #[default]
    Error,
    /// A plugin answered.
    Exit,
    /// The upstream answered.
    Service,
}

impl Exchange {
    /// The exchange that a request begins; nothing is known of it but what the request says.
    #[must_use]
    pub fn new(
        request: http::Request<Body>,
        connection: Connection,
        snapshot: Arc<Snapshot>,
        request_id: impl Into<RequestId>,
        started: Timestamp,
    ) -> Self {
        let (request, body) = request.into_parts();
        Self {
            request_id: request_id.into(),
            started,
            snapshot,
            client_ip: connection.peer.ip().to_canonical(),
            connection,
            request,
            body,
            path: String::new(),
            upstream_path: None,
            uri_captures: Vec::new(),
            route: None,
            service: None,
            consumer: None,
            credential: None,
            authenticated_groups: None,
            gateway_consumer: None,
            security_event: None,
            status: None,
            upstream_statuses: SmallVec::new(),
            source: Source::Error,
            observed: Observed::new(),
        }
    }

    /// First value of a request header as text; `None` when absent or not visible ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    }
}
