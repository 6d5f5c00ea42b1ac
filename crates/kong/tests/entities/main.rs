//! Validation, defaults and messages of every entity, as Kong 3.9.3 gives them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail them"
)]

mod credentials;
mod flavors;
mod keys;
mod material;
mod properties;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_kong::{Context, Document, Violations, entities, entity};
use proptest::prelude::*;
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

fn ambient() -> Ambient {
    Ambient {
        clock: Arc::new(Fixed),
        rng: Arc::new(Counter(AtomicU8::new(0))),
    }
}

fn enabled() -> Vec<String> {
    o28m_kong::plugins()
        .iter()
        .map(|plugin| plugin.name.to_owned())
        .collect()
}

fn document(value: Value) -> Document {
    match value {
        Value::Object(document) => document,
        other => panic!("not an object: {other}"),
    }
}

fn insert(kind: &str, body: Value) -> Result<Document, Violations> {
    let (ambient, enabled_plugins) = (ambient(), enabled());
    let context = Context {
        ambient: &ambient,
        enabled_plugins: &enabled_plugins,
    };
    entity(kind).unwrap().insert(document(body), &context)
}

fn update(kind: &str, stored: &Document, patch: Value) -> Result<Document, Violations> {
    let (ambient, enabled_plugins) = (ambient(), enabled());
    let context = Context {
        ambient: &ambient,
        enabled_plugins: &enabled_plugins,
    };
    entity(kind)
        .unwrap()
        .update(stored, document(patch), &context)
}

#[track_caller]
fn refused(kind: &str, body: Value, message: &str) {
    assert_eq!(insert(kind, body).unwrap_err().message(), message);
}

#[test]
fn admin_case_016_a_service_has_every_field_with_kongs_defaults() {
    let service = insert("services", json!({"name": "s", "host": "up.example.com"})).unwrap();
    let id = service["id"].as_str().unwrap();
    assert!(o28m_core::id::is_uuid(id));
    assert_eq!(
        Value::Object(service.clone()),
        json!({
            "id": id, "created_at": 1_700_000_000, "updated_at": 1_700_000_000, "name": "s",
            "retries": 5, "protocol": "http", "host": "up.example.com", "port": 80, "path": null,
            "connect_timeout": 60000, "write_timeout": 60000, "read_timeout": 60000,
            "tags": null, "client_certificate": null, "tls_verify": null,
            "tls_verify_depth": null, "ca_certificates": null, "enabled": true,
        })
    );
    let _: o28m_kong::Service = serde_json::from_value(Value::Object(service)).unwrap();
}

#[test]
fn admin_case_018_and_019_url_stands_for_protocol_host_port_and_path() {
    let url = json!({"name": "a", "url": "https://u.example.com:8443/base"});
    let service = insert("services", url).unwrap();
    assert_eq!(service["protocol"], "https");
    assert_eq!(service["host"], "u.example.com");
    assert_eq!(service["port"], 8443);
    assert_eq!(service["path"], "/base");
    let patched = update("services", &service, json!({"url": "http://v.example.com"})).unwrap();
    assert_eq!(patched["port"], 80);
    assert_eq!(patched["path"], Value::Null);

    let message = "schema violation (url: length must be at least 1)";
    refused("services", json!({"url": ""}), message);
    refused(
        "services",
        json!({"url": 5}),
        "schema violation (url: expected a string)",
    );
    let message = "2 schema violations (host: required field missing; path: should start with: /)";
    refused("services", json!({"url": "invalid url"}), message);
    let parsed = insert("services", json!({"url": "https://u:p@h/a?b#c"})).unwrap();
    assert_eq!(
        (&parsed["host"], &parsed["port"], &parsed["path"]),
        (&json!("h"), &json!(443), &json!("/a"))
    );
    let ftp = insert("services", json!({"url": "ftp://foo"})).unwrap_err();
    assert!(
        ftp.message()
            .starts_with("schema violation (protocol: expected one of: grpc, ")
    );
}

#[test]
fn admin_case_020_to_023_violations_of_services() {
    refused(
        "services",
        json!({"name": "x"}),
        "schema violation (host: required field missing)",
    );
    refused(
        "services",
        json!({"name": "x", "host": "h", "port": 70000, "protocol": "ftp", "retries": -1, "foo": 1}),
        "4 schema violations (foo: unknown field; port: value should be between 0 and 65535; protocol: expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp; retries: value should be between 0 and 32767)",
    );
    refused(
        "services",
        json!({"name": "a b", "host": "x y"}),
        "2 schema violations (host: invalid value: x y; name: invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~)",
    );
    refused(
        "services",
        json!({"host": "h", "protocol": "tcp", "path": "/x"}),
        "2 schema violations (failed conditional validation given value of field 'protocol'; path: value must be null)",
    );
}

#[test]
fn services_of_protocols_that_are_not_spoken_are_refused() {
    refused(
        "services",
        json!({"host": "h", "protocol": "tcp"}),
        "schema violation (protocol: not supported by this build, which speaks http, https, grpc and grpcs to services)",
    );
}

#[test]
fn an_empty_service_path_is_none() {
    let service = insert("services", json!({"host": "h", "path": ""})).unwrap();
    assert_eq!(service["path"], Value::Null);
}

#[test]
fn integers_may_be_written_with_a_fraction_of_zero() {
    let service = insert("services", json!({"host": "h", "port": 8080.0})).unwrap();
    assert_eq!(service["port"].to_string(), "8080");
    let message = "schema violation (port: expected an integer)";
    refused("services", json!({"host": "h", "port": 80.5}), message);
    refused("services", json!({"host": "h", "port": "80"}), message);
}

#[test]
fn admin_case_029_defaults_of_routes() {
    let route = insert("routes", json!({"name": "r", "paths": ["/a"]})).unwrap();
    assert_eq!(route["protocols"], json!(["http", "https"]));
    assert_eq!(route["strip_path"], true);
    assert_eq!(route["https_redirect_status_code"], 426);
    assert_eq!(route.len(), 21);
    let _: o28m_kong::Route = serde_json::from_value(Value::Object(route)).unwrap();
}

#[test]
fn admin_case_031_to_035_and_038_violations_of_routes() {
    refused(
        "routes",
        json!({"name": "q"}),
        "schema violation (must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https')",
    );
    refused(
        "routes",
        json!({"protocols": ["http"], "paths": []}),
        "schema violation (must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http')",
    );
    let bad = insert("routes", json!({"paths": ["/a", "/b//c", "/%zz"]})).unwrap_err();
    assert_eq!(
        bad.fields["paths"],
        json!([
            null,
            "must not have empty segments",
            "invalid url-encoded value: '%zz'"
        ])
    );
    refused(
        "routes",
        json!({"paths": ["foo"]}),
        "schema violation (paths.1: should start with: / (fixed path) or ~/ (regex path))",
    );
    refused(
        "routes",
        json!({"paths": ["/a"], "protocols": ["http", "tcp"]}),
        "schema violation (protocols: these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp'))",
    );
    let message = "schema violation (service.id: missing primary key)";
    for service in [json!("s"), json!({}), json!({"id": null}), json!(5)] {
        refused(
            "routes",
            json!({"paths": ["/a"], "service": service}),
            message,
        );
    }
    refused(
        "routes",
        json!({"paths": ["/a"], "service": {"id": "x"}}),
        "schema violation (service.id: expected a valid UUID)",
    );
    refused(
        "routes",
        json!({"paths": ["/a"], "headers": {"Host": ["x"]}}),
        "schema violation (headers: cannot contain 'host' header, which must be specified in the 'hosts' attribute)",
    );
    refused(
        "routes",
        json!({"paths": ["/a"], "headers": {"x": "y"}}),
        "schema violation (headers: expected an array)",
    );
    refused(
        "routes",
        json!({"paths": ["/a"], "protocols": []}),
        "schema violation (protocols: unknown type: nil)",
    );
    refused(
        "routes",
        json!({"paths": ["/a"], "protocols": ["foo"]}),
        "schema violation (protocols: unknown type: foo)",
    );
    refused(
        "routes",
        json!({"paths": ["/a"], "protocols": ["http"], "snis": ["a.b"]}),
        "2 schema violations ('snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'; snis: length must be 0)",
    );
    refused(
        "routes",
        json!({"paths": ["/a"], "sources": [{"ip": "1.2.3.4"}]}),
        "schema violation (sources: cannot set 'sources' when 'protocols' is 'http' or 'https')",
    );
    refused(
        "routes",
        json!({"paths": ["/a"], "expression": "x"}),
        "schema violation (expression: unknown field)",
    );
}

#[test]
fn admin_case_041_expressions_only_pcre_knows_are_refused() {
    let bad = insert("routes", json!({"paths": ["~/a(?=b)"]})).unwrap_err();
    let start = "schema violation (Router Expression failed validation: ";
    assert!(bad.message().starts_with(start), "{}", bad.message());
}

#[test]
fn routes_that_would_not_be_executed_are_refused() {
    refused(
        "routes",
        json!({"sources": [{"port": 1}], "protocols": ["tcp"]}),
        "schema violation (protocols: not supported by this build, which serves http, https, grpc and grpcs routes)",
    );
}

#[test]
fn admin_case_013_a_consumer_needs_a_name() {
    let message = "schema violation (at least one of these fields must be non-empty: 'custom_id', 'username')";
    refused("consumers", json!({}), message);
    let consumer = insert("consumers", json!({"username": "a b/c"})).unwrap();
    let bad = update("consumers", &consumer, json!({"username": null})).unwrap_err();
    assert_eq!(
        bad.message(),
        "schema violation (when updating, at least one of these fields must be non-empty: 'custom_id', 'username')"
    );
}

#[test]
fn admin_case_060_tags_are_checked() {
    refused(
        "services",
        json!({"host": "h", "tags": ["a,b"]}),
        "schema violation (tags.1: invalid tag 'a,b': expected printable ascii (except `,` and `/`) or valid utf-8 sequences)",
    );
    let service = insert("services", json!({"host": "h", "tags": ["b", "a", "b"]})).unwrap();
    assert_eq!(service["tags"], json!(["b", "a"]));
}

#[test]
fn admin_case_046_an_acl_allows_or_denies() {
    let both = "exactly one of these fields must be non-empty: 'config.allow', 'config.deny'";
    refused(
        "plugins",
        json!({"name": "acl", "config": {}}),
        &format!(
            "2 schema violations ({both}; at least one of these fields must be non-empty: 'config.allow', 'config.deny')"
        ),
    );
    refused(
        "plugins",
        json!({"name": "acl", "config": {"allow": ["a"], "deny": ["b"]}}),
        &format!("schema violation ({both})"),
    );
    let acl = json!({"name": "acl", "config": {"allow": ["a"], "deny": []}});
    let acl = insert("plugins", acl).unwrap();
    assert_eq!(
        acl["config"],
        json!({
            "allow": ["a"], "deny": [], "hide_groups_header": false,
            "always_use_authenticated_groups": false,
        })
    );
    let _: o28m_kong::PluginEntity = serde_json::from_value(Value::Object(acl)).unwrap();
    refused(
        "plugins",
        json!({
            "name": "acl", "config": {"allow": ["a"]},
            "consumer": {"id": "0855b320-0dd2-547d-891d-601e9b38647f"},
        }),
        "schema violation (consumer: value must be null)",
    );
}

#[test]
fn admin_case_049_and_050_plugins_must_be_enabled_and_complete() {
    refused(
        "plugins",
        json!({"name": "nope", "config": {"x": 1}, "foo": 1}),
        "schema violation (name: plugin 'nope' not enabled; add it to the 'plugins' configuration property)",
    );
    refused(
        "plugins",
        json!({}),
        "schema violation (name: required field missing)",
    );
    let message = "schema violation (config.allowed_iss: required field missing)";
    refused(
        "plugins",
        json!({"name": "jwt-keycloak", "config": {}}),
        message,
    );
    refused("plugins", json!({"name": "jwt-keycloak"}), message);
}

#[test]
fn a_plugin_outside_the_enabled_set_is_refused_although_it_is_known() {
    let ambient = ambient();
    let context = Context {
        ambient: &ambient,
        enabled_plugins: &[],
    };
    let body = document(json!({"name": "acl", "config": {"allow": ["a"]}}));
    let refusal = entity("plugins")
        .unwrap()
        .insert(body, &context)
        .unwrap_err();
    assert!(refusal.message().contains("plugin 'acl' not enabled"));
}

#[test]
fn configuration_of_jwt_keycloak() {
    let body = json!({"name": "jwt-keycloak", "config": {"allowed_iss": ["i", "i"]}});
    let plugin = insert("plugins", body).unwrap();
    assert_eq!(
        plugin["config"],
        json!({
            "uri_param_names": ["jwt"], "cookie_names": [], "claims_to_verify": ["exp"],
            "anonymous": null, "run_on_preflight": true, "maximum_expiration": 0,
            "algorithm": "RS256", "header_names": ["authorization"], "allowed_iss": ["i"],
            "iss_key_grace_period": 10,
            "well_known_template": "%s/.well-known/openid-configuration", "scope": null,
            "roles": null, "realm_roles": null, "client_roles": null, "consumer_match": false,
            "consumer_match_claim": "azp", "consumer_match_claim_custom_id": false,
            "consumer_match_ignore_not_found": false, "cafile": null,
        })
    );
    let config =
        json!({"allowed_iss": ["i"], "maximum_expiration": 5, "claims_to_verify": ["nbf"]});
    let bad = insert("plugins", json!({"name": "jwt-keycloak", "config": config})).unwrap_err();
    assert_eq!(
        bad.fields["config"],
        json!({"claims_to_verify": "expected to contain: exp"})
    );
}

#[test]
fn configuration_of_request_transformer() {
    let empty = json!({"append": {}, "rename": {}, "replace": {}, "add": {}, "remove": {}});
    let plugin = insert(
        "plugins",
        json!({"name": "request-transformer", "config": empty}),
    )
    .unwrap();
    let lists = json!({"body": [], "headers": [], "querystring": []});
    let mut replace = lists.clone();
    replace["uri"] = Value::Null;
    assert_eq!(
        plugin["config"],
        json!({
            "http_method": null, "remove": lists, "rename": lists, "replace": replace,
            "add": lists, "append": lists,
        })
    );
    let bad = |config: Value| {
        insert(
            "plugins",
            json!({"name": "request-transformer", "config": config}),
        )
        .unwrap_err()
        .fields["config"]
            .clone()
    };
    assert_eq!(
        bad(json!({"add": {"headers": ["just_a_key"]}})),
        json!({"add": {"headers": ["invalid value: just_a_key"]}})
    );
    assert_eq!(
        bad(json!({"add": {"querystring": ["k:v", "k:", "k"]}})),
        json!({"add": {"querystring": [null, "key 'k' has no value", "key 'k' has no value"]}})
    );
    assert_eq!(
        bad(json!({"remove": {"headers": ["x y"]}})),
        json!({"remove": {"headers": ["'x y' is not a valid header"]}})
    );
    assert_eq!(
        bad(json!({"remove": {"headers": null}})),
        json!({"remove": {"headers": "required field missing"}})
    );
    assert_eq!(
        bad(json!({"http_method": "get"})),
        json!({"http_method": "invalid value: get"})
    );
    assert!(
        bad(json!({"add": {"headers": ["a:b\r\nc:d"]}}))
            .to_string()
            .contains("control characters")
    );
}

#[test]
fn configuration_of_request_size_limiting() {
    let plugin = insert("plugins", json!({"name": "request-size-limiting"})).unwrap();
    assert_eq!(
        plugin["config"],
        json!({"allowed_payload_size": 128, "size_unit": "megabytes", "require_content_length": false})
    );
}

fn rate_limiting(config: Value) -> Value {
    json!({"name": "rate-limiting", "config": config})
}

#[test]
fn plugins_case_050_violations_of_rate_limiting() {
    for (config, message) in [
        (
            json!({}),
            "schema violation (at least one of these fields must be non-empty: 'config.second', \
            'config.minute', 'config.hour', 'config.day', 'config.month', 'config.year')",
        ),
        (
            json!({"second": 20, "hour": 10}),
            "schema violation (config: The limit for hour(10.0) cannot be lower than the limit \
            for second(20.0))",
        ),
        (
            json!({"minute": 1, "sync_rate": 1}),
            "schema violation (sync_rate can only be used with the redis policy)",
        ),
        (
            json!({"minute": 1, "policy": "redis", "redis_host": "h", "sync_rate": 0.01}),
            "schema violation (sync_rate must be greater than 0.02, or -1 to disable)",
        ),
        (
            json!({"minute": 0}),
            "schema violation (config.minute: value must be greater than 0)",
        ),
        (
            json!({"minute": 1, "limit_by": "header"}),
            "2 schema violations (failed conditional validation given value of field \
            'config.limit_by'; config.header_name: required field missing)",
        ),
        (
            json!({"minute": 1, "redis_host": "a", "redis": {"host": "b"}}),
            "schema violation (config.redis_host: both deprecated and new field are used but \
            their values mismatch: redis_host = a vs redis.host = b)",
        ),
    ] {
        refused("plugins", rate_limiting(config), message);
    }
    let config = json!({"minute": 1, "policy": "redis"});
    let violations = insert("plugins", rate_limiting(config)).unwrap_err();
    let expected = json!({
        "@entity": ["failed conditional validation given value of field 'config.policy'"],
        "config": {"redis": {"host": "required field missing"}},
    });
    assert_eq!(Value::Object(violations.fields), expected);
}

#[test]
fn plugins_case_051_deprecated_names_are_taken_and_shown() {
    let config = json!({"minute": 1, "policy": "redis", "redis_host": "h", "redis_port": 6380});
    let stored = insert("plugins", rate_limiting(config)).unwrap();
    let config = &stored["config"];
    assert_eq!(
        (&config["redis"]["host"], &config["redis_host"]),
        (&json!("h"), &json!("h"))
    );
    assert_eq!(config["redis"]["port"], 6380);
    assert_eq!(
        (&config["redis"]["timeout"], &config["redis_timeout"]),
        (&json!(2000), &json!(2000))
    );
    let patch = json!({"config": {"redis": {"host": "i"}}});
    let changed = update("plugins", &stored, patch).unwrap();
    let config = &changed["config"];
    assert_eq!(
        (&config["redis"]["host"], &config["redis_host"]),
        (&json!("i"), &json!("i"))
    );
    assert_eq!(config["redis_port"], 6380);
    let patch = json!({"config": {"redis_host": "j"}});
    let changed = update("plugins", &changed, patch).unwrap();
    assert_eq!(changed["config"]["redis"]["host"], "j");
    let form = json!({"name": "rate-limiting", "config": {"minute": "5", "redis_port": "1"}});
    let form = entity("plugins").unwrap().coerce(document(form), None);
    assert_eq!(form["config"], json!({"minute": 5, "redis": {"port": 1}}));
    let schema = o28m_kong::plugin("rate-limiting")
        .unwrap()
        .describe()
        .to_string();
    assert!(schema.contains("shorthand_fields"), "{schema}");
}

#[test]
fn passwords_are_stored_hashed_with_their_owner() {
    let owner = json!({"id": C});
    let body = json!({"username": "u", "password": "hunter2", "consumer": owner});
    let stored = insert("basicauth_credentials", body).unwrap();
    let hash = "a98e6440af7b7f2d67364d4d36670344c0917f7e";
    assert_eq!(stored["password"], hash);
    let renamed = update("basicauth_credentials", &stored, json!({"username": "v"})).unwrap();
    assert_eq!(renamed["password"], hash, "what is not given stays");
    let changed = update("basicauth_credentials", &stored, json!({"password": "x"})).unwrap();
    assert_eq!(
        changed["password"],
        "54b0436aae87840e7cb82ae19523c7df3fa58bdf"
    );
    let (ambient, enabled_plugins) = (ambient(), enabled());
    let context = Context {
        ambient: &ambient,
        enabled_plugins: &enabled_plugins,
    };
    let credentials = entity("basicauth_credentials").unwrap();
    for (transform, password) in [(true, hash), (false, "hunter2")] {
        let body = json!({"username": "u", "password": "hunter2", "consumer": {"id": C}});
        let declared = credentials.declare(document(body), transform, &context);
        assert_eq!(declared.unwrap()["password"], password);
    }
    refused(
        "basicauth_credentials",
        json!({"username": "u", "password": "", "consumer": {"id": C}}),
        "schema violation (password: length must be at least 1)",
    );
    refused(
        "basicauth_credentials",
        json!({"username": "u", "consumer": {"id": C}}),
        "schema violation (password: required field missing)",
    );
}

/// Id of a consumer.
const C: &str = "0855b320-0dd2-547d-891d-601e9b38647f";

#[test]
fn keys_are_made_up_and_may_have_a_life_time() {
    let stored = insert("keyauth_credentials", json!({"consumer": {"id": C}})).unwrap();
    let key = stored["key"].as_str().unwrap();
    assert_eq!(key.len(), 32);
    assert!(
        key.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{key}"
    );
    assert_eq!(stored["ttl"], Value::Null);
    let own = json!({"key": "k", "ttl": 60, "consumer": {"id": C}, "created_at": 1_699_999_900});
    let stored = insert("keyauth_credentials", own).unwrap();
    // A life time starts now, and is stored from the creation on.
    assert_eq!((&stored["key"], &stored["ttl"]), (&json!("k"), &json!(160)));
    let ahead = json!({"ttl": 10, "consumer": {"id": C}, "created_at": 1_700_001_000});
    assert_eq!(insert("keyauth_credentials", ahead).unwrap()["ttl"], 1);
    let later = update("keyauth_credentials", &stored, json!({"tags": ["t"]})).unwrap();
    assert_eq!(later["ttl"], 160, "what is not given stays");
    let renewed = update("keyauth_credentials", &stored, json!({"ttl": 10})).unwrap();
    assert_eq!(renewed["ttl"], 110);
    let unlimited = update("keyauth_credentials", &stored, json!({"ttl": 0})).unwrap();
    assert_eq!(unlimited["ttl"], Value::Null);
    refused(
        "keyauth_credentials",
        json!({"ttl": -1, "consumer": {"id": C}}),
        "schema violation (ttl: must be an integer between 0 and 100000000)",
    );
}

#[test]
fn a_patch_merges_records_and_replaces_lists() {
    let config = json!({"allowed_iss": ["i"], "scope": ["a", "b"]});
    let stored = insert("plugins", json!({"name": "jwt-keycloak", "config": config})).unwrap();
    let patch = json!({"config": {"scope": ["c"], "algorithm": null}, "id": "ignored"});
    let patched = update("plugins", &stored, patch).unwrap();
    assert_eq!(patched["id"], stored["id"]);
    assert_eq!(patched["config"]["allowed_iss"], json!(["i"]));
    assert_eq!(patched["config"]["scope"], json!(["c"]));
    assert_eq!(patched["config"]["algorithm"], "RS256");
}

#[test]
fn a_null_puts_a_required_default_back_in_a_patch() {
    let stored = insert("services", json!({"host": "h", "port": 1, "name": "n"})).unwrap();
    let patched = update("services", &stored, json!({"port": null, "name": null})).unwrap();
    assert_eq!(patched["port"], 80);
    assert_eq!(patched["name"], Value::Null);
    let bad = update("services", &stored, json!({"host": null})).unwrap_err();
    assert_eq!(
        bad.message(),
        "schema violation (host: required field missing)"
    );
}

#[test]
fn unique_values_tell_documents_apart() {
    let plugins = entity("plugins").unwrap();
    let scope = &plugins.unique[0];
    let acl = insert(
        "plugins",
        json!({"name": "acl", "config": {"allow": ["a"]}}),
    )
    .unwrap();
    assert_eq!(scope.value(&acl).unwrap(), r#"["acl",null,null,null]"#);
    assert_eq!(plugins.unique[1].value(&acl), None);
    let service = insert("services", json!({"host": "h", "name": "n"})).unwrap();
    assert_eq!(
        entity("services").unwrap().unique[0]
            .value(&service)
            .unwrap(),
        "n"
    );
}

#[test]
fn schemas_publish_the_defaults_that_are_applied() {
    for kind in entities() {
        let schema = kind.describe();
        for field in schema["fields"].as_array().unwrap() {
            let (name, field) = field.as_object().unwrap().iter().next().unwrap();
            assert!(kind.has_field(name));
            assert!(field["type"].is_string());
        }
    }
    let schema = o28m_kong::plugin("jwt-keycloak").unwrap().describe();
    assert_eq!(schema["fields"][0]["consumer"]["eq"], Value::Null);
    let config = &schema["fields"][2]["config"];
    assert_eq!(config["required"], true);
    let iss = config["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|field| field.get("allowed_iss"));
    assert_eq!(iss.unwrap()["elements"]["type"], "string");
}

#[test]
fn declarations_name_only_what_exists() {
    for kind in entities() {
        for unique in kind.unique {
            assert!(unique.fields.iter().all(|field| kind.has_field(field)));
        }
        for foreign in kind.foreign {
            assert!(kind.has_field(foreign.field));
            assert!(entity(foreign.entity).is_some());
        }
        let keys = [kind.endpoint_key, kind.nested_key, kind.search_key];
        assert!(keys.iter().flatten().all(|key| kind.has_field(key)));
        assert!(
            kind.endpoint_key
                .is_none_or(|key| kind.unique_field(key).is_some())
        );
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[/~a-z(){}*.:%-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z_]{1,8}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn field_names() -> Vec<String> {
    let mut names = vec!["url".to_owned(), "unknown".to_owned()];
    for kind in entities() {
        let schema = kind.describe();
        let fields = schema.get("fields").and_then(Value::as_array);
        let fields = fields.into_iter().flatten().filter_map(Value::as_object);
        names.extend(fields.flat_map(|field| field.keys().cloned()));
    }
    names
}

/// Documents whose members are named like fields.
fn any_document() -> impl Strategy<Value = Document> {
    let member = (proptest::sample::select(field_names()), any_json());
    proptest::collection::vec(member, 0..8).prop_map(|members| members.into_iter().collect())
}

fn service_patch() -> impl Strategy<Value = Document> {
    let member = prop_oneof![
        (0..40_000_i64).prop_map(|value| ("retries".to_owned(), json!(value))),
        (0..70_000_i64).prop_map(|value| ("port".to_owned(), json!(value))),
        "[a-z.]{1,6}".prop_map(|value| ("host".to_owned(), json!(value))),
        "/[a-z/]{0,6}".prop_map(|value| ("path".to_owned(), json!(value))),
        any::<bool>().prop_map(|value| ("enabled".to_owned(), json!(value))),
        Just(("name".to_owned(), Value::Null)),
        proptest::collection::vec("[a-z]{1,3}", 0..3)
            .prop_map(|value| ("tags".to_owned(), json!(value))),
    ];
    proptest::collection::vec(member, 0..4).prop_map(|members| members.into_iter().collect())
}

proptest! {
    #[test]
    fn random_documents_never_panic(body in any_document(), patch in any_document()) {
        let ambient = ambient();
        let mut names = enabled();
        names.push("unknown".to_owned());
        let context = Context { ambient: &ambient, enabled_plugins: &names };
        for kind in entities() {
            if let Err(violations) = kind.insert(body.clone(), &context) {
                prop_assert!(!violations.fields.is_empty());
                prop_assert!(violations.message().contains("schema violation"));
            }
            let updated = kind.update(&body, patch.clone(), &context);
            prop_assert!(updated.is_ok() || updated.is_err());
            prop_assert!(kind.coerce(body.clone(), Some(&patch)).len() <= body.len());
        }
    }

    #[test]
    fn insert_is_idempotent_on_its_own_output(patch in service_patch()) {
        let mut body = patch;
        body.entry("host").or_insert(json!("h"));
        if let Ok(first) = insert("services", Value::Object(body)) {
            let second = insert("services", Value::Object(first.clone())).unwrap();
            prop_assert_eq!(first, second);
        }
    }

    #[test]
    fn a_patch_changes_only_what_it_names(patch in service_patch()) {
        let stored = insert("services", json!({"host": "h", "name": "n", "retries": 7})).unwrap();
        if let Ok(patched) = update("services", &stored, Value::Object(patch.clone())) {
            for (name, value) in &stored {
                if !patch.contains_key(name) {
                    prop_assert_eq!(value, &patched[name]);
                }
            }
        }
    }
}
