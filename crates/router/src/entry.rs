//! A route as it is matched: one entry for each path group, with everything compiled.

use std::collections::HashMap;
use std::sync::Arc;

use o28m_kong::Route;
use regex::{Regex, RegexBuilder};
use uuid::Uuid;

use crate::RequestHead;
use crate::host::{Host, HostPattern, Name};
use crate::priority::{Calculation, Rank, Weights};
use crate::trie::KEY_BYTES_MAX;

/// Bytes a compiled expression may take; what is larger does not compile.
const REGEX_BYTES_MAX: usize = 1024 * 1024;
/// Namespace of the ids of path groups (Kong 3.9.3).
const GROUP_NAMESPACE: Uuid = Uuid::from_u128(0x7f14_5bf9_0dce_4f91_98eb_debb_ce4b_9f6b);

/// One path group of a route.
pub(crate) struct Entry {
    pub(crate) rank: Rank,
    pub(crate) route: Arc<Route>,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) paths: Paths,
    conditions: Conditions,
}

/// What does not differ between the groups of a route.
#[derive(Clone, Default)]
struct Conditions {
    /// Some host has a port, so that the index alone does not decide.
    host_ports: bool,
    methods: Vec<String>,
    headers: Vec<HeaderCondition>,
    server_names: Vec<Name>,
}

#[derive(Clone)]
struct HeaderCondition {
    /// Lower case.
    name: String,
    values: Vec<HeaderPattern>,
}

#[derive(Clone)]
enum HeaderPattern {
    Text(String),
    Regex(Regex),
}

/// Where the path matched.
#[derive(Clone, Copy)]
pub(crate) struct PathHit {
    /// Bytes of the path that matched.
    pub(crate) length: usize,
    /// Which expression of the group did.
    expression: usize,
}

/// The paths of one group.
#[derive(Clone)]
pub(crate) enum Paths {
    /// The route has no paths.
    Any,
    /// Plain prefixes, all of `length` bytes.
    Plain {
        length: usize,
        prefixes: Vec<String>,
    },
    /// Expressions, in the route's order.
    Regex(Vec<Expression>),
}

#[derive(Clone)]
pub(crate) struct Expression {
    regex: Regex,
    /// Every match starts with this.
    literal: String,
}

impl Paths {
    /// The trie keys under which the group is found.
    pub(crate) fn keys(&self) -> Vec<&str> {
        let mut keys = match self {
            Self::Any => vec![""],
            Self::Plain { prefixes, .. } => prefixes.iter().map(|it| cut(it)).collect(),
            Self::Regex(list) => list.iter().map(|it| cut(&it.literal)).collect(),
        };
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn find(&self, path: &str) -> Option<PathHit> {
        let hit = |length, expression| PathHit { length, expression };
        match self {
            Self::Any => Some(hit(0, 0)),
            // A key that was not cut is the prefix itself, which the trie has compared.
            Self::Plain { length, .. } if *length <= KEY_BYTES_MAX => Some(hit(*length, 0)),
            Self::Plain { length, prefixes } => prefixes
                .iter()
                .any(|prefix| path.starts_with(prefix.as_str()))
                .then(|| hit(*length, 0)),
            Self::Regex(list) => list.iter().enumerate().find_map(|(at, it)| {
                let found = it.regex.find(path)?;
                Some(hit(found.end(), at))
            }),
        }
    }
}

/// At most [`KEY_BYTES_MAX`] bytes of `text`, cut at a character.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(KEY_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl Entry {
    /// Whether every condition holds; the index has compared host names and the trie's keys already.
    pub(crate) fn matches(&self, head: &RequestHead<'_>, host: &Host<'_>) -> Option<PathHit> {
        let conditions = &self.conditions;
        let fits = (!conditions.host_ports || self.hosts.iter().any(|it| it.matches(host)))
            && conditions.hold(head);
        if fits {
            self.paths.find(head.path)
        } else {
            None
        }
    }

    /// The groups of the expression that matched, by number and name.
    pub(crate) fn captures(&self, hit: PathHit, path: &str) -> HashMap<String, String> {
        let mut found = HashMap::new();
        let Paths::Regex(list) = &self.paths else {
            return found;
        };
        let Some(regex) = list.get(hit.expression).map(|it| &it.regex) else {
            return found;
        };
        if regex.captures_len() == 1 {
            return found;
        }
        let Some(captures) = regex.captures(path) else {
            return found;
        };
        for (number, name) in regex.capture_names().enumerate() {
            let Some(text) = captures.get(number).map(|it| it.as_str()) else {
                continue;
            };
            found.insert(number.to_string(), text.to_owned());
            if let Some(name) = name {
                found.insert(name.to_owned(), text.to_owned());
            }
        }
        found
    }
}

impl Conditions {
    fn hold(&self, head: &RequestHead<'_>) -> bool {
        let method = self.methods.is_empty() || self.methods.iter().any(|it| it == head.method);
        method && self.server_name(head.server_name) && self.headers(head)
    }

    /// On plain connections the condition counts as met, so that the redirect to TLS can happen.
    fn server_name(&self, server_name: Option<&str>) -> bool {
        self.server_names.is_empty()
            || server_name.is_none_or(|name| self.server_names.iter().any(|it| it.matches(name)))
    }

    fn headers(&self, head: &RequestHead<'_>) -> bool {
        self.headers.iter().all(|condition| {
            let mut fits = |value: &str| condition.values.iter().any(|it| it.matches(value));
            head.headers.any(&condition.name, &mut fits)
        })
    }
}

impl HeaderPattern {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Text(text) => text.eq_ignore_ascii_case(value),
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    fn parse(value: &str) -> Result<Self, regex::Error> {
        let Some(pattern) = value.strip_prefix("~*") else {
            return Ok(Self::Text(value.to_owned()));
        };
        // Kong lower-cases the pattern, which turns `\D` into `\d`; ignoring case means the same
        // for everything else.
        limited(pattern, true).map(Self::Regex)
    }
}

/// Compiles a route to one entry for each of its path groups.
pub(crate) fn compile(
    route: &Arc<Route>,
    calculation: Calculation,
) -> Result<Vec<Arc<Entry>>, regex::Error> {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let hosts: Vec<_> = list(&route.hosts)
        .iter()
        .map(|it| HostPattern::parse(it))
        .collect();
    let conditions = Conditions {
        host_ports: hosts.iter().any(|it| it.port.is_some()),
        methods: list(&route.methods),
        headers: headers(route)?,
        server_names: list(&route.snis).iter().map(|it| Name::parse(it)).collect(),
    };
    let groups = groups(&list(&route.paths))?;
    let split = groups.len() > 1;
    let entries = groups.into_iter().enumerate().map(|(at, paths)| {
        let mut weights = Weights::of(route);
        match &paths {
            Paths::Any => {}
            Paths::Plain { length, .. } => weights.path_length = *length,
            Paths::Regex(_) => weights.regex = true,
        }
        Arc::new(Entry {
            rank: Rank {
                priority: weights.priority(calculation),
                id: entry_id(&route.id, split.then_some(at + 1)),
            },
            route: route.clone(),
            hosts: hosts.clone(),
            paths,
            conditions: conditions.clone(),
        })
    });
    Ok(entries.collect())
}

fn headers(route: &Route) -> Result<Vec<HeaderCondition>, regex::Error> {
    let headers = route.headers.iter().flatten();
    let compiled = headers.map(|(name, values)| {
        let values = values.iter().map(|value| HeaderPattern::parse(value));
        Ok(HeaderCondition {
            name: name.to_ascii_lowercase(),
            values: values.collect::<Result<_, _>>()?,
        })
    });
    compiled.collect()
}

/// One group for all expressions and one for each length of plain paths, in order of appearance.
fn groups(paths: &[String]) -> Result<Vec<Paths>, regex::Error> {
    let mut groups: Vec<Paths> = Vec::new();
    for path in paths {
        if let Some(pattern) = path.strip_prefix('~') {
            let expression = Expression {
                regex: limited(&format!("^(?:{pattern})"), false)?,
                literal: literal_prefix(pattern).to_owned(),
            };
            let group = groups.iter_mut().find_map(|group| match group {
                Paths::Regex(list) => Some(list),
                Paths::Any | Paths::Plain { .. } => None,
            });
            match group {
                Some(list) => list.push(expression),
                None => groups.push(Paths::Regex(vec![expression])),
            }
        } else {
            let group = groups.iter_mut().find_map(|group| match group {
                Paths::Plain { length, prefixes } if *length == path.len() => Some(prefixes),
                Paths::Any | Paths::Plain { .. } | Paths::Regex(_) => None,
            });
            match group {
                Some(prefixes) => prefixes.push(path.clone()),
                None => groups.push(Paths::Plain {
                    length: path.len(),
                    prefixes: vec![path.clone()],
                }),
            }
        }
    }
    if groups.is_empty() {
        groups.push(Paths::Any);
    }
    Ok(groups)
}

fn limited(pattern: &str, ignore_case: bool) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
}

/// The id that breaks ties: the route's, or that of its group when it has several.
fn entry_id(route: &str, group: Option<usize>) -> u128 {
    match group {
        Some(number) => {
            Uuid::new_v5(&GROUP_NAMESPACE, format!("{route}#{number}").as_bytes()).as_u128()
        }
        None => Uuid::parse_str(route)
            .unwrap_or_else(|_| Uuid::new_v5(&GROUP_NAMESPACE, route.as_bytes()))
            .as_u128(),
    }
}

/// The characters that every match of `pattern` starts with; shorter than possible when in doubt.
fn literal_prefix(pattern: &str) -> &str {
    if alternates(pattern) {
        return "";
    }
    let special = |character: char| r"\.+*?()|[]{}^$".contains(character);
    let end = pattern.find(special).unwrap_or(pattern.len());
    let (literal, rest) = pattern.split_at_checked(end).unwrap_or_default();
    // A quantifier makes the character before it optional.
    match literal.char_indices().next_back() {
        Some((last, _)) if rest.starts_with(['?', '*', '{']) => {
            literal.get(..last).unwrap_or_default()
        }
        _ => literal,
    }
}

/// Whether a `|` stands outside of every group and class.
fn alternates(pattern: &str) -> bool {
    let (mut groups, mut classes) = (0_usize, 0_usize);
    let mut bytes = pattern.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                let _escaped = bytes.next();
            }
            b'[' => {
                classes += 1;
                bytes.next_if_eq(&b'^');
                // A bracket in the first place is a literal one.
                bytes.next_if_eq(&b']');
            }
            b']' => classes = classes.saturating_sub(1),
            b'(' if classes == 0 => groups += 1,
            b')' if classes == 0 => groups = groups.saturating_sub(1),
            b'|' if classes == 0 && groups == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::literal_prefix;

    #[test]
    fn literal_prefix_is_never_too_long() {
        for (pattern, expected) in [
            ("/a/(?<id>[a-z]+)/x", "/a/"),
            ("/abc?", "/ab"),
            ("/abc{0,2}", "/ab"),
            ("/abc+", "/abc"),
            ("/a|/b", ""),
            ("/a(b|c)", "/a"),
            ("/a[(]|/b", ""),
            ("/a[]|(]x", "/a"),
            ("(?i)/a", ""),
            (r"/a\.b", "/a"),
            ("/é*", "/"),
        ] {
            assert_eq!(literal_prefix(pattern), expected, "{pattern}");
        }
    }
}
