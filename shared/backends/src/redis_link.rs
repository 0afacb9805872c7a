//! How Redis is connected to.

use std::time::Duration;

use outflow_model::port::{PortError, Result, Trouble};
use redis::RedisError;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

/// Redis answers in far less; who waits longer holds up every request of its worker.
const ANSWER: Duration = Duration::from_millis(500);
const CONNECT: Duration = Duration::from_secs(1);

/// The server at `url`, connected to when it is first used, and again whenever the connection is lost.
pub(crate) fn connect(url: &str) -> Result<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(ANSWER))
        .set_connection_timeout(Some(CONNECT))
        .set_number_of_retries(2)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(200));
    redis::Client::open(url)
        .and_then(|client| ConnectionManager::new_lazy_with_config(client, config))
        .map_err(|error| PortError::caused(Trouble::Missing, "The URL of Redis cannot be used", error))
}

pub(crate) fn unavailable(error: RedisError) -> PortError {
    crate::count_trouble("redis");
    PortError::caused(Trouble::Unavailable, "Redis cannot be used", error)
}
