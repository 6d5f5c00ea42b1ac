//! Reading a stored configuration.

use http::StatusCode;
use http::header::HeaderName;
use o28m_gateway::BadConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads `config`. Members that are null count as not there, so that defaults apply: Kong stores
/// every unset field as null.
///
/// # Errors
/// [`BadConfig`] naming the field that does not fit.
pub(crate) fn read<T: DeserializeOwned>(config: &Value) -> Result<T, BadConfig> {
    serde_json::from_value(without_nulls(config)).map_err(|error| BadConfig(error.to_string()))
}

/// A configured header name.
///
/// # Errors
/// [`BadConfig`] for a text that names no header.
pub(crate) fn header_name(name: &str) -> Result<HeaderName, BadConfig> {
    HeaderName::try_from(name).map_err(|_| BadConfig(format!("bad header name '{name}'")))
}

/// A status that is configured as a number.
pub(crate) fn status(number: f64) -> Option<StatusCode> {
    let code = (100..=999_u16).find(|code| f64::from(*code) == number.floor())?;
    StatusCode::from_u16(code).ok()
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| (name.clone(), without_nulls(member)))
            .collect(),
        Value::Null => Value::Object(serde_json::Map::new()),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        size: u32,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { size: 128 }
        }
    }

    #[test]
    fn null_means_the_default_and_unknown_fields_are_named() {
        assert_eq!(read::<Sample>(&json!({"size": null})).unwrap().size, 128);
        assert_eq!(read::<Sample>(&Value::Null).unwrap().size, 128);
        let error = read::<Sample>(&json!({"sise": 1})).unwrap_err();
        assert!(error.0.contains("sise"), "{error}");
    }
}
