//! Makes each component from the configuration. One function for each; nothing is served here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use o28m_core::{Ambient, Secret};
use o28m_gateway::{
    AccessLogFormat, Calculation, Charset, ErrorForms, Gateway, Headers, LocalEngine, PluginKind,
    RouterFlavor, Variables,
};
use o28m_gateway_admin::declarative::{Declarative, Mode};
use o28m_gateway_admin::{AdminService, TargetPost};
use o28m_iris::Iris;
use o28m_issuer::Issuer;
use o28m_jumper::{Jumper, PlaintextMode, ZoneFeed};
use o28m_net::dns::Resolver;
use o28m_plugins::Deliveries;
use o28m_store::{MigrationState, MigrationStep, Store};
use o28m_telemetry::metrics::Registry;
use tokio::sync::watch;

use super::Doors;
use super::keys::Keys;
use super::local_issuers::PlatformIssuers;
use super::{observe, tls};
use crate::config::table::PLUGINS;
use crate::config::{Config, Note, Severity};
use crate::terminal;

/// How long a database that is not there yet is waited for at start.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two attempts.
const DATABASE_RETRY: Duration = Duration::from_secs(1);

/// Starts logging as configured.
///
/// # Errors
/// An unknown level.
pub fn init_logging(config: &Config) -> Result<()> {
    let format = match config.text("log.format") {
        "json" => o28m_telemetry::Format::Json,
        "text" => o28m_telemetry::Format::Text,
        _ if terminal::is_terminal() => o28m_telemetry::Format::Text,
        _ => o28m_telemetry::Format::Json,
    };
    o28m_telemetry::init(config.text("log.level"), format)?;
    for note in &config.notes {
        let Note { at, text, .. } = note;
        match note.severity {
            Severity::Info => tracing::info!(environment.name = %at, "{at} {text}"),
            Severity::Warning => tracing::warn!(environment.name = %at, "{at} {text}"),
        }
    }
    Ok(())
}

/// The store's settings.
#[must_use]
pub fn store_settings(config: &Config) -> o28m_store::Settings {
    o28m_store::Settings {
        url: config.text("database.url").to_owned(),
        schema: config.text("database.schema").to_owned(),
        pool_max: u32::try_from(config.integer("database.pool_max")).unwrap_or(1),
        connect_timeout: config.duration("database.connect_timeout"),
        poll_interval: config.duration("sync.poll_interval"),
    }
}

/// The plugins that may be configured. One that is accepted and then skipped would be a hole, so what
/// this build does not execute is left out: creating it is refused by name.
pub(super) fn enabled_plugins(config: &Config) -> Vec<String> {
    let known: Vec<&str> = PLUGINS.split(',').collect();
    let configured = config.list("plugins.enabled");
    for name in &configured {
        if name != "bundled" && !known.contains(&name.as_str()) {
            tracing::warn!(plugin.name = %name, "plugin is not executed by this build and left out");
        }
    }
    let wanted = |name: &&str| configured.iter().any(|it| it == name || it == "bundled");
    known
        .into_iter()
        .filter(wanted)
        .map(str::to_owned)
        .collect()
}

/// Connects, waiting for a database that starts at the same time as we do, and brings the tables up.
pub(super) async fn store(config: &Config) -> Result<Store> {
    let settings = store_settings(config);
    let deadline = tokio::time::Instant::now() + DATABASE_PATIENCE;
    let store = loop {
        match Store::open(&settings).await {
            Ok(store) => break store,
            Err(error @ o28m_store::Error::Unavailable(_))
                if settings.url.starts_with("postgres")
                    && tokio::time::Instant::now() < deadline =>
            {
                tracing::warn!(error = %anyhow!(error), "database is not available yet");
                tokio::time::sleep(DATABASE_RETRY).await;
            }
            Err(error) => return Err(error).context("cannot open the database"),
        }
    };
    if config.text("database.migrations") == "auto" {
        let _state = store
            .migrate(MigrationStep::Up)
            .await
            .context("cannot migrate the database")?;
        return Ok(store);
    }
    match store.migration_state().await? {
        MigrationState::Current | MigrationState::Newer | MigrationState::Pending => Ok(store),
        MigrationState::Empty | MigrationState::Outdated => {
            bail!("the database tables are missing or old: run `o28m migrate up`")
        }
    }
}

/// Whether the gateway's entities are in memory only.
#[must_use]
pub fn is_db_less(config: &Config) -> bool {
    config.text("gateway.database") == "off"
}

/// Where the platform's state is, and where the gateway's entities are. Without a database for those,
/// roles that keep nothing else need none at all.
pub(super) async fn stores(config: &Config) -> Result<(Store, Store)> {
    if !is_db_less(config) {
        for key in ["gateway.declarative_file", "gateway.declarative_config"] {
            if config.optional(key).is_some() {
                bail!("{key} is only read with gateway.database = \"off\"");
            }
        }
        let store = store(config).await?;
        return Ok((store.clone(), store));
    }
    let settings = o28m_store::Settings {
        url: "sqlite::memory:".to_owned(),
        ..store_settings(config)
    };
    let entities = Store::open(&settings).await?;
    let _state = entities.migrate(MigrationStep::Bootstrap).await?;
    let keeps_state = ["identity", "jumper", "issuer"];
    if keeps_state.into_iter().any(|role| config.has_role(role)) {
        Ok((store(config).await?, entities))
    } else {
        Ok((entities.clone(), entities))
    }
}

/// The gateway's entities as whole configurations.
#[must_use]
pub fn declarative(config: &Config, store: &Store, ambient: &Ambient) -> Declarative {
    let issuers = PlatformIssuers::new(config, None, None);
    // Nothing of them runs: they only look at configurations.
    let deliveries = Deliveries::new(&Registry::default());
    let kinds = plugins(config, issuers, &deliveries, "", ambient);
    Declarative::new(
        store.clone(),
        ambient.clone(),
        &enabled_plugins(config),
        &kinds,
    )
}

/// Without a database: fills the store from the configured file.
pub(super) async fn load_declarative_file(
    config: &Config,
    entities: &Store,
    admin: Option<&AdminService>,
    ambient: &Ambient,
) -> Result<()> {
    let file = config.path("gateway.declarative_file");
    let text = config.optional("gateway.declarative_config");
    let (text, at) = match (file, text) {
        (Some(_), Some(_)) => {
            bail!("set gateway.declarative_file or gateway.declarative_config, not both")
        }
        (Some(path), None) => (read(&path)?, path.display().to_string()),
        (None, Some(text)) => (text.to_owned(), "gateway.declarative_config".to_owned()),
        (None, None) => return Ok(()),
    };
    let load = async {
        match admin {
            Some(admin) => admin.load(&text).await?,
            None => {
                let document = o28m_gateway_admin::declarative::parse(&text)?;
                let declarative = declarative(config, entities, ambient);
                let _imported = declarative.import(document, Mode::Replace).await?;
            }
        }
        anyhow::Ok(())
    };
    load.await.with_context(|| format!("cannot use {at}"))
}

/// The identity provider, with role `identity`.
pub(super) async fn iris(
    config: &Config,
    store: &Store,
    ambient: &Ambient,
) -> Result<Option<Arc<Iris>>> {
    if !config.has_role("identity") {
        return Ok(None);
    }
    let text = |key| config.optional(key).map(str::to_owned);
    let settings = o28m_iris::Settings {
        admin_user: text("identity.admin_user"),
        admin_password: text("identity.admin_password").map(Secret::new),
        admin_client: text("identity.admin_client_id"),
        admin_client_secret: text("identity.admin_client_secret").map(Secret::new),
    };
    let iris = Iris::open(store.clone(), settings, ambient.clone()).await;
    let iris = iris.context("cannot open the identity provider")?;
    if let Some(directory) = config.optional("identity.import_dir") {
        import_realms(&iris, Path::new(directory)).await?;
    }
    Ok(Some(iris))
}

/// Makes the realms of a directory's files that do not exist yet.
async fn import_realms(iris: &Iris, directory: &Path) -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    let (made, skipped) = iris.import_directory(directory, &variable).await?;
    tracing::info!(
        realm.made = ?made,
        realm.skipped = ?skipped,
        "realms imported"
    );
    Ok(())
}

/// The identity provider's public and management doors.
pub(super) fn doors(config: &Config, iris: &Arc<Iris>, metrics: &Registry) -> Doors {
    let settings = o28m_iris_http::Settings {
        relative_path: config
            .text("identity.relative_path")
            .trim_end_matches('/')
            .to_owned(),
        hostname: config.optional("identity.hostname").map(str::to_owned),
        proxy_headers: config.text("identity.proxy_headers") == "xforwarded",
        client_auth_metrics: config.boolean("identity.client_auth_metrics"),
    };
    let public = o28m_iris_http::service(iris.clone(), settings.clone(), metrics.clone());
    let management = o28m_iris_http::management(iris.clone(), settings, metrics.clone());
    Doors { public, management }
}

/// The issuer over the process's keys.
pub(super) fn issuer(config: &Config, keys: &Keys) -> Arc<Issuer> {
    let settings = o28m_issuer::Settings {
        base_path: config.text("issuer.base_path").to_owned(),
        path_prefix: config.text("issuer.path_prefix").to_owned(),
        public_url: config.optional("issuer.public_url").map(str::to_owned),
    };
    Arc::new(Issuer::new(settings, keys.shared()))
}

/// The token gateway over the process's keys.
pub(super) fn jumper(
    config: &Config,
    keys: &Keys,
    metrics: &Registry,
    ambient: &Ambient,
) -> Result<Arc<Jumper>> {
    let trusted_proxies = config
        .optional("jumper.trusted_proxies")
        .map(regex::Regex::new);
    let settings = o28m_jumper::Settings {
        issuer_url: config.text("jumper.issuer_url").to_owned(),
        zone: config.text("node.zone").to_owned(),
        stargate_url: config.text("jumper.stargate_url").to_owned(),
        internet_facing_zones: config.list("jumper.internet_facing_zones"),
        tls_verify: config.text("jumper.certificate_validation") == "strict",
        name: config.text("jumper.name").to_owned(),
        plaintext: match config.text("jumper.plaintext_validation") {
            "strict" => PlaintextMode::Strict,
            "warn" => PlaintextMode::Warn,
            _ => PlaintextMode::Insecure,
        },
        connect_timeout: config.duration("jumper.connect_timeout"),
        response_timeout: config.duration("jumper.response_timeout"),
        trusted_proxies: trusted_proxies
            .transpose()
            .context("jumper.trusted_proxies")?,
        verbose_errors: config.boolean("jumper.verbose_errors"),
        publish_event_url: config.text("jumper.publish_event_url").to_owned(),
        zones_healthy_by_default: config.boolean("jumper.zone_health.default"),
        ..o28m_jumper::Settings::default()
    };
    Ok(Arc::new(Jumper::new(
        settings,
        keys.shared(),
        metrics,
        ambient.clone(),
    )))
}

/// Where news about other zones comes from, when it is to be followed.
pub(super) fn zone_feed(config: &Config) -> Option<ZoneFeed> {
    let millis =
        |key: &str| Duration::from_millis(u64::try_from(config.integer(key)).unwrap_or_default());
    config
        .boolean("jumper.zone_health.enabled")
        .then(|| ZoneFeed {
            host: config.text("jumper.zone_health.host").to_owned(),
            port: u16::try_from(config.integer("jumper.zone_health.port")).unwrap_or_default(),
            index: u32::try_from(config.integer("jumper.zone_health.index")).unwrap_or_default(),
            password: config
                .optional("jumper.zone_health.password")
                .map(|password| Secret::new(password.to_owned())),
            channel: config.text("jumper.zone_health.channel").to_owned(),
            connect_timeout: millis("jumper.zone_health.connect_timeout_ms"),
            timeout: millis("jumper.zone_health.timeout_ms"),
            probe_interval: millis("jumper.zone_health.probe_interval_ms"),
        })
}

/// The gateway's Admin API.
pub(super) fn admin(
    config: &Config,
    store: &Store,
    applied: Option<watch::Receiver<i64>>,
    ambient: &Ambient,
) -> Arc<AdminService> {
    let settings = o28m_gateway_admin::Settings {
        htpasswd_file: config.path("admin.htpasswd_file"),
        enabled_plugins: enabled_plugins(config),
        configuration: super::shown::configuration(config),
        strict: config.boolean("sync.strict"),
        db_less: is_db_less(config),
        read_only_users: config.list("admin.read_only_users"),
        gui_urls: config.list("admin.gui_url"),
        headers: o28m_gateway_admin::Headers::named(
            config.list("proxy.headers").iter().map(String::as_str),
        ),
        kong_version: config.optional("admin.kong_version").map(str::to_owned),
        body_bytes_max: usize::try_from(config.integer("admin.body_bytes_max")).ok(),
    };
    let admin = AdminService::new(store.clone(), settings, applied, ambient.clone());
    admin.answer_target_posts(match config.text("admin.target_post") {
        "kong39" => TargetPost::Kong39,
        "always200" => TargetPost::Always200,
        _ => TargetPost::Idempotent,
    });
    admin
}

/// What the Admin API counts, and who changed what.
pub(super) fn admin_logs(config: &Config, admin: &AdminService, metrics: &Registry) -> Result<()> {
    admin.count_in(metrics);
    if let Some(path) = config.path("admin.audit_log") {
        let opened = admin.audit_to(&path);
        opened.with_context(|| format!("cannot open the audit log {}", path.display()))?;
    }
    Ok(())
}

/// The plugins of this build.
pub(super) fn plugins(
    config: &Config,
    issuers: PlatformIssuers,
    deliveries: &Deliveries,
    node_id: &str,
    ambient: &Ambient,
) -> Vec<Arc<dyn PluginKind>> {
    o28m_plugins::kinds(o28m_plugins::Dependencies {
        ambient: ambient.clone(),
        local_issuers: Arc::new(issuers),
        blocked_issuers: config.list("jwt.blocked_issuers"),
        jwt_keycloak_priority: config.text("jwt.priority").parse().ok(),
        deliveries: deliveries.clone(),
        instrumentations: observe::instrumentations(config),
        node_id: node_id.to_owned(),
        hostname: observe::hostname(),
    })
}

/// The data plane.
pub(super) fn gateway(
    config: &Config,
    kinds: Vec<Arc<dyn PluginKind>>,
    engines: Vec<LocalEngine>,
    metrics: &Registry,
    resolver: &Arc<Resolver>,
    ambient: &Ambient,
) -> Result<Arc<Gateway>> {
    let settings = o28m_gateway::Settings {
        resolver: Some(resolver.clone()),
        ..gateway_settings(config)?
    };
    let gateway = Gateway::new(settings, kinds, engines, metrics, ambient.clone());
    gateway.map_err(named)
}

/// Says which setting of ours an error of the data plane is about.
fn named(error: o28m_gateway::Error) -> anyhow::Error {
    use o28m_gateway::Error;
    let key = match &error {
        Error::TrustedIp(_) => "proxy.trusted_ips",
        Error::RealIpHeader(_) => "proxy.real_ip_header",
        Error::Charset(_) => "proxy.charset",
        Error::ErrorTemplate { format, .. } => {
            let key = format!("proxy.errors.template_{format}");
            return anyhow!(error).context(key);
        }
        Error::ErrorType(_) => "proxy.errors.default_type",
        Error::AccessLog { .. } => "log.access",
        Error::UpstreamCa(_) => "upstream.tls.ca",
        Error::Store(_) => return error.into(),
    };
    anyhow!(error).context(key)
}

/// Finds what is wrong with the settings of the data plane that only it can tell.
///
/// # Errors
/// What [`Platform::prepare`] would fail with.
pub fn check_gateway(config: &Config) -> Result<()> {
    gateway_settings(config)?.check().map_err(named)
}

fn gateway_settings(config: &Config) -> Result<o28m_gateway::Settings> {
    let headers = config.list("proxy.headers");
    if headers.iter().any(|it| it == "Via") {
        tracing::warn!("proxy.headers: Via is never added, as in the platform's own image");
    }
    let permille = |text: &str| Some((text.parse::<f64>().ok()? * 1000.0).round() as u32);
    Ok(o28m_gateway::Settings {
        // The process has one for everything, made before.
        resolver: None,
        hash_at_random: config.text("upstream.hash_without_value") == "random",
        recovery_time: Some(config.duration("upstream.recovery_time")).filter(|it| !it.is_zero()),
        trusted_ips: config.list("proxy.trusted_ips"),
        real_ip_header: config.text("proxy.real_ip_header").to_owned(),
        real_ip_recursive: config.boolean("proxy.real_ip_recursive"),
        upstream_tls_verify: config.boolean("upstream.tls.verify"),
        upstream_tls_verify_depth: u8::try_from(config.integer("upstream.tls.verify_depth")).ok(),
        upstream_tls_ca: tls::upstream_ca(config)?,
        upstream_identity: tls::upstream_identity(config)?,
        variables: Variables::new(|name| std::env::var(name).ok()),
        access_log: config.path("log.access"),
        body_memory_bytes_max: usize::try_from(config.integer("proxy.body_memory_bytes_max")).ok(),
        access_log_format: match config.text("log.access_format") {
            "kong" => AccessLogFormat::Kong,
            _ => AccessLogFormat::Platform,
        },
        headers: Headers::named(headers.iter().map(String::as_str)),
        server_token: Some(server_token(config)?),
        hides_request_id: config.list("proxy.headers_upstream").is_empty(),
        keeps_identity_headers: config.boolean("proxy.keep_identity_headers"),
        body_bytes_max: u64::try_from(config.integer("proxy.body_bytes_max")).ok(),
        charset: Charset::parse(config.text("proxy.charset")).map_err(named)?,
        errors: error_forms(config)?,
        port_maps: config.port_maps("proxy.port_maps"),
        debug_headers: config.boolean("proxy.debug_header"),
        strict_host: config.boolean("proxy.tls.strict_host"),
        early_hints: config.boolean("proxy.early_hints"),
        websocket_idle_timeout: config.optional_duration("proxy.websocket_idle_timeout"),
        request_timeout: config.optional_duration("upstream.request_timeout"),
        retry_permille: config.optional("upstream.retry_ratio").and_then(permille),
        router_flavor: router_flavor(config),
        route_match_calculation: match config.text("proxy.route_match_calculation") {
            "strict" => Calculation::Strict,
            _ => Calculation::Original,
        },
    })
}

fn server_token(config: &Config) -> Result<http::HeaderValue> {
    const KEY: &str = "proxy.server_token";
    let text = config.text(KEY);
    if text.trim().is_empty() {
        bail!("{KEY} is empty: leave Server out of proxy.headers instead");
    }
    http::HeaderValue::from_str(text).with_context(|| format!("{KEY} is no header value"))
}

fn error_forms(config: &Config) -> Result<ErrorForms> {
    let template = |format: &str| {
        let key = format!("proxy.errors.template_{format}");
        let path = config.path(&key);
        let text = path.map(|path| read(&path)).transpose();
        text.with_context(|| key.clone())
    };
    Ok(ErrorForms {
        html: template("html")?,
        json: template("json")?,
        xml: template("xml")?,
        plain: template("plain")?,
        default_type: config.text("proxy.errors.default_type").to_owned(),
        minimal: config.text("proxy.errors.detail") == "minimal",
    })
}

fn router_flavor(config: &Config) -> RouterFlavor {
    RouterFlavor::named(config.text("proxy.router_flavor")).unwrap_or_default()
}

/// Settles for this process on the fields that routes have; before anything looks at an entity.
///
/// # Errors
/// When it was settled otherwise.
pub fn settle_routes(config: &Config) -> Result<()> {
    o28m_kong::settle_router_flavor(router_flavor(config)).context("proxy.router_flavor")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
