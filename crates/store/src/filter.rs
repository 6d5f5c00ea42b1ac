//! Conditions on JSON bodies and keys, in the words of each database.

use crate::sql::Sql;
use crate::{Filter, Test};

/// Wildcards of one pattern; each one more multiplies the ways to compare.
const WILDCARDS_MAX: usize = 8;

/// Member of a body whose texts are kept beside its keys.
pub(crate) const TEXTS: &str = "find";

/// Whether a key and what is kept beside it tells which of the alternatives hold, without the body.
pub(crate) fn is_keyed(alternatives: &[Filter<'_>]) -> bool {
    let mut paths = alternatives.iter().map(|filter| filter.path.first());
    paths.all(|first| first.is_none_or(|name| *name == TEXTS))
}

/// Where filters find their values.
pub(crate) struct Place {
    /// JSON text.
    json: String,
    /// How many of the outer names of a path the JSON text is inside of.
    inside: usize,
    /// Value of the key that is listed by.
    key: Option<&'static str>,
    postgres: bool,
}

impl Place {
    /// The bodies of `alias`.
    pub(crate) fn body(alias: &str, key: Option<&'static str>, postgres: bool) -> Self {
        Self {
            json: format!("{alias}.body"),
            inside: 0,
            key,
            postgres,
        }
    }

    /// Keys called `k`, for alternatives that are keyed.
    pub(crate) fn key(postgres: bool) -> Self {
        let json = if postgres { "JSONB" } else { "TEXT" };
        Self {
            json: format!(
                "COALESCE(k.texts, (SELECT CAST(CAST(f.body AS {json}) -> '{TEXTS}' AS TEXT) \
                 FROM @object f WHERE f.kind = k.kind AND f.id = k.id))"
            ),
            inside: 1,
            key: Some("k.value"),
            postgres,
        }
    }

    /// What the alternatives look into, each once.
    fn sources(&self, alternatives: &[Filter<'_>]) -> Vec<&str> {
        let is_key = |filter: &Filter<'_>| filter.path.is_empty();
        let key = self.key.filter(|_| alternatives.iter().any(is_key));
        let json = alternatives.iter().any(|filter| !is_key(filter));
        key.into_iter()
            .chain(json.then_some(self.json.as_str()))
            .collect()
    }
}

/// Appends ` AND (…)` for each list of alternatives.
pub(crate) fn hold<'a, 'f>(
    mut sql: Sql<'a>,
    filters: impl IntoIterator<Item = &'f Vec<Filter<'a>>>,
    place: &Place,
) -> Sql<'a>
where
    'a: 'f,
{
    for alternatives in filters {
        let parts = parts(alternatives, place.postgres);
        sql = sql.raw(" AND (");
        if let Some(parts) = &parts {
            sql = sql.raw("CASE WHEN 1 = 0");
            let find = if place.postgres { "strpos" } else { "instr" };
            for source in place.sources(alternatives) {
                for part in parts {
                    sql = sql.raw(&format!(" OR {find}({source}, "));
                    sql = sql.text(*part).raw(") > 0");
                }
            }
            sql = sql.raw(" THEN ");
        }
        sql = sql.raw("(1 = 0");
        for filter in alternatives {
            // The JSON path of SQLite has no escape for these.
            if filter.path.iter().any(|name| name.contains(['"', '\\'])) {
                continue;
            }
            sql = match (filter.path.is_empty(), place.key) {
                (true, Some(key)) => of_key(sql, filter, key),
                (true, None) => sql,
                (false, _) => one(sql.raw(" OR "), filter, place),
            };
        }
        sql = sql.raw(if parts.is_some() {
            ") ELSE 1 = 0 END)"
        } else {
            "))"
        });
    }
    sql
}

/// A condition on the value of a key, which is a text.
fn of_key<'a>(sql: Sql<'a>, filter: &Filter<'a>, key: &str) -> Sql<'a> {
    match filter.test {
        Test::Is(_) | Test::Fits(_) => compared(sql.raw(&format!(" OR {key}")), &filter.test),
        Test::Has(_) | Test::Flag(_) => sql,
    }
}

/// Texts of which a body contains one wherever one of the alternatives holds, each once; `None` when
/// that cannot be told.
///
/// Finding a text in a body takes a hundredth of the time of parsing the body, and in long lists almost
/// no body has it.
fn parts<'a>(alternatives: &[Filter<'a>], postgres: bool) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    for filter in alternatives {
        let part = match filter.test {
            Test::Is(value) | Test::Has(value) => value,
            // Case does not count for SQLite.
            Test::Fits(pattern) if postgres => {
                let pieces = pattern.split('*');
                pieces.max_by_key(|piece| piece.len()).unwrap_or_default()
            }
            Test::Fits(_) | Test::Flag(_) => return None,
        };
        // JSON writes these in other ways.
        let is_written_so = |it: char| !it.is_control() && it != '"' && it != '\\';
        if part.is_empty() || !part.chars().all(is_written_so) {
            return None;
        }
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    Some(parts)
}

fn one<'a>(sql: Sql<'a>, filter: &Filter<'a>, place: &Place) -> Sql<'a> {
    let json = &place.json;
    let path = path(filter, place);
    if let Test::Has(value) = filter.test {
        return has(sql, value, path, place);
    }
    let sql = if place.postgres {
        sql.raw(&format!("(({json})::jsonb #>> CAST("))
            .text(path)
            .raw(" AS text[]))")
    } else {
        sql.raw(&format!("json_extract({json}, "))
            .text(path)
            .raw(")")
    };
    match filter.test {
        Test::Flag(true) if place.postgres => sql.raw(" = 'true'"),
        Test::Flag(false) if place.postgres => sql.raw(" = 'false'"),
        Test::Flag(wanted) => sql.raw(" = ").int(i64::from(wanted)),
        Test::Is(_) | Test::Fits(_) | Test::Has(_) => compared(sql, &filter.test),
    }
}

/// Appends how a text is compared.
fn compared<'a>(sql: Sql<'a>, test: &Test<'a>) -> Sql<'a> {
    match *test {
        Test::Is(value) => sql.raw(" = ").text(value),
        Test::Fits(pattern) => sql.raw(" LIKE ").text(like(pattern)).raw(" ESCAPE '\\'"),
        Test::Has(_) | Test::Flag(_) => sql,
    }
}

fn has<'a>(sql: Sql<'a>, value: &'a str, path: String, place: &Place) -> Sql<'a> {
    let json = &place.json;
    if place.postgres {
        // The function behind an operator whose name our placeholders use.
        return sql
            .raw(&format!("jsonb_exists(({json})::jsonb #> CAST("))
            .text(path)
            .raw(" AS text[]), ")
            .text(value)
            .raw(")");
    }
    sql.raw(&format!("EXISTS (SELECT 1 FROM json_each({json}, "))
        .text(path)
        .raw(") e WHERE e.value = ")
        .text(value)
        .raw(")")
}

/// The place of a value: an array of names on PostgreSQL, a JSON path on SQLite.
fn path(filter: &Filter<'_>, place: &Place) -> String {
    let names = filter.path.iter().skip(place.inside);
    let quoted: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    if place.postgres {
        format!("{{{}}}", quoted.join(","))
    } else {
        quoted
            .iter()
            .fold("$".to_owned(), |path, name| path + "." + name)
    }
}

/// A LIKE pattern in which `*` stands for any text.
fn like(pattern: &str) -> String {
    let mut like = String::new();
    let mut wildcards = 0;
    for character in pattern.chars() {
        match character {
            '*' if like.ends_with('%') && !like.ends_with("\\%") => {}
            '*' if wildcards < WILDCARDS_MAX => {
                wildcards += 1;
                like.push('%');
            }
            '%' | '_' | '\\' => {
                like.push('\\');
                like.push(character);
            }
            other => like.push(other),
        }
    }
    like
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_parsed_only_when_it_has_the_text() {
        let filter = |test| Filter {
            path: vec!["a"],
            test,
        };
        let of = |tests: &[Test<'static>]| {
            let filters: Vec<_> = tests.iter().cloned().map(filter).collect();
            parts(&filters, true)
        };
        assert_eq!(of(&[Test::Fits("a*longest*b")]), Some(vec!["longest"]));
        let same = [Test::Is("x"), Test::Fits("x*"), Test::Has("y")];
        assert_eq!(of(&same), Some(vec!["x", "y"]));
        for test in [
            Test::Flag(true),
            Test::Fits("*"),
            Test::Is("a\"b"),
            Test::Is("\n"),
        ] {
            assert_eq!(of(&[Test::Is("x"), test]), None);
        }
        assert_eq!(parts(&[filter(Test::Fits("x"))], false), None);
    }

    #[test]
    fn only_a_star_is_a_wildcard() {
        assert_eq!(like("a*b%_\\"), "a%b\\%\\_\\\\");
        assert_eq!(like("a**b%*"), "a%b\\%%");
        assert_eq!(like(&"*a".repeat(10)), "%a%a%a%a%a%a%a%a*a*a");
    }
}
