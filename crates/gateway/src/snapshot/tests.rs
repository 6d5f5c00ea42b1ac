//! Step by step or all at once: the same snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use o28m_router::Calculation;
use o28m_router::{Headers, RequestHead};
use o28m_store::Record;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Compiler, Destination, Kinds, Snapshot, Update, number};
use crate::{BadConfig, Plugin, PluginKind};

struct Named(&'static str, i32);

struct Inert;

impl Plugin for Inert {}

impl PluginKind for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn priority(&self) -> i32 {
        self.1
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        match config["bad"].as_bool() {
            Some(true) => Err(BadConfig("told so".to_owned())),
            _ => Ok(Arc::new(Inert)),
        }
    }
}

fn compiler() -> Compiler {
    Compiler {
        kinds: Kinds::new(vec![
            Arc::new(Named("early", 2000)),
            Arc::new(Named("late", 10)),
        ]),
        engine_ports: vec![8080],
        calculation: Calculation::default(),
        balancing: Arc::default(),
        tls_verify: true,
    }
}

/// The ids of one kind; few, so that changes meet.
fn id(kind: u32, number: u32) -> String {
    format!("0000000{kind}-0000-4000-8000-00000000000{number}")
}

const COUNT: u32 = 4;

fn reference(kind: u32) -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        (0..COUNT).prop_map(move |it| json!({"id": id(kind, it)})),
    ]
}

fn service() -> impl Strategy<Value = (String, Value)> {
    (0..COUNT, any::<bool>(), prop::sample::select(vec!["localhost", "a.example.com", "bad\nhost"])).prop_map(
        |(number, enabled, host)| {
            let body = json!({
                "id": id(1, number), "name": null, "enabled": enabled, "protocol": "http", "host": host,
                "port": 8080, "path": null, "retries": 5, "connect_timeout": 1, "write_timeout": 1,
                "read_timeout": 1, "tls_verify": null, "ca_certificates": null,
            });
            (id(1, number), body)
        },
    )
}

fn route() -> impl Strategy<Value = (String, Value)> {
    (0..COUNT, reference(1), prop::sample::select(vec!["/a", "/b", "~/c", "~/("])).prop_map(
        |(number, service, path)| {
            let body = json!({
                "id": id(2, number), "name": null, "protocols": ["http"], "methods": null, "hosts": null,
                "paths": [path], "headers": null, "snis": null, "https_redirect_status_code": 426,
                "regex_priority": 0, "strip_path": true, "preserve_host": false, "request_buffering": true,
                "response_buffering": true, "service": service,
            });
            (id(2, number), body)
        },
    )
}

fn consumer() -> impl Strategy<Value = (String, Value)> {
    (
        0..COUNT,
        prop::option::of("[xy]"),
        prop::option::of("[xy]?"),
    )
        .prop_map(|(number, custom, name)| {
            let body = json!({"id": id(3, number), "username": name, "custom_id": custom});
            (id(3, number), body)
        })
}

fn acl() -> impl Strategy<Value = (String, Value)> {
    (0..COUNT, 0..COUNT, "[gh]", 0..3_i64).prop_map(|(number, consumer, group, created_at)| {
        let body = json!({
            "id": id(4, number), "group": group, "consumer": {"id": id(3, consumer)}, "created_at": created_at,
        });
        (id(4, number), body)
    })
}

fn plugin() -> impl Strategy<Value = (String, Value)> {
    let name = prop::sample::select(vec!["early", "late", "unknown"]);
    (
        0..COUNT,
        name,
        any::<bool>(),
        any::<bool>(),
        reference(1),
        reference(2),
        reference(3),
    )
        .prop_map(|(number, name, enabled, bad, service, route, consumer)| {
            let body = json!({
                "id": id(5, number), "name": name, "enabled": enabled, "config": {"bad": bad},
                "service": service, "route": route, "consumer": consumer,
            });
            (id(5, number), body)
        })
}

fn upstream() -> impl Strategy<Value = (String, Value)> {
    let name = prop::sample::select(vec!["localhost", "a.example.com", "other"]);
    (0..COUNT, name).prop_map(|(number, name)| {
        let counters = json!({
            "http_statuses": [], "successes": 0, "tcp_failures": 0, "timeouts": 0, "http_failures": 0,
            "interval": 0,
        });
        let body = json!({
            "id": id(6, number), "name": name, "algorithm": "round-robin", "hash_on": "none",
            "hash_fallback": "none", "hash_on_cookie_path": "/", "slots": 100,
            "healthchecks": {
                "threshold": 0,
                "passive": {"healthy": counters, "unhealthy": counters},
                "active": {
                    "type": "http", "timeout": 1, "concurrency": 1, "http_path": "/",
                    "https_verify_certificate": true, "healthy": counters, "unhealthy": counters,
                },
            },
        });
        (id(6, number), body)
    })
}

fn target() -> impl Strategy<Value = (String, Value)> {
    let target = prop::sample::select(vec!["localhost:8080", "10.0.0.1:80", "nonsense"]);
    (0..COUNT, 0..COUNT, target, 0..3_u32).prop_map(|(number, upstream, target, weight)| {
        let body = json!({
            "id": id(7, number), "target": target, "weight": weight, "upstream": {"id": id(6, upstream)},
        });
        (id(7, number), body)
    })
}

#[derive(Clone, Debug)]
enum Change {
    Put(&'static str, String, Value),
    Delete(&'static str, String),
}

fn change() -> impl Strategy<Value = Change> {
    fn put<S: Strategy<Value = (String, Value)>>(
        kind: &'static str,
        entity: S,
    ) -> impl Strategy<Value = Change> {
        entity.prop_map(move |(id, body)| Change::Put(kind, id, body))
    }
    let kinds = vec![
        ("services", 1),
        ("routes", 2),
        ("consumers", 3),
        ("acls", 4),
        ("plugins", 5),
        ("upstreams", 6),
        ("targets", 7),
    ];
    let delete = (prop::sample::select(kinds), 0..COUNT);
    prop_oneof![
        put("services", service()),
        put("routes", route()),
        put("consumers", consumer()),
        put("acls", acl()),
        put("plugins", plugin()),
        put("upstreams", upstream()),
        put("targets", target()),
        delete.prop_map(|((kind, at), number)| Change::Delete(kind, id(at, number))),
    ]
}

type State = BTreeMap<(&'static str, String), (i64, Value)>;

/// What the database would refuse is left out: keys and scopes are unique.
fn is_allowed(state: &State, change: &Change) -> bool {
    let Change::Put(kind, id, body) = change else {
        return true;
    };
    let mut others = state
        .iter()
        .filter(|((other, other_id), _)| other == kind && other_id != id);
    let filled = |value: &Value| value.as_str().is_some_and(|it| !it.is_empty());
    match *kind {
        "consumers" => !others.any(|(_, (_, other))| {
            let same = |key: &str| filled(&body[key]) && body[key] == other[key];
            same("username") || same("custom_id")
        }),
        "plugins" => !others.any(|(_, (_, other))| {
            ["name", "service", "route", "consumer"]
                .iter()
                .all(|key| body[*key] == other[*key])
        }),
        "upstreams" => !others.any(|(_, (_, other))| body["name"] == other["name"]),
        _ => true,
    }
}

fn record(kind: &str, id: &str, version: i64, body: &Value) -> Record {
    Record {
        kind: kind.to_owned(),
        id: id.to_owned(),
        owner: String::new(),
        version,
        body: body.clone(),
    }
}

struct NoHeaders;

impl Headers for NoHeaders {
    fn any(&self, _: &str, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }
}

/// Everything that a request could find out.
fn observe(snapshot: &Snapshot) -> Vec<String> {
    let mut seen = vec![format!("routed: {}", snapshot.router().len())];
    for path in ["/a", "/b", "/c"] {
        let found = snapshot.router().find(&RequestHead {
            method: "GET",
            host: "",
            port: 80,
            path,
            server_name: None,
            headers: &NoHeaders,
        });
        seen.push(format!("{path}: {:?}", found.map(|it| it.route.id.clone())));
    }
    for at in 0..COUNT {
        let route = snapshot.route(&id(2, at));
        let service = route.and_then(|it| snapshot.service_of(it));
        seen.push(format!(
            "route {at}: {:?} {:?}",
            route.map(|it| &it.route),
            service.map(|it| &it.service)
        ));
        let balanced = service.and_then(|it| match &it.destination {
            Destination::Balanced(it) => snapshot.balancer(it.upstream),
            _ => None,
        });
        seen.push(format!(
            "upstream of route {at}: {:?}",
            balanced.map(|it| &it.upstream.id)
        ));
        let balancer = snapshot.balancer_of(&id(6, at));
        seen.push(format!(
            "upstream {at}: {:?}",
            balancer.map(|it| (&it.upstream, it.health()))
        ));
        seen.push(format!(
            "consumer {at}: {:?} {:?}",
            snapshot.consumer(&id(3, at)),
            snapshot.groups(&id(3, at))
        ));
        for service in (0..COUNT).map(Some).chain([None]) {
            for consumer in (0..COUNT).map(Some).chain([None]) {
                let key = |kind, it: Option<u32>| it.map(|it| number(&id(kind, it)));
                let mut scopes = snapshot.plugins().scopes(key(2, Some(at)), key(1, service));
                if let Some(consumer) = consumer {
                    scopes.set_consumer(&id(3, consumer));
                }
                let mut from = 0;
                while let Some(instance) = scopes.next(from) {
                    from = u32::from(instance.rank) + 1;
                    seen.push(format!(
                        "{at} {service:?} {consumer:?}: {} {}",
                        instance.name, instance.id
                    ));
                }
            }
        }
    }
    for name in ["", "x", "y"] {
        let (username, custom_id) = (
            snapshot.consumer_by_username(name),
            snapshot.consumer_by_custom_id(name),
        );
        seen.push(format!("{name:?}: {username:?} {custom_id:?}"));
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn incremental_equals_full_rebuild(
        batches in prop::collection::vec(prop::collection::vec(change(), 1..6), 1..12),
    ) {
        let compiler = compiler();
        let mut state = State::new();
        let mut snapshot = Snapshot::default();
        let mut version = 0;
        for batch in batches {
            let mut updates = BTreeMap::new();
            for change in batch {
                if !is_allowed(&state, &change) {
                    continue;
                }
                version += 1;
                let (kind, id, record) = match change {
                    Change::Put(kind, id, body) => {
                        let record = record(kind, &id, version, &body);
                        state.insert((kind, id.clone()), (version, body));
                        (kind, id, Some(record))
                    }
                    Change::Delete(kind, id) => {
                        state.remove(&(kind, id.clone()));
                        (kind, id, None)
                    }
                };
                let update = Update { kind: kind.to_owned(), id: id.clone(), record };
                updates.insert((kind, id), update);
            }
            snapshot = snapshot.apply(&compiler, updates.into_values().collect(), version, None);
            let all = state.iter().map(|((kind, id), (version, body))| {
                Update::from(record(kind, id, *version, body))
            });
            let rebuilt = Snapshot::default().apply(&compiler, all.collect(), version, Some(&snapshot));
            prop_assert_eq!(observe(&snapshot), observe(&rebuilt));
        }
    }
}

#[test]
fn proxy_case_058_the_most_specific_instance_wins() {
    let (service, route, consumer) = (id(1, 0), id(2, 0), id(3, 0));
    // From least to most specific.
    let scopes = [
        (false, false, false),
        (true, false, false),
        (false, true, false),
        (false, false, true),
        (true, true, false),
        (true, false, true),
        (false, true, true),
        (true, true, true),
    ];
    let mut snapshot = Snapshot::default();
    for (at, (with_service, with_route, with_consumer)) in (0_u32..).zip(scopes) {
        let reference = |set: bool, id: &str| if set { json!({"id": id}) } else { Value::Null };
        let body = json!({
            "id": id(5, at), "name": "late", "enabled": true, "config": {},
            "service": reference(with_service, &service), "route": reference(with_route, &route),
            "consumer": reference(with_consumer, &consumer),
        });
        let update = Update::from(record("plugins", &id(5, at), 1, &body));
        snapshot = snapshot.apply(&compiler(), vec![update], 1, None);
        let mut found = snapshot
            .plugins()
            .scopes(Some(number(&route)), Some(number(&service)));
        let before = found.next(0).map(|it| it.id.to_string());
        assert_eq!(
            before.is_some_and(|it| it == id(5, at)),
            !with_consumer,
            "{at}"
        );
        found.set_consumer(&consumer);
        assert_eq!(*found.next(0).unwrap().id, *id(5, at));
    }
    // Without the route's instance the service's applies again.
    let gone = (4..8).chain([3, 2]).map(|at| Update {
        kind: "plugins".to_owned(),
        id: id(5, at),
        record: None,
    });
    snapshot = snapshot.apply(&compiler(), gone.collect(), 2, None);
    let mut found = snapshot
        .plugins()
        .scopes(Some(number(&route)), Some(number(&service)));
    found.set_consumer(&consumer);
    assert_eq!(*found.next(0).unwrap().id, *id(5, 1));
}

#[test]
fn a_full_reload_keeps_plugins_that_did_not_change() {
    let body = json!({
        "id": id(5, 0), "name": "late", "enabled": true, "config": {}, "service": null, "route": null,
        "consumer": null,
    });
    let load = |version, previous: Option<&Snapshot>| {
        let update = Update::from(record("plugins", &id(5, 0), version, &body));
        Snapshot::default().apply(&compiler(), vec![update], version, previous)
    };
    let plugin = |snapshot: &Snapshot| snapshot.plugins().get(&id(5, 0)).unwrap().clone();
    let first = load(1, None);
    assert!(Arc::ptr_eq(
        &plugin(&first),
        &plugin(&load(1, Some(&first)))
    ));
    assert!(!Arc::ptr_eq(
        &plugin(&first),
        &plugin(&load(2, Some(&first)))
    ));
}
