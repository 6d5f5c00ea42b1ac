//! Malformed, hostile and oversize input: a clear answer, nothing forwarded, nothing half-written.

use o28m_testkit::{Database, Platform, Upstream, raw};
use serde_json::json;

async fn platform_with_route() -> (Platform, Upstream) {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let upstream = Upstream::ok();
    platform
        .route("echo", &upstream.url(), json!({"paths": ["/echo"]}))
        .await;
    (platform, upstream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smuggling_shapes_never_reach_the_upstream() {
    let (platform, upstream) = platform_with_route().await;
    let vectors: &[(&str, &str, u16)] = &[
        (
            "both lengths",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "two lengths",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            400,
        ),
        (
            "equal lengths twice",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            400,
        ),
        (
            "signed length",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
            400,
        ),
        (
            "list length",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
            400,
        ),
        (
            "coding twice",
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "unknown coding",
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            501,
        ),
        (
            "1.0 chunked",
            "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "folded header",
            "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
            400,
        ),
        (
            "space before colon",
            "GET /echo HTTP/1.1\r\nHost : a\r\n\r\n",
            400,
        ),
        ("bare LF", "GET /echo HTTP/1.1\nHost: a\n\n", 400),
        (
            "bare CR",
            "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            400,
        ),
        ("no host", "GET /echo HTTP/1.1\r\n\r\n", 400),
        (
            "two hosts",
            "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            400,
        ),
        (
            "NUL in value",
            "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            400,
        ),
        ("connect", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        ("trace", "TRACE /echo HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("garbage", "\x16\x03\x01\x02\0\x01\0\r\n\r\n", 400),
    ];
    for (name, request, status) in vectors {
        let answer = raw(platform.credential("GATEWAY_URL"), request.as_bytes()).await;
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&wanted), "{name}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{name}: one answer, then close"
        );
    }
    assert!(upstream.take().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_climb_or_do_not_decode_are_refused() {
    let (platform, upstream) = platform_with_route().await;
    for path in [
        "/echo/%",
        "/echo/%zz",
        "/echo/%00",
        "/../echo",
        "/%2e%2e/echo",
    ] {
        let reply = platform.http.get(&platform.gateway(path)).await.expect(400);
        assert!(
            reply.text().contains("Bad request"),
            "{path}: {}",
            reply.text()
        );
    }
    assert!(upstream.take().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversize_heads_and_bodies_are_named() {
    let (platform, upstream) = platform_with_route().await;
    let long = "x".repeat(9000);
    let line = format!("GET /echo?{long} HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = raw(platform.credential("GATEWAY_URL"), line.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 414 ") && answer.contains("URI too long"),
        "{answer}"
    );

    let header = format!("GET /echo HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n");
    let answer = raw(platform.credential("GATEWAY_URL"), header.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.contains("Request header or cookie too large"),
        "{answer}"
    );

    // The set-up limits bodies on the proxy to 10 MB.
    let head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\nConnection: close\r\n\r\n";
    let answer = raw(platform.credential("GATEWAY_URL"), head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("Request size limit exceeded"), "{answer}");
    assert!(upstream.take().is_empty());

    let huge = vec![b' '; 11 * 1024 * 1024];
    let user = platform.credential("GATEWAY_ADMIN_USERNAME");
    let admin = platform
        .http
        .basic(user, platform.credential("GATEWAY_ADMIN_PASSWORD"));
    let url = format!("{}/services", platform.credential("GATEWAY_ADMIN_URL"));
    let _ = admin
        .with("content-type", "application/json")
        .send("POST", &url, huge)
        .await
        .expect(413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_bodies_of_the_wrong_shape_write_nothing() {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let count = async || {
        let list = platform
            .admin("GET", "/services", json!(null))
            .await
            .expect(200)
            .json();
        list["data"].as_array().unwrap().len()
    };
    let before = count().await;
    let user = platform.credential("GATEWAY_ADMIN_USERNAME");
    let admin = platform
        .http
        .basic(user, platform.credential("GATEWAY_ADMIN_PASSWORD"));
    let url = format!("{}/services", platform.credential("GATEWAY_ADMIN_URL"));
    for body in [
        "{",
        "[]",
        "null",
        "7",
        "\"x\"",
        "{\"host\":7}",
        "{\"host\":\"a\",\"nope\":1}",
    ] {
        let client = admin.with("content-type", "application/json");
        let reply = client.send("POST", &url, body).await.expect(400);
        assert!(
            reply.json()["message"].is_string(),
            "{body}: {}",
            reply.text()
        );
    }
    let _ = admin
        .with("content-type", "text/weird")
        .send("POST", &url, "host=a")
        .await
        .expect(415);
    let _ = platform
        .http
        .json("POST", &url, json!({"host": "a"}))
        .await
        .expect(401);
    assert_eq!(count().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_bodies_of_the_wrong_shape_write_nothing() {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let admin = platform.realm_admin().await;
    let realms = platform.iris("/admin/realms");
    let before = admin
        .get(&realms)
        .await
        .expect(200)
        .json()
        .as_array()
        .unwrap()
        .len();
    for body in [
        "{",
        "nope",
        "[]",
        "{\"realm\":7}",
        "{\"realm\":\"x\",\"nosuchfield\":1}",
        "{}",
    ] {
        let client = admin.with("content-type", "application/json");
        let _ = client.send("POST", &realms, body).await.expect(400);
    }
    let _ = admin
        .send("POST", &realms, "{\"realm\":\"x\"}")
        .await
        .expect(415);
    assert_eq!(
        admin
            .get(&realms)
            .await
            .expect(200)
            .json()
            .as_array()
            .unwrap()
            .len(),
        before
    );

    let token = platform.iris("/realms/rover/protocol/openid-connect/token");
    let form = platform
        .http
        .with("content-type", "application/x-www-form-urlencoded");
    let huge = format!("client_id={}", "x".repeat(2 * 1024 * 1024));
    let _ = form.send("POST", &token, huge).await.expect(413);
    let odd = "client_id=%00%ff&grant_type=client_credentials";
    let reply = form.send("POST", &token, odd).await;
    assert!(
        matches!(reply.status.as_u16(), 400 | 401),
        "{}",
        reply.status
    );
}
