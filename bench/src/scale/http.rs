//! A blocking HTTP/1.1 client of one kept connection: nothing of it is in the measured time but the
//! two system calls.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Limit for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Media type and text.
type Body<'a> = (&'a str, &'a str);

/// A connection to one port of this machine, made when it is first needed.
pub(crate) struct Client {
    port: u16,
    /// Header lines of every request.
    headers: String,
    connection: Option<BufReader<TcpStream>>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Value> {
        let text = || String::from_utf8_lossy(&self.body).into_owned();
        serde_json::from_slice(&self.body).with_context(text)
    }

    /// The answer, unless its status is another one.
    pub(crate) fn expect(self, status: u16) -> Result<Self> {
        if self.status != status {
            let text = String::from_utf8_lossy(&self.body);
            bail!("{} instead of {status}: {text}", self.status);
        }
        Ok(self)
    }
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            headers: String::new(),
            connection: None,
        }
    }

    /// Sends a header with every request from now on.
    pub(crate) fn header(&mut self, name: &str, value: &str) {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        self.send("GET", path, None)
    }

    pub(crate) fn put(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.send("PUT", path, Some((JSON, &body.to_string())))
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.send("POST", path, Some((JSON, &body.to_string())))
    }

    pub(crate) fn post_form(&mut self, path: &str, form: &str) -> Result<Answer> {
        self.send("POST", path, Some((FORM, form)))
    }

    /// Sends a request; a connection on which that fails is not used again.
    fn send(&mut self, method: &str, path: &str, body: Option<Body<'_>>) -> Result<Answer> {
        let result = self.exchange(method, path, body);
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    fn exchange(&mut self, method: &str, path: &str, body: Option<Body<'_>>) -> Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: gateway.example.com\r\n");
        request.push_str(&self.headers);
        if let Some((media_type, body)) = body {
            request.push_str(&format!(
                "Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        } else {
            request.push_str("\r\n");
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let stream = TcpStream::connect(("127.0.0.1", self.port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                none.insert(BufReader::with_capacity(256 * 1024, stream))
            }
        };
        connection.get_mut().write_all(request.as_bytes())?;
        let (answer, keep) = read(connection)?;
        if !keep {
            self.connection = None;
        }
        Ok(answer)
    }
}

/// Reads an answer; also tells whether the connection can be kept.
fn read(connection: &mut BufReader<TcpStream>) -> Result<(Answer, bool)> {
    let mut line = String::new();
    let mut next = |connection: &mut BufReader<TcpStream>| -> Result<String> {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            bail!("the connection was closed");
        }
        Ok(line.trim_end().to_owned())
    };
    let head = next(connection)?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    let status = status.with_context(|| format!("no status line: {head}"))?;
    let (mut length, mut chunked, mut keep) = (0, false, true);
    loop {
        let header = next(connection)?.to_ascii_lowercase();
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        match (name, value.trim()) {
            ("content-length", value) => length = value.parse()?,
            ("transfer-encoding", "chunked") => chunked = true,
            ("connection", "close") => keep = false,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = usize::from_str_radix(&next(connection)?, 16)?;
            connection.take(size as u64).read_to_end(&mut body)?;
            let _end_of_line = next(connection)?;
            if size == 0 {
                break;
            }
        }
    } else {
        body.resize(length, 0);
        connection.read_exact(&mut body)?;
    }
    Ok((Answer { status, body }, keep))
}
