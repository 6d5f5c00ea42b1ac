//! Slow models of the matcher that follow the specification word by word, random route sets and
//! requests, and the entry points of fuzz targets.

mod expressions;
pub mod fuzz;
mod random;
mod traditional;

pub use random::{Choose, Request, Routes, request, routes};

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use o28m_kong::expression::Expression;
use o28m_kong::{Route, RouterFlavor};
use regex::Regex;

use crate::entry::{self, Entry, Matcher};
use crate::host::Host;
use crate::{Calculation, RequestHead};

/// The compiled pattern. Compiling is by far the slowest part of the models; each is compiled once.
fn regex(pattern: String) -> Option<Regex> {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|known| {
        if known.len() > 1000 {
            known.clear();
        }
        let compile = |pattern: &String| Regex::new(pattern).ok();
        known.entry(pattern).or_insert_with_key(compile).clone()
    })
}

/// Looks at every route for each request.
pub struct Slow {
    entries: Vec<(Arc<Entry>, Option<Expression>)>,
    traditional: Option<traditional::Lists>,
}

impl Slow {
    /// The model over those of `routes` that can be compiled.
    #[must_use]
    pub fn new(routes: &[Arc<Route>], flavor: RouterFlavor, calculation: Calculation) -> Self {
        if flavor == RouterFlavor::Traditional {
            return Self {
                entries: Vec::new(),
                traditional: Some(traditional::Lists::new(routes)),
            };
        }
        let compiled = routes.iter().filter_map(|route| {
            let text = route.expression.as_deref();
            let expression = text.and_then(|text| Expression::parse(text).ok());
            let entries = entry::compile(route, flavor, calculation).ok()?;
            Some(
                entries
                    .into_iter()
                    .map(move |entry| (entry, expression.clone())),
            )
        });
        Self {
            entries: compiled.flatten().collect(),
            traditional: None,
        }
    }

    /// The model without the routes that `keeps` refuses.
    #[must_use]
    pub fn among(&self, keeps: &dyn Fn(&str) -> bool) -> Self {
        let entries = self.entries.iter();
        let kept = entries.filter(|(entry, _)| keeps(&entry.route.id));
        Self {
            entries: kept.cloned().collect(),
            traditional: self.traditional.as_ref().map(|it| it.among(keeps)),
        }
    }

    /// Id of the winning route, and the bytes of the path that it matched.
    #[must_use]
    pub fn find(&self, head: &RequestHead<'_>) -> Option<(String, usize)> {
        if let Some(lists) = &self.traditional {
            return lists.find(head);
        }
        let host = Host::parse(head.host, head.port);
        let fits = self.entries.iter().filter_map(|(entry, expression)| {
            let length = match (&entry.matcher, expression) {
                (Matcher::Expression(_), Some(expression)) => {
                    expressions::matches(expression, &entry.route.protocols, head)
                }
                _ => entry.matches_alone(head, &host).map(|hit| hit.length),
            };
            length.map(|length| (entry, length))
        });
        let best = fits.max_by(|(one, _), (other, _)| match one.rank.cmp(&other.rank) {
            Ordering::Equal => Ordering::Greater,
            order => order,
        });
        best.map(|(entry, length)| (entry.route.id.clone(), length))
    }
}
