//! request-termination: answers requests itself (Kong 3.9.3).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind, Verdict, errors};
use o28m_net::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    status_code: Option<u16>,
    message: Option<String>,
    content_type: Option<String>,
    body: Option<String>,
    echo: bool,
    trigger: Option<String>,
}

pub(crate) struct Kind;

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "request-termination"
    }

    fn is_shareable(&self) -> bool {
        true
    }

    fn priority(&self) -> i32 {
        2
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        if config.echo {
            return Err(BadConfig("echo is not supported".into()));
        }
        let status = StatusCode::from_u16(config.status_code.unwrap_or(503))
            .ok()
            .filter(|status| !status.is_informational())
            .ok_or_else(|| BadConfig("status_code is no final status".into()))?;
        let trigger = config.trigger.map(|name| {
            let header = config::header_name(&name)?;
            Ok(Trigger { header, name })
        });
        Ok(Arc::new(RequestTermination {
            status,
            content: content(status, config.message, config.body, config.content_type)?,
            trigger: trigger.transpose()?,
        }))
    }
}

fn content(
    status: StatusCode,
    message: Option<String>,
    body: Option<String>,
    content_type: Option<String>,
) -> Result<Content, BadConfig> {
    if let Some(body) = body {
        let content_type = content_type.map(HeaderValue::try_from).transpose();
        let content_type =
            content_type.map_err(|_| BadConfig("content_type is no header value".into()))?;
        return Ok(Content::Raw(body.into(), content_type));
    }
    let message = message.or_else(|| default_message(status).map(str::to_owned));
    Ok(message.map_or(Content::Nothing, |message| {
        Content::Json(json!({"message": message}))
    }))
}

fn default_message(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        401 => Some("Unauthorized"),
        404 => Some("Not found"),
        405 => Some("Method not allowed"),
        500 => Some("An unexpected error occurred"),
        502 => Some("Bad Gateway"),
        503 => Some("Service unavailable"),
        _ => None,
    }
}

enum Content {
    Json(Value),
    Raw(Bytes, Option<HeaderValue>),
    Nothing,
}

/// A header or query argument that requests must have to be answered.
struct Trigger {
    header: HeaderName,
    name: String,
}

impl Trigger {
    fn is_in(&self, exchange: &Exchange) -> bool {
        if exchange.request.headers.contains_key(&self.header) {
            return true;
        }
        let query = exchange.request.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == self.name)
    }
}

struct RequestTermination {
    status: StatusCode,
    content: Content,
    trigger: Option<Trigger>,
}

impl RequestTermination {
    fn response(&self) -> Response<Body> {
        let has_body = !matches!(self.status.as_u16(), 204 | 205 | 304);
        let mut response = match &self.content {
            Content::Json(body) if has_body => errors::exit(self.status, body),
            Content::Raw(body, content_type) if has_body => {
                let mut response = Response::new(Body::full(body.clone()));
                if let Some(content_type) = content_type {
                    let headers = response.headers_mut();
                    headers.insert(CONTENT_TYPE, content_type.clone());
                }
                response
            }
            Content::Json(_) | Content::Raw(..) | Content::Nothing => Response::new(Body::Empty),
        };
        *response.status_mut() = self.status;
        response
    }
}

impl Plugin for RequestTermination {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        match &self.trigger {
            Some(trigger) if !trigger.is_in(exchange) => Access::CONTINUE,
            _ => Access::Now(Verdict::Respond(self.response())),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::testing::{access, exchange};

    /// Status (0 passes), content type and body.
    async fn ask(config: Value, request: http::request::Builder) -> (u16, String, String) {
        let plugin = Kind.configure(&config).unwrap();
        let mut exchange = exchange(request.body(Body::Empty).unwrap());
        match access(plugin.as_ref(), &mut exchange).await {
            Verdict::Continue => (0, String::new(), String::new()),
            Verdict::Respond(response) => {
                let (head, body) = response.into_parts();
                let content_type = head.headers.get(CONTENT_TYPE);
                let content_type = content_type.map_or("", |it| it.to_str().unwrap());
                let body = body.collect(1 << 20).await.unwrap();
                let body = String::from_utf8(body.to_vec()).unwrap();
                (head.status.as_u16(), content_type.to_owned(), body)
            }
        }
    }

    #[tokio::test]
    async fn plugins_case_079_the_configured_answer() {
        const JSON: &str = "application/json; charset=utf-8";
        let message = |text: &str| format!("{{\"message\":\"{text}\"}}");
        for (config, status, content_type, body) in [
            (json!({}), 503, JSON, message("Service unavailable")),
            (
                json!({"status_code": 404, "message": "gone"}),
                404,
                JSON,
                message("gone"),
            ),
            (json!({"status_code": 404}), 404, JSON, message("Not found")),
            (json!({"status_code": 403}), 403, "", String::new()),
            (
                json!({"status_code": 204, "message": "x"}),
                204,
                "",
                String::new(),
            ),
            (
                json!({"status_code": 200, "body": "<a/>", "content_type": "text/xml"}),
                200,
                "text/xml",
                "<a/>".into(),
            ),
            (json!({"body": "x"}), 503, "", "x".into()),
        ] {
            let answer = ask(config.clone(), Request::get("/")).await;
            assert_eq!(answer, (status, content_type.to_owned(), body), "{config}");
        }
    }

    #[tokio::test]
    async fn a_trigger_is_a_header_or_a_query_argument() {
        let config = || json!({"trigger": "X-Stop"});
        for (request, status) in [
            (Request::get("/?a=X-Stop"), 0),
            (Request::get("/").header("x-stop", ""), 503),
            (Request::get("/?a=1&X-Stop"), 503),
            (Request::get("/?x-stop=1"), 0),
        ] {
            assert_eq!(ask(config(), request).await.0, status);
        }
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        for config in [
            json!({"status_code": 101}),
            json!({"echo": true}),
            json!({"trigger": "a b"}),
            json!({"body": "x", "content_type": "a\nb"}),
        ] {
            assert!(Kind.configure(&config).is_err(), "{config}");
        }
    }
}
