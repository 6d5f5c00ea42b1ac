//! Creating, replacing, changing and deleting entities (spec gateway-admin 6).

use std::sync::Arc;
use std::time::Duration;

use o28m_gateway::{BadConfig, PluginKind};
use o28m_kong::{Context, Document, Entity, Foreign, Violations, entity};
use o28m_store::{Error, Query, Record, Tags, Write};
use serde_json::{Value, json};

use crate::api::Api;
use crate::audit::Audit;
use crate::body::Members;
use crate::certificates::{CERTIFICATES, Names};
use crate::object::object;
use crate::problem::Problem;
use crate::resolve::{self, Selector};
use crate::{life_time, precondition, request};

/// How often a change is tried again that others got in the way of.
const ATTEMPTS_MAX: u32 = 200;
/// Routes of a service looked at when a plugin's protocols are compared with theirs.
const ROUTES_MAX: u32 = 1000;
/// Longest pause between two attempts, in milliseconds.
const PAUSE_MS_MAX: u32 = 16;

/// A foreign key that the path decides: its field and the id.
pub(crate) type Fixed<'a> = Option<(&'static str, &'a str)>;

/// An entity after a write, and the version that contains it.
pub(crate) struct Written {
    pub(crate) document: Document,
    pub(crate) version: i64,
}

impl Api {
    /// Validates `input` as a new entity, or as a change of `stored`. Large bodies may hold many regular
    /// expressions, so they get a thread of their own.
    async fn checked(
        &self,
        entity: &'static Entity,
        members: &Members,
        stored: Option<&Document>,
        input: Document,
    ) -> Result<Document, Problem> {
        let ambient = self.ambient().clone();
        let enabled_plugins = Arc::clone(self.enabled_plugins());
        let kinds = Arc::clone(self.plugin_kinds());
        let stored = stored.cloned();
        let check = move || {
            let context = Context {
                ambient: &ambient,
                enabled_plugins: &enabled_plugins,
            };
            let document = match stored {
                Some(stored) => entity.update(&stored, input, &context)?,
                None => entity.insert(input, &context)?,
            };
            if let (Some(kinds), "plugins") = (kinds.get(), entity.name) {
                compile(kinds, &document)?;
            }
            Ok::<_, Violations>(document)
        };
        if !members.is_large() && !entity.is_costly {
            return Ok(check()?);
        }
        let Ok(_permit) = self.checks().try_acquire() else {
            return Err(Problem::Busy);
        };
        match tokio::task::spawn_blocking(check).await {
            Ok(checked) => Ok(checked?),
            Err(_) => Err(Problem::Internal),
        }
    }

    /// Validates without storing; for the schema endpoints.
    pub(crate) async fn validate(
        &self,
        entity: &'static Entity,
        members: &Members,
    ) -> Result<(), Problem> {
        let document = members.document(entity, None);
        self.checked(entity, members, None, document).await?;
        Ok(())
    }

    /// Writes, and says so.
    pub(crate) async fn commit(&self, writes: Vec<Write>) -> Result<i64, Error> {
        let first = writes.first().map(|write| match write {
            Write::Insert(object) | Write::Upsert(object) | Write::Update { object, .. } => {
                (object.kind, object.id.clone())
            }
            Write::Delete { kind, id } => (*kind, id.clone()),
        });
        if let Some(request) = request::current().filter(|_| writes.len() > 1) {
            request.mark_several_writes();
        }
        let version = match self.audit() {
            Some(audit) => self.write_audited(audit, writes).await?,
            None => self.store().write(writes).await?,
        };
        if let Some((kind, id)) = first {
            tracing::info!(
                entity.kind = kind,
                entity.id = %id,
                config.version = version,
                "configuration changed"
            );
        }
        Ok(version)
    }

    /// Writes, and notes what changed: whatever came in between makes the write fail with a conflict, so
    /// that the note is right.
    async fn write_audited(&self, audit: &Audit, mut writes: Vec<Write>) -> Result<i64, Error> {
        let mut before = Vec::with_capacity(writes.len());
        for write in &mut writes {
            let stored = match write {
                Write::Insert(_) => None,
                Write::Upsert(object) | Write::Update { object, .. } => {
                    self.store().get(object.kind, &object.id).await?
                }
                Write::Delete { kind, id } => self.store().get(kind, id).await?,
            };
            if let (Write::Update { if_version, .. }, Some(stored)) = (&mut *write, &stored) {
                if_version.get_or_insert(stored.version);
            }
            before.push(stored);
        }
        let version = self.store().write(writes.clone()).await?;
        let now = self.ambient().now();
        for (write, before) in writes.iter().zip(&before) {
            audit.wrote(write, before.as_ref(), version, now);
        }
        Ok(version)
    }

    /// The document a client sent, with foreign keys as ids and the path's one set.
    async fn input(
        &self,
        entity: &Entity,
        members: &Members,
        stored: Option<&Document>,
        fixed: Fixed<'_>,
    ) -> Result<Document, Problem> {
        let mut input = members.document(entity, stored);
        let field = fixed.map(|(field, _)| field);
        resolve::foreign_keys(self.store(), entity, &mut input, field).await?;
        life_time::check(entity, &input)?;
        if let Some((field, id)) = fixed {
            input.insert(field.to_owned(), json!({"id": id}));
        }
        Ok(input)
    }

    /// `POST`: a new entity.
    pub(crate) async fn create(
        &self,
        entity: &'static Entity,
        members: &Members,
        fixed: Fixed<'_>,
    ) -> Result<Written, Problem> {
        let input = self.input(entity, members, None, fixed).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let mut document = self.checked(entity, members, None, input.clone()).await?;
            if members.get("protocols").is_some() {
                self.check_protocols(entity, &document).await?;
            }
            let names = self.name_writes(entity, &mut document, Names::Replaced);
            let mut writes = names.await?;
            writes.insert(0, Write::Insert(object(entity, &document)));
            match self.commit(writes).await {
                Ok(version) => return Ok(self.made(entity, document, version)),
                Err(error) if self.is_worth_another(entity, &error).await? => {
                    self.pause(attempt).await;
                }
                Err(error) => return Err(refused(entity, &document, error)),
            }
        }
        Err(Problem::Busy)
    }

    /// Whether a refused write may succeed, or be refused for its own sake, when it is tried again.
    async fn is_worth_another(&self, entity: &Entity, error: &Error) -> Result<bool, Problem> {
        let is_name = matches!(error, Error::Duplicate { kind, .. } if kind != entity.name);
        Ok((is_name && entity.name == CERTIFICATES) || self.makes_room(error).await?)
    }

    /// A document that was written, as it is shown.
    fn made(&self, entity: &Entity, mut document: Document, version: i64) -> Written {
        life_time::show(entity, &mut document, self.now_s());
        Written { document, version }
    }

    /// The entity to write. One that has ended is removed first.
    async fn present(
        &self,
        entity: &Entity,
        selector: &Selector,
    ) -> Result<Option<Record>, Problem> {
        let found = selector.find(self.store(), entity).await?;
        match found {
            Some(ended) if life_time::is_over(entity, &ended.body, self.now_s()) => {
                self.remove(entity, &ended).await?;
                Ok(None)
            }
            found => Ok(found),
        }
    }

    /// `PUT`: creates the entity or replaces all of it. The same content again changes nothing.
    pub(crate) async fn put_entity(
        &self,
        entity: &'static Entity,
        selector: &Selector,
        members: &Members,
        fixed: Fixed<'_>,
    ) -> Result<Written, Problem> {
        let input = self.input(entity, members, None, fixed).await?;
        for attempt in 0..ATTEMPTS_MAX {
            let stored = self.present(entity, selector).await?;
            let if_version = precondition::check(stored.as_ref())?;
            let whole = replacement(selector, input.clone(), stored.as_ref());
            let mut document = self.checked(entity, members, None, whole).await?;
            if members.get("protocols").is_some() {
                self.check_protocols(entity, &document).await?;
            }
            let names = self.name_writes(entity, &mut document, Names::Replaced);
            let mut writes = names.await?;
            let object = object(entity, &document);
            if let Some(stored) = stored.as_ref()
                && writes.is_empty()
                && same(entity, &object.body, stored)
            {
                keep(&mut document, stored);
                return Ok(self.made(entity, document, stored.version));
            }
            let write = match &stored {
                Some(stored) => Write::Update {
                    object,
                    // What goes with the entity was decided for this state of it.
                    if_version: if_version.or((!writes.is_empty()).then_some(stored.version)),
                },
                None => Write::Insert(object),
            };
            writes.insert(0, write);
            match self.commit(writes).await {
                Ok(version) => return Ok(self.made(entity, document, version)),
                Err(error) => {
                    let is_race = self.lost_race(entity, selector, stored.is_some(), &error);
                    if !is_race.await? && !self.is_worth_another(entity, &error).await? {
                        return Err(refused(entity, &document, error));
                    }
                    self.pause(attempt).await;
                }
            }
        }
        Err(Problem::Busy)
    }

    /// Whether a write failed because someone created or deleted the same entity in between.
    async fn lost_race(
        &self,
        entity: &Entity,
        selector: &Selector,
        was_there: bool,
        error: &Error,
    ) -> Result<bool, Problem> {
        match error {
            Error::Conflict { .. } => Ok(was_there),
            Error::DuplicateId { .. } | Error::Duplicate { .. } if !was_there => {
                Ok(selector.find(self.store(), entity).await?.is_some())
            }
            _ => Ok(false),
        }
    }

    /// `PATCH`: changes what the client named, atomically.
    pub(crate) async fn patch(
        &self,
        entity: &'static Entity,
        selector: &Selector,
        members: &Members,
        parent: Fixed<'_>,
    ) -> Result<Written, Problem> {
        for attempt in 0..ATTEMPTS_MAX {
            let Some(stored) = self.present(entity, selector).await? else {
                return Err(missing(entity, selector, members, parent));
            };
            if !belongs(&stored, parent) {
                return Err(Problem::NotFound);
            }
            let _version = precondition::check(Some(&stored))?;
            let Value::Object(old) = &stored.body else {
                return Err(Problem::Internal);
            };
            let patch = self.input(entity, members, Some(old), None).await?;
            let names = match patch.contains_key("snis") {
                true => Names::Replaced,
                false => Names::Kept,
            };
            let mut document = self.checked(entity, members, Some(old), patch).await?;
            if ["protocols", "service", "route"]
                .iter()
                .any(|it| members.get(it).is_some())
            {
                self.check_protocols(entity, &document).await?;
            }
            let mut writes = self.name_writes(entity, &mut document, names).await?;
            let update = Write::Update {
                object: object(entity, &document),
                if_version: Some(stored.version),
            };
            writes.insert(0, update);
            match self.commit(writes).await {
                Ok(version) => return Ok(self.made(entity, document, version)),
                Err(Error::Conflict { .. }) => self.pause(attempt).await,
                Err(error) if self.is_worth_another(entity, &error).await? => {
                    self.pause(attempt).await;
                }
                Err(error) => return Err(refused(entity, &document, error)),
            }
        }
        Err(Problem::Busy)
    }

    /// `DELETE` of a top-level path: gone afterwards, whether or not it was there.
    pub(crate) async fn delete(
        &self,
        entity: &'static Entity,
        selector: &Selector,
        parent: Fixed<'_>,
    ) -> Result<Option<i64>, Problem> {
        for attempt in 0..ATTEMPTS_MAX {
            let Some(stored) = self.present(entity, selector).await? else {
                return match parent {
                    Some(_) => Err(Problem::NotFound),
                    None => precondition::check(None).map(|_| None),
                };
            };
            if !belongs(&stored, parent) {
                return Err(Problem::NotFound);
            }
            let if_version = precondition::check(Some(&stored))?;
            self.check_unlisted(entity, &stored.id).await?;
            let mut writes = Vec::new();
            // A deletion has no condition of its own.
            if let (Some(_), Value::Object(document)) = (if_version, &stored.body) {
                let object = object(entity, document);
                writes.push(Write::Update { object, if_version });
            }
            writes.push(Write::Delete {
                kind: entity.name,
                id: stored.id,
            });
            match self.commit(writes).await {
                Ok(version) => return Ok(Some(version)),
                Err(Error::Conflict { .. }) => self.pause(attempt).await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::Busy)
    }

    /// `PUT` of what a foreign key points to: replaces the target, or makes one and attaches it.
    pub(crate) async fn put_target(
        &self,
        own: &'static Entity,
        foreign: &'static Foreign,
        holder: &Record,
        members: &Members,
    ) -> Result<Written, Problem> {
        let target = entity(foreign.entity).ok_or(Problem::NotFound)?;
        if let Some(id) = target_id(holder, foreign) {
            let selector = Selector::Id(id.to_owned());
            return self.put_entity(target, &selector, members, None).await;
        }
        let mut input = self.input(target, members, None, None).await?;
        input.insert("id".to_owned(), json!(self.ambient().uuid()));
        let mut document = self.checked(target, members, None, input).await?;
        let names = self.name_writes(target, &mut document, Names::Replaced);
        let names = names.await?;
        let Value::Object(old) = &holder.body else {
            return Err(Problem::Internal);
        };
        let key = json!({"id": document.get("id")});
        let patch = [(foreign.field.to_owned(), key)].into_iter().collect();
        let attached = self.checked(own, members, Some(old), patch).await?;
        let mut writes = vec![
            Write::Insert(object(target, &document)),
            Write::Update {
                object: object(own, &attached),
                if_version: Some(holder.version),
            },
        ];
        writes.extend(names);
        match self.commit(writes).await {
            Ok(version) => Ok(self.made(target, document, version)),
            Err(error) => Err(refused(target, &document, error)),
        }
    }

    /// A plugin's protocols must have one in common with its route, or with a route of its
    /// service.
    async fn check_protocols(&self, entity: &Entity, document: &Document) -> Result<(), Problem> {
        if entity.name != "plugins" {
            return Ok(());
        }
        let id = |field: &str| document.get(field)?.get("id")?.as_str();
        if let Some(route) = id("route") {
            let route = self.store().get("routes", route).await?;
            if route.is_some_and(|route| !share_protocol(document, &route.body)) {
                return Err(protocols("must match the associated route's protocols"));
            }
        } else if let Some(service) = id("service") {
            let query = Query {
                kind: "routes",
                reference: Some(("service", service)),
                tags: Tags::Any,
                limit: ROUTES_MAX,
                ..Query::default()
            };
            let routes = self.store().list(&query).await?;
            let fits = |route: &Record| share_protocol(document, &route.body);
            if !routes.is_empty() && !routes.iter().any(fits) {
                return Err(protocols(
                    "must match the protocols of at least one route pointing to this Plugin's service",
                ));
            }
        }
        Ok(())
    }

    /// Lets others finish first; the pause is random so that they do not meet again.
    async fn pause(&self, attempt: u32) {
        let mut byte = [0];
        self.ambient().rng.fill(&mut byte);
        let [byte] = byte;
        let most = attempt.saturating_add(1).min(PAUSE_MS_MAX);
        let micros = u64::from(most) * 1000 * u64::from(byte) / 256;
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

/// What did not change is shown as it is stored.
fn keep(document: &mut Document, stored: &Record) {
    if let Value::Object(body) = &stored.body {
        document.extend(body.clone());
    }
}

/// The whole entity a PUT stands for: the path's key wins, an existing entity keeps its id and age.
fn replacement(selector: &Selector, mut input: Document, stored: Option<&Record>) -> Document {
    input.extend(selector.document());
    if let Some(stored) = stored {
        input.insert("id".to_owned(), json!(stored.id));
        if let Some(created_at) = stored.body.get("created_at") {
            input
                .entry("created_at")
                .or_insert_with(|| created_at.clone());
        }
    }
    input
}

/// Refuses what passed the schema and still cannot be executed, such as a template with a mistake.
pub(crate) fn compile(kinds: &[Arc<dyn PluginKind>], plugin: &Document) -> Result<(), Violations> {
    let is_it =
        |kind: &&Arc<dyn PluginKind>| plugin.get("name").is_some_and(|it| it == kind.name());
    let (Some(kind), Some(config)) = (kinds.iter().find(is_it), plugin.get("config")) else {
        return Ok(());
    };
    match kind.configure(config) {
        Ok(_) => Ok(()),
        Err(BadConfig(reason)) => Err(violation("config", &reason)),
    }
}

fn violation(field: &str, message: &str) -> Violations {
    Violations {
        fields: [(field.to_owned(), json!(message))].into_iter().collect(),
    }
}

fn protocols(message: &str) -> Problem {
    Problem::Violations(violation("protocols", message))
}

fn share_protocol(plugin: &Document, route: &Value) -> bool {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let own = list(plugin.get("protocols"));
    list(route.get("protocols"))
        .iter()
        .any(|protocol| own.contains(protocol))
}

/// Whether the stored entity means the same; the time of the last write does not count.
fn same(entity: &Entity, body: &Value, stored: &Record) -> bool {
    match (body, &stored.body) {
        (Value::Object(new), Value::Object(old)) => entity.means_same(new, old),
        _ => false,
    }
}

/// Whether the entity hangs below the parent in the path.
pub(crate) fn belongs(stored: &Record, parent: Fixed<'_>) -> bool {
    parent.is_none_or(|(field, id)| {
        let key = stored.body.get(field).and_then(|key| key.get("id"));
        key.is_some_and(|own| own == id)
    })
}

/// The id a foreign key of a stored entity holds.
pub(crate) fn target_id<'a>(holder: &'a Record, foreign: &Foreign) -> Option<&'a str> {
    holder.body.get(foreign.field)?.get("id")?.as_str()
}

/// What the store's refusal of a document means.
fn refused(entity: &Entity, document: &Document, error: Error) -> Problem {
    if let Error::Duplicate { key, .. } = &error
        && let Some(unique) = entity.unique.iter().find(|unique| unique.name == key)
    {
        let fields = unique.fields.iter().map(|field| {
            let value = document.get(*field).cloned().unwrap_or_default();
            ((*field).to_owned(), value)
        });
        return Problem::Unique(fields.collect());
    }
    Problem::from(error)
}

fn missing(entity: &Entity, selector: &Selector, members: &Members, parent: Fixed<'_>) -> Problem {
    // Kong needs the plugin's name to read the body, so it looks for the plugin first.
    let is_nameless_plugin = entity.name == "plugins" && members.get("name").is_none();
    if parent.is_some() || is_nameless_plugin {
        Problem::NotFound
    } else {
        Problem::Missing(selector.document())
    }
}
