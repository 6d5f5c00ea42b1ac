//! Credentials of consumers (spec gateway-admin 11, gateway-plugins 7).

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use o28m_core::Ambient;
use serde_json::{Value, json};

use super::{CREATED_AT, ID, TAGS, single};
use crate::entity::{BASE, Document, Entity, Foreign, OnDelete};
use crate::keys;
use crate::schema::{Auto, Check, EntityCheck, Field, KEY_BYTES_MAX, Kind, Literal, Seal};
use crate::walk;

/// User name and password of a consumer.
pub(super) const BASIC_AUTH: Entity = Entity {
    name: "basicauth_credentials",
    path: "basic-auths",
    nested_path: "basic-auth",
    endpoint_key: Some("username"),
    unique: &[single("username", &["username"])],
    cache_key: &["username"],
    fields: &[
        ID,
        CREATED_AT,
        OWNER,
        USERNAME,
        Field::new("password", Kind::String)
            .sealed(Seal::Secret(sha1_password))
            .required(),
        TAGS,
    ],
    ..CREDENTIAL
};

/// A key of a consumer.
pub(super) const KEY_AUTH: Entity = Entity {
    name: "keyauth_credentials",
    path: "key-auths",
    nested_path: "key-auth",
    endpoint_key: Some("key"),
    unique: &[single("key", &["key"])],
    has_life_time: true,
    fields: &[ID, CREATED_AT, OWNER, KEY, TAGS, LIFE_TIME],
    ..CREDENTIAL
};

/// A key that a consumer signs tokens with.
pub(super) const JWT: Entity = Entity {
    name: "jwt_secrets",
    path: "jwts",
    nested_path: "jwt",
    endpoint_key: Some("key"),
    unique: &[single("key", &["key"])],
    is_costly: true,
    fields: &[
        ID,
        CREATED_AT,
        OWNER,
        KEY,
        Field::new("secret", Kind::String).auto(Auto::Key),
        Field::new("rsa_public_key", Kind::String),
        Field::new("algorithm", Kind::String)
            .default(Literal::String("HS256"))
            .checks(&[Check::OneOf(JWT_ALGORITHMS)]),
        TAGS,
    ],
    checks: &[EntityCheck::Custom(
        &["algorithm", "rsa_public_key"],
        public_key_for_algorithm,
    )],
    ..CREDENTIAL
};

/// User name and secret that a consumer signs requests with.
pub(super) const HMAC_AUTH: Entity = Entity {
    name: "hmacauth_credentials",
    path: "hmac-auths",
    nested_path: "hmac-auth",
    endpoint_key: Some("username"),
    unique: &[single("username", &["username"])],
    cache_key: &["username"],
    fields: &[
        ID,
        CREATED_AT,
        OWNER,
        USERNAME,
        Field::new("secret", Kind::String).auto(Auto::Key),
        TAGS,
    ],
    ..CREDENTIAL
};

const CREDENTIAL: Entity = Entity {
    foreign: &[CONSUMER],
    ..BASE
};

/// The consumer that a credential is of.
pub(super) const CONSUMER: Foreign = Foreign {
    field: "consumer",
    entity: "consumers",
    on_delete: OnDelete::Cascade,
};

pub(super) const OWNER: Field = Field::new("consumer", Kind::Foreign(&CONSUMER)).required();

const USERNAME: Field = Field::new("username", Kind::String)
    .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
    .required()
    .unique();

const KEY: Field = Field::new("key", Kind::String)
    .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
    .auto(Auto::Key)
    .unique();

/// Seconds from the creation on; a client names those from now on.
pub(super) const LIFE_TIME: Field = Field::new("ttl", Kind::Integer)
    .checks(&[Check::Value(|ttl| {
        ttl.as_i64()
            .is_some_and(|ttl| ttl < 0)
            .then(|| "must be an integer between 0 and 100000000".into())
    })])
    .sealed(Seal::FromNow(life_time));

const JWT_ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256",
    "PS384", "PS512", "EdDSA",
];

/// Kong asks for a public key with RSA and `EdDSA`, not with EC.
fn public_key_for_algorithm(jwt: &Document, messages: &mut Vec<String>, added: &mut Document) {
    let algorithm = walk::at(jwt, "algorithm").as_str().unwrap_or_default();
    if !algorithm.starts_with("RS") && !algorithm.starts_with("PS") && algorithm != "EdDSA" {
        return;
    }
    let message = match walk::at(jwt, "rsa_public_key").as_str() {
        None => "required field missing",
        // A private key has a public half as well.
        Some(pem) if keys::public_key(pem).is_err() && keys::private_key(pem).is_err() => {
            "invalid key"
        }
        Some(_) => return,
    };
    messages.push("failed conditional validation given value of field 'algorithm'".to_owned());
    added.insert("rsa_public_key".to_owned(), json!(message));
}

/// Kong's form of a password: SHA-1 of the password and the consumer's id, in hexadecimal.
fn sha1_password(password: &Value, credential: &Document, _: &Ambient) -> Value {
    let password = password.as_str().unwrap_or_default();
    let consumer = walk::at(credential, "consumer.id");
    let salted = format!("{password}{}", consumer.as_str().unwrap_or_default());
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, salted.as_bytes());
    let mut text = String::with_capacity(40);
    for byte in hash.as_ref() {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    Value::String(text)
}

/// A life time is stored from the creation on.
fn life_time(seconds: &Value, credential: &Document, ambient: &Ambient) -> Value {
    let created_at = credential.get("created_at").and_then(Value::as_i64);
    let now = ambient.now().seconds();
    match seconds.as_i64() {
        // No end at all.
        None | Some(0) => Value::Null,
        Some(seconds) => {
            let age = now.saturating_sub(created_at.unwrap_or(now));
            // One that was not created yet lives until it was: nothing less can be said of it.
            json!(seconds.saturating_add(age).max(1))
        }
    }
}
