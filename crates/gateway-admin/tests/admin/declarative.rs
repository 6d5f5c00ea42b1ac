//! Export, difference and import over a database.

use o28m_gateway_admin::declarative::{self, Action, Change, Declarative, DeclarativeError, Mode};
use o28m_kong::Document;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Admin, ambient, on_every_database, settings, store};

fn over(store: &o28m_store::Store) -> Declarative {
    Declarative::new(store.clone(), ambient(), &settings().enabled_plugins, &[])
}

fn document(value: Value) -> Document {
    match value {
        Value::Object(mut document) => {
            document.insert("_format_version".to_owned(), json!("3.0"));
            document
        }
        other => panic!("not an object: {other}"),
    }
}

async fn export(declarative: &Declarative) -> Document {
    declarative.export(&[]).await.unwrap()
}

fn summary(changes: &[Change]) -> Vec<(Action, &str, &str)> {
    changes
        .iter()
        .map(|change| {
            (
                change.action,
                change.entity,
                change.name.as_deref().unwrap_or(""),
            )
        })
        .collect()
}

fn one_of_everything() -> Value {
    json!({
        "services": [{
            "name": "s", "url": "https://h:8443/p", "tags": ["t"],
            "routes": [{"name": "r", "paths": ["/", "~/x\\d"], "headers": {"x-a": ["1", "2"]}, "plugins": [
                {"name": "acl", "config": {"allow": ["g"]}},
                {"name": "jwt-keycloak", "config": {"allowed_iss": ["https://i"]}},
            ]}],
        }],
        "consumers": [{"username": "u", "custom_id": "c", "acls": [{"group": "g", "tags": ["x"]}]}],
        "plugins": [
            {"name": "request-size-limiting", "config": {"allowed_payload_size": 5}},
            {"name": "request-transformer", "service": "s", "config": {"add": {"headers": ["a:b"]}}},
        ],
    })
}

on_every_database! {
    async fn what_is_exported_makes_an_equal_store(admin: Admin) {
        let first = over(&admin.store);
        let imported = first.import(document(one_of_everything()), Mode::Merge).await.unwrap();
        assert_eq!(imported.changes.len(), 8);
        let exported = export(&first).await;
        assert_eq!(exported["services"][0]["protocol"], "https");
        let (other, _dir) = store(None).await;
        let second = over(&other);
        let text = declarative::to_yaml(exported.clone());
        second.import(declarative::parse(&text).unwrap(), Mode::Replace).await.unwrap();
        assert_eq!(export(&second).await, exported);
        let same = second.import(exported, Mode::Replace).await.unwrap();
        assert!(same.changes.is_empty());
        assert_eq!(same.version, other.version().await.unwrap());
    }
}

on_every_database! {
    async fn entities_without_id_are_matched_by_name(admin: Admin) {
        let service = json!({"name": "s", "host": "old", "retries": 2});
        let made = admin.post("/services", service).await.expect(201).value();
        let kept = json!({"name": "kept", "host": "h"});
        admin.post("/services", kept).await.expect(201);
        let declarative = over(&admin.store);
        let wanted = json!({"services": [{"name": "s", "host": "new", "routes": [{"name": "r", "paths": ["/"]}]}]});
        let changes = declarative.diff(document(wanted.clone()), Mode::Merge).await.unwrap();
        let expected = [(Action::Update, "services", "s"), (Action::Create, "routes", "r")];
        assert_eq!(summary(&changes), expected);
        assert_eq!(changes[0].fields, ["retries", "host"]);
        declarative.import(document(wanted.clone()), Mode::Merge).await.unwrap();
        let now = admin.get("/services/s").await.value();
        assert_eq!(now["id"], made["id"]);
        assert_eq!(now["created_at"], made["created_at"]);
        assert!(now["updated_at"].as_i64() > made["updated_at"].as_i64());
        admin.get("/services/kept").await.expect(200);
        let route = admin.get("/routes/r").await.value();
        assert_eq!(route["service"]["id"], made["id"]);

        let changes = declarative.diff(document(wanted.clone()), Mode::Replace).await.unwrap();
        assert_eq!(summary(&changes), [(Action::Delete, "services", "kept")]);
        declarative.import(document(wanted.clone()), Mode::Replace).await.unwrap();
        admin.get("/services/kept").await.expect(404);
        assert!(declarative.diff(document(wanted), Mode::Replace).await.unwrap().is_empty());
    }
}

on_every_database! {
    async fn a_renamed_entity_is_not_taken_for_a_new_one_of_its_old_name(admin: Admin) {
        let declarative = over(&admin.store);
        let wanted = json!({"services": [{"name": "my-service", "host": "h"}], "consumers": [{"custom_id": "c"}]});
        declarative.import(document(wanted.clone()), Mode::Merge).await.unwrap();
        admin.patch("/services/my-service", json!({"name": "renamed"})).await.expect(200);
        let imported = declarative.import(document(wanted.clone()), Mode::Merge).await.unwrap();
        assert_eq!(summary(&imported.changes), [(Action::Create, "services", "my-service")]);
        admin.get("/services/renamed").await.expect(200);
        assert!(declarative.diff(document(wanted), Mode::Merge).await.unwrap().is_empty());
    }
}

on_every_database! {
    async fn names_and_parents_may_be_exchanged(admin: Admin) {
        let declarative = over(&admin.store);
        let state = |a: &str, b: &str, of_route: &str| document(json!({
            "services": [
                {"id": "aaaaaaaa-0000-4000-8000-000000000001", "name": a, "host": "one"},
                {"id": "aaaaaaaa-0000-4000-8000-000000000002", "name": b, "host": "two"},
            ],
            "routes": [{"id": "bbbbbbbb-0000-4000-8000-000000000001", "paths": ["/"], "service": of_route,
                "plugins": [{"name": "acl", "config": {"allow": ["g"]}}]}],
        }));
        declarative.import(state("x", "y", "x"), Mode::Replace).await.unwrap();
        let before = admin.get("/plugins").await.value();
        declarative.import(state("y", "x", "x"), Mode::Replace).await.unwrap();
        let x = admin.get("/services/x").await.value();
        assert_eq!(x["host"], "two");
        let route = admin.get("/routes/bbbbbbbb-0000-4000-8000-000000000001").await.value();
        assert_eq!(route["service"]["id"], x["id"]);
        assert_eq!(admin.get("/plugins").await.value(), before);
        // The service a route leaves may go in the same step, and its name to another one.
        let last = json!({
            "services": [{"id": "aaaaaaaa-0000-4000-8000-000000000003", "name": "x", "host": "three"}],
            "routes": [{"id": "bbbbbbbb-0000-4000-8000-000000000001", "paths": ["/"], "service": "x"}],
        });
        let imported = declarative.import(document(last), Mode::Replace).await.unwrap();
        assert_eq!(imported.changes.len(), 5, "{imported:?}");
        assert_eq!(admin.get("/services").await.value()["data"].as_array().unwrap().len(), 1);
    }
}

on_every_database! {
    async fn what_cannot_be_imported_changes_nothing(admin: Admin) {
        admin.post("/services", json!({"name": "s", "host": "h"})).await.expect(201);
        let declarative = over(&admin.store);
        let before = (export(&declarative).await, admin.store.version().await.unwrap());
        let invalid = json!({"services": [{"name": "new", "host": "h"}, {"name": "bad"}]});
        let error = declarative.import(document(invalid), Mode::Replace).await.unwrap_err();
        assert!(matches!(error, DeclarativeError::Invalid(_)), "{error}");
        // Right in itself, and at odds with what stays.
        let taken = json!({"services": [
            {"name": "new", "host": "h"},
            {"id": "aaaaaaaa-0000-4000-8000-000000000001", "name": "s", "host": "h"},
        ]});
        let error = declarative.import(document(taken), Mode::Merge).await.unwrap_err();
        assert!(matches!(error, DeclarativeError::Conflict(_)), "{error}");
        let after = (export(&declarative).await, admin.store.version().await.unwrap());
        assert_eq!(before, after);
    }
}

on_every_database! {
    async fn select_tags_limit_what_is_replaced(admin: Admin) {
        let declarative = over(&admin.store);
        let service = |name: &str, tags: Value| json!({"name": name, "host": "h", "tags": tags});
        let all = json!({"services": [
            service("other", json!(["b"])), service("mine", json!(["a"])), service("gone", json!(["a", "b"])),
        ]});
        declarative.import(document(all), Mode::Replace).await.unwrap();
        let mine = json!({
            "_info": {"select_tags": ["a"]},
            "services": [{"name": "mine", "host": "h"}],
            // What stays may be referred to.
            "routes": [{"name": "r", "paths": ["/"], "service": "other"}],
        });
        let imported = declarative.import(document(mine), Mode::Replace).await.unwrap();
        let expected = [(Action::Create, "routes", "r"), (Action::Delete, "services", "gone")];
        assert_eq!(summary(&imported.changes), expected);
        let tagged = declarative.export(&["a".to_owned()]).await.unwrap();
        assert_eq!(tagged["_info"], json!({"select_tags": ["a"]}));
        assert_eq!(tagged["services"].as_array().unwrap().len(), 1);
        assert_eq!(tagged["routes"][0]["tags"], json!(["a"]));
        // A route of others still needs the service.
        let route = json!({"name": "foreign", "paths": ["/f"], "service": {"name": "mine"}});
        admin.post("/routes", route).await.expect(201);
        let nothing = json!({"_info": {"select_tags": ["a"]}});
        let error = declarative.import(document(nothing), Mode::Replace).await.unwrap_err();
        assert!(error.to_string().contains("references it"), "{error}");
    }
}

on_every_database! {
    async fn two_imports_at_once_happen_one_after_the_other(admin: Admin) {
        let declarative = over(&admin.store);
        let state = |host: &str| {
            let services: Vec<_> = (0..20)
                .map(|at| json!({"name": format!("s{at}"), "host": host, "routes": [{"paths": [format!("/{at}")]}]}))
                .collect();
            document(json!({"services": services}))
        };
        for round in 0..5 {
            let (one, two) = (format!("one{round}"), format!("two{round}"));
            let (first, second) = tokio::join!(
                declarative.import(state(&one), Mode::Replace),
                declarative.import(state(&two), Mode::Replace),
            );
            let last = if first.unwrap().version > second.unwrap().version { one } else { two };
            let found = admin.get("/services?size=1000").await.value();
            let found = found["data"].as_array().unwrap().clone();
            assert_eq!(found.len(), 20);
            assert!(found.iter().all(|service| service["host"] == last.as_str()), "{last}: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_and_other_writers_lose_nothing() {
    let admin = Admin::start().await;
    let declarative = over(&admin.store);
    let names: Vec<String> = (0..10).map(|at| format!("mine{at}")).collect();
    let state = |host: String| {
        let services = names.iter().map(|name| json!({"name": name, "host": host}));
        document(json!({"services": services.collect::<Vec<_>>()}))
    };
    let importing = async {
        for round in 0..10 {
            declarative
                .import(state(format!("h{round}")), Mode::Merge)
                .await
                .unwrap();
        }
    };
    let writing = async {
        for round in 0..30 {
            let path = format!("/services/other{round}");
            admin.put(&path, json!({"host": "h"})).await.expect(200);
            admin
                .patch(
                    &format!("/services/mine{}", round % 10),
                    json!({"retries": 1}),
                )
                .await;
        }
    };
    tokio::join!(importing, writing);
    let found = admin.get("/services?size=1000").await.value();
    let found = found["data"].as_array().unwrap();
    assert_eq!(found.len(), 40);
    let mine = found
        .iter()
        .filter(|it| it["name"].as_str().unwrap().starts_with("mine"));
    assert!(mine.clone().all(|service| service["host"] == "h9"));
}

fn tags() -> impl Strategy<Value = Value> {
    let tag = prop_oneof!["[a-z]{1,5}", Just("no".to_owned()), Just("ü: x".to_owned())];
    prop_oneof![
        Just(Value::Null),
        prop::collection::vec(tag, 0..3).prop_map(Value::from),
    ]
}

fn services() -> impl Strategy<Value = Vec<Value>> {
    let service = (
        tags(),
        any::<bool>(),
        0..100_i64,
        prop::option::of("/[a-z]{0,4}"),
        1..65_535_u16,
    );
    let service = service.prop_map(|(tags, enabled, retries, path, port)| {
        json!({"host": "example.com", "tags": tags, "enabled": enabled, "retries": retries, "path": path, "port": port})
    });
    prop::collection::vec(service, 1..4)
}

fn routes() -> impl Strategy<Value = Vec<Value>> {
    let header = prop::collection::vec("[a-z0-9 :#'-]{1,6}", 1..3);
    let route = (
        tags(),
        prop::collection::vec("/[a-z0-9]{0,6}", 1..3),
        prop::option::of(prop::collection::btree_map("x-[a-z]{1,4}", header, 0..2)),
        -5..5_i64,
        any::<bool>(),
    );
    let route = route.prop_map(|(tags, paths, headers, priority, named)| {
        json!({"tags": tags, "paths": paths, "headers": headers, "regex_priority": priority, "named": named})
    });
    prop::collection::vec(route, 0..5)
}

fn plugins() -> impl Strategy<Value = Vec<Value>> {
    let plugin = prop_oneof![
        "[ -~]{1,8}".prop_map(|group| json!({"name": "acl", "config": {"deny": [group]}})),
        (1..50_i64).prop_map(|size| json!({"name": "request-size-limiting", "config": {"allowed_payload_size": size}})),
        "[a-z]{1,6}".prop_map(|name| json!({"name": "request-transformer", "config": {"remove": {"headers": [name]}}})),
        "[a-z]{1,6}".prop_map(|host| json!({"name": "jwt-keycloak", "config": {"allowed_iss": [format!("https://{host}")]}})),
    ];
    prop::collection::vec((plugin, 0..4_usize, tags()), 0..6).prop_map(|plugins| {
        let with = plugins.into_iter().map(|(mut plugin, at, tags)| {
            plugin["at"] = json!(at);
            plugin["tags"] = tags;
            plugin
        });
        with.collect()
    })
}

prop_compose! {
    /// A valid configuration: entities get names and parents by position, scopes of plugins are unique.
    fn configurations()(
        mut services in services(),
        routes in routes(),
        plugins in plugins(),
        groups in prop::collection::btree_set("[ -~]{1,8}", 0..4),
        consumer_tags in tags(),
    ) -> Document {
        for (at, service) in services.iter_mut().enumerate() {
            service["name"] = json!(format!("service-{at}"));
            service["routes"] = json!([]);
        }
        let mut loose = Vec::new();
        for (at, mut route) in routes.into_iter().enumerate() {
            if route.as_object_mut().unwrap().remove("named") == Some(json!(true)) {
                route["name"] = json!(format!("route-{at}"));
                route["service"] = json!("service-0");
                loose.push(route);
            } else {
                let home = at % services.len();
                services[home]["routes"].as_array_mut().unwrap().push(route);
            }
        }
        let mut scopes = std::collections::BTreeSet::new();
        let mut scoped = Vec::new();
        for mut plugin in plugins {
            let at = plugin.as_object_mut().unwrap().remove("at").unwrap().as_u64().unwrap();
            let service = format!("service-{at}");
            let is_global = usize::try_from(at).unwrap() >= services.len();
            if !is_global {
                plugin["service"] = json!(service);
            }
            let scope = if is_global { String::new() } else { service };
            if scopes.insert((plugin["name"].to_string(), scope)) {
                scoped.push(plugin);
            }
        }
        let acls: Vec<Value> = groups.into_iter().map(|group| json!({"group": group})).collect();
        document(json!({
            "services": services, "routes": loose, "plugins": scoped,
            "consumers": [{"username": "user", "tags": consumer_tags, "acls": acls}, {"custom_id": "only"}],
        }))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Export, import into an empty store, export: equal; and importing it again changes nothing.
    #[test]
    fn round_trips_of_any_configuration(configuration in configurations()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (first, _dir) = store(Some("sqlite::memory:")).await;
            let first = over(&first);
            first.import(configuration.clone(), Mode::Merge).await.unwrap_or_else(|error| panic!("{error}"));
            let again = first.diff(configuration, Mode::Replace).await.unwrap();
            assert!(again.is_empty(), "{again:?}");
            let exported = export(&first).await;
            let (second, _dir) = store(Some("sqlite::memory:")).await;
            let second = over(&second);
            let text = declarative::to_yaml(exported.clone());
            let read = declarative::parse(&text).unwrap();
            second.import(read, Mode::Replace).await.unwrap();
            assert_eq!(export(&second).await, exported);
        });
    }
}
