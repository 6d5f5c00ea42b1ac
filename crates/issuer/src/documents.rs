//! The JSON bodies and the rule that derives the issuer's URL.

use http::{HeaderValue, Method, Response, StatusCode};
use o28m_net::Body;
use serde::Serialize;

use crate::Settings;

/// Why a discovery document cannot be made for a request.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum HostError {
    #[error("X-Forwarded-Host header must be set in the request")]
    Missing,
    #[error("invalid X-Forwarded-Host header")]
    Invalid,
}

/// The issuer URL of `realm`: below the configured URL, else below the host the client asked for.
pub(crate) fn issuer(
    settings: &Settings,
    forwarded_host: Option<&HeaderValue>,
    realm: &str,
) -> Result<String, HostError> {
    if let Some(url) = &settings.public_url {
        return Ok(format!("{url}/{realm}"));
    }
    let value = forwarded_host.ok_or(HostError::Missing)?;
    let value = value.to_str().map_err(|_| HostError::Invalid)?;
    let host = value.split(',').next().unwrap_or_default().trim();
    if host.is_empty() {
        return Err(HostError::Missing);
    }
    if !is_authority(host) {
        return Err(HostError::Invalid);
    }
    let prefix = &settings.path_prefix;
    Ok(format!("https://{host}{prefix}/auth/realms/{realm}"))
}

/// `host` or `host:port`, where host is a name, an IPv4 address or an IPv6 address in brackets.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    };
    is_port && is_host
}

/// The discovery document: six members in this order, all a token validator needs.
#[derive(Serialize)]
pub(crate) struct Discovery<'a> {
    issuer: &'a str,
    jwks_uri: String,
    authorization_endpoint: String,
    response_types_supported: [&'static str; 1],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
}

impl<'a> Discovery<'a> {
    /// The document of `issuer` as JSON.
    pub(crate) fn of(issuer: &'a str) -> Vec<u8> {
        encode(&Self {
            issuer,
            jwks_uri: format!("{issuer}/protocol/openid-connect/certs"),
            authorization_endpoint: format!("{issuer}/protocol/openid-connect/auth"),
            response_types_supported: ["none"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: ["RS256"],
        })
    }
}

/// What Keycloak adapters read from a realm's URL.
pub(crate) fn realm(realm: &str, public_key: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Realm<'a> {
        realm: &'a str,
        public_key: &'a str,
    }
    encode(&Realm { realm, public_key })
}

/// `{"code":…,"message":…}`.
pub(crate) fn failure(status: StatusCode, message: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Failure<'a> {
        code: u16,
        message: &'a str,
    }
    let code = status.as_u16();
    encode(&Failure { code, message })
}

fn encode(document: &impl Serialize) -> Vec<u8> {
    // Structs of strings and numbers always serialise.
    serde_json::to_vec(document).unwrap_or_default()
}

/// The 404 of the original's HTTP library: method and path, escaped for HTML.
pub(crate) fn not_found(method: &Method, path: &str) -> Response<Body> {
    let mut body = format!("Cannot {method} ");
    for character in path.chars() {
        match character {
            '&' => body.push_str("&amp;"),
            '<' => body.push_str("&lt;"),
            '>' => body.push_str("&gt;"),
            '"' => body.push_str("&#34;"),
            '\'' => body.push_str("&#39;"),
            other => body.push(other),
        }
    }
    crate::text(StatusCode::NOT_FOUND, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str) -> Result<String, HostError> {
        let value = HeaderValue::from_str(host).unwrap();
        issuer(&Settings::default(), Some(&value), "r")
    }

    #[test]
    fn hosts_are_names_addresses_and_ports() {
        for host in ["a", "a.b-c.example:1", "127.0.0.1", "[::1]", "[::1]:8443"] {
            assert_eq!(of(host), Ok(format!("https://{host}/auth/realms/r")));
        }
        for host in [
            "a/b", "a@b", "a:b", "a:0", "a:65536", ":80", "[::1", "::1", "a?b", "a b",
        ] {
            assert_eq!(of(host), Err(HostError::Invalid), "{host}");
        }
    }
}
