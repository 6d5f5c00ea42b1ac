//! OAuth 2.0 clients of consumers, and their tokens (spec gateway-admin 11).

use std::num::NonZeroU32;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use o28m_core::Ambient;
use serde_json::{Value, json};

use super::credentials::{CONSUMER, LIFE_TIME, OWNER};
use super::{CREATED_AT, ID, TAGS, flag, single};
use crate::entity::{BASE, Document, Entity, Foreign, OnDelete};
use crate::formats;
use crate::schema::{Auto, Check, Complaint, Field, KEY_BYTES_MAX, Kind, Literal, Seal};

/// A client that a consumer registered.
pub(super) const CREDENTIALS: Entity = Entity {
    name: "oauth2_credentials",
    path: "oauth2",
    nested_path: "oauth2",
    endpoint_key: Some("client_id"),
    foreign: &[CONSUMER],
    unique: &[single("client_id", &["client_id"])],
    is_costly: true,
    fields: &[
        ID,
        CREATED_AT,
        OWNER,
        Field::new("name", Kind::String).required(),
        Field::new("client_id", Kind::String)
            .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
            .auto(Auto::Key)
            .unique(),
        Field::new("client_secret", Kind::String)
            .auto(Auto::Key)
            .sealed(Seal::Hashed {
                when: "hash_secret",
                make: hashed,
            }),
        flag("hash_secret", false),
        Field::new("redirect_uris", Kind::Array(&REDIRECT_URI)),
        TAGS,
        Field::new("client_type", Kind::String)
            .default(Literal::String("confidential"))
            .checks(&[Check::OneOf(&["confidential", "public"])])
            .required(),
    ],
    ..BASE
};

/// A token that was given to a client.
pub(super) const TOKENS: Entity = Entity {
    name: "oauth2_tokens",
    path: "oauth2_tokens",
    nested_path: "oauth2_tokens",
    endpoint_key: Some("access_token"),
    foreign: &[SERVICE, CREDENTIAL],
    unique: &[
        single("access_token", &["access_token"]),
        single("refresh_token", &["refresh_token"]),
    ],
    has_life_time: true,
    fields: &[
        ID,
        CREATED_AT,
        Field::new("service", Kind::Foreign(&SERVICE)),
        Field::new("credential", Kind::Foreign(&CREDENTIAL)).required(),
        Field::new("token_type", Kind::String)
            .default(Literal::String("bearer"))
            .checks(&[Check::OneOf(&["bearer"])])
            .required(),
        Field::new("expires_in", Kind::Integer).required(),
        token("access_token").auto(Auto::Key),
        token("refresh_token"),
        Field::new("authenticated_userid", Kind::String),
        Field::new("scope", Kind::String),
        LIFE_TIME,
    ],
    ..BASE
};

const SERVICE: Foreign = Foreign {
    field: "service",
    entity: "services",
    on_delete: OnDelete::Cascade,
};

const CREDENTIAL: Foreign = Foreign {
    field: "credential",
    entity: "oauth2_credentials",
    on_delete: OnDelete::Cascade,
};

const REDIRECT_URI: Field = Field::element(Kind::String, &[Check::Text(redirect_uri)]);

const fn token(name: &'static str) -> Field {
    Field::new(name, Kind::String)
        .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
        .unique()
}

fn redirect_uri(uri: &str) -> Complaint {
    let (before, fragment) = match uri.split_once('#') {
        Some((before, _)) => (before, true),
        None => (uri, false),
    };
    let host = before.split_once("://").and_then(|(scheme, rest)| {
        let host = rest.split(['/', '?']).next()?;
        (formats::is_scheme(scheme) && !host.is_empty()).then_some(host)
    });
    if host.is_none() {
        return Some(format!("cannot parse '{uri}'").into());
    }
    fragment.then(|| format!("fragment not allowed in '{uri}'").into())
}

/// Iterations, bytes of the salt and of the hash in Kong's form of a hashed secret.
const ITERATIONS: u32 = 10_000;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// How a hashed secret begins.
const PBKDF2: &str = "$pbkdf2-sha512$";

/// Kong's form of a hashed secret, in the notation of the password hashing competition. The salt is made of
/// the id, so that the same configuration imported again is the same.
fn hashed(secret: &Value, client: &Document, _: &Ambient) -> Value {
    let secret = secret.as_str().unwrap_or_default();
    if secret.starts_with(PBKDF2) {
        // What was read is written back.
        return json!(secret);
    }
    let id = client.get("id").and_then(Value::as_str).unwrap_or_default();
    let digest = digest(&SHA256, id.as_bytes());
    let salt = digest.as_ref().get(..SALT_BYTES).unwrap_or_default();
    let mut hash = [0; HASH_BYTES];
    let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
    pbkdf2::derive(algorithm, iterations, salt, secret.as_bytes(), &mut hash);
    json!(format!(
        "{PBKDF2}i={ITERATIONS},l={HASH_BYTES}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(hash)
    ))
}
