//! Declarations in the form of Kong's schema endpoints.

use serde_json::{Value, json};

use crate::entity::Document;
use crate::schema::{Alias, Auto, Check, EntityCheck, Field, Kind, When};

/// Fields in declared order and the checks over several of them.
pub(crate) fn schema(fields: &[Field], checks: &[EntityCheck]) -> Value {
    let checks: Vec<Value> = checks.iter().filter_map(entity_check).collect();
    json!({"fields": list(fields), "entity_checks": checks})
}

fn list(fields: &[Field]) -> Vec<Value> {
    fields
        .iter()
        .map(|declared| json!({declared.name: field(declared)}))
        .collect()
}

fn field(field: &Field) -> Document {
    let mut shown = Document::new();
    let mut show = |name: &str, value: Value| {
        shown.insert(name.to_owned(), value);
    };
    show("type", json!(field.kind.name()));
    match field.kind {
        Kind::Array(element) | Kind::Set(element) => {
            show("elements", Value::Object(self::field(element)));
        }
        Kind::Map { keys, values } => {
            show("keys", Value::Object(self::field(keys)));
            show("values", Value::Object(self::field(values)));
        }
        Kind::Record(fields) => {
            show("fields", Value::Array(list(fields)));
            let checks: Vec<Value> = field
                .record_checks
                .iter()
                .filter_map(entity_check)
                .collect();
            if !checks.is_empty() {
                show("entity_checks", Value::Array(checks));
            }
            if !field.aliases.is_empty() {
                let aliases = field.aliases.iter().map(|it| alias(fields, *it));
                show("shorthand_fields", aliases.collect());
            }
        }
        Kind::Foreign(foreign) => show("reference", json!(foreign.entity)),
        Kind::String | Kind::Integer | Kind::Number | Kind::Boolean => {}
    }
    if field.required {
        show("required", json!(true));
    }
    if field.unique {
        show("unique", json!(true));
    }
    if field.referenceable {
        show("referenceable", json!(true));
    }
    if field.auto != Auto::No {
        show("auto", json!(true));
    }
    if let Some(default) = field.default.value() {
        show("default", default);
    }
    for declared in field.checks {
        if let Some((name, value)) = check(declared) {
            show(name, value);
        }
    }
    shown
}

fn alias(fields: &[Field], alias: Alias) -> Value {
    let named = |fields: &[Field], name: &str| {
        let found = fields.iter().find(|field| field.name == name);
        found.map(|field| field.kind)
    };
    let kind = match named(fields, alias.record) {
        Some(Kind::Record(members)) => named(members, alias.member),
        _ if alias.record.is_empty() => named(fields, alias.member),
        _ => None,
    };
    let path = alias.path();
    let advice = format!(
        "config.{} is deprecated, please use config.{} instead",
        alias.name,
        path.join(".")
    );
    let path = json!(path);
    json!({alias.name: {
        "type": kind.map_or("string", Kind::name),
        "translate_backwards": path,
        "deprecation": {
            "replaced_with": [{"path": path}],
            "message": advice,
            "removal_in_version": "4.0",
        },
    }})
}

/// Checks that are code have no form.
fn check(check: &Check) -> Option<(&'static str, Value)> {
    match *check {
        Check::Null(_) => Some(("eq", Value::Null)),
        Check::OneOf(names) => Some(("one_of", json!(names))),
        Check::NotOneOf(names) => Some(("not_one_of", json!(names))),
        Check::OneOfIntegers(numbers) => Some(("one_of", json!(numbers))),
        Check::Between(low, high) => Some(("between", json!([low, high]))),
        Check::Uuid => Some(("uuid", json!(true))),
        Check::Timestamp => Some(("timestamp", json!(true))),
        Check::LengthMin(least) => Some(("len_min", json!(least))),
        Check::LengthIs(exact) => Some(("len_eq", json!(exact))),
        Check::LengthMax(most) => Some(("len_max", json!(most))),
        Check::StartsWith(prefix) => Some(("starts_with", json!(prefix))),
        Check::Exclusive(subsets) => Some(("mutually_exclusive_subsets", json!(subsets))),
        Check::Match(pattern, _) => Some(("match", json!(pattern))),
        Check::NotTrue(_) => Some(("ne", json!(true))),
        Check::GreaterThan(bound) => Some(("gt", json!(bound))),
        Check::Text(_) | Check::Value(_) => None,
    }
}

fn entity_check(declared: &EntityCheck) -> Option<Value> {
    match *declared {
        EntityCheck::AtLeastOneOf(fields) => Some(json!({"at_least_one_of": fields})),
        EntityCheck::ExactlyOneOf(fields) => Some(json!({"only_one_of": fields})),
        EntityCheck::OnlyOneOf(fields) => Some(json!({"mutually_exclusive": fields})),
        EntityCheck::Together(fields) => Some(json!({"mutually_required": fields})),
        EntityCheck::Conditional {
            field,
            when,
            then_field,
            then,
            ..
        } => {
            let when = match when {
                When::Is(names) => json!({"one_of": names}),
                When::IsNot(names) => json!({"not_one_of": names}),
                When::HoldsNone(names) => {
                    json!({"elements": {"type": "string", "not_one_of": names}})
                }
            };
            let then: Document = then
                .iter()
                .filter_map(check)
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            Some(json!({"conditional": {
                "if_field": field, "if_match": when, "then_field": then_field, "then_match": then,
            }}))
        }
        EntityCheck::OneOfPerMember { .. } | EntityCheck::Timed(..) | EntityCheck::Custom(..) => {
            None
        }
    }
}
