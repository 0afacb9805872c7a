//! What only a vault that processes share can be asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use outflow_backends::{FileVault, KeyRing, RedisVault};
use outflow_model::port::Trouble;
use outflow_model::port::vault::{Access, Exchange, Turn, Vault};
use outflow_model::secret::Secret;
use outflow_testkit::Outcome;
use outflow_testkit::services::{Redis, Service};

use super::{fresh, trial};

const A: &str = "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=";
const B: &str = "b:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=";
const LONG: Duration = Duration::from_mins(1);

pub(crate) fn trials() -> Vec<Trial> {
    let of = |name: &str, case: fn() -> Outcome| trial(format!("vault::redis::{name}"), Redis::is_found(), case);
    vec![
        of("what_one_process_keeps_another_is_told", || Box::pin(told())),
        of("who_dies_with_the_turn_holds_up_nobody_for_long", || Box::pin(died())),
        of("nothing_of_a_token_is_seen_in_redis", || Box::pin(sealed())),
        of("a_token_outlives_the_key_that_sealed_it", || Box::pin(rotated())),
        of("a_damaged_token_is_told_with_the_remedy", || Box::pin(damaged())),
        of("a_token_opens_for_its_own_account_alone", || Box::pin(moved())),
        of("who_has_lost_the_turn_ends_no_others", || Box::pin(overtaken())),
        of("what_was_kept_before_is_taken_over", || Box::pin(before())),
    ]
}

fn open(prefix: &str, keys: &str) -> Result<RedisVault> {
    Ok(RedisVault::new(&Redis::shared()?.url, prefix, Arc::new(KeyRing::parse(keys)?), None)?)
}

fn token(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

async fn turn(vault: &RedisVault) -> Result<Box<dyn Turn>> {
    match vault.exchange("crm", "o", None).await? {
        Exchange::Mine(turn) => Ok(turn),
        Exchange::Shared(access) => bail!("{access:?} is shared"),
    }
}

async fn told() -> Result<()> {
    let prefix = fresh("vault");
    let (one, other) = (open(&prefix, A)?, open(&prefix, A)?);
    one.keep("crm", "o", &token("refresh")).await?;
    ensure!(other.kept("crm", "o").await? == Some(token("refresh")));
    let access = Access { token: token("access"), base: None };
    turn(&one).await?.share(&access, LONG).await?;
    ensure!(matches!(other.exchange("crm", "o", None).await?, Exchange::Shared(shared) if shared == access));
    // Another installation has tokens of its own.
    ensure!(open(&fresh("vault"), A)?.kept("crm", "o").await?.is_none());
    Ok(())
}

async fn died() -> Result<()> {
    let prefix = fresh("vault");
    let (one, other) = (open(&prefix, A)?, open(&prefix, A)?);
    // A process that dies releases nothing, and renews nothing.
    let dead = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let turn = runtime.block_on(turn(&one))?;
        drop(runtime);
        drop(turn);
        Ok(())
    });
    ensure!(dead.join().is_ok_and(|died| died.is_ok()), "it had no turn");
    let began = Instant::now();
    drop(turn(&other).await?);
    let waited = began.elapsed();
    ensure!(waited > Duration::from_secs(3) && waited < Duration::from_secs(8), "{waited:?}");
    // One that lives and takes its time keeps the turn.
    let slow = turn(&other).await?;
    let next = open(&prefix, A)?;
    let next = tokio::time::timeout(Duration::from_secs(8), next.exchange("crm", "o", None)).await;
    ensure!(next.is_err(), "two have the turn");
    drop(slow);
    Ok(())
}

/// Everything that Redis has under a prefix.
async fn stored(prefix: &str) -> Result<Vec<u8>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let url = Redis::shared()?.url.clone();
    let mut stream = tokio::net::TcpStream::connect(url.trim_start_matches("redis://")).await?;
    let mut all = Vec::new();
    for what in ["refresh", "access"] {
        let key = format!("{prefix}:{{crm}}:{what}");
        let command = format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
        stream.write_all(command.as_bytes()).await?;
        let mut answer = vec![0; 4_096];
        let length = stream.read(&mut answer).await?;
        all.extend_from_slice(&answer[..length]);
    }
    Ok(all)
}

/// Has the server do something behind the vault's back.
async fn tell(words: &[&str]) -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let url = Redis::shared()?.url.clone();
    let mut stream = tokio::net::TcpStream::connect(url.trim_start_matches("redis://")).await?;
    stream.write_all(format!("{}\r\n", words.join(" ")).as_bytes()).await?;
    ensure!(stream.read_u8().await? != b'-', "{words:?} is refused");
    Ok(())
}

async fn sealed() -> Result<()> {
    let prefix = fresh("vault");
    let vault = open(&prefix, A)?;
    vault.keep("crm", "the origin", &token("a refresh token")).await?;
    let access = Access { token: token("an access token"), base: Some("https://eu.example.com".to_owned()) };
    turn(&vault).await?.share(&access, LONG).await?;
    let stored = stored(&prefix).await?;
    ensure!(stored.len() > 200, "{} bytes", stored.len());
    for text in ["refresh token", "access token", "example", "origin"] {
        ensure!(!stored.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    Ok(())
}

async fn rotated() -> Result<()> {
    let prefix = fresh("vault");
    open(&prefix, A)?.keep("crm", "o", &token("refresh")).await?;
    let lacks = open(&prefix, B)?.kept("crm", "o").await.err();
    ensure!(
        lacks.is_some_and(|error| error.trouble == Trouble::Corrupt && error.to_string().contains("the key \"a\""))
    );
    // Whoever starts with both, the new one first, seals it anew, though all it does is log in.
    drop(turn(&open(&prefix, &format!("{B},{A}"))?).await?);
    ensure!(open(&prefix, B)?.kept("crm", "o").await? == Some(token("refresh")));
    Ok(())
}

async fn damaged() -> Result<()> {
    let prefix = fresh("vault");
    open(&prefix, A)?.keep("crm", "o", &token("refresh")).await?;
    let key = format!("{prefix}:{{crm}}:refresh");
    tell(&["APPEND", &key, "x"]).await?;
    let vault = open(&prefix, A)?;
    for error in [vault.kept("crm", "o").await.err(), vault.exchange("crm", "o", None).await.err()] {
        let error = error.context("it is damaged, and was read")?;
        let told = error.to_string();
        ensure!(error.trouble == Trouble::Corrupt && told.contains("damaged"), "{told}");
        ensure!(told.contains(&format!("Delete {key} in Redis")) && !told.contains("\"refresh\""), "{told}");
    }
    Ok(())
}

/// Whoever may write to Redis cannot give one account the token of another.
async fn moved() -> Result<()> {
    let prefix = fresh("vault");
    let vault = open(&prefix, A)?;
    vault.keep("crm", "o", &token("refresh")).await?;
    let key = |account: &str| format!("{prefix}:{{{account}}}:refresh");
    tell(&["COPY", &key("crm"), &key("erp"), "REPLACE"]).await?;
    let error = vault.kept("erp", "o").await.err().context("a token of another account was taken")?;
    ensure!(error.trouble == Trouble::Corrupt, "{error}");
    Ok(())
}

async fn overtaken() -> Result<()> {
    let prefix = fresh("vault");
    let (one, other) = (open(&prefix, A)?, open(&prefix, A)?);
    let lost = turn(&one).await?;
    // As if it had been silent for too long.
    tell(&["DEL", &format!("{prefix}:{{crm}}:exchange")]).await?;
    let held = turn(&other).await?;
    drop(lost);
    let third = open(&prefix, A)?;
    let third = tokio::time::timeout(Duration::from_secs(2), third.exchange("crm", "o", None)).await;
    ensure!(third.is_err(), "two have the turn");
    drop(held);
    Ok(())
}

async fn before() -> Result<()> {
    let (folder, prefix) = (tempfile::tempdir()?, fresh("vault"));
    FileVault::new(folder.path()).keep("crm", "o", &token("old")).await?;
    let keys = Arc::new(KeyRing::parse(A)?);
    let before = Some(FileVault::new(folder.path()));
    let vault = RedisVault::new(&Redis::shared()?.url, &prefix, keys, before)?;
    ensure!(vault.kept("crm", "o").await? == Some(token("old")));
    ensure!(vault.kept("crm", "another").await?.is_none());
    vault.keep("crm", "o", &token("new")).await?;
    ensure!(vault.kept("crm", "o").await? == Some(token("new")));
    Ok(())
}
