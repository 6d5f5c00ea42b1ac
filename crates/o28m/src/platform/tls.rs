//! Certificates of the listeners: the configured ones, read again when told to, or ones made at start.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwapAny;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use o28m_net::tls::{CertificateSource, Identities, Identity, ListenerSettings, listener_config};
use rustls::ServerConfig;

use crate::config::{Config, Source};

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
        let pairs = pairs(key, config)?;
        let certificate = match pairs.is_empty() {
            true => self_signed()?,
            false => identities(&pairs).with_context(|| format!("cannot use {key}.cert"))?,
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
            let read = pairs(key, config).and_then(|pairs| {
                let configured = (!pairs.is_empty()).then_some(pairs);
                configured.map(|pairs| identities(&pairs)).transpose()
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

/// Bytes of a name of a file.
const PATH_BYTES_MAX: usize = 512;

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
    let settings = ListenerSettings::new(profile, protocols, ciphers)
        .context("cannot use proxy.tls.protocols and proxy.tls.ciphers")?;
    Ok(settings.with_session_tickets(config.boolean("proxy.tls.session_tickets")))
}

fn identities(pairs: &[(String, String)]) -> Result<Identities> {
    let identity = |(certificate, key): &(String, String)| {
        Identity::from_pem(certificate.as_bytes(), key.as_bytes())
    };
    let identities: Result<Vec<_>, _> = pairs.iter().map(identity).collect();
    Ok(identities?.into())
}

/// What services without a certificate of their own show to upstreams.
pub(super) fn upstream_identity(config: &Config) -> Result<Option<Arc<Identity>>> {
    let cert = config.resolved("upstream.tls.cert");
    let of_kong = cert.is_some_and(|it| matches!(it.source, Source::Compat(_)));
    match config.text("upstream.tls.client") {
        "off" => return Ok(None),
        "on" if config.path("upstream.tls.cert").is_none() => {
            bail!("upstream.tls.client is on, but upstream.tls.cert is not set");
        }
        // As in Kong, whose client_ssl is off unless set.
        "auto" if of_kong && config.path("upstream.tls.cert").is_some() => {
            tracing::warn!("client_ssl_cert is not shown to upstreams: client_ssl is not on");
            return Ok(None);
        }
        _ => {}
    }
    let pairs = pairs("upstream.tls", config)?;
    let identity = pairs.first().map(|(certificate, key)| {
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

/// The configured certificates, each with its key, in PEM.
fn pairs(key: &str, config: &Config) -> Result<Vec<(String, String)>> {
    let [certificate, private] = ["cert", "key"].map(|part| format!("{key}.{part}"));
    let (certificates, keys) = (config.list(&certificate), config.list(&private));
    if certificates.len() != keys.len() {
        bail!("{certificate} and {private} belong together: set both or neither, as many of each");
    }
    let pairs = certificates.iter().zip(&keys);
    let pair = |(certificate, key): (&String, &String)| Ok((pem(certificate)?, pem(key)?));
    pairs.map(pair).collect()
}

/// PEM that is given as it is, in base64, or as the name of a file.
fn pem(text: &str) -> Result<String> {
    if !Config::is_key(text) {
        // Nothing that long is a name; it may be a key in a form that is not known.
        if text.len() > PATH_BYTES_MAX {
            bail!("neither PEM nor the name of a file");
        }
        return read(Path::new(text));
    }
    if text.trim_start().starts_with('-') {
        return Ok(text.to_owned());
    }
    let packed: String = text.split_whitespace().collect();
    let decoded = STANDARD.decode(packed).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.context("PEM in base64 cannot be decoded")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn self_signed() -> Result<Identities> {
    let key = o28m_jose::SigningKey::generate_pkcs8(o28m_jose::Algorithm::ES256)?;
    let made = o28m_jose::x509::self_signed(&key, "localhost", &["localhost", "127.0.0.1"], 2100)?;
    identities(&[(made.certificate_pem, made.key_pem)])
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
        let pair = [("upstream.tls.cert", &*cert), ("upstream.tls.key", &key)];
        let off = config(&[pair[0], pair[1], ("upstream.tls.client", "off")]);
        assert!(upstream_identity(&off).unwrap().is_none());
        let on = config(&[("upstream.tls.client", "on")]);
        let error = upstream_identity(&on).unwrap_err().to_string();
        assert!(error.contains("upstream.tls.cert is not set"), "{error}");
        let of_kong = |switch: &[(&str, &str)]| {
            let pair = [
                ("KONG_CLIENT_SSL_CERT", &*cert),
                ("KONG_CLIENT_SSL_CERT_KEY", &key),
            ];
            let all = pair.iter().chain(switch);
            let owned = all.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
            let sources = Sources {
                environment: owned.collect(),
                ..Sources::default()
            };
            upstream_identity(&load(&sources).unwrap())
                .unwrap()
                .is_some()
        };
        assert!(of_kong(&[("KONG_CLIENT_SSL", "on")]));
        assert!(!of_kong(&[("KONG_CLIENT_SSL", "off")]));
        assert!(!of_kong(&[]));
        let packed = STANDARD.encode(&made.certificate_pem);
        let list = format!("{packed},{cert}");
        let keys = format!("{},{key}", made.key_pem);
        let two = config(&[("proxy.tls.cert", &list), ("proxy.tls.key", &keys)]);
        let pairs = pairs(PROXY, &two).unwrap();
        assert_eq!(pairs.len(), 2);
        for (certificate, key) in &pairs {
            assert!(*certificate == made.certificate_pem && key.trim() == made.key_pem.trim());
        }
        assert_eq!(identities(&pairs).unwrap().len(), 2);
        let half = config(&[("upstream.tls.cert", &cert)]);
        let error = upstream_identity(&half).unwrap_err().to_string();
        assert!(error.contains("belong together"), "{error}");
    }
}
