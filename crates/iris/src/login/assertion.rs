//! Client authentication with a signed token (RFC 7523; Keycloak 26.5 `JWTClientValidator`).

use o28m_core::limits::TOKEN_BYTES_MAX;
use o28m_jose::{Algorithm, CompactJws, Jwk, JwkSet, SigningKey, VerifyingKey, x509};
use o28m_oauth::Assertion;
use o28m_store::Session;
use serde_json::Value;

use crate::admin::rotation;
use crate::error::AssertionProblem;
use crate::login::redirect;
use crate::login::request::base_of;
use crate::login::ticket::hash;
use crate::model::{Client, Fields as _, Realm, Rep};
use crate::token::Origin;
use crate::{GrantError, Iris};

/// The only kind of assertion (RFC 7523 section 2.2).
const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Seconds a clock of a client may be off.
const SKEW_S: i64 = 15;
/// Seconds an assertion may be old, and its end lie ahead when it does not say when it was issued.
const LIFE_S: i64 = 300;
/// Seconds an assertion without an end may be old (Keycloak 26.5).
const ENDLESS_S: i64 = 10;

/// The subject an assertion names, not verified yet.
pub(crate) fn subject(assertion: &Assertion) -> Option<String> {
    let token = assertion.token.as_ref()?.expose();
    let claims = parse(token)?.1;
    claims.text("sub").map(str::to_owned)
}

fn parse(token: &str) -> Option<(Rep, Rep, CompactJws<'_>)> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let jws = CompactJws::parse(token).ok()?;
    let header = serde_json::from_slice(&jws.header).ok()?;
    let claims = serde_json::from_slice(&jws.payload).ok()?;
    Some((header, claims, jws))
}

impl Iris {
    /// Checks the assertion of a client that authenticates by `method`.
    pub(crate) async fn check_assertion(
        &self,
        realm: &Realm,
        client: &Client,
        method: &str,
        sent: &Assertion,
        origin: Origin<'_>,
    ) -> Result<(), GrantError> {
        let refuse = GrantError::ClientAssertion;
        let token = match (sent.kind.as_deref(), &sent.token) {
            (None, _) => return Err(refuse(AssertionProblem::TypeMissing)),
            (Some(kind), _) if kind != KIND => {
                return Err(refuse(AssertionProblem::Type(kind.to_owned())));
            }
            (Some(_), None) => return Err(refuse(AssertionProblem::Missing)),
            (Some(_), Some(token)) => token.expose(),
        };
        let now_s = self.ambient.now().seconds();
        let malformed = || refuse(AssertionProblem::Malformed);
        let (header, claims, jws) = parse(token).ok_or_else(malformed)?;
        check_names(client, &claims).map_err(refuse)?;
        let algorithm = check_algorithm(client, method, &header).map_err(refuse)?;
        if method == "client-secret-jwt" {
            check_secret(client, algorithm, &jws, now_s).map_err(refuse)?;
        } else {
            let key = self.public_key(realm, client, header.text("kid"), algorithm, origin);
            let key = key.await.ok_or_else(|| refuse(AssertionProblem::Key))?;
            key.verify(jws.signing_input.as_bytes(), &jws.signature)
                .map_err(|_| refuse(AssertionProblem::Signature))?;
        }
        check_audience(&claims, origin.issuer).map_err(refuse)?;
        let seconds = check_times(&claims, now_s).map_err(refuse)?;
        let jti = claims
            .text("jti")
            .filter(|jti| !jti.is_empty())
            .ok_or_else(|| refuse(AssertionProblem::IdMissing))?;
        // Marks outlive the assertion, so a claimed id cannot come back.
        let mark = Session {
            id: format!("assertion/{}", hash(&format!("{}/{jti}", client.body.id))),
            owner: realm.id().to_owned(),
            expires_at_s: now_s.saturating_add(seconds).saturating_add(2 * SKEW_S),
            body: Value::Null,
        };
        if self.store.replace_session(&mark, None).await? {
            return Ok(());
        }
        Err(refuse(AssertionProblem::Reused))
    }

    /// The client's key: of the JWK Set it publishes or gave us, else of its certificate, else its bare
    /// public key.
    async fn public_key(
        &self,
        realm: &Realm,
        client: &Client,
        kid: Option<&str>,
        algorithm: Algorithm,
        origin: Origin<'_>,
    ) -> Option<VerifyingKey> {
        let own = |name: &str| client.attribute(name).filter(|text| !text.is_empty());
        if client.attribute_is("use.jwks.url") {
            let base = base_of(realm, origin.issuer);
            let url = redirect::resolve(client, base, vec![own("jwks.url")?.to_owned()]).pop()?;
            let set = self.published_keys(&url, kid).await?;
            return fitting(&set, kid, algorithm);
        }
        if client.attribute_is("use.jwks.string") {
            let set: JwkSet = serde_json::from_str(own("jwks.string")?).ok()?;
            return fitting(&set, kid, algorithm);
        }
        let pem = match own("jwt.credential.certificate") {
            Some(certificate) => pem("CERTIFICATE", certificate),
            None => pem("PUBLIC KEY", own("jwt.credential.public.key")?),
        };
        VerifyingKey::from_jwk(&x509::public_jwk(&pem)?, algorithm).ok()
    }
}

/// The key of a set that may have signed; keys that cannot be used are passed over.
fn fitting(set: &JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Option<VerifyingKey> {
    let fits = |key: &&Jwk| {
        let usage = key.usage.as_deref().is_none_or(|it| it == "sig");
        let alg = key.alg.as_deref().is_none_or(|it| it == algorithm.name());
        let kind = key.kty.as_deref() == Some(algorithm.key_type());
        usage && alg && kind && kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
    };
    let mut fitting = set.keys.iter().filter(fits);
    fitting.find_map(|key| VerifyingKey::from_jwk(key, algorithm).ok())
}

/// Issuer and subject are both the client (RFC 7523 section 3).
fn check_names(client: &Client, claims: &Rep) -> Result<(), AssertionProblem> {
    let subject = claims.text("sub").ok_or(AssertionProblem::Subject)?;
    if subject != client.client_id() || claims.text("iss") != Some(subject) {
        return Err(AssertionProblem::Issuer);
    }
    Ok(())
}

/// The algorithm is the client's or at least of the kind its keys have, never the token's alone.
fn check_algorithm(
    client: &Client,
    method: &str,
    header: &Rep,
) -> Result<Algorithm, AssertionProblem> {
    let named = header.text("alg").unwrap_or_default();
    let algorithm: Algorithm = named.parse().map_err(|_| AssertionProblem::Algorithm)?;
    let wanted = client
        .attribute("token.endpoint.auth.signing.alg")
        .filter(|it| !it.is_empty());
    let symmetric = algorithm.key_type() == "oct";
    let by_secret = method == "client-secret-jwt";
    if wanted.is_some_and(|wanted| wanted != named)
        || symmetric != by_secret
        || header.contains_key("crit")
    {
        return Err(AssertionProblem::Algorithm);
    }
    Ok(algorithm)
}

/// Whether one of the client's secrets signed.
fn check_secret(
    client: &Client,
    algorithm: Algorithm,
    jws: &CompactJws<'_>,
    now_s: i64,
) -> Result<(), AssertionProblem> {
    if rotation::is_expired(client, now_s) {
        return Err(AssertionProblem::Key);
    }
    let input = jws.signing_input.as_bytes();
    let primary = client.secret.as_ref().map(|it| it.expose().as_str());
    let secrets = [primary, rotation::rotated_secret(client, now_s)];
    let fits = secrets
        .into_iter()
        .flatten()
        .filter(|secret| !secret.is_empty())
        .filter_map(|secret| SigningKey::from_secret("", algorithm, secret.as_bytes()).ok())
        .any(|key| key.verify(input, &jws.signature).is_ok());
    fits.then_some(()).ok_or(AssertionProblem::Signature)
}

/// PEM text, of which Keycloak stores the inside alone.
fn pem(label: &str, text: &str) -> String {
    if text.contains("-----BEGIN") {
        return text.to_owned();
    }
    let inside: String = text.split_whitespace().collect();
    let lines: Vec<String> = inside
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// The audience is this server: its issuer or one of the endpoints that authenticate clients.
fn check_audience(claims: &Rep, issuer: &str) -> Result<(), AssertionProblem> {
    let at = |path: &str| format!("{issuer}/protocol/openid-connect/{path}");
    let expected = [
        issuer.to_owned(),
        at("token"),
        at("token/introspect"),
        at("revoke"),
        at("auth/device"),
    ];
    let is_ours = |text: &str| expected.iter().any(|it| it == text);
    match claims.get("aud") {
        Some(Value::String(one)) if is_ours(one) => Ok(()),
        Some(Value::Array(all)) => {
            if !all.iter().filter_map(Value::as_str).any(is_ours) {
                return Err(AssertionProblem::Audience);
            }
            if all.len() > 1 {
                return Err(AssertionProblem::Audiences);
            }
            Ok(())
        }
        _ => Err(AssertionProblem::Audience),
    }
}

/// Checks the times; gives how many seconds the assertion still holds.
fn check_times(claims: &Rep, now_s: i64) -> Result<i64, AssertionProblem> {
    let time = |name: &str| claims.get(name).and_then(Value::as_f64).map(whole);
    let Some(exp_s) = time("exp") else {
        let is_new =
            |iat_s: i64| now_s <= iat_s.saturating_add(ENDLESS_S) && iat_s <= now_s + SKEW_S;
        let fits = time("iat").is_some_and(is_new);
        return fits.then_some(ENDLESS_S).ok_or(AssertionProblem::Expiry);
    };
    if exp_s.saturating_add(SKEW_S) <= now_s {
        return Err(AssertionProblem::NotActive);
    }
    if time("nbf").is_some_and(|nbf_s| nbf_s.saturating_sub(SKEW_S) > now_s) {
        return Err(AssertionProblem::NotActive);
    }
    let left_s = exp_s.saturating_sub(now_s);
    match time("iat") {
        None if left_s > LIFE_S => Err(AssertionProblem::TooLong),
        None => Ok(left_s),
        Some(iat_s) if iat_s.saturating_sub(SKEW_S) > now_s => Err(AssertionProblem::Future),
        Some(iat_s) if now_s > iat_s.saturating_add(LIFE_S) => Err(AssertionProblem::TooOld),
        // Usable only while it is young, however long it says.
        Some(_) => Ok(left_s.min(LIFE_S + SKEW_S)),
    }
}

/// Seconds of a NumericDate, which may have a fraction (RFC 7519 section 2).
#[expect(
    clippy::cast_possible_truncation,
    reason = "the conversion saturates, and times that far away are refused"
)]
fn whole(seconds: f64) -> i64 {
    seconds.floor() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn times(claims: Value) -> Result<i64, AssertionProblem> {
        check_times(claims.as_object().unwrap(), 1000)
    }

    #[test]
    fn assertions_are_young() {
        assert_eq!(times(json!({"exp": 1030})), Ok(30));
        assert_eq!(times(json!({"exp": 1030.5, "iat": 999.9})), Ok(30));
        assert_eq!(times(json!({})), Err(AssertionProblem::Expiry));
        assert_eq!(times(json!({"iat": 990})), Ok(10));
        assert_eq!(times(json!({"iat": 989})), Err(AssertionProblem::Expiry));
        assert_eq!(times(json!({"exp": 985})), Err(AssertionProblem::NotActive));
        assert_eq!(times(json!({"exp": 5000})), Err(AssertionProblem::TooLong));
        assert_eq!(
            times(json!({"exp": 5000, "iat": 1000})),
            Ok(LIFE_S + SKEW_S)
        );
        assert_eq!(
            times(json!({"exp": 5000, "iat": 699})),
            Err(AssertionProblem::TooOld)
        );
        assert_eq!(
            times(json!({"exp": 5000, "iat": 1100})),
            Err(AssertionProblem::Future)
        );
    }

    #[test]
    fn the_audience_is_one_of_ours() {
        let check = |aud: Value| {
            let claims = json!({"aud": aud});
            check_audience(claims.as_object().unwrap(), "https://i/realms/r")
        };
        assert_eq!(check(json!("https://i/realms/r")), Ok(()));
        assert_eq!(
            check(json!(["https://i/realms/r/protocol/openid-connect/token"])),
            Ok(())
        );
        for wrong in [json!("https://i/realms/s"), json!([]), json!(null)] {
            assert_eq!(check(wrong), Err(AssertionProblem::Audience));
        }
        assert_eq!(
            check(json!(["https://i/realms/r", "https://other"])),
            Err(AssertionProblem::Audiences)
        );
    }
}
