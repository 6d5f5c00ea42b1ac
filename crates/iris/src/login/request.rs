//! Authorization requests: which are accepted, and how refusals reach the client (OpenID Connect Core
//! 3.1.2, Keycloak 26.5 `AuthorizationEndpointChecker`).

use std::sync::Arc;

use o28m_oauth::{Code, Form};
use serde::{Deserialize, Serialize};

use crate::Iris;
use crate::login::{LoginError, Page, pkce, pushed, redirect};
use crate::model::{Client, Fields as _, Realm};
use crate::token::{Origin, has_scopes};

/// Bytes of all parameters that are carried through a login: they travel in a URL.
const CARRIED_BYTES_MAX: usize = 4500;

/// How a response reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseMode {
    /// In the query of the redirect URI.
    Query,
    /// In its fragment.
    Fragment,
    /// In a form posted to it (OAuth 2.0 Form Post Response Mode).
    FormPost,
}

impl ResponseMode {
    /// The names, as in metadata.
    pub const NAMES: [&'static str; 3] = ["query", "fragment", "form_post"];

    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("query") => Some(Self::Query),
            Some("fragment") => Some(Self::Fragment),
            Some("form_post") => Some(Self::FormPost),
            Some(_) => None,
        }
    }
}

/// A response to the client, carried by the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// Where to; registered for the client.
    pub redirect_uri: String,
    /// How.
    pub mode: ResponseMode,
    /// What, in order.
    pub parameters: Vec<(&'static str, String)>,
}

/// An authorization request that passed the checks, as it is carried through a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// `clientId`.
    pub(crate) client: String,
    /// Where the response goes; empty for a device.
    pub(crate) redirect_uri: String,
    pub(crate) mode: ResponseMode,
    /// `redirect_uri` as it was sent: the token request must repeat it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sent_redirect_uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proof: Option<pkce::Challenge>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) login_hint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) locales: Option<String>,
    /// Ask what the client may do even if it was allowed before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) consent: bool,
    /// Thumbprint of the key that the tokens will be bound to (RFC 9449 section 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bound_to: Option<String>,
    /// Name of the device record that this login approves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
}

/// What a request asks of the login itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// Show nothing.
    pub(crate) none: bool,
    /// Ask for the password again.
    pub(crate) login: bool,
    /// Ask what the client may do again.
    pub(crate) consent: bool,
    /// Ask for the password again unless it was given in the last seconds.
    pub(crate) max_age_s: Option<i64>,
}

/// A request that the client is told about.
struct Refusal {
    error: &'static str,
    description: Option<String>,
}

fn refuse(error: Code, description: impl Into<String>) -> Refusal {
    Refusal {
        error: error.name(),
        description: Some(description.into()),
    }
}

/// What came of an authorization request.
pub(crate) enum Checked {
    /// It may go on.
    Good(Arc<Client>, Box<Request>, Prompt),
    /// The client is told why not.
    Refused(Return),
}

impl Request {
    /// A response: `first`, the state, `last`, and the issuer (RFC 9207).
    pub(crate) fn answer(
        &self,
        client: &Client,
        issuer: &str,
        first: Vec<(&'static str, String)>,
        last: Vec<(&'static str, String)>,
    ) -> Return {
        let mut parameters = first;
        if let Some(state) = &self.state {
            parameters.push(("state", state.clone()));
        }
        parameters.extend(last);
        if !client.attribute_is("exclude.issuer.from.auth.response") {
            parameters.push(("iss", issuer.to_owned()));
        }
        Return {
            redirect_uri: self.redirect_uri.clone(),
            mode: self.mode,
            parameters,
        }
    }

    pub(crate) fn refusal(
        &self,
        client: &Client,
        issuer: &str,
        error: &str,
        description: Option<&str>,
    ) -> Return {
        let mut parameters = vec![("error", error.to_owned())];
        if let Some(text) = description {
            parameters.push(("error_description", text.to_owned()));
        }
        self.answer(client, issuer, parameters, Vec::new())
    }
}

impl Iris {
    /// The enabled client of a browser's request.
    pub(crate) async fn browser_client(
        &self,
        realm: &Realm,
        client_id: Option<&str>,
    ) -> Result<Arc<Client>, LoginError> {
        let client_id = client_id.ok_or(Page::MissingParameter("client_id"))?;
        let found = self.client(realm.id(), client_id).await?;
        let client = found.ok_or(Page::ClientNotFound)?;
        if !client.body.rep.flag("enabled") {
            return Err(Page::ClientDisabled.into());
        }
        if client.body.rep.flag("bearerOnly") {
            return Err(Page::BearerOnly.into());
        }
        Ok(client)
    }

    /// Checks an authorization request, or the pushed one it names.
    pub(crate) async fn check_request(
        &self,
        realm: &Realm,
        form: &Form,
        origin: Origin<'_>,
    ) -> Result<Checked, LoginError> {
        if let Some(name) = pushed::name_of(form) {
            let form = self.take_pushed(realm, form.get("client_id"), name).await?;
            return self.check_pushed(realm, &form, origin).await;
        }
        let checked = self.check_pushed(realm, form, origin).await?;
        if let Checked::Good(client, request, _) = &checked
            && client.attribute_is(pushed::REQUIRED)
        {
            let text = "Pushed Authorization Request is only allowed.";
            let refusal = refuse(Code::InvalidRequest, text);
            return Ok(refused(request, client, origin.issuer, &refusal));
        }
        Ok(checked)
    }

    /// Checks the parameters of an authorization request. Before the redirect URI is known to be the
    /// client's, errors are pages; after that they go to the client.
    pub(crate) async fn check_pushed(
        &self,
        realm: &Realm,
        form: &Form,
        origin: Origin<'_>,
    ) -> Result<Checked, LoginError> {
        let client = self.browser_client(realm, form.get("client_id")).await?;
        let scope = form.get("scope");
        let is_openid = scope.is_some_and(|it| it.split_whitespace().any(|word| word == "openid"));
        let base = base_of(realm, origin.issuer);
        let registered = redirect::registered(&client, base);
        let redirect_uri = match form.get("redirect_uri") {
            Some(asked) => redirect::find(&registered, asked),
            None if is_openid => None,
            None => redirect::single(&registered),
        };
        let redirect_uri = redirect_uri.ok_or(Page::InvalidParameter("redirect_uri"))?;
        let text = |name: &str| form.get(name).map(str::to_owned);
        let mode = ResponseMode::parse(form.get("response_mode"));
        let mut request = Request {
            client: client.client_id().to_owned(),
            redirect_uri,
            mode: mode.unwrap_or(ResponseMode::Query),
            sent_redirect_uri: text("redirect_uri"),
            scope: text("scope"),
            state: text("state"),
            nonce: text("nonce"),
            proof: None,
            login_hint: text("login_hint"),
            locales: text("ui_locales"),
            consent: false,
            bound_to: text("dpop_jkt"),
            device: None,
        };
        if carried(&request) > CARRIED_BYTES_MAX {
            // Before anything is said about a parameter: what is said may repeat it.
            request.state = None;
            let refusal = refuse(Code::InvalidRequest, "Request parameters are too long");
            return Ok(refused(&request, &client, origin.issuer, &refusal));
        }
        let checked = check_type(&client, form, mode)
            .and_then(|()| check_parameters(realm, &client, form))
            .and_then(|prompt| Ok((prompt, proof(&client, form)?)));
        match checked {
            Ok((prompt, proof)) => {
                request.proof = proof;
                request.consent = prompt.consent;
                Ok(Checked::Good(client, Box::new(request), prompt))
            }
            Err(refusal) => Ok(refused(&request, &client, origin.issuer, &refusal)),
        }
    }
}

fn refused(request: &Request, client: &Client, issuer: &str, refusal: &Refusal) -> Checked {
    let text = refusal.description.as_deref();
    Checked::Refused(request.refusal(client, issuer, refusal.error, text))
}

/// Bytes of a request as it is carried.
fn carried(request: &Request) -> usize {
    serde_json::to_string(request).map_or(usize::MAX, |text| text.len())
}

/// The server's URL that an issuer starts with.
pub(crate) fn base_of<'a>(realm: &Realm, issuer: &'a str) -> &'a str {
    let tail = format!("/realms/{}", realm.name());
    issuer.strip_suffix(tail.as_str()).unwrap_or(issuer)
}

/// Only the code flow is served; other response types are refused in the words of the original.
fn check_type(client: &Client, form: &Form, mode: Option<ResponseMode>) -> Result<(), Refusal> {
    let Some(asked) = form.get("response_type") else {
        return Err(refuse(
            Code::InvalidRequest,
            "Missing parameter: response_type",
        ));
    };
    let mut words: Vec<&str> = asked.split_whitespace().collect();
    words.sort_unstable();
    words.dedup();
    let known = |word: &&str| matches!(*word, "code" | "token" | "id_token" | "none");
    if words.is_empty() || !words.iter().all(known) {
        return Err(Refusal {
            error: Code::UnsupportedResponseType.name(),
            description: None,
        });
    }
    if mode.is_none() {
        return Err(refuse(
            Code::InvalidRequest,
            "Invalid parameter: response_mode",
        ));
    }
    let not_allowed = |flow: &str| {
        let text = format!(
            "Client is not allowed to initiate browser login with given response_type. {flow} flow is \
             disabled for the client."
        );
        Err(refuse(Code::UnauthorizedClient, text))
    };
    if words.contains(&"code") && !client.body.rep.flag("standardFlowEnabled") {
        return not_allowed("Standard");
    }
    if words == ["code"] {
        return Ok(());
    }
    if words.contains(&"none") || client.body.rep.flag("implicitFlowEnabled") {
        // RFC 9700 section 2.1.2: tokens are not sent through the browser.
        let text = "Only response_type code is supported";
        return Err(refuse(Code::UnsupportedResponseType, text));
    }
    not_allowed("Implicit")
}

fn check_parameters(realm: &Realm, client: &Client, form: &Form) -> Result<Prompt, Refusal> {
    if form.has_duplicate() {
        return Err(refuse(Code::InvalidRequest, "duplicated parameter"));
    }
    if form.get("request_uri").is_some() {
        let text = "Parameter request_uri is not supported";
        return Err(refuse(Code::RequestUriNotSupported, text));
    }
    if form.get("request").is_some() {
        let text = "Parameter request is not supported";
        return Err(refuse(Code::RequestNotSupported, text));
    }
    let scope = form.get("scope");
    if !has_scopes(realm, client, scope) {
        let text = format!("Invalid scopes: {}", scope.unwrap_or_default());
        return Err(refuse(Code::InvalidScope, text));
    }
    if form.get("login_hint").is_some_and(|it| it.len() > 255) {
        return Err(refuse(
            Code::InvalidRequest,
            "Invalid parameter: login_hint",
        ));
    }
    let words: Vec<&str> = form
        .get("prompt")
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let none = words.contains(&"none");
    if none && words.len() > 1 {
        return Err(refuse(Code::InvalidRequest, "Invalid parameter: prompt"));
    }
    let max_age = form.get("max_age").map(str::parse::<i64>).transpose();
    let max_age_s = max_age
        .ok()
        .filter(|seconds| seconds.is_none_or(|it| it >= 0))
        .ok_or_else(|| refuse(Code::InvalidRequest, "Invalid parameter: max_age"))?;
    Ok(Prompt {
        none,
        login: words.contains(&"login"),
        consent: words.contains(&"consent"),
        max_age_s,
    })
}

fn proof(client: &Client, form: &Form) -> Result<Option<pkce::Challenge>, Refusal> {
    let required = client
        .attribute("pkce.code.challenge.method")
        .filter(|it| !it.is_empty());
    let found = pkce::Challenge::check(
        form.get("code_challenge"),
        form.get("code_challenge_method"),
        required,
    );
    found.map_err(|text| refuse(Code::InvalidRequest, text))
}
