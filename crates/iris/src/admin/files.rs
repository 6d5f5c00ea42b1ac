//! Files with realms, read at start.

use std::path::{Path, PathBuf};

use o28m_core::limits::REALM_BODY_BYTES_MAX;
use serde_json::Value;

use crate::model::Rep;
use crate::schema;
use crate::{Error, representation};

/// A realm file could not be imported.
#[derive(Debug, thiserror::Error)]
#[error("realm import of {path} failed")]
pub struct ImportError {
    path: String,
    #[source]
    problem: Problem,
}

impl ImportError {
    pub(crate) fn new(path: &Path, problem: Problem) -> Self {
        Self {
            path: path.display().to_string(),
            problem,
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("cannot be read")]
    Read(#[source] std::io::Error),
    #[error("is larger than 32 MiB")]
    TooLarge,
    #[error("is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("holds something that is no realm")]
    Representation(#[source] schema::Problem),
    #[error("realm {0:?} cannot be made")]
    Realm(String, #[source] Box<Error>),
}

/// The JSON files of a directory in the order of their names; none when it does not exist.
pub(crate) async fn list(directory: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let fails = |error| ImportError::new(directory, Problem::Read(error));
    let mut entries = match tokio::fs::read_dir(directory).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fails(error)),
    };
    let mut paths = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(fails)? {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && path.extension().is_some_and(|it| it == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The realms of a file.
pub(crate) async fn read(
    path: &Path,
    variable: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<Vec<Rep>, ImportError> {
    let fails = |problem| ImportError::new(path, problem);
    let bytes = tokio::fs::read(path)
        .await
        .map_err(|error| fails(Problem::Read(error)))?;
    if bytes.len() > REALM_BODY_BYTES_MAX {
        return Err(fails(Problem::TooLarge));
    }
    // The position is that of the file, so it is looked at before anything is put in.
    let mut whole: Value =
        serde_json::from_slice(&bytes).map_err(|error| fails(Problem::Json(error)))?;
    substitute(&mut whole, variable);
    let items = match whole {
        Value::Array(items) => items,
        one => vec![one],
    };
    let check = |item: &Value| {
        let read = representation::REALM.check(item);
        read.map_err(|problem| fails(Problem::Representation(problem)))
    };
    items.iter().map(check).collect()
}

/// Puts variables in the place of `${NAME}` and `${NAME:default}` in texts. A name that is not set and
/// has no default stays as it is: Keycloak's own texts, such as `${role_admin}`, look alike.
fn substitute(value: &mut Value, variable: &(dyn Fn(&str) -> Option<String> + Sync)) {
    match value {
        Value::String(text) if text.contains("${") => *text = filled(text, variable),
        Value::Array(items) => items.iter_mut().for_each(|item| substitute(item, variable)),
        Value::Object(map) => map
            .values_mut()
            .for_each(|value| substitute(value, variable)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn filled(text: &str, variable: &(dyn Fn(&str) -> Option<String> + Sync)) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((inside, behind)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        let (name, default) = match inside.split_once(':') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (inside, None),
        };
        match variable(name).or(default) {
            Some(value) => out.push_str(&value),
            None => {
                out.push_str("${");
                out.push_str(inside);
                out.push('}');
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in() {
        let variable = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, wanted) in [
            ("${A}", "1"),
            ("x${A}y${A:2}", "x1y1"),
            ("${B:2}", "2"),
            ("${role_admin}", "${role_admin}"),
            ("${A", "${A"),
        ] {
            assert_eq!(filled(text, &variable), wanted);
        }
    }
}
