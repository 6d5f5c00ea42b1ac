//! The resolver against a server in the test process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::testing::{Data, Mood, NameServer};
use super::*;

/// A resolver that asks the server, and a clock that is moved by hand.
struct Setup {
    server: NameServer,
    resolver: Arc<Resolver>,
    seconds: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
}

async fn setup(change: impl FnOnce(&mut Settings, &std::path::Path)) -> Setup {
    let server = NameServer::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = directory.path().join("resolv.conf");
    std::fs::write(
        &resolv_conf,
        "search ns.test test\noptions ndots:2 timeout:1 attempts:1",
    )
    .unwrap();
    let mut settings = Settings {
        servers: vec![server.address],
        hosts_file: None,
        resolv_conf: Some(resolv_conf),
        ..Settings::default()
    };
    change(&mut settings, directory.path());
    let seconds = Arc::new(AtomicU64::new(0));
    let (start, passed) = (Instant::now(), seconds.clone());
    let clock = move || start + Duration::from_secs(passed.load(Ordering::SeqCst));
    Setup {
        resolver: Resolver::with_clock(settings, clock),
        server,
        seconds,
        _directory: directory,
    }
}

fn addresses(found: &Found) -> Vec<String> {
    found
        .endpoints()
        .iter()
        .map(|it| it.ip.to_string())
        .collect()
}

impl Setup {
    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    async fn find(&self, name: &str) -> Result<Arc<Found>, Failure> {
        self.resolver.find(&Arc::from(name)).await
    }

    async fn addresses(&self, name: &str) -> Vec<String> {
        addresses(&self.find(name).await.unwrap())
    }

    /// Waits for a look-up that nobody waits for.
    async fn looked_up(&self, lookups: u64) {
        let wait = async {
            while self.resolver.counts().lookups < lookups
                || !self.resolver.tasks.lock().unwrap().is_empty()
            {
                while self
                    .resolver
                    .tasks
                    .lock()
                    .unwrap()
                    .try_join_next()
                    .is_some()
                {}
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .unwrap();
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = self.server.take();
        asked.sort();
        asked
    }
}

#[tokio::test]
async fn answers_count_for_their_time_to_live_and_are_then_used_while_a_new_one_is_fetched() {
    let it = setup(|_, _| {}).await;
    it.server
        .set_addresses("a.example.test", 20, &["10.0.0.1", "10.0.0.2"]);
    assert_eq!(
        it.addresses("a.example.test").await,
        ["10.0.0.1", "10.0.0.2"]
    );
    assert_eq!(it.asked(), ["a.example.test A", "a.example.test AAAA"]);
    it.pass(19);
    it.server.set_addresses("a.example.test", 20, &["10.0.0.3"]);
    assert_eq!(it.addresses("A.Example.test").await, ["10.0.0.3"]);
    assert_eq!(
        it.addresses("a.example.test").await,
        ["10.0.0.1", "10.0.0.2"]
    );
    assert_eq!(it.server.take().len(), 2, "of the name in another case");
    it.pass(2);
    assert_eq!(
        it.addresses("a.example.test").await,
        ["10.0.0.1", "10.0.0.2"]
    );
    it.looked_up(3).await;
    assert_eq!(it.addresses("a.example.test").await, ["10.0.0.3"]);
}

#[tokio::test]
async fn both_families_are_found_and_the_preferred_one_comes_first() {
    let it = setup(|_, _| {}).await;
    let both = ["fd00::1", "10.0.0.1"];
    it.server.set_addresses("both.example.test", 20, &both);
    it.server
        .set_addresses("new.example.test", 20, &["fd00::2"]);
    let found = it.find("both.example.test").await.unwrap();
    assert_eq!(addresses(&found), ["10.0.0.1", "fd00::1"]);
    assert_eq!(found.preferred().len(), 1);
    let found = it.find("new.example.test").await.unwrap();
    assert_eq!(addresses(&found), ["fd00::2"]);
    assert_eq!(found.preferred().len(), 1);
    let it = setup(|settings, _| settings.order = Order::Together(vec![Kind::A])).await;
    it.server.set_addresses("both.example.test", 20, &both);
    assert_eq!(it.addresses("both.example.test").await, ["10.0.0.1"]);
    assert_eq!(it.asked(), ["both.example.test A"]);
}

#[tokio::test]
async fn aliases_are_followed_and_the_shortest_time_to_live_counts() {
    let it = setup(|settings, _| settings.order = Order::Together(vec![Kind::A])).await;
    let alias = |name: &str| Data::Alias(name.to_owned());
    it.server
        .set("one.example.test", 600, &[alias("two.example.test")]);
    it.server
        .set_addresses("two.example.test", 5, &["10.0.0.1"]);
    assert_eq!(it.addresses("one.example.test").await, ["10.0.0.1"]);
    assert_eq!(it.server.take().len(), 1);
    it.pass(6);
    assert_eq!(it.addresses("one.example.test").await, ["10.0.0.1"]);
    it.looked_up(2).await;
    // A server that says the alias alone is asked again; one that goes round in circles is not.
    it.server
        .set("three.example.test", 600, &[alias("one.example.test")]);
    assert_eq!(it.addresses("three.example.test").await, ["10.0.0.1"]);
    it.server
        .set("round.example.test", 600, &[alias("round.example.test")]);
    assert_eq!(
        it.find("round.example.test").await.unwrap_err(),
        Failure::Recursion
    );
}

#[tokio::test]
async fn what_is_not_there_is_remembered_for_as_long_as_its_zone_says() {
    let it = setup(|_, _| {}).await;
    it.server.set("empty.example.test", 20, &[]);
    assert_eq!(
        it.find("none.example.test").await.unwrap_err(),
        Failure::NoSuchName
    );
    assert_eq!(
        it.find("empty.example.test").await.unwrap_err(),
        Failure::NoRecords
    );
    let asked = it.server.take().len();
    assert!(asked >= 4, "{asked}");
    it.pass(29);
    assert!(it.find("none.example.test").await.is_err());
    assert!(it.server.take().is_empty());
    it.pass(2);
    it.server.set_negative_ttl(Some(5));
    assert!(it.find("none.example.test").await.is_err());
    assert!(!it.server.take().is_empty());
    it.pass(6);
    it.server
        .set_addresses("none.example.test", 20, &["10.0.0.1"]);
    assert_eq!(it.addresses("none.example.test").await, ["10.0.0.1"]);
    for name in ["a..test", "under score.test", "ä.test", "", "."] {
        assert_eq!(
            it.find(name).await.unwrap_err(),
            Failure::Invalid,
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn the_last_answer_is_used_while_servers_do_not_answer() {
    let it = setup(|settings, _| settings.stale_ttl = Duration::from_secs(100)).await;
    it.server.set_addresses("a.example.test", 10, &["10.0.0.1"]);
    assert_eq!(it.addresses("a.example.test").await, ["10.0.0.1"]);
    it.server.behave(Mood::Failing);
    for lookups in 2..5 {
        it.pass(11);
        assert_eq!(it.addresses("a.example.test").await, ["10.0.0.1"]);
        it.looked_up(lookups).await;
    }
    // Within the second that a failure counts nobody is asked again.
    assert!(!it.server.take().is_empty());
    assert_eq!(it.addresses("a.example.test").await, ["10.0.0.1"]);
    assert!(it.server.take().is_empty());
    let counts = it.resolver.counts();
    assert_eq!((counts.failures, counts.stale), (3, 3));
    let refused = Failure::Refused(2, "server failure");
    assert_eq!(it.find("b.example.test").await.unwrap_err(), refused);
    it.pass(100);
    assert_eq!(it.find("a.example.test").await.unwrap_err(), refused);
    it.server.behave(Mood::Well);
    it.pass(2);
    assert_eq!(it.addresses("a.example.test").await, ["10.0.0.1"]);
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_and_the_next_one_is_asked() {
    let it = setup(|_, _| {}).await;
    it.server.behave(Mood::Silent);
    let address = it.server.address;
    assert_eq!(
        it.find("a.example.test").await.unwrap_err(),
        Failure::Timeout(address)
    );
    let other = NameServer::start().await.unwrap();
    other.set_addresses("a.example.test", 10, &["10.0.0.1"]);
    let servers = vec![it.server.address, other.address];
    let resolver = Resolver::new(Settings {
        servers,
        ..it.resolver.settings.clone()
    });
    let found = resolver.find(&Arc::from("a.example.test")).await.unwrap();
    assert_eq!(addresses(&found), ["10.0.0.1"]);
    it.server.behave(Mood::Failing);
    let found = resolver.find(&Arc::from("A.example.test")).await.unwrap();
    assert_eq!(addresses(&found), ["10.0.0.1"]);
}

#[tokio::test]
async fn tcp_is_used_for_what_is_cut_and_for_what_lost_its_case() {
    for mood in [Mood::Truncating, Mood::Careless] {
        let it = setup(|settings, _| settings.order = Order::Together(vec![Kind::A])).await;
        it.server.behave(mood);
        let many: Vec<String> = (0..200).map(|at| format!("10.0.0.{at}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        it.server.set_addresses("many.example.test", 10, &many);
        assert_eq!(it.addresses("many.example.test").await, many);
        assert_eq!(
            it.asked(),
            ["many.example.test A", "many.example.test A over TCP"]
        );
    }
}

#[tokio::test]
async fn answers_to_other_questions_are_not_believed() {
    let it = setup(|settings, _| settings.order = Order::Together(vec![Kind::A])).await;
    it.server.behave(Mood::Forging);
    it.server.set_addresses("a.example.test", 10, &["10.0.0.1"]);
    assert_eq!(it.addresses("a.example.test").await, ["10.0.0.1"]);
    assert_eq!(it.asked(), ["a.example.test A"]);
}

#[tokio::test]
async fn questions_differ_in_id_case_and_port() {
    use super::message::Question;
    let name = "a-rather-long-name-with-many-letters.example.test";
    let messages: Vec<Vec<u8>> = (0..16)
        .map(|_| Question::new(name, Kind::A).unwrap().bytes().unwrap())
        .collect();
    let mut heads: Vec<&[u8]> = messages.iter().map(|it| &it[..2]).collect();
    heads.sort_unstable();
    heads.dedup();
    assert!(heads.len() > 12, "{heads:?}");
    let mut names: Vec<&[u8]> = messages.iter().map(|it| &it[12..]).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 16);
}

#[tokio::test]
async fn one_look_up_serves_all_who_wait_and_outlives_them() {
    let it = setup(|_, _| {}).await;
    it.server.set_addresses("a.example.test", 10, &["10.0.0.1"]);
    it.server.close();
    let first = {
        let resolver = it.resolver.clone();
        tokio::spawn(async move { resolver.find(&Arc::from("a.example.test")).await })
    };
    while it.server.was_not_asked() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    first.abort();
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let resolver = it.resolver.clone();
        others.spawn(async move { resolver.find(&Arc::from("a.example.test")).await });
    }
    tokio::task::yield_now().await;
    it.server.open();
    for found in others.join_all().await {
        assert_eq!(addresses(&found.unwrap()), ["10.0.0.1"]);
    }
    assert_eq!(it.resolver.counts().lookups, 1);
    assert_eq!(it.asked(), ["a.example.test A", "a.example.test AAAA"]);
}

#[test]
fn a_look_up_that_ended_with_its_runtime_is_made_again() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (server_runtime, gone) = (runtime(), runtime());
    let it = server_runtime.block_on(setup(|_, _| {}));
    it.server.set_addresses("a.example.test", 10, &["10.0.0.1"]);
    gone.block_on(async {
        let name = it.resolver.names.get(&Arc::from("a.example.test"));
        it.resolver.ask(&name);
    });
    drop(gone);
    let found = server_runtime.block_on(it.find("a.example.test")).unwrap();
    assert_eq!(addresses(&found), ["10.0.0.1"]);
}

#[tokio::test]
async fn without_merging_each_caller_asks() {
    let it = setup(|settings, _| {
        settings.merge = false;
        settings.order = Order::Together(vec![Kind::A]);
    })
    .await;
    it.server.set_addresses("a.example.test", 10, &["10.0.0.1"]);
    let name: Arc<str> = Arc::from("a.example.test");
    let both = tokio::join!(it.resolver.find(&name), it.resolver.find(&name));
    assert!(both.0.is_ok() && both.1.is_ok());
    assert_eq!(it.resolver.counts().lookups, 2);
    assert!(it.find("a.example.test").await.is_ok());
    assert_eq!(it.resolver.counts().lookups, 2);
}

#[tokio::test]
async fn search_domains_are_walked_once_and_then_remembered() {
    let it = setup(|_, _| {}).await;
    it.server.set_addresses("web.shop.test", 5, &["10.0.0.1"]);
    assert_eq!(it.addresses("web.shop").await, ["10.0.0.1"]);
    let asked = it.asked();
    assert!(
        asked.contains(&"web.shop.ns.test A".to_owned()),
        "{asked:?}"
    );
    it.pass(6);
    assert!(it.find("web.shop").await.is_ok());
    it.looked_up(2).await;
    assert_eq!(it.asked(), ["web.shop.test A", "web.shop.test AAAA"]);
    // After a while the whole way is gone again: something nearer may be there by now.
    it.server
        .set_addresses("web.shop.ns.test", 5, &["10.0.0.2"]);
    it.pass(400);
    assert!(it.find("web.shop").await.is_ok());
    it.looked_up(3).await;
    assert_eq!(it.addresses("web.shop").await, ["10.0.0.2"]);
    // The other one takes over when this one is gone.
    it.server.remove("web.shop.ns.test");
    it.pass(6);
    assert!(it.find("web.shop").await.is_ok());
    it.looked_up(4).await;
    assert_eq!(it.addresses("web.shop").await, ["10.0.0.1"]);
}

fn service(priority: u16, weight: u16, port: u16, target: &str) -> Data {
    Data::Service(priority, weight, port, target.to_owned())
}

#[tokio::test]
async fn services_of_the_lowest_priority_have_ports_weights_and_names() {
    let it = setup(|_, _| {}).await;
    it.server
        .set_addresses("one.example.test", 30, &["10.0.0.1"]);
    it.server
        .set_addresses("two.example.test", 30, &["10.0.0.2", "fd00::2"]);
    it.server
        .set_addresses("far.example.test", 30, &["10.0.0.9"]);
    let records = [
        service(1, 3, 8001, "one.example.test"),
        service(1, 0, 0, "two.example.test"),
        service(1, 5, 8003, "gone.example.test"),
        service(2, 9, 8009, "far.example.test"),
    ];
    it.server.set("_http._tcp.example.test", 20, &records);
    let found = it.find("_http._tcp.example.test").await.unwrap();
    assert_eq!(found.origin(), Origin::Records(Kind::Srv));
    let expected = [
        ("10.0.0.1", Some(8001), 3, "one.example.test"),
        ("10.0.0.2", None, 1, "two.example.test"),
    ];
    let expected = expected.map(|(ip, port, weight, name)| Endpoint {
        ip: ip.parse().unwrap(),
        port,
        weight,
        name: Some(Arc::from(name)),
    });
    assert_eq!(found.endpoints(), expected);
    let next: Vec<SocketAddr> = (0..4).map(|_| found.next(80).unwrap()).collect();
    assert_eq!(next.iter().filter(|it| it.port() == 8001).count(), 3);
    assert!(next.contains(&"10.0.0.2:80".parse().unwrap()));
    it.server.set(
        "_self._tcp.example.test",
        20,
        &[service(1, 1, 1, "_self._tcp.example.test")],
    );
    it.server
        .set("_none._tcp.example.test", 20, &[service(1, 1, 1, ".")]);
    for name in ["_self._tcp.example.test", "_none._tcp.example.test"] {
        assert_eq!(
            it.find(name).await.unwrap_err(),
            Failure::NoRecords,
            "{name}"
        );
    }
}

#[tokio::test]
async fn kongs_order_asks_for_one_kind_after_the_other() {
    let it = setup(|settings, _| {
        let steps = [Step::Last, Step::Kind(Kind::Srv), Step::Kind(Kind::A)];
        settings.order = Order::InTurn(steps.to_vec());
    })
    .await;
    it.server
        .set_addresses("a.b.test", 5, &["10.0.0.1", "fd00::1"]);
    assert_eq!(it.addresses("a.b.test.").await, ["10.0.0.1"]);
    assert_eq!(it.server.take(), ["a.b.test SRV", "a.b.test A"]);
    it.pass(6);
    assert!(it.find("a.b.test.").await.is_ok());
    it.looked_up(2).await;
    assert_eq!(it.server.take(), ["a.b.test A"]);
    it.server
        .set("plain.b.test", 5, &[service(1, 1, 99, "a.b.test")]);
    let found = it.find("plain.b.test.").await.unwrap();
    assert_eq!(found.next(80), Some("10.0.0.1:99".parse().unwrap()));
}

#[tokio::test]
async fn the_hosts_file_and_reserved_names_come_first() {
    let it = setup(|settings, directory| {
        let hosts = directory.join("hosts");
        std::fs::write(&hosts, "fd00::7 own.test\n10.0.0.7 Own.test").unwrap();
        settings.hosts_file = Some(hosts);
    })
    .await;
    let found = it.find("OWN.test.").await.unwrap();
    assert_eq!(addresses(&found), ["10.0.0.7", "fd00::7"]);
    assert_eq!(
        (found.preferred().len(), found.origin()),
        (1, Origin::HostsFile)
    );
    assert_eq!(it.addresses("localhost").await, ["127.0.0.1"]);
    assert_eq!(it.addresses("a.localhost").await, ["127.0.0.1"]);
    assert_eq!(it.addresses("fd00::1").await, ["fd00::1"]);
    assert_eq!(it.find("a.invalid").await.unwrap_err(), Failure::NoSuchName);
    assert!(it.server.take().is_empty());
}

#[tokio::test]
async fn times_to_live_have_a_floor_and_may_be_overridden() {
    let it = setup(|settings, _| settings.order = Order::Together(vec![Kind::A])).await;
    it.server.set_addresses("a.example.test", 0, &["10.0.0.1"]);
    for _ in 0..3 {
        assert!(it.find("a.example.test").await.is_ok());
    }
    assert_eq!(it.server.take().len(), 1);
    let it = setup(|settings, _| {
        settings.order = Order::Together(vec![Kind::A]);
        settings.valid_ttl = Some(Duration::from_secs(100));
    })
    .await;
    it.server.set_addresses("a.example.test", 5, &["10.0.0.1"]);
    let (found, until) = it.resolver.renew(&Arc::from("a.example.test")).await;
    assert!(found.is_ok());
    assert_eq!(until, it.resolver.now() + Duration::from_secs(100));
    it.pass(101);
    it.server.set_addresses("a.example.test", 5, &["10.0.0.2"]);
    let (found, _) = it.resolver.renew(&Arc::from("a.example.test")).await;
    assert_eq!(addresses(&found.unwrap()), ["10.0.0.2"]);
}

#[test]
fn no_message_is_too_odd() {
    use super::message::Question;
    let question = Question::new("a.test", Kind::Srv).unwrap();
    let mut message = question.bytes().unwrap();
    message[2] |= 0x80;
    for (at, byte) in (0..message.len()).flat_map(|at| (0..=255).map(move |it| (at, it))) {
        let mut changed = message.clone();
        changed[at] = byte;
        let _judged = question.read(&changed, true).is_ok();
        let _judged = question.read(&changed[..at], false).is_ok();
    }
}
