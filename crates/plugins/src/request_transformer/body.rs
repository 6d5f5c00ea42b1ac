//! Changes to a request body, by its content type.

use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::multipart::Multipart;

/// A body that the plugin understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Form,
    Multipart,
}

impl Format {
    /// By a substring of the content type, as in the original.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let content_type = content_type.to_ascii_lowercase();
        [
            ("application/json", Self::Json),
            ("multipart/form-data", Self::Multipart),
            ("application/x-www-form-urlencoded", Self::Form),
        ]
        .into_iter()
        .find_map(|(name, format)| content_type.contains(name).then_some(format))
    }
}

/// What is to be done with a body, with every value rendered.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) remove: Vec<String>,
    pub(super) rename: Vec<(String, String)>,
    pub(super) replace: Vec<(String, Vec<u8>)>,
    pub(super) add: Vec<(String, Vec<u8>)>,
    pub(super) append: Vec<(String, Vec<u8>)>,
}

impl Changes {
    /// The new body; `None` when it stays as it is, also because it is not what its type says.
    pub(super) fn apply(self, format: Format, content_type: &str, body: &[u8]) -> Option<Vec<u8>> {
        match format {
            Format::Json => self.apply_to_json(body),
            Format::Form => Some(self.apply_to_form(body)),
            Format::Multipart => self.apply_to_multipart(content_type, body),
        }
    }

    fn apply_to_json(self, body: &[u8]) -> Option<Vec<u8>> {
        let is_empty = body.is_empty();
        let mut members: Map<String, Value> = if is_empty {
            Map::new()
        } else {
            serde_json::from_slice(body).ok()?
        };
        for name in &self.remove {
            members.shift_remove(name);
        }
        for (old, new) in self.rename {
            if old != new
                && let Some(value) = members.shift_remove(&old)
            {
                members.insert(new, value);
            }
        }
        // In Lua everything but nil and false is true.
        let has = |members: &Map<String, Value>, name: &str| {
            members
                .get(name)
                .is_some_and(|it| *it != Value::Bool(false))
        };
        for (name, value) in self.replace {
            if has(&members, &name) {
                members.insert(name, text(&value));
            }
        }
        for (name, value) in self.add {
            if !has(&members, &name) {
                members.insert(name, text(&value));
            }
        }
        for (name, value) in self.append {
            let value = text(&value);
            let appended = match members.get_mut(&name).map(Value::take) {
                Some(Value::Array(mut list)) => {
                    list.push(value);
                    list
                }
                Some(present @ Value::String(_)) => vec![present, value],
                _ => vec![value],
            };
            members.insert(name, Value::Array(appended));
        }
        if is_empty && members.is_empty() {
            return None;
        }
        serde_json::to_vec(&members).ok()
    }

    fn apply_to_form(self, body: &[u8]) -> Vec<u8> {
        let mut form = Arguments::decode(body);
        self.apply_to_arguments(&mut form);
        form.encode().into_bytes()
    }

    /// The same for a query string.
    pub(super) fn apply_to_arguments(self, arguments: &mut Arguments<'_>) {
        for name in &self.remove {
            arguments.remove(name.as_bytes());
        }
        for (old, new) in &self.rename {
            arguments.rename(old.as_bytes(), new.as_bytes());
        }
        for (name, value) in self.replace {
            arguments.replace(name.as_bytes(), value);
        }
        for (name, value) in self.add {
            arguments.add(name.as_bytes(), value);
        }
        for (name, value) in self.append {
            arguments.append(name.as_bytes(), value);
        }
    }

    fn apply_to_multipart(self, content_type: &str, body: &[u8]) -> Option<Vec<u8>> {
        if body.is_empty() && self.add.is_empty() {
            return None;
        }
        let mut multipart = Multipart::parse(content_type, body)?;
        for name in &self.remove {
            multipart.remove(name.as_bytes());
        }
        for (old, new) in &self.rename {
            multipart.rename(old.as_bytes(), new.as_bytes());
        }
        for (name, value) in &self.replace {
            multipart.replace(name.as_bytes(), value);
        }
        for (name, value) in &self.add {
            multipart.add(name.as_bytes(), value);
        }
        Some(multipart.encode())
    }
}

fn text(value: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> Vec<(String, Vec<u8>)> {
        vec![(name.to_owned(), value.as_bytes().to_vec())]
    }

    fn json(changes: Changes, body: &str) -> Option<String> {
        let changed = changes.apply(Format::Json, "application/json", body.as_bytes());
        changed.map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn knows_a_format_by_part_of_the_content_type() {
        assert_eq!(
            Format::of("Application/JSON; charset=utf-8"),
            Some(Format::Json)
        );
        assert_eq!(
            Format::of("multipart/form-data; boundary=x"),
            Some(Format::Multipart)
        );
        assert_eq!(
            Format::of("application/x-www-form-urlencoded"),
            Some(Format::Form)
        );
        assert_eq!(Format::of("text/plain"), None);
    }

    #[test]
    fn plugins_case_060_json_bodies() {
        let add = || Changes {
            add: pair("k", "v"),
            ..Changes::default()
        };
        assert_eq!(json(add(), "{\"a\":"), None);
        assert_eq!(json(add(), "[1]"), None);
        assert_eq!(json(add(), "").unwrap(), r#"{"k":"v"}"#);
        assert_eq!(
            json(add(), r#"{"a":[],"b":{}}"#).unwrap(),
            r#"{"a":[],"b":{},"k":"v"}"#
        );
        let rename = Changes {
            rename: vec![("a".into(), "a".into())],
            ..Changes::default()
        };
        assert_eq!(json(rename, r#"{"a":1}"#).unwrap(), r#"{"a":1}"#);
    }

    #[test]
    fn every_operation_on_json_in_its_order() {
        let changes = Changes {
            remove: vec!["gone".into()],
            rename: vec![
                ("old".into(), "new".into()),
                ("missing".into(), "kept".into()),
            ],
            replace: [pair("new", "r"), pair("off", "r"), pair("none", "r")].concat(),
            add: [pair("off", "on"), pair("kept", "no")].concat(),
            append: [pair("list", "x"), pair("text", "x"), pair("fresh", "x")].concat(),
        };
        let body = r#"{"gone":1,"old":2,"off":false,"kept":3,"list":[1],"text":"t"}"#;
        let expected =
            r#"{"off":"on","kept":3,"list":[1,"x"],"text":["t","x"],"new":"r","fresh":["x"]}"#;
        assert_eq!(json(changes, body).unwrap(), expected);
    }

    #[test]
    fn forms_and_multiparts_are_changed_too() {
        let changes = Changes {
            add: pair("k", "v w"),
            append: pair("a", "2"),
            ..Changes::default()
        };
        let form = changes.clone().apply(Format::Form, "", b"a=1").unwrap();
        assert_eq!(form, b"a=1&k=v%20w&a=2");
        let kind = "multipart/form-data; boundary=b";
        let body = changes.apply(Format::Multipart, kind, b"").unwrap();
        assert!(
            String::from_utf8(body)
                .unwrap()
                .contains("name=\"k\"\r\n\r\nv w\r\n--b--")
        );
    }
}
