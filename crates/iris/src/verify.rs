//! Tokens that come back: introspection, userinfo, revocation, logout and the Admin REST API.

use std::sync::Arc;

use o28m_core::limits::TOKEN_BYTES_MAX;
use o28m_jose::CompactJws;
use serde_json::{Map, Value, json};

use crate::dpop::bound_to;
use crate::model::{Client, Fields as _, Realm, Rep, User};
use crate::session::{Login, login_ends};
use crate::token::{Issue, Origin, apply_scopes, not_before};
use crate::{Error, Iris};

/// Why a token is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inactive {
    /// Not a token of this realm.
    Invalid,
    /// Its time is over.
    Expired,
    /// Issued under another issuer.
    Issuer,
    /// Its client, user or session ended, or it was revoked.
    Ended,
}

/// An active access token and whom it stands for.
pub(crate) struct Active {
    pub(crate) claims: Rep,
    pub(crate) client: Arc<Client>,
    pub(crate) user: Arc<User>,
    pub(crate) login: Option<Login>,
}

/// What a revocation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The token is revoked.
    Done,
    /// It was no token of this realm.
    Unknown,
    /// It belongs to another client.
    OtherClient,
}

impl Iris {
    /// The claims of a token signed by this realm, expired or not. The algorithm is the key's.
    pub(crate) fn signed_claims(&self, realm: &Realm, token: &str) -> Option<Rep> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let jws = CompactJws::parse(token).ok()?;
        let header: Rep = serde_json::from_slice(&jws.header).ok()?;
        let key = header.text("kid").and_then(|kid| realm.keys.by_kid(kid))?;
        let algorithm = key.algorithm().map(o28m_jose::Algorithm::name);
        if header.text("alg") != algorithm || header.contains_key("crit") {
            return None;
        }
        key.verify(&jws).ok()?;
        serde_json::from_slice(&jws.payload).ok()
    }

    /// Checks signature, issuer and time of a token of this realm.
    pub(crate) fn check_signature(
        &self,
        realm: &Realm,
        token: &str,
        issuer: &str,
    ) -> Result<Rep, Inactive> {
        let claims = self.signed_claims(realm, token);
        let claims = claims.ok_or(Inactive::Invalid)?;
        let now_s = self.ambient.now().seconds();
        let unlimited = claims.text("typ") == Some("Offline") && !claims.contains_key("exp");
        if !unlimited && claims.int("exp") <= now_s {
            return Err(Inactive::Expired);
        }
        if claims.text("iss") != Some(issuer) {
            return Err(Inactive::Issuer);
        }
        Ok(claims)
    }

    /// Everything behind an access token that must still stand for it to be active.
    pub(crate) async fn active(
        &self,
        realm: &Realm,
        token: &str,
        issuer: &str,
    ) -> Result<Result<Active, Inactive>, Error> {
        let claims = match self.check_signature(realm, token, issuer) {
            Ok(claims) if matches!(claims.text("typ"), Some("Bearer" | "DPoP")) => claims,
            Ok(_) => return Ok(Err(Inactive::Invalid)),
            Err(inactive) => return Ok(Err(inactive)),
        };
        let client = self
            .client(realm.id(), claims.text("azp").unwrap_or_default())
            .await?;
        let Some(client) = client.filter(|client| client.body.rep.flag("enabled")) else {
            return Ok(Err(Inactive::Ended));
        };
        let mut login = None;
        if let Some(sid) = claims.text("sid") {
            login = self.login(realm.id(), sid).await?;
            let now_s = self.ambient.now().seconds();
            let part = login
                .as_ref()
                .and_then(|login| login.part(&client.body.id, now_s));
            // A part that began later is another one: what was issued before stays refused.
            if part.is_none_or(|part| claims.int("iat") < part.started_s) {
                return Ok(Err(Inactive::Ended));
            }
        }
        let user = match (&login, claims.text("sub")) {
            (Some(login), _) => self.user(realm.id(), &login.user).await?,
            (None, Some(subject)) => self.user(realm.id(), subject).await?,
            (None, None) => None,
        };
        let Some(user) = user.filter(|user| user.is_enabled()) else {
            return Ok(Err(Inactive::Ended));
        };
        let stale = claims.int("iat") < not_before(realm, &client, &user);
        if stale
            || self
                .is_revoked(realm.id(), claims.text("jti").unwrap_or_default())
                .await?
        {
            return Ok(Err(Inactive::Ended));
        }
        Ok(Ok(Active {
            claims,
            client,
            user,
            login,
        }))
    }

    /// The introspection response of a token (RFC 7662 section 2.2).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn introspect(
        &self,
        realm: &Realm,
        token: &str,
        issuer: &str,
    ) -> Result<Map<String, Value>, Error> {
        if let Ok(active) = self.active(realm, token, issuer).await? {
            let Active {
                mut claims,
                client,
                user,
                ..
            } = active;
            if !claims.contains_key("sub") {
                claims.insert("sub".to_owned(), json!(user.body.id));
            }
            claims.insert("client_id".to_owned(), json!(client.client_id()));
            claims.insert("username".to_owned(), json!(user.username()));
            let kind = claims.text("typ").unwrap_or("Bearer").to_owned();
            claims.insert("token_type".to_owned(), json!(kind));
            claims.insert("active".to_owned(), json!(true));
            return Ok(claims);
        }
        if let Some(mut claims) = self.active_refresh(realm, token, issuer).await? {
            let client_id = claims.get("azp").cloned().unwrap_or_default();
            claims.insert("client_id".to_owned(), client_id);
            claims.insert("active".to_owned(), json!(true));
            return Ok(claims);
        }
        let mut inactive = Map::new();
        inactive.insert("active".to_owned(), json!(false));
        Ok(inactive)
    }

    /// The claims of a refresh token whose login goes on.
    async fn active_refresh(
        &self,
        realm: &Realm,
        token: &str,
        issuer: &str,
    ) -> Result<Option<Rep>, Error> {
        let Ok(claims) = self.check_signature(realm, token, issuer) else {
            return Ok(None);
        };
        let is_refresh = matches!(claims.text("typ"), Some("Refresh" | "Offline"));
        let login = match claims.text("sid").filter(|_| is_refresh) {
            Some(sid) => self.login(realm.id(), sid).await?,
            None => None,
        };
        Ok(login.map(|_| claims))
    }

    /// Revokes a token of the authenticated client (RFC 7009): a refresh token ends its login's part
    /// for the client, an access token is refused until it expires.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(
        &self,
        realm: &Realm,
        client: &Client,
        token: &str,
        issuer: &str,
    ) -> Result<Revocation, Error> {
        let Ok(claims) = self.check_signature(realm, token, issuer) else {
            return Ok(Revocation::Unknown);
        };
        if claims.text("azp") != Some(client.client_id()) {
            return Ok(Revocation::OtherClient);
        }
        match (claims.text("typ"), claims.text("sid"), claims.text("jti")) {
            (Some("Refresh" | "Offline"), Some(sid), _) => {
                self.leave_login(realm, client, sid).await?;
                Ok(Revocation::Done)
            }
            (Some("Bearer" | "DPoP"), _, Some(jti)) => {
                self.revoke_jti(realm.id(), jti, claims.int("exp")).await?;
                Ok(Revocation::Done)
            }
            _ => Ok(Revocation::Unknown),
        }
    }

    /// Takes a client out of a login, which ends with its last client.
    async fn leave_login(&self, realm: &Realm, client: &Client, sid: &str) -> Result<(), Error> {
        let left = self.detach(realm, &client.body.id, sid).await?;
        if left.is_some_and(|login| login.clients.is_empty()) {
            return self.end_login(realm.id(), sid).await;
        }
        Ok(())
    }

    /// Takes a client out of a login, which goes on.
    pub(crate) async fn detach(
        &self,
        realm: &Realm,
        client_id: &str,
        sid: &str,
    ) -> Result<Option<Login>, Error> {
        let now_s = self.ambient.now().seconds();
        self.change_login(realm.id(), sid, |login| {
            login.clients.remove(client_id);
            login_ends(realm, login, now_s).next_s()
        })
        .await
    }

    /// Ends the login of a refresh token; false when the token is no refresh token of the client.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logout(
        &self,
        realm: &Arc<Realm>,
        client: &Client,
        token: &str,
        origin: Origin<'_>,
    ) -> Result<bool, Error> {
        let Ok(claims) = self.check_signature(realm, token, origin.issuer) else {
            return Ok(false);
        };
        let is_refresh = matches!(claims.text("typ"), Some("Refresh" | "Offline"));
        if !is_refresh || claims.text("azp") != Some(client.client_id()) {
            return Ok(false);
        }
        if let Some(sid) = claims.text("sid")
            && let Some(login) = self.login(realm.id(), sid).await?
        {
            self.log_out(realm, &login, origin).await?;
        }
        Ok(true)
    }

    /// Whether a token of the realm's is in force, whatever it is bound to.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_active(
        &self,
        realm: &Arc<Realm>,
        token: &str,
        issuer: &str,
    ) -> Result<bool, Error> {
        Ok(self.active(realm, token, issuer).await?.is_ok())
    }

    /// The userinfo claims behind an access token, and whether the token may read them;
    /// `None` for a token that is not active.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn userinfo(
        &self,
        realm: &Arc<Realm>,
        token: &str,
        origin: Origin<'_>,
    ) -> Result<Option<Result<Map<String, Value>, MissingScope>>, Error> {
        let Ok(active) = self.active(realm, token, origin.issuer).await? else {
            return Ok(None);
        };
        if bound_to(&active.claims) != origin.proof {
            return Ok(None);
        }
        let scope = active.claims.text("scope").unwrap_or_default().to_owned();
        if !scope.split(' ').any(|word| word == "openid") {
            return Ok(Some(Err(MissingScope)));
        }
        // The client may have lost a scope since; what is left of it counts.
        let left = apply_scopes(realm, &active.client, &active.user, Some(&scope));
        let Ok(applied) = left.or_else(|_| apply_scopes(realm, &active.client, &active.user, None))
        else {
            return Ok(None);
        };
        let notes = active.login.as_ref().map_or(&[][..], |login| &login.notes);
        let issue = Issue {
            realm,
            client: &active.client,
            user: &active.user,
            applied: &applied,
            origin,
            notes,
            login: None,
            nonce: None,
            audience: &[],
            grant: "",
        };
        Ok(Some(Ok(self.userinfo_claims(&issue).await?)))
    }
}

/// The token lacks scope `openid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingScope;
