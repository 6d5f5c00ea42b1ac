//! What a new realm contains (Keycloak 26.5.7), and the master realm.

use o28m_core::{Ambient, Secret};
use o28m_store::{Query, Write};
use serde_json::{Map, Value, json};

use crate::keys::KeyBody;
use crate::model::{
    ClientBody, Fields as _, RealmBody, Rep, RoleBody, ScopeBody, Stored as _, UserBody, kind,
};
use crate::{Error, Iris, MASTER, Settings, Thing, keys, password};

/// Clients every realm is made with, which cannot be deleted.
pub(crate) const BUILT_IN_CLIENTS: &[&str] = &[
    "account",
    "account-console",
    "admin-cli",
    "broker",
    "realm-management",
    "master-realm",
    "security-admin-console",
];

const ACCOUNT_ROLES: &[&str] = &[
    "delete-account",
    "manage-account",
    "manage-account-links",
    "manage-consent",
    "view-applications",
    "view-consent",
    "view-groups",
    "view-profile",
];

const ADMIN_ROLES: &[&str] = &[
    "create-client",
    "impersonation",
    "manage-authorization",
    "manage-clients",
    "manage-events",
    "manage-identity-providers",
    "manage-organizations",
    "manage-realm",
    "manage-users",
    "query-clients",
    "query-groups",
    "query-organizations",
    "query-realms",
    "query-users",
    "view-authorization",
    "view-clients",
    "view-events",
    "view-identity-providers",
    "view-organizations",
    "view-realm",
    "view-users",
];

/// Roles that contain others of the same client.
const COMPOSITES: &[(&str, &[&str])] = &[
    ("manage-account", &["manage-account-links"]),
    ("manage-consent", &["view-consent"]),
    ("view-clients", &["query-clients"]),
    ("view-users", &["query-users", "query-groups"]),
    ("view-organizations", &["query-organizations"]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Assigned {
    Default,
    Optional,
    Not,
}

struct ScopePlan {
    name: &'static str,
    assigned: Assigned,
    in_token: Option<bool>,
    consent: Option<&'static str>,
    mappers: &'static [MapperPlan],
}

/// Where a built-in mapper's tokens are configured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Into {
    /// Access, ID, userinfo, introspection.
    All,
    /// Access and introspection.
    Access,
}

struct MapperPlan(
    &'static str,
    &'static str,
    Into,
    &'static [(&'static str, &'static str)],
);

const fn claim(
    name: &'static str,
    of: &'static str,
    config: &'static [(&'static str, &'static str)],
) -> MapperPlan {
    MapperPlan(name, of, Into::All, config)
}

const ATTRIBUTE: &str = "oidc-usermodel-attribute-mapper";
const NOTE: &str = "oidc-usersessionmodel-note-mapper";

macro_rules! from {
    ($source:literal: $name:literal => $claim:literal as $type:literal) => {
        &[
            ($source, $name),
            ("claim.name", $claim),
            ("jsonType.label", $type),
        ]
    };
}

const SCOPES: &[ScopePlan] = &[
    ScopePlan {
        name: "profile",
        assigned: Assigned::Default,
        in_token: Some(true),
        consent: Some("${profileScopeConsentText}"),
        mappers: &[
            claim("full name", "oidc-full-name-mapper", &[]),
            claim(
                "username",
                ATTRIBUTE,
                from!("user.attribute": "username" => "preferred_username" as "String"),
            ),
            claim(
                "given name",
                ATTRIBUTE,
                from!("user.attribute": "firstName" => "given_name" as "String"),
            ),
            claim(
                "family name",
                ATTRIBUTE,
                from!("user.attribute": "lastName" => "family_name" as "String"),
            ),
            claim(
                "middle name",
                ATTRIBUTE,
                from!("user.attribute": "middleName" => "middle_name" as "String"),
            ),
            claim(
                "nickname",
                ATTRIBUTE,
                from!("user.attribute": "nickname" => "nickname" as "String"),
            ),
            claim(
                "profile",
                ATTRIBUTE,
                from!("user.attribute": "profile" => "profile" as "String"),
            ),
            claim(
                "picture",
                ATTRIBUTE,
                from!("user.attribute": "picture" => "picture" as "String"),
            ),
            claim(
                "website",
                ATTRIBUTE,
                from!("user.attribute": "website" => "website" as "String"),
            ),
            claim(
                "gender",
                ATTRIBUTE,
                from!("user.attribute": "gender" => "gender" as "String"),
            ),
            claim(
                "birthdate",
                ATTRIBUTE,
                from!("user.attribute": "birthdate" => "birthdate" as "String"),
            ),
            claim(
                "zoneinfo",
                ATTRIBUTE,
                from!("user.attribute": "zoneinfo" => "zoneinfo" as "String"),
            ),
            claim(
                "locale",
                ATTRIBUTE,
                from!("user.attribute": "locale" => "locale" as "String"),
            ),
            claim(
                "updated at",
                ATTRIBUTE,
                from!("user.attribute": "updatedAt" => "updated_at" as "long"),
            ),
        ],
    },
    ScopePlan {
        name: "email",
        assigned: Assigned::Default,
        in_token: Some(true),
        consent: Some("${emailScopeConsentText}"),
        mappers: &[
            claim(
                "email",
                ATTRIBUTE,
                from!("user.attribute": "email" => "email" as "String"),
            ),
            claim(
                "email verified",
                "oidc-usermodel-property-mapper",
                from!("user.attribute": "emailVerified" => "email_verified" as "boolean"),
            ),
        ],
    },
    ScopePlan {
        name: "address",
        assigned: Assigned::Optional,
        in_token: Some(true),
        consent: Some("${addressScopeConsentText}"),
        mappers: &[claim(
            "address",
            "oidc-address-mapper",
            &[
                ("user.attribute.formatted", "formatted"),
                ("user.attribute.country", "country"),
                ("user.attribute.postal_code", "postal_code"),
                ("user.attribute.street", "street"),
                ("user.attribute.region", "region"),
                ("user.attribute.locality", "locality"),
            ],
        )],
    },
    ScopePlan {
        name: "phone",
        assigned: Assigned::Optional,
        in_token: Some(true),
        consent: Some("${phoneScopeConsentText}"),
        mappers: &[
            claim(
                "phone number",
                ATTRIBUTE,
                from!("user.attribute": "phoneNumber" => "phone_number" as "String"),
            ),
            claim(
                "phone number verified",
                ATTRIBUTE,
                from!("user.attribute": "phoneNumberVerified" => "phone_number_verified" as "boolean"),
            ),
        ],
    },
    ScopePlan {
        name: "offline_access",
        assigned: Assigned::Optional,
        in_token: None,
        consent: Some("${offlineAccessScopeConsentText}"),
        mappers: &[],
    },
    ScopePlan {
        name: "roles",
        assigned: Assigned::Default,
        in_token: Some(false),
        consent: Some("${rolesScopeConsentText}"),
        mappers: &[
            MapperPlan(
                "realm roles",
                "oidc-usermodel-realm-role-mapper",
                Into::Access,
                &[
                    ("user.attribute", "foo"),
                    ("claim.name", "realm_access.roles"),
                    ("jsonType.label", "String"),
                    ("multivalued", "true"),
                ],
            ),
            MapperPlan(
                "client roles",
                "oidc-usermodel-client-role-mapper",
                Into::Access,
                &[
                    ("user.attribute", "foo"),
                    ("claim.name", "resource_access.${client_id}.roles"),
                    ("jsonType.label", "String"),
                    ("multivalued", "true"),
                ],
            ),
            MapperPlan(
                "audience resolve",
                "oidc-audience-resolve-mapper",
                Into::Access,
                &[],
            ),
        ],
    },
    ScopePlan {
        name: "web-origins",
        assigned: Assigned::Default,
        in_token: Some(false),
        consent: None,
        mappers: &[MapperPlan(
            "allowed web origins",
            "oidc-allowed-origins-mapper",
            Into::Access,
            &[],
        )],
    },
    ScopePlan {
        name: "microprofile-jwt",
        assigned: Assigned::Optional,
        in_token: Some(true),
        consent: None,
        mappers: &[
            claim(
                "upn",
                ATTRIBUTE,
                from!("user.attribute": "username" => "upn" as "String"),
            ),
            claim(
                "groups",
                "oidc-usermodel-realm-role-mapper",
                &[
                    ("user.attribute", "foo"),
                    ("claim.name", "groups"),
                    ("jsonType.label", "String"),
                    ("multivalued", "true"),
                ],
            ),
        ],
    },
    ScopePlan {
        name: "basic",
        assigned: Assigned::Default,
        in_token: Some(false),
        consent: None,
        mappers: &[
            claim(
                "auth_time",
                NOTE,
                from!("user.session.note": "AUTH_TIME" => "auth_time" as "long"),
            ),
            MapperPlan("sub", "oidc-sub-mapper", Into::Access, &[]),
        ],
    },
    ScopePlan {
        name: SERVICE_ACCOUNT,
        assigned: Assigned::Not,
        in_token: Some(false),
        consent: None,
        mappers: &[
            claim(
                "Client ID",
                NOTE,
                from!("user.session.note": "client_id" => "client_id" as "String"),
            ),
            claim(
                "Client Host",
                NOTE,
                from!("user.session.note": "clientHost" => "clientHost" as "String"),
            ),
            claim(
                "Client IP Address",
                NOTE,
                from!("user.session.note": "clientAddress" => "clientAddress" as "String"),
            ),
        ],
    },
];

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
    let parsed = serde_json::from_str::<Rep>(include_str!("realm_defaults.json"));
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
    clients: Vec<ClientBody>,
    roles: Vec<RoleBody>,
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

fn scope_rep(plan: &ScopePlan) -> Rep {
    let mut attributes = Map::new();
    if let Some(shown) = plan.in_token {
        attributes.insert(
            "include.in.token.scope".to_owned(),
            json!(shown.to_string()),
        );
    }
    if let Some(text) = plan.consent {
        attributes.insert("consent.screen.text".to_owned(), json!(text));
    }
    attributes.insert(
        "display.on.consent.screen".to_owned(),
        json!(plan.consent.is_some().to_string()),
    );
    let mut rep = description(&format!("OpenID Connect built-in scope: {}", plan.name));
    rep.insert("protocol".to_owned(), json!("openid-connect"));
    rep.insert("attributes".to_owned(), Value::Object(attributes));
    rep
}

fn mapper_rep(plan: &MapperPlan, ambient: &Ambient) -> Rep {
    let MapperPlan(name, of, into, pairs) = plan;
    let everywhere: &[&str] = match into {
        Into::All => &["userinfo.token.claim", "id.token.claim"],
        Into::Access => &[],
    };
    let mut config = Map::new();
    config.insert("introspection.token.claim".to_owned(), json!("true"));
    for key in everywhere.iter().chain(&["access.token.claim"]) {
        config.insert((*key).to_owned(), json!("true"));
    }
    config.extend(
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value))),
    );
    let rep = json!({
        "id": ambient.uuid(), "name": name, "protocol": "openid-connect", "protocolMapper": of,
        "consentRequired": false, "config": config,
    });
    rep.as_object().cloned().unwrap_or_default()
}

/// Mappers that built-in clients have of their own.
fn built_in_mappers(client_id: &str, ambient: &Ambient) -> Vec<Rep> {
    const RESOLVE: MapperPlan = MapperPlan(
        "audience resolve",
        "oidc-audience-resolve-mapper",
        Into::Access,
        &[],
    );
    const LOCALE: MapperPlan = claim(
        "locale",
        ATTRIBUTE,
        from!("user.attribute": "locale" => "locale" as "String"),
    );
    match client_id {
        "account-console" => vec![mapper_rep(&RESOLVE, ambient)],
        "security-admin-console" => vec![mapper_rep(&LOCALE, ambient)],
        _ => Vec::new(),
    }
}

/// The settings and roles of a built-in client.
fn built_in_client(client_id: &str, realm: &str) -> (Rep, &'static [&'static str]) {
    let bearer = matches!(client_id, "broker" | "realm-management" | "master-realm");
    let cli = client_id == "admin-cli";
    let mut rep = json!({
        "name": format!("${{client_{client_id}}}"),
        "surrogateAuthRequired": false, "enabled": true, "alwaysDisplayInConsole": false,
        "clientAuthenticatorType": "client-secret", "redirectUris": [], "webOrigins": [],
        "notBefore": 0, "bearerOnly": bearer, "consentRequired": false,
        "standardFlowEnabled": !cli, "implicitFlowEnabled": false,
        "directAccessGrantsEnabled": cli, "serviceAccountsEnabled": false,
        "publicClient": !bearer, "frontchannelLogout": false, "protocol": "openid-connect",
        "attributes": {"realm_client": bearer.to_string()},
        "authenticationFlowBindingOverrides": {},
        "fullScopeAllowed": matches!(client_id, "admin-cli" | "security-admin-console"),
        "nodeReRegistrationTimeout": 0,
    });
    let lightweight = ("client.use.lightweight.access.token.enabled", "true");
    let s256 = ("pkce.code.challenge.method", "S256");
    let account = format!("/realms/{realm}/account/");
    match client_id {
        "account" | "account-console" => {
            rep["rootUrl"] = json!("${authBaseUrl}");
            rep["redirectUris"] = json!([format!("{account}*")]);
            rep["baseUrl"] = json!(account);
            rep["attributes"]["post.logout.redirect.uris"] = json!("+");
        }
        "security-admin-console" => {
            rep["rootUrl"] = json!("${authAdminUrl}");
            rep["baseUrl"] = json!(format!("/admin/{realm}/console/"));
            rep["redirectUris"] = json!([format!("/admin/{realm}/console/*")]);
            rep["webOrigins"] = json!(["+"]);
            rep["attributes"]["post.logout.redirect.uris"] = json!("+");
            rep["attributes"][lightweight.0] = json!(lightweight.1);
        }
        "admin-cli" => rep["attributes"][lightweight.0] = json!(lightweight.1),
        "master-realm" => rep["name"] = json!("master Realm"),
        _ => {}
    }
    if matches!(client_id, "account-console" | "security-admin-console") {
        rep["attributes"][s256.0] = json!(s256.1);
    }
    let roles = match client_id {
        "account" => ACCOUNT_ROLES,
        "broker" => &["read-token"],
        "realm-management" | "master-realm" => ADMIN_ROLES,
        _ => &[],
    };
    (rep.as_object().cloned().unwrap_or_default(), roles)
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
            match self
                .create_realm(rep.as_object().cloned().unwrap_or_default())
                .await
            {
                // Another replica made it at the same time.
                Ok(_)
                | Err(Error::Exists {
                    thing: Thing::Realm,
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
        }
        let (Some(name), Some(secret)) = (&settings.admin_user, &settings.admin_password) else {
            return Ok(());
        };
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
        self.create_administrator(realm.id(), &realm.body, name, secret)
            .await
    }

    async fn create_administrator(
        &self,
        realm_id: &str,
        realm: &RealmBody,
        name: &str,
        secret: &Secret<String>,
    ) -> Result<(), Error> {
        let key = crate::model::role_key(realm_id, "admin");
        let admin: Option<RoleBody> = self.read_by_key(kind::ROLE, realm_id, "name", &key).await?;
        let admin = admin.ok_or(Error::Missing(Thing::Role))?;
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
        };
        match self
            .write(realm_id, vec![Write::Insert(user.object())])
            .await
        {
            Ok(()) | Err(o28m_store::Error::Duplicate { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Keys of a new realm, made on a blocking thread.
    pub(crate) async fn new_keys(&self, realm: &RealmBody) -> Result<Vec<KeyBody>, Error> {
        let (id, name, ambient) = (realm.id.clone(), realm.name.clone(), self.ambient.clone());
        let algorithm = realm
            .rep
            .text("defaultSignatureAlgorithm")
            .unwrap_or("RS256")
            .to_owned();
        let make = move || keys::of_new_realm(&id, &name, &algorithm, &ambient);
        Ok(self.signing.run(make).await??)
    }
}
