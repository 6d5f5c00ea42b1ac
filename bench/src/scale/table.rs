//! The table of targets and measured values.

use std::time::Duration;

/// What a value should be.
#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// One measured value and what it should be.
struct Row {
    what: String,
    unit: &'static str,
    /// `None` where the specification names nothing.
    target: Option<Target>,
    value: f64,
}

/// Rows in the order they were measured; each is printed when it is known.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        target: impl Into<Option<f64>>,
        value: f64,
    ) {
        self.push(Row {
            what: what.into(),
            unit,
            target: target.into().map(Target::AtMost),
            value,
        });
    }

    /// A value of which more is better.
    pub(crate) fn at_least(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        target: impl Into<Option<f64>>,
        value: f64,
    ) {
        self.push(Row {
            what: what.into(),
            unit,
            target: target.into().map(Target::AtLeast),
            value,
        });
    }

    fn push(&mut self, row: Row) {
        println!("{}", row.line());
        self.0.push(row);
    }

    pub(crate) fn millis(
        &mut self,
        what: impl Into<String>,
        target: impl Into<Option<f64>>,
        value: Duration,
    ) {
        self.add(what, "ms", target, millis(value));
    }

    pub(crate) fn seconds(
        &mut self,
        what: impl Into<String>,
        target: impl Into<Option<f64>>,
        value: Duration,
    ) {
        self.add(what, "s", target, value.as_secs_f64());
    }

    pub(crate) fn mebibytes(
        &mut self,
        what: impl Into<String>,
        target: impl Into<Option<f64>>,
        kib: u64,
    ) {
        self.add(what, "MiB", target, kib as f64 / 1024.0);
    }

    /// The whole table and how many targets were missed.
    pub(crate) fn print(&self) {
        println!();
        for row in &self.0 {
            println!("{}", row.line());
        }
        let missed = self.0.iter().filter(|row| row.is_missed()).count();
        println!("\n{missed} targets missed");
    }
}

impl Row {
    fn is_missed(&self) -> bool {
        match self.target {
            Some(Target::AtMost(target)) => self.value > target,
            Some(Target::AtLeast(target)) => self.value < target,
            None => false,
        }
    }

    fn line(&self) -> String {
        let target = match self.target {
            Some(Target::AtMost(target)) => format!("<= {target}"),
            Some(Target::AtLeast(target)) => format!(">= {target}"),
            None => String::new(),
        };
        let verdict = match self.target {
            Some(_) if self.is_missed() => "MISS",
            Some(_) => "ok",
            None => "",
        };
        format!(
            "{:<56} {target:>9} {:>10.2} {:<4} {verdict}",
            self.what, self.value, self.unit
        )
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The value below which `share` of all are.
pub(crate) fn percentile(values: &mut [Duration], share: f64) -> Duration {
    values.sort_unstable();
    let at = (values.len() as f64 * share) as usize;
    let at = at.min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}
