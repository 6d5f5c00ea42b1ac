use serde_json::Value;

use crate::declared::{HTTP_PROTOCOLS, NO_CONSUMER, TEXT};
use crate::entity::Document;
use crate::plugins::PluginSchema;
use crate::schema::{Check, EntityCheck, Field, Kind, Literal};
use crate::walk;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "jwt-keycloak",
    version: "1.8.1",
    priority: 1005,
    fields: &[
        NO_CONSUMER,
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[EntityCheck::Custom(
        &["config.maximum_expiration", "config.claims_to_verify"],
        expiration_needs_exp,
    )],
};

const CLAIM: Field = Field::element(Kind::String, &[Check::OneOf(&["exp", "nbf"])]);

const ALGORITHMS: &[&str] = &["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"];

const CONFIG: &[Field] = &[
    texts("uri_param_names").default(Literal::Strings(&["jwt"])),
    texts("cookie_names").default(Literal::Strings(&[])),
    Field::new("claims_to_verify", Kind::Set(&CLAIM)).default(Literal::Strings(&["exp"])),
    Field::new("anonymous", Kind::String),
    flag("run_on_preflight", true),
    Field::new("maximum_expiration", Kind::Number)
        .default(Literal::Integer(0))
        .checks(&[Check::Between(0, 31_536_000)]),
    Field::new("algorithm", Kind::String)
        .default(Literal::String("RS256"))
        .checks(&[Check::OneOf(ALGORITHMS)]),
    texts("header_names").default(Literal::Strings(&["authorization"])),
    texts("allowed_iss").required(),
    Field::new("iss_key_grace_period", Kind::Number)
        .default(Literal::Integer(10))
        .checks(&[Check::Between(1, 60)]),
    Field::new("well_known_template", Kind::String)
        .default(Literal::String("%s/.well-known/openid-configuration")),
    texts("scope"),
    texts("roles"),
    texts("realm_roles"),
    texts("client_roles"),
    flag("consumer_match", false),
    Field::new("consumer_match_claim", Kind::String).default(Literal::String("azp")),
    flag("consumer_match_claim_custom_id", false),
    flag("consumer_match_ignore_not_found", false),
    Field::new("cafile", Kind::String),
];

const fn texts(name: &'static str) -> Field {
    Field::new(name, Kind::Set(&TEXT))
}

const fn flag(name: &'static str, default: bool) -> Field {
    Field::new(name, Kind::Boolean).default(Literal::Boolean(default))
}

/// A limit of the life time only works when the expiry is looked at.
fn expiration_needs_exp(plugin: &Document, messages: &mut Vec<String>, errors: &mut Document) {
    let maximum = walk::at(plugin, "config.maximum_expiration");
    let claims = walk::at(plugin, "config.claims_to_verify").as_array();
    let has_exp = claims.is_some_and(|claims| claims.iter().any(|claim| claim == "exp"));
    if maximum.as_f64().is_some_and(|maximum| maximum > 0.0) && !has_exp {
        messages.push(
            "failed conditional validation given value of field 'config.maximum_expiration'"
                .to_owned(),
        );
        let mut config = Document::new();
        config.insert(
            "claims_to_verify".to_owned(),
            Value::String("expected to contain: exp".to_owned()),
        );
        errors.insert("config".to_owned(), Value::Object(config));
    }
}
