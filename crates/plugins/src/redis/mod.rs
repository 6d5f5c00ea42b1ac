//! Scripts on a Redis server over reused connections, bounded in number, time and size.
//!
//! A server that fails is left alone for a second: requests must not wait for it one by one.

mod breaker;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use o28m_net::redis::{self, Link, Reply, Server};
use tokio::sync::Semaphore;

use breaker::Breaker;

/// Connections to one server at once; more requests wait within their time limit.
const CONNECTIONS_MAX: usize = 64;
/// Connections kept while nothing is asked.
const IDLE_MAX: usize = 16;

/// Which server, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The server.
    pub(crate) server: Server,
    /// Longest time for one script, connecting included.
    pub(crate) timeout: Duration,
}

/// Why a script gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server failed a moment ago and is left alone.
    #[error("the server is left alone after a failure")]
    Resting,
    /// Connecting and asking took too long.
    #[error("timed out after {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The server cannot be asked.
    #[error(transparent)]
    Server(#[from] redis::Error),
}

/// The server of one set of settings. Cheap to share.
pub(crate) struct Client {
    settings: Settings,
    idle: Mutex<Vec<Link>>,
    permits: Semaphore,
    breaker: Breaker,
    begun: Instant,
}

impl Client {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            idle: Mutex::default(),
            permits: Semaphore::new(CONNECTIONS_MAX),
            breaker: Breaker::default(),
            begun: Instant::now(),
        }
    }

    /// Runs a script on the server. A script may run twice when a reused connection breaks.
    ///
    /// # Cancel safety
    /// The connection in use is closed; the script may or may not have run.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn script(
        &self,
        script: &str,
        keys: &[String],
        arguments: &[String],
    ) -> Result<Reply, Error> {
        let limit = self.settings.timeout;
        let now_ms = || u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !self.breaker.admits(now_ms(), limit) {
            return Err(Error::Resting);
        }
        let count = keys.len().to_string();
        let mut parts = vec![script, &count];
        parts.extend(keys.iter().map(String::as_str));
        parts.extend(arguments.iter().map(String::as_str));
        let asking = tokio::time::timeout(limit, self.ask(&parts));
        let reply = asking.await.unwrap_or(Err(Error::Timeout(limit)));
        match &reply {
            Err(error) => {
                if self.breaker.failed(now_ms()) {
                    self.report(error);
                }
            }
            Ok(_) => {
                if self.breaker.succeeded() {
                    tracing::info!(redis.host = %self.settings.server.host, "Redis server answers again");
                }
            }
        }
        reply
    }

    fn report(&self, error: &Error) {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        tracing::error!(
            redis.host = %self.settings.server.host,
            redis.port = self.settings.server.port,
            error = %text,
            "Redis server failed"
        );
    }

    async fn ask(&self, parts: &[&str]) -> Result<Reply, Error> {
        // Closed semaphores are the only failure, and this one is never closed.
        let _permit = self.permits.acquire().await.map_err(|_| Error::Resting)?;
        if let Some(mut link) = self.take_idle() {
            match link.ask("EVAL", parts).await {
                // The server may have closed it while it was idle.
                Err(redis::Error::Io(_)) => {}
                outcome => return self.put_back(link, outcome),
            }
        }
        let server = &self.settings.server;
        let mut link = Link::connect(server).await?;
        link.log_in(server).await?;
        let outcome = link.ask("EVAL", parts).await;
        self.put_back(link, outcome)
    }

    fn take_idle(&self) -> Option<Link> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    /// Keeps the connection unless what it said could not be understood.
    fn put_back(&self, link: Link, outcome: Result<Reply, redis::Error>) -> Result<Reply, Error> {
        if matches!(outcome, Ok(_) | Err(redis::Error::Refused { .. })) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(link);
            }
        }
        Ok(outcome?)
    }
}

/// The clients of this process: instances with equal settings share one.
#[derive(Default)]
pub(crate) struct Clients(Mutex<Vec<Weak<Client>>>);

impl Clients {
    /// The client for these settings; it ends with its last user.
    pub(crate) fn get(&self, settings: Settings) -> Arc<Client> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|client| client.strong_count() > 0);
        let mut known = clients.iter().filter_map(Weak::upgrade);
        if let Some(client) = known.find(|client| client.settings == settings) {
            return client;
        }
        let client = Arc::new(Client::new(settings));
        clients.push(Arc::downgrade(&client));
        client
    }
}

#[cfg(test)]
mod tests {
    use o28m_core::Secret;
    use o28m_net::client::TlsPolicy;

    use super::testing::{Behaviour, Server as Fake};
    use super::*;

    const ECHO: &str = "test";

    fn settings(server: &Fake) -> Settings {
        Settings {
            server: Server {
                host: "127.0.0.1".into(),
                port: server.address.port(),
                username: None,
                password: None,
                database: 0,
                tls: None,
            },
            timeout: Duration::from_secs(10),
        }
    }

    async fn count(client: &Client) -> Result<Reply, Error> {
        let arguments = ["100".to_owned(), "60".to_owned()];
        client.script(ECHO, &["k".to_owned()], &arguments).await
    }

    #[tokio::test]
    async fn connections_are_authenticated_once_and_reused() {
        let server = Fake::start(Behaviour::default()).await;
        let mut settings = settings(&server);
        settings.server.username = Some("kong".into());
        settings.server.password = Some(Secret::new("hunter2".into()));
        settings.server.database = 3;
        let client = Client::new(settings);
        for used in 0..3 {
            let reply = count(&client).await.unwrap();
            assert_eq!(reply, Reply::Array(vec![Reply::Integer(used)]));
        }
        let commands = server.commands();
        assert_eq!(commands[0], ["AUTH", "kong", "hunter2"]);
        assert_eq!(commands[1], ["SELECT", "3"]);
        assert_eq!(commands.len(), 5, "{commands:?}");
        assert_eq!(server.connections(), 1);
    }

    #[tokio::test]
    async fn a_refused_password_is_an_error() {
        let server = Fake::start(Behaviour {
            refuse: Some("WRONGPASS invalid"),
            ..Behaviour::default()
        })
        .await;
        let mut settings = settings(&server);
        settings.server.password = Some(Secret::new("hunter2".into()));
        let error = count(&Client::new(settings)).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Server(redis::Error::Refused {
                    command: "AUTH",
                    ..
                })
            ),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_server_over_tls_is_asked_if_it_is_the_right_one() {
        let server = Fake::start_tls(Behaviour::default(), "redis.example").await;
        let ca: Arc<str> = server.certificate.clone().unwrap().into();
        let over = |server_name: Option<&str>, trusted: bool| {
            let mut settings = settings(&server);
            settings.server.password = Some(Secret::new("hunter2".into()));
            settings.server.tls = Some(TlsPolicy {
                verify: true,
                server_name: server_name.map(Into::into),
                ca_pem: trusted.then(|| ca.clone()),
                ..TlsPolicy::default()
            });
            Client::new(settings)
        };
        for client in [
            over(None, true),
            over(Some("other.example"), true),
            over(Some("redis.example"), false),
        ] {
            let error = count(&client).await.unwrap_err();
            let refused = matches!(error, Error::Server(redis::Error::Connect { .. }));
            assert!(refused, "{error}");
        }
        assert!(
            server.commands().is_empty(),
            "the password went to a stranger"
        );
        let client = over(Some("redis.example"), true);
        for used in 0..2 {
            let reply = count(&client).await.unwrap();
            assert_eq!(reply, Reply::Array(vec![Reply::Integer(used)]));
        }
        assert_eq!(server.commands()[0], ["AUTH", "hunter2"]);
    }

    #[tokio::test]
    async fn an_idle_connection_that_was_closed_is_replaced() {
        let server = Fake::start(Behaviour {
            close_after: Some(1),
            ..Behaviour::default()
        })
        .await;
        let client = Client::new(settings(&server));
        count(&client).await.unwrap();
        server.wait_closed(1).await;
        count(&client).await.unwrap();
        assert_eq!(server.connections(), 2);
    }

    #[tokio::test]
    async fn a_silent_server_costs_the_time_limit_once() {
        let server = Fake::start(Behaviour {
            silent: true,
            ..Behaviour::default()
        })
        .await;
        let mut settings = settings(&server);
        settings.timeout = Duration::from_millis(50);
        let client = Client::new(settings);
        let error = count(&client).await.unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error}");
        let error = count(&client).await.unwrap_err();
        assert!(matches!(error, Error::Resting), "{error}");
    }

    #[tokio::test]
    async fn nobody_listening_is_an_error_and_not_a_panic() {
        let server = Fake::start(Behaviour::default()).await;
        let mut settings = settings(&server);
        drop(server);
        settings.server.host = String::new();
        let error = count(&Client::new(settings)).await.unwrap_err();
        assert!(
            matches!(error, Error::Server(redis::Error::Connect { .. })),
            "{error}"
        );
    }

    #[test]
    fn equal_settings_share_a_client_while_it_is_used() {
        let clients = Clients::default();
        let settings = |port| Settings {
            server: Server {
                host: "h".into(),
                port,
                username: None,
                password: Some(Secret::new("p".into())),
                database: 0,
                tls: None,
            },
            timeout: Duration::from_secs(1),
        };
        let (one, other) = (clients.get(settings(1)), clients.get(settings(1)));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &clients.get(settings(2))));
        drop((one, other));
        clients.get(settings(2));
        assert_eq!(clients.0.lock().unwrap().len(), 1);
    }
}
