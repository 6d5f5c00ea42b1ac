//! Counting how clients authenticate (the Iris image's `client-auth-method` extension).

use o28m_iris::{Client, Realm};
use o28m_oauth::{ClientCredentials, Method};
use o28m_telemetry::metrics::Registry;

/// Counts a client that authenticated with its secret.
pub(crate) fn count(
    metrics: &Registry,
    realm: &Realm,
    client: &Client,
    credentials: &ClientCredentials,
    endpoint: &str,
) {
    if client.is_public() || credentials.secret.is_none() {
        return;
    }
    let (name, help) = match credentials.method {
        Method::Basic => (
            "keycloak_client_auth_method_basic_total",
            "Clients that sent their secret in the Authorization header.",
        ),
        Method::Post => (
            "keycloak_client_auth_method_post_total",
            "Clients that sent their secret in the form.",
        ),
        Method::PostBasic => (
            "keycloak_client_auth_method_postbasic_total",
            "Clients that sent an Authorization header and their id in the form.",
        ),
    };
    let path = format!(
        "/realms/{}/protocol/openid-connect/{endpoint}",
        realm.name()
    );
    let labels = [
        ("client_id", client.client_id()),
        ("realm", realm.name()),
        ("path", path.as_str()),
    ];
    metrics.counter(name, help, &labels).add(1);
}
