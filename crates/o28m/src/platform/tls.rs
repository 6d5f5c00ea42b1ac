//! Certificates of the listeners: the configured ones, read again when told to, or ones made at start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Config;

/// The certificates of all listeners, by the start of their settings.
#[derive(Default)]
pub(super) struct Certificates(BTreeMap<&'static str, Slot>);

/// One certificate and what serves it.
struct Slot {
    current: Arc<Current>,
    tls: Arc<ServerConfig>,
}

/// What handshakes are answered with until it is replaced.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificates {
    /// The TLS configuration of listeners whose certificate is at `<key>.cert` and `<key>.key`.
    pub(super) fn of(&mut self, key: &'static str, config: &Config) -> Result<Arc<ServerConfig>> {
        if let Some(slot) = self.0.get(key) {
            return Ok(slot.tls.clone());
        }
        let certificate = match files(key, config)? {
            Some((certificate, key)) => certified(&certificate, &key)?,
            None => self_signed()?,
        };
        let current = Arc::new(Current(ArcSwap::new(certificate)));
        let tls = o28m_net::tls::server_config_with(current.clone())?;
        let slot = Slot {
            current,
            tls: tls.clone(),
        };
        self.0.insert(key, slot);
        Ok(tls)
    }

    /// Reads the configured files again; what cannot be used leaves the one in use.
    pub(super) fn reload(&self, config: &Config) {
        for (key, slot) in &self.0 {
            let read = files(key, config).and_then(|files| {
                let made = files.map(|(certificate, key)| certified(&certificate, &key));
                made.transpose()
            });
            match read {
                Ok(Some(certificate)) => {
                    slot.current.0.store(certificate);
                    tracing::info!(setting = key, "certificate read again");
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(
                        setting = key,
                        error = %format!("{error:#}"),
                        "certificate not reloaded, the one in use stays"
                    );
                }
            }
        }
    }
}

fn certified(certificate: &str, key: &str) -> Result<Arc<CertifiedKey>> {
    Ok(o28m_net::tls::certified_key(
        certificate.as_bytes(),
        key.as_bytes(),
    )?)
}

/// The texts of the two files, when they are configured.
fn files(key: &str, config: &Config) -> Result<Option<(String, String)>> {
    let [certificate, private] = ["cert", "key"].map(|part| format!("{key}.{part}"));
    match (config.path(&certificate), config.path(&private)) {
        (Some(certificate), Some(key)) => Ok(Some((read(&certificate)?, read(&key)?))),
        (None, None) => Ok(None),
        _ => bail!("{certificate} and {private} belong together: set both or neither"),
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn self_signed() -> Result<Arc<CertifiedKey>> {
    let key = o28m_jose::SigningKey::generate_pkcs8(o28m_jose::Algorithm::ES256)?;
    let made = o28m_jose::x509::self_signed(&key, "localhost", &["localhost", "127.0.0.1"], 2100)?;
    certified(&made.certificate_pem, &made.key_pem)
}
