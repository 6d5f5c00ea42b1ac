//! Which redirect URIs a client may use (Keycloak 26.5 `RedirectUtils`, stricter where that is an
//! open door: no user information, no wildcard inside host names, no dot segments behind wildcards).

use crate::model::{Client, Fields as _};

/// Rounds of percent-decoding that are looked behind for dot segments.
const DECODINGS: usize = 5;
/// Longest redirect URI.
const BYTES_MAX: usize = 4000;
/// Schemes that run code in a browser.
const SCRIPT_SCHEMES: &[&str] = &["javascript", "data", "vbscript"];

/// The absolute redirect URIs registered for a client. `base` is the server's own URL, to which
/// relative ones are resolved unless the client has a root URL.
pub(crate) fn registered(client: &Client, base: &str) -> Vec<String> {
    resolve(client, base, client.body.rep.texts("redirectUris"))
}

/// The absolute URIs a client may send people to after a logout: `+` and nothing stand for its redirect
/// URIs, `-` for none.
pub(crate) fn registered_after_logout(client: &Client, base: &str) -> Vec<String> {
    let own = client
        .attribute("post.logout.redirect.uris")
        .unwrap_or_default();
    let mut uris = Vec::new();
    for uri in own.split("##") {
        match uri.trim() {
            "-" => {}
            "" | "+" => uris.extend(client.body.rep.texts("redirectUris")),
            uri => uris.push(uri.to_owned()),
        }
    }
    resolve(client, base, uris)
}

/// These URIs of a client, absolute: relative ones are below its root URL, else below this server.
pub(crate) fn resolve(client: &Client, base: &str, uris: Vec<String>) -> Vec<String> {
    let root = client.body.rep.text("rootUrl").unwrap_or_default();
    let root = root
        .replace("${authBaseUrl}", base)
        .replace("${authAdminUrl}", base);
    let root = if root.is_empty() {
        crate::token::url_origin(base).unwrap_or_default()
    } else {
        root.trim_end_matches('/').to_owned()
    };
    let absolute = |uri: String| {
        if uri.starts_with('/') {
            format!("{root}{uri}")
        } else {
            uri
        }
    };
    uris.into_iter().map(absolute).collect()
}

/// The URI to use when the request names none: the only one there is, without its wildcard.
pub(crate) fn single(registered: &[String]) -> Option<String> {
    let [one] = registered else { return None };
    let plain = one.split("/*").next().unwrap_or(one);
    find(registered, plain)
}

/// The URI as it is used, if it is registered.
pub(crate) fn find(registered: &[String], asked: &str) -> Option<String> {
    let uri = Uri::parse(asked)?;
    let fits = |candidate: &str| {
        registered.iter().any(|it| {
            let it = lower_origin(it);
            it == candidate || uri.fits_wildcard(&it, candidate)
        })
    };
    let without_port = uri.without_loopback_port();
    let found = fits(&uri.text) || without_port.as_deref().is_some_and(fits);
    found.then_some(uri.text)
}

/// An absolute URI in ASCII, its scheme and host in lower case.
struct Uri {
    text: String,
    scheme_end: usize,
    /// Where host and port begin and end; nothing for URIs without.
    authority: Option<(usize, usize)>,
}

impl Uri {
    fn parse(asked: &str) -> Option<Self> {
        let sound = |it: u8| it.is_ascii_graphic() && !br##"\"<>{}|^`#"##.contains(&it);
        if asked.len() > BYTES_MAX || !asked.bytes().all(sound) {
            return None;
        }
        let text = lower_origin(asked);
        let scheme_end = text.find(':')?;
        let scheme = text.get(..scheme_end)?;
        let first = scheme.bytes().next()?;
        let is_scheme = |it: u8| it.is_ascii_alphanumeric() || b"+-.".contains(&it);
        if !first.is_ascii_alphabetic() || !scheme.bytes().all(is_scheme) {
            return None;
        }
        if SCRIPT_SCHEMES.contains(&scheme) || scheme == "urn" {
            return None;
        }
        let begin = scheme_end + 3;
        let authority = match text.get(scheme_end..begin) {
            Some("://") => {
                let rest = text.get(begin..)?;
                let length = rest.find(['/', '?']).unwrap_or(rest.len());
                Some((begin, begin + length))
            }
            _ => None,
        };
        let is_web = matches!(scheme, "http" | "https");
        let host = match authority {
            Some((begin, end)) => text.get(begin..end)?,
            None => "",
        };
        if host.contains('@') || (is_web && host.is_empty()) {
            return None;
        }
        Some(Self {
            text,
            scheme_end,
            authority,
        })
    }

    fn is_web(&self) -> bool {
        matches!(self.text.get(..self.scheme_end), Some("http" | "https"))
    }

    /// A loopback URI without its port: programs listen on any (RFC 8252 section 7.3).
    fn without_loopback_port(&self) -> Option<String> {
        let (begin, end) = self.authority?;
        let host = self.text.get(begin..end)?;
        let (name, port) = host.rsplit_once(':')?;
        let local = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
        let numeric = !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit());
        if !local || !numeric || self.text.get(..self.scheme_end) != Some("http") {
            return None;
        }
        let rest = self.text.get(end..)?;
        Some(format!("http://{name}{rest}"))
    }

    /// Whether `candidate`, this URI or what stands for it, is what a registered URI with `*` at its end
    /// stands for. The query is not compared.
    fn fits_wildcard(&self, registered: &str, candidate: &str) -> bool {
        let Some(prefix) = registered.strip_suffix('*') else {
            return false;
        };
        let path = candidate.split('?').next().unwrap_or(candidate);
        if prefix.contains('?') || has_dot_segment(path) {
            return false;
        }
        if prefix.is_empty() {
            return self.is_web();
        }
        if prefix.strip_suffix('/') == Some(path) {
            return true;
        }
        path.starts_with(prefix) && (!self.is_web() || keeps_host(prefix, path))
    }
}

/// Whether what a wildcard stands for is no part of the host name: at most a port.
fn keeps_host(prefix: &str, path: &str) -> bool {
    if matches!(prefix, "http://" | "https://") {
        return true;
    }
    let begin = path.find("://").map_or(0, |at| at + 3);
    let length = path.get(begin..).and_then(|rest| rest.find('/'));
    let end = length.map_or(path.len(), |length| begin + length);
    let Some(rest) = path.get(prefix.len()..end) else {
        return true;
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port,
        None if rest.is_empty() || prefix.ends_with(':') => rest,
        None => return false,
    };
    port.bytes().all(|it| it.is_ascii_digit())
}

/// Whether a path has a segment `.` or `..`, or a backslash, however often it is encoded.
fn has_dot_segment(path: &str) -> bool {
    let mut text = path.as_bytes().to_vec();
    for _ in 0..DECODINGS {
        let bad = |segment: &[u8]| matches!(segment, b"." | b"..");
        if text.contains(&b'\\') || text.split(|byte| *byte == b'/').any(bad) {
            return true;
        }
        let decoded = percent_decode(&text);
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    true
}

/// A value for a query.
pub(crate) fn encode(value: &str) -> String {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-._~".contains(&it);
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|it| char::from(*it).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let pair = (digit(text.get(at + 1)), digit(text.get(at + 2)));
        if let (b'%', (Some(high), Some(low))) = (*byte, pair) {
            decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    decoded
}

/// Scheme, host and port in lower case, the rest as it is.
fn lower_origin(uri: &str) -> String {
    let begin = uri.find("://").map_or(0, |at| at + 3);
    let rest = uri.get(begin..).unwrap_or_default();
    let end = begin + rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (origin, rest) = uri.split_at_checked(end).unwrap_or((uri, ""));
    format!("{}{rest}", origin.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(registered: &[&str], asked: &str) -> bool {
        let registered: Vec<_> = registered.iter().map(|&it| it.to_owned()).collect();
        find(&registered, asked).is_some()
    }

    #[test]
    fn exact_uris_match_in_whole() {
        let one = &["https://App.example/cb?x=1"];
        assert!(fits(one, "HTTPS://app.EXAMPLE/cb?x=1"));
        for asked in [
            "https://app.example/cb",
            "https://app.example/CB?x=1",
            "https://app.example/cb?x=1&y=2",
            "https://app.example/cb?x=1#f",
            "https://app.example:444/cb?x=1",
            "http://app.example/cb?x=1",
            "https://app.example.evil/cb?x=1",
            "https://u@app.example/cb?x=1",
            " https://app.example/cb?x=1",
            "//app.example/cb?x=1",
            "/cb?x=1",
            "",
        ] {
            assert!(!fits(one, asked), "{asked}");
        }
        let phone = &["com.example.app:/cb", "app://login"];
        assert!(fits(phone, "com.example.app:/cb") && fits(phone, "app://login"));
        assert!(!fits(&["javascript:alert(1)"], "javascript:alert(1)"));
    }

    #[test]
    fn a_wildcard_stands_for_paths_and_queries() {
        let one = &["http://example.com/foo/*"];
        for asked in [
            "http://example.com/foo",
            "http://example.com/foo/",
            "http://example.com/foo/bar?q=%3C",
        ] {
            assert!(fits(one, asked), "{asked}");
        }
        for asked in [
            "http://example.com",
            "http://example.com/foobar",
            "http://example.com/foo/../",
            "http://example.com/foo/%2E%2E/",
            "http://example.com/foo/%252E%252E/?a=b",
            "http://example.com/foo/%25252525252E%25252525252E/",
            "http://example.com/foo/..%5Cx",
            "http://example.com/foo/%5c..%5cx",
            "http://example.com/foo/\\x",
            "http://example.com@evil.example/foo/",
        ] {
            assert!(!fits(one, asked), "{asked}");
        }
    }

    #[test]
    fn a_wildcard_never_reaches_into_the_host() {
        let host = &["https://app.example*"];
        assert!(fits(host, "https://app.example/x") && fits(host, "https://app.example:8443/x"));
        assert!(!fits(host, "https://app.example.evil/x"));
        let port = &["http://dev.example:*"];
        assert!(fits(port, "http://dev.example:3000/x"));
        assert!(!fits(port, "http://dev.example:3000x.evil/"));
        assert!(fits(&["https://*"], "https://any.example/x"));
        assert!(!fits(&["https://*"], "http://any.example/x"));
        assert!(fits(&["*"], "http://any.example/") && !fits(&["*"], "app://x"));
    }

    #[test]
    fn loopback_addresses_have_any_port() {
        let one = &[
            "http://127.0.0.1/cb",
            "http://localhost/*",
            "http://[::1]/cb",
        ];
        for asked in [
            "http://127.0.0.1:5000/cb",
            "http://localhost:1/x",
            "http://[::1]:9/cb",
        ] {
            assert!(fits(one, asked), "{asked}");
        }
        for asked in [
            "http://127.0.0.1:5000/other",
            "https://127.0.0.1:5000/cb",
            "http://localhost:x/",
            "http://localhosts/x",
        ] {
            assert!(!fits(one, asked), "{asked}");
        }
        assert!(!fits(&["http://127.0.0.1:1/cb"], "http://127.0.0.1:2/cb"));
    }

    #[test]
    fn a_request_without_a_uri_uses_the_only_one() {
        let list =
            |uris: &[&str]| -> Vec<String> { uris.iter().map(|&it| it.to_owned()).collect() };
        assert_eq!(single(&list(&["https://a/x/*"])).unwrap(), "https://a/x");
        assert!(single(&list(&["https://a/", "https://b/"])).is_none());
        assert!(single(&[]).is_none());
    }
}
