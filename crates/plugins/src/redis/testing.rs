//! A Redis server for tests: it knows AUTH, SELECT and the counting script.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How it misbehaves.
#[derive(Clone, Copy, Default)]
pub(crate) struct Behaviour {
    /// Answers everything with this error.
    pub(crate) refuse: Option<&'static str>,
    /// Closes each connection after that many answers.
    pub(crate) close_after: Option<usize>,
    /// Never answers.
    pub(crate) silent: bool,
}

#[derive(Default)]
struct State {
    commands: Vec<Vec<String>>,
    connections: usize,
    counters: HashMap<String, (i64, String)>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// What it shows over TLS, where it speaks that.
    pub(crate) certificate: Option<String>,
    state: Arc<Mutex<State>>,
    closed: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        Self::start_with(behaviour, None, None).await
    }

    /// One that shows a certificate of its own for this name.
    pub(crate) async fn start_tls(behaviour: Behaviour, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let config = o28m_net::tls::server_config(certificate.as_bytes(), key.as_bytes());
        let tls = TlsAcceptor::from(config.unwrap());
        Self::start_with(behaviour, Some(tls), Some(certificate)).await
    }

    async fn start_with(
        behaviour: Behaviour,
        tls: Option<TlsAcceptor>,
        certificate: Option<String>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let (closing, closed) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let shared = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let (state, closing, tls) = (shared.clone(), closing.clone(), tls.clone());
                connections.spawn(async move {
                    let _end = match tls {
                        None => serve(socket, &state, behaviour).await,
                        Some(tls) => match tls.accept(socket).await {
                            Ok(stream) => serve(stream, &state, behaviour).await,
                            Err(error) => Err(error),
                        },
                    };
                    closing.send_modify(|count| *count += 1);
                });
            }
        });
        Self {
            address,
            certificate,
            state,
            closed,
            _tasks: tasks,
        }
    }

    pub(crate) fn commands(&self) -> Vec<Vec<String>> {
        self.state.lock().unwrap().commands.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// Value and life time in seconds of each counter.
    pub(crate) fn counters(&self) -> HashMap<String, (i64, String)> {
        self.state.lock().unwrap().counters.clone()
    }

    pub(crate) async fn wait_closed(&self, count: usize) {
        let mut closed = self.closed.clone();
        closed.wait_for(|closed| *closed >= count).await.unwrap();
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    state: &Mutex<State>,
    behaviour: Behaviour,
) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    let mut answers = 0;
    while behaviour.close_after != Some(answers) {
        let command = read(&mut socket).await?;
        if behaviour.silent {
            continue;
        }
        let answer = {
            let mut state = state.lock().unwrap();
            state.commands.push(command.clone());
            match behaviour.refuse {
                Some(error) => format!("-{error}\r\n"),
                None => answer(&mut state.counters, &command),
            }
        };
        socket.write_all(answer.as_bytes()).await?;
        answers += 1;
    }
    Ok(())
}

async fn read(socket: &mut BufReader<impl AsyncRead + Unpin>) -> std::io::Result<Vec<String>> {
    let mut line = String::new();
    if socket.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let count: usize = line[1..].trim().parse().unwrap();
    let mut parts = Vec::new();
    for _ in 0..count {
        line.clear();
        socket.read_line(&mut line).await?;
        let length: usize = line[1..].trim().parse().unwrap();
        let mut part = vec![0; length + 2];
        socket.read_exact(&mut part).await?;
        part.truncate(length);
        parts.push(String::from_utf8(part).unwrap());
    }
    Ok(parts)
}

/// What the counting script does: reads all counters and, when none is at its limit, adds one to each.
fn answer(counters: &mut HashMap<String, (i64, String)>, command: &[String]) -> String {
    if command[0] != "EVAL" {
        return "+OK\r\n".to_owned();
    }
    let count: usize = command[2].parse().unwrap();
    let (keys, arguments) = command[3..].split_at(count);
    let used: Vec<i64> = keys
        .iter()
        .map(|key| counters.get(key).map_or(0, |it| it.0))
        .collect();
    let limit = |at: usize| arguments[2 * at].parse::<f64>().unwrap();
    let open = used
        .iter()
        .enumerate()
        .all(|(at, used)| (*used as f64) < limit(at));
    if open {
        for (at, key) in keys.iter().enumerate() {
            let life_time = arguments[2 * at + 1].clone();
            counters.entry(key.clone()).or_insert((0, life_time)).0 += 1;
        }
    }
    let items: String = used.iter().map(|it| format!(":{it}\r\n")).collect();
    format!("*{}\r\n{items}", used.len())
}
