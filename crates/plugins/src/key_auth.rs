//! key-auth: knows consumers by a key in a header or the query string (Kong 3.9.3).

use std::sync::Arc;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use o28m_core::{Ambient, Timestamp};
use o28m_gateway::{
    Access, BadConfig, Credential, Exchange, Plugin, PluginKind, StoredCredential, Verdict,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{config, identity};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    key_names: Vec<String>,
    hide_credentials: bool,
    anonymous: Option<String>,
    key_in_header: bool,
    key_in_query: bool,
    key_in_body: bool,
    run_on_preflight: bool,
    realm: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            key_names: vec!["apikey".to_owned()],
            hide_credentials: false,
            anonymous: None,
            key_in_header: true,
            key_in_query: true,
            key_in_body: false,
            run_on_preflight: true,
            realm: None,
        }
    }
}

pub(crate) struct Kind(pub(crate) Ambient);

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "key-auth"
    }

    fn priority(&self) -> i32 {
        1250
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        if config.key_in_body {
            return Err(BadConfig("keys in bodies are not supported".into()));
        }
        let names = config.key_names.into_iter().map(|name| {
            let header = config::header_name(&name)?;
            Ok((header, name))
        });
        Ok(Arc::new(KeyAuth {
            names: names.collect::<Result<_, BadConfig>>()?,
            hide_credentials: config.hide_credentials,
            anonymous: config.anonymous,
            key_in_header: config.key_in_header,
            key_in_query: config.key_in_query,
            run_on_preflight: config.run_on_preflight,
            challenge: identity::challenge("Key", config.realm.as_deref())?,
            ambient: self.0.clone(),
        }))
    }
}

struct KeyAuth {
    names: Vec<(HeaderName, String)>,
    hide_credentials: bool,
    anonymous: Option<String>,
    key_in_header: bool,
    key_in_query: bool,
    run_on_preflight: bool,
    challenge: HeaderValue,
    ambient: Ambient,
}

/// What a request says under one name.
enum Found {
    Nothing,
    Key(String),
    Several,
}

fn one<T>(mut values: impl Iterator<Item = T>) -> Option<Result<T, ()>> {
    let first = values.next()?;
    Some(values.next().map_or(Ok(first), |_| Err(())))
}

impl KeyAuth {
    fn find(&self, exchange: &Exchange, header: &HeaderName, name: &str) -> Found {
        let lines = exchange.request.headers.get_all(header).iter();
        let in_header = one(lines).filter(|_| self.key_in_header);
        if let Some(line) = in_header {
            return match line.map(HeaderValue::to_str) {
                Ok(Ok(key)) => Found::Key(key.to_owned()),
                // No stored key can be equal to it.
                Ok(Err(_)) => Found::Key("\0".to_owned()),
                Err(()) => Found::Several,
            };
        }
        let query = exchange.request.uri.query().unwrap_or_default();
        let values = form_urlencoded::parse(query.as_bytes())
            .filter(|(argument, _)| argument == name)
            .map(|(_, value)| value);
        match one(values).filter(|_| self.key_in_query) {
            Some(Ok(key)) => Found::Key(key.into_owned()),
            Some(Err(())) => Found::Several,
            None => Found::Nothing,
        }
    }

    /// The key, and its place in the names.
    fn key(&self, exchange: &Exchange) -> Result<(String, &(HeaderName, String)), &'static str> {
        for name in &self.names {
            match self.find(exchange, &name.0, &name.1) {
                Found::Nothing => {}
                Found::Several => return Err("Duplicate API key found"),
                Found::Key(key) if key.is_empty() => break,
                Found::Key(key) => return Ok((key, name)),
            }
        }
        Err("No API key found in request")
    }

    fn authenticate(&self, exchange: &mut Exchange) -> Result<(), &'static str> {
        let (key, (header, name)) = self.key(exchange)?;
        if self.hide_credentials {
            exchange.request.headers.remove(header);
            hide(&mut exchange.request.uri, name);
        }
        let snapshot = exchange.snapshot.clone();
        let credential = snapshot.credential("keyauth_credentials", &key);
        let credential = credential
            .filter(|it| is_valid(it, self.ambient.now()))
            .ok_or("Unauthorized")?;
        let consumer = snapshot.consumer(&credential.consumer_id);
        let consumer = consumer.ok_or("Unauthorized")?.clone();
        let id = Some(credential.id.clone());
        let credential = Credential {
            identifier: id.clone(),
            id,
        };
        identity::authenticate(exchange, consumer, Some(credential));
        Ok(())
    }
}

/// Whether the life time of a key is not over.
fn is_valid(credential: &StoredCredential, now: Timestamp) -> bool {
    let number = |name: &str| credential.document.get(name).and_then(Value::as_i64);
    number("ttl").filter(|ttl| *ttl > 0).is_none_or(|ttl| {
        let created_at = number("created_at").unwrap_or_default();
        now.seconds() < created_at.saturating_add(ttl)
    })
}

/// Takes an argument out of the query string; the others stay as they were sent.
fn hide(uri: &mut Uri, name: &str) {
    let Some(query) = uri.query() else {
        return;
    };
    let is_other = |pair: &&str| {
        let mut decoded = form_urlencoded::parse(pair.as_bytes());
        decoded.next().is_none_or(|(argument, _)| argument != name)
    };
    let rest: Vec<&str> = query.split('&').filter(is_other).collect();
    let target = if rest.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{}", uri.path(), rest.join("&"))
    };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = PathAndQuery::try_from(target).ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

impl Plugin for KeyAuth {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let is_done = self.anonymous.is_some() && exchange.credential.is_some();
        let is_preflight = exchange.request.method == Method::OPTIONS;
        if is_done || (is_preflight && !self.run_on_preflight) {
            return Access::CONTINUE;
        }
        let verdict = match (self.authenticate(exchange), &self.anonymous) {
            (Ok(()), _) => Verdict::Continue,
            (Err(_), Some(anonymous)) => identity::fall_back(exchange, anonymous),
            (Err(message), None) => {
                Verdict::Respond(identity::unauthorized(exchange, message, &self.challenge))
            }
        };
        Access::Now(verdict)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use o28m_net::Body;
    use serde_json::json;

    use super::*;
    use crate::testing::{access, ambient, exchange};

    struct Answer {
        /// 0 when the request passed.
        status: u16,
        message: String,
        challenge: String,
        exchange: Exchange,
    }

    async fn ask(config: Value, request: http::request::Builder) -> Answer {
        let (ambient, clock) = ambient();
        clock.advance_s(60);
        let plugin = Kind(ambient).configure(&config).unwrap();
        let mut exchange = exchange(request.body(Body::Empty).unwrap());
        let verdict = access(plugin.as_ref(), &mut exchange).await;
        let Verdict::Respond(response) = verdict else {
            return Answer {
                status: 0,
                message: String::new(),
                challenge: String::new(),
                exchange,
            };
        };
        let (head, body) = response.into_parts();
        let body = body.collect(1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let challenge = head.headers.get("www-authenticate");
        Answer {
            status: head.status.as_u16(),
            message: body["message"].as_str().unwrap().to_owned(),
            challenge: challenge.map_or("", |it| it.to_str().unwrap()).to_owned(),
            exchange,
        }
    }

    fn with(key: &str) -> http::request::Builder {
        Request::get("/a").header("apikey", key)
    }

    #[tokio::test]
    async fn plugins_case_074_what_is_no_key_is_refused() {
        let twice = || Request::get("/").header("apikey", "rover-key");
        for (request, message) in [
            (Request::get("/"), "No API key found in request"),
            (Request::get("/?apikey="), "No API key found in request"),
            (Request::get("/?apikey"), "No API key found in request"),
            (
                twice().header("apikey", "rover-key"),
                "Duplicate API key found",
            ),
            (
                Request::get("/?apikey=a&apikey=a"),
                "Duplicate API key found",
            ),
            (with("unknown"), "Unauthorized"),
            (with("\u{e4}"), "Unauthorized"),
            (with("rover-expired"), "Unauthorized"),
        ] {
            let answer = ask(json!({}), request).await;
            assert_eq!((answer.status, answer.message.as_str()), (401, message));
            assert_eq!(answer.challenge, "Key");
            assert!(answer.exchange.consumer.is_none());
        }
        let answer = ask(json!({"realm": "a \"b\""}), Request::get("/")).await;
        assert_eq!(answer.challenge, r#"Key realm="a \"b\"""#);
    }

    #[tokio::test]
    async fn a_key_makes_its_consumer_the_caller() {
        for request in [
            with("rover-key"),
            Request::get("/?apikey=rover%2Dkey"),
            with("rover-fresh"),
        ] {
            let answer = ask(json!({}), request).await;
            assert_eq!(answer.status, 0, "{}", answer.message);
            let exchange = answer.exchange;
            assert_eq!(exchange.header("x-consumer-username"), Some("rover"));
            assert_eq!(exchange.header("x-anonymous-consumer"), None);
            let identifier = exchange.header("x-credential-identifier");
            let credential = exchange.credential.as_ref().unwrap();
            assert_eq!(identifier, credential.id.as_deref());
            assert!(identifier.is_some());
        }
    }

    #[tokio::test]
    async fn keys_are_looked_for_where_and_under_the_names_configured() {
        let config = json!({"key_names": ["X-Key", "other"], "key_in_header": false});
        let in_header = Request::get("/").header("x-key", "rover-key");
        assert_eq!(ask(config.clone(), in_header).await.status, 401);
        let second = Request::get("/?other=rover-key");
        assert_eq!(ask(config, second).await.status, 0);
        let config = json!({"key_in_query": false});
        let in_query = Request::get("/?apikey=rover-key");
        assert_eq!(ask(config, in_query).await.status, 401);
    }

    #[tokio::test]
    async fn hidden_keys_do_not_reach_the_upstream() {
        let request = Request::get("/a%20b?x=1+2&apikey=other&y=%2F").header("apikey", "rover-key");
        let answer = ask(json!({"hide_credentials": true}), request).await;
        assert_eq!(answer.status, 0);
        assert_eq!(answer.exchange.header("apikey"), None);
        assert_eq!(answer.exchange.request.uri, "/a%20b?x=1+2&y=%2F");
        let request = Request::get("/a?apikey=rover-key");
        let answer = ask(json!({"hide_credentials": true}), request).await;
        assert_eq!(answer.exchange.request.uri, "/a");
    }

    #[tokio::test]
    async fn preflights_and_anonymous_callers_may_pass() {
        let open = json!({"run_on_preflight": false});
        assert_eq!(ask(open, Request::options("/")).await.status, 0);
        assert_eq!(ask(json!({}), Request::options("/")).await.status, 401);
        let answer = ask(json!({"anonymous": "lonely"}), with("unknown")).await;
        assert_eq!(answer.status, 0);
        let exchange = answer.exchange;
        assert_eq!(exchange.header("x-consumer-username"), Some("lonely"));
        assert_eq!(exchange.header("x-anonymous-consumer"), Some("true"));
        let nobody = ask(json!({"anonymous": "nobody"}), Request::get("/")).await;
        assert_eq!(nobody.status, 500);
    }
}
