//! The device authorization grant (RFC 8628): a device without a browser shows a code, a person enters
//! it elsewhere, logs in and allows it.

use std::sync::Arc;

use o28m_oauth::Form;
use o28m_store::Session;
use serde::{Deserialize, Serialize};

use crate::error::DeviceProblem;
use crate::grant::Seat;
use crate::login::code::Source;
use crate::login::confirmation::Confirmation;
use crate::login::request::{Request, ResponseMode};
use crate::login::ticket::{Purpose, hash};
use crate::login::{Browser, LoginError, LoginStep, Outcome, Page, pkce};
use crate::model::{Client, ClientBody, Fields as _, Realm, kind};
use crate::session::Login;
use crate::token::{Origin, Tokens, apply_scopes, has_scopes};
use crate::{Error, GrantError, Iris};

/// Letters of user codes: none is a vowel, so that they spell nothing (RFC 8628 section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a user code.
const USER_CODE_LENGTH: usize = 8;
/// Characters of a device code.
const DEVICE_CODE_LENGTH: usize = 43;
/// Longer device codes are unknown without a look into the store.
const DEVICE_CODE_BYTES_MAX: usize = 128;
/// Seconds the question whether the device may have tokens may be answered.
const ASK_S: i64 = 300;
/// Seconds an expired code is told from an unknown one.
const EXPIRED_S: i64 = 60;
/// Attempts to change a record that others change at the same time.
const ATTEMPTS: usize = 4;

/// What a device is told.
#[derive(Clone, Debug)]
pub struct DeviceAuthorization {
    /// `device_code`.
    pub device_code: String,
    /// `user_code`.
    pub user_code: String,
    /// `expires_in`.
    pub expires_in_s: i64,
    /// `interval`.
    pub interval_s: i64,
}

/// A page that asks whether a device may have tokens.
#[derive(Clone, Debug)]
pub struct DeviceForm {
    /// To bring back as `session_code`.
    pub ticket: String,
    /// What the client is called.
    pub client_name: String,
    /// Who would be logged in.
    pub username: String,
}

/// What is kept of a device's request.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Device {
    client: String,
    expires_s: i64,
    interval_s: i64,
    polled_s: i64,
    scope: Option<String>,
    nonce: Option<String>,
    proof: Option<pkce::Challenge>,
    answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    Pending,
    Denied,
    Allowed { login: String, offline: String },
}

/// Which device a person decides about, and as who.
#[derive(Serialize, Deserialize)]
struct Deciding {
    device: String,
    login: String,
}

impl Confirmation for Deciding {
    const PURPOSE: Purpose = Purpose::Device;

    fn login(&self) -> &str {
        &self.login
    }
}

fn device_id(name: &str) -> String {
    format!("device/{name}")
}

fn user_code_id(code: &str) -> String {
    format!("user-code/{code}")
}

/// A user code as it is stored: only its letters, in upper case.
fn plain(code: &str) -> String {
    let letters = code.bytes().filter(u8::is_ascii_alphabetic);
    let letters = letters.map(|it| char::from(it.to_ascii_uppercase()));
    letters.take(USER_CODE_LENGTH + 1).collect()
}

/// A number of the realm, which a client may have its own of.
fn setting(realm: &Realm, client: &Client, client_name: &str, field: &str) -> i64 {
    let own = client.attribute_int(client_name).filter(|it| *it > 0);
    own.unwrap_or_else(|| realm.body.rep.int(field)).max(1)
}

impl Iris {
    /// Begins the request of a device.
    ///
    /// # Errors
    /// [`GrantError::Device`], [`GrantError::Scope`], [`GrantError::Failed`].
    pub async fn authorize_device(
        &self,
        realm: &Realm,
        client: &Client,
        form: &Form,
    ) -> Result<DeviceAuthorization, GrantError> {
        if !allows_devices(realm, client) {
            return Err(GrantError::Device(DeviceProblem::Off));
        }
        let scope = form.get("scope");
        if !has_scopes(realm, client, scope) {
            let text = scope.unwrap_or_default().to_owned();
            return Err(GrantError::Scope(text));
        }
        let proof = pkce::Challenge::check(
            form.get("code_challenge"),
            form.get("code_challenge_method"),
            client
                .attribute("pkce.code.challenge.method")
                .filter(|it| !it.is_empty()),
        )
        .map_err(GrantError::Parameter)?;
        let expires_in_s = setting(
            realm,
            client,
            "oauth2.device.code.lifespan",
            "oauth2DeviceCodeLifespan",
        );
        let interval_s = setting(
            realm,
            client,
            "oauth2.device.polling.interval",
            "oauth2DevicePollingInterval",
        );
        let now_s = self.ambient.now().seconds();
        let rng = self.ambient.rng.as_ref();
        let device_code = o28m_core::id::random_alphanumeric(rng, DEVICE_CODE_LENGTH);
        let user_code = o28m_core::id::random_text(rng, LETTERS, USER_CODE_LENGTH);
        let device = Device {
            client: client.body.id.clone(),
            expires_s: now_s.saturating_add(expires_in_s),
            interval_s,
            polled_s: 0,
            scope: scope.map(str::to_owned),
            nonce: form.get("nonce").map(str::to_owned),
            proof,
            answer: Answer::Pending,
        };
        let name = hash(&device_code);
        let expires_at_s = device.expires_s.saturating_add(EXPIRED_S);
        let record = |id: String, body: serde_json::Value| Session {
            id,
            owner: realm.id().to_owned(),
            expires_at_s,
            body,
        };
        // Plain data with text keys, which always has a JSON form.
        let body = serde_json::to_value(&device).unwrap_or_default();
        self.store
            .put_session(&record(device_id(&name), body))
            .await?;
        let pointer = record(user_code_id(&user_code), name.into());
        if !self.store.replace_session(&pointer, None).await? {
            // One in billions: the device asks again.
            return Err(GrantError::Failed(Error::Busy(crate::Busy)));
        }
        let (first, second) = user_code.split_at_checked(4).unwrap_or((&user_code, ""));
        Ok(DeviceAuthorization {
            device_code,
            user_code: format!("{first}-{second}"),
            expires_in_s,
            interval_s,
        })
    }

    async fn device(&self, realm: &Realm, name: &str) -> Result<Option<(Session, Device)>, Error> {
        let now_s = self.ambient.now().seconds();
        let found = self
            .store
            .session(realm.id(), &device_id(name), now_s)
            .await?;
        Ok(found.and_then(|session| {
            let device = serde_json::from_value(session.body.clone()).ok()?;
            Some((session, device))
        }))
    }

    /// Writes a device's record anew; false when others have changed it since.
    async fn replace_device(&self, known: Session, device: &Device) -> Result<bool, Error> {
        let next = Session {
            body: serde_json::to_value(device).unwrap_or_default(),
            ..known.clone()
        };
        let replaced = self.store.replace_session(&next, Some(&known.body)).await?;
        Ok(replaced)
    }

    /// Changes a device's record; `None` when it is gone.
    async fn change_device(
        &self,
        realm: &Realm,
        name: &str,
        change: impl Fn(&mut Device) + Send + Sync,
    ) -> Result<Option<Device>, Error> {
        for _ in 0..ATTEMPTS {
            let Some((session, mut device)) = self.device(realm, name).await? else {
                return Ok(None);
            };
            change(&mut device);
            if self.replace_device(session, &device).await? {
                return Ok(Some(device));
            }
        }
        Err(Error::Busy(crate::Busy))
    }

    /// Begins the login of the person who entered a user code; `None` when there is no such code.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn begin_device(
        &self,
        realm: &Arc<Realm>,
        user_code: &str,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<Option<Outcome<LoginStep>>, LoginError> {
        let now_s = self.ambient.now().seconds();
        let id = user_code_id(&plain(user_code));
        let Some(pointer) = self.store.session(realm.id(), &id, now_s).await? else {
            return Ok(None);
        };
        let name = pointer.body.as_str().unwrap_or_default().to_owned();
        let Some((_, device)) = self.device(realm, &name).await? else {
            return Ok(None);
        };
        if device.expires_s <= now_s || device.answer != Answer::Pending {
            return Ok(None);
        }
        let found = self
            .read::<ClientBody>(kind::CLIENT, realm.id(), &device.client)
            .await?;
        let Some((body, _)) = found else {
            return Ok(None);
        };
        let client = self.browser_client(realm, Some(&body.client_id)).await?;
        let request = Request {
            client: client.client_id().to_owned(),
            redirect_uri: String::new(),
            mode: ResponseMode::Query,
            sent_redirect_uri: None,
            scope: device.scope,
            state: None,
            nonce: None,
            proof: None,
            login_hint: None,
            locales: None,
            consent: false,
            bound_to: None,
            device: Some(name),
        };
        self.enter_for_device(realm, client, request, browser, origin)
            .await
            .map(Some)
    }

    /// Asks whether the device may have tokens: a code may have been sent by somebody else (RFC 8628
    /// section 5.4).
    pub(crate) async fn ask_device(
        &self,
        realm: &Arc<Realm>,
        client: &Client,
        request: &Request,
        login: &Login,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<Outcome<LoginStep>, LoginError> {
        let deciding = Deciding {
            device: request.device.clone().unwrap_or_default(),
            login: login.id.clone(),
        };
        let user = self.user(realm.id(), &login.user).await?;
        let page = |ticket| {
            LoginStep::Device(DeviceForm {
                ticket,
                client_name: client.display_name().to_owned(),
                username: user.map_or_else(String::new, |user| user.username().to_owned()),
            })
        };
        self.ask(realm, &deciding, ASK_S, browser, origin, page)
            .await
    }

    /// Serves the answer to the question whether the device may have tokens.
    ///
    /// # Errors
    /// [`Page::Expired`], [`Page::CookieMissing`].
    pub async fn submit_device(
        &self,
        realm: &Arc<Realm>,
        ticket: Option<&str>,
        allowed: bool,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<Outcome<LoginStep>, LoginError> {
        let (deciding, _, user): (Deciding, _, _) =
            self.answered(realm, ticket, browser, origin).await?;
        let now_s = self.ambient.now().seconds();
        let offline = self.ambient.uuid();
        if allowed && let Some((_, device)) = self.device(realm, &deciding.device).await? {
            // Kept before the device hears of it: its refresh tokens depend on it.
            let found = self.read::<ClientBody>(kind::CLIENT, realm.id(), &device.client);
            let (client, _) = found.await?.ok_or(Page::Expired)?;
            self.allow(
                realm,
                &Client::compile(client),
                &user,
                device.scope.as_deref(),
            )
            .await?;
        }
        let answer = if allowed {
            Answer::Allowed {
                login: deciding.login,
                offline,
            }
        } else {
            Answer::Denied
        };
        let changed = self
            .change_device(realm, &deciding.device, |device| {
                if device.answer == Answer::Pending && device.expires_s > now_s {
                    device.answer = answer.clone();
                }
            })
            .await?;
        if changed.is_none_or(|device| device.answer != answer) {
            return Err(Page::Expired.into());
        }
        Ok(Outcome::plain(if allowed {
            LoginStep::DeviceAllowed
        } else {
            LoginStep::DeviceDenied
        }))
    }

    /// Serves a device that asks for its tokens.
    pub(crate) async fn redeem_device(
        &self,
        realm: &Arc<Realm>,
        client: &Arc<Client>,
        origin: Origin<'_>,
        code: Option<String>,
        verifier: Option<String>,
    ) -> Result<Tokens, GrantError> {
        let refuse = |problem| GrantError::Device(problem);
        if !allows_devices(realm, client) {
            return Err(refuse(DeviceProblem::Off));
        }
        let code = code.ok_or_else(|| refuse(DeviceProblem::Missing))?;
        if code.len() > DEVICE_CODE_BYTES_MAX {
            return Err(refuse(DeviceProblem::Invalid));
        }
        let name = hash(&code);
        let device = self.poll(realm, client, &name).await?;
        let (login, offline) = match device.answer {
            Answer::Pending => return Err(refuse(DeviceProblem::Pending)),
            Answer::Denied => return Err(refuse(DeviceProblem::Denied)),
            Answer::Allowed { login, offline } => (login, offline),
        };
        pkce::verify(device.proof.as_ref(), verifier.as_deref()).map_err(GrantError::Code)?;
        // Exactly one request gets the tokens.
        if !self
            .store
            .delete_session(realm.id(), &device_id(&name))
            .await?
        {
            return Err(refuse(DeviceProblem::Invalid));
        }
        let source = Source {
            login,
            offline,
            scope: device.scope,
            nonce: device.nonce,
            sso: false,
        };
        let (login, user) = self.person_of(realm, &source).await?;
        let applied = apply_scopes(realm, client, &user, source.scope.as_deref())?;
        let seat = Seat {
            realm,
            client,
            user: &user,
            applied: &applied,
            origin,
            grant: "dc",
        };
        self.tokens_of(&seat, &source, &login).await
    }

    /// Notes that the device asked, which it may do once an interval.
    async fn poll(&self, realm: &Realm, client: &Client, name: &str) -> Result<Device, GrantError> {
        let refuse = |problem| Err(GrantError::Device(problem));
        let now_s = self.ambient.now().seconds();
        let Some((session, mut device)) = self.device(realm, name).await? else {
            return refuse(DeviceProblem::Invalid);
        };
        if device.client != client.body.id {
            return refuse(DeviceProblem::Invalid);
        }
        if device.expires_s <= now_s {
            return refuse(DeviceProblem::Expired);
        }
        if now_s < device.polled_s.saturating_add(device.interval_s) {
            return refuse(DeviceProblem::SlowDown);
        }
        device.polled_s = now_s;
        if self.replace_device(session, &device).await? {
            return Ok(device);
        }
        // Another request of the device, or the person's answer, came in between.
        refuse(DeviceProblem::SlowDown)
    }
}

/// Both the realm and the client must ask for the grant.
fn allows_devices(realm: &Realm, client: &Client) -> bool {
    realm.has_device_flow() && client.attribute_is("oauth2.device.authorization.grant.enabled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_may_write_codes_as_they_like() {
        for text in ["BCDF-GHJK", "bcdf ghjk", " BcDfGhJk\n"] {
            assert_eq!(plain(text), "BCDFGHJK");
        }
        assert_eq!(plain(&"B".repeat(100)).len(), 9);
    }
}
