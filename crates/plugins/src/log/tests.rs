use ::http::Request;
use o28m_net::Body;
use serde_json::json;

use super::*;
use crate::testing::exchange;

#[test]
fn custom_fields_change_entries() {
    let request = Request::get("/a?q=1").header("x-a", "v").body(Body::Empty);
    let exchange = exchange(request.unwrap());
    let customs = |fields: &[(&str, &str)]| {
        let owned = |(name, code): &(&str, &str)| ((*name).to_owned(), (*code).to_owned());
        Customs::new(&fields.iter().map(owned).collect())
    };
    let customs_of = customs(&[
        ("a", "return nil"),
        ("b.c", "return nil"),
        ("b.d", "return \"x\""),
        ("e\\.f", "return 1"),
        ("g.h.i", "return kong.request.get_header(\"X-A\")"),
        ("j", "return query_params.q .. '!'"),
        ("k", "return kong.request.get_header('x-none')"),
        ("l", "return true ;"),
        ("m.n", "return nil"),
    ]);
    let mut entry = json!({"a": 1, "b": {"c": 2}, "k": 3});
    customs_of.unwrap().apply(&exchange, &mut entry);
    let wanted = json!({
        "b": {"d": "x"}, "e.f": 1, "g": {"h": {"i": "v"}}, "j": "1!", "l": true,
    });
    assert_eq!(entry, wanted);
    for bad in [
        "return os.execute('x')",
        "return kong.request.get_body()",
        "local a = 1 return a",
        "returnnil",
        "return 1 return 2",
        "return",
        "return a) .. (b",
        "kong.log('x')",
    ] {
        assert!(customs(&[("a", bad)]).is_err(), "{bad}");
    }
}
