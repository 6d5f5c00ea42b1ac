//! Log format and metric registry.

pub mod metrics;
