//! Which requests are looked at, and which of them name a route.

use http::Method;

/// The refused requests of the original's HTTP firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("method is not allowed")]
    Method,
    #[error("request target has a malformed percent escape")]
    Escape,
    #[error("request path has a forbidden character")]
    Character,
    #[error("request path has a dot segment")]
    DotSegment,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// Normal traffic.
    Proxy,
    /// Traffic that may also be published as events.
    Listener,
    /// Callbacks of the event platform.
    AutoEvent,
    /// Health as a whole.
    Health,
    /// The process answers.
    Liveness,
    /// The process takes traffic.
    Readiness,
    /// Metrics.
    Metrics,
}

impl Route {
    /// The prefix of a traffic route.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Proxy => "/proxy",
            Self::Listener => "/listener",
            Self::AutoEvent => "/autoevent",
            Self::Health | Self::Liveness | Self::Readiness | Self::Metrics => "/actuator",
        }
    }

    /// The route of `path`, compared by whole segments and in this case only.
    pub(crate) fn find(method: &Method, path: &str) -> Option<Self> {
        let below = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let callback = method == Method::POST || method == Method::HEAD;
        let probe = method == Method::GET || method == Method::HEAD;
        match path {
            _ if below(Self::Proxy.prefix()) => Some(Self::Proxy),
            _ if below(Self::Listener.prefix()) => Some(Self::Listener),
            _ if below(Self::AutoEvent.prefix()) && callback => Some(Self::AutoEvent),
            "/actuator/health" if probe => Some(Self::Health),
            "/actuator/health/liveness" if probe => Some(Self::Liveness),
            "/actuator/health/readiness" if probe => Some(Self::Readiness),
            "/actuator/prometheus" if probe => Some(Self::Metrics),
            _ => None,
        }
    }
}

const METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
    Method::HEAD,
    Method::OPTIONS,
];

/// Checks method, path and query of a request.
///
/// # Errors
/// [`Refused`], answered with 400 before anything else looks at the request.
pub(crate) fn check(method: &Method, path: &str, query: Option<&str>) -> Result<(), Refused> {
    if !METHODS.contains(method) {
        return Err(Refused::Method);
    }
    if query.is_some_and(|query| !has_sound_escapes(query.as_bytes())) {
        return Err(Refused::Escape);
    }
    if !path.contains(['%', '\\', '\0', '\n', '\r']) && !path.contains("/.") {
        return Ok(());
    }
    if !has_sound_escapes(path.as_bytes()) {
        return Err(Refused::Escape);
    }
    let decoded = decode(path.as_bytes());
    let separators: [&[u8]; 2] = ["\u{2028}".as_bytes(), "\u{2029}".as_bytes()];
    let forbidden = decoded.iter().any(|byte| b"\\\0\n\r".contains(byte))
        || decoded.windows(3).any(|bytes| separators.contains(&bytes));
    if forbidden {
        return Err(Refused::Character);
    }
    let mut segments = decoded.split(|byte| *byte == b'/');
    if segments.any(|segment| segment == b"." || segment == b"..") {
        return Err(Refused::DotSegment);
    }
    Ok(())
}

fn has_sound_escapes(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'%' {
            let sound = [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(u8::is_ascii_hexdigit));
            if !sound {
                return false;
            }
        }
    }
    true
}

/// Decodes percent escapes, which must be sound.
pub(crate) fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    while let Some(byte) = bytes.next() {
        if byte == b'%'
            && let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next()))
        {
            decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
        } else {
            decoded.push(byte);
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_the_original_refuses() {
        let path = |path| check(&Method::GET, path, None);
        for bad in ["/a/../b", "/a/%2e%2E/b", "/a/.", "/a/./b", "/a%2F..%2Fb"] {
            assert_eq!(path(bad), Err(Refused::DotSegment), "{bad}");
        }
        for bad in [
            "/a\\b",
            "/%5c",
            "/%5C",
            "/%00",
            "/%0a",
            "/%0D",
            "/%e2%80%a8",
        ] {
            assert_eq!(path(bad), Err(Refused::Character), "{bad}");
        }
        for bad in ["/%", "/%2", "/%zz"] {
            assert_eq!(path(bad), Err(Refused::Escape), "{bad}");
        }
        assert_eq!(
            check(&Method::GET, "/", Some("a=%zz")),
            Err(Refused::Escape)
        );
        assert_eq!(check(&Method::TRACE, "/", None), Err(Refused::Method));
    }

    #[test]
    fn lets_pass_what_users_asked_for() {
        for good in [
            "/a;k=v",
            "/a%2Fb",
            "/a%2F%2Fb",
            "//a",
            "/%25",
            "/a%2Eb",
            "/.well-known",
        ] {
            assert_eq!(check(&Method::GET, good, Some("a=b")), Ok(()), "{good}");
        }
    }

    #[test]
    fn routes_match_by_whole_segments() {
        let route = |method, path| Route::find(&method, path);
        assert_eq!(route(Method::GET, "/proxy"), Some(Route::Proxy));
        assert_eq!(route(Method::GET, "/proxy/x"), Some(Route::Proxy));
        assert_eq!(route(Method::GET, "/proxyfoo"), None);
        assert_eq!(route(Method::GET, "/Proxy"), None);
        assert_eq!(route(Method::GET, "/autoevent"), None);
        assert_eq!(route(Method::POST, "/autoevent/x"), Some(Route::AutoEvent));
        assert_eq!(route(Method::POST, "/actuator/health"), None);
    }
}
