//! Conditions on JSON bodies, in the words of each database.

use crate::sql::Sql;
use crate::{Filter, Test};

/// Wildcards of one pattern; each one more multiplies the ways to compare.
const WILDCARDS_MAX: usize = 8;

/// Appends ` AND (…)` for each list of alternatives on the bodies of `alias`.
pub(crate) fn hold<'a>(
    mut sql: Sql<'a>,
    filters: &[Vec<Filter<'a>>],
    alias: &str,
    postgres: bool,
) -> Sql<'a> {
    for alternatives in filters {
        let parts = parts(alternatives, postgres);
        sql = sql.raw(" AND (");
        if let Some(parts) = &parts {
            sql = sql.raw("CASE WHEN 1 = 0");
            let find = if postgres { "strpos" } else { "instr" };
            for part in parts {
                sql = sql.raw(&format!(" OR {find}({alias}.body, "));
                sql = sql.text(*part).raw(") > 0");
            }
            sql = sql.raw(" THEN ");
        }
        sql = sql.raw("(1 = 0");
        for filter in alternatives {
            // The JSON path of SQLite has no escape for these.
            if filter.path.iter().any(|name| name.contains(['"', '\\'])) {
                continue;
            }
            sql = one(sql.raw(" OR "), filter, alias, postgres);
        }
        sql = sql.raw(if parts.is_some() {
            ") ELSE 1 = 0 END)"
        } else {
            "))"
        });
    }
    sql
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

fn one<'a>(sql: Sql<'a>, filter: &Filter<'a>, alias: &str, postgres: bool) -> Sql<'a> {
    if let Test::Has(value) = filter.test {
        return has(sql, filter, value, alias, postgres);
    }
    let sql = if postgres {
        sql.raw(&format!("({alias}.body::jsonb #>> CAST("))
            .text(path(filter, postgres))
            .raw(" AS text[]))")
    } else {
        sql.raw(&format!("json_extract({alias}.body, "))
            .text(path(filter, postgres))
            .raw(")")
    };
    match filter.test {
        Test::Is(value) => sql.raw(" = ").text(value),
        Test::Fits(pattern) => sql.raw(" LIKE ").text(like(pattern)).raw(" ESCAPE '\\'"),
        Test::Flag(true) if postgres => sql.raw(" = 'true'"),
        Test::Flag(false) if postgres => sql.raw(" = 'false'"),
        Test::Flag(wanted) => sql.raw(" = ").int(i64::from(wanted)),
        Test::Has(_) => sql,
    }
}

fn has<'a>(
    sql: Sql<'a>,
    filter: &Filter<'a>,
    value: &'a str,
    alias: &str,
    postgres: bool,
) -> Sql<'a> {
    if postgres {
        // The function behind an operator whose name our placeholders use.
        return sql
            .raw(&format!("jsonb_exists({alias}.body::jsonb #> CAST("))
            .text(path(filter, postgres))
            .raw(" AS text[]), ")
            .text(value)
            .raw(")");
    }
    sql.raw(&format!("EXISTS (SELECT 1 FROM json_each({alias}.body, "))
        .text(path(filter, postgres))
        .raw(") e WHERE e.value = ")
        .text(value)
        .raw(")")
}

/// The place of a value: an array of names on PostgreSQL, a JSON path on SQLite.
fn path(filter: &Filter<'_>, postgres: bool) -> String {
    let quoted = filter.path.iter().map(|name| format!("\"{name}\""));
    let quoted: Vec<String> = quoted.collect();
    if postgres {
        format!("{{{}}}", quoted.join(","))
    } else {
        format!("$.{}", quoted.join("."))
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
