//! Everything that is wrong with a configuration, as a tree and entity by entity.

use serde_json::{Value, json};

use super::collect::singular;
use super::compact::compact;
use crate::entity::{Document, ENTITY, Entity};

/// A step from the root of a configuration to one of its entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Member(&'static str),
    /// From 0.
    Index(usize),
}

/// Entities whose messages are kept; of more only the number is.
const BROKEN_MAX: usize = 1000;

/// Why a configuration is refused: every problem of it.
#[derive(Debug, Default)]
pub struct Invalid {
    root: Document,
    broken: Vec<Broken>,
    /// Places without an entity that the root has messages for.
    misplaced: usize,
    /// Entities that are not right either.
    omitted: usize,
}

/// An entity that is not right.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) entity: &'static Entity,
    pub(super) place: Vec<Step>,
    /// As it was sent, without nested entities.
    pub(super) sent: Document,
    /// The tree of messages.
    pub(super) errors: Document,
    /// What is wrong with the entity as a whole.
    pub(super) whole: Option<String>,
}

impl Invalid {
    /// A text that is no configuration at all.
    pub(super) fn unreadable(reason: &str) -> Self {
        let mut invalid = Self::default();
        let text = format!("failed parsing declarative configuration: {reason}");
        invalid.at_root("error", &text);
        invalid
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty() && self.broken.is_empty()
    }

    pub(super) fn at_root(&mut self, name: &str, message: &str) {
        self.root.insert(name.to_owned(), Value::from(message));
    }

    pub(super) fn at(&mut self, place: &[Step], message: &str) {
        if self.misplaced < BROKEN_MAX {
            self.misplaced += 1;
            put(&mut self.root, place, Value::from(message));
        } else {
            self.omit();
        }
    }

    fn omit(&mut self) {
        self.omitted += 1;
        let text = format!("{} more entities are invalid", self.omitted);
        self.at_root("error", &text);
    }

    pub(super) fn entity(&mut self, broken: Broken) {
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(broken);
            return;
        }
        self.omit();
    }

    /// The tree of all messages, nested like the configuration.
    #[must_use]
    pub fn fields(&self) -> Document {
        let mut tree = self.root.clone();
        for broken in &self.broken {
            put(&mut tree, &broken.place, broken.tree());
        }
        tree
    }

    /// The messages that are not about one entity.
    #[must_use]
    pub const fn unattributed(&self) -> &Document {
        &self.root
    }

    /// The messages by entity, in Kong's form of `flattened_errors`.
    #[must_use]
    pub fn flattened(&self) -> Vec<Value> {
        self.broken.iter().map(Broken::flattened).collect()
    }

    /// One line for each message, such as `services[0].host: required field missing`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, tree) in &self.root {
            leaves(tree, name, true, &mut |path, message| {
                lines.push(format!("{path}: {message}"));
            });
        }
        for broken in &self.broken {
            let place = broken.path();
            leaves(&broken.tree(), &place, true, &mut |path, message| {
                lines.push(format!("{path}: {message}"));
            });
        }
        lines
    }

    /// Kong's message of these fields.
    #[must_use]
    pub fn message(fields: &Document) -> String {
        let tree = compact(&Value::Object(fields.clone()));
        format!("declarative config is invalid: {tree}")
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&Self::message(&self.fields()))
    }
}

impl std::error::Error for Invalid {}

impl Broken {
    fn tree(&self) -> Value {
        match &self.whole {
            Some(text) if self.errors.is_empty() => Value::from(text.as_str()),
            Some(text) => {
                let mut tree = self.errors.clone();
                let list = tree.entry(ENTITY).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.push(Value::from(text.as_str()));
                }
                Value::Object(tree)
            }
            None => Value::Object(self.errors.clone()),
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.place {
            match step {
                Step::Member(name) if path.is_empty() => path.push_str(name),
                Step::Member(name) => path.push_str(&format!(".{name}")),
                Step::Index(at) => path.push_str(&format!("[{at}]")),
            }
        }
        path
    }

    fn flattened(&self) -> Value {
        let mut errors = Vec::new();
        let mut about_all: Vec<&str> = self.whole.iter().map(String::as_str).collect();
        for (name, tree) in &self.errors {
            if name == ENTITY {
                let list = tree.as_array().into_iter().flatten();
                about_all.extend(list.filter_map(Value::as_str));
                continue;
            }
            leaves(tree, name, false, &mut |field, message| {
                errors.push(json!({"type": "field", "field": field, "message": message}));
            });
        }
        let about_all = about_all.into_iter();
        errors.extend(about_all.map(|message| json!({"type": "entity", "message": message})));
        let mut flattened = Document::new();
        let mut set = |name: &str, value: Value| {
            flattened.insert(name.to_owned(), value);
        };
        set("entity_type", Value::from(singular(self.entity)));
        for (member, field) in [
            ("entity_id", "id"),
            ("entity_name", "name"),
            ("entity_tags", "tags"),
        ] {
            if let Some(value) = self.sent.get(field).filter(|value| !value.is_null()) {
                set(member, value.clone());
            }
        }
        set("entity", Value::Object(self.sent.clone()));
        set("errors", Value::Array(errors));
        Value::Object(flattened)
    }
}

/// Calls `found` with path and text of every message. Elements are `[0]` for people and `.1` in Kong's
/// form.
fn leaves(tree: &Value, path: &str, brackets: bool, found: &mut dyn FnMut(&str, &str)) {
    match tree {
        Value::String(message) => found(path, message),
        Value::Array(elements) => {
            for (at, below) in elements.iter().enumerate() {
                let path = if path.ends_with(ENTITY) {
                    path.to_owned()
                } else if brackets {
                    format!("{path}[{at}]")
                } else {
                    format!("{path}.{}", at + 1)
                };
                leaves(below, &path, brackets, found);
            }
        }
        Value::Object(members) => {
            for (name, below) in members {
                leaves(below, &format!("{path}.{name}"), brackets, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Puts a message into the tree; arrays have nulls where nothing is wrong.
fn put(root: &mut Document, place: &[Step], message: Value) {
    let Some((Step::Member(first), rest)) = place.split_first() else {
        return;
    };
    let mut node = root.entry(*first).or_insert(Value::Null);
    for step in rest {
        let next = match *step {
            Step::Member(name) => {
                members_of(node).map(|members| members.entry(name).or_insert(Value::Null))
            }
            Step::Index(at) => element_of(node, at),
        };
        let Some(next) = next else { return };
        node = next;
    }
    match message {
        Value::Object(messages) => {
            if let Some(members) = members_of(node) {
                members.extend(messages);
            }
        }
        message => match node {
            Value::Object(members) => {
                members.insert(ENTITY.to_owned(), json!([message]));
            }
            node => *node = message,
        },
    }
}

fn element_of(node: &mut Value, at: usize) -> Option<&mut Value> {
    if !node.is_array() {
        *node = Value::Array(Vec::new());
    }
    let elements = node.as_array_mut()?;
    if elements.len() <= at {
        elements.resize(at + 1, Value::Null);
    }
    elements.get_mut(at)
}

/// The members of a node, which becomes an object; what it said about itself is kept.
fn members_of(node: &mut Value) -> Option<&mut Document> {
    if !node.is_object() {
        let mut members = Document::new();
        if let Value::String(message) = node.take() {
            members.insert(ENTITY.to_owned(), json!([message]));
        }
        *node = Value::Object(members);
    }
    node.as_object_mut()
}
