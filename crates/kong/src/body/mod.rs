//! Request bodies of the Admin API: JSON, forms and multipart as documents (spec gateway-admin 3.4 and 4).

mod form;
mod multipart;

use serde_json::Value;

use crate::entity::{Document, Entity};

/// Arguments of a form or query at most.
pub const ARGUMENTS_MAX: usize = 1000;

/// What a body is, as its content type says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `multipart/form-data`
    Multipart {
        /// What separates the parts; empty when the content type does not say.
        boundary: String,
    },
    /// `text/yaml`, `application/yaml`
    Yaml,
}

impl Kind {
    /// The kind of a content type; as in Kong, its beginning decides.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let is = |prefix: &str| content_type.starts_with(prefix);
        if is("application/json") {
            Some(Self::Json)
        } else if is("application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else if is("multipart/form-data") {
            let boundary = multipart::boundary(content_type);
            Some(Self::Multipart { boundary })
        } else if is("text/yaml") || is("application/yaml") {
            Some(Self::Yaml)
        } else {
            None
        }
    }
}

/// A body is not what its content type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No JSON object.
    #[error("Cannot parse JSON body")]
    Json,
    /// No parts.
    #[error("Cannot parse multipart body")]
    Multipart,
    /// More than [`ARGUMENTS_MAX`].
    #[error("Too many arguments")]
    TooManyArguments,
    /// A kind that holds no members.
    #[error("unsupported content type")]
    Unsupported,
}

/// The members that a body holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// As they were sent.
    pub document: Document,
    /// Every leaf is text whose type the declaration decides.
    pub is_form: bool,
}

impl Members {
    /// The document for `entity`; `stored` is the one a PATCH is for.
    #[must_use]
    pub fn document(&self, entity: &Entity, stored: Option<&Document>) -> Document {
        if self.is_form {
            entity.coerce(self.document.clone(), stored)
        } else {
            self.document.clone()
        }
    }
}

/// Decodes a body.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(kind: &Kind, bytes: &[u8]) -> Result<Members, DecodeError> {
    match kind {
        Kind::Json => match serde_json::from_slice(bytes) {
            Ok(Value::Object(document)) => Ok(Members {
                document,
                is_form: false,
            }),
            _ => Err(DecodeError::Json),
        },
        Kind::Form => {
            let pairs = form_urlencoded::parse(bytes).into_owned();
            let pairs = pairs.map(|(key, text)| (key, Value::String(text)));
            members(pairs.take(ARGUMENTS_MAX + 1).collect())
        }
        Kind::Multipart { .. } if bytes.is_empty() => Ok(Members::default()),
        Kind::Multipart { boundary } => parts(bytes, boundary),
        Kind::Yaml => Err(DecodeError::Unsupported),
    }
}

fn parts(bytes: &[u8], boundary: &str) -> Result<Members, DecodeError> {
    let parts =
        multipart::parts(bytes, boundary, ARGUMENTS_MAX + 1).ok_or(DecodeError::Multipart)?;
    let pairs = parts.into_iter().map(|part| {
        let text = String::from_utf8_lossy(part.content).into_owned();
        let value = if part.is_json {
            serde_json::from_str(&text).map_err(|_| DecodeError::Json)?
        } else {
            Value::String(text)
        };
        Ok((part.name, value))
    });
    members(pairs.collect::<Result<_, DecodeError>>()?)
}

fn members(pairs: Vec<(String, Value)>) -> Result<Members, DecodeError> {
    if pairs.len() > ARGUMENTS_MAX {
        return Err(DecodeError::TooManyArguments);
    }
    Ok(Members {
        document: form::document(pairs.into_iter()),
        is_form: true,
    })
}
