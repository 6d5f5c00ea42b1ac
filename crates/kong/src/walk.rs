//! Validation: one walk over a document and its declaration fills in defaults and collects messages.

use o28m_core::Ambient;
use serde_json::{Value, json};

use crate::entity::{Document, ENTITY, Overlay};
use crate::schema::{Auto, Check, EntityCheck, Field, Kind, is_blank};
use crate::vault::is_reference;

/// Largest whole number that a JSON reader of doubles keeps exactly.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// What a document is validated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Insert,
    Update,
    /// As `Insert`, of an entity that may be older.
    Declare,
}

pub(crate) struct Walk<'a> {
    pub(crate) ambient: &'a Ambient,
    pub(crate) operation: Operation,
}

/// A value in its normal form and the tree of messages about it.
type Checked = (Value, Option<Value>);

fn complaint(message: impl Into<String>) -> Option<Value> {
    Some(Value::String(message.into()))
}

/// The declaration of each field after the overlay.
fn overlaid<'a>(fields: &'a [Field], overlay: &'a [Field]) -> impl Iterator<Item = &'a Field> + 'a {
    fields.iter().map(|field| {
        overlay
            .iter()
            .find(|other| other.name == field.name)
            .unwrap_or(field)
    })
}

/// `patch` merged into `stored`: records member by member, everything else whole.
pub(crate) fn merge(
    fields: &[Field],
    overlay: Overlay,
    stored: &Document,
    patch: Document,
) -> Document {
    let mut merged = stored.clone();
    for (name, value) in patch {
        let field = overlaid(fields, overlay.fields).find(|field| field.name == name);
        let value = match (field.map(|field| field.kind), merged.remove(&name), value) {
            (Some(Kind::Record(below)), Some(Value::Object(old)), Value::Object(new)) => {
                Value::Object(merge(below, Overlay::default(), &old, new))
            }
            (_, _, value) => value,
        };
        merged.insert(name, value);
    }
    merged
}

impl Walk<'_> {
    /// Every declared member of `input`, and the messages by field.
    pub(crate) fn record(
        &self,
        fields: &[Field],
        overlay: &[Field],
        mut input: Document,
    ) -> (Document, Document) {
        let mut output = Document::new();
        let mut errors = Document::new();
        for field in overlaid(fields, overlay) {
            let (value, error) = self.member(field, input.remove(field.name));
            output.insert(field.name.to_owned(), value);
            if let Some(error) = error {
                errors.insert(field.name.to_owned(), error);
            }
        }
        for (name, _) in input {
            errors.insert(name, Value::String("unknown field".to_owned()));
        }
        (output, errors)
    }

    fn member(&self, field: &Field, given: Option<Value>) -> Checked {
        let now = || match field.kind {
            Kind::Number => fractional(self.ambient.now().millis()),
            _ => json!(self.ambient.now().seconds()),
        };
        let given = match (field.auto, given) {
            (Auto::Updated, given)
                if self.operation != Operation::Declare
                    || given.as_ref().is_none_or(Value::is_null) =>
            {
                return (now(), None);
            }
            (Auto::Uuid, None | Some(Value::Null)) => {
                return (Value::String(self.ambient.uuid()), None);
            }
            (Auto::Key, None | Some(Value::Null)) => {
                return (
                    Value::String(o28m_core::id::random_alphanumeric(
                        self.ambient.rng.as_ref(),
                        32,
                    )),
                    None,
                );
            }
            (Auto::Created, None | Some(Value::Null)) => return (now(), None),
            (_, given) => given,
        };
        let value = match given {
            None => field.default_value().unwrap_or(Value::Null),
            // A null means "back to the default", except where Kong insists on a value of the caller's.
            Some(Value::Null) if !field.required || self.operation == Operation::Update => {
                field.default_value().unwrap_or(Value::Null)
            }
            Some(Value::String(text)) if field.empty_is_null && text.is_empty() => Value::Null,
            Some(value) => value,
        };
        self.value(field, value)
    }

    fn value(&self, field: &Field, value: Value) -> Checked {
        if value.is_null() {
            let missing = field.required.then(|| "required field missing".into());
            return (value, missing);
        }
        if let Some(check @ Check::Null(_)) = field.checks.first() {
            let error = check.apply(&value).and_then(complaint);
            return (value, error);
        }
        let (value, error) = self.typed(field, value);
        if error.is_some() {
            return (value, error);
        }
        // What a reference stands for is not known here.
        if field.referenceable && value.as_str().is_some_and(is_reference) {
            return (value, None);
        }
        let error = field.checks.iter().find_map(|check| check.apply(&value));
        (value, error.and_then(complaint))
    }

    fn typed(&self, field: &Field, value: Value) -> Checked {
        let wrong = || complaint(field.kind.expected());
        match (field.kind, value) {
            (Kind::String, Value::String(text)) => text_value(field, text),
            (Kind::Boolean, Value::Bool(value)) => (Value::Bool(value), None),
            (Kind::Number, Value::Number(number)) => (Value::Number(number), None),
            (Kind::Integer, Value::Number(number)) => match integer(&number) {
                Some(integer) => (json!(integer), None),
                None => (Value::Number(number), wrong()),
            },
            // The empty table of Kong's Lua is both: a client may send either for nothing.
            (Kind::Array(element) | Kind::Set(element), Value::Object(members))
                if members.is_empty() =>
            {
                self.elements(field, element, Vec::new())
            }
            (Kind::Array(element) | Kind::Set(element), Value::Array(elements)) => {
                self.elements(field, element, elements)
            }
            (Kind::Map { keys, values }, Value::Object(members)) => self.map(keys, values, members),
            (Kind::Map { .. }, Value::Array(elements)) if elements.is_empty() => {
                (Value::Object(Document::new()), None)
            }
            (Kind::Record(fields), Value::Object(members)) => self.below(field, fields, members),
            (Kind::Record(fields), Value::Array(elements)) if elements.is_empty() => {
                self.below(field, fields, Document::new())
            }
            (Kind::Foreign(_), value) => foreign(value),
            (_, value) => (value, wrong()),
        }
    }

    fn below(&self, field: &Field, fields: &[Field], members: Document) -> Checked {
        let (output, mut errors) = self.record(fields, &[], members);
        self.entity_checks(field.record_checks, &output, &mut errors);
        let error = (!errors.is_empty()).then_some(Value::Object(errors));
        (Value::Object(output), error)
    }

    fn elements(&self, field: &Field, element: &Field, given: Vec<Value>) -> Checked {
        let mut elements = Vec::with_capacity(given.len());
        let mut errors = Vec::new();
        for (at, value) in given.into_iter().enumerate() {
            let (value, error) = if value.is_null() {
                (value, complaint(element.kind.expected()))
            } else {
                self.value(element, value)
            };
            if let Some(error) = error {
                errors.resize(at, Value::Null);
                errors.push(error);
            }
            elements.push(value);
        }
        if matches!(field.kind, Kind::Set(_)) {
            elements = distinct(elements);
        }
        let error = (!errors.is_empty()).then_some(Value::Array(errors));
        (Value::Array(elements), error)
    }

    /// Kong reports the first bad key or value as the message of the whole map.
    fn map(&self, keys: &Field, values: &Field, members: Document) -> Checked {
        let mut output = Document::new();
        let mut first = None;
        for (key, value) in members {
            let (_, bad_key) = self.value(keys, Value::String(key.clone()));
            let (value, bad_value) = if value.is_null() {
                (value, complaint(values.kind.expected()))
            } else {
                self.value(values, value)
            };
            first = first.or(bad_key).or(bad_value);
            output.insert(key, value);
        }
        (Value::Object(output), first)
    }

    /// Runs the checks whose fields have no message yet and hold no reference to a vault.
    pub(crate) fn entity_checks(
        &self,
        checks: &[EntityCheck],
        document: &Document,
        errors: &mut Document,
    ) {
        let mut messages = Vec::new();
        let mut added = Document::new();
        for check in checks {
            let is_known = |path| !at(document, path).as_str().is_some_and(is_reference);
            if paths(check).all(|path| !has_error(errors, path) && is_known(path)) {
                self.entity_check(check, document, &mut messages, &mut added);
            }
        }
        for (name, error) in added {
            errors.entry(name).or_insert(error);
        }
        if !messages.is_empty() {
            let list = errors.entry(ENTITY).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.extend(messages.into_iter().map(Value::String));
            }
        }
    }

    fn entity_check(
        &self,
        check: &EntityCheck,
        document: &Document,
        messages: &mut Vec<String>,
        added: &mut Document,
    ) {
        let filled = |path: &&&str| !is_blank(at(document, path));
        match *check {
            EntityCheck::AtLeastOneOf(fields) => {
                if !fields.iter().any(|path| filled(&path)) {
                    let when = match self.operation {
                        Operation::Insert | Operation::Declare => "",
                        Operation::Update => "when updating, ",
                    };
                    messages.push(format!(
                        "{when}at least one of these fields must be non-empty: {}",
                        quoted(fields)
                    ));
                }
            }
            EntityCheck::ExactlyOneOf(fields) => {
                if fields.iter().filter(filled).count() != 1 {
                    messages.push(format!(
                        "exactly one of these fields must be non-empty: {}",
                        quoted(fields)
                    ));
                }
            }
            EntityCheck::OnlyOneOf(fields) => {
                if fields.iter().filter(filled).count() > 1 {
                    messages.push(format!(
                        "only one or none of these fields must be set: {}",
                        quoted(fields)
                    ));
                }
            }
            EntityCheck::Together(fields) => {
                let set = fields.iter().filter(filled).count();
                if set != 0 && set != fields.len() {
                    messages.push(format!(
                        "all or none of these fields must be set: {}",
                        quoted(fields)
                    ));
                }
            }
            EntityCheck::Conditional {
                field,
                when,
                then_field,
                then,
                message,
            } => {
                let value = at(document, then_field);
                if value.is_null() || !when.holds(at(document, field)) {
                    return;
                }
                if let Some(error) = then.iter().find_map(|check| check.apply(value)) {
                    messages.push(message.map_or_else(
                        || format!("failed conditional validation given value of field '{field}'"),
                        str::to_owned,
                    ));
                    added.insert(then_field.to_owned(), Value::String(error.into_owned()));
                }
            }
            EntityCheck::OneOfPerMember { field, arms } => {
                let members = at(document, field);
                let holds = |name: &str| {
                    members
                        .as_array()
                        .is_some_and(|members| members.iter().any(|member| member == name))
                };
                if let Some(arm) = arms.iter().find(|arm| holds(arm.member))
                    && !arm.fields.iter().any(|path| filled(&path))
                {
                    messages.push(arm.message.to_owned());
                }
            }
            EntityCheck::Timed(_, check) => {
                check(document, self.ambient.now().seconds(), messages);
            }
            EntityCheck::Custom(_, check) => check(document, messages, added),
        }
    }
}

/// Milliseconds as seconds with a fraction.
#[expect(
    clippy::cast_precision_loss,
    reason = "times are far below 2^53 milliseconds"
)]
fn fractional(millis: i64) -> Value {
    json!(millis as f64 / 1000.0)
}

fn text_value(field: &Field, text: String) -> Checked {
    let has_minimum = field
        .checks
        .iter()
        .any(|check| matches!(check, Check::LengthMin(_)));
    let error = if text.is_empty() && !has_minimum {
        complaint("length must be at least 1")
    } else if text.contains('\0') {
        // No database keeps it, and no header or path can carry it.
        complaint("must not contain a NUL character")
    } else {
        None
    };
    let is_id = field
        .checks
        .iter()
        .any(|check| matches!(check, Check::Uuid));
    let text = if is_id && o28m_core::id::is_uuid(&text) {
        text.to_ascii_lowercase()
    } else {
        text
    };
    (Value::String(text), error)
}

/// A whole number, also when written with a fraction of zero.
fn integer(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the value is whole and within 2^53"
        )]
        (float.fract() == 0.0 && float.abs() <= EXACT_INTEGER_MAX).then_some(float as i64)
    })
}

fn distinct(elements: Vec<Value>) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    elements
        .into_iter()
        .filter(|element| seen.insert(element.to_string()))
        .collect()
}

/// A foreign key keeps nothing but the id.
fn foreign(value: Value) -> Checked {
    match value.get("id") {
        Some(Value::String(id)) if o28m_core::id::is_uuid(id) => {
            (json!({"id": id.to_ascii_lowercase()}), None)
        }
        None | Some(Value::Null) => (value, Some(json!({"id": "missing primary key"}))),
        Some(_) => (value, Some(json!({"id": "expected a valid UUID"}))),
    }
}

/// The value at a dotted path, null when absent.
pub(crate) fn at<'a>(document: &'a Document, path: &str) -> &'a Value {
    let mut names = path.split('.');
    let first = names.next().and_then(|name| document.get(name));
    names
        .try_fold(first.unwrap_or(&Value::Null), |value, name| value.get(name))
        .unwrap_or(&Value::Null)
}

fn has_error(errors: &Document, path: &str) -> bool {
    let mut names = path.split('.');
    let Some(mut tree) = names.next().and_then(|name| errors.get(name)) else {
        return false;
    };
    for name in names {
        match tree {
            Value::Object(members) => match members.get(name) {
                Some(below) => tree = below,
                None => return false,
            },
            _ => return true,
        }
    }
    true
}

fn paths(check: &EntityCheck) -> impl Iterator<Item = &'static str> {
    let (pair, list): (Vec<&'static str>, &'static [&'static str]) = match *check {
        EntityCheck::AtLeastOneOf(fields)
        | EntityCheck::ExactlyOneOf(fields)
        | EntityCheck::OnlyOneOf(fields)
        | EntityCheck::Together(fields)
        | EntityCheck::Timed(fields, _)
        | EntityCheck::Custom(fields, _) => (Vec::new(), fields),
        EntityCheck::Conditional {
            field, then_field, ..
        } => (vec![field, then_field], &[]),
        EntityCheck::OneOfPerMember { field, arms } => {
            let mut all = vec![field];
            all.extend(arms.iter().flat_map(|arm| arm.fields));
            (all, &[])
        }
    };
    pair.into_iter().chain(list.iter().copied())
}

fn quoted(fields: &[&str]) -> String {
    let names: Vec<_> = fields.iter().map(|field| format!("'{field}'")).collect();
    names.join(", ")
}
