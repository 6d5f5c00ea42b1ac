//! `Host` values and the patterns they are compared with.

use std::borrow::Cow;

/// A `Host` value, taken apart and in lower case.
pub(crate) struct Host<'a> {
    /// Name without port and without one trailing dot.
    pub(crate) name: Cow<'a, str>,
    /// The name as sent.
    pub(crate) raw: &'a str,
    /// Port of the value; the listener's when it has none.
    pub(crate) port: i64,
}

impl<'a> Host<'a> {
    pub(crate) fn parse(value: &'a str, listener_port: u16) -> Self {
        let (name, port) = split_port(value);
        Self {
            name: canonical(name),
            raw: name,
            // One that does not fit is greater than all others.
            port: port.map_or(i64::from(listener_port), |digits| {
                digits.parse().unwrap_or(i64::MAX)
            }),
        }
    }
}

/// Splits at the first colon if only digits follow; IPv6 literals stay whole.
fn split_port(value: &str) -> (&str, Option<&str>) {
    match value.split_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()) => {
            (name, Some(port))
        }
        _ => (value, None),
    }
}

/// Host names are compared without regard to case and to one trailing dot; Kong compares bytes.
pub(crate) fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// How a name is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Name {
    Exact(String),
    /// Ends with this, which begins with a dot.
    Suffix(String),
    /// Starts with this, which ends with a dot.
    Prefix(String),
}

impl Name {
    /// Reads `name`, `*.suffix` or `prefix.*`.
    pub(crate) fn parse(pattern: &str) -> Self {
        let pattern = canonical(pattern).into_owned();
        if let Some(suffix) = pattern.strip_prefix('*').filter(|it| it.starts_with('.')) {
            Self::Suffix(suffix.to_owned())
        } else if let Some(prefix) = pattern.strip_suffix('*').filter(|it| it.ends_with('.')) {
            Self::Prefix(prefix.to_owned())
        } else {
            Self::Exact(pattern)
        }
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => name == exact,
            Self::Suffix(suffix) => name.ends_with(suffix),
            Self::Prefix(prefix) => name.starts_with(prefix),
        }
    }
}

/// One element of a route's `hosts`.
#[derive(Clone, Debug)]
pub(crate) struct HostPattern {
    pub(crate) name: Name,
    pub(crate) port: Option<i64>,
}

impl HostPattern {
    pub(crate) fn parse(pattern: &str) -> Self {
        let (name, port) = split_port(pattern);
        Self {
            name: Name::parse(name),
            port: port.and_then(|digits| digits.parse().ok()),
        }
    }

    pub(crate) fn matches(&self, host: &Host<'_>) -> bool {
        self.port.is_none_or(|port| port == host.port) && self.name.matches(&host.name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Host, HostPattern};

    fn fits(pattern: &str, value: &str) -> bool {
        HostPattern::parse(pattern).matches(&Host::parse(value, 8000))
    }

    #[test]
    fn compares_names_ports_and_wildcards() {
        assert!(fits("a.example.com", "A.Example.com.:9000"));
        assert!(fits("*.example.com", "a.b.example.com"));
        assert!(!fits("*.example.com", "example.com"));
        assert!(fits("example.*", "example.org:1"));
        assert!(!fits("example.*", "example"));
        assert!(fits("example.com:8000", "example.com"));
        assert!(fits("*.example.com:443", "a.example.com:443"));
        assert!(!fits("example.com:443", "example.com"));
        assert!(!fits("example.com:443", "example.com:99999"));
    }

    #[test]
    fn never_splits_ipv6_literals() {
        assert!(fits("[::1]", "[::1]"));
        assert!(!fits("[::1]", "[::1]:8000"));
        assert!(fits("[::1]:8000", "[::1]:8000"));
    }
}
