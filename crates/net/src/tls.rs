//! TLS: certificates with their keys, and what listeners show and accept.

mod identity;
mod listener;
mod names;

pub use identity::{ConfigError, Identity, certified_key, check_authority};
pub use listener::{
    CertificateSource, Identities, listener_config, server_config, server_config_with,
};
pub use names::{ListenerSettings, Profile, SettingsError};
