//! The configuration of one instance (Kong 3.9.3), compiled.

use http::Method;
use http::header::{HOST, HeaderName, HeaderValue};
use o28m_gateway::BadConfig;
use serde::Deserialize;

use super::template::Template;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Names {
    headers: Vec<String>,
    querystring: Vec<String>,
    body: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Replacements {
    headers: Vec<String>,
    querystring: Vec<String>,
    body: Vec<String>,
    uri: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Config {
    http_method: Option<String>,
    remove: Names,
    rename: Names,
    replace: Replacements,
    add: Names,
    append: Names,
}

/// A header's value: most have no expression in them and are made once.
pub(super) enum HeaderText {
    Literal(HeaderValue),
    Template(Template),
}

/// Changes to headers. An entry without value in the last three does nothing and is left out.
pub(super) struct Headers {
    pub(super) remove: Vec<HeaderName>,
    pub(super) rename: Vec<(HeaderName, HeaderName)>,
    pub(super) replace: Vec<(HeaderName, HeaderText)>,
    pub(super) add: Vec<(HeaderName, HeaderText)>,
    pub(super) append: Vec<(HeaderName, HeaderText)>,
}

/// Changes to a query string or a body.
pub(super) struct Fields {
    pub(super) remove: Vec<String>,
    pub(super) rename: Vec<(String, String)>,
    pub(super) replace: Vec<(String, Template)>,
    pub(super) add: Vec<(String, Template)>,
    pub(super) append: Vec<(String, Template)>,
}

/// Everything an instance does.
pub(super) struct Plan {
    pub(super) uri: Option<Template>,
    pub(super) method: Option<Method>,
    pub(super) headers: Headers,
    pub(super) body: Fields,
    pub(super) querystring: Fields,
}

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.rename.is_empty()
            && self.replace.is_empty()
            && self.add.is_empty()
            && self.append.is_empty()
    }
}

impl Config {
    /// # Errors
    /// [`BadConfig`] naming the entry that cannot be used.
    pub(super) fn compile(self) -> Result<Plan, BadConfig> {
        Ok(Plan {
            uri: self.replace.uri.as_deref().map(uri).transpose()?,
            method: self.http_method.as_deref().map(method).transpose()?,
            headers: Headers {
                remove: removed_headers(&self.remove.headers)?,
                rename: renamed_headers(&self.rename.headers)?,
                replace: headers("replace", &self.replace.headers)?,
                add: headers("add", &self.add.headers)?,
                append: headers("append", &self.append.headers)?,
            },
            body: Fields {
                remove: self.remove.body,
                rename: renamed("body", &self.rename.body)?,
                replace: fields("replace.body", &self.replace.body)?,
                add: fields("add.body", &self.add.body)?,
                append: fields("append.body", &self.append.body)?,
            },
            querystring: Fields {
                remove: self.remove.querystring,
                rename: renamed("querystring", &self.rename.querystring)?,
                replace: fields("replace.querystring", &self.replace.querystring)?,
                add: fields("add.querystring", &self.add.querystring)?,
                append: fields("append.querystring", &self.append.querystring)?,
            },
        })
    }
}

/// Splits at the first colon; colons right after it are swallowed.
fn split(entry: &str) -> (&str, &str) {
    let (name, value) = entry.split_once(':').unwrap_or((entry, ""));
    (name, value.trim_start_matches(':'))
}

fn method(name: &str) -> Result<Method, BadConfig> {
    let is_upper_case = name.bytes().all(|byte| byte.is_ascii_uppercase());
    let method = Method::from_bytes(name.as_bytes()).ok();
    method
        .filter(|_| is_upper_case)
        .ok_or_else(|| BadConfig(format!("http_method: invalid value: {name}")))
}

fn uri(text: &str) -> Result<Template, BadConfig> {
    let template = template("replace.uri", text)?;
    if template.texts().any(|text| text.contains(['?', '#'])) {
        let reason = "replace.uri: must be a path, without '?' or '#'";
        return Err(BadConfig(reason.to_owned()));
    }
    Ok(template)
}

fn template(field: &str, value: &str) -> Result<Template, BadConfig> {
    Template::compile(value).map_err(|error| {
        BadConfig(format!(
            "{field}: value '{value}' is not in supported format, error: {error}"
        ))
    })
}

fn header_name(field: &str, name: &str) -> Result<HeaderName, BadConfig> {
    HeaderName::try_from(name)
        .map_err(|_| BadConfig(format!("{field}.headers: '{name}' is not a valid header")))
}

fn removed_headers(names: &[String]) -> Result<Vec<HeaderName>, BadConfig> {
    let names = names.iter().map(|name| header_name("remove", name));
    names.filter(|name| !is_host(name)).collect()
}

fn is_host(name: &Result<HeaderName, BadConfig>) -> bool {
    matches!(name, Ok(name) if *name == HOST)
}

fn renamed_headers(entries: &[String]) -> Result<Vec<(HeaderName, HeaderName)>, BadConfig> {
    let mut renamed = Vec::new();
    for entry in entries {
        let (old, new) = split(entry);
        let (old, new) = (header_name("rename", old)?, header_name("rename", new)?);
        if old != HOST && new != HOST {
            renamed.push((old, new));
        }
    }
    Ok(renamed)
}

fn headers(field: &str, entries: &[String]) -> Result<Vec<(HeaderName, HeaderText)>, BadConfig> {
    let mut headers = Vec::new();
    for entry in entries {
        if !entry.contains(':') {
            return Err(BadConfig(format!(
                "{field}.headers: invalid value: {entry}"
            )));
        }
        let (name, value) = split(entry);
        let name = header_name(field, name)?;
        // White space around a value does not travel over HTTP.
        let value = value.trim_matches([' ', '\t']);
        // The upstream's host can be replaced, nothing else.
        if name == HOST && field != "replace" {
            continue;
        }
        if !value.is_empty() {
            headers.push((name, header_text(field, value)?));
        }
    }
    Ok(headers)
}

fn header_text(field: &str, value: &str) -> Result<HeaderText, BadConfig> {
    let template = template(&format!("{field}.headers"), value)?;
    Ok(match template.literal() {
        None => HeaderText::Template(template),
        Some(text) => HeaderText::Literal(HeaderValue::from_str(text).map_err(|_| {
            BadConfig(format!(
                "{field}.headers: value '{text}' cannot be a header"
            ))
        })?),
    })
}

/// A name and a value that must not be empty.
fn field<'a>(field: &str, entry: &'a str) -> Result<(&'a str, &'a str), BadConfig> {
    let (name, value) = split(entry);
    if value.is_empty() {
        return Err(BadConfig(format!("{field}: key '{name}' has no value")));
    }
    Ok((name, value))
}

fn renamed(part: &str, entries: &[String]) -> Result<Vec<(String, String)>, BadConfig> {
    let path = format!("rename.{part}");
    let entries = entries.iter().map(|entry| {
        let (old, new) = field(&path, entry)?;
        Ok((old.to_owned(), new.to_owned()))
    });
    entries.collect()
}

fn fields(path: &str, entries: &[String]) -> Result<Vec<(String, Template)>, BadConfig> {
    let entries = entries.iter().map(|entry| {
        let (name, value) = field(path, entry)?;
        Ok((name.to_owned(), template(path, value)?))
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compile(config: serde_json::Value) -> Result<Plan, String> {
        let config: Config = crate::config::read(&config).unwrap();
        config.compile().map_err(|error| error.0)
    }

    #[test]
    fn plugins_case_058_entries_that_cannot_be_used_are_named() {
        for (config, reason) in [
            (
                json!({"add": {"headers": ["just_a_key"]}}),
                "invalid value: just_a_key",
            ),
            (
                json!({"add": {"querystring": ["p:"]}}),
                "key 'p' has no value",
            ),
            (
                json!({"add": {"querystring": ["p:$(uri_captures user2)"]}}),
                "not in supported format",
            ),
            (json!({"append": {"headers": ["a:$(foo())"]}}), "foo"),
            (
                json!({"remove": {"headers": ["a b"]}}),
                "'a b' is not a valid header",
            ),
            (
                json!({"rename": {"headers": ["a:b c"]}}),
                "'b c' is not a valid header",
            ),
            (json!({"rename": {"body": ["a"]}}), "key 'a' has no value"),
            (json!({"http_method": "get"}), "http_method"),
            (json!({"replace": {"uri": "/a?b=c"}}), "replace.uri"),
        ] {
            let error = compile(config.clone()).err().unwrap_or_default();
            assert!(error.contains(reason), "{config}: {error:?}");
        }
    }

    #[test]
    fn plugins_case_061_later_colons_belong_to_the_value() {
        assert_eq!(split("a:b:c"), ("a", "b:c"));
        assert_eq!(split("k:::v"), ("k", "v"));
        let plan = compile(json!({"add": {"headers": ["u:https://h:443/p", "empty:"]}})).unwrap();
        let [(name, HeaderText::Literal(value))] = plan.headers.add.as_slice() else {
            panic!("one literal header expected");
        };
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("u", &b"https://h:443/p"[..])
        );
    }
}
