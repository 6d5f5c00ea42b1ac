//! Listeners as Kong writes them: `address:port` with flags, several separated by commas, or `off`
//! (spec gateway-admin 2.1).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// Terminate TLS.
    pub ssl: bool,
    /// Offer HTTP/2: of the proxy, on all its addresses; others serve HTTP/1.1 all the same.
    pub http2: bool,
    /// Hand a connection over only when there is something to read; an optimisation of nginx.
    pub deferred: bool,
    /// Bind the address itself; always so here.
    pub bind: bool,
    /// A socket for each thread; always so here.
    pub reuseport: bool,
    /// Connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Connections waiting to be accepted.
    pub backlog: Option<i32>,
    /// Take IPv6 only on an IPv6 address; nginx's default is on.
    pub ipv6only: Option<bool>,
    /// TCP keep-alive of accepted connections; unset is the operating system's default.
    pub so_keepalive: Option<KeepAlive>,
}

/// TCP keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// No probes.
    Off,
    /// Probes, each part with the operating system's default where it is unset.
    On {
        /// Quiet time before the first probe.
        idle: Option<Duration>,
        /// Time between two probes.
        interval: Option<Duration>,
        /// Probes without an answer until the connection is given up.
        count: Option<u32>,
    },
}

impl Listen {
    const fn at(address: SocketAddr) -> Self {
        Self {
            address,
            ssl: false,
            http2: false,
            deferred: false,
            bind: false,
            reuseport: false,
            proxy_protocol: false,
            backlog: None,
            ipv6only: None,
            so_keepalive: None,
        }
    }

    /// The names of the flags that are either there or not, with whether they are.
    #[must_use]
    pub const fn flags(&self) -> [(&'static str, bool); 6] {
        [
            ("ssl", self.ssl),
            ("http2", self.http2),
            ("deferred", self.deferred),
            ("bind", self.bind),
            ("reuseport", self.reuseport),
            ("proxy_protocol", self.proxy_protocol),
        ]
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.address)?;
        for (name, set) in self.flags() {
            if set {
                write!(formatter, " {name}")?;
            }
        }
        if let Some(backlog) = self.backlog {
            write!(formatter, " backlog={backlog}")?;
        }
        if let Some(only) = self.ipv6only {
            write!(formatter, " ipv6only={}", if only { "on" } else { "off" })?;
        }
        match self.so_keepalive {
            None => Ok(()),
            Some(KeepAlive::Off) => formatter.write_str(" so_keepalive=off"),
            Some(KeepAlive::On {
                idle: None,
                interval: None,
                count: None,
            }) => formatter.write_str(" so_keepalive=on"),
            Some(KeepAlive::On {
                idle,
                interval,
                count,
            }) => {
                let seconds = |time: Option<Duration>| {
                    time.map_or_else(String::new, |time| time.as_secs().to_string())
                };
                let count = count.map_or_else(String::new, |count| count.to_string());
                let (idle, interval) = (seconds(idle), seconds(interval));
                write!(formatter, " so_keepalive={idle}:{interval}:{count}")
            }
        }
    }
}

/// Reads a list of listeners; nothing for one that is off.
pub(super) fn parse(text: &str) -> Result<Vec<Listen>, String> {
    let text = text.trim();
    if matches!(text, "" | "off" | "0") {
        return Ok(Vec::new());
    }
    let listeners: Vec<Listen> = text.split(',').map(one).collect::<Result<_, _>>()?;
    for (at, listen) in listeners.iter().enumerate() {
        let twin = |other: &Listen| other.address == listen.address && listen.address.port() != 0;
        if listeners.iter().take(at).any(twin) {
            return Err(format!("{} is there twice", listen.address));
        }
    }
    Ok(listeners)
}

fn one(text: &str) -> Result<Listen, String> {
    let mut words = text.split_whitespace();
    let place = words.next().unwrap_or_default();
    let unreadable = || format!("expected address:port, :port or off, with flags, not {place:?}");
    let mut listen = Listen::at(address(place).ok_or_else(unreadable)?);
    for word in words {
        flag(&mut listen, word)?;
    }
    if listen.ipv6only.is_some() && listen.address.is_ipv4() {
        return Err(format!("ipv6only means nothing for {}", listen.address));
    }
    Ok(listen)
}

fn address(text: &str) -> Option<SocketAddr> {
    let unspecified = text.strip_prefix(':').or_else(|| text.strip_prefix("*:"));
    if let Some(port) = unspecified {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        return Some(SocketAddr::new(any, port.parse().ok()?));
    }
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

fn flag(listen: &mut Listen, word: &str) -> Result<(), String> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let bad = || format!("bad value of flag {word:?}");
    match (name, value) {
        ("ssl", None) => listen.ssl = true,
        ("http2", None) => listen.http2 = true,
        ("deferred", None) => listen.deferred = true,
        ("bind", None) => listen.bind = true,
        ("reuseport", None) => listen.reuseport = true,
        ("backlog", Some(value)) => {
            let number = value.parse::<i32>().ok().filter(|number| *number > 0);
            listen.backlog = Some(number.ok_or_else(bad)?);
        }
        ("ipv6only", Some(value)) => {
            listen.ipv6only = Some(super::value::boolean(value).ok_or_else(bad)?);
        }
        ("so_keepalive", Some(value)) => {
            listen.so_keepalive = Some(keepalive(value).ok_or_else(bad)?);
        }
        ("proxy_protocol", None) => listen.proxy_protocol = true,
        ("udp", None) => return Err("udp is not supported by this build".to_owned()),
        _ => return Err(format!("unknown flag {word:?}")),
    }
    Ok(())
}

/// `on`, `off`, or `[idle]:[interval]:[count]` with times as nginx writes them.
fn keepalive(text: &str) -> Option<KeepAlive> {
    match text {
        "on" => {
            return Some(KeepAlive::On {
                idle: None,
                interval: None,
                count: None,
            });
        }
        "off" => return Some(KeepAlive::Off),
        _ => {}
    }
    let mut parts = text.split(':');
    let (idle, interval, count) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || [idle, interval, count].concat().is_empty() {
        return None;
    }
    let time = |text: &str| match text {
        "" => Some(None),
        text => super::value::duration(text)
            .filter(|time| time.as_secs() > 0 && time.subsec_nanos() == 0)
            .map(Some),
    };
    let count = match count {
        "" => None,
        text => Some(text.parse().ok().filter(|count| *count > 0)?),
    };
    Some(KeepAlive::On {
        idle: time(idle)?,
        interval: time(interval)?,
        count,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn only(text: &str) -> Listen {
        let mut all = parse(text).unwrap();
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    #[test]
    fn what_kong_ships_with_is_understood() {
        let all = parse(
            "0.0.0.0:8000 reuseport backlog=16384, 0.0.0.0:8443 http2 ssl reuseport backlog=16384",
        )
        .unwrap();
        let [plain, tls] = all.as_slice() else {
            panic!("{all:?}")
        };
        assert!(!plain.ssl && plain.reuseport && plain.backlog == Some(16_384));
        assert!(tls.ssl && tls.http2 && tls.address.port() == 8443);
    }

    #[test]
    fn addresses_have_short_forms() {
        for (text, address) in [
            ("1.2.3.4:80", "1.2.3.4:80"),
            (":80", "0.0.0.0:80"),
            ("*:80", "0.0.0.0:80"),
            ("localhost:80", "127.0.0.1:80"),
            ("[::1]:80 ipv6only=off", "[::1]:80"),
        ] {
            assert_eq!(only(text).address.to_string(), address);
        }
        for off in ["off", "0", "", "  off "] {
            assert_eq!(parse(off), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (text, said) in [
            ("example.com:80", "example.com:80"),
            ("1.2.3.4:99999", "1.2.3.4:99999"),
            ("1.2.3.4:80,", "expected address:port"),
            ("1.2.3.4:80 sssl", "unknown flag \"sssl\""),
            ("1.2.3.4:80 backlog=0", "backlog=0"),
            ("1.2.3.4:80 ssl=on", "unknown flag"),
            ("1.2.3.4:80 ipv6only=on", "ipv6only means nothing"),
            ("1.2.3.4:80 so_keepalive=::", "so_keepalive=::"),
            ("1.2.3.4:80 so_keepalive=1:2", "so_keepalive=1:2"),
            ("1.2.3.4:80, 1.2.3.4:80 ssl", "twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn keep_alive_has_three_parts() {
        let on = |idle, interval, count| KeepAlive::On {
            idle: Option::map(idle, Duration::from_secs),
            interval: Option::map(interval, Duration::from_secs),
            count,
        };
        for (text, wanted) in [
            ("on", on(None, None, None)),
            ("off", KeepAlive::Off),
            ("30m::10", on(Some(1800), None, Some(10))),
            (":75:", on(None, Some(75), None)),
        ] {
            let listen = only(&format!("1.2.3.4:80 so_keepalive={text}"));
            assert_eq!(listen.so_keepalive, Some(wanted), "{text}");
        }
    }

    prop_compose! {
        fn listens()(
            ip in any::<IpAddr>(),
            port in 1..u16::MAX,
            flags in any::<[bool; 6]>(),
            backlog in proptest::option::of(1..i32::MAX),
            only in any::<Option<bool>>(),
            keep in proptest::option::of((
                proptest::option::of(1..100_000_u64),
                proptest::option::of(1..100_000_u64),
                proptest::option::of(1..1000_u32),
            )),
        ) -> Listen {
            let [ssl, http2, deferred, bind, reuseport, proxy_protocol] = flags;
            Listen {
                ssl, http2, deferred, bind, reuseport, proxy_protocol, backlog,
                ipv6only: only.filter(|_| ip.is_ipv6()),
                so_keepalive: keep.map(|(idle, interval, count)| KeepAlive::On {
                    idle: idle.map(Duration::from_secs),
                    interval: interval.map(Duration::from_secs),
                    count,
                }),
                ..Listen::at(SocketAddr::new(ip, port))
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(listen in listens(), other in listens()) {
            prop_assert_eq!(&only(&listen.to_string()), &listen);
            if listen.address != other.address {
                let both = parse(&format!("{listen} , {other}")).unwrap();
                prop_assert_eq!(both, vec![listen, other]);
            }
        }

        #[test]
        fn no_text_panics(text in "[a-z0-9.:\\[\\]*=, ]{0,40}") {
            let _outcome = parse(&text);
        }
    }
}
