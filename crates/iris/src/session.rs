//! Logins that refresh tokens refer to, kept in the store so that any replica can serve them.

use std::collections::BTreeMap;

use o28m_store::Session;
use serde::{Deserialize, Serialize};

use crate::grant::AUTH_TIME;
use crate::model::{Client, Fields as _, Realm};
use crate::{Busy, Error, Iris, sessions};

/// What is kept of a login.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Login {
    #[serde(skip)]
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) started_s: i64,
    /// When it was last used, to the second.
    #[serde(default)]
    pub(crate) used_s: i64,
    pub(crate) offline: bool,
    /// The person asked to be remembered, which has lifetimes of its own.
    #[serde(default)]
    pub(crate) remember: bool,
    /// From where the login was made.
    #[serde(default)]
    pub(crate) address: String,
    /// The clients that have tokens of it, by id.
    pub(crate) clients: BTreeMap<String, Part>,
    pub(crate) notes: Vec<(String, String)>,
}

/// One client's part of a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// The scope parameter granted.
    pub(crate) scope: String,
    pub(crate) started_s: i64,
    /// When it ends unless it is used before.
    pub(crate) ends_s: i64,
    /// It came from a login that was there already, without a password.
    #[serde(default)]
    pub(crate) sso: bool,
    /// The issuer of its tokens.
    #[serde(default)]
    pub(crate) issuer: String,
}

/// When a session and its tokens end.
pub(crate) struct Ends {
    /// The end, whatever happens, in seconds since the epoch; `None` for an unlimited offline session.
    pub(crate) at_most_s: Option<i64>,
    /// The end unless it is used before.
    pub(crate) idle_s: i64,
}

/// A client's setting that overrides the realm's, when it is a positive number.
fn setting(client: &Client, attribute: &str, realm: &Realm, field: &str) -> i64 {
    let own = client
        .attribute_int(attribute)
        .filter(|seconds| *seconds > 0);
    own.unwrap_or_else(|| realm.body.rep.int(field))
}

/// A realm's lifetime of logins, for those to be remembered when there is one.
fn lifetime(realm: &Realm, field: &str, remember: bool) -> i64 {
    let rep = &realm.body.rep;
    let remembered = rep.int(&format!("{field}RememberMe"));
    if remember && remembered > 0 {
        remembered
    } else {
        rep.int(field)
    }
}

/// The ends of a login itself, whichever clients take part in it.
pub(crate) fn login_ends(realm: &Realm, login: &Login, now_s: i64) -> Ends {
    let max = lifetime(realm, "ssoSessionMaxLifespan", login.remember);
    let idle = lifetime(realm, "ssoSessionIdleTimeout", login.remember);
    Ends {
        at_most_s: Some(login.started_s.saturating_add(max)),
        idle_s: now_s.saturating_add(idle),
    }
}

/// The ends of a client's part of a login, begun at `started_s` and used now.
pub(crate) fn ends(
    realm: &Realm,
    client: &Client,
    login: &Login,
    started_s: i64,
    now_s: i64,
) -> Ends {
    let rep = &realm.body.rep;
    if login.offline {
        let idle = setting(
            client,
            "client.offline.session.idle.timeout",
            realm,
            "offlineSessionIdleTimeout",
        );
        let limited = rep.flag("offlineSessionMaxLifespanEnabled");
        let max = setting(
            client,
            "client.offline.session.max.lifespan",
            realm,
            "offlineSessionMaxLifespan",
        );
        let at_most_s = limited.then(|| login.started_s.saturating_add(max));
        return Ends {
            at_most_s,
            idle_s: now_s.saturating_add(idle),
        };
    }
    let own = |attribute: &str, field: &str, since_s: i64| {
        let seconds = setting(client, attribute, realm, field);
        (seconds > 0).then(|| since_s.saturating_add(seconds))
    };
    let own_max = own(
        "client.session.max.lifespan",
        "clientSessionMaxLifespan",
        started_s,
    );
    let own_idle = own(
        "client.session.idle.timeout",
        "clientSessionIdleTimeout",
        now_s,
    );
    let least = |login: i64, own: Option<i64>| own.map_or(login, |own| own.min(login));
    let login = login_ends(realm, login, now_s);
    Ends {
        at_most_s: login.at_most_s.map(|end_s| least(end_s, own_max)),
        idle_s: least(login.idle_s, own_idle),
    }
}

impl Ends {
    /// The nearer end.
    pub(crate) fn next_s(&self) -> i64 {
        self.at_most_s
            .map_or(self.idle_s, |most| most.min(self.idle_s))
    }
}

/// The id under which a revoked access token is remembered.
fn revoked_id(jti: &str) -> String {
    format!("revoked/{jti}")
}

/// The id of one permitted use of a refresh token.
fn use_id(jti: &str, number: i64) -> String {
    format!("refresh/{jti}/{number}")
}

/// Attempts to change a login that others change at the same time.
const ATTEMPTS: usize = 16;

/// Uses of one refresh token that can be counted.
const USES_MAX: i64 = 16;

impl Login {
    /// A client's part that has not ended.
    pub(crate) fn part(&self, client_id: &str, now_s: i64) -> Option<&Part> {
        self.clients
            .get(client_id)
            .filter(|part| part.ends_s > now_s)
    }

    /// When the person last proved who they are.
    pub(crate) fn auth_s(&self) -> Option<i64> {
        self.note(AUTH_TIME)?.parse().ok()
    }

    /// A session note.
    pub(crate) fn note(&self, name: &str) -> Option<&str> {
        let found = self.notes.iter().find(|(note, _)| note == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Sets a session note.
    pub(crate) fn set_note(&mut self, name: &str, value: String) {
        self.notes.retain(|(note, _)| note != name);
        self.notes.push((name.to_owned(), value));
    }
}

/// A login as it is stored.
fn record(realm_id: &str, login: &Login, expires_at_s: i64) -> Session {
    Session {
        id: login.id.clone(),
        owner: realm_id.to_owned(),
        expires_at_s,
        // Plain data with text keys, which always has a JSON form.
        body: serde_json::to_value(login).unwrap_or_default(),
    }
}

impl Iris {
    /// A login that has not ended.
    pub(crate) async fn login(&self, realm_id: &str, id: &str) -> Result<Option<Login>, Error> {
        let now_s = self.ambient.now().seconds();
        let Some(session) = self.store.session(realm_id, id, now_s).await? else {
            return Ok(None);
        };
        // Other records (revocations, counted uses) share the table but are no logins.
        let login = serde_json::from_value::<Login>(session.body).ok();
        Ok(login.map(|login| Login {
            id: session.id,
            ..login
        }))
    }

    /// Begins a login.
    pub(crate) async fn keep_login(
        &self,
        realm_id: &str,
        login: &Login,
        expires_at_s: i64,
    ) -> Result<(), Error> {
        let mut all = sessions::named(realm_id, login, expires_at_s);
        all.push(record(realm_id, login, expires_at_s));
        Ok(self.store.put_sessions(&all).await?)
    }

    /// Ends a login.
    pub(crate) async fn end_login(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        let mut gone = match self.login(realm_id, id).await? {
            Some(login) => sessions::names(&login),
            None => Vec::new(),
        };
        gone.push(id.to_owned());
        self.store.delete_sessions(realm_id, &gone).await?;
        Ok(())
    }

    /// Changes a login that goes on and gives it as it is then; `None` when it ended meanwhile.
    /// Others may change it at the same time, so `change`, which gives the new end, may run again.
    ///
    /// # Errors
    /// When the store fails, and when too many others change it.
    pub(crate) async fn change_login(
        &self,
        realm_id: &str,
        id: &str,
        mut change: impl FnMut(&mut Login) -> i64 + Send,
    ) -> Result<Option<Login>, Error> {
        for _ in 0..ATTEMPTS {
            let now_s = self.ambient.now().seconds();
            let Some(session) = self.store.session(realm_id, id, now_s).await? else {
                return Ok(None);
            };
            let Ok(mut login) = serde_json::from_value::<Login>(session.body.clone()) else {
                return Ok(None);
            };
            login.id = session.id;
            let before = sessions::names(&login);
            let expires_at_s = change(&mut login);
            let next = record(realm_id, &login, expires_at_s);
            if self
                .store
                .replace_session(&next, Some(&session.body))
                .await?
            {
                self.name_login(realm_id, &login, expires_at_s, before)
                    .await?;
                return Ok(Some(login));
            }
        }
        Err(Error::Busy(Busy))
    }

    /// Brings the records that name a login in line with it.
    async fn name_login(
        &self,
        realm_id: &str,
        login: &Login,
        expires_at_s: i64,
        mut before: Vec<String>,
    ) -> Result<(), Error> {
        let named = sessions::named(realm_id, login, expires_at_s);
        before.retain(|id| !named.iter().any(|session| session.id == *id));
        self.store.put_sessions(&named).await?;
        if !before.is_empty() {
            self.store.delete_sessions(realm_id, &before).await?;
        }
        Ok(())
    }

    /// Remembers a revoked token until it expires.
    pub(crate) async fn revoke_jti(
        &self,
        realm_id: &str,
        jti: &str,
        expires_at_s: i64,
    ) -> Result<(), Error> {
        let session = Session {
            id: revoked_id(jti),
            owner: realm_id.to_owned(),
            expires_at_s,
            body: serde_json::Value::Null,
        };
        Ok(self.store.put_session(&session).await?)
    }

    pub(crate) async fn is_revoked(&self, realm_id: &str, jti: &str) -> Result<bool, Error> {
        let now_s = self.ambient.now().seconds();
        Ok(self
            .store
            .session(realm_id, &revoked_id(jti), now_s)
            .await?
            .is_some())
    }

    /// Allows a refresh token to be used `1 + reuse` times.
    pub(crate) async fn allow_uses(
        &self,
        realm_id: &str,
        jti: &str,
        reuse: i64,
        expires_at_s: i64,
    ) -> Result<(), Error> {
        for number in 0..=reuse.clamp(0, USES_MAX) {
            let session = Session {
                id: use_id(jti, number),
                owner: realm_id.to_owned(),
                expires_at_s,
                body: serde_json::Value::Null,
            };
            self.store.put_session(&session).await?;
        }
        Ok(())
    }

    /// Takes one permitted use; each is taken by exactly one caller.
    pub(crate) async fn take_use(
        &self,
        realm_id: &str,
        jti: &str,
        reuse: i64,
    ) -> Result<bool, Error> {
        for number in 0..=reuse.clamp(0, USES_MAX) {
            if self
                .store
                .delete_session(realm_id, &use_id(jti, number))
                .await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
