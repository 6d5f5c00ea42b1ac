//! A throw-away PostgreSQL server for tests.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use this, and a test that cannot start its server should say so loudly"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::write::Retention;
use crate::{Error, Settings, Store};

/// How long a server may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The user of servers that are started by root where there is no user `postgres`: nobody.
const NOBODY: (u32, u32) = (65534, 65534);

/// Starts the server when told to, stops it when told to, and stops it and removes its directory when
/// its standard input ends, which it does with the test process however that ends.
const KEEPER: &str = r#"
directory=$1 programs=$2 port=$3
shift 3
run() {
    "$programs/postgres" -D "$directory/data" -p "$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
        -c shared_buffers=32MB -c max_connections=300 -c wal_level=minimal -c max_wal_senders=0 "$@" \
        </dev/null >>"$directory/log" 2>&1 &
    server=$!
}
run "$@"
while read -r order; do
    case $order in
        start) run "$@" ;;
        stop) kill -INT "$server"; wait "$server" ;;
    esac
    echo done
done
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf "$directory"
"#;

/// URL of a new, empty database on a throw-away server that this process starts once (as an
/// unprivileged user when run as root) and that ends with it.
///
/// `None` when the server programs are not installed, unless `O28M_TEST_POSTGRES=required`.
///
/// # Panics
/// When the server is required or installed but does not start.
pub async fn postgres_url() -> Option<String> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    let starting = tokio::task::spawn_blocking(|| SERVER.get_or_init(Server::start));
    let server = starting.await.expect("start of PostgreSQL");
    Some(server.as_ref()?.create_database().await)
}

/// A store whose change log keeps only `changes_max` changes, however young they are.
///
/// # Errors
/// As [`Store::open`].
pub async fn open_with_short_log(settings: &Settings, changes_max: i64) -> Result<Store, Error> {
    let retention = Retention {
        changes: changes_max,
        age_s: 0,
    };
    Store::open_with(settings, retention).await
}

/// Runs statements on a PostgreSQL database, such as those that make another program's tables.
///
/// # Panics
/// When they fail.
pub async fn execute(url: &str, statements: &str) {
    let options: PgConnectOptions = url.parse().expect("URL");
    let mut connection = options.connect().await.expect("connection");
    sqlx::raw_sql(statements)
        .execute(&mut connection)
        .await
        .expect("statements");
    connection.close().await.expect("close");
}

/// Takes the lock of a SQLite file as whoever writes or migrates does, until it is dropped.
///
/// # Panics
/// When somebody else has it.
pub async fn hold_write_lock(path: &str) -> impl Drop + use<> {
    use sqlx::Executor as _;
    use sqlx::sqlite::SqliteConnectOptions;
    struct Held(
        #[expect(dead_code, reason = "the connection holds the lock")] sqlx::SqliteConnection,
    );
    impl Drop for Held {
        fn drop(&mut self) {}
    }
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.expect("connection");
    connection.execute("BEGIN IMMEDIATE").await.expect("lock");
    Held(connection)
}

/// A PostgreSQL server of one's own, to stop and start at will.
pub struct Server {
    keeper: Child,
    port: u16,
}

impl Server {
    /// Initialises and starts a server; `None` when the server programs are not installed, unless
    /// `O28M_TEST_POSTGRES=required`. Takes seconds and blocks.
    ///
    /// # Panics
    /// When the server is required or installed but does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// As [`Server::start`], with `name=value` settings of the server that replace those for tests.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            let required =
                std::env::var_os("O28M_TEST_POSTGRES").is_some_and(|it| it == "required");
            assert!(
                !required,
                "no PostgreSQL server in PATH or /usr/lib/postgresql"
            );
            return None;
        };
        let directory = tempfile::Builder::new()
            .prefix("o28m-postgres-")
            .tempdir()
            .expect("temporary directory")
            .keep();
        let user = server_user(&directory);
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&directory, Some(uid), Some(gid)).expect("chown");
        }
        initialise(&programs, &directory, user);
        let port = free_port();
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, "keeper"])
            .arg(&directory)
            .arg(&programs)
            .arg(port.to_string())
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An interrupt from the terminal must not reach it before the test process is gone.
            .process_group(0);
        let keeper = become_user(&mut command, user).spawn().expect("sh");
        let server = Self { keeper, port };
        server.wait_until_it_answers(&directory);
        Some(server)
    }

    /// URL of a new, empty database.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn create_database(&self) -> String {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let options: PgConnectOptions = self.url("postgres").parse().expect("URL");
        let mut connection = options.connect().await.expect("connection");
        sqlx::raw_sql(&format!("CREATE DATABASE {name}"))
            .execute(&mut connection)
            .await
            .expect("CREATE DATABASE");
        connection.close().await.expect("close");
        self.url(&name)
    }

    /// Shuts the server down as an operator would; returns when it is gone.
    ///
    /// # Panics
    /// When its keeper is gone.
    pub fn stop(&mut self) {
        self.order("stop");
    }

    /// Starts it again on the same port and data, without waiting until it answers.
    ///
    /// # Panics
    /// When its keeper is gone.
    pub fn restart(&mut self) {
        self.order("start");
    }

    fn order(&mut self, order: &str) {
        let stdin = self.keeper.stdin.as_mut().expect("standard input");
        writeln!(stdin, "{order}").expect("order");
        let stdout = self.keeper.stdout.as_mut().expect("standard output");
        let mut answer = String::new();
        BufReader::new(stdout)
            .read_line(&mut answer)
            .expect("answer");
        assert_eq!(answer, "done\n");
    }

    fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:hunter2@127.0.0.1:{}/{database}",
            self.port
        )
    }

    fn wait_until_it_answers(&self, directory: &Path) {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.answers() {
            assert!(
                Instant::now() < deadline,
                "PostgreSQL does not start: {}",
                std::fs::read_to_string(directory.join("log")).unwrap_or_default()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Whether it accepts sessions. The socket is open a little earlier: it refuses them with an error,
    /// which starts with `E` as an answer to a start-up packet, while `R` asks for or confirms the login.
    fn answers(&self) -> bool {
        use std::io::Read as _;
        let parameters = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        let length = u32::try_from(parameters.len() + 4).unwrap_or_default();
        let mut packet = length.to_be_bytes().to_vec();
        packet.extend_from_slice(parameters);
        let exchange = || -> std::io::Result<u8> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(&packet)?;
            let mut answer = [0_u8];
            stream.read_exact(&mut answer)?;
            Ok(answer.first().copied().unwrap_or_default())
        };
        exchange().is_ok_and(|answer| answer == b'R')
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

/// The directory with `initdb` and `postgres`, the newest of several.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path);
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    installed.sort();
    in_path
        .chain(installed.into_iter().rev())
        .find(|directory| {
            directory.join("initdb").is_file() && directory.join("postgres").is_file()
        })
}

/// User and group to run as; `None` to stay who we are. PostgreSQL refuses to be root.
fn server_user(own_directory: &Path) -> Option<(u32, u32)> {
    let owner = std::fs::metadata(own_directory).expect("metadata").uid();
    if owner != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let postgres = users.lines().find_map(|line| {
        let mut fields = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    Some(postgres.unwrap_or(NOBODY))
}

fn become_user(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    match user {
        Some((uid, gid)) => command.current_dir("/").uid(uid).gid(gid),
        None => command,
    }
}

fn initialise(programs: &Path, directory: &Path, user: Option<(u32, u32)>) {
    let mut command = Command::new(programs.join("initdb"));
    command
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-U", "postgres", "--auth=trust", "--no-sync"])
        .args(["--encoding=UTF8", "--locale=C"]);
    let output = become_user(&mut command, user).output().expect("initdb");
    if !output.status.success() {
        panic!("initdb: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
    listener.local_addr().expect("address").port()
}
