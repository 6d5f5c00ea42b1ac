//! What the installation guide has people type: realms, client scopes, mappers, the `rover` client,
//! and the gateway's `/admin-api` route. Every step is idempotent.

use anyhow::{Context as _, Result};
use o28m_gateway_admin::AdminService;
use o28m_iris::{Iris, ScopeAssignment};
use serde_json::{Value, json};

/// What the set-up fills in.
pub(super) struct Setup<'a> {
    /// Zone name, the `originZone` claim.
    pub(super) zone: &'a str,
    /// Public URL of the proxy, the `originStargate` claim.
    pub(super) gateway_url: &'a str,
    /// Public URL of the identity provider with its path.
    pub(super) iris_url: &'a str,
    /// Id of the client that may use the Admin API through the proxy.
    pub(super) rover_client_id: &'a str,
    /// Its secret.
    pub(super) rover_client_secret: &'a str,
    /// Base64 of `user:password` of the Admin API.
    pub(super) admin_basic: &'a str,
}

/// Steps 5 to 8 of the guide: the realms `default` and `rover` and what they hold.
///
/// # Errors
/// When the store fails.
pub(super) async fn identity(iris: &Iris, setup: &Setup<'_>) -> Result<()> {
    for realm in ["default", "rover"] {
        let body = json!({"realm": realm, "enabled": true});
        iris.ensure_realm(&body)
            .await
            .with_context(|| format!("cannot set up realm {realm}"))?;
    }
    let platform = json!({
        "name": "open-telekom-integration-platform",
        "protocol": "openid-connect",
    });
    let origin = json!({
        "name": "client-origin",
        "protocol": "openid-connect",
        "protocolMappers": [
            hardcoded_claim("originZone", setup.zone),
            hardcoded_claim("originStargate", setup.gateway_url),
        ],
    });
    iris.ensure_client_scope("default", &platform, ScopeAssignment::Optional)
        .await
        .context("cannot set up client scope open-telekom-integration-platform")?;
    iris.ensure_client_scope("default", &origin, ScopeAssignment::Default)
        .await
        .context("cannot set up client scope client-origin")?;
    iris.ensure_client("rover", &rover_client(setup))
        .await
        .context("cannot set up client rover")?;
    Ok(())
}

fn hardcoded_claim(name: &str, value: &str) -> Value {
    json!({
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": "oidc-hardcoded-claim-mapper",
        "config": {
            "claim.name": name,
            "claim.value": value,
            "jsonType.label": "String",
            "id.token.claim": "true",
            "access.token.claim": "true",
            "userinfo.token.claim": "true",
            "access.tokenResponse.claim": "false",
        },
    })
}

/// The client of step 8 of the guide, field by field.
fn rover_client(setup: &Setup<'_>) -> Value {
    let note = |name: &str, note: &str| {
        json!({
            "name": name,
            "protocol": "openid-connect",
            "protocolMapper": "oidc-usersessionmodel-note-mapper",
            "config": {
                "user.session.note": note,
                "id.token.claim": "true",
                "access.token.claim": "true",
                "claim.name": note,
                "jsonType.label": "String",
            },
        })
    };
    json!({
        "clientId": setup.rover_client_id,
        "name": setup.rover_client_id,
        "enabled": true,
        "clientAuthenticatorType": "client-secret",
        "secret": setup.rover_client_secret,
        "bearerOnly": false,
        "consentRequired": false,
        "standardFlowEnabled": false,
        "implicitFlowEnabled": false,
        "directAccessGrantsEnabled": false,
        "serviceAccountsEnabled": true,
        "publicClient": false,
        "protocol": "openid-connect",
        "fullScopeAllowed": false,
        "nodeReRegistrationTimeout": -1,
        "protocolMappers": [
            note("Client Host", "clientHost"),
            note("Client IP Address", "clientAddress"),
            note("Client ID", "clientId"),
        ],
        // The guide also names client scopes that exist in realm `default` only.
        "defaultClientScopes": ["web-origins", "profile", "roles", "email"],
        "optionalClientScopes": ["address", "phone", "offline_access", "microprofile-jwt"],
    })
}

/// The Admin API on the proxy as the gateway chart sets it up, the request size limit, and the
/// issuer under `/auth/realms`. There is no host condition: everything is on one address here.
///
/// # Errors
/// When the store fails.
pub(super) async fn gateway(admin: &AdminService, setup: &Setup<'_>) -> Result<()> {
    for (path, body) in gateway_objects(setup) {
        admin
            .put(path, body)
            .await
            .with_context(|| format!("cannot set up {path}"))?;
    }
    Ok(())
}

/// Path and body of each PUT, in order; the ids are those of the gateway chart.
fn gateway_objects(setup: &Setup<'_>) -> Vec<(&'static str, Value)> {
    let rover = setup.rover_client_id;
    vec![
        (
            "/services/admin-api",
            json!({"protocol": "http", "host": "localhost", "port": 8001}),
        ),
        (
            "/services/admin-api/plugins/e9fb4272-0aff-4208-9efa-6bfec5d9df53",
            json!({
                "name": "request-transformer",
                "config": {"replace": {
                    "headers": [format!("Authorization:Basic {}", setup.admin_basic)],
                }},
            }),
        ),
        (
            "/services/admin-api/routes/admin-api",
            json!({"protocols": ["http", "https"], "paths": ["/admin-api"]}),
        ),
        ("/consumers/rover", json!({"custom_id": rover})),
        (
            "/routes/admin-api/plugins/bc823d55-83b5-4184-b03f-ce63cd3b75c7",
            json!({"name": "acl", "config": {"allow": ["rover"], "hide_groups_header": true}}),
        ),
        ("/consumers/rover/acls/rover", json!({})),
        (
            "/routes/admin-api/plugins/b864d58b-7183-4889-8b32-0b92d6c4d513",
            json!({
                "name": "jwt-keycloak",
                "config": {
                    "allowed_iss": [format!("{}/realms/rover", setup.iris_url)],
                    "consumer_match": true,
                    "consumer_match_claim_custom_id": true,
                },
            }),
        ),
        (
            "/plugins/1e199eee-f592-4afa-8371-6b61dcbd1904",
            json!({
                "name": "request-size-limiting",
                "config": {
                    "allowed_payload_size": 10,
                    "size_unit": "megabytes",
                    "require_content_length": false,
                },
            }),
        ),
        (
            "/services/issuer",
            json!({"protocol": "http", "host": "localhost", "port": 8081}),
        ),
        (
            "/services/issuer/routes/issuer",
            json!({"protocols": ["http", "https"], "paths": ["/auth/realms"], "strip_path": false}),
        ),
    ]
}
