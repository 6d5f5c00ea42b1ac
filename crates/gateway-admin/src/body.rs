//! Reading and decoding request bodies (spec gateway-admin 3.4 and 4).

use bytes::Bytes;
use http::{HeaderMap, header};
use o28m_kong::body::{self, DecodeError, Kind};
use o28m_kong::{Document, Entity};
use o28m_net::{Body, TooLarge};
use serde_json::Value;

use crate::problem::Problem;

/// Bodies up to this size are validated on the spot, larger ones on a thread of their own.
const SMALL_BYTES_MAX: usize = 16 * 1024;

/// The members a request sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    members: body::Members,
    /// Size of the body.
    bytes: usize,
}

impl Members {
    /// Members whose types are those of JSON.
    pub(crate) fn json(document: Document) -> Self {
        Self {
            members: body::Members {
                document,
                is_form: false,
            },
            bytes: 0,
        }
    }

    /// Whether looking at it may take so long that other requests would wait.
    pub(crate) const fn is_large(&self) -> bool {
        self.bytes > SMALL_BYTES_MAX
    }

    /// The document for `entity`; `stored` is the one a PATCH is for.
    pub(crate) fn document(&self, entity: &Entity, stored: Option<&Document>) -> Document {
        self.members.document(entity, stored)
    }

    /// What was sent, to change it.
    pub(crate) const fn document_mut(&mut self) -> &mut Document {
        &mut self.members.document
    }

    /// A member as it was sent.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.members.document.get(name)
    }
}

/// A declarative configuration as it was sent.
#[derive(Debug)]
pub(crate) enum Configuration {
    /// In YAML or JSON.
    Text(String),
    /// As the JSON body itself.
    Document(Document),
}

/// Reads and decodes the body of an entity.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Members, Problem> {
    let (kind, bytes) = collect(headers, body, bytes_max).await?;
    if matches!(kind, Some(Kind::Yaml)) {
        return Err(Problem::UnsupportedMediaType);
    }
    members_of(kind, bytes).await
}

/// Reads a declarative configuration: a YAML body, the member `config`, or a JSON body that is one.
/// `None` when there is nothing of that.
pub(crate) async fn read_configuration(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<Option<Configuration>, Problem> {
    let (kind, bytes) = collect(headers, body, bytes_max).await?;
    if matches!(kind, Some(Kind::Yaml)) {
        return match std::str::from_utf8(&bytes) {
            Ok("") => Ok(None),
            Ok(text) => Ok(Some(Configuration::Text(text.to_owned()))),
            Err(_) => Err(Problem::Bad("Cannot read body as UTF-8".to_owned())),
        };
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut members = members_of(kind, bytes).await?;
    if !members.members.is_form && members.members.document.contains_key("_format_version") {
        return Ok(Some(Configuration::Document(members.members.document)));
    }
    Ok(match members.members.document.remove("config") {
        Some(Value::String(text)) if !text.is_empty() => Some(Configuration::Text(text)),
        Some(Value::Object(document)) => Some(Configuration::Document(document)),
        _ => None,
    })
}

/// The content type and the whole body.
async fn collect(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<(Option<Kind>, Bytes), Problem> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(Problem::TooLarge);
    }
    let kind = content_type(headers)?;
    match body.collect(bytes_max).await {
        Ok(bytes) => Ok((kind, bytes)),
        Err(TooLarge::Limit) => Err(Problem::TooLarge),
        Err(TooLarge::Read(_)) => Err(Problem::Bad("Cannot read body".to_owned())),
    }
}

async fn members_of(kind: Option<Kind>, bytes: Bytes) -> Result<Members, Problem> {
    if bytes.len() <= SMALL_BYTES_MAX {
        return parse(kind, &bytes);
    }
    match tokio::task::spawn_blocking(move || parse(kind, &bytes)).await {
        Ok(parsed) => parsed,
        Err(_) => Err(Problem::Internal),
    }
}

fn parse(kind: Option<Kind>, bytes: &[u8]) -> Result<Members, Problem> {
    let members = match &kind {
        Some(kind) => body::decode(kind, bytes).map_err(|error| match error {
            DecodeError::Unsupported => Problem::UnsupportedMediaType,
            error
            @ (DecodeError::Json | DecodeError::Multipart | DecodeError::TooManyArguments) => {
                Problem::Bad(error.to_string())
            }
        })?,
        None if bytes.is_empty() => body::Members::default(),
        None => return Err(Problem::UnsupportedMediaType),
    };
    Ok(Members {
        members,
        bytes: bytes.len(),
    })
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
    let kind = value.to_str().ok().and_then(Kind::of);
    kind.map(Some).ok_or(Problem::UnsupportedMediaType)
}
