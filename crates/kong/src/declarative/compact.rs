//! Kong's compact form of keys and trees of messages in a line.

use serde_json::Value;

/// `{id="…"}`: members sorted, nested ones alike; elements after a gap with their position from 1.
#[must_use]
pub fn compact(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|a, b| a.0.cmp(b.0));
            let members = members
                .into_iter()
                .map(|(name, value)| format!("{name}={}", compact(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(elements) => {
            let mut gap = false;
            let mut items = Vec::new();
            for (at, element) in elements.iter().enumerate() {
                match element {
                    Value::Null => gap = true,
                    element if gap => items.push(format!("[{}]={}", at + 1, compact(element))),
                    element => items.push(compact(element)),
                }
            }
            format!("{{{}}}", items.join(","))
        }
        Value::String(text) => format!("\"{text}\""),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_and_nested() {
        let key = json!({"service": null, "name": "acl", "route": {"id": "1"}, "consumer": null});
        let text = r#"{consumer=null,name="acl",route={id="1"},service=null}"#;
        assert_eq!(compact(&key), text);
    }

    #[test]
    fn positions_are_written_after_a_gap() {
        let tree = json!({"services": [null, {"host": "required"}], "routes": ["a", "b"]});
        let text = r#"{routes={"a","b"},services={[2]={host="required"}}}"#;
        assert_eq!(compact(&tree), text);
    }
}
