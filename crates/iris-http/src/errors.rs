//! The one place where failures become responses.

use http::StatusCode;
use o28m_iris::schema::Problem;
use o28m_iris::{
    CodeProblem, DeviceProblem, Error, ExchangeProblem, GrantError, Invalid, RefreshProblem, Thing,
};
use o28m_oauth::Code;

use crate::reply::{self, Reply};

const BAD_REQUEST: StatusCode = StatusCode::BAD_REQUEST;
const UNAUTHORIZED: StatusCode = StatusCode::UNAUTHORIZED;
const CONFLICT: StatusCode = StatusCode::CONFLICT;
const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;

/// Logs a failure of ours with its causes; what clients do wrong is not logged here.
fn log(error: &Error) {
    let mut chain = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        chain.push_str(": ");
        chain.push_str(&cause.to_string());
        source = cause.source();
    }
    if error.is_unavailable() {
        tracing::warn!(error = chain, "request refused without the database");
    } else {
        tracing::error!(error = chain, "request failed");
    }
}

/// The response to a failed administrative operation.
pub(crate) fn admin(error: &Error) -> Reply {
    match error {
        Error::Store(o28m_store::Error::Unavailable(_)) => {
            log(error);
            reply::unavailable("The database cannot be reached, try again later")
        }
        Error::Busy(_) => reply::unavailable("Too many requests are waiting, try again later"),
        Error::Store(o28m_store::Error::Conflict { .. } | o28m_store::Error::Duplicate { .. })
        | Error::Store(
            o28m_store::Error::DuplicateId { .. } | o28m_store::Error::Referenced { .. },
        )
        | Error::Assigned => reply::oauth(CONFLICT, "conflict", "Duplicate resource error"),
        Error::Store(o28m_store::Error::ReferenceMissing { .. }) => {
            reply::prose(NOT_FOUND, "HTTP 404 Not Found")
        }
        Error::Store(_) | Error::Stored { .. } | Error::Key(_) | Error::NewKey(_) => {
            log(error);
            let text = "For more on this error consult the server log.";
            reply::oauth(StatusCode::INTERNAL_SERVER_ERROR, "unknown_error", text)
        }
        Error::Representation(problem) => representation(problem),
        Error::Missing(thing) => missing(*thing),
        Error::Exists {
            thing,
            name,
            renaming,
        } => exists(*thing, name, *renaming),
        Error::Invalid(invalid) => refused(invalid),
        Error::Forbidden => reply::prose(StatusCode::FORBIDDEN, "HTTP 403 Forbidden"),
    }
}

fn representation(problem: &Problem) -> Reply {
    match problem {
        Problem::Syntax => reply::oauth(BAD_REQUEST, "invalid_request", "Cannot parse the JSON"),
        Problem::WrongType { .. } => {
            reply::oauth(BAD_REQUEST, "unknown_error", "Cannot parse the JSON")
        }
        Problem::UnknownField {
            representation,
            field,
            line,
            column,
        } => {
            let text = format!(
                "Invalid json representation for {representation}. Unrecognized field \"{field}\" at line {line} column {column}."
            );
            reply::prose(BAD_REQUEST, &text)
        }
    }
}

fn missing(thing: Thing) -> Reply {
    let text = match thing {
        Thing::Realm => "Realm not found.",
        Thing::Client => "Could not find client",
        Thing::ClientScope => "Could not find client scope",
        Thing::AssignableScope => "Client scope not found",
        Thing::Mapper => "Model not found",
        Thing::MapperType => "ProtocolMapper provider not found",
        Thing::Role => "Could not find role",
        Thing::RoleById => "Could not find role with id",
        Thing::User | Thing::Email => "User not found",
        Thing::RotatedSecret => "Client does not have a rotated secret",
        Thing::Key => "Could not find component",
        Thing::Group | Thing::ChildGroup => "Could not find group by id",
        Thing::GroupPath => "Group path does not exist",
        Thing::Session => "Session not found",
        Thing::Credential => "Credential not found",
        Thing::Consent => "Consent nor offline token not found",
        Thing::Flow => "Could not find flow with id",
        Thing::IdentityProvider | Thing::Imported => "HTTP 404 Not Found",
    };
    reply::prose(NOT_FOUND, text)
}

fn exists(thing: Thing, name: &str, renaming: bool) -> Reply {
    let text = match (thing, renaming) {
        (Thing::Realm, false) => format!("Realm {name} already exists"),
        (Thing::Realm, true) => "Realm with same name exists".to_owned(),
        (Thing::Client, false) => format!("Client {name} already exists"),
        (Thing::Client, true) => "Client already exists".to_owned(),
        (Thing::ClientScope | Thing::AssignableScope, _) => {
            format!("Client Scope {name} already exists")
        }
        (Thing::Mapper | Thing::MapperType, _) => {
            "Protocol mapper exists with same name".to_owned()
        }
        (Thing::Role | Thing::RoleById, _) => format!("Role with name {name} already exists"),
        (Thing::User, _) => "User exists with same username".to_owned(),
        (Thing::Email, _) => "User exists with same email".to_owned(),
        (Thing::Group, _) => format!("Top level group named '{name}' already exists."),
        (Thing::ChildGroup, _) => format!("Sibling group named '{name}' already exists."),
        (Thing::Imported, _) => format!("{name} already exists"),
        (
            Thing::RotatedSecret
            | Thing::Key
            | Thing::GroupPath
            | Thing::Session
            | Thing::Credential
            | Thing::Consent
            | Thing::Flow
            | Thing::IdentityProvider,
            _,
        ) => "Object exists with same name".to_owned(),
    };
    reply::admin_error(CONFLICT, &text)
}

fn refused(invalid: &Invalid) -> Reply {
    let admin = |text: &str| reply::admin_error(BAD_REQUEST, text);
    match invalid {
        Invalid::RealmNameEmpty => admin("Realm name cannot be empty"),
        Invalid::RealmName(name) => admin(&format!("Realm name {name:?} has a reserved character")),
        Invalid::MasterRename => admin("Can't rename master realm"),
        Invalid::MasterDelete => admin("Can't remove master realm"),
        Invalid::ImportBlock(block) => admin(&format!("Importing {block} is not supported")),
        Invalid::Required(field) => admin(&format!("{field} is missing or has an unusable value")),
        Invalid::TooLong(field) => admin(&format!("{field} is longer than 255 characters")),
        Invalid::ClientValue { field, value } => {
            let text = format!("{field} has an unacceptable value: {value}");
            reply::oauth(BAD_REQUEST, "invalid_input", &text)
        }
        Invalid::BuiltInClient => {
            reply::oauth(BAD_REQUEST, "invalid_request", "Could not delete client")
        }
        Invalid::BuiltInName(name) => admin(&format!("{name} is built in and keeps its name")),
        Invalid::ServiceAccountOff(client) => {
            let text = format!("Service account not enabled for the client '{client}'");
            reply::prose(BAD_REQUEST, &text)
        }
        Invalid::ScopeProtocol => admin("Unexpected protocol"),
        Invalid::ScopeName(name) => admin(&format!("Unexpected name \"{name}\" for ClientScope")),
        Invalid::LastScope => {
            let text = "You are not allowed to delete all the client scopes.";
            reply::admin_error(StatusCode::FORBIDDEN, text)
        }
        Invalid::UsernameMissing => admin("User name is missing"),
        Invalid::PasswordMissing => reply::prose(BAD_REQUEST, "No password provided"),
        Invalid::PasswordTooLong => {
            let text = "Invalid password: maximum length 4096.";
            reply::oauth(BAD_REQUEST, "invalidPasswordMaxLengthMessage", text)
        }
        Invalid::Password(problem) => reply::oauth(BAD_REQUEST, problem.code, &problem.text),
        Invalid::PolicyNotMet => admin("Password policy not met"),
        Invalid::PasswordPolicy(text) => admin(text),
        Invalid::PasswordHash => {
            admin("A credential has an unknown algorithm or asks for too much work")
        }
        Invalid::Import { block, text } => admin(&format!("{block}: {text}")),
        Invalid::GroupCircle => admin("A group cannot be in itself"),
        Invalid::ImportPolicy => admin("ifResourceExists must be FAIL, SKIP or OVERWRITE"),
        Invalid::GlobalsChanged => {
            admin("Global profiles and policies are built in and cannot be changed")
        }
        Invalid::Policy(text) => admin(text),
        Invalid::Component(text) => admin(text),
        Invalid::DefaultRole(name) => admin(&format!(
            "{name} is default role of the realm and cannot be removed."
        )),
    }
}

/// The status of a page about a failure of ours.
pub(crate) fn page(error: &Error) -> StatusCode {
    admin(error).status()
}

/// The response to a refused token request.
pub(crate) fn grant(error: &GrantError) -> Reply {
    let client_text = "Invalid client or Invalid client credentials";
    let (status, code, text) = match error {
        GrantError::Failed(error) => return admin(error),
        GrantError::ClientUnknown => (UNAUTHORIZED, Code::InvalidClient, client_text.to_owned()),
        GrantError::ClientSecret => (
            UNAUTHORIZED,
            Code::UnauthorizedClient,
            client_text.to_owned(),
        ),
        GrantError::BearerOnly => (
            BAD_REQUEST,
            Code::InvalidClient,
            "Bearer-only not allowed".to_owned(),
        ),
        GrantError::PublicServiceAccount => {
            let text = "Public client not allowed to retrieve service account";
            (UNAUTHORIZED, Code::UnauthorizedClient, text.to_owned())
        }
        GrantError::ServiceAccountOff => {
            let text = "Client not enabled to retrieve service account";
            (UNAUTHORIZED, Code::UnauthorizedClient, text.to_owned())
        }
        GrantError::ServiceUserMissing => {
            let text = "The associated service account for the client does not exist";
            (UNAUTHORIZED, Code::InvalidRequest, text.to_owned())
        }
        GrantError::ServiceUserDisabled(user) => (
            UNAUTHORIZED,
            Code::InvalidRequest,
            format!("User '{user}' disabled"),
        ),
        GrantError::Scope(scope) => (
            BAD_REQUEST,
            Code::InvalidScope,
            format!("Invalid scopes: {scope}"),
        ),
        GrantError::DirectAccessOff => {
            let text = "Client not allowed for direct access grants";
            (BAD_REQUEST, Code::UnauthorizedClient, text.to_owned())
        }
        GrantError::ConsentRequired => (
            BAD_REQUEST,
            Code::InvalidClient,
            "Client requires user consent".to_owned(),
        ),
        GrantError::ConsentGone => {
            let text = "Client no longer has requested consent from user";
            (BAD_REQUEST, Code::InvalidScope, text.to_owned())
        }
        GrantError::Proof(problem) => (BAD_REQUEST, Code::InvalidDpopProof, problem.to_string()),
        GrantError::UsernameMissing => (
            UNAUTHORIZED,
            Code::InvalidRequest,
            "Missing parameter: username".to_owned(),
        ),
        GrantError::UserCredentials => (
            UNAUTHORIZED,
            Code::InvalidGrant,
            "Invalid user credentials".to_owned(),
        ),
        GrantError::UserDisabled => (
            BAD_REQUEST,
            Code::InvalidGrant,
            "Account disabled".to_owned(),
        ),
        GrantError::RequiredAction => (
            BAD_REQUEST,
            Code::InvalidGrant,
            "Account is not fully set up".to_owned(),
        ),
        GrantError::RefreshMissing => (
            BAD_REQUEST,
            Code::InvalidRequest,
            "No refresh token".to_owned(),
        ),
        GrantError::Refresh(problem) => (BAD_REQUEST, Code::InvalidGrant, refresh_text(problem)),
        GrantError::Parameter(text) => (BAD_REQUEST, Code::InvalidRequest, (*text).to_owned()),
        GrantError::ClientAssertion(problem) => {
            (BAD_REQUEST, Code::InvalidClient, problem.to_string())
        }
        GrantError::Code(problem) => {
            let (code, text) = code_text(*problem);
            (BAD_REQUEST, code, text.to_owned())
        }
        GrantError::Device(problem) => {
            let (code, text) = device_text(*problem);
            (BAD_REQUEST, code, text.to_owned())
        }
        GrantError::Exchange(problem) => {
            let (status, code) = exchange_code(problem);
            (status, code, problem.to_string())
        }
    };
    reply::oauth(status, code.name(), &text)
}

fn code_text(problem: CodeProblem) -> (Code, &'static str) {
    let text = match problem {
        CodeProblem::Missing => return (Code::InvalidRequest, "Missing parameter: code"),
        CodeProblem::Invalid => "Code not valid",
        CodeProblem::Expired => "Code is expired",
        CodeProblem::RedirectUri => "Incorrect redirect_uri",
        CodeProblem::OtherClient => "Auth error: Found different client_id in clientSession",
        CodeProblem::FlowOff => "Client not allowed to exchange code",
        CodeProblem::SessionNotActive => "Session not active",
        CodeProblem::UserMissing => "User not found",
        CodeProblem::UserDisabled => "User disabled",
        CodeProblem::VerifierMissing => "PKCE code verifier not specified",
        CodeProblem::VerifierUnexpected => {
            "PKCE code verifier specified but challenge not present in authorization"
        }
        CodeProblem::VerifierMalformed => "PKCE verification failed: Invalid code verifier",
        CodeProblem::VerifierMismatch => "PKCE verification failed: Code mismatch",
        CodeProblem::OtherKey => "DPoP Proof public key thumbprint does not match dpop_jkt",
    };
    (Code::InvalidGrant, text)
}

fn device_text(problem: DeviceProblem) -> (Code, &'static str) {
    match problem {
        DeviceProblem::Off => {
            let text = "Client is not allowed to initiate OAuth 2.0 Device Authorization Grant. \
                        The flow is disabled for the client.";
            (Code::UnauthorizedClient, text)
        }
        DeviceProblem::Missing => (Code::InvalidRequest, "Missing parameter: device_code"),
        DeviceProblem::Invalid => (Code::InvalidGrant, "Device code not valid"),
        DeviceProblem::Expired => (Code::ExpiredToken, "Device code is expired"),
        DeviceProblem::SlowDown => (Code::SlowDown, "Slow down"),
        DeviceProblem::Pending => {
            let text = "The authorization request is still pending";
            (Code::AuthorizationPending, text)
        }
        DeviceProblem::Denied => {
            let text = "The end user denied the authorization request";
            (Code::AccessDenied, text)
        }
    }
}

fn exchange_code(problem: &ExchangeProblem) -> (StatusCode, Code) {
    match problem {
        ExchangeProblem::NotInAudience => (StatusCode::FORBIDDEN, Code::AccessDenied),
        ExchangeProblem::PublicClient
        | ExchangeProblem::AudienceUnknown
        | ExchangeProblem::AudienceDisabled => (BAD_REQUEST, Code::InvalidClient),
        ExchangeProblem::Unsupported(_)
        | ExchangeProblem::Off
        | ExchangeProblem::Required(_)
        | ExchangeProblem::SubjectType
        | ExchangeProblem::RequestedType
        | ExchangeProblem::Subject
        | ExchangeProblem::AudienceUnavailable(_)
        | ExchangeProblem::Offline => (BAD_REQUEST, Code::InvalidRequest),
    }
}

fn refresh_text(problem: &RefreshProblem) -> String {
    match problem {
        RefreshProblem::Invalid => "Invalid refresh token".to_owned(),
        RefreshProblem::Expired => "Token is not active".to_owned(),
        RefreshProblem::Issuer(expected) => {
            format!("Invalid token issuer. Expected '{expected}'")
        }
        RefreshProblem::OtherClient => {
            "Invalid refresh token. Token client and authorized client don't match".to_owned()
        }
        RefreshProblem::SessionNotActive => "Session not active".to_owned(),
        RefreshProblem::SessionWithoutClient => "Session doesn't have required client".to_owned(),
        RefreshProblem::UserDisabled => "User disabled".to_owned(),
        RefreshProblem::BeforeSession => {
            "Refresh toked issued before the client session started".to_owned()
        }
        RefreshProblem::Stale => "Stale token".to_owned(),
        RefreshProblem::Reused => "Maximum allowed refresh token reuse exceeded".to_owned(),
        RefreshProblem::OtherKey => "DPoP proof and token binding verification failed".to_owned(),
        RefreshProblem::OfflineSession => "Offline user session not found".to_owned(),
    }
}
