//! Reading trace contexts, format by format, as Kong 3.9.3 does. What is malformed is as if it were not
//! there; clients are not worth a log line.

use http::HeaderValue;

use super::Format;
use super::found::{Found, visible};

/// What a request says of its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    /// How it was said.
    pub(crate) format: Format,
    pub(crate) trace_id: Option<u128>,
    /// Bytes of the trace id as it was written.
    pub(crate) trace_bytes: usize,
    pub(crate) span_id: Option<u64>,
    pub(crate) parent_id: Option<u64>,
    /// Caller and we share one span (B3 and Jaeger).
    pub(crate) shared_span: bool,
    /// The caller's decision.
    pub(crate) sampled: Option<bool>,
    /// `x-b3-flags`; also what `d` of a single header means.
    pub(crate) flags: Option<HeaderValue>,
}

impl Incoming {
    fn new(format: Format) -> Self {
        Self {
            format,
            trace_id: None,
            trace_bytes: 0,
            span_id: None,
            parent_id: None,
            shared_span: false,
            sampled: None,
            flags: None,
        }
    }

    /// A trace id of so many hexadecimal digits; without one the other ids mean nothing.
    fn ids(mut self, trace: Option<(u128, usize)>, span: Option<u64>, parent: Option<u64>) -> Self {
        if let Some((trace_id, digits)) = trace {
            self.trace_id = Some(trace_id);
            self.trace_bytes = digits.div_ceil(2);
            self.span_id = span;
            self.parent_id = parent;
        }
        self
    }

    /// The context that headers hold in this format.
    pub(super) fn read(format: Format, found: &Found<'_>) -> Option<Self> {
        match format {
            Format::B3 | Format::B3Single => b3(found),
            Format::W3c => w3c(found),
            Format::Jaeger => jaeger(found),
            Format::Ot => ot(found),
            Format::Datadog => datadog(found),
            Format::Aws => aws(found),
            Format::Gcp => gcp(found),
        }
    }
}

/// A number of hexadecimal digits, and how many there are; zero is no id.
fn trace(text: &str, is_length: impl Fn(usize) -> bool) -> Option<(u128, usize)> {
    let fine = is_length(text.len()) && text.bytes().all(|it| it.is_ascii_hexdigit());
    let id = fine
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()?;
    (id != 0).then_some((id, text.len()))
}

/// 16 or 32 digits.
fn usual_trace(text: &str) -> Option<(u128, usize)> {
    trace(text, |length| matches!(length, 16 | 32))
}

fn span(text: &str, is_length: impl Fn(usize) -> bool) -> Option<u64> {
    let fine = is_length(text.len()) && text.bytes().all(|it| it.is_ascii_hexdigit());
    let id = fine.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
    (id != 0).then_some(id)
}

fn usual_span(text: &str) -> Option<u64> {
    span(text, |length| length == 16)
}

/// An optional span id: `Err` when there is one that is none.
fn optional_span(value: Option<&HeaderValue>) -> Result<Option<u64>, ()> {
    match value {
        None => Ok(None),
        Some(_) => visible(value).and_then(usual_span).map(Some).ok_or(()),
    }
}

fn decision(value: Option<&HeaderValue>) -> Option<bool> {
    match visible(value)? {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn b3(found: &Found<'_>) -> Option<Incoming> {
    let single = found.b3.map(|it| visible(Some(it)).unwrap_or_default());
    let single = single.or(found.b3_state);
    let several = [
        found.b3_trace_id,
        found.b3_span_id,
        found.b3_parent_id,
        found.b3_sampled,
        found.b3_flags,
    ];
    if single.is_none() && several.iter().all(Option::is_none) {
        return None;
    }
    let mut context = single.map_or_else(|| Incoming::new(Format::B3), b3_single);
    context.shared_span = true;
    if context.sampled.is_none() {
        let debug = visible(found.b3_flags) == Some("1");
        context.sampled = debug.then_some(true).or(decision(found.b3_sampled));
    }
    context.flags = context.flags.or(found.b3_flags.cloned());
    if context.trace_id.is_none() {
        context = b3_ids(context, found);
    }
    Some(context)
}

/// Ids in several headers: one that is malformed spoils all.
fn b3_ids(context: Incoming, found: &Found<'_>) -> Incoming {
    let trace = visible(found.b3_trace_id).and_then(usual_trace);
    match (
        optional_span(found.b3_span_id),
        optional_span(found.b3_parent_id),
    ) {
        (Ok(span), Ok(parent)) => context.ids(trace, span, parent),
        _ => context,
    }
}

/// `{trace}-{span}[-{decision}[-{parent}]]`, or a decision alone.
fn b3_single(text: &str) -> Incoming {
    let mut context = Incoming::new(Format::B3Single);
    let mut decide = |word: &str| {
        context.sampled = match word {
            "1" | "d" => Some(true),
            "0" => Some(false),
            _ => None,
        };
        context.flags = (word == "d").then(|| HeaderValue::from_static("1"));
        context.sampled.is_some()
    };
    let mut parts = text.split('-');
    let parts = [
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ];
    let [Some(first), second, third, parent, None] = parts else {
        return context;
    };
    let Some(second) = second else {
        decide(first);
        return context;
    };
    let trace = usual_trace(first);
    let span = usual_span(second);
    let parent_id = parent.and_then(usual_span);
    let fine = span.is_some() && trace.is_some() && parent_id.is_some() == parent.is_some();
    if fine && third.is_none_or(&mut decide) {
        return context.ids(trace, span, parent_id);
    }
    Incoming::new(Format::B3Single)
}

fn w3c(found: &Found<'_>) -> Option<Incoming> {
    let mut parts = visible(found.traceparent)?.split('-');
    let parts = [
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ];
    let [Some("00"), Some(trace_id), Some(span_id), Some(flags), None] = parts else {
        return None;
    };
    let trace_id = trace(trace_id, |length| length == 32)?;
    let span_id = usual_span(span_id)?;
    let fine = flags.len() == 2 && flags.bytes().all(|it| it.is_ascii_hexdigit());
    let flags = u8::from_str_radix(flags, 16).ok().filter(|_| fine)?;
    let mut context = Incoming::new(Format::W3c).ids(Some(trace_id), Some(span_id), None);
    context.sampled = Some(flags & 1 == 1);
    Some(context)
}

fn jaeger(found: &Found<'_>) -> Option<Incoming> {
    let mut parts = visible(found.jaeger)?.split(':');
    let parts = [
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ];
    let [
        Some(trace_id),
        Some(span_id),
        Some(parent_id),
        Some(flags),
        None,
    ] = parts
    else {
        return None;
    };
    let trace_id = trace(trace_id, |length| (1..=32).contains(&length))?;
    let span_id = span(span_id, |length| (1..=16).contains(&length))?;
    let parent_id = span(parent_id, |length| (1..=16).contains(&length));
    let fine = matches!(flags.len(), 1 | 2) && flags.bytes().all(|it| it.is_ascii_hexdigit());
    let flags = u8::from_str_radix(flags, 16).ok().filter(|_| fine)?;
    let context = Incoming::new(Format::Jaeger);
    let mut context = context.ids(Some(trace_id), Some(span_id), parent_id);
    context.shared_span = true;
    context.sampled = Some(flags & 1 == 1);
    Some(context)
}

fn ot(found: &Found<'_>) -> Option<Incoming> {
    found
        .ot_trace_id
        .or(found.ot_span_id)
        .or(found.ot_sampled)?;
    let mut context = Incoming::new(Format::Ot);
    context.sampled = decision(found.ot_sampled);
    let trace = visible(found.ot_trace_id).and_then(usual_trace);
    Some(match optional_span(found.ot_span_id) {
        Ok(span) => context.ids(trace, span, None),
        Err(()) => context,
    })
}

fn datadog(found: &Found<'_>) -> Option<Incoming> {
    found
        .datadog_trace_id
        .or(found.datadog_parent_id)
        .or(found.datadog_priority)?;
    let mut context = Incoming::new(Format::Datadog);
    context.sampled = match found.datadog_priority {
        None => None,
        priority => Some(match visible(priority)? {
            "1" | "2" => true,
            "0" | "-1" => false,
            _ => return None,
        }),
    };
    let number = |value| {
        let text = visible(value)?.trim();
        let fine = text.bytes().all(|it| it.is_ascii_digit());
        text.parse().ok().filter(|it: &u64| fine && *it != 0)
    };
    let trace = number(found.datadog_trace_id).map(|it| (u128::from(it), 16));
    Some(context.ids(trace, number(found.datadog_parent_id), None))
}

/// `Root=1-{8 digits}-{24 digits};Parent={16 digits};Sampled={0|1}`, in any order.
fn aws(found: &Found<'_>) -> Option<Incoming> {
    let mut context = Incoming::new(Format::Aws);
    let (mut trace_id, mut span_id) = (None, None);
    for pair in visible(found.aws)?.split(';') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (key.trim(), value.trim()) {
            ("Root", value) => {
                let (time, unique) = value.strip_prefix("1-")?.split_once('-')?;
                let fine = time.len() == 8 && unique.len() == 24;
                let digits = fine.then(|| format!("{time}{unique}"))?;
                trace_id = Some(trace(&digits, |length| length == 32)?);
            }
            ("Parent", value) => span_id = Some(usual_span(value)?),
            ("Sampled", "1") => context.sampled = Some(true),
            ("Sampled", "0") => context.sampled = Some(false),
            ("Sampled", _) => return None,
            _ => {}
        }
    }
    Some(context.ids(trace_id, span_id, None))
}

/// `{32 digits}/{decimal number}[;o={digit}]`.
fn gcp(found: &Found<'_>) -> Option<Incoming> {
    let (trace_id, rest) = visible(found.gcp)?.split_once('/')?;
    let (span_id, flags) = match rest.split_once(";o=") {
        Some((span_id, flags)) => (span_id, Some(flags)),
        None => (rest, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let fine = is_digits(span_id) && flags.is_none_or(|it| it.len() == 1 && is_digits(it));
    let trace_id = trace(trace_id, |length| length == 32).filter(|_| fine)?;
    let span_id = span_id.parse().ok().filter(|it| *it != 0);
    let mut context = Incoming::new(Format::Gcp).ids(Some(trace_id), span_id, None);
    context.sampled = Some(flags == Some("1"));
    Some(context)
}
