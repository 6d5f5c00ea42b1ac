//! The OpenID Connect endpoints of a realm.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use o28m_core::Secret;
use o28m_iris::{
    Client, Event, Exchange, Grant, GrantError, Origin, ProofProblem, Proven, Realm, Redemption,
    Revocation, Tokens,
};
use o28m_net::Body;
use o28m_oauth::{ClientCredentials, Code, Form};
use serde_json::{Map, Value, json};

use crate::browser::assets::Script;
use crate::browser::{self, View, frames};
use crate::client_auth;
use crate::cors;
use crate::errors;
use crate::login_events;
use crate::metadata::{self, DEVICE_CODE, TOKEN_EXCHANGE};
use crate::reply::{self, Reply, members};
use crate::router::{self, Found, Route};
use crate::service::{Call, read_form};

/// What is served below `/realms/{realm}`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Realm,
    Discovery,
    Keys,
    Token,
    Introspect,
    Revoke,
    UserInfo,
    Logout,
    DeviceAuthorization,
    Push,
    /// A page for frames that is nothing but a script.
    Frame(Script),
    /// Whether a page may ask the frame about logins.
    FrameInit,
    /// A page.
    View(View),
}

const fn route(method: Method, pattern: &'static str, serve: Endpoint) -> Route<Endpoint> {
    Route {
        method,
        pattern,
        serve,
    }
}

const ROUTES: &[Route<Endpoint>] = &[
    route(
        Method::POST,
        "{}/protocol/openid-connect/token",
        Endpoint::Token,
    ),
    route(
        Method::GET,
        "{}/protocol/openid-connect/certs",
        Endpoint::Keys,
    ),
    route(
        Method::GET,
        "{}/.well-known/openid-configuration",
        Endpoint::Discovery,
    ),
    route(
        Method::GET,
        "{}/.well-known/oauth-authorization-server",
        Endpoint::Discovery,
    ),
    route(Method::GET, "{}", Endpoint::Realm),
    route(
        Method::POST,
        "{}/protocol/openid-connect/token/introspect",
        Endpoint::Introspect,
    ),
    route(
        Method::POST,
        "{}/protocol/openid-connect/revoke",
        Endpoint::Revoke,
    ),
    route(
        Method::GET,
        "{}/protocol/openid-connect/userinfo",
        Endpoint::UserInfo,
    ),
    route(
        Method::POST,
        "{}/protocol/openid-connect/userinfo",
        Endpoint::UserInfo,
    ),
    route(
        Method::POST,
        "{}/protocol/openid-connect/logout",
        Endpoint::Logout,
    ),
    route(
        Method::POST,
        "{}/protocol/openid-connect/auth/device",
        Endpoint::DeviceAuthorization,
    ),
    route(
        Method::POST,
        "{}/protocol/openid-connect/ext/par/request",
        Endpoint::Push,
    ),
    route(
        Method::GET,
        "{}/protocol/openid-connect/login-status-iframe.html",
        Endpoint::Frame(Script::Session),
    ),
    route(
        Method::GET,
        "{}/protocol/openid-connect/login-status-iframe.html/init",
        Endpoint::FrameInit,
    ),
    route(
        Method::GET,
        "{}/protocol/openid-connect/3p-cookies/step1.html",
        Endpoint::Frame(Script::CookiesSet),
    ),
    route(
        Method::GET,
        "{}/protocol/openid-connect/3p-cookies/step2.html",
        Endpoint::Frame(Script::CookiesSeen),
    ),
    view(
        Method::GET,
        "{}/protocol/openid-connect/auth",
        View::Authorize,
    ),
    view(
        Method::POST,
        "{}/protocol/openid-connect/auth",
        View::Authorize,
    ),
    view(
        Method::GET,
        "{}/protocol/openid-connect/logout",
        View::Logout,
    ),
    view(
        Method::POST,
        "{}/protocol/openid-connect/logout/logout-confirm",
        View::LogoutConfirm,
    ),
    view(Method::GET, "{}/login-actions/authenticate", View::Login),
    view(Method::POST, "{}/login-actions/authenticate", View::Login),
    view(
        Method::POST,
        "{}/login-actions/required-action",
        View::Action,
    ),
    view(Method::POST, "{}/login-actions/consent", View::Consent),
    view(Method::GET, "{}/login-actions/theme.css", View::Theme),
    view(Method::GET, "{}/device", View::Device),
    view(Method::POST, "{}/device", View::Device),
];

const fn view(method: Method, pattern: &'static str, view: View) -> Route<Endpoint> {
    route(method, pattern, Endpoint::View(view))
}

impl Endpoint {
    /// Name in metrics.
    const fn name(self) -> &'static str {
        match self {
            Self::Realm => "/realms/{realm}",
            Self::Discovery => "/realms/{realm}/.well-known/{alias}",
            Self::Keys => "/realms/{realm}/protocol/{protocol}/certs",
            Self::Token => "/realms/{realm}/protocol/{protocol}/token",
            Self::Introspect => "/realms/{realm}/protocol/{protocol}/token/introspect",
            Self::Revoke => "/realms/{realm}/protocol/{protocol}/revoke",
            Self::UserInfo => "/realms/{realm}/protocol/{protocol}/userinfo",
            Self::Logout | Self::View(View::Logout | View::LogoutConfirm) => {
                "/realms/{realm}/protocol/{protocol}/logout"
            }
            Self::DeviceAuthorization => "/realms/{realm}/protocol/{protocol}/auth/device",
            Self::Push => "/realms/{realm}/protocol/{protocol}/ext/par/request",
            Self::Frame(Script::Session) | Self::FrameInit => {
                "/realms/{realm}/protocol/{protocol}/login-status-iframe.html"
            }
            Self::Frame(_) => "/realms/{realm}/protocol/{protocol}/3p-cookies",
            Self::View(View::Authorize) => "/realms/{realm}/protocol/{protocol}/auth",
            Self::View(View::Login | View::Action | View::Consent | View::Theme) => {
                "/realms/{realm}/login-actions"
            }
            Self::View(View::Device) => "/realms/{realm}/device",
        }
    }

    /// The endpoints that clients in browsers call from their own origins.
    const fn is_shared(self) -> bool {
        !matches!(self, Self::View(_) | Self::Frame(_) | Self::FrameInit)
    }

    /// Where it is below `/protocol/openid-connect`, for those that clients call.
    const fn path(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Introspect => "token/introspect",
            Self::Revoke => "revoke",
            Self::Logout => "logout",
            Self::DeviceAuthorization => "auth/device",
            Self::Push => "ext/par/request",
            Self::UserInfo => "userinfo",
            Self::Realm
            | Self::Discovery
            | Self::Keys
            | Self::Frame(_)
            | Self::FrameInit
            | Self::View(_) => "",
        }
    }

    /// The documents that any browser page may read, even of a disabled realm.
    const fn is_public(self) -> bool {
        matches!(self, Self::Realm | Self::Discovery | Self::Keys)
    }
}

/// Serves a path below `/realms`; gives the endpoint's name for metrics with it.
pub(crate) async fn answer(
    call: Call<'_>,
    body: Body,
    segments: &[String],
) -> (&'static str, Reply) {
    let (endpoint, captured) = match router::find(ROUTES, &call.method, segments) {
        Found::Route(endpoint, captured) => (*endpoint, captured),
        Found::OtherMethod(allowed) => {
            let reply = preflight(&call, segments, &allowed);
            return (
                "other",
                reply.unwrap_or_else(|| reply::wrong_method(&allowed)),
            );
        }
        Found::Nothing => return ("other", reply::unknown_path()),
    };
    let name = captured.first().map_or("", String::as_str).to_owned();
    let reply = serve(call, body, endpoint, &name).await;
    let protects = matches!(
        endpoint,
        Endpoint::Token
            | Endpoint::Introspect
            | Endpoint::Revoke
            | Endpoint::DeviceAuthorization
            | Endpoint::Push
    );
    (
        endpoint.name(),
        if protects {
            reply::never_stored(reply)
        } else {
            reply
        },
    )
}

/// The preflight response for an endpoint that clients in browsers call.
fn preflight(call: &Call<'_>, segments: &[String], allowed: &str) -> Option<Reply> {
    let origin = call.header("origin")?;
    let shared = [Method::POST, Method::GET].iter().any(|method| {
        matches!(router::find(ROUTES, method, segments), Found::Route(endpoint, _)
            if endpoint.is_shared())
    });
    (shared && call.method == Method::OPTIONS).then(|| cors::preflight(origin, allowed))
}

async fn serve(call: Call<'_>, body: Body, endpoint: Endpoint, name: &str) -> Reply {
    // The body is read first: a peer that sends too much is refused whatever it asks for.
    let bytes = match read_form(body).await {
        Ok(bytes) => bytes,
        Err(reply) => return reply,
    };
    let realm = match call.iris.realm(name).await {
        Ok(Some(realm)) => realm,
        Ok(None) if matches!(endpoint, Endpoint::View(_)) => return browser::no_realm(&call),
        Ok(None) => return reply::prose(StatusCode::NOT_FOUND, "Realm does not exist"),
        Err(error) => return errors::admin(&error),
    };
    if endpoint.is_public() {
        return public(&call, endpoint, &realm);
    }
    match endpoint {
        Endpoint::Frame(script) => return frames::page(&call, script),
        Endpoint::FrameInit => return frames::may_ask(&call, &realm).await,
        _ => {}
    }
    if let Some(view) = page_of(&call, endpoint, &bytes) {
        return Box::pin(browser::answer(&call, realm, view, &bytes)).await;
    }
    if endpoint == Endpoint::DeviceAuthorization && !realm.has_device_flow() {
        return reply::unknown_path();
    }
    if call.base.refuses_plain(realm.ssl_required()) {
        return code(
            StatusCode::FORBIDDEN,
            Code::InvalidRequest,
            "HTTPS required",
        );
    }
    if !realm.is_enabled() {
        return code(
            StatusCode::FORBIDDEN,
            Code::AccessDenied,
            "Realm not enabled",
        );
    }
    let issuer = call.base.issuer(name);
    let mut asked = Asked {
        path: endpoint.path(),
        realm,
        issuer,
        proof: None,
        call,
    };
    if endpoint == Endpoint::UserInfo {
        let reply = asked.userinfo(&bytes).await;
        // Who has the token may read it from anywhere; no cookie is looked at.
        return match asked.call.header("origin") {
            Some(origin) => cors::open(reply, origin),
            None => reply,
        };
    }
    let fits = match asked.call.media_type().as_deref() {
        Some("application/x-www-form-urlencoded") => true,
        Some(_) => false,
        None => bytes.is_empty(),
    };
    if !fits {
        return reply::wrong_content_type();
    }
    let Ok(form) = Form::parse(&bytes) else {
        return code(
            StatusCode::BAD_REQUEST,
            Code::InvalidRequest,
            "Malformed form parameters",
        );
    };
    match endpoint {
        Endpoint::Token => asked.token(&form).await,
        Endpoint::Introspect => asked.introspect(&form).await,
        Endpoint::Revoke => asked.revoke(&form).await,
        Endpoint::Logout => asked.logout(&form).await,
        Endpoint::DeviceAuthorization => asked.device(&form).await,
        Endpoint::Push => asked.push(&form).await,
        Endpoint::Realm
        | Endpoint::Discovery
        | Endpoint::Keys
        | Endpoint::UserInfo
        | Endpoint::Frame(_)
        | Endpoint::FrameInit
        | Endpoint::View(_) => reply::unknown_path(),
    }
}

/// The page an endpoint is, if it is one. A posted logout with a refresh token or a client's secret comes
/// from a program, any other from a browser (Keycloak 26.5 `LogoutEndpoint`).
fn page_of(call: &Call<'_>, endpoint: Endpoint, bytes: &[u8]) -> Option<View> {
    match endpoint {
        Endpoint::View(view) => Some(view),
        Endpoint::Logout => {
            let form = Form::parse(bytes).unwrap_or_default();
            let of_program = ["refresh_token", "client_secret", "client_assertion"];
            let is_program = call.header("authorization").is_some()
                || of_program.iter().any(|name| form.get(name).is_some());
            (!is_program).then_some(View::Logout)
        }
        _ => None,
    }
}

fn code(status: StatusCode, code: Code, description: &str) -> Reply {
    reply::oauth(status, code.name(), description)
}

/// The documents that need no authentication; any origin may read them.
fn public(call: &Call<'_>, endpoint: Endpoint, realm: &Realm) -> Reply {
    let issuer = call.base.issuer(realm.name());
    let reply = match endpoint {
        Endpoint::Keys => reply::tagged(realm.jwk_set(), call.header("if-none-match")),
        Endpoint::Discovery => {
            let document = metadata::discovery(&issuer, realm);
            let reply = reply::json(StatusCode::OK, &document);
            reply::with(
                reply,
                CACHE_CONTROL,
                "no-cache, must-revalidate, no-transform, no-store",
            )
        }
        _ => {
            let document = metadata::realm_info(&issuer, realm);
            let reply = reply::json(StatusCode::OK, &document);
            reply::with(reply, CONTENT_TYPE, "application/json;charset=UTF-8")
        }
    };
    if call.header("origin").is_some() {
        return cors::open(reply, "*");
    }
    reply
}

/// A request to an endpoint of an enabled realm.
struct Asked<'a> {
    call: Call<'a>,
    /// The endpoint, below `/protocol/openid-connect`.
    path: &'static str,
    realm: Arc<Realm>,
    issuer: String,
    /// Thumbprint of the key the caller proved to have.
    proof: Option<String>,
}

impl Asked<'_> {
    /// Checks the proof of possession that comes with the request, if one does (RFC 9449).
    /// Called when it is known who asks: a proof is remembered, and strangers are not to fill the store.
    async fn prove(&mut self, endpoint: Endpoint) -> Result<(), Reply> {
        let is_token = endpoint == Endpoint::Token;
        let mut sent = self.call.headers.get_all("dpop").iter();
        let scheme = self.call.header("authorization").and_then(scheme_of);
        let bound = !is_token && scheme.is_some_and(|it| it.eq_ignore_ascii_case("dpop"));
        let proof = match (sent.next(), sent.next()) {
            (None, _) if bound => Err(ProofProblem::Missing),
            (None, _) => return Ok(()),
            // A token sent as Bearer is looked at as one.
            (Some(_), _) if !is_token && !bound => return Ok(()),
            (Some(_), Some(_)) => Err(ProofProblem::Malformed),
            (Some(one), None) => one.to_str().map_err(|_| ProofProblem::Malformed),
        };
        let url = format!("{}/protocol/openid-connect/{}", self.issuer, self.path);
        let checked = match proof {
            Ok(proof) => {
                let request = Proven {
                    method: self.call.method.as_str(),
                    url: &url,
                    token: self.call.token().filter(|_| bound),
                };
                let checked = self.call.iris.check_proof(&self.realm, proof, request);
                checked.await.map_err(|error| errors::admin(&error))?
            }
            Err(problem) => Err(problem),
        };
        match checked {
            Ok(thumbprint) => self.proof = Some(thumbprint),
            Err(problem) if is_token => {
                let reply = errors::grant(&GrantError::Proof(problem));
                return Err(reply::never_stored(reply));
            }
            Err(problem) => {
                let text = problem.to_string();
                let problem = (Code::InvalidDpopProof, text.as_str());
                return Err(self.challenge(StatusCode::UNAUTHORIZED, Some(problem)));
            }
        }
        Ok(())
    }

    /// Takes an authorization request (RFC 9126).
    async fn push(&self, form: &Form) -> Reply {
        let client = match self.client(form).await {
            Ok(client) => client,
            Err(error) => return errors::grant(&error),
        };
        if form.has_duplicate() {
            let text = "duplicated parameter";
            return code(StatusCode::BAD_REQUEST, Code::InvalidRequest, text);
        }
        let iris = self.call.iris;
        let pushed = iris
            .push_request(&self.realm, &client, form, self.origin())
            .await;
        let reply = match pushed {
            Ok(Ok(pushed)) => {
                let body = members(vec![
                    ("request_uri", json!(pushed.request_uri)),
                    ("expires_in", json!(pushed.expires_in_s)),
                ]);
                reply::json(StatusCode::CREATED, &body)
            }
            Ok(Err(refused)) => {
                let text = refused.description.as_deref().unwrap_or_default();
                reply::oauth(StatusCode::BAD_REQUEST, &refused.error, text)
            }
            Err(error) => errors::admin(&error),
        };
        self.share(reply, &client)
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            issuer: &self.issuer,
            address: &self.call.base.address,
            proof: self.proof.as_deref(),
        }
    }

    async fn client(&self, form: &Form) -> Result<Arc<Client>, GrantError> {
        let credentials = ClientCredentials::collect(self.call.header("authorization"), form);
        let client = self
            .call
            .iris
            .authenticate(&self.realm, &credentials, self.origin())
            .await?;
        if let Some(metrics) = self.call.client_auth {
            client_auth::count(metrics, &self.realm, &client, &credentials, self.path);
        }
        Ok(client)
    }

    /// Lets the client's origins read a response.
    fn share(&self, reply: Reply, client: &Client) -> Reply {
        match self.call.header("origin") {
            Some(origin) => cors::share(reply, origin, client),
            None => reply,
        }
    }

    async fn token(&mut self, form: &Form) -> Reply {
        let bad = |text: &str| code(StatusCode::BAD_REQUEST, Code::InvalidRequest, text);
        let Some(name) = form.get("grant_type") else {
            return bad("Missing form parameter: grant_type");
        };
        let Some(grant) = grant_of(name, form, &self.realm) else {
            let text = "Unsupported grant_type";
            return code(StatusCode::BAD_REQUEST, Code::UnsupportedGrantType, text);
        };
        let client = match self.client(form).await {
            Ok(client) => client,
            Err(error) => {
                self.report(form, None, Err(&error));
                return errors::grant(&error);
            }
        };
        let repeatable = match &grant {
            Grant::TokenExchange(_) => "audience",
            _ => "",
        };
        if form.has_duplicate_except(repeatable) {
            return self.share(bad("duplicated parameter"), &client);
        }
        if let Err(reply) = self.prove(Endpoint::Token).await {
            return self.share(reply, &client);
        }
        let granted = self
            .call
            .iris
            .grant(
                &self.realm,
                &client,
                self.origin(),
                grant,
                form.get("scope"),
            )
            .await;
        self.report(form, Some(client.client_id()), granted.as_ref());
        let reply = match granted {
            Ok(tokens) => reply::json(StatusCode::OK, &token_response(tokens)),
            Err(error) => errors::grant(&error),
        };
        self.share(reply, &client)
    }

    /// Begins the request of a device (RFC 8628 section 3.1).
    async fn device(&self, form: &Form) -> Reply {
        let client = match self.client(form).await {
            Ok(client) => client,
            Err(error) => return errors::grant(&error),
        };
        if form.has_duplicate() {
            let text = "duplicated parameter";
            return code(StatusCode::BAD_REQUEST, Code::InvalidRequest, text);
        }
        let begun = self
            .call
            .iris
            .authorize_device(&self.realm, &client, form)
            .await;
        let reply = match begun {
            Ok(begun) => {
                let uri = format!("{}/device", self.issuer);
                let complete = format!("{uri}?user_code={}", begun.user_code);
                let body = members(vec![
                    ("device_code", json!(begun.device_code)),
                    ("user_code", json!(begun.user_code)),
                    ("verification_uri", json!(uri)),
                    ("verification_uri_complete", json!(complete)),
                    ("expires_in", json!(begun.expires_in_s)),
                    ("interval", json!(begun.interval_s)),
                ]);
                reply::json(StatusCode::OK, &body)
            }
            Err(error) => errors::grant(&error),
        };
        self.share(reply, &client)
    }

    /// Reports the outcome of a token request as a login event.
    fn report(&self, form: &Form, client_id: Option<&str>, outcome: Result<&Tokens, &GrantError>) {
        let asked = login_events::Asked {
            grant: form.get("grant_type").unwrap_or_default(),
            client_id: client_id.or_else(|| form.get("client_id")),
            username: form.get("username"),
            address: &self.call.base.address,
        };
        login_events::granted(self.call.iris, &self.realm, &asked, outcome);
    }

    /// The token and the authenticated client of introspection and revocation.
    async fn token_and_client(&self, form: &Form) -> Result<(String, Arc<Client>), Reply> {
        let client = self
            .client(form)
            .await
            .map_err(|error| errors::grant(&error))?;
        if form.has_duplicate() {
            return Err(code(
                StatusCode::BAD_REQUEST,
                Code::InvalidRequest,
                "duplicated parameter",
            ));
        }
        let token = form.get("token").ok_or_else(|| {
            code(
                StatusCode::BAD_REQUEST,
                Code::InvalidRequest,
                "Token not provided",
            )
        });
        Ok((token?.to_owned(), client))
    }

    async fn introspect(&self, form: &Form) -> Reply {
        let (token, client) = match self.token_and_client(form).await {
            Ok(found) => found,
            Err(reply) => return reply,
        };
        if client.is_public() {
            return code(
                StatusCode::FORBIDDEN,
                Code::InvalidRequest,
                "Client not allowed.",
            );
        }
        match self
            .call
            .iris
            .introspect(&self.realm, &token, &self.issuer)
            .await
        {
            Ok(claims) => reply::json(StatusCode::OK, &claims),
            Err(error) => errors::admin(&error),
        }
    }

    async fn revoke(&self, form: &Form) -> Reply {
        let (token, client) = match self.token_and_client(form).await {
            Ok(found) => found,
            Err(reply) => return reply,
        };
        let reply = match self
            .call
            .iris
            .revoke(&self.realm, &client, &token, &self.issuer)
            .await
        {
            Ok(Revocation::Done) => reply::empty(StatusCode::OK),
            Ok(Revocation::Unknown) => code(StatusCode::OK, Code::InvalidToken, "Invalid token"),
            Ok(Revocation::OtherClient) => code(
                StatusCode::BAD_REQUEST,
                Code::InvalidToken,
                "Unmatching clients",
            ),
            Err(error) => errors::admin(&error),
        };
        self.share(reply, &client)
    }

    async fn logout(&self, form: &Form) -> Reply {
        let client = match self.client(form).await {
            Ok(client) => client,
            Err(error) => return errors::grant(&error),
        };
        let Some(token) = form.get("refresh_token") else {
            return code(
                StatusCode::BAD_REQUEST,
                Code::InvalidRequest,
                "No refresh token",
            );
        };
        let reply = match self
            .call
            .iris
            .logout(&self.realm, &client, token, self.origin())
            .await
        {
            Ok(true) => {
                let event = Event {
                    kind: "LOGOUT",
                    client_id: Some(client.client_id()),
                    address: &self.call.base.address,
                    ..Event::default()
                };
                self.call.iris.event(&self.realm, &event);
                reply::no_content()
            }
            Ok(false) => code(
                StatusCode::BAD_REQUEST,
                Code::InvalidGrant,
                "Invalid refresh token",
            ),
            Err(error) => errors::admin(&error),
        };
        self.share(reply, &client)
    }

    async fn userinfo(&mut self, body: &[u8]) -> Reply {
        let form = Form::parse(body).unwrap_or_default();
        let token = self.call.token().or_else(|| form.get("access_token"));
        let Some(token) = token.map(str::to_owned) else {
            return self.challenge(StatusCode::UNAUTHORIZED, None);
        };
        let iris = self.call.iris;
        if self.call.headers.contains_key("dpop") {
            match iris.is_active(&self.realm, &token, &self.issuer).await {
                Ok(true) => {}
                Ok(false) => return self.unverified(),
                Err(error) => return errors::admin(&error),
            }
        }
        if let Err(reply) = self.prove(Endpoint::UserInfo).await {
            return reply;
        }
        match iris.userinfo(&self.realm, &token, self.origin()).await {
            Ok(Some(Ok(claims))) => reply::with(
                reply::json(StatusCode::OK, &claims),
                CACHE_CONTROL,
                "no-store",
            ),
            Ok(Some(Err(_))) => {
                let problem = (Code::InsufficientScope, "Missing openid scope");
                self.challenge(StatusCode::FORBIDDEN, Some(problem))
            }
            Ok(None) => self.unverified(),
            Err(error) => errors::admin(&error),
        }
    }

    fn unverified(&self) -> Reply {
        let problem = (Code::InvalidToken, "Token verification failed");
        self.challenge(StatusCode::UNAUTHORIZED, Some(problem))
    }

    /// An error in the `WWW-Authenticate` header alone (RFC 6750 section 3).
    fn challenge(&self, status: StatusCode, problem: Option<(Code, &str)>) -> Reply {
        let scheme = match self.proof {
            Some(_) => "DPoP",
            None => "Bearer",
        };
        let mut value = format!("{scheme} realm=\"{}\"", self.realm.name());
        if let Some((code, text)) = problem {
            value.push_str(&format!(
                ", error=\"{}\", error_description=\"{text}\"",
                code.name()
            ));
        }
        let reply = reply::with(reply::empty(status), WWW_AUTHENTICATE, &value);
        reply::with(reply, CONTENT_TYPE, "text/plain")
    }
}

/// The scheme of an `Authorization` header.
fn scheme_of(header: &str) -> Option<&str> {
    header.split_once(' ').map(|(scheme, _)| scheme)
}

/// The grant of that name, if the realm serves it.
fn grant_of(name: &str, form: &Form, realm: &Realm) -> Option<Grant> {
    let owned = |field: &str| form.get(field).map(str::to_owned);
    Some(match name {
        "client_credentials" => Grant::ClientCredentials,
        "password" => Grant::Password {
            username: owned("username"),
            password: owned("password").map(Secret::new),
        },
        "refresh_token" => Grant::RefreshToken {
            token: owned("refresh_token"),
        },
        "authorization_code" => Grant::AuthorizationCode(Redemption {
            code: owned("code"),
            redirect_uri: owned("redirect_uri"),
            verifier: owned("code_verifier"),
        }),
        DEVICE_CODE if realm.has_device_flow() => Grant::DeviceCode {
            code: owned("device_code"),
            verifier: owned("code_verifier"),
        },
        TOKEN_EXCHANGE if realm.has_token_exchange() => {
            let foreign = ["requested_subject", "requested_issuer", "subject_issuer"];
            let unsupported = foreign.into_iter().find(|name| form.get(name).is_some());
            Grant::TokenExchange(Exchange {
                subject: owned("subject_token"),
                subject_type: owned("subject_token_type"),
                requested_type: owned("requested_token_type"),
                audience: form.all("audience").map(str::to_owned).collect(),
                unsupported,
            })
        }
        _ => return None,
    })
}

/// The token response with its members in the original's order.
fn token_response(tokens: Tokens) -> Map<String, Value> {
    let mut body = members(vec![
        ("access_token", json!(tokens.access_token)),
        ("expires_in", json!(tokens.expires_in_s)),
        ("refresh_expires_in", json!(tokens.refresh_expires_in_s)),
    ]);
    let mut add = |name: &str, value: Value| {
        body.insert(name.to_owned(), value);
    };
    if let Some(token) = tokens.refresh_token {
        add("refresh_token", json!(token));
    }
    add("token_type", json!(tokens.token_type));
    if let Some(token) = tokens.id_token {
        add("id_token", json!(token));
    }
    add("not-before-policy", json!(tokens.not_before_s));
    if let Some(session) = tokens.session_state {
        add("session_state", json!(session));
    }
    add("scope", json!(tokens.scope));
    for (name, value) in tokens.other {
        body.entry(name).or_insert(value);
    }
    body
}
