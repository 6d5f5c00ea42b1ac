//! Taking over what a Kong has: from its Admin API and from its database.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::kong::Node;
use super::{o28m, text};

/// More than one page.
const SERVICES: usize = 1200;

/// A database that entities are imported into.
struct Destination(TempDir);

impl Destination {
    fn new() -> Self {
        let destination = Self(tempfile::tempdir().unwrap());
        assert!(destination.run(&["migrate", "bootstrap"]).status.success());
        destination
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let url = format!("sqlite://{}/o28m.db", self.0.path().display());
        let mut command = o28m();
        command.args(arguments).env("O28M_DATABASE__URL", url);
        command.output().unwrap()
    }

    #[track_caller]
    fn gateway(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(&[&["gateway"], arguments].concat());
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{printed}");
        printed
    }

    fn exported(&self) -> Value {
        let output = self.run(&["gateway", "export", "-o", "json"]);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn a_running_gateway_is_taken_over_through_its_admin_api() {
    let services: Vec<Value> = (0..SERVICES)
        .map(|number| json!({"name": format!("s{number}"), "host": "h"}))
        .collect();
    let configuration = json!({
        "_format_version": "3.0",
        "services": services,
        "routes": [{"name": "r", "paths": ["/a"], "service": "s7", "tags": ["env--t"]}],
        "consumers": [{
            "username": "c",
            "acls": [{"group": "g"}],
            "basicauth_credentials": [{"username": "u", "password": "p"}],
        }],
        "plugins": [{"name": "acl", "route": "r", "config": {"allow": ["g"]}}],
        "upstreams": [{"name": "up", "targets": [{"target": "10.0.0.1:80"}, {"target": "10.0.0.2:80"}]}],
    });
    let mut node = Node::new(&[("KONG_DATABASE", "off")]);
    let write = |node: &Node, name: &str, text: &str| {
        std::fs::write(node.path(name), text).unwrap();
        node.path(name)
    };
    let file = write(&node, "kong.json", &configuration.to_string());
    node.set("KONG_DECLARATIVE_CONFIG", &file);
    let users = write(&node, "htpasswd", "admin:{PLAIN}p@ss\n");
    node.set("O28M_ADMIN__HTPASSWD_FILE", &users);
    let _gateway = node.start();

    let destination = Destination::new();
    let place = format!("127.0.0.1:{}", node.port(8001));
    let url = format!("http://{place}");
    let refused = destination.gateway(&["import", "--from", "kong-admin-url", &url], 1);
    assert!(
        refused.contains("401") && refused.contains("--authorization"),
        "{refused}"
    );
    let with_login = format!("http://admin:p%40ss@{place}");
    let imported = destination.gateway(&["import", "--from", "kong-admin-url", &with_login], 0);
    let all = SERVICES + 8;
    assert_eq!(imported, format!("create {all}, update 0, delete 0\n"));
    // Again through the other way to log in, and everything is there with its ids and times.
    let login = write(&node, "login", "admin:p@ss\n");
    let same = [
        "diff",
        "--replace",
        "--from",
        "kong-admin-url",
        &url,
        "--authorization",
        &login,
    ];
    assert_eq!(
        destination.gateway(&same, 0),
        "create 0, update 0, delete 0\n"
    );
    let exported = destination.exported();
    assert_eq!(exported["services"].as_array().unwrap().len(), SERVICES);
    let hash = exported["basicauth_credentials"][0]["password"]
        .as_str()
        .unwrap();
    assert_eq!(hash.len(), 40, "the hash is not hashed again");
    let missing = destination.gateway(
        &["import", "--from", "kong-admin-url", "http://127.0.0.1:1"],
        1,
    );
    assert!(
        missing.contains("cannot read /") && missing.contains("127.0.0.1:1"),
        "{missing}"
    );
}

const KONG_TABLES: &str = r#"
CREATE TABLE schema_meta (key text, subsystem text, last_executed text, executed text[], pending text[]);
INSERT INTO schema_meta VALUES ('schema_meta', 'core', '@@', '{}', '{}');
CREATE TABLE workspaces (id uuid, name text);
INSERT INTO workspaces VALUES ('0dc6f45b-8f8d-40d2-a504-473544ee190b', 'default');
CREATE TABLE services (id uuid, created_at timestamptz, updated_at timestamptz, name text, retries bigint,
  protocol text, host text, port bigint, path text, connect_timeout bigint, write_timeout bigint,
  read_timeout bigint, tags text[], client_certificate_id uuid, tls_verify boolean, tls_verify_depth smallint,
  ca_certificates uuid[], ws_id uuid, enabled boolean);
INSERT INTO services VALUES ('11111111-1111-4111-8111-111111111111', to_timestamp(1700000000),
  to_timestamp(1700000001), 's', 7, 'http', 'up.example.com', 80, '/base', 60000, 60000, 60000,
  '{env--t,zone}', NULL, NULL, NULL, NULL, '0dc6f45b-8f8d-40d2-a504-473544ee190b', true);
CREATE TABLE routes (id uuid, created_at timestamptz, updated_at timestamptz, name text, service_id uuid,
  protocols text[], methods text[], hosts text[], paths text[], snis text[], sources jsonb[],
  destinations jsonb[], regex_priority bigint, strip_path boolean, preserve_host boolean, tags text[],
  https_redirect_status_code integer, headers jsonb, path_handling text, ws_id uuid,
  request_buffering boolean, response_buffering boolean, expression text, priority bigint);
INSERT INTO routes (id, created_at, updated_at, name, service_id, protocols, paths, regex_priority,
  strip_path, preserve_host, https_redirect_status_code, headers, path_handling, request_buffering,
  response_buffering) VALUES ('22222222-2222-4222-8222-222222222222', to_timestamp(1700000000),
  to_timestamp(1700000000), 'r', '11111111-1111-4111-8111-111111111111', '{http,https}', '{/a/\\d+,/b}', 0,
  true, false, 426, '{"x-a": ["1"]}', 'v0', true, true);
CREATE TABLE consumers (id uuid, created_at timestamptz, updated_at timestamptz, username text,
  custom_id text, tags text[], ws_id uuid);
INSERT INTO consumers VALUES ('33333333-3333-4333-8333-333333333333', to_timestamp(1700000000),
  to_timestamp(1700000000), 'c', 'id-of-c', NULL, '0dc6f45b-8f8d-40d2-a504-473544ee190b');
CREATE TABLE basicauth_credentials (id uuid, created_at timestamptz, consumer_id uuid, username text,
  password text, tags text[], ws_id uuid);
INSERT INTO basicauth_credentials VALUES ('44444444-4444-4444-8444-444444444444', to_timestamp(1700000000),
  '33333333-3333-4333-8333-333333333333', 'u', '0123456789abcdef0123456789abcdef01234567', NULL, NULL);
CREATE TABLE plugins (id uuid, created_at timestamptz, updated_at timestamptz, name text, consumer_id uuid,
  service_id uuid, route_id uuid, config jsonb, enabled boolean, cache_key text, protocols text[],
  tags text[], ws_id uuid, instance_name text);
INSERT INTO plugins VALUES ('55555555-5555-4555-8555-555555555555', to_timestamp(1700000000),
  to_timestamp(1700000000), 'acl', NULL, NULL, '22222222-2222-4222-8222-222222222222',
  '{"allow": ["g"], "deny": null, "hide_groups_header": true}', true, 'plugins:acl:x', '{http,https}', NULL,
  NULL, NULL);
CREATE TABLE upstreams (id uuid, created_at timestamptz, updated_at timestamptz, name text, hash_on text,
  slots integer, healthchecks jsonb, tags text[], algorithm text, ws_id uuid);
INSERT INTO upstreams (id, created_at, name, slots) VALUES ('66666666-6666-4666-8666-666666666666',
  to_timestamp(1700000000), 'up', 100);
CREATE TABLE targets (id uuid, created_at timestamp(3) with time zone, upstream_id uuid, target text,
  weight integer, tags text[], cache_key text, ws_id uuid, updated_at timestamp(3) with time zone);
INSERT INTO targets VALUES ('77777777-7777-4777-8777-777777777777', to_timestamp(1700000000.25),
  '66666666-6666-4666-8666-666666666666', '10.0.0.1:80', 50, NULL, 'x', NULL, to_timestamp(1700000000.25));
"#;

#[test]
fn a_kongs_database_is_taken_over_and_not_touched() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (migration, path) in [
        ("024_380_to_390", "/a/\\d+"),
        ("015_270_to_280", "~/a/\\d+"),
    ] {
        let Some(url) = runtime.block_on(o28m_store::testing::postgres_url()) else {
            return;
        };
        let destination = Destination::new();
        let from = ["--from", "kong-postgres", &url];
        let none = destination.gateway(&[&["import"], &from[..]].concat(), 1);
        assert!(
            none.contains("there is no Kong in schema \"public\""),
            "{none}"
        );

        let tables = KONG_TABLES.replace("@@", migration);
        runtime.block_on(o28m_store::testing::execute(&url, &tables));
        let imported = destination.gateway(&[&["import"], &from[..]].concat(), 0);
        assert_eq!(imported, "create 7, update 0, delete 0\n");
        let same = destination.gateway(&[&["diff", "--replace"], &from[..]].concat(), 0);
        assert_eq!(same, "create 0, update 0, delete 0\n");
        let exported = destination.exported();
        let service = &exported["services"][0];
        for (name, value) in [
            ("id", json!("11111111-1111-4111-8111-111111111111")),
            ("retries", json!(7)),
            ("created_at", json!(1_700_000_000)),
            ("tags", json!(["env--t", "zone"])),
        ] {
            assert_eq!(service[name], value, "{name}");
        }
        let route = &exported["routes"][0];
        assert_eq!(route["paths"], json!([path, "/b"]));
        assert_eq!(route["headers"], json!({"x-a": ["1"]}));
        assert_eq!(
            exported["plugins"][0]["id"],
            "55555555-5555-4555-8555-555555555555"
        );
        assert_eq!(
            exported["basicauth_credentials"][0]["password"],
            "0123456789abcdef0123456789abcdef01234567"
        );
        assert_eq!(
            exported["targets"][0]["created_at"],
            json!(1_700_000_000.25)
        );
        assert_eq!(exported["upstreams"][0]["slots"], 100);

        let more = "INSERT INTO workspaces VALUES ('0dc6f45b-8f8d-40d2-a504-473544ee190c', 'team')";
        runtime.block_on(o28m_store::testing::execute(&url, more));
        let refused = destination.gateway(&[&["import"], &from[..]].concat(), 1);
        assert!(
            refused.contains("workspaces are not supported: team"),
            "{refused}"
        );
    }
}
