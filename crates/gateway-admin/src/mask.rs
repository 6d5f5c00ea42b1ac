//! What must not be shown to readers and in the audit log: private keys, passwords, tokens.
//!
//! It goes by the names of members, whatever the entity, so that a new entity or plugin is covered
//! before anyone thinks of it.

use serde_json::Value;

/// What stands where a secret was, as in Kong's own list of settings.
const MASK: &str = "******";
/// Members that hold a secret.
const SECRET: &[&str] = &[
    "key",
    "key_alt",
    "private_key",
    "jwk",
    "secret",
    "password",
    "token",
    "authorization",
    "proxy-authorization",
    "cookie",
];
/// Ends of such names.
const SECRET_ENDS: &[&str] = &["_secret", "_password", "_token", "_key", "-key", "-token"];
/// Names with such an end that hold none.
const PUBLIC: &[&str] = &["public_key", "rsa_public_key"];
/// Headers whose value is a secret, in entries such as `Authorization:Basic …` of plugins that set
/// headers. The last two carry client secrets for the token gateway.
const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "apikey",
    "x-api-key",
    "jumper_config",
    "routing_config",
];

/// Whether a member of that name holds a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if PUBLIC.contains(&name.as_str()) {
        return false;
    }
    SECRET.contains(&name.as_str()) || SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

/// Takes the secrets out of a document, a page of documents or any part of one.
pub(crate) fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if is_secret(name) {
                    cover(member);
                }
                mask(member);
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(mask),
        Value::String(text) => {
            let header = text.split_once(':').map(|(name, _)| name.trim());
            if let Some(name) = header
                && SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str())
            {
                *text = format!("{name}:{MASK}");
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Replaces a secret; whether there is one stays visible.
pub(crate) fn cover(value: &mut Value) {
    match value {
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => MASK.clone_into(text),
        Value::Array(elements) => elements.iter_mut().for_each(cover),
        // Descriptions of fields, and records whose own members tell what is secret.
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let mut page = json!({"data": [{
            "cert": "C", "key": "K", "key_alt": null, "jwk": "{}", "pem": {"private_key": "P", "public_key": "U"},
            "config": {
                "redis_password": "pw", "redis": {"password": "pw"}, "key_names": ["apikey"],
                "replace": {"headers": ["Authorization:Basic YTpi", "environment:dev"]},
                "append": {"headers": ["jumper_config:e30=", "remote_api_url:https://a/b"]},
                "headers": {"Authorization": ["Bearer t"], "x-a": ["1"]},
            },
        }], "next": "/a?offset=b"});
        mask(&mut page);
        assert_eq!(
            page,
            json!({"data": [{
            "cert": "C", "key": "******", "key_alt": null, "jwk": "******",
            "pem": {"private_key": "******", "public_key": "U"},
            "config": {
                "redis_password": "******", "redis": {"password": "******"}, "key_names": ["apikey"],
                "replace": {"headers": ["Authorization:******", "environment:dev"]},
                "append": {"headers": ["jumper_config:******", "remote_api_url:https://a/b"]},
                "headers": {"Authorization": ["******"], "x-a": ["1"]},
            },
        }], "next": "/a?offset=b"})
        );
        let mut schema = json!({"fields": [{"key": {"type": "string", "required": true}}]});
        let before = schema.clone();
        mask(&mut schema);
        assert_eq!(schema, before);
    }
}
