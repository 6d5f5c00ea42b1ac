//! What the settings of the data plane do to a running node, by their names in Kong.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use serde_json::json;

use super::kong::Node;
use super::{PATIENCE, get};

/// An upstream that answers a request with the begin of a body and, when it is told to, with its end.
fn slow_upstream() -> (u16, Receiver<String>, Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (begun, begins) = channel();
    let (go_on, told) = channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegin";
            let _gone = stream.write_all(answer.as_bytes());
            if begun
                .send(String::from_utf8_lossy(&head).into_owned())
                .is_err()
            {
                return;
            }
            let _ended = told.recv();
            let _gone = stream.write_all(b"+end.");
        }
    });
    (port, begins, go_on)
}

/// A node without a database whose only route leads to a port.
fn node(upstream: u16, environment: &[(&str, &str)]) -> Node {
    let entities = json!({
        "_format_version": "3.0",
        "services": [{
            "name": "s", "host": "127.0.0.1", "port": upstream,
            "routes": [{"name": "r", "paths": ["/"], "request_buffering": false}],
        }],
    });
    let mut node = Node::new(&[
        ("KONG_DATABASE", "off"),
        ("KONG_DECLARATIVE_CONFIG_STRING", &entities.to_string()),
        ("KONG_ADMIN_LISTEN", "off"),
        ("O28M_NODE__ROLES", "proxy"),
    ]);
    for (name, value) in environment {
        node.set(name, value);
    }
    node
}

/// Sends bytes and reads until the server closes; empty when nobody is there.
fn talk(port: u16, bytes: &[u8]) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return String::new();
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _refused_early = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn proxy_case_063_a_response_outlives_the_signal_and_draining_is_told() {
    for signal in ["TERM", "QUIT"] {
        let (upstream, begins, go_on) = slow_upstream();
        let node = node(upstream, &[]);
        let mut running = node.start();
        let (proxy, status) = (node.port(8000), node.port(8100));
        assert!(get(status, "/status/ready").starts_with("HTTP/1.1 200"));
        let busy = std::thread::spawn(move || get(proxy, "/"));
        begins.recv_timeout(PATIENCE).unwrap();
        if signal == "QUIT" {
            let said = node.kong("drain", 0);
            assert_eq!(said, "Kong's status successfully changed to 'draining'\n");
        }
        let body = "{\"status\":\"draining\"}";
        let length = body.len();
        let told = talk(
            status,
            format!(
                "POST /status/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        assert!(told.starts_with("HTTP/1.1 204"), "{told}");
        let ready = get(status, "/status/ready");
        assert!(
            ready.starts_with("HTTP/1.1 503") && ready.ends_with("{\"message\":\"draining\"}"),
            "{ready}"
        );
        running.signal(signal);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", proxy)).is_ok() {
            assert!(Instant::now() < deadline, "the listener stays");
            std::thread::yield_now();
        }
        go_on.send(()).unwrap();
        let answer = busy.join().unwrap();
        assert!(answer.ends_with("\r\n\r\nbegin+end."), "{answer}");
        assert_eq!(running.exit_code(), Some(0));
    }
}

#[test]
fn kongs_settings_of_the_data_plane_are_in_force() {
    let (upstream, begins, go_on) = slow_upstream();
    let mut node = node(
        upstream,
        &[
            ("KONG_NGINX_HTTP_CLIENT_MAX_BODY_SIZE", "1k"),
            ("KONG_HEADERS", "X-Kong-Upstream-Status,Server"),
            ("KONG_HEADERS_UPSTREAM", "off"),
            ("KONG_ALLOW_DEBUG_HEADER", "on"),
            ("KONG_TRUSTED_IPS", "127.0.0.1"),
            ("KONG_REAL_IP_HEADER", "proxy_protocol"),
            ("KONG_NGINX_PROXY_GZIP", "on"),
            ("KONG_NGINX_HTTP_KEEPALIVE_REQUESTS", "1"),
            ("O28M_PROXY__SERVER_TOKEN", "gateway"),
        ],
    );
    let proxy = node.port(8000);
    let template = node.path("error.txt");
    std::fs::write(&template, "%s (%s)\n").unwrap();
    let log = node.path("access.log");
    node.set("KONG_ERROR_TEMPLATE_PLAIN", &template);
    node.set("KONG_PROXY_ACCESS_LOG", &format!("{log} kong_log_format"));
    node.set(
        "KONG_PROXY_LISTEN",
        &format!("127.0.0.1:{proxy} proxy_protocol"),
    );
    node.set("KONG_PORT_MAPS", &format!("80:{proxy}"));
    let running = node.start();
    assert_eq!(talk(proxy, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "");
    let announced = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n";
    let large = format!("{announced}POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2048\r\n\r\n");
    let answer = talk(proxy, large.as_bytes());
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("Server: gateway\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\n\r\nPayload too large ("), "{answer}");
    assert!(!answer.contains("X-Kong-"), "{answer}");
    go_on.send(()).unwrap();
    let get = format!("{announced}GET / HTTP/1.1\r\nHost: a\r\nKong-Debug: 1\r\n\r\n");
    // The only request of its connection: nobody has to ask for its end.
    let answer = talk(proxy, get.as_bytes());
    for line in [
        "X-Kong-Upstream-Status: 200\r\n",
        "Kong-Route-Name: r\r\n",
        "Connection: close\r\n",
        "\r\n\r\nbegin+end.",
    ] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    let head = begins.recv_timeout(PATIENCE).unwrap().to_ascii_lowercase();
    for line in ["x-forwarded-port: 80\r\n", "x-real-ip: 192.0.2.7\r\n"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(!head.contains("x-kong-request-id"), "{head}");
    let deadline = Instant::now() + PATIENCE;
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    while lines().lines().count() < 2 {
        assert!(Instant::now() < deadline, "{}", lines());
        std::thread::yield_now();
    }
    assert!(lines().contains("192.0.2.7 - - ["), "{}", lines());
    assert!(
        lines().contains("\"GET / HTTP/1.1\" 200 10 \"-\" \"-\" kong_request_id: \""),
        "{}",
        lines()
    );
    assert!(
        node.log().contains("KONG_NGINX_PROXY_GZIP"),
        "{}",
        node.log()
    );
    drop(running);
}

#[test]
fn settings_that_cannot_be_used_are_named_before_anything_starts() {
    let mut node = node(1, &[]);
    let three = node.path("three.json");
    std::fs::write(&three, "%s %s %s").unwrap();
    for (name, value, said) in [
        (
            "KONG_STREAM_LISTEN",
            "0.0.0.0:9000",
            "KONG_STREAM_LISTEN: only off",
        ),
        (
            "KONG_ERROR_TEMPLATE_JSON",
            &*three,
            "proxy.errors.template_json",
        ),
        (
            "KONG_ERROR_TEMPLATE_XML",
            "/nowhere",
            "proxy.errors.template_xml",
        ),
        ("KONG_NGINX_HTTP_CHARSET", "a b", "proxy.charset"),
        ("KONG_TRUSTED_IPS", "nobody", "proxy.trusted_ips"),
        ("KONG_PORT_MAPS", "80", "KONG_PORT_MAPS"),
        (
            "KONG_NGINX_PROXY_LARGE_CLIENT_HEADER_BUFFERS",
            "many",
            "KONG_NGINX_PROXY_LARGE",
        ),
        ("KONG_LUA_MAX_URI_ARGS", "0", "KONG_LUA_MAX_URI_ARGS"),
        ("KONG_CLIENT_SSL", "on", "upstream.tls.cert"),
    ] {
        node.set(name, value);
        let mut check = node.command("");
        check.arg0("o28m").args(["config", "check"]);
        let output = check.output().unwrap();
        let printed = super::text(&output.stdout) + &super::text(&output.stderr);
        assert!(
            !output.status.success() && printed.contains(said),
            "{name}: {printed}"
        );
        let printed = node.kong("start", 1);
        assert!(printed.contains(said), "{name}: {printed}");
        node.unset(name);
    }
}
