//! Payloads of the tokens that the gateway makes.

use std::borrow::Cow;
use std::collections::HashSet;

use http::Method;
use serde::Serialize;

use crate::config::RouteConfig;
use crate::incoming::Claims;

/// For whom a token is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// The provider: a One Token.
    Provider,
    /// The gateway of another zone: a mesh token.
    Gateway,
}

/// What a token says about a request, besides what the incoming token says.
pub(crate) struct Facts<'a> {
    pub(crate) receiver: Receiver,
    pub(crate) method: &'a Method,
    pub(crate) request_path: &'a str,
    pub(crate) environment: Option<&'a str>,
    pub(crate) scope: Option<&'a str>,
    pub(crate) publisher_id: Option<&'a str>,
    pub(crate) subscriber_id: Option<&'a str>,
    /// Audience that the route's configuration demands.
    pub(crate) audience: Option<&'a str>,
    pub(crate) issuer: &'a str,
}

/// The payload; the order of members is part of the format.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Payload<'a> {
    typ: &'static str,
    azp: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    operation: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_stargate: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscriber_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<Audience<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Many(Vec<&'a str>),
}

/// The payload of a One Token or mesh token. Its lifetime is that of the incoming token.
pub(crate) fn payload<'a>(incoming: &'a Claims, facts: &Facts<'a>) -> Payload<'a> {
    let provider = facts.receiver == Receiver::Provider;
    let for_provider = |value: Option<&'a str>| value.filter(|_| provider);
    let aud = match for_provider(facts.audience) {
        Some(audience) => Some(Audience::One(audience)),
        None => audience(&incoming.aud).or(for_provider(facts.subscriber_id).map(Audience::One)),
    };
    Payload {
        typ: "Bearer",
        azp: if provider { "stargate" } else { "gateway" },
        sub: present(incoming.sub.as_deref()),
        operation: facts.method.as_str(),
        client_id: incoming.client_id.as_deref(),
        origin_zone: incoming.origin_zone.as_deref(),
        origin_stargate: incoming.origin_stargate.as_deref(),
        request_path: for_provider(Some(facts.request_path)),
        env: facts.environment,
        scope: facts.scope,
        publisher_id: for_provider(facts.publisher_id),
        subscriber_id: for_provider(facts.subscriber_id),
        aud,
        iss: present(Some(facts.issuer)),
        exp: incoming.exp,
        iat: incoming.iat,
    }
}

fn present(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.trim().is_empty())
}

/// Audiences without blanks and repetitions, in their order.
fn audience(incoming: &[String]) -> Option<Audience<'_>> {
    let mut seen = HashSet::new();
    let mut audiences: Vec<&str> = incoming
        .iter()
        .map(String::as_str)
        .filter(|audience| !audience.trim().is_empty() && seen.insert(*audience))
        .collect();
    match audiences.len() {
        0 => None,
        1 => audiences.pop().map(Audience::One),
        _ => Some(Audience::Many(audiences)),
    }
}

/// The payload of the gateway's own token towards the event platform.
#[derive(Serialize)]
pub(crate) struct Publisher<'a> {
    typ: &'static str,
    azp: &'static str,
    #[serde(rename = "clientId")]
    client_id: &'static str,
    iss: &'a str,
    exp: i64,
    iat: i64,
}

/// Seconds a publisher token is valid, and for how many of them one is used.
const PUBLISHER_TTL_S: i64 = 300;
const PUBLISHER_REUSE_S: i64 = 240;

impl<'a> Publisher<'a> {
    /// A token issued at the start of the current period of reuse, so that the token cache finds it
    /// again.
    pub(crate) const fn new(issuer: &'a str, now_s: i64) -> Self {
        let iat = now_s - now_s.rem_euclid(PUBLISHER_REUSE_S);
        Self {
            typ: "Bearer",
            azp: "stargate",
            client_id: "gateway",
            iss: issuer,
            exp: iat + PUBLISHER_TTL_S,
            iat,
        }
    }

    /// When it ends.
    pub(crate) const fn exp(&self) -> i64 {
        self.exp
    }
}

/// The route's demand for an audience makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AudienceError {
    #[error("Invalid aud claim configuration: exactly one of value or valueFrom must be set")]
    NotOne,
    #[error("Invalid aud claim configuration: value must not be blank")]
    Blank,
    #[error("Invalid aud claim configuration: unsupported valueFrom")]
    Unsupported,
    #[error("Invalid aud claim configuration: ConsumerClientId could not be resolved")]
    Unresolvable,
}

/// The audience that `claims.default` of the configuration sets for One Tokens.
pub(crate) fn configured_audience<'a>(
    config: &'a RouteConfig,
    consumer: Option<&'a str>,
) -> Result<Option<Cow<'a, str>>, AudienceError> {
    let rules = config.claims.get("default");
    let rule = rules
        .into_iter()
        .flatten()
        .flatten()
        .find(|rule| rule.key.as_deref() == Some("aud"));
    let Some(rule) = rule else {
        return Ok(None);
    };
    match (rule.value.as_deref(), rule.value_from.as_deref()) {
        (Some(value), None) if value.trim().is_empty() => Err(AudienceError::Blank),
        (Some(value), None) => Ok(Some(Cow::Borrowed(value))),
        (None, Some("ConsumerClientId")) => present(consumer)
            .map(|consumer| Some(Cow::Borrowed(consumer)))
            .ok_or(AudienceError::Unresolvable),
        (None, Some(_)) => Err(AudienceError::Unsupported),
        (Some(_), Some(_)) | (None, None) => Err(AudienceError::NotOne),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>() -> Facts<'a> {
        Facts {
            receiver: Receiver::Provider,
            method: &Method::GET,
            request_path: "/p",
            environment: None,
            scope: None,
            publisher_id: None,
            subscriber_id: None,
            audience: None,
            issuer: "https://gw/auth/realms/default",
        }
    }

    #[test]
    fn members_stand_in_the_order_of_the_format() {
        let incoming = Claims {
            sub: Some("s".to_owned()),
            client_id: Some("c".to_owned()),
            origin_zone: Some("z".to_owned()),
            origin_stargate: Some("https://o".to_owned()),
            exp: Some(2),
            iat: Some(1),
            ..Claims::default()
        };
        let facts = Facts {
            environment: Some("prod"),
            scope: Some("a b"),
            publisher_id: Some("p"),
            subscriber_id: Some("u"),
            ..facts()
        };
        assert_eq!(
            serde_json::to_string(&payload(&incoming, &facts)).unwrap(),
            concat!(
                r#"{"typ":"Bearer","azp":"stargate","sub":"s","operation":"GET","clientId":"c","#,
                r#""originZone":"z","originStargate":"https://o","requestPath":"/p","env":"prod","#,
                r#""scope":"a b","publisherId":"p","subscriberId":"u","aud":"u","#,
                r#""iss":"https://gw/auth/realms/default","exp":2,"iat":1}"#
            )
        );
        let mesh = Facts {
            receiver: Receiver::Gateway,
            ..facts
        };
        assert_eq!(
            serde_json::to_string(&payload(&incoming, &mesh)).unwrap(),
            concat!(
                r#"{"typ":"Bearer","azp":"gateway","sub":"s","operation":"GET","clientId":"c","#,
                r#""originZone":"z","originStargate":"https://o","env":"prod","scope":"a b","#,
                r#""iss":"https://gw/auth/realms/default","exp":2,"iat":1}"#
            )
        );
    }

    #[test]
    fn blank_registered_claims_are_left_out_and_blank_custom_ones_stay() {
        let incoming = Claims {
            sub: Some(" ".to_owned()),
            client_id: Some(String::new()),
            aud: vec!["a".to_owned(), " ".to_owned(), "a".to_owned()],
            ..Claims::default()
        };
        let json = serde_json::to_value(payload(&incoming, &facts())).unwrap();
        assert_eq!(json.get("sub"), None);
        assert_eq!(json["clientId"], "");
        assert_eq!(json["aud"], "a");
    }

    #[test]
    fn wrong_audience_rules_are_named() {
        let of = |rule: &str| {
            let config: RouteConfig =
                serde_json::from_str(&format!(r#"{{"claims":{{"default":[null,{rule}]}}}}"#))
                    .unwrap();
            configured_audience(&config, None).map(|found| found.map(Cow::into_owned))
        };
        assert_eq!(of(r#"{"key":"x","value":"y"}"#), Ok(None));
        assert_eq!(of(r#"{"key":"aud"}"#), Err(AudienceError::NotOne));
        assert_eq!(
            of(r#"{"key":"aud","value":" "}"#),
            Err(AudienceError::Blank)
        );
        assert_eq!(
            of(r#"{"key":"aud","valueFrom":"Other"}"#),
            Err(AudienceError::Unsupported)
        );
        assert_eq!(
            of(r#"{"key":"aud","valueFrom":"ConsumerClientId"}"#),
            Err(AudienceError::Unresolvable)
        );
    }
}
