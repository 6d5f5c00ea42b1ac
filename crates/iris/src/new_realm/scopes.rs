//! The client scopes of a new realm and the mappers of its built-in clients (Keycloak 26.5.7).

use o28m_core::Ambient;
use serde_json::{Map, Value, json};

use crate::model::Rep;
use crate::new_realm::{SERVICE_ACCOUNT, description};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Assigned {
    Default,
    Optional,
    Not,
}

pub(super) struct ScopePlan {
    pub(super) name: &'static str,
    pub(super) assigned: Assigned,
    pub(super) in_token: Option<bool>,
    pub(super) consent: Option<&'static str>,
    pub(super) mappers: &'static [MapperPlan],
}

/// Where a built-in mapper's tokens are configured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    /// Access, ID, userinfo, introspection.
    All,
    /// Access and introspection.
    Access,
}

pub(super) struct MapperPlan(
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

pub(super) const SCOPES: &[ScopePlan] = &[
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

pub(super) fn scope_rep(plan: &ScopePlan) -> Rep {
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

pub(super) fn mapper_rep(plan: &MapperPlan, ambient: &Ambient) -> Rep {
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
pub(super) fn built_in_mappers(client_id: &str, ambient: &Ambient) -> Vec<Rep> {
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
