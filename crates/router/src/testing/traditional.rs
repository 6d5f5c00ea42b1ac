//! The flavour `traditional` as Kong has it: sorted lists, gone through one by one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use o28m_kong::Route;
use regex::Regex;

use crate::RequestHead;
use crate::entry::entry_id;

const HOST: u8 = 0x40;
const HEADER: u8 = 0x20;
const URI: u8 = 0x10;
const METHOD: u8 = 0x08;
const SNI: u8 = 0x04;

struct Entry {
    route: Arc<Route>,
    hosts: Vec<String>,
    headers: Vec<(String, Vec<String>)>,
    path: Option<String>,
    methods: Vec<String>,
    snis: Vec<String>,
    regex: Option<Regex>,
    rules: u8,
    submatch: u8,
    id: u128,
}

/// All routes, sorted.
pub(super) struct Lists {
    entries: Vec<Arc<Entry>>,
    /// Category, in the order of the search, and its entries.
    categories: Vec<(u8, Vec<usize>)>,
}

fn lower(text: &str) -> String {
    let text = text.to_lowercase();
    text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
}

fn digits(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_digit())
}

/// Name without port, name with port, whether there was a port.
fn split_port(name: &str, default: &str) -> (String, String, bool) {
    let added = format!("{name}:{default}");
    if let Some(inner) = name.strip_prefix('[') {
        if let Some(inner) = inner.strip_suffix(']') {
            return (inner.to_owned(), added, false);
        }
        if let Some((inner, port)) = inner.split_once("]:") {
            if port.is_empty() {
                return (inner.to_owned(), format!("{name}{default}"), false);
            }
            if digits(port) {
                return (inner.to_owned(), name.to_owned(), true);
            }
        }
        return (name.to_owned(), added, false);
    }
    match name.split_once(':') {
        None => (name.to_owned(), added, false),
        Some((host, "")) => (host.to_owned(), format!("{host}:{default}"), false),
        Some((host, port)) if digits(port) => (host.to_owned(), name.to_owned(), true),
        Some(_) => (name.to_owned(), format!("[{name}]:{default}"), false),
    }
}

fn wildcard(host: &str) -> Option<Regex> {
    if !host.contains('*') {
        return None;
    }
    let end = if split_port(host, "").2 {
        "$"
    } else {
        r"(?::\d+)?$"
    };
    let pattern = regex::escape(host).replace(r"\*", ".+");
    super::regex(format!("^{pattern}{end}"))
}

impl Entry {
    fn new(route: &Arc<Route>, path: Option<&String>, number: Option<usize>) -> Option<Self> {
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let hosts: Vec<_> = list(&route.hosts).iter().map(|it| lower(it)).collect();
        let pattern = path.and_then(|path| path.strip_prefix('~'));
        let regex = match pattern {
            Some(pattern) => Some(super::regex(format!("^(?:{pattern})"))?),
            None => None,
        };
        let headers = route.headers.iter().flatten();
        let mut entry = Self {
            headers: headers
                .map(|(name, values)| (name.clone(), values.clone()))
                .collect(),
            path: path.map(|path| pattern.unwrap_or(path).to_owned()),
            methods: list(&route.methods),
            snis: list(&route.snis).iter().map(|it| lower(it)).collect(),
            regex,
            rules: 0,
            submatch: 0,
            id: entry_id(&route.id, number),
            route: route.clone(),
            hosts,
        };
        entry.rules |= if entry.hosts.is_empty() { 0 } else { HOST };
        entry.rules |= if entry.headers.is_empty() { 0 } else { HEADER };
        entry.rules |= if entry.path.is_none() { 0 } else { URI };
        entry.rules |= if entry.methods.is_empty() { 0 } else { METHOD };
        entry.rules |= if entry.snis.is_empty() { 0 } else { SNI };
        let wild = || entry.hosts.iter().filter(|it| it.contains('*'));
        let plain_only = route.hosts.is_some() && wild().next().is_none();
        let with_port = wild().any(|it| split_port(it, "").2);
        entry.submatch = u8::from(entry.regex.is_some())
            | if plain_only { 2 } else { 0 }
            | if with_port { 4 } else { 0 };
        Some(entry)
    }

    fn order(&self) -> impl Ord + use<> {
        let is_regex = self.regex.is_some();
        let length = if is_regex {
            0
        } else {
            self.path.as_ref().map_or(0, String::len)
        };
        (
            Reverse(self.submatch),
            Reverse(self.headers.len()),
            Reverse(if is_regex {
                self.route.regex_priority
            } else {
                0
            }),
            Reverse(length),
            self.route.created_at,
            Reverse(self.id),
        )
    }

    fn path_fits(&self, path: &str) -> Option<usize> {
        match (&self.regex, &self.path) {
            (Some(regex), _) => regex.find(path).map(|it| it.end()),
            (None, Some(plain)) => path.starts_with(plain.as_str()).then_some(plain.len()),
            (None, None) => Some(0),
        }
    }

    fn matches(&self, head: &RequestHead<'_>, request: &Asked) -> Option<usize> {
        let host = self.hosts.is_empty() || {
            let plain = |it: &String| {
                !request.raw.is_empty()
                    && !it.contains('*')
                    && (*it == request.host_key || *it == request.no_port)
            };
            self.hosts.iter().any(plain)
                || !request.raw.is_empty()
                    && self
                        .hosts
                        .iter()
                        .any(|it| wildcard(it).is_some_and(|it| it.is_match(&request.with_port)))
        };
        let headers = self.headers.iter().all(|(name, values)| {
            head.headers.any(name, &mut |value| {
                let value = value.to_lowercase();
                values.iter().any(|it| it.to_lowercase() == value)
                    || match values.as_slice() {
                        [only] => only.strip_prefix("~*").is_some_and(|pattern| {
                            super::regex(format!("(?i){pattern}"))
                                .is_some_and(|it| it.is_match(&value))
                        }),
                        _ => false,
                    }
            })
        });
        let method = self.methods.is_empty() || self.methods.iter().any(|it| it == head.method);
        let sni = self.snis.is_empty()
            || head
                .server_name
                .is_none_or(|name| self.snis.iter().any(|it| it == name));
        if host && headers && method && sni {
            self.path_fits(head.path)
        } else {
            None
        }
    }
}

struct Asked {
    raw: String,
    host_key: String,
    no_port: String,
    with_port: String,
}

impl Lists {
    pub(super) fn new(routes: &[Arc<Route>]) -> Self {
        let mut entries = Vec::new();
        for route in routes {
            let paths = route.paths.as_deref().unwrap_or_default();
            let own: Option<Vec<_>> = match paths {
                [] => Entry::new(route, None, None).map(|it| vec![it]),
                [only] => Entry::new(route, Some(only), None).map(|it| vec![it]),
                many => {
                    let many = many.iter().enumerate();
                    many.map(|(at, path)| Entry::new(route, Some(path), Some(at + 1)))
                        .collect()
                }
            };
            entries.extend(own.into_iter().flatten().map(Arc::new));
        }
        Self::of(entries)
    }

    pub(super) fn among(&self, keeps: &dyn Fn(&str) -> bool) -> Self {
        let entries = self.entries.iter();
        Self::of(entries.filter(|it| keeps(&it.route.id)).cloned().collect())
    }

    fn of(mut entries: Vec<Arc<Entry>>) -> Self {
        entries.sort_by_key(|it| it.order());
        let mut categories: BTreeMap<_, (u8, Vec<usize>)> = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let place = (Reverse(entry.rules.count_ones()), Reverse(entry.rules));
            let (_, list) = categories.entry(place).or_insert((entry.rules, Vec::new()));
            list.push(at);
        }
        Self {
            entries,
            categories: categories.into_values().collect(),
        }
    }

    pub(super) fn find(&self, head: &RequestHead<'_>) -> Option<(String, usize)> {
        let default = if head.server_name.is_some() {
            "443"
        } else {
            "80"
        };
        let mut raw = head.host.to_lowercase();
        if let Some((name, port)) = raw.clone().split_once(".:")
            && digits(port)
        {
            raw = format!("{name}:{port}");
        } else {
            raw = lower(&raw);
        }
        if raw.len() > 255 {
            raw.clear();
        }
        let (no_port, with_port, _) = split_port(&raw, default);
        let mut asked = Asked {
            host_key: raw.clone(),
            raw,
            no_port,
            with_port,
        };
        let all = || self.entries.iter();

        let mut category = 0;
        let header = all().flat_map(|it| it.headers.iter().map(|(name, _)| name));
        let header = header
            .into_iter()
            .find(|name| head.headers.any(name, &mut |_| true));
        category |= if header.is_some() { HEADER } else { 0 };
        if !asked.raw.is_empty() {
            let plain = |it: &String| *it == asked.with_port || *it == asked.no_port;
            if all().flat_map(|it| &it.hosts).any(plain) {
                category |= HOST;
            } else {
                let fits =
                    |it: &&String| wildcard(it).is_some_and(|it| it.is_match(&asked.with_port));
                if let Some(hit) = all().flat_map(|it| &it.hosts).find(fits) {
                    category |= HOST;
                    asked.host_key.clone_from(hit);
                }
            }
        }
        let regexes = || all().filter(|it| it.regex.is_some());
        let plain = all().filter(|it| it.regex.is_none() && it.path.is_some());
        let uri = regexes()
            .find(|it| it.path_fits(head.path).is_some())
            .or_else(|| {
                let fits = plain.filter(|it| it.path_fits(head.path).is_some());
                fits.max_by_key(|it| it.path.as_ref().map_or(0, String::len))
            });
        let uri = uri.and_then(|it| it.path.clone());
        category |= if uri.is_some() { URI } else { 0 };
        if all().any(|it| it.methods.iter().any(|it| it == head.method)) {
            category |= METHOD;
        }
        let sni = head.server_name.unwrap_or_default();
        if all().any(|it| it.snis.iter().any(|it| it == sni)) {
            category |= SNI;
        }
        if category == 0 {
            return None;
        }
        let first = self
            .categories
            .iter()
            .position(|(rules, _)| *rules == category);
        for (rules, list) in self.categories.iter().skip(first.unwrap_or(0)) {
            let entries: Vec<&Entry> = list
                .iter()
                .filter_map(|at| self.entries.get(*at).map(|it| &**it))
                .collect();
            let by = |has: &dyn Fn(&Entry) -> usize| -> Option<Vec<&Entry>> {
                let repeated = entries
                    .iter()
                    .flat_map(|it| std::iter::repeat_n(*it, has(it)));
                let found: Vec<&Entry> = repeated.collect();
                (!found.is_empty()).then_some(found)
            };
            let once = |is: bool| usize::from(is);
            let named = |entry: &Entry| match header {
                Some(header) => entry
                    .headers
                    .iter()
                    .filter(|(name, _)| name == header)
                    .count(),
                None => 0,
            };
            let reducers: [(u8, Option<Vec<&Entry>>); 5] = [
                (
                    HOST,
                    by(&|it| it.hosts.iter().filter(|it| **it == asked.host_key).count()),
                ),
                (HEADER, by(&named)),
                (URI, by(&|it| once(uri.is_some() && it.path == uri))),
                (
                    METHOD,
                    by(&|it| once(it.methods.iter().any(|it| it == head.method))),
                ),
                (SNI, by(&|it| once(it.snis.iter().any(|it| it == sni)))),
            ];
            let mut smallest: Option<Vec<&Entry>> = None;
            for (kind, found) in reducers {
                let Some(found) = found.filter(|_| rules & kind != 0) else {
                    continue;
                };
                if kind == HEADER {
                    smallest = Some(found);
                    break;
                }
                if smallest.as_ref().is_none_or(|it| found.len() < it.len()) {
                    smallest = Some(found);
                }
            }
            for entry in smallest
                .into_iter()
                .flatten()
                .chain(entries.iter().copied())
            {
                if let Some(length) = entry.matches(head, &asked) {
                    return Some((entry.route.id.clone(), length));
                }
            }
        }
        None
    }
}
