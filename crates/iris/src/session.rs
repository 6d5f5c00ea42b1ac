//! Logins that refresh tokens refer to, kept in the store so that any replica can serve them.

use std::collections::BTreeMap;

use o28m_store::Session;
use serde::{Deserialize, Serialize};

use crate::model::{Client, Fields as _, Realm};
use crate::{Error, Iris, sessions};

/// What is kept of a login.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Login {
    #[serde(skip)]
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) started_s: i64,
    pub(crate) offline: bool,
    /// Scope parameter per client id.
    pub(crate) clients: BTreeMap<String, String>,
    pub(crate) notes: Vec<(String, String)>,
    /// Address of who logged in.
    #[serde(default)]
    pub(crate) address: String,
    /// When it was last used, in seconds since the epoch.
    #[serde(default)]
    pub(crate) used_s: i64,
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

/// The ends of a login that is used now.
pub(crate) fn ends(realm: &Realm, client: &Client, login: &Login, now_s: i64) -> Ends {
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
    let idle = rep.int("ssoSessionIdleTimeout");
    let max = rep.int("ssoSessionMaxLifespan");
    let client_idle = setting(
        client,
        "client.session.idle.timeout",
        realm,
        "clientSessionIdleTimeout",
    );
    let client_max = setting(
        client,
        "client.session.max.lifespan",
        realm,
        "clientSessionMaxLifespan",
    );
    let least = |realm: i64, client: i64| if client > 0 { realm.min(client) } else { realm };
    Ends {
        at_most_s: Some(login.started_s.saturating_add(least(max, client_max))),
        idle_s: now_s.saturating_add(least(idle, client_idle)),
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

/// The id of the mark that a login was ended.
fn ended_id(id: &str) -> String {
    format!("ended/{id}")
}

/// Seconds the mark of an ended login is kept: longer than any request that still holds it.
const ENDED_MARK_S: i64 = 300;

/// Uses of one refresh token that can be counted.
const USES_MAX: i64 = 16;

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

    pub(crate) async fn keep_login(
        &self,
        realm_id: &str,
        login: &Login,
        expires_at_s: i64,
    ) -> Result<(), Error> {
        let body = serde_json::to_value(login).unwrap_or_default();
        let session = Session {
            id: login.id.clone(),
            owner: realm_id.to_owned(),
            expires_at_s,
            body,
        };
        let mut all = sessions::named(realm_id, login, expires_at_s);
        all.push(session);
        Ok(self.store.put_sessions(&all).await?)
    }

    /// Ends a login. A refresh that read it before may write it back after: the mark tells it not to.
    pub(crate) async fn end_login(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        let mark = Session {
            id: ended_id(id),
            owner: realm_id.to_owned(),
            expires_at_s: self.ambient.now().seconds().saturating_add(ENDED_MARK_S),
            body: serde_json::Value::Null,
        };
        self.store.put_session(&mark).await?;
        let mut gone = match self.login(realm_id, id).await? {
            Some(login) => sessions::names(&login),
            None => Vec::new(),
        };
        gone.push(id.to_owned());
        self.store.delete_sessions(realm_id, &gone).await?;
        Ok(())
    }

    /// Keeps a login that goes on; false when it was ended meanwhile.
    pub(crate) async fn renew_login(
        &self,
        realm_id: &str,
        login: &Login,
        expires_at_s: i64,
    ) -> Result<bool, Error> {
        self.keep_login(realm_id, login, expires_at_s).await?;
        let now_s = self.ambient.now().seconds();
        if self
            .store
            .session(realm_id, &ended_id(&login.id), now_s)
            .await?
            .is_none()
        {
            return Ok(true);
        }
        self.store.delete_session(realm_id, &login.id).await?;
        Ok(false)
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
