//! `Host` values and route hosts as the flavour `traditional` compares them.

use std::borrow::Cow;

use crate::RequestHead;
use crate::host::{Name, canonical};
use crate::index::NAME_BYTES_MAX;

/// A `Host` value in its forms, all in lower case; empty when there is none.
pub(crate) struct Asked<'a> {
    /// As sent, but for a trailing dot of the name.
    pub(crate) raw: Cow<'a, str>,
    /// With port, which is the scheme's when none was sent.
    pub(crate) with_port: String,
    /// Where the name without port and brackets stands in `raw`.
    bare: (usize, usize),
}

impl<'a> Asked<'a> {
    pub(crate) fn parse(head: &RequestHead<'a>) -> Self {
        let port = if head.server_name.is_some() {
            "443"
        } else {
            "80"
        };
        let raw = without_trailing_dot(head.host);
        if raw.is_empty() || raw.len() > NAME_BYTES_MAX {
            return Self {
                raw: Cow::Borrowed(""),
                with_port: String::new(),
                bare: (0, 0),
            };
        }
        let (bare, with_port) = split(&raw, port);
        Self {
            raw,
            with_port,
            bare,
        }
    }

    /// The name without port and brackets.
    pub(crate) fn bare(&self) -> &str {
        self.raw.get(self.bare.0..self.bare.1).unwrap_or_default()
    }

    /// What wildcards stand before or after.
    pub(crate) fn labels(&self) -> &str {
        without_port(&self.with_port).unwrap_or(&self.with_port)
    }
}

fn without_trailing_dot(host: &str) -> Cow<'_, str> {
    match host.split_once(".:") {
        Some((name, port)) if is_digits(port) => {
            Cow::Owned(format!("{name}:{port}").to_ascii_lowercase())
        }
        _ => canonical(host),
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_digit())
}

/// Without a colon and at least one digit at the end.
fn without_port(text: &str) -> Option<&str> {
    let (name, port) = text.rsplit_once(':')?;
    (!port.is_empty() && is_digits(port)).then_some(name)
}

/// Where the bare name stands, and the name with a port. Brackets are peeled off, and a value with
/// several colons and no brackets stays whole.
fn split(raw: &str, default: &str) -> ((usize, usize), String) {
    let whole = (0, raw.len());
    let appended = || format!("{raw}:{default}");
    if raw.starts_with('[') {
        if raw.len() > 1 && raw.ends_with(']') {
            return ((1, raw.len() - 1), appended());
        }
        let close = raw.match_indices("]:").map(|(at, _)| at).find(|at| *at > 0);
        return match close.map(|at| (at, raw.get(at + 2..).unwrap_or_default())) {
            Some((at, "")) => ((1, at), format!("{raw}{default}")),
            Some((at, port)) if is_digits(port) => ((1, at), raw.to_owned()),
            _ => (whole, appended()),
        };
    }
    match raw
        .find(':')
        .map(|at| (at, raw.get(at + 1..).unwrap_or_default()))
    {
        None => (whole, appended()),
        Some((at, "")) => ((0, at), format!("{raw}{default}")),
        Some((at, port)) if is_digits(port) => ((0, at), raw.to_owned()),
        Some(_) => (whole, format!("[{raw}]:{default}")),
    }
}

/// One element of a route's `hosts`.
#[derive(Clone, Debug)]
pub(crate) enum HostForm {
    /// Equal to the value as sent, or to its bare name.
    Plain(String),
    /// One `*` for one character and more.
    Wildcard {
        text: String,
        before: String,
        after: String,
        has_port: bool,
    },
}

impl HostForm {
    pub(crate) fn parse(host: &str) -> Self {
        let text = canonical(host).into_owned();
        let Some((before, after)) = text.split_once('*') else {
            return Self::Plain(text);
        };
        let colon = text.find(':');
        let port = colon.and_then(|at| text.get(at + 1..)).unwrap_or_default();
        Self::Wildcard {
            before: before.to_owned(),
            after: after.to_owned(),
            has_port: !port.is_empty() && is_digits(port),
            text,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Wildcard { text, .. } => text,
        }
    }

    pub(crate) fn is_wildcard(&self) -> bool {
        matches!(self, Self::Wildcard { .. })
    }

    pub(crate) fn is_wildcard_with_port(&self) -> bool {
        matches!(self, Self::Wildcard { has_port: true, .. })
    }

    /// Under which name it can be looked up.
    pub(crate) fn key(&self) -> Option<Name> {
        match self {
            Self::Plain(text) => Some(Name::Exact(text.clone())),
            Self::Wildcard { before, after, .. } => {
                let after = without_port(after).unwrap_or(after);
                if before.is_empty() && after.starts_with('.') {
                    Some(Name::Suffix(after.to_owned()))
                } else if before.ends_with('.') {
                    Some(Name::Prefix(before.clone()))
                } else {
                    None
                }
            }
        }
    }

    /// Whether the request's host fits; `key` is the value that plain hosts may equal as sent.
    pub(crate) fn fits(&self, asked: &Asked<'_>, key: &str) -> bool {
        match self {
            Self::Plain(text) => !asked.raw.is_empty() && (text == key || text == asked.bare()),
            Self::Wildcard { .. } => self.wildcard_fits(&asked.with_port),
        }
    }

    /// Whether a host with port fits a wildcard.
    pub(crate) fn wildcard_fits(&self, with_port: &str) -> bool {
        let Self::Wildcard {
            before,
            after,
            has_port,
            ..
        } = self
        else {
            return false;
        };
        let fits = |text: &str| {
            let rest = text.strip_prefix(before.as_str());
            rest.is_some_and(|rest| rest.len() > after.len() && rest.ends_with(after.as_str()))
        };
        fits(with_port) || !has_port && without_port(with_port).is_some_and(fits)
    }
}
