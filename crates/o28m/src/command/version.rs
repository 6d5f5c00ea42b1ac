//! `o28m version`.

use serde_json::json;

use crate::cli::{Output, Version};
use crate::exit::Outcome;
use crate::terminal;

/// Version of the Kong Gateway whose interfaces are offered.
pub const KONG: &str = "3.9.3";
/// Version of the Keycloak whose interfaces are offered.
pub const KEYCLOAK: &str = "26.5.7";

/// Runs the command.
///
/// # Errors
/// None.
pub fn run(command: &Version) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    match command.output {
        Output::Text => terminal::data(&format!(
            "o28m {version} (compatible with Kong {KONG}, Keycloak {KEYCLOAK})"
        )),
        Output::Json => terminal::json(&json!({
            "version": version,
            "compatible": {"kong": KONG, "keycloak": KEYCLOAK},
        })),
    }
    Ok(())
}
