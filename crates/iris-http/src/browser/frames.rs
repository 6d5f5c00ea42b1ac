//! Pages for frames of clients: whether the login they know of goes on, and whether the browser keeps
//! cookies in frames at all (Keycloak 26.5 `LoginStatusIframeEndpoint`, `ThirdPartyCookiesIframeEndpoint`).

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use o28m_iris::Realm;
use o28m_net::Body;
use o28m_oauth::Form;

use super::assets::{self, Script};
use crate::errors;
use crate::reply::{self, Reply};
use crate::service::Call;

/// Any site may show these pages in a frame: they show nothing and take no input.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
     frame-ancestors *";

/// A page that is nothing but a script.
pub(crate) fn page(call: &Call<'_>, script: Script) -> Reply {
    let url = assets::script_url(&call.base.url, script);
    let text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>o28m</title>\n\
         <script src=\"{url}\" defer></script>\n</head>\n<body></body>\n</html>\n"
    );
    let mut reply = reply::empty(StatusCode::OK);
    *reply.body_mut() = Body::full(text.into_bytes());
    let reply = reply::with(reply, CONTENT_TYPE, "text/html;charset=utf-8");
    let reply = reply::with(reply, CONTENT_SECURITY_POLICY, POLICY);
    reply::framed(reply::with(reply, CACHE_CONTROL, "no-cache"))
}

/// Whether pages of an origin may ask about the logins of a client.
pub(crate) async fn may_ask(call: &Call<'_>, realm: &Realm) -> Reply {
    let query = Form::parse(call.query.as_deref().unwrap_or_default().as_bytes());
    let query = query.unwrap_or_default();
    let (client, origin) = (query.get("client_id"), query.get("origin"));
    let (Some(client), Some(origin)) = (client, origin) else {
        return reply::empty(StatusCode::FORBIDDEN);
    };
    let found = match call.iris.web_origins(realm, client).await {
        Ok(found) => found,
        Err(error) => return errors::admin(&error),
    };
    let own = call.base.origin();
    let allowed = found
        .is_some_and(|origins| origin == own || origins.iter().any(|it| it == "*" || it == origin));
    reply::empty(if allowed {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::FORBIDDEN
    })
}
