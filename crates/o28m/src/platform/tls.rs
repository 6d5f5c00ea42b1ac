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
            Some((certificate, private)) => identities(&certificate, &private)
                .with_context(|| format!("cannot use {key}.cert"))?,
            None => self_signed()?,
        };
        let current = Arc::new(Current(ArcSwapAny::new(Arc::new(certificate))));
        let mut sources: Vec<Arc<dyn CertificateSource>> = vec![current.clone()];
        if key == PROXY {
            sources.insert(0, self.by_name.clone());
        }
        let http2 = key == PROXY && config.proxy_speaks_http2();
        let tls = listener_config(sources, &settings(config)?.with_http2(http2))?;
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
        let _first = self.by_name.0.set(gateway);
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
    let profile = config.text("proxy.tls.cipher_suite");
    let profile = profile.parse().context("proxy.tls.cipher_suite")?;
    let (protocols, ciphers) = (
        config.text("proxy.tls.protocols"),
        config.text("proxy.tls.ciphers"),
    );
    ListenerSettings::new(profile, protocols, ciphers)
        .context("cannot use proxy.tls.protocols and proxy.tls.ciphers")
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

/// Has the process trust the configured certificates, unless they are the system's alone.
pub(super) fn trust(config: &Config) -> Result<()> {
    const KEY: &str = "node.trusted_certificates";
    let listed = config.list(KEY);
    let is_system = |item: &String| item == "system";
    if listed.iter().all(is_system) {
        return Ok(());
    }
    let mut bundle = String::new();
    for path in listed.iter().filter(|item| !is_system(item)) {
        bundle.push_str(&read(Path::new(path))?);
        bundle.push('\n');
    }
    let system = listed.iter().any(is_system);
    o28m_net::client::trust_instead_of_system(&bundle, system)
        .with_context(|| format!("cannot use {KEY}"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn of(settings: &[(&str, &str)]) -> Result<Arc<ServerConfig>> {
        let settings = settings.iter();
        let command = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let sources = Sources {
            command: command.collect(),
            ..Sources::default()
        };
        Certificates::default().of(PROXY, &load(&sources).unwrap())
    }

    #[test]
    fn protocols_and_ciphers_count_with_a_custom_suite_and_errors_name_the_setting() {
        let custom = ("proxy.tls.cipher_suite", "custom");
        assert!(of(&[("proxy.tls.protocols", "SSLv1")]).is_ok());
        let ciphers = "DHE-RSA-AES256-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256";
        assert!(of(&[custom, ("proxy.tls.ciphers", ciphers)]).is_ok());
        for (key, value, wanted) in [
            (
                "proxy.tls.protocols",
                "SSLv1",
                "unknown TLS protocol \"SSLv1\"",
            ),
            (
                "proxy.tls.protocols",
                "TLSv1",
                "no supported TLS protocol in \"TLSv1\"",
            ),
            (
                "proxy.tls.ciphers",
                "nonsense",
                "unknown TLS cipher \"nonsense\"",
            ),
            (
                "proxy.tls.ciphers",
                "AES256-SHA",
                "no supported TLS cipher for TLSv1.2",
            ),
        ] {
            let error = format!("{:#}", of(&[custom, (key, value)]).unwrap_err());
            assert!(error.contains(key) && error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn what_is_shown_and_trusted_upstream_comes_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let key = o28m_jose::SigningKey::generate_pkcs8(o28m_jose::Algorithm::ES256).unwrap();
        let made = o28m_jose::x509::self_signed(&key, "client", &["client"], 2100).unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (cert, key) = (
            write("cert.pem", &made.certificate_pem),
            write("key.pem", &made.key_pem),
        );
        let config = |settings: &[(&str, &str)]| {
            let settings = settings.iter();
            let command = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let sources = Sources {
                command: command.collect(),
                ..Sources::default()
            };
            load(&sources).unwrap()
        };
        let none = config(&[]);
        assert!(upstream_identity(&none).unwrap().is_none());
        assert!(upstream_ca(&none).unwrap().is_none());
        let both = config(&[
            ("upstream.tls.cert", &cert),
            ("upstream.tls.key", &key),
            ("upstream.tls.ca", &cert),
        ]);
        assert!(upstream_identity(&both).unwrap().is_some());
        assert_eq!(*upstream_ca(&both).unwrap().unwrap(), *made.certificate_pem);
        let half = config(&[("upstream.tls.cert", &cert)]);
        let error = upstream_identity(&half).unwrap_err().to_string();
        assert!(error.contains("belong together"), "{error}");
    }
}
