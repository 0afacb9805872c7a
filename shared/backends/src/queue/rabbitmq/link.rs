//! A connection that is made when it is needed, and made anew when it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::types::LongString;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::text::with_causes;
use tokio::sync::Mutex;

use crate::count_trouble;

/// A broker that does not answer within this is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// A dead peer is noticed within twice this, in seconds, unless the URL says otherwise.
const HEARTBEAT: u16 = 10;

/// One connection to the broker, under its own supervision: the library's recovery would hand deliveries of the old
/// connection and of the new one to the same consumer.
pub(super) struct Link {
    uri: AMQPUri,
    name: LongString,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    connection: Option<Arc<Connection>>,
    /// When the last one could not be made, and why.
    failed: Option<(Instant, String)>,
}

impl Link {
    pub(super) fn new(url: &str, name: &str) -> Result<Self> {
        // The URL holds credentials, and so may what the parser says of it.
        let mut uri: AMQPUri = url.parse().map_err(|_: String| {
            PortError::new(
                Trouble::Refused,
                "The URL of RabbitMQ cannot be used; it is like amqp://user:password@host:5672/%2f",
            )
        })?;
        uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT));
        Ok(Self { uri, name: name.into(), held: Mutex::default() })
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<Channel> {
        let connection = self.connection().await?;
        within(CONNECT, connection.create_channel()).await
    }

    /// An error where there is no connection, nor can one be made.
    pub(super) async fn check(&self) -> Result<()> {
        self.connection().await.map(drop)
    }

    async fn connection(&self) -> Result<Arc<Connection>> {
        let asked = Instant::now();
        let mut held = self.held.lock().await;
        if let Some(connection) = held.connection.as_ref().filter(|connection| connection.status().connected()) {
            return Ok(connection.clone());
        }
        // Of those that wait together one tries: each in its turn would keep the last one waiting for long.
        if let Some((_, cause)) = held.failed.as_ref().filter(|(failed, _)| *failed > asked) {
            return Err(PortError::new(Trouble::Unavailable, cause.clone()));
        }
        let properties = ConnectionProperties::default().with_connection_name(self.name.clone());
        let made = within(CONNECT, Connection::connect_uri(self.uri.clone(), properties)).await;
        held.failed = made.as_ref().err().map(|error| (Instant::now(), with_causes(error)));
        Ok(held.connection.insert(Arc::new(made?)).clone())
    }

    /// True while the broker takes nothing from this connection, for want of memory or disk.
    pub(super) async fn is_blocked(&self) -> bool {
        let held = self.held.lock().await;
        held.connection
            .as_ref()
            .is_some_and(|connection| connection.status().connected() && connection.status().blocked())
    }
}

/// The library's answer, or an error where none comes in time: some of its calls wait for ever on a blocked connection.
pub(super) async fn within<T>(patience: Duration, work: impl Future<Output = lapin::Result<T>>) -> Result<T> {
    match tokio::time::timeout(patience, work).await {
        Ok(done) => done.map_err(unavailable),
        Err(_) => Err(unanswered()),
    }
}

pub(super) fn unanswered() -> PortError {
    count_trouble("rabbitmq");
    PortError::new(Trouble::Unavailable, "RabbitMQ does not answer")
}

pub(super) fn unavailable(error: lapin::Error) -> PortError {
    count_trouble("rabbitmq");
    PortError::caused(Trouble::Unavailable, "RabbitMQ cannot be used", error)
}
