//! Types for the texts of a form, taken from the declaration (spec gateway-admin 4.2).

use serde_json::{Number, Value, json};

use crate::entity::{Document, Overlay};
use crate::schema::{Field, Kind};

/// Converts what is declared; unknown members stay as they are and fail validation.
pub(crate) fn coerce(fields: &[Field], overlay: Overlay, form: Document) -> Document {
    let declared = |name: &str| {
        let mut all = overlay.fields.iter().chain(fields);
        all.find(|field| field.name == name).copied()
    };
    form.into_iter()
        .map(|(name, given)| {
            let converted = match declared(&name) {
                Some(field) => value(field.kind, given),
                None => empty_to_null(given),
            };
            (name, converted)
        })
        .collect()
}

fn empty_to_null(value: Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() => Value::Null,
        other => other,
    }
}

fn value(kind: Kind, given: Value) -> Value {
    match (kind, empty_to_null(given)) {
        (_, Value::Null) => Value::Null,
        (Kind::Integer | Kind::Number, Value::String(text)) => number(text),
        (Kind::Boolean, Value::String(text)) => match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => Value::String(text),
        },
        (Kind::Array(element) | Kind::Set(element), Value::Array(elements)) => {
            let elements = elements.into_iter();
            Value::Array(elements.map(|given| value(element.kind, given)).collect())
        }
        (Kind::Array(element) | Kind::Set(element), scalar) => {
            Value::Array(vec![value(element.kind, scalar)])
        }
        (Kind::Map { values, .. }, Value::Object(members)) => Value::Object(
            members
                .into_iter()
                .map(|(name, given)| (name, value(values.kind, given)))
                .collect(),
        ),
        (Kind::Record(fields), Value::Object(members)) => {
            Value::Object(coerce(fields, Overlay::default(), members))
        }
        (_, other) => other,
    }
}

/// Numbers as Lua reads them: decimal, hexadecimal, with exponent.
fn number(text: String) -> Value {
    let trimmed = text.trim();
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, trimmed),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    if let Some(digits) = hexadecimal {
        return match i64::from_str_radix(digits, 16) {
            Ok(number) if !digits.starts_with(['+', '-']) => {
                json!(if negative { -number } else { number })
            }
            _ => Value::String(text),
        };
    }
    if let Ok(integer) = trimmed.parse::<i64>() {
        return json!(integer);
    }
    // Rust also reads "inf" and "nan", which are no numbers of JSON.
    let starts_as_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    trimmed
        .parse::<f64>()
        .ok()
        .filter(|_| starts_as_number)
        .and_then(Number::from_f64)
        .map_or(Value::String(text), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity;

    #[test]
    fn texts_get_the_types_of_their_fields() {
        let form = json!({
            "retries": "0x10", "port": "80", "enabled": "true", "name": "true", "path": "",
            "tags": "a", "connect_timeout": "1e3", "read_timeout": "x", "url": "",
        });
        let Value::Object(form) = form else { panic!() };
        let coerced = entity("services").unwrap().coerce(form, None);
        assert_eq!(
            Value::Object(coerced),
            json!({
                "retries": 16, "port": 80, "enabled": true, "name": "true", "path": null,
                "tags": ["a"], "connect_timeout": 1000.0, "read_timeout": "x", "url": null,
            })
        );
    }

    #[test]
    fn a_plugins_configuration_follows_the_plugin_named_or_stored() {
        let form = json!({"config": {"consumer_match": "true", "scope": ["p"], "roles": "r"}});
        let Value::Object(form) = form else { panic!() };
        let mut stored = Document::new();
        stored.insert("name".to_owned(), json!("jwt-keycloak"));
        let coerced = entity("plugins").unwrap().coerce(form, Some(&stored));
        assert_eq!(
            Value::Object(coerced),
            json!({"config": {"consumer_match": true, "scope": ["p"], "roles": ["r"]}})
        );
    }
}
