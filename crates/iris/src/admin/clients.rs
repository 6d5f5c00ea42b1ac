//! Clients, their secrets and their service accounts.

use o28m_core::Ambient;
use o28m_jose::Algorithm;
use o28m_store::{Filter, Query, Test, Write};
use serde_json::{Value, json};

use crate::admin::mappers::{prepare_body, take_list};
use crate::admin::users::{render_user, service_user};
use crate::admin::{Others, check_length, merge_texts, rotation, taken};
use crate::model::{
    ClientBody, Fields as _, RealmBody, Rep, ScopeBody, Stored as _, UserBody, kind,
};
use crate::new_realm::{BUILT_IN_CLIENTS, SERVICE_ACCOUNT};
use crate::token::url_origin;
use crate::{Error, Invalid, Iris, Thing, representation};

/// Fields that a client representation derives from elsewhere.
const DERIVED: &[&str] = &[
    "id",
    "clientId",
    "protocolMappers",
    "defaultClientScopes",
    "optionalClientScopes",
    "access",
    "origin",
    "defaultRoles",
    "clientTemplate",
    "useTemplateConfig",
    "useTemplateScope",
    "useTemplateMappers",
    "directGrantsOnly",
    "attributes",
];
/// Fields that hold a URL.
const URLS: &[&str] = &["rootUrl", "adminUrl", "baseUrl"];
/// Attributes that name a signature algorithm.
const SIGNATURES: &[&str] = &[
    "access.token.signed.response.alg",
    "id.token.signed.response.alg",
];
/// Schemes that run code in a browser.
const SCRIPT_SCHEMES: &[&str] = &["javascript:", "data:", "vbscript:"];

/// Which clients to list.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    /// Only this `clientId`, or with `search` those that contain it.
    pub client_id: Option<String>,
    /// Compare by containment.
    pub search: bool,
    /// Leave out this many first.
    pub first: u32,
    /// At most this many; all when absent.
    pub max: Option<u32>,
    /// Only clients with these attributes.
    pub attributes: Vec<(String, String)>,
}

/// A client to make, and its service account.
pub(crate) struct NewClient {
    pub(crate) client: ClientBody,
    pub(crate) user: Option<UserBody>,
}

impl NewClient {
    /// Fills in what a new client gets unless it says otherwise (Keycloak 26.5 `ClientManager`,
    /// `OIDCLoginProtocolFactory.setupClientDefaults`).
    pub(crate) fn draft(
        realm: &RealmBody,
        scopes: &[ScopeBody],
        mut rep: Rep,
        ambient: &Ambient,
    ) -> Result<Self, Error> {
        let client_id = rep.text("clientId").unwrap_or_default().to_owned();
        if client_id.is_empty() {
            return Err(Error::Invalid(Invalid::Required("clientId")));
        }
        check_length("clientId", &client_id)?;
        let sent_id = rep
            .text("id")
            .filter(|id| o28m_core::id::is_uuid(id))
            .map(str::to_owned);
        let mappers = prepare_body(take_list(&mut rep).unwrap_or_default(), &[], ambient)?;
        let protocol = rep.text("protocol").unwrap_or("openid-connect").to_owned();
        let of_protocol = |ids: &[String]| -> Vec<String> {
            let other = |id: &String| {
                let scope = scopes.iter().find(|scope| scope.id == *id);
                scope.is_some_and(|scope| scope.rep.text("protocol") != Some(&protocol))
            };
            ids.iter().filter(|id| !other(id)).cloned().collect()
        };
        let default_scopes = chosen(
            &rep,
            "defaultClientScopes",
            scopes,
            &of_protocol(&realm.default_scopes),
        );
        let mut optional_scopes = chosen(
            &rep,
            "optionalClientScopes",
            scopes,
            &of_protocol(&realm.optional_scopes),
        );
        optional_scopes.retain(|id| !default_scopes.contains(id));
        let attributes = rep.shift_remove("attributes").unwrap_or_else(|| json!({}));
        fill_flags(&mut rep);
        fill_urls(&mut rep);
        rep.retain(|field, _| !DERIVED.contains(&field.as_str()));
        rep.insert("attributes".to_owned(), json!({"realm_client": "false"}));
        merge_texts(&mut rep, "attributes", attributes);
        check(&rep)?;
        fill_secret(&mut rep, ambient);
        let mut new = Self {
            client: ClientBody {
                id: sent_id.unwrap_or_else(|| ambient.uuid()),
                realm: realm.id.clone(),
                client_id,
                rep,
                mappers,
                default_scopes,
                optional_scopes,
                scope_roles: Vec::new(),
                service_user: None,
                manages: None,
            },
            user: None,
        };
        if new.client.rep.flag("serviceAccountsEnabled") {
            let scope = scopes.iter().find(|scope| scope.name == SERVICE_ACCOUNT);
            new.user = Some(attach_service_account(
                &mut new.client,
                realm,
                scope,
                ambient,
            ));
        }
        if let Some(periods) = rotation::periods(realm, &new.client) {
            rotation::after_update(&mut new.client, Some(periods), ambient);
        }
        Ok(new)
    }

    pub(crate) fn steps(&self) -> Vec<Write> {
        let user = self.user.iter().map(|user| user.object());
        std::iter::once(self.client.object())
            .chain(user)
            .map(Write::Insert)
            .collect()
    }
}

/// The scopes named in a field, unknown names left out with a warning, else the realm's.
fn chosen(rep: &Rep, field: &str, scopes: &[ScopeBody], realm: &[String]) -> Vec<String> {
    if !rep.contains_key(field) {
        return realm.to_vec();
    }
    let mut ids = Vec::new();
    for name in rep.texts(field) {
        match scopes.iter().find(|scope| scope.name == name) {
            Some(scope) => ids.push(scope.id.clone()),
            None => tracing::warn!(
                client.id = rep.text("clientId"),
                scope.name = name,
                "client names a scope its realm does not have, ignored"
            ),
        }
    }
    ids
}

fn fill_flags(rep: &mut Rep) {
    // A body with `protocol` takes the console's defaults: a public client with direct access.
    let full = rep.contains_key("protocol");
    let bearer = rep.flag("bearerOnly");
    let kind_unsaid = !rep.contains_key("publicClient") && !rep.contains_key("bearerOnly");
    let public = full && kind_unsaid;
    let consent = rep.flag("consentRequired");
    let defaults = [
        ("surrogateAuthRequired", json!(false)),
        ("enabled", json!(true)),
        ("alwaysDisplayInConsole", json!(false)),
        ("clientAuthenticatorType", json!("client-secret")),
        ("redirectUris", json!([])),
        ("notBefore", json!(0)),
        ("bearerOnly", json!(false)),
        ("consentRequired", json!(false)),
        ("standardFlowEnabled", json!(true)),
        ("implicitFlowEnabled", json!(false)),
        ("directAccessGrantsEnabled", json!(full && !bearer)),
        ("serviceAccountsEnabled", json!(false)),
        ("publicClient", json!(public)),
        ("frontchannelLogout", json!(false)),
        ("protocol", json!("openid-connect")),
        ("authenticationFlowBindingOverrides", json!({})),
        ("fullScopeAllowed", json!(!consent)),
        ("nodeReRegistrationTimeout", json!(-1)),
    ];
    for (field, value) in defaults {
        rep.entry(field.to_owned()).or_insert(value);
    }
}

fn fill_urls(rep: &mut Rep) {
    let mut redirects = rep.texts("redirectUris");
    if let Some(root) = rep
        .text("rootUrl")
        .filter(|root| !root.is_empty() && redirects.is_empty())
    {
        redirects.push(format!("{}/*", root.trim_end_matches('/')));
        let all = json!(redirects);
        rep.insert("redirectUris".to_owned(), all);
    }
    if !rep.contains_key("webOrigins") {
        let mut origins: Vec<String> = redirects.iter().filter_map(|uri| url_origin(uri)).collect();
        origins.sort_unstable();
        origins.dedup();
        rep.insert("webOrigins".to_owned(), json!(origins));
    }
}

fn is_confidential(rep: &Rep) -> bool {
    !rep.flag("publicClient") && !rep.flag("bearerOnly")
}

/// A confidential client has a secret; a public one has none.
fn fill_secret(rep: &mut Rep, ambient: &Ambient) {
    if rep.flag("publicClient") {
        rep.shift_remove("secret");
        return;
    }
    let sent = rep.text("secret").is_some_and(|secret| !secret.is_empty());
    if !sent && is_confidential(rep) {
        rep.insert("secret".to_owned(), json!(rotation::new_secret(ambient)));
    }
    if is_confidential(rep)
        && rep
            .entry_text("attributes", "client.secret.creation.time")
            .is_none()
    {
        rotation::stamp(rep, ambient.now().seconds());
    }
}

fn check(rep: &Rep) -> Result<(), Error> {
    for field in ["name", "description", "secret"] {
        check_length(field, rep.text(field).unwrap_or_default())?;
    }
    let refuse = |field: &'static str, value: &str| {
        Err(Error::Invalid(Invalid::ClientValue {
            field,
            value: value.to_owned(),
        }))
    };
    let is_script = |url: &str| {
        let lower = url.trim_start().to_ascii_lowercase();
        SCRIPT_SCHEMES
            .iter()
            .any(|scheme| lower.starts_with(scheme))
    };
    for field in URLS {
        let url = rep.text(field).unwrap_or_default();
        if is_script(url) {
            return refuse(field, url);
        }
    }
    for field in SIGNATURES {
        let algorithm = rep.entry_text("attributes", field).unwrap_or("RS256");
        if algorithm.parse::<Algorithm>().is_err() {
            return refuse(field, algorithm);
        }
    }
    for uri in rep.texts("redirectUris") {
        if is_script(&uri) || uri.contains('#') {
            return refuse("redirectUris", &uri);
        }
    }
    Ok(())
}

fn attach_service_account(
    client: &mut ClientBody,
    realm: &RealmBody,
    scope: Option<&ScopeBody>,
    ambient: &Ambient,
) -> UserBody {
    let user = service_user(client, &realm.default_role, ambient);
    client.service_user = Some(user.id.clone());
    if let Some(scope) = scope
        && !client.default_scopes.contains(&scope.id)
    {
        client.optional_scopes.retain(|id| *id != scope.id);
        client.default_scopes.push(scope.id.clone());
    }
    user
}

/// The representation of a client.
pub(crate) fn render(body: ClientBody, scopes: &[ScopeBody]) -> Rep {
    let names = |ids: &[String]| -> Vec<String> {
        let named = ids
            .iter()
            .filter_map(|id| scopes.iter().find(|scope| scope.id == *id));
        named.map(|scope| scope.name.clone()).collect()
    };
    let mut rep = body.rep;
    rep.insert("id".to_owned(), json!(body.id));
    rep.insert("clientId".to_owned(), json!(body.client_id));
    if !body.mappers.is_empty() {
        rep.insert("protocolMappers".to_owned(), json!(body.mappers));
    }
    rep.insert(
        "defaultClientScopes".to_owned(),
        json!(names(&body.default_scopes)),
    );
    rep.insert(
        "optionalClientScopes".to_owned(),
        json!(names(&body.optional_scopes)),
    );
    rep.insert(
        "access".to_owned(),
        json!({"view": true, "configure": true, "manage": true}),
    );
    representation::CLIENT.arrange(rep)
}

/// Whether a sent field does not change the client: it is derived, or an empty secret.
fn is_kept(field: &str, value: &Value) -> bool {
    DERIVED.contains(&field) || (field == "secret" && value == "")
}

/// Applies the sent fields to a stored client.
fn apply(client: &mut ClientBody, rep: &Rep, ambient: &Ambient) -> Result<(), Error> {
    if let Some(client_id) = rep.text("clientId").filter(|id| !id.is_empty()) {
        check_length("clientId", client_id)?;
        let built_in =
            BUILT_IN_CLIENTS.contains(&client.client_id.as_str()) || client.manages.is_some();
        if built_in && client_id != client.client_id {
            return Err(Error::Invalid(Invalid::BuiltInName(
                client.client_id.clone(),
            )));
        }
        client_id.clone_into(&mut client.client_id);
    }
    let old_secret = client.rep.get("secret").cloned();
    for (field, value) in rep {
        if field == "attributes" {
            merge_texts(&mut client.rep, field, value.clone());
        } else if !is_kept(field, value) {
            client.rep.insert(field.clone(), value.clone());
        }
    }
    if let Some(mappers) = take_list(&mut rep.clone()) {
        client.mappers = prepare_body(mappers, &client.mappers, ambient)?;
    }
    check(&client.rep)?;
    fill_secret(&mut client.rep, ambient);
    if client.rep.get("secret") != old_secret.as_ref() && client.rep.contains_key("secret") {
        rotation::stamp(&mut client.rep, ambient.now().seconds());
    }
    Ok(())
}

impl Iris {
    /// Clients of a realm with their secrets.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clients(&self, realm_id: &str, filter: &ClientFilter) -> Result<Vec<Rep>, Error> {
        let bodies = match (&filter.client_id, filter.search) {
            (Some(id), false) => self
                .client_body_by_client_id(realm_id, id)
                .await?
                .into_iter()
                .collect(),
            (search, _) => {
                self.list_clients(realm_id, search.as_deref(), filter)
                    .await?
            }
        };
        if bodies.is_empty() {
            return Ok(Vec::new());
        }
        let scopes = self.read_owned::<ScopeBody>(kind::SCOPE, realm_id).await?;
        Ok(bodies
            .into_iter()
            .map(|body| render(body, &scopes))
            .collect())
    }

    async fn list_clients(
        &self,
        realm_id: &str,
        search: Option<&str>,
        filter: &ClientFilter,
    ) -> Result<Vec<ClientBody>, Error> {
        let query = Query {
            kind: kind::CLIENT,
            owner: Some(realm_id),
            by_key: Some("clientId"),
            search,
            filters: filter
                .attributes
                .iter()
                .map(|(name, value)| {
                    vec![Filter {
                        path: vec!["rep", "attributes", name],
                        test: Test::Is(value),
                    }]
                })
                .collect(),
            ..Query::default()
        };
        self.read_by_name(
            kind::CLIENT,
            query,
            filter.first,
            filter.max,
            |it: &ClientBody| it.client_id.clone(),
        )
        .await
    }

    /// One client.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn client_representation(&self, realm_id: &str, id: &str) -> Result<Rep, Error> {
        let body = self.client_body(realm_id, id).await?;
        let scopes = self.read_owned::<ScopeBody>(kind::SCOPE, realm_id).await?;
        Ok(render(body, &scopes))
    }

    pub(crate) async fn client_body(&self, realm_id: &str, id: &str) -> Result<ClientBody, Error> {
        let found = self.read::<ClientBody>(kind::CLIENT, realm_id, id).await?;
        found
            .map(|(body, _)| body)
            .ok_or(Error::Missing(Thing::Client))
    }

    /// Makes a client; gives its id.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`].
    pub async fn create_client(&self, realm_id: &str, rep: Rep) -> Result<String, Error> {
        let realm = self.realm_body(realm_id).await?;
        let scopes = self.read_owned::<ScopeBody>(kind::SCOPE, realm_id).await?;
        let new = NewClient::draft(&realm, &scopes, rep, &self.ambient)?;
        match self.write(realm_id, new.steps()).await {
            Ok(()) => Ok(new.client.id),
            Err(error) => Err(taken(error, Thing::Client, &new.client.client_id, false)),
        }
    }

    /// Changes what was sent (Keycloak 26.5 `ClientResource`): absent fields and attributes stay,
    /// mappers are the full list, scopes are ignored.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`], [`Error::Invalid`].
    pub async fn update_client(&self, realm_id: &str, id: &str, rep: Rep) -> Result<(), Error> {
        let realm = self.realm_body(realm_id).await?;
        let key = self.read_by_key::<ScopeBody>(kind::SCOPE, realm_id, "name", SERVICE_ACCOUNT);
        let scope = key.await?;
        let user = self.service_account_body(realm_id, id).await?;
        let change = |client: &mut ClientBody| -> Result<Others, Error> {
            let old_name = client.client_id.clone();
            apply(client, &rep, &self.ambient)?;
            rotation::after_update(client, rotation::periods(&realm, client), &self.ambient);
            let wanted = client.rep.flag("serviceAccountsEnabled");
            let mut others = Vec::new();
            match (&client.service_user, wanted, &user) {
                (None, true, _) | (Some(_), true, None) => {
                    let user =
                        attach_service_account(client, &realm, scope.as_ref(), &self.ambient);
                    others.push(Write::Insert(user.object()));
                }
                (Some(id), false, _) => {
                    others.push(Write::Delete {
                        kind: kind::USER,
                        id: id.clone(),
                    });
                    client.service_user = None;
                }
                (Some(_), true, Some(user)) if old_name != client.client_id => {
                    let renamed = UserBody {
                        username: service_name(&client.client_id),
                        ..user.clone()
                    };
                    others.push(Write::Update {
                        object: renamed.object(),
                        if_version: None,
                    });
                }
                (Some(_), true, Some(_)) | (None, false, _) => {}
            }
            Ok(others)
        };
        match self
            .change::<ClientBody>(realm_id, id, Thing::Client, change)
            .await
        {
            Ok(_) => Ok(()),
            Err(Error::Store(error)) => Err(taken(
                error,
                Thing::Client,
                rep.text("clientId").unwrap_or_default(),
                true,
            )),
            Err(error) => Err(error),
        }
    }

    async fn service_account_body(
        &self,
        realm_id: &str,
        id: &str,
    ) -> Result<Option<UserBody>, Error> {
        let client = self.client_body(realm_id, id).await?;
        let Some(user) = client.service_user else {
            return Ok(None);
        };
        Ok(self
            .read::<UserBody>(kind::USER, realm_id, &user)
            .await?
            .map(|(user, _)| user))
    }

    /// Deletes a client with its roles and service account.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`] for a built-in client.
    pub async fn delete_client(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        let client = self.client_body(realm_id, id).await?;
        if BUILT_IN_CLIENTS.contains(&client.client_id.as_str()) || client.manages.is_some() {
            return Err(Error::Invalid(Invalid::BuiltInClient));
        }
        let step = Write::Delete {
            kind: kind::CLIENT,
            id: id.to_owned(),
        };
        Ok(self.write(realm_id, vec![step]).await?)
    }

    /// The secret of a client, if it has one.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn client_secret(&self, realm_id: &str, id: &str) -> Result<Option<String>, Error> {
        let client = self.client_body(realm_id, id).await?;
        Ok(client.rep.text("secret").map(str::to_owned))
    }

    /// Gives a client a new secret.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn renew_client_secret(&self, realm_id: &str, id: &str) -> Result<String, Error> {
        let realm = self.realm_body(realm_id).await?;
        let change = |client: &mut ClientBody| {
            rotation::rotate(client, rotation::periods(&realm, client), &self.ambient);
            Ok(Vec::new())
        };
        let client = self
            .change::<ClientBody>(realm_id, id, Thing::Client, change)
            .await?;
        Ok(client.rep.text("secret").unwrap_or_default().to_owned())
    }

    /// The rotated secret of a client.
    ///
    /// # Errors
    /// [`Error::Missing`] for an unknown client, and for one without a rotated secret.
    pub async fn rotated_client_secret(&self, realm_id: &str, id: &str) -> Result<String, Error> {
        let client = self.client_body(realm_id, id).await?;
        let secret = client.rep.entry_text("attributes", rotation::ROTATED);
        secret
            .map(str::to_owned)
            .ok_or(Error::Missing(Thing::RotatedSecret))
    }

    /// Forgets the rotated secret of a client.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn forget_rotated_secret(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        let change = |client: &mut ClientBody| {
            rotation::forget_rotated(&mut client.rep);
            Ok(Vec::new())
        };
        self.change::<ClientBody>(realm_id, id, Thing::Client, change)
            .await?;
        Ok(())
    }

    /// The service account's user.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`] when service accounts are off.
    pub async fn service_account(&self, realm_id: &str, id: &str) -> Result<Rep, Error> {
        let client = self.client_body(realm_id, id).await?;
        if !client.rep.flag("serviceAccountsEnabled") {
            return Err(Error::Invalid(Invalid::ServiceAccountOff(client.client_id)));
        }
        let user = self.service_account_body(realm_id, id).await?;
        user.map(render_user).ok_or(Error::Missing(Thing::User))
    }
}

/// The user name of a client's service account.
pub(crate) fn service_name(client_id: &str) -> String {
    format!("service-account-{}", client_id.to_lowercase())
}
