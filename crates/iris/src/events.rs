//! Login events and admin events: recorded where the realm says so, kept until they expire, listed
//! and cleared (Keycloak 26.5 `EventBuilder`, `JpaEventStoreProvider`).
//!
//! Login events go through a bounded queue to one writer, so that a token never waits for them; what
//! does not fit into the queue is lost, and counted in the log.

use std::time::Duration;

use o28m_store::{Filter, Session, SessionQuery, Store, Test};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::model::{Fields as _, Realm, Rep};
use crate::{Caller, Error, Iris};

/// Events waiting to be written at most.
const QUEUE_MAX: usize = 4096;
/// Events written at once.
const BATCH_MAX: usize = 200;
/// Pause after the database refused a batch, which is then tried once more.
const RETRY: Duration = Duration::from_millis(200);
/// Events a list gives unless it says otherwise (Keycloak 26.5).
const LIST_DEFAULT: u32 = 100;
/// Events a list gives at most.
const LIST_MAX: u32 = 10_000;
/// When events without an expiration expire: the year 9999.
const NEVER_S: i64 = 253_370_764_800;
/// Listener that writes to the log.
const LOG_LISTENER: &str = "jboss-logging";

const LOGIN_PREFIX: &str = "event/";
const ADMIN_PREFIX: &str = "admin-event/";

/// Types of login events that this version makes.
pub(crate) const TYPES: &[&str] = &[
    "LOGIN",
    "LOGIN_ERROR",
    "REGISTER",
    "REGISTER_ERROR",
    "LOGOUT",
    "LOGOUT_ERROR",
    "CODE_TO_TOKEN",
    "CODE_TO_TOKEN_ERROR",
    "CLIENT_LOGIN",
    "CLIENT_LOGIN_ERROR",
    "REFRESH_TOKEN",
    "REFRESH_TOKEN_ERROR",
    "INTROSPECT_TOKEN",
    "INTROSPECT_TOKEN_ERROR",
    "REVOKE_GRANT",
    "REVOKE_GRANT_ERROR",
    "UPDATE_PASSWORD",
    "UPDATE_PASSWORD_ERROR",
    "TOKEN_EXCHANGE",
    "TOKEN_EXCHANGE_ERROR",
    "OAUTH2_DEVICE_AUTH",
    "OAUTH2_DEVICE_AUTH_ERROR",
    "OAUTH2_DEVICE_CODE_TO_TOKEN",
    "OAUTH2_DEVICE_CODE_TO_TOKEN_ERROR",
    "USER_DISABLED_BY_TEMPORARY_LOCKOUT",
    "USER_DISABLED_BY_PERMANENT_LOCKOUT",
];

/// Something that happened at a login or to a token.
#[derive(Clone, Debug, Default)]
pub struct Event<'a> {
    /// Keycloak's name of the type, such as `LOGIN`; errors end in `_ERROR`.
    pub kind: &'static str,
    /// `clientId`.
    pub client_id: Option<&'a str>,
    /// User id.
    pub user_id: Option<&'a str>,
    /// Session id.
    pub session_id: Option<&'a str>,
    /// Address of the caller.
    pub address: &'a str,
    /// Error code of an error.
    pub error: Option<&'a str>,
    /// More about it.
    pub details: &'a [(&'a str, &'a str)],
}

/// A change made through the Admin REST API.
#[derive(Clone, Debug)]
pub struct AdminEvent<'a> {
    /// Who made it.
    pub caller: &'a Caller,
    /// Address of the caller.
    pub address: &'a str,
    /// `CREATE`, `UPDATE`, `DELETE` or `ACTION`.
    pub operation: &'static str,
    /// Keycloak's name of the kind of resource, such as `CLIENT`.
    pub resource: &'static str,
    /// The resource, below the realm.
    pub path: &'a str,
    /// What was sent, without secrets.
    pub representation: Option<&'a Value>,
}

/// Which events to list. Texts of admin events may hold `*` in `path`.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// `type` of login events, `operationTypes` of admin events.
    pub kinds: Vec<String>,
    /// `resourceTypes` of admin events.
    pub resources: Vec<String>,
    /// Realm of the administrator.
    pub realm: Option<String>,
    /// `clientId` of login events, id of the administrator's client.
    pub client: Option<String>,
    /// User id.
    pub user: Option<String>,
    /// Address of the caller.
    pub address: Option<String>,
    /// Path of the resource.
    pub path: Option<String>,
    /// Not earlier than this, in milliseconds since the epoch.
    pub from_ms: Option<i64>,
    /// Not later than this.
    pub to_ms: Option<i64>,
    /// Oldest first.
    pub ascending: bool,
    /// Leave out this many first.
    pub first: u32,
    /// At most this many; 100 when absent.
    pub max: Option<u32>,
}

/// Somebody who hears of every event.
pub(crate) type Listener = Box<dyn Fn(&Realm, &Event<'_>) + Send + Sync>;

enum Job {
    Write(Session),
    Flush(oneshot::Sender<()>),
}

/// The way to the writer of login events.
pub(crate) struct Queue {
    jobs: mpsc::Sender<Job>,
    _writer: AbortOnDropHandle<()>,
}

impl Queue {
    pub(crate) fn start(store: Store) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUE_MAX);
        let writer = AbortOnDropHandle::new(tokio::spawn(write_all(store, waiting)));
        Self {
            jobs,
            _writer: writer,
        }
    }

    fn push(&self, session: Session) {
        if self.jobs.try_send(Job::Write(session)).is_err() {
            tracing::warn!("too many events are waiting to be stored, one is lost");
        }
    }

    /// Waits until everything pushed before is written.
    async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.jobs.send(Job::Flush(done)).await.is_ok() {
            // Without an answer the writer is gone with the process.
            drop(written.await);
        }
    }
}

async fn write_all(store: Store, mut waiting: mpsc::Receiver<Job>) {
    let mut jobs = Vec::new();
    while waiting.recv_many(&mut jobs, BATCH_MAX).await > 0 {
        let mut batch = Vec::new();
        let mut flushed = Vec::new();
        for job in jobs.drain(..) {
            match job {
                Job::Write(session) => batch.push(session),
                Job::Flush(done) => flushed.push(done),
            }
        }
        if !batch.is_empty() && store.put_sessions(&batch).await.is_err() {
            tokio::time::sleep(RETRY).await;
            if let Err(error) = store.put_sessions(&batch).await {
                let count = batch.len();
                tracing::warn!(error = %error, event.count = count, "events could not be stored");
            }
        }
        for done in flushed {
            // Whoever asked may have gone.
            let _gone = done.send(());
        }
    }
}

/// Ids in the order of time.
fn event_id(prefix: &str, at_ms: i64, id: &str) -> String {
    format!("{prefix}{at_ms:015}/{id}")
}

fn compact(fields: Vec<(&str, Value)>) -> Value {
    let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        kept.map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}

impl Iris {
    /// Lets somebody hear of every login event of every realm, such as to count them; the first one
    /// only. It must not block.
    pub fn on_event(&self, listener: impl Fn(&Realm, &Event<'_>) + Send + Sync + 'static) {
        // Whoever comes later is not heard, as documented.
        let _late = self.listener.set(Box::new(listener));
    }

    /// Reports an event to the realm's listeners, and stores it if the realm stores such events.
    pub fn event(&self, realm: &Realm, event: &Event<'_>) {
        if let Some(listener) = self.listener.get() {
            listener(realm, event);
        }
        let rep = &realm.body.rep;
        if rep.has_text("eventsListeners", LOG_LISTENER) {
            log(realm, event);
        }
        if !rep.flag("eventsEnabled") {
            return;
        }
        let types = rep.texts("enabledEventTypes");
        if !types.is_empty() && !types.iter().any(|it| it == event.kind) {
            return;
        }
        let now = self.ambient.now();
        let id = self.ambient.uuid();
        let details: Map<String, Value> = event
            .details
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let body = compact(vec![
            ("id", json!(id)),
            ("time", json!(now.millis())),
            ("type", json!(event.kind)),
            ("realmId", json!(realm.id())),
            ("clientId", json!(event.client_id)),
            ("userId", json!(event.user_id)),
            ("sessionId", json!(event.session_id)),
            ("ipAddress", json!(event.address)),
            ("error", json!(event.error)),
            ("details", Value::Object(details)),
        ]);
        let kept_s = rep.int("eventsExpiration");
        self.events.push(Session {
            id: event_id(LOGIN_PREFIX, now.millis(), &id),
            owner: realm.id().to_owned(),
            expires_at_s: expires(now.seconds(), kept_s),
            body,
        });
    }

    /// Stores what an administrator did, if the realm stores that.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn admin_event(&self, realm: &Realm, event: &AdminEvent<'_>) -> Result<(), Error> {
        let rep = &realm.body.rep;
        if rep.has_text("eventsListeners", LOG_LISTENER) {
            tracing::debug!(
                realm.name = realm.name(),
                admin.operation = event.operation,
                admin.resource = event.resource,
                admin.path = event.path,
                user.id = event.caller.user_id(),
                "admin event"
            );
        }
        if !rep.flag("adminEventsEnabled") {
            return Ok(());
        }
        let sent = event
            .representation
            .filter(|_| rep.flag("adminEventsDetailsEnabled"));
        let now = self.ambient.now();
        let id = self.ambient.uuid();
        let body = compact(vec![
            ("id", json!(id)),
            ("time", json!(now.millis())),
            ("realmId", json!(realm.id())),
            (
                "authDetails",
                json!({
                    "realmId": event.caller.realm_id(), "clientId": event.caller.client_id(),
                    "userId": event.caller.user_id(), "ipAddress": event.address,
                }),
            ),
            ("operationType", json!(event.operation)),
            ("resourceType", json!(event.resource)),
            ("resourcePath", json!(event.path)),
            ("representation", json!(sent.map(Value::to_string))),
        ]);
        let kept = rep.entry_text("attributes", "adminEventsExpiration");
        let kept_s = kept.and_then(|text| text.parse().ok()).unwrap_or_default();
        let session = Session {
            id: event_id(ADMIN_PREFIX, now.millis(), &id),
            owner: realm.id().to_owned(),
            expires_at_s: expires(now.seconds(), kept_s),
            body,
        };
        Ok(self.store.put_session(&session).await?)
    }

    /// Login events of a realm, newest first unless asked otherwise.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn login_events(
        &self,
        realm_id: &str,
        filter: &EventFilter,
    ) -> Result<Vec<Value>, Error> {
        self.events.flush().await;
        let mut filters = vec![any(&["type"], &filter.kinds)];
        filters.push(one(&["clientId"], filter.client.as_ref()));
        filters.push(one(&["userId"], filter.user.as_ref()));
        filters.push(one(&["ipAddress"], filter.address.as_ref()));
        self.list_events(realm_id, LOGIN_PREFIX, filter, filters)
            .await
    }

    /// Admin events of a realm, newest first unless asked otherwise.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn admin_events(
        &self,
        realm_id: &str,
        filter: &EventFilter,
    ) -> Result<Vec<Value>, Error> {
        let mut filters = vec![any(&["operationType"], &filter.kinds)];
        filters.push(any(&["resourceType"], &filter.resources));
        filters.push(one(&["authDetails", "realmId"], filter.realm.as_ref()));
        filters.push(one(&["authDetails", "clientId"], filter.client.as_ref()));
        filters.push(one(&["authDetails", "userId"], filter.user.as_ref()));
        filters.push(one(&["authDetails", "ipAddress"], filter.address.as_ref()));
        let path = filter.path.as_ref();
        filters.push(path.map_or_else(Vec::new, |path| {
            vec![Filter {
                path: vec!["resourcePath"],
                test: Test::Fits(path),
            }]
        }));
        self.list_events(realm_id, ADMIN_PREFIX, filter, filters)
            .await
    }

    async fn list_events(
        &self,
        realm_id: &str,
        prefix: &str,
        filter: &EventFilter,
        mut filters: Vec<Vec<Filter<'_>>>,
    ) -> Result<Vec<Value>, Error> {
        filters.retain(|alternatives| !alternatives.is_empty());
        let place = |at_ms: i64| format!("{prefix}{:015}", at_ms.max(0));
        let from = filter.from_ms.map(place);
        let until = filter.to_ms.map(|at_ms| place(at_ms.saturating_add(1)));
        let query = SessionQuery {
            owner: realm_id,
            prefix,
            from: from.as_deref(),
            until: until.as_deref(),
            now_s: self.ambient.now().seconds(),
            filters,
            newest_first: !filter.ascending,
            skip: filter.first,
            limit: filter.max.unwrap_or(LIST_DEFAULT).min(LIST_MAX),
        };
        let found = self.store.sessions(&query).await?;
        Ok(found.into_iter().map(|session| session.body).collect())
    }

    /// Deletes the login events of a realm, or with `admin` its admin events.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clear_events(&self, realm_id: &str, admin: bool) -> Result<(), Error> {
        self.events.flush().await;
        let prefix = if admin { ADMIN_PREFIX } else { LOGIN_PREFIX };
        self.store.clear_sessions(realm_id, prefix).await?;
        Ok(())
    }

    /// The event settings of a realm.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn events_config(&self, realm_id: &str) -> Result<Rep, Error> {
        let realm = self.realm_body(realm_id).await?;
        let mut config = Map::new();
        for field in SETTINGS {
            if let Some(value) = realm.rep.get(*field) {
                config.insert((*field).to_owned(), value.clone());
            }
        }
        if realm.rep.texts("enabledEventTypes").is_empty() {
            config.insert("enabledEventTypes".to_owned(), json!(TYPES));
        }
        Ok(crate::representation::EVENTS_CONFIG.arrange(config))
    }
}

/// Fields of a realm that are its event settings.
const SETTINGS: &[&str] = &[
    "eventsEnabled",
    "eventsExpiration",
    "eventsListeners",
    "enabledEventTypes",
    "adminEventsEnabled",
    "adminEventsDetailsEnabled",
];

fn expires(now_s: i64, kept_s: i64) -> i64 {
    if kept_s > 0 {
        now_s.saturating_add(kept_s)
    } else {
        NEVER_S
    }
}

fn any<'a>(path: &[&'a str], values: &'a [String]) -> Vec<Filter<'a>> {
    let is = |value: &'a String| Filter {
        path: path.to_vec(),
        test: Test::Is(value),
    };
    values.iter().map(is).collect()
}

fn one<'a>(path: &[&'a str], value: Option<&'a String>) -> Vec<Filter<'a>> {
    value.map_or_else(Vec::new, |value| any(path, std::slice::from_ref(value)))
}

/// One line for an operator; successes are for those who look for them (Keycloak's log levels).
fn log(realm: &Realm, event: &Event<'_>) {
    if let Some(error) = event.error {
        tracing::warn!(
            realm.name = realm.name(),
            event.kind = event.kind,
            event.error = error,
            client.id = event.client_id,
            user.id = event.user_id,
            client.address = event.address,
            "login event"
        );
    } else {
        tracing::debug!(
            realm.name = realm.name(),
            event.kind = event.kind,
            client.id = event.client_id,
            user.id = event.user_id,
            client.address = event.address,
            "login event"
        );
    }
}
