//! jwt-keycloak: validates bearer tokens of OpenID Connect issuers and maps them to consumers
//! (kong-plugin-jwt-keycloak 1.8.1).

mod claims;
mod config;
mod failure;
mod fetch;
mod issuers;
mod keys;
#[cfg(test)]
mod tests;
mod token;
mod verified;

use std::sync::Arc;

use http::Method;
use http::header::HeaderName;
use o28m_core::{Ambient, limits};
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind, SecurityEvent, Verdict};
use o28m_kong::Consumer;
use o28m_net::client::Pool;
use serde_json::Value;

use crate::{Dependencies, identity};
use claims::{Claims, Date, Decoded};
use config::{Config, RegisteredClaim};
use failure::Failure;
use fetch::Deadlines;
use issuers::{Issuers, Known, Source};
use token::{Found, Places};
use verified::{Fingerprint, Verified, VerifiedTokens, fingerprint};

/// The consumer that stands for the other gateways of a mesh (`omit_consumer` of
/// rate-limiting-merged): only it may say for whom it calls.
const MESH_CONSUMER: &str = "gateway";
const CONSUMER_TOKEN: HeaderName = HeaderName::from_static("consumer-token");
/// Bytes of a `cafile`; the bundles of whole systems are a quarter of it.
const CAFILE_BYTES_MAX: u64 = 1024 * 1024;

/// What all instances share.
struct Shared {
    ambient: Ambient,
    issuers: Issuers,
    blocked_issuers: Vec<String>,
    verified: VerifiedTokens,
}

pub(crate) struct Kind {
    priority: i32,
    shared: Arc<Shared>,
}

impl Kind {
    pub(crate) fn new(dependencies: Dependencies) -> Self {
        Self::with_deadlines(dependencies, Deadlines::default())
    }

    fn with_deadlines(dependencies: Dependencies, deadlines: Deadlines) -> Self {
        let ambient = dependencies.ambient;
        let blocked = dependencies.blocked_issuers.iter();
        Self {
            priority: dependencies.jwt_keycloak_priority.unwrap_or(1005),
            shared: Arc::new(Shared {
                issuers: Issuers::new(dependencies.local_issuers, ambient.clone(), deadlines),
                blocked_issuers: blocked.map(|issuer| issuer.trim().to_owned()).collect(),
                verified: VerifiedTokens::new(limits::VERIFIED_TOKENS_MAX),
                ambient,
            }),
        }
    }
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "jwt-keycloak"
    }

    fn is_shareable(&self) -> bool {
        true
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = crate::config::read(config)?;
        let ca_pem = config.cafile.as_deref().and_then(certificates);
        let source = |issuer: &String| {
            let template = &config.well_known_template;
            self.shared
                .issuers
                .source(issuer, template, ca_pem.as_ref())
        };
        let client_role = |entry: &String| {
            let (client, role) = entry.rsplit_once(':').unwrap_or(("", entry));
            (client.to_owned(), role.to_owned())
        };
        Ok(Arc::new(JwtKeycloak {
            sources: config.allowed_iss.iter().map(source).collect(),
            places: Places::new(
                config.uri_param_names,
                config.cookie_names,
                &config.header_names,
            )?,
            verify_exp: config.claims_to_verify.contains(&RegisteredClaim::Exp),
            verify_nbf: config.claims_to_verify.contains(&RegisteredClaim::Nbf),
            maximum_expiration_s: config.maximum_expiration,
            anonymous: config.anonymous,
            run_on_preflight: config.run_on_preflight,
            grace_period_ms: milliseconds(config.iss_key_grace_period),
            client_roles: config.client_roles.iter().map(client_role).collect(),
            scope: config.scope,
            roles: config.roles,
            realm_roles: config.realm_roles,
            consumer: config.consumer_match.then_some(ConsumerMatch {
                claim: config.consumer_match_claim,
                by_custom_id: config.consumer_match_claim_custom_id,
                ignore_not_found: config.consumer_match_ignore_not_found,
            }),
            shared: self.shared.clone(),
        }))
    }
}

fn milliseconds(seconds: f64) -> i64 {
    // Saturates; the schema allows 1 to 60.
    (seconds * 1000.0) as i64
}

/// The certificates in `path`. The original ignores the field, so a path that leads nowhere is no
/// reason to refuse the configuration: issuers are then verified with the system's roots.
fn certificates(path: &str) -> Option<Arc<str>> {
    match read_file(path) {
        Ok(pem) => Some(pem.into()),
        Err(error) => {
            tracing::warn!(%error, path, "cannot read cafile of jwt-keycloak, using the system roots");
            None
        }
    }
}

/// A regular file of moderate size: the path comes from the Admin API.
fn read_file(path: &str) -> std::io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > CAFILE_BYTES_MAX {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    std::fs::read_to_string(path)
}

/// How a claim names a consumer.
struct ConsumerMatch {
    claim: String,
    by_custom_id: bool,
    ignore_not_found: bool,
}

struct JwtKeycloak {
    shared: Arc<Shared>,
    sources: Vec<Arc<Source>>,
    places: Places,
    verify_exp: bool,
    verify_nbf: bool,
    maximum_expiration_s: f64,
    anonymous: Option<String>,
    run_on_preflight: bool,
    grace_period_ms: i64,
    scope: Vec<String>,
    roles: Vec<String>,
    realm_roles: Vec<String>,
    client_roles: Vec<(String, String)>,
    consumer: Option<ConsumerMatch>,
}

/// What is known of a token without waiting.
enum Outcome {
    Now(Result<Arc<Claims>, Failure>),
    /// Keys have to be fetched.
    Later {
        token: String,
        fingerprint: Fingerprint,
        source: Arc<Source>,
    },
}

impl Plugin for JwtKeycloak {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let is_preflight = exchange.request.method == Method::OPTIONS;
        let is_done = self.anonymous.is_some() && exchange.credential.is_some();
        if is_done || (is_preflight && !self.run_on_preflight) {
            return Access::CONTINUE;
        }
        match self.authenticate(exchange) {
            Outcome::Now(result) => Access::Now(self.conclude(exchange, result)),
            Outcome::Later {
                token,
                fingerprint,
                source,
            } => {
                let pool = exchange.connection.pool.clone();
                Access::Later(Box::pin(async move {
                    let result = self.wait(&token, fingerprint, &source, &pool).await;
                    self.conclude(exchange, result)
                }))
            }
        }
    }
}

impl JwtKeycloak {
    /// Finds the token and verifies it with what is at hand.
    fn authenticate(&self, exchange: &Exchange) -> Outcome {
        let token = match self.places.find(&exchange.request) {
            Found::None => return Outcome::Now(Err(Failure::NoToken)),
            Found::Several => return Outcome::Now(Err(Failure::SeveralTokens)),
            Found::One(token) if token.len() > limits::TOKEN_BYTES_MAX => {
                return Outcome::Now(Err(Failure::NotJson));
            }
            Found::One(token) => token,
        };
        let fingerprint = fingerprint(&token);
        let pool = &exchange.connection.pool;
        if let Some(claims) = self.remembered(&fingerprint, pool) {
            return Outcome::Now(Ok(claims));
        }
        let (decoded, source) = match self.admit(&token) {
            Ok(admitted) => admitted,
            Err(failure) => return Outcome::Now(Err(failure)),
        };
        let source = source.clone();
        let known = self.shared.issuers.known(&source, pool);
        let verified = known.map(|known| (self.verify(&decoded, &known), known));
        match verified {
            Some((Ok(epoch), _)) => {
                Outcome::Now(Ok(self.remember(fingerprint, decoded.claims, epoch)))
            }
            Some((Err(failure), known)) if !self.may_be_cured(&failure, &known, &source) => {
                Outcome::Now(Err(failure))
            }
            Some((Err(_), _)) | None => Outcome::Later {
                fingerprint,
                source,
                token: token.into_owned(),
            },
        }
    }

    /// Verifies with keys that may have to be fetched.
    ///
    /// # Cancel safety
    /// A fetch that was started goes on without this request.
    async fn wait(
        &self,
        token: &str,
        fingerprint: Fingerprint,
        source: &Arc<Source>,
        pool: &Arc<Pool>,
    ) -> Result<Arc<Claims>, Failure> {
        let issuers = &self.shared.issuers;
        let known = issuers.keys(source, pool).await;
        let known = known.ok_or(Failure::KeysUnavailable)?;
        // Keys of this process that took a moment to read may have verified the token before.
        if let Some(verified) = self.shared.verified.get(&fingerprint)
            && verified.epoch == known.keys().epoch
        {
            return Ok(verified.claims);
        }
        let (decoded, _) = self.admit(token)?;
        let epoch = match self.verify(&decoded, &known) {
            Ok(epoch) => epoch,
            Err(failure) if !self.may_be_cured(&failure, &known, source) => return Err(failure),
            Err(failure) => {
                let newer = issuers.newer(source, pool, self.grace_period_ms).await;
                self.verify(&decoded, &newer.ok_or(failure)?)?
            }
        };
        Ok(self.remember(fingerprint, decoded.claims, epoch))
    }

    /// The claims of a token that this instance admits and present keys verified before.
    fn remembered(&self, fingerprint: &Fingerprint, pool: &Arc<Pool>) -> Option<Arc<Claims>> {
        let verified = self.shared.verified.get(fingerprint)?;
        let source = self.source_of(&verified.claims).ok()?;
        let known = self.shared.issuers.known(source, pool)?;
        (known.keys().epoch == verified.epoch).then_some(verified.claims)
    }

    fn remember(&self, fingerprint: Fingerprint, claims: Claims, epoch: u64) -> Arc<Claims> {
        let claims = Arc::new(claims);
        let verified = Verified {
            claims: claims.clone(),
            epoch,
        };
        self.shared.verified.put(fingerprint, verified);
        claims
    }

    /// Takes the token apart and finds its issuer among the allowed ones, before any network access.
    fn admit<'a>(&self, token: &'a str) -> Result<(Decoded<'a>, &Arc<Source>), Failure> {
        let decoded = Decoded::parse(token)?;
        let source = self.source_of(&decoded.claims)?;
        if decoded.algorithm.is_none() {
            return Err(Failure::AlgorithmNotAllowed);
        }
        Ok((decoded, source))
    }

    fn source_of(&self, claims: &Claims) -> Result<&Arc<Source>, Failure> {
        let issuer = claims.text("iss").ok_or(Failure::IssuerNotAllowed)?;
        if self.shared.blocked_issuers.iter().any(|it| it == issuer) {
            return Err(Failure::IssuerBlocked);
        }
        let mut sources = self.sources.iter();
        let source = sources.find(|source| source.issuer() == issuer);
        source.ok_or(Failure::IssuerNotAllowed)
    }

    /// The epoch of the keys that verify the token.
    fn verify(&self, decoded: &Decoded<'_>, known: &Known) -> Result<u64, Failure> {
        known.keys().verify(decoded)?;
        Ok(known.keys().epoch)
    }

    fn may_be_cured(&self, failure: &Failure, known: &Known, source: &Source) -> bool {
        let issuers = &self.shared.issuers;
        matches!(known, Known::Fetched(_))
            && failure.may_be_stale_keys()
            && issuers.may_be_newer(source, self.grace_period_ms)
    }

    /// What follows from the signature: claims, consumer, scopes and roles.
    fn conclude(&self, exchange: &mut Exchange, result: Result<Arc<Claims>, Failure>) -> Verdict {
        let failure = match result.and_then(|claims| self.accept(exchange, &claims)) {
            Ok(()) => return Verdict::Continue,
            Err(failure) => failure,
        };
        let (class_id, details) = failure.event();
        exchange.security_event = Some(SecurityEvent { class_id, details });
        tracing::info!(
            event.code = class_id,
            event.details = details,
            request.id = %exchange.request_id,
            "security event"
        );
        match &self.anonymous {
            Some(anonymous) if !failure.is_final() => {
                exchange.request.headers.remove(CONSUMER_TOKEN);
                identity::fall_back(exchange, anonymous)
            }
            Some(_) | None => Verdict::Respond(failure.response()),
        }
    }

    fn accept(&self, exchange: &mut Exchange, claims: &Claims) -> Result<(), Failure> {
        let client = claims.text("clientId").unwrap_or("anonymous");
        exchange.gateway_consumer = Some(client.to_owned());
        self.check_dates(claims)?;
        let consumer = self.match_consumer(exchange, claims)?;
        self.check_scope(claims)?;
        self.check_realm_roles(claims)?;
        self.check_roles(claims)?;
        self.check_client_roles(claims)?;
        if self.consumer.is_some() {
            let custom_id = consumer.as_ref().and_then(|it| it.custom_id.as_deref());
            if custom_id != Some(MESH_CONSUMER) {
                exchange.request.headers.remove(CONSUMER_TOKEN);
            }
        }
        if let Some(consumer) = consumer {
            identity::authenticate(exchange, consumer, None);
        }
        Ok(())
    }

    fn check_dates(&self, claims: &Claims) -> Result<(), Failure> {
        let now = self.shared.ambient.now().seconds() as f64;
        let mut wrong = Vec::new();
        match claims.expires {
            _ if !self.verify_exp => {}
            Date::NotANumber => wrong.push(r#"["exp"]="must be a number""#),
            Date::At(expires) if expires <= now => wrong.push(r#"["exp"]="token expired""#),
            Date::At(_) => {}
        }
        match claims.not_before {
            _ if !self.verify_nbf => {}
            Date::NotANumber => wrong.push(r#"["nbf"]="must be a number""#),
            Date::At(start) if start > now => wrong.push(r#"["nbf"]="token not valid yet""#),
            Date::At(_) => {}
        }
        if !wrong.is_empty() {
            return Err(Failure::ClaimsInvalid(wrong.join(",")));
        }
        let lives_too_long = match claims.expires {
            _ if self.maximum_expiration_s <= 0.0 => false,
            Date::NotANumber => true,
            Date::At(expires) => expires - now > self.maximum_expiration_s,
        };
        if lives_too_long {
            return Err(Failure::LivesTooLong);
        }
        Ok(())
    }

    fn match_consumer(
        &self,
        exchange: &Exchange,
        claims: &Claims,
    ) -> Result<Option<Arc<Consumer>>, Failure> {
        let Some(by) = &self.consumer else {
            return Ok(None);
        };
        let snapshot = &exchange.snapshot;
        let consumer = claims.text(&by.claim).and_then(|name| {
            if by.by_custom_id {
                snapshot.consumer_by_custom_id(name)
            } else {
                identity::by_id_or_username(snapshot, name)
            }
        });
        match consumer {
            None if !by.ignore_not_found => Err(Failure::ConsumerNotFound),
            found => Ok(found.cloned()),
        }
    }

    fn check_scope(&self, claims: &Claims) -> Result<(), Failure> {
        let has = |wanted: &String| claims.has_scope(wanted);
        match any(&self.scope, has) {
            Needed::Met => Ok(()),
            Needed::ClaimMissing => Err(Failure::Scope("Missing required scope claim")),
            Needed::Unmet => Err(Failure::Scope("Missing required scope")),
        }
    }

    fn check_realm_roles(&self, claims: &Claims) -> Result<(), Failure> {
        let has = |wanted: &String| claims.has_realm_role(wanted);
        match any(&self.realm_roles, has) {
            Needed::Met => Ok(()),
            Needed::ClaimMissing => Err(Failure::RealmRoles(
                "Missing required realm_access.roles claim",
            )),
            Needed::Unmet => Err(Failure::RealmRoles("Missing required realm role")),
        }
    }

    fn check_roles(&self, claims: &Claims) -> Result<(), Failure> {
        if self.roles.is_empty() {
            return Ok(());
        }
        let Some(client) = claims.text("azp") else {
            return Err(Failure::Roles("Missing required azp claim"));
        };
        let has = |role: &String| claims.has_client_role(client, role);
        any(&self.roles, has).for_client(Failure::Roles)
    }

    fn check_client_roles(&self, claims: &Claims) -> Result<(), Failure> {
        let has = |(client, role): &(String, String)| claims.has_client_role(client, role);
        any(&self.client_roles, has).for_client(Failure::ClientRoles)
    }
}

/// Whether one of several alternatives holds.
enum Needed {
    /// One does, or none is configured.
    Met,
    Unmet,
    /// The token does not say.
    ClaimMissing,
}

fn any<T>(wanted: &[T], has: impl Fn(&T) -> Option<bool>) -> Needed {
    let mut needed = Needed::Met;
    for wanted in wanted {
        needed = match has(wanted) {
            Some(true) => return Needed::Met,
            Some(false) => Needed::Unmet,
            None => return Needed::ClaimMissing,
        };
    }
    needed
}

impl Needed {
    fn for_client(self, failure: fn(&'static str) -> Failure) -> Result<(), Failure> {
        match self {
            Self::Met => Ok(()),
            Self::ClaimMissing => Err(failure("Missing required resource_access claim")),
            Self::Unmet => Err(failure("Missing required role")),
        }
    }
}

/// Takes apart whatever `token` is, for tests with random input.
#[cfg(test)]
pub(crate) fn decodes(token: &str) {
    if let Ok(decoded) = Decoded::parse(token) {
        assert!(token.starts_with(decoded.signing_input));
    }
}
