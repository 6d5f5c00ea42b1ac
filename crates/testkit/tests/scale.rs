//! Several nodes on one database: changes reach every one of them, whatever happens to notifications,
//! load or processes (spec gateway-admin 19 and its cases 73, 77 and 79). How fast at full size is what
//! `o28m-bench scale` and `o28m-bench changes` measure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use o28m_gateway_admin::declarative::Mode;
use o28m_store::{Settings, Store};
use o28m_testkit::{Client, Database, Link, Platform, Upstream, eventually};
use serde_json::{Value, json};

/// Longer than a test waits: what arrives was not found by looking every so often.
const NO_POLLING: (&str, &str) = ("sync.poll_interval", "10m");

fn server(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split_once('/').unwrap().0.parse().unwrap()
}

/// The same database over a link, which has to be able to read along.
fn through(url: &str, link: SocketAddr) -> String {
    let (before, rest) = url.split_once('@').unwrap();
    let (_, name) = rest.split_once('/').unwrap();
    format!("{before}@{link}/{name}?sslmode=disable")
}

async fn put(platform: &Platform, path: &str, body: Value) {
    let _ = platform.admin("PUT", path, body).await.expect(200);
}

/// Makes a service and a route on one node, and waits until the other one routes.
async fn change(writer: &Platform, reader: &Platform, upstream: &str, name: &str) {
    put(
        writer,
        &format!("/services/{name}"),
        json!({"url": upstream}),
    )
    .await;
    let path = format!("/services/{name}/routes/{name}");
    put(writer, &path, json!({"paths": [format!("/{name}")]})).await;
    let url = reader.gateway(&format!("/{name}"));
    eventually("the change to arrive", async || {
        (reader.http.get(&url).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_case_073_a_change_is_live_on_the_other_node_without_polling() {
    let Some(url) = o28m_store::testing::postgres_url().await else {
        return;
    };
    let one = Platform::start_with(Some(url.clone()), &[NO_POLLING]).await;
    let two = one.replica_on(url, &[NO_POLLING]).await;
    let provider = Upstream::ok();
    for round in 0..5 {
        change(&one, &two, &provider.url(), &format!("forth-{round}")).await;
        change(&two, &one, &provider.url(), &format!("back-{round}")).await;
    }
}

/// As behind a pooler in transaction mode: everything works but notifications.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_case_073_without_notifications_changes_are_found_by_looking_often() {
    let Some(url) = o28m_store::testing::postgres_url().await else {
        return;
    };
    let one = Platform::start_with(Some(url.clone()), &[]).await;
    let link = Link::to(server(&url)).await;
    link.deafen();
    // Whatever the interval is meant for: without notifications it is a second at most.
    let two = one
        .replica_on(through(&url, link.address()), &[NO_POLLING])
        .await;
    let provider = Upstream::ok();
    for round in 0..3 {
        change(&one, &two, &provider.url(), &format!("forth-{round}")).await;
    }
}

/// A connection that is dead and does not say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_case_073_notifications_that_stop_are_missed() {
    let Some(url) = o28m_store::testing::postgres_url().await else {
        return;
    };
    let one = Platform::start_with(Some(url.clone()), &[]).await;
    let link = Link::to(server(&url)).await;
    let interval = ("sync.poll_interval", "3s");
    let two = one
        .replica_on(through(&url, link.address()), &[interval])
        .await;
    let provider = Upstream::ok();
    change(&one, &two, &provider.url(), "heard").await;
    link.deafen();
    for round in 0..3 {
        change(&one, &two, &provider.url(), &format!("unheard-{round}")).await;
    }
}

/// Constant load on some nodes.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(nodes: &[&Platform], path: &str) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            sent: Arc::default(),
            failed: Arc::default(),
            tasks: Vec::new(),
        };
        for node in nodes {
            for _ in 0..4 {
                let (client, url) = (node.http.clone(), node.gateway(path));
                let (stop, sent) = (load.stop.clone(), load.sent.clone());
                let failed = load.failed.clone();
                load.tasks.push(tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let reply = client.try_send(http::Method::GET, &url, "").await;
                        let reply = reply.map(|reply| (reply.status, reply.body));
                        let at = sent.fetch_add(1, Ordering::Relaxed);
                        if !matches!(reply, Ok((http::StatusCode::OK, _))) {
                            failed.lock().unwrap().push(format!("{at}: {reply:?}"));
                        }
                    }
                }));
            }
        }
        load
    }

    /// Ends it.
    ///
    /// # Panics
    /// When a request failed, or too few were sent to say so.
    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(sent > 100, "{sent}");
        assert_eq!(*self.failed.lock().unwrap(), [""; 0], "of {sent}");
    }
}

/// A landscape as a control plane makes it, small.
fn landscape(routes: usize) -> String {
    let mut services = Vec::new();
    for at in 0..routes {
        let plugins = [
            "acl",
            "jwt-keycloak",
            "request-transformer",
            "rate-limiting-merged",
        ];
        let plugins = plugins.map(|plugin| {
            let config = match plugin {
                "acl" => json!({"allow": ["a"]}),
                "jwt-keycloak" => json!({"allowed_iss": ["https://issuer.example.com"]}),
                "request-transformer" => json!({"append": {"headers": [format!("x-route:{at}")]}}),
                _ => json!({"limits": {"service": {"second": 100}}}),
            };
            let tags = [format!("route--r{at}"), format!("plugin--{plugin}")];
            let tags = tags
                .into_iter()
                .chain(["env--e".into(), "consumer--none".into()]);
            json!({"name": plugin, "config": config, "tags": tags.collect::<Vec<_>>()})
        });
        let path = format!("/landscape/{at}");
        let route = json!({"name": format!("r{at}"), "paths": [path], "plugins": plugins});
        services
            .push(json!({"name": format!("s{at}"), "host": "a.example.com", "routes": [route]}));
    }
    json!({"_format_version": "3.0", "services": services}).to_string()
}

/// Imports a configuration into the database of running nodes.
async fn import(url: &str, text: &str) {
    let command = [("database.url".to_owned(), url.to_owned())];
    let sources = o28m::config::Sources {
        file: None,
        environment: BTreeMap::new(),
        command: command.into_iter().collect(),
    };
    let config = o28m::config::load(&sources).unwrap();
    let store = Store::open(&o28m::platform::store_settings(&config))
        .await
        .unwrap();
    let declarative = o28m::platform::declarative(&config, &store, &o28m::ambient::system());
    let document = serde_json::from_str(text).unwrap();
    let imported = declarative.import(document, Mode::Merge).await.unwrap();
    assert!(!imported.changes.is_empty());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_case_077_changes_under_load_fail_no_request_and_all_arrive() {
    let Some(url) = o28m_store::testing::postgres_url().await else {
        return;
    };
    let one = Platform::start_with(Some(url.clone()), &[NO_POLLING]).await;
    let two = one.replica_on(url.clone(), &[NO_POLLING]).await;
    let provider = Upstream::ok();
    one.route("load", &provider.url(), json!({"paths": ["/load"]}))
        .await;
    two.applied().await;
    let load = Load::on(&[&one, &two], "/load");
    // Many changes at once from a third process, then many one by one.
    import(&url, &landscape(100)).await;
    for round in 0..30 {
        let (writer, reader) = if round % 2 == 0 {
            (&one, &two)
        } else {
            (&two, &one)
        };
        change(writer, reader, &provider.url(), &format!("change-{round}")).await;
    }
    let tags = "env--e,route--r7,plugin--acl,consumer--none";
    for node in [&one, &two] {
        let found = node
            .admin("GET", &format!("/plugins?tags={tags}"), Value::Null)
            .await;
        let found = found.expect(200).json();
        assert_eq!(found["data"].as_array().unwrap().len(), 1, "{found}");
        // A route of the landscape asks for a token.
        let _ = node
            .http
            .get(&node.gateway("/landscape/7"))
            .await
            .expect(401);
    }
    load.finish().await;
}

/// A burst is one step or few, and the last change of it is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_case_077_a_burst_of_changes_starves_nobody() {
    let Some(one) = Platform::start(Database::Postgres).await else {
        return;
    };
    let two = one.replica().await;
    let provider = Upstream::ok();
    change(&one, &two, &provider.url(), "burst").await;
    // The node that was written to need not be the first that routes.
    one.applied().await;
    let load = Load::on(&[&one, &two], "/burst");
    for round in 0..100 {
        let paths = json!({"paths": ["/burst", format!("/burst-{round}")]});
        put(&one, "/services/burst/routes/burst", paths).await;
        if round % 25 == 0 {
            let url = two.gateway(&format!("/burst-{round}"));
            eventually("a change of the burst", async || {
                (two.http.get(&url).await.status == 200).then_some(())
            })
            .await;
        }
    }
    let last = two.gateway("/burst-99");
    eventually("the last change", async || {
        (two.http.get(&last).await.status == 200).then_some(())
    })
    .await;
    let _ = two.http.get(&two.gateway("/burst-98-")).await.expect(200);
    load.finish().await;
}

const NODE_DIR: &str = "O28M_TESTKIT_NODE_DIR";
const NODE_DATABASE: &str = "O28M_TESTKIT_NODE_DATABASE";

/// No test: what [`Node`] runs in a process of its own, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_is_killed() {
    let (Ok(dir), Ok(url)) = (std::env::var(NODE_DIR), std::env::var(NODE_DATABASE)) else {
        return;
    };
    let command = [
        ("database.url".to_owned(), url),
        ("node.worker_threads".to_owned(), "1".to_owned()),
        ("log.level".to_owned(), "error".to_owned()),
    ];
    let options = o28m::up::Options {
        data_dir: dir.into(),
        ports: o28m::up::Ports::Any,
        zone: "zone1".to_owned(),
        sources: o28m::config::Sources {
            file: None,
            environment: BTreeMap::new(),
            command: command.into_iter().collect(),
        },
    };
    let _running = o28m::up::start(options, o28m::ambient::system())
        .await
        .unwrap();
    std::future::pending::<()>().await;
}

/// A node in a process of its own.
struct Node(Child);

impl Node {
    fn start(dir: &Path, database_url: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node_that_is_killed"])
            .env(NODE_DIR, dir)
            .env(NODE_DATABASE, database_url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// Without a chance to finish anything.
    fn kill(mut self) {
        self.0.kill().unwrap();
        let _status = self.0.wait().unwrap();
    }
}

/// What the node wrote about itself when it was ready.
async fn credentials(dir: &Path) -> BTreeMap<String, String> {
    let file = dir.join("credentials.env");
    eventually("the node to be ready", async || {
        let text = std::fs::read_to_string(&file).ok()?;
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let all: BTreeMap<_, _> = lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let status = format!("{}/status/ready", all.get("STATUS_URL")?);
        let reply = Client::default()
            .try_send(http::Method::GET, &status, "")
            .await;
        reply.is_ok_and(|reply| reply.status == 200).then_some(all)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_case_079_a_process_killed_after_the_commit_has_not_lost_the_change() {
    let Some(url) = o28m_store::testing::postgres_url().await else {
        return;
    };
    let link = Link::to(server(&url)).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &through(&url, link.address()));
    let known = credentials(dir.path()).await;
    let admin = Client::default().basic(
        &known["GATEWAY_ADMIN_USERNAME"],
        &known["GATEWAY_ADMIN_PASSWORD"],
    );
    let provider = Upstream::ok();
    let at = |path: &str| format!("{}{path}", known["GATEWAY_ADMIN_URL"]);
    let service = json!({"url": provider.url()});
    let _ = admin
        .json("PUT", &at("/services/kept"), service)
        .await
        .expect(200);

    link.hold_commits();
    let path = at("/services/kept/routes/kept");
    let answer = tokio::spawn(async move {
        let route = json!({"paths": ["/kept"]}).to_string();
        let client = admin.with("content-type", "application/json");
        client.try_send(http::Method::PUT, &path, route).await
    });
    let settings = Settings {
        url: url.clone(),
        schema: "o28m".to_owned(),
        pool_max: 2,
        connect_timeout: Duration::from_secs(5),
        poll_interval: Duration::from_secs(60),
    };
    let store = Store::open(&settings).await.unwrap();
    eventually("the commit", async || {
        store
            .get_by_key("routes", "", "name", "kept")
            .await
            .unwrap()
    })
    .await;
    node.kill();
    assert!(answer.await.unwrap().is_err(), "there was no answer");

    let platform = Platform::start_in(dir, Some(url), &[]).await;
    let found = platform.admin("GET", "/routes/kept", Value::Null).await;
    assert_eq!(found.expect(200).json()["paths"], json!(["/kept"]));
    let _ = platform
        .http
        .get(&platform.gateway("/kept"))
        .await
        .expect(200);
    // Nothing of the dead process is in the way of writers.
    platform
        .route("next", &provider.url(), json!({"paths": ["/next"]}))
        .await;
    let _ = platform
        .http
        .get(&platform.gateway("/next"))
        .await
        .expect(200);
}
