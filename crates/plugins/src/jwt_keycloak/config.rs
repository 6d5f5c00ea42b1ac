//! The configuration of one instance (kong-plugin-jwt-keycloak 1.8.1).

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RegisteredClaim {
    Exp,
    Nbf,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    pub(super) uri_param_names: Vec<String>,
    pub(super) cookie_names: Vec<String>,
    pub(super) header_names: Vec<String>,
    pub(super) claims_to_verify: Vec<RegisteredClaim>,
    pub(super) maximum_expiration: f64,
    pub(super) anonymous: Option<String>,
    pub(super) run_on_preflight: bool,
    /// Kept for old clients; the original has no use for it either.
    #[serde(rename = "algorithm")]
    _algorithm: IgnoredAny,
    pub(super) allowed_iss: Vec<String>,
    /// Seconds.
    pub(super) iss_key_grace_period: f64,
    pub(super) well_known_template: String,
    pub(super) scope: Vec<String>,
    pub(super) roles: Vec<String>,
    pub(super) realm_roles: Vec<String>,
    pub(super) client_roles: Vec<String>,
    pub(super) consumer_match: bool,
    pub(super) consumer_match_claim: String,
    pub(super) consumer_match_claim_custom_id: bool,
    pub(super) consumer_match_ignore_not_found: bool,
    pub(super) cafile: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            uri_param_names: vec!["jwt".into()],
            cookie_names: Vec::new(),
            header_names: vec!["authorization".into()],
            claims_to_verify: vec![RegisteredClaim::Exp],
            maximum_expiration: 0.0,
            anonymous: None,
            run_on_preflight: true,
            _algorithm: IgnoredAny,
            allowed_iss: Vec::new(),
            iss_key_grace_period: 10.0,
            well_known_template: "%s/.well-known/openid-configuration".into(),
            scope: Vec::new(),
            roles: Vec::new(),
            realm_roles: Vec::new(),
            client_roles: Vec::new(),
            consumer_match: false,
            consumer_match_claim: "azp".into(),
            consumer_match_claim_custom_id: false,
            consumer_match_ignore_not_found: false,
            cafile: None,
        }
    }
}
