//! What the operating system is told about names: hosts file and resolver configuration, read again
//! when they change.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked whether a file changed.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes of a file that is read.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Servers of a configuration that count.
const SERVERS_MAX: usize = 8;
/// Search domains of a configuration that count.
const SEARCH_MAX: usize = 32;
const PORT: u16 = 53;

/// Names with addresses of their own, in lower case.
#[derive(Default)]
pub(super) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    fn parse(text: &str) -> Self {
        let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(address) = words.next().and_then(|it| it.parse().ok()) else {
                continue;
            };
            for name in words {
                let addresses = hosts.entry(name.to_ascii_lowercase()).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Self(hosts)
    }

    /// The addresses of a name in lower case.
    pub(super) fn find(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

/// Who is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Servers {
    pub(super) addresses: Vec<SocketAddr>,
    /// What is put behind names, in lower case, without dots at either end.
    pub(super) search: Vec<String>,
    /// Names with at least so many dots are tried as they are first.
    pub(super) ndots: usize,
    /// For the answer of one server.
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    /// Begin with another server each time.
    pub(super) rotate: bool,
}

impl Servers {
    fn parse(text: &str) -> Self {
        let mut servers = Self {
            addresses: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            // Kong's values, where the file has none.
            timeout: Duration::from_secs(2),
            attempts: 5,
            rotate: false,
        };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|it| it.parse::<IpAddr>().ok());
                    servers
                        .addresses
                        .extend(address.map(|it| SocketAddr::new(it, PORT)));
                }
                Some("search" | "domain") => {
                    let domains = words.map(|it| it.trim_matches('.').to_ascii_lowercase());
                    let domains = domains.filter(|it| !it.is_empty());
                    servers.search = domains.take(SEARCH_MAX).collect();
                }
                Some("options") => words.for_each(|word| servers.option(word)),
                _ => {}
            }
        }
        servers.addresses.truncate(SERVERS_MAX);
        if servers.addresses.is_empty() {
            servers.addresses.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        servers
    }

    /// Larger numbers are cut as the C library cuts them.
    fn option(&mut self, word: &str) {
        let (name, number) = word.split_once(':').unwrap_or((word, ""));
        let number = number.parse::<u32>().ok();
        match (name, number) {
            ("rotate", _) => self.rotate = true,
            ("ndots", Some(number)) => self.ndots = usize::try_from(number.min(15)).unwrap_or(1),
            ("timeout", Some(number)) => {
                self.timeout = Duration::from_secs(u64::from(number.clamp(1, 30)));
            }
            ("attempts", Some(number)) => self.attempts = number.clamp(1, 5),
            _ => {}
        }
    }
}

/// Both files.
pub(super) struct System {
    hosts: Watched<Hosts>,
    servers: Watched<Servers>,
}

impl System {
    /// `None` is a file without lines.
    pub(super) fn new(hosts: Option<PathBuf>, resolv_conf: Option<PathBuf>) -> Self {
        Self {
            hosts: Watched::new(hosts, Hosts::parse),
            servers: Watched::new(resolv_conf, Servers::parse),
        }
    }

    pub(super) async fn hosts(&self, now: Instant) -> Arc<Hosts> {
        self.hosts.current(now).await
    }

    pub(super) async fn servers(&self, now: Instant) -> Arc<Servers> {
        self.servers.current(now).await
    }
}

/// A file and what it says.
struct Watched<T> {
    path: Option<PathBuf>,
    parse: fn(&str) -> T,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// When it was last looked at.
    checked: Option<Instant>,
    /// Tells one content from another.
    stamp: Option<(std::time::SystemTime, u64)>,
    value: Arc<T>,
}

impl<T> Watched<T> {
    fn new(path: Option<PathBuf>, parse: fn(&str) -> T) -> Self {
        Self {
            path,
            parse,
            state: Mutex::new(State {
                checked: None,
                stamp: None,
                value: Arc::new(parse("")),
            }),
        }
    }

    /// What the file says now; what it said last when it cannot be read.
    async fn current(&self, now: Instant) -> Arc<T> {
        let Some(path) = &self.path else {
            return self.with(|state| state.value.clone());
        };
        let (known, value) = self.with(|state| {
            let due = state
                .checked
                .is_none_or(|it| now.saturating_duration_since(it) >= CHECK_INTERVAL);
            if due {
                state.checked = Some(now);
            }
            let known = if due { Some(state.stamp) } else { None };
            (known, state.value.clone())
        });
        let Some(known) = known else {
            return value;
        };
        let read = async {
            let metadata = tokio::fs::metadata(path).await?;
            let stamp = Some((metadata.modified()?, metadata.len()));
            if stamp == known || metadata.len() > FILE_BYTES_MAX {
                return Ok(None);
            }
            let bytes = tokio::fs::read(path).await?;
            std::io::Result::Ok(Some((stamp, String::from_utf8_lossy(&bytes).into_owned())))
        };
        match read.await {
            Ok(None) => value,
            Ok(Some((stamp, text))) => {
                let value = Arc::new((self.parse)(&text));
                self.with(|state| {
                    state.stamp = stamp;
                    state.value = value.clone();
                });
                value
            }
            Err(error) => {
                tracing::debug!(file.path = %path.display(), %error, "cannot read file");
                value
            }
        }
    }

    fn with<R>(&self, work: impl FnOnce(&mut State<T>) -> R) -> R {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_configuration_is_read_as_the_c_library_does() {
        let servers = Servers::parse(
            "# cluster\nnameserver 10.96.0.10\nnameserver fd00::10 ; second\nnameserver nonsense\n\
             search one.svc.cluster.local. Svc.Cluster.Local\noptions ndots:5 timeout:1 attempts:99 rotate edns0\n",
        );
        let addresses: Vec<_> = servers.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.96.0.10:53", "[fd00::10]:53"]);
        assert_eq!(
            servers.search,
            ["one.svc.cluster.local", "svc.cluster.local"]
        );
        assert_eq!(
            (servers.ndots, servers.attempts, servers.rotate),
            (5, 5, true)
        );
        assert_eq!(servers.timeout, Duration::from_secs(1));
        let empty = Servers::parse("");
        assert_eq!(empty.addresses, [(Ipv4Addr::LOCALHOST, 53).into()]);
        assert_eq!((empty.ndots, empty.attempts), (1, 5));
        assert_eq!(empty.timeout, Duration::from_secs(2));
    }

    #[tokio::test]
    async fn files_are_read_again_when_they_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let system = System::new(Some(path.clone()), None);
        let start = Instant::now();
        assert!(system.hosts(start).await.find("one").is_none());
        std::fs::write(&path, "10.0.0.1 One two # three\n::1 one\nx four\n").unwrap();
        assert!(system.hosts(start).await.find("one").is_none());
        let hosts = system.hosts(start + CHECK_INTERVAL).await;
        let found = hosts.find("one").unwrap();
        assert_eq!(
            found,
            [
                "10.0.0.1".parse::<IpAddr>().unwrap(),
                "::1".parse().unwrap()
            ]
        );
        assert!(hosts.find("three").is_none() && hosts.find("four").is_none());
        std::fs::remove_file(&path).unwrap();
        let hosts = system.hosts(start + CHECK_INTERVAL * 2).await;
        assert!(hosts.find("two").is_some());
    }
}
