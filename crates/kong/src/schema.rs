//! What declarations are made of: fields, their types, checks and defaults, and checks over several
//! fields.

use std::borrow::Cow;

use o28m_core::Ambient;
use serde_json::{Value, json};

use crate::entity::{Document, Foreign};

/// Bytes of a value that is looked up in an index of the database (a page of PostgreSQL holds three).
pub(crate) const KEY_BYTES_MAX: usize = 1024;

/// A message of a failed check; `None` when it passed.
pub(crate) type Complaint = Option<Cow<'static, str>>;

/// One field of an entity or of a plugin's configuration, or the shape of elements, keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    pub(crate) default: Literal,
    pub(crate) checks: &'static [Check],
    pub(crate) auto: Auto,
    pub(crate) unique: bool,
    /// The empty string stands for null.
    pub(crate) empty_is_null: bool,
    /// Deprecated names of members of this record.
    pub(crate) aliases: &'static [Alias],
    /// What a sound value that was given becomes before it is stored.
    pub(crate) seal: Option<Seal>,
    /// Turns a value of Kong before 3.0 into what it means today.
    pub(crate) upgrade: Option<fn(&mut Value)>,
    /// The text may be a reference to a vault instead of a value.
    pub(crate) referenceable: bool,
    /// Part of requests and answers, not of what is stored.
    pub(crate) transient: bool,
    /// Checks over several members of this record.
    pub(crate) record_checks: &'static [EntityCheck],
}

/// A deprecated name of a member of a record inside the record that has it, or of a member beside it;
/// still taken, and shown besides the new one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alias {
    pub(crate) name: &'static str,
    /// Empty for a member beside it.
    pub(crate) record: &'static str,
    pub(crate) member: &'static str,
}

impl Alias {
    /// Names that lead to the new member.
    pub(crate) fn path(self) -> Vec<&'static str> {
        let path = [self.record, self.member];
        path.into_iter().filter(|name| !name.is_empty()).collect()
    }
}

/// Makes the stored value of a field from the given one and the whole document.
pub(crate) type Make = fn(&Value, &Document, &Ambient) -> Value;

/// When the stored value is another one than the given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seal {
    /// The given value is a secret, unless a configuration says that it was sealed before.
    Secret(Make),
    /// As a secret, when the field `when` is true; then also when only that field was given.
    Hashed { when: &'static str, make: Make },
    /// The given value is meant from the time of a change on; at creation it is the stored one.
    FromNow(Make),
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    String,
    Integer,
    Number,
    Boolean,
    Array(&'static Field),
    Set(&'static Field),
    Map {
        keys: &'static Field,
        values: &'static Field,
    },
    Record(&'static [Field]),
    Foreign(&'static Foreign),
}

impl Kind {
    /// Kong's name of the type.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array(_) => "array",
            Self::Set(_) => "set",
            Self::Map { .. } => "map",
            Self::Record(_) => "record",
            Self::Foreign(_) => "foreign",
        }
    }

    /// The message for a value of another type.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::String => "expected a string",
            Self::Integer => "expected an integer",
            Self::Number => "expected a number",
            Self::Boolean => "expected a boolean",
            Self::Array(_) => "expected an array",
            Self::Set(_) => "expected a set",
            Self::Map { .. } => "expected a map",
            Self::Record(_) => "expected a record",
            Self::Foreign(_) => "missing primary key",
        }
    }
}

/// A value the server fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auto {
    No,
    /// A random UUID when none is given.
    Uuid,
    /// A random text of 32 letters and digits when none is given.
    Key,
    /// The time of creation in seconds (with fractions in a field of numbers), unless given.
    Created,
    /// The time of the write, likewise, whatever is given.
    Updated,
}

/// A default.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Literal {
    None,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Integers(&'static [i64]),
    String(&'static str),
    Strings(&'static [&'static str]),
}

impl Literal {
    pub(crate) fn value(self) -> Option<Value> {
        match self {
            Self::None => None,
            Self::Boolean(value) => Some(json!(value)),
            Self::Integer(value) => Some(json!(value)),
            Self::Number(value) => Some(json!(value)),
            Self::Integers(values) => Some(json!(values)),
            Self::String(value) => Some(json!(value)),
            Self::Strings(values) => Some(json!(values)),
        }
    }
}

impl Field {
    pub(crate) const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            required: false,
            default: Literal::None,
            checks: &[],
            auto: Auto::No,
            unique: false,
            empty_is_null: false,
            aliases: &[],
            seal: None,
            upgrade: None,
            referenceable: false,
            transient: false,
            record_checks: &[],
        }
    }

    /// The shape of elements, keys or values.
    pub(crate) const fn element(kind: Kind, checks: &'static [Check]) -> Self {
        Self::new("", kind).checks(checks)
    }

    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(crate) const fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    pub(crate) const fn default(mut self, default: Literal) -> Self {
        self.default = default;
        self
    }

    pub(crate) const fn checks(mut self, checks: &'static [Check]) -> Self {
        self.checks = checks;
        self
    }

    pub(crate) const fn auto(mut self, auto: Auto) -> Self {
        self.auto = auto;
        self
    }

    pub(crate) const fn aliases(mut self, aliases: &'static [Alias]) -> Self {
        self.aliases = aliases;
        self
    }

    pub(crate) const fn sealed(mut self, seal: Seal) -> Self {
        self.seal = Some(seal);
        self
    }

    pub(crate) const fn upgrade(mut self, upgrade: fn(&mut Value)) -> Self {
        self.upgrade = Some(upgrade);
        self
    }

    pub(crate) const fn referenceable(mut self) -> Self {
        self.referenceable = true;
        self
    }

    pub(crate) const fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    pub(crate) const fn record_checks(mut self, checks: &'static [EntityCheck]) -> Self {
        self.record_checks = checks;
        self
    }

    pub(crate) const fn empty_is_null(mut self) -> Self {
        self.empty_is_null = true;
        self
    }

    /// What an absent value becomes; a required record is made of its own defaults.
    pub(crate) fn default_value(&self) -> Option<Value> {
        self.default
            .value()
            .or_else(|| match (self.kind, self.required) {
                (Kind::Record(_), true) => Some(Value::Object(Document::new())),
                _ => None,
            })
    }
}

/// A check of one value. The order of a field's checks is the order of evaluation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    /// Only null is allowed; a message other than Kong's usual one may be given.
    Null(Option<&'static str>),
    OneOf(&'static [&'static str]),
    NotOneOf(&'static [&'static str]),
    OneOfIntegers(&'static [i64]),
    /// Inclusive.
    Between(i64, i64),
    Uuid,
    /// A time after the epoch.
    Timestamp,
    LengthMin(usize),
    LengthIs(usize),
    LengthMax(usize),
    StartsWith(&'static str),
    /// A set or array that holds none, or members of only one, of these.
    Exclusive(&'static [&'static [&'static str]]),
    /// A Lua pattern as the schema endpoint shows it, and the same as a function.
    Match(&'static str, fn(&str) -> bool),
    /// Exclusive.
    GreaterThan(i64),
    /// Anything else about a string.
    Text(fn(&str) -> Complaint),
    /// Anything else about a value.
    Value(fn(&Value) -> Complaint),
    /// The value as it would be written must not be this one.
    NotTrue(&'static str),
}

impl Check {
    /// Applies it to a value of the right type.
    pub(crate) fn apply(&self, value: &Value) -> Complaint {
        match *self {
            Self::Null(message) => Some(message.unwrap_or("value must be null").into()),
            Self::OneOf(allowed) => value.as_str().and_then(|text| {
                (!allowed.contains(&text))
                    .then(|| format!("expected one of: {}", allowed.join(", ")).into())
            }),
            Self::NotOneOf(taken) => value.as_str().and_then(|text| {
                taken
                    .contains(&text)
                    .then(|| format!("must not be one of: {}", taken.join(", ")).into())
            }),
            Self::OneOfIntegers(allowed) => value.as_i64().and_then(|number| {
                let names: Vec<_> = allowed.iter().map(ToString::to_string).collect();
                (!allowed.contains(&number))
                    .then(|| format!("expected one of: {}", names.join(", ")).into())
            }),
            Self::Between(low, high) => value.as_f64().and_then(|number| {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "declared bounds are far below 2^53"
                )]
                let inside = (low as f64..=high as f64).contains(&number);
                (!inside).then(|| format!("value should be between {low} and {high}").into())
            }),
            Self::GreaterThan(bound) => value.as_f64().and_then(|number| {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "declared bounds are far below 2^53"
                )]
                let above = number > bound as f64;
                (!above).then(|| format!("value must be greater than {bound}").into())
            }),
            Self::Uuid => value.as_str().and_then(|text| {
                (!o28m_core::id::is_uuid(text)).then(|| "expected a valid UUID".into())
            }),
            Self::Timestamp => value
                .as_f64()
                .and_then(|number| (number <= 0.0).then(|| "expected a valid timestamp".into())),
            Self::LengthMin(least) => length(value).and_then(|length| {
                (length < least).then(|| format!("length must be at least {least}").into())
            }),
            Self::LengthIs(exact) => length(value).and_then(|length| {
                (length != exact).then(|| format!("length must be {exact}").into())
            }),
            Self::LengthMax(most) => length(value).and_then(|length| {
                (length > most).then(|| format!("length must be at most {most}").into())
            }),
            Self::StartsWith(prefix) => value.as_str().and_then(|text| {
                (!text.starts_with(prefix)).then(|| format!("should start with: {prefix}").into())
            }),
            Self::Exclusive(subsets) => exclusive(value, subsets),
            Self::Match(_, matches) => value
                .as_str()
                .and_then(|text| (!matches(text)).then(|| format!("invalid value: {text}").into())),
            Self::Text(check) => value.as_str().and_then(check),
            Self::Value(check) => check(value),
            Self::NotTrue(message) => (value == &Value::Bool(true)).then(|| message.into()),
        }
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.len()),
        Value::Array(elements) => Some(elements.len()),
        Value::Object(members) => Some(members.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn exclusive(value: &Value, subsets: &[&[&str]]) -> Complaint {
    let elements = value.as_array()?;
    let holds = |name: &&str| elements.iter().any(|element| element == *name);
    let used: Vec<String> = subsets
        .iter()
        .filter(|subset| subset.iter().any(holds))
        .map(|subset| {
            let names: Vec<_> = subset.iter().map(|name| format!("'{name}'")).collect();
            format!("({})", names.join(", "))
        })
        .collect();
    (used.len() > 1)
        .then(|| format!("these sets are mutually exclusive: {}", used.join(", ")).into())
}

/// A check over several fields; paths are dotted. It runs only when its fields are sound.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EntityCheck {
    AtLeastOneOf(&'static [&'static str]),
    ExactlyOneOf(&'static [&'static str]),
    /// At most one.
    OnlyOneOf(&'static [&'static str]),
    /// All or none.
    Together(&'static [&'static str]),
    /// When `field` fulfils the condition, `then_field` must pass `then`.
    Conditional {
        field: &'static str,
        when: When,
        then_field: &'static str,
        then: &'static [Check],
        /// Instead of Kong's usual entity message.
        message: Option<&'static str>,
    },
    /// The first arm whose value the set `field` contains asks for one of its fields.
    OneOfPerMember {
        field: &'static str,
        arms: &'static [Arm],
    },
    /// Depends on the time, in seconds.
    Timed(
        &'static [&'static str],
        fn(&Document, i64, &mut Vec<String>),
    ),
    /// Anything else, over these fields.
    Custom(
        &'static [&'static str],
        fn(&Document, &mut Vec<String>, &mut Document),
    ),
}

/// The condition of [`EntityCheck::Conditional`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// The text is one of these.
    Is(&'static [&'static str]),
    /// The text is none of these.
    IsNot(&'static [&'static str]),
    /// No element of the set is one of these.
    HoldsNone(&'static [&'static str]),
}

impl When {
    pub(crate) fn holds(self, value: &Value) -> bool {
        let text = value.as_str().unwrap_or_default();
        match self {
            Self::Is(names) => names.contains(&text),
            Self::IsNot(names) => !names.contains(&text),
            Self::HoldsNone(names) => !value.as_array().is_some_and(|elements| {
                elements
                    .iter()
                    .filter_map(Value::as_str)
                    .any(|element| names.contains(&element))
            }),
        }
    }
}

/// See [`EntityCheck::OneOfPerMember`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arm {
    pub(crate) member: &'static str,
    pub(crate) fields: &'static [&'static str],
    pub(crate) message: &'static str,
}

/// A value that Kong accepts and this build cannot carry out: refused instead of ignored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsupported {
    pub(crate) field: &'static str,
    /// Whether the value can be carried out.
    pub(crate) supported: fn(&Value) -> bool,
    pub(crate) message: &'static str,
}

/// Null, empty text, empty array or empty object.
pub(crate) fn is_blank(value: &Value) -> bool {
    value.is_null() || length(value) == Some(0)
}
