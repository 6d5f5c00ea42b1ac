//! The one place that turns failures into response bodies (spec gateway-proxy 6).

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use o28m_net::Body;

use crate::error_templates::Templates;
use crate::grpc::Negotiated;
use crate::{Error, ErrorForms};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// The shape of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Html,
    Xml,
    Plain,
    /// For `Accept: application/grpc` on a connection that cannot carry gRPC.
    Nothing,
}

/// A core or plugin error in the form the request's `Accept` asks for, JSON without one (path A).
#[must_use]
pub fn respond(
    status: StatusCode,
    message: &str,
    request_headers: &HeaderMap,
    request_id: &str,
) -> Response<Body> {
    let format = accepted(request_headers).unwrap_or(Format::Json);
    let mut response = render(status, message, format, request_id);
    response.extensions_mut().insert(Negotiated);
    response
}

/// What was chosen of the forms.
pub(crate) struct Forms {
    /// For errors of the server underneath, when the request says nothing.
    default: Format,
    templates: Option<Box<Templates>>,
    /// Messages do not name hosts and causes.
    pub(crate) minimal: bool,
}

impl Forms {
    pub(crate) fn new(settings: &ErrorForms) -> Result<Self, Error> {
        Ok(Self {
            default: match settings.default_type.as_str() {
                "" | "text/plain" => Format::Plain,
                "text/html" => Format::Html,
                "application/json" => Format::Json,
                "application/xml" => Format::Xml,
                other => return Err(Error::ErrorType(other.to_owned())),
            },
            templates: Templates::new(settings)?,
            minimal: settings.minimal,
        })
    }

    /// Puts an error that was made here, or by a plugin with the means of this module, into the form of
    /// its template, where there is one.
    pub(crate) fn fill(&self, response: &mut Response<Body>, request_id: &str) {
        let Some(templates) = &self.templates else {
            return;
        };
        let Some(made) = response.extensions_mut().remove::<Made>() else {
            return;
        };
        let message = escaped(&made.message, made.format);
        if let Some(body) = templates.fill(made.format, &message, request_id) {
            let length = HeaderValue::from(body.len());
            response.headers_mut().insert(CONTENT_LENGTH, length);
            *response.body_mut() = Body::full(body);
        }
    }
}

/// What an error body was made of, in the response's extensions.
#[derive(Clone)]
struct Made {
    message: Arc<str>,
    format: Format,
}

/// A message that fits into a body of the format.
fn escaped(message: &str, format: Format) -> Cow<'_, str> {
    match format {
        Format::Html | Format::Xml => escape_markup(message),
        Format::Json => {
            let quoted = serde_json::Value::from(message).to_string();
            let inner = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            Cow::Owned(inner.unwrap_or_default().to_owned())
        }
        Format::Plain | Format::Nothing => Cow::Borrowed(message),
    }
}

/// An error of the server underneath: by `Accept`, else by the request's `Content-Type`, else in the
/// default form (path B). The message is the status's.
pub(crate) fn server(
    forms: &Forms,
    status: StatusCode,
    message: &str,
    request_headers: &HeaderMap,
    request_id: &str,
) -> Response<Body> {
    let by_type = || {
        let value = request_headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = value.split(';').next().unwrap_or_default();
        Some(format_of(&media_type.trim().to_ascii_lowercase()))
    };
    let format = accepted(request_headers).or_else(by_type);
    render(status, message, format.unwrap_or(forms.default), request_id)
}

/// What a plugin answers by itself: compact JSON without request id (style X).
#[must_use]
pub fn exit(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    finish(status, JSON, body.to_string())
}

/// Kong's message for a status whose sender gave none.
#[must_use]
pub fn default_message(status: StatusCode) -> Cow<'static, str> {
    let known = MESSAGES.iter().find(|(code, _)| *code == status.as_u16());
    known.map_or_else(
        || {
            Cow::Owned(format!(
                "The upstream server responded with {}",
                status.as_u16()
            ))
        },
        |(_, message)| Cow::Borrowed(*message),
    )
}

const MESSAGES: &[(u16, &str)] = &[
    (400, "Bad request"),
    (401, "Unauthorized"),
    (402, "Payment required"),
    (403, "Forbidden"),
    (404, "Not found"),
    (405, "Method not allowed"),
    (406, "Not acceptable"),
    (407, "Proxy authentication required"),
    (408, "Request timeout"),
    (409, "Conflict"),
    (410, "Gone"),
    (411, "Length required"),
    (412, "Precondition failed"),
    (413, "Payload too large"),
    (414, "URI too long"),
    (415, "Unsupported media type"),
    (416, "Range not satisfiable"),
    (417, "Expectation failed"),
    (418, "I'm a teapot"),
    (421, "Misdirected request"),
    (422, "Unprocessable entity"),
    (423, "Locked"),
    (424, "Failed dependency"),
    (425, "Too early"),
    (426, "Upgrade required"),
    (428, "Precondition required"),
    (429, "Too many requests"),
    (431, "Request header fields too large"),
    (451, "Unavailable for legal reasons"),
    (494, "Request header or cookie too large"),
    (500, "An unexpected error occurred"),
    (501, "Not implemented"),
    (
        502,
        "An invalid response was received from the upstream server",
    ),
    (503, "The upstream server is currently unavailable"),
    (504, "The upstream server is timing out"),
    (505, "HTTP version not supported"),
    (506, "Variant also negotiates"),
    (507, "Insufficient storage"),
    (508, "Loop detected"),
    (510, "Not extended"),
    (511, "Network authentication required"),
];

/// The form that `Accept` asks for; `None` when there is no usable one.
fn accepted(headers: &HeaderMap) -> Option<Format> {
    let mut best = (0.0, None);
    let lines = headers.get_all(ACCEPT).iter();
    let elements = lines.filter_map(|line| line.to_str().ok());
    for element in elements.flat_map(|line| line.split(',')) {
        let Some((media_type, quality)) = media_range(element) else {
            continue;
        };
        if quality > best.0 {
            best = (quality, Some(media_type));
        }
    }
    if let Some(media_type) = best.1 {
        return Some(format_of(&media_type.to_ascii_lowercase()));
    }
    // A header without a usable element still counts as one; Kong answers it with JSON.
    headers.contains_key(ACCEPT).then_some(Format::Json)
}

/// Media type and quality of one element of `Accept`.
fn media_range(element: &str) -> Option<(&str, f32)> {
    let mut parts = element.split(';').map(str::trim);
    let media_type = parts.next()?;
    let (kind, subtype) = media_type.split_once('/')?;
    let is_token = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    if !is_token(kind) || !is_token(subtype) {
        return None;
    }
    let quality = parts.find_map(|it| it.strip_prefix("q=").or_else(|| it.strip_prefix("Q=")));
    let quality = match quality {
        Some(text) => text.parse().ok().filter(|it| (0.0..=1.0).contains(it))?,
        None => 1.0,
    };
    Some((media_type, quality))
}

fn format_of(media_type: &str) -> Format {
    match media_type {
        "text/html" => Format::Html,
        "application/xml" => Format::Xml,
        "text/plain" | "text/*" => Format::Plain,
        it if it.starts_with("application/grpc") => Format::Nothing,
        _ => Format::Json,
    }
}

fn render(status: StatusCode, message: &str, format: Format, id: &str) -> Response<Body> {
    let mut response = built_in(status, &escaped(message, format), format, id);
    response.extensions_mut().insert(Made {
        message: message.into(),
        format,
    });
    response
}

/// Kong's own form; the message is escaped.
fn built_in(status: StatusCode, message: &str, format: Format, id: &str) -> Response<Body> {
    let media_type = HeaderValue::from_static;
    match format {
        Format::Json => {
            let body = format!("{{\n  \"message\":\"{message}\",\n  \"request_id\":\"{id}\"\n}}");
            finish(status, JSON, body)
        }
        Format::Plain => {
            let body = format!("{message}\nrequest_id: {id}\n");
            finish(status, media_type("text/plain; charset=utf-8"), body)
        }
        Format::Xml => {
            let body = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{message}</message>\n  \
                 <requestid>{id}</requestid>\n</error>\n"
            );
            finish(status, media_type("application/xml; charset=utf-8"), body)
        }
        Format::Html => {
            let body = format!(
                "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    \
                 <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    \
                 <p>{message}.</p>\n    <p>request_id: {id}</p>\n  </body>\n</html>\n"
            );
            finish(status, media_type("text/html; charset=utf-8"), body)
        }
        Format::Nothing => finish(status, media_type(""), String::new()),
    }
}

/// Kong inserts messages as they are, which lets a configured one break or inject markup.
fn escape_markup(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

fn finish(status: StatusCode, media_type: HeaderValue, body: String) -> Response<Body> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    async fn text(response: Response<Body>) -> String {
        let bytes = response.into_body().collect(4096).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn media_type(response: &Response<Body>) -> String {
        response.headers()[CONTENT_TYPE]
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[tokio::test]
    async fn bodies_are_exact_in_every_format() {
        let html = "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  \
                    </head>\n  <body>\n    <h1>Error</h1>\n    <p>no.</p>\n    <p>request_id: \
                    0123456789abcdef0123456789abcdef</p>\n  </body>\n</html>\n";
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>no</message>\n  \
                   <requestid>0123456789abcdef0123456789abcdef</requestid>\n</error>\n";
        let json =
            "{\n  \"message\":\"no\",\n  \"request_id\":\"0123456789abcdef0123456789abcdef\"\n}";
        let plain = "no\nrequest_id: 0123456789abcdef0123456789abcdef\n";
        for (accept, kind, body) in [
            ("text/html", "text/html; charset=utf-8", html),
            ("application/xml", "application/xml; charset=utf-8", xml),
            ("application/json", "application/json; charset=utf-8", json),
            ("text/plain", "text/plain; charset=utf-8", plain),
        ] {
            let response = respond(
                StatusCode::NOT_FOUND,
                "no",
                &headers(&[("accept", accept)]),
                ID,
            );
            assert_eq!(media_type(&response), kind);
            assert_eq!(response.headers()[CONTENT_LENGTH], body.len().to_string());
            assert_eq!(text(response).await, body);
        }
    }

    #[tokio::test]
    async fn proxy_case_033_accept_chooses_the_format() {
        for (accept, kind) in [
            (
                "application/json;q=0.9,text/html,text/plain;q=0.9",
                "text/html; charset=utf-8",
            ),
            ("text/xml", "application/json; charset=utf-8"),
            ("image/png", "application/json; charset=utf-8"),
            ("*/*", "application/json; charset=utf-8"),
            ("application/*", "application/json; charset=utf-8"),
            ("text/*", "text/plain; charset=utf-8"),
            (
                "text/html;q=0, application/xml;q=0.1",
                "application/xml; charset=utf-8",
            ),
            (
                "text/html;q=7, text/plain;q=0.5",
                "text/plain; charset=utf-8",
            ),
            ("nonsense", "application/json; charset=utf-8"),
            ("application/grpc", ""),
        ] {
            let response = respond(
                StatusCode::NOT_FOUND,
                "no",
                &headers(&[("accept", accept)]),
                ID,
            );
            assert_eq!(media_type(&response), kind, "{accept}");
        }
        let lines = headers(&[("accept", "text/plain;q=0.5"), ("accept", "text/html")]);
        let response = respond(StatusCode::NOT_FOUND, "no", &lines, ID);
        assert_eq!(media_type(&response), "text/html; charset=utf-8");
    }

    #[tokio::test]
    async fn server_errors_fall_back_to_the_content_type_and_then_to_plain_text() {
        let bad = StatusCode::BAD_GATEWAY;
        let forms = Forms::new(&ErrorForms::default()).unwrap();
        let kind = |lines: &[(&'static str, &str)]| {
            media_type(&server(&forms, bad, "no", &headers(lines), ID))
        };
        assert_eq!(kind(&[]), "text/plain; charset=utf-8");
        assert_eq!(
            kind(&[("content-type", "application/json")]),
            "application/json; charset=utf-8"
        );
        assert_eq!(
            kind(&[("content-type", "Text/HTML; charset=x")]),
            "text/html; charset=utf-8"
        );
        let both = [("accept", "application/xml"), ("content-type", "text/html")];
        assert_eq!(kind(&both), "application/xml; charset=utf-8");
    }

    #[tokio::test]
    async fn messages_are_escaped_for_their_format() {
        let message = "say \"<hi>\" & 'bye'";
        let json = respond(StatusCode::FORBIDDEN, message, &HeaderMap::new(), ID);
        let parsed: serde_json::Value = serde_json::from_str(&text(json).await).unwrap();
        assert_eq!(parsed["message"], message);
        let html = respond(
            StatusCode::FORBIDDEN,
            message,
            &headers(&[("accept", "text/html")]),
            ID,
        );
        assert!(
            text(html)
                .await
                .contains("say &quot;&lt;hi&gt;&quot; &amp; &#39;bye&#39;.")
        );
    }

    #[tokio::test]
    async fn exits_are_compact_json() {
        let response = exit(
            StatusCode::UNAUTHORIZED,
            &json!({"message": "Unauthorized"}),
        );
        assert_eq!(media_type(&response), "application/json; charset=utf-8");
        assert_eq!(text(response).await, "{\"message\":\"Unauthorized\"}");
    }

    #[test]
    fn every_status_has_a_message() {
        assert_eq!(default_message(StatusCode::URI_TOO_LONG), "URI too long");
        let odd = StatusCode::from_u16(599).unwrap();
        assert_eq!(
            default_message(odd),
            "The upstream server responded with 599"
        );
    }
}
