//! Certificates and their server names: entities of their own that clients read and write as one, and
//! certificates can be addressed by a name (spec gateway-admin 9.6).

use std::collections::HashMap;

use o28m_core::id;
use o28m_kong::{Context, Document, Entity, Violations, entity};
use o28m_store::{Query, Record, Write};
use serde_json::{Value, json};

use crate::api::Api;
use crate::body::Members;
use crate::endpoints::Endpoint;
use crate::object::object;
use crate::problem::Problem;
use crate::resolve::is_storable;

pub(crate) const CERTIFICATES: &str = "certificates";
const SNIS: &str = "snis";
/// The constraint that orders names by certificate.
const CERTIFICATE_NAME: &str = "certificate_name";
/// Names read at once.
const NAMES_AT_ONCE: u32 = 1000;

/// What a write says about the names of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// All of them; none when it does not name any.
    Replaced,
    /// They stay unless it names some.
    Kept,
}

impl Api {
    /// Puts the id of a certificate in the place of its name in a path. Gives the name for which a
    /// certificate is to be made or replaced.
    pub(crate) async fn certificate_by_name(
        &self,
        endpoint: Endpoint,
        parameters: &mut [String],
        method: &str,
    ) -> Result<Option<String>, Problem> {
        let is_certificate = |entity: &Entity| entity.name == CERTIFICATES;
        let is_own = match endpoint {
            Endpoint::Single(place) if is_certificate(place.entity) => true,
            Endpoint::Single(place) | Endpoint::Collection(place) => match place.parent {
                Some((parent, _)) if is_certificate(parent) => false,
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some(parameter) = parameters.first_mut().filter(|it| !id::is_uuid(it)) else {
            return Ok(None);
        };
        let found = self
            .store()
            .get_by_key(SNIS, "", "name", parameter)
            .await?
            .and_then(|sni| certificate_of(&sni.body).map(str::to_owned));
        let is_put = is_own && method == "PUT";
        let id = match found {
            Some(id) => id,
            None if is_put => self.ambient().uuid(),
            None => return Err(Problem::Unknown("SNI not found".to_owned())),
        };
        let name = std::mem::replace(parameter, id);
        Ok(is_put.then_some(name))
    }

    /// Adds the names of certificates to their documents: one query as long as not very many other names
    /// lie between them.
    pub(crate) async fn add_names(&self, certificates: &mut [Record]) -> Result<(), Problem> {
        let ids: Vec<String> = certificates.iter().map(|it| it.id.clone()).collect();
        let mut names = self.names_of(ids).await?;
        for certificate in certificates {
            let names = names.remove(&certificate.id).unwrap_or_default();
            if let Value::Object(body) = &mut certificate.body {
                body.insert(SNIS.to_owned(), json!(names));
            }
        }
        Ok(())
    }

    /// The names of certificates, sorted.
    async fn names_of(
        &self,
        mut certificates: Vec<String>,
    ) -> Result<HashMap<String, Vec<String>>, Problem> {
        certificates.sort_unstable();
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        let mut wanted = certificates.iter().peekable();
        let mut after = String::new();
        while let Some(first) = wanted.peek() {
            // Values of that index are JSON arrays that begin with the certificate.
            let start = format!("[\"{first}\",");
            after = after.max(start);
            let query = Query {
                kind: SNIS,
                by_key: Some(CERTIFICATE_NAME),
                after: Some(&after),
                limit: NAMES_AT_ONCE,
                ..Query::default()
            };
            let found = self.store().list(&query).await?;
            let is_last = found.len() < NAMES_AT_ONCE as usize;
            for sni in &found {
                let (Some(certificate), Some(name)) =
                    (certificate_of(&sni.body), name_of(&sni.body))
                else {
                    continue;
                };
                while wanted.next_if(|it| it.as_str() < certificate).is_some() {}
                if wanted.peek().is_some_and(|it| it.as_str() == certificate) {
                    let names = names.entry(certificate.to_owned()).or_default();
                    names.push(name.to_owned());
                }
                after = json!([certificate, name]).to_string();
            }
            if is_last {
                break;
            }
        }
        Ok(names)
    }

    /// The writes that give a certificate the names its document says, which then has all its names,
    /// sorted. Nothing for other entities.
    pub(crate) async fn name_writes(
        &self,
        own: &Entity,
        document: &mut Document,
        names: Names,
    ) -> Result<Vec<Write>, Problem> {
        let (CERTIFICATES, Some(snis)) = (own.name, entity(SNIS)) else {
            return Ok(Vec::new());
        };
        let id = document.get("id").and_then(Value::as_str);
        let id = id.unwrap_or_default().to_owned();
        let asked = document.get(SNIS).and_then(Value::as_array).cloned();
        let asked = match (asked, names) {
            (None, Names::Kept) => None,
            (asked, _) => Some(sorted(asked.unwrap_or_default())?),
        };
        let query = Query {
            kind: SNIS,
            reference: Some(("certificate", &id)),
            limit: u32::MAX,
            ..Query::default()
        };
        let present = self.store().list(&query).await?;
        let has = |record: &Record, name: &str| name_of(&record.body) == Some(name);
        let mut writes = Vec::new();
        let shown = match asked {
            None => {
                let names = present.iter().filter_map(|it| name_of(&it.body));
                let mut names: Vec<String> = names.map(str::to_owned).collect();
                names.sort_unstable();
                names
            }
            Some(asked) => {
                for sni in &present {
                    if !asked.iter().any(|name| has(sni, name)) {
                        writes.push(Write::Delete {
                            kind: SNIS,
                            id: sni.id.clone(),
                        });
                    }
                }
                for name in &asked {
                    if !present.iter().any(|sni| has(sni, name)) {
                        self.refuse_taken(name).await?;
                        let sni = self.sni(snis, name, &id)?;
                        writes.push(Write::Insert(object(snis, &sni)));
                    }
                }
                asked
            }
        };
        document.insert(SNIS.to_owned(), json!(shown));
        Ok(writes)
    }

    async fn refuse_taken(&self, name: &str) -> Result<(), Problem> {
        let taken = if is_storable(name) {
            self.store().get_by_key(SNIS, "", "name", name).await?
        } else {
            None
        };
        match taken.as_ref().and_then(|sni| certificate_of(&sni.body)) {
            Some(other) => Err(violation(&format!(
                "{name} already associated with existing certificate '{other}'"
            ))),
            None => Ok(()),
        }
    }

    fn sni(&self, snis: &Entity, name: &str, certificate: &str) -> Result<Document, Problem> {
        let context = Context {
            ambient: self.ambient(),
            enabled_plugins: &[],
        };
        let sni = [
            ("name".to_owned(), json!(name)),
            ("certificate".to_owned(), json!({"id": certificate})),
        ];
        Ok(snis.insert(sni.into_iter().collect(), &context)?)
    }
}

/// Makes of what a request says about `snis` a list; a certificate that is put by name has that name.
pub(crate) fn prepare(
    members: &mut Members,
    endpoint: Endpoint,
    method: &str,
    name: Option<String>,
) {
    let Endpoint::Single(place) = endpoint else {
        return;
    };
    if place.entity.name != CERTIFICATES || !matches!(method, "PUT" | "PATCH") {
        return;
    }
    let document = members.document_mut();
    let mut list = match document.get_mut(SNIS).map(Value::take) {
        None if name.is_none() => return,
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(only)) if only.is_empty() => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(Value::String(only)) => vec![Value::String(only)],
        Some(other) => {
            document.insert(SNIS.to_owned(), other);
            return;
        }
    };
    if let Some(name) = name.filter(|name| !list.iter().any(|it| it == name)) {
        list.push(Value::String(name));
    }
    document.insert(SNIS.to_owned(), Value::Array(list));
}

/// The names in order.
fn sorted(names: Vec<Value>) -> Result<Vec<String>, Problem> {
    let text = |name: Value| name.as_str().map(str::to_owned);
    let mut names: Vec<String> = names.into_iter().filter_map(text).collect();
    names.sort_unstable();
    let twice = names.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(one),
        _ => None,
    });
    match twice {
        Some(name) => Err(violation(&format!("{name} is duplicated"))),
        None => Ok(names),
    }
}

fn violation(message: &str) -> Problem {
    Problem::Violations(Violations {
        fields: [(SNIS.to_owned(), json!(message))].into_iter().collect(),
    })
}

fn certificate_of(sni: &Value) -> Option<&str> {
    sni.get("certificate")?.get("id")?.as_str()
}

fn name_of(sni: &Value) -> Option<&str> {
    sni.get("name")?.as_str()
}
