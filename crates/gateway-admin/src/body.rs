//! Reading and decoding request bodies (spec gateway-admin 3.4 and 4).

use bytes::Bytes;
use http::{HeaderMap, header};
use o28m_kong::{Document, Entity};
use o28m_net::{Body, TooLarge};
use serde_json::Value;

use crate::form::{self, ARGUMENTS_MAX};
use crate::multipart;
use crate::problem::Problem;

/// Bodies up to this size are validated on the spot, larger ones on a thread of their own.
const SMALL_BYTES_MAX: usize = 16 * 1024;

/// The members a request sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    document: Document,
    /// Every leaf is text whose type the declaration decides.
    is_form: bool,
    /// Size of the body.
    bytes: usize,
}

impl Members {
    /// Members whose types are those of JSON.
    pub(crate) fn json(document: Document) -> Self {
        Self {
            document,
            is_form: false,
            bytes: 0,
        }
    }

    /// Whether looking at it may take so long that other requests would wait.
    pub(crate) const fn is_large(&self) -> bool {
        self.bytes > SMALL_BYTES_MAX
    }

    /// The document for `entity`; `stored` is the one a PATCH is for.
    pub(crate) fn document(&self, entity: &Entity, stored: Option<&Document>) -> Document {
        if self.is_form {
            entity.coerce(self.document.clone(), stored)
        } else {
            self.document.clone()
        }
    }

    /// What was sent, to change it.
    pub(crate) const fn document_mut(&mut self) -> &mut Document {
        &mut self.document
    }

    /// A member as it was sent.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.document.get(name)
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

/// Decodes a body that has been read, on the spot.
#[cfg(feature = "testing")]
pub(crate) fn decode(headers: &HeaderMap, bytes: &[u8]) -> Result<Members, Problem> {
    parse(content_type(headers)?, bytes)
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
    if !members.is_form && members.document.contains_key("_format_version") {
        return Ok(Some(Configuration::Document(members.document)));
    }
    Ok(match members.document.remove("config") {
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
    let mut members = match kind {
        Some(Kind::Json) => parse_json(bytes)?,
        Some(Kind::Form) => parse_form(bytes)?,
        Some(Kind::Multipart(boundary)) => parse_parts(bytes, &boundary)?,
        None if bytes.is_empty() => Members::default(),
        Some(Kind::Yaml) | None => return Err(Problem::UnsupportedMediaType),
    };
    members.bytes = bytes.len();
    Ok(members)
}

enum Kind {
    Json,
    Form,
    /// With its boundary.
    Multipart(String),
    Yaml,
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
    let value = value.to_str().map_err(|_| Problem::UnsupportedMediaType)?;
    if value.starts_with("application/json") {
        Ok(Some(Kind::Json))
    } else if value.starts_with("application/x-www-form-urlencoded") {
        Ok(Some(Kind::Form))
    } else if value.starts_with("multipart/form-data") {
        Ok(Some(Kind::Multipart(multipart::boundary(value))))
    } else if value.starts_with("text/yaml") || value.starts_with("application/yaml") {
        Ok(Some(Kind::Yaml))
    } else {
        Err(Problem::UnsupportedMediaType)
    }
}

fn parse_json(bytes: &[u8]) -> Result<Members, Problem> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(document)) => Ok(Members::json(document)),
        _ => Err(Problem::Bad("Cannot parse JSON body".to_owned())),
    }
}

fn parse_form(bytes: &[u8]) -> Result<Members, Problem> {
    let pairs = form_urlencoded::parse(bytes).into_owned();
    let pairs = pairs.map(|(key, text)| (key, Value::String(text)));
    members(pairs.take(ARGUMENTS_MAX + 1).collect())
}

fn parse_parts(bytes: &[u8], boundary: &str) -> Result<Members, Problem> {
    if bytes.is_empty() {
        return Ok(Members::default());
    }
    let parts = multipart::parts(bytes, boundary, ARGUMENTS_MAX + 1)
        .ok_or_else(|| Problem::Bad("Cannot parse multipart body".to_owned()))?;
    let pairs = parts.into_iter().map(|part| {
        let text = String::from_utf8_lossy(part.content).into_owned();
        let value = if part.is_json {
            serde_json::from_str(&text)
                .map_err(|_| Problem::Bad("Cannot parse JSON body".to_owned()))?
        } else {
            Value::String(text)
        };
        Ok((part.name, value))
    });
    members(pairs.collect::<Result<_, Problem>>()?)
}

fn members(pairs: Vec<(String, Value)>) -> Result<Members, Problem> {
    if pairs.len() > ARGUMENTS_MAX {
        return Err(Problem::Bad("Too many arguments".to_owned()));
    }
    Ok(Members {
        document: form::document(pairs.into_iter()),
        is_form: true,
        bytes: 0,
    })
}
