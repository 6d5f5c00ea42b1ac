//! Reading YAML into JSON values, with a limit on everything a text can make grow.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

/// Levels of nesting.
const DEPTH_MAX: usize = 64;
/// Bytes that anchors and aliases may add to what the text itself holds.
const COPIED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a value costs besides its text.
const VALUE_BYTES: usize = 32;
/// Key whose value holds mappings that are taken over.
const MERGE: &str = "<<";

/// Why a text is no YAML, or not of the kind that is read here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct Error {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

/// The only document of a text.
///
/// Keys are text, twice the same key is an error, and so is a tag that is not one of the core schema.
/// `yes`, `no`, `on` and `off` are booleans, as Kong reads them.
///
/// # Errors
/// [`Error`] for malformed text, several documents, nesting deeper than 64 levels, and aliases that
/// would copy more than 16 MiB.
pub fn read(text: &str) -> Result<Value, Error> {
    let mut reader = Reader::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Error {
            line: error.marker().line(),
            column: error.marker().col() + 1,
            reason: error.info().to_owned(),
        })?;
        reader.event(event).map_err(|reason| Error {
            line: span.start.line(),
            column: span.start.col() + 1,
            reason,
        })?;
    }
    Ok(reader.root.unwrap_or_default())
}

/// A collection that is not complete yet.
enum Open {
    Sequence {
        anchor: usize,
        elements: Vec<Value>,
    },
    Mapping {
        anchor: usize,
        members: Map<String, Value>,
        /// Mappings to take over, the strongest first.
        merged: Vec<Value>,
        /// The key whose value comes next.
        key: Option<Key>,
    },
}

enum Key {
    Member(String),
    /// `<<` without quotes.
    Merge,
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    root: Option<Value>,
    anchors: HashMap<usize, Value>,
    copied_bytes: usize,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                // A key is its text, whatever it would be as a value.
                let is_plain = matches!(style, ScalarStyle::Plain);
                if self.expects_key() {
                    self.keep(anchor, &Value::from(text.as_ref()))?;
                    let is_merge = is_plain && text == MERGE;
                    return self.key(text.into_owned(), is_merge);
                }
                let value = scalar(&text, is_plain, tag.as_deref())?;
                self.keep(anchor, &value)?;
                self.add(value)
            }
            Event::SequenceStart(anchor, tag) => {
                core_tag(tag.as_deref(), "seq")?;
                self.start(Open::Sequence {
                    anchor,
                    elements: Vec::new(),
                })
            }
            Event::MappingStart(anchor, tag) => {
                core_tag(tag.as_deref(), "map")?;
                self.start(Open::Mapping {
                    anchor,
                    members: Map::new(),
                    merged: Vec::new(),
                    key: None,
                })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err("only one document is expected".to_owned())
            }
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Mapping { key: None, .. }))
    }

    fn start(&mut self, collection: Open) -> Result<(), String> {
        if self.expects_key() {
            return Err("a key must be text".to_owned());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.open.push(collection);
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let (anchor, value) = match self.open.pop() {
            Some(Open::Sequence { anchor, elements }) => (anchor, Value::Array(elements)),
            Some(Open::Mapping {
                anchor,
                members,
                merged,
                ..
            }) => (anchor, Value::Object(merge(members, merged)?)),
            None => return Err("nothing to end here".to_owned()),
        };
        self.keep(anchor, &value)?;
        self.add(value)
    }

    fn key(&mut self, text: String, is_merge: bool) -> Result<(), String> {
        if let Some(Open::Mapping { members, key, .. }) = self.open.last_mut() {
            if is_merge {
                *key = Some(Key::Merge);
                return Ok(());
            }
            if members.contains_key(&text) {
                return Err(format!("key {text:?} stands twice in this mapping"));
            }
            *key = Some(Key::Member(text));
        }
        Ok(())
    }

    /// Puts a value where the next one belongs.
    fn add(&mut self, value: Value) -> Result<(), String> {
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::Sequence { elements, .. }) => elements.push(value),
            Some(Open::Mapping {
                members,
                merged,
                key,
                ..
            }) => match (key.take(), value) {
                (Some(Key::Merge), Value::Array(values)) => merged.extend(values),
                (Some(Key::Merge), value) => merged.push(value),
                (Some(Key::Member(key)), value) => {
                    members.insert(key, value);
                }
                (None, _) => return Err("a key must be text".to_owned()),
            },
        }
        Ok(())
    }

    /// Remembers a value for its aliases; 0 is no anchor.
    fn keep(&mut self, anchor: usize, value: &Value) -> Result<(), String> {
        if anchor != 0 {
            let copy = self.copy(value)?;
            self.anchors.insert(anchor, copy);
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize) -> Result<(), String> {
        // An anchor inside itself is not known yet.
        let value = self.anchors.remove(&anchor).ok_or("unknown alias")?;
        let copy = self.copy(&value)?;
        self.anchors.insert(anchor, value);
        match copy {
            Value::String(text) if self.expects_key() => self.key(text, false),
            _ if self.expects_key() => Err("a key must be text".to_owned()),
            value => self.add(value),
        }
    }

    fn copy(&mut self, value: &Value) -> Result<Value, String> {
        let (bytes, depth) = measure(value);
        self.copied_bytes = self.copied_bytes.saturating_add(bytes);
        if self.copied_bytes > COPIED_BYTES_MAX {
            return Err("aliases copy too much".to_owned());
        }
        if self.open.len() + depth > DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        Ok(value.clone())
    }
}

/// Bytes and levels of a value.
fn measure(value: &Value) -> (usize, usize) {
    let sum = |(bytes, depth): (usize, usize), below: &Value| {
        let (more, levels) = measure(below);
        (bytes.saturating_add(more), depth.max(levels + 1))
    };
    match value {
        Value::String(text) => (VALUE_BYTES + text.len(), 0),
        Value::Array(elements) => elements.iter().fold((VALUE_BYTES, 1), sum),
        Value::Object(members) => members
            .iter()
            .fold((VALUE_BYTES, 1), |total, (key, below)| {
                let (bytes, depth) = sum(total, below);
                (bytes + key.len(), depth)
            }),
        Value::Null | Value::Bool(_) | Value::Number(_) => (VALUE_BYTES, 0),
    }
}

/// The members of a mapping, and those of others it does not have itself.
fn merge(
    mut members: Map<String, Value>,
    merged: Vec<Value>,
) -> Result<Map<String, Value>, String> {
    for other in merged {
        let Value::Object(other) = other else {
            return Err(format!("{MERGE:?} takes mappings"));
        };
        for (key, value) in other {
            members.entry(key).or_insert(value);
        }
    }
    Ok(members)
}

/// Refuses every tag but the core schema's `kind`.
fn core_tag(tag: Option<&Tag>, kind: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == kind) => Err(unsupported(tag)),
        _ => Ok(()),
    }
}

fn unsupported(tag: &Tag) -> String {
    format!("tag {}{} is not supported here", tag.handle, tag.suffix)
}

fn scalar(text: &str, is_plain: bool, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return Ok(if is_plain {
            plain(text)
        } else {
            Value::from(text)
        });
    };
    if !tag.is_yaml_core_schema() {
        return Err(unsupported(tag));
    }
    let value = plain(text);
    let fits = match tag.suffix.as_str() {
        "str" => return Ok(Value::from(text)),
        "null" => value.is_null(),
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        _ => return Err(unsupported(tag)),
    };
    if fits {
        Ok(value)
    } else {
        Err(format!("{text:?} is no {}", tag.suffix))
    }
}

/// What a text without quotes stands for.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        _ => number(text).map_or_else(|| Value::from(text), Value::Number),
    }
}

/// Decimal numbers; what YAML 1.1 and 1.2 read differently (`010`, `1_000`, `1:30`) stays text.
fn number(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_whole = !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit());
    if is_whole {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return None;
        }
        if let Ok(integer) = text.parse::<i64>() {
            return Some(Number::from(integer));
        }
        if let Ok(integer) = text.parse::<u64>() {
            return Some(Number::from(integer));
        }
    }
    let is_float = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && unsigned.bytes().any(|byte| byte.is_ascii_digit())
        && unsigned
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if !is_float {
        return None;
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reason(text: &str) -> String {
        read(text).unwrap_err().reason
    }

    #[test]
    fn scalars_are_what_kong_takes_them_for() {
        let text =
            "[yes, Off, ~, 1, -2, 1.5, 1e3, 010, 1_000, 12:30, 0x1f, 'yes', \"1\", !!str 5, a b]";
        let value = read(text).unwrap();
        let expected = json!([
            true, false, null, 1, -2, 1.5, 1000.0, "010", "1_000", "12:30", "0x1f", "yes", "1",
            "5", "a b"
        ]);
        assert_eq!(value, expected);
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        let text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n&k k: 1\nd: {*k : 2}";
        let expected = json!({
            "a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}, "c": {"x": 1, "y": 2}, "k": 1,
            "d": {"k": 2},
        });
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn a_billion_laughs_are_refused() {
        let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..20 {
            let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        assert_eq!(reason(&text), "aliases copy too much");
    }

    #[test]
    fn nesting_has_a_limit_also_through_aliases() {
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(
            reason(&format!("{}1{}", "[".repeat(70), "]".repeat(70))).contains("nested deeper")
        );
        let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
        let text = format!("a: &a {deep}\nb: {}*a{}", "[".repeat(30), "]".repeat(30));
        assert!(reason(&text).contains("nested deeper"));
        let block: String = (0..100)
            .map(|level| format!("{}a:\n", " ".repeat(level)))
            .collect();
        assert!(reason(&block).contains("nested deeper"));
    }

    #[test]
    fn duplicate_keys_foreign_tags_and_several_documents_are_refused() {
        let error = read("a: 1\nb: 2\na: 3").unwrap_err();
        assert_eq!((error.line, error.column), (3, 1));
        assert!(error.reason.contains("stands twice"));
        assert!(reason("a: !ruby/object:Gem x").contains("not supported"));
        assert!(reason("a: !!binary aGk=").contains("not supported"));
        assert!(reason("a: !!int x").contains("is no int"));
        assert!(reason("--- 1\n--- 2").contains("only one document"));
        assert!(reason("? [a]\n: 1").contains("key must be text"));
        assert!(reason("a: &a [*a]").contains("unknown"));
    }

    #[test]
    fn huge_numbers_stay_finite() {
        let value =
            read("[9223372036854775807, 18446744073709551615, 99999999999999999999, 1e999, .inf]");
        let expected = json!([i64::MAX, u64::MAX, 1e20, "1e999", ".inf"]);
        assert_eq!(value.unwrap(), expected);
    }

    #[test]
    fn long_hostile_texts_take_linear_time() {
        let started = std::time::Instant::now();
        for piece in ["- ", "a: &a b\n", "'", "[1,", "? ", "#", "\t", "!", "|\n"] {
            let _either = read(&piece.repeat(400_000 / piece.len()));
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
    }
}
