//! The clients every realm is made with, and their roles (Keycloak 26.5.7).

use serde_json::{Map, Value, json};

use crate::model::Rep;

/// Clients every realm is made with, which cannot be deleted.
pub(crate) const BUILT_IN_CLIENTS: &[&str] = &[
    "account",
    "account-console",
    "admin-cli",
    "broker",
    "realm-management",
    "master-realm",
    "security-admin-console",
];

pub(super) const ACCOUNT_ROLES: &[&str] = &[
    "delete-account",
    "manage-account",
    "manage-account-links",
    "manage-consent",
    "view-applications",
    "view-consent",
    "view-groups",
    "view-profile",
];

pub(crate) const ADMIN_ROLES: &[&str] = &[
    "create-client",
    "impersonation",
    "manage-authorization",
    "manage-clients",
    "manage-events",
    "manage-identity-providers",
    "manage-organizations",
    "manage-realm",
    "manage-users",
    "query-clients",
    "query-groups",
    "query-organizations",
    "query-realms",
    "query-users",
    "view-authorization",
    "view-clients",
    "view-events",
    "view-identity-providers",
    "view-organizations",
    "view-realm",
    "view-users",
];

/// Roles that contain others of the same client.
pub(super) const COMPOSITES: &[(&str, &[&str])] = &[
    ("manage-account", &["manage-account-links"]),
    ("manage-consent", &["view-consent"]),
    ("view-clients", &["query-clients"]),
    ("view-users", &["query-users", "query-groups"]),
    ("view-organizations", &["query-organizations"]),
];

/// The settings and roles of a built-in client.
pub(super) fn built_in_client(client_id: &str, realm: &str) -> (Rep, &'static [&'static str]) {
    let bearer = matches!(client_id, "broker" | "realm-management" | "master-realm");
    let cli = client_id == "admin-cli";
    let name = match client_id {
        "master-realm" => "master Realm".to_owned(),
        _ => format!("${{client_{client_id}}}"),
    };
    let full_scope = matches!(client_id, "admin-cli" | "security-admin-console");
    let fields = [
        ("name", json!(name)),
        ("surrogateAuthRequired", json!(false)),
        ("enabled", json!(true)),
        ("alwaysDisplayInConsole", json!(false)),
        ("clientAuthenticatorType", json!("client-secret")),
        ("redirectUris", json!([])),
        ("webOrigins", json!([])),
        ("notBefore", json!(0)),
        ("bearerOnly", json!(bearer)),
        ("consentRequired", json!(false)),
        ("standardFlowEnabled", json!(!cli)),
        ("implicitFlowEnabled", json!(false)),
        ("directAccessGrantsEnabled", json!(cli)),
        ("serviceAccountsEnabled", json!(false)),
        ("publicClient", json!(!bearer)),
        ("frontchannelLogout", json!(false)),
        ("protocol", json!("openid-connect")),
        ("attributes", attributes(client_id, bearer)),
        ("authenticationFlowBindingOverrides", json!({})),
        ("fullScopeAllowed", json!(full_scope)),
        ("nodeReRegistrationTimeout", json!(0)),
    ];
    let all = fields.into_iter().chain(urls(client_id, realm));
    let rep = all
        .map(|(field, value)| (field.to_owned(), value))
        .collect();
    let roles = match client_id {
        "account" => ACCOUNT_ROLES,
        "broker" => &["read-token"],
        "realm-management" | "master-realm" => ADMIN_ROLES,
        _ => &[],
    };
    (rep, roles)
}

/// Where the built-in pages live.
fn urls(client_id: &str, realm: &str) -> Vec<(&'static str, Value)> {
    let (root, path) = match client_id {
        "account" | "account-console" => ("${authBaseUrl}", format!("/realms/{realm}/account/")),
        "security-admin-console" => ("${authAdminUrl}", format!("/admin/{realm}/console/")),
        _ => return Vec::new(),
    };
    let mut urls = vec![
        ("rootUrl", json!(root)),
        ("baseUrl", json!(path)),
        ("redirectUris", json!([format!("{path}*")])),
    ];
    if client_id == "security-admin-console" {
        urls.push(("webOrigins", json!(["+"])));
    }
    urls
}

fn attributes(client_id: &str, bearer: bool) -> Value {
    let mut attributes = Map::new();
    let mut set = |name: &str, value: &str| {
        attributes.insert(name.to_owned(), json!(value));
    };
    set("realm_client", &bearer.to_string());
    if matches!(
        client_id,
        "account" | "account-console" | "security-admin-console"
    ) {
        set("post.logout.redirect.uris", "+");
    }
    if matches!(client_id, "account-console" | "security-admin-console") {
        set("pkce.code.challenge.method", "S256");
    }
    if matches!(client_id, "admin-cli" | "security-admin-console") {
        set("client.use.lightweight.access.token.enabled", "true");
    }
    Value::Object(attributes)
}
