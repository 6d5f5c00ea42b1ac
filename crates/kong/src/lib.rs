//! Kong's entities: their fields, defaults, checks and messages, declared once as data.
//!
//! It stores nothing and serves nothing; the Admin API, the declarative format and the data plane
//! all read the same declarations.

mod entity;
mod typed;

pub use entity::{
    Context, Document, Entity, Foreign, OnDelete, Unique, Violations, entities, entity,
};

pub use typed::{Acl, Consumer, ForeignKey, PluginEntity, Route, Service};
