//! Judges the head of a request by the rules that HTTP/1 heads are judged by (`server/head.rs`). What
//! is malformed by HTTP/2's own rules was reset by the library before it comes here.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::Rejection;
use crate::server::HeadLimits;
use crate::server::head::{
    Checked, Refusal, TOO_LARGE, bad, decimal, is_authority, is_method, is_quoted, is_target,
};

/// Bytes of a request line besides its method and target.
const LINE_REST_BYTES: usize = "  HTTP/1.1\r\n".len();
/// Bytes of a header line besides its name and value.
const FIELD_REST_BYTES: usize = ": \r\n".len();

/// A sound request.
pub(super) struct Sound {
    /// The head as services see it: origin-form target, `Host`, one `Cookie`.
    pub(super) parts: Parts,
    /// Bytes of the body, where they are announced.
    pub(super) length: Option<u64>,
    /// The client waits for 100 before it sends the body.
    pub(super) expects_continue: bool,
    /// The client takes trailers.
    pub(super) trailers: bool,
}

/// Takes a head, or says why not.
pub(super) fn judge(mut parts: Parts, limits: &HeadLimits) -> Result<Sound, Box<Rejection>> {
    match check(&mut parts, limits) {
        Ok((length, expects_continue)) => Ok(Sound {
            trailers: wants_trailers(&parts.headers),
            parts,
            length,
            expects_continue,
        }),
        Err(refusal) => Err(Box::new(Rejection {
            status: refusal.status,
            reason: refusal.reason,
            head: Some(parts),
        })),
    }
}

fn check(parts: &mut Parts, limits: &HeadLimits) -> Checked<(Option<u64>, bool)> {
    let uri = std::mem::take(&mut parts.uri);
    let target = uri.path_and_query().map_or("", |it| it.as_str());
    // Whatever follows, logs and error bodies see no more than the path.
    if let Ok(origin) = target.parse() {
        parts.uri = origin;
    }
    check_sizes(parts, target, limits)?;
    if !parts.method.as_str().bytes().all(is_method) {
        return Err(bad("invalid method"));
    }
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            reason: "method not allowed",
        });
    }
    check_target(parts, target)?;
    check_scheme(&uri)?;
    set_host(&mut parts.headers, &uri)?;
    if parts.headers.values().any(is_padded) {
        return Err(bad("whitespace around a header value"));
    }
    let length = content_length(&parts.headers)?;
    join_cookies(&mut parts.headers);
    let mut expected = parts.headers.get_all(EXPECT).iter();
    let expects_continue = expected.any(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    Ok((length, expects_continue))
}

/// The limits of HTTP/1, by what the head would have there.
fn check_sizes(parts: &Parts, target: &str, limits: &HeadLimits) -> Checked<()> {
    let line = parts.method.as_str().len() + target.len() + LINE_REST_BYTES;
    if line > limits.line_bytes_max {
        return Err(Refusal {
            status: StatusCode::URI_TOO_LONG,
            reason: "request line too long",
        });
    }
    let mut head = line;
    for (name, value) in &parts.headers {
        let field = name.as_str().len() + value.len() + FIELD_REST_BYTES;
        head += field;
        if field > limits.line_bytes_max || head > limits.head_bytes_max {
            return Err(TOO_LARGE);
        }
    }
    if parts.headers.len() > limits.lines_max {
        return Err(TOO_LARGE);
    }
    Ok(())
}

fn check_target(parts: &mut Parts, target: &str) -> Checked<()> {
    if !target.bytes().all(is_target) {
        return Err(bad("invalid character in request target"));
    }
    if !target.starts_with('/') {
        return Err(bad("request target is not a path"));
    }
    let target = if target.bytes().any(is_quoted) {
        quoted(target).parse().ok()
    } else {
        Some(std::mem::take(&mut parts.uri))
    };
    parts.uri = target.ok_or(bad("invalid request target"))?;
    Ok(())
}

/// The target with what a URI must escape escaped, as [`crate::server::head::quoted`] does.
fn quoted(target: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(target.len() + 64);
    for byte in target.bytes() {
        if is_quoted(byte) {
            let _infallible = write!(out, "%{byte:02X}");
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

/// The library tells a scheme where there is an authority.
fn check_scheme(uri: &Uri) -> Checked<()> {
    match uri.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(bad("unknown scheme")),
    }
}

/// One host, from `:authority`, `host`, or both when they agree (RFC 9113 section 8.3.1).
fn set_host(headers: &mut HeaderMap, uri: &Uri) -> Checked<()> {
    let mut lines = headers.get_all(HOST).iter();
    let (line, more) = (lines.next(), lines.next());
    if more.is_some() {
        return Err(bad("more than one Host"));
    }
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let told = match (authority, line) {
        (Some(authority), Some(line)) => {
            if !line.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                return Err(bad("Host differs from :authority"));
            }
            authority.as_bytes()
        }
        (Some(authority), None) => authority.as_bytes(),
        (None, Some(line)) => line.as_bytes(),
        (None, None) => return Err(bad("missing Host")),
    };
    if !is_authority(told) {
        return Err(bad("invalid Host"));
    }
    if let Some(authority) = authority {
        let host = HeaderValue::from_str(authority).map_err(|_| bad("invalid Host"))?;
        headers.insert(HOST, host);
    }
    Ok(())
}

/// HTTP/1 cannot tell such whitespace from its own, so both sides of us would see other values.
fn is_padded(value: &HeaderValue) -> bool {
    let is_space = |it: &u8| matches!(it, b' ' | b'\t');
    let bytes = value.as_bytes();
    bytes.first().is_some_and(is_space) || bytes.last().is_some_and(is_space)
}

fn content_length(headers: &HeaderMap) -> Checked<Option<u64>> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(bad("more than one Content-Length")),
        (Some(value), None) => {
            let length = decimal(value.as_bytes());
            Ok(Some(length.ok_or(bad("invalid Content-Length"))?))
        }
    }
}

/// HTTP/2 may split the field, all others must not see that (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (lines.next(), lines.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for line in headers.get_all(COOKIE).iter().skip(1) {
        // An empty line would leave whitespace at the end, which HTTP/1 does not read as sent.
        if !joined.is_empty() && !line.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(line.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(COOKIE, joined);
    }
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TE).iter();
    lines.any(|it| it.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(method: &str, uri: &str, lines: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn refused(method: &str, uri: &str, lines: &[(&str, &str)]) -> (u16, &'static str) {
        match judge(parts(method, uri, lines), &HeadLimits::default()) {
            Ok(_) => (200, ""),
            Err(rejection) => (rejection.status.as_u16(), rejection.reason),
        }
    }

    #[test]
    fn heads_are_refused_as_those_of_http1_are() {
        let long = "x".repeat(9000);
        let path = format!("http://a/{long}");
        let lines: Vec<_> = (0..1001).map(|at| (format!("n{at}"), "1")).collect();
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        let filler = "y".repeat(8000);
        let large: Vec<_> = ["a", "b", "c", "d", "e"]
            .map(|name| (name, filler.as_str()))
            .into();
        let ok = (200, "");
        for (method, uri, lines, wanted) in [
            ("GET", "http://a/", &[][..], ok),
            ("GET", "http://a/", &[("host", "A")], ok),
            ("GET", "/", &[("host", "a:80")], ok),
            ("GET", "/", &[], (400, "missing Host")),
            (
                "GET",
                "http://a/",
                &[("host", "b")],
                (400, "Host differs from :authority"),
            ),
            (
                "GET",
                "/",
                &[("host", "a"), ("host", "a")],
                (400, "more than one Host"),
            ),
            ("GET", "/", &[("host", "a/b")], (400, "invalid Host")),
            ("GET", "http://u@a/", &[], (400, "invalid Host")),
            ("GET", "http://a:99999/", &[], (400, "invalid Host")),
            ("GET", "ftp://a/", &[], (400, "unknown scheme")),
            (
                "OPTIONS",
                "*",
                &[("host", "a")],
                (400, "request target is not a path"),
            ),
            ("get", "http://a/", &[], (400, "invalid method")),
            ("TRACE", "http://a/", &[], (405, "method not allowed")),
            ("CONNECT", "a:80", &[], (405, "method not allowed")),
            ("GET", path.as_str(), &[], (414, "request line too long")),
            (
                "GET",
                "http://a/",
                &[("x", long.as_str())],
                (400, Rejection::TOO_LARGE),
            ),
            ("GET", "http://a/", &large, (400, Rejection::TOO_LARGE)),
            ("GET", "http://a/", &lines, (400, Rejection::TOO_LARGE)),
            (
                "GET",
                "http://a/",
                &[("x", " 1")],
                (400, "whitespace around a header value"),
            ),
            (
                "GET",
                "http://a/",
                &[("x", "1\t")],
                (400, "whitespace around a header value"),
            ),
            (
                "GET",
                "http://a/",
                &[("content-length", "+1")],
                (400, "invalid Content-Length"),
            ),
            (
                "GET",
                "http://a/",
                &[("content-length", "1"), ("content-length", "1")],
                (400, "more than one Content-Length"),
            ),
        ] {
            let shown = &uri[..uri.len().min(30)];
            assert_eq!(
                refused(method, uri, lines),
                wanted,
                "{method} {shown} {:?}",
                lines.first()
            );
        }
    }

    #[test]
    fn services_see_what_http1_would_show_them() {
        let lines = [
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("te", "trailers"),
            ("content-length", "7"),
        ];
        let request = parts("POST", "https://Example.com:8443/a\"?b", &lines);
        let sound = judge(request, &HeadLimits::default()).ok().unwrap();
        assert_eq!(sound.parts.uri, "/a%22?b");
        assert_eq!(sound.parts.headers[HOST], "Example.com:8443");
        assert_eq!(sound.parts.headers[COOKIE], "a=1; b=2");
        assert_eq!(sound.parts.headers.get_all(COOKIE).iter().count(), 1);
        assert_eq!(
            (sound.length, sound.trailers, sound.expects_continue),
            (Some(7), true, false)
        );
    }
}
