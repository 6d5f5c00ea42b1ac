//! Where an import comes from: a declarative file, the Admin API of a Kong, or a Kong's database. All
//! become one declarative document with ids and times as they are.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use o28m_kong::{Document, Entity, entities};
use o28m_net::Body;
use o28m_net::client::{Pool, Target, Timeouts, parse_url};
use o28m_store::foreign;
use serde_json::{Map, Value, json};

use super::gateway;
use crate::ambient;
use crate::cli::{From, Origin};
use crate::exit::Failure;

/// Entities asked for at once.
const PAGE_SIZE: u32 = 1000;
/// Pages of one collection: ends with a server that never stops.
const PAGES_MAX: usize = 10_000;
/// Bytes of one page.
const PAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Limit for each step of a request.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Short-lived things that Kong's own tools do not carry over either.
const LEFT_OUT: &[&str] = &["oauth2_tokens"];
/// Columns that are Kong's own business.
const INTERNAL_COLUMNS: &[&str] = &["ws_id", "cache_key"];
/// Number of the migration of Kong 3.0, since which paths that are regular expressions start with `~`.
const REGEX_PREFIX_MIGRATION: u32 = 16;

/// The document of an origin.
///
/// # Errors
/// What cannot be read; exit 3 for what is no configuration.
pub(super) async fn document(origin: &Origin) -> Result<Document, Failure> {
    match origin.from {
        From::DeckYaml => gateway::read(Path::new(&origin.source)),
        From::KongAdminUrl => Ok(AdminApi::new(origin)?.everything().await?),
        From::KongPostgres => Ok(database(&origin.source, &origin.schema).await?),
    }
}

/// Entities that are carried over.
fn carried() -> impl Iterator<Item = &'static Entity> {
    let all = entities().iter();
    all.filter(|entity| !LEFT_OUT.contains(&entity.name))
}

fn envelope(version: &str) -> Document {
    let mut document = Map::new();
    document.insert("_format_version".to_owned(), json!(version));
    // Passwords are hashes already.
    document.insert("_transform".to_owned(), json!(false));
    document
}

/// The Admin API of a running Kong.
struct AdminApi {
    pool: Arc<Pool>,
    target: Target,
    base: String,
    authorization: Option<String>,
}

impl AdminApi {
    fn new(origin: &Origin) -> Result<Self> {
        let (url, login) = without_login(&origin.source);
        let unusable = || anyhow!("expected a URL such as http://localhost:8001, not {url:?}");
        let (mut target, base) = parse_url(&url).ok_or_else(unusable)?;
        if let Some(path) = &origin.ca {
            let pem = std::fs::read_to_string(path);
            let pem = pem.with_context(|| format!("cannot read {}", path.display()))?;
            target.tls.ca_pem = Some(pem.into());
        }
        let authorization = match &origin.authorization {
            None => login.map(|login| basic(&login)),
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                let text = text.trim();
                // A scheme and its value, or a user with a password.
                let value = text.contains(' ').then(|| text.to_owned());
                Some(value.unwrap_or_else(|| basic(text)))
            }
        };
        Ok(Self {
            pool: Pool::new(),
            target,
            base: base.trim_end_matches('/').to_owned(),
            authorization,
        })
    }

    async fn everything(&self) -> Result<Document> {
        let mut document = envelope("3.0");
        for entity in carried().filter(|entity| entity.name != "targets") {
            let path = format!("/{}", entity.path);
            let Some(mut items) = self.collection(&path).await? else {
                continue;
            };
            if entity.name == "certificates" {
                // Their names are a collection of their own.
                for members in items.iter_mut().filter_map(Value::as_object_mut) {
                    members.remove("snis");
                }
            }
            if entity.name == "upstreams" {
                let targets = self.targets(&items).await?;
                insert(&mut document, "targets", targets);
            }
            insert(&mut document, entity.name, items);
        }
        Ok(document)
    }

    async fn targets(&self, upstreams: &[Value]) -> Result<Vec<Value>> {
        let mut targets = Vec::new();
        for id in upstreams.iter().filter_map(|it| it.get("id")?.as_str()) {
            let path = format!("/upstreams/{id}/targets");
            targets.extend(self.collection(&path).await?.unwrap_or_default());
        }
        Ok(targets)
    }

    /// Every page of a collection; `None` when the server does not know it.
    async fn collection(&self, path: &str) -> Result<Option<Vec<Value>>> {
        let mut items = Vec::new();
        let mut offset: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("size", &PAGE_SIZE.to_string());
            if let Some(offset) = &offset {
                query.append_pair("offset", offset);
            }
            let page = self.get(&format!("{path}?{}", query.finish())).await;
            let page = page.with_context(|| format!("cannot read {path}"))?;
            let Some(mut page) = page else {
                return Ok(None);
            };
            match page.get_mut("data").map(Value::take) {
                Some(Value::Array(data)) => items.extend(data),
                // An empty list is an empty object to some versions of Kong.
                Some(Value::Object(none)) if none.is_empty() => {}
                _ => bail!("{path} is no list of Kong's Admin API"),
            }
            match page.get("offset").and_then(Value::as_str) {
                Some(next) => offset = Some(next.to_owned()),
                None => return Ok(Some(without_nulls(items))),
            }
        }
        bail!("{path} does not end")
    }

    async fn get(&self, path: &str) -> Result<Option<Value>> {
        let mut request = Request::get(format!("{}{path}", self.base))
            .header(HOST, self.target.to_string())
            .header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Body::Empty)?;
        let timeouts = Timeouts {
            connect: TIMEOUT,
            write: TIMEOUT,
            read: TIMEOUT,
        };
        let response = self.pool.send(&self.target, request, &timeouts).await;
        let response = response.map_err(|error| {
            // The error itself may hold the request, which cannot be shared.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            anyhow!("{error}: {}", cause.unwrap_or_default())
        })?;
        let status = response.status().as_u16();
        let body = response.into_body().collect(PAGE_BYTES_MAX).await?;
        match status {
            200 => Ok(Some(serde_json::from_slice(&body).context("no JSON")?)),
            404 => Ok(None),
            401 | 403 => bail!("the Admin API answered {status}: see --authorization"),
            _ => bail!("the Admin API answered {status}"),
        }
    }
}

fn basic(login: &str) -> String {
    format!("Basic {}", STANDARD.encode(login))
}

/// The URL without `user:password@`, and that.
fn without_login(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else {
        return (url.to_owned(), None);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((login, place)) => {
            let login = percent_encoding::percent_decode_str(login).decode_utf8_lossy();
            (
                format!("{scheme}://{place}{path}"),
                Some(login.into_owned()),
            )
        }
        None => (url.to_owned(), None),
    }
}

fn insert(document: &mut Document, name: &str, items: Vec<Value>) {
    if !items.is_empty() {
        document.insert(name.to_owned(), Value::Array(items));
    }
}

/// What is null is not there, so that fields of other versions that nobody uses do no harm.
fn without_nulls(mut items: Vec<Value>) -> Vec<Value> {
    for members in items.iter_mut().filter_map(Value::as_object_mut) {
        members.retain(|_, value| !value.is_null());
    }
    items
}

/// The entities in a Kong's tables.
async fn database(url: &str, schema: &str) -> Result<Document> {
    let mut wanted = vec!["schema_meta", "workspaces"];
    wanted.extend(carried().map(table));
    let mut tables = foreign::tables(url, schema, &wanted).await?;
    let Some(meta) = tables.get("schema_meta") else {
        bail!("there is no Kong in schema {schema:?} of that database");
    };
    let version = if core_migration(meta) < Some(REGEX_PREFIX_MIGRATION) {
        "2.1"
    } else {
        "3.0"
    };
    let names = tables.get("workspaces").into_iter().flatten();
    let names = names.filter_map(|row| row.get("name")?.as_str());
    let others: Vec<&str> = names.filter(|name| *name != "default").collect();
    if !others.is_empty() {
        bail!("workspaces are not supported: {}", others.join(", "));
    }
    let now = ambient::system().clock.now().seconds();
    let mut document = envelope(version);
    for entity in carried() {
        let rows = tables.remove(table(entity)).unwrap_or_default();
        let items = rows.into_iter().filter_map(|row| item(entity, row, now));
        insert(&mut document, entity.name, items.collect());
    }
    Ok(document)
}

fn table(entity: &'static Entity) -> &'static str {
    match entity.name {
        "vaults" => "sm_vaults",
        name => name,
    }
}

/// Number of the newest migration of Kong's core.
fn core_migration(meta: &[Value]) -> Option<u32> {
    let text = |row: &Value, name: &str| Some(row.get(name)?.as_str()?.to_owned());
    let mut core = meta
        .iter()
        .filter(|row| text(row, "subsystem").as_deref() == Some("core"));
    let last = text(core.next()?, "last_executed")?;
    last.split('_').next()?.parse().ok()
}

/// A row as the Admin API would show it; `None` when its life is over.
fn item(entity: &Entity, row: Value, now_s: i64) -> Option<Value> {
    let Value::Object(row) = row else {
        return None;
    };
    let mut members = Map::new();
    for (column, value) in row {
        if value.is_null() || INTERNAL_COLUMNS.contains(&column.as_str()) {
            continue;
        }
        let points = |field: &str| column.strip_suffix("_id") == Some(field);
        let foreign = entity.foreign.iter().find(|it| points(it.field));
        let (name, value) = match (foreign, column.as_str()) {
            (Some(foreign), _) => (foreign.field.to_owned(), json!({"id": value})),
            (None, "ttl") => {
                #[expect(clippy::cast_possible_truncation, reason = "seconds of this century")]
                let left = value.as_f64()? as i64 - now_s;
                if left <= 0 {
                    return None;
                }
                (column, json!(left))
            }
            (None, "created_at" | "updated_at") => {
                let value = time(entity, &value);
                (column, value)
            }
            (None, _) => (column, value),
        };
        members.insert(name, value);
    }
    Some(Value::Object(members))
}

/// Whole seconds; with milliseconds for targets, as Kong has them.
fn time(entity: &Entity, value: &Value) -> Value {
    let Some(seconds) = value.as_f64() else {
        return value.clone();
    };
    if entity.name == "targets" {
        return json!((seconds * 1000.0).round() / 1000.0);
    }
    #[expect(clippy::cast_possible_truncation, reason = "seconds of this century")]
    let seconds = seconds.floor() as i64;
    json!(seconds)
}

#[cfg(test)]
mod tests {
    use o28m_kong::entity;

    use super::*;

    #[test]
    fn a_login_is_taken_off_the_url() {
        for (url, place, login) in [
            ("http://h:8001", "http://h:8001", None),
            ("http://a:b%40c@h:8001/x", "http://h:8001/x", Some("a:b@c")),
            ("https://h/admin-api/@x", "https://h/admin-api/@x", None),
        ] {
            let (found, user) = without_login(url);
            assert_eq!((found.as_str(), user.as_deref()), (place, login));
        }
    }

    #[test]
    fn rows_become_entities() {
        let route = entity("routes").unwrap();
        let row = json!({
            "id": "1", "name": "r", "service_id": "2", "ws_id": "3", "tags": null,
            "created_at": 1_700_000_000.7, "paths": ["/a"],
        });
        assert_eq!(
            item(route, row, 0).unwrap(),
            json!({
                "id": "1", "name": "r", "service": {"id": "2"}, "created_at": 1_700_000_000,
                "paths": ["/a"],
            })
        );
        let target = entity("targets").unwrap();
        let row = json!({"upstream_id": "2", "created_at": 1_700_000_000.123_456});
        assert_eq!(
            item(target, row, 0).unwrap(),
            json!({"upstream": {"id": "2"}, "created_at": 1_700_000_000.123})
        );
        let key = entity("keyauth_credentials").unwrap();
        assert_eq!(item(key, json!({"key": "k", "ttl": 100.0}), 200), None);
        assert_eq!(
            item(key, json!({"key": "k", "ttl": 300.5}), 200).unwrap(),
            json!({"key": "k", "ttl": 100})
        );
    }

    #[test]
    fn the_version_of_the_tables_is_known() {
        let meta = |last: &str| {
            vec![
                json!({"subsystem": "acl", "last_executed": "004_212_to_213"}),
                json!({"subsystem": "core", "last_executed": last}),
            ]
        };
        assert_eq!(core_migration(&meta("015_270_to_280")), Some(15));
        assert_eq!(core_migration(&meta("024_380_to_390")), Some(24));
        assert_eq!(core_migration(&[]), None);
    }
}
