//! Phases, order, selection and failures of plugins (spec gateway-plugins 1).

use std::sync::{Arc, Mutex};

use http::{HeaderValue, Response, StatusCode};
use o28m_gateway::{
    Access, BadConfig, Credential, Exchange, Plugin, PluginKind, Source, Verdict, errors,
};
use o28m_net::Body;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::*;

/// What plugins did, in order.
type Journal = Arc<Mutex<Vec<String>>>;

/// A kind whose instances do what their configuration says and write it down.
struct Kind {
    name: &'static str,
    priority: i32,
    journal: Journal,
}

struct Instance {
    name: &'static str,
    config: Value,
    journal: Journal,
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        self.name
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        if config["do"] == "refuse to start" {
            return Err(BadConfig("as told".to_owned()));
        }
        Ok(Arc::new(Instance {
            name: self.name,
            config: config.clone(),
            journal: self.journal.clone(),
        }))
    }
}

impl Instance {
    fn note(&self, phase: &str) {
        let label = self.config["label"].as_str().unwrap_or_default();
        self.journal
            .lock()
            .unwrap()
            .push(format!("{phase} {}{label}", self.name));
    }
}

impl Plugin for Instance {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        self.note("access");
        match self.config["do"].as_str().unwrap_or_default() {
            "authenticate" => {
                let consumer = exchange.snapshot.consumer_by_custom_id("shop").cloned();
                exchange.consumer = consumer;
                exchange.credential = Some(Credential {
                    id: None,
                    identifier: None,
                });
                Access::CONTINUE
            }
            "answer" => {
                let body = json!({"message": "stop"});
                Access::Now(Verdict::Respond(errors::exit(StatusCode::FORBIDDEN, &body)))
            }
            "wait" => Access::Later(Box::pin(async {
                tokio::task::yield_now().await;
                Verdict::Respond(Response::new(Body::full("late")))
            })),
            "panic" => panic!("as told"),
            "panic later" => Access::Later(Box::pin(async {
                tokio::task::yield_now().await;
                panic!("as told")
            })),
            "same host" => {
                let host = HeaderValue::from_static("a.example.com");
                exchange.request.headers.insert("host", host);
                Access::CONTINUE
            }
            "rewrite" => {
                let headers = &mut exchange.request.headers;
                headers.insert("x-added", HeaderValue::from_static("1"));
                headers.insert("host", HeaderValue::from_static("other.example.com"));
                exchange.request.uri = "/ignored?changed".parse().unwrap();
                exchange.upstream_path = Some("/else%20where".to_owned());
                Access::CONTINUE
            }
            _ => Access::CONTINUE,
        }
    }

    fn header_filter(&self, _: &mut Exchange, response: &mut http::response::Parts) {
        self.note("header_filter");
        match self.config["do"].as_str().unwrap_or_default() {
            "panic in header_filter" => panic!("as told"),
            "teapot" => response.status = StatusCode::IM_A_TEAPOT,
            _ => {}
        }
        response
            .headers
            .append("x-filtered", HeaderValue::from_static(self.name));
    }

    fn log(&self, exchange: &Exchange) {
        let status = exchange.status.map_or(0, |it| it.as_u16());
        let source = exchange.source;
        self.note(&format!("log {status} {source:?}"));
        assert_ne!(self.config["do"], "panic in log", "as told");
    }
}

pub(crate) fn setup() -> (Setup, Journal) {
    let journal = Journal::default();
    let kind = |name, priority| -> Arc<dyn PluginKind> {
        let journal = journal.clone();
        Arc::new(Kind {
            name,
            priority,
            journal,
        })
    };
    // On purpose not in order.
    let kinds = vec![
        kind("late", 10),
        kind("rate", 910),
        kind("rate-merged", 910),
        kind("auth", 1005),
        kind("cors", 2000),
    ];
    let setup = Setup {
        kinds,
        ..Setup::default()
    };
    (setup, journal)
}

fn take(journal: &Journal) -> Vec<String> {
    std::mem::take(&mut *journal.lock().unwrap())
}

fn global(name: &str, config: Value) -> (&'static str, Value) {
    ("plugins", plugin(name, name, config, json!({})))
}

#[tokio::test]
async fn phases_run_in_order_of_priority_and_names() {
    let (setup, journal) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    let names = ["late", "rate", "rate-merged", "auth", "cors"];
    running
        .put(&names.map(|name| global(name, json!({}))))
        .await;
    let reply = running.get("/").await;
    assert_eq!(
        reply.header("x-filtered").as_deref(),
        Some("cors|auth|rate-merged|rate|late")
    );
    let order = ["cors", "auth", "rate-merged", "rate", "late"];
    let phase = |phase: &str| order.map(|name| format!("{phase} {name}")).to_vec();
    let expected = [
        phase("access"),
        phase("header_filter"),
        phase("log 200 Service"),
    ]
    .concat();
    eventually("the log phase", || {
        journal.lock().unwrap().len() == expected.len()
    })
    .await;
    assert_eq!(take(&journal), expected);
}

#[tokio::test]
async fn proxy_case_058_consumer_scope_counts_after_authentication() {
    let (setup, journal) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    let shop = json!({"id": id("shop"), "username": null, "custom_id": "shop"});
    let of_shop = json!({"consumer": {"id": id("shop")}});
    let of_route = json!({"route": {"id": id("r")}});
    running
        .put(&[
            ("consumers", shop),
            global("auth", json!({"do": "authenticate"})),
            (
                "plugins",
                plugin("1", "cors", json!({"label": " of route"}), of_route.clone()),
            ),
            (
                "plugins",
                plugin(
                    "2",
                    "cors",
                    json!({"label": " of consumer"}),
                    of_shop.clone(),
                ),
            ),
            (
                "plugins",
                plugin("3", "rate", json!({"label": " of route"}), of_route),
            ),
            (
                "plugins",
                plugin("4", "rate", json!({"label": " of consumer"}), of_shop),
            ),
        ])
        .await;
    running.get("/").await;
    let did = take(&journal);
    assert_eq!(
        did[..3],
        [
            "access cors of route",
            "access auth",
            "access rate of consumer"
        ]
    );
    running.delete("plugins", "4").await;
    running.get("/").await;
    assert!(take(&journal).contains(&"access rate of route".to_owned()));
}

#[tokio::test]
async fn proxy_case_059_plugins_after_an_answer_still_see_the_response() {
    for (what, status, source) in [("answer", 403, "Exit"), ("wait", 200, "Exit")] {
        let (setup, journal) = setup();
        let upstream = Upstream::ok();
        let running = start_for(&upstream, setup).await;
        running
            .put(&[
                global("auth", json!({"do": what})),
                global("late", json!({})),
            ])
            .await;
        let reply = running.get("/").await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("x-filtered").as_deref(), Some("auth|late"));
        assert!(reply.header("x-kong-response-latency").is_some());
        let expected = [
            "access auth".to_owned(),
            "header_filter auth".to_owned(),
            "header_filter late".to_owned(),
            format!("log {status} {source} auth"),
            format!("log {status} {source} late"),
        ];
        assert_eq!(take(&journal), expected);
        assert!(upstream.take().is_empty());
    }
}

#[tokio::test]
async fn proxy_case_040_panics_are_500_and_logged() {
    for what in ["panic", "panic later"] {
        let (setup, journal) = setup();
        let upstream = Upstream::ok();
        let running = start_for(&upstream, setup).await;
        running
            .put(&[
                global("auth", json!({"do": what})),
                global("late", json!({})),
            ])
            .await;
        let reply = running.get("/").await;
        assert_eq!(reply.status, 500);
        assert_eq!(reply.body, "{\"message\":\"An unexpected error occurred\"}");
        assert!(take(&journal).contains(&"log 500 Error late".to_owned()));
        assert!(
            running
                .metrics
                .render()
                .contains("o28m_gateway_plugin_panics_total 1")
        );
        assert!(upstream.take().is_empty());
    }
}

#[tokio::test]
async fn panics_after_the_answer_cost_nothing_but_themselves() {
    let (setup, journal) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    running
        .put(&[
            global("cors", json!({"do": "panic in header_filter"})),
            global("auth", json!({"do": "panic in log"})),
            global("late", json!({"do": "teapot"})),
        ])
        .await;
    let reply = running.get("/").await;
    assert_eq!((reply.status, reply.body.as_str()), (418, "hello"));
    assert_eq!(reply.header("x-filtered").as_deref(), Some("auth|late"));
    eventually("the log phase", || {
        journal
            .lock()
            .unwrap()
            .contains(&"log 418 Service late".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_plugin_that_cannot_be_configured_closes_its_scope() {
    let (setup, _) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    let of_route = json!({"route": {"id": id("r")}});
    let bad = plugin(
        "p",
        "auth",
        json!({"do": "refuse to start"}),
        of_route.clone(),
    );
    let other = route("other", "s", json!({"paths": ["/other"]}));
    running.put(&[("plugins", bad), ("routes", other)]).await;
    assert_eq!(running.get("/").await.status, 500);
    assert_eq!(running.get("/other").await.status, 200);
    running
        .put(&[("plugins", plugin("p", "auth", json!({}), of_route))])
        .await;
    assert_eq!(running.get("/").await.status, 200);
}

#[tokio::test]
async fn disabled_plugins_do_not_exist() {
    let (setup, journal) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    let off = json!({"enabled": false, "route": {"id": id("r")}});
    let unknown = plugin("x", "no-such-plugin", json!({}), json!({"enabled": false}));
    let documents = [
        (
            "plugins",
            plugin("1", "auth", json!({"label": " of route"}), off),
        ),
        global("auth", json!({"label": " global"})),
        ("plugins", unknown),
    ];
    running.put(&documents).await;
    assert_eq!(running.get("/").await.status, 200);
    assert_eq!(take(&journal)[0], "access auth global");
}

#[tokio::test]
async fn a_plugin_that_this_build_lacks_closes_its_scope() {
    let (setup, journal) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    let other = route("other", "s", json!({"paths": ["/other"]}));
    let scope = json!({"route": {"id": id("r")}});
    let unknown = plugin("x", "no-such-plugin", json!({}), scope.clone());
    let documents = [
        ("routes", other),
        ("plugins", unknown),
        global("auth", json!({"label": " global"})),
    ];
    running.put(&documents).await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 500);
    assert_eq!(
        reply.json(),
        json!({"message": "An unexpected error occurred"})
    );
    // Those before it ran, and all of them see the end.
    assert_eq!(take(&journal)[0], "access auth global");
    assert_eq!(running.get("/other").await.status, 200);
    assert_eq!(upstream.take().len(), 1);
    let skipped = "o28m_config_skipped_entities{kind=\"plugins\"}";
    assert!(running.metrics.render().contains(&format!("{skipped} 1")));
    // Loading everything again does not open it.
    running.gateway.load(&running.store).await.unwrap();
    assert_eq!(running.get("/").await.status, 500);
    let of_consumer = json!({"consumer": {"id": id("c")}});
    let unknown = plugin("x", "no-such-plugin", json!({}), of_consumer);
    running.put(&[("plugins", unknown)]).await;
    assert_eq!(running.get("/").await.status, 200);
    let consumer = json!({"id": id("c"), "username": "c", "custom_id": "shop"});
    let auth = plugin("auth", "auth", json!({"do": "authenticate"}), json!({}));
    running
        .put(&[("consumers", consumer), ("plugins", auth)])
        .await;
    assert_eq!(running.get("/").await.status, 500);
    running.delete("plugins", "x").await;
    assert_eq!(running.get("/").await.status, 200);
    assert!(running.metrics.render().contains(&format!("{skipped} 0")));
}

#[tokio::test]
async fn unrouted_requests_meet_global_plugins_without_access() {
    let (setup, journal) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    let of_route = json!({"route": {"id": id("r")}});
    let only = route(
        "r",
        "s",
        json!({"paths": ["/only"], "protocols": ["https"]}),
    );
    let local = plugin("1", "late", json!({}), of_route);
    running
        .put(&[
            global("cors", json!({})),
            ("plugins", local),
            ("routes", only),
        ])
        .await;
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: a", 404),
        ("GET /only HTTP/1.1\r\nHost: a", 426),
        ("GET / HTTP/1.1", 400),
        ("TRACE / HTTP/1.1\r\nHost: a", 405),
    ] {
        let reply = running.send(head).await;
        assert_eq!(reply.status, status);
        assert_eq!(
            reply.header("x-filtered").as_deref(),
            Some("cors"),
            "{head}"
        );
        let expected = [
            "header_filter cors".to_owned(),
            format!("log {status} Error cors"),
        ];
        assert_eq!(take(&journal), expected);
    }
}

#[tokio::test]
async fn proxy_case_018_plugins_run_before_a_missing_service_is_noticed() {
    let (setup, journal) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    running
        .put(&[("routes", route("r", "", json!({"paths": ["/"]})))])
        .await;
    running
        .put(&[global("auth", json!({"do": "answer"}))])
        .await;
    assert_eq!(running.get("/").await.status, 403);
    running.put(&[global("auth", json!({}))]).await;
    take(&journal);
    let reply = running.get("/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.json()["message"],
        "no Service found with those values"
    );
    assert_eq!(
        take(&journal),
        ["access auth", "header_filter auth", "log 503 Error auth"]
    );
}

#[tokio::test]
async fn what_plugins_change_is_what_is_sent() {
    let (setup, _) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    running
        .put(&[global("auth", json!({"do": "rewrite"}))])
        .await;
    running.get("/x?original").await;
    let request = upstream.one();
    assert_eq!(request.uri().to_string(), "/else%20where?changed");
    assert_eq!(
        header(&request, "host").as_deref(),
        Some("other.example.com")
    );
    assert_eq!(header(&request, "x-added").as_deref(), Some("1"));
    assert_eq!(
        header(&request, "x-forwarded-host").as_deref(),
        Some("a.example.com")
    );
}

#[tokio::test]
async fn a_host_that_a_plugin_sets_counts_even_when_it_is_the_clients() {
    let (setup, _) = setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    running.get("/").await;
    assert_eq!(
        header(&upstream.one(), "host"),
        Some(upstream.address.to_string())
    );
    running
        .put(&[global("auth", json!({"do": "same host"}))])
        .await;
    running.get("/").await;
    assert_eq!(
        header(&upstream.one(), "host").as_deref(),
        Some("a.example.com")
    );
}

#[tokio::test]
async fn the_log_phase_runs_once_when_the_client_leaves() {
    let (setup, journal) = setup();
    let (address, _) = misbehaving(|mut stream, _| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        if head.starts_with("GET /body") {
            let start = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome";
            stream.write_all(start).await.unwrap();
        }
        read_until(&mut stream, "never sent").await;
    })
    .await;
    let running = start(setup).await;
    let service = service("s", address.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"], "strip_path": false}));
    let documents = [
        ("services", service),
        ("routes", route),
        global("late", json!({})),
    ];
    running.put(&documents).await;
    for (target, wait_for, entry) in [
        ("/head", "access late", "log 499 Error late"),
        ("/body", "header_filter late", "log 200 Service late"),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        if target == "/body" {
            read_until(&mut stream, "some").await;
        }
        let holds = |entry: &str| journal.lock().unwrap().iter().any(|it| it == entry);
        eventually("the request", || holds(wait_for)).await;
        drop(stream);
        eventually("the log phase", || holds(entry)).await;
        let logged = take(&journal)
            .into_iter()
            .filter(|it| it.starts_with("log"));
        assert_eq!(logged.collect::<Vec<_>>(), [entry]);
    }
    assert!(
        running
            .metrics
            .render()
            .contains("o28m_gateway_aborted_requests_total 1")
    );
}

#[test]
fn the_default_source_is_our_own_error() {
    assert_eq!(Source::default(), Source::Error);
}
