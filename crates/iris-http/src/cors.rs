//! Which pages of other origins may read responses (Keycloak 26.5 `Cors`).

use http::StatusCode;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderName,
    VARY,
};
use o28m_iris::Client;

use crate::reply::{self, Reply};

/// Headers that other origins may send.
const HEADERS: &str = "Origin, Accept, X-Requested-With, Content-Type, \
     Access-Control-Request-Method, Access-Control-Request-Headers, Authorization, DPoP";

fn with_all(reply: Reply, headers: &[(HeaderName, &str)]) -> Reply {
    let set = |reply, (name, value): &(HeaderName, &str)| reply::with(reply, name.clone(), value);
    headers.iter().fold(reply, set)
}

/// The response to what a browser asks before it sends another origin's request. Which origins a client
/// has is known only when the request comes, and decided then.
pub(crate) fn preflight(origin: &str, allowed: &str) -> Reply {
    let methods = format!("{allowed}, OPTIONS");
    let headers = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, origin),
        (ACCESS_CONTROL_ALLOW_METHODS, methods.as_str()),
        (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        (ACCESS_CONTROL_MAX_AGE, "3600"),
        (VARY, "Origin"),
    ];
    with_all(reply::empty(StatusCode::OK), &headers)
}

/// Lets a client's web origins read a response.
pub(crate) fn share(reply: Reply, origin: &str, client: &Client) -> Reply {
    share_with(reply, origin, client.web_origins())
}

/// Lets these origins read a response.
pub(crate) fn share_with(reply: Reply, origin: &str, origins: &[String]) -> Reply {
    if !origins.iter().any(|it| it == "*" || it == origin) {
        return reply;
    }
    let headers = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, origin),
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        (
            ACCESS_CONTROL_EXPOSE_HEADERS,
            "Access-Control-Allow-Methods, Location",
        ),
        (VARY, "Origin"),
    ];
    with_all(reply, &headers)
}

/// Lets `origin`, which may be `*`, read a response that no cookie was looked at for.
pub(crate) fn open(reply: Reply, origin: &str) -> Reply {
    let headers = [(ACCESS_CONTROL_ALLOW_ORIGIN, origin), (VARY, "Origin")];
    with_all(reply, &headers)
}
