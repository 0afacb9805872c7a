//! A run as one trace: what a collector gets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use super::{MODEL, edit, outflow, text, with_simulator};

/// A collector that takes exports on a port of its own.
pub(super) fn collector() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                loop {
                    let (mut length, mut line) = (0, String::new());
                    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().expect("a number");
                        }
                        line.clear();
                    }
                    let mut body = vec![0; length];
                    if length == 0 || reader.read_exact(&mut body).is_err() || sender.send(body).is_err() {
                        return;
                    }
                    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                    reader.get_mut().write_all(answer.as_bytes()).expect("an answer");
                }
            });
        }
    });
    (url, bodies)
}

#[test]
fn a_run_is_one_trace_from_plan_to_request() {
    let (project, _simulator) = with_simulator(0);
    let (url, bodies) = collector();
    let output = outflow(project.path(), &["run"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", &url).output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
    let spans: Vec<Span> = bodies
        .try_iter()
        .flat_map(|body| ExportTraceServiceRequest::decode(body.as_slice()).expect("an export").resource_spans)
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
    assert_eq!(kinds("publish"), [("publish < run".to_owned(), SpanKind::Producer as i32)]);
    assert_eq!(kinds("process"), [("process < publish < run".to_owned(), SpanKind::Consumer as i32)]);
    let requests = kinds("request");
    assert_eq!(requests.len(), 10, "1,000 records are ten requests");
    assert!(
        requests
            .iter()
            .all(|request| *request == ("request < process < publish < run".to_owned(), SpanKind::Client as i32))
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
    let (url, _bodies) = collector();
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
    assert_eq!((code, errors.as_array().map(Vec::len)), (Some(3), Some(1)), "{errors}");
    let trace = errors[0]["trace_id"].as_str().expect("a trace");
    assert!(
        trace.len() == 32 && shown["trace"].as_str().is_some_and(|shown| shown.contains(trace)),
        "{shown} {errors}"
    );
    for wrong in ["run_00000000000ffffffff", "yesterday"] {
        assert_eq!(ask(&["errors", wrong]).0, Some(2), "there is no run {wrong}");
    }
}
