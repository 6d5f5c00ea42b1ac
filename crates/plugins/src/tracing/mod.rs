//! What zipkin and opentelemetry have in common: trace contexts in headers, the platform's own trace
//! id, and what spans say of a request (spec gateway-plugins 4.9, 4.10).

mod context;
mod found;
mod inject;
mod propagation;
mod tags;
mod tardis;
#[cfg(test)]
mod tests;

pub(crate) use context::Incoming;
pub(crate) use inject::{Outgoing, trace_digits};
pub(crate) use propagation::{Propagation, PropagationConfig};
pub(crate) use tags::{Captured, Environment, cut, path, text};
pub(crate) use tardis::{Tardis, TardisId};

use o28m_core::Rng;
use o28m_gateway::{Exchange, random_bytes};

/// A format that trace contexts travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// `x-b3-*`.
    B3,
    /// `b3`.
    #[serde(rename = "b3-single")]
    B3Single,
    /// `traceparent`.
    W3c,
    /// `uber-trace-id`.
    Jaeger,
    /// `ot-tracer-*`.
    Ot,
    /// `x-datadog-*`.
    Datadog,
    /// `x-amzn-trace-id`.
    Aws,
    /// `x-cloud-trace-context`.
    Gcp,
}

/// A random span id; zero means none.
pub(crate) fn span_id(rng: &dyn Rng) -> u64 {
    u64::from_be_bytes(random_bytes(rng)).max(1)
}

/// A random trace id of 16 bytes.
pub(crate) fn trace_id(rng: &dyn Rng) -> u128 {
    u128::from_be_bytes(random_bytes(rng)).max(1)
}

/// The platform's own Admin API is not traced.
pub(crate) fn is_never_sampled(exchange: &Exchange) -> bool {
    exchange.request.uri.path().starts_with("/admin-api")
}
