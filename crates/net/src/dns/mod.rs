//! Names to addresses: a resolver of our own over UDP and TCP, with times to live, services (SRV),
//! stale answers while servers do not answer, and one look-up for all who ask for the same
//! (spec gateway-proxy 10.6). It asks recursive name servers and is none itself.

mod exchange;
mod found;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod message;
mod names;
mod system;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod walk;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::SecureRandom;
use tokio::task::JoinSet;

use exchange::Exchange;
pub use found::{Endpoint, Found, Origin};
use names::{Answer, Name, Names};
use system::{Servers, System};
pub use walk::is_service;
use walk::{Miss, Outcome, Walk};

/// A look-up with all its questions takes no longer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers are used for so long at least, whatever their time to live: a busy name must not cost a
/// question for each request.
const TTL_MIN: Duration = Duration::from_secs(1);
/// Failures are remembered for so long at least.
const ERROR_TTL_MIN: Duration = Duration::from_millis(100);
/// Pause between two warnings about names that cannot be resolved any more.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Services: targets with ports, weights and priorities (RFC 2782).
    Srv,
}

/// One step of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The kind that had records last time (Kong `LAST`).
    Last,
    /// This kind.
    Kind(Kind),
}

/// What names are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Both families of addresses at once, of which the first is preferred; services where the name
    /// has the form `_service._protocol.name` (Kong `resolver_family`).
    Together(Vec<Kind>),
    /// One after the other until there are records (Kong `dns_order`).
    InTurn(Vec<Step>),
}

/// Settings of a resolver.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who is asked; empty for those of `resolv_conf`.
    pub servers: Vec<SocketAddr>,
    /// Names with addresses that nobody is asked for, usually `/etc/hosts`.
    pub hosts_file: Option<PathBuf>,
    /// Servers, search domains and options, usually `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// What is asked for.
    pub order: Order,
    /// Used instead of the time to live of records.
    pub valid_ttl: Option<Duration>,
    /// How long the last good answer is used while a new one cannot be had.
    pub stale_ttl: Duration,
    /// How long it is remembered that a name is not there, unless its zone says less.
    pub not_found_ttl: Duration,
    /// How long it is remembered that servers could not tell.
    pub error_ttl: Duration,
    /// Names remembered.
    pub names_max: usize,
    /// Those who ask for the same name at the same time share one look-up.
    pub merge: bool,
}

impl Default for Settings {
    /// The system's files and Kong's times.
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            hosts_file: Some(PathBuf::from("/etc/hosts")),
            resolv_conf: Some(PathBuf::from("/etc/resolv.conf")),
            order: Order::Together(vec![Kind::A, Kind::Aaaa, Kind::Srv]),
            valid_ttl: None,
            stale_ttl: Duration::from_secs(3600),
            not_found_ttl: Duration::from_secs(30),
            error_ttl: Duration::from_secs(1),
            names_max: 10_000,
            merge: true,
        }
    }
}

/// Why a name stands for nothing. The texts are Kong's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no such name.
    #[error("dns server error: 3 name error")]
    NoSuchName,
    /// The name has no such records.
    #[error("dns client error: 101 empty record received")]
    NoRecords,
    /// A server could not tell, or did not want to.
    #[error("dns server error: {0} {1}")]
    Refused(u16, &'static str),
    /// A server did not answer.
    #[error("failed to receive reply from UDP server {0}: timeout")]
    Timeout(SocketAddr),
    /// A server could not be reached.
    #[error("failed to receive reply from UDP server {0}: {1}")]
    Unreachable(SocketAddr, io::ErrorKind),
    /// Nobody can be asked.
    #[error("no nameservers available")]
    NoServer,
    /// An alias of an alias, and so on.
    #[error("recursion detected")]
    Recursion,
    /// It is no name.
    #[error("dns client error: 104 invalid name, bad IPv6")]
    Invalid,
    /// The look-up took too long, or nobody carried it out to its end.
    #[error("timeout")]
    TooLong,
}

impl Failure {
    /// There is nothing, rather than that nobody can tell.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NoSuchName | Self::NoRecords | Self::Invalid)
    }
}

/// What a resolver counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Look-ups made.
    pub lookups: u64,
    /// Look-ups that no server could answer.
    pub failures: u64,
    /// Look-ups that failed while the last good answer is used instead.
    pub stale: u64,
    /// Names remembered.
    pub names: u64,
}

#[derive(Default)]
struct Counters {
    lookups: AtomicU64,
    failures: AtomicU64,
    stale: AtomicU64,
}

/// Looks names up and remembers what they stand for. One serves all threads of a process: what is
/// remembered is read without a lock.
pub struct Resolver {
    settings: Settings,
    system: System,
    names: Names,
    exchange: Exchange,
    /// Look-ups on their way; end with the resolver.
    tasks: Mutex<JoinSet<()>>,
    counters: Counters,
    warned: Mutex<Option<Instant>>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
}

static SHARED: OnceLock<Arc<Resolver>> = OnceLock::new();

impl Resolver {
    /// A resolver that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Self::with_clock(settings, Instant::now)
    }

    /// A resolver for which time passes as `clock` says.
    #[must_use]
    pub fn with_clock(
        settings: Settings,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (hosts, resolv_conf) = (settings.hosts_file.clone(), settings.resolv_conf.clone());
        Arc::new(Self {
            system: System::new(hosts, resolv_conf),
            names: Names::new(settings.names_max),
            exchange: Exchange::new(),
            tasks: Mutex::new(JoinSet::new()),
            counters: Counters::default(),
            warned: Mutex::new(None),
            clock: Box::new(clock),
            settings,
        })
    }

    /// The resolver of everything in this process that was given no other.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        SHARED
            .get_or_init(|| Self::new(Settings::default()))
            .clone()
    }

    /// Makes it the one of [`Resolver::shared`]. Only the first call counts, and it has to come before
    /// the first look-up.
    pub fn share(self: &Arc<Self>) {
        // Platforms of one process are told the same.
        let _known = SHARED.set(self.clone());
    }

    /// Whether every name may be a service, not only those that look like one: its ports may be any.
    #[must_use]
    pub fn takes_any_name_for_a_service(&self) -> bool {
        match &self.settings.order {
            Order::Together(_) => false,
            Order::InTurn(steps) => steps.contains(&Step::Kind(Kind::Srv)),
        }
    }

    /// The time that counts here.
    #[must_use]
    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        Counts {
            lookups: read(&self.counters.lookups),
            failures: read(&self.counters.failures),
            stale: read(&self.counters.stale),
            names: u64::try_from(self.names.len()).unwrap_or(u64::MAX),
        }
    }

    /// What a name stands for, as far as that is known: an answer that is out of date is given while a
    /// new one is looked up behind it. To be called within a runtime.
    pub fn known(self: &Arc<Self>, host: &Arc<str>) -> Option<Result<Arc<Found>, Failure>> {
        if let Some(known) = reserved(host) {
            return Some(known);
        }
        let now = self.now();
        if let Some(known) = self.names.fresh(host, now) {
            return Some(known);
        }
        let name = self.names.get(host);
        let last = name.answer().filter(|it| it.is_usable(now))?;
        if !self.settings.merge {
            return None;
        }
        self.ask(&name);
        Some(last.result.clone())
    }

    /// What a name stands for: what is [known](Resolver::known), else what a look-up gives.
    ///
    /// # Errors
    /// [`Failure`].
    ///
    /// # Cancel safety
    /// The look-up goes on for others.
    pub async fn find(self: &Arc<Self>, host: &Arc<str>) -> Result<Arc<Found>, Failure> {
        match self.known(host) {
            Some(known) => known,
            None => self.wait(&self.names.get(host)).await.result.clone(),
        }
    }

    /// As [`Resolver::find`], but waits for a new answer when the last one is out of date. Also gives
    /// until when it counts.
    ///
    /// # Cancel safety
    /// The look-up goes on for others.
    pub async fn renew(
        self: &Arc<Self>,
        host: &Arc<str>,
    ) -> (Result<Arc<Found>, Failure>, Instant) {
        let now = self.now();
        if let Some(known) = reserved(host) {
            return (known, now + system::CHECK_INTERVAL);
        }
        let name = self.names.get(host);
        if let Some(answer) = name.answer().filter(|it| it.is_fresh(now)) {
            return (answer.result.clone(), answer.fresh_until);
        }
        let answer = self.wait(&name).await;
        (answer.result.clone(), answer.fresh_until)
    }

    /// Waits for a look-up of the name, which is begun unless it is on its way already.
    async fn wait(self: &Arc<Self>, name: &Arc<Name>) -> Arc<Answer> {
        if !self.settings.merge {
            return self.look_up(name).await;
        }
        // A second time when whoever looked it up was cut off with its runtime.
        for _ in 0..2 {
            let mut answered = pin!(name.answered.notified());
            answered.as_mut().enable();
            let before = name.answer();
            if let Some(answer) = before.as_ref().filter(|it| it.is_fresh(self.now())) {
                return answer.clone();
            }
            self.ask(name);
            answered.await;
            if let Some(answer) = name.answer()
                && before.is_none_or(|it| !Arc::ptr_eq(&it, &answer))
            {
                return answer;
            }
        }
        Arc::new(Answer::failed(Failure::TooLong, self.now()))
    }

    /// Begins a look-up unless one is on its way.
    fn ask(self: &Arc<Self>, name: &Arc<Name>) {
        let Some(asking) = Name::begin(name) else {
            return;
        };
        let resolver = self.clone();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            resolver.look_up(asking.name()).await;
        });
    }

    /// Looks a name up and remembers what came of it.
    async fn look_up(&self, name: &Name) -> Arc<Answer> {
        self.counters.lookups.fetch_add(1, Ordering::Relaxed);
        let looking = tokio::time::timeout(LOOKUP_TIMEOUT, self.walk(name));
        let outcome = looking
            .await
            .unwrap_or_else(|_| Err(Failure::TooLong.into()));
        let answer = Arc::new(self.judge(name, outcome));
        name.set(answer.clone());
        answer
    }

    async fn walk(&self, name: &Name) -> Result<Outcome, Miss> {
        if !message::is_name(&name.host) {
            return Err(Failure::Invalid.into());
        }
        let now = self.now();
        let hosts = self.system.hosts(now).await;
        let host = name.host.to_ascii_lowercase();
        if let Some(addresses) = hosts.find(host.strip_suffix('.').unwrap_or(&host)) {
            return Ok(self.of_hosts_file(addresses));
        }
        let mut servers = self.system.servers(now).await;
        if !self.settings.servers.is_empty() {
            servers = Arc::new(Servers {
                addresses: self.settings.servers.clone(),
                ..(*servers).clone()
            });
        }
        let walk = Walk {
            exchange: &self.exchange,
            servers,
            order: &self.settings.order,
            now,
        };
        walk.find(&name.host, name.hint()).await
    }

    /// Addresses of the preferred family first.
    fn of_hosts_file(&self, addresses: &[IpAddr]) -> Outcome {
        let prefers_new = match &self.settings.order {
            Order::Together(kinds) => kinds.first() == Some(&Kind::Aaaa),
            Order::InTurn(steps) => {
                let kinds = steps
                    .iter()
                    .filter(|it| matches!(it, Step::Kind(Kind::A) | Step::Kind(Kind::Aaaa)));
                kinds.into_iter().next() == Some(&Step::Kind(Kind::Aaaa))
            }
        };
        let mut sorted = addresses.to_vec();
        sorted.sort_by_key(|it| it.is_ipv6() != prefers_new);
        let family = sorted.first().map(IpAddr::is_ipv4);
        let same = sorted.iter().filter(|it| Some(it.is_ipv4()) == family);
        Outcome {
            preferred: same.count(),
            endpoints: sorted.into_iter().map(Endpoint::address).collect(),
            origin: Origin::HostsFile,
            ttl: system::CHECK_INTERVAL,
            hint: None,
        }
    }

    /// What is remembered of a look-up, and for how long.
    fn judge(&self, name: &Name, outcome: Result<Outcome, Miss>) -> Answer {
        let now = self.now();
        let old = name.answer();
        match outcome {
            Ok(outcome) => {
                let own = self.settings.valid_ttl;
                let own = own.filter(|_| outcome.origin != Origin::HostsFile);
                let ttl = own.unwrap_or(outcome.ttl).max(TTL_MIN);
                name.remember(outcome.hint.clone());
                if name.recovers() {
                    tracing::info!(dns.name = %name.host, "names can be resolved again");
                }
                let last = old.as_ref().and_then(|it| it.result.as_ref().ok());
                Answer {
                    result: Ok(Arc::new(Found::new(outcome, last.map(|it| &**it)))),
                    fresh_until: now + ttl,
                    usable_until: now + ttl + self.settings.stale_ttl,
                }
            }
            Err(miss) if miss.failure.is_not_found() => {
                let most = self.settings.not_found_ttl;
                let ttl = miss.ttl.unwrap_or(most).min(most).max(ERROR_TTL_MIN);
                tracing::debug!(dns.name = %name.host, error = %miss.failure, "no such name");
                Answer {
                    fresh_until: now + ttl,
                    ..Answer::failed(miss.failure, now)
                }
            }
            Err(miss) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                let last = old.filter(|it| it.result.is_ok() && it.usable_until > now);
                self.warn(name, &miss.failure, last.is_some(), now);
                let fresh_until = now + self.settings.error_ttl.max(ERROR_TTL_MIN);
                let Some(last) = last else {
                    return Answer {
                        fresh_until,
                        ..Answer::failed(miss.failure, now)
                    };
                };
                self.counters.stale.fetch_add(1, Ordering::Relaxed);
                Answer {
                    result: last.result.clone(),
                    fresh_until,
                    usable_until: last.usable_until,
                }
            }
        }
    }

    /// Says that a name cannot be resolved: once for each name, and not for each of many.
    fn warn(&self, name: &Name, failure: &Failure, stale: bool, now: Instant) {
        let Some(failing) = name.fails() else {
            return;
        };
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|it| now.saturating_duration_since(it) < WARN_INTERVAL) {
            return;
        }
        *warned = Some(now);
        drop(warned);
        let (dns_name, error) = (&name.host, failure);
        if stale {
            tracing::warn!(dns.name = %dns_name, dns.names_failing = failing, %error,
                "name cannot be resolved: its last addresses are used");
        } else {
            tracing::warn!(dns.name = %dns_name, dns.names_failing = failing, %error,
                "name cannot be resolved");
        }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Resolver");
        shown.field("settings", &self.settings);
        shown.finish_non_exhaustive()
    }
}

/// Names that nobody is asked for (RFC 6761 sections 6.3 and 6.4), and addresses.
fn reserved(host: &str) -> Option<Result<Arc<Found>, Failure>> {
    static LOCALHOST: LazyLock<Arc<Found>> =
        LazyLock::new(|| Arc::new(Found::fixed(IpAddr::V4(Ipv4Addr::LOCALHOST))));
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Ok(Arc::new(Found::fixed(address))));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.eq_ignore_ascii_case("localhost") {
        return Some(Ok(LOCALHOST.clone()));
    }
    last.eq_ignore_ascii_case("invalid")
        .then_some(Err(Failure::NoSuchName))
}

/// Random bytes that nobody can foresee, whatever the rest of a process is given.
fn random<const N: usize>() -> Option<[u8; N]> {
    static SOURCE: LazyLock<&'static dyn SecureRandom> =
        LazyLock::new(|| rustls::crypto::aws_lc_rs::default_provider().secure_random);
    let mut bytes = [0; N];
    SOURCE.fill(&mut bytes).ok()?;
    Some(bytes)
}
