use o28m_core::Ambient;
use serde_json::{Map, Value};

/// A JSON object, in the order of its members.
pub type Document = Map<String, Value>;

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
    /// Pointers to other entities.
    pub foreign: &'static [Foreign],
    /// Unique constraints besides the id.
    pub unique: &'static [Unique],
}

/// A foreign key.
pub struct Foreign {
    /// Field that holds it, such as `service`.
    pub field: &'static str,
    /// Name of the entity pointed to.
    pub entity: &'static str,
    /// What deleting the other one does to this.
    pub on_delete: OnDelete,
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
pub struct Unique {
    /// Name of the constraint: the field's name, or a name of its own for several fields.
    pub name: &'static str,
    /// The fields; foreign ones count by id.
    pub fields: &'static [&'static str],
    /// Rows with a null in one of the fields conflict as well (plugins) or never do.
    pub nulls_equal: bool,
}

/// What is wrong with a document: the tree of messages of Kong's `schema violation`.
#[derive(Debug)]
pub struct Violations {
    /// `{"field": "message", "@entity": ["message"]}`, nested like the document.
    pub fields: Document,
}

impl Violations {
    /// The `message` of error code 2, such as `schema violation (host: required field missing)`.
    #[must_use]
    pub fn message(&self) -> String {
        todo!()
    }
}

impl Entity {
    /// Validates a document for creation or full replacement: shorthands, defaults, `id` and time stamps
    /// where missing. The result has every field, unset ones as null.
    ///
    /// # Errors
    /// [`Violations`].
    pub fn insert(&self, input: Document, context: &Context<'_>) -> Result<Document, Violations> {
        let _ = (input, context);
        todo!()
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
        let _ = (stored, patch, context);
        todo!()
    }
}

/// Every entity, parents before children.
#[must_use]
pub fn entities() -> &'static [Entity] {
    &[]
}

/// The entity of that internal name.
#[must_use]
pub fn entity(name: &str) -> Option<&'static Entity> {
    entities().iter().find(|entity| entity.name == name)
}
