//! Every case of every port, on every backend. Where a service is missing its cases show as ignored, or fail with
//! `REQUIRE_SERVICES=1`.

mod broker;
mod links;
mod postgres;
mod quotas;
mod stores;
mod tokens;
mod vectors;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use outflow_backends::{
    Codec, FileVault, KeyRing, MemoryLimiter, MemoryQueue, RabbitQueue, RedisLimiter, RedisVault, SqliteLedger,
    SystemClock,
};
use outflow_model::id::{AttemptId, Lane, RunId};
use outflow_model::limit::{Ask, Limits, Unit, Window};
use outflow_model::port::Trouble;
use outflow_model::port::ledger::Ledger;
use outflow_model::port::limiter::{Claimed, Limiter, Revoked};
use outflow_model::port::queue::Queue;
use outflow_model::port::vault::Vault;
use outflow_testkit::services::{AzureBlob, RabbitMq, Redis, RedisCluster, S3, Sentinel, Service, stop_all};
use outflow_testkit::{CLAIMS, Case, LEDGER, LIMITER, QUEUE, STORE, VAULT};
use tempfile::TempDir;

async fn sqlite(folder: &TempDir) -> Result<Arc<SqliteLedger>> {
    Ok(Arc::new(SqliteLedger::open(&folder.path().join("ledger.db")).await?))
}

async fn ledger(folder: &TempDir) -> Result<Arc<dyn Ledger>> {
    Ok(sqlite(folder).await?)
}

async fn limiter(folder: &TempDir) -> Result<Arc<dyn Limiter>> {
    Ok(Arc::new(MemoryLimiter::new(Arc::new(SystemClock::default()), sqlite(folder).await?)))
}

async fn redis(folder: &TempDir) -> Result<Arc<dyn Limiter>> {
    Ok(Arc::new(RedisLimiter::new(&Redis::shared()?.url, &fresh("limiter"), Some(sqlite(folder).await?))?))
}

async fn redis_cluster(folder: &TempDir) -> Result<Arc<dyn Limiter>> {
    Ok(Arc::new(RedisLimiter::new(&RedisCluster::shared()?.url, &fresh("limiter"), Some(sqlite(folder).await?))?))
}

async fn sentinel(folder: &TempDir) -> Result<Arc<dyn Limiter>> {
    Ok(Arc::new(RedisLimiter::new(&Sentinel::shared()?.url, &fresh("limiter"), Some(sqlite(folder).await?))?))
}

/// The master dies, and the sentinel names another: the limiter finds it, and knows what it is told from then on.
async fn failover() -> Result<()> {
    let (servers, run) = (Sentinel::start()?, RunId::new(1, 1));
    let limiter = RedisLimiter::new(&servers.url, &fresh("limiter"), None)?;
    limiter.open_gate("crm", &run, 4, 60_000_000).await?;
    servers.kill_master()?;
    let began = std::time::Instant::now();
    while let Err(error) = limiter.open_gate("crm", &run, 5, 60_000_000).await {
        ensure!(error.trouble == Trouble::Unavailable && began.elapsed().as_secs() < 30, "{error:?}");
    }
    ensure!(limiter.lanes().await? == [(Lane("crm".to_owned()), 5)]);
    Ok(())
}

/// Redis comes back empty while messages wait: nothing of what was granted before may be sent.
async fn flushed() -> Result<()> {
    let server = Redis::start()?;
    let limiter = RedisLimiter::new(&server.url, &fresh("limiter"), None)?;
    let attempts: Vec<_> = (0..3).map(|attempt| AttemptId { run: RunId::new(1, 1), chunk: 0, attempt }).collect();
    limiter.open_gate("crm", &attempts[0].run, 4, 60_000_000).await?;
    for pair in attempts.windows(2) {
        limiter.close("crm", &pair[..1]).await?;
        limiter.grant("crm", &pair[1..]).await?;
    }
    ensure!(limiter.claim("crm", &attempts[2], "one", 60_000_000).await? == Claimed::Mine);
    server.command(&["FLUSHALL"])?;
    limiter.open_gate("crm", &attempts[0].run, 4, 60_000_000).await?;
    for attempt in &attempts[1..] {
        for holder in ["one", "two"] {
            let claimed = limiter.claim("crm", attempt, holder, 60_000_000).await?;
            ensure!(claimed == Claimed::Ungranted, "{holder} was given {attempt}: {claimed:?}");
        }
        limiter.finish("crm", attempt).await?;
        ensure!(limiter.revoke("crm", attempt, 0).await? == Revoked::Forgotten);
    }
    Ok(())
}

/// Another server takes over whose clock is behind: nobody waits for that, and no window sees more than its limit.
async fn behind() -> Result<()> {
    let limiter = RedisLimiter::new(&Redis::shared()?.url, &fresh("limiter"), None)?;
    let windows = vec![Window { unit: Unit::Requests, limit: 4, per_ms: 1_000 }];
    let limits = Limits { windows, in_flight: Some(9), ..Limits::default() };
    let (noon, hour) = (1_767_268_800_000_000, 3_600_000_000);
    let ask = |slot, now| {
        let request = vectors::request("crm", &limits, Ask { slot, ..vectors::ANY });
        let limiter = &limiter;
        async move { limiter.ask(&request, now).await }
    };
    let first = ask(0, noon).await?;
    ensure!((first.code, first.wait) == (0, 255_000), "what is unknown may have been used: {first:?}");
    // An hour ago; what was used stays so, and time goes on from there.
    let second = ask(1, noon - hour).await?;
    ensure!((second.code, second.wait) == (3, 255_000), "{second:?}");
    let third = ask(2, noon - hour + 300_000).await?;
    ensure!((third.code, third.wait) == (0, 210_000), "{third:?}");
    Ok(())
}

/// A server that is full, follows another, or lets its user do nothing permits nothing, and says why.
async fn refusing() -> Result<()> {
    let server = Redis::start()?;
    let limiter = RedisLimiter::new(&server.url, &fresh("limiter"), None)?;
    let limits = Limits::default();
    let refusals: [(&str, [&[&str]; 2]); 3] = [
        ("OOM", [&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]]),
        ("read only replica", [&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]]),
        ("can't run this command", [&["ACL", "SETUSER", "default", "-hset"], &["ACL", "SETUSER", "default", "+hset"]]),
    ];
    for (cause, [refuse, relent]) in refusals {
        server.command(refuse)?;
        let asked = vectors::request("crm", &limits, vectors::ANY);
        for refused in [limiter.permit(&asked).await.err(), limiter.check().await.err()] {
            let is_away = refused.as_ref().is_some_and(|error| error.trouble == Trouble::Unavailable);
            ensure!(is_away && format!("{refused:?}").contains(cause), "{cause}: {refused:?}");
        }
        server.command(relent)?;
        ensure!(limiter.permit(&asked).await?.is_go() && limiter.check().await.is_ok(), "{cause} is over");
    }
    Ok(())
}

async fn queue(_folder: &TempDir) -> Result<Arc<dyn Queue>> {
    Ok(Arc::new(MemoryQueue::default()))
}

async fn rabbitmq(_folder: &TempDir) -> Result<Arc<dyn Queue>> {
    Ok(Arc::new(RabbitQueue::new(&RabbitMq::shared()?.url, &fresh("queue"), "conformance")?))
}

pub(crate) fn keys() -> Result<Arc<KeyRing>> {
    Ok(Arc::new(KeyRing::parse(
        "new:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=,old:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
    )?))
}

async fn sealed_queue(folder: &TempDir) -> Result<Arc<dyn Queue>> {
    Ok(Codec::new(keys()?, None).over(queue(folder).await?))
}

async fn sealed_rabbitmq(folder: &TempDir) -> Result<Arc<dyn Queue>> {
    Ok(Codec::new(keys()?, None).over(rabbitmq(folder).await?))
}

/// All but the smallest bodies go by the store, as in a composition: sealed first.
async fn checked_queue(folder: &TempDir) -> Result<Arc<dyn Queue>> {
    Ok(Codec::new(keys()?, Some(stores::directory(folder).await?)).with_inline(8).over(queue(folder).await?))
}

async fn checked_rabbitmq(folder: &TempDir) -> Result<Arc<dyn Queue>> {
    Ok(Codec::new(keys()?, Some(stores::directory(folder).await?)).with_inline(8).over(rabbitmq(folder).await?))
}

async fn vault(folder: &TempDir) -> Result<Arc<dyn Vault>> {
    Ok(Arc::new(FileVault::new(&folder.path().join("tokens"))))
}

async fn redis_cluster_vault(_folder: &TempDir) -> Result<Arc<dyn Vault>> {
    Ok(Arc::new(RedisVault::new(&RedisCluster::shared()?.url, &fresh("vault"), keys()?, None)?))
}

async fn sentinel_vault(_folder: &TempDir) -> Result<Arc<dyn Vault>> {
    Ok(Arc::new(RedisVault::new(&Sentinel::shared()?.url, &fresh("vault"), keys()?, None)?))
}

async fn redis_vault(_folder: &TempDir) -> Result<Arc<dyn Vault>> {
    Ok(Arc::new(RedisVault::new(&Redis::shared()?.url, &fresh("vault"), keys()?, None)?))
}

async fn script() -> Result<()> {
    vectors::same_as_the_model(&RedisLimiter::new(&Redis::shared()?.url, &fresh("vectors"), None)?).await
}

/// A name that nothing else in a shared service has.
pub(crate) fn fresh(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A test that shows as ignored unless `found`, or unless services are required.
pub(crate) fn trial(name: String, found: bool, case: impl AsyncFnOnce() -> Result<()> + Send + 'static) -> Trial {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(case()))
            .map_err(|e| Failed::from(format!("{e:?}")))
    };
    Trial::test(name, work).with_ignored_flag(!found && std::env::var_os("REQUIRE_SERVICES").is_none())
}

/// The cases of one port on one backend, each with a fresh one.
pub(crate) fn trials<P: ?Sized + Send + Sync + 'static>(
    backend: &str,
    found: bool,
    cases: &'static [Case<P>],
    open: impl AsyncFn(&TempDir) -> Result<Arc<P>> + Copy + Send + 'static,
) -> Vec<Trial> {
    let of = |(name, case): &'static Case<P>| {
        trial(format!("{backend}::{name}"), found, async move || {
            let folder = tempfile::tempdir()?;
            case(open(&folder).await?).await
        })
    };
    cases.iter().map(of).collect()
}

fn main() -> ExitCode {
    // A client is made with TLS, whether it is used or not.
    _ = rustls::crypto::ring::default_provider().install_default();
    let trials = [
        trials("ledger::sqlite", true, LEDGER, ledger),
        postgres::trials(),
        trials("limiter::memory", true, LIMITER, limiter),
        trials("limiter::memory", true, CLAIMS, limiter),
        trials("limiter::redis", Redis::is_found(), LIMITER, redis),
        trials("limiter::redis", Redis::is_found(), CLAIMS, redis),
        vec![
            trial("limiter::redis::a_server_that_is_behind_stops_nobody".to_owned(), Redis::is_found(), behind),
            trial("limiter::redis::a_server_that_refuses_permits_nothing".to_owned(), Redis::is_found(), refusing),
            trial("limiter::redis::what_was_flushed_is_nobodys".to_owned(), Redis::is_found(), flushed),
            trial("limiter::redis::the_script_computes_what_the_model_does".to_owned(), Redis::is_found(), script),
        ],
        quotas::trials(),
        trials("limiter::redis_cluster", RedisCluster::is_found(), LIMITER, redis_cluster),
        trials("limiter::redis_cluster", RedisCluster::is_found(), CLAIMS, redis_cluster),
        trials("limiter::sentinel", Sentinel::is_found(), LIMITER, sentinel),
        vec![trial("limiter::sentinel::a_new_master_is_found".to_owned(), Sentinel::is_found(), failover)],
        trials("queue::memory", true, QUEUE, queue),
        trials("queue::rabbitmq", RabbitMq::is_found(), QUEUE, rabbitmq),
        trials("queue::sealed::memory", true, QUEUE, sealed_queue),
        trials("queue::sealed::rabbitmq", RabbitMq::is_found(), QUEUE, sealed_rabbitmq),
        trials("queue::checked::memory", true, QUEUE, checked_queue),
        trials("queue::checked::rabbitmq", RabbitMq::is_found(), QUEUE, checked_rabbitmq),
        broker::trials(),
        links::trials(),
        trials("store::directory", true, STORE, stores::directory),
        trials("store::s3", S3::is_found(), STORE, stores::s3),
        trials("store::google_over_s3", S3::is_found(), STORE, stores::google),
        trials("store::azure", AzureBlob::is_found(), STORE, stores::azure),
        stores::trials(),
        trials("vault::file", true, VAULT, vault),
        trials("vault::redis", Redis::is_found(), VAULT, redis_vault),
        trials("vault::redis_cluster", RedisCluster::is_found(), VAULT, redis_cluster_vault),
        trials("vault::sentinel", Sentinel::is_found(), VAULT, sentinel_vault),
        tokens::trials(),
    ];
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect());
    stop_all();
    conclusion.exit_code()
}
