//! Credentials of consumers (spec gateway-admin 11, gateway-plugins 7).

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use o28m_core::Ambient;
use serde_json::{Value, json};

use super::{CREATED_AT, ID, TAGS, single};
use crate::entity::{Document, Entity, Foreign, OnDelete, Overlay, Unique};
use crate::schema::{Auto, Check, Field, KEY_BYTES_MAX, Kind, Seal};
use crate::walk;

/// User name and password of a consumer.
pub(super) const BASIC_AUTH: Entity = credential(
    ("basicauth_credentials", "basic-auths", "basic-auth"),
    "username",
    &[single("username", &["username"])],
    &[
        ID,
        CREATED_AT,
        OWNER,
        Field::new("username", Kind::String)
            .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
            .required()
            .unique(),
        Field::new("password", Kind::String)
            .sealed(Seal::Secret(sha1_password))
            .required(),
        TAGS,
    ],
);

/// A key of a consumer.
pub(super) const KEY_AUTH: Entity = credential(
    ("keyauth_credentials", "key-auths", "key-auth"),
    "key",
    &[single("key", &["key"])],
    &[
        ID,
        CREATED_AT,
        OWNER,
        Field::new("key", Kind::String)
            .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
            .auto(Auto::Key)
            .unique(),
        TAGS,
        Field::new("ttl", Kind::Integer)
            .checks(&[Check::Between(0, 100_000_000)])
            .sealed(Seal::FromNow(life_time)),
    ],
);

const fn credential(
    (name, path, nested_path): (&'static str, &'static str, &'static str),
    endpoint_key: &'static str,
    unique: &'static [Unique],
    fields: &'static [Field],
) -> Entity {
    Entity {
        name,
        path,
        nested_path,
        endpoint_key: Some(endpoint_key),
        nested_key: None,
        search_key: None,
        foreign: &[CONSUMER],
        unique,
        fields,
        shorthand: None,
        overlay: Overlay::none,
        checks: &[],
        unsupported: &[],
    }
}

const CONSUMER: Foreign = Foreign {
    field: "consumer",
    entity: "consumers",
    on_delete: OnDelete::Cascade,
};

const OWNER: Field = Field::new("consumer", Kind::Foreign(&CONSUMER)).required();

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
        None | Some(0) => seconds.clone(),
        Some(seconds) => {
            let age = now.saturating_sub(created_at.unwrap_or(now));
            json!(seconds.saturating_add(age))
        }
    }
}
