//! The configuration that travels with a request: base64 of JSON in `jumper_config` and
//! `routing_config`.

use std::collections::HashMap;
use std::sync::Arc;

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine as _};
use o28m_core::{Secret, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::cache::Cache;

/// Longest encoded configuration that is looked at; the original's header limit is 32 KiB.
const ENCODED_BYTES_MAX: usize = 1024 * 1024;
/// Encoded bytes whose decoded form is remembered.
const CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Seconds a decoded configuration is remembered. It is a pure function of its text.
const CACHE_TTL_S: i64 = 3600;

/// Standard base64 as Java's decoder takes it: padding may be missing.
pub(crate) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A configuration header cannot be used. Neither text nor value of it is repeated: it holds
/// secrets.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{0}")]
    Base64(String),
    #[error("can not base64decode header: {0}")]
    Shape(&'static str),
}

/// Everything `jumper_config`, or one entry of `routing_config`, may say. Unknown members are
/// ignored.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RouteConfig {
    #[serde(deserialize_with = "map")]
    pub(crate) oauth: HashMap<String, OauthCredentials>,
    #[serde(deserialize_with = "map")]
    pub(crate) basic_auth: HashMap<String, BasicCredentials>,
    #[serde(deserialize_with = "map")]
    pub(crate) route_listener: HashMap<String, RouteListener>,
    #[serde(deserialize_with = "list")]
    pub(crate) remove_headers: Vec<String>,
    pub(crate) load_balancing: Option<LoadBalancing>,
    #[serde(deserialize_with = "flag")]
    pub(crate) mesh: bool,
    #[serde(deserialize_with = "map")]
    pub(crate) claims: HashMap<String, Vec<Option<ClaimRule>>>,
    #[serde(deserialize_with = "text")]
    pub(crate) target_zone_name: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) remote_api_url: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) api_base_path: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) environment: Option<String>,
    // Control planes write the second name, the original reads the first one only.
    #[serde(deserialize_with = "text", alias = "tokenEndpoint")]
    pub(crate) external_token_endpoint: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) issuer: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) client_id: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub(crate) client_secret: Option<Secret<String>>,
    #[serde(deserialize_with = "text")]
    pub(crate) scopes: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) x_spacegate_client_id: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub(crate) x_spacegate_client_secret: Option<Secret<String>>,
    #[serde(deserialize_with = "text")]
    pub(crate) x_spacegate_scope: Option<String>,
    #[serde(deserialize_with = "flag")]
    pub(crate) secondary_failover: bool,
}

/// Credentials at an external identity provider, or only the scopes of a One Token.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct OauthCredentials {
    #[serde(deserialize_with = "text")]
    pub(crate) client_id: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub(crate) client_secret: Option<Secret<String>>,
    #[serde(deserialize_with = "secret")]
    pub(crate) client_key: Option<Secret<String>>,
    #[serde(deserialize_with = "text")]
    pub(crate) scopes: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) username: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub(crate) password: Option<Secret<String>>,
    #[serde(deserialize_with = "secret")]
    pub(crate) refresh_token: Option<Secret<String>>,
    #[serde(deserialize_with = "text")]
    pub(crate) grant_type: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) token_request: Option<String>,
}

impl OauthCredentials {
    fn is_scopes_only(&self) -> bool {
        let secrets = [
            &self.client_secret,
            &self.client_key,
            &self.password,
            &self.refresh_token,
        ];
        let texts = [
            &self.client_id,
            &self.username,
            &self.grant_type,
            &self.token_request,
        ];
        self.scopes.is_some()
            && secrets.iter().all(|it| it.is_none())
            && texts.iter().all(|it| it.is_none())
    }
}

/// User name and password for a provider.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct BasicCredentials {
    #[serde(deserialize_with = "text")]
    pub(crate) username: Option<String>,
    #[serde(deserialize_with = "secret")]
    pub(crate) password: Option<Secret<String>>,
}

/// Who listens to a consumer's traffic, and under which name.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RouteListener {
    #[serde(deserialize_with = "text")]
    pub(crate) issue: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) service_owner: Option<String>,
}

/// Several upstreams of one route.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct LoadBalancing {
    #[serde(deserialize_with = "list")]
    pub(crate) servers: Vec<Server>,
}

/// One upstream and its share.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Server {
    #[serde(deserialize_with = "text")]
    pub(crate) upstream: Option<String>,
    #[serde(deserialize_with = "number")]
    pub(crate) weight: Option<f64>,
}

/// A claim the route wants in its tokens.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimRule {
    #[serde(deserialize_with = "text")]
    pub(crate) key: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) value: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(crate) value_from: Option<String>,
}

/// The entry of a consumer, else the one named `default`.
pub(crate) fn keyed<'a, T>(map: &'a HashMap<String, T>, consumer: Option<&str>) -> Option<&'a T> {
    consumer
        .and_then(|consumer| map.get(consumer))
        .or_else(|| map.get("default"))
}

impl RouteConfig {
    /// OAuth credentials for a consumer. An entry that only narrows the scopes rides on the default
    /// one.
    pub(crate) fn oauth_for(&self, consumer: Option<&str>) -> Option<OauthCredentials> {
        let found = keyed(&self.oauth, consumer)?;
        match self.oauth.get("default") {
            Some(default) if found.is_scopes_only() => Some(OauthCredentials {
                scopes: found.scopes.clone(),
                ..default.clone()
            }),
            _ => Some(found.clone()),
        }
    }

    /// Scopes for a consumer's One Token or mesh token.
    pub(crate) fn scopes_for(&self, consumer: Option<&str>) -> Option<&str> {
        keyed(&self.oauth, consumer)?.scopes.as_deref()
    }
}

/// Decodes configurations, each distinct text once.
pub(crate) struct Decoder {
    decoded: Cache<Box<str>, Arc<[Arc<RouteConfig>]>>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            decoded: Cache::new(CACHE_BYTES_MAX),
        }
    }

    /// The object of a `jumper_config` header; an absent one is empty.
    pub(crate) fn object(
        &self,
        encoded: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<RouteConfig>, ConfigError> {
        let Some(encoded) = encoded else {
            return Ok(Arc::default());
        };
        if let Some(found) = self.decoded.get(encoded, now)
            && let [config] = &*found
        {
            return Ok(Arc::clone(config));
        }
        let shape = || ConfigError::Shape("jumper_config");
        let value = decode(encoded)?.ok_or_else(shape)?;
        let config = Arc::new(entry(value).ok_or_else(shape)?);
        self.keep(encoded, Arc::from(vec![Arc::clone(&config)]), now);
        Ok(config)
    }

    /// The array of a `routing_config` header, which must not be blank.
    pub(crate) fn array(
        &self,
        encoded: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<[Arc<RouteConfig>]>, ConfigError> {
        let shape = || ConfigError::Shape("routing_config");
        // The same text cannot be an object and an array, and one key serves both: `[` marks
        // arrays.
        let encoded = encoded.ok_or_else(shape)?;
        let key = format!("[{encoded}");
        if let Some(found) = self.decoded.get(key.as_str(), now) {
            return Ok(found);
        }
        let Some(Value::Array(entries)) = decode(encoded)? else {
            return Err(shape());
        };
        let entries = entries.into_iter().map(|value| entry(value).map(Arc::new));
        let entries: Option<Vec<_>> = entries.collect();
        let entries: Arc<[_]> = entries.ok_or_else(shape)?.into();
        self.keep(&key, Arc::clone(&entries), now);
        Ok(entries)
    }

    fn keep(&self, key: &str, value: Arc<[Arc<RouteConfig>]>, now: Timestamp) {
        // The decoded form takes a few times the space of its text.
        let weight = key.len() * 4 + 512;
        let expires = now.plus_seconds(CACHE_TTL_S);
        self.decoded.insert(key.into(), value, weight, expires);
    }
}

fn decode(encoded: &str) -> Result<Option<Value>, ConfigError> {
    if encoded.len() > ENCODED_BYTES_MAX {
        return Ok(None);
    }
    let bytes = LENIENT
        .decode(encoded)
        .map_err(|error| ConfigError::Base64(base64_reason(&error)))?;
    Ok(serde_json::from_slice(&bytes).ok())
}

fn entry(value: Value) -> Option<RouteConfig> {
    let value = Some(value).filter(Value::is_object)?;
    serde_json::from_value(value).ok()
}

/// The texts of Java's decoder, which users know.
pub(crate) fn base64_reason(error: &DecodeError) -> String {
    match error {
        DecodeError::InvalidByte(_, b'=') | DecodeError::InvalidPadding => {
            "Input byte array has wrong 4-byte ending unit".to_owned()
        }
        DecodeError::InvalidByte(_, byte) | DecodeError::InvalidLastSymbol(_, byte) => {
            format!("Illegal base64 character {byte:x}")
        }
        DecodeError::InvalidLength(_) => "Last unit does not have enough valid bits".to_owned(),
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Array(_) | Value::Object(_) => Err(D::Error::custom("expected text")),
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret<String>>, D::Error> {
    Ok(text(deserializer)?.map(Secret::new))
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match text(deserializer)?.as_deref() {
        None | Some("" | "false" | "False" | "FALSE" | "0") => Ok(false),
        Some("true" | "True" | "TRUE" | "1") => Ok(true),
        Some(_) => Err(D::Error::custom("expected true or false")),
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let Some(text) = text(deserializer)? else {
        return Ok(None);
    };
    let number: f64 = text.trim().parse().map_err(D::Error::custom)?;
    if number.is_finite() {
        Ok(Some(number))
    } else {
        Err(D::Error::custom("expected a finite number"))
    }
}

/// A map whose `null` members, or which itself, count as absent.
fn map<'de, D, T>(deserializer: D) -> Result<HashMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let map = Option::<HashMap<String, Option<T>>>::deserialize(deserializer)?;
    let present = |(key, value): (String, Option<T>)| value.map(|value| (key, value));
    Ok(map
        .unwrap_or_default()
        .into_iter()
        .filter_map(present)
        .collect())
}

/// A list whose `null` items, or which itself, count as absent.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Option::<Vec<Option<T>>>::deserialize(deserializer)?;
    Ok(list.unwrap_or_default().into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1);

    fn object(json: &str) -> Result<Arc<RouteConfig>, ConfigError> {
        Decoder::new().object(Some(&LENIENT.encode(json)), NOW)
    }

    #[test]
    fn scalars_are_taken_leniently_and_null_is_absent() {
        let config = object(
            r#"{"mesh":"true","claims":null,"removeHeaders":["a",null],"clientId":7,"foo":1,
                "loadBalancing":{"servers":[{"upstream":"u","weight":"50"},{"weight":null}]},
                "oauth":{"a":null,"b":{"scopes":"s"}}}"#,
        )
        .unwrap();
        assert!(config.mesh && config.claims.is_empty());
        assert_eq!(config.remove_headers, ["a"]);
        assert_eq!(config.client_id.as_deref(), Some("7"));
        let servers = &config.load_balancing.as_ref().unwrap().servers;
        assert_eq!((servers[0].weight, servers[1].weight), (Some(50.0), None));
        assert_eq!(config.scopes_for(Some("b")), Some("s"));
        assert_eq!(config.scopes_for(Some("a")), None);
    }

    #[test]
    fn errors_name_the_header_and_never_its_value() {
        let decoder = Decoder::new();
        let base64 = |text: &str| decoder.object(Some(text), NOW).err().unwrap().to_string();
        assert_eq!(base64("%%%"), "Illegal base64 character 25");
        assert_eq!(base64("a-b"), "Illegal base64 character 2d");
        for json in ["[1", "[]", "null", "1", r#"{"mesh":[]}"#, r#"{"oauth":[]}"#] {
            let error = object(json).err().unwrap().to_string();
            assert_eq!(
                error, "can not base64decode header: jumper_config",
                "{json}"
            );
        }
        for text in [
            None,
            Some(LENIENT.encode("{}")),
            Some(LENIENT.encode("[[]]")),
        ] {
            let error = decoder
                .array(text.as_deref(), NOW)
                .err()
                .unwrap()
                .to_string();
            assert_eq!(error, "can not base64decode header: routing_config");
        }
        assert!(decoder.object(Some("e30"), NOW).is_ok());
        assert!(decoder.object(None, NOW).is_ok());
    }

    #[test]
    fn an_entry_with_scopes_only_rides_on_the_default_credentials() {
        let config = object(
            r#"{"oauth":{"default":{"clientId":"d","scopes":"x"},"a":{"scopes":"y"},"b":{"clientId":"b"}}}"#,
        )
        .unwrap();
        let of = |consumer| {
            let found = config.oauth_for(Some(consumer)).unwrap();
            (found.client_id, found.scopes)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("a"), (some("d"), some("y")));
        assert_eq!(of("b"), (some("b"), None));
        assert_eq!(of("c"), (some("d"), some("x")));
    }

    #[test]
    fn each_text_is_decoded_once() {
        let decoder = Decoder::new();
        let first = decoder.object(Some("e30="), NOW).unwrap();
        let second = decoder.object(Some("e30="), NOW).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
    }
}
