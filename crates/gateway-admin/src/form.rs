//! Keys of forms: `a.b`, `a[]`, `a[1]`, `a[key]` and their combinations (spec gateway-admin 4.1).

use o28m_kong::Document;
use serde_json::Value;

/// Arguments of a form or query at most.
pub(crate) const ARGUMENTS_MAX: usize = 1000;

/// One step of a key.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Append,
    /// From 1.
    Index(usize),
}

/// The document a form describes; every leaf is a text.
pub(crate) fn document(pairs: impl Iterator<Item = (String, String)>) -> Document {
    let mut root = Value::Object(Document::new());
    for (key, text) in pairs {
        place(&mut root, &steps(&key), Value::String(text));
    }
    match root {
        Value::Object(document) => document,
        _ => Document::new(),
    }
}

fn steps(key: &str) -> Vec<Step> {
    if key.starts_with('.') || key.ends_with('.') {
        return vec![Step::Member(key.to_owned())];
    }
    let mut steps = Vec::new();
    for part in key.split('.') {
        let (name, brackets) = match part.find('[') {
            Some(at) if part.ends_with(']') => part.split_at_checked(at).unwrap_or((part, "")),
            _ => (part, ""),
        };
        if !name.is_empty() || brackets.is_empty() {
            steps.push(Step::Member(name.to_owned()));
        }
        let inner = brackets.strip_prefix('[').and_then(|b| b.strip_suffix(']'));
        let indices = inner.into_iter().flat_map(|inner| inner.split("]["));
        steps.extend(indices.map(|index| match index.parse::<usize>() {
            _ if index.is_empty() => Step::Append,
            Ok(at @ 1..=ARGUMENTS_MAX) => Step::Index(at),
            _ => Step::Member(index.to_owned()),
        }));
    }
    steps
}

fn place(target: &mut Value, steps: &[Step], value: Value) {
    let Some((step, rest)) = steps.split_first() else {
        put(target, value);
        return;
    };
    match step {
        Step::Member(name) => {
            if !target.is_object() {
                *target = Value::Object(Document::new());
            }
            if let Value::Object(members) = target {
                place(members.entry(name).or_insert(Value::Null), rest, value);
            }
        }
        Step::Append => {
            let elements = array(target);
            elements.push(Value::Null);
            if let Some(last) = elements.last_mut() {
                place(last, rest, value);
            }
        }
        Step::Index(at) => {
            let elements = array(target);
            if elements.len() < *at {
                elements.resize(*at, Value::Null);
            }
            if let Some(element) = elements.get_mut(at - 1) {
                place(element, rest, value);
            }
        }
    }
}

/// A repeated plain key makes an array.
fn put(target: &mut Value, value: Value) {
    match target {
        Value::Null => *target = value,
        Value::Array(elements) => elements.push(value),
        first => *first = Value::Array(vec![std::mem::take(first), value]),
    }
}

/// The elements of an array, made of what is there.
fn array(target: &mut Value) -> &mut Vec<Value> {
    if !target.is_array() {
        let first = std::mem::take(target);
        let elements = if first.is_null() {
            Vec::new()
        } else {
            vec![first]
        };
        *target = Value::Array(elements);
    }
    #[expect(clippy::unreachable, reason = "made an array just above")]
    match target {
        Value::Array(elements) => elements,
        _ => unreachable!(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(form: &str) -> Value {
        let pairs = form_urlencoded::parse(form.as_bytes()).into_owned();
        Value::Object(document(pairs))
    }

    #[test]
    fn keys_name_members_elements_and_map_entries() {
        assert_eq!(parse("a.b.c=v"), json!({"a": {"b": {"c": "v"}}}));
        assert_eq!(parse("a[]=v&a[]=w"), json!({"a": ["v", "w"]}));
        assert_eq!(parse("a[2]=w&a[1]=v"), json!({"a": ["v", "w"]}));
        assert_eq!(parse("a[key]=v"), json!({"a": {"key": "v"}}));
        assert_eq!(parse("a.b[]=v"), json!({"a": {"b": ["v"]}}));
        assert_eq!(parse("a[1].f=v"), json!({"a": [{"f": "v"}]}));
        assert_eq!(parse("a=v&a=w"), json!({"a": ["v", "w"]}));
        assert_eq!(
            parse("headers.x-foo[]=v"),
            json!({"headers": {"x-foo": ["v"]}})
        );
        assert_eq!(parse("a%5B%5D=v"), json!({"a": ["v"]}));
        assert_eq!(parse(".a=v&b.=w"), json!({".a": "v", "b.": "w"}));
        assert_eq!(parse("a[999999999]=v"), json!({"a": {"999999999": "v"}}));
        // Whatever it means, it must not panic.
        assert!(parse("[]=x&a]=y&a[=z&a[][][]=1&a.b=2&a[1][x].y[]=3").is_object());
    }
}
