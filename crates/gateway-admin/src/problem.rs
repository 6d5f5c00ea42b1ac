//! Every way a request can fail, and the one place that turns it into a response.

use http::{HeaderValue, Response, StatusCode, header};
use o28m_kong::declarative::{Invalid, compact};
use o28m_kong::{Document, Violations};
use o28m_net::Body;
use serde_json::{Value, json};

use crate::reply;

/// Seconds after which a client should try again when the database is away or everything is busy.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// What a peer is told of a failure of ours.
const UNEXPECTED: &str = "An unexpected error occurred";

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum Problem {
    /// No or wrong credentials; whether the client prefers HTML.
    Unauthorized { html: bool },
    /// Unknown path, or an entity that does not exist.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The content type is not accepted.
    UnsupportedMediaType,
    /// The body is larger than the limit.
    TooLarge,
    /// A plain message with status 400.
    Bad(String),
    /// A plain message with status 404.
    Unknown(String),
    /// The document breaks the schema.
    Violations(Violations),
    /// A foreign key given by name leads nowhere: messages by field and member.
    Unresolved(Vec<Unresolved>),
    /// The id is taken.
    PrimaryKey(String),
    /// A foreign key's id leads nowhere.
    ForeignKey {
        field: String,
        entity: String,
        id: String,
    },
    /// Others point to the entity to delete.
    Referenced { entity: String, by: String },
    /// A unique constraint: its fields as in the document.
    Unique(Document),
    /// The entity to change does not exist: how it was addressed.
    Missing(Document),
    /// The id in the path is no UUID and nothing else can stand for it.
    InvalidId,
    /// The text in the path is no value of the field it stands for.
    InvalidUnique {
        field: &'static str,
        message: String,
    },
    /// `offset`
    InvalidOffset(String),
    /// `size`
    InvalidSize(&'static str),
    /// `tags`, `ttl`
    InvalidOption { name: &'static str, message: String },
    /// A certificate authority that another entity lists.
    StillListed {
        id: String,
        by: &'static str,
        holder: String,
    },
    /// The mode does not allow it.
    Unsupported(String),
    /// A declarative configuration is wrong; whether problems are listed by entity.
    Declarative { invalid: Invalid, flatten: bool },
    /// Another declarative configuration is being loaded.
    Loading,
    /// The user may only read.
    ReadOnly,
    /// The stored entity is not in the state that the request demands.
    Precondition,
    /// Too many wrong passwords from that address.
    Throttled,
    /// A plain message with status 405: the mode does not allow it.
    NotInThisMode(&'static str),
    /// Too many concurrent changes or password checks.
    Busy,
    /// The database cannot be reached.
    Unavailable,
    /// Anything else; the log has it.
    Internal,
}

/// A foreign key given by a name that nothing has.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) field: &'static str,
    pub(crate) member: String,
    pub(crate) value: String,
    pub(crate) entity: &'static str,
}

impl From<Violations> for Problem {
    fn from(violations: Violations) -> Self {
        Self::Violations(violations)
    }
}

impl From<o28m_store::Error> for Problem {
    fn from(error: o28m_store::Error) -> Self {
        use o28m_store::Error;
        match error {
            Error::Duplicate { key, value, .. } => {
                Self::Unique([(key, Value::String(value))].into_iter().collect())
            }
            Error::DuplicateId { id, .. } => Self::PrimaryKey(id),
            Error::ReferenceMissing { field, kind, id } => Self::ForeignKey {
                field,
                entity: kind,
                id,
            },
            Error::Referenced { kind, by, .. } => Self::Referenced { entity: kind, by },
            Error::Conflict { .. } => Self::Busy,
            error @ (Error::Unavailable(_) | Error::Schema { .. }) => {
                tracing::warn!(error = %chain(&error), "Admin API has no database");
                Self::Unavailable
            }
            error @ (Error::Failed(_) | Error::Url(_)) => {
                tracing::error!(error = %chain(&error), "Admin API request failed");
                Self::Internal
            }
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn compact_key(fields: &Document) -> String {
    compact(&Value::Object(fields.clone()))
}

/// A body of the common error shape.
fn coded(
    status: StatusCode,
    code: u8,
    name: &str,
    message: String,
    fields: Value,
) -> Response<Body> {
    let body = json!({"code": code, "name": name, "message": message, "fields": fields});
    reply::json(status, &body)
}

fn message(status: StatusCode, message: &str) -> Response<Body> {
    reply::json(status, &json!({"message": message}))
}

impl Problem {
    /// The response, as Kong 3.9.3 words it.
    pub(crate) fn response(self) -> Response<Body> {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        const AWAY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::Unauthorized { html } => unauthorized(html),
            Self::NotFound => message(StatusCode::NOT_FOUND, "Not found"),
            Self::MethodNotAllowed => message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
            Self::UnsupportedMediaType => reply::empty(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::TooLarge => message(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large"),
            Self::Bad(text) => message(BAD, &text),
            Self::Unknown(text) => message(StatusCode::NOT_FOUND, &text),
            Self::Violations(violations) => {
                let text = violations.message();
                coded(
                    BAD,
                    2,
                    "schema violation",
                    text,
                    Value::Object(violations.fields),
                )
            }
            Self::Unresolved(keys) => unresolved(&keys),
            Self::PrimaryKey(id) => {
                let key = json!({"id": id});
                let text = format!("primary key violation on key '{}'", compact(&key));
                coded(BAD, 3, "primary key violation", text, key)
            }
            Self::ForeignKey { field, entity, id } => {
                let key = json!({"id": id});
                let text = format!(
                    "the foreign key '{}' does not reference an existing '{entity}' entity.",
                    compact(&key)
                );
                coded(BAD, 4, "foreign key violation", text, json!({field: key}))
            }
            Self::Referenced { entity, by } => {
                let text = format!("an existing '{by}' entity references this '{entity}' entity");
                coded(
                    BAD,
                    4,
                    "foreign key violation",
                    text,
                    json!({"@referenced_by": by}),
                )
            }
            Self::Unique(fields) => {
                let text = format!("UNIQUE violation detected on '{}'", compact_key(&fields));
                let name = "unique constraint violation";
                coded(StatusCode::CONFLICT, 5, name, text, Value::Object(fields))
            }
            Self::Missing(key) => {
                let kind = if key.contains_key("id") {
                    "primary key "
                } else {
                    ""
                };
                let text = format!(
                    "could not find the entity with {kind}'{}'",
                    compact_key(&key)
                );
                coded(
                    StatusCode::NOT_FOUND,
                    6,
                    "not found",
                    text,
                    Value::Object(key),
                )
            }
            Self::InvalidId => {
                let fields = json!({"id": "expected a valid UUID"});
                let text = format!("invalid primary key: '{}'", compact(&fields));
                coded(BAD, 1, "invalid primary key", text, fields)
            }
            Self::InvalidUnique { field, message } => {
                let name = format!("invalid unique {field}");
                reply::json(BAD, &json!({"code": 10, "name": name, "message": message}))
            }
            Self::InvalidOffset(text) => coded(BAD, 7, "invalid offset", text, json!({})),
            Self::InvalidSize(text) => coded(BAD, 9, "invalid size", text.to_owned(), json!({})),
            Self::InvalidOption { name, message } => {
                let body = json!({
                    "code": 11, "name": "invalid options",
                    "message": format!("invalid option ({name}: {message})"),
                    "options": {name: message},
                });
                reply::json(BAD, &body)
            }
            Self::StillListed { id, by, holder } => {
                let text =
                    format!("ca certificate {id} is still referenced by {by} (id = {holder})");
                let body = json!({"code": 19, "name": "referenced by others", "message": text});
                reply::json(BAD, &body)
            }
            Self::Unsupported(text) => {
                let body = json!({"code": 12, "name": "operation unsupported", "message": text});
                reply::json(StatusCode::METHOD_NOT_ALLOWED, &body)
            }
            Self::Declarative { invalid, flatten } => declarative(&invalid, flatten),
            Self::ReadOnly => message(StatusCode::FORBIDDEN, "This user may only read"),
            Self::Precondition => {
                let text = "The entity is not in the state that If-Match or If-None-Match asks for";
                message(StatusCode::PRECONDITION_FAILED, text)
            }
            Self::NotInThisMode(text) => message(StatusCode::METHOD_NOT_ALLOWED, text),
            Self::Throttled => retry(StatusCode::TOO_MANY_REQUESTS, "Too many wrong passwords"),
            Self::Loading => {
                let text = "Currently loading previous configuration";
                retry(StatusCode::TOO_MANY_REQUESTS, text)
            }
            Self::Busy => retry(AWAY, "Too many concurrent requests"),
            Self::Unavailable => retry(AWAY, "The database is unavailable"),
            Self::Internal => message(StatusCode::INTERNAL_SERVER_ERROR, UNEXPECTED),
        }
    }
}

fn declarative(invalid: &Invalid, flatten: bool) -> Response<Body> {
    let fields = if flatten {
        invalid.unattributed().clone()
    } else {
        invalid.fields()
    };
    let mut body = json!({
        "code": 14, "name": "invalid declarative configuration",
        "message": Invalid::message(&fields),
    });
    if let Value::Object(members) = &mut body {
        members.insert("fields".to_owned(), Value::Object(fields));
        if flatten {
            let flattened = Value::Array(invalid.flattened());
            members.insert("flattened_errors".to_owned(), flattened);
        }
    }
    reply::json(StatusCode::BAD_REQUEST, &body)
}

/// The answer to a failure of ours; the log has the same id.
pub(crate) fn internal(request_id: &str) -> Response<Body> {
    let body = json!({"message": UNEXPECTED, "request_id": request_id});
    reply::json(StatusCode::INTERNAL_SERVER_ERROR, &body)
}

fn retry(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = message(status, text);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, RETRY_AFTER_S);
    response
}

fn unauthorized(html: bool) -> Response<Body> {
    let mut response = if html {
        let text = "<html>\n<head><title>401 Authorization Required</title></head>\n<body>\n<h1>401 Authorization Required</h1>\n</body>\n</html>\n";
        reply::text(StatusCode::UNAUTHORIZED, "text/html", text)
    } else {
        message(StatusCode::UNAUTHORIZED, "Unauthorized")
    };
    let challenge = HeaderValue::from_static("Basic realm=\"Administrator Area\"");
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    response
}

fn unresolved(keys: &[Unresolved]) -> Response<Body> {
    let mut fields = Document::new();
    let mut items = Vec::new();
    for key in keys {
        let by = json!({key.member.clone(): key.value});
        let text = format!(
            "the foreign key cannot be resolved with '{}' for an existing '{}' entity",
            compact(&by),
            key.entity
        );
        items.push(format!("{}.{}: {text}", key.field, key.member));
        fields.insert(key.field.to_owned(), json!({key.member.clone(): text}));
    }
    let text = match items.as_slice() {
        [only] => format!("foreign key unresolved ({only})"),
        many => format!(
            "{} foreign keys unresolved ({})",
            many.len(),
            many.join("; ")
        ),
    };
    let name = "foreign keys unresolved";
    coded(
        StatusCode::BAD_REQUEST,
        13,
        name,
        text,
        Value::Object(fields),
    )
}
