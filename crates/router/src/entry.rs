//! A route as it is matched: one entry for each path group, with everything compiled.

use std::collections::HashMap;
use std::sync::Arc;

use o28m_core::id::number;
use o28m_kong::{Route, RouterFlavor};
use regex::Regex;
use uuid::Uuid;

use crate::conditions::Conditions;
use crate::expression::Compiled;
use crate::host::{Host, HostPattern, Name};
use crate::pattern::{limited, literal_prefix};
use crate::priority::{Calculation, Rank, Weights, of_expression};
use crate::traditional::Categorised;
use crate::trie::KEY_BYTES_MAX;
use crate::{BadRoute, Problem, RequestHead};

/// Namespace of the ids of path groups (Kong 3.9.3).
const GROUP_NAMESPACE: Uuid = Uuid::from_u128(0x7f14_5bf9_0dce_4f91_98eb_debb_ce4b_9f6b);

/// One path group of a route.
pub(crate) struct Entry {
    pub(crate) rank: Rank,
    /// The id of the route as a number.
    pub(crate) key: u128,
    pub(crate) route: Arc<Route>,
    pub(crate) matcher: Matcher,
}

/// What a request must be like.
pub(crate) enum Matcher {
    /// The flavours since Kong 3.0.
    Classic(Classic),
    /// The flavour `traditional`.
    Traditional(Box<Categorised>),
    /// The route's own expression.
    Expression(Box<Compiled>),
}

pub(crate) struct Classic {
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) paths: Paths,
    conditions: Conditions,
}

/// Where the path matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathHit {
    /// Bytes of the path that matched.
    pub(crate) length: usize,
    /// Which expression of the group did.
    pub(crate) expression: usize,
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
    Regex(Vec<PathRegex>),
}

#[derive(Clone)]
pub(crate) struct PathRegex {
    regex: Regex,
    /// Every match starts with this.
    literal: String,
}

impl PathRegex {
    pub(crate) fn compile(pattern: &str) -> Result<Self, regex::Error> {
        Ok(Self {
            regex: limited(&format!("^(?:{pattern})"), false)?,
            literal: literal_prefix(pattern).to_owned(),
        })
    }
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

    pub(crate) fn find(&self, path: &str) -> Option<PathHit> {
        let hit = |length, expression| PathHit { length, expression };
        match self {
            Self::Any => Some(hit(0, 0)),
            // A key that was not cut is the prefix itself, which the trie has compared.
            Self::Plain { length, .. } if *length <= KEY_BYTES_MAX => Some(hit(*length, 0)),
            Self::Plain { .. } => self.compare(path),
            Self::Regex(list) => list.iter().enumerate().find_map(|(at, it)| {
                let found = it.regex.find(path)?;
                Some(hit(found.end(), at))
            }),
        }
    }

    /// [`Paths::find`] for a path that no trie has looked at.
    pub(crate) fn compare(&self, path: &str) -> Option<PathHit> {
        match self {
            Self::Plain { length, prefixes } => prefixes
                .iter()
                .any(|prefix| path.starts_with(prefix.as_str()))
                .then_some(PathHit {
                    length: *length,
                    expression: 0,
                }),
            Self::Any | Self::Regex(_) => self.find(path),
        }
    }

    /// The groups of the expression that matched, by number and name.
    fn captures(&self, hit: PathHit, path: &str) -> HashMap<String, String> {
        let mut found = HashMap::new();
        let Self::Regex(list) = self else {
            return found;
        };
        let Some(regex) = list.get(hit.expression).map(|it| &it.regex) else {
            return found;
        };
        if regex.captures_len() > 1 {
            collect_captures(regex, path, &mut found);
        }
        found
    }
}

/// Adds what the groups of `regex` matched of `text`.
pub(crate) fn collect_captures(regex: &Regex, text: &str, into: &mut HashMap<String, String>) {
    let Some(captures) = regex.captures(text) else {
        return;
    };
    for (number, name) in regex.capture_names().enumerate() {
        let Some(text) = captures.get(number).map(|it| it.as_str()) else {
            continue;
        };
        into.insert(number.to_string(), text.to_owned());
        if let Some(name) = name {
            into.insert(name.to_owned(), text.to_owned());
        }
    }
}

/// At most [`KEY_BYTES_MAX`] bytes of `text`, cut at a character.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(KEY_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

impl Entry {
    /// The names under which the index holds it; none when it has to be looked at for every host.
    pub(crate) fn host_keys(&self) -> Vec<&Name> {
        match &self.matcher {
            Matcher::Classic(classic) => classic.hosts.iter().map(|it| &it.name).collect(),
            Matcher::Traditional(categorised) => categorised.host_keys(),
            Matcher::Expression(compiled) => compiled.hosts.iter().flatten().collect(),
        }
    }

    /// The beginnings of paths under which the index holds it.
    pub(crate) fn path_keys(&self) -> Vec<&str> {
        match &self.matcher {
            Matcher::Classic(classic) => classic.paths.keys(),
            Matcher::Traditional(categorised) => categorised.paths.keys(),
            Matcher::Expression(compiled) => match &compiled.paths {
                Some(paths) => paths.iter().map(|it| cut(it)).collect(),
                None => vec![""],
            },
        }
    }

    /// Whether every condition holds; the index has compared its keys already. Not for the flavour
    /// `traditional`, whose conditions need more than the request.
    pub(crate) fn matches(&self, head: &RequestHead<'_>, host: &Host<'_>) -> Option<PathHit> {
        match &self.matcher {
            Matcher::Classic(classic) => {
                let fits = classic.conditions.hold(head, host)
                    && (!classic.conditions.host_ports
                        || classic.hosts.iter().any(|it| it.matches(host)));
                if fits {
                    classic.paths.find(head.path)
                } else {
                    None
                }
            }
            Matcher::Expression(compiled) => {
                compiled.evaluate(head, host, None).map(|length| PathHit {
                    length,
                    expression: 0,
                })
            }
            Matcher::Traditional(_) => None,
        }
    }

    /// [`Entry::matches`] without an index: every condition is looked at.
    #[cfg(feature = "testing")]
    pub(crate) fn matches_alone(&self, head: &RequestHead<'_>, host: &Host<'_>) -> Option<PathHit> {
        let Matcher::Classic(classic) = &self.matcher else {
            return self.matches(head, host);
        };
        let is_name = !host.name.is_empty() && host.name.len() <= crate::index::NAME_BYTES_MAX;
        let fits = classic.conditions.hold(head, host)
            && (classic.hosts.is_empty()
                || is_name && classic.hosts.iter().any(|it| it.matches(host)));
        if fits {
            classic.paths.compare(head.path)
        } else {
            None
        }
    }

    /// What expressions captured, by number and name; empty when it is no more than the whole match.
    pub(crate) fn captures(
        &self,
        hit: PathHit,
        head: &RequestHead<'_>,
        host: &Host<'_>,
    ) -> HashMap<String, String> {
        let mut found = match &self.matcher {
            Matcher::Classic(classic) => classic.paths.captures(hit, head.path),
            Matcher::Traditional(categorised) => {
                let mut found = categorised.paths.captures(hit, head.path);
                // Kong lets the expression take in the rest of the path here.
                if let Some(whole) = found.get_mut("0") {
                    head.path.clone_into(whole);
                }
                found
            }
            Matcher::Expression(compiled) if compiled.captures => {
                let mut found = HashMap::new();
                compiled.evaluate(head, host, Some(&mut found));
                found
            }
            Matcher::Expression(_) => return HashMap::new(),
        };
        if found.len() == 1 {
            found.clear();
        }
        found
    }
}

/// Compiles a route to one entry for each of its path groups.
pub(crate) fn compile(
    route: &Arc<Route>,
    flavor: RouterFlavor,
    calculation: Calculation,
) -> Result<Vec<Arc<Entry>>, BadRoute> {
    let is_stream =
        |protocol: &String| matches!(protocol.as_str(), "tcp" | "tls" | "udp" | "tls_passthrough");
    if route.protocols.first().is_some_and(is_stream) {
        return Ok(Vec::new());
    }
    let entries = match (flavor, &route.expression) {
        (RouterFlavor::Expressions, Some(text)) => expression(route, text, calculation),
        (RouterFlavor::Traditional | RouterFlavor::TraditionalCompatible, Some(_)) => {
            Err(Problem::Flavor)
        }
        (RouterFlavor::Traditional, None) => {
            crate::traditional::compile(route).map_err(Problem::from)
        }
        (RouterFlavor::TraditionalCompatible | RouterFlavor::Expressions, None) => {
            classic(route, flavor, calculation)
        }
    };
    entries.map_err(|source| BadRoute {
        id: route.id.clone(),
        source,
    })
}

fn expression(
    route: &Arc<Route>,
    text: &str,
    calculation: Calculation,
) -> Result<Vec<Arc<Entry>>, Problem> {
    let compiled = Compiled::compile(text, &route.protocols)?;
    let priority = of_expression(route.priority.unwrap_or_default(), calculation);
    Ok(vec![Arc::new(Entry {
        rank: Rank {
            priority,
            age: 0,
            id: entry_id(&route.id, None),
        },
        key: number(&route.id),
        route: route.clone(),
        matcher: Matcher::Expression(Box::new(compiled)),
    })])
}

fn classic(
    route: &Arc<Route>,
    flavor: RouterFlavor,
    calculation: Calculation,
) -> Result<Vec<Arc<Entry>>, Problem> {
    let hosts = route.hosts.iter().flatten();
    let hosts: Vec<_> = hosts.map(|it| HostPattern::parse(it)).collect();
    let mut conditions = Conditions::compile(route, flavor)?;
    conditions.host_ports = hosts.iter().any(|it| it.port.is_some());
    let groups = groups(route.paths.as_deref().unwrap_or_default())?;
    let split = groups.len() > 1;
    let entries = groups.into_iter().enumerate().map(|(at, paths)| {
        Arc::new(Entry {
            rank: Rank {
                priority: u128::from(weights(route, &paths).priority(calculation)),
                age: 0,
                id: entry_id(&route.id, split.then_some(at + 1)),
            },
            key: number(&route.id),
            route: route.clone(),
            matcher: Matcher::Classic(Classic {
                hosts: hosts.clone(),
                paths,
                conditions: conditions.clone(),
            }),
        })
    });
    Ok(entries.collect())
}

/// What the rank of one path group is made of.
pub(crate) fn weights(route: &Route, paths: &Paths) -> Weights {
    let mut weights = Weights::of(route);
    match paths {
        Paths::Any => {}
        Paths::Plain { length, .. } => weights.path_length = *length,
        Paths::Regex(_) => weights.regex = true,
    }
    weights
}

/// One group for all expressions and one for each length of plain paths, in order of appearance.
fn groups(paths: &[String]) -> Result<Vec<Paths>, regex::Error> {
    let mut groups: Vec<Paths> = Vec::new();
    for path in paths {
        if let Some(pattern) = path.strip_prefix('~') {
            let expression = PathRegex::compile(pattern)?;
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
                None => groups.push(plain(path)),
            }
        }
    }
    if groups.is_empty() {
        groups.push(Paths::Any);
    }
    Ok(groups)
}

pub(crate) fn plain(path: &str) -> Paths {
    Paths::Plain {
        length: path.len(),
        prefixes: vec![path.to_owned()],
    }
}

/// The id that breaks ties: the route's, or that of its group when it has several.
pub(crate) fn entry_id(route: &str, group: Option<usize>) -> u128 {
    match group {
        Some(number) => {
            Uuid::new_v5(&GROUP_NAMESPACE, format!("{route}#{number}").as_bytes()).as_u128()
        }
        None => Uuid::parse_str(route)
            .unwrap_or_else(|_| Uuid::new_v5(&GROUP_NAMESPACE, route.as_bytes()))
            .as_u128(),
    }
}
