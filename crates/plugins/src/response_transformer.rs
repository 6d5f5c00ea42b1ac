//! response-transformer: changes the headers of responses (Kong 3.9.3).

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use o28m_gateway::{BadConfig, Exchange, Plugin, PluginKind};
use serde::Deserialize;
use serde_json::Value;

use crate::config;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lists {
    headers: Vec<String>,
    json: Vec<String>,
    json_types: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    remove: Lists,
    rename: Lists,
    replace: Lists,
    add: Lists,
    append: Lists,
}

pub(crate) struct Kind;

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "response-transformer"
    }

    fn is_shareable(&self) -> bool {
        true
    }

    fn priority(&self) -> i32 {
        800
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        Ok(Arc::new(ResponseTransformer {
            remove: headers(config.remove)?
                .iter()
                .map(|name| config::header_name(name))
                .collect::<Result<_, _>>()?,
            rename: pairs(config.rename, config::header_name)?,
            replace: pairs(config.replace, value)?,
            add: pairs(config.add, value)?,
            append: pairs(config.append, value)?,
        }))
    }
}

/// The part of a configuration that can be carried out.
fn headers(lists: Lists) -> Result<Vec<String>, BadConfig> {
    if lists.json.is_empty() && lists.json_types.is_empty() {
        Ok(lists.headers)
    } else {
        let reason = "bodies of responses cannot be transformed";
        Err(BadConfig(reason.into()))
    }
}

/// Entries `name:value`; colons right after the first belong to neither side, and an entry without
/// value does nothing.
fn pairs<T>(
    lists: Lists,
    read: impl Fn(&str) -> Result<T, BadConfig>,
) -> Result<Vec<(HeaderName, T)>, BadConfig> {
    let mut pairs = Vec::new();
    for entry in headers(lists)? {
        let (name, value) = entry.split_once(':').unwrap_or((&entry, ""));
        let value = value.trim_start_matches(':');
        if !value.is_empty() {
            pairs.push((config::header_name(name)?, read(value)?));
        }
    }
    Ok(pairs)
}

fn value(text: &str) -> Result<HeaderValue, BadConfig> {
    HeaderValue::try_from(text).map_err(|_| BadConfig(format!("{text:?} is no header value")))
}

struct ResponseTransformer {
    remove: Vec<HeaderName>,
    rename: Vec<(HeaderName, HeaderName)>,
    replace: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    append: Vec<(HeaderName, HeaderValue)>,
}

impl ResponseTransformer {
    fn change(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (old, new) in &self.rename {
            rename(headers, old, new);
        }
        for (name, value) in &self.replace {
            if headers.contains_key(name) {
                headers.insert(name, value.clone());
            }
        }
        for (name, value) in &self.add {
            if !headers.contains_key(name) {
                headers.insert(name, value.clone());
            }
        }
        for (name, value) in &self.append {
            // A response with more headers than a map can hold stays as it is.
            let _is_full = headers.try_append(name, value.clone()).is_err();
        }
    }
}

fn rename(headers: &mut HeaderMap, old: &HeaderName, new: &HeaderName) {
    let values: Vec<HeaderValue> = headers.get_all(old).iter().cloned().collect();
    if old == new || values.is_empty() {
        return;
    }
    headers.remove(old);
    headers.remove(new);
    for value in values {
        headers.append(new, value);
    }
}

impl Plugin for ResponseTransformer {
    fn header_filter(&self, _: &mut Exchange, response: &mut http::response::Parts) {
        self.change(&mut response.headers);
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use o28m_net::Body;
    use serde_json::json;

    use super::*;
    use crate::testing::exchange;

    fn changed(config: Value, sent: &[(&str, &str)]) -> Vec<(String, String)> {
        let plugin = Kind.configure(&config).unwrap();
        let mut exchange = exchange(Request::get("/").body(Body::Empty).unwrap());
        let mut response = Response::builder();
        for (name, value) in sent {
            response = response.header(*name, *value);
        }
        let (mut head, ()) = response.body(()).unwrap().into_parts();
        plugin.header_filter(&mut exchange, &mut head);
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        let mut headers: Vec<_> = head.headers.iter().map(text).collect();
        headers.sort();
        headers
    }

    fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        headers.iter().map(owned).collect()
    }

    #[test]
    fn headers_are_changed_in_kongs_order() {
        let config = json!({
            "remove": {"headers": ["X-Gone"]},
            "rename": {"headers": ["X-Old:X-New", "X-Missing:X-Never", "X-Same:x-same"]},
            "replace": {"headers": ["X-New:n:1", "X-Absent:1", "X-Kept:"]},
            "add": {"headers": ["X-Gone:back", "X-Kept:other", "X-Empty:"]},
            "append": {"headers": ["X-Kept:more", "X-First:::1"]},
        });
        let sent = [
            ("x-gone", "1"),
            ("x-old", "1"),
            ("x-new", "0"),
            ("x-kept", "1"),
            ("x-same", "1"),
        ];
        let expected = [
            ("x-first", "1"),
            ("x-gone", "back"),
            ("x-kept", "1"),
            ("x-kept", "more"),
            ("x-new", "n:1"),
            ("x-same", "1"),
        ];
        assert_eq!(changed(config, &sent), pairs(&expected));
    }

    #[test]
    fn every_line_of_a_header_is_renamed() {
        let config = json!({"rename": {"headers": ["a:b"]}});
        let sent = [("a", "1"), ("a", "2"), ("b", "0")];
        assert_eq!(changed(config, &sent), pairs(&[("b", "1"), ("b", "2")]));
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        for config in [
            json!({"add": {"json": ["a:1"]}}),
            json!({"remove": {"json": ["a"]}}),
            json!({"add": {"json_types": ["number"]}}),
            json!({"remove": {"headers": ["a b"]}}),
            json!({"add": {"headers": ["a:b\nc"]}}),
        ] {
            assert!(Kind.configure(&config).is_err(), "{config}");
        }
    }
}
