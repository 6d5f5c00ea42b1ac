//! HTTP/2 and gRPC through the platform.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use o28m_testkit::grpc::{GrpcUpstream, Health, Http2Client, call, message, next};
use o28m_testkit::{Pair, Platform, Upstream, eventually};
use serde_json::json;

const BOTH: &str = "127.0.0.1:0 http2, 127.0.0.1:0 ssl";

async fn platform() -> Platform {
    let settings = [
        ("proxy.listen", BOTH),
        ("proxy.tls_listen", "off"),
        ("upstream.tls.verify", "off"),
    ];
    Platform::start_with(None, &settings).await
}

fn address(platform: &Platform, key: &str) -> SocketAddr {
    let url = platform.credential(key);
    url.split_once("://").unwrap().1.parse().unwrap()
}

async fn client(platform: &Platform) -> Http2Client {
    Http2Client::connect(address(platform, "GATEWAY_URL")).await
}

async fn tls_client(platform: &Platform) -> Option<Http2Client> {
    Http2Client::connect_tls(address(platform, "GATEWAY_TLS_URL"), "localhost").await
}

/// TLS for an upstream that speaks HTTP/2 alone.
fn tls(certificate: &Pair) -> Arc<rustls::ServerConfig> {
    let mut config = certificate.server();
    Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn route(protocols: &[&str], path: &str) -> serde_json::Value {
    json!({"protocols": protocols, "paths": [path], "strip_path": false})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_case_022_grpc_routes_take_grpc_over_http2_and_grpcs_routes_over_tls() {
    let platform = platform().await;
    let upstream = GrpcUpstream::start(None).await;
    let url = format!("grpc://{}", upstream.address);
    platform
        .route("plain", &url, route(&["grpc"], "/plain."))
        .await;
    platform
        .route("tls", &url, route(&["grpcs"], "/tls."))
        .await;

    let http = platform.http.with("content-type", "application/grpc");
    let reply = http
        .send("POST", &platform.gateway("/plain.E/Echo"), "")
        .await
        .expect(426);
    assert_eq!(reply.json()["message"], "Please use HTTP2 protocol");
    assert_eq!(
        (reply.header("connection"), reply.header("upgrade")),
        ("Upgrade", "HTTP/2")
    );

    let client = client(&platform).await;
    let get = Request::get("http://a/plain.E/Echo").body(()).unwrap();
    let reply = client.send(get, Bytes::new()).await;
    assert_eq!(reply.status(), 415);
    let told: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(told["message"], "Non-gRPC request matched gRPC route");

    let reply = client.call("a", "/tls.E/Echo", &["x"]).await;
    assert_eq!((reply.status(), reply.header("grpc-status")), (200, "1"));
    assert_eq!(
        reply.header("grpc-message"),
        "gRPC request matched gRPCs route"
    );
    assert_eq!(reply.header("content-type"), "application/grpc");
    assert!(upstream.take().is_empty());
    let client = tls_client(&platform).await.unwrap();
    let reply = client.call("a", "/tls.E/Echo", &["x"]).await;
    assert_eq!((reply.status(), reply.trailer("grpc-status")), (200, "0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_case_050_calls_and_streams_pass_with_their_trailers() {
    let platform = platform().await;
    let secure = tls(&Pair::root("localhost"));
    for (name, scheme, tls) in [("plain", "grpc", None), ("tls", "grpcs", Some(secure))] {
        let upstream = GrpcUpstream::start(tls).await;
        let url = format!("{scheme}://{}", upstream.address);
        let prefix = format!("/{name}.");
        let mut changes = route(&["grpc", "grpcs"], &prefix);
        platform.route(name, &url, changes.clone()).await;
        let clients = [
            client(&platform).await,
            tls_client(&platform).await.unwrap(),
        ];
        for client in &clients {
            let path = format!("/{name}.E/Echo");
            let reply = client.call("api.example:81", &path, &["hello"]).await;
            assert_eq!(reply.status(), 200);
            assert_eq!(reply.body, message("hello"));
            assert_eq!(
                (reply.trailer("grpc-status"), reply.trailer("x-pieces")),
                ("0", "1")
            );
            assert_eq!(reply.header("content-type"), "application/grpc");
            assert_eq!(reply.header("x-kong-request-id").len(), 32);
            assert_ne!(reply.header("x-kong-upstream-latency"), "");
            let [called] = &upstream.take()[..] else {
                panic!("not called once")
            };
            let uri = &called.head.uri;
            assert_eq!(uri.path(), path);
            assert_eq!(
                uri.authority().unwrap().as_str(),
                upstream.address.to_string()
            );
            assert_eq!(
                uri.scheme_str(),
                Some(if scheme == "grpc" { "http" } else { "https" })
            );
            assert_eq!(called.head.headers["te"], "trailers");
            assert_eq!(called.head.headers["x-forwarded-host"], "api.example");
            assert_eq!(called.head.headers["content-type"], "application/grpc");

            let path = format!("/{name}.E/Thrice");
            let reply = client.call("a", &path, &["one"]).await;
            assert_eq!(reply.body, message("one").repeat(3));
            assert_eq!(reply.trailer("grpc-status"), "0");

            let path = format!("/{name}.E/Fail");
            let reply = client.call("a", &path, &["x"]).await;
            assert_eq!(
                (reply.header("grpc-status"), reply.header("grpc-message")),
                ("5", "nothing here")
            );
            let _others = upstream.take();
            collect(client, &format!("/{name}.E/Collect")).await;
            let [called] = &upstream.take()[..] else {
                panic!("not called once")
            };
            assert_eq!(called.trailers["x-sum"], "7");
            talk(client, &format!("/{name}.E/Echo")).await;
            let _others = upstream.take();
        }
        changes["preserve_host"] = json!(true);
        platform.route(name, &url, changes).await;
        let path = format!("/{name}.E/Echo");
        let _reply = clients[0].call("api.example:81", &path, &["x"]).await;
        let called = upstream.take();
        assert_eq!(called[0].head.uri.authority().unwrap(), "api.example:81");
    }
}

/// Many messages up, one answer, trailers both ways.
async fn collect(client: &Http2Client, path: &str) {
    let (response, mut up) = client.begin(call("a", path)).await;
    for at in 0..100 {
        up.send_data(message(&at.to_string()), false).unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    up.send_trailers(trailers).unwrap();
    let reply = o28m_testkit::grpc::read(response.await.unwrap()).await;
    let sent: Vec<_> = (0..100).map(|at| message(&at.to_string())).collect();
    assert_eq!(reply.body, sent.concat());
    assert_eq!(reply.trailer("grpc-status"), "0");
}

/// Each message is sent once the one before it was answered.
async fn talk(client: &Http2Client, path: &str) {
    let (response, mut up) = client.begin(call("a", path)).await;
    up.send_data(message("0"), false).unwrap();
    let (head, mut down) = response.await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    for at in 0..20 {
        assert_eq!(next(&mut down).await.unwrap(), message(&at.to_string()));
        up.send_data(message(&(at + 1).to_string()), at == 19)
            .unwrap();
    }
    assert_eq!(next(&mut down).await.unwrap(), message("20"));
    assert_eq!(next(&mut down).await, None);
    let trailers = down.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-pieces"], "21");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_requests_reach_http_services_as_http1_with_a_length() {
    let platform = platform().await;
    let upstream = Upstream::start(|request| {
        let mut response = Response::new(Bytes::from(format!(
            "{:?} {}",
            request.version(),
            request.body().len()
        )));
        response
            .headers_mut()
            .insert("connection", HeaderValue::from_static("x-gone"));
        response
            .headers_mut()
            .insert("x-gone", HeaderValue::from_static("1"));
        response
    });
    platform
        .route("echo", &upstream.url(), json!({"paths": ["/echo"]}))
        .await;
    let clients = [
        client(&platform).await,
        tls_client(&platform).await.unwrap(),
    ];
    for client in clients {
        let post = Request::post("https://api.example:9/echo/x?y=1");
        let post = post
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let (response, mut up) = client.begin(post).await;
        up.send_data(Bytes::from_static(b"abc"), false).unwrap();
        up.send_data(Bytes::from_static(b"de"), true).unwrap();
        let reply = o28m_testkit::grpc::read(response.await.unwrap()).await;
        assert_eq!((reply.status(), &reply.body[..]), (200, &b"HTTP/1.1 5"[..]));
        assert_eq!(reply.header("x-gone"), "");
        assert_eq!(reply.header("content-length"), "10");
        assert_eq!(reply.header("server"), "kong/3.9.3");
        let received = upstream.take().remove(0);
        let header = |name: &str| received.headers()[name].to_str().unwrap();
        assert_eq!(received.uri(), "/x?y=1");
        assert_eq!(header("content-length"), "5");
        assert_eq!(header("cookie"), "a=1; b=2");
        assert_eq!(header("x-forwarded-host"), "api.example");
        assert!(!received.headers().contains_key("te"));
    }
    // Without the flag neither listener speaks it.
    let one = [
        ("proxy.listen", "127.0.0.1:0, 127.0.0.1:0 ssl"),
        ("proxy.tls_listen", "off"),
    ];
    let platform = Platform::start_with(None, &one).await;
    assert!(tls_client(&platform).await.is_none());
    let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    preface.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let answer = o28m_testkit::raw(&platform.gateway(""), &preface).await;
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_grpc_for_grpc_calls() {
    let platform = platform().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("grpc://{gone}");
    platform
        .route("gone", &url, route(&["grpc"], "/gone."))
        .await;
    platform
        .route("locked", &url, route(&["grpc"], "/locked."))
        .await;
    let plugin = json!({"name": "key-auth"});
    let _ = platform
        .admin("POST", "/routes/locked/plugins", plugin)
        .await
        .expect(201);
    platform.applied().await;
    let client = client(&platform).await;
    for (path, status, code, text) in [
        ("/none.E/Echo", 404, "5", "NotFound"),
        ("/locked.E/Echo", 401, "16", "Unauthenticated"),
        (
            "/gone.E/Echo",
            502,
            "13",
            "An invalid response was received from the upstream server",
        ),
    ] {
        let reply = client.call("a", path, &["x"]).await;
        assert_eq!(reply.status(), status, "{path}");
        assert_eq!(
            (reply.header("grpc-status"), reply.header("grpc-message")),
            (code, text)
        );
        assert_eq!(reply.header("content-type"), "application/grpc");
        assert_eq!(reply.header("content-length"), "0");
        assert_eq!(reply.header("x-kong-request-id").len(), 32);
        assert!(reply.body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_balanced_and_sent_again_when_nobody_listens() {
    let platform = platform().await;
    let upstream = GrpcUpstream::start(None).await;
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let balanced = json!({"name": "calls.example"});
    let _ = platform
        .admin("POST", "/upstreams", balanced)
        .await
        .expect(201);
    for target in [gone, upstream.address] {
        let target = json!({"target": target.to_string()});
        let path = "/upstreams/calls.example/targets";
        let _ = platform.admin("POST", path, target).await.expect(201);
    }
    platform
        .route("calls", "grpc://calls.example", route(&["grpc"], "/calls."))
        .await;
    let client = client(&platform).await;
    for _ in 0..4 {
        let reply = client.call("a", "/calls.E/Collect", &["x", "y"]).await;
        assert_eq!((reply.status(), reply.trailer("grpc-status")), (200, "0"));
    }
    let called = upstream.take();
    assert_eq!(called.len(), 4);
    let authority = called[0].head.uri.authority().unwrap();
    assert_eq!(authority.as_str(), upstream.address.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_outlives_the_begin_of_a_drain() {
    let platform = platform().await;
    let upstream = GrpcUpstream::start(None).await;
    let url = format!("grpc://{}", upstream.address);
    platform
        .route("calls", &url, route(&["grpc"], "/calls."))
        .await;
    let client = client(&platform).await;
    let (response, mut up) = client.begin(call("a", "/calls.E/Echo")).await;
    up.send_data(message("0"), false).unwrap();
    let (_, mut down) = response.await.unwrap().into_parts();
    assert_eq!(next(&mut down).await.unwrap(), message("0"));
    let stopping = tokio::spawn(platform.stop());
    // New requests are refused before this one is over.
    let refused = async {
        while client.takes_more().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(o28m_testkit::PATIENCE, refused)
        .await
        .unwrap();
    up.send_data(message("1"), true).unwrap();
    assert_eq!(next(&mut down).await.unwrap(), message("1"));
    assert_eq!(next(&mut down).await, None);
    assert_eq!(down.trailers().await.unwrap().unwrap()["x-pieces"], "2");
    assert!(stopping.await.unwrap());
}

/// Has the platform ask this server alone, in the way of `active`, and be sure at the first answer.
async fn ask_always(platform: &Platform, name: &str, at: SocketAddr, active: &serde_json::Value) {
    let mut active = active.clone();
    active["healthy"] = json!({"interval": 0.02, "successes": 1});
    active["unhealthy"]["interval"] = json!(0.02);
    let body = json!({"host_header": "up.example", "healthchecks": {"active": active}});
    let path = format!("/upstreams/{name}");
    let _ = platform.admin("PUT", &path, body).await.expect(200);
    let target = json!({"target": at.to_string()});
    let path = format!("{path}/targets");
    let _ = platform.admin("POST", &path, target).await.expect(201);
}

async fn becomes(platform: &Platform, name: &str, wanted: &str) {
    let path = format!("/upstreams/{name}/health");
    let what = format!("{name} to be {wanted}");
    eventually(&what, async || {
        let told = platform
            .admin("GET", &path, json!(null))
            .await
            .expect(200)
            .json();
        (told["data"][0]["health"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_health_checks_find_out_over_both_transports() {
    let files = tempfile::tempdir().unwrap();
    let root = Pair::root("authority");
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &root.pem).unwrap();
    let settings = [("upstream.tls.ca", ca.to_str().unwrap())];
    let platform = Platform::start_with(None, &settings).await;
    let secure = tls(&root.issue("up.example"));
    let answers = [
        Health::NotServing,
        Health::Unimplemented,
        Health::WithoutTrailers,
        Health::NotGrpc,
        Health::Endless,
        Health::Reset,
    ];
    for (kind, tls) in [("grpc", None), ("grpcs", Some(secure))] {
        let upstream = GrpcUpstream::start(tls).await;
        let headers = json!({"authorization": ["Bearer x"], "content-length": ["7"]});
        let active = json!({"type": kind, "headers": headers, "unhealthy": {"http_failures": 1}});
        ask_always(&platform, kind, upstream.address, &active).await;
        for health in answers {
            upstream.set_health(health);
            becomes(&platform, kind, "UNHEALTHY").await;
            upstream.set_health(Health::Serving);
            becomes(&platform, kind, "HEALTHY").await;
        }
        let called = upstream.take().pop().unwrap().head;
        assert_eq!(called.method, "POST");
        assert_eq!(called.uri.path(), "/grpc.health.v1.Health/Check");
        assert_eq!(called.uri.authority().unwrap().as_str(), "up.example");
        assert_eq!(called.headers["content-type"], "application/grpc");
        assert_eq!(called.headers["te"], "trailers");
        assert_eq!(called.headers["authorization"], "Bearer x");
        assert!(!called.headers.contains_key("content-length"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_health_checks_count_silence_and_refused_connections_as_such() {
    let platform = platform().await;
    let upstream = GrpcUpstream::start(None).await;
    let active = json!({"type": "grpc", "timeout": 0.2, "unhealthy": {"timeouts": 1}});
    ask_always(&platform, "silent", upstream.address, &active).await;
    let active = json!({"type": "grpc", "unhealthy": {"tcp_failures": 1}});
    ask_always(&platform, "gone", upstream.address, &active).await;
    upstream.set_health(Health::Silent);
    becomes(&platform, "silent", "UNHEALTHY").await;
    upstream.set_health(Health::Serving);
    becomes(&platform, "silent", "HEALTHY").await;
    becomes(&platform, "gone", "HEALTHY").await;
    drop(upstream);
    becomes(&platform, "gone", "UNHEALTHY").await;
    // Nobody speaks HTTP/2 there.
    let plain = Upstream::ok();
    let at = plain.url().split_once("://").unwrap().1.parse().unwrap();
    let active = json!({"type": "grpc", "unhealthy": {"http_failures": 1, "tcp_failures": 1}});
    ask_always(&platform, "plain", at, &active).await;
    becomes(&platform, "plain", "UNHEALTHY").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcs_health_checks_verify_whom_they_ask() {
    let platform = platform().await;
    let upstream = GrpcUpstream::start(Some(tls(&Pair::root("up.example")))).await;
    let failures = json!({"tcp_failures": 1});
    let mut active = json!({"type": "grpcs", "unhealthy": failures});
    ask_always(&platform, "up", upstream.address, &active).await;
    becomes(&platform, "up", "UNHEALTHY").await;
    assert!(upstream.take().is_empty());
    active["https_verify_certificate"] = json!(false);
    let body = json!({"healthchecks": {"active": active}});
    let _ = platform
        .admin("PATCH", "/upstreams/up", body)
        .await
        .expect(200);
    becomes(&platform, "up", "HEALTHY").await;
    // Over TLS too, HTTP/1 alone is not enough.
    let other = Upstream::ok();
    let at = other.url().split_once("://").unwrap().1.parse().unwrap();
    ask_always(&platform, "plain", at, &active).await;
    becomes(&platform, "plain", "UNHEALTHY").await;
}
