//! From one snapshot to the next: parse what changed, take the old out, put the new in.

use std::sync::Arc;

use o28m_kong::{
    Acl, CaCertificate, Certificate, Consumer, ForeignKey, Route, RouterFlavor, Service, Sni,
    Target, Upstream, Vault,
};
use o28m_router::Calculation;
use o28m_store::{Record, Stored};
use serde::Deserialize;
use serde_json::Value;

use super::certificates::User;
use super::skipped::Broken;
use super::upstreams::Touched;
use super::{
    EnginePorts, Id, Kinds, RouteEntry, ServiceEntry, Snapshot, UpstreamTls, Variables, number,
};
use crate::balance::Balancing;

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
    "certificates",
    "snis",
    "ca_certificates",
    "vaults",
    TARGET_HEALTH,
];

/// Those of them that others refer to while they are compiled.
pub(crate) const FIRST_KINDS: &[&str] = &["vaults", "certificates", "ca_certificates"];

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
    pub(crate) engine_ports: EnginePorts,
    /// What secures the connections of services that do not say.
    pub(crate) upstream_tls: UpstreamTls,
    /// How routes are matched.
    pub(crate) flavor: RouterFlavor,
    /// How matching routes are ranked.
    pub(crate) calculation: Calculation,
    /// What snapshots share of targets.
    pub(crate) balancing: Arc<Balancing>,
    /// What vaults may read.
    pub(crate) variables: Variables,
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

/// Whether it takes much longer to read objects of this kind than of others.
pub(crate) fn is_costly(kind: &str) -> bool {
    kind == "certificates"
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

impl Snapshot {
    /// The state after `updates`. Entities that cannot be used are reported and left out; the rest
    /// is used. Plugins and certificates whose entity `previous` has in the same version are taken from
    /// there.
    ///
    /// The old state of everything in the batch is taken out before anything new is put in: names
    /// and scopes may have moved between entities.
    pub(crate) fn apply(
        &self,
        compiler: &Compiler,
        mut updates: Vec<Update>,
        version: i64,
        previous: Option<&Self>,
    ) -> Self {
        let mut next = self.clone();
        next.version = version;
        updates.extend(self.references.affected_by(&updates));
        updates.sort_by_key(|it| !FIRST_KINDS.contains(&it.kind.as_str()));
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
        let mut next = Self::empty(compiler.flavor, compiler.calculation);
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
        // They may take their texts from a vault that comes after them.
        let mut certificates = Vec::new();
        // Routes come last: whether one is routed to depends on its service.
        let mut routes = Vec::new();
        let mut orders = Vec::new();
        for update in updates {
            let Update { kind, id, record } = update;
            if !FIRST_KINDS.contains(&kind.as_str()) {
                next.put_certificates(compiler, &mut certificates, previous, &mut touched);
            }
            match (kind.as_str(), record) {
                (_, None) => {}
                ("certificates", Some(record)) => certificates.push(record),
                ("routes", Some(record)) => {
                    // What waits is small: there may be very many.
                    let route = serde_json::from_value(record.body).map(Arc::new);
                    routes.push((id, route));
                }
                (TARGET_HEALTH, Some(record)) => {
                    // A node that starts does not carry out what it was not there for.
                    if previous.is_none_or(|it| (1..record.version).contains(&it.version)) {
                        orders.push((record.version, record.body));
                    }
                }
                (_, Some(record)) => {
                    let outcome = next.put(compiler, record, previous, &mut touched);
                    next.skipped.note(&kind, &id, outcome);
                }
            }
        }
        next.put_certificates(compiler, &mut certificates, previous, &mut touched);
        next.settle(compiler, &mut touched);
        orders.sort_by_key(|(version, _)| *version);
        for (_, order) in orders {
            next.carry_out(compiler, order);
        }
        for (id, route) in routes {
            let route = route.map_err(Broken::from);
            let outcome = route.and_then(|route| next.put_route(route));
            next.skipped.note("routes", &id, outcome);
        }
    }

    fn take_out(&mut self, kind: &str, id: &str, touched: &mut Touched) {
        self.skipped.forget(kind, id);
        self.references.forget(kind, id);
        match kind {
            "services" => self.remove_service(number(id)),
            "routes" => self.remove_route(id),
            "consumers" => self.consumers.remove(id),
            "acls" => self.consumers.remove_acl(id),
            "plugins" => self.plugins.remove(id),
            "upstreams" => self.remove_upstream(id, touched),
            "targets" => self.upstreams.remove_target(id, touched),
            "certificates" => {
                self.certificates.remove(id);
                touched.certificates.insert(number(id));
            }
            "ca_certificates" => {
                self.certificates.remove_authority(id);
                touched.certificates.insert(number(id));
            }
            "snis" => self.certificates.remove_sni(id),
            "vaults" => self.references.remove_vault(id),
            kind => self.credentials.remove(kind, id),
        }
    }

    /// Takes in certificates that had to wait.
    fn put_certificates(
        &mut self,
        compiler: &Compiler,
        waiting: &mut Vec<Record>,
        previous: Option<&Self>,
        touched: &mut Touched,
    ) {
        for record in waiting.drain(..) {
            let id = record.id.clone();
            let outcome = self.put(compiler, record, previous, touched);
            self.skipped.note("certificates", &id, outcome);
        }
    }

    /// Takes in an object whose old state was taken out.
    fn put(
        &mut self,
        compiler: &Compiler,
        mut record: Record,
        previous: Option<&Self>,
        touched: &mut Touched,
    ) -> Result<(), Broken> {
        let resolved = self.references.resolve(&mut record, &compiler.variables);
        if record.kind == "plugins" {
            return self.put_plugin(compiler, record, previous, resolved);
        }
        let secret = resolved?;
        let version = record.version;
        // What came from a vault may differ although the entity does not.
        let previous = previous.filter(|_| !secret).map(|it| &it.certificates);
        let holds_secrets = record.kind == "certificates" || record.kind.ends_with("credentials");
        let body = record.body;
        let outcome = match record.kind.as_str() {
            "upstreams" => self.put_upstream(body, touched),
            "targets" => self.put_target(compiler, body, touched),
            "services" => self.put_service(compiler, body),
            "consumers" => self.put_consumer(body),
            "acls" => self.put_acl(body),
            "certificates" => {
                let certificate = serde_json::from_value::<Certificate>(body);
                certificate
                    .map_err(Broken::from)
                    .and_then(|certificate| self.certificates.put(&certificate, version, previous))
            }
            "ca_certificates" => {
                let authority = serde_json::from_value::<CaCertificate>(body);
                authority
                    .map_err(Broken::from)
                    .and_then(|authority| self.certificates.put_authority(authority))
            }
            "snis" => {
                let sni = serde_json::from_value::<Sni>(body);
                sni.map(|sni| self.certificates.put_sni(&sni))
                    .map_err(Broken::from)
            }
            "vaults" => {
                let vault = serde_json::from_value::<Vault>(body);
                vault
                    .map(|vault| self.references.put_vault(vault))
                    .map_err(Broken::from)
            }
            kind => self.credentials.put(kind, body).map_err(Broken::from),
        };
        match secret || holds_secrets {
            true => outcome.map_err(Broken::discreet),
            false => outcome,
        }
    }

    fn remove_upstream(&mut self, id: &str, touched: &mut Touched) {
        let upstream = self.upstreams.entity(number(id));
        if let Some(certificate) = upstream.and_then(|it| it.client_certificate.clone()) {
            let user = User::Upstream(number(id));
            self.certificates.remove_user(&certificate.id, user);
        }
        self.upstreams.remove(id, touched);
    }

    /// The name of an upstream that cannot be used stays taken: services that name it must not go to
    /// whatever a resolver makes of it.
    fn put_upstream(&mut self, body: Value, touched: &mut Touched) -> Result<(), Broken> {
        let member = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let claim = member("id").zip(member("name"));
        let upstream: Upstream = match serde_json::from_value(body) {
            Ok(upstream) => upstream,
            Err(error) => {
                if let Some((id, name)) = claim {
                    self.upstreams.claim(&id, name, touched);
                }
                return Err(error.into());
            }
        };
        if let Some(certificate) = &upstream.client_certificate {
            let user = User::Upstream(number(&upstream.id));
            self.certificates.add_user(&certificate.id, user);
        }
        self.upstreams.put(upstream, touched);
        Ok(())
    }

    fn put_target(
        &mut self,
        compiler: &Compiler,
        body: Value,
        touched: &mut Touched,
    ) -> Result<(), Broken> {
        let target: Target = serde_json::from_value(body)?;
        let ports = &compiler.engine_ports;
        match self.upstreams.put_target(&target, ports, touched) {
            true => Ok(()),
            false => Err(Broken::Target),
        }
    }

    /// Compiles upstreams that changed, and whoever has got or lost an upstream or a certificate.
    fn settle(&mut self, compiler: &Compiler, touched: &mut Touched) {
        let mut services = Vec::new();
        for user in self.certificates.users_of(&touched.certificates) {
            match user {
                User::Service(key) => services.push(key),
                User::Upstream(key) => touched.touch(key),
            }
        }
        let settled = self.upstreams.settle(compiler, &self.certificates, touched);
        for (id, outcome) in settled {
            self.skipped.note("upstreams", &id, outcome);
        }
        for name in &touched.names {
            let upstream = self.upstreams.named(name);
            let differs = |key: &Id| {
                let service = self.services.get(key);
                service.is_some_and(|it| it.upstream() != upstream)
            };
            let affected = self.upstreams.services_of(name);
            services.extend(affected.into_iter().filter(differs));
        }
        services.sort_unstable();
        services.dedup();
        for key in services {
            let Some(old) = self.services.get(&key) else {
                continue;
            };
            let service = Service::clone(&old.service);
            let id = service.id.clone();
            let outcome = self.compile_service(compiler, service);
            self.skipped.note("services", &id, outcome);
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
            self.router.check(&route)?;
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
        self.certificates.remove_service(&entry.service, key);
        if !entry.service.enabled {
            self.route_again(key);
        }
    }

    fn put_service(&mut self, compiler: &Compiler, body: Value) -> Result<(), Broken> {
        let service: Service = serde_json::from_value(body)?;
        let verify = compiler.upstream_tls.verify;
        let tls = matches!(service.protocol.as_str(), "https" | "grpcs");
        if tls && !service.tls_verify.unwrap_or(verify) {
            tracing::warn!(
                service.id = %service.id,
                "the upstream's certificate is not verified: anyone on the way can read and answer"
            );
        }
        let (key, enabled) = (number(&service.id), service.enabled);
        let outcome = self.compile_service(compiler, service);
        let Some(entry) = self.services.get(&key) else {
            return outcome;
        };
        self.upstreams.put_service(&entry.service.host, key);
        self.certificates.add_service(&entry.service, key);
        if !enabled {
            self.route_again(key);
        }
        outcome
    }

    /// Puts a service in as its upstream and its certificates are now.
    fn compile_service(&mut self, compiler: &Compiler, service: Service) -> Result<(), Broken> {
        let upstream = self.upstreams.named(&service.host);
        let security = self.certificates.security(&service, &compiler.upstream_tls);
        let outcome = security.outcome;
        let secured = (!security.refused).then_some(security.policy);
        let entry = ServiceEntry::new(service, compiler, upstream, secured)?;
        self.services.insert_mut(entry.key, Arc::new(entry));
        outcome
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
                let outcome = outcome.map_err(Broken::from);
                self.skipped.note("routes", &entry.route.id, outcome);
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
}
