//! One connection to a Redis or Valkey server, plain or over TLS. How many there are, and what is done
//! when the server fails, is for whoever uses it.

mod resp;

use std::io;

use o28m_core::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{TlsPolicy, tls_handshake};
use crate::transport::Transport;
pub use resp::Reply;

/// Which server, and who asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User of the access control list; used with a password only.
    pub username: Option<String>,
    /// Password; without one nothing is authenticated.
    pub password: Option<Secret<String>>,
    /// Database to select; 0 is selected already.
    pub database: i64,
    /// How its certificate is treated; `None` for a plain connection.
    pub tls: Option<TlsPolicy>,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("failed to connect to {host}:{port}")]
    Connect {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("failed to talk to the server")]
    Io(#[from] io::Error),
    /// The server does not speak RESP, or says too much.
    #[error("the server's reply cannot be read")]
    Protocol,
    /// The server answered with an error.
    #[error("the server refused {command}: {message}")]
    Refused {
        /// The command.
        command: &'static str,
        /// Its message.
        message: String,
    },
}

/// A connection.
pub struct Link {
    transport: Transport,
    /// Read, and not yet taken as a reply.
    buffer: Vec<u8>,
}

impl Link {
    /// Connects, and encrypts where that is wanted.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn connect(server: &Server) -> Result<Self, Error> {
        let transport = connect(server).await.map_err(|source| Error::Connect {
            host: server.host.clone(),
            port: server.port,
            source,
        })?;
        Ok(Self {
            transport,
            buffer: Vec::new(),
        })
    }

    /// Authenticates and selects the database.
    ///
    /// # Errors
    /// [`Error`]; a wrong password is [`Error::Refused`].
    pub async fn log_in(&mut self, server: &Server) -> Result<(), Error> {
        if let Some(password) = &server.password {
            let password = password.expose().as_str();
            match server.username.as_deref() {
                Some(username) => self.ask("AUTH", &[username, password]).await?,
                None => self.ask("AUTH", &[password]).await?,
            };
        }
        if server.database != 0 {
            self.ask("SELECT", &[&server.database.to_string()]).await?;
        }
        Ok(())
    }

    /// Sends a command and reads its reply.
    ///
    /// # Errors
    /// [`Error`]; the connection is of use after [`Error::Refused`] alone.
    ///
    /// # Cancel safety
    /// None: the reply may come later, as if it were the next one's.
    pub async fn ask(&mut self, command: &'static str, arguments: &[&str]) -> Result<Reply, Error> {
        self.send(command, arguments).await?;
        match self.next().await? {
            Reply::Error(message) => Err(Error::Refused { command, message }),
            reply => Ok(reply),
        }
    }

    /// Sends a command.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn send(&mut self, command: &str, arguments: &[&str]) -> Result<(), Error> {
        let parts: Vec<&str> = std::iter::once(command)
            .chain(arguments.iter().copied())
            .collect();
        self.transport.write_all(&resp::command(&parts)).await?;
        Ok(self.transport.flush().await?)
    }

    /// The next reply, whatever it is.
    ///
    /// # Errors
    /// [`Error::Io`], also when the server closes, and [`Error::Protocol`].
    ///
    /// # Cancel safety
    /// What was read is kept for the next call.
    pub async fn next(&mut self) -> Result<Reply, Error> {
        loop {
            let parsed = resp::parse(&self.buffer);
            if let Some((reply, length)) = parsed.map_err(|_| Error::Protocol)? {
                self.buffer.drain(..length);
                return Ok(reply);
            }
            let mut reading = (&mut self.transport).take(resp::REPLY_BYTES_MAX as u64);
            if reading.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

async fn connect(server: &Server) -> io::Result<Transport> {
    let socket = TcpStream::connect((server.host.as_str(), server.port)).await?;
    socket.set_nodelay(true)?;
    let Some(policy) = &server.tls else {
        return Ok(Transport::Plain(socket));
    };
    let stream = tls_handshake(socket, &server.host, policy).await?;
    Ok(Transport::Tls(Box::new(stream.into())))
}
