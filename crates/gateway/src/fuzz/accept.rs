//! What must hold for error bodies, whatever a client says that it accepts.

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use o28m_net::Body;

use crate::ErrorForms;
use crate::errors::{self, Forms};

const ID: &str = "0123456789abcdef0123456789abcdef";
/// What error bodies are said to be.
const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const XML: &str = "application/xml; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Error bodies: the first line is the message, the others are lines of `Accept`.
///
/// # Panics
/// When the form is another than a literal reading of the rule chooses, or the body is not of that form.
pub fn accept(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let message = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let mut headers = HeaderMap::new();
    for value in lines.filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        headers.append(ACCEPT, value);
    }
    let wanted = chosen(&headers);
    let Ok(forms) = Forms::new(&ErrorForms::default()) else {
        return;
    };
    let status = StatusCode::BAD_GATEWAY;
    let core = errors::respond(status, &message, &headers, ID);
    check(core, &message, wanted.unwrap_or(JSON));
    let server = errors::server(&forms, status, &message, &headers, ID);
    check(server, &message, wanted.unwrap_or(PLAIN));
    // What a request is says what it accepts, when it does not say that itself.
    if let (false, Some(accept)) = (headers.is_empty(), headers.get(ACCEPT)) {
        let mut typed = HeaderMap::new();
        typed.insert(CONTENT_TYPE, accept.clone());
        let answer = errors::server(&forms, status, &message, &typed, ID);
        let kind = answer.headers().get(CONTENT_TYPE).cloned();
        let known = [JSON, HTML, XML, PLAIN, ""];
        assert!(kind.is_some_and(|kind| known.iter().any(|it| kind == *it)));
    }
}

/// The content type that the lines ask for, read element by element; `None` without a line.
fn chosen(headers: &HeaderMap) -> Option<&'static str> {
    let lines: Vec<&HeaderValue> = headers.get_all(ACCEPT).iter().collect();
    if lines.is_empty() {
        return None;
    }
    let texts: Vec<&str> = lines.iter().filter_map(|line| line.to_str().ok()).collect();
    let joined = texts.join(",");
    let mut ranges: Vec<(String, f32)> = Vec::new();
    for element in joined.split(',') {
        let parts: Vec<&str> = element.split(';').map(str::trim).collect();
        let Some((media_type, parameters)) = parts.split_first() else {
            continue;
        };
        let halves: Vec<&str> = media_type.splitn(2, '/').collect();
        let sound = |half: &&str| !half.is_empty() && !half.chars().any(char::is_whitespace);
        if halves.len() != 2 || !halves.iter().all(sound) {
            continue;
        }
        let is_quality = |it: &&&str| it.to_ascii_lowercase().starts_with("q=");
        let quality = match parameters.iter().find(is_quality) {
            None => Some(1.0),
            Some(parameter) => parameter.get(2..).and_then(|text| text.parse().ok()),
        };
        if let Some(quality) = quality.filter(|it| (0.0..=1.0).contains(it)) {
            ranges.push((media_type.to_ascii_lowercase(), quality));
        }
    }
    ranges.retain(|(_, quality)| *quality > 0.0);
    // Stable: of equal ones the first stays first.
    ranges.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    let first = ranges.first().map(|(media_type, _)| media_type.as_str());
    Some(match first {
        Some("text/html") => HTML,
        Some("application/xml") => XML,
        Some("text/plain" | "text/*") => PLAIN,
        Some(it) if it.starts_with("application/grpc") => "",
        _ => JSON,
    })
}

/// Whether a body is what its type says, and says the message.
fn check(mut response: Response<Body>, message: &str, content_type: &str) {
    let headers = response.headers().clone();
    let header = |name| {
        headers
            .get(name)
            .and_then(|it: &HeaderValue| it.to_str().ok())
    };
    assert_eq!(header(CONTENT_TYPE), Some(content_type), "{message:?}");
    let body = match std::mem::take(response.body_mut()) {
        Body::Full(Some(bytes)) => bytes,
        Body::Empty | Body::Full(None) | Body::Stream(_) => bytes::Bytes::new(),
    };
    assert_eq!(
        header(CONTENT_LENGTH),
        Some(body.len().to_string().as_str())
    );
    assert!(std::str::from_utf8(&body).is_ok(), "{body:?}");
    let text = &*String::from_utf8_lossy(&body);
    match content_type {
        JSON => {
            let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
            let wanted = serde_json::json!({"message": message, "request_id": ID});
            assert_eq!(value, Some(wanted), "{text:?}");
        }
        HTML | XML => {
            let start = if content_type == HTML {
                "<p>"
            } else {
                "<message>"
            };
            let inner = text.split_once(start).map(|(_, rest)| rest);
            let inner = inner
                .and_then(|it| it.split_once('<'))
                .map(|(inner, _)| inner);
            let inner = inner.unwrap_or_default();
            let inner = if content_type == HTML {
                inner.strip_suffix('.').unwrap_or_default()
            } else {
                inner
            };
            assert!(!inner.contains(['>', '"', '\'']), "{text:?}");
            let plain = inner.replace("&lt;", "<").replace("&gt;", ">");
            let plain = plain.replace("&quot;", "\"").replace("&#39;", "'");
            assert_eq!(plain.replace("&amp;", "&"), message);
        }
        PLAIN => assert_eq!(text, format!("{message}\nrequest_id: {ID}\n")),
        _ => assert_eq!(text, ""),
    }
}
