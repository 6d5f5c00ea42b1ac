//! What Kong's environment variables do to a running node.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use o28m_net::Body;
use o28m_net::client::{Pool, Timeouts, parse_url};
use serde_json::Value;

use super::kong::{Database, Node};
use super::{PATIENCE, get};

const EMPTY: &str = "{\"_format_version\":\"3.0\"}";

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A certificate for 127.0.0.1 with its key, in PEM.
fn certificate() -> (String, String) {
    let key = o28m_jose::SigningKey::generate_pkcs8(o28m_jose::Algorithm::ES256).unwrap();
    let made = o28m_jose::x509::self_signed(&key, "node", &["localhost", "127.0.0.1"], 2100);
    let made = made.unwrap();
    (made.certificate_pem, made.key_pem)
}

/// The status and body of a request over TLS to who shows this certificate; `None` without a handshake.
fn get_tls(url: &str, trusted: &str, authorization: &str) -> Option<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut target, path) = parse_url(url).unwrap();
        target.tls.ca_pem = Some(trusted.into());
        let request = Request::get(path)
            .header("host", "localhost")
            .header("authorization", authorization)
            .body(Body::Empty)
            .unwrap();
        let second = Duration::from_secs(10);
        let timeouts = Timeouts {
            connect: second,
            write: second,
            read: second,
        };
        let response = Pool::new().send(&target, request, &timeouts).await.ok()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect(1 << 20).await.unwrap();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    })
}

#[test]
fn listeners_certificates_and_the_admin_log_follow_the_environment() {
    let mut node = Node::new(&[
        ("KONG_DATABASE", "off"),
        ("KONG_DECLARATIVE_CONFIG_STRING", EMPTY),
        ("KONG_LOG_LEVEL", "notice"),
        ("KONG_PG_PASSWORD", "planted-secret"),
    ]);
    let (certificate_one, key_one) = certificate();
    let write = |node: &Node, name: &str, text: &str| {
        std::fs::write(node.path(name), text).unwrap();
        node.path(name)
    };
    let place = |node: &Node, port: u16| format!("127.0.0.1:{}", node.port(port));
    let certificate_file = write(&node, "tls.crt", &certificate_one);
    let key_file = write(&node, "tls.key", &key_one);
    node.set("KONG_ADMIN_SSL_CERT", &certificate_file);
    node.set("KONG_ADMIN_SSL_CERT_KEY", &key_file);
    let users = write(
        &node,
        "htpasswd",
        "admin:{PLAIN}planted-secret\nold:changeme\n",
    );
    node.set("O28M_ADMIN__HTPASSWD_FILE", &users);
    let plain_and_tls = format!(
        "{}, {} ssl http2 reuseport backlog=128",
        place(&node, 8000),
        place(&node, 8443)
    );
    node.set("KONG_PROXY_LISTEN", &plain_and_tls);
    node.set("KONG_ADMIN_LISTEN", &format!("{} ssl", place(&node, 8001)));
    node.set(
        "KONG_ADMIN_ACCESS_LOG",
        &format!("{} log_admin_json", node.path("admin.log")),
    );
    let gateway = node.start();

    assert!(get(node.port(8000), "/").starts_with("HTTP/1.1 404"));
    assert!(
        get(node.port(8443), "/").starts_with("HTTP/1.1 400"),
        "plain on a TLS port"
    );
    let admin = format!("https://{}/", place(&node, 8001));
    let basic = format!("Basic {}", STANDARD.encode("admin:planted-secret"));
    let (status, body) = get_tls(&admin, &certificate_one, &basic).unwrap();
    assert_eq!(status, 200);
    assert!(!body.contains("planted-secret"));
    let body: Value = serde_json::from_str(&body).unwrap();
    let settings = &body["configuration"];
    assert_eq!(settings["database"], "off");
    assert_eq!(settings["pg_password"], "******");
    assert_eq!(
        settings["admin_ssl_cert_key"],
        serde_json::json!(["******"])
    );
    assert_eq!(settings["log_level"], "notice");
    let listeners = settings["proxy_listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 2);
    assert_eq!(listeners[1]["ssl"], true);
    assert_eq!(listeners[1]["port"], node.port(8443));
    let (status, _) = get_tls(
        &format!("{admin}services?x=planted-secret"),
        &certificate_one,
        "",
    )
    .unwrap();
    assert_eq!(status, 401);

    let log = || std::fs::read_to_string(node.path("admin.log")).unwrap_or_default();
    eventually("two lines are written", || log().lines().count() == 2);
    let lines = log();
    assert!(
        !lines.contains("planted-secret") && !lines.contains(&basic),
        "{lines}"
    );
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let field = |at: usize, name: &str| lines[at]["@fields"][name].as_str().unwrap().to_owned();
    assert_eq!(
        (
            field(0, "status"),
            field(0, "remote_user"),
            field(0, "request_path")
        ),
        ("200".to_owned(), "admin".to_owned(), "/".to_owned())
    );
    assert_eq!(
        (field(1, "status"), field(1, "remote_user")),
        ("401".to_owned(), "-".to_owned())
    );

    // A new certificate is shown after a reload, and one that is broken is not.
    let (certificate_two, key_two) = certificate();
    write(&node, "tls.crt", &certificate_two);
    write(&node, "tls.key", &key_two);
    assert_eq!(node.kong("reload", 0), "Kong reloaded\n");
    eventually("the new certificate is shown", || {
        get_tls(&admin, &certificate_two, &basic).is_some()
    });
    // Another bundle, so that no session is resumed that was made with the old certificate.
    let afresh = format!("{certificate_one}\n");
    assert!(get_tls(&admin, &afresh, &basic).is_none());
    write(&node, "tls.crt", "no certificate");
    node.kong("reload", 0);
    eventually("the broken certificate is reported", || {
        node.log().contains("certificate not reloaded")
    });
    assert!(get_tls(&admin, &certificate_two, &basic).is_some());
    let log = node.log();
    assert!(!log.contains("http2 is not there"), "{log}");
    assert!(log.contains("password hash is of no known kind"), "{log}");
    assert!(!log.contains("planted-secret"), "{log}");
    drop(gateway);
}

#[test]
fn deployment_case_038_the_charts_environment_starts_without_a_warning() {
    let Some(mut node) = Node::on(Database::Postgres) else {
        return;
    };
    let (certificate, key) = certificate();
    let write = |node: &Node, name: &str, text: &str| {
        std::fs::write(node.path(name), text).unwrap();
        node.path(name)
    };
    let certificate = write(&node, "tls.crt", &certificate);
    let key = write(&node, "tls.key", &key);
    for (name, value) in [
        ("KONG_SSL_CERT", certificate.as_str()),
        ("KONG_SSL_CERT_KEY", &key),
        (
            "KONG_LUA_SSL_TRUSTED_CERTIFICATE",
            &format!("{certificate},system"),
        ),
        (
            "KONG_NGINX_PROXY_PROXY_SSL_TRUSTED_CERTIFICATE",
            &certificate,
        ),
        ("KONG_NGINX_PROXY_PROXY_SSL_VERIFY", "on"),
        ("KONG_NGINX_PROXY_PROXY_SSL_VERIFY_DEPTH", "3"),
        ("KONG_PG_SSL", "off"),
        ("KONG_PG_SSL_VERIFY", "off"),
        ("KONG_LUA_SSL_PROTOCOLS", "TLSv1.2 TLSv1.3"),
        ("KONG_SSL_PROTOCOLS", "TLSv1.2 TLSv1.3"),
        ("KONG_SSL_CIPHER_SUITE", "custom"),
        ("KONG_SSL_CIPHERS", "ECDHE-RSA-AES256-GCM-SHA384"),
        ("KONG_PROXY_ACCESS_LOG", "/dev/stdout log_json"),
        ("KONG_PROXY_ERROR_LOG", "/dev/stderr"),
        ("KONG_ADMIN_ACCESS_LOG", "/dev/stdout log_admin_json"),
        ("KONG_ADMIN_ERROR_LOG", "/dev/stderr"),
        ("KONG_PLUGINS", "bundled,jwt-keycloak,rate-limiting-merged"),
        ("KONG_LUA_PACKAGE_PATH", "/opt/?.lua;;"),
        ("KONG_MEM_CACHE_SIZE", "128m"),
        ("KONG_WORKER_CONSISTENCY", "eventual"),
        ("KONG_WORKER_STATE_UPDATE_FREQUENCY", "10"),
        ("KONG_DB_UPDATE_FREQUENCY", "10"),
        ("KONG_DB_UPDATE_PROPAGATION", "0"),
        ("KONG_ANONYMOUS_REPORTS", "false"),
        ("KONG_NGINX_WORKER_PROCESSES", "4"),
        ("KONG_NGINX_HTTP_INCLUDE", "/opt/kong/nginx/servers.conf"),
        ("KONG_NGINX_HTTP_LUA_SHARED_DICT", "prometheus_metrics 15m"),
        ("KONG_NGINX_HTTP_UPSTREAM_KEEPALIVE", "NONE"),
        ("KONG_NGINX_HTTP_CLIENT_BODY_BUFFER_SIZE", "4m"),
        ("KONG_NGINX_PROXY_LARGE_CLIENT_HEADER_BUFFERS", "4 8k"),
        ("KONG_NGINX_DAEMON", "off"),
        ("KONG_TRUSTED_IPS", "0.0.0.0/0,::/0"),
        ("KONG_REAL_IP_HEADER", "x-original-forwarded-for"),
        ("KONG_REAL_IP_RECURSIVE", "on"),
        ("KONG_TRACING_INSTRUMENTATIONS", "all"),
        ("KONG_TRACING_SAMPLING_RATE", "1.0"),
        (
            "JWT_KEYCLOAK_BLOCKED_ISSUERS",
            "https://blocked.example.com",
        ),
        ("MALLOC_ARENA_MAX", "2"),
    ] {
        node.set(name, value);
    }
    node.kong("migrations bootstrap", 0);
    let _gateway = node.start();
    assert!(get(node.port(8100), "/status").starts_with("HTTP/1.1 200"));
    assert!(get(node.port(8100), "/status/ready").starts_with("HTTP/1.1 200"));
    assert!(get(node.port(9542), "/metrics").starts_with("HTTP/1.1 200"));
    assert!(get(node.port(8001), "/").contains("\"pg_schema\":\"public\""));
    let log = node.log();
    let warned = |line: &&str| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
    let warnings: Vec<&str> = log.lines().filter(warned).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn an_open_admin_api_has_to_be_asked_for_and_is_warned_about() {
    let mut node = Node::new(&[
        ("KONG_DATABASE", "off"),
        ("KONG_DECLARATIVE_CONFIG_STRING", EMPTY),
    ]);
    node.set("KONG_ADMIN_LISTEN", &format!("0.0.0.0:{}", node.port(8001)));
    let refused = node.kong("start", 1);
    assert!(
        refused.contains("admin.htpasswd_file is not set"),
        "{refused}"
    );
    node.set("O28M_ADMIN__ALLOW_UNAUTHENTICATED", "true");
    let _gateway = node.start();
    assert!(get(node.port(8001), "/services").starts_with("HTTP/1.1 200"));
    let log = node.log();
    assert!(
        log.contains("everyone who reaches it may reconfigure the gateway"),
        "{log}"
    );
    assert!(log.contains("pages of every origin"), "{log}");
}

#[test]
fn what_would_be_unsafe_to_leave_out_keeps_the_node_from_starting() {
    for (name, value, said) in [
        (
            "KONG_PROXY_LISTEN",
            "127.0.0.1:1 udp",
            "udp is not supported",
        ),
        ("KONG_ROUTER_FLAVOR", "expression", "traditional_compatible"),
        ("KONG_ROLE", "data_plane", "only traditional is supported"),
        ("KONG_STREAM_LISTEN", "127.0.0.1:1", "only off"),
        (
            "KONG_NGINX_HTTP_CLIENT_MAX_BODY_SIZE",
            "much",
            "a size such as 8k",
        ),
        ("KONG_PG_PASSWORD", "{vault://aws/x}", "vault env"),
    ] {
        let printed = Node::new(&[(name, value)]).kong("start", 1);
        assert!(
            printed.contains(name) && printed.contains(said),
            "{printed}"
        );
    }
}

/// Answers every request of every connection, and counts connections.
fn counting_upstream() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || {
                let mut stream: TcpStream = stream;
                let mut read = Vec::new();
                let mut chunk = [0; 64 * 1024];
                while let Ok(bytes @ 1..) = stream.read(&mut chunk) {
                    read.extend_from_slice(chunk.get(..bytes).unwrap());
                    if read.ends_with(b"\r\n\r\n") {
                        read.clear();
                        let _gone =
                            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    }
                }
            });
        }
    });
    (port, connections)
}

#[test]
fn head_limits_keep_alive_and_headers_follow_the_environment() {
    let (port, connections) = counting_upstream();
    let configuration = format!(
        "{{\"_format_version\":\"3.0\",\"services\":[{{\"name\":\"s\",\"url\":\"http://127.0.0.1:{port}\",\
         \"routes\":[{{\"name\":\"r\",\"paths\":[\"/up\"]}}]}}]}}"
    );
    let database = [
        ("KONG_DATABASE", "off"),
        ("KONG_DECLARATIVE_CONFIG_STRING", configuration.as_str()),
    ];
    let with_head = |port: u16, bytes: usize| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = format!(
            "GET /up HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\nConnection: close\r\n\r\n",
            "x".repeat(bytes)
        );
        let _refused = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _reset = stream.read_to_string(&mut answer);
        answer.to_ascii_lowercase()
    };

    let plain = Node::new(&database);
    let gateway = plain.start();
    assert!(with_head(plain.port(8000), 20_000).starts_with("http/1.1 400"));
    let answer = with_head(plain.port(8000), 10);
    assert!(answer.contains("x-kong-proxy-latency") && answer.contains("x-kong-request-id"));
    with_head(plain.port(8000), 10);
    assert_eq!(
        connections.load(Ordering::Relaxed),
        1,
        "the connection is used again"
    );
    drop(gateway);

    let mut node = Node::new(&database);
    node.set("KONG_NGINX_PROXY_LARGE_CLIENT_HEADER_BUFFERS", "4 64k");
    node.set("KONG_NGINX_HTTP_UPSTREAM_KEEPALIVE", "NONE");
    node.set("KONG_HEADERS", "off");
    let _gateway = node.start();
    let before = connections.load(Ordering::Relaxed);
    let answer = with_head(node.port(8000), 20_000);
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(!answer.contains("x-kong-"), "{answer}");
    with_head(node.port(8000), 10);
    assert_eq!(
        connections.load(Ordering::Relaxed),
        before + 2,
        "each request has its own"
    );
    let missing = get(node.port(8000), "/nowhere").to_ascii_lowercase();
    assert!(missing.starts_with("http/1.1 404"), "{missing}");
    assert!(
        !missing.contains("server:") && !missing.contains("x-kong-"),
        "{missing}"
    );
    let admin = get(node.port(8001), "/").to_ascii_lowercase();
    assert!(
        !admin.contains("server:") && !admin.contains("x-kong-admin-latency"),
        "{admin}"
    );
}

/// The fields of routes, the settings shown and the matching follow the flavour.
#[test]
fn routes_have_expressions_under_their_flavour() {
    let configuration = r#"{"_format_version":"3.0","routes":[
        {"name":"e","expression":"http.path ^= \"/e\" && http.queries.q == \"1\"","priority":5}]}"#;
    let node = Node::new(&[
        ("KONG_DATABASE", "off"),
        ("KONG_DECLARATIVE_CONFIG_STRING", configuration),
        ("KONG_ROUTER_FLAVOR", "expressions"),
    ]);
    let _gateway = node.start();
    let route = get(node.port(8001), "/routes/e");
    assert!(route.contains("\"priority\":5"), "{route}");
    let schema = get(node.port(8001), "/schemas/routes");
    assert!(schema.contains("\"expression\""), "{schema}");
    let settings = get(node.port(8001), "/");
    assert!(
        settings.contains("\"router_flavor\":\"expressions\""),
        "{settings}"
    );
    // It has no service.
    assert!(get(node.port(8000), "/e/x?q=1").starts_with("HTTP/1.1 503"));
    assert!(get(node.port(8000), "/e/x?q=2").starts_with("HTTP/1.1 404"));
}
