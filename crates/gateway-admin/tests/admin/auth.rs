use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use o28m_gateway_admin::{Settings, htpasswd};
use o28m_telemetry::metrics::Registry;
use serde_json::json;

use crate::harness::{self, Admin};

/// An Admin API whose users are in this file; the directory is removed at the end.
async fn protected(file: &str) -> (Admin, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".htpasswd");
    std::fs::write(&path, file).unwrap();
    let settings = Settings {
        htpasswd_file: Some(path),
        ..harness::settings()
    };
    (Admin::with(None, settings).await, dir)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

async fn status(admin: &Admin, method: &str, path: &str, authorization: &str) -> u16 {
    let headers = [("authorization", authorization)];
    admin.raw(method, path, &headers, b"").await.status
}

fn line(user: &str, password: &str, scheme: htpasswd::Scheme) -> String {
    htpasswd::line(user, password, scheme, harness::ambient().rng.as_ref()).unwrap()
}

#[tokio::test]
async fn admin_case_001_credentials_come_before_everything() {
    let (admin, _dir) = protected(&line("admin", "key", htpasswd::Scheme::Apr1)).await;
    let reply = admin.get("/services").await.expect(401);
    assert_eq!(
        reply.header("www-authenticate"),
        "Basic realm=\"Administrator Area\""
    );
    assert_eq!(reply.body, r#"{"message":"Unauthorized"}"#);
    let html = admin
        .raw("GET", "/services", &[("accept", "text/html")], b"")
        .await
        .expect(401);
    assert_eq!(html.header("content-type"), "text/html");
    for (method, path) in [
        ("OPTIONS", "/services"),
        ("GET", "/nope"),
        ("DELETE", "/services"),
    ] {
        let _ = admin.raw(method, path, &[], b"").await.expect(401);
    }
}

#[tokio::test]
async fn admin_case_002_wrong_credentials_are_as_good_as_none() {
    let (admin, _dir) = protected(&line("admin", "key", htpasswd::Scheme::Apr1)).await;
    let wrong = [
        basic("admin", "wrong"),
        basic("nobody", "key"),
        basic("admin", ""),
        "Bearer x".to_owned(),
        "Basic".to_owned(),
        "Basic !!!".to_owned(),
        format!("Basic {}", STANDARD.encode("no colon")),
    ];
    for authorization in wrong {
        assert_eq!(
            status(&admin, "GET", "/", &authorization).await,
            401,
            "{authorization}"
        );
    }
    assert_eq!(
        status(&admin, "GET", "/", &basic("admin", "key")).await,
        200
    );
    let lower = basic("admin", "key").replace("Basic", "basic");
    assert_eq!(status(&admin, "GET", "/", &lower).await, 200);
    assert_eq!(
        status(&admin, "GET", "/nope", &basic("admin", "key")).await,
        404
    );
}

#[tokio::test]
async fn admin_case_003_every_scheme_lets_its_user_in() {
    let schemes = [
        ("a", htpasswd::Scheme::Apr1),
        ("b", htpasswd::Scheme::Bcrypt),
        ("c", htpasswd::Scheme::Sha),
        ("d", htpasswd::Scheme::Ssha),
    ];
    let mut file = String::new();
    for (user, scheme) in schemes {
        file.push_str(&line(user, "key", scheme));
        file.push('\n');
    }
    file.push_str("e:$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA\n");
    file.push_str("f:{PLAIN}key\n");
    let (admin, _dir) = protected(&file).await;
    for user in ["a", "b", "c", "d", "f"] {
        assert_eq!(
            status(&admin, "GET", "/", &basic(user, "key")).await,
            200,
            "{user}"
        );
        assert_eq!(
            status(&admin, "GET", "/", &basic(user, "yek")).await,
            401,
            "{user}"
        );
    }
    assert_eq!(status(&admin, "GET", "/", &basic("e", "secret")).await, 200);
}

#[tokio::test]
async fn admin_case_004_plain_text_lets_nobody_in() {
    let (admin, _dir) = protected("admin:changeme\n").await;
    assert_eq!(
        status(&admin, "GET", "/", &basic("admin", "changeme")).await,
        401
    );
}

#[tokio::test]
async fn a_changed_file_counts_within_a_second() {
    let (admin, dir) = protected(&line("admin", "old", htpasswd::Scheme::Sha)).await;
    assert_eq!(
        status(&admin, "GET", "/", &basic("admin", "old")).await,
        200
    );
    let file = line("admin", "new", htpasswd::Scheme::Sha);
    std::fs::write(dir.path().join(".htpasswd"), file).unwrap();
    let changed = tokio::time::timeout(Duration::from_secs(5), async {
        while status(&admin, "GET", "/", &basic("admin", "new")).await != 200 {}
    });
    changed.await.unwrap();
    // What was verified before is forgotten with the file.
    assert_eq!(
        status(&admin, "GET", "/", &basic("admin", "old")).await,
        401
    );
    std::fs::remove_file(dir.path().join(".htpasswd")).unwrap();
    let gone = tokio::time::timeout(Duration::from_secs(5), async {
        while status(&admin, "GET", "/", &basic("admin", "new")).await != 401 {}
    });
    gone.await.unwrap();
}

/// How many passwords were hashed.
fn checks(registry: &Registry) -> u64 {
    let name = "o28m_admin_password_checks_total";
    registry.counter(name, "", &[]).get()
}

#[tokio::test]
async fn a_slow_hash_is_paid_once() {
    let (admin, _dir) = protected(&line("admin", "key", htpasswd::Scheme::Bcrypt)).await;
    let registry = Registry::default();
    admin.service.count_in(&registry);
    let authorization = basic("admin", "key");
    for _ in 0..20 {
        assert_eq!(
            status(&admin, "GET", "/config-version", &authorization).await,
            200
        );
    }
    assert_eq!(checks(&registry), 1);
    assert_eq!(status(&admin, "GET", "/", &basic("admin", "x")).await, 401);
    assert_eq!(status(&admin, "GET", "/", &basic("admin", "x")).await, 401);
    assert_eq!(checks(&registry), 3, "what is wrong is not remembered");
    // Caches can be dropped.
    assert_eq!(
        status(&admin, "DELETE", "/cache", &authorization).await,
        204
    );
    assert_eq!(status(&admin, "GET", "/", &authorization).await, 200);
    assert_eq!(checks(&registry), 4);
}

#[tokio::test]
async fn whoever_guesses_passwords_is_slowed_down() {
    let (admin, _dir) = protected(&line("admin", "key", htpasswd::Scheme::Sha)).await;
    let right = basic("admin", "key");
    assert_eq!(status(&admin, "GET", "/", &right).await, 200);
    let mut statuses = Vec::new();
    for at in 0..60 {
        let wrong = basic("admin", &format!("guess{at}"));
        let headers = [("authorization", wrong.as_str())];
        let reply = admin.raw("GET", "/", &headers, b"").await;
        if reply.status == 429 {
            assert_eq!(reply.header("retry-after"), "1");
        }
        statuses.push(reply.status);
    }
    assert_eq!(statuses[..20], [401; 20]);
    assert!(statuses.contains(&429), "{statuses:?}");
    // Whoever proved the password before is not locked out by a guesser beside it.
    assert_eq!(status(&admin, "GET", "/", &right).await, 200);
    // No credentials at all are no guess.
    let _ = admin.get("/").await.expect(401);
}

/// A user who may do everything, and one who may only read.
async fn with_reader() -> (Admin, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".htpasswd");
    let users = ["admin", "reader"].map(|user| line(user, "key", htpasswd::Scheme::Sha));
    std::fs::write(&path, users.join("\n")).unwrap();
    let settings = Settings {
        htpasswd_file: Some(path),
        read_only_users: vec!["reader".to_owned()],
        ..harness::settings()
    };
    (Admin::with(None, settings).await, dir)
}

#[tokio::test]
async fn readers_change_nothing_and_see_no_secrets() {
    let (admin, _dir) = with_reader().await;
    let send = async |user: &str, method: &str, path: &str, body: &str| {
        let authorization = basic(user, "key");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        admin.raw(method, path, &headers, body.as_bytes()).await
    };
    let plugin = r#"{"name":"request-transformer","config":{"replace":{"headers":["Authorization:Basic c2VjcmV0","x-a:1"]}}}"#;
    let path = "/plugins/0d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7";
    let _ = send("admin", "PUT", path, plugin).await.expect(200);
    for (method, path, body) in [
        ("PUT", path, plugin),
        ("POST", "/services", r#"{"host":"h"}"#),
        ("PATCH", path, "{}"),
        ("DELETE", path, ""),
        ("DELETE", "/cache", ""),
        ("PUT", "/debug/node/log-level/debug", ""),
        ("INVENTED", "/services", ""),
    ] {
        let reply = send("reader", method, path, body).await.expect(403);
        assert_eq!(reply.message(), "This user may only read");
    }
    let seen = send("reader", "GET", path, "").await.expect(200);
    let headers = &seen.value()["config"]["replace"]["headers"];
    assert_eq!(*headers, json!(["Authorization:******", "x-a:1"]));
    assert_eq!(seen.header("content-length"), seen.body.len().to_string());
    let list = send("reader", "GET", "/plugins", "").await.expect(200);
    assert!(!list.body.contains("c2VjcmV0"));
    let own = send("admin", "GET", path, "").await.expect(200);
    assert!(own.body.contains("Basic c2VjcmV0"));
    // Checking a document changes nothing.
    let check = "/schemas/services/validate";
    let _ = send("reader", "POST", check, r#"{"host":"h"}"#)
        .await
        .expect(200);
    let _ = send("reader", "OPTIONS", "/services", "").await.expect(204);
    let _ = send("reader", "HEAD", "/services", "").await.expect(200);
}

#[tokio::test]
async fn the_process_itself_needs_no_credentials() {
    let (admin, _dir) = protected("").await;
    admin
        .service
        .put("/services/s", json!({"host": "h"}))
        .await
        .unwrap();
    let refused = admin
        .service
        .put("/services/t", json!({}))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the Admin API answered 400: schema violation (host: required field missing)"
    );
    assert_eq!(status(&admin, "GET", "/", &basic("admin", "")).await, 401);
}

#[tokio::test]
async fn requests_from_inside_the_process_need_credentials_too() {
    let (admin, _dir) = protected(&line("admin", "key", htpasswd::Scheme::Sha)).await;
    let request = |authorization: &str| {
        http::Request::get("/services")
            .header("authorization", authorization)
            .body(o28m_net::Body::Empty)
            .unwrap()
    };
    let service = admin.service.as_ref();
    let refused = harness::in_process(service, request("Bearer x")).await;
    assert_eq!(refused.status(), 401);
    let passed = harness::in_process(service, request(&basic("admin", "key"))).await;
    assert_eq!(passed.status(), 200);
}

#[tokio::test]
async fn many_clients_with_one_slow_password_all_get_in() {
    let (admin, _dir) = protected(&line("admin", "key", htpasswd::Scheme::Bcrypt)).await;
    let admin = std::sync::Arc::new(admin);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let admin = std::sync::Arc::clone(&admin);
        tasks
            .spawn(async move { status(&admin, "GET", "/services", &basic("admin", "key")).await });
    }
    assert!(
        tasks
            .join_all()
            .await
            .into_iter()
            .all(|status| status == 200)
    );
}
