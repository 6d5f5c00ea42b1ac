//! tcp-log and udp-log: entries go to a socket.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use o28m_net::BoxFuture;
use o28m_net::client::{TlsPolicy, tls_handshake};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Mutex;

use super::{Kind, Plan};
use crate::config;
use crate::delivery::{Deliver, Deliveries, Failure, Settings};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    host: String,
    port: u16,
    timeout: f64,
    keepalive: f64,
    tls: bool,
    tls_sni: Option<String>,
    custom_fields_by_lua: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 0,
            timeout: 10_000.0,
            keepalive: 60_000.0,
            tls: false,
            tls_sni: None,
            custom_fields_by_lua: BTreeMap::new(),
        }
    }
}

/// A configured number of milliseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the schema keeps it between 0 and 2^31"
)]
pub(super) fn whole_millis(number: f64) -> u64 {
    number as u64
}

/// The kind tcp-log.
pub(crate) fn tcp(deliveries: &Deliveries) -> Kind {
    Kind {
        name: "tcp-log",
        priority: 7,
        deliveries: deliveries.clone(),
        plan: |_, config| {
            let config: Config = config::read(config)?;
            let customs = config.custom_fields_by_lua.clone();
            let settings = Settings::without_delay();
            Ok(plan(settings, Arc::new(Tcp::new(config)), true, customs))
        },
    }
}

/// The kind udp-log.
pub(crate) fn udp(deliveries: &Deliveries) -> Kind {
    Kind {
        name: "udp-log",
        priority: 8,
        deliveries: deliveries.clone(),
        plan: |_, config| {
            let config: Config = config::read(config)?;
            let customs = config.custom_fields_by_lua.clone();
            // One datagram for each, so that one that cannot be sent costs no other.
            Ok(plan(
                Settings::default(),
                Arc::new(Udp(config)),
                false,
                customs,
            ))
        },
    }
}

fn plan(
    settings: Settings,
    deliver: Arc<dyn Deliver>,
    lines: bool,
    customs: BTreeMap<String, String>,
) -> Plan {
    Plan {
        settings,
        deliver,
        lines,
        customs,
    }
}

/// A plain or encrypted stream.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that may be used again.
struct Idle {
    stream: Box<dyn Stream>,
    since: Instant,
}

struct Tcp {
    config: Config,
    idle: Mutex<Option<Idle>>,
}

impl Tcp {
    fn new(config: Config) -> Self {
        Self {
            config,
            idle: Mutex::default(),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let Config { host, port, .. } = &self.config;
        let socket = TcpStream::connect((host.as_str(), *port)).await?;
        if !self.config.tls {
            return Ok(Box::new(socket));
        }
        let policy = TlsPolicy {
            verify: true,
            server_name: self.config.tls_sni.as_deref().map(Into::into),
            ..TlsPolicy::default()
        };
        Ok(Box::new(tls_handshake(socket, host, &policy).await?))
    }

    async fn send(&self, lines: &[u8]) -> io::Result<()> {
        let kept = self.idle.lock().await.take();
        let keepalive = Duration::from_millis(whole_millis(self.config.keepalive));
        let kept = kept.filter(|it| it.since.elapsed() < keepalive);
        let mut stream = match kept.and_then(|it| alive(it.stream)) {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        stream.write_all(lines).await?;
        stream.flush().await?;
        let since = Instant::now();
        *self.idle.lock().await = Some(Idle { stream, since });
        Ok(())
    }
}

/// An idle connection, if its peer has not closed it.
fn alive(mut stream: Box<dyn Stream>) -> Option<Box<dyn Stream>> {
    let (mut byte, mut context) = ([0; 1], Context::from_waker(Waker::noop()));
    let mut buffer = ReadBuf::new(&mut byte);
    match Pin::new(&mut stream).poll_read(&mut context, &mut buffer) {
        Poll::Pending => Some(stream),
        // What it says does not matter, only that it still does.
        Poll::Ready(Ok(())) => (!buffer.filled().is_empty()).then_some(stream),
        Poll::Ready(Err(_)) => None,
    }
}

/// Gives up after the configured time.
async fn in_time(
    config: &Config,
    sending: impl Future<Output = io::Result<()>>,
) -> Result<(), Failure> {
    let limit = Duration::from_millis(whole_millis(config.timeout).max(1));
    let Config { host, port, .. } = config;
    match tokio::time::timeout(limit, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::passing(format!("{host}:{port}: {error}"))),
        Err(_) => Err(Failure::passing(format!(
            "timed out sending to {host}:{port}"
        ))),
    }
}

impl Deliver for Tcp {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let lines = batch.concat();
            in_time(&self.config, self.send(&lines)).await
        })
    }
}

/// Bytes of one datagram.
const DATAGRAM_BYTES_MAX: usize = 65_507;

struct Udp(Config);

impl Udp {
    async fn send(&self, entry: &[u8]) -> io::Result<()> {
        let mut addresses = tokio::net::lookup_host((self.0.host.as_str(), self.0.port)).await?;
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let address = addresses.next().ok_or_else(missing)?;
        let own = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(own).await?;
        socket.send_to(entry, address).await.map(drop)
    }
}

impl Deliver for Udp {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            for entry in batch {
                if entry.len() > DATAGRAM_BYTES_MAX {
                    return Err(Failure::lasting("an entry is too long for a datagram"));
                }
                in_time(&self.0, self.send(entry)).await?;
            }
            Ok(())
        })
    }
}
