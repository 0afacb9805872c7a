//! RabbitMQ in trouble.

use std::time::Duration;

use anyhow::Result;
use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};
use outflow_model::id::RunId;

use crate::cell::{BOTH, Cell, KILLED, REPEATABLE, Site, Twice};

pub(crate) const CELLS: &[Cell] = &[
    Cell {
        what: KILLED,
        kinds: BOTH,
        twice: Twice::Never,
        alone: true,
        work: |site, run| Box::pin(killed(site, run, false)),
    },
    Cell {
        what: "rabbitmq_wiped",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: true,
        work: |site, run| Box::pin(killed(site, run, true)),
    },
    Cell {
        what: "rabbitmq_restarted",
        kinds: BOTH,
        twice: Twice::Never,
        alone: true,
        work: |site, run| Box::pin(restarted(site, run)),
    },
    Cell {
        what: "rabbitmq_out_of_memory",
        kinds: BOTH,
        twice: Twice::Never,
        alone: true,
        work: |site, run| {
            Box::pin(alarm(site, run, &["set_vm_memory_high_watermark", "0"], &["set_vm_memory_high_watermark", "0.4"]))
        },
    },
    Cell {
        what: "rabbitmq_out_of_disk",
        kinds: REPEATABLE,
        twice: Twice::Never,
        alone: true,
        work: |site, run| {
            Box::pin(alarm(site, run, &["set_disk_free_limit", "1000GB"], &["set_disk_free_limit", "50MB"]))
        },
    },
    Cell {
        what: "rabbitmq_queues_deleted",
        kinds: BOTH,
        twice: Twice::MayBe,
        alone: false,
        work: |site, run| Box::pin(deleted(site, run)),
    },
    Cell {
        what: "rabbitmq_closes_every_connection",
        kinds: BOTH,
        twice: Twice::Never,
        alone: true,
        work: |site, run| Box::pin(closed(site, run)),
    },
];

async fn killed(site: &mut Site, run: &RunId, wiped: bool) -> Result<()> {
    site.under_way(run, 3).await?;
    site.rabbitmq.kill()?;
    if wiped {
        site.rabbitmq.wipe()?;
    }
    let rabbitmq = site.rabbitmq.clone();
    tokio::task::spawn_blocking(move || rabbitmq.start_again()).await?
}

/// It bids everybody farewell, and whoever comes before it has started again is refused.
async fn restarted(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    let rabbitmq = site.rabbitmq.clone();
    tokio::task::spawn_blocking(move || {
        rabbitmq.control(&["stop_app"])?;
        rabbitmq.control(&["start_app"])
    })
    .await?
}

async fn alarm(site: &mut Site, run: &RunId, on: &'static [&str], off: &'static [&str]) -> Result<()> {
    site.under_way(run, 3).await?;
    let rabbitmq = site.rabbitmq.clone();
    tokio::task::spawn_blocking(move || {
        rabbitmq.control(on)?;
        std::thread::sleep(Duration::from_secs(2));
        rabbitmq.control(off)
    })
    .await?
}

async fn deleted(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    let connection = Connection::connect(&site.rabbitmq.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for queue in ["work.crm.normal", "work.crm.urgent", "reports"] {
        channel.queue_delete(format!("{}.{queue}", site.prefix).into(), QueueDeleteOptions::default()).await?;
    }
    Ok(())
}

async fn closed(site: &mut Site, run: &RunId) -> Result<()> {
    site.under_way(run, 3).await?;
    let rabbitmq = site.rabbitmq.clone();
    tokio::task::spawn_blocking(move || rabbitmq.control(&["close_all_connections", "tried"])).await?
}
