use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::base64url;
use crate::key::sha256;

/// A public JSON Web Key (RFC 7517 section 4). Symmetric and private members are never kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the registered members")]
pub struct Jwk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kty: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x5c: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x5t: Option<String>,
    #[serde(default, rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    pub x5t_s256: Option<String>,
}

impl Jwk {
    /// The SHA-256 thumbprint (RFC 7638, RFC 8037 section 2); `None` without the members it is made of.
    #[must_use]
    pub fn thumbprint(&self) -> Option<String> {
        // The required members in the order of their names, without spaces.
        let text = match self.kty.as_deref()? {
            "RSA" => json!({"e": self.e.as_ref()?, "kty": "RSA", "n": self.n.as_ref()?}),
            "EC" => json!({
                "crv": self.crv.as_ref()?, "kty": "EC",
                "x": self.x.as_ref()?, "y": self.y.as_ref()?,
            }),
            "OKP" => json!({"crv": self.crv.as_ref()?, "kty": "OKP", "x": self.x.as_ref()?}),
            _ => return None,
        };
        Some(base64url(&sha256(text.to_string().as_bytes())))
    }
}

/// A JWK Set (RFC 7517 section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwkSet {
    /// The keys, in publication order. Reading leaves out what is no key, as the standard asks.
    #[serde(deserialize_with = "readable")]
    pub keys: Vec<Jwk>,
}

impl JwkSet {
    /// The first key with that `kid`.
    #[must_use]
    pub fn by_kid(&self, kid: &str) -> Option<&Jwk> {
        self.keys.iter().find(|key| key.kid.as_deref() == Some(kid))
    }
}

/// The keys whose members have the types they should have: one odd key does not spoil the set.
fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Jwk>, D::Error> {
    let keys = Vec::<Value>::deserialize(deserializer)?;
    let keys = keys.into_iter().filter(Value::is_object);
    Ok(keys
        .filter_map(|key| serde_json::from_value(key).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_odd_types_are_left_out() {
        let text =
            r#"{"keys": [{"kty": 5}, "RSA", null, {"kty": "RSA", "kid": "a"}, []], "more": 1}"#;
        let set: JwkSet = serde_json::from_str(text).unwrap();
        assert_eq!(set.keys.len(), 1);
        assert!(set.by_kid("a").is_some());
        for text in ["{}", r#"{"keys": {}}"#, r#"{"keys": null}"#, "[]"] {
            assert!(serde_json::from_str::<JwkSet>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn thumbprints_are_those_of_the_standard() {
        // RFC 7638 section 3.1; the members that do not count are left out.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = Jwk {
            kty: Some("RSA".to_owned()),
            kid: Some("2011-04-29".to_owned()),
            alg: Some("RS256".to_owned()),
            n: Some(n.to_owned()),
            e: Some("AQAB".to_owned()),
            ..Jwk::default()
        };
        assert_eq!(
            jwk.thumbprint().as_deref(),
            Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
        );
        let bare = Jwk { e: None, ..jwk };
        assert_eq!(bare.thumbprint(), None);
        assert_eq!(Jwk::default().thumbprint(), None);
    }
}
