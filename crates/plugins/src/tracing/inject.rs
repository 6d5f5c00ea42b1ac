//! Writing trace contexts.

use std::fmt::Write as _;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Format, Incoming};

const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const JAEGER: HeaderName = HeaderName::from_static("uber-trace-id");
const OT_TRACE_ID: HeaderName = HeaderName::from_static("ot-tracer-traceid");
const OT_SPAN_ID: HeaderName = HeaderName::from_static("ot-tracer-spanid");
const OT_SAMPLED: HeaderName = HeaderName::from_static("ot-tracer-sampled");
const DATADOG_TRACE_ID: HeaderName = HeaderName::from_static("x-datadog-trace-id");
const DATADOG_PARENT_ID: HeaderName = HeaderName::from_static("x-datadog-parent-id");
const DATADOG_PRIORITY: HeaderName = HeaderName::from_static("x-datadog-sampling-priority");
const AWS: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const GCP: HeaderName = HeaderName::from_static("x-cloud-trace-context");

/// Prefixes of headers that carry baggage.
const JAEGER_BAGGAGE: &str = "uberctx-";
const OT_BAGGAGE: &str = "ot-baggage-";

/// The context that goes upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) trace_id: u128,
    /// Bytes of the trace id as the caller wrote it; 0 when it is ours.
    pub(crate) trace_bytes: usize,
    /// The span that the upstream's is a child of.
    pub(crate) span_id: u64,
    pub(crate) parent_id: Option<u64>,
    pub(crate) sampled: bool,
}

/// The lower digits of a trace id: of 8 or 16 bytes.
pub(crate) fn trace_digits(trace_id: u128, bytes: usize) -> String {
    if bytes == 8 {
        format!("{:016x}", trace_id & u128::from(u64::MAX))
    } else {
        format!("{trace_id:032x}")
    }
}

/// Digits, dashes and the like are always a header value.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

fn bit(set: bool) -> HeaderValue {
    HeaderValue::from_static(if set { "1" } else { "0" })
}

impl Outgoing {
    /// Writes it; `incoming` is what the request said before.
    pub(super) fn write(
        &self,
        format: Format,
        incoming: Option<&Incoming>,
        headers: &mut HeaderMap,
    ) {
        match format {
            Format::B3 => self.b3(incoming, headers),
            Format::B3Single => {
                headers.insert(B3, value(self.b3_single(incoming)));
            }
            Format::W3c => {
                let flags = if self.sampled { "01" } else { "00" };
                let text = format!("00-{:032x}-{:016x}-{flags}", self.trace_id, self.span_id);
                headers.insert(TRACEPARENT, value(text));
            }
            Format::Jaeger => {
                headers.insert(JAEGER, value(self.jaeger()));
                convert_baggage(incoming, Format::Ot, OT_BAGGAGE, JAEGER_BAGGAGE, headers);
            }
            Format::Ot => {
                let bytes = if self.trace_bytes == 16 { 16 } else { 8 };
                headers.insert(OT_TRACE_ID, value(trace_digits(self.trace_id, bytes)));
                headers.insert(OT_SPAN_ID, value(format!("{:016x}", self.span_id)));
                headers.insert(OT_SAMPLED, bit(self.sampled));
                convert_baggage(
                    incoming,
                    Format::Jaeger,
                    JAEGER_BAGGAGE,
                    OT_BAGGAGE,
                    headers,
                );
            }
            Format::Datadog => {
                let low = self.trace_id & u128::from(u64::MAX);
                headers.insert(DATADOG_TRACE_ID, value(low.to_string()));
                headers.insert(DATADOG_PARENT_ID, value(self.span_id.to_string()));
                headers.insert(DATADOG_PRIORITY, bit(self.sampled));
            }
            Format::Aws => {
                let sampled = u8::from(self.sampled);
                let digits = trace_digits(self.trace_id, 16);
                let (time, unique) = digits.split_at_checked(8).unwrap_or(("", ""));
                let parent = self.span_id;
                let text = format!("Root=1-{time}-{unique};Parent={parent:016x};Sampled={sampled}");
                headers.insert(AWS, value(text));
            }
            Format::Gcp => {
                let sampled = u8::from(self.sampled);
                let text = format!("{:032x}/{};o={sampled}", self.trace_id, self.span_id);
                headers.insert(GCP, value(text));
            }
        }
    }

    fn b3(&self, incoming: Option<&Incoming>, headers: &mut HeaderMap) {
        let trace_id = trace_digits(self.trace_id, self.trace_bytes);
        headers.insert(B3_TRACE_ID, value(trace_id));
        headers.insert(B3_SPAN_ID, value(format!("{:016x}", self.span_id)));
        match self.parent_id {
            Some(id) => headers.insert(B3_PARENT_ID, value(format!("{id:016x}"))),
            None => headers.remove(B3_PARENT_ID),
        };
        // A debug flag stands for the decision, which is left as the caller made it.
        match incoming.and_then(|it| it.flags.as_ref()) {
            Some(flags) => headers.insert(B3_FLAGS, flags.clone()),
            None => headers.insert(B3_SAMPLED, bit(self.sampled)),
        };
    }

    fn b3_single(&self, incoming: Option<&Incoming>) -> String {
        let debug = incoming.and_then(|it| it.flags.as_ref());
        let debug = debug.is_some_and(|it| it.as_bytes() == b"1");
        let decision = match (debug, self.sampled) {
            (true, _) => "d",
            (false, true) => "1",
            (false, false) => "0",
        };
        let trace_id = trace_digits(self.trace_id, self.trace_bytes);
        let mut text = format!("{trace_id}-{:016x}-{decision}", self.span_id);
        if let Some(parent) = self.parent_id {
            let _infallible = write!(text, "-{parent:016x}");
        }
        text
    }

    fn jaeger(&self) -> String {
        let trace_id = trace_digits(self.trace_id, self.trace_bytes);
        let flags = if self.sampled { "01" } else { "00" };
        match self.parent_id {
            Some(parent) => format!("{trace_id}:{:016x}:{parent:016x}:{flags}", self.span_id),
            None => format!("{trace_id}:{:016x}:0:{flags}", self.span_id),
        }
    }
}

/// Repeats baggage that came in one format under the names of another.
fn convert_baggage(
    incoming: Option<&Incoming>,
    from: Format,
    old: &str,
    new: &str,
    headers: &mut HeaderMap,
) {
    if incoming.is_none_or(|it| it.format != from) {
        return;
    }
    let converted: Vec<_> = headers
        .iter()
        .filter_map(|(name, value)| {
            let name = format!("{new}{}", name.as_str().strip_prefix(old)?);
            Some((HeaderName::try_from(name).ok()?, value.clone()))
        })
        .collect();
    headers.extend(converted);
}
