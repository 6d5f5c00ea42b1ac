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
        sql = sql.raw(" AND (1 = 0");
        for filter in alternatives {
            // The JSON path of SQLite has no escape for these.
            if filter.path.iter().any(|name| name.contains(['"', '\\'])) {
                continue;
            }
            sql = one(sql.raw(" OR "), filter, alias, postgres);
        }
        sql = sql.raw(")");
    }
    sql
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
    fn only_a_star_is_a_wildcard() {
        assert_eq!(like("a*b%_\\"), "a%b\\%\\_\\\\");
        assert_eq!(like("a**b%*"), "a%b\\%%");
        assert_eq!(like(&"*a".repeat(10)), "%a%a%a%a%a%a%a%a*a*a");
    }
}
