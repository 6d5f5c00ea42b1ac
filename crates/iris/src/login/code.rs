//! Authorization codes: made once, used once (RFC 6749 section 4.1.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use o28m_core::id::random_alphanumeric;
use o28m_store::Session;
use serde::{Deserialize, Serialize};

use crate::error::CodeProblem;
use crate::grant::Seat;
use crate::login::pkce;
use crate::login::request::Request;
use crate::login::ticket::hash;
use crate::model::{Client, Fields as _, Realm, User};
use crate::session::Login;
use crate::token::{Origin, Tokens, apply_scopes};
use crate::{Busy, Error, GrantError, Iris};

/// Characters of the secret part of a code: 238 bits.
const SECRET_LENGTH: usize = 40;
/// Seconds a used code is remembered, so that using it again ends what came of it.
const REMEMBERED_S: i64 = 600;
/// Seconds an unused code is told from an unknown one after it has expired.
const EXPIRED_S: i64 = 60;
/// Attempts to take a code that others try to take at the same time.
const ATTEMPTS: usize = 16;
/// Longer codes are unknown without a look into the store.
const CODE_BYTES_MAX: usize = 512;

/// What a token request brings to redeem a code.
#[derive(Clone, Debug, Default)]
pub struct Redemption {
    /// `code`.
    pub code: Option<String>,
    /// `redirect_uri`.
    pub redirect_uri: Option<String>,
    /// `code_verifier`.
    pub verifier: Option<String>,
}

/// What is kept of a code.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Code {
    source: Source,
    client: String,
    expires_s: i64,
    redirect_uri: Option<String>,
    proof: Option<pkce::Challenge>,
    /// Thumbprint of the key that the request announced.
    #[serde(default)]
    bound_to: Option<String>,
    fate: Fate,
}

/// What the tokens of a person who logged in are made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) login: String,
    /// Id that an offline login made of it gets.
    pub(crate) offline: String,
    pub(crate) scope: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) sso: bool,
}

/// What became of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    Fresh,
    Used,
    /// Used again: what came of it is revoked, by whoever notices.
    Replayed,
}

fn code_id(code: &str) -> String {
    format!("code/{}", hash(code))
}

impl Iris {
    /// Makes the code of a login for a client; it holds for the realm's `accessCodeLifespan`.
    pub(crate) async fn make_code(
        &self,
        realm: &Realm,
        client: &Client,
        request: &Request,
        login: &Login,
        sso: bool,
    ) -> Result<String, Error> {
        let secret = random_alphanumeric(self.ambient.rng.as_ref(), SECRET_LENGTH);
        let code = format!("{secret}.{}.{}", login.id, client.body.id);
        let now_s = self.ambient.now().seconds();
        let expires_s = now_s.saturating_add(realm.body.rep.int("accessCodeLifespan"));
        let source = Source {
            login: login.id.clone(),
            offline: self.ambient.uuid(),
            scope: request.scope.clone(),
            nonce: request.nonce.clone(),
            sso,
        };
        let body = Code {
            source,
            client: client.body.id.clone(),
            expires_s,
            redirect_uri: request.sent_redirect_uri.clone(),
            proof: request.proof.clone(),
            bound_to: request.bound_to.clone(),
            fate: Fate::Fresh,
        };
        let session = Session {
            id: code_id(&code),
            owner: realm.id().to_owned(),
            expires_at_s: expires_s.saturating_add(EXPIRED_S),
            // Plain data with text keys, which always has a JSON form.
            body: serde_json::to_value(body).unwrap_or_default(),
        };
        self.store.put_session(&session).await?;
        Ok(code)
    }

    /// Redeems a code for tokens (RFC 6749 section 4.1.3). Whoever presents it, it is gone after that;
    /// presented again, the tokens that came of it are revoked (RFC 9700 section 4.13).
    pub(crate) async fn redeem(
        &self,
        realm: &Arc<Realm>,
        client: &Arc<Client>,
        origin: Origin<'_>,
        sent: &Redemption,
    ) -> Result<Tokens, GrantError> {
        let refuse = |problem| GrantError::Code(problem);
        let text = sent
            .code
            .as_deref()
            .ok_or_else(|| refuse(CodeProblem::Missing))?;
        let code = self.take_code(realm, text).await?;
        let now_s = self.ambient.now().seconds();
        if code.expires_s <= now_s {
            return Err(refuse(CodeProblem::Expired));
        }
        let (login, user) = self.person_of(realm, &code.source).await?;
        if code.redirect_uri.is_some() && code.redirect_uri != sent.redirect_uri {
            return Err(refuse(CodeProblem::RedirectUri));
        }
        if code.client != client.body.id {
            return Err(refuse(CodeProblem::OtherClient));
        }
        if !client.body.rep.flag("standardFlowEnabled") {
            return Err(refuse(CodeProblem::FlowOff));
        }
        pkce::verify(code.proof.as_ref(), sent.verifier.as_deref()).map_err(refuse)?;
        if code.bound_to.is_some() && code.bound_to.as_deref() != origin.proof {
            return Err(refuse(CodeProblem::OtherKey));
        }
        let scope = code.source.scope.as_deref();
        let asked = self.question(realm, client, &user, scope, false).await?;
        if asked.is_some() {
            return Err(GrantError::ConsentGone);
        }
        let applied = apply_scopes(realm, client, &user, code.source.scope.as_deref())?;
        let seat = Seat {
            realm,
            client,
            user: &user,
            applied: &applied,
            origin,
            grant: "ac",
        };
        let tokens = self.tokens_of(&seat, &code.source, &login).await?;
        if self.is_replayed(realm, text).await? {
            self.revoke_code(realm, &code).await?;
            return Err(refuse(CodeProblem::Invalid));
        }
        Ok(tokens)
    }

    /// The login and the person that tokens are for, if both are still there.
    pub(crate) async fn person_of(
        &self,
        realm: &Realm,
        source: &Source,
    ) -> Result<(Login, Arc<User>), GrantError> {
        let refuse = |problem| GrantError::Code(problem);
        let login = self.login(realm.id(), &source.login).await?;
        let login = login.ok_or_else(|| refuse(CodeProblem::SessionNotActive))?;
        let user = self.user(realm.id(), &login.user).await?;
        let user = user.ok_or_else(|| refuse(CodeProblem::UserMissing))?;
        if !user.is_enabled() {
            return Err(refuse(CodeProblem::UserDisabled));
        }
        Ok((login, user))
    }

    /// The tokens of a client that joins a login.
    pub(crate) async fn tokens_of(
        &self,
        seat: &Seat<'_>,
        source: &Source,
        login: &Login,
    ) -> Result<Tokens, GrantError> {
        let scope = source.scope.as_deref().unwrap_or_default();
        let nonce = source.nonce.as_deref();
        if !seat.applied.offline {
            return self
                .join_session(seat, &source.login, scope, source.sso, nonce)
                .await;
        }
        // An offline login lives on its own: the browser's logout does not end it.
        let offline = Login {
            id: source.offline.clone(),
            started_s: self.ambient.now().seconds(),
            offline: true,
            clients: BTreeMap::new(),
            ..login.clone()
        };
        self.keep_offline(seat, offline, scope, source.sso, nonce)
            .await
    }

    /// Takes a code; exactly one caller gets it. For any other the tokens that came of it are revoked.
    async fn take_code(&self, realm: &Realm, text: &str) -> Result<Code, GrantError> {
        let invalid = || GrantError::Code(CodeProblem::Invalid);
        if text.len() > CODE_BYTES_MAX {
            return Err(invalid());
        }
        for _ in 0..ATTEMPTS {
            let Some((session, code)) = self.code(realm, text).await? else {
                return Err(invalid());
            };
            let fate = match code.fate {
                Fate::Fresh => Fate::Used,
                Fate::Used | Fate::Replayed => Fate::Replayed,
            };
            let next = Code {
                fate,
                ..code.clone()
            };
            let now_s = self.ambient.now().seconds();
            let next = Session {
                expires_at_s: now_s.saturating_add(REMEMBERED_S),
                body: serde_json::to_value(next).unwrap_or_default(),
                ..session.clone()
            };
            let won = self
                .store
                .replace_session(&next, Some(&session.body))
                .await?;
            match (fate, won) {
                (_, false) => {}
                (Fate::Used, true) => return Ok(code),
                (_, true) => {
                    // Whoever is being served right now sees the mark after its tokens were made.
                    self.revoke_code(realm, &code).await?;
                    tracing::warn!(realm.name = realm.name(), "authorization code used twice");
                    return Err(invalid());
                }
            }
        }
        Err(GrantError::Failed(Error::Busy(Busy)))
    }

    async fn code(&self, realm: &Realm, text: &str) -> Result<Option<(Session, Code)>, Error> {
        let now_s = self.ambient.now().seconds();
        let found = self
            .store
            .session(realm.id(), &code_id(text), now_s)
            .await?;
        Ok(found.and_then(|session| {
            let code = serde_json::from_value(session.body.clone()).ok()?;
            Some((session, code))
        }))
    }

    async fn is_replayed(&self, realm: &Realm, text: &str) -> Result<bool, Error> {
        let found = self.code(realm, text).await?;
        Ok(found.is_some_and(|(_, code)| code.fate == Fate::Replayed))
    }

    /// Ends what came of a code: the client's part of the login, and the offline login.
    async fn revoke_code(&self, realm: &Realm, code: &Code) -> Result<(), Error> {
        self.detach(realm, &code.client, &code.source.login).await?;
        self.end_login(realm.id(), &code.source.offline).await
    }
}
