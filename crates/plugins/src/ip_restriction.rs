//! ip-restriction: lets clients pass by their address (Kong 3.9.3).

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind, Verdict};
use serde::Deserialize;
use serde_json::Value;

use crate::{config, identity};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    allow: Vec<String>,
    deny: Vec<String>,
    status: Option<f64>,
    message: Option<String>,
}

pub(crate) struct Kind;

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "ip-restriction"
    }

    fn is_shareable(&self) -> bool {
        true
    }

    fn priority(&self) -> i32 {
        990
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        let (allow, deny) = (Blocks::new(&config.allow)?, Blocks::new(&config.deny)?);
        if config.allow.is_empty() && config.deny.is_empty() {
            return Err(BadConfig("neither allow nor deny names an address".into()));
        }
        let status = config.status.unwrap_or(403.0);
        let status = config::status(status)
            .ok_or_else(|| BadConfig(format!("{status} is no status of a response")))?;
        Ok(Arc::new(IpRestriction {
            allow: (!config.allow.is_empty()).then_some(allow),
            deny,
            status,
            message: config.message,
        }))
    }
}

/// Addresses and address blocks of both families. A mapped IPv6 address counts as the IPv4 one.
#[derive(Default)]
struct Blocks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Blocks {
    fn new(entries: &[String]) -> Result<Self, BadConfig> {
        let mut blocks = Self::default();
        for entry in entries {
            let added = blocks.add(entry);
            added.ok_or_else(|| BadConfig(format!("invalid ip or cidr range: '{entry}'")))?;
        }
        blocks.v4.merge();
        blocks.v6.merge();
        Ok(blocks)
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        let (address, prefix) = match entry.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (entry, None),
        };
        match address.parse().ok()? {
            IpAddr::V4(address) => {
                let prefix = prefix.unwrap_or(32);
                if prefix > 32 {
                    return None;
                }
                let hosts = u32::MAX.checked_shr(prefix).unwrap_or(0);
                let first = u32::from(address) & !hosts;
                self.v4.0.push((first, first | hosts));
            }
            IpAddr::V6(address) => {
                let prefix = prefix.unwrap_or(128);
                if prefix > 128 {
                    return None;
                }
                let hosts = u128::MAX.checked_shr(prefix).unwrap_or(0);
                let first = u128::from(address) & !hosts;
                if let (96.., Some(mapped)) = (prefix, address.to_ipv4_mapped()) {
                    let hosts = u32::try_from(hosts).ok()?;
                    let first = u32::from(mapped) & !hosts;
                    self.v4.0.push((first, first | hosts));
                } else {
                    self.v6.0.push((first, first | hosts));
                }
            }
        }
        Some(())
    }

    fn contain(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contain(u32::from(address)),
            IpAddr::V6(address) => self.v6.contain(u128::from(address)),
        }
    }
}

/// Inclusive ranges; ascending and disjoint once merged, so that a look-up halves its way.
#[derive(Default)]
struct Ranges<T>(Vec<(T, T)>);

impl<T: Ord + Copy> Ranges<T> {
    fn merge(&mut self) {
        self.0.sort_unstable();
        self.0.dedup_by(|later, earlier| {
            let overlaps = later.0 <= earlier.1;
            if overlaps {
                earlier.1 = earlier.1.max(later.1);
            }
            overlaps
        });
    }

    fn contain(&self, value: T) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= value);
        let before = after.checked_sub(1).and_then(|at| self.0.get(at));
        before.is_some_and(|(_, last)| value <= *last)
    }
}

struct IpRestriction {
    /// `None` when everybody is allowed.
    allow: Option<Blocks>,
    deny: Blocks,
    status: StatusCode,
    message: Option<String>,
}

impl Plugin for IpRestriction {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let address = exchange.client_ip.to_canonical();
        let allowed = self.allow.as_ref().is_none_or(|it| it.contain(address));
        if allowed && !self.deny.contain(address) {
            return Access::CONTINUE;
        }
        let message = match &self.message {
            Some(message) => Cow::Borrowed(message.as_str()),
            None => Cow::Owned(format!("IP address not allowed: {address}")),
        };
        let response = identity::error(exchange, self.status, &message);
        Access::Now(Verdict::Respond(response))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use o28m_net::Body;
    use serde_json::json;

    use super::*;
    use crate::testing::{exchange, outcome};

    /// Status (0 passes) and message.
    async fn ask(config: Value, address: &str) -> (u16, String) {
        let plugin = Kind.configure(&config).unwrap();
        let mut exchange = exchange(Request::get("/").body(Body::Empty).unwrap());
        exchange.client_ip = address.parse().unwrap();
        let (status, body) = outcome(plugin.as_ref(), &mut exchange).await;
        let body = serde_json::from_str::<Value>(&body).unwrap_or_default();
        (status, body["message"].as_str().unwrap_or_default().into())
    }

    #[tokio::test]
    async fn plugins_case_075_a_denied_address_is_named() {
        let deny = || json!({"allow": null, "deny": ["10.0.0.0/8"], "status": null});
        let refused = (403, "IP address not allowed: 10.1.2.3".to_owned());
        assert_eq!(ask(deny(), "10.1.2.3").await, refused);
        assert_eq!(ask(deny(), "::ffff:10.1.2.3").await, refused);
        assert_eq!(ask(deny(), "11.0.0.0").await.0, 0);
        assert!(Kind.configure(&json!({"allow": ["nonsense"]})).is_err());
        assert!(Kind.configure(&json!({"allow": ["10.0.0.0/33"]})).is_err());
        assert!(Kind.configure(&json!({"allow": ["::/129"]})).is_err());
    }

    #[tokio::test]
    async fn denial_beats_permission_and_both_lists_count() {
        let both = || json!({"allow": ["10.0.0.0/8", "::1"], "deny": ["10.9.0.0/16"]});
        for (address, status) in [
            ("10.0.0.1", 0),
            ("10.255.255.255", 0),
            ("10.9.1.1", 403),
            ("192.0.2.1", 403),
            ("::1", 0),
            ("::2", 403),
        ] {
            assert_eq!(ask(both(), address).await.0, status, "{address}");
        }
        let empty_allow = json!({"allow": [], "deny": ["192.0.2.1"]});
        assert_eq!(ask(empty_allow, "192.0.2.2").await.0, 0);
    }

    #[tokio::test]
    async fn blocks_of_every_size_and_family() {
        for (entry, inside, outside) in [
            ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7/24", "192.0.2.255", "192.0.3.0"),
            ("::ffff:10.0.0.0/104", "10.2.3.4", "11.0.0.0"),
        ] {
            let config = || json!({"allow": [entry]});
            assert_eq!(ask(config(), inside).await.0, 0, "{entry} {inside}");
            assert_eq!(ask(config(), outside).await.0, 403, "{entry} {outside}");
        }
        // Overlapping blocks are one; what lies behind a nested one is still inside.
        let nested = || json!({"allow": ["10.0.0.0/8", "10.1.0.0/16", "12.0.0.0/8"]});
        for (address, status) in [("10.200.0.1", 0), ("11.0.0.1", 403), ("12.0.0.1", 0)] {
            assert_eq!(ask(nested(), address).await.0, status, "{address}");
        }
    }

    #[tokio::test]
    async fn status_and_message_are_the_configured_ones() {
        let config = json!({"allow": ["10.0.0.1"], "status": 404.0, "message": "say \"no\""});
        assert_eq!(ask(config, "10.0.0.2").await, (404, "say \"no\"".into()));
        let odd = json!({"allow": ["10.0.0.1"], "status": 1e9});
        assert!(Kind.configure(&odd).is_err());
    }
}
