//! What a new realm contains (Keycloak 26.5.7), and the master realm.

mod clients;
mod scopes;

use o28m_core::{Ambient, Secret};
use o28m_store::{Query, Write};
use serde_json::{Map, Value, json};

use crate::admin::clients::NewClient;
use crate::authority::management_client;
use crate::keys::{KeyBody, Part};
use crate::model::{
    ClientBody, Fields as _, PasswordCard, RealmBody, Rep, RoleBody, ScopeBody, Stored as _,
    UserBody, kind,
};
use crate::{Error, Iris, MASTER, Settings, Thing, keys, password};

pub(crate) use clients::{ADMIN_ROLES, BUILT_IN_CLIENTS};
use clients::{COMPOSITES, built_in_client};
use scopes::{Assigned, SCOPES, built_in_mappers, mapper_rep, scope_rep};

/// Scope that clients with a service account get.
pub(crate) const SERVICE_ACCOUNT: &str = "service_account";

/// Settings of a realm that sends none (Keycloak 26.5.7).
fn realm_defaults() -> Rep {
    let web_authn = |prefix: &str| -> Map<String, Value> {
        let not = json!("not specified");
        let fields = [
            ("RpEntityName", json!("keycloak")),
            ("SignatureAlgorithms", json!(["ES256", "RS256"])),
            ("RpId", json!("")),
            ("AttestationConveyancePreference", not.clone()),
            ("AuthenticatorAttachment", not.clone()),
            ("RequireResidentKey", not.clone()),
            ("UserVerificationRequirement", not),
            ("CreateTimeout", json!(0)),
            ("AvoidSameAuthenticatorRegister", json!(false)),
            ("AcceptableAaguids", json!([])),
            ("ExtraOrigins", json!([])),
        ];
        fields
            .into_iter()
            .map(|(name, value)| (format!("{prefix}{name}"), value))
            .collect()
    };
    let parsed = serde_json::from_str::<Rep>(include_str!("new_realm/defaults.json"));
    // The text is part of the program, and a test reads it.
    let mut defaults = parsed.unwrap_or_default();
    defaults.extend(web_authn("webAuthnPolicy"));
    defaults.extend(web_authn("webAuthnPolicyPasswordless"));
    defaults
}

/// Everything a new realm is made of.
pub(crate) struct NewRealm {
    pub(crate) realm: RealmBody,
    pub(crate) scopes: Vec<ScopeBody>,
    pub(crate) clients: Vec<ClientBody>,
    pub(crate) roles: Vec<RoleBody>,
}

impl NewRealm {
    /// The realm of that name with settings `rep` over the defaults.
    pub(crate) fn draft(id: String, name: &str, rep: Rep, ambient: &Ambient) -> Self {
        let mut new = Self {
            realm: RealmBody {
                id,
                name: name.to_owned(),
                rep: with_defaults(rep),
                default_scopes: Vec::new(),
                optional_scopes: Vec::new(),
                default_role: ambient.uuid(),
                default_groups: Vec::new(),
                kept: Rep::new(),
            },
            scopes: Vec::new(),
            clients: Vec::new(),
            roles: Vec::new(),
        };
        new.add_roles_and_clients(ambient);
        new
    }

    fn add_roles_and_clients(&mut self, ambient: &Ambient) {
        let offline = self.add_role(None, "offline_access", "${role_offline-access}", ambient);
        let uma = self.add_role(
            None,
            "uma_authorization",
            "${role_uma_authorization}",
            ambient,
        );
        self.add_scopes(&offline, ambient);
        for client_id in BUILT_IN_CLIENTS {
            let master = self.realm.name == MASTER;
            if (*client_id == "master-realm") == master || !client_id.contains("realm") {
                self.add_client(client_id, ambient);
            }
        }
        let account = |name: &str| self.role_id("account", name);
        let inside = [
            Some(offline),
            Some(uma),
            account("manage-account"),
            account("view-profile"),
        ];
        let default_role = RoleBody {
            id: self.realm.default_role.clone(),
            realm: self.realm.id.clone(),
            client: None,
            name: format!("default-roles-{}", self.realm.name.to_lowercase()),
            rep: description("${role_default-roles}"),
            composites: inside.into_iter().flatten().collect(),
            find: String::new(),
        };
        self.roles.push(default_role);
        self.add_admin_role(ambient);
    }

    /// The role that contains all administration roles: `admin` of the master realm, `realm-admin` of
    /// `realm-management` elsewhere.
    fn add_admin_role(&mut self, ambient: &Ambient) {
        let master = self.realm.name == MASTER;
        let management = if master {
            "master-realm"
        } else {
            "realm-management"
        };
        let client = self.client_uuid(management);
        let mut all: Vec<String> = ADMIN_ROLES
            .iter()
            .filter_map(|name| self.role_id(management, name))
            .collect();
        let id = if master {
            all.push(self.add_role(None, "create-realm", "${role_create-realm}", ambient));
            self.add_role(None, "admin", "${role_admin}", ambient)
        } else {
            self.add_role(client, "realm-admin", "${role_realm-admin}", ambient)
        };
        if let Some(role) = self.roles.iter_mut().find(|role| role.id == id) {
            role.composites = all;
        }
    }

    fn add_role(
        &mut self,
        client: Option<String>,
        name: &str,
        text: &str,
        ambient: &Ambient,
    ) -> String {
        let id = ambient.uuid();
        self.roles.push(RoleBody {
            id: id.clone(),
            realm: self.realm.id.clone(),
            client,
            name: name.to_owned(),
            rep: description(text),
            composites: Vec::new(),
            find: String::new(),
        });
        id
    }

    fn client_uuid(&self, client_id: &str) -> Option<String> {
        self.clients
            .iter()
            .find(|it| it.client_id == client_id)
            .map(|it| it.id.clone())
    }

    fn role_id(&self, client_id: &str, name: &str) -> Option<String> {
        let client = self.client_uuid(client_id)?;
        let of_client =
            |role: &&RoleBody| role.client.as_deref() == Some(&client) && role.name == name;
        self.roles
            .iter()
            .find(of_client)
            .map(|role| role.id.clone())
    }

    fn add_scopes(&mut self, offline_role: &str, ambient: &Ambient) {
        for plan in SCOPES {
            let id = ambient.uuid();
            match plan.assigned {
                Assigned::Default => self.realm.default_scopes.push(id.clone()),
                Assigned::Optional => self.realm.optional_scopes.push(id.clone()),
                Assigned::Not => {}
            }
            let roles = if plan.name == "offline_access" {
                vec![offline_role.to_owned()]
            } else {
                Vec::new()
            };
            self.scopes.push(ScopeBody {
                id,
                realm: self.realm.id.clone(),
                name: plan.name.to_owned(),
                rep: scope_rep(plan),
                mappers: plan
                    .mappers
                    .iter()
                    .map(|mapper| mapper_rep(mapper, ambient))
                    .collect(),
                scope_roles: roles,
            });
        }
    }

    fn add_client(&mut self, client_id: &str, ambient: &Ambient) {
        let id = ambient.uuid();
        let (rep, roles) = built_in_client(client_id, &self.realm.name);
        self.clients.push(ClientBody {
            id: id.clone(),
            realm: self.realm.id.clone(),
            client_id: client_id.to_owned(),
            rep,
            mappers: built_in_mappers(client_id, ambient),
            default_scopes: self.realm.default_scopes.clone(),
            optional_scopes: self.realm.optional_scopes.clone(),
            scope_roles: Vec::new(),
            service_user: None,
            manages: None,
        });
        for name in roles {
            self.add_role(
                Some(id.clone()),
                name,
                &format!("${{role_{name}}}"),
                ambient,
            );
        }
        for (outer, inner) in COMPOSITES.iter().filter(|(outer, _)| roles.contains(outer)) {
            let inner = inner
                .iter()
                .filter_map(|name| self.role_id(client_id, name))
                .collect();
            let of_client =
                |role: &&mut RoleBody| role.client.as_deref() == Some(&id) && role.name == *outer;
            if let Some(role) = self.roles.iter_mut().find(of_client) {
                role.composites = inner;
            }
        }
        if client_id == "account-console" {
            let scope_roles = self
                .role_id("account", "manage-account")
                .into_iter()
                .collect();
            if let Some(client) = self.clients.last_mut() {
                client.scope_roles = scope_roles;
            }
        }
    }

    /// The writes that make the realm with these keys.
    pub(crate) fn steps(&self, keys: &[KeyBody]) -> Vec<Write> {
        let objects = std::iter::once(self.realm.object())
            .chain(self.scopes.iter().map(ScopeBody::object))
            .chain(self.clients.iter().map(ClientBody::object))
            .chain(self.roles.iter().map(RoleBody::object))
            .chain(keys.iter().map(KeyBody::object));
        objects.map(Write::Insert).collect()
    }
}

/// The client `{realm}-realm` of the master realm, whose roles give rights over a realm, and its roles.
/// Role `admin` of the master realm has all rights anyway, so they are not added to it.
pub(crate) fn management(
    master_id: &str,
    realm: &RealmBody,
    ambient: &Ambient,
) -> (ClientBody, Vec<RoleBody>) {
    let (mut rep, _) = built_in_client("master-realm", MASTER);
    rep.insert("name".to_owned(), json!(format!("{} Realm", realm.name)));
    let client = ClientBody {
        id: ambient.uuid(),
        realm: master_id.to_owned(),
        client_id: management_client(&realm.name, MASTER),
        rep,
        mappers: Vec::new(),
        default_scopes: Vec::new(),
        optional_scopes: Vec::new(),
        scope_roles: Vec::new(),
        service_user: None,
        manages: Some(realm.id.clone()),
    };
    let role = |name: &&str| RoleBody {
        id: ambient.uuid(),
        realm: master_id.to_owned(),
        client: Some(client.id.clone()),
        name: (*name).to_owned(),
        rep: description(&format!("${{role_{name}}}")),
        composites: Vec::new(),
        find: String::new(),
    };
    let mut roles: Vec<RoleBody> = ADMIN_ROLES.iter().map(role).collect();
    for (outer, inner) in COMPOSITES {
        let ids: Vec<String> = roles
            .iter()
            .filter(|role| inner.contains(&role.name.as_str()))
            .map(|role| role.id.clone())
            .collect();
        if let Some(role) = roles.iter_mut().find(|role| role.name == *outer) {
            role.composites = ids;
        }
    }
    (client, roles)
}

fn description(text: &str) -> Rep {
    [("description".to_owned(), json!(text))]
        .into_iter()
        .collect()
}

/// Settings over defaults; `attributes` are merged by name.
fn with_defaults(rep: Rep) -> Rep {
    let mut all = realm_defaults();
    for (field, value) in rep {
        match (all.get_mut(&field), value) {
            (Some(Value::Object(known)), Value::Object(sent)) if field == "attributes" => {
                known.extend(sent.into_iter().filter(|(_, value)| !value.is_null()));
            }
            (_, value) => {
                all.insert(field, value);
            }
        }
    }
    all
}

impl Iris {
    /// Makes the master realm and its administrator where they are missing.
    pub(crate) async fn ensure_master(&self, settings: &Settings) -> Result<(), Error> {
        if self
            .read_by_key::<RealmBody>(kind::REALM, "", "name", MASTER)
            .await?
            .is_none()
        {
            let rep = json!({
                "realm": MASTER, "enabled": true, "displayName": "Keycloak",
                "displayNameHtml": "<div class=\"kc-logo-text\"><span>Keycloak</span></div>",
                "accessTokenLifespan": 60,
            });
            let rep = rep.as_object().cloned().unwrap_or_default();
            match Box::pin(self.create_realm(rep, None)).await {
                // Another replica made it at the same time.
                Ok(_)
                | Err(Error::Exists {
                    thing: Thing::Realm,
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        let user = settings.admin_user.as_ref();
        let user = user.zip(settings.admin_password.as_ref());
        let client = settings.admin_client.as_ref();
        let client = client.zip(settings.admin_client_secret.as_ref());
        if user.is_none() && client.is_none() {
            return Ok(());
        }
        let realm = self.existing_realm(MASTER).await?;
        let people = Query {
            kind: kind::USER,
            owner: Some(realm.id()),
            by_key: Some("person"),
            limit: 1,
            ..Query::default()
        };
        if !self.store.list(&people).await?.is_empty() {
            return Ok(());
        }
        // The client first: once there is somebody, neither is made.
        if let Some((client_id, secret)) = client {
            self.create_admin_client(&realm.body, client_id, secret)
                .await?;
        }
        if let Some((name, secret)) = user {
            self.create_administrator(realm.id(), &realm.body, name, secret)
                .await?;
        }
        Ok(())
    }

    /// Keycloak 26.5 `ApplianceBootstrap`: a confidential client whose service account has role `admin`.
    async fn create_admin_client(
        &self,
        realm: &RealmBody,
        client_id: &str,
        secret: &Secret<String>,
    ) -> Result<(), Error> {
        let admin = self.admin_role(&realm.id).await?;
        let scopes = self.read_owned::<ScopeBody>(kind::SCOPE, &realm.id).await?;
        let rep = json!({
            "clientId": client_id, "secret": secret.expose(), "enabled": true, "publicClient": false,
            "serviceAccountsEnabled": true, "standardFlowEnabled": false,
            "directAccessGrantsEnabled": false, "attributes": {"is_temporary_admin": "true"},
        });
        let rep = rep.as_object().cloned().unwrap_or_default();
        let mut new = NewClient::draft(realm, &scopes, rep, &self.ambient)?;
        if let Some(user) = &mut new.user {
            user.roles.push(admin.id);
        }
        match self.write(&realm.id, new.steps()).await {
            Ok(()) | Err(o28m_store::Error::Duplicate { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn admin_role(&self, realm_id: &str) -> Result<RoleBody, Error> {
        let key = crate::model::role_key(realm_id, "admin");
        let admin: Option<RoleBody> = self.read_by_key(kind::ROLE, realm_id, "name", &key).await?;
        admin.ok_or(Error::Missing(Thing::Role))
    }

    async fn create_administrator(
        &self,
        realm_id: &str,
        realm: &RealmBody,
        name: &str,
        secret: &Secret<String>,
    ) -> Result<(), Error> {
        let admin = self.admin_role(realm_id).await?;
        let (secret, ambient) = (secret.clone(), self.ambient.clone());
        let hashed = self
            .hashing
            .run(move || password::hash(&secret, &ambient))
            .await?;
        let rep = json!({
            "enabled": true, "emailVerified": false, "requiredActions": [],
            "attributes": {"is_temporary_admin": ["true"]},
            "createdTimestamp": self.ambient.now().millis(),
        });
        let user = UserBody {
            id: self.ambient.uuid(),
            realm: realm_id.to_owned(),
            username: name.to_lowercase(),
            rep: rep.as_object().cloned().unwrap_or_default(),
            roles: vec![admin.id, realm.default_role.clone()],
            client: None,
            password: hashed,
            password_card: PasswordCard {
                id: self.ambient.uuid(),
                created_ms: self.ambient.now().millis(),
                label: None,
            },
            ..UserBody::default()
        };
        match self
            .write(realm_id, vec![Write::Insert(user.object())])
            .await
        {
            Ok(()) | Err(o28m_store::Error::Duplicate { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Keys of a new realm, made on blocking threads.
    pub(crate) async fn new_keys(&self, realm: &RealmBody) -> Result<Vec<KeyBody>, Error> {
        let algorithm = realm
            .rep
            .text("defaultSignatureAlgorithm")
            .unwrap_or("RS256");
        let make = |part: Part| {
            let (id, name, ambient) = (realm.id.clone(), realm.name.clone(), self.ambient.clone());
            let algorithm = algorithm.to_owned();
            self.signing
                .run(move || keys::of_new_realm(part, &id, &name, &algorithm, &ambient))
        };
        let parts = tokio::try_join!(
            make(Part::Signing),
            make(Part::Encryption),
            make(Part::Rest)
        )?;
        let mut keys = parts.0?;
        keys.extend(parts.1?);
        keys.extend(parts.2?);
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_field_of_the_representation() {
        let defaults = realm_defaults();
        assert_eq!(defaults.int("accessTokenLifespan"), 300);
        let fields = crate::representation::REALM
            .check(&Value::Object(defaults.clone()))
            .unwrap();
        assert_eq!(fields, defaults);
    }
}
