//! Traffic as events, and callbacks of the event platform.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{CONSUMER, Call, ISSUER_URL, Peer, Received, World, closed_url, header};

struct Listening {
    world: World,
    events: Peer,
    provider: Peer,
}

fn created() -> Peer {
    Peer::start(|_| {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::CREATED;
        response
    })
}

/// A provider that echoes, and an event platform.
fn listening() -> Listening {
    let events = created();
    let url = format!("{}/ENVIRONMENT_PLACEHOLDER/v1/events", events.url());
    Listening {
        world: World::start_with(|settings| settings.publish_event_url = url),
        events,
        provider: Peer::start(|request| {
            let mut response = Response::new(request.body().clone());
            let content_type = request.headers()["content-type"].clone();
            response.headers_mut().insert("content-type", content_type);
            response
        }),
    }
}

impl Listening {
    fn call(&self) -> Call {
        self.world
            .real()
            .at("/listener/callback?a=1&a=2")
            .with("remote_api_url", &self.provider.url())
            .with("x-tardis-traceid", "t")
            .with("cookie", "secret=1")
            .config(json!({"routeListener": {CONSUMER: {"issue": "i", "serviceOwner": "p"}}}))
    }

    /// What was published of one call, the request first.
    async fn published(&self, call: &Call) -> Vec<(Received, Value)> {
        let reply = self.world.call(call).await.expect(200);
        assert_eq!(reply.body, call.body);
        self.world.jumper.flushed().await;
        let mut events: Vec<(Received, Value)> = self
            .events
            .take()
            .into_iter()
            .map(|event| {
                let body = serde_json::from_slice(event.body()).unwrap();
                (event, body)
            })
            .collect();
        events.sort_by_key(|(_, event)| event["data"]["kind"].to_string());
        events
    }
}

#[tokio::test]
async fn jumper_case_058_request_and_response_become_events() {
    let listening = listening();
    let call = listening.call().post("application/json", r#"{"k":"v"}"#);
    let events = listening.published(&call).await;
    let [(request, first), (_, second)] = events.as_slice() else {
        panic!("{} events", events.len());
    };
    assert_eq!(request.uri(), "/default/v1/events");
    for (name, value) in [
        ("x-spectre-issue", "i"),
        ("x-spectre-provider", "p"),
        ("x-spectre-consumer", CONSUMER),
        ("content-type", "application/json"),
    ] {
        assert_eq!(header(request.headers(), name), value);
    }
    let claims = listening.world.verified(request).await;
    assert_eq!(claims["clientId"], "gateway");
    assert_eq!(claims["iss"], format!("{ISSUER_URL}/default"));

    assert_eq!(first["specversion"], "1.0");
    assert_eq!(first["type"], "de.telekom.ei.listener");
    assert_eq!(first["source"], "https://gw.example.com");
    assert!(o28m_core::id::is_uuid(first["id"].as_str().unwrap()));
    let data = &first["data"];
    assert_eq!(
        (&data["consumer"], &data["provider"], &data["issue"]),
        (&json!(CONSUMER), &json!("p"), &json!("i"))
    );
    assert_eq!(
        (&data["kind"], &data["method"]),
        (&json!("REQUEST"), &json!("POST"))
    );
    assert_eq!(data["parameters"], json!({"a": "1"}));
    assert_eq!(data["payload"], json!({"k": "v"}));
    assert_eq!(data["header"]["x-origin-zone"], "localZone");
    assert!(data.get("status").is_none());
    for hidden in ["authorization", "cookie", "jumper_config"] {
        assert!(data["header"].get(hidden).is_none(), "{hidden}");
    }
    let data = &second["data"];
    assert_eq!(
        (&data["kind"], &data["status"]),
        (&json!("RESPONSE"), &json!(200))
    );
    assert_eq!(data["payload"], json!({"k": "v"}));
    assert_eq!(data["header"]["x-tardis-traceid"], "t");
    assert!(data.get("parameters").is_none());
}

#[tokio::test]
async fn jumper_case_059_other_bodies_other_consumers_and_a_lost_platform() {
    let listening = listening();
    let binary = listening.call().post("application/unknownorbinary", "hi");
    for (_, event) in listening.published(&binary).await {
        assert_eq!(event["data"]["payload"], "aGk=");
    }
    let empty = listening.call().with("content-type", "text/plain");
    for (_, event) in listening.published(&empty).await {
        assert_eq!(event["data"]["payload"], Value::Null);
    }
    let other = binary
        .clone()
        .token(&listening.world.token(json!({"clientId": "other"})));
    assert!(listening.published(&other).await.is_empty());
    let plain = binary.clone().at("/proxy/callback");
    assert!(listening.published(&plain).await.is_empty());

    let url = closed_url();
    let world = World::start_with(|settings| settings.publish_event_url = url);
    let _ = world.call(&binary).await.expect(200);
    world.jumper.flushed().await;
}

#[tokio::test]
async fn jumper_case_060_callbacks_go_back_under_the_listeners_name() {
    let listening = listening();
    let world = &listening.world;
    let target = "/autoevent?listener=spectre&statusCode=201";
    let event = r#"{"specversion":"1.0","type":"de.telekom.ei.listener"}"#;
    let post = Call::get(target).post("application/json", event);
    let _ = world.call(&post).await.expect(201);
    let request = listening.events.only();
    assert_eq!(request.uri(), "/default/v1/events?statusCode=201");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(body["type"], "de.telekom.ei.listener.spectre");
    assert_eq!(body["data"], Value::Null);
    let claims = world.verified(&request).await;
    assert_eq!(
        (&claims["azp"], &claims["clientId"]),
        (&json!("stargate"), &json!("gateway"))
    );
    let seconds = |name: &str| claims[name].as_i64().unwrap();
    assert_eq!(seconds("exp") - seconds("iat"), 300);

    let iss = world.token(json!({"iss": "https://idp/auth/realms/sit"}));
    let head = Call {
        method: Method::HEAD,
        ..Call::get(target).token(&iss)
    };
    let _ = world.call(&head).await.expect(201);
    let request = listening.events.only();
    assert_eq!(request.uri(), "/sit/v1/events?statusCode=201");
    assert_eq!(
        world.verified(&request).await["iss"],
        format!("{ISSUER_URL}/sit")
    );

    for bad in [
        post.clone().at("/autoevent"),
        Call::get(target).post("application/json", "nonsense"),
        Call::get(target).post("application/json", ""),
        post.token(&world.token(json!({"iss": "https://idp/realms/../evil"}))),
    ] {
        let _ = world.call(&bad).await.expect(400);
    }
    assert!(listening.events.take().is_empty());
}
