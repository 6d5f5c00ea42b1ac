//! From a remote URL and a request to the URL that is called.

use http::HeaderValue;
use http::uri::PathAndQuery;
use o28m_net::client::{Target, parse_url};

/// The remote URL is not an absolute `http` or `https` URL. It may hold credentials, so it is not
/// repeated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid remote_api_url")]
pub(crate) struct InvalidUrl;

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) target: Target,
    pub(crate) host: HeaderValue,
    pub(crate) path_and_query: PathAndQuery,
}

/// Joins `remote`, less one trailing slash, with the rest of the path and the query. Nothing is
/// decoded; bytes that no URI may hold are escaped.
///
/// # Errors
/// [`InvalidUrl`].
pub(crate) fn destination(
    remote: &str,
    rest: &str,
    query: Option<&str>,
    tls_verify: bool,
) -> Result<Destination, InvalidUrl> {
    let (scheme, after_scheme) = remote.split_once("://").ok_or(InvalidUrl)?;
    let end = after_scheme.find(['/', '?']).unwrap_or(after_scheme.len());
    let (authority, base) = after_scheme.split_at(end);
    let base = base.strip_suffix('/').unwrap_or(base);
    if base.contains('#') {
        return Err(InvalidUrl);
    }
    // The path may hold bytes that are escaped below; scheme and authority may not.
    let (mut target, _) = parse_url(&format!("{scheme}://{authority}")).ok_or(InvalidUrl)?;
    target.tls.verify = tls_verify;

    let mut text = String::with_capacity(base.len() + rest.len() + 16);
    if base.starts_with('?') || (base.is_empty() && !rest.starts_with('/')) {
        text.push('/');
    }
    let (base_path, base_query) = match base.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (base, None),
    };
    escape(&mut text, base_path, false);
    if let Some(query) = base_query {
        text.push('?');
        escape(&mut text, query, true);
    }
    escape(&mut text, rest, base_query.is_some());
    if let Some(query) = query {
        text.push('?');
        escape(&mut text, query, true);
    }
    Ok(Destination {
        target,
        host: HeaderValue::from_str(authority).map_err(|_| InvalidUrl)?,
        path_and_query: PathAndQuery::try_from(text).map_err(|_| InvalidUrl)?,
    })
}

/// Appends `part` and percent-encodes exactly the bytes that RFC 3986 allows nowhere in it.
fn escape(text: &mut String, part: &str, is_query: bool) {
    let is_bad = |byte: u8| {
        let brackets = b"[]".contains(&byte) && !is_query;
        brackets || b"{}|\\^`\"<>#".contains(&byte) || byte <= b' ' || byte >= 0x7f
    };
    if !part.bytes().any(is_bad) {
        text.push_str(part);
        return;
    }
    for character in part.chars() {
        let mut buffer = [0; 4];
        for byte in character.encode_utf8(&mut buffer).bytes() {
            if is_bad(byte) {
                text.push('%');
                text.push_str(&format!("{byte:02X}"));
            } else {
                text.push(char::from(byte));
            }
        }
    }
}

/// The host of a URL, without port; `Ok(None)` when it is a URI without host.
///
/// # Errors
/// [`InvalidUrl`] when it is no URI at all.
pub(crate) fn host_of(url: &str) -> Result<Option<&str>, InvalidUrl> {
    if url.is_empty() || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(InvalidUrl);
    }
    let Some((_, rest)) = url.split_once("://") else {
        return Ok(None);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let host = match authority.find(']') {
        Some(end) => authority.get(..=end).unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    Ok(Some(host).filter(|host| !host.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumper_case_053_paths_are_joined_byte_for_byte() {
        for (remote, rest, query, path) in [
            ("http://h", "", None, "/"),
            ("http://h", "/", None, "/"),
            ("http://h/base", "", None, "/base"),
            ("http://h/base", "/", None, "/base/"),
            ("http://h/base", "/path", None, "/base/path"),
            ("http://h/base/", "/path", None, "/base/path"),
            ("http://h/base/", "/path/", None, "/base/path/"),
            ("http://h", "/path;k=v;o=w", None, "/path;k=v;o=w"),
            ("http://h", "/path/1.1.1.1%2F32", None, "/path/1.1.1.1%2F32"),
            ("http://h/a", "", Some("x=1"), "/a?x=1"),
            ("http://h", "", Some("x=1"), "/?x=1"),
            ("http://h", "//a", Some(""), "//a?"),
            (
                "http://h",
                "/x",
                Some("validAt=2020-11-30T23%3A00%3A00%2B01%3A00&sig=123"),
                "/x?validAt=2020-11-30T23%3A00%3A00%2B01%3A00&sig=123",
            ),
            (
                "http://h",
                "/[a]",
                Some("f={\"a\":[1]}"),
                "/%5Ba%5D?f=%7B%22a%22:[1]%7D",
            ),
            ("http://h/b?k=v", "/x", None, "/b?k=v/x"),
            ("http://h/a b", "/x", None, "/a%20b/x"),
        ] {
            let found = destination(remote, rest, query, false).unwrap();
            assert_eq!(found.path_and_query.as_str(), path, "{remote} {rest}");
            assert_eq!(found.host, "h");
        }
    }

    #[test]
    fn only_absolute_http_urls_are_called() {
        for remote in [
            "",
            "h",
            "/x",
            "ftp://h",
            "http://",
            "http://u:p@h",
            "http://h#f",
        ] {
            let result = destination(remote, "/x", None, false);
            assert_eq!(result.err(), Some(InvalidUrl), "{remote}");
        }
        let found = destination("https://[::1]:8443/x", "", None, true).unwrap();
        assert_eq!((found.target.port, found.target.tls.verify), (8443, true));
        assert_eq!(found.host, "[::1]:8443");
    }

    #[test]
    fn hosts_come_without_port() {
        assert_eq!(
            host_of("https://zone.example.com:8443/x"),
            Ok(Some("zone.example.com"))
        );
        assert_eq!(host_of("https://[::1]:1"), Ok(Some("[::1]")));
        assert_eq!(host_of("zone"), Ok(None));
        assert_eq!(host_of("https:///x"), Ok(None));
        assert_eq!(host_of("not a uri"), Err(InvalidUrl));
    }
}
