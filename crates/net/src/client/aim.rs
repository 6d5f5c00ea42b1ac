//! Which address of a target a request goes to: a name may have several, which take turns request by
//! request, and which change (spec gateway-proxy 7.4, 10.6).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::SendError;
use super::connect::is_loopback;
use super::connection::Upstream;
use crate::dns::{Failure, Found, Resolver};

/// Where one request goes.
pub(crate) enum Aim {
    /// The target is an address.
    Fixed(SocketAddr),
    /// The target is a name: this address of it is the one whose turn it is.
    Named(SocketAddr, Arc<Found>),
}

impl Aim {
    /// `None` while the name has to be looked up.
    pub(super) fn known(
        resolver: &Arc<Resolver>,
        host: &Arc<str>,
        port: u16,
    ) -> Option<Result<Self, SendError>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Ok(Self::Fixed(SocketAddr::new(address, port))));
        }
        let known = resolver.known(host)?;
        Some(Self::of(known, host, port))
    }

    pub(super) async fn find(
        resolver: &Arc<Resolver>,
        host: &Arc<str>,
        port: u16,
    ) -> Result<Self, SendError> {
        match Self::known(resolver, host, port) {
            Some(known) => known,
            None => Self::of(resolver.find(host).await, host, port),
        }
    }

    /// Whether a loopback address is among those of `host`; takes nobody's turn.
    pub(super) async fn leads_to_loopback(
        resolver: &Arc<Resolver>,
        host: &Arc<str>,
    ) -> Result<bool, SendError> {
        let found = resolver.find(host).await;
        let found = found.map_err(|failure| unresolved(host, failure))?;
        Ok(found.endpoints().iter().any(|it| is_loopback(it.ip)))
    }

    fn of(
        found: Result<Arc<Found>, Failure>,
        host: &Arc<str>,
        port: u16,
    ) -> Result<Self, SendError> {
        let found = found.map_err(|failure| unresolved(host, failure))?;
        let next = found.next(port);
        let next = next.ok_or_else(|| unresolved(host, Failure::NoRecords))?;
        Ok(Self::Named(next, found))
    }

    /// All addresses of the target, the one whose turn it is first.
    pub(super) fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        match self {
            Self::Fixed(address) => vec![*address],
            Self::Named(first, found) => found.beginning_with(*first, port),
        }
    }

    /// Whether a connection to this address goes the right way.
    pub(crate) fn leads_to(&self, other: SocketAddr) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Named(address, _) => *address == other,
        }
    }

    /// The youngest of these connections of the target that goes the right way.
    pub(super) fn youngest(&self, idle: &[Box<Upstream>]) -> Option<usize> {
        match self {
            Self::Fixed(_) => idle.len().checked_sub(1),
            Self::Named(address, _) => idle.iter().rposition(|it| it.address == *address),
        }
    }
}

fn unresolved(host: &Arc<str>, failure: Failure) -> SendError {
    SendError::Resolve {
        host: host.clone(),
        source: (!failure.is_not_found()).then(|| std::io::Error::other(failure)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderValue, Request};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::client::{Pool, PoolSettings, Target, Timeouts, TlsPolicy};
    use crate::dns::testing::{Data, Mood, NameServer};
    use crate::dns::{Order, Settings};
    use crate::{Body, Scheme};

    /// Answers every request of a connection with the address and a number of the connection.
    async fn serve(listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut count = 0;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count += 1;
            let text = format!("{} {count}", stream.local_addr().unwrap().ip());
            connections.spawn(async move {
                let mut head = Vec::new();
                while let Ok(byte) = stream.read_u8().await {
                    head.push(byte);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let length = text.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    }

    /// Servers at the same port of these addresses.
    async fn servers(addresses: &[[u8; 4]], tasks: &mut JoinSet<()>) -> u16 {
        'port: loop {
            let mut listeners: Vec<TcpListener> = Vec::new();
            let mut port = 0;
            for address in addresses {
                let Ok(listener) = TcpListener::bind((IpAddr::from(*address), port)).await else {
                    continue 'port;
                };
                port = listener.local_addr().unwrap().port();
                listeners.push(listener);
            }
            for listener in listeners {
                tasks.spawn(serve(listener));
            }
            return port;
        }
    }

    async fn get(pool: &Arc<Pool>, host: &str, port: u16) -> Result<String, SendError> {
        let target = Target {
            scheme: Scheme::Http,
            host: Arc::from(host),
            port,
            tls: TlsPolicy::default(),
        };
        let timeouts = Timeouts {
            connect: Duration::from_secs(10),
            write: Duration::from_secs(10),
            read: Duration::from_secs(10),
        };
        let mut request = Request::new(Body::Empty);
        request
            .headers_mut()
            .insert("host", HeaderValue::from_static("a"));
        let response = pool.send(&target, request, &timeouts).await?;
        let body = response.into_body().collect(1024).await.unwrap();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    fn resolver(server: &NameServer) -> Arc<Resolver> {
        Resolver::new(Settings {
            servers: vec![server.address],
            hosts_file: None,
            resolv_conf: None,
            order: Order::Together(vec![crate::dns::Kind::A, crate::dns::Kind::Srv]),
            ..Settings::default()
        })
    }

    #[tokio::test]
    async fn addresses_take_turns_request_by_request_and_changes_count_at_once() {
        let mut tasks = JoinSet::new();
        let port = servers(
            &[[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]],
            &mut tasks,
        )
        .await;
        let server = NameServer::start().await.unwrap();
        let names = resolver(&server);
        let pool = Pool::with_resolver(PoolSettings::default(), names.clone());
        server.set_addresses("many.test", 1, &["127.0.0.1", "127.0.0.2"]);
        let mut said = Vec::new();
        for _ in 0..6 {
            said.push(get(&pool, "many.test", port).await.unwrap());
        }
        let expected = ["127.0.0.1 1", "127.0.0.2 1"].repeat(3);
        assert_eq!(said, expected, "each by its one connection");
        server.set_addresses("many.test", 60, &["127.0.0.3"]);
        let host: Arc<str> = Arc::from("many.test");
        let moved = async {
            while names.find(&host).await.unwrap().endpoints().len() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), moved)
            .await
            .unwrap();
        assert_eq!(get(&pool, "many.test", port).await.unwrap(), "127.0.0.3 1");
        assert_eq!(pool.idle(), 3);
    }

    #[tokio::test]
    async fn services_bring_their_port_and_dead_addresses_are_passed_over() {
        let mut tasks = JoinSet::new();
        let port = servers(&[[127, 0, 0, 1]], &mut tasks).await;
        let server = NameServer::start().await.unwrap();
        let pool = Pool::with_resolver(PoolSettings::default(), resolver(&server));
        let service = Data::Service(1, 1, port, "many.test".to_owned());
        server.set("_http._tcp.test", 60, &[service]);
        server.set_addresses("many.test", 60, &["127.0.0.9", "127.0.0.1"]);
        for _ in 0..3 {
            let said = get(&pool, "_http._tcp.test", 1).await.unwrap();
            assert!(said.starts_with("127.0.0.1 "), "{said}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_differs_from_what_nobody_can_tell() {
        let server = NameServer::start().await.unwrap();
        let pool = Pool::with_resolver(PoolSettings::default(), resolver(&server));
        let source = |error| match error {
            SendError::Resolve { source, .. } => source.map(|it| it.to_string()),
            other => panic!("{other}"),
        };
        let error = get(&pool, "none.test", 80).await.unwrap_err();
        assert_eq!(source(error), None);
        server.behave(Mood::Failing);
        let error = get(&pool, "other.test", 80).await.unwrap_err();
        assert_eq!(source(error).unwrap(), "dns server error: 2 server failure");
    }
}
