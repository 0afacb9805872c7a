//! Figures: kept for whoever asks for them, and sent to a collector where one is named.

use std::time::Duration;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_opentelemetry::{OpenTelemetryMetrics, OpenTelemetryRecorder};
use metrics_util::layers::FanoutBuilder;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, SdkMeterProvider, Stream};

use crate::telemetry::{ENDPOINT, resource};

/// Upper bounds of what is measured in seconds.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Samples are summed up this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// The figures of this process.
pub(crate) struct Figures {
    /// All of them, as Prometheus reads them.
    pub(crate) shown: PrometheusHandle,
    sent: Option<SdkMeterProvider>,
}

impl Figures {
    /// Begins to keep the figures of the service `name`.
    pub(crate) fn start(name: &'static str) -> Result<Self> {
        let prometheus = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("seconds".to_owned()), &SECONDS)
            .context("Cannot keep figures")?
            .build_recorder();
        let shown = prometheus.handle();
        let mut recorders = FanoutBuilder::default().add_recorder(prometheus);
        let sent = sender(name)?;
        if let Some(provider) = &sent {
            let metrics = OpenTelemetryMetrics::new(provider.meter("outflow"));
            recorders = recorders.add_recorder(OpenTelemetryRecorder::new(metrics));
        }
        metrics::set_global_recorder(recorders.build())
            .map_err(|error| anyhow::anyhow!("Cannot keep figures: {error}"))?;
        let kept = shown.clone();
        // Samples pile up until somebody asks, which may be never.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                kept.run_upkeep();
            }
        });
        Ok(Self { shown, sent })
    }

    /// Sends what is left.
    pub(crate) fn stop(self) {
        if let Some(provider) = self.sent {
            _ = provider.shutdown();
        }
    }
}

/// Sends figures over OTLP every `OTEL_METRIC_EXPORT_INTERVAL` milliseconds (60,000).
fn sender(name: &'static str) -> Result<Option<SdkMeterProvider>> {
    if std::env::var_os(ENDPOINT).is_none() {
        return Ok(None);
    }
    let exporter = opentelemetry_otlp::MetricExporter::builder().with_http().build();
    let exporter = exporter.with_context(|| format!("{ENDPOINT} cannot be used"))?;
    let bounds = |instrument: &Instrument| {
        let boundaries = Aggregation::ExplicitBucketHistogram { boundaries: SECONDS.to_vec(), record_min_max: false };
        let seconds = instrument.name().ends_with("_seconds");
        seconds.then(|| Stream::builder().with_aggregation(boundaries).build().ok()).flatten()
    };
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter).with_resource(resource(name));
    Ok(Some(provider.with_view(bounds).build()))
}
