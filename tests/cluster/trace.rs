//! What a collector gets of a run that several processes execute.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use outflow_model::port::ledger::Run;
use outflow_simulators::{Fault, Faults, HubSpot, Options};
use outflow_testkit::{Export, collector};
use outflow_tests::{Cluster, Plan, block};
use prost::Message;

use super::plan;

/// A span, and the process that it was in.
struct Told {
    service: String,
    span: Span,
}

fn value(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn spans(exports: impl Iterator<Item = Export>) -> Result<Vec<Told>> {
    let mut told = Vec::new();
    for export in exports.filter(|export| export.path == "/v1/traces") {
        for of in ExportTraceServiceRequest::decode(export.body.as_slice())?.resource_spans {
            let service = of.resource.and_then(|resource| value(&resource.attributes, "service.name"));
            let service = service.context("whose spans are they?")?;
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            told.extend(spans.map(|span| Told { service: service.clone(), span }));
        }
    }
    Ok(told)
}

/// A run by processes that tell a collector, whose destination has these faults; and the spans of it all.
async fn traced(plan: &Plan, faults: Faults) -> Result<(Run, Vec<Told>)> {
    let (url, exports) = collector()?;
    let mut cluster = Cluster::new(HubSpot::new(Options::default()), plan).await?;
    cluster.portal.set_faults(faults);
    cluster.environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url)];
    cluster.start_coordinator()?;
    cluster.start_worker()?;
    cluster.start_worker()?;
    let run = cluster.ended(&cluster.request().await?).await?;
    // What they have to tell is sent before they end.
    for process in cluster.workers.drain(..).chain(cluster.coordinators.drain(..)) {
        process.terminate(Duration::from_secs(20))?;
    }
    Ok((run, spans(exports.try_iter())?))
}

/// The context travels with the messages: what coordinator and workers do for a run is one trace, and it is the one that the
/// ledger names.
pub(super) fn whole() -> Result<()> {
    block(async {
        let (run, told) = traced(&plan(500, ""), Faults::default()).await?;
        let ids: BTreeSet<&[u8]> = told.iter().map(|told| told.span.trace_id.as_slice()).collect();
        let named = u128::from_str_radix(run.trace_id().context("a trace")?, 16)?.to_be_bytes();
        ensure!(ids.into_iter().eq([named.as_slice()]), "more than one trace, or another than the ledger names");
        let of = |name: &str| -> Vec<&Told> { told.iter().filter(|told| told.span.name == name).collect() };
        for (name, kind, service, count) in [
            ("run", SpanKind::Internal, "outflow-coordinator", 1),
            ("plan", SpanKind::Internal, "outflow-coordinator", 1),
            ("publish crm", SpanKind::Producer, "outflow-coordinator", 5),
            ("process crm", SpanKind::Consumer, "outflow-worker", 5),
            ("request", SpanKind::Client, "outflow-worker", 5),
            ("fold", SpanKind::Internal, "outflow-coordinator", 1),
        ] {
            let found = of(name);
            let fit = |told: &&&Told| told.span.kind == kind as i32 && told.service == service;
            ensure!(found.len() == count && found.iter().filter(fit).count() == count, "{name}: {}", found.len());
        }
        for process in of("process crm") {
            let parent = of("publish crm").into_iter().find(|told| told.span.span_id == process.span.parent_span_id);
            let parent = parent.context("a delivery without its publication")?;
            ensure!(
                process.span.links.iter().any(|link| link.span_id == parent.span.span_id),
                "it is not linked to it"
            );
            for name in ["chunk", "attempt", "messaging.message.id", "messaging.system"] {
                let (sent, come) = (value(&parent.span.attributes, name), value(&process.span.attributes, name));
                ensure!(sent.is_some() && sent == come, "{name}: {sent:?} was published, {come:?} delivered");
            }
            for (span, operation, kind) in [(&parent.span, "publish", "send"), (&process.span, "process", "process")] {
                for (name, says) in [
                    ("messaging.destination.name", "crm"),
                    ("messaging.operation.name", operation),
                    ("messaging.operation.type", kind),
                ] {
                    ensure!(value(&span.attributes, name).as_deref() == Some(says), "{name} of {span:?}");
                }
            }
            let request = of("request").into_iter().find(|told| told.span.parent_span_id == process.span.span_id);
            let request = &request.context("a delivery without a request")?.span.attributes;
            ensure!(value(request, "chunk") == value(&process.span.attributes, "chunk"));
            ensure!(value(request, "server.address").as_deref() == Some("127.0.0.1"));
            ensure!(value(request, "http.response.status_code").as_deref() == Some("200"));
        }
        Ok(())
    })
}

fn requests(told: &[Told]) -> Vec<&Span> {
    told.iter().map(|told| &told.span).filter(|span| span.name == "request").collect()
}

pub(super) fn failed() -> Result<()> {
    block(async {
        let faults = Faults { script: [Fault::ServerError].into(), ..Faults::default() };
        let (run, told) = traced(&plan(100, ""), faults).await?;
        ensure!(run.tally.total().succeeded == 100, "{:?}", run.tally);
        let requests = requests(&told);
        let is_error = |span: &Span| span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32);
        let (wrong, right): (Vec<_>, Vec<_>) = requests.into_iter().partition(|span| is_error(span));
        ensure!(wrong.len() == 1 && right.len() == 1, "{} wrong, {} right", wrong.len(), right.len());
        ensure!(wrong.iter().all(|span| value(&span.attributes, "error.type").as_deref() == Some("503")), "{wrong:?}");
        ensure!(right.iter().all(|span| value(&span.attributes, "error.type").is_none()), "{right:?}");
        Ok(())
    })
}

pub(super) fn bounded() -> Result<()> {
    block(async {
        let mut plan = plan(2_500, "");
        plan.sync = plan.sync.replace("chunk_rows: 100", "chunk_rows: 2500");
        let (run, told) = traced(&plan, Faults::default()).await?;
        ensure!(run.requests == 25 && requests(&told).len() == 20, "{} of {}", requests(&told).len(), run.requests);
        Ok(())
    })
}
