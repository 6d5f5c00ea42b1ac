//! Which document a path names.

/// What is published under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Discovery,
    Certs,
    Realm,
    /// The authorization endpoint that discovery must name but nobody has.
    NoEndpoint,
}

/// A route and the realm as it stands in the path, not decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'path> {
    pub(crate) route: Route,
    pub(crate) realm: &'path str,
}

/// Longest realm name that is reflected in a document.
const REALM_BYTES_MAX: usize = 128;

/// Matches `path`. Fixed parts match in any case and one trailing slash is tolerated, as in the
/// original.
pub(crate) fn find<'path>(path: &'path str, base: &str) -> Option<Found<'path>> {
    let path = match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter,
        _ => path,
    };
    if path.eq_ignore_ascii_case("/health") {
        return Some(Found {
            route: Route::Health,
            realm: "",
        });
    }
    if let Some(rest) = after(path, base.trim_end_matches('/'))
        && let Some(found) = short(rest)
    {
        return Some(found);
    }
    long(after(path, "/auth/realms")?)
}

/// `/{document}/{realm}` below the base path.
fn short(rest: &str) -> Option<Found<'_>> {
    let (document, realm) = rest.split_once('/').unwrap_or((rest, ""));
    if document.eq_ignore_ascii_case("auth") {
        return Some(Found {
            route: Route::NoEndpoint,
            realm: "",
        });
    }
    let routes = [
        ("discovery", Route::Discovery),
        ("certs", Route::Certs),
        ("issuer", Route::Realm),
    ];
    let named = routes
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(document));
    named
        .filter(|_| is_realm(realm))
        .map(|(_, route)| Found { route, realm })
}

/// `/{realm}` and what a Keycloak realm has below it.
fn long(rest: &str) -> Option<Found<'_>> {
    let (realm, below) = rest.split_once('/').unwrap_or((rest, ""));
    let is = |document: &str| below.eq_ignore_ascii_case(document);
    let route = if below.is_empty() && !rest.contains('/') {
        Route::Realm
    } else if is(".well-known/openid-configuration") {
        Route::Discovery
    } else if is("protocol/openid-connect/certs") {
        Route::Certs
    } else if is("protocol/openid-connect/auth")
        || after(below, "protocol/openid-connect/auth").is_some()
    {
        Route::NoEndpoint
    } else {
        return None;
    };
    is_realm(realm).then_some(Found { route, realm })
}

/// What follows `prefix` and a slash.
fn after<'path>(path: &'path str, prefix: &str) -> Option<&'path str> {
    let start = path.get(..prefix.len())?;
    let rest = path.get(prefix.len()..)?.strip_prefix('/')?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Realms are reflected in JSON: only URL-safe characters, and percent escapes as they are.
fn is_realm(realm: &str) -> bool {
    (1..=REALM_BYTES_MAX).contains(&realm.len())
        && realm
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._~%-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> Option<(Route, &str)> {
        find(path, "/api/v1").map(|found| (found.route, found.realm))
    }

    #[test]
    fn both_route_families_name_the_same_documents() {
        for (short, long, route) in [
            ("/api/v1/issuer/r", "/auth/realms/r", Route::Realm),
            (
                "/api/v1/certs/r",
                "/auth/realms/r/protocol/openid-connect/certs",
                Route::Certs,
            ),
            (
                "/api/v1/discovery/r",
                "/auth/realms/r/.well-known/openid-configuration",
                Route::Discovery,
            ),
        ] {
            for path in [short, long] {
                assert_eq!(named(path), Some((route, "r")), "{path}");
                assert_eq!(named(&format!("{path}/")), Some((route, "r")), "{path}/");
                assert_eq!(named(&format!("{path}//")), None, "{path}//");
                assert_eq!(named(&format!("{path}/foo")), None, "{path}/foo");
            }
        }
    }

    #[test]
    fn realms_are_checked_before_they_are_reflected() {
        assert_eq!(named("/api/v1/certs/a%20b"), Some((Route::Certs, "a%20b")));
        for bad in ["", "a\"b", "a b", "<x>", &"r".repeat(129)] {
            assert_eq!(named(&format!("/api/v1/certs/{bad}")), None, "{bad}");
            assert_eq!(named(&format!("/auth/realms/{bad}")), None, "{bad}");
        }
    }

    #[test]
    fn only_whole_segments_match() {
        for path in [
            "/",
            "/healthy",
            "/api/v1",
            "/api/v1/authx",
            "/api/v10/certs/r",
            "/auth/realmsx/r",
            "/auth/realms/r/protocol/openid-connect/authx",
        ] {
            assert_eq!(named(path), None, "{path}");
        }
    }
}
