//! Client authentication and the grants.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use o28m_core::Secret;
use o28m_oauth::{ClientCredentials, Scopes};

use crate::admin::rotation;
use crate::dpop::{self, bound_to};
use crate::error::{CodeProblem, RefreshProblem};
use crate::login::assertion;
use crate::login::code::Redemption;
use crate::login::exchange::Exchange;
use crate::model::{Client, Fields as _, Realm, User, UserBody, kind};
use crate::session::{Login, Part, ends, login_ends};
use crate::token::{Applied, Issue, Origin, Tokens, apply_scopes, not_before};
use crate::verify::Inactive;
use crate::{Error, GrantError, Iris};

/// Longer user names are unknown without a look into the store.
const USERNAME_BYTES_MAX: usize = 1024;
/// Session note with the time of the login.
pub(crate) const AUTH_TIME: &str = "AUTH_TIME";

/// A grant that this version serves.
#[derive(Clone, Debug)]
pub enum Grant {
    /// RFC 6749 section 4.4.
    ClientCredentials,
    /// RFC 6749 section 4.3.
    Password {
        /// `username`.
        username: Option<String>,
        /// `password`.
        password: Option<Secret<String>>,
    },
    /// RFC 6749 section 6.
    RefreshToken {
        /// `refresh_token`.
        token: Option<String>,
    },
    /// RFC 6749 section 4.1.3.
    AuthorizationCode(Redemption),
    /// RFC 8693; only for realms and clients that allow it.
    TokenExchange(Exchange),
    /// RFC 8628; only for realms and clients that allow it.
    DeviceCode {
        /// `device_code`.
        code: Option<String>,
        /// `code_verifier`.
        verifier: Option<String>,
    },
}

impl Iris {
    /// Finds and authenticates the client of a request (Keycloak 26.5 `ClientIdAndSecretAuthenticator`,
    /// `JWTClientAuthenticator`, `JWTClientSecretAuthenticator`).
    ///
    /// # Errors
    /// [`GrantError::ClientUnknown`], [`GrantError::ClientSecret`], [`GrantError::ClientAssertion`],
    /// [`GrantError::BearerOnly`], [`GrantError::Failed`].
    pub async fn authenticate(
        &self,
        realm: &Realm,
        credentials: &ClientCredentials,
        origin: Origin<'_>,
    ) -> Result<Arc<Client>, GrantError> {
        let sent = credentials
            .secret
            .as_ref()
            .map_or("", |secret| secret.expose().as_str());
        let named = credentials.id.clone();
        let found = match named.or_else(|| assertion::subject(&credentials.assertion)) {
            Some(id) => self.client(realm.id(), &id).await?,
            None => None,
        };
        let Some(client) = found.filter(|client| client.body.rep.flag("enabled")) else {
            // The comparison is made all the same, so that unknown clients take as long.
            let _ = is_same(sent, "00000000000000000000000000000000");
            return Err(GrantError::ClientUnknown);
        };
        if client.body.rep.flag("bearerOnly") {
            return Err(GrantError::BearerOnly);
        }
        if client.is_public() {
            return Ok(client);
        }
        match client.body.rep.text("clientAuthenticatorType") {
            Some("client-secret") => {}
            Some(method @ ("client-jwt" | "client-secret-jwt")) => {
                let assertion = &credentials.assertion;
                self.check_assertion(realm, &client, method, assertion, origin)
                    .await?;
                return Ok(client);
            }
            _ => return Err(GrantError::ClientUnknown),
        }
        let now_s = self.ambient.now().seconds();
        let primary = client
            .secret
            .as_ref()
            .map_or("", |secret| secret.expose().as_str());
        let rotated = rotation::rotated_secret(&client, now_s).unwrap_or_default();
        let fits = is_same(sent, primary) | is_same(sent, rotated);
        if !fits || rotation::is_expired(&client, now_s) {
            return Err(GrantError::ClientSecret);
        }
        Ok(client)
    }

    /// Serves a grant for an authenticated client.
    ///
    /// # Errors
    /// [`GrantError`].
    pub async fn grant(
        &self,
        realm: &Arc<Realm>,
        client: &Arc<Client>,
        origin: Origin<'_>,
        grant: Grant,
        scope: Option<&str>,
    ) -> Result<Tokens, GrantError> {
        dpop::demand(client, origin)?;
        match grant {
            Grant::ClientCredentials => self.client_credentials(realm, client, origin, scope).await,
            Grant::Password { username, password } => {
                let username = username.ok_or(GrantError::UsernameMissing);
                self.may_use_password(client)?;
                let password = password.unwrap_or_else(|| Secret::new(String::new()));
                self.password_grant(realm, client, origin, &username?, password, scope)
                    .await
            }
            Grant::RefreshToken { token } => {
                let token = token.ok_or(GrantError::RefreshMissing)?;
                self.refresh(realm, client, origin, &token, scope).await
            }
            Grant::AuthorizationCode(sent) => self.redeem(realm, client, origin, &sent).await,
            Grant::TokenExchange(sent) => {
                Box::pin(self.exchange(realm, client, origin, &sent, scope)).await
            }
            Grant::DeviceCode { code, verifier } => {
                Box::pin(self.redeem_device(realm, client, origin, code, verifier)).await
            }
        }
    }

    async fn client_credentials(
        &self,
        realm: &Arc<Realm>,
        client: &Arc<Client>,
        origin: Origin<'_>,
        scope: Option<&str>,
    ) -> Result<Tokens, GrantError> {
        if client.is_public() {
            return Err(GrantError::PublicServiceAccount);
        }
        if !client.body.rep.flag("serviceAccountsEnabled") {
            return Err(GrantError::ServiceAccountOff);
        }
        let user = match &client.body.service_user {
            Some(id) => self.user(realm.id(), id).await?,
            None => None,
        };
        let user = user.ok_or(GrantError::ServiceUserMissing)?;
        if !user.is_enabled() {
            return Err(GrantError::ServiceUserDisabled(user.username().to_owned()));
        }
        let applied = apply_scopes(realm, client, &user, scope)?;
        let notes = [
            ("clientId".to_owned(), client.client_id().to_owned()),
            ("client_id".to_owned(), client.client_id().to_owned()),
            ("clientHost".to_owned(), origin.address.to_owned()),
            ("clientAddress".to_owned(), origin.address.to_owned()),
        ];
        if client.attribute_is("client_credentials.use_refresh_token") {
            let seat = Seat {
                realm,
                client,
                user: &user,
                applied: &applied,
                origin,
                grant: "cc",
            };
            return self.open_session(&seat, &notes, scope).await;
        }
        let issue = Issue {
            realm,
            client,
            user: &user,
            applied: &applied,
            origin,
            notes: &notes,
            login: None,
            nonce: None,
            audience: &[],
            grant: "cc",
        };
        Ok(self.issue(&issue).await?)
    }

    fn may_use_password(&self, client: &Client) -> Result<(), GrantError> {
        if !client.body.rep.flag("directAccessGrantsEnabled") {
            return Err(GrantError::DirectAccessOff);
        }
        if client.body.rep.flag("consentRequired") {
            return Err(GrantError::ConsentRequired);
        }
        Ok(())
    }

    async fn password_grant(
        &self,
        realm: &Arc<Realm>,
        client: &Arc<Client>,
        origin: Origin<'_>,
        username: &str,
        password: Secret<String>,
        scope: Option<&str>,
    ) -> Result<Tokens, GrantError> {
        let user = self
            .check_person(realm, username, password, origin.address)
            .await?
            .ok_or(GrantError::UserCredentials)?;
        if !user.is_enabled() {
            return Err(GrantError::UserDisabled);
        }
        if !user.body.rep.texts("requiredActions").is_empty() {
            return Err(GrantError::RequiredAction);
        }
        let applied = apply_scopes(realm, client, &user, scope)?;
        let seat = Seat {
            realm,
            client,
            user: &user,
            applied: &applied,
            origin,
            grant: "ro",
        };
        self.open_session(&seat, &[], scope).await
    }

    /// A person by name or, where the realm allows it, by e-mail; service accounts have no password.
    pub(crate) async fn find_person(
        &self,
        realm: &Realm,
        username: &str,
    ) -> Result<Option<UserBody>, Error> {
        if username.len() > USERNAME_BYTES_MAX {
            return Ok(None);
        }
        let name = username.to_lowercase();
        let found = self
            .read_by_key::<UserBody>(kind::USER, realm.id(), "person", &name)
            .await?;
        if found.is_some() || !realm.body.rep.flag("loginWithEmailAllowed") {
            return Ok(found);
        }
        let found = self
            .read_by_key::<UserBody>(kind::USER, realm.id(), "email", &name)
            .await?;
        Ok(found.filter(|user| user.client.is_none()))
    }

    /// Opens a login of its own for one client.
    pub(crate) async fn open_session(
        &self,
        seat: &Seat<'_>,
        notes: &[(String, String)],
        scope: Option<&str>,
    ) -> Result<Tokens, GrantError> {
        let now_s = self.ambient.now().seconds();
        let mut login = self.new_login(&seat.user.body.id, seat.origin, seat.applied.offline);
        login.notes.extend_from_slice(notes);
        let scope = scope.unwrap_or_default();
        let row_ends_s = take_part(seat, &mut login, scope, false, now_s);
        self.keep_login(seat.realm.id(), &login, row_ends_s).await?;
        self.issue_in(seat, &login, None).await
    }

    /// A login made now, without clients.
    pub(crate) fn new_login(&self, user_id: &str, origin: Origin<'_>, offline: bool) -> Login {
        let now_s = self.ambient.now().seconds();
        Login {
            id: self.ambient.uuid(),
            user: user_id.to_owned(),
            started_s: now_s,
            used_s: now_s,
            offline,
            remember: false,
            address: origin.address.to_owned(),
            clients: BTreeMap::new(),
            notes: vec![(AUTH_TIME.to_owned(), now_s.to_string())],
        }
    }

    /// Lets a client take part in a login and issues its tokens.
    pub(crate) async fn join_session(
        &self,
        seat: &Seat<'_>,
        id: &str,
        scope: &str,
        sso: bool,
        nonce: Option<&str>,
    ) -> Result<Tokens, GrantError> {
        let now_s = self.ambient.now().seconds();
        let changed = self
            .change_login(seat.realm.id(), id, |login| {
                take_part(seat, login, scope, sso, now_s)
            })
            .await?;
        let login = changed.ok_or(GrantError::Code(CodeProblem::SessionNotActive))?;
        self.issue_in(seat, &login, nonce).await
    }

    /// Keeps an offline login and issues its tokens.
    pub(crate) async fn keep_offline(
        &self,
        seat: &Seat<'_>,
        mut login: Login,
        scope: &str,
        sso: bool,
        nonce: Option<&str>,
    ) -> Result<Tokens, GrantError> {
        let now_s = self.ambient.now().seconds();
        let row_ends_s = take_part(seat, &mut login, scope, sso, now_s);
        self.keep_login(seat.realm.id(), &login, row_ends_s).await?;
        self.issue_in(seat, &login, nonce).await
    }

    /// Issues the tokens of a client that takes part in a login.
    pub(crate) async fn issue_in(
        &self,
        seat: &Seat<'_>,
        login: &Login,
        nonce: Option<&str>,
    ) -> Result<Tokens, GrantError> {
        let now_s = self.ambient.now().seconds();
        let part = login.clients.get(&seat.client.body.id);
        let started_s = part.map_or(now_s, |part| part.started_s);
        let issue = Issue {
            realm: seat.realm,
            client: seat.client,
            user: seat.user,
            applied: seat.applied,
            origin: seat.origin,
            notes: &login.notes,
            login: Some((
                login,
                ends(seat.realm, seat.client, login, started_s, now_s),
            )),
            nonce,
            audience: &[],
            grant: seat.grant,
        };
        Ok(self.issue(&issue).await?)
    }

    async fn refresh(
        &self,
        realm: &Arc<Realm>,
        client: &Arc<Client>,
        origin: Origin<'_>,
        token: &str,
        scope: Option<&str>,
    ) -> Result<Tokens, GrantError> {
        let refuse = |problem| Err(GrantError::Refresh(problem));
        let claims = match self.check_signature(realm, token, origin.issuer) {
            Ok(claims) => claims,
            Err(Inactive::Expired) => return refuse(RefreshProblem::Expired),
            Err(Inactive::Issuer) => {
                return refuse(RefreshProblem::Issuer(origin.issuer.to_owned()));
            }
            Err(Inactive::Invalid | Inactive::Ended) => return refuse(RefreshProblem::Invalid),
        };
        let offline = match claims.text("typ") {
            Some("Refresh") => false,
            Some("Offline") => true,
            _ => return refuse(RefreshProblem::Invalid),
        };
        if claims.text("azp") != Some(client.client_id()) {
            return refuse(RefreshProblem::OtherClient);
        }
        let login = match claims.text("sid") {
            Some(id) => self.login(realm.id(), id).await?,
            None => None,
        };
        let Some(login) = login else {
            return refuse(if offline {
                RefreshProblem::OfflineSession
            } else {
                RefreshProblem::SessionNotActive
            });
        };
        let now_s = self.ambient.now().seconds();
        let Some(part) = login.part(&client.body.id, now_s) else {
            return refuse(RefreshProblem::SessionWithoutClient);
        };
        if claims.int("iat") < part.started_s {
            return refuse(RefreshProblem::BeforeSession);
        }
        let user = self
            .user(realm.id(), &login.user)
            .await?
            .filter(|user| user.is_enabled());
        let Some(user) = user else {
            return refuse(RefreshProblem::UserDisabled);
        };
        if claims.int("iat") < not_before(realm, client, &user) {
            return refuse(RefreshProblem::Stale);
        }
        if bound_to(&claims).is_some_and(|key| origin.proof != Some(key)) {
            return refuse(RefreshProblem::OtherKey);
        }
        self.count_use(realm, &login, claims.text("jti").unwrap_or_default())
            .await?;
        let granted = claims.text("scope").unwrap_or(&part.scope);
        let narrowed = narrow(realm, client, granted, scope)?;
        let applied = apply_scopes(realm, client, &user, Some(&narrowed))?;
        let asked = self.question(realm, client, &user, Some(&narrowed), false);
        if asked.await?.is_some() {
            return Err(GrantError::ConsentGone);
        }
        let seat = Seat {
            realm,
            client,
            user: &user,
            applied: &applied,
            origin,
            grant: "rt",
        };
        let (scope, sso) = (part.scope.clone(), part.sso);
        let changed = self
            .change_login(realm.id(), &login.id, |login| {
                if login.clients.contains_key(&client.body.id) {
                    take_part(&seat, login, &scope, sso, now_s);
                }
                row_ends_s(realm, client, login, now_s)
            })
            .await?;
        let login = changed.filter(|login| login.clients.contains_key(&client.body.id));
        match login {
            Some(login) => self.issue_in(&seat, &login, None).await,
            None => refuse(RefreshProblem::SessionNotActive),
        }
    }

    /// With refresh token rotation, takes one use of the token; when none is left the login ends,
    /// because one of the two who have the token stole it (RFC 9700 section 4.14.2).
    async fn count_use(&self, realm: &Realm, login: &Login, jti: &str) -> Result<(), GrantError> {
        if !realm.body.rep.flag("revokeRefreshToken") {
            return Ok(());
        }
        let reuse = realm.body.rep.int("refreshTokenMaxReuse");
        if self.take_use(realm.id(), jti, reuse).await? {
            return Ok(());
        }
        self.end_login(realm.id(), &login.id).await?;
        Err(GrantError::Refresh(RefreshProblem::Reused))
    }
}

/// Who gets tokens of a session, for what.
pub(crate) struct Seat<'a> {
    pub(crate) realm: &'a Arc<Realm>,
    pub(crate) client: &'a Arc<Client>,
    pub(crate) user: &'a User,
    pub(crate) applied: &'a Applied,
    pub(crate) origin: Origin<'a>,
    pub(crate) grant: &'static str,
}

/// Lets the client of a seat take part in a login, or go on in it; gives the end of the login.
fn take_part(seat: &Seat<'_>, login: &mut Login, scope: &str, sso: bool, now_s: i64) -> i64 {
    let known = login.part(&seat.client.body.id, now_s);
    let started_s = known.map_or(now_s, |part| part.started_s);
    let ends_s = ends(seat.realm, seat.client, login, started_s, now_s).next_s();
    let part = Part {
        scope: scope.to_owned(),
        started_s,
        ends_s,
        sso,
        issuer: seat.origin.issuer.to_owned(),
    };
    login.clients.insert(seat.client.body.id.clone(), part);
    login.used_s = now_s;
    row_ends_s(seat.realm, seat.client, login, now_s)
}

/// When a login is forgotten: an offline one, which has one client, with it.
fn row_ends_s(realm: &Realm, client: &Client, login: &Login, now_s: i64) -> i64 {
    if login.offline {
        return ends(realm, client, login, login.started_s, now_s).next_s();
    }
    login_ends(realm, login, now_s).next_s()
}

/// The scope of a refreshed token: the one asked for, which must lie within the granted one and what
/// the client has anyway (RFC 6749 section 6).
fn narrow(
    realm: &Realm,
    client: &Client,
    granted: &str,
    asked: Option<&str>,
) -> Result<String, GrantError> {
    let Some(asked) = asked else {
        return Ok(granted.to_owned());
    };
    let granted = Scopes::parse(Some(granted));
    let is_default = |word: &str| {
        let ids = &client.body.default_scopes;
        ids.iter()
            .filter_map(|id| realm.scopes.get(id))
            .any(|scope| scope.body.name == word)
    };
    let words = Scopes::parse(Some(asked));
    if words
        .iter()
        .all(|word| granted.contains(word) || is_default(word))
    {
        return Ok(asked.to_owned());
    }
    Err(GrantError::Scope(asked.to_owned()))
}

/// Compares secrets in constant time; an empty stored secret fits nothing.
pub(crate) fn is_same(sent: &str, stored: &str) -> bool {
    !stored.is_empty()
        && constant_time::verify_slices_are_equal(sent.as_bytes(), stored.as_bytes()).is_ok()
}
