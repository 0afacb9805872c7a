//! A worker's figures: what a collector gets, and what whoever asks is shown.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use outflow_testkit::collector;
use prost::Message;

use super::outflow;

/// What is shown at `path`.
pub(super) fn shown(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a monitor");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn figures_go_to_a_collector_and_are_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, exports) = collector().expect("a collector");
    // Nobody listens there: the services are away.
    let free = || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let (queue, limiter, monitor) = (format!("amqp://{}", free()), format!("redis://{}", free()), free());
    let mut worker = outflow(
        folder.path(),
        &["worker", "--unencrypted", "--queue", &queue, "--limiter", &limiter, "--monitor", &monitor],
    )
    .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
    .env("OTEL_METRIC_EXPORT_INTERVAL", "100")
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .expect("it runs");
    let name = "outflow_service_errors_total";
    let sent = exports.iter().any(|export| {
        let export = ExportMetricsServiceRequest::decode(export.body.as_slice()).unwrap_or_default();
        let scopes = export.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).any(|metric| metric.name == name)
    });
    let (figures, ready) = (shown(&monitor, "/metrics"), shown(&monitor, "/health/ready"));
    let alive = shown(&monitor, "/health/live");
    worker.kill().expect("it runs still");
    worker.wait().expect("it ends");
    assert!(sent, "the collector got no {name}");
    assert!(figures.contains(&format!("{name}{{service=\"redis\"}}")), "{figures}");
    assert!(figures.contains("outflow_ready 0"), "{figures}");
    // As Prometheus 3 wants it: it refuses an answer that does not say its format.
    assert!(figures.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{figures}");
    assert!(ready.starts_with("HTTP/1.1 503") && alive.starts_with("HTTP/1.1 200"), "{ready} {alive}");
}
