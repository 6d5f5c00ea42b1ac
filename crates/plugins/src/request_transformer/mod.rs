//! request-transformer: changes a request before it goes upstream (Kong 3.9.3).
//!
//! Order of work: path, method, headers, body, query string; within each: remove, rename, replace, add,
//! append. Expressions see the request as it was before.

mod arguments;
mod body;
mod config;
mod multipart;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, Uri};
use http_body::Body as _;
use o28m_core::limits;
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind, Verdict, errors};
use o28m_net::{Body, BodyError, TooLarge};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{identity, request_size_limiting};
use arguments::Arguments;
use body::{Changes, Format};
use config::{Config, Fields, HeaderText, Plan};
use template::{EvalError, Scope, Template};

/// Bodies above this are transformed off the thread that serves requests.
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Large bodies transformed at once; more are answered with 503.
const LARGE_BODIES_MAX: usize = 4;

/// What a rendered path must not hold as it is: it would end the path or break the request line.
const PATH_ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// An expression of the subset of Lua, for other plugins.
pub(crate) struct Expression(Template);

impl Expression {
    /// Compiles it.
    ///
    /// # Errors
    /// [`BadConfig`] for what is outside the subset.
    pub(crate) fn compile(text: &str) -> Result<Self, BadConfig> {
        let template = Template::compile(&format!("$({text})"));
        match template {
            Ok(template) if template.texts().next().is_none() => Ok(Self(template)),
            Ok(_) => Err(BadConfig(format!("'{text}' is not one expression"))),
            Err(error) => Err(BadConfig(format!("'{text}': {error}"))),
        }
    }

    /// What it renders for a request; none where Lua would raise an error.
    pub(crate) fn text(&self, exchange: &Exchange) -> Option<String> {
        let query = exchange.request.uri.query().unwrap_or_default();
        let query = Arguments::decode(query.as_bytes());
        let scope = Scope {
            headers: &exchange.request.headers,
            query: &query,
            captures: &exchange.uri_captures,
            gateway_consumer: exchange.gateway_consumer.as_deref(),
        };
        let rendered = self.0.render(&scope).ok()?;
        Some(String::from_utf8_lossy(&rendered).into_owned())
    }
}

pub(crate) struct Kind {
    large_bodies: Arc<Semaphore>,
}

impl Default for Kind {
    fn default() -> Self {
        Self {
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
        }
    }
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "request-transformer"
    }

    fn is_shareable(&self) -> bool {
        true
    }

    fn priority(&self) -> i32 {
        801
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = crate::config::read(config)?;
        Ok(Arc::new(RequestTransformer {
            plan: config.compile()?,
            large_bodies: self.large_bodies.clone(),
        }))
    }
}

struct RequestTransformer {
    plan: Plan,
    large_bodies: Arc<Semaphore>,
}

/// Why a request cannot be transformed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("failed to evaluate an expression")]
    Evaluation(#[from] EvalError),
    #[error("replace.uri did not render to a path")]
    NotAPath,
    #[error("a rendered value cannot be sent")]
    Unsendable,
    #[error("too many headers")]
    TooManyHeaders,
    #[error("failed to read the request body")]
    Body(#[from] TooLarge),
    #[error("too many large bodies are being transformed")]
    Busy,
    #[error("the body transformation was aborted")]
    Aborted,
}

impl Failure {
    fn response(&self, exchange: &Exchange) -> Response<Body> {
        let (status, message) = match self {
            Self::Evaluation(_) | Self::NotAPath | Self::Aborted => {
                let error = self as &dyn std::error::Error;
                tracing::error!(request.id = %exchange.request_id, error, "request-transformer failed");
                let body = json!({"message": "An unexpected error occurred"});
                return errors::exit(StatusCode::INTERNAL_SERVER_ERROR, &body);
            }
            Self::Unsendable | Self::Body(TooLarge::Read(BodyError::Broken(_))) => {
                (StatusCode::BAD_REQUEST, "Bad request")
            }
            Self::TooManyHeaders => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Request header fields too large",
            ),
            Self::Body(TooLarge::Limit) => (StatusCode::PAYLOAD_TOO_LARGE, "Payload too large"),
            Self::Body(TooLarge::Read(BodyError::TooLarge { .. })) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                request_size_limiting::TOO_LARGE,
            ),
            Self::Body(TooLarge::Read(BodyError::Timeout)) => {
                (StatusCode::REQUEST_TIMEOUT, "Request timeout")
            }
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The upstream server is currently unavailable",
            ),
        };
        identity::error(exchange, status, message)
    }
}

/// Every value of one request, rendered before anything is changed.
struct Rendered {
    path: Option<String>,
    replace: Vec<HeaderValue>,
    add: Vec<HeaderValue>,
    append: Vec<HeaderValue>,
    body: Changes,
    querystring: Changes,
}

impl Plugin for RequestTransformer {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let rendered = match self.render(exchange) {
            Ok(rendered) => rendered,
            Err(failure) => return Access::Now(respond(exchange, Err(failure))),
        };
        if rendered.path.is_some() {
            exchange.upstream_path.clone_from(&rendered.path);
        }
        if let Some(method) = &self.plan.method {
            exchange.request.method = method.clone();
        }
        if let Err(failure) = self.change_headers(&mut exchange.request.headers, &rendered) {
            return Access::Now(respond(exchange, Err(failure)));
        }
        let work = Work {
            copies_form: self.copies_form(),
            changes_body: !self.plan.body.is_empty(),
            changes_query: !self.plan.querystring.is_empty(),
            large_bodies: self.large_bodies.clone(),
        };
        let Some((format, content_type)) = work.format(&exchange.request.headers) else {
            let changed = work.change_query(&mut exchange.request.uri, rendered.querystring, None);
            return Access::Now(respond(exchange, changed));
        };
        Access::Later(Box::pin(async move {
            let changed = work
                .change_body(exchange, rendered, format, content_type)
                .await;
            respond(exchange, changed)
        }))
    }
}

fn respond(exchange: &Exchange, result: Result<(), Failure>) -> Verdict {
    match result {
        Ok(()) => Verdict::Continue,
        Err(failure) => Verdict::Respond(failure.response(exchange)),
    }
}

impl RequestTransformer {
    fn render(&self, exchange: &Exchange) -> Result<Rendered, Failure> {
        let query = exchange.request.uri.query().unwrap_or_default();
        let query = Arguments::decode(query.as_bytes());
        let scope = Scope {
            headers: &exchange.request.headers,
            query: &query,
            captures: &exchange.uri_captures,
            gateway_consumer: exchange.gateway_consumer.as_deref(),
        };
        let plan = &self.plan;
        Ok(Rendered {
            path: plan.uri.as_ref().map(|uri| path(uri, &scope)).transpose()?,
            replace: headers(&plan.headers.replace, &scope)?,
            add: headers(&plan.headers.add, &scope)?,
            append: headers(&plan.headers.append, &scope)?,
            body: changes(&plan.body, &scope)?,
            querystring: changes(&plan.querystring, &scope)?,
        })
    }

    fn change_headers(&self, headers: &mut HeaderMap, rendered: &Rendered) -> Result<(), Failure> {
        let plan = &self.plan.headers;
        for name in &plan.remove {
            headers.remove(name);
        }
        for (old, new) in &plan.rename {
            rename(headers, old, new)?;
        }
        for ((name, _), value) in plan.replace.iter().zip(&rendered.replace) {
            if headers.contains_key(name) || *name == HOST {
                headers.insert(name, value.clone());
            }
        }
        for ((name, _), value) in plan.add.iter().zip(&rendered.add) {
            if !headers.contains_key(name) {
                put(headers, name, value)?;
            }
        }
        for ((name, _), value) in plan.append.iter().zip(&rendered.append) {
            put(headers, name, value)?;
        }
        Ok(())
    }

    /// Whether the new method is one that usually has its fields in the query string.
    fn copies_form(&self) -> bool {
        let method = self.plan.method.as_ref();
        method.is_some_and(|it| *it == Method::GET || *it == Method::HEAD || *it == Method::TRACE)
    }
}

/// One more line of a header, after those that are there.
fn put(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) -> Result<(), Failure> {
    match headers.try_append(name, value.clone()) {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::TooManyHeaders),
    }
}

fn rename(headers: &mut HeaderMap, old: &HeaderName, new: &HeaderName) -> Result<(), Failure> {
    if old == new || !headers.contains_key(old) {
        return Ok(());
    }
    let values: Vec<HeaderValue> = headers.get_all(old).iter().cloned().collect();
    headers.remove(old);
    headers.remove(new);
    for value in &values {
        put(headers, new, value)?;
    }
    Ok(())
}

fn headers(
    entries: &[(HeaderName, HeaderText)],
    scope: &Scope<'_>,
) -> Result<Vec<HeaderValue>, Failure> {
    let render = |(_, text): &(HeaderName, HeaderText)| match text {
        HeaderText::Literal(value) => Ok(value.clone()),
        HeaderText::Template(template) => {
            let text = template.render(scope)?;
            HeaderValue::from_bytes(text.trim_ascii()).map_err(|_| Failure::Unsendable)
        }
    };
    entries.iter().map(render).collect()
}

fn fields(
    entries: &[(String, Template)],
    scope: &Scope<'_>,
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let render =
        |(name, value): &(String, Template)| Ok((name.clone(), value.render(scope)?.into_owned()));
    entries.iter().map(render).collect()
}

fn changes(plan: &Fields, scope: &Scope<'_>) -> Result<Changes, Failure> {
    Ok(Changes {
        remove: plan.remove.clone(),
        rename: plan.rename.clone(),
        replace: fields(&plan.replace, scope)?,
        add: fields(&plan.add, scope)?,
        append: fields(&plan.append, scope)?,
    })
}

fn path(uri: &Template, scope: &Scope<'_>) -> Result<String, Failure> {
    let path = uri.render(scope)?;
    if !path.starts_with(b"/") {
        return Err(Failure::NotAPath);
    }
    Ok(percent_encode(&path, PATH_ESCAPED).to_string())
}

/// What is left to do once the headers are changed.
struct Work {
    copies_form: bool,
    changes_body: bool,
    changes_query: bool,
    large_bodies: Arc<Semaphore>,
}

impl Work {
    /// The body's format and content type, if the body has to be read.
    fn format(&self, headers: &HeaderMap) -> Option<(Format, String)> {
        if !self.copies_form && !self.changes_body {
            return None;
        }
        let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        // A compressed body is not what its content type says.
        if headers.contains_key(CONTENT_ENCODING) {
            return None;
        }
        let format = Format::of(content_type)?;
        let is_needed = self.changes_body || format == Format::Form;
        is_needed.then(|| (format, content_type.to_owned()))
    }

    async fn change_body(
        self,
        exchange: &mut Exchange,
        rendered: Rendered,
        format: Format,
        content_type: String,
    ) -> Result<(), Failure> {
        let body = std::mem::take(&mut exchange.body);
        if body.size_hint().lower() > limits::BODY_BUFFER_BYTES_MAX as u64 {
            return Err(Failure::Body(TooLarge::Limit));
        }
        let body = body.collect(limits::BODY_BUFFER_BYTES_MAX).await?;
        let form = (self.copies_form && format == Format::Form).then(|| body.clone());
        let changed = if self.changes_body {
            let changes = rendered.body;
            self.transform(changes, format, content_type, body.clone())
                .await?
        } else {
            None
        };
        if let Some(changed) = &changed {
            let headers = &mut exchange.request.headers;
            headers.insert(CONTENT_LENGTH, HeaderValue::from(changed.len()));
            headers.remove(TRANSFER_ENCODING);
        }
        exchange.body = Body::full(changed.map_or(body, Bytes::from));
        let uri = &mut exchange.request.uri;
        self.change_query(uri, rendered.querystring, form.as_deref())
    }

    async fn transform(
        &self,
        changes: Changes,
        format: Format,
        content_type: String,
        body: Bytes,
    ) -> Result<Option<Vec<u8>>, Failure> {
        if body.len() <= INLINE_BYTES_MAX {
            return Ok(changes.apply(format, &content_type, &body));
        }
        let permit = self.large_bodies.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Failure::Busy)?;
        let work = tokio::task::spawn_blocking(move || {
            let changed = changes.apply(format, &content_type, &body);
            drop(permit);
            changed
        });
        work.await.map_err(|_| Failure::Aborted)
    }

    /// Changes the query string and writes it sorted by name; one that stays the same is not touched.
    fn change_query(
        &self,
        uri: &mut Uri,
        changes: Changes,
        form: Option<&[u8]>,
    ) -> Result<(), Failure> {
        if !self.changes_query && form.is_none() {
            return Ok(());
        }
        let query = uri.query().unwrap_or_default();
        let before = Arguments::decode(query.as_bytes());
        let mut arguments = Arguments::decode(query.as_bytes());
        if let Some(form) = form {
            // It could not be part of a request target anyway.
            if form.len() > INLINE_BYTES_MAX {
                return Err(Failure::Unsendable);
            }
            arguments.extend(Arguments::decode(form));
        }
        changes.apply_to_arguments(&mut arguments);
        if arguments == before {
            return Ok(());
        }
        arguments.sort();
        *uri = with_query(uri, &arguments.encode())?;
        Ok(())
    }
}

fn with_query(uri: &Uri, query: &str) -> Result<Uri, Failure> {
    let path = uri.path();
    let target = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    };
    let mut parts = uri.clone().into_parts();
    let target = PathAndQuery::try_from(target).map_err(|_| Failure::Unsendable)?;
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|_| Failure::Unsendable)
}

/// Compiles and renders whatever `text` is, for tests with random input.
#[cfg(test)]
pub(crate) fn renders(text: &str) {
    let Ok(template) = Template::compile(text) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert("x", HeaderValue::from_static("12"));
    let query = Arguments::decode(b"a=1&b");
    let scope = Scope {
        headers: &headers,
        query: &query,
        captures: &[],
        gateway_consumer: None,
    };
    if let Ok(rendered) = template.render(&scope) {
        assert!(rendered.len() < 1 << 20);
    }
}

/// Reads and writes whatever `body` is; what was written reads the same again.
#[cfg(test)]
pub(crate) fn round_trip(body: &[u8]) {
    const TYPE: &str = "multipart/form-data; boundary=b";
    let Some(multipart) = multipart::Multipart::parse(TYPE, body) else {
        return;
    };
    let written = multipart.encode();
    let again = multipart::Multipart::parse(TYPE, &written);
    assert_eq!(again.map(|it| it.encode()), Some(written));
}
