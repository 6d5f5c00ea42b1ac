//! A client that sends exactly the bytes it is given.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends `bytes` to a URL's host and port and reads until the server closes.
///
/// # Panics
/// When the server does not close within the harness's patience.
pub async fn raw(url: &str, bytes: &[u8]) -> String {
    let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server that refuses early may close before everything is written.
        let _refused = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(crate::PATIENCE, talk)
        .await
        .expect("the server closes the connection")
}
