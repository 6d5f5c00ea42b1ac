//! Entry points of the fuzz targets: each takes any bytes and panics when a promise is broken. The same
//! functions run over the committed inputs in an ordinary test.

use std::sync::Arc;

use o28m_core::{Ambient, Clock, Rng, Timestamp};
use serde_json::Value;

use crate::body::{self, Kind};
use crate::declarative::{self, Surroundings};
use crate::{Context, Document, Entity, entities};

/// What takes an input; it panics when a promise is broken.
pub type Entry = fn(&[u8]);

/// Name and entry point of each target.
pub const TARGETS: &[(&str, Entry)] = &[
    ("body", decode),
    ("entity", validate),
    ("declarative", read),
];

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }
}

impl Rng for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn with_context<T>(work: impl FnOnce(&Context<'_>) -> T) -> T {
    let ambient = Ambient {
        clock: Arc::new(Fixed),
        rng: Arc::new(Fixed),
    };
    let enabled_plugins: Vec<String> = crate::plugins()
        .iter()
        .map(|plugin| plugin.name.to_owned())
        .collect();
    work(&Context {
        ambient: &ambient,
        enabled_plugins: &enabled_plugins,
    })
}

/// The entity that the first byte chooses, and the rest.
fn choose(data: &[u8]) -> Option<(&'static Entity, &[u8])> {
    let (first, rest) = data.split_first()?;
    let entities = entities();
    Some((entities.get(usize::from(*first) % entities.len())?, rest))
}

/// A request body: the first byte chooses the entity, the second the content type.
///
/// # Panics
/// When decoding panics, or the decoded form is not stable.
pub fn decode(data: &[u8]) {
    let Some((entity, rest)) = choose(data) else {
        return;
    };
    let Some((kind, bytes)) = rest.split_first() else {
        return;
    };
    let kind = match kind % 3 {
        0 => Kind::Json,
        1 => Kind::Form,
        _ => Kind::Multipart {
            boundary: "x".to_owned(),
        },
    };
    let Ok(members) = body::decode(&kind, bytes) else {
        return;
    };
    let document = members.document(entity, None);
    let text = Value::Object(document.clone()).to_string();
    let again = serde_json::from_str::<Document>(&text);
    assert!(
        again.is_ok_and(|again| same(&again, &document)),
        "what was decoded can be printed and parsed: {text}"
    );
    with_context(|context| check(entity, document, context));
}

/// A JSON document for the entity that the first byte chooses.
///
/// # Panics
/// When validation panics, or does not accept again what it accepted.
pub fn validate(data: &[u8]) {
    let Some((entity, json)) = choose(data) else {
        return;
    };
    if let Ok(document) = serde_json::from_slice(json) {
        with_context(|context| check(entity, document, context));
    }
}

fn check(entity: &Entity, input: Document, context: &Context<'_>) {
    let accepted = match entity.insert(input.clone(), context) {
        Ok(accepted) => accepted,
        Err(violations) => {
            assert!(!violations.fields.is_empty(), "a refusal has a reason");
            assert!(violations.message().contains("schema violation"));
            return;
        }
    };
    // Secrets that were sealed are not sealed again.
    match entity.declare(accepted.clone(), false, context) {
        Ok(again) => assert!(
            same(&again, &accepted),
            "{entity:?} changes when it comes again: {accepted:?} to {again:?}"
        ),
        Err(violations) => refused_again(entity, &accepted, &violations.message()),
    }
    match entity.update(&accepted, Document::new(), context) {
        Ok(patched) => assert!(
            same(&patched, &accepted),
            "{entity:?} changes by a patch that names nothing: {accepted:?} to {patched:?}"
        ),
        Err(violations) => refused_again(entity, &accepted, &violations.message()),
    }
    // Whatever it does, it ends.
    let _changed = entity.update(&accepted, input, context).is_ok();
}

#[expect(clippy::panic, reason = "how a fuzz target reports")]
fn refused_again(entity: &Entity, accepted: &Document, message: &str) {
    panic!("{entity:?} is refused when it comes again: {message}: {accepted:?}");
}

/// Equal but for the time of the last write; whole numbers may be written in two ways.
fn same(one: &Document, other: &Document) -> bool {
    let counted = |document: &Document| {
        let mut document = document.clone();
        document.remove("updated_at");
        document
    };
    equal(&Value::Object(counted(one)), &Value::Object(counted(other)))
}

fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64().is_some_and(|one| other.as_f64() == Some(one))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, value)| other.get(name).is_some_and(|other| equal(value, other)))
        }
        _ => one == other,
    }
}

/// A declarative configuration on its own.
struct Alone;

impl Surroundings for Alone {}

/// A declarative configuration in YAML or JSON.
///
/// # Panics
/// When reading panics, or what was read is not the same after it was printed.
pub fn read(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let document = match declarative::parse(text) {
        Ok(document) => document,
        Err(invalid) => {
            assert!(!invalid.lines().is_empty(), "a refusal has a reason");
            return;
        }
    };
    let printed = crate::yaml::write(&Value::Object(document.clone()));
    let again = declarative::parse(&printed);
    assert!(
        again.is_ok_and(|again| equal(&Value::Object(again), &Value::Object(document.clone()))),
        "YAML reads what it wrote:\n{printed}"
    );
    with_context(|context| {
        let Ok(read) = declarative::read(document, context, &Alone) else {
            return;
        };
        let entities = read.entities.iter().map(|(it, body)| (it.name, body));
        let exported = declarative::document(entities, &read.select_tags);
        let again = declarative::read(exported.clone(), context, &Alone);
        let again = again.map_err(|invalid| invalid.lines().join("; "));
        let is_same = again.as_ref().is_ok_and(|again| {
            again.entities.len() == read.entities.len()
                && read.entities.iter().all(|(it, body)| {
                    let mut others = again.entities.iter();
                    others.any(|(other, again)| other.name == it.name && same(again, body))
                })
        });
        assert!(
            is_same,
            "an export reads as what was exported: {exported:?}, {:?}",
            again.err()
        );
    });
}
