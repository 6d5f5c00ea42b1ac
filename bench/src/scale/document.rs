//! The configuration that is loaded: what a control plane makes of a large landscape.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

/// Environments the routes are spread over.
const ENVIRONMENTS: usize = 5;
/// Routes that share one rule of who may call them.
const ROUTES_OF_RULE: usize = 20;

/// How much of each kind.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) routes: usize,
    pub(crate) consumers: usize,
}

impl Size {
    /// A tenth as many consumers as routes.
    pub(crate) fn of(routes: usize) -> Self {
        Self {
            routes,
            consumers: (routes / 10).max(1),
        }
    }

    /// Services, routes, four plugins each, consumers with one group each.
    pub(crate) fn entities(self) -> usize {
        6 * self.routes + 2 * self.consumers
    }
}

/// Writes the configuration in Kong's declarative format.
pub(crate) fn write(path: &Path, size: Size) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"{\"_format_version\":\"3.0\"")?;
    let (routes, consumers) = (0..size.routes, 0..size.consumers);
    collection(&mut file, "services", routes.clone().map(service))?;
    collection(&mut file, "routes", routes.clone().map(route))?;
    collection(&mut file, "plugins", routes.flat_map(plugins))?;
    collection(&mut file, "consumers", consumers.clone().map(consumer))?;
    collection(&mut file, "acls", consumers.map(acl))?;
    file.write_all(b"}")?;
    file.flush()?;
    Ok(())
}

/// Writes one service on `port` of this machine and so many routes to it, the first for `path`, none
/// with a plugin.
pub(crate) fn write_plain(file: &Path, routes: usize, path: &str, port: u16) -> Result<()> {
    let mut file = BufWriter::new(File::create(file)?);
    let service = json!({"name": name(0), "url": format!("http://127.0.0.1:{port}/")});
    file.write_all(b"{\"_format_version\":\"3.0\"")?;
    collection(&mut file, "services", std::iter::once(service))?;
    let routes = (0..routes).map(|at| {
        let api = format!("/eni/team-{}/api-{at}/v1", at % 997);
        let path = if at == 0 { path } else { api.as_str() };
        json!({"name": name(at), "service": {"name": name(0)}, "paths": [path]})
    });
    collection(&mut file, "routes", routes)?;
    file.write_all(b"}")?;
    file.flush()?;
    Ok(())
}

fn collection(
    file: &mut impl std::io::Write,
    name: &str,
    entities: impl Iterator<Item = Value>,
) -> Result<()> {
    write!(file, ",\"{name}\":[")?;
    for (at, entity) in entities.enumerate() {
        if at > 0 {
            file.write_all(b",")?;
        }
        serde_json::to_writer(&mut *file, &entity)?;
    }
    file.write_all(b"]")?;
    Ok(())
}

pub(crate) fn name(at: usize) -> String {
    format!("eni--team-{}--api-{at}-v1", at % 997)
}

fn environment(at: usize) -> String {
    format!("env--env{}", at % ENVIRONMENTS)
}

fn service(at: usize) -> Value {
    json!({
        "name": name(at), "protocol": "https", "host": format!("provider-{}.example.com", at % 1000),
        "port": 443, "path": format!("/eni/api-{at}/v1"),
        "tags": [environment(at), format!("route--{}", name(at))],
    })
}

/// The body of a route by which it can be put again with other paths.
pub(crate) fn route_body(at: usize, path: &str) -> Value {
    json!({
        "service": {"name": name(at)}, "hosts": ["gateway.example.com"], "paths": [path],
        "protocols": ["http", "https"], "strip_path": true,
        "tags": [environment(at), format!("route--{}", name(at))],
    })
}

fn route(at: usize) -> Value {
    let mut route = route_body(at, &format!("/eni/team-{}/api-{at}/v1", at % 997));
    if let Value::Object(members) = &mut route {
        members.insert("name".to_owned(), json!(name(at)));
    }
    route
}

/// The tags by which a control plane finds one plugin of a route.
pub(crate) fn plugin_tags(at: usize, plugin: &str) -> [String; 4] {
    [
        environment(at),
        format!("route--{}", name(at)),
        format!("plugin--{plugin}"),
        "consumer--none".to_owned(),
    ]
}

fn plugins(at: usize) -> impl Iterator<Item = Value> {
    let rule = at / ROUTES_OF_RULE;
    let configurations = [
        (
            "jwt-keycloak",
            json!({
                "allowed_iss": [format!("https://iris.example.com/auth/realms/env{}", at % ENVIRONMENTS)],
                "algorithm": "RS256", "consumer_match": true, "consumer_match_claim": "azp",
                "consumer_match_ignore_not_found": true, "run_on_preflight": false,
            }),
        ),
        (
            "acl",
            json!({"allow": [format!("group-{rule}"), format!("team-{rule}")], "hide_groups_header": true}),
        ),
        (
            "request-transformer",
            json!({
                "append": {"headers": [
                    format!("remote_api_url:https://provider-{}.example.com/eni/api-{at}/v1", at % 1000),
                    format!("api_base_path:/eni/team-{}/api-{at}/v1", at % 997),
                    format!("realm:env{}", at % ENVIRONMENTS), "environment:production",
                ]},
                "remove": {"headers": ["consumer-token"]},
            }),
        ),
        (
            "rate-limiting-merged",
            json!({"policy": "local", "limits": {"service": {"second": 100, "minute": 3000}}}),
        ),
    ];
    configurations.into_iter().map(move |(plugin, config)| {
        json!({
            "name": plugin, "route": name(at), "config": config,
            "tags": plugin_tags(at, plugin),
        })
    })
}

fn consumer(at: usize) -> Value {
    json!({
        "username": format!("consumer-{at}"), "custom_id": format!("eni--team-{at}--client"),
        "tags": [environment(at)],
    })
}

fn acl(at: usize) -> Value {
    json!({"consumer": format!("consumer-{at}"), "group": format!("group-{}", at / 2)})
}
