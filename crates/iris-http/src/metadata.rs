//! The documents of a realm that need no authentication.

use o28m_iris::{Realm, ResponseMode};
use o28m_jose::Algorithm;
use serde_json::{Map, Value, json};

use crate::reply::members;

/// `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693).
pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// `urn:ietf:params:oauth:grant-type:device_code` (RFC 8628).
pub(crate) const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The public realm document.
pub(crate) fn realm_info(issuer: &str, realm: &Realm) -> Map<String, Value> {
    members(vec![
        ("realm", json!(realm.name())),
        ("public_key", json!(realm.keys().rsa_public_key())),
        (
            "token-service",
            json!(format!("{issuer}/protocol/openid-connect")),
        ),
        ("account-service", json!(format!("{issuer}/account"))),
        ("tokens-not-before", json!(realm.not_before_s())),
    ])
}

/// The metadata document: only what is served (OpenID Connect Discovery 1.0, RFC 8414).
pub(crate) fn discovery(issuer: &str, realm: &Realm) -> Map<String, Value> {
    let at = |path: &str| json!(format!("{issuer}/protocol/openid-connect/{path}"));
    let algorithms: Vec<&str> = Algorithm::ALL.into_iter().map(Algorithm::name).collect();
    let asymmetric: Vec<&str> = Algorithm::ALL
        .into_iter()
        .filter(|algorithm| algorithm.key_type() != "oct")
        .map(Algorithm::name)
        .collect();
    let methods = [
        "private_key_jwt",
        "client_secret_basic",
        "client_secret_post",
        "client_secret_jwt",
    ];
    let mut grants = vec![
        "authorization_code",
        "client_credentials",
        "password",
        "refresh_token",
    ];
    if realm.has_device_flow() {
        grants.push(DEVICE_CODE);
    }
    if realm.has_token_exchange() {
        grants.push(TOKEN_EXCHANGE);
    }
    let mut scopes = vec!["openid"];
    scopes.extend(realm.scope_names());
    let claims = [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "auth_time",
        "name",
        "given_name",
        "family_name",
        "preferred_username",
        "email",
        "acr",
        "azp",
        "nonce",
    ];
    let mut document = members(vec![
        ("issuer", json!(issuer)),
        ("authorization_endpoint", at("auth")),
        ("token_endpoint", at("token")),
        ("introspection_endpoint", at("token/introspect")),
        ("userinfo_endpoint", at("userinfo")),
        ("end_session_endpoint", at("logout")),
        ("frontchannel_logout_session_supported", json!(true)),
        ("frontchannel_logout_supported", json!(true)),
        ("jwks_uri", at("certs")),
        ("check_session_iframe", at("login-status-iframe.html")),
        ("grant_types_supported", json!(grants)),
        ("acr_values_supported", json!(["0", "1"])),
        ("response_types_supported", json!(["code"])),
        ("response_modes_supported", json!(ResponseMode::NAMES)),
        ("subject_types_supported", json!(["public"])),
        (
            "prompt_values_supported",
            json!(["none", "login", "consent"]),
        ),
        ("id_token_signing_alg_values_supported", json!(algorithms)),
        ("token_endpoint_auth_methods_supported", json!(methods)),
        (
            "token_endpoint_auth_signing_alg_values_supported",
            json!(algorithms),
        ),
        (
            "introspection_endpoint_auth_methods_supported",
            json!(methods),
        ),
        (
            "introspection_endpoint_auth_signing_alg_values_supported",
            json!(algorithms),
        ),
        ("claims_supported", json!(claims)),
        ("claim_types_supported", json!(["normal"])),
        ("claims_parameter_supported", json!(false)),
        ("scopes_supported", json!(scopes)),
        ("request_parameter_supported", json!(false)),
        ("request_uri_parameter_supported", json!(false)),
        ("code_challenge_methods_supported", json!(["plain", "S256"])),
        ("ui_locales_supported", json!(["en", "de"])),
        ("revocation_endpoint", at("revoke")),
        ("revocation_endpoint_auth_methods_supported", json!(methods)),
        (
            "revocation_endpoint_auth_signing_alg_values_supported",
            json!(algorithms),
        ),
        ("backchannel_logout_supported", json!(true)),
        ("backchannel_logout_session_supported", json!(true)),
        (
            "pushed_authorization_request_endpoint",
            at("ext/par/request"),
        ),
        ("require_pushed_authorization_requests", json!(false)),
        ("dpop_signing_alg_values_supported", json!(asymmetric)),
        (
            "authorization_response_iss_parameter_supported",
            json!(true),
        ),
    ]);
    if realm.has_device_flow() {
        document.insert(
            "device_authorization_endpoint".to_owned(),
            at("auth/device"),
        );
    }
    document
}
