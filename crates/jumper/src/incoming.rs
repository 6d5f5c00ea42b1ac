//! The token the consumer came with. Its signature was checked by the gateway; only claims are read
//! here.

use o28m_core::{Timestamp, limits};
use o28m_jose::from_base64url;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::time::iso;

/// Seconds a token may be over or not yet valid.
const SKEW_S: i64 = 3600;

/// Why the incoming token cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("Token not provided, but expected")]
    Missing,
    #[error("Invalid token format, Missing Bearer prefix")]
    NoBearer,
    #[error("Invalid token format")]
    Format,
    #[error("Invalid token payload")]
    Payload,
    #[error("{0}")]
    Time(String),
}

/// The claims that matter.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Claims {
    pub(crate) iss: Option<String>,
    pub(crate) sub: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) origin_zone: Option<String>,
    pub(crate) origin_stargate: Option<String>,
    /// Read only to be sure that it is text.
    pub(crate) scope: Option<String>,
    #[serde(deserialize_with = "audience")]
    pub(crate) aud: Vec<String>,
    #[serde(deserialize_with = "seconds")]
    pub(crate) exp: Option<i64>,
    #[serde(deserialize_with = "seconds")]
    pub(crate) iat: Option<i64>,
    #[serde(deserialize_with = "seconds")]
    pub(crate) nbf: Option<i64>,
}

/// Reads the claims of an `Authorization` value.
///
/// # Errors
/// [`TokenError`]; times may be off by an hour.
pub(crate) fn parse(authorization: Option<&str>, now: Timestamp) -> Result<Claims, TokenError> {
    let value = authorization.ok_or(TokenError::Missing)?.trim();
    let (scheme, token) = value.split_once(' ').ok_or(TokenError::NoBearer)?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(TokenError::NoBearer);
    }
    if token.len() > limits::TOKEN_BYTES_MAX {
        return Err(TokenError::Format);
    }
    let mut parts = token.trim().split('.');
    let (Some(_), Some(payload), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(TokenError::Format);
    };
    let payload = from_base64url(payload).ok_or(TokenError::Payload)?;
    // A sequence would also do as far as the deserialiser is concerned.
    if payload.first() != Some(&b'{') {
        return Err(TokenError::Payload);
    }
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Payload)?;
    check_times(&claims, now)?;
    Ok(claims)
}

fn check_times(claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
    let at = |seconds: i64| Timestamp::from_seconds(seconds);
    let skew = SKEW_S * 1000;
    if let Some(exp) = claims.exp.map(at) {
        let late = now.millis_since(exp);
        if late > skew {
            return Err(TokenError::Time(format!(
                "JWT expired {late} milliseconds ago at {}. Current time: {}. Allowed clock skew: {skew} milliseconds.",
                iso(exp),
                iso(now)
            )));
        }
    }
    if let Some(nbf) = claims.nbf.map(at) {
        let early = nbf.millis_since(now);
        if early > skew {
            return Err(TokenError::Time(format!(
                "JWT early by {early} milliseconds before {}. Current time: {}. Allowed clock skew: {skew} milliseconds.",
                iso(nbf),
                iso(now)
            )));
        }
    }
    Ok(())
}

/// One audience or several.
fn audience<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<Audience>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Audience::One(audience)) => vec![audience],
        Some(Audience::Many(audiences)) => audiences,
    })
}

/// Seconds since the epoch; a fraction is cut off. The range is that of years with four digits.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    const YEAR_10000: i64 = 253_402_300_800;
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let seconds = match (number.as_i64(), number.as_f64()) {
        (Some(seconds), _) => seconds,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the cast saturates and the range is checked"
        )]
        (None, Some(seconds)) => seconds as i64,
        (None, None) => return Err(D::Error::custom("not a number of seconds")),
    };
    if (-YEAR_10000..YEAR_10000).contains(&seconds) {
        Ok(Some(seconds))
    } else {
        Err(D::Error::custom("time is out of range"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use o28m_jose::base64url;

    const NOW: Timestamp = Timestamp::from_seconds(1_789_000_000);

    fn of(payload: &str) -> Result<Claims, TokenError> {
        let token = format!("Bearer e30.{}.x", base64url(payload.as_bytes()));
        parse(Some(&token), NOW)
    }

    #[test]
    fn formats_are_refused_by_name() {
        for (value, error) in [
            (None, TokenError::Missing),
            (Some("Basic abc"), TokenError::NoBearer),
            (Some("Bearer"), TokenError::NoBearer),
            (Some("Bearer abc"), TokenError::Format),
            (Some("Bearer a.b"), TokenError::Format),
            (Some("Bearer a.b.c"), TokenError::Payload),
            (Some("Bearer a.W10.c"), TokenError::Payload),
        ] {
            assert_eq!(parse(value, NOW).unwrap_err(), error, "{value:?}");
        }
        let long = format!("Bearer a.{}.c", "A".repeat(limits::TOKEN_BYTES_MAX));
        assert_eq!(parse(Some(&long), NOW).unwrap_err(), TokenError::Format);
    }

    #[test]
    fn claims_must_have_their_types() {
        for payload in [
            r#"{"clientId":1}"#,
            r#"{"originZone":["a"]}"#,
            r#"{"sub":{}}"#,
            r#"{"scope":[]}"#,
            r#"{"aud":1}"#,
            r#"{"exp":"x"}"#,
            r#"{"exp":1e300}"#,
        ] {
            assert_eq!(of(payload).unwrap_err(), TokenError::Payload, "{payload}");
        }
        let claims = of(r#"{"aud":["a"],"exp":1789000000.9,"realm_access":{}}"#).unwrap();
        assert_eq!(
            (claims.aud, claims.exp),
            (vec!["a".to_owned()], Some(1_789_000_000))
        );
    }

    #[test]
    fn times_may_be_off_by_an_hour() {
        assert!(of(r#"{"exp":1788996400,"nbf":1789003600}"#).is_ok());
        let text = |payload| of(payload).unwrap_err().to_string();
        assert!(text(r#"{"exp":1788996399}"#).starts_with("JWT expired 3601000 milliseconds"));
        assert!(text(r#"{"nbf":1789003601}"#).starts_with("JWT early by 3601000 milliseconds"));
    }
}
