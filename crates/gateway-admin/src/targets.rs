//! Targets of upstreams, and their health: the one kind of entity whose endpoints Kong treats in its
//! own way (spec gateway-admin 9.5).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::{Response, StatusCode};
use o28m_core::id;
use o28m_gateway::{Resolution, TargetHealth, UpstreamHealth};
use o28m_kong::{Entity, Foreign, entity};
use o28m_net::Body;
use o28m_store::{Object, OnDelete, Query, Record, Reference, Write};
use serde_json::{Value, json};

use crate::api::Api;
use crate::body::Members;
use crate::endpoints::{Endpoint, Pattern};
use crate::list::{self, Arguments, Page};
use crate::problem::Problem;
use crate::reply;
use crate::resolve::Selector;
use crate::write::{Fixed, belongs};

/// Targets read from the store at once.
const READ_AT_ONCE: u32 = 1000;

/// How a `POST` of a target is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetPost {
    /// 201; 409 when the target is there already. As Kong 3.9.
    Kong39,
    /// 201; 200 and the updated target when it is there already. As Kong 2.8.
    #[default]
    Idempotent,
    /// 200 in both cases, which the control plane needs.
    Always200,
}

/// The endpoints below `/upstreams/{upstream}`.
#[derive(Clone, Copy)]
pub(crate) enum TargetEndpoint {
    /// `/targets`, with the page as asked for.
    Collection,
    /// `/targets/all`
    All,
    /// `/targets/{target}`
    Single,
    /// `/targets/{target}/healthy`, `/unhealthy`, and the same for one address.
    Mark { healthy: bool },
    /// `/health`
    Health,
}

impl TargetEndpoint {
    pub(crate) const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Collection => &["GET", "POST"],
            Self::All | Self::Health => &["GET"],
            Self::Single => &["DELETE", "GET", "PATCH", "PUT"],
            Self::Mark { .. } => &["PUT"],
        }
    }
}

/// The paths of targets.
pub(crate) fn patterns() -> Vec<Pattern> {
    let below = |path: &str, endpoint| {
        let path = format!("/upstreams/{{upstreams}}{path}");
        Pattern::new(&path, Endpoint::Targets(endpoint))
    };
    let (healthy, unhealthy) = (
        TargetEndpoint::Mark { healthy: true },
        TargetEndpoint::Mark { healthy: false },
    );
    vec![
        below("/health", TargetEndpoint::Health),
        below("/targets", TargetEndpoint::Collection),
        below("/targets/all", TargetEndpoint::All),
        below("/targets/{targets}", TargetEndpoint::Single),
        below("/targets/{targets}/healthy", healthy),
        below("/targets/{targets}/unhealthy", unhealthy),
        below("/targets/{targets}/{address}/healthy", healthy),
        below("/targets/{targets}/{address}/unhealthy", unhealthy),
    ]
}

/// The declarations, which exist.
fn declared() -> Result<(&'static Entity, &'static Entity, &'static Foreign), Problem> {
    let found = entity("targets").and_then(|targets| {
        let foreign = targets.foreign.first()?;
        Some((entity(foreign.entity)?, targets, foreign))
    });
    found.ok_or(Problem::Internal)
}

impl Api {
    /// Answers a request below `/upstreams/{upstream}`.
    pub(crate) async fn targets(
        &self,
        endpoint: TargetEndpoint,
        parameters: &[String],
        method: &str,
        path: &str,
        arguments: &Arguments,
        members: &Members,
    ) -> Result<Response<Body>, Problem> {
        let (upstreams, targets, foreign) = declared()?;
        let first = parameters.first().map_or("", String::as_str);
        let selector = Selector::new(upstreams, first, None)?;
        let upstream = selector.find(self.store(), upstreams).await?;
        let upstream = upstream.ok_or(Problem::NotFound)?;
        let fixed = Some((foreign.field, upstream.id.as_str()));
        match (endpoint, method) {
            (TargetEndpoint::Health, _) => self.health(&upstream, path, arguments).await,
            (TargetEndpoint::Collection, "POST") => self.post_target(targets, members, fixed).await,
            (TargetEndpoint::Collection | TargetEndpoint::All, _) => {
                let (page, position) = Page::parse_by_position(arguments)?;
                let found = self.page_of_targets(&page, position, &upstream.id).await?;
                let body = list::entities_from(&page, position, path, found);
                Ok(reply::json(StatusCode::OK, &body))
            }
            (TargetEndpoint::Single, "GET") => {
                let target = self.find_target(parameters, fixed).await?;
                Ok(reply::json(StatusCode::OK, &target.body))
            }
            (TargetEndpoint::Single, "DELETE") => {
                let target = self.find_target(parameters, fixed).await?;
                let selector = Selector::Id(target.id);
                let version = self.delete(targets, &selector, fixed).await?;
                self.wait_applied(version).await;
                Ok(reply::empty(StatusCode::NO_CONTENT))
            }
            (TargetEndpoint::Single, _) => {
                let target = self.find_target(parameters, fixed).await?;
                let selector = Selector::Id(target.id);
                let written = self.patch(targets, &selector, members, fixed).await?;
                self.written(StatusCode::OK, written).await
            }
            (TargetEndpoint::Mark { healthy }, _) => {
                let target = self.find_target(parameters, fixed).await?;
                let address = parameters.get(2).map(String::as_str);
                self.mark(&upstream, &target, address, healthy).await
            }
        }
    }

    /// A target of the upstream, by id or by its normal form.
    async fn find_target(
        &self,
        parameters: &[String],
        fixed: Fixed<'_>,
    ) -> Result<Record, Problem> {
        let (_, targets, _) = declared()?;
        let text = parameters.get(1).map_or("", String::as_str);
        let normal = if id::is_uuid(text) {
            None
        } else {
            o28m_kong::normal_target(text)
        };
        let selector = Selector::new(targets, normal.as_deref().unwrap_or(text), fixed)?;
        let found = selector.find(self.store(), targets).await?;
        found
            .filter(|record| belongs(record, fixed))
            .ok_or(Problem::NotFound)
    }

    async fn post_target(
        &self,
        targets: &'static Entity,
        members: &Members,
        fixed: Fixed<'_>,
    ) -> Result<Response<Body>, Problem> {
        let mode = self.target_post();
        let created = match mode {
            TargetPost::Always200 => StatusCode::OK,
            TargetPost::Kong39 | TargetPost::Idempotent => StatusCode::CREATED,
        };
        let problem = match self.create(targets, members, fixed).await {
            Ok(written) => return self.written(created, written).await,
            Err(problem) => problem,
        };
        let taken = match (&problem, mode) {
            (_, TargetPost::Kong39) => None,
            (Problem::Unique(fields), _) => fields.get("target").and_then(Value::as_str),
            _ => None,
        };
        let Some(taken) = taken else {
            return Err(problem);
        };
        let selector = Selector::new(targets, taken, fixed)?;
        let written = self.patch(targets, &selector, members, fixed).await?;
        self.written(StatusCode::OK, written).await
    }

    /// Every target of an upstream, the newest first.
    async fn targets_of(&self, upstream: &str, page: &Page<'_>) -> Result<Vec<Record>, Problem> {
        let mut all: Vec<Record> = Vec::new();
        loop {
            let after = all.last().map(|it| it.id.clone());
            let query = Query {
                kind: "targets",
                reference: Some(("upstream", upstream)),
                tags: page.tags.clone(),
                after: after.as_deref(),
                limit: READ_AT_ONCE,
                ..Query::default()
            };
            let found = self.store().list(&query).await?;
            let is_last = found.len() < READ_AT_ONCE as usize;
            all.extend(found);
            if is_last {
                break;
            }
        }
        let age = |it: &Record| it.body.get("created_at").and_then(Value::as_f64);
        all.sort_by(|a, b| {
            let newest = age(b)
                .unwrap_or_default()
                .total_cmp(&age(a).unwrap_or_default());
            newest.then_with(|| a.id.cmp(&b.id))
        });
        Ok(all)
    }

    async fn page_of_targets(
        &self,
        page: &Page<'_>,
        position: usize,
        upstream: &str,
    ) -> Result<Vec<Record>, Problem> {
        let all = self.targets_of(upstream, page).await?;
        let rest = all.into_iter().skip(position);
        Ok(rest.take(page.limit() as usize).collect())
    }

    /// Sets the health of a target, or of one of its addresses, on every node: the data planes find the
    /// order in the change feed.
    async fn mark(
        &self,
        upstream: &Record,
        target: &Record,
        address: Option<&str>,
        healthy: bool,
    ) -> Result<Response<Body>, Problem> {
        if !is_checked(&upstream.body) {
            let name = upstream.body.get("name").and_then(Value::as_str);
            let name = name.unwrap_or_default();
            return Err(Problem::Bad(format!("no healthchecker found for {name}")));
        }
        let is_address =
            |it: &str| it.parse::<SocketAddr>().is_ok() || it.parse::<IpAddr>().is_ok();
        if address.is_some_and(|it| !is_address(it)) {
            return Err(Problem::NotFound);
        }
        let name = format!("{} {}", target.id, address.unwrap_or_default());
        let id = id::uuid_v5(&target.id, name.as_bytes()).ok_or(Problem::Internal)?;
        let order = json!({
            "id": id, "target": {"id": target.id}, "upstream": {"id": upstream.id}, "address": address,
            "healthy": healthy, "order": self.ambient().uuid(),
        });
        let write = Write::Upsert(Object {
            kind: o28m_gateway::TARGET_HEALTH,
            id,
            owner: String::new(),
            keys: Vec::new(),
            references: vec![Reference {
                field: "target",
                kind: "targets",
                id: target.id.clone(),
                on_delete: OnDelete::Cascade,
            }],
            tags: Vec::new(),
            body: order,
        });
        let version = self.commit(vec![write]).await?;
        self.wait_applied(Some(version)).await;
        Ok(reply::empty(StatusCode::NO_CONTENT))
    }
}

/// Whether an upstream's health checks are on.
fn is_checked(upstream: &Value) -> bool {
    let checks = upstream.get("healthchecks").cloned().unwrap_or_default();
    serde_json::from_value::<o28m_kong::HealthChecks>(checks).is_ok_and(|it| it.is_on())
}

/// Health as this node's data plane sees it.
impl Api {
    async fn health(
        &self,
        upstream: &Record,
        path: &str,
        arguments: &Arguments,
    ) -> Result<Response<Body>, Problem> {
        let seen = self.data_plane().and_then(|it| it.health_of(&upstream.id));
        if arguments.get("balancer_health").is_some_and(|it| it != "0") {
            return Ok(self.balancer_health(upstream, seen.as_ref()));
        }
        let (page, position) = Page::parse_by_position(arguments)?;
        let found = self.page_of_targets(&page, position, &upstream.id).await?;
        let is_on = is_checked(&upstream.body);
        let shown = found.into_iter().map(|mut record| {
            let target = seen
                .as_ref()
                .and_then(|it| it.targets.iter().find(|it| it.id == record.id));
            let (health, data) = show(target, is_on);
            if let Value::Object(body) = &mut record.body {
                body.insert("health".to_owned(), json!(health));
                body.insert("data".to_owned(), data);
            }
            record
        });
        let mut body = list::entities_from(&page, position, path, shown.collect());
        if let Value::Object(body) = &mut body {
            body.insert("node_id".to_owned(), json!(self.node_id()));
        }
        Ok(reply::json(StatusCode::OK, &body))
    }

    fn balancer_health(&self, upstream: &Record, seen: Option<&UpstreamHealth>) -> Response<Body> {
        let is_on = is_checked(&upstream.body);
        let health = match seen {
            Some(it) if it.healthy => "HEALTHY",
            Some(_) => "UNHEALTHY",
            None => OFF,
        };
        let hosts = seen.map_or(&[][..], |it| &it.targets);
        let details: Vec<Value> = hosts.iter().map(|it| show(Some(it), is_on).1).collect();
        let weights = |available: Option<bool>| total(hosts, available);
        let body = json!({
            "node_id": self.node_id(),
            "data": {
                "id": upstream.id,
                "health": if is_on { health } else { OFF },
                "balancer_health": health,
                "details": {
                    "healthy": seen.is_some_and(|it| it.healthy),
                    "weight": {
                        "total": weights(None),
                        "available": weights(Some(true)),
                        "unavailable": weights(Some(false)),
                    },
                    "hosts": details,
                },
            },
        });
        reply::json(StatusCode::OK, &body)
    }
}

const OFF: &str = "HEALTHCHECKS_OFF";

/// The weight of all addresses, or of those in that state.
fn total(targets: &[TargetHealth], available: Option<bool>) -> u64 {
    let addresses = targets.iter().flat_map(|it| &it.addresses);
    let counted = addresses.filter(|it| available.is_none_or(|state| it.available == state));
    counted.map(|it| u64::from(it.weight)).sum()
}

/// Kong's word for where the addresses come from, or why there are none.
fn resolution(of: &Resolution) -> Cow<'static, str> {
    Cow::Borrowed(match of {
        Resolution::A => "A",
        Resolution::Aaaa => "AAAA",
        Resolution::Srv => "SRV",
        Resolution::None(None) => "unknown",
        Resolution::None(Some(failure)) => return Cow::Owned(failure.to_string()),
    })
}

/// Kong's word for a target's health, and what is known of its addresses.
fn show(target: Option<&TargetHealth>, is_on: bool) -> (&'static str, Value) {
    let Some(target) = target else {
        return (OFF, Value::Null);
    };
    let health = |available: bool| match (is_on, available) {
        (false, _) => OFF,
        (true, true) => "HEALTHY",
        (true, false) => "UNHEALTHY",
    };
    let addresses = target.addresses.iter().map(|it| {
        json!({
            "ip": it.ip, "port": it.port, "weight": it.weight, "health": health(it.available),
        })
    });
    let one = std::slice::from_ref(target);
    let data = json!({
        "host": target.host, "port": target.port, "dns": resolution(&target.resolution),
        "nodeWeight": target.weight,
        "weight": {
            "total": total(one, None),
            "available": total(one, Some(true)),
            "unavailable": total(one, Some(false)),
        },
        "addresses": addresses.collect::<Vec<_>>(),
    });
    let word = if target.addresses.is_empty() {
        "DNS_ERROR"
    } else {
        health(target.addresses.iter().any(|it| it.available))
    };
    (word, data)
}
