//! The declarative format: what it accepts, what it makes of it, and what it says when it does not.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of tests fail them"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_kong::declarative::{self, Configuration, Invalid, Surroundings};
use o28m_kong::{Context, Document};
use serde_json::{Value, json};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }
}

struct Counter(AtomicU8);

impl Rng for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Nothing;

impl Surroundings for Nothing {}

fn read(text: &str) -> Result<Configuration, Invalid> {
    let ambient = Ambient {
        clock: Arc::new(Fixed),
        rng: Arc::new(Counter(AtomicU8::new(0))),
    };
    let enabled_plugins: Vec<_> = o28m_kong::plugins()
        .iter()
        .map(|plugin| plugin.name.to_owned())
        .collect();
    let context = Context {
        ambient: &ambient,
        enabled_plugins: &enabled_plugins,
    };
    declarative::read(declarative::parse(text)?, &context, &Nothing)
}

/// The entities of a valid text, by kind.
#[track_caller]
fn entities(text: &str) -> Vec<(&'static str, Value)> {
    let configuration = read(text).unwrap_or_else(|invalid| panic!("{invalid}"));
    let entities = configuration.entities.into_iter();
    entities
        .map(|(entity, document)| (entity.name, Value::Object(document)))
        .collect()
}

#[track_caller]
fn fields(text: &str) -> Value {
    Value::Object(read(text).unwrap_err().fields())
}

const NESTED: &str = r#"
_format_version: "3.0"
_transform: true
_comment: made by hand
services:
- name: my-service
  url: https://example.com:8443/base
  tags: [a]
  routes:
  - name: my-route
    paths: [/x]
    plugins:
    - name: acl
      config: {allow: [g]}
  plugins:
  - name: request-size-limiting
consumers:
- username: my-user
  acls:
  - group: g
"#;

#[test]
fn nested_entities_get_their_parents_and_the_ids_of_kong() {
    let found = entities(NESTED);
    let kinds: Vec<_> = found.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(
        kinds,
        [
            "services",
            "routes",
            "consumers",
            "plugins",
            "plugins",
            "acls"
        ]
    );
    let service = &found[0].1;
    assert_eq!(service["id"], "0855b320-0dd2-547d-891d-601e9b38647f");
    assert_eq!(service["protocol"], "https");
    assert_eq!(service["retries"], 5);
    let route = &found[1].1;
    assert_eq!(route["id"], "481a9539-f49c-51b6-b2e2-fe99ee68866c");
    assert_eq!(route["service"], json!({"id": service["id"]}));
    assert_eq!(found[2].1["id"], "4b1b701d-de2b-5588-9aa2-3b97061d9f52");
    assert_eq!(found[3].1["route"], json!({"id": route["id"]}));
    assert_eq!(found[3].1["service"], Value::Null);
    assert_eq!(found[4].1["service"], json!({"id": service["id"]}));
    assert_eq!(found[5].1["consumer"], json!({"id": found[2].1["id"]}));
}

#[test]
fn flat_entities_refer_by_name_id_or_object() {
    let text = r#"{"_format_version": "3.0",
        "routes": [
            {"name": "a", "paths": ["/a"], "service": "s"},
            {"name": "b", "paths": ["/b"], "service": {"name": "s"}},
            {"name": "c", "paths": ["/c"], "service": {"id": "0855B320-0dd2-547d-891d-601e9b38647f"}},
            {"name": "d", "paths": ["/d"], "service": "0855b320-0dd2-547d-891d-601e9b38647f"},
            {"name": "e", "paths": ["/e"]}
        ],
        "services": [{"name": "s", "host": "h", "id": "0855b320-0dd2-547d-891d-601e9b38647f"}],
        "acls": [{"group": "g", "consumer": {"custom_id": "x"}}, {"group": "h", "consumer": "u"}],
        "consumers": [{"username": "u", "custom_id": "x"}]}"#;
    let found = entities(text);
    let service = json!({"id": "0855b320-0dd2-547d-891d-601e9b38647f"});
    for (_, route) in &found[1..5] {
        assert_eq!(route["service"], service, "{route}");
    }
    assert_eq!(found[5].1["service"], Value::Null);
    assert_eq!(found[7].1["consumer"], found[8].1["consumer"]);
}

#[test]
fn the_same_text_gives_the_same_ids() {
    let text = "_format_version: '3.0'\nroutes:\n- paths: [/x]\n- paths: [/x]\n- paths: [/y]\n\
        consumers:\n- custom_id: c\nplugins:\n- name: request-size-limiting";
    let first = entities(text);
    assert_eq!(first, entities(text));
    assert_ne!(first[0].1["id"], first[1].1["id"]);
}

#[test]
fn what_decks_metadata_says_applies_to_every_entity() {
    let text = "_format_version: '3.0'\n_info:\n  select_tags: [team-a]\n  defaults:\n    service: {retries: 1}\n\
        services:\n- {name: a, host: h, tags: [x, team-a]}\n- {name: b, host: h, retries: 2}";
    let configuration = read(text).unwrap();
    assert_eq!(configuration.select_tags, ["team-a"]);
    let found = &configuration.entities;
    assert_eq!(found[0].1["tags"], json!(["x", "team-a"]));
    assert_eq!(found[0].1["retries"], 1);
    assert_eq!(found[1].1["tags"], json!(["team-a"]));
    assert_eq!(found[1].1["retries"], 2);
}

#[test]
fn paths_of_old_formats_become_expressions() {
    let routes = |version: &str| {
        let text = format!(
            "_format_version: '{version}'\nroutes:\n- paths: [/plain-1._~%2F, '/a(b|c)', '/v\\d+']"
        );
        entities(&text)[0].1["paths"].clone()
    };
    let old = json!(["/plain-1._~%2F", "~/a(b|c)", "~/v\\d+"]);
    assert_eq!(routes("1.1"), old);
    assert_eq!(routes("2.1"), old);
}

#[test]
fn time_stamps_are_kept() {
    let text = "_format_version: '3.0'\nservices:\n- {name: a, host: h, created_at: 5, updated_at: 6}\n\
        - {name: b, host: h}";
    let found = entities(text);
    assert_eq!(found[0].1["created_at"], 5);
    assert_eq!(found[0].1["updated_at"], 6);
    assert_eq!(found[1].1["updated_at"], 1_700_000_000);
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = r#"
_format_version: "4.0"
filter_chains: []
nope: []
services:
- name: ok
  host: h
- name: bad name
  routes:
  - paths: [x, /ok]
    nope: 1
- name: ok
  host: h
- 5
routes:
- name: lost
  paths: [/]
  service: missing
plugins:
- name: unknown
acls: {a: b}
"#;
    let expected = json!({
        "_format_version": "expected one of: 1.1, 2.1, 3.0",
        "filter_chains": "not supported by this build",
        "nope": "unknown field",
        "services": [
            null,
            {
                "name": "invalid value 'bad name': the only accepted ascii characters are alphanumerics or ., -, _, and ~",
                "host": "required field missing",
                "routes": [{"paths": ["should start with: / (fixed path) or ~/ (regex path)"], "nope": "unknown field"}],
            },
            "uniqueness violation: 'services' entity with name set to 'ok' already declared",
            "expected a record",
        ],
        "routes": [{"service": "invalid reference 'service: missing' (no such entry in 'services')"}],
        "plugins": [{"name": "plugin 'unknown' not enabled; add it to the 'plugins' configuration property"}],
        "acls": "expected an array",
    });
    let mut found = fields(text);
    // The wording of these two belongs to the tests of the schema.
    let name = found["services"][1]["name"].take();
    assert!(
        name.as_str()
            .unwrap()
            .starts_with("invalid value 'bad name'"),
        "{name}"
    );
    let mut expected = expected;
    expected["services"][1]["name"].take();
    assert_eq!(found, expected);
}

#[test]
fn problems_are_also_listed_by_entity_and_by_line() {
    let text = "_format_version: '3.0'\nfoo: 1\nservices:\n- name: s\n  tags: [t]\n  host: h\n  routes:\n\
        \x20 - {name: r, paths: [/, x]}\nconsumers:\n- id: 5";
    let invalid = read(text).unwrap_err();
    assert_eq!(
        Value::Object(invalid.unattributed().clone()),
        json!({"foo": "unknown field"})
    );
    let flattened = invalid.flattened();
    assert_eq!(flattened[0]["entity_type"], "route");
    assert_eq!(flattened[0]["entity_name"], "r");
    assert_eq!(
        flattened[0]["entity"],
        json!({"name": "r", "paths": ["/", "x"]})
    );
    assert_eq!(flattened[0]["errors"][0]["type"], "field");
    assert_eq!(flattened[0]["errors"][0]["field"], "paths.2");
    let errors = flattened[1]["errors"].as_array().unwrap();
    assert!(
        errors.iter().any(|error| error["type"] == "entity"),
        "{errors:?}"
    );
    let lines = invalid.lines();
    assert_eq!(lines[0], "foo: unknown field");
    assert!(
        lines[1].starts_with("services[0].routes[0].paths[1]: should start with"),
        "{lines:?}"
    );
}

#[test]
fn a_text_that_is_no_configuration_says_why() {
    for (text, message) in [
        ("", "expected an object"),
        ("- a", "expected an object"),
        ("5", "expected an object"),
        (
            "a: 1\na: 2",
            "line 2, column 1: key \"a\" stands twice in this mapping",
        ),
        ("{\"a\": [}", "line 1, column 8: "),
    ] {
        let error = fields(text)["error"].as_str().unwrap().to_owned();
        let start = format!("failed parsing declarative configuration: {message}");
        assert!(error.starts_with(&start), "{text}: {error}");
    }
    let invalid = read("").unwrap_err();
    let message = r#"declarative config is invalid: {error="failed parsing declarative configuration: expected an object"}"#;
    assert_eq!(invalid.to_string(), message);
    assert_eq!(
        fields("{}"),
        json!({"_format_version": "required field missing"})
    );
}

#[test]
fn a_nested_entity_cannot_point_elsewhere() {
    let text = "_format_version: '3.0'\nservices:\n- {name: a, host: h, routes: [{paths: [/], service: b}]}\n\
        - {name: b, host: h, routes: [{paths: [/], service: b}]}";
    let expected = json!({"services": [
        {"routes": [{"service": "must be the entity it is nested in"}]},
    ]});
    assert_eq!(fields(text), expected);
}

#[test]
fn what_is_exported_reads_as_the_same_entities() {
    let configuration = read(NESTED).unwrap();
    let given: Vec<(&str, &Document)> = configuration
        .entities
        .iter()
        .map(|(entity, document)| (entity.name, document))
        .collect();
    let document = Value::Object(declarative::document(given, &[]));
    assert_eq!(document["_format_version"], "3.0");
    assert_eq!(
        document["routes"][0]["service"],
        document["services"][0]["id"]
    );
    assert_eq!(document["routes"][0].get("hosts"), None);
    for text in [document.to_string(), o28m_kong::yaml::write(&document)] {
        let again = read(&text).unwrap();
        assert_eq!(again.entities.len(), configuration.entities.len());
        for ((_, new), (_, old)) in again.entities.iter().zip(&configuration.entities) {
            assert_eq!(new, old);
        }
    }
}

#[test]
fn what_is_said_about_many_wrong_entities_stays_bounded() {
    let services = vec!["{}"; 5000].join(",");
    let text = format!("{{\"_format_version\": \"3.0\", \"services\": [{services}]}}");
    let invalid = read(&text).unwrap_err();
    assert_eq!(invalid.flattened().len(), 1000);
    assert_eq!(
        invalid.unattributed()["error"],
        "4000 more entities are invalid"
    );
}
