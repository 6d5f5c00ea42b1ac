//! The path of a request through the token gateway, top to bottom.

mod events;

use std::sync::Arc;
use std::time::Instant;

use http::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use o28m_core::{Ambient, Timestamp};
use o28m_jose::slots::SharedKeys;
use o28m_net::{Body, Connection, Rejection, Scheme};
use o28m_telemetry::metrics::Registry;

use crate::admission::{self, Route};
use crate::authorization::{Scenario, basic};
use crate::balance::ZoneHealth;
use crate::claims::{Facts, Receiver, configured_audience, payload};
use crate::config::Decoder;
use crate::credentials::{TokenKey, TokenRequest};
use crate::external::ExternalTokens;
use crate::failure::{self, Failure, Style, Subject};
use crate::headers::{self, STRIPPED, last};
use crate::incoming::{self, Claims};
use crate::outgoing;
use crate::plan::{self, Plan};
use crate::signer::{CpuPool, Signer};
use crate::spectre::Spectre;
use crate::status::Status;
use crate::target::{Destination, destination};
use crate::trace::Trace;
use crate::transport::forward;
use crate::{PlaintextMode, Settings};

const X_TOKEN_EXCHANGE: HeaderName = HeaderName::from_static("x-token-exchange");
const X_SPACEGATE_TOKEN: HeaderName = HeaderName::from_static("x-spacegate-token");
/// Credentials the consumer brings for the provider's identity provider.
const SPACEGATE_CREDENTIALS: [&str; 3] = [
    "x-spacegate-client-id",
    "x-spacegate-client-secret",
    "x-spacegate-scope",
];

/// Everything requests share.
pub(crate) struct Pipeline {
    settings: Settings,
    ambient: Ambient,
    decoder: Decoder,
    signer: Arc<Signer>,
    spectre: Arc<Spectre>,
    external: ExternalTokens,
    zones: ZoneHealth,
    status: Status,
    faces_internet: bool,
}

/// What is known of one request on its way.
struct Work {
    route: Route,
    now: Timestamp,
    trace: Trace,
    plan: Plan,
    claims: Claims,
    destination: Destination,
    request_path: String,
    /// The incoming `Authorization` value that counts.
    authorization: String,
}

impl Work {
    fn consumer(&self) -> Option<&str> {
        self.claims.client_id.as_deref()
    }
}

impl Pipeline {
    pub(crate) fn new(
        settings: Settings,
        keys: SharedKeys,
        metrics: &Registry,
        ambient: Ambient,
    ) -> Self {
        let cpu = Arc::new(CpuPool::new());
        let signed_max = settings.signed_tokens_bytes_max;
        let status = Status::new(metrics, &keys, &ambient);
        let signer = Arc::new(Signer::new(keys, Arc::clone(&cpu), signed_max, metrics));
        let spectre = Spectre::new(&settings, Arc::clone(&signer), ambient.clone());
        Self {
            decoder: Decoder::new(),
            status,
            signer,
            spectre: Arc::new(spectre),
            external: ExternalTokens::new(&settings, cpu, metrics),
            zones: ZoneHealth::new(settings.zones_healthy_by_default, metrics),
            faces_internet: is_internet_facing(&settings, &settings.zone),
            settings,
            ambient,
        }
    }

    pub(crate) const fn status(&self) -> &Status {
        &self.status
    }

    pub(crate) fn spectre(&self) -> &Spectre {
        &self.spectre
    }

    pub(crate) const fn zones(&self) -> &ZoneHealth {
        &self.zones
    }

    /// Answers one request; failures are responses.
    pub(crate) async fn answer(
        &self,
        request: Request<Body>,
        connection: &Connection,
    ) -> Response<Body> {
        let started = Instant::now();
        let method = request.method().clone();
        let subject = Subject::of(&method, request.headers());
        let fail = |failure| failure::respond(&failure, &subject, &self.style());
        let mut response = match self.route(&request) {
            Err(failure) => fail(failure),
            Ok(route) => {
                let result = self.dispatch(route, request, connection).await;
                let response = result.unwrap_or_else(fail);
                let status = response.status();
                self.status.count(route, &method, status, started.elapsed());
                response
            }
        };
        self.finish(&mut response);
        response
    }

    async fn dispatch(
        &self,
        route: Route,
        request: Request<Body>,
        connection: &Connection,
    ) -> Result<Response<Body>, Failure> {
        match route {
            Route::Proxy | Route::Listener => self.traffic(route, request, connection).await,
            Route::AutoEvent => self.callback(request, connection).await,
            Route::Health | Route::Liveness | Route::Readiness | Route::Metrics => {
                Ok(self.status.answer(route, request.headers()))
            }
        }
    }

    /// The body for a request that was refused before it became one.
    pub(crate) fn reject(&self, rejection: &Rejection) -> Response<Body> {
        let subject = match &rejection.head {
            Some(head) => Subject::of(&head.method, &head.headers),
            None => Subject::of(&Method::GET, &HeaderMap::new()),
        };
        let phrase = rejection.status.canonical_reason().unwrap_or_default();
        let mut response = failure::body(rejection.status, phrase, &subject, &self.style());
        self.finish(&mut response);
        response
    }

    fn finish(&self, response: &mut Response<Body>) {
        if self.settings.security_headers {
            let status = response.status();
            outgoing::add_security(response.headers_mut(), status);
        }
    }

    fn style(&self) -> Style<'_> {
        Style {
            service: &self.settings.name,
            verbose: self.settings.verbose_errors,
            response_timeout: self.settings.response_timeout,
            now: self.ambient.now(),
        }
    }

    fn route(&self, request: &Request<Body>) -> Result<Route, Failure> {
        let (method, uri) = (request.method(), request.uri());
        admission::check(method, uri.path(), uri.query())?;
        Route::find(method, uri.path()).ok_or(Failure::NoRoute)
    }

    async fn traffic(
        &self,
        route: Route,
        request: Request<Body>,
        connection: &Connection,
    ) -> Result<Response<Body>, Failure> {
        let (mut parts, body) = request.into_parts();
        let work = self.prepare(route, &parts)?;
        let headers = &mut parts.headers;
        let websocket = asks_for_websocket(headers);
        headers::remove_hop_by_hop(headers);
        if work.plan.secondary {
            note_secondary(&work, headers);
        }

        let scenario = Scenario::choose(
            &work.plan,
            work.consumer(),
            headers.get(X_TOKEN_EXCHANGE),
            self.faces_internet,
        );
        match &scenario {
            Scenario::Exchange(token) => set_authorization(headers, token.clone()),
            Scenario::Basic(credentials) => set_authorization(headers, basic(credentials)?),
            Scenario::OneToken => {
                let token = self.token(&work, Receiver::Provider, &parts.method, headers);
                set_authorization(headers, token.await?);
            }
            Scenario::Bypass | Scenario::Mesh | Scenario::External(_) => {}
        }
        outgoing::set_origin(headers, &work.claims);
        for name in &work.plan.config.remove_headers {
            headers.remove(name.as_str());
        }
        // These come last: a configuration cannot remove them.
        let mut fetched = None;
        if matches!(scenario, Scenario::Mesh) {
            let token = self.token(&work, Receiver::Gateway, &parts.method, headers);
            set_authorization(headers, token.await?);
            self.pass_consumer_token(&work, headers);
        } else if let Scenario::External(endpoint) = scenario {
            fetched = Some(
                self.external_token(&work, endpoint, headers, connection)
                    .await?,
            );
        }
        self.strip(headers, &work, connection);
        self.check_plaintext(&work.destination)?;
        if websocket {
            set_websocket(headers);
        }

        let call = self.listened(&work, &parts, connection);
        let body = match &call {
            Some(call) => {
                let query = parts.uri.query();
                self.spectre.request(call, &parts.headers, query, body)
            }
            None => body,
        };
        parts.uri = work.destination.path_and_query.clone().into();
        let request = Request::from_parts(parts, body);
        let mut response = self.forward(&work.destination, request, connection).await?;
        if let Some(call) = &call {
            let body = std::mem::take(response.body_mut());
            let (status, headers) = (response.status(), response.headers());
            *response.body_mut() = self.spectre.response(call, status, headers, body);
        }
        let refused = matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        );
        if let Some(key) = fetched.filter(|_| refused) {
            self.external.evict(&key);
        }
        Ok(response)
    }

    /// Reads everything that decides about the request; nothing is changed yet.
    fn prepare(&self, route: Route, parts: &http::request::Parts) -> Result<Work, Failure> {
        let headers = &parts.headers;
        let now = self.ambient.now();
        let plan = plan::resolve(headers, &self.decoder, &self.zones, &self.ambient, now)?;
        let authorization = last(headers, AUTHORIZATION.as_str());
        let claims = incoming::parse(authorization.as_deref(), now)?;
        let path = parts.uri.path();
        let rest = path.strip_prefix(route.prefix()).unwrap_or_default();
        let query = parts.uri.query();
        let verify = self.settings.tls_verify;
        Ok(Work {
            route,
            now,
            trace: Trace::of(headers, self.ambient.rng.as_ref()),
            request_path: format!("{}{rest}", plan.api_base_path),
            destination: destination(&plan.remote_url, rest, query, verify)?,
            authorization: authorization.unwrap_or_default().into_owned(),
            plan,
            claims,
        })
    }

    async fn token(
        &self,
        work: &Work,
        receiver: Receiver,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<HeaderValue, Failure> {
        let config = &work.plan.config;
        let audience = match receiver {
            Receiver::Provider => configured_audience(config, work.consumer())?,
            Receiver::Gateway => None,
        };
        let publisher_id = last(headers, "x-pubsub-publisher-id");
        let subscriber_id = last(headers, "x-pubsub-subscriber-id");
        let issuer = format!("{}/{}", self.settings.issuer_url, work.plan.realm);
        let facts = Facts {
            receiver,
            method,
            request_path: &work.request_path,
            environment: work.plan.environment.as_deref(),
            scope: config.scopes_for(work.consumer()),
            publisher_id: publisher_id.as_deref(),
            subscriber_id: subscriber_id.as_deref(),
            audience: audience.as_deref(),
            issuer: &issuer,
        };
        let payload = payload(&work.claims, &facts);
        let exp = work.claims.exp;
        Ok(self.signer.bearer(&payload, exp, work.now).await?)
    }

    /// The next gateway learns the consumer's own token when the consumer came from the internet.
    fn pass_consumer_token(&self, work: &Work, headers: &mut HeaderMap) {
        let origin = work.claims.origin_zone.as_deref();
        if !origin.is_some_and(|zone| is_internet_facing(&self.settings, zone)) {
            return;
        }
        if let Ok(mut token) = HeaderValue::from_str(work.authorization.trim()) {
            token.set_sensitive(true);
            headers.insert(X_SPACEGATE_TOKEN, token);
        }
    }

    async fn external_token(
        &self,
        work: &Work,
        endpoint: &str,
        headers: &mut HeaderMap,
        connection: &Connection,
    ) -> Result<TokenKey, Failure> {
        let request = TokenRequest::of(&work.plan, endpoint, work.consumer())?;
        let key = request.key();
        let (pool, trace) = (&connection.pool, &work.trace);
        let token = self
            .external
            .bearer(&request, key, pool, trace, &self.ambient);
        set_authorization(headers, token.await?);
        for name in SPACEGATE_CREDENTIALS {
            headers.remove(name);
        }
        Ok(key)
    }

    /// Leaves only what the provider may see, and says where the request goes.
    fn strip(&self, headers: &mut HeaderMap, work: &Work, connection: &Connection) {
        for name in STRIPPED {
            headers.remove(name);
        }
        if !self.trusts(connection) {
            outgoing::remove_forwarded(headers);
        }
        work.trace.apply(headers, self.ambient.rng.as_ref());
        headers.insert(HOST, work.destination.host.clone());
    }

    fn trusts(&self, connection: &Connection) -> bool {
        let peer = connection.peer.ip().to_canonical();
        match &self.settings.trusted_proxies {
            _ if connection.in_process => true,
            None => peer.is_loopback(),
            Some(trusted) => {
                let peer = peer.to_string();
                let found = trusted.find(&peer);
                found.is_some_and(|found| found.len() == peer.len())
            }
        }
    }

    fn check_plaintext(&self, destination: &Destination) -> Result<(), Failure> {
        let (action, mode) = match self.settings.plaintext {
            PlaintextMode::Insecure => return Ok(()),
            PlaintextMode::Warn => ("warned", "warn"),
            PlaintextMode::Strict => ("blocked", "strict"),
        };
        let target = &destination.target;
        if target.scheme == Scheme::Https {
            return Ok(());
        }
        self.status.count_plaintext(&target.host, action, mode);
        tracing::warn!(upstream.host = %target.host, action, "target is plain HTTP");
        match self.settings.plaintext {
            PlaintextMode::Strict => Err(Failure::Plaintext),
            PlaintextMode::Insecure | PlaintextMode::Warn => Ok(()),
        }
    }

    async fn forward(
        &self,
        destination: &Destination,
        request: Request<Body>,
        connection: &Connection,
    ) -> Result<Response<Body>, Failure> {
        let started = Instant::now();
        let target = &destination.target;
        let websocket = asks_for_websocket(request.headers());
        let (connect, response) = (
            self.settings.connect_timeout,
            self.settings.response_timeout,
        );
        let sent = forward(&connection.pool, target, request, connect, response).await;
        let mut response = sent?;
        self.status.count_upstream(started.elapsed());
        headers::remove_hop_by_hop(response.headers_mut());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            if !websocket {
                return Err(Failure::Unasked);
            }
            set_websocket(response.headers_mut());
        }
        Ok(response)
    }
}

fn set_authorization(headers: &mut HeaderMap, value: HeaderValue) {
    headers.insert(AUTHORIZATION, value);
}

fn is_internet_facing(settings: &Settings, zone: &str) -> bool {
    let zones = &settings.internet_facing_zones;
    zones.iter().any(|it| it.trim().eq_ignore_ascii_case(zone))
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(UPGRADE).into_iter();
    values.any(|value| {
        let protocols = headers::text(value).to_ascii_lowercase();
        protocols.split(',').any(|it| it.trim() == "websocket")
    })
}

/// Asks for, or agrees to, a WebSocket (RFC 6455 section 4); only these two lines belong to the
/// connection.
fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// The last resort was taken: the provider sees the realm and environment of it, the operator one
/// line.
fn note_secondary(work: &Work, headers: &mut HeaderMap) {
    let plan = &work.plan;
    for (name, value) in [
        ("realm", Some(&plan.realm)),
        ("environment", plan.environment.as_ref()),
    ] {
        if let Some(Ok(value)) = value.map(|value| HeaderValue::from_str(value)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    tracing::info!(
        consumer = work.consumer(),
        consumer.origin_zone = work.claims.origin_zone.as_deref(),
        api.base_path = %plan.api_base_path,
        upstream.host = %work.destination.target.host,
        upstream.path = work.destination.path_and_query.path(),
        route = work.route.prefix(),
        "request failed over to the provider"
    );
}
