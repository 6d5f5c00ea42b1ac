//! Style sheet and script of the pages, and the realm's own look.

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use o28m_iris::Realm;
use o28m_net::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::reply::{self, Reply};

const STYLE: &str = include_str!("login.css");
/// Realm attribute with CSS variables that replace those of the style sheet.
const THEME: &str = "loginThemeVariables";
/// Bytes of it.
const THEME_BYTES_MAX: usize = 4000;
/// What stands for itself in a query (RFC 3986 section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A value for a query or fragment.
pub(crate) fn encode(value: &str) -> String {
    utf8_percent_encode(value, UNRESERVED).to_string()
}

/// The style sheet's URL; it changes with the program, so that the sheet can be kept.
pub(crate) fn style_url(base: &str) -> String {
    format!("{base}/resources/login.css?v={}", reply::tag_of(STYLE))
}

/// A script of the pages. None is needed by a person who logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// Presses the button of a page with a response.
    FormPost,
    /// Goes on when every client was told of a logout.
    Logout,
    /// Watches the login from frames of clients.
    Session,
    /// Tries whether cookies are kept in frames.
    CookiesSet,
    /// Sees whether they were.
    CookiesSeen,
}

impl Script {
    const ALL: [Self; 5] = [
        Self::FormPost,
        Self::Logout,
        Self::Session,
        Self::CookiesSet,
        Self::CookiesSeen,
    ];

    const fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::FormPost => ("form-post.js", include_str!("form-post.js")),
            Self::Logout => ("logout.js", include_str!("logout.js")),
            Self::Session => ("session.js", include_str!("session.js")),
            Self::CookiesSet => ("cookies-set.js", include_str!("cookies-set.js")),
            Self::CookiesSeen => ("cookies-seen.js", include_str!("cookies-seen.js")),
        }
    }
}

/// The URL of a script; it changes with the program, so that the script can be kept.
pub(crate) fn script_url(base: &str, script: Script) -> String {
    let (name, text) = script.file();
    format!("{base}/resources/{name}?v={}", reply::tag_of(text))
}

/// Serves what is below `/resources`.
pub(crate) fn answer(segments: &[String]) -> Reply {
    match segments {
        [name] if name == "login.css" => asset("text/css;charset=utf-8", STYLE, "max-age=2592000"),
        [name] => {
            let mut files = Script::ALL.into_iter().map(Script::file);
            match files.find(|(file, _)| file == name) {
                Some((_, text)) => asset("text/javascript;charset=utf-8", text, "max-age=2592000"),
                None => reply::unknown_path(),
            }
        }
        _ => reply::unknown_path(),
    }
}

fn asset(content_type: &str, text: &str, caching: &str) -> Reply {
    let mut reply = reply::empty(StatusCode::OK);
    *reply.body_mut() = Body::full(text.as_bytes().to_vec());
    let reply = reply::with(reply, CONTENT_TYPE, content_type);
    reply::with(reply, CACHE_CONTROL, caching)
}

/// The style sheet of a realm with a look of its own.
pub(crate) fn theme_sheet(realm: &Realm) -> Reply {
    match theme(realm) {
        Some(sheet) => asset("text/css;charset=utf-8", &sheet, "max-age=60"),
        None => reply::unknown_path(),
    }
}

/// The realm's variables as a style sheet. Whatever is not plainly a variable with a plain value is
/// left out: an administrator of a realm sets colours, not rules.
pub(crate) fn theme(realm: &Realm) -> Option<String> {
    let text = realm.attribute(THEME)?;
    variables(text).map(|inside| format!(":root {{\n{inside}}}\n"))
}

fn variables(text: &str) -> Option<String> {
    if text.len() > THEME_BYTES_MAX {
        return None;
    }
    let mut inside = String::new();
    for declaration in text.split(';') {
        let Some((name, value)) = declaration.split_once(':') else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        let plain_name = |it: u8| it.is_ascii_lowercase() || it == b'-';
        let plain_value = |it: u8| it.is_ascii_alphanumeric() || b" #.,%-'\"".contains(&it);
        let is_name = name.len() > 2 && name.starts_with("--") && name.bytes().all(plain_name);
        if is_name && !value.is_empty() && value.bytes().all(plain_value) {
            inside.push_str(&format!("  {name}: {value};\n"));
        }
    }
    (!inside.is_empty()).then_some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_sets_variables_and_nothing_else() {
        let text = "--accent: #e20074; --radius:0; color: red; --x: url(//evil); --y: } body{}";
        let expected = "  --accent: #e20074;\n  --radius: 0;\n";
        assert_eq!(variables(text).as_deref(), Some(expected));
        assert_eq!(variables("nothing"), None);
    }
}
