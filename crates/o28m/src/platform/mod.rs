//! The wiring: which component gets which listener, store and key set, and the life of all of them.

mod admin_log;
mod bound;
mod keys;
mod local_issuers;
mod metrics;
mod names;
mod observe;
mod open;
mod readiness;
mod serving;
mod shown;
mod tls;

pub use bound::Bound;
pub use open::{
    check_gateway, declarative, init_logging, is_db_less, settle_routes, store_settings,
};

use std::sync::Arc;

use anyhow::{Context as _, Result};
use o28m_core::Ambient;
use o28m_gateway::{Gateway, LocalEngine};
use o28m_gateway_admin::AdminService;
use o28m_iris::Iris;
use o28m_issuer::Issuer;
use o28m_jumper::Jumper;
use o28m_net::HttpService;
use o28m_net::dns::Resolver;
use o28m_plugins::Deliveries;
use o28m_store::Store;
use o28m_telemetry::metrics::Registry;
use tokio::sync::watch;

use crate::config::Config;
use admin_log::AdminLog;
use keys::Keys;
use local_issuers::PlatformIssuers;
use observe::NodeMetrics;
use serving::Serving;

/// The components of this process, made but perhaps not serving yet.
pub struct Platform {
    config: Config,
    bound: Bound,
    store: Store,
    /// The gateway's entities: in the same store, or in memory.
    entities: Store,
    metrics: Registry,
    resolver: Arc<Resolver>,
    keys: Option<Keys>,
    iris: Option<Arc<Iris>>,
    identity: Option<Doors>,
    issuer: Option<Arc<Issuer>>,
    jumper: Option<Arc<Jumper>>,
    admin: Option<Arc<AdminService>>,
    /// The Admin API as it is served, with its access log.
    admin_door: Option<Arc<dyn HttpService>>,
    gateway: Option<Arc<Gateway>>,
    /// What plugins send on.
    deliveries: Deliveries,
    /// Tells the Admin API which version the data plane applied.
    announce: watch::Sender<i64>,
    serving: Serving,
}

/// The identity provider's public and management doors.
struct Doors {
    public: Arc<dyn HttpService>,
    management: Arc<dyn HttpService>,
}

impl Platform {
    /// Opens the database and makes every component of the configured roles. Nothing is served yet.
    ///
    /// # Errors
    /// An unusable database, key set or setting.
    pub async fn prepare(config: Config, ambient: Ambient, bound: Bound) -> Result<Self> {
        settle_routes(&config)?;
        // Before anything that looks up names.
        let resolver = names::resolver(&config)?;
        let (store, entities) = open::stores(&config).await?;
        let metrics = Registry::default();
        let keys = Keys::load(&config, &store, &ambient).await?;
        let iris = open::iris(&config, &store, &ambient).await?;
        let identity = iris
            .as_ref()
            .map(|iris| open::doors(&config, iris, &metrics));
        let issuer = keys.as_ref().filter(|_| config.has_role("issuer"));
        let issuer = issuer.map(|keys| open::issuer(&config, keys));
        let jumper = keys.as_ref().filter(|_| config.has_role("jumper"));
        let jumper = jumper
            .map(|keys| open::jumper(&config, keys, &metrics, &ambient))
            .transpose()?;
        let (announce, applied) = watch::channel(0);
        let admin = config.has_role("admin").then(|| {
            let applied = config.has_role("proxy").then_some(applied);
            open::admin(&config, &entities, applied, &ambient)
        });
        let admin_door = admin
            .clone()
            .map(|admin| admin_door(&config, admin, &metrics, &ambient))
            .transpose()?;
        let jumper_port = bound.address("jumper").map(|it| it.port());
        let engines = engines(
            jumper.as_ref(),
            jumper_port,
            issuer.as_ref(),
            admin_door.as_ref(),
        );
        let issuers = PlatformIssuers::new(&config, iris.clone(), keys.as_ref());
        let node_id = admin.as_ref().map(|it| it.node_id().to_owned());
        let node_id = node_id.unwrap_or_else(|| ambient.uuid());
        let deliveries = Deliveries::new(&metrics);
        let plugins = open::plugins(&config, issuers, &deliveries, &node_id, &ambient);
        if let Some(admin) = &admin {
            admin.check_plugins_with(plugins.clone());
            open::admin_logs(&config, admin, &metrics)?;
        }
        if open::is_db_less(&config) {
            open::load_declarative_file(&config, &entities, admin.as_deref(), &ambient).await?;
        }
        let gateway = config.has_role("proxy");
        let gateway = gateway
            .then(|| open::gateway(&config, plugins, engines, &metrics, &resolver, &ambient));
        let gateway = gateway.transpose()?;
        if let Some(gateway) = &gateway {
            bound.show_certificates_of(gateway);
        }
        if let Some((admin, gateway)) = admin.as_ref().zip(gateway.as_ref()) {
            admin.show_health_of(gateway);
        }
        let node = NodeMetrics::new(node_id, entities.clone(), gateway.as_ref());
        metrics.collect(node);
        let serving = Serving::default();
        Ok(Self {
            config,
            bound,
            store,
            entities,
            metrics,
            resolver,
            keys,
            iris,
            identity,
            issuer,
            jumper,
            admin,
            admin_door,
            gateway,
            deliveries,
            announce,
            serving,
        })
    }

    /// The configuration in use.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The identity provider, with role `identity`.
    #[must_use]
    pub fn iris(&self) -> Option<&Iris> {
        self.iris.as_deref()
    }

    /// The gateway's Admin API, with role `admin`.
    #[must_use]
    pub fn admin(&self) -> Option<&AdminService> {
        self.admin.as_deref()
    }

    /// Reads what may change while the process runs: the certificates of listeners.
    pub fn reload(&self) {
        self.bound.reload_certificates(&self.config);
    }

    /// Waits until the data plane has applied every change that is in the database now.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn applied(&self) -> Result<()> {
        let newest = self.entities.version().await?;
        if let Some(gateway) = &self.gateway {
            let mut applied = gateway.applied();
            let _closed = applied.wait_for(|version| *version >= newest).await;
        }
        Ok(())
    }
}

/// The Admin API with its access log, when there is to be one.
fn admin_door(
    config: &Config,
    admin: Arc<AdminService>,
    metrics: &Registry,
    ambient: &Ambient,
) -> Result<Arc<dyn HttpService>> {
    let Some(path) = config.path("admin.access_log") else {
        return Ok(admin);
    };
    let log = AdminLog::open(admin, &path, metrics, ambient.clone());
    let log = log.with_context(|| format!("cannot open access log {}", path.display()))?;
    Ok(Arc::new(log))
}

/// The components that stand behind the loopback ports which control planes write into services:
/// constants of the replaced stack, whatever port the component really listens on.
fn engines(
    jumper: Option<&Arc<Jumper>>,
    jumper_port: Option<u16>,
    issuer: Option<&Arc<Issuer>>,
    admin: Option<&Arc<dyn HttpService>>,
) -> Vec<LocalEngine> {
    let jumper = jumper.map(|it| LocalEngine {
        port: 8080,
        listens_on: jumper_port,
        service: Arc::clone(it) as Arc<dyn HttpService>,
        private_headers: &o28m_jumper::CONTROL_HEADERS,
    });
    let issuer = issuer.map(|it| LocalEngine {
        port: 8081,
        listens_on: None,
        service: Arc::clone(it) as Arc<dyn HttpService>,
        private_headers: &[],
    });
    let admin = admin.map(|it| LocalEngine {
        port: 8001,
        listens_on: None,
        service: Arc::clone(it),
        private_headers: &[],
    });
    [jumper, issuer, admin].into_iter().flatten().collect()
}
