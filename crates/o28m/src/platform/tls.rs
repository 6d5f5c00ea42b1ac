//! Certificates of the listeners: the configured ones, read again when told to, or ones made at start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwapAny;
use o28m_net::tls::{CertificateSource, Identities, Identity, ListenerSettings, listener_config};
use rustls::ServerConfig;

use crate::config::Config;

/// The certificates of all listeners, by the start of their settings.
#[derive(Default)]
pub(super) struct Certificates {
    slots: BTreeMap<&'static str, Slot>,
    by_name: Arc<ByName>,
}

/// One certificate and what serves it.
struct Slot {
    current: Arc<Current>,
    tls: Arc<ServerConfig>,
}

/// What handshakes are answered with until it is replaced.
struct Current(ArcSwapAny<Arc<Identities>>);

impl CertificateSource for Current {
    fn find(&self, _: Option<&str>) -> Option<Identities> {
        Some(Identities::clone(&self.0.load()))
    }
}

/// The certificates that the gateway's configuration has, once there is a gateway.
#[derive(Default)]
struct ByName(OnceLock<Arc<dyn CertificateSource>>);

impl CertificateSource for ByName {
    fn find(&self, server_name: Option<&str>) -> Option<Identities> {
        self.0.get()?.find(server_name)
    }
}

impl Certificates {
    /// The TLS configuration of listeners whose certificate is at `<key>.cert` and `<key>.key`.
    pub(super) fn of(&mut self, key: &'static str, config: &Config) -> Result<Arc<ServerConfig>> {
        if let Some(slot) = self.slots.get(key) {
            return Ok(slot.tls.clone());
        }
        let certificate = match files(key, config)? {
            Some((certificate, key)) => identities(&certificate, &key)?,
            None => self_signed()?,
        };
        let current = Arc::new(Current(ArcSwapAny::new(Arc::new(certificate))));
        let mut sources: Vec<Arc<dyn CertificateSource>> = vec![current.clone()];
        if key == PROXY {
            sources.insert(0, self.by_name.clone());
        }
        let tls = listener_config(sources, &settings(config)?)?;
        let slot = Slot {
            current,
            tls: tls.clone(),
        };
        self.slots.insert(key, slot);
        Ok(tls)
    }

    /// Lets the proxy's listeners show what the gateway has for the name a client asks for.
    pub(super) fn show_those_of(&self, gateway: Arc<dyn CertificateSource>) {
        // Whoever was first stays: there is one gateway.
        let _ = self.by_name.0.set(gateway);
    }

    /// Reads the configured files again; what cannot be used leaves the one in use.
    pub(super) fn reload(&self, config: &Config) {
        for (key, slot) in &self.slots {
            let read = files(key, config).and_then(|files| {
                let made = files.map(|(certificate, key)| identities(&certificate, &key));
                made.transpose()
            });
            match read {
                Ok(Some(certificate)) => {
                    slot.current.0.store(Arc::new(certificate));
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

/// Start of the settings of the listeners whose clients may ask for other names.
const PROXY: &str = "proxy.tls";

/// What the listeners speak.
fn settings(config: &Config) -> Result<ListenerSettings> {
    let profile = config.text("proxy.tls.cipher_suite").parse()?;
    let (protocols, ciphers) = (
        config.text("proxy.tls.protocols"),
        config.text("proxy.tls.ciphers"),
    );
    Ok(ListenerSettings::new(profile, protocols, ciphers)?)
}

fn identities(certificate: &str, key: &str) -> Result<Identities> {
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes())?;
    Ok([identity].into())
}

/// What services without a certificate of their own show to upstreams.
pub(super) fn upstream_identity(config: &Config) -> Result<Option<Arc<Identity>>> {
    let files = files("upstream.tls", config)?;
    let identity = files.map(|(certificate, key)| {
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes());
        identity.context("cannot use upstream.tls.cert")
    });
    identity.transpose()
}

/// Whom services without authorities of their own trust; `None` for the system's roots.
pub(super) fn upstream_ca(config: &Config) -> Result<Option<Arc<str>>> {
    let path = config.path("upstream.tls.ca");
    let bundle = path.map(|path| read(&path).map(Arc::from));
    bundle.transpose()
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

fn self_signed() -> Result<Identities> {
    let key = o28m_jose::SigningKey::generate_pkcs8(o28m_jose::Algorithm::ES256)?;
    let made = o28m_jose::x509::self_signed(&key, "localhost", &["localhost", "127.0.0.1"], 2100)?;
    identities(&made.certificate_pem, &made.key_pem)
}
