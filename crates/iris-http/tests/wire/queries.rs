//! What requests ask the database for: no more where there is more that they do not return.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{Client, Reply, World};
use crate::visitor::form;

/// A link to PostgreSQL that counts the statements that go over it.
struct Counter {
    address: SocketAddr,
    statements: Arc<AtomicUsize>,
    _stop: DropGuard,
}

/// Counts in what a client sends after it has introduced itself: a type, a length, a body.
#[derive(Default)]
struct Reader {
    buffer: Vec<u8>,
    introduced: bool,
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) -> usize {
        self.buffer.extend_from_slice(bytes);
        let mut found = 0;
        loop {
            let head = usize::from(self.introduced);
            let Some(length) = self.buffer.get(head..head + 4) else {
                return found;
            };
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize + head;
            if self.buffer.len() < length {
                return found;
            }
            // `Execute` of a prepared statement, or a simple query.
            found += usize::from(self.introduced && matches!(self.buffer[0], b'E' | b'Q'));
            self.buffer.drain(..length);
            self.introduced = true;
        }
    }
}

impl Counter {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let statements = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let (count, stopped) = (statements.clone(), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = TcpStream::connect(target).await.unwrap();
                let count = count.clone();
                let forward = async move {
                    let (mut reader, mut up, mut down) =
                        (Reader::default(), [0; 16384], [0; 16384]);
                    loop {
                        tokio::select! {
                            read = client.read(&mut up) => match read {
                                Ok(read) if read > 0 => {
                                    count.fetch_add(reader.read(&up[..read]), Ordering::SeqCst);
                                    if server.write_all(&up[..read]).await.is_err() { return }
                                }
                                _ => return,
                            },
                            read = server.read(&mut down) => match read {
                                Ok(read) if read > 0 => {
                                    if client.write_all(&down[..read]).await.is_err() { return }
                                }
                                _ => return,
                            },
                        }
                    }
                };
                tokio::spawn(stopped.clone().run_until_cancelled_owned(forward));
            }
        }));
        Self {
            address,
            statements,
            _stop: stop.drop_guard(),
        }
    }

    /// Statements that a request needed.
    async fn of(&self, request: impl Future<Output = Reply>) -> usize {
        let before = self.statements.load(Ordering::SeqCst);
        let reply = request.await;
        assert!(reply.status.is_success(), "{reply:?}");
        self.statements.load(Ordering::SeqCst) - before
    }
}

/// A world whose statements are counted; `None` where there is no server.
async fn counted() -> Option<(World, Counter)> {
    let url = o28m_store::testing::postgres_url().await?;
    let (before, rest) = url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let counter = Counter::to(server.parse().unwrap()).await;
    let settings = o28m_store::Settings {
        url: format!("{before}@{}/{name}?sslmode=disable", counter.address),
        schema: "o28m".to_owned(),
        pool_max: 4,
        connect_timeout: Duration::from_secs(5),
        // Nothing looks for changes between two counts.
        poll_interval: Duration::from_secs(3600),
    };
    let store = o28m_store::Store::open(&settings).await.unwrap();
    store.migrate(o28m_store::MigrationStep::Up).await.unwrap();
    Some((World::on(store).await, counter))
}

/// More of everything, numbered from `from`.
async fn grow(world: &World, admin: &Client, from: usize, until: usize) {
    for number in from..until {
        world
            .client(
                admin,
                "r",
                json!({"clientId": format!("more-{number}"), "redirectUris": ["https://a.example/"]}),
            )
            .await;
        for (path, body) in [
            (
                "users",
                json!({"username": format!("user-{number}"), "enabled": true}),
            ),
            ("roles", json!({"name": format!("role-{number}")})),
            ("groups", json!({"name": format!("group-{number}")})),
        ] {
            let url = world.admin_url(&format!("/r/{path}"));
            let _ = admin.json("POST", &url, body).await.expect(201);
        }
    }
    for number in from..until.min(from + 4) {
        let body = json!({"realm": format!("realm-{number}"), "enabled": true});
        let _ = admin
            .json("POST", &world.admin_url(""), body)
            .await
            .expect(201);
    }
}

/// Statements of every request that matters, by name; each is made before, so that what is kept in memory is
/// there.
async fn measure(
    world: &World,
    counter: &Counter,
    admin: &Client,
    ids: &[String; 2],
) -> Vec<(String, usize)> {
    let mut all = Vec::new();
    let [client, user] = ids;
    for path in [
        "?briefRepresentation=true&max=2",
        "/r",
        "/r/clients?first=1&max=2",
        "/r/clients?search=true&clientId=more-&max=2",
        "/r/clients?clientId=c",
        &format!("/r/clients/{client}"),
        &format!("/r/clients/{client}/client-secret"),
        &format!("/r/clients/{client}/service-account-user"),
        &format!("/r/clients/{client}/default-client-scopes"),
        &format!("/r/clients/{client}/session-count"),
        &format!("/r/clients/{client}/user-sessions?max=1"),
        "/r/client-scopes",
        "/r/default-default-client-scopes",
        "/r/users?first=1&max=2",
        "/r/users?search=user-&max=2",
        "/r/users?username=anna&exact=true",
        "/r/users/count",
        &format!("/r/users/{user}"),
        &format!("/r/users/{user}/role-mappings/realm"),
        &format!("/r/users/{user}/sessions"),
        "/r/roles?first=1&max=2",
        "/r/roles?search=role-&max=2",
        "/r/roles/role-1",
        "/r/groups?first=1&max=2",
        "/r/groups?search=group-1&max=1",
        "/r/groups/count",
        "/r/keys",
        "/r/events?max=2",
        "/r/client-policies/policies",
    ] {
        let url = world.admin_url(path);
        let _ = admin.get(&url).await.expect(200);
        let needed = counter.of(admin.get(&url)).await;
        let name = path
            .split(['?'])
            .next()
            .unwrap()
            .replace(client, "{client}");
        all.push((format!("{} {path}", name.replace(user, "{user}")), needed));
    }
    let login = form(&[
        ("grant_type", "password"),
        ("client_id", "c"),
        ("client_secret", "s"),
        ("username", "anna"),
        ("password", "secret"),
        ("scope", "openid"),
    ]);
    let service = "grant_type=client_credentials&client_id=c&client_secret=s";
    let (token, certs) = (world.protocol("r", "token"), world.protocol("r", "certs"));
    let tokens = world.token("r", &login).await.expect(200).json();
    let refresh = form(&[
        ("grant_type", "refresh_token"),
        ("client_id", "c"),
        ("client_secret", "s"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
    ]);
    let introspect = form(&[
        ("client_id", "c"),
        ("client_secret", "s"),
        ("token", tokens["access_token"].as_str().unwrap()),
    ]);
    for (name, url, body) in [
        ("service", &token, service),
        ("login", &token, &login),
        ("refresh", &token, &refresh),
        (
            "introspect",
            &world.protocol("r", "token/introspect"),
            &introspect,
        ),
    ] {
        let _ = world.http.form(url, body).await.expect(200);
        all.push((
            name.to_owned(),
            counter.of(world.http.form(url, body)).await,
        ));
    }
    let bearer = world.http.bearer(tokens["access_token"].as_str().unwrap());
    let userinfo = world.protocol("r", "userinfo");
    all.push((
        "userinfo".to_owned(),
        counter.of(bearer.get(&userinfo)).await,
    ));
    let discovery = world.at("/realms/r/.well-known/openid-configuration");
    for (name, url) in [("discovery", &discovery), ("certs", &certs)] {
        all.push((name.to_owned(), counter.of(world.http.get(url)).await));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_asks_more_where_there_is_more() {
    let Some((world, counter)) = counted().await else {
        return;
    };
    let admin = world.realm("r").await;
    let body = json!({"clientId": "c", "directAccessGrantsEnabled": true});
    let client = world.client(&admin, "r", body).await;
    let body = json!({"username": "anna", "enabled": true,
        "credentials": [{"type": "password", "value": "secret"}]});
    let url = world.admin_url("/r/users");
    let user = admin.json("POST", &url, body).await.expect(201).id();
    grow(&world, &admin, 0, 4).await;
    let ids = [client, user];
    // Somebody is logged in from the beginning.
    let login = "grant_type=password&client_id=c&client_secret=s&username=anna&password=secret";
    let _ = world.token("r", login).await.expect(200);
    let few = measure(&world, &counter, &admin, &ids).await;
    grow(&world, &admin, 4, 40).await;
    let many = measure(&world, &counter, &world.admin().await, &ids).await;
    let more: Vec<_> = few
        .iter()
        .zip(&many)
        .filter(|(few, many)| many.1 > few.1)
        .collect();
    assert!(more.is_empty(), "{more:?}");
    let of = |name: &str| many.iter().find(|(known, _)| known == name).unwrap().1;
    // Served from memory.
    for name in ["service", "discovery", "certs"] {
        assert_eq!(of(name), 0, "{name}");
    }
    assert!(many.iter().all(|(_, needed)| *needed <= 24), "{many:?}");
}

#[tokio::test]
async fn a_login_is_written_once_and_a_service_token_never() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let body = json!({"clientId": "c", "directAccessGrantsEnabled": true});
    world.client(&admin, "r", body).await;
    let body = json!({"username": "anna", "enabled": true,
        "credentials": [{"type": "password", "value": "secret"}]});
    let url = world.admin_url("/r/users");
    let _ = admin.json("POST", &url, body).await.expect(201);
    let realm = admin.get(&world.admin_url("/r")).await.json()["id"].clone();
    let realm = realm.as_str().unwrap().to_owned();
    let kept = async || {
        let all = world.store.owned_sessions(&realm, 0).await.unwrap();
        all.into_iter()
            .map(|session| session.id)
            .collect::<Vec<_>>()
    };
    let version = world.store.version().await.unwrap();
    for _ in 0..3 {
        world.service_token("r", "c").await;
    }
    assert!(kept().await.is_empty());
    let login = "grant_type=password&client_id=c&client_secret=s&username=anna&password=secret";
    let tokens: Value = world.token("r", login).await.expect(200).json();
    let sid = tokens["session_state"].as_str().unwrap();
    // The login, and what names it: for its user and for its client.
    let all = kept().await;
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all.iter().all(|id| id.ends_with(sid)));
    assert_eq!(world.store.version().await.unwrap(), version);
}
