//! The sockets of the process: all are bound before anything else starts, so that a taken port is
//! reported at once and nothing half-started answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use o28m_gateway::Gateway;
use o28m_net::server::{Admission, Keepalive, Listener, SocketOptions};

use super::tls::{self, Certificates};
use crate::config::{Config, KeepAlive, Listen};

/// A listener: several addresses that answer alike.
struct Door {
    name: &'static str,
    /// Name of those of its addresses that have TLS.
    tls_name: &'static str,
    /// Settings with its addresses.
    keys: &'static [&'static str],
    /// The role it belongs to; empty for all.
    role: &'static str,
    /// Start of the settings with its certificate; empty where there is no TLS.
    tls: &'static str,
}

const fn door(name: &'static str, keys: &'static [&'static str], role: &'static str) -> Door {
    Door {
        name,
        tls_name: name,
        keys,
        role,
        tls: "",
    }
}

impl Door {
    const fn tls(mut self, tls_name: &'static str, tls: &'static str) -> Self {
        self.tls_name = tls_name;
        self.tls = tls;
        self
    }
}

const DOORS: &[Door] = &[
    door("proxy", &["proxy.listen", "proxy.tls_listen"], "proxy").tls("proxy-ssl", "proxy.tls"),
    door("admin", &["admin.listen"], "admin").tls("admin-ssl", "admin.tls"),
    door("status", &["status.listen"], "").tls("status-ssl", "status.tls"),
    door("metrics", &["metrics.listen"], ""),
    door("jumper", &["jumper.listen"], "jumper"),
    door("issuer", &["issuer.listen"], "issuer"),
    door("identity", &["identity.listen"], "identity"),
    door("management", &["identity.management_listen"], "identity"),
];

/// The setting with the header that names clients.
const REAL_IP: &str = "proxy.real_ip_header";

/// Bound listeners by name.
pub struct Bound {
    listeners: BTreeMap<&'static str, Vec<Listener>>,
    certificates: Certificates,
}

impl Bound {
    /// Binds every listener that is on and whose role this process has.
    ///
    /// # Errors
    /// A port that is taken, a certificate that cannot be used, or an Admin API without users on an
    /// address others can reach.
    pub fn bind(config: &Config) -> Result<Self> {
        tls::trust(config)?;
        let mut bound = Self {
            listeners: BTreeMap::new(),
            certificates: Certificates::default(),
        };
        let admission = admission(config);
        for door in DOORS {
            if !door.role.is_empty() && !config.has_role(door.role) {
                continue;
            }
            let mut listeners = Vec::new();
            for key in door.keys {
                for mut listen in config.listeners(key) {
                    listen.ssl |= *key == "proxy.tls_listen";
                    check(door, key, &listen, config)?;
                    let mut listener = bound.listener(door, &listen, config)?;
                    if door.name == "proxy" {
                        listener.admission.clone_from(&admission);
                    }
                    listeners.push(listener);
                }
            }
            let announced = listeners.iter().any(|it| it.proxy_protocol);
            if door.name == "proxy" && !announced && config.text(REAL_IP) == "proxy_protocol" {
                tracing::warn!(
                    "{REAL_IP} is proxy_protocol, but no listener of the proxy has that flag"
                );
            }
            if !listeners.is_empty() {
                bound.listeners.insert(door.name, listeners);
            }
        }
        Ok(bound)
    }

    fn listener(&mut self, door: &Door, listen: &Listen, config: &Config) -> Result<Listener> {
        let name = if listen.ssl { door.tls_name } else { door.name };
        let mut listener = Listener::bind_with(name, listen.address, options(listen))?;
        listener.http2 = door.name == "proxy" && config.proxy_speaks_http2();
        listener.proxy_protocol = listen.proxy_protocol;
        if listen.ssl {
            let tls = self.certificates.of(door.tls, config);
            listener.tls = Some(tls.with_context(|| format!("no TLS for listener {name}"))?);
        }
        Ok(listener)
    }

    /// The first address a listener is bound to; `None` when it is off.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses(name).next()
    }

    /// Every address a listener is bound to.
    pub fn addresses(&self, name: &str) -> impl Iterator<Item = SocketAddr> {
        let listeners = self.listeners.get(name).into_iter().flatten();
        listeners.map(Listener::address)
    }

    /// The first address of a listener that has TLS; `None` when there is none.
    #[must_use]
    pub fn tls_address(&self, name: &str) -> Option<SocketAddr> {
        let listeners = self.listeners.get(name).into_iter().flatten();
        let mut with_tls = listeners.filter(|it| it.tls.is_some());
        with_tls.next().map(Listener::address)
    }

    /// Hands a listener over to whoever serves it.
    pub(super) fn take(&mut self, name: &str) -> Vec<Listener> {
        self.listeners.remove(name).unwrap_or_default()
    }

    /// Lets the proxy's TLS listeners show the certificates of the gateway's configuration.
    pub(super) fn show_certificates_of(&self, gateway: &Arc<Gateway>) {
        self.certificates.show_those_of(gateway.clone());
    }

    /// Reads the certificates again that come from files.
    pub(super) fn reload_certificates(&self, config: &Config) {
        self.certificates.reload(config);
    }
}

/// What all listeners of the proxy together let in.
fn admission(config: &Config) -> Option<Arc<Admission>> {
    let max = u32::try_from(config.integer("proxy.connections_per_address_max")).unwrap_or(0);
    (max > 0).then(|| Admission::new(max))
}

/// Refuses what would be unsafe and says what will not be so.
fn check(door: &Door, key: &str, listen: &Listen, config: &Config) -> Result<()> {
    let address = listen.address;
    if listen.ssl && door.tls.is_empty() {
        bail!("{key}: ssl is not supported for {address}");
    }
    if listen.http2 && door.name != "proxy" {
        tracing::warn!(
            listener = door.name,
            listener.address = %address,
            "http2 is not there: clients get HTTP/1.1"
        );
    }
    if door.name != "admin" || address.ip().is_loopback() {
        return Ok(());
    }
    if config.list("admin.gui_url").is_empty() {
        tracing::warn!(
            listener.address = %address,
            "the Admin API answers to pages of every origin: set admin.gui_url to those that may use it"
        );
    }
    if config.optional("admin.htpasswd_file").is_some() {
        return Ok(());
    }
    if config.boolean("admin.allow_unauthenticated") {
        tracing::warn!(
            listener.address = %address,
            "the Admin API has no users: everyone who reaches it may reconfigure the gateway"
        );
        return Ok(());
    }
    bail!(
        "admin.listen is {address} but admin.htpasswd_file is not set: anyone could reconfigure the \
         gateway; set it (see `o28m htpasswd`), listen on 127.0.0.1, or set \
         admin.allow_unauthenticated"
    )
}

/// nginx takes IPv6 alone on an IPv6 address unless told otherwise, so that both can be listed.
fn options(listen: &Listen) -> SocketOptions {
    SocketOptions {
        backlog: listen.backlog,
        ipv6_only: Some(listen.ipv6only.unwrap_or(true)),
        keepalive: listen.so_keepalive.map(|keep| match keep {
            KeepAlive::Off => Keepalive::Off,
            KeepAlive::On {
                idle,
                interval,
                count,
            } => Keepalive::On {
                idle,
                interval,
                retries: count,
            },
        }),
    }
}
