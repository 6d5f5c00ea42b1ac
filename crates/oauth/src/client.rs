use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use o28m_core::Secret;

use crate::Form;
use crate::form::decode;

/// How a client presented its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// In the `Authorization` header (`client_secret_basic`).
    Basic,
    /// In the form (`client_secret_post`).
    Post,
    /// In both; the form wins (Keycloak).
    PostBasic,
}

/// A signed token a client presented instead of a secret.
#[derive(Clone, Debug, Default)]
pub struct Assertion {
    /// `client_assertion_type`.
    pub kind: Option<String>,
    /// `client_assertion`.
    pub token: Option<Secret<String>>,
}

/// Credentials a client presented, not yet checked.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// `client_id`; absent when the request names no client, or only in an assertion.
    pub id: Option<String>,
    /// `client_secret`.
    pub secret: Option<Secret<String>>,
    /// `client_assertion` and its type (RFC 7521 section 4.2).
    pub assertion: Assertion,
    /// Where they came from.
    pub method: Method,
}

impl ClientCredentials {
    /// Collects credentials from the `Authorization` header and the form. The form's values win; a
    /// header that is not readable Basic is ignored (Keycloak 26.5 `ClientIdAndSecretAuthenticator`).
    #[must_use]
    pub fn collect(authorization: Option<&str>, form: &Form) -> Self {
        let basic = authorization.and_then(parse_basic);
        let form_id = form.get("client_id").map(str::to_owned);
        let form_secret = form.get("client_secret").map(str::to_owned);
        let method = match (&basic, &form_id) {
            (Some(_), Some(_)) => Method::PostBasic,
            (Some(_), None) => Method::Basic,
            (None, _) => Method::Post,
        };
        let (header_id, header_secret) = basic.unzip();
        let assertion = Assertion {
            kind: form.get("client_assertion_type").map(str::to_owned),
            token: form
                .get("client_assertion")
                .map(|it| Secret::new(it.to_owned())),
        };
        Self {
            id: form_id.or(header_id).filter(|id| !id.is_empty()),
            assertion,
            secret: form_secret
                .or(header_secret)
                .filter(|secret| !secret.is_empty())
                .map(Secret::new),
            method,
        }
    }
}

/// Id and secret of a Basic header, both halves form-decoded (RFC 6749 section 2.3.1).
fn parse_basic(header: &str) -> Option<(String, String)> {
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim()).ok()?;
    let mut halves = decoded.splitn(2, |byte| *byte == b':');
    let id = decode(halves.next()?)?;
    let secret = decode(halves.next()?)?;
    Some((id, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn the_form_wins_over_the_header() {
        let form = Form::parse(b"client_id=c&client_secret=right").unwrap();
        let found = ClientCredentials::collect(Some(&basic("c:wrong")), &form);
        assert_eq!(found.secret.unwrap().expose(), "right");
        assert_eq!(found.method, Method::PostBasic);
    }

    #[test]
    fn basic_halves_are_form_decoded() {
        let form = Form::default();
        let found = ClientCredentials::collect(Some(&basic("a%3Ab+c:s%25")), &form);
        assert_eq!(found.id.as_deref(), Some("a:b c"));
        assert_eq!(found.secret.unwrap().expose(), "s%");
    }

    #[test]
    fn other_headers_and_empty_secrets_are_no_credentials() {
        let form = Form::parse(b"client_id=c").unwrap();
        for header in ["Negotiate abc", "Basic", "Basic !!!", "Basic YQ=="] {
            let found = ClientCredentials::collect(Some(header), &form);
            assert_eq!(found.id.as_deref(), Some("c"), "{header}");
            assert!(found.secret.is_none());
        }
        let found = ClientCredentials::collect(Some("Basic YWRtaW4tY2xpOg=="), &Form::default());
        assert_eq!(found.id.as_deref(), Some("admin-cli"));
        assert!(found.secret.is_none());
    }
}
