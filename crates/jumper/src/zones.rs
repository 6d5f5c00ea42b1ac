//! Hearing about the health of other zones from a Redis channel.
//!
//! The server may be away for as long as it likes: what was heard stays, and traffic never waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use o28m_core::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::balance::ZoneHealth;
use crate::failure::chain;
use crate::resp::{Broken, REPLY_BYTES_MAX, Reply, command, parse};

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
    #[error("failed to talk to the zone status server")]
    Io(#[from] std::io::Error),
    #[error("zone status server did not answer in time")]
    Timeout,
    #[error("zone status server closed the connection")]
    Closed,
    #[error("zone status server refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Broken(#[from] Broken),
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
    let address = (feed.host.as_str(), feed.port);
    let connecting = timeout(feed.connect_timeout, TcpStream::connect(address));
    let stream = connecting.await.map_err(|_| FeedError::Timeout)??;
    let mut link = Link {
        stream,
        buffer: Vec::new(),
        timeout: feed.timeout,
    };
    if let Some(password) = &feed.password {
        link.ask(&["AUTH", password.expose()]).await?;
    }
    link.ask(&["SELECT", &feed.index.to_string()]).await?;
    link.ask(&["SUBSCRIBE", &feed.channel]).await?;
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
                link.send(&["PING"]).await?;
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

struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
    timeout: Duration,
}

impl Link {
    async fn send(&mut self, parts: &[&str]) -> Result<(), FeedError> {
        let command = command(parts);
        let writing = timeout(self.timeout, self.stream.write_all(&command));
        Ok(writing.await.map_err(|_| FeedError::Timeout)??)
    }

    /// Sends a command and waits for its reply.
    async fn ask(&mut self, parts: &[&str]) -> Result<(), FeedError> {
        self.send(parts).await?;
        let reply = timeout(self.timeout, self.next()).await;
        match reply.map_err(|_| FeedError::Timeout)?? {
            Reply::Error(text) => Err(FeedError::Refused(text)),
            Reply::Text(_) | Reply::Number | Reply::Null | Reply::Array(_) => Ok(()),
        }
    }

    /// The next reply. Cancel-safe: what was read stays in the buffer.
    async fn next(&mut self) -> Result<Reply, FeedError> {
        loop {
            if let Some((reply, length)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(reply);
            }
            let mut reading = (&mut self.stream).take(REPLY_BYTES_MAX as u64);
            if reading.read_buf(&mut self.buffer).await? == 0 {
                return Err(FeedError::Closed);
            }
        }
    }
}
