//! From one snapshot to the next: parse what changed, take the old out, put the new in.

use std::sync::Arc;

use http::StatusCode;
use o28m_kong::{Acl, Consumer, ForeignKey, PluginEntity, Route, Service};
use o28m_router::Calculation;
use o28m_store::{Record, Stored};
use serde::Deserialize;
use serde_json::{Value, json};

use super::upstreams::Touched;
use super::{Id, Instance, Kinds, RouteEntry, ServiceEntry, Snapshot, number};
use crate::balance::Balancing;
use crate::{Access, BadConfig, Exchange, Plugin, PluginKind, Verdict, errors};

/// Kinds of stored objects that the data plane looks at.
pub(crate) const ENTITY_KINDS: &[&str] = &[
    "services",
    "routes",
    "consumers",
    "acls",
    "basicauth_credentials",
    "keyauth_credentials",
    "plugins",
    "upstreams",
    "targets",
    TARGET_HEALTH,
];

/// Those of them that others refer to while they are compiled.
pub(crate) const FIRST_KINDS: &[&str] = &[];

/// The store's kind of orders that set the health of a target on every node. Writing one, with
/// `target`, `upstream` (both `{"id": ...}`), `address` (or null) and `healthy`, carries it out.
pub const TARGET_HEALTH: &str = "target_health";

#[derive(Deserialize)]
struct HealthOrder {
    target: ForeignKey,
    address: Option<String>,
    healthy: bool,
}

/// What does not change while the process runs, but shapes what is compiled.
pub(crate) struct Compiler {
    pub(crate) kinds: Kinds,
    /// Ports of the components of this process.
    pub(crate) engine_ports: Vec<u16>,
    /// Verify upstream certificates of services that do not say.
    pub(crate) tls_verify: bool,
    /// How matching routes are ranked.
    pub(crate) calculation: Calculation,
    /// What snapshots share of targets.
    pub(crate) balancing: Arc<Balancing>,
}

/// The state of one object after a change.
pub(crate) struct Update {
    pub(crate) kind: String,
    pub(crate) id: String,
    /// `None` when it is gone.
    pub(crate) record: Option<Record>,
}

impl From<Record> for Update {
    fn from(record: Record) -> Self {
        Self {
            kind: record.kind.clone(),
            id: record.id.clone(),
            record: Some(record),
        }
    }
}

impl From<Stored> for Update {
    /// A text that is no JSON becomes a document that is no entity: it is reported as such.
    fn from(stored: Stored) -> Self {
        Self {
            kind: stored.kind.clone(),
            id: stored.id.clone(),
            record: Some(Record {
                body: serde_json::from_str(&stored.body).unwrap_or_default(),
                kind: stored.kind,
                id: stored.id,
                owner: String::new(),
                version: stored.version,
            }),
        }
    }
}

/// An entity that cannot be used.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the document does not have the expected form")]
    Form(#[from] serde_json::Error),
    #[error(transparent)]
    Route(#[from] o28m_router::BadRoute),
    #[error("the host cannot be sent in a header")]
    Host(#[from] http::header::InvalidHeaderValue),
    #[error("this build has no plugin {0}")]
    Plugin(String),
}

impl Snapshot {
    /// The state after `updates`. Entities that cannot be used are reported and left out; the rest
    /// is used. Plugins whose entity `previous` has in the same version are taken from there.
    ///
    /// The old state of everything in the batch is taken out before anything new is put in: names
    /// and scopes may have moved between entities.
    pub(crate) fn apply(
        &self,
        compiler: &Compiler,
        updates: Vec<Update>,
        version: i64,
        previous: Option<&Self>,
    ) -> Self {
        let mut next = self.clone();
        next.version = version;
        let mut touched = Touched::default();
        for update in &updates {
            next.take_out(&update.kind, &update.id, &mut touched);
        }
        next.put_in(compiler, updates, previous, touched);
        next
    }

    /// The state that `updates` alone make, which may arrive little by little: first those of
    /// [`FIRST_KINDS`]. `previous` is as in [`Snapshot::apply`]; the version is to be set afterwards.
    pub(crate) fn of(
        compiler: &Compiler,
        updates: impl IntoIterator<Item = Update>,
        previous: Option<&Self>,
    ) -> Self {
        let mut next = Self::empty(compiler.calculation);
        next.put_in(compiler, updates, previous, Touched::default());
        next
    }

    /// Takes in objects whose old states were taken out.
    fn put_in(
        &mut self,
        compiler: &Compiler,
        updates: impl IntoIterator<Item = Update>,
        previous: Option<&Self>,
        mut touched: Touched,
    ) {
        let next = self;
        // Routes come last: whether one is routed to depends on its service.
        let mut routes = Vec::new();
        let mut orders = Vec::new();
        for update in updates {
            let Update { kind, id, record } = update;
            let outcome = match (kind.as_str(), record) {
                (_, None) => Ok(()),
                ("routes", Some(record)) => {
                    // What waits is small: there may be very many.
                    let route = serde_json::from_value(record.body).map(Arc::new);
                    routes.push((id, route));
                    continue;
                }
                ("upstreams", Some(record)) => next.put_upstream(record.body, &mut touched),
                ("targets", Some(record)) => next.put_target(compiler, record.body, &mut touched),
                (TARGET_HEALTH, Some(record)) => {
                    // A node that starts does not carry out what it was not there for.
                    if previous.is_none_or(|it| (1..record.version).contains(&it.version)) {
                        orders.push((record.version, record.body));
                    }
                    Ok(())
                }
                ("services", Some(record)) => next.put_service(compiler, record.body),
                ("consumers", Some(record)) => next.put_consumer(record.body),
                ("acls", Some(record)) => next.put_acl(record.body),
                ("plugins", Some(record)) => next.put_plugin(compiler, record, previous),
                (kind, Some(record)) => next
                    .credentials
                    .put(kind, record.body)
                    .map_err(Broken::from),
            };
            report(&kind, &id, outcome);
        }
        next.settle_upstreams(compiler, &touched);
        orders.sort_by_key(|(version, _)| *version);
        for (_, order) in orders {
            next.carry_out(compiler, order);
        }
        for (id, route) in routes {
            let route = route.map_err(Broken::from);
            let outcome = route.and_then(|route| next.put_route(route));
            report("routes", &id, outcome);
        }
    }

    fn take_out(&mut self, kind: &str, id: &str, touched: &mut Touched) {
        match kind {
            "services" => self.remove_service(number(id)),
            "routes" => self.remove_route(id),
            "consumers" => self.consumers.remove(id),
            "acls" => self.consumers.remove_acl(id),
            "plugins" => self.plugins.remove(id),
            "upstreams" => self.upstreams.remove(id, touched),
            "targets" => self.upstreams.remove_target(id, touched),
            kind => self.credentials.remove(kind, id),
        }
    }

    fn put_upstream(&mut self, body: Value, touched: &mut Touched) -> Result<(), Broken> {
        self.upstreams.put(serde_json::from_value(body)?, touched);
        Ok(())
    }

    fn put_target(
        &mut self,
        compiler: &Compiler,
        body: Value,
        touched: &mut Touched,
    ) -> Result<(), Broken> {
        let target = serde_json::from_value(body)?;
        let ports = &compiler.engine_ports;
        self.upstreams.put_target(&target, ports, touched);
        Ok(())
    }

    /// Compiles upstreams that changed, and services that have got or lost one.
    fn settle_upstreams(&mut self, compiler: &Compiler, touched: &Touched) {
        for (id, error) in self.upstreams.settle(&compiler.balancing, touched) {
            report("upstreams", &id, Err(error.into()));
        }
        for name in &touched.names {
            let upstream = self.upstreams.named(name);
            for key in self.upstreams.services_of(name) {
                let Some(old) = self.services.get(&key) else {
                    continue;
                };
                if old.upstream() == upstream {
                    continue;
                }
                let service = Service::clone(&old.service);
                let id = service.id.clone();
                let (ports, verify) = (&compiler.engine_ports, compiler.tls_verify);
                match ServiceEntry::new(service, ports, verify, upstream) {
                    Ok(entry) => self.services.insert_mut(key, Arc::new(entry)),
                    Err(error) => report("services", &id, Err(error.into())),
                }
            }
        }
    }

    /// Sets the health of a target that was told over the Admin API of some node.
    fn carry_out(&self, compiler: &Compiler, order: Value) {
        let Ok(order) = serde_json::from_value::<HealthOrder>(order) else {
            return;
        };
        if let Some(target) = self.upstreams.target(&order.target.id) {
            let address = order.address.as_deref();
            let balancing = &compiler.balancing;
            balancing.force(target.upstream, &target.name, address, order.healthy);
        }
    }

    fn remove_route(&mut self, id: &str) {
        let key = number(id);
        let Some(entry) = self.routes.get(&key).cloned() else {
            return;
        };
        self.routes.remove_mut(&key);
        self.router.take_out(id);
        let Some(service) = entry.service else {
            return;
        };
        if let Some(routes) = self.routes_of_service.get_mut(&service) {
            routes.remove_mut(&key);
            if routes.is_empty() {
                self.routes_of_service.remove_mut(&service);
            }
        }
    }

    fn put_route(&mut self, route: Arc<Route>) -> Result<(), Broken> {
        let entry = RouteEntry::new(route.clone());
        if self.is_routed(&entry) {
            self.router.add(route)?;
        } else {
            // A route of a disabled service must be as sound as any other, or enabling it would
            // fail.
            self.router.clone().add(route)?;
        }
        if let Some(service) = entry.service {
            if let Some(routes) = self.routes_of_service.get_mut(&service) {
                routes.insert_mut(entry.key);
            } else {
                let routes = std::iter::once(entry.key).collect();
                self.routes_of_service.insert_mut(service, routes);
            }
        }
        self.routes.insert_mut(entry.key, Arc::new(entry));
        Ok(())
    }

    /// Routes of disabled services are not matched.
    fn is_routed(&self, route: &RouteEntry) -> bool {
        let service = self.service_of(route);
        service.is_none_or(|it| it.service.enabled)
    }

    fn remove_service(&mut self, key: Id) {
        let Some(entry) = self.services.get(&key).cloned() else {
            return;
        };
        self.services.remove_mut(&key);
        self.upstreams.remove_service(&entry.service.host, key);
        if !entry.service.enabled {
            self.route_again(key);
        }
    }

    fn put_service(&mut self, compiler: &Compiler, body: Value) -> Result<(), Broken> {
        let service: Service = serde_json::from_value(body)?;
        if service
            .ca_certificates
            .as_ref()
            .is_some_and(|it| !it.is_empty())
        {
            tracing::warn!(
                service.id = %service.id,
                "ca_certificates are not supported yet: the system's roots are used"
            );
        }
        if service.protocol == "https" && !service.tls_verify.unwrap_or(compiler.tls_verify) {
            tracing::warn!(
                service.id = %service.id,
                "the upstream's certificate is not verified: anyone on the way can read and answer"
            );
        }
        let upstream = self.upstreams.named(&service.host);
        let (ports, verify) = (&compiler.engine_ports, compiler.tls_verify);
        let entry = ServiceEntry::new(service, ports, verify, upstream)?;
        let (key, enabled) = (entry.key, entry.service.enabled);
        self.upstreams.put_service(&entry.service.host, key);
        self.services.insert_mut(key, Arc::new(entry));
        if !enabled {
            self.route_again(key);
        }
        Ok(())
    }

    /// Puts the routes of a service into the router, or out of it.
    fn route_again(&mut self, service: Id) {
        let routes = self.routes_of_service.get(&service).cloned();
        for key in routes.iter().flatten() {
            let Some(entry) = self.routes.get(key).cloned() else {
                continue;
            };
            if self.is_routed(&entry) {
                let outcome = self.router.add(entry.route.clone());
                report("routes", &entry.route.id, outcome.map_err(Into::into));
            } else {
                self.router.take_out(&entry.route.id);
            }
        }
    }

    fn put_consumer(&mut self, body: Value) -> Result<(), Broken> {
        let consumer: Consumer = serde_json::from_value(body)?;
        self.consumers.put(consumer);
        Ok(())
    }

    fn put_acl(&mut self, body: Value) -> Result<(), Broken> {
        let created_at = body.get("created_at").and_then(Value::as_i64);
        let acl: Acl = serde_json::from_value(body)?;
        self.consumers.put_acl(&acl, created_at.unwrap_or_default());
        Ok(())
    }

    fn put_plugin(
        &mut self,
        compiler: &Compiler,
        record: Record,
        previous: Option<&Self>,
    ) -> Result<(), Broken> {
        let known = previous.and_then(|it| it.plugins.get(&record.id));
        if let Some(known) = known.filter(|it| it.version == record.version) {
            self.plugins.put(known.clone());
            return Ok(());
        }
        let version = record.version;
        let entity: PluginEntity = serde_json::from_value(record.body)?;
        if !entity.enabled {
            return Ok(());
        }
        let Some((rank, kind)) = compiler.kinds.find(&entity.name) else {
            return Err(Broken::Plugin(entity.name));
        };
        let plugin = configure(&compiler.kinds, kind.as_ref(), &entity);
        let instance = Instance::new(&entity, rank, kind.name(), plugin, version);
        self.plugins.put(Arc::new(instance));
        Ok(())
    }
}

/// Without its configuration a plugin cannot do its work, which may be to keep strangers out: what
/// it would have seen is answered with an error instead of being let through.
fn configure(kinds: &Kinds, kind: &dyn PluginKind, entity: &PluginEntity) -> Arc<dyn Plugin> {
    match kinds.instantiate(kind, entity) {
        Ok(plugin) => plugin,
        Err(BadConfig(reason)) => {
            tracing::error!(
                plugin.id = %entity.id,
                plugin.name = %entity.name,
                %reason,
                "plugin cannot be configured: requests it applies to are answered with 500"
            );
            Arc::new(Unusable)
        }
    }
}

/// Stands in for a plugin that cannot be configured.
struct Unusable;

impl Plugin for Unusable {
    fn access<'a>(&'a self, _: &'a mut Exchange) -> Access<'a> {
        let body = json!({"message": "An unexpected error occurred"});
        let response = errors::exit(StatusCode::INTERNAL_SERVER_ERROR, &body);
        Access::Now(Verdict::Respond(response))
    }
}

fn report(kind: &str, id: &str, outcome: Result<(), Broken>) {
    if let Err(error) = outcome {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(
            entity.kind = kind,
            entity.id = id,
            %error,
            cause = cause.unwrap_or_default(),
            "entity cannot be used and is left out"
        );
    }
}
