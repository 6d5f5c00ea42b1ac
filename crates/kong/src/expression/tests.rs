use proptest::prelude::*;

use super::{Expression, Field, Invalid, Network, Operator, Predicate, Value};

fn read(text: &str) -> Expression {
    Expression::parse(text).unwrap()
}

fn shape(text: &str) -> String {
    fn show(expression: &Expression) -> String {
        let list = |parts: &[Expression]| parts.iter().map(show).collect::<Vec<_>>().join(" ");
        match expression {
            Expression::All(parts) => format!("(all {})", list(parts)),
            Expression::Any(parts) => format!("(any {})", list(parts)),
            Expression::Not(inner) => format!("(not {})", show(inner)),
            Expression::Predicate(predicate) => predicate.field.clone(),
        }
    }
    show(&read(text))
}

#[test]
fn or_binds_tighter_than_and() {
    assert_eq!(shape("a==1 && b==1 || c==1"), "(all a (any b c))");
    assert_eq!(shape("a==1 || b==1 && c==1"), "(all (any a b) c)");
    assert_eq!(shape("(a==1 && b==1) || c==1"), "(any (all a b) c)");
    assert_eq!(
        shape("!(a==1) && ! (b==1 || c==1)"),
        "(all (not a) (not (any b c)))"
    );
}

#[test]
fn literals_of_every_type() {
    let value = |text: &str| match read(&format!("f == {text}")) {
        Expression::Predicate(predicate) => predicate.value,
        other => panic!("{other}"),
    };
    let text = |it: &str| Value::Text(it.to_owned());
    assert_eq!(value(r#""a\"\\\n\r\tb""#), text("a\"\\\n\r\tb"));
    assert_eq!(value("r#\"a\\\"b\"#"), text("a\\\"b"));
    for (written, number) in [
        ("0", 0),
        ("10", 10),
        ("0x1F", 31),
        ("017", 15),
        ("08", 8),
        ("-0x10", -16),
    ] {
        assert_eq!(value(written), Value::Integer(number), "{written}");
    }
    assert_eq!(value("10.0.0.1"), Value::Address([10, 0, 0, 1].into()));
    assert_eq!(value("::1"), Value::Address("::1".parse().unwrap()));
    let network = Network {
        address: [10, 0, 0, 0].into(),
        bits: 8,
    };
    assert_eq!(value("10.0.0.0/8"), Value::Network(network));
    assert!(network.contains([10, 9, 8, 7].into()));
    assert!(!network.contains([11, 0, 0, 0].into()));
    let everything = Network {
        address: [0, 0, 0, 0].into(),
        bits: 0,
    };
    assert!(everything.contains([255, 0, 0, 1].into()));
    assert!(!everything.contains("::1".parse().unwrap()));
}

#[test]
fn operators_and_functions() {
    for (text, operator) in [
        ("==", Operator::Equals),
        ("!=", Operator::Differs),
        ("^=", Operator::Prefix),
        ("=^", Operator::Suffix),
        (">", Operator::Greater),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        ("<=", Operator::LessOrEqual),
        ("in", Operator::In),
        ("not in", Operator::NotIn),
        ("contains", Operator::Contains),
    ] {
        let Expression::Predicate(predicate) = read(&format!("any( lower(f) ) {text} 1")) else {
            panic!("{text}");
        };
        assert_eq!(
            (predicate.operator, predicate.any, predicate.lower),
            (operator, true, true)
        );
    }
}

#[test]
fn what_is_no_expression_is_refused_where_it_goes_wrong() {
    assert_eq!(
        Expression::parse("a == 1 || ! b == 2")
            .unwrap_err()
            .to_string(),
        " --> 1:11\n  |\n1 | a == 1 || ! b == 2\n  |           ^---\n  |\n  = expected term"
    );
    for bad in [
        "",
        "a",
        "a ==",
        "a == ",
        "a == 1 &&",
        "(a == 1",
        "a == 1)",
        "a = 1",
        "1 == a",
        "a == 'x'",
        "f(a) == 1",
        "a == \"x",
        "a == \"\\x\"",
        "a == r#\"x\"",
        "a == 1.2.3",
        "a == 256.0.0.1",
        "a in 10.0.0.1/8",
        "a in 10.0.0.0/33",
        "a in ::/129",
        "a == 99999999999999999999",
        "a ~ \"(\"",
        "a ~ 1",
        "a ~ \"(?=x)\"",
        "!a == 1",
        "a == 018",
        "a not 1",
    ] {
        assert!(Expression::parse(bad).is_err(), "{bad}");
    }
    let deep = |levels: usize| format!("{}a == 1{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Expression::parse(&deep(64)).is_ok());
    assert!(Expression::parse(&deep(100_000)).is_err());
    let long = |count: usize| vec!["a == 1"; count].join(" || ");
    assert!(Expression::parse(&long(4096)).is_ok());
    assert!(Expression::parse(&long(4097)).is_err());
    let functions = format!("{}a{} == 1", "any(".repeat(100_000), ")".repeat(100_000));
    assert!(Expression::parse(&functions).is_err());
}

#[test]
fn fields_have_types() {
    let check = |text: &str| read(text).check(false);
    for good in [
        r#"http.path.segments.0 == "a""#,
        r#"http.path.segments.1_3 ^= "a""#,
        "http.path.segments.len > 1",
        r#"any(lower(http.headers.x_tier)) ~ "^g""#,
        r#"http.queries.a =^ "a""#,
        "net.src.ip in 10.0.0.0/8",
        "net.dst.ip not in ::/0",
        "net.port == 80",
        r#"net.protocol != "http""#,
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for (bad, why) in [
        (r#"http.x == "a""#, Invalid::UnknownField),
        (r#"http.headers.a.b == "a""#, Invalid::UnknownField),
        ("http.path == 1", Invalid::TypeMismatch),
        ("net.src.ip == 10.0.0.0/8", Invalid::TypeMismatch),
        ("lower(net.src.port) == 1", Invalid::LowerOfNoText),
        (r#"net.src.port ~ "1""#, Invalid::RegexOnNoText),
        ("net.src.port ^= 1", Invalid::AffixOnNoText),
        (r#"http.path > "a""#, Invalid::OrderOnNoInteger),
        ("net.src.ip in 10.0.0.1", Invalid::InNoNetwork),
        (r#"http.path in "a""#, Invalid::InNoNetwork),
        ("net.src.port contains 1", Invalid::ContainsOnNoText),
        (r#"http.path.segments.4_1 == "a""#, Invalid::BadSegments),
        (r#"http.path.segments.01 == "a""#, Invalid::BadSegments),
        (r#"http.path.segments.x == "a""#, Invalid::BadSegments),
    ] {
        assert_eq!(check(bad), Err(why), "{bad}");
    }
    assert_eq!(
        read(r#"http.path == "a""#).check(true),
        Err(Invalid::UnknownField)
    );
    assert_eq!(read(r#"tls.sni == "a""#).check(true), Ok(()));
    assert_eq!(
        Field::named("http.headers.X_Tier"),
        Some(Field::Header("x-tier".to_owned()))
    );
}

fn values() -> impl Strategy<Value = Value> {
    let networks = (any::<[u8; 4]>(), 0_u8..=32).prop_map(|(address, bits)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        let address = std::net::Ipv4Addr::from_bits(u32::from_be_bytes(address) & mask);
        Value::Network(Network {
            address: address.into(),
            bits,
        })
    });
    prop_oneof![
        any::<String>().prop_map(Value::Text),
        any::<i64>()
            .prop_filter("printed without its sign first", |it| *it != i64::MIN)
            .prop_map(Value::Integer),
        any::<[u8; 4]>().prop_map(|it| Value::Address(it.into())),
        any::<[u16; 8]>().prop_map(|it| Value::Address(it.into())),
        networks,
    ]
}

fn expressions() -> impl Strategy<Value = Expression> {
    let operator = prop::sample::select(
        &[
            Operator::Equals,
            Operator::In,
            Operator::NotIn,
            Operator::Contains,
        ][..],
    );
    let leaf = (
        "[a-z][a-z0-9_.]{0,6}",
        any::<bool>(),
        any::<bool>(),
        operator,
        values(),
    )
        .prop_map(|(field, lower, any, operator, value)| {
            Expression::Predicate(Predicate {
                field,
                lower,
                any,
                operator,
                value,
            })
        });
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Any),
            inner.prop_map(|it| Expression::Not(Box::new(it))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_what_was_printed(expression in expressions()) {
        let text = expression.to_string();
        prop_assert_eq!(Expression::parse(&text).unwrap(), expression, "{}", text);
    }
}
