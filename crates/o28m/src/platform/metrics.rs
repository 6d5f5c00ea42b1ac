//! The Prometheus listener: one path, everything else is 404.

use http::{Method, Request, Response, StatusCode, header};
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_telemetry::metrics::Registry;

/// Serves the registry at its path.
pub(super) struct Metrics {
    /// Everything the process counts.
    pub(super) registry: Registry,
    /// The only path.
    pub(super) path: String,
}

impl Metrics {
    /// Many series take their time, which is not taken from other requests.
    async fn render(&self) -> String {
        let registry = self.registry.clone();
        let rendered = tokio::task::spawn_blocking(move || registry.render());
        rendered.await.unwrap_or_default()
    }
}

impl HttpService for Metrics {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let readable = matches!(*request.method(), Method::GET | Method::HEAD);
            let (status, text) = match request.uri().path() == self.path {
                true if readable => (StatusCode::OK, self.render().await),
                true => (
                    StatusCode::METHOD_NOT_ALLOWED,
                    "Method not allowed\n".to_owned(),
                ),
                false => (StatusCode::NOT_FOUND, "Not found\n".to_owned()),
            };
            let mut response = Response::new(Body::full(text));
            *response.status_mut() = status;
            let kind = http::HeaderValue::from_static(o28m_telemetry::metrics::CONTENT_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        })
    }
}
