//! The listener and the gateway's in-process door.

use serde_json::json;

use crate::harness::{Call, World, header};

/// What differs between any two calls.
const VOLATILE: [&str; 4] = ["date", "x-b3-traceid", "x-b3-spanid", "connection"];

#[tokio::test]
async fn jumper_case_065_both_doors_behave_alike() {
    let world = World::start();
    let calls = [
        world.real(),
        world.real().at("/proxy/a;b=c?d=%2F"),
        world.real().config(json!({"mesh": true})),
        world.real().with("x-forwarded-for", "192.0.2.1"),
        world.real().without("authorization"),
        world.real().post("text/plain", "hello"),
        Call::get("/proxy"),
        Call::get("/nope"),
        Call::get("/actuator/health"),
    ];
    for call in calls {
        let wire = world.call(&call).await;
        let upstream_of_wire = world.provider.take();
        let local = world.call_in_process(&call).await;
        let upstream_of_local = world.provider.take();
        assert_eq!(wire.status, local.status, "{}", call.target);
        assert_eq!(wire.body, local.body, "{}", call.target);
        let lines = |headers: &http::HeaderMap| {
            let mut lines: Vec<(String, String)> = headers
                .keys()
                .filter(|name| !VOLATILE.contains(&name.as_str()))
                .map(|name| (name.to_string(), header(headers, name.as_str()).to_owned()))
                .collect();
            lines.sort();
            lines
        };
        let without_length = |headers: &http::HeaderMap| {
            let mut headers = headers.clone();
            headers.remove("content-length");
            lines(&headers)
        };
        assert_eq!(
            without_length(&wire.headers),
            without_length(&local.headers)
        );
        assert_eq!(upstream_of_wire.len(), upstream_of_local.len());
        for (a, b) in upstream_of_wire.iter().zip(&upstream_of_local) {
            assert_eq!((a.uri(), a.body()), (b.uri(), b.body()));
            assert_eq!(lines(a.headers()), lines(b.headers()));
        }
    }
}

#[tokio::test]
async fn forwarding_headers_of_strangers_are_dropped() {
    let world = World::start_with(|settings| {
        settings.trusted_proxies = Some(regex::Regex::new(r"10\.0\.0\.\d").unwrap());
    });
    let call = world.real().with("x-forwarded-for", "192.0.2.1");
    let received = world.forwarded(&call).await;
    assert!(
        !received
            .headers()
            .keys()
            .any(|name| name.as_str().starts_with("x-forwarded-"))
    );
    let _ = world.call_in_process(&call).await.expect(200);
    let received = world.provider.only();
    assert_eq!(header(received.headers(), "x-forwarded-for"), "192.0.2.1");
    assert_eq!(header(received.headers(), "x-forwarded-proto"), "https");
}
