//! What people allow clients to do: asked in the browser, kept, shown to administrators and taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use o28m_oauth::Code;
use o28m_store::{Query, Write};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::login::confirmation::Confirmation;
use crate::login::flow::{Stage, Step};
use crate::login::request::Request;
use crate::login::ticket::Purpose;
use crate::login::{Browser, LoginError, LoginStep, Outcome};
use crate::model::{
    Client, ClientBody, ConsentBody, Fields as _, Realm, Scope, User, UserBody, kind,
};
use crate::session::Login;
use crate::sessions::SessionsOf;
use crate::token::{Origin, apply_scopes};
use crate::{Error, Iris, Thing};

/// Attributes of client scopes and clients.
const SHOWN: &str = "display.on.consent.screen";
const TEXT: &str = "consent.screen.text";

/// A page that asks what a client may do.
#[derive(Clone, Debug)]
pub struct ConsentForm {
    /// To bring back as `session_code`.
    pub ticket: String,
    /// `clientId`, for the URL.
    pub client_id: String,
    /// What the client is called.
    pub client_name: String,
    /// What it asks for.
    pub items: Vec<ConsentItem>,
    /// `ui_locales` of the request.
    pub locales: Option<String>,
}

/// One thing a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentItem {
    /// Name of the client scope, or of the client.
    pub name: String,
    /// Its text, which may be a key such as `${emailScopeConsentText}`.
    pub text: String,
}

/// A login that waits for consent.
#[derive(Serialize, Deserialize)]
struct Waiting {
    request: Request,
    login: String,
    sso: bool,
    scopes: Vec<String>,
}

impl Confirmation for Waiting {
    const PURPOSE: Purpose = Purpose::Consent;

    fn login(&self) -> &str {
        &self.login
    }
}

/// What is to be asked.
pub(crate) struct Question {
    scopes: Vec<String>,
    items: Vec<ConsentItem>,
}

fn item(name: &str, text: Option<&str>) -> ConsentItem {
    let text = text.filter(|text| !text.is_empty()).unwrap_or(name);
    ConsentItem {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn is_shown(scope: &Scope) -> bool {
    scope.body.rep.entry_text("attributes", SHOWN) != Some("false")
}

/// The unique key of a consent.
pub(crate) fn consent_key(user: &str, client: &str) -> String {
    format!("{user}/{client}")
}

impl Iris {
    pub(crate) async fn consent(
        &self,
        realm_id: &str,
        user: &str,
        client: &str,
    ) -> Result<Option<ConsentBody>, Error> {
        let key = consent_key(user, client);
        self.read_by_key(kind::CONSENT, realm_id, "grant", &key)
            .await
    }

    /// What a person has to be asked before a client gets this scope: `None` when it is nothing. `always`
    /// asks again for what was allowed before.
    pub(crate) async fn question(
        &self,
        realm: &Realm,
        client: &Client,
        user: &User,
        scope: Option<&str>,
        always: bool,
    ) -> Result<Option<Question>, Error> {
        let is_service = user.body.client.is_some();
        if is_service || (!always && !client.body.rep.flag("consentRequired")) {
            return Ok(None);
        }
        // The scope was checked with the request; what the client lost since is not asked for.
        let applied = apply_scopes(realm, client, user, scope)
            .or_else(|_| apply_scopes(realm, client, user, None));
        let scopes = applied.map(|applied| applied.scopes).unwrap_or_default();
        let known = if always {
            None
        } else {
            self.consent(realm.id(), &user.body.id, &client.body.id)
                .await?
        };
        let known = known.map(|consent| consent.scopes).unwrap_or_default();
        let mut question = Question {
            scopes: Vec::new(),
            items: Vec::new(),
        };
        let mut ask = |id: &str, item: ConsentItem| {
            if !known.iter().any(|it| it == id) {
                question.scopes.push(id.to_owned());
                question.items.push(item);
            }
        };
        if client.attribute_is(SHOWN) {
            ask(
                &client.body.id,
                item(client.display_name(), client.attribute(TEXT)),
            );
        }
        for scope in scopes.iter().filter(|scope| is_shown(scope)) {
            let text = scope.body.rep.entry_text("attributes", TEXT);
            ask(&scope.body.id, item(&scope.body.name, text));
        }
        Ok((always || !question.scopes.is_empty()).then_some(question))
    }

    /// Asks what the client may do.
    pub(crate) async fn ask_consent(
        &self,
        stage: &Stage<'_>,
        login: &Login,
        sso: bool,
        question: Question,
    ) -> Step {
        let realm = stage.realm;
        let waiting = Waiting {
            request: stage.request.clone(),
            login: login.id.clone(),
            sso,
            scopes: question.scopes,
        };
        let seconds = realm.body.rep.int("accessCodeLifespanUserAction");
        let page = |ticket| {
            LoginStep::Consent(ConsentForm {
                ticket,
                client_id: stage.client.client_id().to_owned(),
                client_name: stage.client.display_name().to_owned(),
                items: question.items,
                locales: stage.request.locales.clone(),
            })
        };
        self.ask(realm, &waiting, seconds, stage.browser, stage.origin, page)
            .await
    }

    /// Serves the answer to what a client may do.
    ///
    /// # Errors
    /// [`Page::Expired`], [`Page::CookieMissing`].
    pub async fn submit_consent(
        &self,
        realm: &Arc<Realm>,
        ticket: Option<&str>,
        allowed: bool,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<Outcome<LoginStep>, LoginError> {
        let (waiting, login, user): (Waiting, _, _) =
            self.answered(realm, ticket, browser, origin).await?;
        let stage = self.resume(realm, waiting.request, browser, origin).await?;
        if !allowed {
            let back = stage.request.refusal(
                &stage.client,
                origin.issuer,
                Code::AccessDenied.name(),
                Some("User denied consent"),
            );
            return Ok(Outcome::plain(LoginStep::Return(back)));
        }
        self.keep_consent(realm, &user.body.id, &stage.client, waiting.scopes)
            .await?;
        self.answer(&stage, &login, waiting.sso).await
    }

    /// Keeps that a person allowed a client this scope in some other way than through the question.
    pub(crate) async fn allow(
        &self,
        realm: &Realm,
        client: &Client,
        user: &User,
        scope: Option<&str>,
    ) -> Result<(), Error> {
        match self.question(realm, client, user, scope, false).await? {
            Some(question) => {
                self.keep_consent(realm, &user.body.id, client, question.scopes)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Adds to what a person allowed a client.
    async fn keep_consent(
        &self,
        realm: &Realm,
        user: &str,
        client: &Client,
        scopes: Vec<String>,
    ) -> Result<(), Error> {
        let now_ms = self.ambient.now().millis();
        let known = self.consent(realm.id(), user, &client.body.id).await?;
        let mut consent = known.unwrap_or_else(|| ConsentBody {
            id: self.ambient.uuid(),
            realm: realm.id().to_owned(),
            user: user.to_owned(),
            client: client.body.id.clone(),
            scopes: Vec::new(),
            created_ms: now_ms,
            updated_ms: now_ms,
        });
        consent.updated_ms = now_ms;
        consent.scopes.extend(scopes);
        consent.scopes.sort_unstable();
        consent.scopes.dedup();
        let steps = vec![Write::Upsert(crate::model::Stored::object(&consent))];
        match self.write(realm.id(), steps).await {
            // Another window allowed the same at this moment.
            Ok(()) | Err(o28m_store::Error::Duplicate { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What a user allowed clients, and which have offline tokens of theirs, as representations.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn consents(&self, realm: &Realm, user: &str) -> Result<Vec<Value>, Error> {
        let realm_id = realm.id();
        let found = self.read::<UserBody>(kind::USER, realm_id, user).await?;
        found.ok_or(Error::Missing(Thing::User))?;
        let query = Query {
            owner: Some(realm_id),
            reference: Some(("user", user)),
            ..Query::default()
        };
        let consents: Vec<ConsentBody> = self.read_all(kind::CONSENT, query).await?;
        let mut by_client: BTreeMap<String, (Option<ConsentBody>, bool)> = BTreeMap::new();
        for consent in consents {
            by_client.insert(consent.client.clone(), (Some(consent), false));
        }
        for login in self.offline_logins(realm_id, user).await? {
            for client in login.clients.keys() {
                by_client.entry(client.clone()).or_default().1 = true;
            }
        }
        let mut reps = Vec::new();
        for (id, (consent, offline)) in by_client {
            let found = self.read::<ClientBody>(kind::CLIENT, realm_id, &id).await?;
            let Some((client, _)) = found else { continue };
            let scopes = consent.as_ref().map_or(&[][..], |it| &it.scopes);
            let names = scopes.iter().filter_map(|id| realm.scopes.get(id));
            let names: Vec<&str> = names.map(|scope| scope.body.name.as_str()).collect();
            let grants = if offline {
                json!([{"client": id, "key": "Offline Token"}])
            } else {
                json!([])
            };
            reps.push(json!({
                "clientId": client.client_id, "grantedClientScopes": names,
                "createdDate": consent.as_ref().map(|it| it.created_ms),
                "lastUpdatedDate": consent.as_ref().map(|it| it.updated_ms),
                "additionalGrants": grants,
            }));
        }
        Ok(reps)
    }

    /// Takes back what a user allowed a client: its consent, its offline tokens and its part in logins.
    ///
    /// # Errors
    /// [`Error::Missing`], also when there was nothing to take back.
    pub async fn revoke_consent(
        &self,
        realm: &Realm,
        user: &str,
        client_id: &str,
    ) -> Result<(), Error> {
        let realm_id = realm.id();
        let found = self.read::<UserBody>(kind::USER, realm_id, user).await?;
        found.ok_or(Error::Missing(Thing::User))?;
        let client = self.client_body_by_client_id(realm_id, client_id).await?;
        let client = client.ok_or(Error::Missing(Thing::Client))?;
        let consent = self.consent(realm_id, user, &client.id).await?;
        let mut done = consent.is_some();
        if let Some(consent) = consent {
            let steps = vec![Write::Delete {
                kind: kind::CONSENT,
                id: consent.id,
            }];
            self.write(realm_id, steps).await?;
        }
        for login in self.offline_logins(realm_id, user).await? {
            if login.clients.contains_key(&client.id) {
                self.end_login(realm_id, &login.id).await?;
                done = true;
            }
        }
        if !done {
            return Err(Error::Missing(Thing::Consent));
        }
        for login in self
            .all_logins(realm_id, SessionsOf::User(user), false)
            .await?
        {
            if login.clients.contains_key(&client.id) {
                self.detach(realm, &client.id, &login.id).await?;
            }
        }
        Ok(())
    }

    async fn offline_logins(&self, realm_id: &str, user: &str) -> Result<Vec<Login>, Error> {
        self.all_logins(realm_id, SessionsOf::User(user), true)
            .await
    }
}
