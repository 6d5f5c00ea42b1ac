//! The table of settings as JSON Schema and as a reference page.

use serde_json::{Map, Value, json};

use super::table::{Kind, SETTINGS, Setting};

/// JSON Schema (draft 2020-12) of the configuration file.
#[must_use]
pub fn json_schema() -> Value {
    let mut root = section("");
    root.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    root.insert("title".to_owned(), json!("o28m configuration"));
    Value::Object(root)
}

/// The schema of everything below `prefix`, which is empty or ends with a dot.
fn section(prefix: &str) -> Map<String, Value> {
    let mut properties = Map::new();
    for setting in SETTINGS {
        let Some(rest) = setting.key.strip_prefix(prefix) else {
            continue;
        };
        match rest.split_once('.') {
            Some((name, _)) if properties.contains_key(name) => {}
            Some((name, _)) => {
                let inner = section(&format!("{prefix}{name}."));
                properties.insert(name.to_owned(), Value::Object(inner));
            }
            None => {
                properties.insert(rest.to_owned(), property(setting));
                if setting.secret {
                    let text = format!("File that holds {}.", setting.key);
                    let twin = json!({"type": "string", "description": text});
                    properties.insert(format!("{rest}_file"), twin);
                }
            }
        }
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema
}

fn property(setting: &Setting) -> Value {
    let mut schema = match setting.kind {
        Kind::Text | Kind::Path | Kind::Duration | Kind::PositiveDuration | Kind::Listen => {
            json!({"type": "string"})
        }
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Integer(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Kind::List | Kind::PortMaps => {
            json!({"type": ["array", "string"], "items": {"type": "string"}})
        }
        Kind::OneOf(known) => json!({"type": "string", "enum": known}),
        Kind::Ratio => json!({"type": "number", "minimum": 0, "maximum": 1}),
        Kind::SomeOf(known) => json!({"type": ["array", "string"], "items": {"enum": known}}),
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), json!(setting.doc));
        if !setting.default.is_empty() {
            schema.insert("default".to_owned(), json!(setting.default));
        }
    }
    schema
}

/// The reference page: one table row for each setting, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(concat!(
        "# Configuration\n\n",
        "Strength, weakest first: default, file, environment of the replaced product, ",
        "`O28M_` environment, command line.\n",
        "A key such as `proxy.tls.cert` is `O28M_PROXY__TLS__CERT` in the environment. A value may be\n",
        "`env:NAME` or `file:/path`; a secret also has a `<key>_file` twin.\n\n",
        "This page is written by `o28m config schema --reference`.\n\n",
        "| key | default | also set by | meaning |\n| --- | --- | --- | --- |\n",
    ));
    for setting in SETTINGS {
        let code = |text: &str| {
            if text.is_empty() {
                "–".to_owned()
            } else {
                format!("`{text}`")
            }
        };
        let compat: Vec<String> = setting.compat.iter().map(|name| code(name)).collect();
        let compat = if compat.is_empty() {
            "–".to_owned()
        } else {
            compat.join(", ")
        };
        let row = [
            &code(setting.key),
            &code(setting.default),
            &compat,
            setting.doc,
        ];
        page.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_sections_are_nested_objects() {
        let schema = json_schema();
        let tls = &schema["properties"]["proxy"]["properties"]["tls"]["properties"];
        assert_eq!(tls["protocols"]["type"], "string");
        assert_eq!(tls["cert"]["type"], json!(["array", "string"]));
        let twin = &schema["properties"]["identity"]["properties"]["admin_password_file"];
        assert_eq!(twin["type"], "string");
    }

    #[test]
    fn the_committed_reference_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == reference(),
            "run: o28m config schema --reference > docs/configuration.md"
        );
    }
}
