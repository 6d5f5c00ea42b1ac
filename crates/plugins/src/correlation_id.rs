//! correlation-id: gives every request an id that goes with it (Kong 3.9.3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{HeaderName, HeaderValue};
use o28m_core::Ambient;
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind};
use serde::Deserialize;
use serde_json::Value;

use crate::config;

/// Longest id of a client that is kept.
const BYTES_MAX: usize = 256;

#[derive(Clone, Copy, Default, Deserialize)]
enum Generator {
    #[default]
    #[serde(rename = "uuid#counter")]
    Counter,
    #[serde(rename = "uuid")]
    Uuid,
    #[serde(rename = "tracker")]
    Tracker,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    header_name: Option<String>,
    generator: Generator,
    echo_downstream: bool,
}

pub(crate) struct Kind(Arc<Source>);

/// Where ids come from: one for the process, so that no two instances give the same.
struct Source {
    ambient: Ambient,
    process: String,
    requests: AtomicU64,
}

impl Kind {
    pub(crate) fn new(ambient: Ambient) -> Self {
        let process = ambient.uuid();
        Self(Arc::new(Source {
            ambient,
            process,
            requests: AtomicU64::new(0),
        }))
    }
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "correlation-id"
    }

    fn priority(&self) -> i32 {
        100_001
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        let name = config.header_name.as_deref().unwrap_or("Kong-Request-ID");
        Ok(Arc::new(CorrelationId {
            header: config::header_name(name)?,
            generator: config.generator,
            echo_downstream: config.echo_downstream,
            source: self.0.clone(),
        }))
    }
}

struct CorrelationId {
    header: HeaderName,
    generator: Generator,
    echo_downstream: bool,
    source: Arc<Source>,
}

/// The id of a request, for its response.
#[derive(Clone)]
struct Kept(HeaderValue);

impl CorrelationId {
    fn generate(&self, exchange: &Exchange) -> HeaderValue {
        let source = &self.source;
        let number = || source.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let id = match self.generator {
            Generator::Counter => format!("{}#{}", source.process, number()),
            Generator::Uuid => source.ambient.uuid(),
            Generator::Tracker => {
                let (connection, now) = (&exchange.connection, source.ambient.now().millis());
                format!(
                    "{}-{}-{}-{}-{}-{}.{:03}",
                    connection.local.ip(),
                    connection.local.port(),
                    std::process::id(),
                    connection.peer.port(),
                    number(),
                    now.div_euclid(1000),
                    now.rem_euclid(1000),
                )
            }
        };
        HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }

    /// The client's id, unless it is blank or nothing that a log should see.
    fn given(&self, exchange: &Exchange) -> Option<HeaderValue> {
        let value = exchange.request.headers.get(&self.header)?;
        let is_visible = |byte: &u8| (b' '..=b'~').contains(byte);
        let bytes = value.as_bytes();
        let is_blank = bytes.iter().all(u8::is_ascii_whitespace);
        (!is_blank && bytes.len() <= BYTES_MAX && bytes.iter().all(is_visible))
            .then(|| value.clone())
    }
}

impl Plugin for CorrelationId {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let id = match self.given(exchange) {
            Some(id) => id,
            None => {
                let id = self.generate(exchange);
                let headers = &mut exchange.request.headers;
                headers.insert(self.header.clone(), id.clone());
                id
            }
        };
        if self.echo_downstream {
            exchange.request.extensions.insert(Kept(id));
        }
        Access::CONTINUE
    }

    fn header_filter(&self, exchange: &mut Exchange, response: &mut http::response::Parts) {
        if !self.echo_downstream {
            return;
        }
        let kept = exchange.request.extensions.remove::<Kept>();
        let id = kept
            .map(|Kept(id)| id)
            .or_else(|| self.given(exchange))
            .unwrap_or_else(|| self.generate(exchange));
        response.headers.insert(self.header.clone(), id);
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use o28m_net::Body;
    use serde_json::json;

    use super::*;
    use crate::testing::{NOW_S, access, ambient, exchange};

    const ID: &str = "00000000-0000-4000-8000-000000000000";

    /// What the upstream and the client see of a request with that id.
    async fn ids(plugin: &dyn Plugin, sent: Option<&[u8]>) -> [String; 2] {
        let mut request = Request::get("/");
        if let Some(sent) = sent {
            request = request.header("kong-request-id", sent);
        }
        let mut exchange = exchange(request.body(Body::Empty).unwrap());
        access(plugin, &mut exchange).await;
        let (mut head, ()) = Response::new(()).into_parts();
        plugin.header_filter(&mut exchange, &mut head);
        [&exchange.request.headers, &head.headers].map(|headers| {
            let value = headers.get("kong-request-id");
            value.map_or(String::new(), |it| it.to_str().unwrap().to_owned())
        })
    }

    fn kind() -> Kind {
        Kind::new(ambient().0)
    }

    #[tokio::test]
    async fn plugins_case_078_ids_are_made_where_there_is_none() {
        let kind = kind();
        let echo = kind.configure(&json!({"echo_downstream": true})).unwrap();
        let silent = kind.configure(&json!({"header_name": null})).unwrap();
        let first = format!("{ID}#1");
        assert_eq!(ids(echo.as_ref(), None).await, [first.clone(), first]);
        let [upstream, client] = ids(silent.as_ref(), Some(b"")).await;
        assert_eq!((upstream, client), (format!("{ID}#2"), String::new()));
        assert_eq!(ids(echo.as_ref(), Some(b"  ")).await[0], format!("{ID}#3"));
        let sent = "mine".to_owned();
        assert_eq!(
            ids(echo.as_ref(), Some(b"mine")).await,
            [sent.clone(), sent]
        );
    }

    #[tokio::test]
    async fn ids_that_no_log_should_see_are_replaced() {
        let echo = kind().configure(&json!({"echo_downstream": true})).unwrap();
        for odd in [&vec![b'a'; 257][..], b"\xff", b"a\tb"] {
            assert!(ids(echo.as_ref(), Some(odd)).await[0].starts_with(ID));
        }
        let longest = vec![b'a'; 256];
        assert_eq!(ids(echo.as_ref(), Some(&longest)).await[0].len(), 256);
    }

    #[tokio::test]
    async fn every_generator_has_its_form() {
        let kind = kind();
        let generator = |name| kind.configure(&json!({"generator": name})).unwrap();
        assert_eq!(ids(generator("uuid").as_ref(), None).await[0], ID);
        let tracker = ids(generator("tracker").as_ref(), None).await;
        let pid = std::process::id();
        assert_eq!(
            tracker[0],
            format!("127.0.0.1-8000-{pid}-8000-1-{NOW_S}.000")
        );
    }

    #[test]
    fn an_answer_before_the_access_phase_has_an_id_too() {
        let echo = kind().configure(&json!({"echo_downstream": true})).unwrap();
        let mut exchange = exchange(Request::get("/").body(Body::Empty).unwrap());
        let (mut head, ()) = Response::new(()).into_parts();
        echo.header_filter(&mut exchange, &mut head);
        assert_eq!(head.headers["kong-request-id"], format!("{ID}#1"));
        assert!(kind().configure(&json!({"header_name": "a b"})).is_err());
    }
}
