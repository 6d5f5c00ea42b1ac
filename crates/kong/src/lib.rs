//! Kong's entities: their fields, defaults, checks and messages, declared once as data.
//!
//! It stores nothing and serves nothing; the Admin API, the declarative format and the data plane
//! all read the same declarations. Adding an entity or a plugin is one declaration: validation,
//! defaults, form conversion, schema endpoints, keys and references follow from it.

mod alias;
mod balancing;
mod declared;
mod describe;
mod entity;
mod flavor;
mod form;
mod formats;
mod keys;
mod plugins;
mod same;
mod schema;
mod typed;
mod violations;
mod walk;

pub mod body;
pub mod declarative;
pub mod expression;
#[cfg(feature = "testing")]
pub mod fuzz;
pub mod vault;
pub mod yaml;

pub use declared::{schema as entity_schema, vault_schema};
pub use entity::{
    Context, Document, Entity, Foreign, IdList, OnDelete, Unique, Violations, entities,
    entities_of, entity,
};
pub use flavor::{FlavorSettled, RouterFlavor, router_flavor, settle_router_flavor};
pub use formats::{
    route_host as route_host_complaint, tag as tag_complaint, target as normal_target,
    upstream_name as upstream_name_complaint,
};
pub use plugins::{PluginSchema, plugin, plugins};

pub use balancing::{
    ActiveChecks, Counters, HealthChecks, PassiveChecks, Probes, Target, Upstream,
};
pub use typed::{
    Acl, CaCertificate, Certificate, Consumer, Endpoint, ForeignKey, PathHandling, PluginEntity,
    Route, Service, Sni, Vault,
};
