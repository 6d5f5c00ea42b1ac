//! Which origins may call.

use http::header::HeaderValue;
use o28m_gateway::BadConfig;
use regex::Regex;

/// Bytes of a compiled expression.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// The configured origins.
pub(super) enum Origins {
    /// None are configured, or only `*`.
    Everybody,
    /// A single plain one: it is told to every caller, whoever it is.
    Fixed(HeaderValue),
    /// Callers are compared.
    Listed(Vec<Entry>),
}

pub(super) enum Entry {
    Everybody,
    /// A normalised origin, or text that is none and equals nothing else.
    Plain(String),
    Pattern {
        pattern: Regex,
        /// Compared with the host alone.
        by_host: bool,
    },
}

/// What is told to a caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Everybody,
    Only(HeaderValue),
    Nobody,
}

fn is_plain(entry: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".:/-".contains(&byte);
    !entry.is_empty() && entry.bytes().all(fine)
}

impl Origins {
    pub(super) fn new(entries: &[String]) -> Result<Self, BadConfig> {
        match entries {
            [] => Ok(Self::Everybody),
            [only] if only == "*" => Ok(Self::Everybody),
            [only] if is_plain(only) => HeaderValue::try_from(only)
                .map(Self::Fixed)
                .map_err(|_| BadConfig(format!("'{only}' is not a valid regex"))),
            several => {
                let entries: Result<_, _> = several.iter().map(|it| Entry::new(it)).collect();
                Ok(Self::Listed(entries?))
            }
        }
    }

    /// Whether some caller is let in unseen.
    pub(super) fn is_everybody(&self) -> bool {
        match self {
            Self::Everybody => true,
            Self::Fixed(_) => false,
            Self::Listed(entries) => entries.iter().any(|it| matches!(it, Entry::Everybody)),
        }
    }

    /// Whether the answer depends on who asks, as far as caches know.
    pub(super) fn vary(&self) -> bool {
        !matches!(self, Self::Everybody)
    }

    /// What a caller of that origin is told.
    pub(super) fn answer(&self, origin: Option<&str>) -> Answer {
        match (self, origin) {
            (Self::Everybody, _) => Answer::Everybody,
            (Self::Fixed(value), _) => Answer::Only(value.clone()),
            (Self::Listed(_), None) => Answer::Nobody,
            (Self::Listed(_), Some(_)) if self.is_everybody() => Answer::Everybody,
            (Self::Listed(entries), Some(origin)) => {
                let (origin, host) = normalised(origin);
                let found = entries.iter().any(|entry| entry.matches(&origin, &host));
                let told = found.then(|| HeaderValue::try_from(origin).ok()).flatten();
                told.map_or(Answer::Nobody, Answer::Only)
            }
        }
    }
}

impl Entry {
    fn new(entry: &str) -> Result<Self, BadConfig> {
        if entry == "*" {
            return Ok(Self::Everybody);
        }
        if is_plain(entry) {
            return Ok(Self::Plain(normalised(entry).0));
        }
        let pattern = regex::RegexBuilder::new(&format!(r"\A(?:{entry})\z"))
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|_| BadConfig(format!("'{entry}' is not a valid regex")))?;
        Ok(Self::Pattern {
            pattern,
            by_host: !entry.contains(':'),
        })
    }

    fn matches(&self, origin: &str, host: &str) -> bool {
        match self {
            Self::Everybody => true,
            Self::Plain(plain) => plain == origin,
            Self::Pattern { pattern, by_host } => {
                pattern.is_match(if *by_host { host } else { origin })
            }
        }
    }
}

/// An origin without its default port, and its host. What is no origin stays as it is.
fn normalised(origin: &str) -> (String, String) {
    let as_it_is = || (origin.to_owned(), origin.to_owned());
    let Some((scheme, rest)) = origin.split_once("://") else {
        return as_it_is();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() {
        return as_it_is();
    }
    let port = port.filter(|port| {
        let is_default = matches!((scheme, *port), ("http", "80") | ("https", "443"));
        !port.is_empty() && !is_default
    });
    let origin = match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    };
    (origin, host.to_owned())
}
