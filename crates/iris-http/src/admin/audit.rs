//! Admin events: what each successful change was (Keycloak 26.5 `AdminEventBuilder`).

use http::Method;
use o28m_iris::{AdminEvent, Error};
use serde_json::Value;

use super::Context;

/// Members that hold secrets, wherever they are.
const SECRETS: &[&str] = &[
    "secret",
    "value",
    "secretData",
    "password",
    "privateKey",
    "ecdsaPrivateKey",
    "eddsaPrivateKey",
    "registrationAccessToken",
    "client.secret.rotated",
    "hashedSaltedValue",
];

/// Parts of patterns and the kind of resource they stand for; the first that fits counts.
const RESOURCES: &[(&str, &str)] = &[
    ("/role-mappings/realm", "REALM_ROLE_MAPPING"),
    ("/role-mappings/clients", "CLIENT_ROLE_MAPPING"),
    ("/scope-mappings/realm", "REALM_SCOPE_MAPPING"),
    ("/scope-mappings/clients", "CLIENT_SCOPE_MAPPING"),
    ("/protocol-mappers/", "PROTOCOL_MAPPER"),
    ("/users/{}/groups", "GROUP_MEMBERSHIP"),
    ("/default-groups", "GROUP"),
    ("/attack-detection/", "USER_LOGIN_FAILURE"),
    ("/clients/{}/roles", "CLIENT_ROLE"),
    (
        "/clients/{}/default-client-scopes",
        "CLIENT_SCOPE_CLIENT_MAPPING",
    ),
    (
        "/clients/{}/optional-client-scopes",
        "CLIENT_SCOPE_CLIENT_MAPPING",
    ),
    ("/client-scopes", "CLIENT_SCOPE"),
    ("/default-default-client-scopes", "CLIENT_SCOPE"),
    ("/default-optional-client-scopes", "CLIENT_SCOPE"),
    ("/users", "USER"),
    ("/groups", "GROUP"),
    ("/clients", "CLIENT"),
    ("/roles", "REALM_ROLE"),
    ("/components", "COMPONENT"),
    ("/sessions", "USER_SESSION"),
    ("", "REALM"),
];

/// Ends of patterns that are neither creations nor updates.
const ACTIONS: &[&str] = &[
    "reset-password",
    "logout",
    "logout-all",
    "client-secret",
    "push-revocation",
    "partialImport",
    "partial-export",
    "clear-realm-cache",
    "clear-user-cache",
    "clear-keys-cache",
    "clear-crl-cache",
    "disable-credential-types",
];

fn resource(pattern: &str) -> &'static str {
    let path = format!("/{pattern}");
    let fits = |(part, _): &&(&str, &str)| match part.strip_prefix("/{}") {
        Some(_) => path.contains(part),
        // Parts of the inside are looked for anywhere, those with an end only at the start.
        None if part.ends_with('/') || part.contains("-mappings") => path.contains(part),
        None => path.starts_with(part),
    };
    RESOURCES
        .iter()
        .find(fits)
        .map_or("REALM", |(_, kind)| kind)
}

fn operation(method: &Method, pattern: &str) -> &'static str {
    let end = pattern.rsplit('/').next().unwrap_or_default();
    if *method == Method::DELETE {
        "DELETE"
    } else if ACTIONS.contains(&end) {
        "ACTION"
    } else if *method == Method::POST {
        "CREATE"
    } else {
        "UPDATE"
    }
}

/// Puts a mask in the place of secrets.
fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if SECRETS.contains(&name.as_str()) && !value.is_object() {
                    *value = Value::String("**********".to_owned());
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Reports a successful change; `location` is the URL of what was made.
pub(crate) async fn record(
    context: &Context<'_>,
    method: &Method,
    pattern: &'static str,
    segments: &[String],
    location: Option<&str>,
) -> Result<(), Error> {
    let Some(realm) = context.target else {
        return Ok(());
    };
    let is_change = *method != Method::GET && *method != Method::HEAD;
    // A realm that is gone keeps no events.
    if !is_change || (pattern.is_empty() && *method == Method::DELETE) {
        return Ok(());
    }
    let mut path = segments.join("/");
    if let Some((_, made)) = location.and_then(|url| url.split_once(&path)) {
        path.push_str(made);
    }
    let mut sent = None;
    if realm.keeps_admin_details() {
        sent = serde_json::from_slice::<Value>(context.body).ok();
        sent.iter_mut().for_each(redact);
    }
    let event = AdminEvent {
        caller: context.caller,
        address: context.address,
        operation: operation(method, pattern),
        resource: resource(pattern),
        path: &path,
        representation: sent.as_ref(),
    };
    context.iris.admin_event(realm, &event).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_path_is_a_kind_of_resource() {
        for (pattern, wanted) in [
            ("users/{}", "USER"),
            ("users/{}/groups/{}", "GROUP_MEMBERSHIP"),
            ("groups/{}/role-mappings/realm", "REALM_ROLE_MAPPING"),
            ("clients/{}/protocol-mappers/models/{}", "PROTOCOL_MAPPER"),
            ("clients/{}/roles/{}/composites", "CLIENT_ROLE"),
            (
                "clients/{}/default-client-scopes/{}",
                "CLIENT_SCOPE_CLIENT_MAPPING",
            ),
            ("client-scopes/{}", "CLIENT_SCOPE"),
            ("roles-by-id/{}", "REALM_ROLE"),
            ("events/config", "REALM"),
            ("", "REALM"),
        ] {
            assert_eq!(resource(pattern), wanted, "{pattern}");
        }
        assert_eq!(operation(&Method::PUT, "users/{}/reset-password"), "ACTION");
        assert_eq!(operation(&Method::POST, "users"), "CREATE");
    }

    #[test]
    fn secrets_are_hidden() {
        let mut sent = json!({"secret": "s", "a": [{"value": "p", "type": "password"}]});
        redact(&mut sent);
        let mask = "**********";
        assert_eq!(
            sent,
            json!({"secret": mask, "a": [{"value": mask, "type": "password"}]})
        );
    }
}
