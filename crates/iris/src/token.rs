//! What tokens contain, in which order, and how they are signed.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use aws_lc_rs::digest;
use o28m_jose::{Algorithm, base64url};
use o28m_oauth::Scopes;
use serde_json::{Map, Value, json};

use crate::cache::group;
use crate::dpop;
use crate::keys::{self, RealmKey};
use crate::mapper::{Granted, Mapper, Scene, Target};
use crate::model::{Client, Fields as _, Realm, Rep, Scope, Stored as _, User, kind};
use crate::session::{Ends, Login};
use crate::{Error, Example, GrantError, Iris};

/// Order of the leading claims (Keycloak 26.5 `AccessToken`); the rest follows as mapped.
const CLAIM_ORDER: &[&str] = &[
    "exp",
    "iat",
    "auth_time",
    "jti",
    "iss",
    "aud",
    "sub",
    "typ",
    "azp",
    "nonce",
    "sid",
    "at_hash",
    "acr",
    "allowed-origins",
    "realm_access",
    "resource_access",
    "scope",
];

/// Client attribute of Keycloak's lightweight access tokens.
const LIGHTWEIGHT: &str = "client.use.lightweight.access.token.enabled";

/// Where a request came from and where it went to.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The issuer of the realm as this request sees it.
    pub issuer: &'a str,
    /// Address of the caller, behind trusted proxies.
    pub address: &'a str,
    /// Thumbprint of the key the caller proved to have: tokens are bound to it (RFC 9449).
    pub proof: Option<&'a str>,
}

/// A successful token response.
#[derive(Debug)]
pub struct Tokens {
    /// The access token.
    pub access_token: String,
    /// Seconds until it expires.
    pub expires_in_s: i64,
    /// Seconds until the refresh token expires; 0 without one, and for unlimited offline tokens.
    pub refresh_expires_in_s: i64,
    /// The refresh token.
    pub refresh_token: Option<String>,
    /// `Bearer`, in the case the client asked for.
    pub token_type: &'static str,
    /// The ID token.
    pub id_token: Option<String>,
    /// Tokens issued before this time are refused.
    pub not_before_s: i64,
    /// The session.
    pub session_state: Option<String>,
    /// The user they are for.
    pub user_id: String,
    /// The `scope` of the access token.
    pub scope: String,
    /// Members that mappers add.
    pub other: Map<String, Value>,
}

/// The scopes of a token.
pub(crate) struct Applied {
    pub(crate) scopes: Vec<Arc<Scope>>,
    pub(crate) openid: bool,
    /// The `scope` claim.
    pub(crate) text: String,
    /// `offline_access` is among them.
    pub(crate) offline: bool,
}

/// Everything a token is made of.
pub(crate) struct Issue<'a> {
    pub(crate) realm: &'a Arc<Realm>,
    pub(crate) client: &'a Client,
    pub(crate) user: &'a User,
    pub(crate) applied: &'a Applied,
    pub(crate) origin: Origin<'a>,
    pub(crate) notes: &'a [(String, String)],
    /// The login and its ends; `None` for a transient session.
    pub(crate) login: Option<(&'a Login, Ends)>,
    /// `nonce` of the authorization request.
    pub(crate) nonce: Option<&'a str>,
    /// The only audiences an access token may have; all when empty.
    pub(crate) audience: &'a [String],
    /// Two letters of the grant in the token id, such as `cc`.
    pub(crate) grant: &'static str,
}

/// Whether the client has every scope that the parameter names.
pub(crate) fn has_scopes(realm: &Realm, client: &Client, parameter: Option<&str>) -> bool {
    let has = |word: &str| {
        let ids = &client.body;
        let mut ids = ids.default_scopes.iter().chain(&ids.optional_scopes);
        ids.any(|id| {
            let scope = realm.scopes.get(id);
            scope.is_some_and(|scope| scope.body.name == word)
        })
    };
    Scopes::parse(parameter)
        .iter()
        .all(|word| word == "openid" || has(word))
}

/// The scopes that apply: defaults and those asked for. A scope with roles applies only to users who
/// have one of them (Keycloak 26.5 `TokenManager`).
///
/// # Errors
/// [`GrantError::Scope`] for a word the client does not have.
pub(crate) fn apply_scopes(
    realm: &Realm,
    client: &Client,
    user: &User,
    parameter: Option<&str>,
) -> Result<Applied, GrantError> {
    if !has_scopes(realm, client, parameter) {
        return Err(GrantError::Scope(parameter.unwrap_or_default().to_owned()));
    }
    let asked = Scopes::parse(parameter);
    let find = |ids: &[String]| -> Vec<Arc<Scope>> {
        ids.iter()
            .filter_map(|id| realm.scopes.get(id).cloned())
            .collect()
    };
    let defaults = find(&client.body.default_scopes);
    let optional = find(&client.body.optional_scopes);
    let has_role = |scope: &Scope| {
        let wanted = &scope.body.scope_roles;
        wanted.is_empty() || user.roles.iter().any(|role| wanted.contains(&role.body.id))
    };
    let chosen = optional
        .into_iter()
        .filter(|scope| asked.contains(&scope.body.name));
    let scopes: Vec<_> = defaults
        .iter()
        .cloned()
        .chain(chosen)
        .filter(|it| has_role(it))
        .collect();
    let openid = asked.contains("openid");
    let mut words: Vec<&str> = if openid { vec!["openid"] } else { Vec::new() };
    words.extend(
        scopes
            .iter()
            .filter(|scope| scope.in_token)
            .map(|it| it.body.name.as_str()),
    );
    let text = words.join(" ");
    let offline = scopes
        .iter()
        .any(|scope| scope.body.name == "offline_access");
    Ok(Applied {
        openid,
        text,
        offline,
        scopes,
    })
}

impl Issue<'_> {
    fn lightweight(&self) -> bool {
        self.client.attribute_is(LIGHTWEIGHT)
    }

    fn mappers(&self) -> impl Iterator<Item = &Mapper> {
        // The client's own mappers come last: they win over those of scopes.
        let scopes = self.applied.scopes.iter().flat_map(|scope| &scope.mappers);
        scopes.chain(&self.client.mappers)
    }

    /// `0` for tokens of a login that was there already (Keycloak 26.5 `TokenManager`).
    fn acr(&self) -> &'static str {
        let part = self
            .login
            .as_ref()
            .and_then(|(login, _)| login.clients.get(&self.client.body.id));
        if part.is_some_and(|part| part.sso) {
            "0"
        } else {
            "1"
        }
    }

    fn token_id(&self, token: &str) -> String {
        let session = match &self.login {
            None => "tr",
            Some((login, _)) if login.offline => "of",
            Some(_) => "on",
        };
        format!("{session}{token}{}", self.grant)
    }

    /// Applies the mappers for one target to the core claims and brings them in order.
    fn finish(
        &self,
        target: Target,
        granted: &Granted,
        mut claims: Map<String, Value>,
    ) -> Map<String, Value> {
        let mut audience = BTreeSet::new();
        let scene = Scene {
            client: self.client,
            user: self.user,
            notes: self.notes,
            granted,
            origins: self.client.web_origins(),
        };
        for mapper in self.mappers() {
            mapper.apply(target, &scene, &mut claims, &mut audience);
        }
        if target == Target::Id {
            audience.insert(self.client.client_id().to_owned());
        }
        if matches!(target, Target::Access | Target::Lightweight) && !self.audience.is_empty() {
            audience.retain(|name| self.audience.contains(name));
        }
        let mut audience = audience.into_iter();
        match (audience.next(), audience.len()) {
            (None, _) => {}
            (Some(one), 0) => {
                claims.insert("aud".to_owned(), json!(one));
            }
            (Some(first), _) => {
                let all: Vec<String> = std::iter::once(first).chain(audience).collect();
                claims.insert("aud".to_owned(), json!(all));
            }
        }
        arranged(claims)
    }
}

/// The claims in the order of tokens.
fn arranged(claims: Map<String, Value>) -> Map<String, Value> {
    let place = |name: &str| CLAIM_ORDER.iter().position(|it| *it == name);
    let mut listed: Vec<_> = claims.into_iter().collect();
    listed.sort_by_cached_key(|(name, _)| place(name).unwrap_or(CLAIM_ORDER.len()));
    listed.into_iter().collect()
}

/// The web origins of a client; `+` stands for the origins of its redirect URIs.
pub(crate) fn allowed_origins(rep: &Rep) -> Vec<String> {
    let mut origins = Vec::new();
    for origin in rep.texts("webOrigins") {
        if origin == "+" {
            origins.extend(
                rep.texts("redirectUris")
                    .iter()
                    .filter_map(|uri| url_origin(uri)),
            );
        } else {
            origins.push(origin);
        }
    }
    origins.sort_unstable();
    origins.dedup();
    origins
}

/// Scheme, host and port of an absolute URL.
pub(crate) fn url_origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest
        .split(['/', '?', '#'])
        .next()
        .filter(|it| !it.is_empty())?;
    Some(format!("{scheme}://{authority}"))
}

impl Iris {
    /// The roles the token carries: the user's, cut down to what the client may see unless it has
    /// full scope; then changed by role mappers.
    pub(crate) async fn granted(&self, issue: &Issue<'_>) -> Result<Granted, Error> {
        let mut granted = self
            .visible_roles(issue.client, issue.user, &issue.applied.scopes)
            .await?;
        for mapper in issue.mappers() {
            mapper.change_roles(&mut granted);
        }
        Ok(granted)
    }

    /// The user's roles that are in scope for the client.
    pub(crate) async fn visible_roles(
        &self,
        client: &Client,
        user: &User,
        scopes: &[Arc<Scope>],
    ) -> Result<Granted, Error> {
        let mut allowed = None;
        if !client.body.rep.flag("fullScopeAllowed") {
            let scoped = scopes.iter().flat_map(|scope| &scope.body.scope_roles);
            let ids: Vec<String> = scoped.chain(&client.body.scope_roles).cloned().collect();
            let expanded = self.expand(&client.body.realm, &ids).await?;
            allowed = Some(
                expanded
                    .iter()
                    .map(|role| role.body.id.clone())
                    .collect::<HashSet<_>>(),
            );
        }
        let mut granted = Granted::default();
        for role in &user.roles {
            let own = role.body.client.as_deref() == Some(&client.body.id);
            if !own
                && allowed
                    .as_ref()
                    .is_some_and(|ids| !ids.contains(&role.body.id))
            {
                continue;
            }
            let roles = match &role.client_id {
                Some(client) => granted.clients.entry(client.clone()).or_default(),
                None => &mut granted.realm,
            };
            roles.insert(role.body.name.clone());
        }
        Ok(granted)
    }

    /// The audiences asked for that the access token would not have.
    pub(crate) async fn missing_audience(&self, issue: &Issue<'_>) -> Result<Vec<String>, Error> {
        if issue.audience.is_empty() {
            return Ok(Vec::new());
        }
        let granted = self.granted(issue).await?;
        let claims = issue.finish(Target::Access, &granted, Map::new());
        let has =
            |name: &String| claims.text("aud") == Some(name) || claims.texts("aud").contains(name);
        let missing = issue.audience.iter().filter(|name| !has(name));
        Ok(missing.cloned().collect())
    }

    /// Makes every token of a response.
    pub(crate) async fn issue(&self, issue: &Issue<'_>) -> Result<Tokens, Error> {
        let now_s = self.ambient.now().seconds();
        let granted = self.granted(issue).await?;
        let expires_in_s = access_lifespan(issue, now_s);
        let (access, algorithm) = self
            .access_token(issue, &granted, now_s, expires_in_s)
            .await?;
        let mut tokens = Tokens {
            expires_in_s,
            refresh_expires_in_s: 0,
            refresh_token: None,
            token_type: if issue.origin.proof.is_some() {
                "DPoP"
            } else if issue
                .client
                .attribute_is("token.response.type.bearer.lower-case")
            {
                "bearer"
            } else {
                "Bearer"
            },
            id_token: None,
            not_before_s: not_before(issue.realm, issue.client, issue.user),
            session_state: issue.login.as_ref().map(|(login, _)| login.id.clone()),
            user_id: issue.user.body.id.clone(),
            scope: issue.applied.text.clone(),
            other: if issue
                .mappers()
                .any(|mapper| mapper.writes_to(Target::Response))
            {
                issue.finish(Target::Response, &granted, Map::new())
            } else {
                Map::new()
            },
            access_token: access,
        };
        if issue.applied.openid {
            let token = self
                .id_token(issue, &granted, now_s, &tokens, algorithm)
                .await?;
            tokens.id_token = Some(token);
        }
        if issue.login.is_some() && issue.client.attribute("use.refresh.tokens") != Some("false") {
            self.add_refresh_token(issue, now_s, &mut tokens).await?;
        }
        Ok(tokens)
    }

    async fn access_token(
        &self,
        issue: &Issue<'_>,
        granted: &Granted,
        now_s: i64,
        expires_in_s: i64,
    ) -> Result<(String, Algorithm), Error> {
        let lightweight = issue.lightweight();
        let kind = if lightweight { "lt" } else { "rt" };
        let bound = issue.origin.proof.is_some();
        let mut claims = self.core(
            issue,
            kind,
            if bound { "DPoP" } else { "Bearer" },
            now_s,
            now_s.saturating_add(expires_in_s),
        );
        claims.insert("scope".to_owned(), json!(issue.applied.text));
        if let Some(thumbprint) = issue.origin.proof {
            claims.insert("cnf".to_owned(), dpop::confirmation(thumbprint));
        }
        if !lightweight {
            claims.insert("acr".to_owned(), json!(issue.acr()));
            if issue.login.is_none() {
                claims.insert("sub".to_owned(), json!(issue.user.body.id));
            }
        } else if issue.login.is_none() {
            // Without a session the subject is the only way back to the user.
            claims.insert("sub".to_owned(), json!(issue.user.body.id));
        }
        let target = if lightweight {
            Target::Lightweight
        } else {
            Target::Access
        };
        let claims = issue.finish(target, granted, claims);
        let key = self
            .signing_key(
                issue.realm,
                issue.client,
                "access.token.signed.response.alg",
            )
            .await?;
        let rfc9068 = issue
            .client
            .attribute_is("access.token.header.type.rfc9068");
        let typ = if rfc9068 { "at+jwt" } else { "JWT" };
        self.sign(key, typ, &claims).await
    }

    fn core(
        &self,
        issue: &Issue<'_>,
        kind: &str,
        typ: &str,
        now_s: i64,
        exp_s: i64,
    ) -> Map<String, Value> {
        let mut claims = Map::new();
        let jti = format!("{}:{}", issue.token_id(kind), self.ambient.uuid());
        claims.insert("exp".to_owned(), json!(exp_s));
        claims.insert("iat".to_owned(), json!(now_s));
        claims.insert("jti".to_owned(), json!(jti));
        claims.insert("iss".to_owned(), json!(issue.origin.issuer));
        claims.insert("typ".to_owned(), json!(typ));
        claims.insert("azp".to_owned(), json!(issue.client.client_id()));
        if let Some((login, _)) = &issue.login {
            claims.insert("sid".to_owned(), json!(login.id));
        }
        claims
    }

    async fn id_token(
        &self,
        issue: &Issue<'_>,
        granted: &Granted,
        now_s: i64,
        tokens: &Tokens,
        access_algorithm: Algorithm,
    ) -> Result<String, Error> {
        let exp_s = now_s.saturating_add(tokens.expires_in_s);
        let mut claims = self.core(issue, "it", "ID", now_s, exp_s);
        claims.insert("sub".to_owned(), json!(issue.user.body.id));
        claims.insert("acr".to_owned(), json!(issue.acr()));
        if let Some(nonce) = issue.nonce {
            claims.insert("nonce".to_owned(), json!(nonce));
        }
        let auth_time = issue.login.as_ref().and_then(|(login, _)| login.auth_s());
        if let Some(seconds) = auth_time {
            claims.insert("auth_time".to_owned(), json!(seconds));
        }
        claims.insert(
            "at_hash".to_owned(),
            json!(half_hash(access_algorithm, &tokens.access_token)),
        );
        let claims = issue.finish(Target::Id, granted, claims);
        let key = self
            .signing_key(issue.realm, issue.client, "id.token.signed.response.alg")
            .await?;
        Ok(self.sign(key, "JWT", &claims).await?.0)
    }

    async fn add_refresh_token(
        &self,
        issue: &Issue<'_>,
        now_s: i64,
        tokens: &mut Tokens,
    ) -> Result<(), Error> {
        let Some((login, ends)) = &issue.login else {
            return Ok(());
        };
        let end_s = ends.next_s();
        let unlimited = login.offline && ends.at_most_s.is_none();
        let typ = if login.offline { "Offline" } else { "Refresh" };
        let mut claims = self.core(issue, "rf", typ, now_s, end_s);
        if unlimited {
            claims.shift_remove("exp");
        }
        claims.insert("aud".to_owned(), json!(issue.origin.issuer));
        claims.insert("sub".to_owned(), json!(issue.user.body.id));
        let scope = login
            .clients
            .get(&issue.client.body.id)
            .map_or("", |part| part.scope.as_str());
        claims.insert("scope".to_owned(), json!(scope));
        // Clients with a secret bind their refresh tokens by it (RFC 9449 section 5).
        if let Some(thumbprint) = issue.origin.proof.filter(|_| issue.client.is_public()) {
            claims.insert("cnf".to_owned(), dpop::confirmation(thumbprint));
        }
        let rep = &issue.realm.body.rep;
        if rep.flag("revokeRefreshToken") {
            let jti = claims.text("jti").unwrap_or_default().to_owned();
            let reuse = rep.int("refreshTokenMaxReuse");
            self.allow_uses(issue.realm.id(), &jti, reuse, end_s)
                .await?;
        }
        let key = self.key_for(issue.realm, Algorithm::HS512).await?;
        tokens.refresh_token = Some(self.sign(key, "JWT", &arranged(claims)).await?.0);
        tokens.refresh_expires_in_s = if unlimited {
            0
        } else {
            end_s.saturating_sub(now_s)
        };
        Ok(())
    }

    /// The key for the algorithm of the client's attribute, else of the realm, else RS256.
    pub(crate) async fn signing_key(
        &self,
        realm: &Arc<Realm>,
        client: &Client,
        attribute: &str,
    ) -> Result<Arc<RealmKey>, Error> {
        let wanted = client.attribute(attribute);
        let default = realm.body.rep.text("defaultSignatureAlgorithm");
        let named = |name: Option<&str>| name.and_then(|name| name.parse().ok());
        let algorithm = named(wanted).or_else(|| named(default));
        self.key_for(realm, algorithm.unwrap_or(Algorithm::RS256))
            .await
    }

    /// The realm's key for an algorithm; made, stored and published when there is none.
    pub(crate) async fn key_for(
        &self,
        realm: &Arc<Realm>,
        algorithm: Algorithm,
    ) -> Result<Arc<RealmKey>, Error> {
        if let Some(key) = realm.keys.signing(algorithm) {
            return Ok(Arc::clone(key));
        }
        let (id, name, ambient) = (
            realm.id().to_owned(),
            realm.name().to_owned(),
            self.ambient.clone(),
        );
        let made = self
            .signing
            .run(move || keys::fallback(algorithm, &id, &name, &ambient))
            .await??;
        let steps = vec![o28m_store::Write::Insert(made.object())];
        match self.write(realm.id(), steps).await {
            Ok(()) => {}
            Err(o28m_store::Error::Duplicate { .. }) => {
                // Another request or replica made it first, which may not have been announced yet.
                let version = self.store.version().await?;
                let keys = group(kind::KEY, realm.id());
                self.changed.note(version, [keys]);
            }
            Err(error) => return Err(error.into()),
        }
        let fresh = self.existing_realm(realm.name()).await?;
        let key = fresh.keys.signing(algorithm).cloned();
        key.ok_or(Error::Key(o28m_jose::KeyError::Generation(algorithm)))
    }

    pub(crate) async fn sign(
        &self,
        key: Arc<RealmKey>,
        typ: &str,
        claims: &Map<String, Value>,
    ) -> Result<(String, Algorithm), Error> {
        let missing = || Error::Key(o28m_jose::KeyError::Generation(Algorithm::RS256));
        let algorithm = key.algorithm().ok_or_else(missing)?;
        let payload = serde_json::to_vec(claims).unwrap_or_default();
        let input = key.signing_input(typ, &payload).ok_or_else(missing)?;
        let token = if algorithm.key_type() == "RSA" {
            self.signing.run(move || key.sign(input)).await?
        } else {
            key.sign(input)
        };
        token.map(|token| (token, algorithm)).ok_or_else(missing)
    }

    /// Claims for the userinfo endpoint.
    pub(crate) async fn userinfo_claims(
        &self,
        issue: &Issue<'_>,
    ) -> Result<Map<String, Value>, Error> {
        let granted = self.granted(issue).await?;
        let mapped = issue.finish(Target::UserInfo, &granted, Map::new());
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), json!(issue.user.body.id));
        for (name, value) in mapped {
            claims.entry(name).or_insert(value);
        }
        Ok(claims)
    }
}

/// Seconds an access token lives: the client's or the realm's setting, never beyond the session.
fn access_lifespan(issue: &Issue<'_>, now_s: i64) -> i64 {
    let realm = issue.realm.body.rep.int("accessTokenLifespan");
    let session_max = issue.realm.body.rep.int("ssoSessionMaxLifespan");
    let own = match issue.client.attribute_int("access.token.lifespan") {
        Some(-1) => session_max,
        Some(seconds) if seconds > 0 => seconds,
        _ => realm,
    };
    let remaining = issue.login.as_ref().and_then(|(_, ends)| ends.at_most_s);
    remaining
        .map_or(own, |end_s| own.min(end_s.saturating_sub(now_s)))
        .max(0)
}

/// Logins made before this time are refused.
pub(crate) fn not_before_of(realm: &Realm, user: &User) -> i64 {
    realm.not_before_s().max(user.body.rep.int("notBefore"))
}

/// Tokens issued before this time are refused.
pub(crate) fn not_before(realm: &Realm, client: &Client, user: &User) -> i64 {
    let client = client.body.rep.int("notBefore");
    realm
        .not_before_s()
        .max(client)
        .max(user.body.rep.int("notBefore"))
}

/// Left half of the token's hash with the algorithm's hash function (OIDC Core 3.1.3.6).
fn half_hash(algorithm: Algorithm, token: &str) -> String {
    let hash = match algorithm {
        Algorithm::HS256 | Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => {
            &digest::SHA256
        }
        Algorithm::HS384 | Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => {
            &digest::SHA384
        }
        Algorithm::HS512 | Algorithm::RS512 | Algorithm::PS512 | Algorithm::ES512 => {
            &digest::SHA512
        }
        // The hash function of Ed25519 (RFC 8032 section 5.1).
        Algorithm::EdDSA => &digest::SHA512,
    };
    let hashed = digest::digest(hash, token.as_bytes());
    let bytes = hashed.as_ref();
    base64url(bytes.get(..bytes.len() / 2).unwrap_or_default())
}

impl Iris {
    /// The claims of a token that nobody gets.
    pub(crate) async fn example(
        &self,
        issue: &Issue<'_>,
        example: Example,
    ) -> Result<Map<String, Value>, Error> {
        if example == Example::UserInfo {
            return self.userinfo_claims(issue).await;
        }
        let now_s = self.ambient.now().seconds();
        let granted = self.granted(issue).await?;
        let exp_s = now_s.saturating_add(access_lifespan(issue, now_s));
        let (kind, typ, target) = match example {
            Example::Id => ("it", "ID", Target::Id),
            _ if issue.lightweight() => ("lt", "Bearer", Target::Lightweight),
            _ => ("rt", "Bearer", Target::Access),
        };
        let mut claims = self.core(issue, kind, typ, now_s, exp_s);
        claims.insert("sub".to_owned(), json!(issue.user.body.id));
        claims.insert("acr".to_owned(), json!("1"));
        if example == Example::Access {
            claims.insert("scope".to_owned(), json!(issue.applied.text));
        }
        Ok(issue.finish(target, &granted, claims))
    }
}
