//! Where tokens are looked for: query parameters, cookies and headers.

use std::borrow::Cow;

use http::header::{COOKIE, HeaderName};
use http::request::Parts;
use o28m_gateway::BadConfig;

/// The tokens of a request; equal ones count once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    None,
    One(Cow<'a, str>),
    Several,
}

/// Where to look.
pub(super) struct Places {
    parameters: Vec<String>,
    cookies: Vec<String>,
    headers: Vec<HeaderName>,
}

impl Places {
    /// # Errors
    /// [`BadConfig`] for a header name that no header can have.
    pub(super) fn new(
        parameters: Vec<String>,
        cookies: Vec<String>,
        headers: &[String],
    ) -> Result<Self, BadConfig> {
        let header = |name: &String| {
            HeaderName::try_from(name.as_str())
                .map_err(|_| BadConfig(format!("header_names: bad header name '{name}'")))
        };
        Ok(Self {
            parameters,
            cookies,
            headers: headers.iter().map(header).collect::<Result<_, _>>()?,
        })
    }

    /// Looks everywhere.
    pub(super) fn find<'a>(&self, request: &'a Parts) -> Found<'a> {
        let mut found = Found::None;
        if let Some(query) = request.uri.query()
            && !self.parameters.is_empty()
        {
            for (name, value) in form_urlencoded::parse(query.as_bytes()) {
                if self.parameters.iter().any(|it| *it == name) {
                    found.add(value);
                }
            }
        }
        for name in &self.cookies {
            if let Some(value) = cookie(request, name) {
                found.add(Cow::Borrowed(value));
            }
        }
        for name in &self.headers {
            let value = request.headers.get(name);
            if let Some(token) = value.and_then(|value| bearer(value.as_bytes())) {
                found.add(String::from_utf8_lossy(token));
            }
        }
        found
    }
}

impl<'a> Found<'a> {
    fn add(&mut self, token: Cow<'a, str>) {
        if token.is_empty() {
            return;
        }
        match self {
            Self::None => *self = Self::One(token),
            Self::One(known) if *known == token => {}
            Self::One(_) | Self::Several => *self = Self::Several,
        }
    }
}

/// What follows the first `bearer` and white space, wherever it stands in the value (as in the
/// original), in any case (RFC 7235 section 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    (0..value.len()).find_map(|at| {
        let (scheme, rest) = value.get(at..)?.split_at_checked(SCHEME.len())?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let token = rest.trim_ascii_start();
        (token.len() < rest.len() && !token.is_empty()).then_some(token)
    })
}

/// The first cookie of that name; names are compared without case, as nginx does.
fn cookie<'a>(request: &'a Parts, name: &str) -> Option<&'a str> {
    let lines = request.headers.get_all(COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(it, _)| it.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(uri: &str, headers: &[(&str, &str)]) -> String {
        let places = Places::new(
            vec!["jwt".into()],
            vec!["token".into()],
            &["authorization".into(), "x-token".into()],
        )
        .unwrap();
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        match places.find(&parts) {
            Found::None => "none".into(),
            Found::One(token) => token.into_owned(),
            Found::Several => "several".into(),
        }
    }

    #[test]
    fn plugins_case_032_the_same_token_counts_once_and_two_are_refused() {
        let header = ("authorization", "Bearer a.b.c");
        assert_eq!(find("/?jwt=a.b.c", &[header]), "a.b.c");
        assert_eq!(find("/?jwt=a.b.d", &[header]), "several");
        assert_eq!(find("/?jwt=a&jwt=b", &[]), "several");
        assert_eq!(find("/?jwt=a&jwt=a&jwt=", &[]), "a");
        let cookie = ("cookie", "x=1; TOKEN=a.b.c");
        assert_eq!(find("/", &[cookie, header]), "a.b.c");
        assert_eq!(find("/", &[("cookie", "token=z"), header]), "several");
    }

    #[test]
    fn only_a_bearer_scheme_with_white_space_carries_a_token() {
        for (value, token) in [
            ("Bearer t", "t"),
            ("bearer   t", "t"),
            ("BEARER\tt", "t"),
            ("Basic abc, Bearer t u", "t u"),
            ("Bearer", "none"),
            ("Bearert", "none"),
            ("Basic dTpw", "none"),
            ("", "none"),
        ] {
            assert_eq!(find("/", &[("authorization", value)]), token, "{value}");
        }
    }

    #[test]
    fn only_the_first_of_repeated_headers_is_read() {
        let headers = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
        assert_eq!(find("/", &headers), "a");
        assert_eq!(find("/", &[("x-token", "Bearer a")]), "a");
        assert_eq!(find("/?other=a", &[]), "none");
    }
}
