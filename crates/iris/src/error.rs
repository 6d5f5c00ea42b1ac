//! Why operations fail, named by what a caller can do about it.

use crate::dpop::ProofProblem;
use crate::policy::PasswordProblem;
use crate::schema::Problem;
use crate::{cpu, keys};

/// An administrative operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed; see [`Error::is_unavailable`].
    #[error("store failed")]
    Store(#[from] o28m_store::Error),
    /// A stored object cannot be read back.
    #[error("stored {kind} cannot be read")]
    Stored {
        /// Its kind.
        kind: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Stored key material is unusable.
    #[error("stored key is unusable")]
    Key(#[from] o28m_jose::KeyError),
    /// A key could not be made.
    #[error("key could not be made")]
    NewKey(#[from] keys::Error),
    /// Too much is waiting for a processor; try again.
    #[error("overloaded")]
    Busy(#[from] cpu::Busy),
    /// The body is not the representation asked for.
    #[error("invalid representation")]
    Representation(#[from] Problem),
    /// What the path names does not exist.
    #[error("{0:?} does not exist")]
    Missing(Thing),
    /// The name is taken.
    #[error("{thing:?} {name:?} exists already")]
    Exists {
        /// What exists.
        thing: Thing,
        /// Its name.
        name: String,
        /// The clash came from a rename.
        renaming: bool,
    },
    /// The scope is assigned already.
    #[error("client scope is assigned already")]
    Assigned,
    /// A value is not acceptable.
    #[error("invalid value: {0:?}")]
    Invalid(Invalid),
    /// The caller may do this, but not with these roles.
    #[error("caller may not give these roles")]
    Forbidden,
}

/// Things the Admin REST API names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the things' names")]
pub enum Thing {
    Realm,
    Client,
    ClientScope,
    /// A client scope to assign.
    AssignableScope,
    Mapper,
    MapperType,
    Role,
    RoleById,
    User,
    /// The user with this e-mail address.
    Email,
    RotatedSecret,
    Key,
    Group,
    /// A group given by its path.
    GroupPath,
    /// A group in another one.
    ChildGroup,
    Session,
    Credential,
    Consent,
    Flow,
    IdentityProvider,
    /// Something in a partial import.
    Imported,
}

/// Values that are not acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// A realm needs a name.
    RealmNameEmpty,
    /// The realm name has characters that cannot be in a path.
    RealmName(String),
    /// The master realm cannot be renamed.
    MasterRename,
    /// The master realm cannot be deleted.
    MasterDelete,
    /// A block of a realm import that this version does not take.
    ImportBlock(&'static str),
    /// A required field is missing or empty.
    Required(&'static str),
    /// A text is longer than the limit.
    TooLong(&'static str),
    /// A URL or a signature algorithm of a client is unacceptable.
    ClientValue {
        /// The field.
        field: &'static str,
        /// The value.
        value: String,
    },
    /// Built-in clients cannot be deleted.
    BuiltInClient,
    /// Built-in clients and administration roles cannot be renamed or replaced: rights hang on their
    /// names.
    BuiltInName(String),
    /// The client has no service account.
    ServiceAccountOff(String),
    /// Client scope without a known protocol.
    ScopeProtocol,
    /// Client scope name with forbidden characters.
    ScopeName(String),
    /// The last client scope cannot be deleted.
    LastScope,
    /// A user needs a name.
    UsernameMissing,
    /// A password reset without a password.
    PasswordMissing,
    /// The password is too long to be hashed.
    PasswordTooLong,
    /// The password does not fit the realm's policy.
    Password(PasswordProblem),
    /// A password in the body of a user does not fit the realm's policy.
    PolicyNotMet,
    /// The realm's password policy cannot be used, with the text to show.
    PasswordPolicy(String),
    /// An imported password hash is of an unknown algorithm or asks for too much work.
    PasswordHash,
    /// A block of an import names something that does not exist, or has an unusable value.
    Import {
        /// The block.
        block: &'static str,
        /// What is wrong.
        text: String,
    },
    /// A group cannot be in itself.
    GroupCircle,
    /// `ifResourceExists` is none of `FAIL`, `SKIP` and `OVERWRITE`.
    ImportPolicy,
    /// Global profiles or policies were changed.
    GlobalsChanged,
    /// A policy or profile is unacceptable, with the text to show.
    Policy(String),
    /// A component of a type, provider or configuration that this version does not have.
    Component(&'static str),
    /// The default role of a realm cannot be deleted.
    DefaultRole(String),
}

impl Error {
    /// The database cannot be reached: the same call may work later.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Store(o28m_store::Error::Unavailable(_)))
    }
}

/// A token request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The identity provider itself failed.
    #[error("token request failed")]
    Failed(#[from] Error),
    /// No, an unknown or a disabled client, or one that authenticates otherwise.
    #[error("client is unknown or disabled")]
    ClientUnknown,
    /// The secret is missing, wrong or expired.
    #[error("client secret is missing, wrong or expired")]
    ClientSecret,
    /// Bearer-only clients get no tokens.
    #[error("client is bearer-only")]
    BearerOnly,
    /// Public clients have no service account.
    #[error("public client has no service account")]
    PublicServiceAccount,
    /// The client's service account is off.
    #[error("client has no service account")]
    ServiceAccountOff,
    /// The service account's user was deleted.
    #[error("service account user is missing")]
    ServiceUserMissing,
    /// The service account's user is disabled.
    #[error("user {0:?} is disabled")]
    ServiceUserDisabled(String),
    /// A scope the client does not have.
    #[error("scope was refused")]
    Scope(String),
    /// The client may not use the password grant.
    #[error("client may not use the password grant")]
    DirectAccessOff,
    /// The client requires consent, which the password grant cannot ask for.
    #[error("client requires consent")]
    ConsentRequired,
    /// The person took back the consent the client requires.
    #[error("client has no consent any more")]
    ConsentGone,
    /// The proof of possession is missing or proves nothing, with the text to show.
    #[error("proof of possession was refused: {0}")]
    Proof(ProofProblem),
    /// No user name was sent.
    #[error("user name is missing")]
    UsernameMissing,
    /// The user or the password is wrong.
    #[error("user name or password is wrong")]
    UserCredentials,
    /// The user is disabled.
    #[error("user is disabled")]
    UserDisabled,
    /// A required action is pending.
    #[error("user has a required action pending")]
    RequiredAction,
    /// No refresh token was sent.
    #[error("refresh token is missing")]
    RefreshMissing,
    /// The refresh token cannot be used.
    #[error("refresh token was refused")]
    Refresh(RefreshProblem),
    /// A parameter is missing or has a value that is not acceptable, with the text to show.
    #[error("parameter was refused: {0}")]
    Parameter(&'static str),
    /// The client's assertion was refused, with the text to show.
    #[error("client assertion was refused: {0}")]
    ClientAssertion(AssertionProblem),
    /// The authorization code cannot be used.
    #[error("authorization code was refused")]
    Code(CodeProblem),
    /// The device code cannot be used, or not yet.
    #[error("device code was refused")]
    Device(DeviceProblem),
    /// The token cannot be exchanged.
    #[error("token exchange was refused")]
    Exchange(ExchangeProblem),
}

impl GrantError {
    /// The error code in a login event (Keycloak 26.5 `Errors`).
    #[must_use]
    pub const fn event_code(&self) -> &'static str {
        match self {
            Self::Failed(_) => "server_error",
            Self::ClientUnknown => "client_not_found",
            Self::ClientSecret => "invalid_client_credentials",
            Self::BearerOnly | Self::PublicServiceAccount | Self::ServiceAccountOff => {
                "invalid_client"
            }
            Self::ServiceUserMissing => "user_not_found",
            Self::ServiceUserDisabled(_) | Self::UserDisabled => "user_disabled",
            Self::Parameter(_) | Self::Scope(_) | Self::UsernameMissing | Self::RefreshMissing => {
                "invalid_request"
            }
            Self::DirectAccessOff => "not_allowed",
            Self::ConsentRequired | Self::ConsentGone => "consent_denied",
            Self::Proof(_) => "invalid_dpop_proof",
            Self::UserCredentials => "invalid_user_credentials",
            Self::RequiredAction => "resolve_required_actions",
            Self::Refresh(_) | Self::Exchange(_) => "invalid_token",
            Self::ClientAssertion(_) => "invalid_client_credentials",
            Self::Code(_) | Self::Device(_) => "invalid_code",
        }
    }
}

/// Why a refresh token cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshProblem {
    /// Garbage, a bad signature, or another kind of token.
    Invalid,
    /// Its time is over.
    Expired,
    /// Another issuer's, with the issuer expected.
    Issuer(String),
    /// Another client's.
    OtherClient,
    /// The session ended.
    SessionNotActive,
    /// The session has no part of this client.
    SessionWithoutClient,
    /// Issued before this client's part of the session began.
    BeforeSession,
    /// The user is disabled or gone.
    UserDisabled,
    /// Issued before the not-before time.
    Stale,
    /// Used more often than allowed.
    Reused,
    /// The offline session ended.
    OfflineSession,
    /// Not with the key it is bound to (RFC 9449 section 5).
    OtherKey,
}

/// Why a client's assertion (RFC 7523) is refused; the texts are Keycloak's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each variant means")]
pub enum AssertionProblem {
    #[error("Parameter client_assertion_type is missing")]
    TypeMissing,
    #[error(
        "Parameter client_assertion_type has value '{0}' but expected is \
         'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'"
    )]
    Type(String),
    #[error("client_assertion parameter missing")]
    Missing,
    #[error("Client assertion is not a signed token")]
    Malformed,
    #[error("Token sub claim is required")]
    Subject,
    #[error("Token issuer and subject must be the client")]
    Issuer,
    #[error("Invalid signature algorithm")]
    Algorithm,
    #[error("Unable to load public key")]
    Key,
    #[error("Signature on JWT token failed validation")]
    Signature,
    #[error("Invalid token audience")]
    Audience,
    #[error("Multiple audiences not allowed")]
    Audiences,
    #[error("Token exp claim is required")]
    Expiry,
    #[error("Token is not active")]
    NotActive,
    #[error("Token expiration is too far in the future and iat claim not present in token")]
    TooLong,
    #[error("Token was issued in the future")]
    Future,
    #[error("Token was issued too far in the past to be used now")]
    TooOld,
    #[error("Token jti claim is required")]
    IdMissing,
    #[error("Token reuse detected")]
    Reused,
}

/// Why an authorization code cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeProblem {
    /// No code was sent.
    Missing,
    /// Unknown, or used before.
    Invalid,
    /// Its time is over.
    Expired,
    /// Another redirect URI than in the authorization request.
    RedirectUri,
    /// Another client's.
    OtherClient,
    /// The client may not use the code flow any more.
    FlowOff,
    /// The login ended.
    SessionNotActive,
    /// The user is gone.
    UserMissing,
    /// The user is disabled.
    UserDisabled,
    /// The proof key is missing.
    VerifierMissing,
    /// A proof key without a challenge in the authorization request.
    VerifierUnexpected,
    /// The proof key has a form that none has.
    VerifierMalformed,
    /// The proof key does not fit the challenge.
    VerifierMismatch,
    /// Not with the key that the authorization request announced (RFC 9449 section 10).
    OtherKey,
}

/// Why a device code cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceProblem {
    /// The client may not use the grant.
    Off,
    /// No code was sent.
    Missing,
    /// Unknown, used before or another client's.
    Invalid,
    /// Its time is over.
    Expired,
    /// Asked again too soon.
    SlowDown,
    /// The person has not decided yet.
    Pending,
    /// The person refused.
    Denied,
}

/// Why a token cannot be exchanged; the texts are Keycloak's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each variant means")]
pub enum ExchangeProblem {
    #[error("Parameter '{0}' is not supported for standard token exchange")]
    Unsupported(&'static str),
    #[error("Standard token exchange is not enabled for the requested client")]
    Off,
    #[error("Parameter '{0}' required for standard token exchange")]
    Required(&'static str),
    #[error("Parameter 'subject_token' supports access tokens only")]
    SubjectType,
    #[error("requested_token_type unsupported")]
    RequestedType,
    #[error("Invalid token")]
    Subject,
    #[error("Public client is not allowed to exchange token")]
    PublicClient,
    #[error("Client is not within the token audience")]
    NotInAudience,
    #[error("Audience not found")]
    AudienceUnknown,
    #[error("Client disabled")]
    AudienceDisabled,
    #[error("Requested audience not available: {0}")]
    AudienceUnavailable(String),
    #[error("Scope offline_access not allowed for token exchange")]
    Offline,
}

impl From<o28m_store::Error> for GrantError {
    fn from(error: o28m_store::Error) -> Self {
        Self::Failed(error.into())
    }
}
