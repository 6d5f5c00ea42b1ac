//! Declared shapes of representations, read strictly: unknown fields, wrong types and repeated fields
//! are errors with their position, as Keycloak's own tools expect.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// Text.
    Text,
    /// True or false.
    Bool,
    /// An integer of 32 bits.
    Int,
    /// An integer of 64 bits.
    Long,
    /// A list of texts.
    Texts,
    /// Texts by name; numbers and truth values become texts, null stays to mean removal.
    TextMap,
    /// Lists of texts by name.
    TextsMap,
    /// An object of any content.
    Object,
    /// A list of anything.
    List,
    /// Any JSON value.
    Any,
    /// A list of representations.
    Nested(&'static Schema),
    /// One representation.
    One(&'static Schema),
}

/// A representation: its name in errors and its fields in output order.
#[derive(Debug)]
pub struct Schema {
    /// Name in error texts, such as `RealmRepresentation`.
    pub name: &'static str,
    /// The fields.
    pub fields: &'static [(&'static str, Type)],
}

/// Why a body is not the representation asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The body is not JSON.
    #[error("body is not JSON")]
    Syntax,
    /// A field, or the whole, has another type.
    #[error("{representation} has a value of the wrong type")]
    WrongType {
        /// The representation.
        representation: &'static str,
    },
    /// The representation has no such field.
    #[error("{representation} has no field {field:?} (line {line}, column {column})")]
    UnknownField {
        /// The representation.
        representation: &'static str,
        /// The field.
        field: String,
        /// Line of the body, from 1.
        line: usize,
        /// Column of the line, from 1.
        column: usize,
    },
}

impl Schema {
    /// Reads one representation from JSON text.
    ///
    /// # Errors
    /// [`Problem`].
    pub fn parse(&'static self, body: &[u8]) -> Result<Map<String, Value>, Problem> {
        let found = RefCell::new(None);
        let mut input = serde_json::Deserializer::from_slice(body);
        let seed = Typed {
            of: Type::One(self),
            within: self.name,
            found: &found,
        };
        let read = seed
            .deserialize(&mut input)
            .and_then(|value| input.end().map(|()| value));
        read.map(into_map)
            .map_err(|error| problem(&found, &error, self.name))
    }

    /// Reads a list of representations from JSON text.
    ///
    /// # Errors
    /// [`Problem`].
    pub fn parse_list(&'static self, body: &[u8]) -> Result<Vec<Map<String, Value>>, Problem> {
        let found = RefCell::new(None);
        let mut input = serde_json::Deserializer::from_slice(body);
        let seed = Typed {
            of: Type::Nested(self),
            within: self.name,
            found: &found,
        };
        let read = seed
            .deserialize(&mut input)
            .and_then(|value| input.end().map(|()| value));
        match read.map_err(|error| problem(&found, &error, self.name))? {
            Value::Array(items) => Ok(items.into_iter().map(into_map).collect()),
            _ => Err(Problem::WrongType {
                representation: self.name,
            }),
        }
    }

    /// Checks a representation that is in memory already.
    ///
    /// # Errors
    /// [`Problem`].
    pub fn check(&'static self, value: &Value) -> Result<Map<String, Value>, Problem> {
        self.parse(value.to_string().as_bytes())
    }

    /// The fields of `map` in this schema's order; others, which cannot have been read, are dropped.
    #[must_use]
    pub fn arrange(&self, mut map: Map<String, Value>) -> Map<String, Value> {
        let fields = self.fields.iter();
        fields
            .filter_map(|(name, _)| Some(((*name).to_owned(), map.remove(*name)?)))
            .collect()
    }
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn problem(
    found: &RefCell<Option<Problem>>,
    error: &serde_json::Error,
    representation: &'static str,
) -> Problem {
    match found.take() {
        Some(Problem::UnknownField {
            representation,
            field,
            ..
        }) => Problem::UnknownField {
            representation,
            field,
            line: error.line(),
            column: error.column(),
        },
        Some(problem) => problem,
        None if error.is_data() => Problem::WrongType { representation },
        None => Problem::Syntax,
    }
}

struct Typed<'found> {
    of: Type,
    within: &'static str,
    found: &'found RefCell<Option<Problem>>,
}

impl Typed<'_> {
    fn wrong_type<E: serde::de::Error>(&self) -> E {
        let representation = self.within;
        self.found
            .replace(Some(Problem::WrongType { representation }));
        E::custom("wrong type")
    }
}

impl<'de> DeserializeSeed<'de> for Typed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        match self.of {
            Type::One(schema) => input.deserialize_any(Fields {
                schema,
                found: self.found,
            }),
            Type::Nested(schema) => input.deserialize_any(Items {
                schema,
                found: self.found,
            }),
            simple => {
                let value = Value::deserialize(input)?;
                if value.is_null() {
                    return Ok(Value::Null);
                }
                match convert(simple, value) {
                    Some(value) if !has_nul(&value) => Ok(value),
                    _ => Err(self.wrong_type()),
                }
            }
        }
    }
}

/// The value as the type wants it; `None` when it does not fit.
fn convert(of: Type, value: Value) -> Option<Value> {
    let fits = match of {
        Type::Text => value.is_string(),
        Type::Bool => value.is_boolean(),
        Type::Int => value
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_ok()),
        Type::Long => value.as_i64().is_some(),
        Type::Texts => is_texts(&value),
        Type::TextsMap => value
            .as_object()
            .is_some_and(|map| map.values().all(is_texts)),
        Type::TextMap => return texts_by_name(value),
        Type::Object => value.is_object(),
        Type::List => value.is_array(),
        Type::Any | Type::Nested(_) | Type::One(_) => true,
    };
    fits.then_some(value)
}

fn is_texts(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| items.iter().all(Value::is_string))
}

fn texts_by_name(value: Value) -> Option<Value> {
    let Value::Object(map) = value else {
        return None;
    };
    let mut texts = Map::new();
    for (name, value) in map {
        let text = match value {
            Value::Bool(truth) => Value::String(truth.to_string()),
            Value::Number(number) => Value::String(number.to_string()),
            Value::String(_) | Value::Null => value,
            Value::Array(_) | Value::Object(_) => return None,
        };
        texts.insert(name, text);
    }
    Some(Value::Object(texts))
}

/// PostgreSQL stores no NUL in text: it is refused here, not in the middle of a transaction.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

struct Fields<'found> {
    schema: &'static Schema,
    found: &'found RefCell<Option<Problem>>,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.schema.name)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = input.next_key::<String>()? {
            let representation = self.schema.name;
            let Some((_, of)) = self.schema.fields.iter().find(|(field, _)| *field == name) else {
                let unknown = Problem::UnknownField {
                    representation,
                    field: name,
                    line: 0,
                    column: 0,
                };
                self.found.replace(Some(unknown));
                return Err(A::Error::custom("unknown field"));
            };
            let seed = Typed {
                of: *of,
                within: representation,
                found: self.found,
            };
            let value = input.next_value_seed(seed)?;
            if map.contains_key(&name) {
                self.found
                    .replace(Some(Problem::WrongType { representation }));
                return Err(A::Error::custom("repeated field"));
            }
            if !value.is_null() {
                map.insert(name, value);
            }
        }
        Ok(Value::Object(map))
    }
}

struct Items<'found> {
    schema: &'static Schema,
    found: &'found RefCell<Option<Problem>>,
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list of {}", self.schema.name)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let one = || Typed {
            of: Type::One(self.schema),
            within: self.schema.name,
            found: self.found,
        };
        while let Some(item) = input.next_element_seed(one())? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static INNER: Schema = Schema {
        name: "Inner",
        fields: &[("x", Type::Int)],
    };
    static OUTER: Schema = Schema {
        name: "Outer",
        fields: &[
            ("a", Type::Text),
            ("b", Type::Bool),
            ("m", Type::TextMap),
            ("i", Type::Nested(&INNER)),
        ],
    };

    #[test]
    fn names_the_unknown_field_and_its_place() {
        let problem = OUTER
            .parse(b"{\"a\":\"x\",\n\"i\":[{\"y\":1}]}")
            .unwrap_err();
        let Problem::UnknownField {
            representation,
            field,
            line,
            ..
        } = problem
        else {
            panic!("{problem}");
        };
        assert_eq!((representation, field.as_str(), line), ("Inner", "y", 2));
    }

    #[test]
    fn tells_syntax_from_types() {
        assert_eq!(OUTER.parse(b"{").unwrap_err(), Problem::Syntax);
        assert_eq!(OUTER.parse(b"{} x").unwrap_err(), Problem::Syntax);
        for body in [
            &b"[]"[..],
            b"{\"a\":7}",
            b"{\"b\":\"maybe\"}",
            b"{\"a\":\"1\",\"a\":\"2\"}",
            b"{\"a\":\"\\u0000\"}",
            b"{\"i\":{}}",
            b"{\"i\":[{\"x\":3000000000}]}",
            b"7",
        ] {
            let problem = OUTER.parse(body).unwrap_err();
            assert!(
                matches!(problem, Problem::WrongType { .. }),
                "{body:?}: {problem}"
            );
        }
    }

    #[test]
    fn maps_of_text_accept_scalars() {
        let map = OUTER
            .parse(b"{\"m\":{\"t\":true,\"n\":5,\"z\":null},\"a\":null}")
            .unwrap();
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"m":{"t":"true","n":"5","z":null}}"#);
    }
}
