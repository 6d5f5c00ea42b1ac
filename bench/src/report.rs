//! What is printed.

use std::time::Duration;

use crate::wrk::Load;

/// Medians over all rounds of one subject.
pub(crate) struct Sums {
    name: &'static str,
    rate: f64,
    cpu_us: f64,
    p50: Duration,
    p99: Duration,
    idle_kib: u64,
    peak_kib: u64,
}

/// A figure that has a target.
#[derive(Clone, Copy)]
pub(crate) enum Measure {
    /// Requests per second.
    Rate,
    /// CPU time per request.
    Cpu,
    /// 99th percentile of the latency.
    P99,
}

/// What a ratio should be.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What the ratio of the last subject's figure to another's should be.
pub(crate) struct Target {
    pub(crate) measure: Measure,
    /// Name of the other subject.
    pub(crate) of: &'static str,
    pub(crate) bound: Bound,
}

impl Sums {
    /// The medians; memory is idle and after the load.
    pub(crate) fn of(
        name: &'static str,
        rounds: &[(Load, Duration)],
        (idle_kib, peak_kib): (u64, u64),
    ) -> Self {
        Self {
            name,
            rate: median(rounds.iter().map(|(load, _)| load.rate)),
            cpu_us: median(rounds.iter().map(|(load, cpu)| per_request(load, *cpu))),
            p50: Duration::from_secs_f64(median(rounds.iter().map(|it| it.0.p50.as_secs_f64()))),
            p99: Duration::from_secs_f64(median(rounds.iter().map(|it| it.0.p99.as_secs_f64()))),
            idle_kib,
            peak_kib,
        }
    }

    fn figure(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Rate => self.rate,
            Measure::Cpu => self.cpu_us,
            Measure::P99 => self.p99.as_secs_f64(),
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// CPU microseconds per request.
fn per_request(load: &Load, cpu: Duration) -> f64 {
    cpu.as_secs_f64() * 1e6 / (load.requests.max(1) as f64)
}

/// One line for a round.
pub(crate) fn round(number: u32, name: &str, load: &Load, cpu: Duration) -> String {
    format!(
        "round {number}  {name:<10} {:>9.0} req/s  {:>6.1} us CPU/req  p50 {:>8.2?}  p99 {:>8.2?}",
        load.rate,
        per_request(load, cpu),
        load.p50,
        load.p99
    )
}

/// Name, decimal places and value of a row.
type Row<'a> = (&'a str, usize, &'a dyn Fn(&Sums) -> f64);

/// Medians side by side, and the ratios of the last subject's to those of each other.
pub(crate) fn summary(subjects: &[Sums]) -> String {
    let Some((last, others)) = subjects.split_last() else {
        return String::new();
    };
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let mebibytes = |kib: u64| kib as f64 / 1024.0;
    let rows: [Row<'_>; 6] = [
        ("req/s", 0, &|it| it.rate),
        ("us CPU/req", 1, &|it| it.cpu_us),
        ("p50 ms", 2, &|it| millis(it.p50)),
        ("p99 ms", 2, &|it| millis(it.p99)),
        ("RSS MiB idle", 1, &|it| mebibytes(it.idle_kib)),
        ("RSS MiB load", 1, &|it| mebibytes(it.peak_kib)),
    ];
    let mut text = format!("\n{:<12}", "median");
    for subject in subjects {
        text.push_str(&format!("  {:>12}", subject.name));
    }
    for other in others {
        text.push_str(&format!("  {:>12}", format!("to {}", other.name)));
    }
    for (name, digits, value) in rows {
        text.push_str(&format!("\n{name:<12}"));
        for subject in subjects {
            text.push_str(&format!("  {:>12.digits$}", value(subject)));
        }
        for other in others {
            text.push_str(&format!("  {:>12.2}", ratio(value(last), value(other))));
        }
    }
    text.push('\n');
    text
}

fn ratio(value: f64, other: f64) -> f64 {
    if other > 0.0 { value / other } else { f64::NAN }
}

/// One line for a target; a subject that was left out has no figures.
pub(crate) fn verdict(scenario: &str, target: &Target, subjects: &[Sums]) -> String {
    let what = match target.measure {
        Measure::Rate => "req/s",
        Measure::Cpu => "CPU per request",
        Measure::P99 => "p99",
    };
    let (sign, limit) = match target.bound {
        Bound::AtLeast(limit) => (">=", limit),
        Bound::AtMost(limit) => ("<=", limit),
    };
    let what = format!("{scenario}: {what} to {}", target.of);
    let other = subjects.iter().find(|it| it.name == target.of);
    let (Some(last), Some(other)) = (subjects.last(), other) else {
        return format!("{what:<44} {sign} {limit:<5} not measured");
    };
    let ratio = ratio(last.figure(target.measure), other.figure(target.measure));
    let met = match target.bound {
        Bound::AtLeast(limit) => ratio >= limit,
        Bound::AtMost(limit) => ratio <= limit,
    };
    let verdict = if met { "ok" } else { "MISS" };
    format!("{what:<44} {sign} {limit:<5} {ratio:>6.2}  {verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(name: &'static str, rate: f64, p99_us: u64) -> Sums {
        let latency = Duration::from_micros(p99_us);
        let load = Load {
            requests: 10,
            rate,
            p50: latency,
            p99: latency,
            errors: 0,
        };
        Sums::of(name, &[(load, Duration::from_micros(100))], (0, 0))
    }

    #[test]
    fn a_target_compares_the_last_subject_with_the_one_it_names() {
        let subjects = [
            sums("a", 100.0, 10),
            sums("b", 50.0, 20),
            sums("c", 90.0, 15),
        ];
        let verdict =
            |measure, of, bound| verdict("plain", &Target { measure, of, bound }, &subjects);
        assert!(verdict(Measure::Rate, "a", Bound::AtLeast(0.95)).ends_with("0.90  MISS"));
        assert!(verdict(Measure::Rate, "b", Bound::AtLeast(0.95)).ends_with("1.80  ok"));
        assert!(verdict(Measure::P99, "a", Bound::AtMost(1.0)).ends_with("1.50  MISS"));
        assert!(verdict(Measure::P99, "b", Bound::AtMost(1.0)).ends_with("0.75  ok"));
        assert!(verdict(Measure::Cpu, "a", Bound::AtMost(1.1)).ends_with("1.00  ok"));
        assert!(verdict(Measure::P99, "absent", Bound::AtMost(1.0)).ends_with("not measured"));
    }
}
