//! Authorization requests that clients bring here themselves and browsers only name (RFC 9126).

use std::sync::Arc;

use o28m_core::id::random_alphanumeric;
use o28m_oauth::{Code, Form};
use o28m_store::Session;
use serde_json::{Value, json};

use crate::login::redirect::encode;
use crate::login::request::Checked;
use crate::login::ticket::hash;
use crate::login::{LoginError, Page};
use crate::model::{Client, Realm};
use crate::token::Origin;
use crate::{Error, Iris};

/// What names of pushed requests start with (RFC 9126 section 2.2).
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";
/// Characters of the secret part of a name.
const SECRET_LENGTH: usize = 43;
/// Longer names are unknown without a look into the store.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of a request that is kept, encoded.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Realm attribute with the seconds a pushed request may be used, and its default.
const LIFESPAN: &str = "parRequestUriLifespan";
const LIFE_S: i64 = 60;
/// Client attribute: requests are accepted only this way.
pub(crate) const REQUIRED: &str = "require.pushed.authorization.requests";
/// The parameters that are kept; nothing of client authentication is among them.
const PARAMETERS: [&str; 13] = [
    "response_type",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "response_mode",
    "prompt",
    "max_age",
    "login_hint",
    "ui_locales",
    "dpop_jkt",
];

/// A request that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// What the browser brings as `request_uri`.
    pub request_uri: String,
    /// Seconds it holds.
    pub expires_in_s: i64,
}

/// A request that the authorization endpoint would refuse, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRefused {
    /// The error code.
    pub error: String,
    /// The text to show.
    pub description: Option<String>,
}

fn record_id(name: &str) -> String {
    format!("pushed/{}", hash(name))
}

/// Whether a request only names one that was pushed.
pub(crate) fn name_of(form: &Form) -> Option<&str> {
    form.get("request_uri")
        .filter(|name| name.starts_with(PREFIX))
}

impl Iris {
    /// Takes an authorization request of an authenticated client; it is checked now and once more when a
    /// browser brings its name.
    ///
    /// # Errors
    /// `Ok(Err(_))` for a request that would be refused; an error when the store fails.
    pub async fn push_request(
        &self,
        realm: &Arc<Realm>,
        client: &Client,
        form: &Form,
        origin: Origin<'_>,
    ) -> Result<Result<Pushed, PushRefused>, Error> {
        let refuse = |error: &str, description: Option<String>| {
            Ok(Err(PushRefused {
                error: error.to_owned(),
                description,
            }))
        };
        let invalid = Code::InvalidRequest.name();
        for name in ["request_uri", "request"] {
            if form.get(name).is_some() {
                let text = format!("Parameter {name} is not supported");
                return refuse(invalid, Some(text));
            }
        }
        let text = kept(client, form);
        if text.len() > REQUEST_BYTES_MAX {
            let text = "Request parameters are too long".to_owned();
            return refuse(invalid, Some(text));
        }
        let parsed = Form::parse(text.as_bytes()).unwrap_or_default();
        match Box::pin(self.check_pushed(realm, &parsed, origin)).await {
            Ok(Checked::Good(..)) => {}
            Ok(Checked::Refused(back)) => {
                let find = |name: &str| {
                    let found = back.parameters.iter().find(|(known, _)| *known == name);
                    found.map(|(_, value)| value.clone())
                };
                let error = find("error").unwrap_or_else(|| invalid.to_owned());
                return refuse(&error, find("error_description"));
            }
            Err(LoginError::Page(page)) => return refuse(invalid, Some(page_text(&page))),
            Err(LoginError::Failed(error)) => return Err(error),
        }
        let secret = random_alphanumeric(self.ambient.rng.as_ref(), SECRET_LENGTH);
        let request_uri = format!("{PREFIX}{secret}");
        let own = realm.attribute(LIFESPAN).and_then(|text| text.parse().ok());
        let expires_in_s = own.filter(|it| *it > 0).unwrap_or(LIFE_S);
        let record = Session {
            id: record_id(&request_uri),
            owner: realm.id().to_owned(),
            expires_at_s: self.ambient.now().seconds().saturating_add(expires_in_s),
            body: json!({"client": client.client_id(), "request": text}),
        };
        self.store.put_session(&record).await?;
        Ok(Ok(Pushed {
            request_uri,
            expires_in_s,
        }))
    }

    /// The request that was pushed under a name by this client; it can be had once.
    pub(crate) async fn take_pushed(
        &self,
        realm: &Realm,
        client_id: Option<&str>,
        name: &str,
    ) -> Result<Form, LoginError> {
        let unknown = || LoginError::from(Page::InvalidParameter("request_uri"));
        if name.len() > NAME_BYTES_MAX {
            return Err(unknown());
        }
        let (id, now_s) = (record_id(name), self.ambient.now().seconds());
        let found = self.store.session(realm.id(), &id, now_s).await?;
        let body = found.ok_or_else(unknown)?.body;
        let text = |field: &str| body.get(field).and_then(Value::as_str);
        if client_id.is_none() || text("client") != client_id {
            return Err(unknown());
        }
        if !self.store.delete_session(realm.id(), &id).await? {
            return Err(unknown());
        }
        let request = text("request").unwrap_or_default();
        Form::parse(request.as_bytes()).map_err(|_| unknown())
    }
}

/// The parameters to keep, encoded.
fn kept(client: &Client, form: &Form) -> String {
    let mut text = format!("client_id={}", encode(client.client_id()));
    for name in PARAMETERS {
        if let Some(value) = form.get(name) {
            text.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    text
}

fn page_text(page: &Page) -> String {
    match page {
        Page::MissingParameter(name) => format!("Missing parameter: {name}"),
        Page::InvalidParameter(name) => format!("Invalid parameter: {name}"),
        other => other.to_string(),
    }
}
