//! Pages of entities and tags (spec gateway-admin 6.9 and 6.10).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use o28m_core::id;
use o28m_core::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use o28m_kong::body::ARGUMENTS_MAX;
use o28m_store::{Record, Tagged, Tags};
use serde_json::{Map, Value, json};

use crate::problem::Problem;

/// Tags in one filter at most.
const TAGS_MAX: usize = 5;

/// Query arguments; of repeated ones the first counts.
pub(crate) struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// Decodes a query string.
    pub(crate) fn parse(query: &str) -> Result<Self, Problem> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .take(ARGUMENTS_MAX + 1)
            .collect();
        if pairs.len() > ARGUMENTS_MAX {
            return Err(Problem::Bad("Too many arguments".to_owned()));
        }
        Ok(Self(pairs))
    }

    /// The first argument of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Which page of a collection.
pub(crate) struct Page<'a> {
    pub(crate) size: u32,
    /// The last thing of the page before: decoded `offset`.
    pub(crate) after: Option<Vec<String>>,
    pub(crate) tags: Tags<'a>,
    tags_text: Option<&'a str>,
    size_text: Option<&'a str>,
}

impl<'a> Page<'a> {
    /// Reads `size`, `offset` and `tags`.
    pub(crate) fn parse(arguments: &'a Arguments) -> Result<Self, Problem> {
        let tags_text = arguments.get("tags");
        Ok(Self {
            size: size(arguments.get("size"))?,
            after: arguments.get("offset").map(offset).transpose()?,
            tags: tags_text.map_or(Ok(Tags::Any), tags)?,
            tags_text,
            size_text: arguments.get("size"),
        })
    }

    /// The id after which the page starts.
    pub(crate) fn after_id(&self, sent: Option<&str>) -> Result<Option<&str>, Problem> {
        match self.after.as_deref() {
            None => Ok(None),
            Some([last]) if id::is_uuid(last) => Ok(Some(last)),
            Some(_) => Err(invalid_offset(sent.unwrap_or_default(), "not an id")),
        }
    }

    /// Reads `size` and `tags` of a collection whose offset is a number; gives that, too.
    pub(crate) fn parse_by_position(arguments: &'a Arguments) -> Result<(Self, usize), Problem> {
        let tags_text = arguments.get("tags");
        let page = Self {
            size: size(arguments.get("size"))?,
            after: None,
            tags: tags_text.map_or(Ok(Tags::Any), tags)?,
            tags_text,
            size_text: arguments.get("size"),
        };
        let position = arguments.get("offset").map_or(Ok(0), |text| {
            let number = text.parse();
            number.map_err(|_| invalid_offset(text, "not a number"))
        });
        Ok((page, position?))
    }

    /// The answer: `data` of at most `size` things, without those shown as null; `key` tells where the
    /// next page starts. Pages of collections below a parent do not repeat `size`, as in Kong.
    pub(crate) fn answer<T>(
        &self,
        path: &str,
        is_nested: bool,
        found: Vec<T>,
        key: impl Fn(&T) -> Vec<String>,
        show: impl Fn(T) -> Value,
    ) -> Value {
        let offset = |last: &T| STANDARD_NO_PAD.encode(json!(key(last)).to_string());
        self.answer_from(path, is_nested, found, offset, show)
    }

    /// The same, with the offset of the next page made of the last thing of this one.
    fn answer_from<T>(
        &self,
        path: &str,
        is_nested: bool,
        mut found: Vec<T>,
        offset: impl Fn(&T) -> String,
        show: impl Fn(T) -> Value,
    ) -> Value {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let has_more = found.len() > size;
        found.truncate(size);
        let offset = found.last().filter(|_| has_more).map(offset);
        let data = found.into_iter().map(show);
        let data: Vec<Value> = data.filter(|it| !it.is_null()).collect();
        let mut body = Map::new();
        body.insert("data".to_owned(), Value::Array(data));
        body.insert("next".to_owned(), Value::Null);
        if let Some(offset) = offset {
            body.insert(
                "next".to_owned(),
                json!(self.next(path, is_nested, &offset)),
            );
            body.insert("offset".to_owned(), json!(offset));
        }
        Value::Object(body)
    }

    fn next(&self, path: &str, is_nested: bool, offset: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("offset", offset);
        if let Some(tags) = self.tags_text {
            query.append_pair("tags", tags);
        }
        if let Some(size) = self.size_text.filter(|_| !is_nested) {
            query.append_pair("size", size);
        }
        format!("{path}?{}", query.finish())
    }

    /// How many things to fetch: one more than shown tells whether there is another page.
    pub(crate) fn limit(&self) -> u32 {
        self.size.saturating_add(1)
    }
}

fn size(text: Option<&str>) -> Result<u32, Problem> {
    let Some(text) = text else {
        return Ok(PAGE_SIZE_DEFAULT);
    };
    let number: f64 = text
        .parse()
        .map_err(|_| Problem::InvalidSize("size must be a number"))?;
    let allowed = (1..=PAGE_SIZE_MAX).find(|size| f64::from(*size) == number);
    allowed.ok_or(Problem::InvalidSize(
        "size must be an integer between 1 and 1000",
    ))
}

fn invalid_offset(text: &str, reason: &str) -> Problem {
    Problem::InvalidOffset(format!("'{text}' is not a valid offset: {reason}"))
}

fn offset(text: &str) -> Result<Vec<String>, Problem> {
    let trimmed = text.trim_end_matches('=');
    let bytes = STANDARD_NO_PAD
        .decode(trimmed)
        .or_else(|_| URL_SAFE_NO_PAD.decode(trimmed))
        .map_err(|_| invalid_offset(text, "bad base64 encoding"))?;
    serde_json::from_slice(&bytes).map_err(|_| invalid_offset(text, "bad json encoding"))
}

fn tags(text: &str) -> Result<Tags<'_>, Problem> {
    let problem = |text: &str| Problem::InvalidOption {
        name: "tags",
        message: text.to_owned(),
    };
    if text.is_empty() {
        return Err(problem("cannot be null"));
    }
    let (separator, is_any) = match (text.contains(','), text.contains('/')) {
        (true, true) => return Err(problem("invalid filter syntax")),
        (_, true) => ('/', true),
        (_, false) => (',', false),
    };
    let names: Vec<&str> = text.split(separator).take(TAGS_MAX + 1).collect();
    if names.len() > TAGS_MAX {
        return Err(problem("cannot query more than 5 tags"));
    }
    if names.iter().any(|name| name.is_empty()) {
        return Err(problem("invalid filter syntax"));
    }
    if let Some(complaint) = names.iter().find_map(|name| o28m_kong::tag_complaint(name)) {
        return Err(problem(&complaint));
    }
    Ok(if is_any {
        Tags::OneOf(names)
    } else {
        Tags::All(names)
    })
}

/// A page of entities.
pub(crate) fn entities(page: &Page<'_>, path: &str, is_nested: bool, found: Vec<Record>) -> Value {
    let key = |record: &Record| vec![record.id.clone()];
    page.answer(path, is_nested, found, key, |record| record.body)
}

/// A page of entities that begins at this position.
pub(crate) fn entities_from(
    page: &Page<'_>,
    position: usize,
    path: &str,
    found: Vec<Record>,
) -> Value {
    let size = usize::try_from(page.size).unwrap_or(usize::MAX);
    let next = position.saturating_add(size).to_string();
    page.answer_from(path, true, found, |_| next.clone(), |record| record.body)
}

/// A page of tags.
pub(crate) fn tagged(page: &Page<'_>, path: &str, found: Vec<Tagged>) -> Value {
    let key = |it: &Tagged| vec![it.tag.clone(), it.kind.clone(), it.id.clone()];
    let show = |it: Tagged| json!({"entity_name": it.kind, "entity_id": it.id, "tag": it.tag});
    page.answer(path, false, found, key, show)
}

/// Where a page of tags starts.
pub(crate) fn tag_offset(page: &Page<'_>, sent: Option<&str>) -> Result<Option<Tagged>, Problem> {
    match page.after.as_deref() {
        None => Ok(None),
        Some([tag, kind, id]) => Ok(Some(Tagged {
            tag: tag.clone(),
            kind: kind.clone(),
            id: id.clone(),
        })),
        Some(_) => Err(invalid_offset(sent.unwrap_or_default(), "not a tag")),
    }
}
