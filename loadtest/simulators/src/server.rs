//! HTTP around a simulator.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A destination's API.
pub trait Simulator: Send + Sync + 'static {
    /// Answers a request.
    fn answer(&self, call: &Call<'_>) -> Answer;
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path.
    pub path: &'a str,
    /// Its query, undecoded.
    pub query: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
}

impl<'a> Call<'a> {
    /// A header's value; empty where there is none.
    pub fn header(&self, name: &str) -> &'a str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What the server sends.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers beside those of HTTP.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// It is sent after this time.
    pub delay: Duration,
    /// The connection breaks in its place.
    pub reset: bool,
}

impl Answer {
    /// An answer at once.
    pub fn plain(status: u16, body: String) -> Self {
        Self { status, headers: Vec::new(), body, delay: Duration::ZERO, reset: false }
    }
}

/// A percent-encoded segment of a path.
pub(crate) fn decode_segment(text: &str) -> String {
    // It reads as a form's value, but for its plus signs.
    let form = format!("v={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(form.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// A simulator that answers; ends when dropped.
pub struct Running {
    /// Where it answers.
    pub address: SocketAddr,
    /// Connections that are open.
    open: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Running {
    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until every connection is closed: what their clients sent has been answered.
    pub async fn quiet(&self) {
        // The sender is its own, so the wait cannot fail.
        _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Waits until it ends, which it does not by itself.
    pub async fn wait(mut self) {
        _ = (&mut self.task).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a simulator on this machine; port 0 takes any free one.
pub async fn start(simulator: Arc<dyn Simulator>, port: u16) -> std::io::Result<Running> {
    start_afar(simulator, port, Duration::ZERO).await
}

/// As [`start`], but requests take up to so long on their way, each another time.
pub async fn start_afar(simulator: Arc<dyn Simulator>, port: u16, jitter: Duration) -> std::io::Result<Running> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let open = watch::Sender::new(0);
    let counter = open.clone();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let simulator = simulator.clone();
            _ = stream.set_nodelay(true);
            let counter = counter.clone();
            counter.send_modify(|open| *open += 1);
            tokio::spawn(async move {
                let service = service_fn(|request| async {
                    if jitter > Duration::ZERO {
                        tokio::time::sleep(jitter.mul_f64(draw())).await;
                    }
                    answer(simulator.clone(), request).await
                });
                // A broken connection ends it; that is what a reset is.
                _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                counter.send_modify(|open| *open -= 1);
            });
        }
    });
    Ok(Running { address, open, task })
}

/// A number from 0 to 1, another each time.
fn draw() -> f64 {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    // The golden ratio's multiples are spread evenly, however many there are.
    (DRAWN.fetch_add(1, Ordering::Relaxed) as f64 * 0.618_033_988_749_895).fract()
}

/// Ends the connection without an answer.
#[derive(Debug)]
struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("The simulator resets the connection")
    }
}

impl std::error::Error for Reset {}

impl From<Infallible> for Reset {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn answer(simulator: Arc<dyn Simulator>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Reset> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Reset)?.to_bytes();
    let call = Call {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &parts.headers,
        body: &body,
    };
    let Answer { status, headers, body, delay, reset } = simulator.answer(&call);
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    if reset {
        return Err(Reset);
    }
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(body))).map_err(|_| Reset)
}
