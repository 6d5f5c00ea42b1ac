//! Whose request it is: the peer, or the client that a trusted peer names.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use crate::{Error, Settings};

/// How client addresses are found (spec gateway-proxy 4.1).
pub(crate) struct ClientAddress {
    trusted: Vec<Block>,
    from: From,
    recursive: bool,
}

/// Where a trusted peer names the client.
enum From {
    Header(HeaderName),
    /// In the header of the PROXY protocol that the connection began with.
    Connection,
}

/// An address block.
struct Block {
    network: u128,
    /// Leading bits that count, of the 128 of an IPv6 (or IPv4-mapped) address.
    bits: u32,
}

impl Block {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (family_bits, offset) = if address.is_ipv4() {
            (32, 96)
        } else {
            (128, 0)
        };
        let length = length.unwrap_or(family_bits);
        (length <= family_bits).then(|| Self {
            network: number(address),
            bits: length + offset,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let differing = self.network ^ number(address);
        self.bits == 0 || differing.leading_zeros() >= self.bits
    }
}

/// An address as 128 bits, IPv4 in its mapped form.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl ClientAddress {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let parse = |text: &String| {
            let block = Block::parse(text.trim());
            block.ok_or_else(|| Error::TrustedIp(text.clone()))
        };
        // Kong's `unix:` trusts local sockets; there is no such listener here.
        let entries = settings.trusted_ips.iter().filter(|it| *it != "unix:");
        let name = match settings.real_ip_header.as_str() {
            "" => "x-real-ip",
            name => name,
        };
        let from = match HeaderName::try_from(name.to_ascii_lowercase()) {
            Ok(_) if name == "proxy_protocol" => From::Connection,
            Ok(header) => From::Header(header),
            Err(_) => return Err(Error::RealIpHeader(name.to_owned())),
        };
        Ok(Self {
            trusted: entries.map(parse).collect::<Result<_, _>>()?,
            from,
            recursive: settings.real_ip_recursive,
        })
    }

    /// Whether this peer's forwarding headers are believed.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|block| block.contains(peer))
    }

    /// The client's address; the peer's unless it is trusted and names another, in a header or as
    /// `announced`.
    pub(crate) fn find(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        announced: Option<SocketAddr>,
    ) -> IpAddr {
        if self.trusted.is_empty() || !self.trusts(peer) {
            return peer;
        }
        let named = match &self.from {
            From::Header(header) => self.named(header, headers),
            From::Connection => announced.map(|it| it.ip().to_canonical()),
        };
        named.unwrap_or(peer)
    }

    fn named(&self, header: &HeaderName, headers: &HeaderMap) -> Option<IpAddr> {
        let mut values: Vec<_> = headers.get_all(header).iter().collect();
        if *header != "x-forwarded-for" {
            values.truncate(1);
        }
        let mut named = None;
        for value in values.into_iter().rev() {
            for element in value.to_str().ok()?.rsplit(',') {
                // nginx stops at the first invalid address and keeps what it has.
                let Some(address) = parse_address(element.trim()) else {
                    return named;
                };
                named = Some(address);
                if !self.recursive || !self.trusts(address) {
                    return named;
                }
            }
        }
        named
    }
}

/// An address, with or without port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let with_port = || text.parse().ok().map(|it: std::net::SocketAddr| it.ip());
    let address = bare.unwrap_or(text).parse().ok().or_else(with_port);
    address.map(|it: IpAddr| it.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(trusted: &[&str], header: &str, recursive: bool) -> ClientAddress {
        ClientAddress::new(&Settings {
            trusted_ips: trusted.iter().map(|&it| it.to_owned()).collect(),
            real_ip_header: header.to_owned(),
            real_ip_recursive: recursive,
            ..Settings::default()
        })
        .unwrap()
    }

    fn client(finder: &ClientAddress, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        finder
            .find("10.0.0.9".parse().unwrap(), &headers, None)
            .to_string()
    }

    #[test]
    fn proxy_case_024_recursive_search_skips_trusted_addresses() {
        let trusted = ["10.0.0.0/8", "192.168.0.1"];
        let list = [(
            "x-forwarded-for",
            "10.0.0.1, 127.0.0.2, 10.0.0.1, 192.168.0.1",
        )];
        assert_eq!(
            client(&finder(&trusted, "X-Forwarded-For", true), &list),
            "127.0.0.2"
        );
        assert_eq!(
            client(&finder(&trusted, "X-Forwarded-For", false), &list),
            "192.168.0.1"
        );
        let all = [
            ("x-forwarded-for", "10.0.0.1, 10.0.0.2"),
            ("x-forwarded-for", "10.0.0.3"),
        ];
        assert_eq!(
            client(&finder(&trusted, "X-Forwarded-For", true), &all),
            "10.0.0.1"
        );
    }

    #[test]
    fn only_trusted_peers_name_clients() {
        let lines = [("x-real-ip", "1.2.3.4:5678")];
        assert_eq!(
            client(&finder(&["10.0.0.0/8"], "", false), &lines),
            "1.2.3.4"
        );
        assert_eq!(
            client(&finder(&["11.0.0.0/8"], "", false), &lines),
            "10.0.0.9"
        );
        assert_eq!(client(&finder(&[], "", false), &lines), "10.0.0.9");
        let bad = [("x-real-ip", "nobody")];
        assert_eq!(client(&finder(&["0.0.0.0/0"], "", false), &bad), "10.0.0.9");
    }

    #[test]
    fn blocks_of_both_families_are_understood() {
        let trusts =
            |block: &str, peer: &str| finder(&[block], "", false).trusts(peer.parse().unwrap());
        assert!(trusts("::/0", "10.1.2.3"));
        assert!(trusts("0.0.0.0/0", "10.1.2.3"));
        assert!(!trusts("0.0.0.0/0", "2001:db8::1"));
        assert!(trusts("2001:db8::/32", "2001:db8::1"));
        assert!(!trusts("10.0.0.0/31", "10.0.0.2"));
    }

    #[test]
    fn bad_settings_are_refused() {
        let refuse = |trusted: &str, header: &str| {
            ClientAddress::new(&Settings {
                trusted_ips: vec![trusted.to_owned()],
                real_ip_header: header.to_owned(),
                ..Settings::default()
            })
            .err()
            .unwrap()
        };
        assert!(matches!(refuse("10.0.0.0/33", ""), Error::TrustedIp(_)));
        assert!(matches!(refuse("unix:", "a b"), Error::RealIpHeader(_)));
    }

    #[test]
    fn trusted_peers_name_clients_by_the_proxy_protocol() {
        let announced = Some("192.0.2.7:99".parse().unwrap());
        let mut headers = HeaderMap::new();
        headers.insert("x-real-ip", "1.2.3.4".parse().unwrap());
        for (trusted, header, announced, client) in [
            ("10.0.0.0/8", "proxy_protocol", announced, "192.0.2.7"),
            ("10.0.0.0/8", "proxy_protocol", None, "10.0.0.9"),
            ("11.0.0.0/8", "proxy_protocol", announced, "10.0.0.9"),
            ("10.0.0.0/8", "X-Real-IP", announced, "1.2.3.4"),
        ] {
            let finder = finder(&[trusted], header, false);
            let found = finder.find("10.0.0.9".parse().unwrap(), &headers, announced);
            assert_eq!(found.to_string(), client, "{trusted} {header}");
        }
    }
}
