use crate::plugins::PluginSchema;
use crate::schema::{Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "prometheus",
    version: "3.9.3",
    priority: 13,
    fields: &[Field::new("config", Kind::Record(CONFIG)).required()],
    checks: &[],
};

const CONFIG: &[Field] = &[
    flag("per_consumer"),
    flag("status_code_metrics"),
    flag("ai_metrics"),
    flag("latency_metrics"),
    flag("bandwidth_metrics"),
    flag("upstream_health_metrics"),
    // Kong 3.10 has it; there are no filters here whose metrics it could add.
    flag("wasm_metrics"),
];

const fn flag(name: &'static str) -> Field {
    Field::new(name, Kind::Boolean).default(Literal::Boolean(false))
}
