//! Hearing about the health of other zones from a Redis channel.
//!
//! The server may be away for as long as it likes: what was heard stays, and traffic never waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use o28m_core::Secret;
use o28m_net::redis::{self, Link, Reply, Server};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::balance::ZoneHealth;
use crate::failure::chain;

/// Wait before connecting again.
const RETRY: Duration = Duration::from_secs(5);

/// Where news about zones come from.
#[derive(Clone, Debug)]
pub struct ZoneFeed {
    /// Host of the Redis server (`ZONE_HEALTH_DATABASE_HOST`).
    pub host: String,
    /// Its port (`ZONE_HEALTH_DATABASE_PORT`).
    pub port: u16,
    /// Database to select (`ZONE_HEALTH_DATABASE_INDEX`).
    pub index: u32,
    /// Password (`ZONE_HEALTH_DATABASE_PASSWORD`); there is no default one.
    pub password: Option<Secret<String>>,
    /// Channel of the news (`ZONE_HEALTH_KEY_CHANNEL`).
    pub channel: String,
    /// Longest wait for a connection (`ZONE_HEALTH_DATABASE_CONNECTTIMEOUT`).
    pub connect_timeout: Duration,
    /// Longest wait for a reply (`ZONE_HEALTH_DATABASE_TIMEOUT`).
    pub timeout: Duration,
    /// Time between two probes of a silent connection (`ZONE_HEALTH_REQUEST_GET_RATE`).
    pub probe_interval: Duration,
}

impl Default for ZoneFeed {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 6379,
            index: 2,
            password: None,
            channel: "stargate-zone-status".to_owned(),
            connect_timeout: Duration::from_millis(500),
            timeout: Duration::from_millis(500),
            probe_interval: Duration::from_secs(5),
        }
    }
}

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("zone status server did not answer in time")]
    Timeout,
    #[error("failed to follow the zone status server")]
    Server(#[from] redis::Error),
}

/// Follows the feed until `stop` is cancelled, and connects again whenever it has to.
pub(crate) async fn follow(
    feed: &ZoneFeed,
    zones: &ZoneHealth,
    connected: &AtomicBool,
    stop: &CancellationToken,
) {
    while !stop.is_cancelled() {
        let ended = tokio::select! {
            () = stop.cancelled() => break,
            ended = subscription(feed, zones, connected) => ended,
        };
        connected.store(false, Ordering::Relaxed);
        if let Err(error) = ended {
            tracing::warn!(error = %chain(&error), "zone status feed is lost");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    connected.store(false, Ordering::Relaxed);
}

/// One subscription; ends with an error only.
async fn subscription(
    feed: &ZoneFeed,
    zones: &ZoneHealth,
    connected: &AtomicBool,
) -> Result<(), FeedError> {
    let server = Server {
        host: feed.host.clone(),
        port: feed.port,
        username: None,
        password: feed.password.clone(),
        database: feed.index.into(),
        tls: None,
    };
    let mut link = in_time(feed.connect_timeout, Link::connect(&server)).await?;
    in_time(feed.timeout, link.log_in(&server)).await?;
    in_time(feed.timeout, link.ask("SUBSCRIBE", &[&feed.channel])).await?;
    connected.store(true, Ordering::Relaxed);
    tracing::info!(channel = %feed.channel, "zone status feed is followed");

    let mut probing = false;
    let mut deadline = Instant::now() + feed.probe_interval;
    loop {
        tokio::select! {
            reply = link.next() => {
                take(reply?, zones);
                probing = false;
                deadline = Instant::now() + feed.probe_interval;
            }
            () = sleep_until(deadline) => {
                if probing {
                    return Err(FeedError::Timeout);
                }
                in_time(feed.timeout, link.send("PING", &[])).await?;
                probing = true;
                deadline = Instant::now() + feed.timeout;
            }
        }
    }
}

/// Takes in a message of the channel; anything else is an answer to a probe.
fn take(reply: Reply, zones: &ZoneHealth) {
    let Reply::Array(items) = reply else { return };
    let [Reply::Text(kind), Reply::Text(_), Reply::Text(message)] = items.as_slice() else {
        return;
    };
    if kind == b"message"
        && let Err(error) = zones.apply(message)
    {
        tracing::error!(error = %error, "zone status message is ignored");
    }
}

async fn in_time<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, redis::Error>>,
) -> Result<T, FeedError> {
    match timeout(limit, asking).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(FeedError::Timeout),
    }
}
