//! A TCP link to a server that a test can cut and mend, to take a database away.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Forwards connections to a server while it is whole.
pub struct Link {
    address: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
    _stop: DropGuard,
}

impl Link {
    /// A whole link to `target`.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let whole = Arc::new(watch::Sender::new(true));
        let stop = CancellationToken::new();
        let forwarding = forward(listener, target, whole.subscribe());
        tokio::spawn(stop.clone().run_until_cancelled_owned(forwarding));
        Self {
            address,
            whole,
            _stop: stop.drop_guard(),
        }
    }

    /// Where to connect instead of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection and lets no new one through.
    pub fn cut(&self) {
        let _was = self.whole.send_replace(false);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        let _was = self.whole.send_replace(true);
    }
}

async fn forward(listener: TcpListener, target: SocketAddr, whole: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            continue;
        };
        let mut state = whole.clone();
        connections.spawn(async move {
            if !*state.borrow_and_update() {
                return;
            }
            let Ok(mut server) = TcpStream::connect(target).await else {
                return;
            };
            tokio::select! {
                _ended = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                _cut = state.wait_for(|whole| !whole) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
