//! What spans say of a request.

use std::borrow::Cow;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use o28m_gateway::Exchange;

/// Bytes of one value: clients decide about many of them.
const VALUE_BYTES_MAX: usize = 1024;

/// Values of request headers that spans show under the same names.
const SHOWN: [HeaderName; 3] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-business-context"),
    HeaderName::from_static("x-correlation-id"),
];
const PUBLISHER: HeaderName = HeaderName::from_static("x-pubsub-publisher-id");
const SUBSCRIBER: HeaderName = HeaderName::from_static("x-pubsub-subscriber-id");

/// The request as it was when the trace began; other plugins change it later.
#[derive(Clone)]
pub(crate) struct Captured {
    pub(crate) method: Method,
    pub(crate) version: &'static str,
    host: Option<HeaderValue>,
    shown: [Option<HeaderValue>; 3],
    publisher: Option<HeaderValue>,
    subscriber: Option<HeaderValue>,
    /// Every line of a header with more tags.
    pub(crate) tags: Vec<HeaderValue>,
}

impl Captured {
    /// `tags` names the header with more tags.
    pub(crate) fn new(exchange: &Exchange, tags: Option<&HeaderName>) -> Self {
        let headers = &exchange.request.headers;
        let get = |name: &HeaderName| headers.get(name).cloned();
        Self {
            method: exchange.request.method.clone(),
            version: match exchange.request.version {
                Version::HTTP_10 => "1.0",
                _ => "1.1",
            },
            host: get(&HOST),
            shown: SHOWN.each_ref().map(get),
            publisher: get(&PUBLISHER),
            subscriber: get(&SUBSCRIBER),
            tags: tags.map_or_else(Vec::new, |name| lines(headers, name)),
        }
    }

    /// The host without port, in lower case.
    pub(crate) fn host(&self) -> String {
        let host = self.host.as_ref().map_or(Cow::Borrowed(""), text);
        let bare = match host.rsplit_once(':') {
            Some((name, port))
                if port.bytes().all(|it| it.is_ascii_digit())
                    && (!name.contains(':') || name.ends_with(']')) =>
            {
                name
            }
            _ => &host,
        };
        bare.to_ascii_lowercase()
    }

    /// Tags of headers: ids of the request, publisher and subscriber of events.
    pub(crate) fn header_tags<'a>(&'a self, mut add: impl FnMut(&'static str, Cow<'a, str>)) {
        const NAMES: [&str; 3] = ["x-request-id", "x-business-context", "x-correlation-id"];
        for (name, value) in NAMES.into_iter().zip(&self.shown) {
            if let Some(value) = value {
                add(name, text(value));
            }
        }
        if let Some(publisher) = &self.publisher {
            add("publisher", text(publisher));
            if let Some(subscriber) = &self.subscriber {
                add("subscriber", text(subscriber));
            }
        }
    }
}

fn lines(headers: &HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    headers.get_all(name).iter().cloned().collect()
}

/// A header's value as text, cut where it becomes too long.
pub(crate) fn text(value: &HeaderValue) -> Cow<'_, str> {
    let bytes = value.as_bytes();
    let bytes = bytes.get(..VALUE_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(bytes)
}

/// Any text, cut where it becomes too long.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(VALUE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The path of the request, without its query.
pub(crate) fn path(exchange: &Exchange) -> &str {
    if exchange.path.is_empty() {
        cut(exchange.request.uri.path())
    } else {
        cut(&exchange.path)
    }
}

/// What the configuration says of the environment.
pub(crate) struct Environment(pub(crate) Option<String>);

impl Environment {
    /// The environment of a request: `qa` is many, which tags of services tell apart.
    pub(crate) fn of<'a>(&'a self, exchange: &'a Exchange) -> Option<&'a str> {
        let own = self.0.as_deref().filter(|it| *it != "qa");
        let service = exchange.service.as_ref();
        own.or_else(|| service.and_then(|it| it.environment.as_deref()))
    }
}
