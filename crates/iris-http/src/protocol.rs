//! The OpenID Connect endpoints of a realm.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, VARY, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use o28m_core::Secret;
use o28m_iris::{Client, Event, Grant, GrantError, Origin, Realm, Revocation, Tokens};
use o28m_jose::Algorithm;
use o28m_net::Body;
use o28m_oauth::{ClientCredentials, Code, Form};
use serde_json::{Map, Value, json};

use crate::errors;
use crate::login_events;
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
];

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
            Self::Logout => "/realms/{realm}/protocol/{protocol}/logout",
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
        Found::OtherMethod(allowed) => return ("other", reply::wrong_method(&allowed)),
        Found::Nothing => return ("other", reply::unknown_path()),
    };
    let name = captured.first().map_or("", String::as_str).to_owned();
    let reply = serve(call, body, endpoint, &name).await;
    let protects = matches!(
        endpoint,
        Endpoint::Token | Endpoint::Introspect | Endpoint::Revoke
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

async fn serve(call: Call<'_>, body: Body, endpoint: Endpoint, name: &str) -> Reply {
    // The body is read first: a peer that sends too much is refused whatever it asks for.
    let bytes = match read_form(body).await {
        Ok(bytes) => bytes,
        Err(reply) => return reply,
    };
    let realm = match call.iris.realm(name).await {
        Ok(Some(realm)) => realm,
        Ok(None) => return reply::prose(StatusCode::NOT_FOUND, "Realm does not exist"),
        Err(error) => return errors::admin(&error),
    };
    if endpoint.is_public() {
        return public(&call, endpoint, &realm);
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
    let asked = Asked {
        realm,
        issuer,
        call,
    };
    if endpoint == Endpoint::UserInfo {
        return asked.userinfo(&bytes).await;
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
        Endpoint::Realm | Endpoint::Discovery | Endpoint::Keys | Endpoint::UserInfo => {
            reply::unknown_path()
        }
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
            let document = discovery(&issuer, realm);
            let reply = reply::json(StatusCode::OK, &document);
            reply::with(
                reply,
                CACHE_CONTROL,
                "no-cache, must-revalidate, no-transform, no-store",
            )
        }
        _ => {
            let document = realm_info(&issuer, realm);
            let reply = reply::json(StatusCode::OK, &document);
            reply::with(reply, CONTENT_TYPE, "application/json;charset=UTF-8")
        }
    };
    if call.header("origin").is_some() {
        return reply::with(
            reply::with(reply, ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            VARY,
            "Origin",
        );
    }
    reply
}

fn realm_info(issuer: &str, realm: &Realm) -> Map<String, Value> {
    members(vec![
        ("realm", json!(realm.name())),
        ("public_key", json!(realm.keys().rsa_public_key())),
        (
            "token-service",
            json!(format!("{issuer}/protocol/openid-connect")),
        ),
        ("account-service", json!(format!("{issuer}/account"))),
        ("tokens-not-before", json!(realm.not_before_s())),
    ])
}

/// The metadata document: only what is served (OpenID Connect Discovery 1.0, RFC 8414).
fn discovery(issuer: &str, realm: &Realm) -> Map<String, Value> {
    let at = |path: &str| json!(format!("{issuer}/protocol/openid-connect/{path}"));
    let algorithms: Vec<&str> = Algorithm::ALL.into_iter().map(Algorithm::name).collect();
    let methods = ["client_secret_basic", "client_secret_post"];
    let mut scopes = vec!["openid"];
    scopes.extend(realm.scope_names());
    let claims = [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "auth_time",
        "name",
        "given_name",
        "family_name",
        "preferred_username",
        "email",
        "acr",
        "azp",
    ];
    members(vec![
        ("issuer", json!(issuer)),
        ("token_endpoint", at("token")),
        ("introspection_endpoint", at("token/introspect")),
        ("userinfo_endpoint", at("userinfo")),
        ("end_session_endpoint", at("logout")),
        ("jwks_uri", at("certs")),
        (
            "grant_types_supported",
            json!(["client_credentials", "password", "refresh_token"]),
        ),
        ("acr_values_supported", json!(["0", "1"])),
        ("response_types_supported", json!([])),
        ("subject_types_supported", json!(["public"])),
        ("id_token_signing_alg_values_supported", json!(algorithms)),
        ("token_endpoint_auth_methods_supported", json!(methods)),
        (
            "introspection_endpoint_auth_methods_supported",
            json!(methods),
        ),
        ("claims_supported", json!(claims)),
        ("claim_types_supported", json!(["normal"])),
        ("claims_parameter_supported", json!(false)),
        ("scopes_supported", json!(scopes)),
        ("request_parameter_supported", json!(false)),
        ("request_uri_parameter_supported", json!(false)),
        ("code_challenge_methods_supported", json!([])),
        ("revocation_endpoint", at("revoke")),
        ("revocation_endpoint_auth_methods_supported", json!(methods)),
    ])
}

/// A request to an endpoint of an enabled realm.
struct Asked<'a> {
    call: Call<'a>,
    realm: Arc<Realm>,
    issuer: String,
}

impl Asked<'_> {
    fn origin(&self) -> Origin<'_> {
        Origin {
            issuer: &self.issuer,
            address: &self.call.base.address,
        }
    }

    async fn client(&self, form: &Form) -> Result<Arc<Client>, GrantError> {
        let credentials = ClientCredentials::collect(self.call.header("authorization"), form);
        self.call.iris.authenticate(&self.realm, &credentials).await
    }

    async fn token(&self, form: &Form) -> Reply {
        let bad = |text: &str| code(StatusCode::BAD_REQUEST, Code::InvalidRequest, text);
        let Some(name) = form.get("grant_type") else {
            return bad("Missing form parameter: grant_type");
        };
        let owned = |field: &str| form.get(field).map(str::to_owned);
        let grant = match name {
            "client_credentials" => Grant::ClientCredentials,
            "password" => Grant::Password {
                username: owned("username"),
                password: owned("password").map(Secret::new),
            },
            "refresh_token" => Grant::RefreshToken {
                token: owned("refresh_token"),
            },
            _ => {
                let text = "Unsupported grant_type";
                return code(StatusCode::BAD_REQUEST, Code::UnsupportedGrantType, text);
            }
        };
        let client = match self.client(form).await {
            Ok(client) => client,
            Err(error) => {
                self.report(form, None, Err(&error));
                return errors::grant(&error);
            }
        };
        if form.has_duplicate() {
            return bad("duplicated parameter");
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
        match granted {
            Ok(tokens) => reply::json(StatusCode::OK, &token_response(tokens)),
            Err(error) => errors::grant(&error),
        }
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
        match self
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
        }
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
        match self
            .call
            .iris
            .logout(&self.realm, &client, token, &self.issuer)
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
        }
    }

    async fn userinfo(&self, body: &[u8]) -> Reply {
        let form = Form::parse(body).unwrap_or_default();
        let Some(token) = self.call.bearer().or_else(|| form.get("access_token")) else {
            return self.challenge(StatusCode::UNAUTHORIZED, None);
        };
        match self
            .call
            .iris
            .userinfo(&self.realm, token, self.origin())
            .await
        {
            Ok(Some(Ok(claims))) => reply::with(
                reply::json(StatusCode::OK, &claims),
                CACHE_CONTROL,
                "no-store",
            ),
            Ok(Some(Err(_))) => {
                let problem = (Code::InsufficientScope, "Missing openid scope");
                self.challenge(StatusCode::FORBIDDEN, Some(problem))
            }
            Ok(None) => {
                let problem = (Code::InvalidToken, "Token verification failed");
                self.challenge(StatusCode::UNAUTHORIZED, Some(problem))
            }
            Err(error) => errors::admin(&error),
        }
    }

    /// An error in the `WWW-Authenticate` header alone (RFC 6750 section 3).
    fn challenge(&self, status: StatusCode, problem: Option<(Code, &str)>) -> Reply {
        let mut value = format!("Bearer realm=\"{}\"", self.realm.name());
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
