//! Upstreams and targets as the data plane reads them: typed views of stored, validated documents.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ForeignKey;

/// A Kong Upstream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct Upstream {
    pub id: String,
    pub name: String,
    pub algorithm: String,
    pub hash_on: String,
    pub hash_fallback: String,
    pub hash_on_header: Option<String>,
    pub hash_fallback_header: Option<String>,
    pub hash_on_cookie: Option<String>,
    pub hash_on_cookie_path: String,
    pub hash_on_query_arg: Option<String>,
    pub hash_fallback_query_arg: Option<String>,
    pub hash_on_uri_capture: Option<String>,
    pub hash_fallback_uri_capture: Option<String>,
    pub slots: u32,
    pub healthchecks: HealthChecks,
    pub host_header: Option<String>,
    pub client_certificate: Option<ForeignKey>,
    #[serde(default)]
    pub use_srv_name: bool,
}

/// The health checks of an upstream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct HealthChecks {
    pub active: ActiveChecks,
    pub passive: PassiveChecks,
    /// Percent of the weight that must be more than available.
    pub threshold: f64,
}

impl HealthChecks {
    /// Whether anything watches the health of targets at all (spec gateway-proxy 11.1).
    #[must_use]
    pub fn is_on(&self) -> bool {
        let limits = &self.passive.unhealthy;
        self.active.is_on()
            || limits.tcp_failures > 0
            || limits.timeouts > 0
            || limits.http_failures > 0
    }
}

/// Checks that ask targets themselves.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct ActiveChecks {
    #[serde(rename = "type")]
    pub kind: CheckType,
    /// Seconds.
    pub timeout: f64,
    pub concurrency: u32,
    pub http_path: String,
    pub https_sni: Option<String>,
    pub https_verify_certificate: bool,
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    pub healthy: Probes,
    pub unhealthy: Probes,
}

impl ActiveChecks {
    /// Whether targets are asked at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.healthy.interval > 0.0 || self.unhealthy.interval > 0.0
    }
}

/// How targets are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckType {
    /// Whether a connection can be made.
    Tcp,
    /// A `GET`.
    Http,
    /// A `GET` over TLS.
    Https,
    /// gRPC's health checking protocol.
    Grpc,
    /// gRPC's health checking protocol over TLS.
    Grpcs,
}

impl CheckType {
    /// Whether the answer is read over TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }
}

/// How often targets of a state are asked, and what the answers mean.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Probes {
    /// Seconds; 0 is never.
    pub interval: f64,
    /// Statuses and limits.
    #[serde(flatten)]
    pub counters: Counters,
}

/// Checks that watch what targets answer to clients.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PassiveChecks {
    /// What counts as success.
    pub healthy: Counters,
    /// What counts as failure.
    pub unhealthy: Counters,
}

/// Statuses that count, and how many reports in a row change the state; 0 is never.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are Kong's, described in its Admin API reference"
)]
pub struct Counters {
    pub http_statuses: Vec<u16>,
    #[serde(default)]
    pub successes: u8,
    #[serde(default)]
    pub tcp_failures: u8,
    #[serde(default)]
    pub timeouts: u8,
    #[serde(default)]
    pub http_failures: u8,
}

/// A Kong Target.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Target {
    /// Its id.
    pub id: String,
    /// `host:port`, an IPv6 address in brackets.
    pub target: String,
    /// Its share; 0 takes it out of the rotation.
    pub weight: u32,
    /// Whose target it is.
    pub upstream: ForeignKey,
}
