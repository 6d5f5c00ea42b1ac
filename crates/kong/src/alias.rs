//! Deprecated names of configuration members: taken for the new ones, and shown besides them.

use serde_json::{Value, json};

use crate::entity::{Document, Violations};
use crate::schema::{Alias, Field};

/// Each alias of each record that has some.
fn each(
    fields: &'static [Field],
    document: &mut Document,
    mut visit: impl FnMut(&'static str, &mut Document, Alias),
) {
    for field in fields {
        if let Some(Value::Object(record)) = document.get_mut(field.name) {
            for alias in field.aliases {
                visit(field.name, record, *alias);
            }
        }
    }
}

/// Moves what deprecated names say to the new ones.
///
/// # Errors
/// [`Violations`] where both names are used and say different things.
pub(crate) fn fold(fields: &'static [Field], document: &mut Document) -> Result<(), Violations> {
    let mut mismatch = None;
    each(fields, document, |field, record, alias| {
        let Some(old) = record.shift_remove(alias.name) else {
            return;
        };
        if old.is_null() {
            return;
        }
        let Some(below) = home(record, alias) else {
            return;
        };
        match below.get(alias.member) {
            Some(new) if !new.is_null() && *new != old => {
                let text = |value: &Value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let message = format!(
                    "both deprecated and new field are used but their values mismatch: {} = {} vs {} = {}",
                    alias.name,
                    text(&old),
                    alias.path().join("."),
                    text(new)
                );
                let mut fields = Document::new();
                fields.insert(field.to_owned(), json!({alias.name: message}));
                mismatch.get_or_insert(Violations { fields });
                record.insert(alias.name.to_owned(), old);
            }
            _ => {
                below.insert(alias.member.to_owned(), old);
            }
        }
    });
    mismatch.map_or(Ok(()), Err)
}

/// The record that has the member an alias stands for; a missing one is made.
fn home(record: &mut Document, alias: Alias) -> Option<&mut Document> {
    if alias.record.is_empty() {
        return Some(record);
    }
    let below = record.entry(alias.record).or_insert_with(|| json!({}));
    if below.is_null() {
        *below = json!({});
    }
    below.as_object_mut()
}

/// Takes the deprecated names out of a stored document.
pub(crate) fn hide(fields: &'static [Field], document: &mut Document) {
    each(fields, document, |_, record, alias| {
        record.shift_remove(alias.name);
    });
}

/// Repeats under the deprecated names what the new ones say.
pub(crate) fn show(fields: &'static [Field], document: &mut Document) {
    each(fields, document, |_, record, alias| {
        let value = crate::walk::at(record, &alias.path().join(".")).clone();
        record.insert(alias.name.to_owned(), value);
    });
}
