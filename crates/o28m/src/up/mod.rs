//! `o28m up`: the whole platform on one machine, from nothing, set up as the installation guide says.

pub mod credentials;
mod setup;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use o28m_core::Ambient;
use o28m_gateway_admin::htpasswd;

use crate::cli;
use crate::command::serve::{Hangup, Signals};
use crate::config::{Config, Sources};
use crate::exit::Outcome;
use crate::platform::{Bound, Platform};
use crate::{ambient, command, terminal};
use credentials::Credentials;
use setup::Setup;

/// The listeners of `up` with their ports; `--port-offset` is added to each.
const LISTENERS: &[(&str, u16)] = &[
    ("proxy.listen", 8000),
    ("proxy.tls_listen", 8443),
    ("admin.listen", 8001),
    ("status.listen", 8100),
    ("metrics.listen", 9542),
    ("jumper.listen", 8080),
    ("issuer.listen", 8081),
    ("identity.listen", 8180),
    ("identity.management_listen", 9000),
];

/// Which ports to use.
#[derive(Clone, Copy)]
pub enum Ports {
    /// The well-known ones plus an offset.
    Offset(u16),
    /// Free ones picked by the operating system; for tests.
    Any,
}

/// What `up` is asked for.
pub struct Options {
    /// Where database, keys and secrets are kept.
    pub data_dir: PathBuf,
    /// Which ports to use.
    pub ports: Ports,
    /// Name of the zone.
    pub zone: String,
    /// File and environment; `up` overrides what it decides itself.
    pub sources: Sources,
}

/// A platform that is up.
pub struct Running {
    /// The started roles.
    pub platform: Platform,
    /// Secrets and base URLs.
    pub credentials: Credentials,
    /// Held as long as the platform runs, so that no second one uses the directory.
    _lock: File,
}

impl Running {
    /// Stops the platform and frees the data directory; false when requests in flight were cut.
    pub async fn stop(self) -> bool {
        self.platform.shutdown().await
    }
}

/// Runs the command until it is told to stop.
///
/// # Errors
/// A used directory or port, an unreadable directory, a failing database.
pub async fn run(options: &cli::Up) -> Outcome {
    let options_open = options.open;
    let options = Options {
        data_dir: options.data_dir.clone(),
        ports: Ports::Offset(options.port_offset),
        zone: options.zone.clone(),
        sources: Sources {
            file: options.config.clone(),
            environment: std::env::vars().collect(),
            command: BTreeMap::new(),
        },
    };
    // Before anything can be seen to be ready: whoever sees it may send a signal at once.
    let mut signals = Signals::listen(Hangup::Stops)?;
    let running = signals
        .unless_stopped(Box::pin(start(options, ambient::system())))
        .await??;
    announce(&running);
    if options_open {
        open_browser(&discovery_url(&running.credentials));
    }
    command::serve::until_stopped(running.platform, signals).await
}

/// Starts everything and applies the set-up.
///
/// # Errors
/// As [`run`].
pub async fn start(mut options: Options, ambient: Ambient) -> Result<Running> {
    let dir = std::mem::take(&mut options.data_dir);
    let lock = lock_directory(&dir)?;
    let mut credentials = Credentials::load(&dir.join("credentials.env"), &ambient)?;
    let mut config = configure(options, &dir)?;
    crate::platform::init_logging(&config)?;
    let bound = Bound::bind(&config)?;
    publish_urls(&mut config, &bound, &mut credentials);
    // The secrets must be safe before anything is created with them: a kill right after this line
    // leaves a directory that the next start completes.
    credentials.store()?;
    write_htpasswd(&dir, &credentials, &ambient)?;
    let platform = Platform::prepare(config, ambient, bound).await?;
    let admin_basic = basic(&credentials);
    let gateway_url = credentials.get("GATEWAY_URL");
    let zone = platform.config().text("node.zone").to_owned();
    let setup = Setup {
        zone: &zone,
        gateway_url,
        iris_url: credentials.get("IRIS_URL"),
        rover_client_id: credentials.get("ROVER_CLIENT_ID"),
        rover_client_secret: credentials.get("ROVER_CLIENT_SECRET"),
        admin_basic: &admin_basic,
    };
    if let Some(iris) = platform.iris() {
        setup::identity(iris, &setup).await?;
    }
    if let Some(admin) = platform.admin() {
        setup::gateway(admin, &setup).await?;
    }
    let platform = platform.start().await?;
    Ok(Running {
        platform,
        credentials,
        _lock: lock,
    })
}

/// Creates the directory with mode 0700 and locks it.
fn lock_directory(dir: &Path) -> Result<File> {
    let at = || format!("cannot use data directory {}", dir.display());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(at)?;
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let lock = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let lock = lock.with_context(at)?;
    lock.try_lock()
        .map_err(|_| anyhow!("data directory {} is in use by another o28m", dir.display()))?;
    Ok(lock)
}

fn configure(options: Options, dir: &Path) -> Result<Config> {
    let Options {
        ports,
        zone,
        mut sources,
        ..
    } = options;
    let path = |name: &str| dir.join(name).display().to_string();
    for (key, port) in LISTENERS {
        let port = match ports {
            Ports::Offset(offset) => port.saturating_add(offset),
            Ports::Any => 0,
        };
        sources
            .command
            .entry((*key).to_owned())
            .or_insert(format!("127.0.0.1:{port}"));
    }
    let own_database = sources.environment.contains_key("O28M_DATABASE__URL");
    if !own_database && !sources.command.contains_key("database.url") {
        let absolute = std::path::absolute(dir.join("o28m.db"))?;
        let url = format!("sqlite://{}", absolute.display());
        sources.command.insert("database.url".to_owned(), url);
    }
    sources.command.insert("node.zone".to_owned(), zone);
    // The set-up is written as entities.
    sources
        .command
        .insert("gateway.database".to_owned(), "on".to_owned());
    sources
        .command
        .insert("admin.htpasswd_file".to_owned(), path("htpasswd"));
    Ok(crate::config::load(&sources)?)
}

/// Derives every public URL from the bound ports: for the configuration and for the user.
fn publish_urls(config: &mut Config, bound: &Bound, credentials: &mut Credentials) {
    let url =
        |address: Option<SocketAddr>| address.map_or(String::new(), |it| format!("http://{it}"));
    let gateway = url(bound.address("proxy"));
    let iris = format!("{}/auth", url(bound.address("identity")));
    let issuer = format!("{gateway}/auth/realms");
    credentials.set("IRIS_URL", &iris);
    credentials.set("GATEWAY_URL", &gateway);
    let tls = bound.tls_address("proxy");
    let tls = tls.map_or(String::new(), |it| format!("https://{it}"));
    credentials.set("GATEWAY_TLS_URL", &tls);
    credentials.set("GATEWAY_ADMIN_URL", &url(bound.address("admin")));
    credentials.set("ISSUER_URL", &issuer);
    credentials.set("STATUS_URL", &url(bound.address("status")));
    credentials.set("METRICS_URL", &url(bound.address("metrics")));
    config.command("identity.hostname", &iris);
    config.command("jumper.issuer_url", &issuer);
    config.command("issuer.public_url", &issuer);
    config.command("jumper.stargate_url", &gateway);
    config.command(
        "identity.admin_user",
        credentials.get("IRIS_ADMIN_USERNAME"),
    );
    config.command(
        "identity.admin_password",
        credentials.get("IRIS_ADMIN_PASSWORD"),
    );
}

/// Writes the Admin API's user file unless it already fits the credentials.
fn write_htpasswd(dir: &Path, credentials: &Credentials, ambient: &Ambient) -> Result<()> {
    let path = dir.join("htpasswd");
    let user = credentials.get("GATEWAY_ADMIN_USERNAME");
    let password = credentials.get("GATEWAY_ADMIN_PASSWORD");
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    if htpasswd::verify(&current, user, password) {
        return Ok(());
    }
    // A generated password of 190 bits needs no slow hash, and the start stays fast.
    let line = htpasswd::line(user, password, htpasswd::Scheme::Apr1, ambient.rng.as_ref())?;
    credentials::write_private(&path, &format!("{line}\n"))
}

fn basic(credentials: &Credentials) -> String {
    let user = credentials.get("GATEWAY_ADMIN_USERNAME");
    STANDARD.encode(format!(
        "{user}:{}",
        credentials.get("GATEWAY_ADMIN_PASSWORD")
    ))
}

/// A page that proves to a person that the identity provider answers.
fn discovery_url(credentials: &Credentials) -> String {
    format!(
        "{}/realms/default/.well-known/openid-configuration",
        credentials.get("IRIS_URL")
    )
}

/// Prints where everything is and the two commands that prove it works.
fn announce(running: &Running) {
    let get = |key: &str| running.credentials.get(key);
    let (iris, gateway) = (get("IRIS_URL"), get("GATEWAY_URL"));
    let file = running.credentials.path().display();
    terminal::data(&format!(
        "The platform is ready.\n\n\
         \x20 identity provider  {iris}\n\
         \x20 gateway            {gateway}\n\
         \x20 gateway Admin API  {admin}\n\
         \x20 issuer             {issuer}\n\
         \x20 status             {status}/status/ready\n\
         \x20 secrets            {file}\n\n\
         Try it:\n\n\
         \x20 . {file}\n\
         \x20 TOKEN=$(curl -s -d client_id=$ROVER_CLIENT_ID -d client_secret=$ROVER_CLIENT_SECRET \\\n\
         \x20   -d grant_type=client_credentials $IRIS_URL/realms/rover/protocol/openid-connect/token \\\n\
         \x20   | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n\
         \x20 curl -i -H \"Authorization: Bearer $TOKEN\" $GATEWAY_URL/admin-api/consumers\n",
        admin = get("GATEWAY_ADMIN_URL"),
        issuer = get("ISSUER_URL"),
        status = get("STATUS_URL"),
    ));
}

/// Starts the desktop's opener; a machine without one only gets a hint.
fn open_browser(url: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    if std::process::Command::new(program)
        .arg(url)
        .spawn()
        .is_err()
    {
        terminal::warning(&format!("no browser could be opened; try {url}"));
    }
}
