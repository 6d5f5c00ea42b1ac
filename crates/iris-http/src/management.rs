//! The management listener: health and metrics, never on the public one.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Request, StatusCode};
use o28m_iris::Iris;
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_telemetry::metrics::Registry;
use serde_json::json;

use crate::Settings;
use crate::reply::{self, Reply};

/// The management listener.
pub(crate) struct Management {
    iris: Arc<Iris>,
    path: String,
    metrics: Registry,
}

impl Management {
    pub(crate) fn new(iris: Arc<Iris>, settings: &Settings, metrics: Registry) -> Self {
        let path = settings.relative_path.trim_end_matches('/').to_owned();
        Self {
            iris,
            path,
            metrics,
        }
    }

    fn answer(&self, path: &str) -> Reply {
        let below = path
            .strip_prefix(&self.path)
            .unwrap_or(path)
            .trim_end_matches('/');
        match below {
            "/health" | "/health/ready" => self.ready(),
            "/health/live" | "/health/started" => health(true, Vec::new()),
            "/metrics" => self.render(),
            prefixed if prefixed.starts_with("/metrics/") => self.render(),
            _ => {
                let page = "<html><body><h1>Resource not found</h1></body></html>";
                let mut reply = http::Response::new(Body::full(page));
                *reply.status_mut() = StatusCode::NOT_FOUND;
                reply::with(reply, CONTENT_TYPE, "text/html")
            }
        }
    }

    fn ready(&self) -> Reply {
        let reachable = self.iris.is_reachable();
        let check = |name: &str, up: bool| json!({"name": name, "status": status(up)});
        let checks = vec![
            check("Graceful Shutdown", true),
            check("Keycloak Initialized", true),
            check(
                "Keycloak database connections async health check",
                reachable,
            ),
        ];
        // Without the database known clients still get tokens, so traffic must keep coming: the check
        // reports it, the whole stays up.
        health(true, checks)
    }

    fn render(&self) -> Reply {
        let reply = http::Response::new(Body::full(self.metrics.render()));
        reply::with(
            reply,
            CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )
    }
}

const fn status(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

fn health(up: bool, checks: Vec<serde_json::Value>) -> Reply {
    let code = if up {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let reply = reply::json(code, &json!({"status": status(up), "checks": checks}));
    let reply = reply::with(reply, CONTENT_TYPE, "application/json; charset=UTF-8");
    reply::with(reply, CACHE_CONTROL, "no-store")
}

impl HttpService for Management {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _connection: &'a Connection,
    ) -> BoxFuture<'a, http::Response<Body>> {
        Box::pin(async move { self.answer(request.uri().path()) })
    }
}
