//! Kong's one-line rendering of a tree of messages.

use std::fmt::Write as _;

use serde_json::Value;

use crate::entity::{Document, ENTITY, Violations};

impl Violations {
    /// A single message on one field.
    pub(crate) fn on(field: &str, message: impl Into<String>) -> Self {
        let mut fields = Document::new();
        fields.insert(field.to_owned(), Value::String(message.into()));
        Self { fields }
    }

    /// The `message` of error code 2, such as `schema violation (host: required field missing)`:
    /// entity messages first, then fields in the order of their names; what lies deeper than two
    /// levels is printed as a block.
    #[must_use]
    pub fn message(&self) -> String {
        let mut items = Vec::new();
        if let Some(Value::Array(messages)) = self.fields.get(ENTITY) {
            items.extend(messages.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        let mut names: Vec<&String> = self.fields.keys().filter(|name| *name != ENTITY).collect();
        names.sort();
        for name in names {
            if let Some(tree) = self.fields.get(name) {
                flatten(name, tree, &mut items);
            }
        }
        match items.as_slice() {
            [only] => format!("schema violation ({only})"),
            many => format!("{} schema violations ({})", many.len(), many.join("; ")),
        }
    }
}

/// The members of an array or object that hold messages, arrays by their position from 1.
fn members(tree: &Value) -> Vec<(String, &Value)> {
    match tree {
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .filter(|(_, element)| !element.is_null())
            .map(|(at, element)| ((at + 1).to_string(), element))
            .collect(),
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().map(|(k, v)| (k.clone(), v)).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            members
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn flatten(name: &str, tree: &Value, items: &mut Vec<String>) {
    if let Value::String(message) = tree {
        items.push(format!("{name}: {message}"));
        return;
    }
    for (member, below) in members(tree) {
        let text = match below {
            Value::String(message) => message.clone(),
            deeper => {
                let mut block = String::new();
                print(deeper, 0, &mut block);
                block
            }
        };
        items.push(format!("{name}.{member}: {text}"));
    }
}

/// A block in the notation of Lua tables, indented by two spaces.
fn print(tree: &Value, depth: usize, out: &mut String) {
    if let Value::String(text) = tree {
        quote(text, out);
        return;
    }
    let indent = "  ".repeat(depth + 1);
    let is_array = tree.is_array();
    out.push_str("{\n");
    let members = members(tree);
    for (at, (key, below)) in members.iter().enumerate() {
        out.push_str(&indent);
        if is_array {
            // Leading elements need no key; after a hole every element names its position.
            if *key != (at + 1).to_string() {
                // Writing to a string cannot fail.
                write!(out, "[{key}] = ").unwrap_or_default();
            }
        } else if is_identifier(key) {
            write!(out, "{key} = ").unwrap_or_default();
        } else {
            out.push('[');
            quote(key, out);
            out.push_str("] = ");
        }
        print(below, depth + 1, out);
        if at + 1 < members.len() {
            out.push(',');
        }
        out.push('\n');
    }
    out.push_str(&"  ".repeat(depth));
    out.push('}');
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}

fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|other| other.is_ascii_alphanumeric() || other == '_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(fields: Value) -> String {
        let Value::Object(fields) = fields else {
            panic!("not an object")
        };
        Violations { fields }.message()
    }

    #[test]
    fn entity_messages_come_first_then_fields_by_name() {
        let text = message(json!({"path": "p", "host": "h", "@entity": ["e1", "e2"]}));
        assert_eq!(text, "4 schema violations (e1; e2; host: h; path: p)");
    }

    #[test]
    fn array_elements_are_counted_from_one() {
        let text = message(json!({"paths": [null, "b", "c"]}));
        assert_eq!(text, "2 schema violations (paths.2: b; paths.3: c)");
    }

    #[test]
    fn deep_messages_are_printed_as_a_block() {
        let text = message(json!({"healthchecks": {"active": {
            "type": "expected one of: tcp, http, https, grpc, grpcs",
            "healthy": {"interval": "value should be between 0 and 65535"},
        }}}));
        let block = "schema violation (healthchecks.active: {\n  healthy = {\n    interval = \"value should be between 0 and 65535\"\n  },\n  type = \"expected one of: tcp, http, https, grpc, grpcs\"\n})";
        assert_eq!(text, block);
        let text = message(json!({"config": {"allow": ["bad"]}}));
        assert_eq!(text, "schema violation (config.allow: {\n  \"bad\"\n})");
        let text = message(json!({"config": {"allow": [null, "bad"], "x": {"@entity": ["e"]}}}));
        assert_eq!(
            text,
            "2 schema violations (config.allow: {\n  [2] = \"bad\"\n}; config.x: {\n  [\"@entity\"] = {\n    \"e\"\n  }\n})"
        );
    }
}
