//! Publishing copies of requests and responses as CloudEvents, and passing the event platform's
//! callbacks on.
//!
//! Nothing here may fail or delay the traffic it tells about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use o28m_core::Ambient;
use o28m_net::Body;
use o28m_net::client::{Pool, Timeouts};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio_util::task::TaskTracker;

use crate::capture::{Budget, captured, payload};
use crate::claims::Publisher;
use crate::failure::{Failure, chain};
use crate::headers;
use crate::signer::Signer;
use crate::target::{Destination, destination};
use crate::trace::Trace;

/// Events that wait for their body or for the event platform.
const EVENTS_MAX: usize = 1024;
/// Callbacks whose bodies are held at once.
const CALLBACKS_MAX: usize = 16;
/// Longest wait for the event platform.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);
/// What stands for the environment in the event platform's URL.
const PLACEHOLDER: &str = "ENVIRONMENT_PLACEHOLDER";
/// Headers that events do not show: they let their reader act as the consumer.
const HIDDEN: [&str; 6] = [
    "authorization",
    "cookie",
    "set-cookie",
    "x-spacegate-client-secret",
    "x-spacegate-token",
    "x-token-exchange",
];
/// Members of an event that are there even when they are null.
const MEMBERS: [&str; 6] = [
    "specversion",
    "type",
    "source",
    "id",
    "datacontenttype",
    "data",
];

/// The event platform and what is under way to it.
pub(crate) struct Spectre {
    publish_url: String,
    issuer_url: String,
    source: String,
    connect_timeout: Duration,
    tls_verify: bool,
    signer: Arc<Signer>,
    ambient: Ambient,
    places: Arc<Semaphore>,
    callbacks: Semaphore,
    budget: Budget,
    tasks: TaskTracker,
}

/// Who listens to whom.
#[derive(Clone)]
pub(crate) struct Subscription {
    pub(crate) issue: String,
    pub(crate) provider: String,
    pub(crate) consumer: String,
    pub(crate) realm: String,
}

/// What both events of a call have in common.
pub(crate) struct Call {
    pub(crate) subscription: Subscription,
    pub(crate) method: Method,
    pub(crate) trace: Trace,
    pub(crate) tardis_trace_id: Option<HeaderValue>,
    pub(crate) pool: Arc<Pool>,
}

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    r#type: &'static str,
    source: &'a str,
    id: String,
    datacontenttype: &'static str,
    data: Content<'a>,
}

#[derive(Serialize)]
struct Content<'a> {
    consumer: &'a str,
    provider: &'a str,
    issue: &'a str,
    kind: Kind,
    method: &'a str,
    header: Map<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parameters: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    payload: Value,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Request,
    Response,
}

/// One event before its payload is known.
struct Draft {
    call: Arc<Call>,
    kind: Kind,
    header: Map<String, Value>,
    parameters: BTreeMap<String, String>,
    status: Option<u16>,
    content_type: Option<String>,
}

impl Spectre {
    pub(crate) fn new(settings: &crate::Settings, signer: Arc<Signer>, ambient: Ambient) -> Self {
        Self {
            publish_url: settings.publish_event_url.clone(),
            issuer_url: settings.issuer_url.clone(),
            source: settings.stargate_url.clone(),
            connect_timeout: settings.connect_timeout,
            tls_verify: settings.tls_verify,
            signer,
            ambient,
            places: Arc::new(Semaphore::new(EVENTS_MAX)),
            callbacks: Semaphore::new(CALLBACKS_MAX),
            budget: Budget::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// A place to hold a callback's body in; who finds none waits, with the body unread.
    pub(crate) async fn callback_place(&self) -> Option<SemaphorePermit<'_>> {
        self.callbacks.acquire().await.ok()
    }

    /// Waits until every event is out.
    pub(crate) async fn flushed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Tells about a request that is about to be sent; the body given back is the one to send.
    pub(crate) fn request(
        self: &Arc<Self>,
        call: &Arc<Call>,
        headers: &HeaderMap,
        query: Option<&str>,
        body: Body,
    ) -> Body {
        let mut parameters = BTreeMap::new();
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        for (name, value) in pairs {
            let name = name.into_owned();
            parameters.entry(name).or_insert_with(|| value.into_owned());
        }
        let draft = Draft {
            call: Arc::clone(call),
            kind: Kind::Request,
            header: shown(headers),
            parameters,
            status: None,
            content_type: content_type(headers),
        };
        self.publish_with_body(draft, headers, body)
    }

    /// Tells about a response; the body given back is the one to send.
    pub(crate) fn response(
        self: &Arc<Self>,
        call: &Arc<Call>,
        status: StatusCode,
        headers: &HeaderMap,
        body: Body,
    ) -> Body {
        let mut header = shown(headers);
        let tardis = call.tardis_trace_id.as_ref();
        let tardis = tardis.map_or(Value::Null, |it| Value::from(headers::text(it)));
        header.insert("x-tardis-traceid".to_owned(), tardis);
        let draft = Draft {
            call: Arc::clone(call),
            kind: Kind::Response,
            header,
            parameters: BTreeMap::new(),
            status: Some(status.as_u16()),
            content_type: content_type(headers),
        };
        self.publish_with_body(draft, headers, body)
    }

    fn publish_with_body(self: &Arc<Self>, draft: Draft, headers: &HeaderMap, body: Body) -> Body {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("event dropped: too many events are waiting");
            return body;
        };
        let is_encoded = headers.contains_key("content-encoding");
        let (body, bytes) = captured(body, headers, &self.budget);
        let spectre = Arc::clone(self);
        self.tasks.spawn(async move {
            spectre.publish(draft, bytes, is_encoded).await;
            drop(place);
        });
        body
    }

    async fn publish(
        &self,
        draft: Draft,
        bytes: oneshot::Receiver<Option<Bytes>>,
        is_encoded: bool,
    ) {
        let bytes = bytes.await.ok().flatten();
        // What is compressed is shown as it is.
        let content_type = draft.content_type.as_deref().filter(|_| !is_encoded);
        let payload = bytes.map_or(Value::Null, |bytes| payload(&bytes, content_type));
        let subscription = &draft.call.subscription;
        let event = Event {
            specversion: "1.0",
            r#type: "de.telekom.ei.listener",
            source: &self.source,
            id: self.ambient.uuid(),
            datacontenttype: "application/json",
            data: Content {
                consumer: &subscription.consumer,
                provider: &subscription.provider,
                issue: &subscription.issue,
                kind: draft.kind,
                method: draft.call.method.as_str(),
                header: draft.header,
                parameters: draft.parameters,
                status: draft.status,
                payload,
            },
        };
        let Ok(event) = serde_json::to_vec(&event) else {
            return;
        };
        if let Err(failure) = self.post(&draft.call, event).await {
            tracing::warn!(error = %chain(&failure), "event was not published");
        }
    }

    async fn post(&self, call: &Call, event: Vec<u8>) -> Result<(), Failure> {
        let subscription = &call.subscription;
        let url = self.destination(&subscription.realm, None)?;
        let mut request = Request::new(Body::full(event));
        *request.method_mut() = Method::POST;
        let token = self.publisher_token(&subscription.realm).await?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HOST, url.host);
        call.trace.apply(headers, self.ambient.rng.as_ref());
        for (name, value) in [
            ("x-spectre-issue", &subscription.issue),
            ("x-spectre-provider", &subscription.provider),
            ("x-spectre-consumer", &subscription.consumer),
        ] {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.insert(name, value);
            }
        }
        *request.uri_mut() = url.path_and_query.into();
        let timeouts = Timeouts {
            connect: self.connect_timeout,
            write: PUBLISH_TIMEOUT,
            read: PUBLISH_TIMEOUT,
        };
        let sent = call.pool.send(&url.target, request, &timeouts).await;
        let status = sent.map_err(crate::transport::ForwardError::Send)?.status();
        if status != StatusCode::CREATED {
            let status = status.as_u16();
            tracing::warn!(http.status = status, "event platform did not take an event");
        }
        Ok(())
    }

    /// A token of the gateway itself.
    ///
    /// # Errors
    /// [`Failure::Sign`].
    pub(crate) async fn publisher_token(&self, realm: &str) -> Result<HeaderValue, Failure> {
        let issuer = format!("{}/{realm}", self.issuer_url);
        let now = self.ambient.now();
        let claims = Publisher::new(&issuer, now.seconds());
        Ok(self.signer.bearer(&claims, Some(claims.exp()), now).await?)
    }

    /// The event platform's URL in an environment. The environment may come from a caller: it must
    /// not change which host or path that is.
    ///
    /// # Errors
    /// [`Failure::Event`], [`Failure::Url`].
    pub(crate) fn destination(
        &self,
        environment: &str,
        query: Option<&str>,
    ) -> Result<Destination, Failure> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if environment.is_empty() || !environment.bytes().all(is_plain) {
            return Err(Failure::Event("invalid environment"));
        }
        let url = self.publish_url.replacen(PLACEHOLDER, environment, 1);
        Ok(destination(&url, "", query, self.tls_verify)?)
    }
}

/// An event of the platform with the listener's name added to its type.
///
/// # Errors
/// [`Failure::Event`] when the body is not an event.
pub(crate) fn renamed(body: &[u8], listener: &str) -> Result<Vec<u8>, Failure> {
    let Ok(Value::Object(mut event)) = serde_json::from_slice(body) else {
        return Err(Failure::Event("body is not a JSON object"));
    };
    let Some(Value::String(kind)) = event.get_mut("type") else {
        return Err(Failure::Event("event has no type"));
    };
    kind.push('.');
    kind.push_str(listener);
    let mut ordered = Map::new();
    for member in MEMBERS {
        let value = event.shift_remove(member).unwrap_or_default();
        ordered.insert(member.to_owned(), value);
    }
    ordered.extend(event);
    // A map of JSON values always serialises.
    Ok(serde_json::to_vec(&ordered).unwrap_or_default())
}

/// Takes `listener` out of a query: its decoded value, and what is left as it was.
pub(crate) fn take_listener(query: &str) -> (Option<String>, Option<String>) {
    let mut listener = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match form_urlencoded::parse(pair.as_bytes()).next() {
            Some((name, value)) if name == "listener" => {
                listener.get_or_insert_with(|| value.into_owned());
            }
            _ => rest.push(pair),
        }
    }
    let rest = rest.join("&");
    (
        listener.filter(|it| !it.is_empty()),
        Some(rest).filter(|it| !it.is_empty()),
    )
}

/// Says how long the new body is.
pub(crate) fn set_length(headers: &mut HeaderMap, body: &[u8]) {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    headers
        .get(CONTENT_TYPE)
        .map(|value| headers::text(value).into_owned())
}

fn shown(headers: &HeaderMap) -> Map<String, Value> {
    let mut shown = Map::new();
    for (name, value) in headers {
        let name = name.as_str();
        if !HIDDEN.contains(&name) && !shown.contains_key(name) {
            shown.insert(name.to_owned(), Value::from(headers::text(value)));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_goes_from_the_query_into_the_type() {
        let (listener, rest) = take_listener("listener=spec%74re&statusCode=201&x=%2F");
        assert_eq!(listener.as_deref(), Some("spectre"));
        assert_eq!(rest.as_deref(), Some("statusCode=201&x=%2F"));
        assert_eq!(take_listener("listener="), (None, None));
        let event = renamed(br#"{"type":"a","extra":1,"specversion":"1.0"}"#, "b").unwrap();
        assert_eq!(
            String::from_utf8(event).unwrap(),
            r#"{"specversion":"1.0","type":"a.b","source":null,"id":null,"datacontenttype":null,"data":null,"extra":1}"#
        );
        for bad in [&b""[..], b"x", b"[]", b"{}", br#"{"type":1}"#] {
            assert!(renamed(bad, "b").is_err());
        }
    }
}
