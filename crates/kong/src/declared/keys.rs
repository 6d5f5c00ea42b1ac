//! Keys and the sets they are in (spec gateway-admin 9.7).

use serde_json::Value;

use super::{CREATED_AT, ID, TAGS, UNIQUE_NAME, UPDATED_AT};
use crate::entity::{BASE, Document, Entity, Foreign, OnDelete, Unique, Violations};
use crate::keys::{self, is_jwk};
use crate::schema::{Check, Complaint, EntityCheck, Field, KEY_BYTES_MAX, Kind};
use crate::vault::is_reference;

pub(super) const KEY_SETS: Entity = Entity {
    name: "key_sets",
    path: "key-sets",
    nested_path: "key-sets",
    endpoint_key: Some("name"),
    unique: &[UNIQUE_NAME],
    fields: &[ID, NAME, TAGS, CREATED_AT, UPDATED_AT],
    ..BASE
};

pub(super) const KEYS: Entity = Entity {
    name: "keys",
    path: "keys",
    nested_path: "keys",
    endpoint_key: Some("name"),
    foreign: &[SET],
    unique: &[
        UNIQUE_NAME,
        Unique {
            name: "kid_set",
            fields: &["kid", "set"],
            nulls_equal: true,
        },
    ],
    cache_key: &["kid", "set"],
    is_costly: true,
    fields: &[
        ID,
        Field::new("set", Kind::Foreign(&SET)),
        NAME,
        Field::new("kid", Kind::String)
            .checks(&[Check::LengthMax(KID_BYTES_MAX)])
            .required(),
        Field::new("jwk", Kind::String).referenceable(),
        Field::new("pem", Kind::Record(PEM))
            .checks(&[Check::Value(pem)])
            .record_checks(&[EntityCheck::AtLeastOneOf(&["private_key", "public_key"])]),
        TAGS,
        CREATED_AT,
        UPDATED_AT,
    ],
    checks: &[
        EntityCheck::OnlyOneOf(&["jwk", "pem"]),
        EntityCheck::AtLeastOneOf(&["jwk", "pem"]),
        EntityCheck::Custom(&["jwk", "kid"], jwk),
    ],
    ..BASE
};

/// Together with the id of the set a key id is one value of an index.
const KID_BYTES_MAX: usize = KEY_BYTES_MAX / 2;

const SET: Foreign = Foreign {
    field: "set",
    entity: "key_sets",
    on_delete: OnDelete::Cascade,
};

/// Any text, unlike other names.
const NAME: Field = Field::new("name", Kind::String)
    .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
    .unique();

const PEM: &[Field] = &[
    Field::new("private_key", Kind::String).referenceable(),
    Field::new("public_key", Kind::String).referenceable(),
];

/// Members of a JWK that are texts; members that stand in neither list are refused.
const JWK_TEXTS: &[&str] = &[
    "issuer", "kty", "use", "alg", "kid", "x5u", "x5t", "x5t#S256", "k", "x", "y", "crv", "n", "e",
    "d", "p", "q", "dp", "dq", "qi", "oth", "r", "t",
];

/// Members of a JWK that are arrays of texts.
const JWK_LISTS: &[&str] = &["key_ops", "x5c"];

fn pem(pair: &Value) -> Complaint {
    let half = |name: &str| pair.get(name).and_then(Value::as_str);
    let (private, public) = (half("private_key"), half("public_key"));
    if private.is_some_and(is_reference) || public.is_some_and(is_reference) {
        return None;
    }
    let public = match public.map(keys::public_key) {
        Some(Err(_)) => return Some("could not load public key".into()),
        Some(Ok(key)) => Some(key),
        None => None,
    };
    let private = match private.map(keys::private_key) {
        Some(Err(error)) => return Some(format!("could not load private key: {error}").into()),
        Some(Ok(key)) => Some(key),
        None => None,
    };
    let mismatch = public.is_some() && private.is_some() && public != private;
    mismatch.then(|| "public key does not match private key".into())
}

/// Kong's checks of a JWK, one after the other.
fn jwk(key: &Document, messages: &mut Vec<String>, _: &mut Document) {
    let Some(text) = key.get("jwk").and_then(Value::as_str) else {
        return;
    };
    let Ok(jwk) = serde_json::from_str::<Document>(text) else {
        return messages.push("could not json decode jwk string".to_owned());
    };
    if jwk.get("kid") != key.get("kid") {
        return messages.push("kid in jwk.kid must be equal to keys.kid".to_owned());
    }
    if !is_jwk(&jwk) {
        return messages.push("could not load JWK, likely not a valid key".to_owned());
    }
    let fields = unknown_members(&jwk);
    if !fields.is_empty() {
        messages.push(Violations { fields }.message());
    }
}

/// Messages about the form of a JWK, by member.
fn unknown_members(jwk: &Document) -> Document {
    let is_text = |value: &Value| value.is_null() || value.is_string();
    let complaint = |(name, value): (&String, &Value)| {
        let message = if JWK_TEXTS.contains(&name.as_str()) {
            (!is_text(value)).then_some("expected a string")
        } else if JWK_LISTS.contains(&name.as_str()) {
            let is_list = |value: &Value| value.as_array().is_some_and(|it| it.iter().all(is_text));
            (!value.is_null() && !is_list(value)).then_some("expected an array")
        } else {
            Some("unknown field")
        };
        Some((name.clone(), Value::from(message?)))
    };
    jwk.iter().filter_map(complaint).collect()
}
