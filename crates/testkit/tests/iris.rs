//! The identity provider in processes of its own: replicas, kills, many realms; and what the platform's own
//! suites do with it through the gateway (spec iris 17, 18 and its cases 47, 49 and 50). How fast at full
//! size is what the bench measures.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use o28m::platform::{Bound, Platform as Process};
use o28m_store::{Key, Object, OnDelete, Query, Reference, Settings, Store, Write};
use o28m_testkit::{Client, Platform, Upstream, eventually, on_every_database};
use serde_json::{Value, json};
use tempfile::TempDir;

const DIR: &str = "O28M_TESTKIT_IRIS_DIR";
const DATABASE: &str = "O28M_TESTKIT_IRIS_DATABASE";
/// The name every replica has to the outside.
const NAME: &str = "http://iris.test/auth";
const PASSWORD: &str = "pw";
/// A process starts slowly where many others do.
const START_PATIENCE: Duration = Duration::from_secs(90);
/// How many times as long an unoptimised build takes; the limits are those of an optimised one.
const SLOWER: u32 = if cfg!(debug_assertions) { 4 } else { 1 };
/// Length of a clock tick of `/proc`.
const TICK: Duration = Duration::from_millis(10);

/// No test: what [`Node`] runs in a process of its own, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node() {
    let (Ok(dir), Ok(url)) = (std::env::var(DIR), std::env::var(DATABASE)) else {
        return;
    };
    let settings = [
        ("node.roles", "identity"),
        ("node.worker_threads", "1"),
        ("log.level", "error"),
        ("database.url", &url),
        ("identity.listen", "127.0.0.1:0"),
        ("identity.management_listen", "127.0.0.1:0"),
        ("status.listen", "127.0.0.1:0"),
        ("metrics.listen", "127.0.0.1:0"),
        ("identity.hostname", NAME),
        ("identity.admin_user", "admin"),
        ("identity.admin_password", PASSWORD),
    ];
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let sources = o28m::config::Sources {
        file: None,
        environment: std::collections::BTreeMap::new(),
        command: settings.iter().map(owned).collect(),
    };
    let config = o28m::config::load(&sources).unwrap();
    let bound = Bound::bind(&config).unwrap();
    let address = bound.address("identity").unwrap();
    let process = Process::prepare(config, o28m::ambient::system(), bound).await;
    let _running = process.unwrap().start().await.unwrap();
    let partial = Path::new(&dir).join("address.new");
    std::fs::write(&partial, format!("http://{address}/auth")).unwrap();
    std::fs::rename(&partial, Path::new(&dir).join("address")).unwrap();
    std::future::pending::<()>().await;
}

/// A process with the identity provider alone.
struct Node {
    child: Child,
    url: String,
    http: Client,
    _dir: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Node {
    async fn start(database_url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node", "--nocapture"])
            .env(DIR, dir.path())
            .env(DATABASE, database_url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let file = dir.path().join("address");
        let deadline = Instant::now() + START_PATIENCE;
        let url = loop {
            if let Ok(url) = std::fs::read_to_string(&file) {
                break url;
            }
            assert!(Instant::now() < deadline, "the node does not serve");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        Self {
            child: child.unwrap(),
            url,
            http: Client::default(),
            _dir: dir,
        }
    }

    /// Without a chance to finish anything.
    fn kill(mut self) {
        self.child.kill().unwrap();
        let _status = self.child.wait().unwrap();
    }

    /// Memory of the process in MiB.
    fn resident_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB").trim();
        kib.parse::<u64>().unwrap() / 1024
    }

    /// Processor time it has used, which does not depend on what else runs on the machine.
    fn worked(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let (_, fields) = text.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks.map(|text| text.parse::<u32>().unwrap()).sum();
        TICK * ticks
    }

    /// The least processor time that one of five attempts took.
    async fn least_work(&self, mut attempt: impl AsyncFnMut()) -> Duration {
        let mut least = Duration::MAX;
        for _ in 0..5 {
            let before = self.worked();
            attempt().await;
            least = least.min(self.worked().saturating_sub(before));
        }
        least
    }

    fn admin_url(&self, path: &str) -> String {
        format!("{}/admin/realms{path}", self.url)
    }

    fn token_url(&self, realm: &str) -> String {
        format!("{}/realms/{realm}/protocol/openid-connect/token", self.url)
    }

    async fn login(&self) -> Value {
        let fields = [
            ("grant_type", "password"),
            ("client_id", "admin-cli"),
            ("username", "admin"),
            ("password", PASSWORD),
        ];
        let reply = self.http.form(&self.token_url("master"), &fields).await;
        reply.expect(200).json()
    }

    async fn refresh(&self, token: &str) -> u16 {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", "admin-cli"),
            ("refresh_token", token),
        ];
        let reply = self.http.form(&self.token_url("master"), &fields).await;
        reply.status.as_u16()
    }

    async fn admin(&self) -> Client {
        self.http
            .bearer(self.login().await["access_token"].as_str().unwrap())
    }

    async fn service_token(&self, realm: &str, client: &str) -> u16 {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("client_secret", "s"),
        ];
        let reply = self.http.form(&self.token_url(realm), &fields).await;
        reply.status.as_u16()
    }
}

async fn store(url: &str) -> Store {
    let settings = Settings {
        url: url.to_owned(),
        schema: "o28m".to_owned(),
        pool_max: 2,
        connect_timeout: Duration::from_secs(5),
        poll_interval: Duration::from_secs(60),
    };
    Store::open(&settings).await.unwrap()
}

/// A database of its own: a file, and one on a server where there is one.
async fn databases(dir: &TempDir) -> Vec<String> {
    let file = format!("sqlite://{}", dir.path().join("iris.db").display());
    let server = o28m_store::testing::postgres_url().await;
    std::iter::once(file).chain(server).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_goes_on_at_the_other_replica_and_outlives_its_own() {
    let Some(url) = o28m_store::testing::postgres_url().await else {
        return;
    };
    let (one, two) = tokio::join!(Node::start(&url), Node::start(&url));
    let login = one.login().await;
    assert_eq!(
        two.refresh(login["refresh_token"].as_str().unwrap()).await,
        200
    );
    let admin = two.http.bearer(login["access_token"].as_str().unwrap());
    let _ = admin.get(&two.admin_url("/master")).await.expect(200);

    // Logins one after the other on one replica until it is killed in the middle of some.
    let (http, at) = (one.http.clone(), one.token_url("master"));
    let acknowledged = Arc::new(std::sync::Mutex::new(Vec::new()));
    let running = (0..4).map(|_| {
        let (http, at, kept) = (http.clone(), at.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let form = format!(
                "grant_type=password&client_id=admin-cli&username=admin&password={PASSWORD}"
            );
            let http = http.with("content-type", "application/x-www-form-urlencoded");
            while let Ok(reply) = http.try_send(http::Method::POST, &at, form.clone()).await {
                if reply.status == 200 {
                    let token = reply.json()["refresh_token"].as_str().unwrap().to_owned();
                    kept.lock().unwrap().push(token);
                }
            }
        })
    });
    let running: Vec<_> = running.collect();
    eventually("some logins", async || {
        (acknowledged.lock().unwrap().len() >= 12).then_some(())
    })
    .await;
    one.kill();
    for task in running {
        task.await.unwrap();
    }
    let kept = acknowledged.lock().unwrap().clone();
    for token in &kept {
        assert_eq!(two.refresh(token).await, 200);
    }
    // A refresh that was answered ended nothing of the login, on a third replica, either.
    let three = Node::start(&url).await;
    assert_eq!(three.refresh(kept.last().unwrap()).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iris_case_047_a_kill_among_a_thousand_writes_leaves_no_half_client() {
    const WRITES: usize = 1000;
    const BEFORE_THE_KILL: usize = 150;
    let dir = tempfile::tempdir().unwrap();
    for url in databases(&dir).await {
        let node = Node::start(&url).await;
        let admin = node.admin().await;
        let realm = json!({"realm": "r", "enabled": true});
        let _ = admin
            .json("POST", &node.admin_url(""), realm)
            .await
            .expect(201);
        let at = node.admin_url("/r/clients");
        let next = Arc::new(AtomicUsize::new(0));
        let made = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
        let writers = (0..8).map(|_| {
            let (admin, at) = (admin.clone(), at.clone());
            let (next, made) = (next.clone(), made.clone());
            tokio::spawn(async move {
                let admin = admin.with("content-type", "application/json");
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= WRITES {
                        return;
                    }
                    let body = json!({"clientId": format!("c{number}"), "secret": "s",
                        "serviceAccountsEnabled": true});
                    let sent = admin
                        .try_send(http::Method::POST, &at, body.to_string())
                        .await;
                    match sent {
                        Ok(reply) if reply.status == 201 => made.lock().unwrap().insert(number),
                        Ok(reply) => panic!("{}", reply.text()),
                        Err(_) => return,
                    };
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        eventually("some clients", async || {
            (made.lock().unwrap().len() >= BEFORE_THE_KILL).then_some(())
        })
        .await;
        node.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        let made = made.lock().unwrap().clone();
        assert!(made.len() < WRITES, "nothing was left to be killed");

        let node = Node::start(&url).await;
        let admin = node.admin().await;
        let all = admin
            .get(&node.admin_url("/r/clients"))
            .await
            .expect(200)
            .json();
        let mut found = BTreeSet::new();
        for client in all.as_array().unwrap() {
            let Some(number) = client["clientId"].as_str().unwrap().strip_prefix('c') else {
                continue;
            };
            let Ok(number) = number.parse::<usize>() else {
                continue;
            };
            found.insert(number);
            let id = client["id"].as_str().unwrap();
            let path = format!("/r/clients/{id}/service-account-user");
            let user = admin.get(&node.admin_url(&path)).await.expect(200).json();
            assert_eq!(user["username"], format!("service-account-c{number}"));
            assert_eq!(client["secret"], "s");
        }
        let lost: Vec<_> = made.difference(&found).collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        for number in made.iter().take(5).chain(found.iter().rev().take(5)) {
            assert_eq!(node.service_token("r", &format!("c{number}")).await, 200);
        }
        // No service account without its client, and what was not made can be made.
        let store = store(&url).await;
        let realm = store
            .get_by_key("realm", "", "name", "r")
            .await
            .unwrap()
            .unwrap();
        let users = Query {
            kind: "user",
            owner: Some(&realm.id),
            by_key: Some("serviceAccount"),
            ..Query::default()
        };
        assert_eq!(store.count(&users).await.unwrap(), found.len() as u64);
        store.close().await;
        let missing = (0..WRITES).find(|number| !found.contains(number)).unwrap();
        let body = json!({"clientId": format!("c{missing}"), "secret": "s",
            "serviceAccountsEnabled": true});
        let _ = admin
            .json("POST", &node.admin_url("/r/clients"), body)
            .await
            .expect(201);
        assert_eq!(node.service_token("r", &format!("c{missing}")).await, 200);
    }
}

fn id(space: u32, number: usize) -> String {
    format!("{space:08x}-0000-4000-8000-{number:012x}")
}

/// Realms with clients in each, as copies of one made by hand: what it takes to make them is no question
/// here.
async fn fill(store: &Store, realms: usize, clients: usize) {
    let model = store
        .get_by_key("realm", "", "name", "model")
        .await
        .unwrap()
        .unwrap();
    let pattern = store
        .get_by_key("client", &model.id, "clientId", "c")
        .await
        .unwrap()
        .unwrap();
    for realm in 0..realms {
        let (realm_id, name) = (id(1, realm), format!("realm-{realm}"));
        let mut body = model.body.clone();
        body["id"] = json!(realm_id);
        body["name"] = json!(name);
        body["rep"]["id"] = json!(realm_id);
        body["rep"]["realm"] = json!(name);
        let key = |name, value: String| vec![Key { name, value }];
        let mut steps = vec![Write::Insert(Object {
            kind: "realm",
            id: realm_id.clone(),
            owner: String::new(),
            keys: key("name", name),
            references: Vec::new(),
            tags: Vec::new(),
            body,
        })];
        for client in 0..clients {
            let client_id = id(2, realm * clients + client);
            let mut body = pattern.body.clone();
            body["id"] = json!(client_id);
            body["realm"] = json!(realm_id);
            body["client_id"] = json!(format!("c{client}"));
            body["rep"]["id"] = json!(client_id);
            body["rep"]["clientId"] = json!(format!("c{client}"));
            steps.push(Write::Insert(Object {
                kind: "client",
                id: client_id,
                owner: realm_id.clone(),
                keys: key("clientId", format!("c{client}")),
                references: vec![Reference {
                    field: "realm",
                    kind: "realm",
                    id: realm_id.clone(),
                    on_delete: OnDelete::Cascade,
                }],
                tags: Vec::new(),
                body,
            }));
        }
        store.write(steps).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iris_case_049_a_thousand_realms_with_fifty_clients_each() {
    const REALMS: usize = 1000;
    const CLIENTS: usize = 50;
    const MEMORY_MIB: u64 = 256;
    let dir = tempfile::tempdir().unwrap();
    for url in databases(&dir).await {
        let node = Node::start(&url).await;
        let admin = node.admin().await;
        let client = json!({"clientId": "c", "secret": "s", "serviceAccountsEnabled": true});
        let model = json!({"realm": "model", "enabled": true, "clients": [client]});
        let _ = admin
            .json("POST", &node.admin_url(""), model)
            .await
            .expect(201);
        drop(node);
        let store = store(&url).await;
        fill(&store, REALMS, CLIENTS).await;
        store.close().await;

        let node = Node::start(&url).await;
        let took = node.worked();
        assert!(
            took < Duration::from_secs(1) * SLOWER,
            "start took {took:?}"
        );
        assert!(
            node.resident_mib() < MEMORY_MIB,
            "{} MiB",
            node.resident_mib()
        );
        let admin = node.admin().await;
        let list = node.admin_url("?briefRepresentation=true");
        let work = node.least_work(async || {
            let all = admin.get(&list).await.expect(200).json();
            assert_eq!(all.as_array().unwrap().len(), REALMS + 2);
        });
        let took = work.await;
        assert!(
            took < Duration::from_millis(300) * SLOWER,
            "list took {took:?}"
        );
        let mut number = 0;
        let work = node.least_work(async || {
            number += 1;
            let realm = json!({"realm": format!("new-{number}"), "enabled": true});
            let _ = admin
                .json("POST", &node.admin_url(""), realm)
                .await
                .expect(201);
        });
        let took = work.await;
        assert!(
            took < Duration::from_secs(1) * SLOWER,
            "creation took {took:?}"
        );
        // A page of clients of any realm.
        let work = node.least_work(async || {
            let url = node.admin_url("/realm-777/clients?max=20");
            let page = admin.get(&url).await.expect(200).json();
            assert_eq!(page.as_array().unwrap().len(), 20);
        });
        let took = work.await;
        assert!(
            took < Duration::from_millis(100) * SLOWER,
            "page took {took:?}"
        );
        assert_eq!(node.service_token("model", "c").await, 200);
        let work = node.least_work(async || {
            for _ in 0..20 {
                assert_eq!(node.service_token("model", "c").await, 200);
            }
        });
        let took = work.await / 20;
        assert!(
            took < Duration::from_millis(10) * SLOWER,
            "token took {took:?}"
        );
        assert!(
            node.resident_mib() < MEMORY_MIB,
            "{} MiB",
            node.resident_mib()
        );
    }
}

/// An upstream that tells what it got.
fn echo() -> Upstream {
    Upstream::start(|request| {
        let all = request.headers().iter();
        let all = all.map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())));
        let body = json!({"headers": all.collect::<serde_json::Map<_, _>>()});
        http::Response::new(Bytes::from(body.to_string()))
    })
}

/// Waits until the proxy answers with this status.
async fn answers(platform: &Platform, client: &Client, path: &str, status: u16) {
    platform.applied().await;
    let reply = client.get(&platform.gateway(path)).await;
    assert_eq!(reply.status.as_u16(), status, "{path}: {}", reply.text());
}

/// Puts a `jwt-keycloak` plugin with this configuration on the route, in the place of the one before.
async fn protect(platform: &Platform, route: &str, config: Value) {
    let plugins = platform
        .admin("GET", &format!("/routes/{route}/plugins"), Value::Null)
        .await
        .expect(200)
        .json();
    for plugin in plugins["data"].as_array().unwrap() {
        let path = format!("/plugins/{}", plugin["id"].as_str().unwrap());
        let _ = platform
            .admin("DELETE", &path, Value::Null)
            .await
            .expect(204);
    }
    let body = json!({"name": "jwt-keycloak", "config": config});
    let path = format!("/routes/{route}/plugins");
    let _ = platform.admin("POST", &path, body).await.expect(201);
}

on_every_database! {
    /// The calls of the plugin's own suite: a realm signing with ES256, its roles and scopes.
    async fn iris_case_050_the_suite_of_the_gateways_token_plugin(platform: Platform) {
        let admin = platform.realm_admin().await;
        let at = |path: &str| platform.iris(&format!("/admin/realms{path}"));
        let _ = admin.get(&at("/kong")).await.expect(404);
        let realm = json!({"realm": "kong", "enabled": true, "defaultSignatureAlgorithm": "ES256"});
        let _ = admin.json("POST", &at(""), realm).await.expect(201);
        let shown = admin.get(&at("/kong")).await.expect(200).json();
        assert_eq!(shown["defaultSignatureAlgorithm"], "ES256");
        let _ = admin.get(&at("/kong/users?username=app")).await.expect(200);
        let user = json!({"username": "app", "enabled": true});
        let _ = admin.json("POST", &at("/kong/users"), user).await.expect(201);
        let found = admin.get(&at("/kong/clients?clientId=app")).await.expect(200).json();
        assert_eq!(found, json!([]));
        // What the suite does with the id it did not find.
        let _ = admin.send("DELETE", &at("/kong/clients/null"), "").await.expect(404);
        let client = json!({
            "clientId": "app", "enabled": true, "publicClient": false, "secret": "secret",
            "redirectUris": ["http://localhost:8000/*"], "protocol": "openid-connect",
            "serviceAccountsEnabled": true,
            "attributes": {"access.token.signed.response.alg": "ES256", "access.token.jwt.claims": "true"},
        });
        let _ = admin.json("POST", &at("/kong/clients"), client).await.expect(201);
        let shown = admin.get(&at("/kong/clients?clientId=app")).await.expect(200).json();
        assert_eq!(shown[0]["secret"], "secret");
        assert_eq!(shown[0]["attributes"]["access.token.jwt.claims"], "true");

        let upstream = echo();
        platform.route("example", &upstream.url(), json!({"paths": ["/example"]})).await;
        let consumer = json!({"username": "someone", "custom_id": "app"});
        let _ = platform.admin("POST", "/consumers", consumer).await.expect(201);
        let issuer = platform.iris("/realms/kong");
        let token = platform.token("kong", "app", "secret").await;
        let client = platform.http.bearer(&token);
        let matching = json!({"allowed_iss": [issuer], "algorithm": "ES256",
            "consumer_match": true, "consumer_match_claim_custom_id": true});
        protect(&platform, "example", matching).await;
        answers(&platform, &client, "/example/get", 200).await;
        answers(&platform, &platform.http, "/example/get", 401).await;
        for (config, status) in [
            (json!({"scope": ["profile"], "algorithm": "ES256"}), 200),
            (json!({"scope": ["admin"], "algorithm": "ES256"}), 403),
            (json!({"realm_roles": ["offline_access"], "algorithm": "ES256"}), 200),
            (json!({"realm_roles": ["super-admin"], "algorithm": "ES256"}), 403),
            (json!({"client_roles": ["account:manage-account"], "algorithm": "ES256"}), 200),
            (json!({"client_roles": ["account:super-admin"], "algorithm": "ES256"}), 403),
        ] {
            let mut config = config;
            config["allowed_iss"] = json!([issuer]);
            protect(&platform, "example", config).await;
            answers(&platform, &client, "/example/get", status).await;
        }
    }
}

on_every_database! {
    /// A realm with keys of three kinds: one that the gateway's plugin does not verify with leaves the others alone.
    async fn tokens_of_a_realm_with_keys_of_every_kind_at_the_gateway(platform: Platform) {
        let admin = platform.realm_admin().await;
        let at = |path: &str| platform.iris(&format!("/admin/realms{path}"));
        let client = |algorithm: &str| json!({
            "clientId": algorithm, "enabled": true, "secret": "secret", "serviceAccountsEnabled": true,
            "attributes": {"access.token.signed.response.alg": algorithm},
        });
        let algorithms = ["EdDSA", "ES256", "RS256"];
        let realm = json!({"realm": "mixed", "enabled": true, "clients": algorithms.map(client)});
        let _ = admin.json("POST", &at(""), realm).await.expect(201);
        let upstream = echo();
        platform.route("example", &upstream.url(), json!({"paths": ["/example"]})).await;
        let issuer = platform.iris("/realms/mixed");
        protect(&platform, "example", json!({"allowed_iss": [issuer]})).await;
        for algorithm in algorithms {
            let token = platform.token("mixed", algorithm, "secret").await;
            let client = platform.http.bearer(&token);
            let status = if algorithm == "EdDSA" { 401 } else { 200 };
            answers(&platform, &client, "/example/get", status).await;
            if status == 401 {
                let reply = client.get(&platform.gateway("/example/get")).await;
                assert_eq!(reply.json()["message"], "Invalid algorithm");
            }
        }
        let keys = platform.http.get(&format!("{issuer}/protocol/openid-connect/certs")).await.json();
        let mut kinds: Vec<_> = keys["keys"].as_array().unwrap().iter().map(|it| it["kty"].as_str().unwrap()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds, ["EC", "OKP", "RSA"]);
    }
}

on_every_database! {
    /// The calls of the gateway image's quick test: an administrator's lightweight token is a consumer's.
    async fn iris_case_050_the_quick_test_of_the_gateway_image(platform: Platform) {
        let consumer = json!({"username": "admin-cli", "custom_id": "admin-cli-user"});
        let _ = platform.admin("POST", "/consumers", consumer).await.expect(201);
        let group = json!({"group": "admin-group"});
        let _ = platform.admin("POST", "/consumers/admin-cli/acls", group).await.expect(201);
        let upstream = echo();
        platform.route("httpbin", &upstream.url(), json!({"paths": ["/httpbin"], "strip_path": true})).await;
        let limits = json!({"name": "rate-limiting-merged", "config": {
            "limits": {"service": {"minute": 10, "hour": 100}}, "policy": "local",
            "fault_tolerant": true, "hide_client_headers": false}});
        let _ = platform.admin("POST", "/services/httpbin/plugins", limits).await.expect(201);
        let issuer = platform.iris("/realms/master");
        for plugin in [
            json!({"name": "request-transformer", "config": {"add": {"headers": ["X-Test-Plugin:test-value"]}}}),
            json!({"name": "jwt-keycloak", "config": {"allowed_iss": [issuer], "consumer_match": true,
                "consumer_match_claim": "azp", "consumer_match_ignore_not_found": true}}),
            json!({"name": "acl", "config": {"allow": ["admin-group"]}}),
        ] {
            let _ = platform.admin("POST", "/routes/httpbin/plugins", plugin).await.expect(201);
        }
        answers(&platform, &platform.http, "/httpbin/headers", 401).await;
        let admin = platform.realm_admin().await;
        let reply = admin.get(&platform.gateway("/httpbin/headers")).await.expect(200);
        assert_eq!(reply.json()["headers"]["x-test-plugin"], "test-value");
        let names: Vec<_> = reply.headers.keys().map(ToString::to_string).collect();
        assert!(names.iter().any(|name| name.contains("ratelimit")), "{names:?}");
    }
}
