//! A Redis server for tests: it knows AUTH, SELECT and the counting script.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

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
    state: Arc<Mutex<State>>,
    closed: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
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
                let (state, closing) = (shared.clone(), closing.clone());
                connections.spawn(async move {
                    let _end = serve(socket, &state, behaviour).await;
                    closing.send_modify(|count| *count += 1);
                });
            }
        });
        Self {
            address,
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
    socket: TcpStream,
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

async fn read(socket: &mut BufReader<TcpStream>) -> std::io::Result<Vec<String>> {
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
