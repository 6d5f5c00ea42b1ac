//! Writing YAML in block style, so that parsers of YAML 1.1 and 1.2 read the same.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Bytes of a text that is written without quotes at most.
const PLAIN_BYTES_MAX: usize = 128;

/// Bytes of a key, as it is written, that a reader finds without being told that it is one (YAML 1.2
/// section 7.4.2: 1024 characters).
const SIMPLE_KEY_BYTES_MAX: usize = 1000;

/// Words that some version of YAML does not take for text, in lower case.
const WORDS: &[&str] = &[
    "null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf",
];

/// The value as one YAML document.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => mapping(members, 0, false, &mut out),
        Value::Array(elements) if !elements.is_empty() => sequence(elements, 0, false, &mut out),
        leaf => {
            scalar(leaf, &mut out);
            out.push('\n');
        }
    }
    out
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// `inline`: the first line has its indentation already.
fn mapping(members: &Map<String, Value>, indent: usize, inline: bool, out: &mut String) {
    for (at, (key, value)) in members.iter().enumerate() {
        if at > 0 || !inline {
            pad(indent, out);
        }
        let before = out.len();
        text(key, out);
        let is_long = out.len() - before > SIMPLE_KEY_BYTES_MAX;
        if is_long {
            out.insert_str(before, "? ");
            out.push('\n');
            pad(indent, out);
        }
        out.push(':');
        match value {
            Value::Object(below) if !below.is_empty() => {
                out.push('\n');
                mapping(below, indent + 2, false, out);
            }
            Value::Array(below) if !below.is_empty() => {
                out.push('\n');
                let indent = if is_long { indent + 2 } else { indent };
                sequence(below, indent, false, out);
            }
            leaf => {
                out.push(' ');
                scalar(leaf, out);
                out.push('\n');
            }
        }
    }
}

fn sequence(elements: &[Value], indent: usize, inline: bool, out: &mut String) {
    for (at, value) in elements.iter().enumerate() {
        if at > 0 || !inline {
            pad(indent, out);
        }
        out.push_str("- ");
        match value {
            Value::Object(below) if !below.is_empty() => mapping(below, indent + 2, true, out),
            Value::Array(below) if !below.is_empty() => sequence(below, indent + 2, true, out),
            leaf => {
                scalar(leaf, out);
                out.push('\n');
            }
        }
    }
}

/// Anything that fits on a line; arrays and objects only when empty.
fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::String(value) => text(value, out),
        other => out.push_str(&other.to_string()),
    }
}

fn text(text: &str, out: &mut String) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            printable if is_printable(printable) => out.push(printable),
            // Writing to a string cannot fail.
            other => write!(out, "\\U{:08X}", u32::from(other)).unwrap_or_default(),
        }
    }
    out.push('"');
}

fn is_plain(text: &str) -> bool {
    let is_first = |first: char| first.is_ascii_alphabetic() || "/_".contains(first);
    let is_other = |other: u8| other.is_ascii_alphanumeric() || b"/_.-".contains(&other);
    text.len() <= PLAIN_BYTES_MAX
        && text.starts_with(is_first)
        && text.bytes().all(is_other)
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Whether every version of YAML allows the character between quotes and takes it for itself.
fn is_printable(character: char) -> bool {
    matches!(character,
        ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}'
        | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_indented_and_doubtful_texts_quoted() {
        let value = json!({
            "_format_version": "3.0",
            "services": [{"name": "a", "tags": ["no", "x y"], "headers": {}, "routes": [[1, 2], []]}],
            "none": null, "text": "line\nbreak \u{85}",
        });
        let text = "_format_version: \"3.0\"\nservices:\n- name: a\n  tags:\n  - \"no\"\n  - \"x y\"\n  headers: {}\n  routes:\n  - - 1\n    - 2\n  - []\nnone: null\ntext: \"line\\nbreak \\U00000085\"\n";
        assert_eq!(write(&value), text);
    }

    #[test]
    fn keys_of_any_length_are_read_again() {
        for length in [10, 200, 2000] {
            let key = "\u{12}".repeat(length);
            let value = json!({
                &key: ["a"], "list": [{&key: {&key: "b"}, "c": 1}, {&key: [[{&key: []}]]}],
            });
            let text = write(&value);
            assert_eq!(crate::yaml::read(&text).unwrap(), value, "{text}");
        }
    }
}
