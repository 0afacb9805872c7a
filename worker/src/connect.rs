//! Connections before permits: a request whose connection has to be made first does not leave, but says so.

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::{Ready, ready};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tower_layer::Layer;
use tower_service::Service;

type BoxError = Box<dyn Error + Send + Sync>;

/// A connection is made within so long.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection that was made, on its way to the request that it was made for.
pub(crate) type Spare = Box<dyn Any + Send>;

tokio::task_local! {
    /// The connection that a request brings along, for where no other is ready.
    pub(crate) static SPARE: Cell<Option<Spare>>;
}

/// A request did not leave, for its connection is only being made.
pub(crate) struct Unconnected(Mutex<Option<JoinHandle<Result<Spare, BoxError>>>>);

impl Unconnected {
    /// Waits for the connection; nothing where `error` is another.
    pub(crate) async fn connected(error: &reqwest::Error) -> Option<Result<Spare, BoxError>> {
        let mut cause = error.source();
        let connecting = loop {
            match cause?.downcast_ref::<Self>() {
                Some(Self(connecting)) => break connecting.lock().unwrap_or_else(PoisonError::into_inner).take()?,
                None => cause = cause?.source(),
            }
        };
        Some(connecting.await.unwrap_or_else(|broken| Err(broken.into())))
    }
}

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no connection was ready")
    }
}

impl fmt::Debug for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Unconnected {}

/// Makes connections beside the requests that ask for them.
#[derive(Clone)]
pub(crate) struct Beside;

impl<S> Layer<S> for Beside {
    type Service = Connector<S>;

    fn layer(&self, inner: S) -> Connector<S> {
        Connector(inner)
    }
}

/// Gives a request the connection that it brings along, and makes one for another.
#[derive(Clone)]
pub(crate) struct Connector<S>(S);

impl<S, To> Service<To> for Connector<S>
where
    S: Service<To, Error = BoxError>,
    S::Response: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Ready<Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: To) -> Self::Future {
        if let Some(spare) = SPARE.try_with(Cell::take).ok().flatten()
            && let Ok(spare) = spare.downcast::<S::Response>()
        {
            return ready(Ok(*spare));
        }
        let connecting = self.0.call(to);
        let connecting = tokio::spawn(async {
            let made = tokio::time::timeout(CONNECT, connecting).await;
            made.map_err(|_| "connecting timed out")?.map(|made| Box::new(made) as Spare)
        });
        ready(Err(Box::new(Unconnected(Mutex::new(Some(connecting))))))
    }
}
