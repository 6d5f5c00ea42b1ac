use http::header::{HeaderMap, HeaderName, HeaderValue};
use o28m_core::{Ambient, Rng, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config;

/// Sends headers through: what an upstream gets that answers to a span with the id 2 of 1.
fn through(header_type: &str, propagation: serde_json::Value, lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::try_from(*name).unwrap();
        headers.append(name, HeaderValue::try_from(*value).unwrap());
    }
    let record: PropagationConfig = config::read(&propagation).unwrap();
    let propagation = Propagation::new(record, header_type, None).unwrap();
    let incoming = propagation.extract(&headers);
    let known = incoming.as_ref();
    let outgoing = Outgoing {
        trace_id: known.and_then(|it| it.trace_id).unwrap_or(0xabc),
        trace_bytes: known.map_or(0, |it| it.trace_bytes),
        span_id: 2,
        parent_id: Some(known.and_then(|it| it.span_id).unwrap_or(1)),
        sampled: known.and_then(|it| it.sampled).unwrap_or(true),
    };
    propagation.inject(&outgoing, known, &mut headers);
    headers
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const LOW: &str = "64fe8b2a57d3eff7";
const SPAN: &str = "05e3ac9a4f6e3b90";
const TWO: &str = "0000000000000002";
const ONE: &str = "0000000000000001";

#[test]
fn what_comes_in_one_format_goes_on_in_it() {
    for (lines, wanted) in [
        (
            vec![("b3", format!("{TRACE}-{SPAN}-1"))],
            vec![format!("b3: {TRACE}-{TWO}-1-{SPAN}")],
        ),
        (
            vec![("b3", format!("{LOW}-{SPAN}-d-{ONE}"))],
            vec![format!("b3: {LOW}-{TWO}-d-{SPAN}")],
        ),
        (
            vec![("tracestate", format!("b3={TRACE}-{SPAN}-0"))],
            vec![
                format!("b3: {TRACE}-{TWO}-0-{SPAN}"),
                format!("tracestate: b3={TRACE}-{SPAN}-0"),
            ],
        ),
        (
            vec![
                ("x-b3-traceid", LOW.to_owned()),
                ("x-b3-spanid", SPAN.to_owned()),
                ("x-b3-sampled", "false".to_owned()),
            ],
            vec![
                format!("x-b3-parentspanid: {SPAN}"),
                "x-b3-sampled: 0".to_owned(),
                format!("x-b3-spanid: {TWO}"),
                format!("x-b3-traceid: {LOW}"),
            ],
        ),
        (
            vec![
                ("x-b3-traceid", TRACE.to_owned()),
                ("x-b3-spanid", SPAN.to_owned()),
                ("x-b3-flags", "1".to_owned()),
            ],
            vec![
                "x-b3-flags: 1".to_owned(),
                format!("x-b3-parentspanid: {SPAN}"),
                format!("x-b3-spanid: {TWO}"),
                format!("x-b3-traceid: {TRACE}"),
            ],
        ),
        (
            vec![
                ("traceparent", format!("00-{TRACE}-{SPAN}-00")),
                ("tracestate", "vendor=1".to_owned()),
            ],
            vec![
                format!("traceparent: 00-{TRACE}-{TWO}-00"),
                "tracestate: vendor=1".to_owned(),
            ],
        ),
        (
            vec![
                ("uber-trace-id", format!("{TRACE}:{SPAN}:0:1")),
                ("uberctx-a", "b%20c".to_owned()),
            ],
            vec![
                format!("uber-trace-id: {TRACE}:{TWO}:{SPAN}:01"),
                "uberctx-a: b%20c".to_owned(),
            ],
        ),
        (
            vec![
                ("ot-tracer-traceid", LOW.to_owned()),
                ("ot-tracer-spanid", SPAN.to_owned()),
            ],
            vec![
                "ot-tracer-sampled: 1".to_owned(),
                format!("ot-tracer-spanid: {TWO}"),
                format!("ot-tracer-traceid: {LOW}"),
            ],
        ),
        (
            vec![
                ("x-datadog-trace-id", "18446744073709551615".to_owned()),
                ("x-datadog-parent-id", "7".to_owned()),
                ("x-datadog-sampling-priority", "-1".to_owned()),
            ],
            vec![
                "x-datadog-parent-id: 2".to_owned(),
                "x-datadog-sampling-priority: 0".to_owned(),
                "x-datadog-trace-id: 18446744073709551615".to_owned(),
            ],
        ),
        (
            vec![(
                "x-amzn-trace-id",
                format!("Root=1-80f198ee-56343ba8{LOW}; Parent={SPAN} ;Sampled=1"),
            )],
            vec![format!(
                "x-amzn-trace-id: Root=1-80f198ee-56343ba8{LOW};Parent={TWO};Sampled=1"
            )],
        ),
        (
            vec![("x-cloud-trace-context", format!("{TRACE}/5;o=1"))],
            vec![format!("x-cloud-trace-context: {TRACE}/2;o=1")],
        ),
    ] {
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, it)| (*name, it.as_str()))
            .collect();
        let headers = through("preserve", json!({}), &lines);
        assert_eq!(shown(&headers), wanted, "{lines:?}");
    }
}

#[test]
fn header_types_choose_what_is_written() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let lines = [("traceparent", w3c.as_str())];
    let own = format!("{:032x}", 0xabc);
    // Another format than the one that came is added to it.
    let headers = through("b3", json!({}), &lines);
    assert_eq!(headers["traceparent"], format!("00-{TRACE}-{TWO}-01"));
    assert_eq!(headers["x-b3-traceid"], TRACE);
    // What came is not looked at.
    let headers = through("ignore", json!({"default_format": "jaeger"}), &lines);
    assert_eq!(headers["traceparent"], w3c);
    assert_eq!(headers["uber-trace-id"], format!("{own}:{TWO}:{ONE}:01"));
    // Nothing came.
    let headers = through("preserve", json!({"default_format": "b3-single"}), &[]);
    assert_eq!(headers["b3"], format!("{own}-{TWO}-1-{ONE}"));
    // The record says more than its default format: the header type does not count.
    let record = json!({"extract": ["w3c"], "inject": ["preserve", "aws"], "clear": ["X-Old"]});
    let headers = through("ignore", record, &[("x-old", "1"), lines[0]]);
    assert!(!headers.contains_key("x-old"));
    assert_eq!(headers["traceparent"], format!("00-{TRACE}-{TWO}-01"));
    assert!(headers.contains_key("x-amzn-trace-id"));
    let headers = through("b3", json!({"extract": []}), &lines);
    assert_eq!(shown(&headers), [format!("traceparent: {w3c}")]);
    // Baggage follows into the other format that has some.
    let jaeger = format!("{TRACE}:{SPAN}:0:1");
    let lines = [("uber-trace-id", jaeger.as_str()), ("uberctx-k", "v")];
    assert_eq!(through("ot", json!({}), &lines)["ot-baggage-k"], "v");
}

#[test]
fn malformed_contexts_are_as_if_they_were_not_there() {
    let own = format!("{:032x}", 0xabc);
    for (name, value) in [
        ("b3", "zz"),
        ("b3", "80f198ee56343ba864fe8b2a57d3eff7-05e3ac9a4f6e3b90-x"),
        (
            "b3",
            "80f198ee56343ba864fe8b2a57d3eff7-05e3ac9a4f6e3b90-1-1",
        ),
        ("x-b3-traceid", "80f198ee56343ba8"),
        ("x-b3-traceid", "00000000000000000000000000000000"),
        (
            "traceparent",
            "01-80f198ee56343ba864fe8b2a57d3eff7-05e3ac9a4f6e3b90-01",
        ),
        (
            "traceparent",
            "00-80f198ee56343ba864fe8b2a57d3eff7-0000000000000000-01",
        ),
        (
            "traceparent",
            "00-80f198ee56343ba864fe8b2a57d3eff7-05e3ac9a4f6e3b90-+1",
        ),
        ("uber-trace-id", "1:2:3"),
        ("uber-trace-id", "+1:2:3:1"),
        ("x-datadog-trace-id", "99999999999999999999999999999"),
        ("x-datadog-sampling-priority", "9"),
        (
            "x-amzn-trace-id",
            "Root=2-80f198ee-56343ba864fe8b2a57d3eff7",
        ),
        (
            "x-cloud-trace-context",
            "80f198ee56343ba864fe8b2a57d3eff7/x",
        ),
        (
            "x-cloud-trace-context",
            "80f198ee56343ba864fe8b2a57d3eff7/1;o=12",
        ),
    ] {
        // Of several headers that are sound only the first has meaning without the second.
        let extra = ("x-b3-spanid", "nonsense");
        let headers = through("w3c", json!({}), &[(name, value), extra]);
        let wanted = format!("00-{own}-{TWO}-01");
        assert_eq!(headers["traceparent"], wanted, "{name}: {value}");
    }
}

#[test]
fn tardis_ids_are_hexadecimal() {
    struct Sevens;
    impl Rng for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }
    impl o28m_core::Clock for Sevens {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(0)
        }
    }
    let ambient = Ambient {
        clock: std::sync::Arc::new(Sevens),
        rng: std::sync::Arc::new(Sevens),
    };
    let tardis = Tardis::new(&ambient);
    let of = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-tardis-traceid", HeaderValue::try_from(value).unwrap());
        let id = tardis.of(&headers);
        (id.text().to_owned(), id.is_ours)
    };
    assert_eq!(of("AbC0"), ("AbC0".to_owned(), false));
    let sevens = "07".repeat(10);
    assert_eq!(of("xyz"), (format!("{sevens}2331"), true));
    assert_eq!(of(""), (format!("{sevens}2332"), true));
    assert_eq!(of(&"a".repeat(257)), (format!("{sevens}2333"), true));
}

/// Texts that look like trace contexts, and others.
fn contexts() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        TRACE,
        SPAN,
        LOW,
        "-",
        ":",
        ";",
        "/",
        "00",
        "01",
        "1",
        "0",
        "d",
        "Root=1-",
        "Parent=",
        "Sampled=",
        "o=",
        "=",
        "b3=",
        "99999999999999999999",
        "-1",
        "+1",
        " ",
        "g",
        "\u{e9}",
        "%3A",
    ]);
    let built = prop::collection::vec(pieces, 0..9).prop_map(|it| it.concat());
    prop_oneof![3 => built, 1 => "[ -~\u{80}-\u{ff}]{0,60}"]
}

proptest! {
    #[test]
    fn no_trace_header_makes_us_panic_or_send_an_invalid_one(
        values in prop::collection::vec(contexts(), 16),
        header_type in prop::sample::select(vec![
            "preserve", "b3", "b3-single", "w3c", "jaeger", "ot", "aws", "datadog", "gcp",
        ]),
        present in prop::collection::vec(any::<bool>(), 16),
    ) {
        const NAMES: [&str; 16] = [
            "b3", "tracestate", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled",
            "x-b3-flags", "traceparent", "uber-trace-id", "ot-tracer-traceid", "ot-tracer-spanid",
            "x-datadog-trace-id", "x-datadog-parent-id", "x-amzn-trace-id",
            "x-cloud-trace-context", "uberctx-x",
        ];
        let mut headers = HeaderMap::new();
        for ((name, value), present) in NAMES.iter().zip(&values).zip(present) {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) && present {
                headers.append(*name, value);
            }
        }
        let before = headers.clone();
        let propagation = Propagation::new(PropagationConfig::default(), header_type, None).unwrap();
        let incoming = propagation.extract(&headers);
        let known = incoming.as_ref();
        let outgoing = Outgoing {
            trace_id: known.and_then(|it| it.trace_id).unwrap_or(1),
            trace_bytes: known.map_or(0, |it| it.trace_bytes),
            span_id: 2,
            parent_id: known.and_then(|it| it.span_id),
            sampled: true,
        };
        propagation.inject(&outgoing, known, &mut headers);
        // What we wrote we can read, and it says the same.
        for (name, value) in &headers {
            let ours = before.get(name) != Some(value) && name != "x-b3-flags";
            prop_assert!(!ours || (!value.is_empty() && value.to_str().is_ok()), "{name}");
        }
        let again = propagation.extract(&headers).unwrap();
        let low = |id: u128| id & u128::from(u64::MAX);
        prop_assert_eq!(again.trace_id.map(low), Some(low(outgoing.trace_id)));
    }
}
