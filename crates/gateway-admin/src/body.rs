//! Reading and decoding request bodies (spec gateway-admin 3.4 and 4).

use http::{HeaderMap, header};
use o28m_core::limits::ADMIN_BODY_BYTES_MAX;
use o28m_kong::{Document, Entity};
use o28m_net::{Body, TooLarge};
use serde_json::Value;

use crate::form::{self, ARGUMENTS_MAX};
use crate::problem::Problem;

/// The members a request sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    document: Document,
    /// Every leaf is text whose type the declaration decides.
    is_form: bool,
}

impl Members {
    /// Members whose types are those of JSON.
    pub(crate) fn json(document: Document) -> Self {
        Self {
            document,
            is_form: false,
        }
    }

    /// The document for `entity`; `stored` is the one a PATCH is for.
    pub(crate) fn document(&self, entity: &Entity, stored: Option<&Document>) -> Document {
        if self.is_form {
            entity.coerce(self.document.clone(), stored)
        } else {
            self.document.clone()
        }
    }

    /// A member as it was sent.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.document.get(name)
    }
}

/// Reads and decodes a body.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Members, Problem> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > ADMIN_BODY_BYTES_MAX as u64) {
        return Err(Problem::TooLarge);
    }
    let kind = content_type(headers)?;
    let bytes = match body.collect(ADMIN_BODY_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(TooLarge::Limit) => return Err(Problem::TooLarge),
        Err(TooLarge::Read(_)) => return Err(Problem::Bad("Cannot read body".to_owned())),
    };
    match kind {
        Some(Kind::Json) => parse_json(&bytes),
        Some(Kind::Form) => parse_form(&bytes),
        Some(Kind::Multipart) if bytes.is_empty() => Ok(Members::default()),
        Some(Kind::Multipart) => Err(Problem::UnsupportedMediaType(Some(
            "multipart/form-data is not supported by this build: use application/json",
        ))),
        None if bytes.is_empty() => Ok(Members::default()),
        None => Err(Problem::UnsupportedMediaType(None)),
    }
}

enum Kind {
    Json,
    Form,
    Multipart,
}

fn content_type(headers: &HeaderMap) -> Result<Option<Kind>, Problem> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        let text = "Multiple Content-Type headers not allowed";
        return Err(Problem::Bad(text.to_owned()));
    }
    let value = value.as_bytes();
    let known: [(&[u8], Kind); 3] = [
        (b"application/json", Kind::Json),
        (b"application/x-www-form-urlencoded", Kind::Form),
        (b"multipart/form-data", Kind::Multipart),
    ];
    let found = known
        .into_iter()
        .find(|(prefix, _)| value.starts_with(prefix));
    match found {
        Some((_, kind)) => Ok(Some(kind)),
        None => Err(Problem::UnsupportedMediaType(None)),
    }
}

fn parse_json(bytes: &[u8]) -> Result<Members, Problem> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(document)) => Ok(Members::json(document)),
        _ => Err(Problem::Bad("Cannot parse JSON body".to_owned())),
    }
}

fn parse_form(bytes: &[u8]) -> Result<Members, Problem> {
    let count = form_urlencoded::parse(bytes)
        .take(ARGUMENTS_MAX + 1)
        .count();
    if count > ARGUMENTS_MAX {
        return Err(Problem::Bad("Too many arguments".to_owned()));
    }
    Ok(Members {
        document: form::document(form_urlencoded::parse(bytes).into_owned()),
        is_form: true,
    })
}
