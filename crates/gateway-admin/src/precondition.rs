//! `ETag`, `If-Match` and `If-None-Match` on single entities (RFC 9110 section 13): a change can be made
//! to depend on the state that it was made from. Without these headers everything is as in Kong.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response};
use o28m_net::Body;
use o28m_store::Record;

use crate::problem::Problem;
use crate::request;

/// What a request demands of the stored state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preconditions {
    if_match: Option<Condition>,
    if_none_match: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// `*`
    Anything,
    /// One of these entity tags.
    OneOf(Vec<String>),
}

impl Preconditions {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self {
            if_match: Condition::of(headers, &header::IF_MATCH),
            if_none_match: Condition::of(headers, &header::IF_NONE_MATCH),
        }
    }

    /// Whether a reader has this state already.
    pub(crate) fn is_known(&self, version: i64) -> bool {
        let condition = self.if_none_match.as_ref();
        condition.is_some_and(|it| it.holds(Some(version)))
    }

    /// Whether a write may replace what is stored.
    fn allow(&self, version: Option<i64>) -> bool {
        let matches = self.if_match.as_ref().is_none_or(|it| it.holds(version));
        let matches_none = self
            .if_none_match
            .as_ref()
            .is_none_or(|it| !it.holds(version));
        matches && matches_none
    }

    /// Whether there are any.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Condition {
    fn of(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut tags = Vec::new();
        for value in headers.get_all(name) {
            // What is no text matches nothing.
            for tag in value.to_str().unwrap_or_default().split(',').map(str::trim) {
                if tag == "*" {
                    return Some(Self::Anything);
                }
                tags.push(tag.to_owned());
            }
        }
        (!tags.is_empty()).then_some(Self::OneOf(tags))
    }

    fn holds(&self, version: Option<i64>) -> bool {
        match (self, version) {
            (_, None) => false,
            (Self::Anything, Some(_)) => true,
            (Self::OneOf(tags), Some(version)) => tags.contains(&tag(version)),
        }
    }
}

/// The entity tag of a version.
fn tag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Adds the tag of the shown state.
pub(crate) fn add_tag(response: &mut Response<Body>, version: i64) {
    if let Ok(value) = HeaderValue::try_from(tag(version)) {
        response.headers_mut().insert(header::ETAG, value);
    }
}

/// Checks what the request being served demands of the entity it is about. Gives the version that the
/// write must find: without demands it does not matter.
///
/// # Errors
/// [`Problem::Precondition`].
pub(crate) fn check(stored: Option<&Record>) -> Result<Option<i64>, Problem> {
    let Some(request) = request::current().filter(|it| !it.preconditions.is_empty()) else {
        return Ok(None);
    };
    let version = stored.map(|it| it.version);
    if request.preconditions.allow(version) {
        Ok(version)
    } else {
        Err(Problem::Precondition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(name: HeaderName, value: &'static str) -> Preconditions {
        let headers = [(name, HeaderValue::from_static(value))];
        Preconditions::of(&headers.into_iter().collect())
    }

    #[test]
    fn writes_depend_on_the_stored_version() {
        let none = Preconditions::default();
        assert!(none.is_empty() && none.allow(None) && none.allow(Some(1)));
        for (value, absent, first, second) in [
            ("\"1\"", false, true, false),
            ("\"2\", \"1\"", false, true, true),
            ("*", false, true, true),
            ("1", false, false, false),
            ("W/\"1\"", false, false, false),
        ] {
            let it = conditions(header::IF_MATCH, value);
            let allowed = [it.allow(None), it.allow(Some(1)), it.allow(Some(2))];
            assert_eq!(allowed, [absent, first, second], "{value}");
        }
        let create = conditions(header::IF_NONE_MATCH, "*");
        assert!(create.allow(None) && !create.allow(Some(1)));
        assert!(conditions(header::IF_NONE_MATCH, "\"7\"").is_known(7));
    }
}
