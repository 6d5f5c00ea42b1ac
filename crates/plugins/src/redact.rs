//! What logs and traces must not show: it would let their readers act as somebody else.

/// Stands for what is not shown.
pub(crate) const HIDDEN: &str = "REDACTED";
/// Headers that hold credentials, or what a token gateway makes tokens of.
const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "consumer-token",
    "jumper_config",
    "routing_config",
    "client_secret",
    "apikey",
    "api-key",
    "x-api-key",
];
/// Arguments that hold credentials.
const SECRET_ARGUMENTS: &[&str] = &["apikey", "api_key", "api-key", "jwt", "access_token"];

/// A header, in lower case, whose value is not shown.
pub(crate) fn is_secret_header(name: &str) -> bool {
    SECRET_HEADERS.contains(&name)
}

/// An argument of a query whose value is not shown.
pub(crate) fn is_secret_argument(name: &str) -> bool {
    let mut names = SECRET_ARGUMENTS.iter();
    names.any(|it| it.eq_ignore_ascii_case(name))
}

/// Path and query of a request.
pub(crate) fn target(uri: &http::Uri) -> String {
    let target = uri.path_and_query();
    target.map_or_else(|| "/".to_owned(), |it| hidden(it.as_str()))
}

/// A target without the values of arguments that hold credentials.
pub(crate) fn hidden(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let pairs = query.split('&').map(|pair| {
        let name = form_urlencoded::parse(pair.as_bytes()).next();
        match (name, pair.split_once('=')) {
            (Some((name, _)), Some((raw, _))) if is_secret_argument(&name) => {
                format!("{raw}={HIDDEN}")
            }
            _ => pair.to_owned(),
        }
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}
