//! Taking a token apart, and the claims that are kept of a verified one.

use o28m_jose::{Algorithm, from_base64url};
use serde_json::{Map, Value};

use super::failure::Failure;

/// A token that was taken apart and not verified.
pub(super) struct Decoded<'a> {
    /// Its header's `alg`; `None` for those that are known and never accepted.
    pub(super) algorithm: Option<Algorithm>,
    /// Its header's `kid`, if not empty.
    pub(super) kid: Option<String>,
    pub(super) claims: Claims,
    pub(super) signature: Vec<u8>,
    /// What the signature covers.
    pub(super) signing_input: &'a str,
}

impl<'a> Decoded<'a> {
    /// Takes `token` apart. Whatever is wrong with it is the client's fault.
    pub(super) fn parse(token: &'a str) -> Result<Self, Failure> {
        let (header, rest) = token.split_once('.').ok_or(Failure::NotJson)?;
        let (payload, signature) = rest.split_once('.').ok_or(Failure::NotJson)?;
        let signing_input = token
            .get(..header.len() + 1 + payload.len())
            .ok_or(Failure::NotJson)?;
        let header = json(header).ok_or(Failure::NotJson)?;
        let payload = json(payload).ok_or(Failure::NotJson)?;
        let algorithm = algorithm(&header)?;
        let Value::Object(payload) = payload else {
            return Err(Failure::ClaimsNotAnObject);
        };
        let signature = from_base64url(signature).ok_or(Failure::SignatureNotEncoded)?;
        Ok(Self {
            algorithm,
            kid: kid(&header),
            claims: Claims::keep(&payload),
            signature,
            signing_input,
        })
    }
}

fn json(part: &str) -> Option<Value> {
    serde_json::from_slice(&from_base64url(part)?).ok()
}

/// The algorithm the header names. The original's parser knows more than its verifier accepts, and
/// answers differently to what it does not know (`none` among them). A header with critical
/// extensions is not understood (RFC 7515 section 4.1.11).
fn algorithm(header: &Value) -> Result<Option<Algorithm>, Failure> {
    if header.get("crit").is_some() {
        return Err(Failure::NotJson);
    }
    let name = header.get("alg").and_then(Value::as_str);
    let name = name.ok_or(Failure::UnknownAlgorithm)?;
    let algorithm: Algorithm = name.parse().map_err(|_| Failure::UnknownAlgorithm)?;
    Ok(match algorithm {
        Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => Some(algorithm),
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512 => Some(algorithm),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 | Algorithm::EdDSA => None,
    })
}

fn kid(header: &Value) -> Option<String> {
    match header.get("kid")? {
        Value::String(kid) if kid.is_empty() => None,
        Value::String(kid) => Some(kid.clone()),
        Value::Null => None,
        // Never the id of a key, and so not found.
        other => Some(other.to_string()),
    }
}

/// A claim that must be a point in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Date {
    /// Absent or not a number.
    NotANumber,
    /// Seconds since the Unix epoch.
    At(f64),
}

type Names = Box<[Box<str>]>;
/// Clients, and the roles in each.
type Clients = Box<[(Box<str>, Names)]>;

/// What a request can be asked for, in a form that is quick to check and small to keep.
#[derive(Debug)]
pub(super) struct Claims {
    strings: Box<[(Box<str>, Box<str>)]>,
    scope_list: Option<Names>,
    realm_roles: Option<Names>,
    clients: Option<Clients>,
    pub(super) expires: Date,
    pub(super) not_before: Date,
}

impl Claims {
    fn keep(payload: &Map<String, Value>) -> Self {
        let strings = payload.iter().filter_map(|(name, value)| {
            let value = value.as_str()?;
            Some((name.as_str().into(), value.into()))
        });
        let realm_roles = payload.get("realm_access").and_then(|it| it.get("roles"));
        let clients = payload.get("resource_access").and_then(Value::as_object);
        Self {
            strings: strings.collect(),
            scope_list: payload.get("scope").and_then(names),
            realm_roles: realm_roles.and_then(names),
            clients: clients.map(|clients| {
                let client =
                    |(name, access): (&String, &Value)| (name.as_str().into(), every(access));
                clients.iter().map(client).collect()
            }),
            expires: date(payload.get("exp")),
            not_before: date(payload.get("nbf")),
        }
    }

    /// A claim that is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let mut claims = self.strings.iter();
        claims
            .find(|(it, _)| **it == *name)
            .map(|(_, value)| &**value)
    }

    /// Whether the scope holds `wanted`; `None` without a scope.
    pub(super) fn has_scope(&self, wanted: &str) -> Option<bool> {
        if let Some(list) = &self.scope_list {
            return Some(list.iter().any(|it| **it == *wanted));
        }
        let scope = self.text("scope")?;
        Some(scope.split_whitespace().any(|it| it == wanted))
    }

    /// Whether the realm roles hold `wanted`; `None` without realm roles.
    pub(super) fn has_realm_role(&self, wanted: &str) -> Option<bool> {
        let roles = self.realm_roles.as_ref()?;
        Some(roles.iter().any(|role| **role == *wanted))
    }

    /// Whether any list of `client` holds `wanted`; `None` without client roles.
    pub(super) fn has_client_role(&self, client: &str, wanted: &str) -> Option<bool> {
        let mut clients = self.clients.as_ref()?.iter();
        let roles = clients.find(|(name, _)| **name == *client);
        Some(roles.is_some_and(|(_, roles)| roles.iter().any(|role| **role == *wanted)))
    }
}

fn date(claim: Option<&Value>) -> Date {
    claim
        .and_then(Value::as_f64)
        .map_or(Date::NotANumber, Date::At)
}

fn strings(list: &[Value]) -> impl Iterator<Item = Box<str>> {
    list.iter().filter_map(|it| it.as_str().map(Box::from))
}

/// The strings of a list; `None` for anything else.
fn names(value: &Value) -> Option<Names> {
    Some(strings(value.as_array()?).collect())
}

/// The strings of every list in `access`, whatever the list is called.
fn every(access: &Value) -> Names {
    let lists = access.as_object().into_iter().flat_map(Map::values);
    lists
        .filter_map(Value::as_array)
        .flat_map(|list| strings(list))
        .collect()
}

#[cfg(test)]
mod tests {
    use o28m_jose::base64url;
    use serde_json::json;

    use super::*;

    fn parse(header: &Value, payload: &Value) -> Result<Claims, Failure> {
        let text = |value: &Value| base64url(value.to_string().as_bytes());
        let token = format!("{}.{}.AQ", text(header), text(payload));
        Decoded::parse(&token).map(|decoded| decoded.claims)
    }

    #[test]
    fn plugins_case_012_what_is_no_token_is_bad_json() {
        for token in [
            "invalid.token.here",
            "not-a-jwt-token",
            "a.b",
            "",
            "..",
            "e30.e30",
            "e30=.e30.AQ",
            "\0.\0.\0",
        ] {
            assert_eq!(
                Decoded::parse(token).err(),
                Some(Failure::NotJson),
                "{token}"
            );
        }
    }

    #[test]
    fn plugins_case_013_algorithms_the_parser_does_not_know() {
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "RS256\u{0}"}),
            json!({"alg": "ＲＳ256"}),
            json!({"alg": 1}),
            json!({}),
            json!("RS256"),
            json!([]),
            json!(null),
        ] {
            let failure = parse(&header, &json!({})).err();
            assert_eq!(failure, Some(Failure::UnknownAlgorithm), "{header}");
        }
        let crit = json!({"alg": "RS256", "crit": ["b64"]});
        assert_eq!(parse(&crit, &json!({})).err(), Some(Failure::NotJson));
    }

    #[test]
    fn plugins_case_034_odd_payloads_and_signatures() {
        for payload in [json!(123), json!([]), json!("x"), json!(null)] {
            let failure = parse(&json!({"alg": "RS256"}), &payload).err();
            assert_eq!(failure, Some(Failure::ClaimsNotAnObject), "{payload}");
        }
        let (header, payload) = (base64url(br#"{"alg":"RS256"}"#), base64url(b"{}"));
        for signature in ["A", "AQ==", "AQ.AQ", "!"] {
            let token = format!("{header}.{payload}.{signature}");
            let failure = Decoded::parse(&token).err();
            assert_eq!(failure, Some(Failure::SignatureNotEncoded), "{signature}");
        }
    }

    #[test]
    fn keeps_what_requests_are_checked_for() {
        let payload = json!({
            "azp": "app", "exp": 5, "nbf": "soon", "scope": ["a", 1, "b"],
            "realm_access": {"roles": ["admin", null]},
            "resource_access": {"account": {"roles": ["view"], "more": ["edit"], "odd": 1}, "x": 2},
        });
        let claims = parse(&json!({"alg": "ES256"}), &payload).unwrap();
        assert_eq!(
            (claims.text("azp"), claims.text("exp")),
            (Some("app"), None)
        );
        assert_eq!(claims.expires, Date::At(5.0));
        assert_eq!(claims.not_before, Date::NotANumber);
        assert_eq!(claims.has_scope("b"), Some(true));
        assert_eq!(claims.has_realm_role("admin"), Some(true));
        assert_eq!(claims.has_client_role("account", "edit"), Some(true));
        assert_eq!(claims.has_client_role("x", "edit"), Some(false));
        let claims = parse(
            &json!({"alg": "ES256"}),
            &json!({"realm_access": {"roles": "admin"}, "resource_access": []}),
        )
        .unwrap();
        assert_eq!(claims.has_scope("b"), None);
        assert_eq!(claims.has_realm_role("admin"), None);
        assert_eq!(claims.has_client_role("account", "edit"), None);
    }
}
