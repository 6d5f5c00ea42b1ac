//! What the Admin API does with a request: authentication, routing, and one function for each kind of
//! endpoint.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use o28m_core::Ambient;
use o28m_gateway::{Gateway, PluginKind};
use o28m_kong::{Document, Entity, Foreign, entity};
use o28m_net::Body;
use o28m_store::{Query, Record, Store};
use percent_encoding::percent_decode;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use crate::audit::Audit;
use crate::auth::Guard;
use crate::body::{self, Configuration, Members};
use crate::config::{self, Loaded};
use crate::endpoints::{Endpoint, Pattern, Place, Table};
use crate::list::{self, Arguments, Page};
use crate::log_level::LogLevel;
use crate::metrics::Metrics;
use crate::problem::{self, Problem};
use crate::request::{self, RequestContext};
use crate::resolve::{Selector, is_storable};
use crate::targets::TargetPost;
use crate::write::{Fixed, Written, belongs, target_id};
use crate::{Settings, certificates, life_time, mask, precondition, reply};

/// How long an answer waits for the data plane at most.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Validations of keys, certificates and large bodies at the same time; more are refused.
const CHECKS_MAX: usize = 64;

/// What serves requests.
pub(crate) struct Api {
    store: Store,
    ambient: Ambient,
    guard: Option<Guard>,
    read_only_users: Vec<String>,
    style: reply::Style,
    body_bytes_max: usize,
    metrics: Arc<OnceLock<Metrics>>,
    audit: OnceLock<Audit>,
    log_level: LogLevel,
    /// Validations that take long, at the same time.
    checks: Semaphore,
    /// Plugins that may be configured and are executed.
    enabled_plugins: Arc<[String]>,
    /// Those that compile configurations, once they are known.
    plugin_kinds: Arc<OnceLock<Vec<Arc<dyn PluginKind>>>>,
    /// How a `POST` of a target is answered, once it is said.
    target_post: OnceLock<TargetPost>,
    /// Whose health is shown, once it is known.
    data_plane: OnceLock<Weak<Gateway>>,
    /// The node's settings under Kong's names.
    configuration: serde_json::Map<String, Value>,
    strict: bool,
    /// Without a database.
    loaded: Option<Loaded>,
    applied: Option<watch::Receiver<i64>>,
    table: Table,
    node_id: String,
    hostname: String,
    requests: AtomicU64,
}

/// A request after authentication.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) input: Input,
}

/// Where a call's members come from.
pub(crate) enum Input {
    /// From the peer.
    Wire(HeaderMap, Body),
    /// From this process.
    Given(Document),
}

/// The entity in front in a path.
struct Parent {
    /// The field that points to it.
    field: &'static str,
    id: String,
}

impl Api {
    /// Over a migrated store.
    pub(crate) fn new(
        store: Store,
        settings: Settings,
        applied: Option<watch::Receiver<i64>>,
        ambient: Ambient,
    ) -> Self {
        let executed = |name: &String| o28m_kong::plugin(name).is_some();
        let metrics = Arc::default();
        let guard = settings
            .htpasswd_file
            .map(|path| Guard::new(path, ambient.rng.as_ref(), Arc::clone(&metrics)));
        let origins = settings.gui_urls.iter();
        let style = reply::Style {
            headers: settings.headers,
            origins: origins.filter_map(|url| reply::origin(url)).collect(),
            version: settings.kong_version,
        };
        let body_bytes_max = settings.body_bytes_max;
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            store,
            guard,
            read_only_users: settings.read_only_users,
            style,
            body_bytes_max: body_bytes_max.unwrap_or(o28m_core::limits::ADMIN_BODY_BYTES_MAX),
            metrics,
            audit: OnceLock::new(),
            log_level: LogLevel::default(),
            checks: Semaphore::new(CHECKS_MAX),
            enabled_plugins: settings
                .enabled_plugins
                .into_iter()
                .filter(executed)
                .collect(),
            plugin_kinds: Arc::default(),
            target_post: OnceLock::new(),
            data_plane: OnceLock::new(),
            configuration: settings.configuration,
            strict: settings.strict,
            loaded: settings.db_less.then(Loaded::default),
            applied,
            table: Table::new(!settings.db_less),
            node_id: ambient.uuid(),
            hostname: hostname.trim().to_owned(),
            requests: AtomicU64::new(0),
            ambient,
        }
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) const fn ambient(&self) -> &Ambient {
        &self.ambient
    }

    pub(crate) const fn enabled_plugins(&self) -> &Arc<[String]> {
        &self.enabled_plugins
    }

    pub(crate) const fn plugin_kinds(&self) -> &Arc<OnceLock<Vec<Arc<dyn PluginKind>>>> {
        &self.plugin_kinds
    }

    pub(crate) const fn target_post_cell(&self) -> &OnceLock<TargetPost> {
        &self.target_post
    }

    pub(crate) fn target_post(&self) -> TargetPost {
        self.target_post.get().copied().unwrap_or_default()
    }

    pub(crate) const fn data_plane_cell(&self) -> &OnceLock<Weak<Gateway>> {
        &self.data_plane
    }

    /// The data plane of this process.
    pub(crate) fn data_plane(&self) -> Option<Arc<Gateway>> {
        self.data_plane.get()?.upgrade()
    }

    pub(crate) const fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    pub(crate) fn metrics_cell(&self) -> &OnceLock<Metrics> {
        &self.metrics
    }

    pub(crate) fn metrics(&self) -> Option<&Metrics> {
        self.metrics.get()
    }

    pub(crate) const fn audit_cell(&self) -> &OnceLock<Audit> {
        &self.audit
    }

    pub(crate) fn audit(&self) -> Option<&Audit> {
        self.audit.get()
    }

    pub(crate) const fn checks(&self) -> &Semaphore {
        &self.checks
    }

    /// The version of Kong that this claims to be.
    pub(crate) fn version(&self) -> &str {
        self.style.version()
    }

    pub(crate) const fn log_level(&self) -> &LogLevel {
        &self.log_level
    }

    pub(crate) const fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) const fn configuration(&self) -> &serde_json::Map<String, Value> {
        &self.configuration
    }

    pub(crate) const fn is_strict(&self) -> bool {
        self.strict
    }

    /// The configuration in use, without a database.
    pub(crate) const fn loaded(&self) -> Option<&Loaded> {
        self.loaded.as_ref()
    }

    pub(crate) fn node_id(&self) -> &str {
        &self.node_id
    }

    pub(crate) fn hostname(&self) -> &str {
        &self.hostname
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The version the data plane of this process applied.
    pub(crate) fn applied_version(&self) -> Option<i64> {
        self.applied.as_ref().map(|applied| *applied.borrow())
    }

    /// Answers a request of this peer, or of our own proxy; every failure is a response.
    pub(crate) async fn respond(
        &self,
        request: Request<Body>,
        peer: SocketAddr,
        in_process: bool,
    ) -> Response<Body> {
        let asked = reply::Asked {
            since: Instant::now(),
            origin: request.headers().get(header::ORIGIN).cloned(),
            head: request.method() == Method::HEAD,
        };
        let path = request.uri().path();
        let headers = request.headers();
        let context = RequestContext::new(request.method(), path, headers, peer, in_process);
        let context = Arc::new(context);
        let answer = self.answer(request, &context);
        let response = match Box::pin(request::scope(Arc::clone(&context), answer)).await {
            Ok(response) => response,
            Err(Problem::Internal) => self.failed(&context),
            Err(problem) => problem.response(),
        };
        if let Some(metrics) = self.metrics.get() {
            let endpoint = context.endpoint.get().map_or("unknown", String::as_str);
            let status = response.status().as_u16();
            metrics.answered(
                endpoint,
                context.method.as_str(),
                status,
                asked.since.elapsed(),
            );
        }
        reply::finish(response, asked, &self.style)
    }

    /// The answer to a failure of ours, and a line with the same id.
    fn failed(&self, context: &RequestContext) -> Response<Body> {
        let request_id = o28m_core::id::request_id(self.ambient.rng.as_ref());
        tracing::error!(
            request.id = %request_id,
            http.method = %context.method,
            http.endpoint = context.endpoint.get().map_or("unknown", String::as_str),
            "request of the Admin API failed"
        );
        problem::internal(&request_id)
    }

    async fn answer(
        &self,
        request: Request<Body>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Problem> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut reads_only = false;
        if let Some(guard) = &self.guard {
            let user = guard.check(request.headers(), context.source).await?;
            reads_only = self.read_only_users.contains(&user);
            // It is set here alone.
            let _first = context.user.set(user);
        }
        if reads_only {
            return self.answer_reader(request).await;
        }
        self.carry_out(request).await
    }

    /// Answers a user who may only read and sees no secrets.
    async fn answer_reader(&self, request: Request<Body>) -> Result<Response<Body>, Problem> {
        let is_read = matches!(request.method().as_str(), "GET" | "HEAD" | "OPTIONS");
        let is_check = request.method() == Method::POST
            && request.uri().path().starts_with("/schemas/")
            && request
                .uri()
                .path()
                .trim_end_matches('/')
                .ends_with("/validate");
        if !is_read && !is_check {
            return Err(Problem::ReadOnly);
        }
        let mut response = self.carry_out(request).await?;
        if let Body::Full(Some(bytes)) = response.body()
            && let Ok(mut body) = serde_json::from_slice::<Value>(bytes)
        {
            mask::mask(&mut body);
            *response.body_mut() = Body::full(body.to_string());
        }
        Ok(response)
    }

    async fn carry_out(&self, request: Request<Body>) -> Result<Response<Body>, Problem> {
        let (head, body) = request.into_parts();
        // Endpoints differ in size; none of them is carried by all.
        Box::pin(self.dispatch(Call {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            input: Input::Wire(head.headers, body),
        }))
        .await
    }

    /// Carries out a request that may be.
    pub(crate) async fn dispatch(&self, call: Call) -> Result<Response<Body>, Problem> {
        let segments = segments(&call.path).ok_or(Problem::NotFound)?;
        let (pattern, mut parameters) = self.table.find(&segments).ok_or(Problem::NotFound)?;
        let endpoint = pattern.endpoint;
        if let Some(context) = request::current() {
            // It is set here alone.
            let _first = context.endpoint.set(pattern.path());
        }
        let method = match call.method.as_str() {
            "HEAD" => "GET",
            other => other,
        };
        if method == "OPTIONS" {
            return Ok(options(endpoint, &call.input));
        }
        if matches!(endpoint, Endpoint::Tags) && method != "GET" {
            return tags_are_read_only(method);
        }
        if !endpoint.methods().contains(&method) {
            return Err(Problem::MethodNotAllowed);
        }
        if let Endpoint::Unavailable(message) = endpoint {
            return Err(Problem::Bad(message.to_owned()));
        }
        if self.loaded.is_some() {
            config::without_database(endpoint, method, &parameters)?;
        }
        let arguments = Arguments::parse(&call.query)?;
        self.plus_as_written(pattern, &call.path, &mut parameters)
            .await?;
        if let (Endpoint::Config, Some(loaded)) = (endpoint, &self.loaded) {
            return self.config(loaded, method, call.input, &arguments).await;
        }
        let name = self.certificate_by_name(endpoint, &mut parameters, method);
        let name = name.await?;
        let mut members = match call.input {
            Input::Given(document) => Members::json(document),
            Input::Wire(headers, body) if matches!(method, "POST" | "PUT" | "PATCH") => {
                body::read(&headers, body, self.body_bytes_max).await?
            }
            Input::Wire(..) => Members::default(),
        };
        certificates::prepare(&mut members, endpoint, method, name);
        let path = call.path.trim_end_matches('/');
        let first = parameters.first().map_or("", String::as_str);
        match endpoint {
            Endpoint::Page(page) => self.page(page, first, &arguments).await,
            Endpoint::Validate => self.validation(segments.get(1), &members).await,
            Endpoint::Tags => self.tags(&parameters, path, &arguments).await,
            Endpoint::Collection(place) => {
                let parent = self.parent(place, first).await?;
                if method == "GET" {
                    self.collection(place, parent, path, &arguments).await
                } else {
                    let fixed = fixed(parent.as_ref());
                    let written = self.create(place.entity, &members, fixed).await?;
                    self.written(StatusCode::CREATED, written).await
                }
            }
            Endpoint::Single(place) => self.single(place, &parameters, method, &members).await,
            Endpoint::Target(own, foreign) => {
                self.target(own, foreign, first, method, &members).await
            }
            Endpoint::Targets(which) => {
                self.targets(which, &parameters, method, path, &arguments, &members)
                    .await
            }
            Endpoint::Operation(operation) => {
                self.operation(operation, method, first, &arguments, &members)
                    .await
            }
            Endpoint::Unavailable(message) => Err(Problem::Bad(message.to_owned())),
            Endpoint::Config => Err(Problem::NotFound),
        }
    }

    async fn config(
        &self,
        loaded: &Loaded,
        method: &str,
        input: Input,
        arguments: &Arguments,
    ) -> Result<Response<Body>, Problem> {
        if method == "GET" {
            return self.get_config().await;
        }
        let configuration = match input {
            Input::Given(document) => Some(Configuration::Document(document)),
            Input::Wire(headers, body) => {
                body::read_configuration(&headers, body, self.body_bytes_max).await?
            }
        };
        self.post_config(loaded, configuration, arguments).await
    }

    /// A plus in a path is a space, as in Kong; where nothing has that name and something has the name
    /// with the plus, that is meant.
    async fn plus_as_written(
        &self,
        pattern: &Pattern,
        path: &str,
        parameters: &mut [String],
    ) -> Result<(), Problem> {
        if !path.contains('+') {
            return Ok(());
        }
        let names = pattern.segments.iter().zip(raw_segments(path));
        let names = names.filter(|(name, _)| name.starts_with('{'));
        for ((name, raw), parameter) in names.zip(parameters) {
            let entity = entity(name.trim_matches(['{', '}']));
            let key = entity.and_then(|it| Some((it, it.unique_field(it.endpoint_key?)?)));
            let (Some((entity, unique)), true) = (key, raw.contains('+')) else {
                continue;
            };
            let Ok(literal) = percent_decode(raw.as_bytes()).decode_utf8() else {
                continue;
            };
            let has = async |text: &str| {
                let found = self.store.get_by_key(entity.name, "", unique.name, text);
                found.await.map(|found| found.is_some())
            };
            if !has(parameter).await? && has(&literal).await? {
                *parameter = literal.into_owned();
            }
        }
        Ok(())
    }

    /// The entity in front of a place in the path.
    async fn parent(&self, place: Place, text: &str) -> Result<Option<Parent>, Problem> {
        let Some((above, foreign)) = place.parent else {
            return Ok(None);
        };
        let selector = Selector::new(above, text, None)?;
        match self.find(above, &selector).await? {
            Some(record) => Ok(Some(Parent {
                field: foreign.field,
                id: record.id,
            })),
            None => Err(Problem::NotFound),
        }
    }

    async fn collection(
        &self,
        place: Place,
        parent: Option<Parent>,
        path: &str,
        arguments: &Arguments,
    ) -> Result<Response<Body>, Problem> {
        let entity = place.entity;
        if parent.is_none()
            && let Some(key) = entity.search_key
            && let Some(value) = arguments.get(key)
        {
            return self.search(entity, key, value).await;
        }
        let page = Page::parse(arguments)?;
        let query = Query {
            kind: entity.name,
            reference: parent.as_ref().map(|it| (it.field, it.id.as_str())),
            tags: page.tags.clone(),
            after: page.after_id(arguments.get("offset"))?,
            limit: page.limit(),
            ..Query::default()
        };
        let mut found = self.store.list(&query).await?;
        self.show(entity, &mut found).await?;
        let body = list::entities(&page, path, parent.is_some(), found);
        Ok(reply::json(StatusCode::OK, &body))
    }

    /// The entity, unless it has ended.
    async fn find(&self, entity: &Entity, selector: &Selector) -> Result<Option<Record>, Problem> {
        let found = selector.find(&self.store, entity).await?;
        Ok(found.filter(|it| !life_time::is_over(entity, &it.body, self.now_s())))
    }

    /// Gives what is stored the form of answers; what has ended is shown as null.
    async fn show(&self, entity: &Entity, records: &mut [Record]) -> Result<(), Problem> {
        if entity.has_life_time {
            let now = self.now_s();
            for record in records.iter_mut() {
                if life_time::is_over(entity, &record.body, now) {
                    record.body = Value::Null;
                } else if let Value::Object(body) = &mut record.body {
                    life_time::show(entity, body, now);
                }
            }
        }
        if entity.name == certificates::CERTIFICATES {
            self.add_names(records).await?;
        }
        Ok(())
    }

    /// The answer with one entity.
    async fn one(&self, entity: &Entity, mut record: Record) -> Result<Response<Body>, Problem> {
        self.show(entity, std::slice::from_mut(&mut record)).await?;
        if entity.name == certificates::CERTIFICATES {
            // The version says nothing of the names.
            return Ok(reply::json(StatusCode::OK, &record.body));
        }
        Ok(shown(&record))
    }

    /// A list of the one entity with that unique value.
    async fn search(
        &self,
        entity: &Entity,
        key: &str,
        value: &str,
    ) -> Result<Response<Body>, Problem> {
        if value.is_empty() {
            return Err(Problem::Bad(format!("{key} must be an unempty string")));
        }
        let found = if is_storable(value) {
            self.store.get_by_key(entity.name, "", key, value).await?
        } else {
            None
        };
        let data: Vec<Value> = found.into_iter().map(|record| record.body).collect();
        Ok(reply::json(
            StatusCode::OK,
            &json!({"data": data, "next": null}),
        ))
    }

    async fn single(
        &self,
        place: Place,
        parameters: &[String],
        method: &str,
        members: &Members,
    ) -> Result<Response<Body>, Problem> {
        let first = parameters.first().map_or("", String::as_str);
        let last = parameters.last().map_or("", String::as_str);
        let parent = self.parent(place, first).await?;
        let fixed = fixed(parent.as_ref());
        let selector = Selector::new(place.entity, last, fixed)?;
        match method {
            "GET" => match self.find(place.entity, &selector).await? {
                Some(record) if belongs(&record, fixed) => self.one(place.entity, record).await,
                None if place.entity.name == certificates::CERTIFICATES => {
                    Err(Problem::Missing(selector.document()))
                }
                _ => Err(Problem::NotFound),
            },
            "PUT" => {
                let written = self
                    .put_entity(place.entity, &selector, members, fixed)
                    .await?;
                self.written(StatusCode::OK, written).await
            }
            "PATCH" => {
                let written = self.patch(place.entity, &selector, members, fixed).await?;
                self.written(StatusCode::OK, written).await
            }
            _ => {
                let version = self.delete(place.entity, &selector, fixed).await?;
                self.wait_applied(version).await;
                Ok(reply::empty(StatusCode::NO_CONTENT))
            }
        }
    }

    /// The entity a foreign key points to.
    async fn target(
        &self,
        own: &'static Entity,
        foreign: &'static Foreign,
        text: &str,
        method: &str,
        members: &Members,
    ) -> Result<Response<Body>, Problem> {
        let target = entity(foreign.entity).ok_or(Problem::NotFound)?;
        let selector = Selector::new(own, text, None)?;
        let holder = self.find(own, &selector).await?;
        let holder = holder.ok_or(Problem::NotFound)?;
        if method == "PUT" {
            let written = self.put_target(own, foreign, &holder, members).await?;
            return self.written(StatusCode::OK, written).await;
        }
        let id = target_id(&holder, foreign).ok_or(Problem::NotFound)?;
        match method {
            "GET" => {
                let record: Option<Record> = self.store.get(target.name, id).await?;
                self.one(target, record.ok_or(Problem::NotFound)?).await
            }
            "PATCH" => {
                let selector = Selector::Id(id.to_owned());
                let written = self.patch(target, &selector, members, None).await?;
                self.written(StatusCode::OK, written).await
            }
            _ => Err(Problem::MethodNotAllowed),
        }
    }

    async fn tags(
        &self,
        parameters: &[String],
        path: &str,
        arguments: &Arguments,
    ) -> Result<Response<Body>, Problem> {
        let tag = parameters.first().map(String::as_str);
        if let Some(complaint) = tag.and_then(o28m_kong::tag_complaint) {
            return Err(Problem::InvalidUnique {
                field: "tag",
                message: complaint.into_owned(),
            });
        }
        let page = Page::parse(arguments)?;
        let after = list::tag_offset(&page, arguments.get("offset"))?;
        let found = self.store.tagged(tag, after.as_ref(), page.limit()).await?;
        Ok(reply::json(
            StatusCode::OK,
            &list::tagged(&page, path, found),
        ))
    }

    /// `name` is the entity in the path.
    async fn validation(
        &self,
        name: Option<&String>,
        members: &Members,
    ) -> Result<Response<Body>, Problem> {
        let name = name.map_or("", String::as_str);
        let entity =
            entity(name).ok_or_else(|| Problem::Unknown(format!("No entity named '{name}'")))?;
        self.validate(entity, members).await?;
        let body = json!({"message": "schema validation successful"});
        Ok(reply::json(StatusCode::OK, &body))
    }

    pub(crate) async fn written(
        &self,
        status: StatusCode,
        written: Written,
    ) -> Result<Response<Body>, Problem> {
        self.wait_applied(Some(written.version)).await;
        let mut response = reply::json(status, &Value::Object(written.document));
        if !request::current().is_some_and(|it| it.has_several_writes()) {
            precondition::add_tag(&mut response, written.version);
        }
        Ok(response)
    }

    /// In strict mode, waits until the data plane of this process has the version. The write stands
    /// whatever happens here.
    pub(crate) async fn wait_applied(&self, version: Option<i64>) {
        let (Some(version), Some(applied), true) = (version, &self.applied, self.strict) else {
            return;
        };
        let mut applied = applied.clone();
        let wait = applied.wait_for(|applied| *applied >= version);
        if tokio::time::timeout(APPLY_TIMEOUT, wait).await.is_err() {
            tracing::warn!(
                config.version = version,
                "data plane has not applied a change in time"
            );
        }
    }
}

fn fixed(parent: Option<&Parent>) -> Fixed<'_> {
    parent.map(|parent| (parent.field, parent.id.as_str()))
}

/// The answer to a reader of one entity, who may have it already.
fn shown(record: &Record) -> Response<Body> {
    let is_known = request::current().is_some_and(|it| it.preconditions.is_known(record.version));
    let mut response = if is_known {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        reply::json(StatusCode::OK, &record.body)
    };
    precondition::add_tag(&mut response, record.version);
    response
}

/// The decoded segments of a path; a plus is a space. `None` for what no name can be.
fn segments(path: &str) -> Option<Vec<String>> {
    raw_segments(path)
        .map(|segment| {
            let spaced = segment.replace('+', " ");
            let decoded = percent_decode(spaced.as_bytes()).decode_utf8().ok()?;
            is_storable(&decoded).then(|| decoded.into_owned())
        })
        .collect()
}

/// The segments of a path as they were sent.
fn raw_segments(path: &str) -> impl Iterator<Item = &str> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let trimmed = trimmed.strip_prefix('/').unwrap_or(trimmed);
    let is_root = trimmed.is_empty();
    trimmed.split('/').filter(move |_| !is_root)
}

fn options(endpoint: Endpoint, input: &Input) -> Response<Body> {
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    let asked = match input {
        Input::Wire(headers, _) => headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
        Input::Given(_) => None,
    };
    let headers = response.headers_mut();
    if let Ok(allow) = HeaderValue::try_from(endpoint.allow()) {
        headers.insert(header::ALLOW, allow.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow);
    }
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        asked.unwrap_or(HeaderValue::from_static("Content-Type")),
    );
    response
}

/// Kong answers every write on tags with the same violation.
fn tags_are_read_only(method: &str) -> Result<Response<Body>, Problem> {
    if !matches!(method, "POST" | "PUT" | "PATCH" | "DELETE") {
        return Err(Problem::MethodNotAllowed);
    }
    let message = "does not support insert/upsert/update/delete operations";
    let fields = [("tags".to_owned(), json!(message))];
    Err(Problem::Violations(o28m_kong::Violations {
        fields: fields.into_iter().collect(),
    }))
}
