//! Finding the entry of a route table that serves a method and path.

use http::Method;

/// An entry: method, pattern with `{}` for one segment and, at its end, `{*}` for one or more, and what
/// serves it.
pub(crate) struct Route<T: 'static> {
    pub(crate) method: Method,
    pub(crate) pattern: &'static str,
    pub(crate) serve: T,
}

/// What a table says about a path.
pub(crate) enum Found<'t, T: 'static> {
    /// It is served; the segments that stand for `{}`.
    Route(&'t T, Vec<String>),
    /// It is served with other methods, these.
    OtherMethod(String),
    /// It is not served.
    Nothing,
}

/// The captured segments, if the pattern fits.
fn fit(pattern: &str, segments: &[String]) -> Option<Vec<String>> {
    let mut captured = Vec::new();
    let mut parts = pattern.split('/').filter(|part| !part.is_empty());
    for (at, segment) in segments.iter().enumerate() {
        match parts.next()? {
            "{}" => captured.push(segment.clone()),
            "{*}" => {
                let rest = segments.get(at..).unwrap_or_default();
                captured.push(rest.join("/"));
                return parts.next().is_none().then_some(captured);
            }
            part if part == segment => {}
            _ => return None,
        }
    }
    parts.next().is_none().then_some(captured)
}

/// Looks up a path; HEAD is served by GET.
pub(crate) fn find<'t, T>(
    routes: &'t [Route<T>],
    method: &Method,
    segments: &[String],
) -> Found<'t, T> {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let mut allowed: Vec<&str> = Vec::new();
    for route in routes {
        let Some(captured) = fit(route.pattern, segments) else {
            continue;
        };
        if route.method == *method {
            return Found::Route(&route.serve, captured);
        }
        allowed.push(route.method.as_str());
    }
    if allowed.is_empty() {
        Found::Nothing
    } else {
        Found::OtherMethod(allowed.join(", "))
    }
}

/// Why a path cannot be looked up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadPath {
    /// It has empty or dot segments, which proxies and servers read differently.
    NotNormalized,
    /// It does not decode to text.
    NotText,
}

/// The decoded segments of a path; one slash at the end is ignored.
pub(crate) fn segments(path: &str) -> Result<Vec<String>, BadPath> {
    let inner = path.strip_prefix('/').ok_or(BadPath::NotNormalized)?;
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return if path == "//" {
            Err(BadPath::NotNormalized)
        } else {
            Ok(Vec::new())
        };
    }
    inner.split('/').map(decode).collect()
}

fn decode(segment: &str) -> Result<String, BadPath> {
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
    let text = decoded.map_err(|_| BadPath::NotText)?.into_owned();
    // Names of roles and paths of groups may hold a slash, which clients encode: it is part of the
    // segment, and what proxies could take for another path is refused with it.
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(BadPath::NotNormalized);
    }
    if text.contains('\0') {
        return Err(BadPath::NotText);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &[Route<u8>] = &[
        Route {
            method: Method::GET,
            pattern: "a/{}",
            serve: 1,
        },
        Route {
            method: Method::POST,
            pattern: "a/{}",
            serve: 2,
        },
        Route {
            method: Method::GET,
            pattern: "a/{}/b",
            serve: 3,
        },
    ];

    #[test]
    fn patterns_capture_segments() {
        let path = segments("/a/x%20y/").unwrap();
        let Found::Route(serve, captured) = find(ROUTES, &Method::POST, &path) else {
            panic!()
        };
        assert_eq!((*serve, captured.as_slice()), (2, &["x y".to_owned()][..]));
        // An encoded slash is part of a name.
        let path = segments("/a/x%2Fb").unwrap();
        let Found::Route(serve, captured) = find(ROUTES, &Method::GET, &path) else {
            panic!()
        };
        assert_eq!((*serve, captured.as_slice()), (1, &["x/b".to_owned()][..]));
        let Found::OtherMethod(allowed) = find(ROUTES, &Method::PUT, &path) else {
            panic!()
        };
        assert_eq!(allowed, "GET, POST");
        assert!(matches!(
            find(ROUTES, &Method::GET, &segments("/a").unwrap()),
            Found::Nothing
        ));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for path in [
            "//",
            "/a//b",
            "/a/../b",
            "/a/%2e%2e/b",
            "/./a",
            "/a%2F..%2Fb",
            "/a/%2Fb",
        ] {
            assert_eq!(segments(path), Err(BadPath::NotNormalized), "{path}");
        }
        for path in ["/a%00", "/%ff"] {
            assert_eq!(segments(path), Err(BadPath::NotText), "{path}");
        }
        assert_eq!(segments("/").unwrap(), Vec::<String>::new());
    }
}
