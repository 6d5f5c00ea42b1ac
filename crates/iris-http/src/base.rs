//! The public base URL of a request and the caller's address (Keycloak hostname v2).

use std::net::IpAddr;

use http::HeaderMap;
use o28m_net::{Connection, Scheme};

use crate::Settings;

/// How a request sees us, and from where it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// Scheme, host, port and relative path, without a slash at the end.
    pub(crate) url: String,
    /// The caller used TLS, as far as we may believe it.
    pub(crate) secure: bool,
    /// The caller's address, behind trusted proxies.
    pub(crate) address: String,
}

impl Base {
    pub(crate) fn of(settings: &Settings, headers: &HeaderMap, connection: &Connection) -> Self {
        let forwarded = |name: &str| {
            let value = settings
                .proxy_headers
                .then(|| headers.get(name))
                .flatten()?;
            let first = value.to_str().ok()?.split(',').next()?.trim();
            (!first.is_empty()).then(|| first.to_owned())
        };
        let scheme = match forwarded("x-forwarded-proto").as_deref() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            _ => connection.scheme,
        };
        let host = forwarded("x-forwarded-host").filter(|host| is_authority(host));
        let direct = || {
            headers
                .get("host")
                .and_then(|host| host.to_str().ok())
                .map(str::to_owned)
        };
        let host = host.or_else(direct).filter(|host| is_authority(host));
        let host = host.unwrap_or_else(|| connection.local.to_string());
        let port = forwarded("x-forwarded-port").and_then(|port| port.parse::<u16>().ok());
        let peer = connection.peer.ip().to_canonical().to_string();
        let client = forwarded("x-forwarded-for").filter(|it| it.parse::<IpAddr>().is_ok());
        Self {
            url: url(settings, scheme, &host, port),
            secure: scheme == Scheme::Https,
            address: client.unwrap_or(peer),
        }
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> &str {
        let begin = self.url.find("://").map_or(0, |at| at + 3);
        let rest = self.url.get(begin..).unwrap_or_default();
        let end = begin + rest.find('/').unwrap_or(rest.len());
        self.url.get(..end).unwrap_or_default()
    }

    /// What issuers start with: the realm's name follows.
    pub(crate) fn issuer_base(&self) -> String {
        format!("{}/realms/", self.url)
    }

    /// The issuer of a realm.
    pub(crate) fn issuer(&self, realm: &str) -> String {
        format!("{}/realms/{realm}", self.url)
    }

    /// Whether a realm that requires TLS for this refuses the request.
    pub(crate) fn refuses_plain(&self, ssl_required: &str) -> bool {
        match ssl_required {
            "none" => false,
            "all" => !self.secure,
            _ => !self.secure && !self.address.parse().is_ok_and(is_private),
        }
    }
}

fn url(settings: &Settings, scheme: Scheme, host: &str, port: Option<u16>) -> String {
    let path = settings.relative_path.trim_end_matches('/');
    match settings.hostname.as_deref() {
        Some(full) if full.contains("://") => {
            let full = full.trim_end_matches('/');
            let has_path = full
                .split_once("://")
                .is_some_and(|(_, rest)| rest.contains('/'));
            if has_path {
                full.to_owned()
            } else {
                format!("{full}{path}")
            }
        }
        Some(name) => authority_url(scheme, name, port.or_else(|| split_port(host).1), path),
        None => {
            let (name, own) = split_port(host);
            authority_url(scheme, name, port.or(own), path)
        }
    }
}

fn authority_url(scheme: Scheme, name: &str, port: Option<u16>, path: &str) -> String {
    let default = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    match port.filter(|port| *port != default) {
        Some(port) => format!("{}://{name}:{port}{path}", scheme.name()),
        None => format!("{}://{name}{path}", scheme.name()),
    }
}

/// Host name and port; the colons of a bracketed IPv6 address are part of the name.
fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            (name, port.parse().ok())
        }
        _ => (host, None),
    }
}

/// Whether a text can stand in a URL between scheme and path without changing its meaning.
fn is_authority(text: &str) -> bool {
    let fits = |it: u8| {
        it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    };
    !text.is_empty() && text.len() <= 255 && text.bytes().all(fits)
}

/// Loopback, link-local, RFC 1918 and unique local addresses.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(it) => it.is_loopback() || it.is_private() || it.is_link_local(),
        IpAddr::V6(it) => it.is_loopback() || it.is_unique_local() || it.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(hostname: Option<&str>, proxy: bool, headers: &[(&'static str, &'static str)]) -> Base {
        let settings = Settings {
            relative_path: "/auth".to_owned(),
            hostname: hostname.map(str::to_owned),
            proxy_headers: proxy,
            client_auth_metrics: false,
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let connection = Connection::plain(
            "203.0.113.9:5".parse().unwrap(),
            "127.0.0.1:8180".parse().unwrap(),
            o28m_net::client::Pool::new(),
        );
        Base::of(&settings, &map, &connection)
    }

    #[test]
    fn a_fixed_host_takes_the_scheme_of_the_proxy_only_when_trusted() {
        let forged = [
            ("host", "pod:8080"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "443"),
        ];
        let trusted = base(Some("iris.example.com"), true, &forged);
        assert_eq!(
            trusted.issuer("r"),
            "https://iris.example.com/auth/realms/r"
        );
        let untrusted = base(Some("iris.example.com"), false, &forged);
        assert_eq!(
            untrusted.issuer("r"),
            "http://iris.example.com:8080/auth/realms/r"
        );
    }

    #[test]
    fn a_full_url_is_used_as_it_is() {
        let full = base(
            Some("https://iris.example.com/auth"),
            false,
            &[("host", "x")],
        );
        assert_eq!(full.url, "https://iris.example.com/auth");
        let bare = base(Some("https://iris.example.com"), false, &[("host", "x")]);
        assert_eq!(bare.url, "https://iris.example.com/auth");
    }

    #[test]
    fn without_a_host_name_the_request_decides() {
        assert_eq!(base(None, false, &[("host", "a:80")]).url, "http://a/auth");
        assert_eq!(
            base(None, false, &[("host", "[::1]:81")]).url,
            "http://[::1]:81/auth"
        );
        assert_eq!(
            base(None, false, &[("host", "a/b\"")]).url,
            "http://127.0.0.1:8180/auth"
        );
    }

    #[test]
    fn plain_http_is_for_private_addresses() {
        assert!(base(None, false, &[]).refuses_plain("external"));
        assert!(!base(None, false, &[]).refuses_plain("none"));
        let near = base(None, true, &[("x-forwarded-for", "10.1.2.3, 1.1.1.1")]);
        assert_eq!(near.address, "10.1.2.3");
        assert!(!near.refuses_plain("external") && near.refuses_plain("all"));
    }
}
