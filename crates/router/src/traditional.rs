//! The flavour `traditional`: routes in categories by the kinds of conditions they have, searched from
//! the one that the request seems to be meant for downwards (spec gateway-proxy 3.4, Kong 3.9.3).
//!
//! What Kong finds by going through lists is found through indexes here: in each category first among
//! the routes that share the most telling property of the request, then among all. The result is that
//! of the lists, of which only the lengths are kept.

mod hits;
mod hosts;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use o28m_core::id;
use o28m_kong::Route;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use crate::RequestHead;
use crate::conditions::HeaderCondition;
use crate::entry::{Entry, Matcher, PathHit, PathRegex, Paths, entry_id, plain};
use crate::host::{Name, canonical};
use crate::index::{Index, Lookup};
use crate::priority::Rank;
use hits::Globals;
use hosts::{Asked, HostForm};

const HOST: u8 = 0x40;
const HEADER: u8 = 0x20;
const PATH: u8 = 0x10;
const METHOD: u8 = 0x08;
const SERVER_NAME: u8 = 0x04;
/// In the order in which Kong weighs them.
const KINDS: [u8; 5] = [HOST, HEADER, PATH, METHOD, SERVER_NAME];

const REGEX_PATH: u128 = 1;
const PLAIN_HOSTS_ONLY: u128 = 2;
const WILDCARD_WITH_PORT: u128 = 4;

/// One path of a route, and the rest of its conditions.
pub(crate) struct Categorised {
    /// The kinds of conditions.
    category: u8,
    hosts: Vec<HostForm>,
    /// The keys of `hosts`; none when one cannot be looked up.
    names: Vec<Name>,
    pub(crate) paths: Paths,
    /// The path without the mark of expressions.
    path: Option<String>,
    methods: Vec<String>,
    headers: Vec<HeaderCondition>,
    server_names: Vec<String>,
}

/// One entry for each path of a route.
pub(crate) fn compile(route: &Arc<Route>) -> Result<Vec<Arc<Entry>>, regex::Error> {
    let paths = route.paths.as_deref().unwrap_or_default();
    if paths.len() < 2 {
        let entry = compile_path(route, paths.first(), None)?;
        return Ok(vec![Arc::new(entry)]);
    }
    let entries = paths.iter().enumerate().map(|(at, path)| {
        let entry = compile_path(route, Some(path), Some(at + 1))?;
        Ok(Arc::new(entry))
    });
    entries.collect()
}

fn compile_path(
    route: &Arc<Route>,
    path: Option<&String>,
    number: Option<usize>,
) -> Result<Entry, regex::Error> {
    let hosts: Vec<_> = route
        .hosts
        .iter()
        .flatten()
        .map(|it| HostForm::parse(it))
        .collect();
    let headers = route.headers.iter().flatten();
    let headers = headers.filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
    let headers = headers.map(|(name, values)| HeaderCondition::compile_single(name, values));
    let names: Option<Vec<_>> = hosts.iter().map(HostForm::key).collect();
    let pattern = path.and_then(|it| it.strip_prefix('~'));
    let methods = route.methods.iter().flatten();
    let snis = route.snis.iter().flatten();
    let mut categorised = Categorised {
        category: 0,
        names: names.unwrap_or_default(),
        hosts,
        paths: match (path, pattern) {
            (None, _) => Paths::Any,
            (Some(_), Some(pattern)) => Paths::Regex(vec![PathRegex::compile(pattern)?]),
            (Some(path), None) => plain(path),
        },
        path: path.map(|it| it.strip_prefix('~').unwrap_or(it).to_owned()),
        methods: methods.map(|it| it.to_ascii_uppercase()).collect(),
        headers: headers.collect::<Result<_, _>>()?,
        server_names: snis.map(|it| canonical(it).into_owned()).collect(),
    };
    let filled = [
        (HOST, !categorised.hosts.is_empty()),
        (HEADER, !categorised.headers.is_empty()),
        (PATH, path.is_some()),
        (METHOD, !categorised.methods.is_empty()),
        (SERVER_NAME, !categorised.server_names.is_empty()),
    ];
    let filled = filled.into_iter().filter(|(_, is_filled)| *is_filled);
    categorised.category = filled.fold(0, |all, (kind, _)| all | kind);
    Ok(Entry {
        rank: rank(route, &categorised, path.map_or(0, |it| it.len()), number),
        key: id::number(&route.id),
        route: route.clone(),
        matcher: Matcher::Traditional(Box::new(categorised)),
    })
}

/// Sub-weight, headers, priority of expressions, length of the path, age.
fn rank(route: &Route, it: &Categorised, path_bytes: usize, number: Option<usize>) -> Rank {
    let is_regex = matches!(it.paths, Paths::Regex(_));
    let flag = |is_set: bool, bit: u128| if is_set { bit } else { 0 };
    let has_wildcard = it.hosts.iter().any(HostForm::is_wildcard);
    let weight = flag(
        it.hosts.iter().any(HostForm::is_wildcard_with_port),
        WILDCARD_WITH_PORT,
    ) | flag(route.hosts.is_some() && !has_wildcard, PLAIN_HOSTS_ONLY)
        | flag(is_regex, REGEX_PATH);
    let headers = u16::try_from(it.headers.len()).unwrap_or(u16::MAX);
    let wanted = if is_regex { route.regex_priority } else { 0 };
    let length = if is_regex { 0 } else { path_bytes };
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    Rank {
        priority: weight << 112
            | u128::from(headers) << 96
            | u128::from(wanted.abs_diff(i64::MIN)) << 32
            | u128::from(length),
        age: i64::MAX.abs_diff(route.created_at),
        id: entry_id(&route.id, number),
    }
}

impl Categorised {
    pub(crate) fn host_keys(&self) -> Vec<&Name> {
        self.names.iter().collect()
    }

    fn is_regex(&self) -> bool {
        matches!(self.paths, Paths::Regex(_))
    }

    /// Whether every condition but that on the path holds.
    fn holds(&self, head: &RequestHead<'_>, asked: &Asked<'_>, wildcard: Option<&str>) -> bool {
        let host = || {
            let key = if wildcard.is_some() { "" } else { &*asked.raw };
            let fits = |form: &HostForm| form.fits(asked, key);
            self.hosts.is_empty() || self.hosts.iter().any(fits)
        };
        let method = self.methods.is_empty() || self.methods.iter().any(|it| it == head.method);
        let server_name = || {
            let known = |name: &str| self.server_names.iter().any(|it| it == name);
            self.server_names.is_empty() || head.server_name.is_none_or(known)
        };
        method && server_name() && host() && self.headers.iter().all(|it| it.holds(head))
    }

    /// Whether Kong's list of the routes with that property has it, and how often.
    fn counts(&self, property: Property<'_>) -> usize {
        match property {
            Property::Host(name) => self.hosts.iter().filter(|it| it.text() == name).count(),
            Property::Header(name) => self.headers.iter().filter(|it| it.name == name).count(),
            Property::Path(path) => usize::from(self.path.as_deref() == Some(path)),
            Property::Method(method) => usize::from(self.methods.iter().any(|it| it == method)),
            Property::ServerName(name) => {
                usize::from(self.server_names.iter().any(|it| it == name))
            }
        }
    }

    /// Every property, the same one once.
    fn properties(&self) -> Vec<Property<'_>> {
        let hosts = self.hosts.iter().map(|it| Property::Host(it.text()));
        let headers = self.headers.iter().map(|it| Property::Header(&it.name));
        let path = self.path.iter().map(|it| Property::Path(it));
        let methods = self.methods.iter().map(|it| Property::Method(it));
        let server_names = self.server_names.iter().map(|it| Property::ServerName(it));
        let mut all: Vec<_> = hosts
            .chain(headers)
            .chain(path)
            .chain(methods)
            .chain(server_names)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// What routes of a category can have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Property<'a> {
    Host(&'a str),
    Header(&'a str),
    Path(&'a str),
    Method(&'a str),
    ServerName(&'a str),
}

impl<'a> Property<'a> {
    fn parts(self) -> (u8, &'a str) {
        match self {
            Self::Host(text) => (HOST, text),
            Self::Header(text) => (HEADER, text),
            Self::Path(text) => (PATH, text),
            Self::Method(text) => (METHOD, text),
            Self::ServerName(text) => (SERVER_NAME, text),
        }
    }
}

/// The matcher of the flavour.
#[derive(Clone, Default)]
pub(crate) struct Traditional {
    categories: BTreeMap<Place, Arc<Category>>,
    globals: Globals,
}

/// Categories in the order of the search: of more kinds first, then of the greater number.
type Place = (Reverse<u32>, Reverse<u8>);

const fn place(category: u8) -> Place {
    (Reverse(category.count_ones()), Reverse(category))
}

#[derive(Clone, Default)]
struct Category {
    index: Index,
    /// Lengths of Kong's lists.
    lengths: HashTrieMapSync<u8, HashTrieMapSync<Box<str>, usize>>,
}

/// How many there are of each text, or when it comes first.
type Ordered = RedBlackTreeMapSync<(Rank, Reverse<usize>), ()>;

impl Category {
    fn length(&self, property: Property<'_>) -> Option<usize> {
        let (kind, text) = property.parts();
        self.lengths.get(&kind)?.get(text).copied()
    }

    fn change(&mut self, entry: &Categorised, apply: impl Fn(usize, usize) -> usize) {
        for property in entry.properties() {
            let (kind, text) = property.parts();
            let by = entry.counts(property);
            let mut lengths = self.lengths.get(&kind).cloned().unwrap_or_default();
            match apply(lengths.get(text).copied().unwrap_or(0), by) {
                0 => lengths.remove_mut(text),
                length => {
                    lengths.insert_mut(text.into(), length);
                    true
                }
            };
            self.lengths.insert_mut(kind, lengths);
        }
    }
}

impl Traditional {
    pub(crate) fn insert(&mut self, entry: &Arc<Entry>) {
        let Matcher::Traditional(categorised) = &entry.matcher else {
            return;
        };
        let category = self
            .categories
            .entry(place(categorised.category))
            .or_default();
        let category = Arc::make_mut(category);
        category.index.insert(entry);
        category.change(categorised, |length, by| length + by);
        self.globals.insert(entry, categorised);
    }

    pub(crate) fn remove(&mut self, entry: &Arc<Entry>) {
        let Matcher::Traditional(categorised) = &entry.matcher else {
            return;
        };
        self.globals.remove(entry, categorised);
        let place = place(categorised.category);
        let Some(category) = self.categories.get_mut(&place) else {
            return;
        };
        let category = Arc::make_mut(category);
        category.index.remove(entry);
        category.change(categorised, usize::saturating_sub);
        if category.index.is_empty() {
            self.categories.remove(&place);
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn is_empty(&self) -> bool {
        self.categories.is_empty() && self.globals.is_empty()
    }

    pub(crate) fn find(&self, head: &RequestHead<'_>) -> Option<(&Arc<Entry>, PathHit)> {
        let asked = Asked::parse(head);
        let hits = self.globals.hits(head, &asked);
        if hits.category == 0 {
            return None;
        }
        let lookup = Lookup {
            names: [&asked.raw, asked.bare()],
            labels: asked.labels(),
            path: head.path,
        };
        let matches = |entry: &Entry| match &entry.matcher {
            Matcher::Traditional(it) if it.holds(head, &asked, hits.wildcard) => {
                it.paths.find(head.path)
            }
            _ => None,
        };
        let wanted = place(hits.category);
        let begins = |place: &Place| *place >= wanted || !self.categories.contains_key(&wanted);
        let categories = self.categories.iter().filter(|(place, _)| begins(place));
        for ((_, Reverse(kinds)), category) in categories {
            let telling = hits.telling(*kinds, head, &asked, |it| category.length(it));
            let reduced = telling.and_then(|property| {
                let has = |entry: &Entry| match &entry.matcher {
                    Matcher::Traditional(it) => it.counts(property) > 0,
                    _ => false,
                };
                let among = |entry: &Entry| if has(entry) { matches(entry) } else { None };
                category.index.find(lookup, among)
            });
            if let Some(found) = reduced.or_else(|| category.index.find(lookup, matches)) {
                return Some(found);
            }
        }
        None
    }
}
