use super::{Target, TlsPolicy};
use crate::Scheme;

/// Splits an absolute `http` or `https` URL into where to connect and the origin-form path with query.
/// The default port is filled in; user info and fragments are refused. Certificates are verified
/// against the system roots; the caller may change that.
#[must_use]
pub fn parse_url(url: &str) -> Option<(Target, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Scheme::Http, 80),
        "https" => (Scheme::Https, 443),
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let (host, port) = split_authority(authority)?;
    let target = Target {
        scheme,
        host: host.to_ascii_lowercase().into(),
        port: port.unwrap_or(default_port),
        tls: TlsPolicy {
            verify: true,
            ..TlsPolicy::default()
        },
    };
    let path = match path {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.to_owned(),
    };
    let sound = !path.contains('#') && path.parse::<http::uri::PathAndQuery>().is_ok();
    sound.then_some((target, path))
}

/// Host without brackets, and the port if there is one.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, rest) = authority.split_at_checked(end)?;
            if host.is_empty() || !host.bytes().all(is_host) {
                return None;
            }
            (host, rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0)?)
        }
        Some(_) => return None,
    };
    Some((host, port))
}

fn is_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_urls_and_refuses_what_it_does_not_know() {
        let cases = [
            ("http://a", Some(("a", 80, "/"))),
            (
                "HTTP://A.Example:8080/x?y=1",
                Some(("a.example", 8080, "/x?y=1")),
            ),
            ("https://a?q", Some(("a", 443, "/?q"))),
            ("https://[::1]:8443/x", Some(("::1", 8443, "/x"))),
            ("https://[::1]", Some(("::1", 443, "/"))),
            ("http://a:/", Some(("a", 80, "/"))),
            ("http://user@a/", None),
            ("http://a/#f", None),
            ("http://a#f", None),
            ("http://a:0/", None),
            ("http://a:+1/", None),
            ("http://a:65536/", None),
            ("http://[zz]/", None),
            ("http://[::1]x/", None),
            ("http:///x", None),
            ("http://a b/", None),
            ("http://a/ b", None),
            ("ftp://a/", None),
            ("a/b", None),
        ];
        for (url, wanted) in cases {
            let got = parse_url(url);
            let got = got
                .as_ref()
                .map(|(target, path)| (&*target.host, target.port, path.as_str()));
            assert_eq!(got, wanted, "{url}");
        }
    }
}
