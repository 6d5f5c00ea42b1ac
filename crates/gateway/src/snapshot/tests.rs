//! Step by step or all at once: the same snapshot.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use o28m_router::Calculation;
use o28m_router::{Headers, RequestHead};
use o28m_store::Record;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Compiler, Destination, ENTITY_KINDS, EnginePorts, Kinds, Snapshot, Update, UpstreamTls,
    Variables, number,
};
use crate::balance::Balancing;
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
        engine_ports: EnginePorts {
            all: vec![8080],
            private: vec![8080],
            any_is_service: false,
        },
        flavor: o28m_kong::RouterFlavor::default(),
        calculation: Calculation::default(),
        balancing: Arc::default(),
        upstream_tls: UpstreamTls::default(),
        variables: Variables::new(|name| match name {
            "CERT" => Some(PAIRS[0].0.clone()),
            "KEY" => Some(PAIRS[0].1.clone()),
            "OTHER_CERT" => Some(PAIRS[1].0.clone()),
            "OTHER_KEY" => Some(PAIRS[1].1.clone()),
            _ => None,
        }),
    }
}

/// The ids of one kind; few, so that changes meet.
fn id(kind: u32, number: u32) -> String {
    format!("0000000{kind:x}-0000-4000-8000-00000000000{number}")
}

const COUNT: u32 = 4;

fn reference(kind: u32) -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        (0..COUNT).prop_map(move |it| json!({"id": id(kind, it)})),
    ]
}

fn service() -> impl Strategy<Value = (String, Value)> {
    let host = prop::sample::select(vec!["localhost", "a.example.com", "bad\nhost"]);
    let protocol = prop::sample::select(vec!["http", "https"]);
    let authorities = prop::option::of(prop::collection::vec(0..COUNT, 0..3));
    (
        0..COUNT,
        any::<bool>(),
        host,
        protocol,
        reference(8),
        any::<Option<bool>>(),
        authorities,
    )
        .prop_map(
            |(number, enabled, host, protocol, certificate, verify, authorities)| {
                let authorities: Option<Vec<_>> =
                    authorities.map(|it| it.into_iter().map(|it| id(9, it)).collect());
                let body = json!({
                    "id": id(1, number), "name": null, "enabled": enabled, "protocol": protocol,
                    "host": host, "port": 8080, "path": null, "retries": 5, "connect_timeout": 1,
                    "write_timeout": 1, "read_timeout": 1, "client_certificate": certificate,
                    "tls_verify": verify, "ca_certificates": authorities,
                });
                (id(1, number), body)
            },
        )
}

/// Certificates with their keys; made once, because that takes time.
static PAIRS: LazyLock<[(String, String); 2]> = LazyLock::new(|| {
    ["one", "two"].map(|name| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    })
});

fn certificate() -> impl Strategy<Value = (String, Value)> {
    (0..COUNT, 0..4_usize).prop_map(|(number, which)| {
        let ((cert, key), (_, other)) = (&PAIRS[which % 2], &PAIRS[1 - which % 2]);
        let (cert, key) = match which {
            2 => (cert.as_str(), other.as_str()),
            3 => ("{vault://mine/cert}", "{vault://mine/key}"),
            _ => (cert.as_str(), key.as_str()),
        };
        let body = json!({"id": id(8, number), "cert": cert, "key": key});
        (id(8, number), body)
    })
}

fn authority() -> impl Strategy<Value = (String, Value)> {
    (0..COUNT, 0..3_usize).prop_map(|(number, which)| {
        let pem = PAIRS.get(which).map_or("no certificate", |it| &it.0);
        (id(9, number), json!({"id": id(9, number), "cert": pem}))
    })
}

const SERVER_NAMES: [&str; 4] = ["a.example.com", "*.example.com", "a.example.*", "*"];

fn sni() -> impl Strategy<Value = (String, Value)> {
    let name = prop::sample::select(SERVER_NAMES.to_vec());
    (0..COUNT, name, 0..COUNT).prop_map(|(number, name, certificate)| {
        let id = id(10, number);
        let certificate = json!({"id": self::id(8, certificate)});
        let body = json!({"id": id, "name": name, "certificate": certificate});
        (id, body)
    })
}

fn vault() -> impl Strategy<Value = (String, Value)> {
    (0..2_u32, prop::sample::select(vec!["", "other_"])).prop_map(|(number, prefix)| {
        let id = id(11, number);
        let config = json!({"prefix": prefix});
        let body = json!({"id": id, "prefix": "mine", "name": "env", "config": config});
        (id, body)
    })
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
    (0..COUNT, name, reference(8), 0..9_u32).prop_map(|(number, name, certificate, slots)| {
        // One in nine cannot be read.
        let slots = if slots == 0 { json!("many") } else { json!(100) };
        let counters = json!({
            "http_statuses": [], "successes": 0, "tcp_failures": 0, "timeouts": 0, "http_failures": 0,
            "interval": 0,
        });
        let body = json!({
            "id": id(6, number), "name": name, "algorithm": "round-robin", "hash_on": "none",
            "hash_fallback": "none", "hash_on_cookie_path": "/", "slots": slots,
            "client_certificate": certificate,
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
        ("certificates", 8),
        ("ca_certificates", 9),
        ("snis", 10),
        ("vaults", 11),
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
        put("certificates", certificate()),
        put("ca_certificates", authority()),
        put("snis", sni()),
        put("vaults", vault()),
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
        "upstreams" | "snis" => !others.any(|(_, (_, other))| body["name"] == other["name"]),
        "vaults" => others.next().is_none(),
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
            query: "",
            server_name: None,
            headers: &NoHeaders,
            source: None,
            destination: None,
        });
        seen.push(format!("{path}: {:?}", found.map(|it| it.route.id.clone())));
    }
    for at in 0..COUNT {
        let route = snapshot.route(number(&id(2, at)));
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
        let secured = service.map(|it| match &it.destination {
            Destination::Network(target) => format!("{target:?}"),
            Destination::Balanced(balanced) => format!("{} {:?}", balanced.upstream, balanced.tls),
            Destination::Engine(port) => port.to_string(),
            Destination::Unsupported => "unsupported".to_owned(),
            Destination::Insecure => "insecure".to_owned(),
        });
        seen.push(format!("service of route {at} goes to {secured:?}"));
        let balancer = snapshot.balancer_of(&id(6, at));
        seen.push(format!(
            "upstream {at}: {:?}",
            balancer.map(|it| (&it.upstream, it.health(&Balancing::default()), &it.identity))
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
    for name in ["a.example.com", "b.example.com", "a.example.org", "other"] {
        seen.push(format!("{name}: {:?}", snapshot.certificates().find(name)));
    }
    for kind in ENTITY_KINDS {
        seen.push(format!("{kind} skipped: {}", snapshot.skipped(kind)));
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

/// Applies records of version 1 to a snapshot.
fn with(snapshot: &Snapshot, records: &[(&str, Value)]) -> Snapshot {
    let updates = records.iter().map(|(kind, body)| {
        let id = body["id"].as_str().unwrap();
        Update::from(record(kind, id, 1, body))
    });
    snapshot.apply(&compiler(), updates.collect(), 1, None)
}

fn without(snapshot: &Snapshot, kind: &str, id: &str) -> Snapshot {
    let gone = Update {
        kind: kind.to_owned(),
        id: id.to_owned(),
        record: None,
    };
    snapshot.apply(&compiler(), vec![gone], 2, None)
}

#[test]
fn a_scope_stays_closed_until_its_last_unknown_plugin_is_gone() {
    let unknown = |at: u32| {
        let body = json!({
            "id": id(5, at), "name": format!("unknown-{at}"), "enabled": true, "config": {},
            "service": null, "route": {"id": id(2, 0)}, "consumer": null,
        });
        ("plugins", body)
    };
    let closes = |snapshot: &Snapshot, route: u32| {
        let route = Some(number(&id(2, route)));
        snapshot.plugins().scopes(route, None).next(0).is_some()
    };
    let snapshot = with(&Snapshot::default(), &[unknown(0), unknown(1)]);
    assert!(closes(&snapshot, 0) && !closes(&snapshot, 1));
    assert_eq!(snapshot.skipped("plugins"), 2);
    for first in [0, 1] {
        let one = without(&snapshot, "plugins", &id(5, first));
        assert!(closes(&one, 0), "{first}");
        assert_eq!(one.skipped("plugins"), 1);
        let none = without(&one, "plugins", &id(5, 1 - first));
        assert!(!closes(&none, 0), "{first}");
        assert_eq!(none.skipped("plugins"), 0);
    }
}

#[test]
fn plugins_that_cannot_be_read_close_the_scope_they_may_have() {
    let closes = |body: Value, route: u32, service: u32| {
        let mut body = body;
        body["id"] = json!(id(5, 0));
        let snapshot = with(&Snapshot::default(), &[("plugins", body)]);
        let (route, service) = (number(&id(2, route)), number(&id(1, service)));
        let scopes = snapshot.plugins().scopes(Some(route), Some(service));
        scopes.next(0).is_some()
    };
    let on_route = json!({"name": "late", "route": {"id": id(2, 1)}, "service": null});
    assert!(closes(on_route.clone(), 1, 0) && !closes(on_route.clone(), 0, 1));
    let on_service = json!({"name": 7, "service": id(1, 1), "route": [], "config": {}});
    assert!(closes(on_service.clone(), 0, 1) && !closes(on_service, 0, 0));
    assert!(!closes(
        json!({"route": "x", "consumer": 1, "service": {"id": 7}}),
        0,
        0
    ));
    assert!(closes(json!({"route": {"name": "x"}}), 0, 0));
    let mut disabled = on_route.clone();
    disabled["enabled"] = json!(false);
    assert!(!closes(disabled, 1, 0));
    let mut streams = on_route;
    streams["protocols"] = json!(["tcp", "tls"]);
    assert!(!closes(streams, 1, 0));
}

#[test]
fn names_find_certificates_in_the_order_of_kong() {
    let certificates = [0, 1].map(|at| {
        let (cert, key) = &PAIRS[at];
        let at = u32::try_from(at).unwrap();
        (
            "certificates",
            json!({"id": id(8, at), "cert": cert, "key": key}),
        )
    });
    let broken = json!({"id": id(8, 2), "cert": "x", "key": "y"});
    let sni = |at: u32, name: &str, certificate: u32| {
        let certificate = json!({"id": id(8, certificate)});
        (
            "snis",
            json!({"id": id(10, at), "name": name, "certificate": certificate}),
        )
    };
    let snapshot = with(&Snapshot::default(), &certificates);
    let snapshot = with(&snapshot, &[("certificates", broken)]);
    assert_eq!(snapshot.skipped("certificates"), 1);
    let which = |snapshot: &Snapshot, name: &str| {
        let found = snapshot.certificates().find(name)?;
        let one = [0, 1].map(|at| snapshot.certificates().identity(&id(8, at)).unwrap());
        one.iter().position(|it| **it == *found[0])
    };
    assert_eq!(which(&snapshot, "a.example.com"), None);
    let names = [
        sni(0, "a.Example.com.", 0),
        sni(1, "*.example.com", 1),
        sni(2, "b.example.com", 2),
    ];
    let snapshot = with(&snapshot, &names);
    for (name, wanted) in [
        ("a.example.com", Some(0)),
        ("c.example.com", Some(1)),
        ("x.c.example.com", None),
        ("example.com", None),
        // Its own certificate cannot be used.
        ("b.example.com", Some(1)),
    ] {
        assert_eq!(which(&snapshot, name), wanted, "{name}");
    }
    // Two labels have no wildcard for the first one.
    let snapshot = with(&snapshot, &[sni(1, "*.com", 0), sni(3, "example.*", 1)]);
    assert_eq!(which(&snapshot, "example.com"), Some(1));
    assert_eq!(which(&snapshot, "com"), None);
    assert_eq!(which(&snapshot, "c.example.com"), None);
    let snapshot = with(&snapshot, &[sni(1, "*", 0)]);
    assert_eq!(which(&snapshot, "com"), Some(0));
    assert_eq!(which(&snapshot, "example.com"), Some(1));
    let snapshot = without(&snapshot, "snis", &id(10, 1));
    assert_eq!(which(&snapshot, "com"), None);
}

#[test]
fn a_full_reload_reads_certificates_again_only_when_they_changed() {
    let (cert, key) = &PAIRS[0];
    let body = json!({"id": id(8, 0), "cert": cert, "key": key});
    let load = |version, previous: Option<&Snapshot>| {
        let update = Update::from(record("certificates", &id(8, 0), version, &body));
        Snapshot::default().apply(&compiler(), vec![update], version, previous)
    };
    let identity = |snapshot: &Snapshot| snapshot.certificates().identity(&id(8, 0)).unwrap();
    let first = load(1, None);
    let same = |other: &Snapshot| Arc::ptr_eq(&identity(&first), &identity(other));
    assert!(same(&load(1, Some(&first))));
    assert!(!same(&load(2, Some(&first))));
}

#[test]
fn services_with_the_same_authorities_share_their_text() {
    let authorities = [0, 1].map(|at| {
        let pem = &PAIRS[at].0;
        let at = u32::try_from(at).unwrap();
        ("ca_certificates", json!({"id": id(9, at), "cert": pem}))
    });
    let services = [0, 1].map(|at| {
        let body = json!({
            "id": id(1, at), "name": null, "enabled": true, "protocol": "https", "host": "a.example.com",
            "port": 443, "path": null, "retries": 5, "connect_timeout": 1, "write_timeout": 1,
            "read_timeout": 1, "tls_verify": true, "ca_certificates": [id(9, 1), id(9, 0)],
        });
        ("services", body)
    });
    let snapshot = with(&with(&Snapshot::default(), &services), &authorities);
    let bundle = |at: u32| {
        let entry = snapshot.services.get(&number(&id(1, at))).unwrap();
        let Destination::Network(target) = &entry.destination else {
            panic!("not over the network")
        };
        target.tls.ca_pem.clone().unwrap()
    };
    assert!(Arc::ptr_eq(&bundle(0), &bundle(1)));
    assert_eq!(*bundle(0), format!("{}\n{}", PAIRS[1].0, PAIRS[0].0));
}

#[test]
fn one_of_thousands_of_certificates_changes_alone() {
    let name = |at: u32| format!("n{at}.example.com");
    let key = |kind: u32, at: u32| format!("0000000{kind:x}-0000-4000-8000-{at:012}");
    let certificate = |at: u32, pair: usize| {
        let (cert, private) = &PAIRS[pair];
        (
            "certificates",
            json!({"id": key(8, at), "cert": cert, "key": private}),
        )
    };
    let entities = (0..3000).flat_map(|at| {
        let of = json!({"id": key(8, at)});
        let sni = json!({"id": key(10, at), "name": name(at), "certificate": of});
        [certificate(at, 0), ("snis", sni)]
    });
    let entities: Vec<_> = entities.collect();
    let before = with(&Snapshot::default(), &entities);
    let after = with(&before, &[certificate(7, 1)]);
    for at in 0..3000 {
        let found = |snapshot: &Snapshot| snapshot.certificates().find(&name(at)).unwrap();
        let same = Arc::ptr_eq(&found(&before), &found(&after));
        assert_eq!(same, at != 7, "{at}");
    }
}
