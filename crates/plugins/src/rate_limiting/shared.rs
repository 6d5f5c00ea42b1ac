//! Counters in a Redis or Valkey server, shared by all replicas.

use std::sync::Arc;
use std::time::Duration;

use o28m_core::{Secret, Timestamp};
use o28m_net::client::TlsPolicy;
use o28m_net::redis::{self, Reply};
use serde::Deserialize;

use super::{Counter, Scope};
use crate::redis::{Client, Clients, Error, Settings};

/// Reads all counters and, when none has reached its limit, adds one to each; gives what they were.
/// A counter's life ends as long after its creation as its window is long. The commands are the
/// few that the platform's guide asks of a server.
const SCRIPT: &str = r"
local used, open = {}, true
for i = 1, #KEYS do
  used[i] = 0
  if redis.call('EXISTS', KEYS[i]) == 1 then
    used[i] = redis.call('INCRBY', KEYS[i], 0)
  end
  if used[i] >= tonumber(ARGV[2 * i - 1]) then open = false end
end
if open then
  for i = 1, #KEYS do
    if redis.call('INCR', KEYS[i]) == 1 then redis.call('EXPIRE', KEYS[i], ARGV[2 * i]) end
  end
end
return used";

/// Longest time that a configuration may give the server.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// How to reach the server, as plugins configure it.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Server {
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) password: Option<String>,
    pub(super) username: Option<String>,
    pub(super) ssl: bool,
    pub(super) ssl_verify: bool,
    pub(super) server_name: Option<String>,
    /// Milliseconds.
    pub(super) timeout: f64,
    pub(super) database: i64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: None,
            port: 6379,
            password: None,
            username: None,
            ssl: false,
            ssl_verify: false,
            server_name: None,
            timeout: 2000.0,
            database: 0,
        }
    }
}

impl Server {
    fn settings(self) -> Settings {
        let timeout = Duration::try_from_secs_f64(self.timeout / 1000.0);
        Settings {
            timeout: timeout.unwrap_or_default().min(TIMEOUT_MAX),
            server: redis::Server {
                // Without a host every attempt fails, as it does in Kong.
                host: self.host.unwrap_or_default(),
                port: self.port,
                username: self.username,
                password: self.password.filter(|it| !it.is_empty()).map(Secret::new),
                database: self.database,
                tls: self.ssl.then(|| TlsPolicy {
                    verify: self.ssl_verify,
                    server_name: self.server_name.map(Into::into),
                    ..TlsPolicy::default()
                }),
            },
        }
    }
}

/// Counters of one instance on a server.
pub(super) struct Shared(Arc<Client>);

impl Shared {
    pub(super) fn new(clients: &Clients, server: Server) -> Self {
        Self(clients.get(server.settings()))
    }

    /// Reads every counter and, when none has reached its limit, counts the request in all of them.
    pub(super) async fn take(
        &self,
        scope: &Scope,
        counters: &[Counter],
        now: Timestamp,
    ) -> Result<Vec<f64>, Error> {
        let mut keys = Vec::with_capacity(counters.len());
        let mut arguments = Vec::with_capacity(2 * counters.len());
        for counter in counters {
            let period = counter.period;
            let start_ms = period.start(now).millis();
            let scope = scope.key(&counter.identifier);
            keys.push(format!("{scope}:{start_ms}:{}", period.name()));
            arguments.push(counter.limit.to_string());
            arguments.push(period.length_s().to_string());
        }
        let reply = self.0.script(SCRIPT, &keys, &arguments).await?;
        used(&reply)
            .filter(|used| used.len() == counters.len())
            .ok_or(Error::Server(redis::Error::Protocol))
    }
}

fn used(reply: &Reply) -> Option<Vec<f64>> {
    let Reply::Array(items) = reply else {
        return None;
    };
    let number = |item: &Reply| match item {
        Reply::Integer(number) => Some(*number as f64),
        Reply::Text(_) | Reply::Null | Reply::Array(_) | Reply::Error(_) => None,
    };
    items.iter().map(number).collect()
}
