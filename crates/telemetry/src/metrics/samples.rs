//! What is worked out when the metrics are rendered.

use std::collections::BTreeMap;

use super::{Kind, number, rendered};

/// Something that knows numbers when it is asked for them.
pub trait Collect: Send + Sync {
    /// Adds what it knows. Called off the request path, perhaps from several threads at once.
    fn collect(&self, into: &mut Samples);
}

/// The metrics of one rendering.
#[derive(Default)]
pub struct Samples {
    families: BTreeMap<String, Family>,
}

struct Family {
    help: String,
    kind: Kind,
    /// Whole lines by labels.
    lines: BTreeMap<String, String>,
}

impl Samples {
    /// Adds a number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        let labels = rendered(labels);
        self.put(Kind::Counter, name, help, labels, value.to_string());
    }

    /// Adds a number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.put(Kind::Gauge, name, help, rendered(labels), number(value));
    }

    /// Adds a histogram: `counts` has one number for each of the ascending upper `bounds` and one for
    /// what is over all of them, not cumulative.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        self.put_histogram(name, help, rendered(labels), bounds, counts, sum);
    }

    pub(super) fn put(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        labels: String,
        value: String,
    ) {
        let mut text = String::new();
        line(&mut text, name, &labels, &value);
        self.lines(kind, name, help, labels, text);
    }

    pub(super) fn put_histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: String,
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut text = String::new();
        let mut total = 0;
        let bounds = bounds.iter().map(|bound| number(*bound));
        let bounds = bounds.chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(counts) {
            total += count;
            let labels = format!("{labels}{comma}le=\"{bound}\"");
            line(
                &mut text,
                &format!("{name}_bucket"),
                &labels,
                &total.to_string(),
            );
        }
        line(&mut text, &format!("{name}_sum"), &labels, &number(sum));
        line(
            &mut text,
            &format!("{name}_count"),
            &labels,
            &total.to_string(),
        );
        self.lines(Kind::Histogram, name, help, labels, text);
    }

    /// One name has one kind: what comes as another is left out.
    fn lines(&mut self, kind: Kind, name: &str, help: &str, labels: String, text: String) {
        if !self.families.contains_key(name) {
            let family = Family {
                help: help.to_owned(),
                kind,
                lines: BTreeMap::new(),
            };
            self.families.insert(name.to_owned(), family);
        }
        match self.families.get_mut(name) {
            Some(family) if family.kind == kind => {
                family.lines.insert(labels, text);
            }
            _ => tracing::error!(metric = name, "metric was collected as another kind"),
        }
    }

    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        for (name, family) in &self.families {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
            family.lines.values().for_each(|lines| out.push_str(lines));
        }
        out
    }
}

fn line(out: &mut String, name: &str, labels: &str, value: &str) {
    out.push_str(name);
    if !labels.is_empty() {
        out.push('{');
        out.push_str(labels);
        out.push('}');
    }
    out.push(' ');
    out.push_str(value);
    out.push('\n');
}
