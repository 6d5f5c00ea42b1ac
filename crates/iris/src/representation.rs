//! The representations of the Admin REST API (Keycloak 26.5.7): every field, with its type.

use crate::schema::Schema;
use crate::schema::Type::{
    Any, Bool, Int, List, Long, Nested, Object, One, Text, TextMap, Texts, TextsMap,
};

/// A realm.
pub static REALM: Schema = Schema {
    name: "RealmRepresentation",
    fields: &[
        ("id", Text),
        ("realm", Text),
        ("displayName", Text),
        ("displayNameHtml", Text),
        ("notBefore", Int),
        ("defaultSignatureAlgorithm", Text),
        ("revokeRefreshToken", Bool),
        ("refreshTokenMaxReuse", Int),
        ("accessTokenLifespan", Int),
        ("accessTokenLifespanForImplicitFlow", Int),
        ("ssoSessionIdleTimeout", Int),
        ("ssoSessionMaxLifespan", Int),
        ("ssoSessionIdleTimeoutRememberMe", Int),
        ("ssoSessionMaxLifespanRememberMe", Int),
        ("offlineSessionIdleTimeout", Int),
        ("offlineSessionMaxLifespanEnabled", Bool),
        ("offlineSessionMaxLifespan", Int),
        ("clientSessionIdleTimeout", Int),
        ("clientSessionMaxLifespan", Int),
        ("clientOfflineSessionIdleTimeout", Int),
        ("clientOfflineSessionMaxLifespan", Int),
        ("accessCodeLifespan", Int),
        ("accessCodeLifespanUserAction", Int),
        ("accessCodeLifespanLogin", Int),
        ("actionTokenGeneratedByAdminLifespan", Int),
        ("actionTokenGeneratedByUserLifespan", Int),
        ("oauth2DeviceCodeLifespan", Int),
        ("oauth2DevicePollingInterval", Int),
        ("enabled", Bool),
        ("sslRequired", Text),
        ("passwordCredentialGrantAllowed", Bool),
        ("registrationAllowed", Bool),
        ("registrationEmailAsUsername", Bool),
        ("rememberMe", Bool),
        ("verifyEmail", Bool),
        ("loginWithEmailAllowed", Bool),
        ("duplicateEmailsAllowed", Bool),
        ("resetPasswordAllowed", Bool),
        ("editUsernameAllowed", Bool),
        ("userCacheEnabled", Bool),
        ("realmCacheEnabled", Bool),
        ("bruteForceProtected", Bool),
        ("permanentLockout", Bool),
        ("maxTemporaryLockouts", Int),
        ("bruteForceStrategy", Text),
        ("maxFailureWaitSeconds", Int),
        ("minimumQuickLoginWaitSeconds", Int),
        ("waitIncrementSeconds", Int),
        ("quickLoginCheckMilliSeconds", Long),
        ("maxDeltaTimeSeconds", Int),
        ("failureFactor", Int),
        ("privateKey", Text),
        ("publicKey", Text),
        ("certificate", Text),
        ("codeSecret", Text),
        ("roles", One(&ROLES)),
        ("groups", Nested(&GROUP)),
        ("defaultRoles", Texts),
        ("defaultRole", One(&ROLE)),
        ("defaultGroups", Texts),
        ("requiredCredentials", Texts),
        ("passwordPolicy", Text),
        ("otpPolicyType", Text),
        ("otpPolicyAlgorithm", Text),
        ("otpPolicyInitialCounter", Int),
        ("otpPolicyDigits", Int),
        ("otpPolicyLookAheadWindow", Int),
        ("otpPolicyPeriod", Int),
        ("otpPolicyCodeReusable", Bool),
        ("otpSupportedApplications", Texts),
        ("localizationTexts", Object),
        ("webAuthnPolicyRpEntityName", Text),
        ("webAuthnPolicySignatureAlgorithms", Texts),
        ("webAuthnPolicyRpId", Text),
        ("webAuthnPolicyAttestationConveyancePreference", Text),
        ("webAuthnPolicyAuthenticatorAttachment", Text),
        ("webAuthnPolicyRequireResidentKey", Text),
        ("webAuthnPolicyUserVerificationRequirement", Text),
        ("webAuthnPolicyCreateTimeout", Int),
        ("webAuthnPolicyAvoidSameAuthenticatorRegister", Bool),
        ("webAuthnPolicyAcceptableAaguids", Texts),
        ("webAuthnPolicyExtraOrigins", Texts),
        ("webAuthnPolicyPasswordlessRpEntityName", Text),
        ("webAuthnPolicyPasswordlessSignatureAlgorithms", Texts),
        ("webAuthnPolicyPasswordlessRpId", Text),
        (
            "webAuthnPolicyPasswordlessAttestationConveyancePreference",
            Text,
        ),
        ("webAuthnPolicyPasswordlessAuthenticatorAttachment", Text),
        ("webAuthnPolicyPasswordlessRequireResidentKey", Text),
        (
            "webAuthnPolicyPasswordlessUserVerificationRequirement",
            Text,
        ),
        ("webAuthnPolicyPasswordlessCreateTimeout", Int),
        (
            "webAuthnPolicyPasswordlessAvoidSameAuthenticatorRegister",
            Bool,
        ),
        ("webAuthnPolicyPasswordlessAcceptableAaguids", Texts),
        ("webAuthnPolicyPasswordlessExtraOrigins", Texts),
        ("webAuthnPolicyPasswordlessPasskeysEnabled", Bool),
        ("clientProfiles", One(&PROFILES)),
        ("clientPolicies", One(&POLICIES)),
        ("users", Nested(&USER)),
        ("federatedUsers", Nested(&USER)),
        ("scopeMappings", List),
        ("clientScopeMappings", Object),
        ("clients", Nested(&CLIENT)),
        ("clientScopes", Nested(&CLIENT_SCOPE)),
        ("defaultDefaultClientScopes", Texts),
        ("defaultOptionalClientScopes", Texts),
        ("browserSecurityHeaders", TextMap),
        ("smtpServer", TextMap),
        ("userFederationProviders", List),
        ("userFederationMappers", List),
        ("loginTheme", Text),
        ("accountTheme", Text),
        ("adminTheme", Text),
        ("emailTheme", Text),
        ("eventsEnabled", Bool),
        ("eventsExpiration", Long),
        ("eventsListeners", Texts),
        ("enabledEventTypes", Texts),
        ("adminEventsEnabled", Bool),
        ("adminEventsDetailsEnabled", Bool),
        ("identityProviders", List),
        ("identityProviderMappers", List),
        ("protocolMappers", Nested(&MAPPER)),
        ("components", Object),
        ("internationalizationEnabled", Bool),
        ("supportedLocales", Texts),
        ("defaultLocale", Text),
        ("authenticationFlows", List),
        ("authenticatorConfig", List),
        ("requiredActions", List),
        ("browserFlow", Text),
        ("registrationFlow", Text),
        ("directGrantFlow", Text),
        ("resetCredentialsFlow", Text),
        ("clientAuthenticationFlow", Text),
        ("dockerAuthenticationFlow", Text),
        ("firstBrokerLoginFlow", Text),
        ("attributes", TextMap),
        ("keycloakVersion", Text),
        ("userManagedAccessAllowed", Bool),
        ("organizationsEnabled", Bool),
        ("organizations", List),
        ("verifiableCredentialsEnabled", Bool),
        ("adminPermissionsEnabled", Bool),
        ("social", Bool),
        ("updateProfileOnInitialSocialLogin", Bool),
        ("socialProviders", Object),
        ("applicationScopeMappings", Object),
        ("applications", List),
        ("oauthClients", List),
        ("clientTemplates", List),
    ],
};

/// A client.
pub static CLIENT: Schema = Schema {
    name: "ClientRepresentation",
    fields: &[
        ("id", Text),
        ("clientId", Text),
        ("name", Text),
        ("description", Text),
        ("type", Text),
        ("rootUrl", Text),
        ("adminUrl", Text),
        ("baseUrl", Text),
        ("surrogateAuthRequired", Bool),
        ("enabled", Bool),
        ("alwaysDisplayInConsole", Bool),
        ("clientAuthenticatorType", Text),
        ("secret", Text),
        ("registrationAccessToken", Text),
        ("defaultRoles", Texts),
        ("redirectUris", Texts),
        ("webOrigins", Texts),
        ("notBefore", Int),
        ("bearerOnly", Bool),
        ("consentRequired", Bool),
        ("standardFlowEnabled", Bool),
        ("implicitFlowEnabled", Bool),
        ("directAccessGrantsEnabled", Bool),
        ("serviceAccountsEnabled", Bool),
        ("authorizationServicesEnabled", Bool),
        ("directGrantsOnly", Bool),
        ("publicClient", Bool),
        ("frontchannelLogout", Bool),
        ("protocol", Text),
        ("attributes", TextMap),
        ("authenticationFlowBindingOverrides", TextMap),
        ("fullScopeAllowed", Bool),
        ("nodeReRegistrationTimeout", Int),
        ("registeredNodes", Object),
        ("protocolMappers", Nested(&MAPPER)),
        ("clientTemplate", Text),
        ("useTemplateConfig", Bool),
        ("useTemplateScope", Bool),
        ("useTemplateMappers", Bool),
        ("defaultClientScopes", Texts),
        ("optionalClientScopes", Texts),
        ("authorizationSettings", Object),
        ("access", Object),
        ("origin", Text),
    ],
};

/// A client scope.
pub static CLIENT_SCOPE: Schema = Schema {
    name: "ClientScopeRepresentation",
    fields: &[
        ("id", Text),
        ("name", Text),
        ("description", Text),
        ("protocol", Text),
        ("attributes", TextMap),
        ("protocolMappers", Nested(&MAPPER)),
    ],
};

/// A protocol mapper.
pub static MAPPER: Schema = Schema {
    name: "ProtocolMapperRepresentation",
    fields: &[
        ("id", Text),
        ("name", Text),
        ("protocol", Text),
        ("protocolMapper", Text),
        ("consentRequired", Bool),
        ("consentText", Text),
        ("config", TextMap),
    ],
};

/// A realm or client role.
pub static ROLE: Schema = Schema {
    name: "RoleRepresentation",
    fields: &[
        ("id", Text),
        ("name", Text),
        ("description", Text),
        ("scopeParamRequired", Bool),
        ("composite", Bool),
        ("composites", Object),
        ("clientRole", Bool),
        ("containerId", Text),
        ("attributes", TextsMap),
    ],
};

/// A user.
pub static USER: Schema = Schema {
    name: "UserRepresentation",
    fields: &[
        ("id", Text),
        ("username", Text),
        ("firstName", Text),
        ("lastName", Text),
        ("email", Text),
        ("emailVerified", Bool),
        ("attributes", TextsMap),
        ("userProfileMetadata", Object),
        ("enabled", Bool),
        ("self", Text),
        ("origin", Text),
        ("createdTimestamp", Long),
        ("totp", Bool),
        ("federationLink", Text),
        ("serviceAccountClientId", Text),
        ("credentials", Nested(&CREDENTIAL)),
        ("disableableCredentialTypes", Texts),
        ("requiredActions", Texts),
        ("federatedIdentities", List),
        ("realmRoles", Texts),
        ("clientRoles", TextsMap),
        ("clientConsents", List),
        ("notBefore", Int),
        ("applicationRoles", TextsMap),
        ("socialLinks", List),
        ("groups", Texts),
        ("access", Object),
    ],
};

/// A credential of a user.
pub static CREDENTIAL: Schema = Schema {
    name: "CredentialRepresentation",
    fields: &[
        ("id", Text),
        ("type", Text),
        ("userLabel", Text),
        ("createdDate", Long),
        ("secretData", Text),
        ("credentialData", Text),
        ("priority", Int),
        ("value", Text),
        ("temporary", Bool),
        ("device", Text),
        ("hashedSaltedValue", Text),
        ("hashIterations", Int),
        ("counter", Int),
        ("algorithm", Text),
        ("digits", Int),
        ("period", Int),
        ("config", Object),
        ("federationLink", Text),
    ],
};

/// The client profiles of a realm.
pub static PROFILES: Schema = Schema {
    name: "ClientProfilesRepresentation",
    fields: &[
        ("profiles", Nested(&PROFILE)),
        ("globalProfiles", Nested(&PROFILE)),
    ],
};

/// A client profile.
pub static PROFILE: Schema = Schema {
    name: "ClientProfileRepresentation",
    fields: &[
        ("name", Text),
        ("description", Text),
        ("executors", Nested(&EXECUTOR)),
    ],
};

/// An executor of a client profile.
pub static EXECUTOR: Schema = Schema {
    name: "ClientPolicyExecutorRepresentation",
    fields: &[("executor", Text), ("configuration", Any)],
};

/// The client policies of a realm.
pub static POLICIES: Schema = Schema {
    name: "ClientPoliciesRepresentation",
    fields: &[
        ("policies", Nested(&POLICY)),
        ("globalPolicies", Nested(&POLICY)),
    ],
};

/// A client policy.
pub static POLICY: Schema = Schema {
    name: "ClientPolicyRepresentation",
    fields: &[
        ("name", Text),
        ("description", Text),
        ("enabled", Bool),
        ("conditions", Nested(&CONDITION)),
        ("profiles", Texts),
    ],
};

/// A condition of a client policy.
pub static CONDITION: Schema = Schema {
    name: "ClientPolicyConditionRepresentation",
    fields: &[("condition", Text), ("configuration", Any)],
};

/// A component, such as a key provider.
pub static COMPONENT: Schema = Schema {
    name: "ComponentRepresentation",
    fields: &[
        ("id", Text),
        ("name", Text),
        ("providerId", Text),
        ("providerType", Text),
        ("parentId", Text),
        ("subType", Text),
        ("config", TextsMap),
    ],
};

/// The event settings of a realm.
pub static EVENTS_CONFIG: Schema = Schema {
    name: "RealmEventsConfigRepresentation",
    fields: &[
        ("eventsEnabled", Bool),
        ("eventsExpiration", Long),
        ("eventsListeners", Texts),
        ("enabledEventTypes", Texts),
        ("adminEventsEnabled", Bool),
        ("adminEventsDetailsEnabled", Bool),
    ],
};

/// A group.
pub static GROUP: Schema = Schema {
    name: "GroupRepresentation",
    fields: &[
        ("id", Text),
        ("name", Text),
        ("description", Text),
        ("path", Text),
        ("parentId", Text),
        ("subGroupCount", Long),
        ("subGroups", Nested(&GROUP)),
        ("attributes", TextsMap),
        ("realmRoles", Texts),
        ("clientRoles", TextsMap),
        ("access", Object),
    ],
};

/// What goes into an existing realm.
pub static PARTIAL_IMPORT: Schema = Schema {
    name: "PartialImportRepresentation",
    fields: &[
        ("ifResourceExists", Text),
        ("policy", Text),
        ("users", Nested(&USER)),
        ("clients", Nested(&CLIENT)),
        ("groups", Nested(&GROUP)),
        ("identityProviders", List),
        ("identityProviderMappers", List),
        ("roles", One(&ROLES)),
        // The whole export of a realm is accepted: everything else of it is ignored.
        ("id", Text),
        ("realm", Text),
    ],
};

/// The roles of a realm and its clients.
pub static ROLES: Schema = Schema {
    name: "RolesRepresentation",
    fields: &[
        ("realm", Nested(&ROLE)),
        ("client", Object),
        ("application", Object),
    ],
};
