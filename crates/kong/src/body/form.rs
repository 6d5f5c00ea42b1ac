//! Keys of forms: `a.b`, `a[]`, `a[1]`, `a[key]` and their combinations (spec gateway-admin 4.1).

use serde_json::Value;

use super::ARGUMENTS_MAX;
use crate::entity::Document;

/// Steps of a key; deeper keys are taken literally.
const STEPS_MAX: usize = 16;
/// Elements that explicit indices of one form may skip.
const HOLES_MAX: usize = 1000;

/// One step of a key.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Append,
    /// From 1.
    Index(usize),
}

/// The document a form describes.
pub(super) fn document(pairs: impl Iterator<Item = (String, Value)>) -> Document {
    let mut root = Value::Object(Document::new());
    let mut holes = HOLES_MAX;
    for (key, value) in pairs {
        let mut steps = steps(&key);
        if steps.len() > STEPS_MAX {
            steps = vec![Step::Member(key)];
        }
        place(&mut root, &steps, value, &mut holes);
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

fn place(target: &mut Value, steps: &[Step], value: Value, holes: &mut usize) {
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
                place(
                    members.entry(name).or_insert(Value::Null),
                    rest,
                    value,
                    holes,
                );
            }
        }
        Step::Append => {
            let elements = array(target);
            elements.push(Value::Null);
            if let Some(last) = elements.last_mut() {
                place(last, rest, value, holes);
            }
        }
        Step::Index(at) => {
            let elements = array(target);
            let skipped = at.saturating_sub(elements.len()).min(*holes);
            elements.resize(elements.len() + skipped, Value::Null);
            *holes -= skipped;
            if let Some(element) = elements.get_mut(at - 1) {
                place(element, rest, value, holes);
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
        Value::Object(document(
            pairs.map(|(key, text)| (key, Value::String(text))),
        ))
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
        let deep = format!("a{}=v", "[]".repeat(100_000));
        assert_eq!(parse(&deep).as_object().unwrap().len(), 1);
        let wide = (0..900)
            .map(|at| format!("k{at}[1000][1000]=v"))
            .collect::<Vec<_>>();
        assert!(parse(&wide.join("&")).to_string().len() < 100_000);
        // Whatever it means, it must not panic.
        assert!(parse("[]=x&a]=y&a[=z&a[][][]=1&a.b=2&a[1][x].y[]=3").is_object());
    }

    proptest::proptest! {
        #[test]
        fn no_form_panics(form in "([a-c.\\[\\]0-9]{0,12}=v&){0,8}") {
            proptest::prop_assert!(parse(&form).is_object());
        }
    }
}
