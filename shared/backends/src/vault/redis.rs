//! The vault that all processes share, in Redis: tokens sealed, each account under its own hash tag as in the limiter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use outflow_model::port::vault::{Access, Exchange, Turn, Vault};
use outflow_model::port::{PortError, Result, Trouble};
use outflow_model::secret::Secret;
use redis::{FromRedisValue, Script, Value};
use ring::rand::{SecureRandom, SystemRandom};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::FileVault;
use crate::redis_link::{self, unavailable};
use crate::seal::{KeyRing, OpenError};

/// A turn whose holder is silent for so long is the next one's, in milliseconds.
const TURN: u64 = 5_000;
/// How often a holder renews its turn…
const RENEWAL: Duration = Duration::from_millis(1_500);
/// …and how many times: no exchange takes longer.
const RENEWALS: u32 = 80;
/// How often those who wait look whether something was shared.
const LOOK: Duration = Duration::from_millis(100);
/// A server that is to have written a token to its disk has done so by then, in milliseconds.
const WRITTEN: u64 = 300;

/// KEYS turn; ARGV holder, for how long in milliseconds; nothing where it is another's.
const RENEW: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end";
/// KEYS turn; ARGV holder.
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";
/// KEYS token; ARGV what it was, what takes its place.
const REPLACE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end";

/// Tokens in Redis.
pub struct RedisVault {
    link: Arc<Link>,
    /// What this process kept before it shared.
    before: Option<FileVault>,
}

struct Link {
    connection: redis_link::Link,
    prefix: String,
    keys: Arc<KeyRing>,
    /// Whether it was said that the server loses what it is told when it ends.
    warned: AtomicBool,
}

/// A refresh token, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    origin: String,
    token: String,
}

/// An access token, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Shared {
    origin: String,
    token: String,
    base: Option<String>,
    /// How long it was good for when it was shared, in milliseconds. What is left of that is told by its key's expiry.
    good_for: u64,
}

/// Whoever may exchange.
struct Held {
    link: Arc<Link>,
    account: String,
    origin: String,
    holder: String,
    renewing: JoinHandle<()>,
}

impl RedisVault {
    /// A vault on the server at `url`, under keys that begin with `prefix`, sealed with `keys`, of which there must be one.
    /// What is in none of them yet is looked for in `before`.
    pub fn new(url: &str, prefix: &str, keys: Arc<KeyRing>, before: Option<FileVault>) -> Result<Self> {
        if keys.is_empty() {
            return Err(PortError::new(
                Trouble::Missing,
                "Tokens are not put into Redis without a key that seals them",
            ));
        }
        let (connection, prefix) = (redis_link::Link::to(url)?, prefix.to_owned());
        let link = Link { connection, prefix, keys, warned: AtomicBool::new(false) };
        Ok(Self { link: Arc::new(link), before })
    }
}

impl Link {
    fn key(&self, account: &str, what: &str) -> String {
        format!("{}:{{{account}}}:{what}", self.prefix)
    }

    async fn query<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        command.query_async(&mut self.connection.clone()).await.map_err(unavailable)
    }

    async fn script(&self, script: &str, key: &str, words: &[&[u8]]) -> Result<()> {
        let script = Script::new(script);
        let mut call = script.key(key);
        words.iter().for_each(|word| _ = call.arg(*word));
        call.invoke_async(&mut self.connection.clone()).await.map_err(unavailable)
    }

    fn seal<T: Serialize>(&self, account: &str, what: &str, value: &T) -> Result<Vec<u8>> {
        let failed = |error| PortError::caused(Trouble::Corrupt, "A token cannot be written", error);
        let text = serde_json::to_vec(value).map_err(failed)?;
        let sealed = self.keys.seal(&context(account, what), &text);
        sealed.map_err(|error| PortError::caused(Trouble::Unavailable, "A token cannot be sealed", error))
    }

    fn open<T: DeserializeOwned>(&self, account: &str, what: &str, sealed: &[u8]) -> Result<T> {
        let failed = |reason: String| {
            let context = format!("The {what} token of {account} in Redis cannot be read: {reason}");
            PortError::new(Trouble::Corrupt, context)
        };
        let key = self.key(account, what);
        let damaged = |reason: String| {
            failed(format!("{reason}. Delete {key} in Redis, and give a new refresh token in the settings"))
        };
        let text = self.keys.open(&context(account, what), sealed).map_err(|error| match error {
            // The token is sound, and another process can read it.
            OpenError::UnknownKey(_) | OpenError::Newer(_) => failed(error.to_string()),
            OpenError::NotSealed | OpenError::Damaged(_) => damaged(error.to_string()),
        })?;
        // What the parser says of it could show the token.
        serde_json::from_slice(&text).map_err(|_| damaged("It is not what Outflow writes".to_owned()))
    }

    /// The refresh token of an account. It is sealed anew once there is a newer key, so that the old one can go.
    async fn refresh(&self, account: &str) -> Result<Option<Kept>> {
        let key = self.key(account, "refresh");
        let Some(sealed) = self.query::<Option<Vec<u8>>>(redis::cmd("GET").arg(&key)).await? else { return Ok(None) };
        let kept: Kept = self.open(account, "refresh", &sealed)?;
        if !self.keys.is_newest(&sealed) {
            let anew = self.seal(account, "refresh", &kept)?;
            self.script(REPLACE, &key, &[&sealed, &anew]).await?;
            info!(account, "A refresh token was sealed with the newest key");
        }
        Ok(Some(kept))
    }

    /// The access token that is shared, if it helps.
    async fn shared(&self, account: &str, origin: &str, refused: Option<&Secret>) -> Result<Option<Access>> {
        let key = self.key(account, "access");
        let (sealed, left): (Option<Vec<u8>>, i64) = redis::pipe()
            .cmd("GET")
            .arg(&key)
            .cmd("PTTL")
            .arg(&key)
            .query_async(&mut self.connection.clone())
            .await
            .map_err(unavailable)?;
        let Some(sealed) = sealed else { return Ok(None) };
        let Shared { origin: of, token, base, good_for } = match self.open(account, "access", &sealed) {
            Ok(shared) => shared,
            Err(error) => {
                debug!(account, %error, "What is shared cannot be read here; it is got anew");
                return Ok(None);
            }
        };
        let age = Duration::from_millis(good_for.saturating_sub(left.max(0) as u64));
        let access = Access { token: Secret::new(token), base };
        Ok((of == origin && access.helps(age, refused)).then_some(access))
    }

    /// Waits until the server has written what it was told to its disk, where it can say so.
    async fn written(&self) {
        let mut command = redis::cmd("WAITAOF");
        let told = self.query::<Value>(command.arg(1).arg(0).arg(WRITTEN)).await;
        let is_written =
            |told: &Value| matches!(told, Value::Array(all) if matches!(all.first(), Some(Value::Int(1..))));
        let written = match &told {
            // Of a cluster's servers, each for itself.
            Ok(Value::Map(servers)) => servers.iter().all(|(_, told)| is_written(told)),
            Ok(told) => is_written(told),
            Err(_) => false,
        };
        if !written && !self.warned.swap(true, Ordering::Relaxed) {
            warn!(
                "Redis does not say that it has written a refresh token to its disk; keep an append-only file (Redis 7.2 or \
                 later, `appendonly yes`), or the token is lost should the server die"
            );
        }
    }
}

/// What a token is sealed as.
fn context(account: &str, what: &str) -> Vec<u8> {
    format!("outflow.token.v1\0{what}\0{account}").into_bytes()
}

fn holder() -> Result<String> {
    let mut random = [0; 16];
    let failed = |_| PortError::new(Trouble::Unavailable, "The system gives no random bytes");
    SystemRandom::new().fill(&mut random).map_err(failed)?;
    Ok(format!("{:032x}", u128::from_be_bytes(random)))
}

impl Held {
    fn new(link: Arc<Link>, account: &str, origin: &str, holder: String) -> Self {
        let (renewed, key, name) = (link.clone(), link.key(account, "exchange"), holder.clone());
        let renewing = tokio::spawn(async move {
            for _ in 0..RENEWALS {
                tokio::time::sleep(RENEWAL).await;
                let time = TURN.to_string();
                if let Err(error) = renewed.script(RENEW, &key, &[name.as_bytes(), time.as_bytes()]).await {
                    debug!(%error, "A turn could not be renewed");
                }
            }
        });
        Self { link, account: account.to_owned(), origin: origin.to_owned(), holder, renewing }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewing.abort();
        let (link, key, holder) = (self.link.clone(), self.link.key(&self.account, "exchange"), self.holder.clone());
        // Where nobody can do that it lapses.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { link.script(RELEASE, &key, &[holder.as_bytes()]).await });
        }
    }
}

#[async_trait]
impl Turn for Held {
    async fn share(self: Box<Self>, access: &Access, good_for: Duration) -> Result<()> {
        let good_for = (good_for.as_millis() as u64).max(1);
        let shared = Shared {
            origin: self.origin.clone(),
            token: access.token.expose().to_owned(),
            base: access.base.clone(),
            good_for,
        };
        let sealed = self.link.seal(&self.account, "access", &shared)?;
        let key = self.link.key(&self.account, "access");
        self.link.query(redis::cmd("SET").arg(key).arg(sealed).arg("PX").arg(good_for)).await
    }
}

#[async_trait]
impl Vault for RedisVault {
    async fn kept(&self, account: &str, origin: &str) -> Result<Option<Secret>> {
        match (self.link.refresh(account).await?, &self.before) {
            (Some(kept), _) if kept.origin == origin => Ok(Some(Secret::new(kept.token))),
            (_, Some(before)) => before.before(account, origin),
            _ => Ok(None),
        }
    }

    async fn keep(&self, account: &str, origin: &str, token: &Secret) -> Result<()> {
        let kept = Kept { origin: origin.to_owned(), token: token.expose().to_owned() };
        let sealed = self.link.seal(account, "refresh", &kept)?;
        let () = self.link.query(redis::cmd("SET").arg(self.link.key(account, "refresh")).arg(sealed)).await?;
        self.link.written().await;
        Ok(())
    }

    async fn exchange(&self, account: &str, origin: &str, refused: Option<&Secret>) -> Result<Exchange> {
        let (link, turn) = (&self.link, self.link.key(account, "exchange"));
        // Sealed with an old key it would be lost with that, should nobody need it until then.
        link.refresh(account).await?;
        let holder = holder()?;
        loop {
            if let Some(access) = link.shared(account, origin, refused).await? {
                return Ok(Exchange::Shared(access));
            }
            let mut command = redis::cmd("SET");
            command.arg(&turn).arg(&holder).arg("NX").arg("PX").arg(TURN);
            if link.query::<Option<String>>(&command).await?.is_some() {
                let held = Held::new(link.clone(), account, origin, holder);
                // It may have been shared between the look and the turn.
                return Ok(match link.shared(account, origin, refused).await? {
                    Some(access) => Exchange::Shared(access),
                    None => Exchange::Mine(Box::new(held)),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_key_there_is_none() {
        let refused = RedisVault::new("redis://localhost", "x", Arc::default(), None).err();
        assert!(refused.is_some_and(|error| error.to_string().contains("without a key")));
    }
}
