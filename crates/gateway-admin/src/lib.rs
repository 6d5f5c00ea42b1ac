//! Kong's Admin API over the store, its protection, and the status endpoints.
//!
//! Every entity endpoint is generated from the declarations of `o28m_kong`; this crate knows HTTP,
//! paging, foreign keys and errors, but no entity by name except where Kong itself makes one special.

mod api;
mod apr1;
mod audit;
mod auth;
mod body;
mod certificates;
mod config;
mod endpoints;
mod info;
mod life_time;
mod list;
mod lists;
mod log_level;
mod mask;
mod metrics;
mod object;
mod operations;
mod precondition;
mod problem;
mod replicas;
mod reply;
mod request;
mod resolve;
mod service;
mod status;
mod targets;
mod throttle;
mod write;

pub mod declarative;
pub mod htpasswd;

use std::path::PathBuf;

pub use info::resident_bytes;
pub use object::{kinds, object};
pub use reply::Headers;
pub use service::AdminService;
pub use status::{Readiness, StatusSources, status, status_of};
pub use targets::TargetPost;

/// The version of Kong whose Admin API this is.
pub const KONG_VERSION: &str = "3.9.3";

/// Settings of the Admin API.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Users; without a file everyone who reaches the listener is let in.
    pub htpasswd_file: Option<PathBuf>,
    /// Users who may only read and see no private keys, passwords and other secrets.
    pub read_only_users: Vec<String>,
    /// URLs of pages whose scripts may use the API; without any, every page may.
    pub gui_urls: Vec<String>,
    /// Headers of our own that responses have.
    pub headers: Headers,
    /// The version of Kong to claim, for clients that choose what they use by it; unset is
    /// [`KONG_VERSION`].
    pub kong_version: Option<String>,
    /// Bytes of a request body; unset is [`o28m_core::limits::ADMIN_BODY_BYTES_MAX`].
    pub body_bytes_max: Option<usize>,
    /// Names of the plugins that may be configured.
    pub enabled_plugins: Vec<String>,
    /// The node's settings under Kong's names, without secrets, for `GET /`.
    pub configuration: serde_json::Map<String, serde_json::Value>,
    /// Answer a write only after the data plane of this process has applied it.
    pub strict: bool,
    /// The store is not a database but this process's copy of a declarative configuration: entities are
    /// not written one by one, `/config` replaces all of them.
    pub db_less: bool,
}

/// Why an operation of the wiring failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Admin API refused it.
    #[error("the Admin API answered {status}: {message}")]
    Refused {
        /// Its status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// The declarative configuration is wrong: every problem of it.
    #[error("the declarative configuration is invalid: {}", problems.join("; "))]
    Configuration {
        /// One line each.
        problems: Vec<String>,
    },
}
