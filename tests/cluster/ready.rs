//! What processes tell whoever watches over them: whether they are ready, and their figures.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use outflow_model::run::RunState;
use outflow_simulators::{HubSpot, Options, Simulator};
use outflow_testkit::services::free_port;
use outflow_tests::{Cluster, Links, Weather, block, until};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::plan;

/// Where the process that is started next can be asked.
pub(super) fn monitor<S: Simulator>(cluster: &mut Cluster<S>) -> Result<SocketAddr> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    cluster.environment.retain(|(name, _)| *name != "OUTFLOW_MONITOR");
    cluster.environment.push(("OUTFLOW_MONITOR", address.to_string()));
    Ok(address)
}

/// A coordinator and a worker, and where they can be asked.
async fn watched(rows: usize) -> Result<(Cluster<HubSpot>, SocketAddr, SocketAddr)> {
    let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan(rows, "")).await?;
    let coordinator = monitor(&mut cluster)?;
    cluster.start_coordinator()?;
    let worker = monitor(&mut cluster)?;
    cluster.start_worker()?;
    Ok((cluster, coordinator, worker))
}

/// What is answered, with its status; nothing where nobody answers.
pub(super) async fn ask(process: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(process).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {process}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, text) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, text.to_owned()))
}

/// Waits until a process that is asked whether it is ready answers with this status.
async fn answers(process: SocketAddr, status: u16) -> Result<()> {
    let is_so = async || Ok(ask(process, "/health/ready").await.is_some_and(|(told, _)| told == status));
    until(&format!("{process} answers {status}"), is_so).await
}

/// Waits until this is among a process's figures.
pub(super) async fn shows(process: SocketAddr, figure: &str) -> Result<()> {
    let is_so = async || Ok(ask(process, "/metrics").await.is_some_and(|(_, text)| text.contains(figure)));
    until(figure, is_so).await
}

/// Each service is cut off, and comes back.
pub(super) fn services() -> Result<()> {
    block(async {
        let (cluster, coordinator, worker) = watched(300).await?;
        let Links { ledger, coordinator_queue, coordinator_limiter, worker_queue, worker_limiter, .. } = &cluster.links;
        for (what, process, link) in [
            ("the coordinator's ledger", coordinator, ledger),
            ("the coordinator's queue", coordinator, coordinator_queue),
            ("the coordinator's limiter", coordinator, coordinator_limiter),
            ("the worker's queue", worker, worker_queue),
            ("the worker's limiter", worker, worker_limiter),
        ] {
            answers(process, 200).await.with_context(|| format!("before {what} is cut off\n{}", cluster.logs()))?;
            link.set(Weather { broken: true, ..Weather::default() });
            answers(process, 503).await.with_context(|| format!("{what} is cut off"))?;
            link.set(Weather::default());
            answers(process, 200).await.with_context(|| format!("{what} is back\n{}", cluster.logs()))?;
        }
        let run = cluster.ended(&cluster.request().await?).await?;
        ensure!(run.state == RunState::Succeeded && cluster.portal.written() == 300, "{run:?}");
        Ok(())
    })
}

pub(super) fn waiting() -> Result<()> {
    block(async {
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan(10, "")).await?;
        let address = monitor(&mut cluster)?;
        cluster.links.ledger.set(Weather { broken: true, ..Weather::default() });
        cluster.start_coordinator()?;
        until("it says what it waits for", async || {
            let told = ask(address, "/health/ready").await;
            Ok(told.is_some_and(|(status, text)| status == 503 && text.contains("not ready: ledger: ")))
        })
        .await?;
        let alive = ask(address, "/health/live").await.context("nobody answers")?;
        ensure!(alive.0 == 200, "{alive:?}");
        cluster.links.ledger.set(Weather::default());
        answers(address, 200).await
    })
}

/// The ledger was set up before, and takes nothing since.
pub(super) fn read_only() -> Result<()> {
    block(async {
        let mut cluster = Cluster::new(HubSpot::new(Options::default()), &plan(10, "")).await?;
        let mut database = PgConnection::connect(&cluster.database).await?;
        let sql = format!("ALTER DATABASE {} SET default_transaction_read_only = on", cluster.prefix);
        sqlx::query(AssertSqlSafe(sql)).execute(&mut database).await?;
        let address = monitor(&mut cluster)?;
        cluster.start_coordinator()?;
        until("it says what it waits for", async || {
            let told = ask(address, "/health/ready").await;
            ensure!(told.as_ref().is_none_or(|(status, _)| *status == 503), "{told:?}");
            Ok(told.is_some_and(|(_, text)| text.contains("ledger: ") && text.contains("read-only")))
        })
        .await?;
        shows(address, "outflow_ready 0\n").await?;
        until("its log has the cause", async || {
            Ok(cluster.logs().lines().any(|line| line.contains("a lease") && line.contains("read-only")))
        })
        .await
    })
}

pub(super) fn figures() -> Result<()> {
    block(async {
        let (cluster, coordinator, worker) = watched(300).await?;
        let run = cluster.ended(&cluster.request().await?).await?;
        ensure!(run.state == RunState::Succeeded, "{run:?}");
        for (process, figure) in [
            (coordinator, "outflow_ready 1\n"),
            (coordinator, "outflow_runs_under_way 0\n"),
            (coordinator, "outflow_runs{state=\"delivering\"} 0\n"),
            (coordinator, "outflow_runs_total{lane=\"crm\",state=\"succeeded\"} 1\n"),
            (coordinator, "outflow_records_total{lane=\"crm\",outcome=\"succeeded\"} 300\n"),
            (coordinator, "outflow_publish_confirm_seconds_count"),
            (worker, "outflow_ready 1\n"),
            (worker, "outflow_deliveries_total{lane=\"crm\",ended=\"done\"} 3\n"),
            (worker, "outflow_api_requests_total{lane=\"crm\",answer=\"2xx\"} 3\n"),
        ] {
            shows(process, figure).await?;
        }
        Ok(())
    })
}

/// The answer to its last request comes when the worker has been told to stop.
pub(super) fn draining() -> Result<()> {
    block(async {
        let (mut cluster, _, address) = watched(100).await?;
        answers(address, 200).await.with_context(|| cluster.logs())?;
        cluster.links.destination.set(Weather { silent: true, ..Weather::default() });
        let run = cluster.request().await?;
        // What is permitted leaves.
        shows(address, "outflow_limiter_wait_seconds_count{lane=\"crm\"} 1\n").await?;
        let mut worker = cluster.workers.pop().context("a worker")?;
        worker.signal("TERM")?;
        answers(address, 503).await?;
        let alive = ask(address, "/health/live").await.context("nobody answers")?;
        ensure!(alive.0 == 200, "whoever is told so would end it before its time: {alive:?}");
        cluster.links.destination.set(Weather::default());
        let run = cluster.ended(&run).await?;
        ensure!(run.state == RunState::Succeeded && cluster.portal.written() == 100, "{run:?}");
        let mut ended = None;
        let is_over = until("the worker has ended", async || {
            ended = worker.ended()?;
            Ok(ended.is_some())
        });
        is_over.await?;
        ensure!(ended.is_some_and(|status| status.success()), "{ended:?}");
        Ok(())
    })
}
