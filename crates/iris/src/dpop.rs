//! Tokens bound to a key of the client's: demonstrating proof of possession (RFC 9449), with the limits and
//! texts of Keycloak 26.5 (`DPoPUtil`).

use o28m_core::limits::TOKEN_BYTES_MAX;
use o28m_jose::{Algorithm, CompactJws, Jwk, VerifyingKey};
use o28m_store::Session;
use serde_json::{Map, Value, json};

use crate::login::ticket::hash;
use crate::model::{Client, Fields as _, Realm, Rep};
use crate::token::Origin;
use crate::{Error, GrantError, Iris};

/// Client attribute: every token is bound.
const REQUIRED: &str = "dpop.bound.access.tokens";
/// `typ` of a proof.
const TYPE: &str = "dpop+jwt";
/// Seconds a proof may be old, and a client's clock off.
const LIFE_S: i64 = 10;
const SKEW_S: i64 = 15;
/// Base64url characters of an RSA modulus: 4096 bits.
const MODULUS_CHARS_MAX: usize = 684;
/// Longest `jti`.
const ID_BYTES_MAX: usize = 512;

/// Why a proof is refused; the texts are Keycloak's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each variant means")]
pub enum ProofProblem {
    #[error("DPoP proof is missing")]
    Missing,
    #[error("DPoP header verification failure")]
    Malformed,
    #[error("Invalid or missing type in DPoP header")]
    Type,
    #[error("Unsupported DPoP algorithm")]
    Algorithm,
    #[error("No JWK in DPoP header")]
    NoKey,
    #[error("Private key is present in DPoP header")]
    PrivateKey,
    #[error("Unsupported key type in DPoP header")]
    Key,
    #[error("DPoP verification failure: Invalid token signature")]
    Signature,
    #[error("DPoP mandatory claims are missing")]
    Claims,
    #[error("DPoP HTTP URL mismatch")]
    Url,
    #[error("DPoP HTTP method mismatch")]
    Method,
    #[error("DPoP proof is not active")]
    NotActive,
    #[error("No access token hash in DPoP proof")]
    NoTokenHash,
    #[error("DPoP proof access token hash mismatch")]
    TokenHash,
    #[error("DPoP proof has already been used")]
    Reused,
}

/// What a proof must be for.
#[derive(Clone, Copy, Debug)]
pub struct Proven<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// Its URL, without query.
    pub url: &'a str,
    /// The access token that comes with it.
    pub token: Option<&'a str>,
}

impl Iris {
    /// Checks a proof and gives the thumbprint of its key. Each holds once.
    ///
    /// # Errors
    /// `Ok(Err(_))` for a proof that proves nothing; an error when the store fails.
    pub async fn check_proof(
        &self,
        realm: &Realm,
        proof: &str,
        request: Proven<'_>,
    ) -> Result<Result<String, ProofProblem>, Error> {
        let now_s = self.ambient.now().seconds();
        let checked = match check(proof, request, now_s) {
            Ok(checked) => checked,
            Err(problem) => return Ok(Err(problem)),
        };
        // The mark outlives the proof, so that it cannot come back.
        let mark = Session {
            id: format!(
                "proof/{}",
                hash(&format!("{}/{}", checked.thumbprint, checked.id))
            ),
            owner: realm.id().to_owned(),
            expires_at_s: checked.issued_s.saturating_add(LIFE_S + 2 * SKEW_S),
            body: Value::Null,
        };
        if self.store.replace_session(&mark, None).await? {
            return Ok(Ok(checked.thumbprint));
        }
        Ok(Err(ProofProblem::Reused))
    }
}

/// Refuses a client without the proof that it must bring.
pub(crate) fn demand(client: &Client, origin: Origin<'_>) -> Result<(), GrantError> {
    if origin.proof.is_none() && client.attribute_is(REQUIRED) {
        return Err(GrantError::Proof(ProofProblem::Missing));
    }
    Ok(())
}

/// The thumbprint a token is bound to.
pub(crate) fn bound_to(claims: &Rep) -> Option<&str> {
    claims.entry_text("cnf", "jkt")
}

/// The `cnf` claim of a token bound to a key.
pub(crate) fn confirmation(thumbprint: &str) -> Value {
    json!({"jkt": thumbprint})
}

struct Checked {
    thumbprint: String,
    id: String,
    issued_s: i64,
}

fn check(proof: &str, request: Proven<'_>, now_s: i64) -> Result<Checked, ProofProblem> {
    let malformed = ProofProblem::Malformed;
    if proof.len() > TOKEN_BYTES_MAX {
        return Err(malformed);
    }
    let jws = CompactJws::parse(proof).map_err(|_| malformed)?;
    let header: Rep = serde_json::from_slice(&jws.header).map_err(|_| malformed)?;
    if header.text("typ") != Some(TYPE) {
        return Err(ProofProblem::Type);
    }
    let named = header.text("alg").and_then(|name| name.parse().ok());
    let algorithm: Algorithm = named
        .filter(|it: &Algorithm| it.key_type() != "oct")
        .ok_or(ProofProblem::Algorithm)?;
    if header.contains_key("crit") {
        return Err(malformed);
    }
    let key = header.get("jwk").and_then(Value::as_object);
    let thumbprint = verify(key.ok_or(ProofProblem::NoKey)?, algorithm, &jws)?;
    let claims: Rep = serde_json::from_slice(&jws.payload).map_err(|_| malformed)?;
    let text = |name: &str| claims.text(name).filter(|it| !it.trim().is_empty());
    let issued_s = claims.get("iat").and_then(Value::as_i64);
    let (Some(issued_s), Some(id), Some(method), Some(url)) =
        (issued_s, text("jti"), text("htm"), text("htu"))
    else {
        return Err(ProofProblem::Claims);
    };
    if id.len() > ID_BYTES_MAX {
        return Err(ProofProblem::Claims);
    }
    if normal(url) != normal(request.url) {
        return Err(ProofProblem::Url);
    }
    if method != request.method {
        return Err(ProofProblem::Method);
    }
    let oldest_s = now_s.saturating_sub(LIFE_S + SKEW_S);
    if issued_s < oldest_s || issued_s > now_s.saturating_add(SKEW_S) {
        return Err(ProofProblem::NotActive);
    }
    if let Some(token) = request.token {
        let sent = text("ath").ok_or(ProofProblem::NoTokenHash)?;
        if sent != hash(token) {
            return Err(ProofProblem::TokenHash);
        }
    }
    Ok(Checked {
        thumbprint,
        id: id.to_owned(),
        issued_s,
    })
}

/// Verifies with the proof's own key and gives the key's thumbprint (RFC 7638).
fn verify(
    key: &Map<String, Value>,
    algorithm: Algorithm,
    jws: &CompactJws<'_>,
) -> Result<String, ProofProblem> {
    if ["d", "p", "q", "dp", "dq", "qi", "k"]
        .iter()
        .any(|name| key.contains_key(*name))
    {
        return Err(ProofProblem::PrivateKey);
    }
    let unusable = ProofProblem::Key;
    let jwk: Jwk = serde_json::from_value(Value::Object(key.clone())).map_err(|_| unusable)?;
    let too_long = |text: &String| text.len() > MODULUS_CHARS_MAX;
    if jwk.kty.as_deref() != Some(algorithm.key_type()) || jwk.n.as_ref().is_some_and(too_long) {
        return Err(unusable);
    }
    let public = VerifyingKey::from_jwk(&jwk, algorithm).map_err(|_| unusable)?;
    public
        .verify(jws.signing_input.as_bytes(), &jws.signature)
        .map_err(|_| ProofProblem::Signature)?;
    jwk.thumbprint().ok_or(unusable)
}

/// A URL for comparison: without query and fragment, host in lower case, without a default port.
fn normal(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else {
        return plain.to_owned();
    };
    let scheme = scheme.to_ascii_lowercase();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut authority = authority.to_ascii_lowercase();
    let default = if scheme == "https" { ":443" } else { ":80" };
    if let Some(name) = authority.strip_suffix(default) {
        authority = name.to_owned();
    }
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use o28m_jose::SigningKey;

    use super::*;

    const URL: &str = "https://iris.example/auth/realms/r/protocol/openid-connect/token";

    fn key() -> SigningKey {
        let der = SigningKey::generate_pkcs8(Algorithm::ES256).unwrap();
        SigningKey::from_pkcs8("", Algorithm::ES256, &der).unwrap()
    }

    fn public(key: &SigningKey) -> Value {
        let jwk = key.public_jwk();
        json!({"kty": "EC", "crv": jwk.crv, "x": jwk.x, "y": jwk.y})
    }

    fn made(key: &SigningKey, header: &Value, claims: &Value) -> String {
        let (header, claims) = (header.to_string(), claims.to_string());
        o28m_jose::sign(header.as_bytes(), claims.as_bytes(), key)
    }

    fn result(header: &Value, claims: &Value, key: &SigningKey) -> Result<String, ProofProblem> {
        let request = Proven {
            method: "POST",
            url: URL,
            token: None,
        };
        check(&made(key, header, claims), request, 1000).map(|it| it.thumbprint)
    }

    #[test]
    fn a_proof_is_for_one_request_and_short_lived() {
        let key = key();
        let header = json!({"typ": TYPE, "alg": "ES256", "jwk": public(&key)});
        let claims = json!({"jti": "j", "htm": "POST", "htu": URL, "iat": 1000});
        assert!(result(&header, &claims, &key).is_ok());
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            result(&header, &claims, &key)
        };
        assert!(with("htu", json!(format!("{URL}?x=1"))).is_ok());
        let loud = URL.replace("https://iris.example", "HTTPS://IRIS.example:443");
        assert!(with("htu", json!(loud)).is_ok());
        for (name, value, problem) in [
            ("htm", json!("GET"), ProofProblem::Method),
            ("htu", json!("https://iris.example/"), ProofProblem::Url),
            ("jti", json!(""), ProofProblem::Claims),
            ("iat", json!("1000"), ProofProblem::Claims),
            ("iat", json!(974), ProofProblem::NotActive),
            ("iat", json!(1016), ProofProblem::NotActive),
        ] {
            assert_eq!(with(name, value), Err(problem));
        }
        assert!(with("iat", json!(975)).is_ok() && with("iat", json!(1015)).is_ok());
    }

    #[test]
    fn a_proof_is_signed_by_the_key_it_shows() {
        let (key, other) = (key(), key());
        let claims = json!({"jti": "j", "htm": "POST", "htu": URL, "iat": 1000});
        let mut private = public(&key);
        private["d"] = json!("AA");
        for (header, problem) in [
            (
                json!({"typ": "JWT", "alg": "ES256", "jwk": public(&key)}),
                ProofProblem::Type,
            ),
            (
                json!({"typ": TYPE, "alg": "HS256", "jwk": public(&key)}),
                ProofProblem::Algorithm,
            ),
            (
                json!({"typ": TYPE, "alg": "none", "jwk": public(&key)}),
                ProofProblem::Algorithm,
            ),
            (json!({"typ": TYPE, "alg": "ES256"}), ProofProblem::NoKey),
            (
                json!({"typ": TYPE, "alg": "ES256", "jwk": private}),
                ProofProblem::PrivateKey,
            ),
            (
                json!({"typ": TYPE, "alg": "RS256", "jwk": public(&key)}),
                ProofProblem::Key,
            ),
            (
                json!({"typ": TYPE, "alg": "ES256", "jwk": public(&other)}),
                ProofProblem::Signature,
            ),
        ] {
            assert_eq!(result(&header, &claims, &key), Err(problem), "{header}");
        }
    }
}
