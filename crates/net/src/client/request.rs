//! A request on its way to an HTTP/1 upstream: its head, and how its body is told.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body::Body as _;

use crate::Body;
use crate::outgoing::{Coding, Outgoing, push_decimal};
use crate::server::head::is_field_text;
use crate::spelling::{push_fields, push_line};
use crate::transport::spare;

/// A request for an HTTP/1 upstream, with its head written. Trailers of requests are not sent, as at
/// nginx.
pub struct WrittenRequest {
    pub(super) message: Outgoing,
    /// The response has no body: it answers `HEAD`.
    pub(super) bodyless: bool,
    /// The request asks to leave HTTP.
    pub(super) upgrading: bool,
    /// A kept connection is to be looked at before it takes the request: what becomes of it there
    /// cannot be repaired by sending it again.
    pub(super) probes: bool,
}

/// Writes the head of a request field by field, which costs a fraction of a map of them.
pub struct RequestWriter {
    head: Vec<u8>,
    method: Method,
    upgrading: bool,
}

impl RequestWriter {
    /// Begins a request; `target` is path and query.
    #[must_use]
    pub fn new(method: &Method, target: &http::Uri) -> Self {
        let mut head = spare::take();
        head.extend_from_slice(method.as_str().as_bytes());
        head.push(b' ');
        let target = target.path_and_query().map_or("/", |it| it.as_str());
        head.extend_from_slice(target.as_bytes());
        head.extend_from_slice(b" HTTP/1.1\r\n");
        Self {
            head,
            method: method.clone(),
            upgrading: false,
        }
    }

    /// Writes a field with its name as it is spelled here; leaves it out when the value has bytes that no
    /// value may have. Fields that frame the body are left to [`RequestWriter::finish`].
    pub fn field(&mut self, name: &'static str, value: &[u8]) {
        if is_field_text(value) {
            self.line(name, value);
        }
    }

    /// [`RequestWriter::field`] for a value that was looked at when it was made.
    pub fn value(&mut self, name: &'static str, value: &HeaderValue) {
        self.line(name, value.as_bytes());
    }

    fn line(&mut self, name: &'static str, value: &[u8]) {
        self.upgrading |= name.eq_ignore_ascii_case(UPGRADE.as_str());
        push_line(&mut self.head, name.as_bytes(), value);
    }

    /// Writes the fields of a message that `keeps` says, as they came with it.
    pub fn fields(
        &mut self,
        headers: &HeaderMap,
        extensions: &Extensions,
        keeps: impl Fn(&HeaderName) -> bool,
    ) {
        let mut upgrading = false;
        push_fields(&mut self.head, headers, extensions, |name| {
            let kept = *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING && keeps(name);
            upgrading |= kept && *name == UPGRADE;
            kept
        });
        self.upgrading |= upgrading;
    }

    /// Ends the head with the field that frames the body.
    #[must_use]
    pub fn finish(self, body: Body) -> WrittenRequest {
        self.framed(body, None)
    }

    /// [`RequestWriter::finish`] for a body that need not know its own length.
    fn framed(mut self, body: Body, stated: Option<u64>) -> WrittenRequest {
        let length = body.size_hint().exact().or(stated);
        match length {
            Some(0) if !expects_body(&self.method) => {}
            Some(length) => {
                self.head.extend_from_slice(b"Content-Length: ");
                push_decimal(&mut self.head, length);
                self.head.extend_from_slice(b"\r\n");
            }
            None => self
                .head
                .extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
        self.head.extend_from_slice(b"\r\n");
        let coding = length.map_or(Coding::CHUNKED, Coding::Length);
        WrittenRequest {
            message: Outgoing::new(self.head, coding, body),
            bodyless: self.method == Method::HEAD,
            upgrading: self.upgrading,
            probes: !matches!(self.method, Method::GET | Method::HEAD),
        }
    }
}

impl From<Request<Body>> for WrittenRequest {
    fn from(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let mut writer = RequestWriter::new(&parts.method, &parts.uri);
        writer.fields(&parts.headers, &parts.extensions, |_| true);
        writer.framed(body, stated(&parts.headers))
    }
}

/// The length that the request states of a body that does not know its own.
fn stated(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    value.parse().ok()
}

/// Methods whose missing body is worth a word (RFC 9110 section 8.6).
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
