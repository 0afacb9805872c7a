//! What operators ask a running process: is it alive, is it ready, what are its figures.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tracing::warn;

use crate::figures::Figures;

/// Whether the process can do its work right now; an error says why not.
pub(crate) type Ready = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Whoever asks gives up soon himself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Figures that nobody asks for are this old at most.
const LOOK: Duration = Duration::from_secs(15);
/// After a connection that could not be taken the next is waited for so long.
const AGAIN: Duration = Duration::from_millis(200);

/// Answers `/health/live`, `/health/ready` and `/metrics` on `address` as long as the process lives.
pub(crate) async fn start(address: SocketAddr, figures: &Figures, ready: Ready) -> Result<()> {
    let figures = figures.shown.clone();
    let listener = TcpListener::bind(address).await.with_context(|| format!("Cannot listen on {address}"))?;
    tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, say: it may pass.
                    warn!(%error, "A connection to the monitor cannot be taken");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            let (figures, ready) = (figures.clone(), ready.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| answer(request, &figures, &ready));
                // A client that breaks off is its own affair.
                _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(())
}

/// Keeps the figure of whether the process is ready, and what its services tell when they are asked, though nobody looks here.
pub(crate) fn watch(ready: Ready) {
    tokio::spawn(async move {
        loop {
            gauge!("outflow_ready").set(f64::from(readiness(&ready).await.is_ok()));
            tokio::time::sleep(LOOK).await;
        }
    });
}

/// The last that a collector hears.
pub(crate) fn gone() {
    gauge!("outflow_ready").set(0.0);
}

/// A service that does not answer in time is away.
async fn readiness(ready: &Ready) -> Result<(), String> {
    let silent = || Err("A service does not answer".to_owned());
    tokio::time::timeout(PATIENCE, ready()).await.unwrap_or_else(|_| silent())
}

async fn answer(
    request: Request<Incoming>,
    figures: &PrometheusHandle,
    ready: &Ready,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/health/live" => (200, "alive\n".to_owned()),
        "/health/ready" => match readiness(ready).await {
            Ok(()) => (200, "ready\n".to_owned()),
            Err(cause) => (503, format!("not ready: {cause}\n")),
        },
        "/metrics" => {
            gauge!("outflow_ready").set(f64::from(readiness(ready).await.is_ok()));
            (200, figures.render())
        }
        _ => (404, "there are /health/live, /health/ready and /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    // Prometheus 3 refuses what does not say its format.
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
