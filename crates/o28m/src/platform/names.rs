//! The resolver of the process.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Result, bail};
use o28m_net::dns::{Kind, Order, Resolver, Settings, Step};

use crate::config::{Config, Source};

/// Where name servers listen.
const PORT: u16 = 53;

/// Makes it as configured, for the data plane and for everything else that looks up names.
pub(super) fn resolver(config: &Config) -> Result<Arc<Resolver>> {
    let resolver = Resolver::new(settings(config)?);
    resolver.share();
    Ok(resolver)
}

fn settings(config: &Config) -> Result<Settings> {
    let servers = config.list("dns.servers");
    let servers = servers.iter().map(|it| server(it));
    Ok(Settings {
        servers: servers.collect::<Result<_>>()?,
        hosts_file: config.path("dns.hosts_file"),
        order: order(config),
        valid_ttl: config
            .optional("dns.valid_ttl")
            .map(|_| config.duration("dns.valid_ttl")),
        stale_ttl: config.duration("dns.stale_ttl"),
        not_found_ttl: config.duration("dns.not_found_ttl"),
        error_ttl: config.duration("dns.error_ttl"),
        names_max: usize::try_from(config.integer("dns.cache_size")).unwrap_or(1),
        merge: !config.boolean("dns.no_sync"),
        ..Settings::default()
    })
}

/// An address, with or without a port.
fn server(text: &str) -> Result<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|it| it.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, PORT)),
        Err(_) => bail!(
            "dns.servers: expected an address such as 10.96.0.10 or 10.96.0.10:53, not {text:?}"
        ),
    }
}

/// Aliases are followed whatever is asked for.
fn order(config: &Config) -> Order {
    let steps = config.list("dns.order");
    let steps = steps.iter().filter_map(|it| match it.as_str() {
        "LAST" => Some(Step::Last),
        "A" => Some(Step::Kind(Kind::A)),
        "AAAA" => Some(Step::Kind(Kind::Aaaa)),
        "SRV" => Some(Step::Kind(Kind::Srv)),
        _ => None,
    });
    let steps: Vec<Step> = steps.collect();
    // Kong's other client does not read that setting.
    let other_client = config.kong.get("new_dns_client");
    let is_other = other_client.is_some_and(|it| matches!(it.as_str(), "on" | "true"));
    let is_kongs = config
        .resolved("dns.order")
        .is_some_and(|it| matches!(it.source, Source::Compat(_)));
    let asks = steps.iter().any(|it| *it != Step::Last);
    if asks && !(is_other && is_kongs) {
        return Order::InTurn(steps);
    }
    let family = config.list("dns.family");
    let family = family.iter().map(|it| match it.as_str() {
        "AAAA" => Kind::Aaaa,
        "SRV" => Kind::Srv,
        _ => Kind::A,
    });
    Order::Together(family.collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::Sources;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Settings> {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let sources = Sources {
            environment: pairs.iter().map(owned).collect(),
            ..Sources::default()
        };
        settings(&crate::config::load(&sources).unwrap())
    }

    #[test]
    fn both_of_kongs_clients_are_understood() {
        let settings = of(&[
            (
                "KONG_DNS_RESOLVER",
                "10.0.0.1, 10.0.0.2:5353,[fd00::1],[fd00::2]:54",
            ),
            ("KONG_DNS_HOSTSFILE", "/tmp/hosts"),
            ("KONG_DNS_ORDER", "LAST,SRV,A,CNAME"),
            ("KONG_DNS_STALE_TTL", "0"),
            ("KONG_DNS_VALID_TTL", "7"),
            ("KONG_DNS_NOT_FOUND_TTL", "5"),
            ("KONG_DNS_ERROR_TTL", "2.5"),
            ("KONG_DNS_CACHE_SIZE", "99"),
            ("KONG_DNS_NO_SYNC", "on"),
        ])
        .unwrap();
        let servers: Vec<_> = settings.servers.iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            [
                "10.0.0.1:53",
                "10.0.0.2:5353",
                "[fd00::1]:53",
                "[fd00::2]:54"
            ]
        );
        assert_eq!(settings.hosts_file.unwrap().to_str(), Some("/tmp/hosts"));
        let steps = [Step::Last, Step::Kind(Kind::Srv), Step::Kind(Kind::A)];
        assert_eq!(settings.order, Order::InTurn(steps.to_vec()));
        assert_eq!(settings.stale_ttl, Duration::ZERO);
        assert_eq!(settings.valid_ttl, Some(Duration::from_secs(7)));
        assert_eq!(settings.not_found_ttl, Duration::from_secs(5));
        assert_eq!(settings.error_ttl, Duration::from_millis(2500));
        assert_eq!((settings.names_max, settings.merge), (99, false));
        let settings = of(&[
            ("KONG_NEW_DNS_CLIENT", "on"),
            ("KONG_DNS_ORDER", "SRV"),
            ("KONG_RESOLVER_FAMILY", "aaaa,a"),
            ("KONG_RESOLVER_ADDRESS", "10.0.0.3"),
            ("KONG_RESOLVER_STALE_TTL", "60"),
            ("KONG_RESOLVER_LRU_CACHE_SIZE", "50"),
            ("KONG_RESOLVER_MEM_CACHE_SIZE", "5m"),
        ])
        .unwrap();
        assert_eq!(settings.order, Order::Together(vec![Kind::Aaaa, Kind::A]));
        assert_eq!(settings.servers, ["10.0.0.3:53".parse().unwrap()]);
        assert_eq!(settings.stale_ttl, Duration::from_secs(60));
        assert_eq!(settings.names_max, 50);
    }

    #[test]
    fn defaults_are_those_of_the_resolver() {
        let (ours, theirs) = (of(&[]).unwrap(), Settings::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        assert!(of(&[("KONG_DNS_RESOLVER", "dns.example")]).is_err());
    }
}
