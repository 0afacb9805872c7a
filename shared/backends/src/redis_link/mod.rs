//! How Redis is connected to: one server, what sentinels name as the master, or a cluster.

mod sentinel;

use std::sync::Arc;
use std::time::Duration;

use outflow_model::port::{PortError, Result, Trouble};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClientBuilder, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value};

use sentinel::Master;

/// Redis answers in far less; who waits longer holds up every request of its worker.
const ANSWER: Duration = Duration::from_millis(500);
const CONNECT: Duration = Duration::from_secs(1);
/// A call is tried again so often, after pauses from the first to the second.
const RETRIES: usize = 2;
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// Redis, connected to when it is first used, and again whenever the connection is lost. A clone shares it.
#[derive(Clone)]
pub(crate) enum Link {
    Server(ConnectionManager),
    Master(Arc<Master>),
    Cluster(ClusterConnection),
}

impl Link {
    /// Redis at `url`: `redis://HOST`, `redis-sentinel://SENTINEL,SENTINEL/DATABASE#MASTER` or `redis-cluster://NODE,NODE`;
    /// with `rediss` over TLS.
    pub(crate) fn to(url: &str) -> Result<Self> {
        let link = match url.split_once("://") {
            Some(("redis-sentinel", place)) => Master::of("redis", place).map(|master| Self::Master(Arc::new(master))),
            Some(("rediss-sentinel", place)) => {
                Master::of("rediss", place).map(|master| Self::Master(Arc::new(master)))
            }
            Some(("redis-cluster", place)) => cluster("redis", place),
            Some(("rediss-cluster", place)) => cluster("rediss", place),
            Some(("redis" | "rediss" | "redis+unix" | "unix", _)) => server(url),
            _ => {
                let text = "The URL of Redis cannot be used; it is like redis://user:password@host:6379/0, or begins with rediss://, \
                            redis-sentinel:// or redis-cluster://";
                return Err(PortError::new(Trouble::Refused, text));
            }
        };
        link.map_err(|error| PortError::caused(Trouble::Refused, "The URL of Redis cannot be used", error))
    }
}

fn server(url: &str) -> RedisResult<Link> {
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(ANSWER))
        .set_connection_timeout(Some(CONNECT))
        .set_number_of_retries(RETRIES)
        .set_min_delay(PAUSES[0])
        .set_max_delay(PAUSES[1]);
    ConnectionManager::new_lazy_with_config(redis::Client::open(url)?, config).map(Link::Server)
}

fn cluster(scheme: &str, place: &str) -> RedisResult<Link> {
    let (nodes, _) = each(scheme, place, 6379);
    let client = ClusterClientBuilder::new(nodes)
        .retries(RETRIES as u32)
        .min_retry_wait(PAUSES[0].as_millis() as u64)
        .max_retry_wait(PAUSES[1].as_millis() as u64)
        .build()?;
    let config = ClusterConfig::new().set_response_timeout(ANSWER).set_connection_timeout(CONNECT);
    Ok(Link::Cluster(client.get_pending_async_connection_with_config(config)))
}

/// The URL of each server in `[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/REST`, and the rest.
fn each<'a>(scheme: &str, place: &'a str, port: u16) -> (Vec<String>, &'a str) {
    let (authority, rest) = place.split_once('/').unwrap_or((place, ""));
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let credentials = authority.strip_suffix(hosts).unwrap_or_default();
    let url = |host: &str| {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port { String::new() } else { format!(":{port}") };
        format!("{scheme}://{credentials}{host}{port}")
    };
    (hosts.split(',').map(url).collect(), rest)
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
            Self::Master(master) => Box::pin(master.ask(async |connection| connection.req_packed_command(cmd).await)),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Master(master) => Box::pin(
                master.ask(async move |connection| connection.req_packed_commands(pipeline, offset, count).await),
            ),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
            Self::Master(master) => master.database(),
        }
    }
}

pub(crate) fn unavailable(error: RedisError) -> PortError {
    crate::count_trouble("redis");
    PortError::caused(Trouble::Unavailable, "Redis cannot be used", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_servers_is_a_url_each() {
        let (nodes, rest) = each("rediss", "me:s3,c%40t@one:1,[::1]/3", 26379);
        assert_eq!(nodes, ["rediss://me:s3,c%40t@one:1", "rediss://me:s3,c%40t@[::1]:26379"]);
        assert_eq!(rest, "3");
        assert_eq!(each("redis", "one", 6379), (vec!["redis://one:6379".to_owned()], ""));
    }
}
