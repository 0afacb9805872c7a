//! The server that sentinels name as the master, which may be another tomorrow.

use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult,
    TlsMode,
};
use tokio::sync::Mutex;

use super::{ANSWER, CONNECT, each};

/// A master, and what is known of it.
pub(crate) struct Master {
    sentinels: Mutex<SentinelClient>,
    connection: Mutex<Option<MultiplexedConnection>>,
    database: i64,
}

impl Master {
    /// The master of `[USER:PASSWORD@]SENTINEL,SENTINEL/DATABASE#MASTER`. The credentials are those of the servers that
    /// sentinels name.
    pub(super) fn of(scheme: &str, place: &str) -> RedisResult<Self> {
        let mistake = |what| RedisError::from((ErrorKind::InvalidClientConfig, what));
        let (place, name) = place.split_once('#').filter(|(_, name)| !name.is_empty()).ok_or_else(|| {
            mistake(
                "Sentinels are asked for a master by its name, which comes last: redis-sentinel://HOST:26379/0#NAME",
            )
        })?;
        let (sentinels, database) = each(scheme, place, 26379);
        let database = match database {
            "" => 0,
            number => number.parse().map_err(|_| mistake("The database is not a number"))?,
        };
        let all: Vec<ConnectionInfo> =
            sentinels.into_iter().map(String::into_connection_info).collect::<RedisResult<_>>()?;
        let redis = all.first().map(|info| info.redis_settings().clone()).unwrap_or_default();
        let node = SentinelNodeConnectionInfo::default().set_redis_connection_info(redis.set_db(database));
        let node = if scheme == "rediss" { node.set_tls_mode(TlsMode::Secure) } else { node };
        let addresses: Vec<ConnectionAddr> = all.into_iter().map(|info| info.addr().clone()).collect();
        let client = SentinelClient::build(addresses, name, Some(node), SentinelServerType::Master)?;
        Ok(Self { sentinels: Mutex::new(client), connection: Mutex::default(), database })
    }

    pub(super) const fn database(&self) -> i64 {
        self.database
    }

    /// Asks the master; once it fails to answer, or is none any more, the sentinels are asked anew.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let answer = question(&mut self.connection().await?).await;
        if let Err(error) = &answer
            && (error.is_io_error() || error.is_unrecoverable_error() || error.code() == Some("READONLY"))
        {
            self.connection.lock().await.take();
        }
        answer
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.connection.lock().await;
        if let Some(known) = &*connection {
            return Ok(known.clone());
        }
        let config =
            AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER)).set_connection_timeout(Some(CONNECT));
        let opened = self.sentinels.lock().await.get_async_connection_with_config(&config).await?;
        Ok(connection.insert(opened).clone())
    }
}
