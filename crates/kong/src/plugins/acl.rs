use crate::declared::{HTTP_PROTOCOLS, NO_CONSUMER, TEXT};
use crate::plugins::PluginSchema;
use crate::schema::{EntityCheck, Field, Kind, Literal};

const LISTS: &[&str] = &["config.allow", "config.deny"];

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "acl",
    version: "3.9.3",
    priority: 950,
    fields: &[
        NO_CONSUMER,
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[
        EntityCheck::ExactlyOneOf(LISTS),
        EntityCheck::AtLeastOneOf(LISTS),
    ],
};

const CONFIG: &[Field] = &[
    Field::new("allow", Kind::Array(&TEXT)),
    Field::new("deny", Kind::Array(&TEXT)),
    Field::new("hide_groups_header", Kind::Boolean)
        .default(Literal::Boolean(false))
        .required(),
    Field::new("always_use_authenticated_groups", Kind::Boolean)
        .default(Literal::Boolean(false))
        .required(),
];
