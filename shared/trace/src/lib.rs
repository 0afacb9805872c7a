//! One trace over process boundaries: W3C `traceparent` out of a span, and into one. And what processes log of services in trouble.

mod services;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use services::{Seldom, watch_services};

/// The `traceparent` of `span`; nothing where nobody traces.
pub fn parent_of(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span().span_context().clone();
    let sampled = u8::from(span.is_sampled());
    span.is_valid().then(|| format!("00-{}-{}-{sampled:02x}", span.trace_id(), span.span_id()))
}

/// As [`parent_of`], but what follows it is not recorded: a trace of thousands of spans can be shown by nothing.
pub fn unrecorded_parent_of(span: &Span) -> Option<String> {
    let recorded = parent_of(span)?;
    recorded.rsplit_once('-').map(|(place, _)| format!("{place}-00"))
}

/// Makes `span` a child of the span that `traceparent` names; one that cannot be read is ignored.
pub fn follow(span: &Span, traceparent: &str) {
    if let Some(parent) = read(traceparent) {
        // Fails where nobody traces.
        _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
    }
}

/// As [`follow`], with a link, too: by the conventions of messaging a message's sender is linked to, and of single messages
/// it may be the parent.
pub fn follow_message(span: &Span, traceparent: &str) {
    follow(span, traceparent);
    if let Some(sender) = read(traceparent).filter(SpanContext::is_sampled) {
        span.add_link(sender);
    }
}

fn read(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(flags),
        true,
        TraceState::default(),
    );
    (version == "00" && context.is_valid()).then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(read(good).is_some_and(|context| context.is_sampled() && context.is_remote()));
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for bad in [zero, "", "00-x-y-z", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"] {
            assert!(read(bad).is_none(), "{bad}");
        }
        assert_eq!((parent_of(&Span::none()), unrecorded_parent_of(&Span::none())), (None, None));
    }
}
