//! A run as one trace: what a collector gets.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use outflow_testkit::collector;
use prost::Message;

use super::{MODEL, edit, outflow, text, with_simulator};

#[test]
fn a_run_is_one_trace_from_plan_to_request() {
    let (project, _simulator) = with_simulator(0);
    let (url, exports) = collector().expect("a collector");
    let output = outflow(project.path(), &["run"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", &url).output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
    let spans: Vec<Span> = exports
        .try_iter()
        .filter(|export| export.path == "/v1/traces")
        .flat_map(|export| ExportTraceServiceRequest::decode(export.body.as_slice()).expect("an export").resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect();
    let run = spans.iter().find(|span| span.name == "run").expect("a span of the run");
    assert!(spans.iter().all(|span| span.trace_id == run.trace_id), "more than one trace");
    let by_id: BTreeMap<&[u8], &Span> = spans.iter().map(|span| (span.span_id.as_slice(), span)).collect();
    let path = |span: &Span| {
        let mut path = vec![span.name.as_str()];
        let mut parent = by_id.get(span.parent_span_id.as_slice());
        while let Some(span) = parent {
            path.push(span.name.as_str());
            parent = by_id.get(span.parent_span_id.as_slice());
        }
        path.join(" < ")
    };
    let kinds = |name: &str| -> Vec<(String, i32)> {
        spans.iter().filter(|span| span.name == name).map(|span| (path(span), span.kind)).collect()
    };
    assert_eq!(kinds("publish crm"), [("publish crm < run".to_owned(), SpanKind::Producer as i32)]);
    assert_eq!(kinds("process crm"), [("process crm < publish crm < run".to_owned(), SpanKind::Consumer as i32)]);
    let requests = kinds("request");
    assert_eq!(requests.len(), 10, "1,000 records are ten requests");
    assert!(
        requests.iter().all(
            |request| *request == ("request < process crm < publish crm < run".to_owned(), SpanKind::Client as i32)
        )
    );
    for (name, within) in [
        ("plan", "run"),
        ("extract", "plan < run"),
        ("detect", "plan < run"),
        ("partition", "plan < run"),
        ("fold", "run"),
    ] {
        assert_eq!(kinds(name), [(format!("{name} < {within}"), SpanKind::Internal as i32)]);
    }
    // Values never leave by a trace.
    let told = format!("{spans:?}");
    assert!(!told.contains('@') && !told.contains("Bearer"), "a trace holds values");
}

#[test]
fn what_did_not_succeed_leads_to_its_trace() {
    let (project, _simulator) = with_simulator(0);
    edit(project.path(), MODEL, "SELECT c.email", "SELECT CASE WHEN c.id > 1 THEN c.email END AS email");
    let (url, _exports) = collector().expect("a collector");
    let ask = |words: &[&str]| {
        let words = [&["--output", "json"], words].concat();
        let output =
            outflow(project.path(), &words).env("OTEL_EXPORTER_OTLP_ENDPOINT", &url).output().expect("it runs");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), told)
    };
    let (code, runs) = ask(&["run"]);
    let run = runs[0]["id"].as_str().expect("a run");
    let (_, shown) = ask(&["show", run]);
    let (_, errors) = ask(&["errors", run]);
    assert_eq!((code, errors["problems"].as_array().map(Vec::len)), (Some(3), Some(1)), "{errors}");
    let trace = errors["problems"][0]["trace_id"].as_str().expect("a trace");
    assert!(
        trace.len() == 32 && shown["trace"].as_str().is_some_and(|shown| shown.contains(trace)),
        "{shown} {errors}"
    );
    for wrong in ["run_00000000000ffffffff", "yesterday"] {
        assert_eq!(ask(&["errors", wrong]).0, Some(2), "there is no run {wrong}");
    }
}
