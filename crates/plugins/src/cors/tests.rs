use http::Request;
use serde_json::json;

use super::*;
use crate::testing::{access, exchange};

fn plugin(config: Value) -> Arc<dyn Plugin> {
    Kind.configure(&config).unwrap()
}

/// Status (0 when it was proxied) and the headers of the response, names in lower case.
async fn send(
    config: Value,
    request: http::request::Builder,
    upstream: &[(&str, &str)],
) -> (u16, Vec<(String, String)>) {
    let plugin = plugin(config);
    let mut exchange = exchange(request.body(Body::Empty).unwrap());
    let (status, mut head) = match access(plugin.as_ref(), &mut exchange).await {
        Verdict::Continue => {
            let mut response = Response::builder();
            for (name, value) in upstream {
                response = response.header(*name, *value);
            }
            (0, response.body(()).unwrap().into_parts().0)
        }
        Verdict::Respond(response) => {
            let head = response.into_parts().0;
            (head.status.as_u16(), head)
        }
    };
    plugin.header_filter(&mut exchange, &mut head);
    let mut headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (status, headers)
}

fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    headers.iter().map(owned).collect()
}

fn from(origin: &str) -> http::request::Builder {
    Request::get("/").header("origin", origin)
}

fn preflight(origin: &str) -> http::request::Builder {
    Request::options("/")
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
}

async fn allowed(config: Value, origin: &str) -> Option<String> {
    let (_, headers) = send(config, from(origin), &[]).await;
    let mut found = headers.into_iter();
    found.find_map(|(name, value)| (name == "access-control-allow-origin").then_some(value))
}

#[tokio::test]
async fn plugins_case_076_origins_are_compared() {
    let config = || json!({"origins": ["foo\\.test"]});
    let normalised = Some("http://foo.test".to_owned());
    assert_eq!(allowed(config(), "http://foo.test:80").await, normalised);
    for other in ["http://evilfoo.test", "http://foo.test.evil", "null"] {
        assert_eq!(allowed(config(), other).await, None, "{other}");
    }
    let fixed = json!({"origins": ["foo.test"]});
    let told = allowed(fixed, "http://evil.test").await;
    assert_eq!(told.as_deref(), Some("foo.test"));
}

#[tokio::test]
async fn a_list_may_hold_origins_hosts_and_expressions() {
    let config = || {
        json!({"origins": [
            "http://a.test:8080", "https://b.test:443", "(.*[.])?c\\.test", "^https://d\\d\\.test$",
            "e\\.test|f\\.test",
        ]})
    };
    for (origin, told) in [
        ("http://a.test:8080", Some("http://a.test:8080")),
        ("http://a.test", None),
        ("https://b.test", Some("https://b.test")),
        ("http://x.c.test:9", Some("http://x.c.test:9")),
        ("http://xc.test", None),
        ("https://d1.test", Some("https://d1.test")),
        ("http://d1.test", None),
        ("http://e.test.evil", None),
        ("http://f.test", Some("http://f.test")),
        ("http://f.test@evil.test", None),
        ("http://[::1]:80", None),
    ] {
        let found = allowed(config(), origin).await;
        assert_eq!(found.as_deref(), told, "{origin}");
    }
}

#[tokio::test]
async fn plugins_case_077_a_preflight_is_answered() {
    let (status, headers) = send(json!({}), preflight("http://a.test"), &[]).await;
    assert_eq!(status, 200);
    let expected = [
        ("access-control-allow-methods", ALL_METHODS),
        ("access-control-allow-origin", "*"),
    ];
    assert_eq!(headers, pairs(&expected));
}

#[tokio::test]
async fn a_preflight_is_told_all_that_is_configured() {
    let config = json!({
        "origins": ["http://a.test", "http://b.test"], "headers": ["A", "B"], "methods": ["GET"],
        "max_age": 3600, "credentials": true, "private_network": true, "exposed_headers": ["X"],
    });
    let request = preflight("http://a.test")
        .header("access-control-request-private-network", "true")
        .header("access-control-request-headers", "C");
    let (status, headers) = send(config, request, &[]).await;
    assert_eq!(status, 200);
    let expected = [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-headers", "A,B"),
        ("access-control-allow-methods", "GET"),
        ("access-control-allow-origin", "http://a.test"),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "3600"),
        ("vary", "Origin"),
    ];
    assert_eq!(headers, pairs(&expected));
    let asked = preflight("http://a.test").header("access-control-request-headers", "c, d");
    let (_, headers) = send(json!({}), asked, &[]).await;
    let echoed = ("access-control-allow-headers".into(), "c, d".into());
    assert!(headers.contains(&echoed), "{headers:?}");
}

#[tokio::test]
async fn the_upstream_may_answer_preflights() {
    let config = json!({"preflight_continue": true});
    let upstream = [("access-control-allow-origin", "http://up.test")];
    let (status, headers) = send(config, preflight("http://a.test"), &upstream).await;
    assert_eq!((status, headers), (0, pairs(&upstream)));
}

#[tokio::test]
async fn responses_of_others_lose_permissions_and_keep_their_vary() {
    let config = json!({
        "origins": ["http://a.test", "http://b.test"], "credentials": true,
        "exposed_headers": ["X", "Y"],
    });
    let upstream = [
        ("access-control-allow-origin", "http://evil.test"),
        ("vary", "Accept"),
    ];
    let (_, headers) = send(config, from("http://evil.test"), &upstream).await;
    let expected = [
        ("access-control-expose-headers", "X,Y"),
        ("vary", "Accept"),
        ("vary", "Origin"),
    ];
    assert_eq!(headers, pairs(&expected));
}

#[tokio::test]
async fn credentials_for_everybody_name_the_caller() {
    let config = || json!({"credentials": true});
    let (_, headers) = send(config(), from("http://a.test"), &[]).await;
    let expected = [
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-origin", "http://a.test"),
        ("vary", "Origin"),
    ];
    assert_eq!(headers, pairs(&expected));
    let (_, headers) = send(config(), Request::get("/"), &[]).await;
    assert_eq!(headers, pairs(&[("access-control-allow-origin", "*")]));
}

#[tokio::test]
async fn requests_without_origin_may_get_nothing() {
    let config = json!({"allow_origin_absent": false, "exposed_headers": ["X"]});
    let (_, headers) = send(config, Request::get("/"), &[]).await;
    assert_eq!(headers, Vec::new());
    let listed = json!({"origins": ["*", "http://a.test"]});
    let (_, headers) = send(listed.clone(), Request::get("/"), &[]).await;
    assert_eq!(headers, pairs(&[("vary", "Origin")]));
    let told = allowed(listed, "http://b.test").await;
    assert_eq!(told.as_deref(), Some("*"));
}

#[test]
fn expressions_that_do_not_compile_are_refused() {
    assert!(Kind.configure(&json!({"origins": ["("]})).is_err());
    assert!(Kind.configure(&json!({"headers": ["a\nb"]})).is_err());
}
