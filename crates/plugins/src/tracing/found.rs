//! The headers that may hold a trace context, found in one pass: most requests have none of them.

use http::{HeaderMap, HeaderValue};

/// First line of each.
#[derive(Default)]
pub(super) struct Found<'a> {
    pub(super) b3: Option<&'a HeaderValue>,
    /// A `tracestate` that holds a B3 context.
    pub(super) b3_state: Option<&'a str>,
    pub(super) b3_trace_id: Option<&'a HeaderValue>,
    pub(super) b3_span_id: Option<&'a HeaderValue>,
    pub(super) b3_parent_id: Option<&'a HeaderValue>,
    pub(super) b3_sampled: Option<&'a HeaderValue>,
    pub(super) b3_flags: Option<&'a HeaderValue>,
    pub(super) traceparent: Option<&'a HeaderValue>,
    pub(super) jaeger: Option<&'a HeaderValue>,
    pub(super) ot_trace_id: Option<&'a HeaderValue>,
    pub(super) ot_span_id: Option<&'a HeaderValue>,
    pub(super) ot_sampled: Option<&'a HeaderValue>,
    pub(super) datadog_trace_id: Option<&'a HeaderValue>,
    pub(super) datadog_parent_id: Option<&'a HeaderValue>,
    pub(super) datadog_priority: Option<&'a HeaderValue>,
    pub(super) aws: Option<&'a HeaderValue>,
    pub(super) gcp: Option<&'a HeaderValue>,
    any: bool,
}

impl<'a> Found<'a> {
    pub(super) fn new(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            let slot = match (name.as_bytes().first(), name) {
                (Some(b'x'), "x-b3-traceid") => &mut found.b3_trace_id,
                (Some(b'x'), "x-b3-spanid") => &mut found.b3_span_id,
                (Some(b'x'), "x-b3-parentspanid") => &mut found.b3_parent_id,
                (Some(b'x'), "x-b3-sampled") => &mut found.b3_sampled,
                (Some(b'x'), "x-b3-flags") => &mut found.b3_flags,
                (Some(b'x'), "x-datadog-trace-id") => &mut found.datadog_trace_id,
                (Some(b'x'), "x-datadog-parent-id") => &mut found.datadog_parent_id,
                (Some(b'x'), "x-datadog-sampling-priority") => &mut found.datadog_priority,
                (Some(b'x'), "x-amzn-trace-id") => &mut found.aws,
                (Some(b'x'), "x-cloud-trace-context") => &mut found.gcp,
                (Some(b't'), "traceparent") => &mut found.traceparent,
                (Some(b'b'), "b3") => &mut found.b3,
                (Some(b'u'), "uber-trace-id") => &mut found.jaeger,
                (Some(b'o'), "ot-tracer-traceid") => &mut found.ot_trace_id,
                (Some(b'o'), "ot-tracer-spanid") => &mut found.ot_span_id,
                (Some(b'o'), "ot-tracer-sampled") => &mut found.ot_sampled,
                (Some(b't'), "tracestate") => {
                    let state = value.to_str().ok().and_then(|it| it.strip_prefix("b3="));
                    found.b3_state = found.b3_state.or(state);
                    found.any |= state.is_some();
                    continue;
                }
                _ => continue,
            };
            slot.get_or_insert(value);
            found.any = true;
        }
        found
    }

    /// None of them is there.
    pub(super) fn is_empty(&self) -> bool {
        !self.any
    }
}

/// A header as text; none for what is no visible ASCII.
pub(super) fn visible(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|it| it.to_str().ok())
}
