use o28m_core::Ambient;
use serde_json::{Map, Value};

use crate::flavor::{RouterFlavor, router_flavor};
use crate::schema::{EntityCheck, Field, Make, Seal, Unsupported, is_blank};
use crate::walk::{Operation, Walk};
use crate::{alias, declared, describe, form, walk};

/// A JSON object, in the order of its members.
pub type Document = Map<String, Value>;

/// Member of a tree of messages that holds those about the whole document.
pub(crate) const ENTITY: &str = "@entity";

/// What validation needs besides the document.
pub struct Context<'a> {
    /// Time stamps and generated ids.
    pub ambient: &'a Ambient,
    /// Names of the plugins that may be configured.
    pub enabled_plugins: &'a [String],
}

/// One kind of entity: everything the Admin API, the store and the schema endpoints know of it.
pub struct Entity {
    /// Kong's internal name, such as `services`; also the store's kind.
    pub name: &'static str,
    /// The collection's path segment, such as `services` or `key-auths`.
    pub path: &'static str,
    /// Path segment below the consumer or other parent when it differs, such as `key-auth`.
    pub nested_path: &'static str,
    /// The field that can stand for the id in a path.
    pub endpoint_key: Option<&'static str>,
    /// The field that can stand for the id in a path below the parent, such as an ACL's `group`.
    pub nested_key: Option<&'static str>,
    /// The unique field that a list can be searched by, such as `custom_id`.
    pub search_key: Option<&'static str>,
    /// Pointers to other entities.
    pub foreign: &'static [Foreign],
    /// Unique constraints besides the id.
    pub unique: &'static [Unique],
    /// Lists of ids of other entities; the others need not exist.
    pub lists: &'static [IdList],
    /// Whether rows end some time after their creation, which the field `ttl` says.
    pub has_life_time: bool,
    /// Whether validation may take longer than others should wait: keys and certificates.
    pub is_costly: bool,
    /// The fields that Kong makes the id of when a configuration has none, if not the endpoint key.
    pub(crate) cache_key: &'static [&'static str],
    /// The fields, in the order of the schema.
    pub(crate) fields: &'static [Field],
    /// A write-only member that stands for others.
    pub(crate) shorthand: Option<&'static Shorthand>,
    /// Fields and checks that depend on the document; its failure is reported alone.
    pub(crate) overlay: fn(&Document, &[String]) -> Result<Overlay, Violations>,
    /// Checks over several fields.
    pub(crate) checks: &'static [EntityCheck],
    /// What Kong accepts and this build refuses.
    pub(crate) unsupported: &'static [Unsupported],
}

/// An entity without fields: what declarations start from.
pub(crate) const BASE: Entity = Entity {
    name: "",
    path: "",
    nested_path: "",
    endpoint_key: None,
    nested_key: None,
    search_key: None,
    foreign: &[],
    unique: &[],
    lists: &[],
    has_life_time: false,
    is_costly: false,
    cache_key: &[],
    fields: &[],
    shorthand: None,
    overlay: Overlay::none,
    checks: &[],
    unsupported: &[],
};

impl std::fmt::Debug for Entity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// See [`Entity::shorthand`].
pub(crate) struct Shorthand {
    pub(crate) name: &'static str,
    /// Writes the members it stands for.
    pub(crate) expand: fn(&str, &mut Document),
}

/// What a document's own kind (protocol, plugin) adds to its entity's declaration.
#[derive(Clone, Copy, Default)]
pub(crate) struct Overlay {
    /// These replace the declared fields of the same name.
    pub(crate) fields: &'static [Field],
    pub(crate) checks: &'static [EntityCheck],
}

impl Overlay {
    /// The overlay of entities that have none.
    pub(crate) fn none(_: &Document, _: &[String]) -> Result<Self, Violations> {
        Ok(Self::default())
    }
}

/// A foreign key.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    /// Field that holds it, such as `service`.
    pub field: &'static str,
    /// Name of the entity pointed to.
    pub entity: &'static str,
    /// What deleting the other one does to this.
    pub on_delete: OnDelete,
}

/// A field that lists ids of other entities.
#[derive(Clone, Copy, Debug)]
pub struct IdList {
    /// The field, such as `ca_certificates`.
    pub field: &'static str,
    /// Name of the entity whose ids it lists.
    pub entity: &'static str,
}

/// What deleting a referenced entity does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// It is refused.
    Restrict,
    /// This one goes too.
    Cascade,
}

/// A unique constraint over one or more fields.
#[derive(Clone, Copy, Debug)]
pub struct Unique {
    /// Name of the constraint: the field's name, or a name of its own for several fields.
    pub name: &'static str,
    /// The fields; foreign ones count by id.
    pub fields: &'static [&'static str],
    /// Rows with a null in one of the fields conflict as well (plugins) or never do.
    pub nulls_equal: bool,
}

impl Unique {
    /// The value the constraint compares: the text of a single field, a JSON array of several.
    /// `None` when a null keeps the document out of the constraint.
    #[must_use]
    pub fn value(&self, document: &Document) -> Option<String> {
        let mut parts = Vec::with_capacity(self.fields.len());
        for field in self.fields {
            let value = document.get(*field).unwrap_or(&Value::Null);
            let part = value.get("id").unwrap_or(value);
            if part.is_null() && !self.nulls_equal {
                return None;
            }
            parts.push(part.clone());
        }
        match parts.as_slice() {
            [Value::String(text)] => Some(text.clone()),
            _ => Some(Value::Array(parts).to_string()),
        }
    }
}

/// What is wrong with a document: the tree of messages of Kong's `schema violation`.
#[derive(Debug, PartialEq)]
pub struct Violations {
    /// `{"field": "message", "@entity": ["message"]}`, nested like the document.
    pub fields: Document,
}

impl Entity {
    /// Validates a document for creation or full replacement: shorthands, defaults, `id` and time stamps
    /// where missing. The result has every field, unset ones as null.
    ///
    /// # Errors
    /// [`Violations`].
    pub fn insert(&self, input: Document, context: &Context<'_>) -> Result<Document, Violations> {
        self.accept(input, Operation::Insert, true, context)
    }

    /// Validates a document of a declarative configuration: as [`Entity::insert`], except that the time of
    /// the last write may be given as well, and that secrets are stored as they are unless
    /// `transform` is set.
    ///
    /// # Errors
    /// [`Violations`].
    pub fn declare(
        &self,
        input: Document,
        transform: bool,
        context: &Context<'_>,
    ) -> Result<Document, Violations> {
        self.accept(input, Operation::Declare, transform, context)
    }

    fn accept(
        &self,
        input: Document,
        operation: Operation,
        transform: bool,
        context: &Context<'_>,
    ) -> Result<Document, Violations> {
        let mut input = self.expand(input, transform)?;
        let overlay = (self.overlay)(&input, context.enabled_plugins)?;
        alias::fold(overlay.fields, &mut input)?;
        let given = self.to_seal(&input, |seal| match seal {
            Seal::Secret(make) | Seal::Hashed { make, .. } if transform => Some(make),
            Seal::FromNow(make) if operation == Operation::Insert => Some(make),
            Seal::Secret(_) | Seal::Hashed { .. } | Seal::FromNow(_) => None,
        });
        let document = self.check(input, operation, context)?;
        let mut document = sealed(document, &given, context.ambient);
        alias::show(overlay.fields, &mut document);
        if operation == Operation::Declare {
            self.strip(&mut document);
        }
        Ok(document)
    }

    /// Turns what Kong before 3.0 wrote into what it means today.
    pub(crate) fn upgrade(&self, document: &mut Document) {
        for field in self.fields {
            if let (Some(upgrade), Some(value)) = (field.upgrade, document.get_mut(field.name)) {
                upgrade(value);
            }
        }
    }

    /// Validates `stored` with `patch` merged into it (records deep, arrays and maps whole).
    ///
    /// # Errors
    /// [`Violations`].
    pub fn update(
        &self,
        stored: &Document,
        patch: Document,
        context: &Context<'_>,
    ) -> Result<Document, Violations> {
        let mut patch = self.expand(patch, true)?;
        patch.remove("id");
        let overlay = self.overlay_of(&patch, Some(stored), context.enabled_plugins)?;
        alias::fold(overlay.fields, &mut patch)?;
        let given = self.to_seal(&patch, |seal| match seal {
            Seal::Secret(make) | Seal::Hashed { make, .. } | Seal::FromNow(make) => Some(make),
        });
        let mut stored = stored.clone();
        alias::hide(overlay.fields, &mut stored);
        let merged = walk::merge(self.fields, overlay, &stored, patch);
        let document = self.check(merged, Operation::Update, context)?;
        let mut document = sealed(document, &given, context.ambient);
        alias::show(overlay.fields, &mut document);
        Ok(document)
    }

    /// Takes the members out of a validated document that are not stored with it.
    pub fn strip(&self, document: &mut Document) {
        for field in self.fields.iter().filter(|field| field.transient) {
            document.shift_remove(field.name);
        }
    }

    /// Fields of a request that are not stored as they were given.
    fn to_seal(&self, input: &Document, applies: impl Fn(Seal) -> Option<Make>) -> Vec<Sealing> {
        let given = |name: &str| input.get(name).is_some_and(|value| !value.is_null());
        self.fields
            .iter()
            .filter_map(|field| {
                let (seal, make) = (field.seal?, applies(field.seal?)?);
                let when = match seal {
                    Seal::Hashed { when, .. } => Some(when),
                    Seal::Secret(_) | Seal::FromNow(_) => None,
                };
                let applies = given(field.name) || when.is_some_and(given);
                applies.then_some(Sealing {
                    field: field.name,
                    when,
                    make,
                })
            })
            .collect()
    }

    /// Gives the texts of a form the types of the fields they are for: numbers, booleans, arrays of
    /// one, null for the empty text. `stored` is the entity a PATCH is for.
    #[must_use]
    pub fn coerce(&self, mut form: Document, stored: Option<&Document>) -> Document {
        let known = |name: &str| vec![name.to_owned()];
        let plugin = form
            .get("name")
            .or_else(|| stored.and_then(|stored| stored.get("name")))
            .and_then(Value::as_str)
            .map(known)
            .unwrap_or_default();
        let overlay = self.overlay_of(&form, stored, &plugin).unwrap_or_default();
        // Names that contradict each other stay for the validation to find.
        let _contradicts = alias::fold(overlay.fields, &mut form).is_err();
        form::coerce(self.fields, overlay, form)
    }

    /// The body of `GET /schemas/<entity>`.
    #[must_use]
    pub fn describe(&self) -> Value {
        describe::schema(self.fields, self.checks)
    }

    /// Whether `field` is declared.
    #[must_use]
    pub fn has_field(&self, field: &str) -> bool {
        self.fields.iter().any(|declared| declared.name == field)
    }

    /// Whether `field` is declared and part of what is stored.
    pub(crate) fn stores(&self, field: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|declared| declared.name == field && !declared.transient)
    }

    /// Whether `field` must have a value.
    pub(crate) fn requires(&self, field: &str) -> bool {
        self.fields
            .iter()
            .any(|declared| declared.name == field && declared.required)
    }

    /// What is wrong with a text as the key that stands for the id in a path.
    #[must_use]
    pub fn key_complaint(&self, text: &str) -> Option<String> {
        let key = self.endpoint_key?;
        let field = self.fields.iter().find(|field| field.name == key)?;
        let value = Value::from(text);
        let complaint = field.checks.iter().find_map(|check| check.apply(&value));
        complaint.map(std::borrow::Cow::into_owned)
    }

    /// The constraint that `field` alone makes.
    #[must_use]
    pub fn unique_field(&self, field: &str) -> Option<&'static Unique> {
        self.unique
            .iter()
            .find(|unique| unique.name == field && unique.fields == [field])
    }

    /// Gives what a client sent the form that defaults, checks and unique values are about. Without
    /// `transform` it is what was stored before.
    pub(crate) fn prepare(&self, input: &mut Document, transform: bool) {
        if let Some(prepare) = declared::preparation(self.name, transform) {
            prepare(input);
        }
    }

    fn expand(&self, mut input: Document, transform: bool) -> Result<Document, Violations> {
        self.prepare(&mut input, transform);
        let Some(shorthand) = self.shorthand else {
            return Ok(input);
        };
        match input.remove(shorthand.name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {
                return Err(Violations::on(shorthand.name, "length must be at least 1"));
            }
            Some(Value::String(text)) => (shorthand.expand)(&text, &mut input),
            Some(_) => return Err(Violations::on(shorthand.name, "expected a string")),
        }
        Ok(input)
    }

    fn overlay_of(
        &self,
        document: &Document,
        stored: Option<&Document>,
        enabled_plugins: &[String],
    ) -> Result<Overlay, Violations> {
        let Some(stored) = stored else {
            return (self.overlay)(document, enabled_plugins);
        };
        // What decides on the overlay is a scalar or an array, so one level of merging is enough.
        let mut shallow = stored.clone();
        shallow.extend(document.iter().map(|(k, v)| (k.clone(), v.clone())));
        (self.overlay)(&shallow, enabled_plugins)
    }

    fn check(
        &self,
        input: Document,
        operation: Operation,
        context: &Context<'_>,
    ) -> Result<Document, Violations> {
        let overlay = (self.overlay)(&input, context.enabled_plugins)?;
        let walk = Walk {
            ambient: context.ambient,
            operation,
        };
        let (document, mut errors) = walk.record(self.fields, overlay.fields, input);
        walk.entity_checks(self.checks, &document, &mut errors);
        walk.entity_checks(overlay.checks, &document, &mut errors);
        if errors.is_empty() {
            for rule in self.unsupported {
                let value = document.get(rule.field).unwrap_or(&Value::Null);
                if !is_blank(value) && !(rule.supported)(value) {
                    errors.insert(
                        rule.field.to_owned(),
                        Value::String(rule.message.to_owned()),
                    );
                }
            }
        }
        if errors.is_empty() {
            Ok(document)
        } else {
            Err(Violations { fields: errors })
        }
    }
}

/// A field whose value becomes another one.
struct Sealing {
    field: &'static str,
    /// Only if this field is true.
    when: Option<&'static str>,
    make: Make,
}

fn sealed(mut document: Document, fields: &[Sealing], ambient: &Ambient) -> Document {
    let is_true = |document: &Document, name: &str| document.get(name) == Some(&Value::Bool(true));
    for sealing in fields {
        if sealing.when.is_none_or(|name| is_true(&document, name)) {
            let value = document.get(sealing.field).unwrap_or(&Value::Null);
            let value = (sealing.make)(value, &document, ambient);
            document.insert(sealing.field.to_owned(), value);
        }
    }
    document
}

/// Every entity, parents before children, with the fields of the flavour of this process.
#[must_use]
pub fn entities() -> &'static [Entity] {
    entities_of(router_flavor())
}

/// Every entity under that flavour: only routes differ.
#[must_use]
pub fn entities_of(flavor: RouterFlavor) -> &'static [Entity] {
    match flavor {
        RouterFlavor::TraditionalCompatible => declared::ENTITIES,
        RouterFlavor::Traditional => declared::TRADITIONAL_ENTITIES,
        RouterFlavor::Expressions => declared::EXPRESSIONS_ENTITIES,
    }
}

/// The entity of that internal name.
#[must_use]
pub fn entity(name: &str) -> Option<&'static Entity> {
    entities().iter().find(|entity| entity.name == name)
}
