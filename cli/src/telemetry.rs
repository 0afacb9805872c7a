//! Logs, and traces where a collector is named.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::args::{Args, Command, Output};

/// The environment variable that names a collector.
pub(crate) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What must be flushed at the end.
pub(crate) struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Sends what is still buffered.
    pub(crate) fn stop(self) {
        if let Some(provider) = self.0 {
            _ = provider.shutdown();
        }
    }
}

/// Starts logging, and tracing where a collector is named.
pub(crate) fn start(args: &Args) -> Telemetry {
    // Slow connections and remarks of the ledger's server help nobody who has not asked for them.
    let own = "sqlx::pool=error,sqlx::postgres::notice=error";
    // That library would log whole messages at a lower level.
    let filter = EnvFilter::try_new(format!("{own},{},lapin=error", args.log));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(format!("warn,{own},lapin=error")));
    let colored = !args.no_color && std::io::stderr().is_terminal();
    let logs = fmt::layer().with_writer(std::io::stderr).with_ansi(colored);
    let logs = match args.log_format {
        Output::Text => logs.boxed(),
        Output::Json => logs.json().boxed(),
    };
    let provider = provider(args);
    let traces = provider.as_ref().map(|provider| {
        let spans = EnvFilter::new("outflow=info,outflow_worker=info,outflow_coordinator=info");
        tracing_opentelemetry::layer().with_tracer(provider.tracer("outflow")).with_filter(spans)
    });
    _ = tracing_subscriber::registry().with(logs.with_filter(filter)).with(traces).try_init();
    Telemetry(provider)
}

fn provider(args: &Args) -> Option<SdkTracerProvider> {
    std::env::var_os(ENDPOINT)?;
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build().ok()?;
    let name = match args.command {
        Command::Coordinator(_) => "outflow-coordinator",
        Command::Worker(_) => "outflow-worker",
        _ => "outflow",
    };
    Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource(name)).build())
}

/// Who this process is to a collector.
pub(crate) fn resource(name: &'static str) -> Resource {
    Resource::builder().with_service_name(name).build()
}
