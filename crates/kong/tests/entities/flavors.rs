//! Fields of routes that depend on the flavour of the router.

use o28m_kong::{Context, Document, Entity, RouterFlavor, Violations, entities_of};
use serde_json::{Value, json};

use super::{ambient, document, enabled};

fn routes(flavor: RouterFlavor) -> &'static Entity {
    entities_of(flavor)
        .iter()
        .find(|it| it.name == "routes")
        .unwrap()
}

fn insert(flavor: RouterFlavor, body: Value) -> Result<Document, Violations> {
    let (ambient, enabled_plugins) = (ambient(), enabled());
    let context = Context {
        ambient: &ambient,
        enabled_plugins: &enabled_plugins,
    };
    routes(flavor).insert(document(body), &context)
}

#[track_caller]
fn refused(flavor: RouterFlavor, body: Value, message: &str) {
    assert_eq!(insert(flavor, body).unwrap_err().message(), message);
}

#[test]
fn only_one_flavour_knows_expressions() {
    let body = json!({"expression": "http.path == \"/\"", "priority": 3});
    for flavor in [
        RouterFlavor::TraditionalCompatible,
        RouterFlavor::Traditional,
    ] {
        let message = insert(flavor, body.clone()).unwrap_err().message();
        assert!(message.contains("expression: unknown field"), "{message}");
        assert!(message.contains("priority: unknown field"), "{message}");
        let route = insert(flavor, json!({"paths": ["/a"]})).unwrap();
        assert!(!route.contains_key("priority") && !route.contains_key("expression"));
    }
    let route = insert(RouterFlavor::Expressions, body).unwrap();
    assert_eq!(
        (&route["expression"], &route["priority"]),
        (&json!("http.path == \"/\""), &json!(3))
    );
    let classic = insert(RouterFlavor::Expressions, json!({"paths": ["/a"]})).unwrap();
    assert_eq!(
        (&classic["expression"], &classic["priority"]),
        (&Value::Null, &json!(0))
    );
}

#[test]
fn an_expression_excludes_what_it_stands_for() {
    let flavor = RouterFlavor::Expressions;
    let with = |extra: Value| {
        let mut body = json!({"expression": "http.path == \"/\""});
        body.as_object_mut().unwrap().extend(document(extra));
        body
    };
    refused(
        flavor,
        with(json!({"paths": ["/a"]})),
        "schema violation (Router Expression failed validation: cannot set 'expression' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' simultaneously)",
    );
    refused(
        flavor,
        with(json!({"regex_priority": 1})),
        "schema violation (Router Expression failed validation: cannot set 'regex_priority' with 'expression' simultaneously)",
    );
    refused(
        flavor,
        json!({"paths": ["/a"], "priority": 1}),
        "schema violation (Router Expression failed validation: cannot set 'priority' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or 'destinations' simultaneously)",
    );
    refused(
        flavor,
        json!({}),
        "schema violation (must set one of 'methods', 'hosts', 'headers', 'paths', 'snis', 'expression' when 'protocols' is 'https')",
    );
    refused(
        flavor,
        with(json!({"priority": 70_368_744_177_664_i64})),
        "schema violation (priority: value should be between 0 and 70368744177663)",
    );
}

#[test]
fn an_expression_must_be_one() {
    for (text, problem) in [
        ("http.nothing == 1", "Unknown LHS field"),
        (
            "http.path == 1",
            "Type mismatch between the LHS and RHS values of predicate",
        ),
        (
            "http.path.segments.4_1 == \"a\"",
            "illformed http.path.segments.* field",
        ),
        (
            "http.path",
            " --> 1:10\n  |\n1 | http.path\n  |          ^---\n  |\n  = expected binary_operator",
        ),
    ] {
        refused(
            RouterFlavor::Expressions,
            json!({"expression": text}),
            &format!("schema violation (Router Expression failed validation: {problem})"),
        );
    }
}

#[test]
fn connections_are_conditions_of_http_routes_beside_expressions_only() {
    let body = json!({"paths": ["/a"], "sources": [{"ip": "10.0.0.0/8"}]});
    assert!(insert(RouterFlavor::Expressions, body.clone()).is_ok());
    refused(
        RouterFlavor::TraditionalCompatible,
        body,
        "schema violation (sources: cannot set 'sources' when 'protocols' is 'http' or 'https')",
    );
}

#[test]
fn the_flavour_traditional_knows_no_wildcard_server_names() {
    let body = json!({"snis": ["*.example.com"], "protocols": ["https"]});
    assert!(insert(RouterFlavor::TraditionalCompatible, body.clone()).is_ok());
    assert!(insert(RouterFlavor::Traditional, body).is_err());
}

/// Kong takes `path_handling` everywhere, whether it has an effect or not.
#[test]
fn paths_may_be_handled_as_before_in_every_flavour() {
    for flavor in RouterFlavor::ALL {
        let route = insert(flavor, json!({"paths": ["/a"], "path_handling": "v1"})).unwrap();
        assert_eq!(route["path_handling"], "v1");
    }
}
