//! The status listener for probes: `/status`, `/status/ready`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use http::{Method, Request, Response, StatusCode, header};
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_store::Store;
use o28m_telemetry::metrics::Registry;
use serde_json::{Value, json};

use crate::AdminService;
use crate::info::status_body;
use crate::list::Arguments;
use crate::problem::Problem;
use crate::reply;

/// Bytes of a request body here.
const BODY_BYTES_MAX: usize = 4096;

/// What the status listener reports.
pub trait Readiness: Send + Sync {
    /// `None` when ready, otherwise the reason of Kong's 503.
    fn not_ready(&self) -> Option<String>;
}

/// The status listener: `/status`, `/status/ready`.
#[must_use]
pub fn status(readiness: Arc<dyn Readiness>, store: Option<Store>) -> Arc<dyn HttpService> {
    let sources = StatusSources {
        store,
        ..StatusSources::default()
    };
    status_of(readiness, sources)
}

/// What else the status listener tells.
#[derive(Default)]
pub struct StatusSources {
    /// Whether it is reachable is told.
    pub store: Option<Store>,
    /// Shown at `/metrics`; without them there is no such path.
    pub metrics: Option<Registry>,
    /// Without a database, the hash of its configuration is told.
    pub admin: Option<Arc<AdminService>>,
    /// Not ready while the store cannot be reached, as Kong.
    pub ready_needs_database: bool,
}

/// The status listener over these sources.
#[must_use]
pub fn status_of(readiness: Arc<dyn Readiness>, sources: StatusSources) -> Arc<dyn HttpService> {
    Arc::new(Status {
        readiness,
        sources,
        draining: AtomicBool::new(false),
        requests: AtomicU64::new(0),
    })
}

struct Status {
    readiness: Arc<dyn Readiness>,
    sources: StatusSources,
    /// Someone asked for it; until the process ends.
    draining: AtomicBool,
    requests: AtomicU64,
}

impl Status {
    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Problem> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_read = matches!(head.method, Method::GET | Method::HEAD);
        match path {
            "/status" if is_read => {
                let arguments = Arguments::parse(head.uri.query().unwrap_or_default())?;
                let body = self.body(&arguments, requests)?;
                Ok(reply::json(StatusCode::OK, &body))
            }
            "/status/ready" if is_read => Ok(self.ready()),
            "/status/ready" if head.method == Method::POST => {
                let is_json = head
                    .headers
                    .get(header::CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
                self.drain(body, is_json).await
            }
            "/status/dns" if is_read => Ok(reply::json(
                StatusCode::NOT_IMPLEMENTED,
                &json!({"message": "not implemented with the legacy DNS client"}),
            )),
            "/status" | "/status/ready" | "/status/dns" => Err(Problem::MethodNotAllowed),
            "/metrics" => match &self.sources.metrics {
                Some(metrics) if is_read => {
                    let kind = o28m_telemetry::metrics::CONTENT_TYPE;
                    Ok(reply::plain(kind, metrics.render()))
                }
                Some(_) => Err(Problem::MethodNotAllowed),
                None => Err(Problem::NotFound),
            },
            _ => Err(Problem::NotFound),
        }
    }

    fn body(&self, arguments: &Arguments, requests: u64) -> Result<Value, Problem> {
        let mut body = status_body(arguments, self.sources.store.as_ref(), requests)?;
        if let Some(admin) = &self.sources.admin {
            admin.tell_configuration_hash(&mut body);
        }
        Ok(body)
    }

    fn ready(&self) -> Response<Body> {
        let store = self.sources.store.as_ref();
        let is_away = store.is_some_and(|store| !store.is_reachable());
        let reason = if self.draining.load(Ordering::Acquire) {
            Some("draining".to_owned())
        } else if self.sources.ready_needs_database && is_away {
            Some("failed to connect to database".to_owned())
        } else {
            self.readiness.not_ready()
        };
        match reason {
            None => reply::json(StatusCode::OK, &json!({"message": "ready"})),
            Some(reason) => {
                reply::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"message": reason}))
            }
        }
    }

    async fn drain(&self, body: Body, is_json: bool) -> Result<Response<Body>, Problem> {
        let bytes = body
            .collect(BODY_BYTES_MAX)
            .await
            .map_err(|_| Problem::TooLarge)?;
        let is_drain = if is_json {
            serde_json::from_slice::<Value>(&bytes).is_ok_and(|body| {
                body.get("status")
                    .is_some_and(|status| status == "draining")
            })
        } else {
            form_urlencoded::parse(&bytes)
                .any(|(name, value)| name == "status" && value == "draining")
        };
        if !is_drain {
            return Err(Problem::Bad(
                "invalid status, expected 'draining'".to_owned(),
            ));
        }
        self.draining.store(true, Ordering::Release);
        Ok(reply::empty(StatusCode::NO_CONTENT))
    }
}

impl HttpService for Status {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _connection: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        let asked = reply::Asked {
            since: Instant::now(),
            origin: request.headers().get(header::ORIGIN).cloned(),
            head: request.method() == Method::HEAD,
        };
        Box::pin(async move {
            let response = match self.answer(request).await {
                Ok(response) => response,
                Err(problem) => problem.response(),
            };
            reply::finish(response, asked, &reply::Style::default())
        })
    }
}
