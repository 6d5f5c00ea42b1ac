//! What holds for every entity and every declarative document.

use std::sync::OnceLock;

use o28m_kong::declarative::{self, Configuration, Surroundings};
use o28m_kong::yaml;

use super::material::fill;
use super::*;

struct Nothing;

impl Surroundings for Nothing {}

fn read(document: Document) -> Configuration {
    let (ambient, enabled_plugins) = (ambient(), enabled());
    let context = Context {
        ambient: &ambient,
        enabled_plugins: &enabled_plugins,
    };
    declarative::read(document, &context, &Nothing).unwrap_or_else(|invalid| panic!("{invalid}"))
}

/// One or more valid documents of every entity.
fn samples() -> &'static [(&'static str, Document)] {
    static SAMPLES: OnceLock<Vec<(&'static str, Document)>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let text = fill(include_str!("../fixtures/every-entity.yaml"));
        let configuration = read(declarative::parse(&text).unwrap());
        let entities = configuration.entities.into_iter();
        entities
            .map(|(entity, document)| (entity.name, document))
            .collect()
    })
}

#[test]
fn the_samples_hold_every_entity_and_use_every_field() {
    for kind in entities() {
        let of_kind = || samples().iter().filter(|(name, _)| *name == kind.name);
        assert!(of_kind().count() > 0, "no sample of {}", kind.name);
        let schema = kind.describe();
        for field in schema["fields"].as_array().unwrap() {
            let name = field.as_object().unwrap().keys().next().unwrap();
            // Streams are not served; names of certificates are entities of their own.
            let unused = ["sources", "destinations", "snis"];
            let is_used = of_kind().any(|(_, it)| it.get(name).is_some_and(|it| !it.is_null()));
            assert!(
                is_used || unused.contains(&name.as_str()),
                "no sample of {}.{name}",
                kind.name
            );
        }
    }
}

#[test]
fn what_is_printed_is_read_again() {
    let entities = samples();
    let printed = declarative::document(entities.iter().map(|(name, it)| (*name, it)), &[]);
    let text = yaml::write(&Value::Object(printed.clone()));
    let parsed = declarative::parse(&text).unwrap();
    assert_eq!(parsed, printed);
    let again: Vec<_> = read(parsed)
        .entities
        .into_iter()
        .map(|(entity, document)| (entity.name, document))
        .collect();
    for (before, after) in entities.iter().zip(&again) {
        assert_eq!(before, after);
    }
    assert_eq!(entities.len(), again.len());
}

/// Fields that follow from another one: entity, the field named, the field that may change with it.
const COUPLED: &[(&str, &str, &str)] = &[
    ("upstreams", "hash_on", "algorithm"),
    ("upstreams", "algorithm", "hash_on"),
    ("ca_certificates", "cert", "cert_digest"),
    ("oauth2_credentials", "hash_secret", "client_secret"),
    ("services", "url", "protocol"),
    ("services", "url", "host"),
    ("services", "url", "port"),
    ("services", "url", "path"),
];

/// The members of a patch: for each field drawn nothing, null, a value of another sample, or anything.
fn any_patch() -> impl Strategy<Value = (usize, Document)> {
    let kinds = 0..entities().len();
    let member = (any::<proptest::sample::Index>(), 0..6_u8, any_json());
    (kinds, proptest::collection::vec(member, 1..4)).prop_map(|(at, members)| {
        let kind = &entities()[at];
        let of_kind: Vec<_> = samples()
            .iter()
            .filter(|(name, _)| *name == kind.name)
            .map(|(_, document)| document)
            .collect();
        let fields: Vec<&String> = of_kind[0].keys().collect();
        let patch = members
            .into_iter()
            .map(|(drawn, choice, anything)| {
                let field = *drawn.get(&fields);
                let value = match choice {
                    0 => Value::Null,
                    1 => anything,
                    _ => drawn.get(&of_kind)[field].clone(),
                };
                (field.clone(), value)
            })
            .collect();
        (at, patch)
    })
}

/// Asserts that records only differ in what the patch names.
fn compare(path: &str, schema: &Value, before: &Value, after: &Value, patch: &Value) {
    let Some(fields) = schema["fields"].as_array().filter(|_| patch.is_object()) else {
        return;
    };
    for field in fields {
        let (name, field) = field.as_object().unwrap().iter().next().unwrap();
        let (before, after) = (&before[name], &after[name]);
        match patch.get(name) {
            None => assert_eq!(before, after, "{path}.{name} changed"),
            Some(patch) if field["type"] == "record" && before.is_object() => {
                compare(&format!("{path}.{name}"), field, before, after, patch);
            }
            Some(_) => {}
        }
    }
}

proptest! {
    #[test]
    fn a_patch_of_any_entity_changes_only_what_it_names((at, patch) in any_patch()) {
        let kind = &entities()[at];
        for (_, stored) in samples().iter().filter(|(name, _)| *name == kind.name) {
            let Ok(patched) = update(kind.name, stored, Value::Object(patch.clone())) else {
                continue;
            };
            let mut schema = kind.describe();
            let may_change = |field: &str| {
                let mut coupled = COUPLED.iter();
                field == "updated_at" || field == "config"
                    || coupled.any(|(entity, named, other)| {
                        *entity == kind.name && *other == field && patch.contains_key(*named)
                    })
            };
            schema["fields"].as_array_mut().unwrap().retain(|field| {
                !may_change(field.as_object().unwrap().keys().next().unwrap())
            });
            let mut named = patch.clone();
            // The id of an entity is never changed.
            named.remove("id");
            compare(
                kind.name,
                &schema,
                &json!(stored),
                &json!(patched),
                &Value::Object(named),
            );
            if !patch.contains_key("config") && !patch.contains_key("name") {
                prop_assert_eq!(stored.get("config"), patched.get("config"));
            }
        }
    }

    #[test]
    fn what_an_entity_prints_it_reads_again((at, patch) in any_patch()) {
        let kind = &entities()[at];
        let (ambient, enabled_plugins) = (ambient(), enabled());
        let context = Context { ambient: &ambient, enabled_plugins: &enabled_plugins };
        for (_, stored) in samples().iter().filter(|(name, _)| *name == kind.name) {
            let mut changed = stored.clone();
            changed.extend(patch.clone());
            let Ok(first) = kind.declare(changed, false, &context) else {
                continue;
            };
            let text = Value::Object(first.clone()).to_string();
            let parsed = document(serde_json::from_str(&text).unwrap());
            prop_assert_eq!(&kind.declare(parsed, false, &context).unwrap(), &first);
            let parsed = document(yaml::read(&yaml::write(&Value::Object(first.clone()))).unwrap());
            prop_assert_eq!(&kind.declare(parsed, false, &context).unwrap(), &first);
        }
    }

    #[test]
    fn any_configuration_is_printed_and_read_again(
        kept in proptest::collection::vec(proptest::bool::weighted(0.8), samples().len()),
        patches in proptest::collection::vec(any_patch(), 0..12),
        as_yaml in any::<bool>(),
    ) {
        let configuration = changed(&kept, &patches);
        let given = configuration.iter().map(|(kind, it)| (kind.name, it));
        let printed = declarative::document(given, &[]);
        let value = Value::Object(printed.clone());
        let text = if as_yaml { yaml::write(&value) } else { value.to_string() };
        let parsed = declarative::parse(&text).unwrap();
        prop_assert_eq!(&parsed, &printed);
        let again = read(parsed).entities;
        prop_assert_eq!(again.len(), configuration.len());
        for ((kind, before), (other, after)) in configuration.iter().zip(&again) {
            prop_assert_eq!((kind.name, before), (other.name, after));
        }
    }
}

/// The samples that are kept and whose targets are, changed where the change is valid.
fn changed(
    kept: &[bool],
    patches: &[(usize, Document)],
) -> Vec<(&'static o28m_kong::Entity, Document)> {
    let mut ids = std::collections::HashSet::new();
    let mut configuration = Vec::new();
    for ((name, sample), _) in samples().iter().zip(kept).filter(|(_, kept)| **kept) {
        let kind = entity(name).unwrap();
        let points = |document: &Document| -> Vec<(&str, String)> {
            let keys = kind.foreign.iter();
            keys.filter_map(|it| {
                let id = document.get(it.field)?.get("id")?.as_str()?;
                Some((it.entity, id.to_owned()))
            })
            .collect()
        };
        if !points(sample).iter().all(|target| ids.contains(target)) {
            continue;
        }
        let mut document = sample.clone();
        for (_, patch) in patches
            .iter()
            .filter(|(at, _)| entities()[*at].name == *name)
        {
            let patch = Value::Object(patch.clone());
            let Ok(patched) = update(name, &document, patch) else {
                continue;
            };
            let values = |it: &Document| -> Vec<_> {
                kind.unique.iter().map(|unique| unique.value(it)).collect()
            };
            // Unique values of several entities would meet.
            if points(&patched) == points(&document) && values(&patched) == values(&document) {
                document = patched;
            }
        }
        let id = document["id"].as_str().unwrap().to_owned();
        ids.insert((kind.name, id));
        kind.strip(&mut document);
        configuration.push((kind, document));
    }
    configuration
}
