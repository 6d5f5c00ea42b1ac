//! Finding logins by user and by client, and ending them. Each login has records beside it that name
//! it: one for its user, one for each client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use o28m_store::{Session, SessionQuery};
use serde_json::{Map, Value, json};

use crate::model::{ClientBody, Realm, RealmBody, Rep, User, UserBody, kind};
use crate::session::Login;
use crate::token::Origin;
use crate::{Error, Iris, Thing};

/// Logins read at once.
const PAGE: u32 = 200;
/// Logins of one user that are looked through.
const LOGINS_MAX: u32 = 1000;
/// Logins a list gives unless it says otherwise (Keycloak 26.5).
const LIST_DEFAULT: u32 = 100;
/// Characters of a client's id.
const UUID_CHARS: u32 = 36;

/// Whose logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionsOf<'a> {
    /// A user's.
    User(&'a str),
    /// A client's.
    Client(&'a str),
}

fn prefix(of: SessionsOf<'_>, offline: bool) -> String {
    let kind = if offline { "offline" } else { "online" };
    match of {
        SessionsOf::User(id) => format!("{kind}-user/{id}/"),
        SessionsOf::Client(id) => format!("{kind}-client/{id}/"),
    }
}

/// The ids of the records that name a login.
pub(crate) fn names(login: &Login) -> Vec<String> {
    let clients = login.clients.keys().map(|id| SessionsOf::Client(id));
    std::iter::once(SessionsOf::User(&login.user))
        .chain(clients)
        .map(|of| format!("{}{}", prefix(of, login.offline), login.id))
        .collect()
}

/// The records that name a login, living as long as it, and those of clients as long as their part.
pub(crate) fn named(realm_id: &str, login: &Login, expires_at_s: i64) -> Vec<Session> {
    let clients = login.clients.values().map(|part| part.ends_s);
    let ends = std::iter::once(expires_at_s).chain(clients);
    let record = |(id, ends_s): (String, i64)| Session {
        id,
        owner: realm_id.to_owned(),
        expires_at_s: ends_s.min(expires_at_s),
        body: Value::Null,
    };
    names(login).into_iter().zip(ends).map(record).collect()
}

impl Iris {
    fn query<'a>(&self, realm_id: &'a str, prefix: &'a str) -> SessionQuery<'a> {
        SessionQuery {
            owner: realm_id,
            prefix,
            now_s: self.ambient.now().seconds(),
            limit: PAGE,
            ..SessionQuery::default()
        }
    }

    async fn page(&self, query: &SessionQuery<'_>) -> Result<Vec<Login>, Error> {
        let found = self.store.sessions_named(query).await?;
        let read = |session: Session| {
            let login = serde_json::from_value::<Login>(session.body).ok()?;
            Some(Login {
                id: session.id,
                ..login
            })
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// Logins of a user or client, the first thousand.
    pub(crate) async fn all_logins(
        &self,
        realm_id: &str,
        of: SessionsOf<'_>,
        offline: bool,
    ) -> Result<Vec<Login>, Error> {
        let prefix = prefix(of, offline);
        let query = SessionQuery {
            limit: LOGINS_MAX,
            ..self.query(realm_id, &prefix)
        };
        self.page(&query).await
    }

    /// Logins of a user or client, as representations.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn sessions(
        &self,
        realm_id: &str,
        of: SessionsOf<'_>,
        offline: bool,
        first: u32,
        max: Option<u32>,
    ) -> Result<Vec<Rep>, Error> {
        self.check_holder(realm_id, of).await?;
        let prefix = prefix(of, offline);
        let query = SessionQuery {
            skip: first,
            limit: max.unwrap_or(LIST_DEFAULT).min(1000),
            ..self.query(realm_id, &prefix)
        };
        let logins = self.page(&query).await?;
        let names = self.client_names(realm_id, &logins).await?;
        let mut reps = Vec::new();
        for login in &logins {
            let user = self.user(realm_id, &login.user).await?;
            reps.push(self.render_session(login, user.as_deref(), &names));
        }
        Ok(reps)
    }

    /// The `clientId` of every client that has a part in these logins, by id.
    async fn client_names(
        &self,
        realm_id: &str,
        logins: &[Login],
    ) -> Result<BTreeMap<String, String>, Error> {
        let ids: BTreeSet<&String> = logins.iter().flat_map(|it| it.clients.keys()).collect();
        let mut names = BTreeMap::new();
        for id in ids {
            let found = self.read::<ClientBody>(kind::CLIENT, realm_id, id).await?;
            if let Some((client, _)) = found {
                names.insert(id.clone(), client.client_id);
            }
        }
        Ok(names)
    }

    async fn check_holder(&self, realm_id: &str, of: SessionsOf<'_>) -> Result<(), Error> {
        let (kind, id, missing) = match of {
            SessionsOf::User(id) => (kind::USER, id, Thing::User),
            SessionsOf::Client(id) => (kind::CLIENT, id, Thing::Client),
        };
        let found = self.store.get(kind, id).await?;
        let own = found.is_some_and(|record| record.owner == realm_id);
        own.then_some(()).ok_or(Error::Missing(missing))
    }

    fn render_session(
        &self,
        login: &Login,
        user: Option<&User>,
        names: &BTreeMap<String, String>,
    ) -> Rep {
        let now_s = self.ambient.now().seconds();
        let parts = login.clients.iter().filter(|(_, part)| part.ends_s > now_s);
        let named = parts.filter_map(|(id, _)| Some((id.clone(), json!(names.get(id)?))));
        let clients: Map<String, Value> = named.collect();
        let rep = json!({
            "id": login.id, "username": user.map(User::username), "userId": login.user,
            "ipAddress": login.address, "start": login.started_s.saturating_mul(1000),
            "lastAccess": login.used_s.max(login.started_s).saturating_mul(1000),
            "rememberMe": login.remember, "clients": clients, "transientUser": false,
        });
        rep.as_object().cloned().unwrap_or_default()
    }

    /// How many logins a client has.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn session_count(
        &self,
        realm_id: &str,
        client: &str,
        offline: bool,
    ) -> Result<u64, Error> {
        let of = SessionsOf::Client(client);
        self.check_holder(realm_id, of).await?;
        let prefix = prefix(of, offline);
        let query = self.query(realm_id, &prefix);
        Ok(self.store.count_sessions(&query).await?)
    }

    /// How many logins each client of a realm has, clients without any left out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn client_session_stats(&self, realm_id: &str) -> Result<Vec<Value>, Error> {
        let mut counts: Map<String, Value> = Map::new();
        for (prefix, field) in [("online-client/", "active"), ("offline-client/", "offline")] {
            let query = self.query(realm_id, prefix);
            for (id, count) in self.store.count_sessions_by(&query, UUID_CHARS).await? {
                let none = || json!({"id": id, "active": "0", "offline": "0"});
                let entry = counts.entry(id.clone()).or_insert_with(none);
                if let Some(entry) = entry.as_object_mut() {
                    entry.insert(field.to_owned(), json!(count.to_string()));
                }
            }
        }
        let mut stats = Vec::new();
        for (id, mut entry) in counts {
            let found = self.read::<ClientBody>(kind::CLIENT, realm_id, &id).await?;
            let (Some((client, _)), Some(map)) = (found, entry.as_object_mut()) else {
                continue;
            };
            map.insert("clientId".to_owned(), json!(client.client_id));
            stats.push(entry);
        }
        Ok(stats)
    }

    /// Ends one login.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn delete_login(
        &self,
        realm: &Arc<Realm>,
        id: &str,
        origin: Origin<'_>,
    ) -> Result<(), Error> {
        let login = self.login(realm.id(), id).await?;
        let login = login.ok_or(Error::Missing(Thing::Session))?;
        self.log_out(realm, &login, origin).await
    }

    /// Ends every login of a user: tokens of all their clients are refused from now on, and clients are
    /// told.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn logout_user(
        &self,
        realm: &Arc<Realm>,
        user: &str,
        origin: Origin<'_>,
    ) -> Result<(), Error> {
        let realm_id = realm.id();
        self.check_holder(realm_id, SessionsOf::User(user)).await?;
        let prefix = prefix(SessionsOf::User(user), false);
        loop {
            let logins = self.page(&self.query(realm_id, &prefix)).await?;
            if logins.is_empty() {
                break;
            }
            self.log_out_all(realm, &logins, origin).await?;
        }
        // Records that name logins which are gone already.
        self.end_logins(realm_id, &prefix).await?;
        // Tokens without a login, of lightweight kinds, are refused by their time.
        let now_s = self.ambient.now().seconds();
        let change = |user: &mut UserBody| {
            user.rep.insert("notBefore".to_owned(), json!(now_s));
            Ok(Vec::new())
        };
        self.change::<UserBody>(realm_id, user, Thing::User, change)
            .await?;
        Ok(())
    }

    /// Ends every login of a realm.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logout_all(&self, realm_id: &str) -> Result<(), Error> {
        self.end_logins(realm_id, "online-user/").await?;
        let now_s = self.ambient.now().seconds();
        let change = |realm: &mut RealmBody| {
            realm.rep.insert("notBefore".to_owned(), json!(now_s));
            Ok(Vec::new())
        };
        self.change::<RealmBody>(realm_id, realm_id, Thing::Realm, change)
            .await?;
        Ok(())
    }

    /// Ends the logins that records below a prefix name, a page at a time: each page is gone before
    /// the next one is read.
    pub(crate) async fn end_logins(&self, realm_id: &str, prefix: &str) -> Result<(), Error> {
        loop {
            let found = self.store.sessions(&self.query(realm_id, prefix)).await?;
            if found.is_empty() {
                return Ok(());
            }
            let mut done = Vec::new();
            for record in found {
                if let Some(id) = record.id.rsplit('/').next() {
                    self.end_login(realm_id, id).await?;
                }
                done.push(record.id);
            }
            self.store.delete_sessions(realm_id, &done).await?;
        }
    }
}
