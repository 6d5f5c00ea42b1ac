//! Lists that are the same in every realm: the flows that are built in, the actions users can be asked
//! for, and identity providers, of which there are none.

use o28m_iris::{Error, Thing};
use serde_json::{Value, json};

use super::{Entry, entries};
use crate::reply::admin_json;
use crate::router::Route;

/// Served below a realm.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "authentication/flows" ViewRealm Nothing |_c| Ok(admin_json(&flows()));
    GET "authentication/required-actions" ViewRealm Nothing |_c| Ok(admin_json(&required_actions()));
    GET "authentication/unregistered-required-actions" ViewRealm Nothing |_c| Ok(admin_json(&json!([])));
    GET "authentication/flows/{}" ViewRealm Nothing |c| {
        let found = flows().into_iter().find(|flow| flow.get("id").is_some_and(|id| id == c.arg(0)));
        Ok(admin_json(&found.ok_or(Error::Missing(Thing::Flow))?))
    };
    GET "authentication/required-actions/{}" ViewRealm Nothing |c| {
        let found = required_actions().into_iter();
        let found = found.into_iter().find(|it| it.get("alias").is_some_and(|alias| alias == c.arg(0)));
        Ok(admin_json(&found.ok_or(Error::Missing(Thing::IdentityProvider))?))
    };
    GET "identity-provider/instances" ViewIdentityProviders Nothing |_c| Ok(admin_json(&json!([])));
    GET "identity-provider/instances/{}" ViewIdentityProviders Nothing |_c| {
        Err(Error::Missing(Thing::IdentityProvider))
    };
    GET "localization" ViewRealm Nothing |_c| Ok(admin_json(&json!([])));
    GET "credential-registrators" ViewRealm Nothing |_c| Ok(admin_json(&json!([])));
};

/// The flows of a new realm (Keycloak 26.5 `DefaultAuthenticationFlows`), by alias and description.
const FLOWS: &[(&str, &str, &str)] = &[
    ("browser", "Browser based authentication", "basic-flow"),
    (
        "direct grant",
        "OpenID Connect Resource Owner Grant",
        "basic-flow",
    ),
    ("registration", "Registration flow", "basic-flow"),
    (
        "reset credentials",
        "Reset credentials for a user if they forgot their password or something",
        "basic-flow",
    ),
    ("clients", "Base authentication for clients", "client-flow"),
    (
        "first broker login",
        "Actions taken after first broker login with identity provider account, which is not yet linked to any Keycloak account",
        "basic-flow",
    ),
    (
        "docker auth",
        "Used by Docker clients to authenticate against the IDP",
        "basic-flow",
    ),
];

/// Ids are the aliases: they name the same flow in every realm.
fn flows() -> Vec<Value> {
    let show = |(alias, text, provider): &(&str, &str, &str)| {
        json!({
            "id": alias.replace(' ', "-"), "alias": alias, "description": text,
            "providerId": provider, "topLevel": true, "builtIn": true,
            "authenticationExecutions": [],
        })
    };
    FLOWS.iter().map(show).collect()
}

fn required_actions() -> Vec<Value> {
    let actions = [
        ("UPDATE_PASSWORD", "Update Password"),
        ("UPDATE_PROFILE", "Update Profile"),
        ("VERIFY_EMAIL", "Verify Email"),
    ];
    let show = |(at, (alias, name)): (usize, &(&str, &str))| {
        json!({
            "alias": alias, "name": name, "providerId": alias, "enabled": true,
            "defaultAction": false, "priority": (at + 1) * 10, "config": {},
        })
    };
    actions.iter().enumerate().map(show).collect()
}

/// The profile of users: the four fields, none of them mandatory, and any attribute.
pub(crate) fn user_profile() -> Value {
    let attribute = |name: &str| {
        json!({
            "name": name, "displayName": format!("${{{name}}}"), "validations": {},
            "permissions": {"view": ["admin", "user"], "edit": ["admin", "user"]},
            "multivalued": false,
        })
    };
    let attributes = ["username", "email", "firstName", "lastName"].map(attribute);
    json!({
        "attributes": attributes,
        "groups": [],
        "unmanagedAttributePolicy": "ENABLED",
    })
}

/// The same, as forms need it.
pub(crate) fn user_profile_metadata() -> Value {
    let attribute = |name: &str| {
        json!({
            "name": name, "displayName": format!("${{{name}}}"), "required": false,
            "readOnly": false, "validators": {}, "multivalued": false,
        })
    };
    let attributes = ["username", "email", "firstName", "lastName"].map(attribute);
    json!({
        "attributes": attributes,
        "groups": [],
    })
}
