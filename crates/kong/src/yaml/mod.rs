//! YAML as configuration files use it, to and from JSON values (YAML 1.2, with the booleans of Kong).

mod read;
mod write;

pub use read::{Error, read};
pub use write::write;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            any::<String>(),
            "[ -~]{0,12}",
            "(yes|no|On|null|~|1e5|0x1f|1_000|12:30|-|\\?|- a|a: b|#x|\\|| x|x |---|\\.\\.\\.|<<)"
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in values()) {
            let text = write(&value);
            prop_assert_eq!(read(&text).unwrap_or_else(|error| panic!("{error}\n{text}")), value);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _either = read(&text);
        }

        #[test]
        fn any_yaml_like_text_is_read_or_refused(text in "[-a:&*!?|>\\[\\]{},#'\"% \\n<\\t]{0,60}") {
            let _either = read(&text);
        }
    }
}
