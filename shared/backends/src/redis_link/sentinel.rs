//! The server that sentinels name as the master, which may be another tomorrow.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, RedisResult,
    TlsMode,
};
use tokio::sync::Mutex;

use super::{ANSWER, CONNECT, each};

/// Sentinels that were of no help are asked again after so long.
const AGAIN: Duration = Duration::from_millis(300);

/// A master.
pub(crate) struct Master {
    current: Mutex<Current>,
    database: i64,
}

/// What is known of it.
struct Current {
    sentinels: SentinelClient,
    connection: Option<MultiplexedConnection>,
    /// How many connections there were.
    number: u64,
    /// When the last attempt to connect failed.
    failed: Option<Instant>,
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
        let sentinels = SentinelClient::build(addresses, name, Some(node), SentinelServerType::Master)?;
        let current = Current { sentinels, connection: None, number: 0, failed: None };
        Ok(Self { current: Mutex::new(current), database })
    }

    pub(super) const fn database(&self) -> i64 {
        self.database
    }

    /// Asks the master; once it fails to answer, or is none any more, the sentinels are asked anew.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let (number, mut connection) = self.connection().await?;
        let answer = question(&mut connection).await;
        if let Err(error) = &answer
            && (error.is_io_error() || error.is_unrecoverable_error() || error.code() == Some("READONLY"))
        {
            let mut current = self.current.lock().await;
            // Another may have found a better one meanwhile.
            if current.number == number {
                current.connection = None;
            }
        }
        answer
    }

    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut current = self.current.lock().await;
        if let Some(known) = &current.connection {
            return Ok((current.number, known.clone()));
        }
        // Who waited for an attempt that failed does not make the next one wait, too.
        if current.failed.is_some_and(|failed| failed.elapsed() < AGAIN) {
            return Err(RedisError::from((ErrorKind::Io, "The sentinels named no master that answers")));
        }
        let config =
            AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER)).set_connection_timeout(Some(CONNECT));
        match current.sentinels.get_async_connection_with_config(&config).await {
            Ok(opened) => {
                current.number += 1;
                current.connection = Some(opened.clone());
                Ok((current.number, opened))
            }
            Err(error) => {
                current.failed = Some(Instant::now());
                Err(error)
            }
        }
    }
}
