//! The sockets of the process: all are bound before anything else starts, so that a taken port is
//! reported at once and nothing half-started answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use o28m_net::server::Listener;

use crate::config::Config;

/// Name, setting and role of each listener.
const LISTENERS: &[(&str, &str, &str)] = &[
    ("proxy", "proxy.listen", "proxy"),
    ("proxy-ssl", "proxy.tls_listen", "proxy"),
    ("admin", "admin.listen", "admin"),
    ("status", "status.listen", ""),
    ("metrics", "metrics.listen", ""),
    ("jumper", "jumper.listen", "jumper"),
    ("issuer", "issuer.listen", "issuer"),
    ("identity", "identity.listen", "identity"),
    ("management", "identity.management_listen", "identity"),
];

/// Bound listeners by name.
pub struct Bound {
    listeners: BTreeMap<&'static str, Listener>,
}

impl Bound {
    /// Binds every listener that is on and whose role this process has.
    ///
    /// # Errors
    /// A port that is taken, or an Admin API without users on an address others can reach.
    pub fn bind(config: &Config) -> Result<Self> {
        let mut listeners = BTreeMap::new();
        for (name, key, role) in LISTENERS {
            let wanted = role.is_empty() || config.has_role(role);
            let Some(address) = config.listen(key).filter(|_| wanted) else {
                continue;
            };
            let open = config.optional("admin.htpasswd_file").is_none();
            if *name == "admin" && open && !address.ip().is_loopback() {
                bail!(
                    "admin.listen is {address} but admin.htpasswd_file is not set: anyone could \
                     reconfigure the gateway; set it (see `o28m htpasswd`) or listen on 127.0.0.1"
                );
            }
            listeners.insert(*name, Listener::bind(name, address)?);
        }
        Ok(Self { listeners })
    }

    /// The address a listener is bound to; `None` when it is off.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.listeners.get(name).map(Listener::address)
    }

    /// Hands a listener over to whoever serves it.
    pub(super) fn take(&mut self, name: &str) -> Option<Listener> {
        self.listeners.remove(name)
    }
}
