//! One connection to a Redis server.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::resp::{self, Reply};
use super::{Error, Settings, tls};

/// A plain or encrypted stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

pub(super) struct Link(BufReader<Box<dyn Stream>>);

impl Link {
    /// Connects, authenticates and selects the database.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Error> {
        let stream = connect(settings).await.map_err(|source| Error::Connect {
            host: settings.host.clone(),
            port: settings.port,
            source,
        })?;
        let mut link = Self(BufReader::new(stream));
        if let Some(password) = &settings.password {
            let password = password.expose().as_str();
            let _ok = match settings.username.as_deref() {
                Some(username) => link.ask("AUTH", &["AUTH", username, password]).await?,
                None => link.ask("AUTH", &["AUTH", password]).await?,
            };
        }
        if settings.database != 0 {
            let database = settings.database.to_string();
            let _ok = link.ask("SELECT", &["SELECT", &database]).await?;
        }
        Ok(link)
    }

    /// Sends a command and reads its reply.
    pub(super) async fn ask(
        &mut self,
        command: &'static str,
        parts: &[&str],
    ) -> Result<Reply, Error> {
        self.0.write_all(&resp::command(parts)).await?;
        self.0.flush().await?;
        match resp::read(&mut self.0).await? {
            Reply::Error(message) => Err(Error::Refused { command, message }),
            reply => Ok(reply),
        }
    }
}

async fn connect(settings: &Settings) -> std::io::Result<Box<dyn Stream>> {
    let socket = TcpStream::connect((settings.host.as_str(), settings.port)).await?;
    socket.set_nodelay(true)?;
    match &settings.tls {
        None => Ok(Box::new(socket)),
        Some(policy) => Ok(Box::new(
            tls::handshake(socket, &settings.host, policy).await?,
        )),
    }
}
