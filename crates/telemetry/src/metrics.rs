//! A small metric registry with the Prometheus text format.

mod samples;
mod sharded;

pub use samples::{Collect, Samples};
pub use sharded::Sharded;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Content type of [`Registry::render`], as Kong writes it.
pub const CONTENT_TYPE: &str = "text/plain; charset=UTF-8";

/// Series of one metric. Labels come from closed sets, so reaching this is a bug: further series are
/// counted together under `overflow="true"`.
const SERIES_MAX: usize = 10_000;

/// Every metric of the process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    families: Arc<RwLock<BTreeMap<String, Family>>>,
    collectors: Arc<RwLock<Vec<Arc<dyn Collect>>>>,
}

/// All series of one name.
struct Family {
    help: String,
    kind: Kind,
    /// By rendered labels, such as `a="x",b="y"`.
    series: BTreeMap<String, Series>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

enum Series {
    Counter(Counter),
    Gauge(Arc<dyn Fn() -> f64 + Send + Sync>),
    Level(Gauge),
    Histogram(Histogram),
}

/// A number that only grows.
#[derive(Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The number so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Clone, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Replaces the number.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: f64) {
        add(&self.0, amount);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Adds to a float kept as bits.
fn add(cell: &AtomicU64, amount: f64) {
    let mut seen = cell.load(Ordering::Relaxed);
    loop {
        let sum = (f64::from_bits(seen) + amount).to_bits();
        match cell.compare_exchange_weak(seen, sum, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

/// Counts of observed values by upper bound.
#[derive(Clone)]
pub struct Histogram(Arc<Buckets>);

struct Buckets {
    bounds: &'static [f64],
    /// One for each bound and one for what is over all of them; not cumulative.
    counts: Vec<AtomicU64>,
    /// Bits of the sum of all values.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets {
            bounds,
            counts,
            sum: AtomicU64::new(0),
        }))
    }

    /// Records one value.
    pub fn observe(&self, value: f64) {
        let place = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        add(&self.0.sum, value);
    }

    /// How many values were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counts = self.0.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn put(&self, family: &str, help: &str, labels: String, into: &mut Samples) {
        let counts = self.0.counts.iter();
        let counts: Vec<u64> = counts.map(|it| it.load(Ordering::Relaxed)).collect();
        let sum = f64::from_bits(self.0.sum.load(Ordering::Relaxed));
        into.put_histogram(family, help, labels, self.0.bounds, &counts, sum);
    }
}

impl Registry {
    /// The counter of that name and label values, made when it is new. Labels must come from closed
    /// sets or configured names, never from raw input.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        let make = || Series::Counter(Counter::default());
        self.series(
            Kind::Counter,
            name,
            help,
            labels,
            make,
            |series| match series {
                Series::Counter(counter) => Some(counter.clone()),
                Series::Gauge(_) | Series::Level(_) | Series::Histogram(_) => None,
            },
        )
        .unwrap_or_default()
    }

    /// A gauge read when the metrics are rendered; replaces the one of the same name and labels.
    pub fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.write(Kind::Gauge, name, help, labels, |slot| {
            *slot = Some(Series::Gauge(Arc::new(read)));
        });
    }

    /// A gauge that the caller sets, made when it is new.
    #[must_use]
    pub fn level(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Gauge {
        let make = || Series::Level(Gauge::default());
        self.series(
            Kind::Gauge,
            name,
            help,
            labels,
            make,
            |series| match series {
                Series::Level(gauge) => Some(gauge.clone()),
                Series::Gauge(_) | Series::Counter(_) | Series::Histogram(_) => None,
            },
        )
        .unwrap_or_default()
    }

    /// A histogram with these upper bounds, ascending: seconds, for durations. The bounds of the
    /// first call count.
    #[must_use]
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &'static [f64],
    ) -> Histogram {
        let make = || Series::Histogram(Histogram::new(bounds));
        self.series(
            Kind::Histogram,
            name,
            help,
            labels,
            make,
            |series| match series {
                Series::Histogram(histogram) => Some(histogram.clone()),
                Series::Counter(_) | Series::Gauge(_) | Series::Level(_) => None,
            },
        )
        .unwrap_or_else(|| Histogram::new(bounds))
    }

    /// Removes the series of that name and labels, for things that can disappear, such as a target.
    pub fn remove(&self, name: &str, labels: &[(&str, &str)]) {
        if let Some(family) = self.lock_to_write().get_mut(name) {
            family.series.remove(&rendered(labels));
        }
    }

    /// Asks `collector` for samples whenever the metrics are rendered.
    pub fn collect(&self, collector: impl Collect + 'static) {
        let collectors = self.collectors.write();
        let mut collectors = collectors.unwrap_or_else(PoisonError::into_inner);
        collectors.push(Arc::new(collector));
    }

    /// The Prometheus text format (version 0.0.4) of every metric, ordered by name and labels. Many
    /// series take their time: large processes render off the threads that serve requests.
    #[must_use]
    pub fn render(&self) -> String {
        let mut samples = Samples::default();
        for (name, family) in &*self.lock_to_read() {
            let help = &family.help;
            for (labels, series) in &family.series {
                let labels = labels.clone();
                match series {
                    Series::Counter(counter) => {
                        samples.put(Kind::Counter, name, help, labels, counter.get().to_string());
                    }
                    Series::Gauge(read) => {
                        samples.put(Kind::Gauge, name, help, labels, number(read()));
                    }
                    Series::Level(gauge) => {
                        samples.put(Kind::Gauge, name, help, labels, number(gauge.get()));
                    }
                    Series::Histogram(histogram) => {
                        histogram.put(name, help, labels, &mut samples);
                    }
                }
            }
        }
        let collectors = self.collectors.read();
        let collectors = collectors.unwrap_or_else(PoisonError::into_inner).clone();
        for collector in collectors {
            collector.collect(&mut samples);
        }
        samples.render()
    }

    /// Finds or makes a series. One name has one kind: asked for as another, `None`, which callers
    /// turn into a metric that nobody reads.
    fn series<T>(
        &self,
        kind: Kind,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        make: impl Fn() -> Series,
        take: impl Fn(&Series) -> Option<T>,
    ) -> Option<T> {
        let known = {
            let families = self.lock_to_read();
            let family = families.get(name).filter(|family| family.kind == kind);
            family.and_then(|family| family.series.get(&rendered(labels)).and_then(&take))
        };
        if known.is_some() {
            return known;
        }
        let mut taken = None;
        self.write(kind, name, help, labels, |slot| {
            taken = take(slot.get_or_insert_with(&make));
        });
        taken
    }

    /// Changes the series of that name and labels, which may not exist yet.
    fn write(
        &self,
        kind: Kind,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        change: impl FnOnce(&mut Option<Series>),
    ) {
        let mut families = self.lock_to_write();
        let family = families.entry(name.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            series: BTreeMap::new(),
        });
        if family.kind != kind {
            tracing::error!(metric = name, "metric was registered as another kind");
            return;
        }
        let mut labels = rendered(labels);
        if family.series.len() >= SERIES_MAX && !family.series.contains_key(&labels) {
            labels = "overflow=\"true\"".to_owned();
        }
        let mut slot = family.series.remove(&labels);
        change(&mut slot);
        if let Some(series) = slot {
            family.series.insert(labels, series);
        }
    }

    fn lock_to_read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Family>> {
        self.families.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_to_write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Family>> {
        self.families
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// `a="x",b="y"` in the order given, values escaped.
fn rendered(labels: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
    }
    out
}

/// A float as Prometheus reads it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_every_kind_in_order() {
        let registry = Registry::default();
        registry.counter("b_total", "B.", &[("x", "2")]).add(3);
        registry.counter("b_total", "B.", &[("x", "1")]).add(1);
        registry.counter("b_total", "B.", &[("x", "2")]).add(4);
        registry.gauge("a", "Line\nbreak \\.", &[], || 1.5);
        registry.level("level", "L.", &[]).set(-2.0);
        let histogram = registry.histogram("h", "H.", &[("x", "y")], &[0.1, 1.0]);
        for value in [0.05, 0.1, 0.5, 7.0] {
            histogram.observe(value);
        }
        assert_eq!(histogram.count(), 4);
        let wanted = concat!(
            "# HELP a Line\\nbreak \\\\.\n# TYPE a gauge\na 1.5\n",
            "# HELP b_total B.\n# TYPE b_total counter\nb_total{x=\"1\"} 1\nb_total{x=\"2\"} 7\n",
            "# HELP h H.\n# TYPE h histogram\n",
            "h_bucket{x=\"y\",le=\"0.1\"} 2\nh_bucket{x=\"y\",le=\"1\"} 3\n",
            "h_bucket{x=\"y\",le=\"+Inf\"} 4\nh_sum{x=\"y\"} 7.65\nh_count{x=\"y\"} 4\n",
            "# HELP level L.\n# TYPE level gauge\nlevel -2\n",
        );
        assert_eq!(registry.render(), wanted);
        assert_eq!(registry.clone().render(), wanted);
    }

    #[test]
    fn escapes_label_values() {
        let registry = Registry::default();
        registry.counter("c", "C.", &[("x", "a\"b\\c\nd")]).add(1);
        assert!(registry.render().contains("c{x=\"a\\\"b\\\\c\\nd\"} 1\n"));
    }

    #[test]
    fn a_gauge_is_replaced_and_series_can_be_removed() {
        let registry = Registry::default();
        registry.gauge("g", "G.", &[("x", "y")], || 1.0);
        registry.gauge("g", "G.", &[("x", "y")], || f64::INFINITY);
        assert!(registry.render().contains("g{x=\"y\"} +Inf\n"));
        registry.remove("g", &[("x", "y")]);
        assert_eq!(registry.render(), "");
    }

    #[test]
    fn one_name_has_one_kind() {
        let registry = Registry::default();
        registry.counter("m", "M.", &[]).add(1);
        registry.level("m", "M.", &[]).set(5.0);
        registry.gauge("m", "M.", &[], || 7.0);
        registry.histogram("m", "M.", &[], &[1.0]).observe(1.0);
        assert_eq!(registry.render(), "# HELP m M.\n# TYPE m counter\nm 1\n");
    }

    #[test]
    fn too_many_series_are_counted_together() {
        let registry = Registry::default();
        for number in 0..SERIES_MAX + 10 {
            let value = number.to_string();
            registry.counter("c", "C.", &[("x", &value)]).add(1);
        }
        assert!(registry.render().contains("c{overflow=\"true\"} 10\n"));
    }

    #[test]
    fn collectors_add_to_what_is_registered() {
        struct Two;
        impl Collect for Two {
            fn collect(&self, into: &mut Samples) {
                into.counter("c", "C.", &[("x", "2")], 1 << 60);
                into.gauge("a", "A.", &[], 0.5);
                into.gauge("c", "another kind", &[], 1.0);
                into.histogram("h", "H.", &[("x", "y")], &[1.0, 2.0], &[1, 0, 2], 9.5);
            }
        }
        let registry = Registry::default();
        registry.counter("c", "C.", &[("x", "1")]).add(3);
        registry.collect(Two);
        let wanted = concat!(
            "# HELP a A.\n# TYPE a gauge\na 0.5\n",
            "# HELP c C.\n# TYPE c counter\nc{x=\"1\"} 3\nc{x=\"2\"} 1152921504606846976\n",
            "# HELP h H.\n# TYPE h histogram\nh_bucket{x=\"y\",le=\"1\"} 1\n",
            "h_bucket{x=\"y\",le=\"2\"} 1\nh_bucket{x=\"y\",le=\"+Inf\"} 3\n",
            "h_sum{x=\"y\"} 9.5\nh_count{x=\"y\"} 3\n",
        );
        assert_eq!(registry.render(), wanted);
    }

    #[test]
    fn handles_count_from_many_threads() {
        let registry = Registry::default();
        let histogram = registry.histogram("h", "H.", &[], &[1.0]);
        let gauge = registry.level("g", "G.", &[]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        registry.counter("c", "C.", &[]).add(1);
                        histogram.observe(0.5);
                        gauge.add(0.5);
                    }
                });
            }
        });
        assert_eq!(registry.counter("c", "C.", &[]).get(), 4000);
        assert_eq!(gauge.get(), 2000.0);
        assert!(registry.render().contains("h_sum 2000\nh_count 4000\n"));
    }
}
